"""One operation of both graphs: its arguments, as steps where they depend on parameters, else as numbers of both widths."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tp_compiler.torch.dimensions import Sizes, whole
from tp_compiler.torch.refusals import Untraceable
from tp_compiler.torch.steps import Constants, Figure, View, figure, fresh

#: Logits that are hidden: exp of it is 0, as of -inf.
HIDDEN = -1e9


@dataclass(eq=False)
class Folded:
    """A value that depends on no parameter, computed by torch at both widths."""

    values: tuple[Any, Any]
    name: str


@dataclass
class Call:
    """An operation, with its arguments by the names that its schema gives them."""

    name: str
    arguments: Mapping[str, Any]  # View, Folded, or a pair of plain values
    shapes: list[Sizes]
    widths: Sizes

    def has(self, name: str) -> bool:
        found = self.arguments.get(name)
        return isinstance(found, (View, Folded, list)) or (found is not None and found[0] is not None)

    def pair(self, name: str) -> tuple[Any, Any]:
        found = self.arguments[name]
        if isinstance(found, Folded):
            one, other = found.values
            return (one.item(), other.item()) if isinstance(one, torch.Tensor) else (one, other)
        if isinstance(found, View):
            raise Untraceable("NX703", f"`{name}` is computed from parameters", "pass a number")
        return found[0], found[1]

    def plain(self, name: str, default: Any = None) -> Any:
        """An argument that must not depend on the width."""
        if name not in self.arguments:
            return default
        one, other = self.pair(name)
        if one != other:
            raise Untraceable(
                "NX704",
                f"`{name}` is {one} at n = {self.widths[0]} and {other} at n = {self.widths[1]}",
                "keep it fixed",
            )
        return default if one is None else one

    def figure(self, name: str) -> Figure:
        one, other = self.pair(name)
        return figure(float(one), float(other), self.widths)

    def view(self, name: str) -> View:
        return self.tensor(self.arguments[name])

    def tensor(self, found: Any) -> View:
        if isinstance(found, View):
            return found
        if isinstance(found, Folded):
            return given(found, self.widths)
        raise Untraceable("NX703", "an argument is not a tensor", "pass tensors")

    def views(self, name: str) -> list[View]:
        return [self.tensor(item) for item in self.arguments[name]]

    def term(self, name: str) -> View | Figure:
        """An operand of arithmetic: a tensor, or a number."""
        found = self.arguments[name]
        if isinstance(found, View):
            return found
        if isinstance(found, Folded) and isinstance(found.values[0], torch.Tensor) and found.values[0].ndim:
            return given(found, self.widths)
        return self.figure(name)


def given(folded: Folded, widths: Sizes) -> View:
    """Numbers as data of the program. Raises unless they are the same at both widths, up to a power of n."""
    one, other = (np.asarray(torch.as_tensor(v).detach().double()) for v in folded.values)
    shape = list(zip(one.shape, other.shape, strict=True))
    uniform = one.size and other.size and (one == one.flat[0]).all() and (other == other.flat[0]).all()
    if uniform and np.isfinite(one.flat[0]) and np.isfinite(other.flat[0]):
        factor = figure(float(one.flat[0]), float(other.flat[0]), widths)
        return View(Constants([], [], np.array(1.0), folded.name), [whole(s, None) for s in shape], factors=(factor,))
    if one.shape != other.shape:
        raise Untraceable(
            "NX705",
            f"`{folded.name}` has a dimension that grows with the width and depends on no parameter",
            "tables along the width have no limit here; make them parameters, or keep their size fixed",
        )
    factor = _common(one, other, widths, folded.name)
    slots, groups = fresh(shape)
    if not np.isfinite(one).all() and (np.isnan(one).any() or (one == np.inf).any()):
        raise Untraceable("NX705", f"`{folded.name}` has entries that are not finite", "use finite numbers")
    step = Constants(slots, groups, one.reshape([d.sizes[0] for d in slots]), re.sub(r"\W", "_", folded.name))
    return View(step, groups, factors=() if factor == Figure(1.0) else (factor,))


def _common(one: np.ndarray, other: np.ndarray, widths: Sizes, name: str) -> Figure:
    """The power of n by which all entries differ."""
    if np.array_equal(one, other):
        return Figure(1.0)
    with np.errstate(all="ignore"):
        ratios = (other / one)[one != 0]
    if ((one == 0) == (other == 0)).all() and np.allclose(ratios, ratios[0], rtol=1e-12):
        return figure(1.0, float(ratios[0]), widths)
    raise Untraceable("NX705", f"`{name}` depends on the width", "keep numbers constant, or times a power of the width")
