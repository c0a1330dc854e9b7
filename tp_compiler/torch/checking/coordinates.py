"""What a coordinate check measures: root mean squares of activations, updates and gradients at several widths and seeds."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from tp_compiler.diagnostics import ProgramError
from tp_compiler.torch.checking.alignments import AlignmentProbe
from tp_compiler.torch.checking.norms import rms
from tp_compiler.torch.laws import Fill, Fills
from tp_compiler.torch.refusals import refusal
from tp_compiler.torch.returned import LOGITS
from tp_compiler.torch.walk import made

LossStep = Callable[[nn.Module, int], Any]
#: Logits below this are masked.
_MASKED = -1e8
#: Of more logits than this, those of the first example are enough.
_LARGE = 2**24


@dataclass(frozen=True)
class MeasuredQuantity:
    """What is measured: the activation of a module or its update, or the gradient or update of a parameter, after steps."""

    name: str
    what: str  # activation, update, gradient or parameter update
    step: int


@dataclass(frozen=True)
class OptimizerSettings:
    """What an optimizer was told about a parameter."""

    optimizer: str
    lr: float
    eps: float | None
    weight_decay: float | None


@dataclass(eq=False)
class Sample:
    """One network."""

    sizes: dict[MeasuredQuantity, float] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    alignments: dict[tuple[str, str], list[float]] = field(
        default_factory=dict
    )  # by parameter and exponent, for each call
    terms: dict[str, int] = field(default_factory=dict)  # of the sums that a parameter makes


@dataclass(eq=False)
class Measured:
    """All networks, and what does not depend on their seed."""

    widths: tuple[int, ...]
    samples: dict[int, list[Sample]]
    settings: dict[str, dict[int, OptimizerSettings]]  # by parameter and width
    laws: dict[str, dict[int, Fill]]
    shapes: dict[str, dict[int, tuple[int, ...]]]
    owners: dict[str, str]  # the class of the module that has a parameter
    shared: dict[str, str]  # the first and the second name of a parameter
    inputs: tuple[tuple[Any, ...], dict[str, Any]]  # of the first call of a module

    def logs(self, quantity: MeasuredQuantity) -> list[list[float]] | None:
        """Logarithms of the root mean squares by width and seed; None where one of them is 0."""
        found = [[sample.sizes.get(quantity, 0.0) for sample in self.samples[n]] for n in self.widths]
        if any(x <= 0 for sizes in found for x in sizes):
            return None
        return [[math.log(x) for x in sizes] for sizes in found]

    def size(self, quantity: MeasuredQuantity) -> list[float]:
        """Root mean squares by width, over all seeds."""
        return [
            math.sqrt(sum(s.sizes.get(quantity, 0.0) ** 2 for s in samples) / len(samples))
            for samples in (self.samples[n] for n in self.widths)
        ]

    @property
    def quantities(self) -> list[MeasuredQuantity]:
        """In the order in which modules are run, those of all networks."""
        return list(self.samples[self.widths[0]][0].sizes)


# ------------------------------------------------------------------------------------------------------------ hooks


class Recorder:
    """Root mean squares of the results of every module, and of what they differ by from the first recorded pass."""

    def __init__(self, model: nn.Module, sample: Sample, probe: AlignmentProbe, last: int):
        self.sample = sample
        self._probe, self._last = probe, last
        self.inputs: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self._model = model
        self._first: dict[tuple[str, int], torch.Tensor] = {}
        self._stack: list[str] = []

    @contextmanager
    def recording(self, step: int) -> Iterator[None]:
        self._step = step
        self._pass: dict[str, list[tuple[Any, Any]]] = {}
        self._seen: dict[int, weakref.ref[torch.Tensor]] = {}
        handles = []
        for name, module in self._model.named_modules():
            handles.append(module.register_forward_pre_hook(self._entering(name), with_kwargs=True))
            handles.append(module.register_forward_hook(self._leaving(name), always_call=True))
        try:
            with _Logits(self), self._probe.at(step, self._last):
                yield
        finally:
            for handle in handles:
                handle.remove()
        for name, sizes in self._pass.items():
            activation, update = (
                math.sqrt(sum(float(x) ** 2 for x in side) / len(side)) for side in zip(*sizes, strict=True)
            )
            self.sample.sizes[MeasuredQuantity(name, "activation", step)] = activation
            if step:
                self.sample.sizes[MeasuredQuantity(name, "update", step)] = update

    def _entering(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if self.inputs is None and not self._stack:
                self.inputs = (args, kwargs)
            self._stack.append(name)

        return hook

    def _leaving(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            self._stack.pop()
            self.see(name, next(_tensors(out), None))

        return hook

    def see(self, name: str, x: torch.Tensor | None) -> None:
        """Records a tensor, unless it was recorded already as the result of an inner module."""
        known = self._seen.get(id(x))
        if x is None or (known is not None and known() is x):
            return
        self._seen[id(x)] = weakref.ref(x)
        with torch.no_grad():
            x = x.detach()
            calls = self._pass.setdefault(name, [])
            key = (name, len(calls))
            if self._step == 0:
                self._first[key] = x.clone()
                update: Any = 0.0
            else:
                first = self._first.get(key)
                update = rms(x - first) if first is not None and first.shape == x.shape else 0.0
            calls.append((rms(x), update))

    @property
    def place(self) -> str:
        """The module that is being run."""
        return self._stack[-1] if self._stack else ""


class _Logits(TorchFunctionMode):
    """Shows the recorder the logits of attention, and other arguments of softmax, which no module returns."""

    def __init__(self, recorder: Recorder):
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention:
            self._recorder.see(self._recorder.place + LOGITS, _products(*args, **kwargs))
        elif func in _SOFTMAX and args and isinstance(args[0], torch.Tensor):
            self._recorder.see(self._recorder.place + LOGITS, _visible(args[0]))
        return func(*args, **kwargs)


_SOFTMAX = {torch.softmax, torch.Tensor.softmax, torch.nn.functional.softmax}


def _visible(logits: torch.Tensor) -> torch.Tensor:
    return torch.where(logits.detach() > _MASKED, logits.detach(), torch.zeros((), dtype=logits.dtype))


def _products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, scale: float | None = None, **options: Any
) -> torch.Tensor:
    """The logits of attention, without its mask."""
    with torch.no_grad():
        if query.shape[0] * key.shape[-2] * query[0].numel() > _LARGE * query.shape[-1] and query.ndim > 3:
            query, key = query[:1], key[:1]
        if query.shape[-3:-2] != key.shape[-3:-2] and query.ndim > 2:
            key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        factor = scale if scale is not None else 1 / math.sqrt(query.shape[-1])
        return (query.detach() @ key.detach().transpose(-2, -1)) * factor


def _tensors(out: Any) -> Iterator[torch.Tensor]:
    for leaf in torch.utils._pytree.tree_leaves(out):
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point():
            yield leaf


def _without(update: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """An update without its part along the initial values.

    Weight decay multiplies these by a number. Their entries are n^(-1/2) in a matrix, where those that gradients add are 1/n: decay
    that follows muP would be all that is left of the update.
    """
    size = torch.sum(start * start)
    return update if size == 0 else update - torch.sum(update * start) / size * start


# --------------------------------------------------------------------------------------------------------- networks


@dataclass(frozen=True)
class Experiment:
    """What is trained: as given to `coord_check`."""

    factory: Callable[[int], nn.Module]
    loss_step: LossStep
    optimizer: Callable[[nn.Module], Any]
    steps: int

    def measure(self, widths: Sequence[int], seeds: int, seed: int) -> Measured:
        """Trains networks of every width from `seeds` seeds."""
        found = Measured(tuple(widths), {}, {}, {}, {}, {}, {}, ((), {}))
        for n in widths:
            found.samples[n] = []
            for k in range(seeds):
                with torch.random.fork_rng(devices=[]):
                    found.samples[n].append(self._network(found, n, seed + 1_000_003 * k, first=k == 0))
        if all(len(set(by.values())) == 1 for by in found.shapes.values()):
            raise _wrong(
                "the parameters have the same shapes at all widths", "let the factory use the width that it is given"
            )
        return found

    def _network(self, found: Measured, n: int, seed: int, first: bool) -> Sample:
        torch.manual_seed(seed + n)
        model = self._built(found, n) if first else self._made(n)
        optimizers = self._optimizers(model, n)
        if first:
            _read(found, model, optimizers, n)
        sample = Sample()
        start = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
        probe = AlignmentProbe(model, start)
        recorder = Recorder(model, sample, probe, self.steps)
        for step in range(self.steps):
            self._train(recorder, model, optimizers, n, seed, step)
            if step == 0 and first and n == found.widths[0]:
                assert recorder.inputs is not None
                found.inputs = recorder.inputs
            with recorder.recording(step + 1), torch.no_grad():
                self._loss(model, n, seed, 0, step + 1)
        sample.alignments, sample.terms = probe.ratios, probe.terms
        groups = (group for optimizer in optimizers for group in optimizer.param_groups)
        decaying = {id(p) for group in groups if group.get("weight_decay") for p in group["params"]}
        for name, p in model.named_parameters():
            if p.requires_grad:
                update = p.detach() - start[name]
                if id(p) in decaying and p.numel() >= n:
                    update = _without(update, start[name])
                sample.sizes[MeasuredQuantity(name, "parameter update", self.steps)] = float(rms(update))
        return sample

    def _train(
        self, recorder: Recorder, model: nn.Module, optimizers: Sequence[Any], n: int, seed: int, step: int
    ) -> None:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        if step == 0:
            with recorder.recording(0):
                loss = self._loss(model, n, seed, 0, 0)
            if recorder.inputs is None:
                raise _wrong("loss_step does not call the module", "compute the loss from `model(...)`")
        else:
            loss = self._loss(model, n, seed, step, step)
        if step == 0:
            self._demand_same(model, n, seed, float(loss.detach()))
        recorder.sample.losses.append(float(loss.detach()))
        if not loss.requires_grad:
            raise _wrong("the loss depends on no parameter", "do not detach it, and do not compute it under no_grad")
        loss.backward()
        for name, p in model.named_parameters():
            if p.grad is not None:
                recorder.sample.sizes[MeasuredQuantity(name, "gradient", step)] = float(rms(p.grad))
        for optimizer in optimizers:
            optimizer.step()

    def _demand_same(self, model: nn.Module, n: int, seed: int, loss: float) -> None:
        """Activations are compared on the batch of step 0: it must be the same whenever it is asked for."""
        with torch.no_grad():
            again = float(self._loss(model, n, seed, 0, 0))
        if abs(again - loss) > 1e-3 * max(abs(loss), abs(again)):
            raise _wrong(
                f"loss_step(model, 0) is {loss:.4g}, and {again:.4g} when it is called again",
                "return the loss of the batch of the step that is asked for, not of the next batch of an iterator",
            )

    def _loss(self, model: nn.Module, n: int, seed: int, batch: int, done: int) -> torch.Tensor:
        """The loss of a batch, which does not depend on the width; `done` steps have been made."""
        torch.manual_seed(seed + batch)
        loss = _called("loss_step(model, step)", self.loss_step, model, batch)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
            raise _wrong(f"loss_step returned {what}, not a scalar loss", "return one number, such as `loss.mean()`")
        if not torch.isfinite(loss).all():
            raise _wrong(
                f"the loss is {float(loss.detach())} after {done} steps at width {n}",
                "lower the learning rate, or check fewer steps; if only large widths diverge, something grows with the width",
            )
        return loss

    def _made(self, n: int) -> nn.Module:
        return made(self.factory, n, "NX715")

    def _built(self, found: Measured, n: int) -> nn.Module:
        """A module, with the laws of its parameters."""
        with Fills() as fills:
            model = self._made(n)
        owners = dict(model.named_modules())
        for name, p in model.named_parameters():
            found.laws.setdefault(name, {})[n] = fills.law(p)
            found.shapes.setdefault(name, {})[n] = tuple(p.shape)
            found.owners[name] = type(owners[name.rpartition(".")[0]]).__name__
        first = {id(p): name for name, p in model.named_parameters()}
        every = model.named_parameters(remove_duplicate=False)
        found.shared |= {first[id(p)]: name for name, p in every if first[id(p)] != name}
        return model

    def _optimizers(self, model: nn.Module, n: int) -> list[Any]:
        given = _called("optimizer(model)", self.optimizer, model)
        optimizers = list(given) if isinstance(given, list | tuple) else [given]
        for optimizer in optimizers:
            if not hasattr(optimizer, "param_groups"):
                raise _wrong(
                    f"optimizer(model) returned {type(optimizer).__name__}", "return a torch optimizer, or several"
                )
        held = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
        if not any(id(p) in held for p in model.parameters()):
            raise _wrong(
                "the optimizer has no parameter of the model",
                "make it anew for each network, from the parameters of the model that `optimizer(model)` is given",
            )
        return optimizers


def _read(found: Measured, model: nn.Module, optimizers: Sequence[Any], n: int) -> None:
    """The hyperparameters of every parameter."""
    names = {id(p): name for name, p in model.named_parameters()}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            eps, decay = group.get("eps"), group.get("weight_decay")
            settings = OptimizerSettings(
                type(optimizer).__name__,
                float(group["lr"]),
                float(eps) if isinstance(eps, int | float) else None,
                float(decay) if isinstance(decay, int | float) else None,
            )
            for p in group["params"]:
                if id(p) in names:
                    found.settings.setdefault(names[id(p)], {})[n] = settings


def _called(what: str, function: Callable[..., Any], *args: Any) -> Any:
    """The result of a function of the user's, or a refusal that names it."""
    try:
        return function(*args)
    except ProgramError:
        raise
    except Exception as problem:
        raise _wrong(
            f"{what} failed: {type(problem).__name__}: {problem}", "call it by itself on a module of the factory"
        ) from problem


def _wrong(message: str, remedy: str) -> Exception:
    return refusal("NX715", message, remedy)
