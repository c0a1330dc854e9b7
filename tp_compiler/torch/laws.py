"""The laws that a module draws its parameters from, read from the fills themselves while it is built."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def number(value: float) -> str:
    """As a fraction if it is a short one, else with all its digits."""
    near = Fraction(value).limit_denominator(1000)
    if float(near) == value or abs(float(near) - value) <= 1e-13 * abs(value):
        return str(near) if near.denominator <= 100 else f"{float(near):.15g}"
    return f"{value:.16g}"


@dataclass(frozen=True)
class Fill:
    """N(first, second²), uniform between first and second, or the constant first; measured where no fill explains it."""

    kind: str  # normal, uniform, constant, measured
    first: float
    second: float

    @property
    def mean(self) -> float:
        return (self.first + self.second) / 2 if self.kind == "uniform" else self.first

    @property
    def std(self) -> float:
        if self.kind == "uniform":
            return abs(self.second - self.first) / math.sqrt(12)
        return 0.0 if self.kind == "constant" else self.second

    def scaled(self, factor: float) -> Fill:
        if self.kind == "uniform":
            low, high = sorted((factor * self.first, factor * self.second))
            return replace(self, first=low, second=high)
        return replace(self, first=factor * self.first, second=abs(factor) * self.second)

    def text(self, matrix: bool) -> str:
        """As the language has it, for matrices or others."""
        if self.kind == "uniform":
            symmetric = self.first == -self.second
            return (
                f"uniform({number(self.second)})"
                if symmetric
                else f"uniform({number(self.first)}, {number(self.second)})"
            )
        if self.kind == "constant" and not matrix:
            return number(self.first)
        return f"N({number(self.mean)}, {number(float(f'{self.std**2:.14g}'))})"

    def draw(self, tensor: torch.Tensor, generator: torch.Generator | None) -> None:
        """Fills a tensor, in place; what was measured is drawn as Gaussian."""
        if self.kind == "constant":
            tensor.fill_(self.first)
        elif self.kind == "uniform":
            tensor.uniform_(self.first, self.second, generator=generator)
        else:
            tensor.normal_(self.mean, self.std, generator=generator)

    def shifted(self, by: float) -> Fill:
        return replace(self, first=self.first + by, second=self.second + (by if self.kind == "uniform" else 0.0))


class Fills(TorchDispatchMode):
    """Watches a module being built: which law each tensor was filled from."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, Fill | None] = {}
        self._kept: list[torch.Tensor] = []  # no address is used twice

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func.__name__.partition(".")[0]
        if isinstance(out, torch.Tensor) and out.is_floating_point():
            self._see(name, out, args, kwargs)
        return out

    def _see(self, name: str, out: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        before = self.of(args[0]) if args and isinstance(args[0], torch.Tensor) else None
        key = out.untyped_storage().data_ptr()
        bare = name.removesuffix("_")
        known: Fill | None = None
        if name in _FILLS:
            known = _FILLS[name](args, kwargs)
            if out.numel() * out.element_size() < out.untyped_storage().nbytes():
                known = None if self.found.get(key, known) != known else known
        elif bare in _CHANGES and before is not None:
            known = _changed(bare, before, args, kwargs)
        elif name in _ALIKE:
            known = before
        elif key in self.found and not name.endswith("_"):
            return  # a view
        self.found[key] = known
        self._kept.append(out)

    def of(self, tensor: torch.Tensor) -> Fill | None:
        """The law of a tensor; None if no fill explains it."""
        return self.found.get(tensor.untyped_storage().data_ptr())

    def law(self, tensor: torch.Tensor) -> Fill:
        """The law of a parameter: as read, if its values look like it, else as measured."""
        values = tensor.detach().double()
        mean, std = values.mean().item(), values.std(correction=0).item()
        found = self.of(tensor)
        if found is not None and _plausible(found, mean, std, values.numel()):
            return found
        if std <= 1e-12 * abs(mean) or std == 0:
            return Fill("constant", mean, 0.0)
        return Fill("measured", 0.0 if abs(mean) < 5 * std / math.sqrt(values.numel()) else mean, std)


def _is_far(law: Fill, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Are the bounds of a clamp more than four standard deviations away?"""
    bounds = [*args[1:], *kwargs.values()]
    return law.kind == "normal" and all(b is None or abs(float(b) - law.first) > 4 * law.second for b in bounds)


def _plausible(law: Fill, mean: float, std: float, count: int) -> bool:
    """Within seven standard errors: a fill that a later operation has changed unseen is not used."""
    near = 7 * law.std / math.sqrt(count) + 1e-6 * (abs(law.mean) + law.std)
    return abs(mean - law.mean) <= near and (count < 8 or abs(std - law.std) <= near)


def _number(args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str, default: float) -> float:
    return float(args[place] if len(args) > place else kwargs.get(name, default))


_FILLS: dict[str, Callable[[Any, Any], Fill]] = {
    "normal_": lambda a, k: Fill("normal", _number(a, k, 1, "mean", 0.0), _number(a, k, 2, "std", 1.0)),
    "uniform_": lambda a, k: Fill("uniform", _number(a, k, 1, "from", 0.0), _number(a, k, 2, "to", 1.0)),
    "fill_": lambda a, k: Fill("constant", float(a[1]), 0.0),
    "zero_": lambda a, k: Fill("constant", 0.0, 0.0),
    "randn": lambda a, k: Fill("normal", 0.0, 1.0),
    "rand": lambda a, k: Fill("uniform", 0.0, 1.0),
    "randn_like": lambda a, k: Fill("normal", 0.0, 1.0),
    "rand_like": lambda a, k: Fill("uniform", 0.0, 1.0),
    "zeros": lambda a, k: Fill("constant", 0.0, 0.0),
    "ones": lambda a, k: Fill("constant", 1.0, 0.0),
    "zeros_like": lambda a, k: Fill("constant", 0.0, 0.0),
    "ones_like": lambda a, k: Fill("constant", 1.0, 0.0),
    "full": lambda a, k: Fill("constant", float(a[1]), 0.0),
    "normal": lambda a, k: Fill("normal", float(a[0]), float(a[1])),
}
_CHANGES = {"mul", "div", "add", "sub", "neg", "erfinv", "clamp", "clamp_min", "clamp_max"}
_ALIKE = {
    "clone",
    "detach",
    "_to_copy",
    "alias",
    "t",
    "transpose",
    "permute",
    "view",
    "reshape",
    "_unsafe_view",
    "lift_fresh",
}


def _changed(name: str, law: Fill, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Fill | None:
    """The law after arithmetic with a number."""
    if name == "neg":
        return law.scaled(-1.0)
    if name == "erfinv":
        whole = law.kind == "uniform" and max(1 + law.first, 1 - law.second) < 1e-5
        return Fill("normal", 0.0, math.sqrt(0.5)) if whole else None  # as trunc_normal_ draws far-away bounds
    if name.startswith("clamp"):
        return law if _is_far(law, name, args, kwargs) else None
    by = args[1]
    if isinstance(by, torch.Tensor):
        by = by.item() if by.numel() == 1 and by.device.type != "meta" else None
    if not isinstance(by, (int, float)):
        return None
    match name:
        case "mul":
            return law.scaled(by)
        case "div":
            return law.scaled(1 / by) if by else None
        case "add":
            return law.shifted(by)
        case _:
            return law.shifted(-by)
