"""How well parameters are aligned with what they multiply, measured on networks of several widths.

Of a product W x, the three sums ΔW x₀, W₀ Δx and ΔW Δx (the training step minus initialisation) are compared with their factors:
|ΔW x₀| / (|ΔW| |x₀|) in root mean squares grows like n^α (Everett et al., arXiv 2407.05872).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from tp_compiler.torch.checking.norms import rms

#: The products of a pass are compared on so many numbers.
_ENOUGH = 2**20
_MATRIX_PRODUCTS = {torch.matmul, torch.mm, torch.Tensor.matmul, torch.Tensor.mm, torch.Tensor.__matmul__}
_CONVOLUTIONS = {functional.conv1d, functional.conv2d, functional.conv3d}

Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class _Call:
    """A product of features x with a weight w, `terms` of them in each sum."""

    x: torch.Tensor
    w: torch.Tensor
    terms: int
    product: Product


class AlignmentProbe:
    """Looks at one network: first at initialisation, then after its training. `ratios` and `terms` are by parameter."""

    def __init__(self, model: nn.Module, start: Mapping[str, torch.Tensor]):
        self.ratios: dict[tuple[str, str], list[float]] = {}  # by parameter and exponent, one for each call
        self.terms: dict[str, int] = {}
        self._names = {id(p): name for name, p in model.named_parameters() if name in start}
        self._start = start
        self._features: dict[tuple[str, int], torch.Tensor] = {}

    def at(self, step: int, last: int) -> AbstractContextManager[None]:
        """What is done in the pass after so many steps."""
        return self.initial() if step == 0 else self.final() if step == last else nullcontext()

    @contextmanager
    def initial(self) -> Iterator[None]:
        """Keeps what parameters multiply."""

        def keep(name: str, number: int, call: _Call) -> None:
            self.terms[name] = call.terms
            self._features[name, number] = _some(call.x).clone()

        with _Products(self._names, keep):
            yield

    @contextmanager
    def final(self) -> Iterator[None]:
        """Compares with it."""

        def compare(name: str, number: int, call: _Call) -> None:
            before, now = self._features.get((name, number)), _some(call.x)
            if before is None or before.shape != now.shape:
                return
            w = self._start[name].as_strided(call.w.size(), call.w.stride(), call.w.storage_offset())
            moved, update = now - before, call.w.detach() - w
            for key, x, by in (("alpha", before, update), ("omega", moved, w), ("u", moved, update)):
                sizes = float(rms(x)) * float(rms(by))
                if sizes > 0:
                    self.ratios.setdefault((name, key), []).append(float(rms(call.product(x, by))) / sizes)

        with _Products(self._names, compare):
            yield


class _Products(TorchFunctionMode):
    """Shows the products of features with parameters, or with views of them, and how many of a parameter came before."""

    def __init__(self, names: Mapping[int, str], see: Callable[[str, int, _Call], None]):
        super().__init__()
        self._names, self._see = names, see
        self._calls: dict[str, int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for call in _called(func, args, kwargs):
            name = self._names.get(id(call.w)) or self._names.get(id(call.w._base))
            if name is not None:
                with torch.no_grad():
                    self._see(name, self._calls.get(name, 0), call)
                self._calls[name] = self._calls.get(name, 0) + 1
                break
        return func(*args, **kwargs)


def _called(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[_Call]:
    """The product that a function computes; of two tensors either may be the parameter."""
    if func is functional.linear:
        x, w = _arguments(args, kwargs, "input", "weight")
        yield _Call(x, w, w.shape[-1], functional.linear)
    elif func in _CONVOLUTIONS:
        x, w = _arguments(args, kwargs, "input", "weight")
        rest = {k: v for k, v in kwargs.items() if k not in ("input", "weight", "bias")}
        yield _Call(x, w, w.shape[1], lambda x, w: func(x, w, None, *args[3:], **rest))
    elif func is torch.addmm:
        _, x, w = _arguments(args, kwargs, "input", "mat1", "mat2")
        yield _Call(x, w, w.shape[0], torch.mm)
    elif func in _MATRIX_PRODUCTS and len(args) == 2 and all(isinstance(a, torch.Tensor) for a in args):
        yield _Call(args[0], args[1], args[1].shape[0], torch.matmul)
        yield _Call(args[1], args[0], args[0].shape[-1], lambda x, w: torch.matmul(w, x))


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any], *names: str) -> list[Any]:
    return [args[k] if k < len(args) else kwargs[name] for k, name in enumerate(names)]


def _some(x: torch.Tensor) -> torch.Tensor:
    """The first examples, as many as are enough."""
    x = x.detach()
    each = max(1, x.numel() // max(1, x.shape[0])) if x.ndim > 1 else 1
    return x[: max(1, _ENOUGH // each)] if x.ndim > 1 else x
