"""Dimensions at two widths: classes of equal dimensions, refined when an operation splits one (union-find).

A dimension that is equal at both widths is finite, an axis of the program; any other is a width, of a fixed ratio to n.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod

from tp_compiler.torch.refusals import Untraceable

Sizes = tuple[int, int]


class Dimension:
    """One dimension of a tensor, with its sizes at both widths; `root()` is the same for dimensions that are equal."""

    def __init__(self, sizes: Sizes):
        self.sizes = sizes
        self._same: Dimension | None = None
        self.parts: tuple[Dimension, Dimension] | None = None

    def root(self) -> Dimension:
        found = self
        while found._same is not None:
            found = found._same
        return found

    @property
    def is_width(self) -> bool:
        return self.sizes[0] != self.sizes[1]

    def split(self, outer: Sizes) -> None:
        """Refines a root without parts into an outer dimension of these sizes and the rest."""
        if any(size % part for size, part in zip(self.sizes, outer, strict=True)):
            raise Untraceable(
                "NX704",
                f"a dimension of {_shown(self.sizes)} entries does not split into parts of {_shown(outer)}",
                "axes that mix finite and growing sizes have no limit; keep them in separate tensors",
            )
        inner = (self.sizes[0] // outer[0], self.sizes[1] // outer[1])
        self.parts = (Dimension(outer), Dimension(inner))

    def merge(self, other: Dimension) -> None:
        """Makes the root `other` the same dimension as this root."""
        if other is not self:
            other._same = self


def _shown(sizes: Sizes) -> str:
    return str(sizes[0]) if sizes[0] == sizes[1] else f"{sizes[0]} ({sizes[1]} at the second width)"


@dataclass(frozen=True)
class Leaf:
    """A dimension of a step, or a part of it: the step's dimension `slot`, and the way down its parts.

    Without a slot the tensor does not depend on it: a dimension that `expand` made.
    """

    slot: int | None
    top: Dimension
    way: tuple[int, ...] = ()

    @property
    def dimension(self) -> Dimension:
        found = self.top.root()
        for part in self.way:
            assert found.parts is not None
            found = found.parts[part].root()
        return found

    def parts(self) -> list[Leaf]:
        return [Leaf(self.slot, self.top, (*self.way, k)) for k in (0, 1)]

    def leaves(self) -> list[Leaf]:
        """What it has been refined into, without parts of size 1."""
        if self.dimension.parts is not None:
            return leaves(self.parts())
        return [] if self.dimension.sizes == (1, 1) else [self]


#: One dimension of a tensor in torch: places in row-major order; none for a dimension of size 1.
Group = list[Leaf]


def leaves(places: Iterable[Leaf]) -> list[Leaf]:
    return [leaf for place in places for leaf in place.leaves()]


def sizes(places: Iterable[Leaf]) -> Sizes:
    found = [place.dimension.sizes for place in places]
    return prod(s[0] for s in found), prod(s[1] for s in found)


def whole(sizes: Sizes, slot: int | None) -> Group:
    """A dimension that nothing has split yet."""
    return [] if sizes == (1, 1) else [Leaf(slot, Dimension(sizes))]


def unify(left: Group, right: Group) -> None:
    """Makes two dimensions equal; one is refined where the other is."""
    ours, theirs = leaves(left), leaves(right)
    if sizes(ours) != sizes(theirs):
        message = f"dimensions of {_shown(sizes(ours))} and of {_shown(sizes(theirs))} entries meet"
        raise Untraceable("NX704", message, "build every part of the module from the same width")
    while ours and theirs:
        a, b = ours.pop(0), theirs.pop(0)
        one, other = a.dimension, b.dimension
        if one.sizes == other.sizes:
            one.merge(other)
        elif _holds(one.sizes, other.sizes):
            one.split(other.sizes)
            outer, inner = a.parts()
            outer.dimension.merge(other)
            ours.insert(0, inner)
        else:
            other.split(one.sizes)
            outer, inner = b.parts()
            one.merge(outer.dimension)
            theirs.insert(0, inner)


def _holds(whole: Sizes, part: Sizes) -> bool:
    return all(w % p == 0 for w, p in zip(whole, part, strict=True))


def take(places: list[Leaf], wanted: Sizes) -> Group:
    """Takes places of these sizes from the front of a list; the last one is split if it is larger."""
    taken: Group = []
    while sizes(taken) != wanted:
        if not places:
            raise Untraceable("NX704", "a view does not fit the dimensions", "use views that split or join dimensions")
        place = places.pop(0)
        held = sizes(taken)
        missing = (wanted[0] // held[0], wanted[1] // held[1])
        if _holds(missing, place.dimension.sizes):
            taken.append(place)
        else:
            place.dimension.split(missing)
            outer, inner = place.parts()
            taken.append(outer)
            places.insert(0, inner)
    return taken


def regroup(groups: Sequence[Group], shape: Sequence[Sizes]) -> list[Group]:
    """The dimensions of a view: those of a tensor, joined and split into another shape."""
    left = leaves(place for group in groups for place in group)
    return [take(left, wanted) for wanted in shape]


def ratio(dimension: Dimension, widths: Sizes) -> Fraction:
    """size / n of a width. Raises if it is not the same at both widths."""
    one, other = (Fraction(size, n) for size, n in zip(dimension.sizes, widths, strict=True))
    if one != other:
        raise Untraceable(
            "NX704",
            f"a dimension has {dimension.sizes[0]} entries at n = {widths[0]} and {dimension.sizes[1]} at n = {widths[1]}",
            "dimensions must be constant or proportional to n; for widths that are rounded, choose other `widths`",
        )
    return one
