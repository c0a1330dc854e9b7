"""Learned matrices as sums of few outer products, Δ = Σ_r c_r |left_r><right_r|: under SGD, far fewer numbers than entries.

Where the next values of a matrix are linear in its states and in products of kets, a step appends its products to those
before it. The states that share the neurons of a matrix (its learned part, its momentum) share the products, too: each has
only coefficients of its own. Nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.finite.array_types import Mask, Values
from tp_compiler.finite.blame import finite, overflow, undefined
from tp_compiler.finite.linear_forms import Tensor, Term, forms, pairs
from tp_compiler.finite.schedule import StateUpdate
from tp_compiler.finite.tensors import NETWORKS, LabelledArray, Labels, align
from tp_compiler.finite.updates import Diverged
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index
from tp_compiler.shapes import Float

Member = tuple[int, ...]
#: Of the terms of a next value, over (networks, *family).
Coefficients = dict[Term, Values]


@dataclass(eq=False)
class MemberFactors:
    """Of one member of a family: factors, of which the first `used` are there, and the coefficients of each state.

    `terms` add to it in every step; a family's other terms have a factor 0 there, as δ[l, 1] is.
    """

    terms: Collection[Term]
    left: Float[Values, "networks rank rows"]
    right: Float[Values, "networks rank columns"]
    coefficients: dict[ir.State, Float[Values, "networks rank"]]
    used: int = 0


class _Added(NamedTuple):
    """What a term adds in a step: factors over (networks, *family, *over, neurons), and a scalar over (networks, *family)."""

    left: Values
    right: Values
    scale: Values


class FactoredMatrices:
    """The states of a matrix, or of a family of matrices, during the training of some networks."""

    def __init__(self, update: StateUpdate, members: Mapping[Member, MemberFactors]):
        self.update = update
        self.members = members
        self.flat = list(members.values())

    def image(self, state: ir.State, flat: int, kets: Values, transposed: bool, scale: float) -> Values:
        """`scale` times a member, or its transpose, times kets, the rows of a matrix."""
        own = self.flat[flat]
        reads, writes = (own.left, own.right) if transposed else (own.right, own.left)
        weights = own.coefficients[state][:, None, : own.used] * scale
        return np.asarray((kets @ reads[:, : own.used].swapaxes(-1, -2) * weights) @ writes[:, : own.used])

    def advance(self, tensor: Tensor) -> None:
        """Takes all states to their next values; `tensor` is the value of a scalar or ket. Raises Diverged."""
        following, family = self.update.following, next(iter(self.update.following)).type.indices
        added = {term: _added(self.update, term, tensor) for term in self.update.terms or ()}
        found: dict[ir.State, Coefficients] = {}
        for state, form in forms(following, self.update.body.nodes, tensor).items():
            found[state] = {term: align(c, (NETWORKS, *family)) for term, c in form.items()}
            if not all(finite(c) if term not in added else _small(added[term], c) for term, c in found[state].items()):
                raise Diverged(state, self._cause(following[state], tensor))
        for at, own in self.members.items():
            _extend(own, at, found, added)

    def _cause(self, node: ir.Node, tensor: Tensor) -> Diagnostic:
        """Why the next value of a state is not finite though all scalars and kets are: a division by 0, or an overflow."""
        for inside in self.update.body.nodes:
            if isinstance(inside, ir.Map) and inside.fn == "div":
                divisor = tensor(inside.args[1]).array
                if not divisor.all():
                    return undefined(inside, (divisor, divisor))
        return overflow(node)


def factored(
    update: StateUpdate, steps: int, shape: tuple[int, int, int], dtype: type[np.floating] | np.dtype[np.floating],
    static: Mapping[ir.Node, LabelledArray],
) -> FactoredMatrices | None:  # fmt: skip
    """The states before the first step, for networks, rows and columns of `shape`; None if entries are fewer numbers.

    `static` are the scalars that no step changes.
    """
    if update.terms is None:
        return None
    family = next(iter(update.following)).type.shape
    reached = {term: np.broadcast_to(_reached(update, term, static), family) for term in update.terms}
    terms = {at: [term for term in update.terms if reached[term][at]] for at in np.ndindex(*family)}
    ranks = {at: steps * sum(pairs(node) for node, _ in own) for at, own in terms.items()}
    networks, rows, columns = shape
    if update.factored(sum(ranks.values()), rows, columns) is None:
        return None

    def empty(at: Member) -> MemberFactors:
        def zeros(*last: int) -> Values:
            return np.zeros((networks, ranks[at], *last), dtype)

        return MemberFactors(terms[at], zeros(rows), zeros(columns), {state: zeros() for state in update.following})

    return FactoredMatrices(update, {at: empty(at) for at in terms})


def _plain(node: ir.Node) -> list[ir.Node]:
    """The scalar factors of a term that are the same for all its products."""
    over = node.over if isinstance(node, ir.Contract) else ()
    return [a for a in node.args if not a.type.slots and not any(i in over for i in a.type.indices)]


def _family(update: StateUpdate, term: Term) -> Labels:
    """The labels of the family of the states inside a term, which may lack some: a number of no slot takes their place."""
    node, names = term
    own = dict(zip(names, node.type.indices, strict=True))
    indices = next(iter(update.following)).type.indices
    return tuple(own.get(index, NETWORKS - 1 - k) for k, index in enumerate(indices))


def _reached(update: StateUpdate, term: Term, static: Mapping[ir.Node, LabelledArray]) -> Mask:
    """The members (dimensions may be 1) to which a term adds: where none of its factors is 0 in all networks and steps."""
    family = _family(update, term)
    known = [static[a] for a in _plain(term[0]) if a in static]
    own = [align(x, family) != 0 for x in known if NETWORKS not in x.labels]
    return reduce(np.logical_and, own, np.ones((1,) * len(family), bool))


def _added(update: StateUpdate, term: Term, tensor: Tensor) -> _Added:
    node, _ = term
    over: tuple[Index, ...] = node.over if isinstance(node, ir.Contract) else ()
    sizes = tuple(i.size for i in over)
    family = _family(update, term)
    plain = _plain(node)
    rows, columns = update.slots

    def factor(args: Sequence[ir.Node], slot: int) -> Values:
        value = _product(args, (NETWORKS, *family, *over, slot), tensor)
        lead = value.shape[: 1 + len(family)]
        if value.shape[1 + len(family) : -1] != sizes:
            value = np.broadcast_to(value, (*lead, *sizes, value.shape[-1]))
        return value.reshape(*lead, pairs(node), value.shape[-1])

    right = [a for a in node.args if any(slot == columns for slot, _ in a.type.slots)]
    left = [a for a in node.args if a not in right and a not in plain]
    return _Added(factor(left, rows), factor(right, columns), _product(plain, (NETWORKS, *family), tensor))


def _product(args: Sequence[ir.Node], labels: Labels, tensor: Tensor) -> Values:
    return reduce(np.multiply, [align(tensor(a), labels) for a in args], np.ones((1,) * len(labels), np.float32))


def _small(new: _Added, coefficient: Values) -> bool:
    """Whether every entry of every product, times its coefficient, is a number of this precision."""
    largest = np.abs(new.left).max(axis=-1) * np.abs(new.right).max(axis=-1)
    return finite(largest * (new.scale * coefficient)[..., None])


def _extend(
    own: MemberFactors, at: Member, found: Mapping[ir.State, Coefficients], added: Mapping[Term, _Added]
) -> None:
    """The next coefficients of what is there, and the products of this step."""
    start = own.used
    old = {state: values[:, :start].copy() for state, values in own.coefficients.items()}
    for state, next_values in found.items():
        carried = [(node.state, c) for (node, _), c in next_values.items() if isinstance(node, ir.Carry)]
        own.coefficients[state][:, :start] = sum(_member(c, at)[:, None] * old[other] for other, c in carried)
    for term in own.terms:
        left, right, scale = (_member(array, at) for array in added[term])
        place = slice(own.used, own.used + pairs(term[0]))
        own.left[:, place], own.right[:, place], own.used = left, right, place.stop
        for state, next_values in found.items():
            if term in next_values:
                own.coefficients[state][:, place] = (_member(next_values[term], at) * scale)[:, None]


def _member(array: Values, at: Member) -> Values:
    """The part of one member, all of which share dimensions of size 1."""
    chosen: list[slice | int] = [place if size > 1 else 0 for place, size in zip(at, array.shape[1:], strict=False)]
    return array[(slice(None), *chosen)]
