"""Products that coincide for some index: W|x_i> and W|x_1> are members of one family, with one hat and one equation each.

As two families, E[∂|y>/∂Ŵ|x_i>] and E[∂|y>/∂Ŵ|x_1>] would coincide at i = 1, and be counted twice.
The places of all products are known after one walk through the program; if some coincide, a second walk gives them the
smallest family that has all of them as members.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tp_compiler.equations.names import index_symbol
from tp_compiler.equations.terms import Expr
from tp_compiler.ir import nodes as ir

#: The members of the matrix, then the indices of the ket.
Place: TypeAlias = tuple[Expr, ...]
#: An instruction, and which member of a family put together it is applied to (0: the whole).
Product: TypeAlias = tuple[ir.MatMul, int]


@dataclass(frozen=True)
class Met:
    """One product: `key` identifies the matrix (and orientation) and the family of kets it is applied to, and its place.

    `own`: the indices of its name in the source, in order; None if it has no name there. `members`: the kets from which
    the argument is assembled, if it is.
    """

    key: tuple[Hashable, ...]
    label: str
    place: Place
    product: Product
    own: tuple[Expr, ...] | None = None
    members: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class MeetingProducts:
    """A family of products that coincide. `slots`: for each position of a place a number, if all members have it, or which of
    the family's indices is there. `named` is a product whose name in the source is the family's, with its indices
    in the order `order` of slots."""

    slots: tuple[int | Expr, ...]
    named: Product | None = None
    order: tuple[int, ...] = field(default=())

    def variables(self, place: Place) -> dict[int, Expr]:
        """The entry of each slot at a place."""
        return {s: e for s, e in zip(self.slots, place, strict=True) if isinstance(s, int)}


@dataclass(frozen=True)
class Meeting:
    """The products that coincide: their families, and those to be written member by member."""

    families: Mapping[Product, MeetingProducts] = field(default_factory=dict)
    apart: frozenset[ir.MatMul] = frozenset()

    def shape(self) -> Hashable:
        """Two walks agree if their meetings have the same shape."""
        return self.apart, frozenset((product, family.slots) for product, family in self.families.items())


def meeting(products: Iterable[Met], before: Meeting) -> Meeting:
    """The families of products that coincide without being the same up to the names of their indices, and the products
    with assembled kets to whose members the matrix is also applied one by one."""
    found: dict[Product, MeetingProducts] = {}
    by_key: dict[Hashable, list[Met]] = {}
    whole: dict[Hashable, list[Met]] = {}
    for product in products:
        by_key.setdefault((*product.key, product.label), []).append(product)
        whole.setdefault(product.key, []).append(product)
    for group in by_key.values():
        for part in _connected(group):
            if len({_shape(p.place) for p in part}) > 1:
                family = _general(part)
                found.update(dict.fromkeys((p.product for p in part), family))
    apart = {p.product[0] for group in whole.values() for p in group if _has_members_in(p, group)}
    return Meeting(found, before.apart | apart)


def _has_members_in(product: Met, group: Iterable[Met]) -> bool:
    """Whether another product also applies the matrix to a member of the argument of `product`."""
    others = (p for p in group if p.label != product.label)
    return any(p.label in product.members or p.members & product.members for p in others)


def _connected(group: Sequence[Met]) -> list[list[Met]]:
    """Products that coincide, directly or through others."""
    parts: list[list[Met]] = []
    for product in group:
        meeting = [part for part in parts if any(_meet(product.place, other.place) for other in part)]
        rest = [part for part in parts if not any(part is m for m in meeting)]
        parts = [*rest, [*(p for part in meeting for p in part), product]]
    return parts


def _meet(one: Place, other: Place) -> bool:
    """Can the two be the same member? Not if numbers differ; gathered and shifted positions can be any."""
    return all(not (a.is_Integer and b.is_Integer and a != b) for a, b in zip(one, other, strict=True))


def _shape(place: Place) -> tuple[Hashable, ...]:
    """A place up to the names of its indices."""
    seen: dict[Expr, int] = {}
    return tuple(seen.setdefault(e, len(seen)) if e.is_Symbol else str(e) for e in place)


def _general(part: Sequence[Met]) -> MeetingProducts:
    """Common numbers; one index for positions that agree everywhere."""
    places = [p.place for p in part]
    slots: list[int | Expr] = []
    seen: dict[tuple[Expr, ...], int] = {}
    for position in range(len(places[0])):
        column = tuple(place[position] for place in places)
        same = column[0].is_Integer and len(set(column)) == 1
        slots.append(column[0] if same else seen.setdefault(column, len(seen)))
    plain = _shape(tuple(_letter(s) for s in slots))
    for product in part:
        at = {e: s for s, e in zip(slots, product.place, strict=True) if isinstance(s, int)}
        if product.own is not None and _shape(product.place) == plain and set(product.own) == set(at):
            return MeetingProducts(tuple(slots), product.product, tuple(at[i] for i in product.own))
    return MeetingProducts(tuple(slots))


def _letter(slot: int | Expr) -> Expr:
    return index_symbol(f"ι{slot}") if isinstance(slot, int) else slot


def general_place(
    family: MeetingProducts, formal: Sequence[Expr], other: Callable[[Expr, Iterable[str]], Expr]
) -> tuple[Place, Mapping[int, Expr]]:
    """The family's own place, over the indices `formal` that each position ranges over; `other(i, taken)` is one for
    the same range at another position."""
    chosen: dict[int, Expr] = {}
    for slot, index in zip(family.slots, formal, strict=True):
        if isinstance(slot, int) and slot not in chosen:
            taken = {i.name for i in chosen.values()}
            chosen[slot] = other(index, taken) if index.name in taken else index
    return tuple(chosen[s] if isinstance(s, int) else s for s in family.slots), chosen
