"""Kernels: each bracket <x_i|x_j> stated once, as in papers, with its formula if one is known.

A bracket names itself: <dh_i|dh_j> = E[φ'(|h_i>) φ'(|h_j>)] <dx_i|dx_j>. It is stated if writing out the two
kets adds information: if the expectation factors, or has a closed form. Statements refer only to earlier
brackets, so that they form a recursion through the layers.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sympy as sp

from tp_compiler.equations.facts import Facts
from tp_compiler.equations.names import Names
from tp_compiler.equations.simplify import MAX_TERMS, simplify
from tp_compiler.equations.system import Equation
from tp_compiler.equations.terms import Expectation, Expr, Ket, Scalar, bracket, rebuild

#: E of a body in Gaussian kets, or None.
Formula = Callable[[Expectation], Expr | None]
#: A bracket that takes more operations than this to write out stays as it is.
_LONG = 160
#: Two kets of a bracket, by label.
Pair = tuple[str, str]


def pair_of(e: Expr) -> tuple[Ket, Ket] | None:
    """The two named kets of a bracket <x|y>."""
    if not isinstance(e, Expectation) or e.copies != {0}:
        return None
    body = e.body
    if isinstance(body, sp.Pow) and body.exp == 2 and isinstance(body.base, Ket):
        kets = (body.base, body.base)
    elif isinstance(body, sp.Mul) and len(body.args) == 2 and all(isinstance(a, Ket) for a in body.args):
        kets = body.args
    else:
        return None
    return None if any(k.copy_number for k in kets) else kets


def _kets(e: Expr) -> tuple[Ket, Ket]:
    found = pair_of(e)
    assert found is not None
    return found


@dataclass
class _Uses:
    """The uses of a pair of families: the indices at the first one, and which of them are equal at all uses."""

    places: list[tuple[Expr, ...]] = field(default_factory=list)
    equal: set[tuple[int, int]] = field(default_factory=set)

    def add(self, place: tuple[Expr, ...]) -> None:
        same = _equalities(place)
        self.equal = same if not self.places else self.equal & same
        self.places.append(place)

    def plain(self) -> tuple[Expr, ...] | None:
        """The indices of a place that is as general as all together."""
        general = [p for p in self.places if all(_is_letter(i) for i in p) and _equalities(p) == self.equal]
        return min(general, key=lambda p: sum(not i.name.isalpha() for i in p), default=None)


def _is_letter(index: Expr) -> bool:
    return bool(index.is_Symbol and index.name.rstrip("′").isalpha())


def _equalities(place: tuple[Expr, ...]) -> set[tuple[int, int]]:
    return {(p, q) for q, j in enumerate(place) for p, i in enumerate(place[:q]) if i == j and i.is_Symbol}


class Brackets:
    """States the brackets used in equations, later ones first, so that all uses of each are known."""

    def __init__(self, equations: Sequence[Equation], facts: Facts, names: Names, formula: Formula | None):
        self.facts, self.names, self.formula = facts, names, formula
        self.known = {e.name: e for e in equations if e.is_ket}
        self.order = {label: k for k, label in enumerate(facts.kets)}
        self.uses: dict[Pair, _Uses] = {}
        self.todo: list[tuple[int, int, Pair]] = []
        self.stated: dict[str, list[Equation]] = {}  # after which ket

    def complete(self, equations: Sequence[Equation]) -> tuple[Equation, ...]:
        """The equations, scalars with their formulas, and every bracket they need after the later of its kets."""
        done = [self._with_formula(e) if e.kind in ("scalar", "coefficient") else e for e in equations]
        own = {self._pair(e.expression) for e in done if e.kind == "scalar" and pair_of(e.expression)}
        for e in done:
            parts = [e.hat.covariance] if e.hat is not None else []
            if e.kind in ("scalar", "coefficient"):
                parts.append(e.closed_form if e.closed_form is not None else e.expression)
            self._meet(parts)
        while self.todo:
            pair = heapq.heappop(self.todo)[2]
            if pair not in own:
                self._state(pair)
        found: list[Equation] = []
        for e in done:
            found.append(e)
            if e.is_ket:
                found += sorted(self.stated.get(e.name, ()), key=lambda b: self.order[b.name[1:].partition("|")[0]])
        return tuple(found)

    def _with_formula(self, e: Equation) -> Equation:
        value = self._written_out(e.expression) if pair_of(e.expression) else None
        if value is None:
            value = self._closed(e.expression)
        return e if value == e.expression else replace(e, closed_form=value)

    def _closed(self, expr: Expr) -> Expr:
        """Replaces expectations that are not brackets by their formulas."""
        if self.formula is None or not expr.has(Expectation):
            return expr

        def rule(e: Expr) -> Expr | None:
            if not isinstance(e, Expectation) or self.formula is None:
                return None
            return e if pair_of(e) else self.formula(e)

        return rebuild(expr, rule)

    # -- pairs of families -----------------------------------------------------------------------------------------
    def _pair(self, e: Expr) -> Pair | None:
        """The families of a bracket of kets that do not change with the steps of training."""
        kets = pair_of(e)
        if kets is None or any(k.label not in self.known or self.known[k.label].time is not None for k in kets):
            return None
        left, right = sorted((k.label for k in kets), key=self.order.__getitem__)
        return left, right

    def _meet(self, expressions: Iterable[Expr]) -> None:
        for e in sorted({e for x in expressions for e in x.atoms(Expectation)}, key=str):
            pair = self._pair(e)
            if pair is None:
                continue
            a, b = _kets(e)
            if (a.label, b.label) != pair or (a.label == b.label and str(b.indices) < str(a.indices)):
                a, b = b, a
            if pair not in self.uses:
                self.uses[pair] = _Uses()
                heapq.heappush(self.todo, (-self.order[pair[1]], -self.order[pair[0]], pair))
            self.uses[pair].add((*a.indices, *b.indices))

    def _statement(self, pair: Pair) -> Expectation:
        """The bracket over indices, which are identified only if all uses identify them."""
        left, right = (self.known[label].symbol for label in pair)
        uses = self.uses[pair]
        place = uses.plain()
        if place is None:
            own: list[Expr] = list(left.indices)
            for q, i in enumerate(right.indices, len(own)):
                tied = next((p for p, r in sorted(uses.equal) if r == q), None)
                taken = i in own
                own.append(own[tied] if tied is not None else self.names.prime(i) if taken else i)
            place = tuple(own)
        cut = len(left.indices)
        return bracket(Ket(left.args[0], 0, *place[:cut]), Ket(right.args[0], 0, *place[cut:]))

    def _state(self, pair: Pair) -> None:
        e = self._statement(pair)
        value = self._expanded(e)
        if value is None:
            return
        short = self._closed(value)
        if short == value and _is_plain(value):
            return
        indices = dict.fromkeys(i for k in _kets(e) for i in k.indices)
        symbol = Scalar(f"<{pair[0]}|{pair[1]}>", *indices)
        closed = short if short != value else None
        self.stated.setdefault(pair[1], []).append(Equation(symbol, "bracket", value, meaning=e, closed_form=closed))
        self._meet([short])

    def _expanded(self, e: Expr) -> Expr | None:
        """A bracket with both kets written out; None if that adds no information."""
        kets = _kets(e)
        definitions = {k: self._definition(k) for k in kets}
        if all(d is None for d in definitions.values()):
            return None
        left, right = (k if definitions[k] is None else definitions[k] for k in kets)
        body = left * right
        if 1 < len(sp.Add.make_args(left)) * len(sp.Add.make_args(right)) <= MAX_TERMS:
            body = sp.expand_mul(body)
        value = simplify(Expectation(body), self.facts)
        return None if value.has(e) or value.count_ops() > _LONG else value

    def _written_out(self, e: Expr) -> Expr | None:
        """The formula of a bracket, or its factors."""
        if self._pair(e) is None:
            return None
        value = self._expanded(e)
        if value is None:
            return None
        closed = self._closed(value)
        return closed if closed != value or not _is_plain(value) else None

    def _definition(self, ket: Ket) -> Any:
        equation = self.known[ket.label]
        return equation.at(ket, equation.expression) if equation.kind == "ket" else None


def _is_plain(value: Expr) -> bool:
    """Is it a single expectation that is not a bracket, that is, the definition of a bracket again?"""
    parts = [a for a in sp.Mul.make_args(value) if not a.is_number]
    return len(parts) == 1 and isinstance(parts[0], Expectation) and pair_of(parts[0]) is None
