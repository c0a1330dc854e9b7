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
from tp_compiler.evaluate.array_types import Array, ArraysByNode, Numbers
from tp_compiler.evaluate.arrays import aligned, labels
from tp_compiler.evaluate.sampling.directions import Basis
from tp_compiler.evaluate.sampling.outerproducts import by_member, columns, is_outer
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
    """The bases of one member of a family, and the C of every state."""

    left: Basis
    right: Basis
    cores: dict[ir.State, Any]


class LowRank:
    """The states of one trained matrix (family) and its optimizer."""

    def __init__(self, states: list[ir.State], values: ArraysByNode, samples: int, drop: float):
        self.states = states
        self.indices = states[0].type.indices
        self.samples = samples
        rows, cols = (w.ratio for _, w in states[0].type.slots)
        self.ratio = rows / cols
        self.shape = tuple(i.size for i in self.indices)
        self.factors = {}
        for member in np.ndindex(self.shape):
            factors = Factors(Basis(drop), Basis(drop), {s: np.zeros((0, 0)) for s in states})
            start = {s: self._at(values[s.init], s.init, member) for s in states}
            if any(start.values()):  # entries start at a number: a multiple of |1><1|
                ones = np.ones((samples, 1))
                left, right = factors.left.coordinates(ones), factors.right.coordinates(ones)
                factors.cores = {s: c * np.outer(left, right) for s, c in start.items()}
            self.factors[member] = factors

    def _at(self, value: Array, node: ir.Node, member: tuple[int, ...]) -> float:
        whole = np.broadcast_to(aligned(value, labels(node.type), self.indices), self.shape)
        return float(whole[member])

    def apply(
        self, state: ir.State, member: tuple[int, ...], x: Float[Array, "samples k"], transposed: bool
    ) -> Float[Array, "samples k"]:
        """Δ|x> for the columns of x; Δᵀ|x> has a factor ρ."""
        f = self.factors[member]
        core = f.cores[state]
        if not core.size:
            return np.zeros_like(x)
        into, out, core, factor = (f.left, f.right, core.T, self.ratio) if transposed else (f.right, f.left, core, 1.0)
        return out.rows.values.T @ ((factor / self.samples) * (core @ (into.rows.values @ x)))

    # -- one step -----------------------------------------------------------------------------------------------
    def follow(self, following: Mapping[ir.State, ir.Node], values: ArraysByNode) -> None:
        """Replaces the states by their next values."""
        done: dict[ir.Node, LowRankForm] = {}
        forms = {s: self._form(following[s], values, done) for s in self.states}
        terms = by_member(dict.fromkeys(t for form in forms.values() for t in form.outer), self.indices, values)
        for member, factors in self.factors.items():
            self._advance(member, factors, forms, terms[member], values)

    def _advance(
        self, member: tuple[int, ...], f: Factors, forms: dict[ir.State, LowRankForm], terms: list[ir.Node],
        values: ArraysByNode,
    ) -> None:  # fmt: skip
        """`terms`: the outer products with which the member is concerned."""

        def at(c: Numbers) -> float:
            return float(np.broadcast_to(c, self.shape)[member])

        place = dict(zip(self.indices, member, strict=True))
        outer = {}
        for term in terms:
            left, right = columns(term, place, values, self.samples)
            if not (np.isfinite(left).all() and np.isfinite(right).all()):
                raise numerical_errors.Refused(numerical_errors.overflow(term))
            if left.shape[1]:
                outer[term] = f.left.coordinates(left), f.right.coordinates(right)
        shape = f.left.size, f.right.size
        cores = {}
        for s, form in forms.items():
            core = np.zeros(shape)
            for t, c in form.states.items():
                core += at(c) * _padded(f.cores[t], shape)
            for term, (left, right) in outer.items():
                if term in form.outer:
                    core[: left.shape[0], : right.shape[0]] += at(form.outer[term]) * (left @ right.T)
            cores[s] = core
        f.cores = cores

    def _form(self, node: ir.Node, values: ArraysByNode, done: dict[ir.Node, LowRankForm]) -> LowRankForm:
        if node not in done:
            done[node] = self._compute(node, values, done)
        return done[node]

    def _compute(self, node: ir.Node, values: ArraysByNode, done: dict[ir.Node, LowRankForm]) -> LowRankForm:
        if isinstance(node, ir.Carry):
            return LowRankForm({node.state: np.ones(())})
        if is_outer(node):
            return LowRankForm({}, {node: np.ones(())})
        assert isinstance(node, ir.Map)
        entries = _parts(node) or []
        forms = [self._form(a, values, done) for a in entries]
        others = [aligned(values[a], labels(a.type), self.indices) for a in node.args if a not in entries]
        if node.fn == "where":
            first = np.where(others[0] > 0, 1.0, 0.0)
            return forms[0].times(first).plus(forms[1].times(1 - first))
        total = LowRankForm()
        for form in forms:
            total = total.plus(form)
        for factor in others:
            total = total.times(1 / factor if node.fn == "div" else factor)
        return total


def _padded(core: Float[Array, "a b"], shape: tuple[int, int]) -> Array:
    """The core in bases that have grown."""
    result = np.zeros(shape)
    result[: core.shape[0], : core.shape[1]] = core
    return result
