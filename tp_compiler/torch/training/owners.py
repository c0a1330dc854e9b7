"""Which parameters of a traced module an optimizer of torch has: by their names, or by their shapes where these say enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tp_compiler.torch.dimensions import Sizes
from tp_compiler.torch.names import unwrapped
from tp_compiler.torch.refusals import refusal
from tp_compiler.torch.steps import Weight
from tp_compiler.torch.training.optimizers import histories


@dataclass(frozen=True, eq=False)
class Owned:
    """A parameter, the options of its group at every step, and whether it is trained."""

    weight: Weight
    tensor: torch.Tensor
    history: list[dict[str, Any]] | None  # None: in no group

    @property
    def trained(self) -> bool:
        return self.history is not None and self.tensor.requires_grad


def owners(
    weights: list[Weight],
    widths: Sizes,
    optimizer: torch.optim.Optimizer,
    scheduler: Any,
    steps: int,
    module: nn.Module | None,
    spare: int = 0,
) -> tuple[int, list[Owned]]:
    """The width of the module that an optimizer was built for, and what it does with each parameter of the program.

    spare   how many parameters the module has beside those of the program, which its outputs do not need
    """
    found = histories(optimizer, scheduler, steps)
    held = [(p, history) for group, history in zip(optimizer.param_groups, found, strict=True) for p in group["params"]]
    names = _names(optimizer, module)
    if names is not None:
        known = {weight.name for weight in weights}
        return _by_name(weights, widths, held, {key: unwrapped(name, known) for key, name in names.items()})
    return _by_shape(weights, widths, held, spare)


Held = Sequence[tuple[torch.Tensor, list[dict[str, Any]]]]


def _names(optimizer: torch.optim.Optimizer, module: nn.Module | None) -> dict[int, str] | None:
    """The names of an optimizer's parameters, if it or a module knows them."""
    if module is not None:
        return {id(p): name for name, p in module.named_parameters()}
    found: dict[int, str] = {}
    for group in optimizer.param_groups:
        if "param_names" not in group:
            return None
        found.update((id(p), name) for name, p in zip(group["param_names"], group["params"], strict=True))
    return found


def _by_name(weights: list[Weight], widths: Sizes, held: Held, names: dict[int, str]) -> tuple[int, list[Owned]]:
    tensors: dict[str, tuple[torch.Tensor, list[dict[str, Any]]]] = {}
    for p, history in held:
        if id(p) not in names:
            raise refusal(
                "NX723", f"the optimizer has a parameter of shape {tuple(p.shape)} that the module does not have",
                "build the optimizer from the parameters of `module`",
            )  # fmt: skip
        tensors[names[id(p)]] = p, history
    known = {w.name: w for w in weights}
    if not set(known) & set(tensors):
        raise refusal(
            "NX723", "none of the optimizer's parameters is one of the traced module", "give a module of the traced factory"
        )  # fmt: skip
    sizes = [width_of(p.shape, known[name], widths) for name, (p, _) in tensors.items() if name in known]
    width = next((n for n in sizes if n is not None), widths[0])
    owned = []
    for weight in weights:
        if weight.name not in tensors:
            owned.append(Owned(weight, torch.empty(0), None))
            continue
        p, history = tensors[weight.name]
        if tuple(p.shape) != shape_at(weight, widths, width):
            raise refusal(
                "NX723", f"`{weight.name}` has shape {tuple(p.shape)}, which is not that of width {width}",
                "give a module of the traced factory"
            )  # fmt: skip
        owned.append(Owned(weight, p, history))
    return width, owned


def _by_shape(weights: list[Weight], widths: Sizes, held: Held, spare: int) -> tuple[int, list[Owned]]:
    """Parameters by their shapes, where these say enough: parameters of a shape must all be treated alike."""
    width = _width(weights, widths, held, spare)
    shapes = [shape_at(weight, widths, width) for weight in weights]
    found: dict[tuple[int, ...] | None, tuple[torch.Tensor, list[dict[str, Any]] | None]] = {}
    for shape, count in Counter(shapes).items():
        alike = [(p, history) for p, history in held if tuple(p.shape) == shape]
        kinds = {(p.requires_grad, repr(history)) for p, history in alike}
        if len(alike) not in (0, count) or len(kinds) > 1:
            raise refusal(
                "NX723",
                f"which of the {count} parameters of shape {shape} the optimizer treats how, its groups do not say",
                "give the module it was built for, `module=net`, or build it from `named_parameters()`",
            )
        found[shape] = alike[0] if alike else (torch.empty(0), None)
    return width, [Owned(weight, *found[shape]) for weight, shape in zip(weights, shapes, strict=True)]


def _width(weights: list[Weight], widths: Sizes, held: Held, spare: int) -> int:
    shapes = Counter(tuple(p.shape) for p, _ in held)
    candidates = {
        n for w in weights for shape in shapes if len(shape) == len(w.slots) for n in [width_of(shape, w, widths)] if n
    }
    fitting = [n for n in sorted(candidates) if _left_over(shapes, weights, widths, n) <= spare]
    if len(fitting) != 1:
        raise refusal(
            "NX723",
            "the shapes of the optimizer's parameters are not those of the traced module"
            if not fitting
            else f"the optimizer's parameters may be those of widths {', '.join(map(str, fitting))}",
            "build it from the parameters of a module of the traced factory, and give that: `module=net`",
        )
    return fitting[0]


def _left_over(shapes: Counter[tuple[int, ...]], weights: list[Weight], widths: Sizes, n: int) -> int:
    """How many of the optimizer's parameters are none of the program's, if n is the width."""
    known = Counter(shape for w in weights if (shape := shape_at(w, widths, n)) is not None)
    return (shapes - known).total()


def shape_at(weight: Weight, widths: Sizes, n: int) -> tuple[int, ...] | None:
    """The shape of a parameter at width n; None if n is not possible."""
    found = []
    for one, other in (slot.sizes for slot in weight.slots):
        if one != other and one * n % widths[0]:
            return None
        found.append(one if one == other else one * n // widths[0])
    return tuple(found)


def width_of(shape: Sequence[int], weight: Weight, widths: Sizes) -> int | None:
    """n, from a dimension of a parameter that grows; None if it has none."""
    for size, slot in zip(shape, weight.slots, strict=True):
        one, other = slot.sizes
        if one != other:
            return int(size * widths[0] // one)
    return None
