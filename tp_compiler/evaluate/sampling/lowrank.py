"""Trained matrices under linear optimizers: Δ = |L> C <R|, a small matrix C between two bases of kets.

SGD, momentum, weight decay and everything else whose update is linear in the gradient and the states (with scalars of
the step as coefficients) never needs the entries of Δ. The states of one matrix share the bases: L
spans the left kets of the gradients Σ |l><r| so far, R the right ones; each state is its C, and
Δ|x> = |L> C <R|x> is exact up to the brackets. Kets that depend on earlier ones add nothing to the bases, so that they
grow to the numerical rank of the training, and no further.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tp_compiler.evaluate import numerical_errors
from tp_compiler.evaluate.array_types import Array, Mask, Numbers
from tp_compiler.evaluate.arrays import REPLICATE, aligned
from tp_compiler.evaluate.backend import host
from tp_compiler.evaluate.sampling.averages import product, transposed
from tp_compiler.evaluate.sampling.conditioning.directions import Basis
from tp_compiler.evaluate.sampling.outerproducts import by_member, columns, is_outer
from tp_compiler.evaluate.sampling.shared_values import SharedValues, whole
from tp_compiler.ir import nodes as ir
from tp_compiler.shapes import Float


def is_linear(states: Iterable[ir.State], following: Mapping[ir.State, ir.Node]) -> bool:
    """Whether the next value of each state is a sum of multiples of the states and of outer products of kets."""
    return all(s.init.type.is_scalar and _linear(following[s]) for s in states)


def _linear(root: ir.Node) -> bool:
    todo, seen = [root], set()
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        parts = _parts(node)
        if parts is None:
            return False
        todo.extend(parts)
    return True


def _parts(node: ir.Node) -> list[ir.Node] | None:
    """The entries that a node is a linear combination of; [] for an outer product, None if it is not linear."""
    if isinstance(node, ir.Carry) or is_outer(node):
        return []
    if not isinstance(node, ir.Map):
        return None
    entries = [a for a in node.args if len(a.type.slots) == 2]
    if node.fn == "add":
        return list(node.args)
    if node.fn == "mul" and len(entries) == 1 and all(a is entries[0] or a.type.is_scalar for a in node.args):
        return entries
    if node.fn == "div" and entries == [node.args[0]] and node.args[1].type.is_scalar:
        return entries
    if node.fn == "where" and node.args[0].type.is_scalar:
        return list(node.args[1:])
    return None


@dataclass
class LowRankForm:
    """A linear combination of states and outer products; coefficients are arrays over the family's indices."""

    states: dict[ir.State, Any] = field(default_factory=dict)
    outer: dict[ir.Node, Any] = field(default_factory=dict)

    def plus(self, other: LowRankForm) -> LowRankForm:
        result = LowRankForm(dict(self.states), dict(self.outer))
        result.states.update({k: result.states.get(k, 0.0) + c for k, c in other.states.items()})
        result.outer.update({k: result.outer.get(k, 0.0) + c for k, c in other.outer.items()})
        return result

    def times(self, c: Numbers) -> LowRankForm:
        return LowRankForm({k: v * c for k, v in self.states.items()}, {k: v * c for k, v in self.outer.items()})


@dataclass
class Factors:
    """The bases of one member of a family, and the C of every state, as large as the replicate with most directions needs."""

    left: Basis
    right: Basis
    cores: dict[ir.State, Any]


class LowRank:
    """The states of one trained matrix (family) and its optimizer."""

    def __init__(self, states: list[ir.State], run: SharedValues, drop: float):
        self.states, self.run = states, run
        self.indices = states[0].type.indices
        self.samples = run.samples
        rows, cols = (w.ratio for _, w in states[0].type.slots)
        self.ratio = rows / cols
        self.shape = tuple(i.size for i in self.indices)
        self.factors = {member: self._first(member, drop) for member in np.ndindex(self.shape)}

    def _first(self, member: tuple[int, ...], drop: float) -> Factors:
        count = self.run.replicates
        empty = {s: self.run.backend.array(np.zeros((count, 0, 0))) for s in self.states}
        rows, cols = (Basis(drop, self.run.over(self.states[0], slot)) for slot, _ in self.states[0].type.slots)
        f = Factors(rows, cols, empty)
        start = {s: host(_at(whole(self.run, s.init, self.indices, self.shape), member)) for s in self.states}
        starting = np.any(list(start.values()), axis=0)
        if starting.any():  # entries start at a number: a multiple of |1><1|
            ones = np.ones((count, self.samples, 1)) * starting[:, None, None]
            left, right = (basis.coordinates(self.run.backend.array(ones)) for basis in (f.left, f.right))
            f.cores = {s: _each(c) * (left @ transposed(right)) for s, c in start.items()}
        return f

    def apply(
        self, state: ir.State, member: tuple[int, ...], x: Float[Array, "replicates samples k"], transpose: bool
    ) -> Float[Array, "replicates samples k"]:
        """Δ|x> for the columns of x; Δᵀ|x> has a factor ρ."""
        f = self.factors[member]
        core = f.cores[state]
        if not core.size:
            return np.zeros_like(x)
        into, out, factor = f.right, f.left, 1.0
        if transpose:
            into, out, core, factor = f.left, f.right, transposed(core), self.ratio
        seen = into.rows.seen(x, into.averages)
        return out.rows.combined(factor * product(core, seen, out.sizes, into.sizes))

    # -- one step -----------------------------------------------------------------------------------------------
    def follow(self, following: Mapping[ir.State, ir.Node]) -> None:
        """Replaces the states by their next values."""
        done: dict[ir.Node, LowRankForm] = {}
        forms = {s: self._form(following[s], done) for s in self.states}
        terms = by_member(dict.fromkeys(t for form in forms.values() for t in form.outer), self.indices, self.run)
        for member in self.factors:
            self._advance(member, forms, terms[member])

    def _advance(
        self, member: tuple[int, ...], forms: dict[ir.State, LowRankForm], terms: Mapping[ir.Node, Mask]
    ) -> None:
        """The next states of one member.

        `terms`: the outer products with which the member is concerned, and the replicates that have them.
        """

        def at(c: Numbers) -> Float[Array, "replicates 1 1"]:
            return _each(_at(np.broadcast_to(c, (self.run.replicates, *self.shape)), member))

        place = dict(zip(self.indices, member, strict=True))
        sides = {}
        for term, there in terms.items():
            left, right = columns(term, place, self.run)
            known = numerical_errors.finite(left) and numerical_errors.finite(right)
            broken = self.run.averages.first(None if known else numerical_errors.overflow(term))
            if broken is not None:
                raise numerical_errors.Refused(broken)
            sides[term] = (left, right) if there.all() else (_of(there, left), _of(there, right))
        f, changes = self.factors[member], {}
        for term, (left, right) in sides.items():
            pair = f.left.coordinates(left), transposed(f.right.coordinates(right))
            changes[term] = product(*pair, f.left.sizes, None, f.right.sizes)
        shape = f.left.size, f.right.size
        cores = {}
        for s, form in forms.items():
            core = self.run.backend.array(np.zeros((self.run.replicates, *shape)))
            for t, c in form.states.items():
                core += at(c) * _padded(f.cores[t], shape)
            for term, change in changes.items():
                if term in form.outer:
                    scaled = at(form.outer[term]) * change
                    there = terms[term]
                    core[:, : change.shape[1], : change.shape[2]] += scaled if there.all() else _of(there, scaled)
            cores[s] = core
        f.cores = cores

    def _number(self, node: ir.Node) -> Array:
        """A scalar over the replicates and the family."""
        return aligned(self.run.values[node], self.run.labels[node], (REPLICATE, *self.indices))

    def _form(self, node: ir.Node, done: dict[ir.Node, LowRankForm]) -> LowRankForm:
        if node not in done:
            done[node] = self._compute(node, done)
        return done[node]

    def _compute(self, node: ir.Node, done: dict[ir.Node, LowRankForm]) -> LowRankForm:
        if isinstance(node, ir.Carry):
            return LowRankForm({node.state: np.ones(())})
        if is_outer(node):
            return LowRankForm({}, {node: np.ones(())})
        assert isinstance(node, ir.Map)
        entries = _parts(node) or []
        forms = [self._form(a, done) for a in entries]
        others = [self._number(a) for a in node.args if a not in entries]
        if node.fn == "where":
            first = np.where(others[0] > 0, 1.0, 0.0)
            return forms[0].times(first).plus(forms[1].times(1 - first))
        total = LowRankForm()
        for form in forms:
            total = total.plus(form)
        for factor in others:
            total = total.times(1 / factor if node.fn == "div" else factor)
        return total


def _padded(core: Float[Array, "replicates a b"], shape: tuple[int, int]) -> Array:
    """The core in bases that have grown."""
    result = np.zeros_like(core, shape=(len(core), *shape))
    result[:, : core.shape[1], : core.shape[2]] = core
    return result


def _at(numbers: Float[Array, " replicates *family"], member: tuple[int, ...]) -> Float[Array, " replicates"]:
    """The numbers of one member of the family."""
    return np.moveaxis(numbers, 0, -1)[member]


def _of(there: Mask, values: Float[Array, "replicates a b"]) -> Float[Array, "replicates a b"]:
    """The values of some replicates, and zeros of the others."""
    return np.where(there[:, None, None], values, 0.0)


def _each(numbers: Float[Array, " replicates"]) -> Float[Array, "replicates 1 1"]:
    """Numbers as factors of matrices."""
    return numbers[:, None, None]
