"""Trained matrices under linear optimizers: Δ = Σ_r w_r |l_r><r_r|, a history of outer products of kets.

SGD, momentum, weight decay and everything else whose update is linear in the gradient and the states (with scalars of
the step as coefficients) never needs the entries of Δ: each state is a vector of weights over the same outer products,
and Δ|x> = Σ_r w_r |l_r><r_r|x>, exact up to the brackets (limit.md section 4).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tp_compiler.evaluate.arrays import aligned, labels
from tp_compiler.evaluate.outerproducts import columns, is_outer
from tp_compiler.ir import nodes as ir


def is_linear(states: Iterable[ir.State], following: Mapping[ir.State, ir.Node]) -> bool:
    """Whether what follows each of the states is a sum of multiples of the states and of outer products of kets."""
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
    """The entries that a node is a linear combination of; [] for an outer product, None where it is not linear."""
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
class Form:
    """A linear combination of states and outer products; coefficients are arrays over the family's indices."""

    states: dict[ir.State, Any] = field(default_factory=dict)
    outer: dict[ir.Node, Any] = field(default_factory=dict)

    def plus(self, other: Form) -> Form:
        result = Form(dict(self.states), dict(self.outer))
        for mine, theirs in ((result.states, other.states), (result.outer, other.outer)):
            for key, c in theirs.items():
                mine[key] = mine[key] + c if key in mine else c
        return result

    def times(self, c: Any) -> Form:
        return Form({k: v * c for k, v in self.states.items()}, {k: v * c for k, v in self.outer.items()})


@dataclass
class History:
    """Of one member: the outer products |l_r><r_r| and each state's weights."""

    lefts: Any
    rights: Any
    weights: dict[ir.State, Any]


class LowRank:
    """The states of one trained matrix (family) and its optimizer."""

    def __init__(self, states: list[ir.State], values: Mapping[ir.Node, Any], samples: int):
        self.states = states
        self.indices = states[0].type.indices
        self.slot = states[0].slot
        self.samples = samples
        rows, cols = (w.ratio for _, w in states[0].type.slots)
        self.ratio = rows / cols
        shape = tuple(i.size for i in self.indices)
        self.history = {}
        for member in np.ndindex(shape):
            start = {s: self._chosen(values[s.init], s.init, member) for s in states}
            some = any(start.values())
            ones = np.ones((samples, int(some)))
            weights = {s: np.full(int(some), v) for s, v in start.items()}
            self.history[member] = History(ones, ones, weights)

    def _chosen(self, value: Any, node: ir.Node, member: tuple[int, ...]) -> float:
        place = dict(zip(self.indices, member, strict=True))
        return float(np.asarray(value)[tuple(place[i] for i in node.type.indices)])

    def apply(self, state: ir.State, member: tuple[int, ...], x: Any, transposed: bool) -> Any:
        """Δ|x> for the columns of x."""
        h = self.history[member]
        into, out = (h.lefts, h.rights) if transposed else (h.rights, h.lefts)
        factor = self.ratio if transposed else 1.0
        return out @ ((factor / self.samples) * h.weights[state][:, None] * (into.T @ x))

    # -- one step -----------------------------------------------------------------------------------------------
    def follow(self, following: Mapping[ir.State, ir.Node], values: Mapping[ir.Node, Any]) -> None:
        """Replaces the states by what follows them."""
        done: dict[ir.Node, Form] = {}
        forms = {s: self._form(following[s], values, done) for s in self.states}
        terms = list(dict.fromkeys(t for f in forms.values() for t in f.outer))
        for member, h in self.history.items():
            self._grow(member, h, forms, terms, values)

    def _grow(
        self, member: tuple[int, ...], h: History, forms: dict[ir.State, Form], terms: list[ir.Node], values: Any
    ) -> None:
        def at(c: Any) -> float:
            return float(np.broadcast_to(c, tuple(i.size for i in self.indices))[member])

        weights = {
            s: [sum((at(c) * h.weights[t] for t, c in f.states.items()), np.zeros(h.lefts.shape[1]))]
            for s, f in forms.items()
        }
        place = dict(zip(self.indices, member, strict=True))
        lefts, rights = [h.lefts], [h.rights]
        for term in terms:
            left, right = columns(term, place, values, self.samples)
            lefts.append(left)
            rights.append(right)
            for s, f in forms.items():
                weights[s].append(np.full(left.shape[1], at(f.outer[term]) if term in f.outer else 0.0))
        joined = {s: np.concatenate(w) for s, w in weights.items()}
        used = np.any([w != 0 for w in joined.values()], axis=0)
        h.weights = {s: w[used] for s, w in joined.items()}
        h.lefts, h.rights = (np.concatenate(x, axis=1)[:, used] for x in (lefts, rights))

    def _form(self, node: ir.Node, values: Mapping[ir.Node, Any], done: dict[ir.Node, Form]) -> Form:
        if node not in done:
            done[node] = self._compute(node, values, done)
        return done[node]

    def _compute(self, node: ir.Node, values: Mapping[ir.Node, Any], done: dict[ir.Node, Form]) -> Form:
        one = np.ones(())
        if isinstance(node, ir.Carry):
            return Form({node.state: one})
        if is_outer(node):
            return Form({}, {node: one})
        assert isinstance(node, ir.Map)
        entries = [a for a in _parts(node) or ()]
        forms = [self._form(a, values, done) for a in entries]
        others = [aligned(values[a], labels(a.type), self.indices) for a in node.args if a not in entries]
        if node.fn == "where":
            chosen = others[0] > 0
            return forms[0].times(np.where(chosen, 1.0, 0.0)).plus(forms[1].times(np.where(chosen, 0.0, 1.0)))
        total = Form()
        for form in forms:
            total = total.plus(form)
        for factor in others:
            total = total.times(1 / factor if node.fn == "div" else factor)
        return total
