"""The updates of a matrix: W_t = W + ΔW_t, entry by entry, or as a sum of outer products if the optimizer is linear.

An optimizer is linear if its next states are linear in the states and in the gradient, with numbers as
coefficients: S_{t+1} = A_t S_t + B_t dW_t. Then ΔW_t = Σ_{s<t} a_{t,s} dW_s: with constant A, B a_{t,s} is a row of
A^{t-s-1} B, otherwise it has its own recursion. With dW_s = Σ_i |dh_{s,i}><x_{s,i}| no average over a copy is left
(Tensor Programs IV, Theorem 6.4): ΔW_t|x> = Σ_{s<t} a_{t,s} Σ_i |dh_{s,i}><x_{s,i}|x>.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import sympy as sp

from tp_compiler.equations.names import Names
from tp_compiler.equations.simplify import reindex_bound
from tp_compiler.equations.system import Equation
from tp_compiler.equations.terms import (
    Entry,
    Expectation,
    Expr,
    Ket,
    Outer,
    Scalar,
    copies_of,
    rebuild,
    reindex,
    with_copies,
)


@dataclass(frozen=True)
class Gathered:
    """ΔW_t = Σ_{s<t} weight · gradient: `weight` over t and s; the gradient's entries at s."""

    entry: Entry  # ΔW_t
    weight: Expr
    gradient: Expr  # over s
    equations: tuple[Equation, ...] = ()  # the recursion of the weight

    def at(self, entry: Entry, names: Names) -> Expr:
        """The entry of ΔW at another time, member and copies."""
        time, *member = entry.indices
        place = dict(zip(self.entry.indices[1:], member, strict=True))
        new = dict(zip(self.entry.neurons, entry.neurons, strict=True))
        body = reindex(self.weight * self.gradient, {names.time: time, **place})
        body = rebuild(body, lambda e: _moved(e, new))
        return sp.Sum(body, (names.earlier, 0, time - 1))


def _moved(expr: Expr, new: Mapping[int, int]) -> Expr | None:
    """Like `recopied`, but a bracket inside keeps its row."""
    if isinstance(expr, Expectation):
        return expr
    if isinstance(expr, Ket):
        return Ket(expr.args[0], new.get(expr.copy_number, expr.copy_number), *expr.indices)
    return None


def gathered(update: Entry, states: Mapping[Entry, Expr], gradient: Equation, names: Names) -> Gathered | None:
    """ΔW_t as a sum over the earlier gradients, or None if the optimizer is not linear.

    `states`: maps the entry of each state of the matrix at t to its value at t + 1.
    """
    following = _unrolled(states, names)
    own = [update, *(s for s in states if s != update and any(e.has(s) for e in following.values()))]
    g = gradient.symbol
    entries = [*own, g]
    rows = [[sp.diff(following[s], e) for e in entries] for s in own]
    for s, row in zip(own, rows, strict=True):
        rest = following[s] - sum(c * e for c, e in zip(row, entries, strict=True))
        if any(c.has(Entry, Ket) for c in row) or sp.expand(rest) != 0:
            return None
    later = reindex(gradient.expression, {names.time: names.earlier})
    a, b = sp.Matrix([row[:-1] for row in rows]), [row[-1] for row in rows]
    if not (a.free_symbols.union(*(x.free_symbols for x in b))) - set(update.indices[1:]):
        return Gathered(update, _power(a, b, names), later)
    return Gathered(update, *_recursion(own, a, b, later, names))


def _unrolled(states: Mapping[Entry, Expr], names: Names) -> dict[Entry, Expr]:
    """The next states in terms of the states at t only: m_{t+1} in the update is written out."""
    after = {reindex(s, {names.time: names.time + 1}): e for s, e in states.items()}
    found = dict(states)
    for _ in states:
        found = {s: e.xreplace(after) for s, e in found.items()}
    return {s: sp.expand(e) for s, e in found.items()}


def _power(a: Expr, b: Sequence[Expr], names: Names) -> Expr:
    """The first entry of A^{t-s-1} B."""
    if a.shape == (1, 1):
        return b[0] * a[0, 0] ** (names.time - names.earlier - 1)
    m = sp.Symbol("m", integer=True, positive=True)
    value = sp.simplify(((a ** (m - 1)) * sp.Matrix(b))[0])
    forms = [value, sp.factor(value), sp.powsimp(sp.expand(value))]
    return min(forms, key=lambda e: e.count_ops()).subs(m, names.time - names.earlier)


def _recursion(
    own: Sequence[Entry], a: Expr, b: Sequence[Expr], gradient: Expr, names: Names
) -> tuple[Expr, Expr, tuple[Equation, ...]]:
    """a_{s+1,s} = B_s and a_{t+1,s} = A_t a_{t,s}, for each state one."""
    weights = [Scalar(names.label(f"a^{s.label}", (), False), *s.indices[1:], names.time, names.earlier) for s in own]
    equations = []
    for k, weight in enumerate(weights):
        start = reindex(b[k], {names.time: names.earlier})
        following = sum((a[k, j] * w for j, w in enumerate(weights)), sp.Integer(0))
        equations.append(Equation(weight, "weight", following, start=start, time=names.time))
    return weights[0], gradient, tuple(equations)


def operator(expr: Expr) -> Expr:
    """Σ |y>|x>⁽¹⁾ read as Σ |y><x|; None if a term is not the product of a row and a column."""
    if isinstance(expr, sp.Add):
        terms = [operator(a) for a in expr.args]
        return None if any(t is None for t in terms) else sp.Add(*terms)
    if isinstance(expr, sp.Sum):
        inner = operator(expr.function)
        return None if inner is None else sp.Sum(inner, *expr.limits)
    if not isinstance(expr, sp.Mul):
        return None
    sums = [f for f in expr.args if isinstance(f, sp.Sum) and copies_of(f)]
    if sums:
        rest = sp.Mul(*(f for f in expr.args if f is not sums[0]))
        first = reindex_bound(sums[0], rest)
        inner = operator(first.function * rest)
        return None if inner is None else sp.Sum(inner, *first.limits)
    left = [f for f in expr.args if isinstance(f, Ket) and f.copy_number == 0]
    right = [f for f in expr.args if isinstance(f, Ket) and f.copy_number != 0]
    rest = [f for f in expr.args if f not in (*left, *right)]
    if len(left) != 1 or len(right) != 1 or any(map(copies_of, rest)):
        return None
    return sp.Mul(*rest, Outer(left[0], Ket(right[0].args[0], 0, *right[0].indices)))


def is_gradient(expr: Expr, columns: Set[str], rows: Set[str]) -> bool:
    """Whether every term is an outer product Σ |dh><x| of arguments of W or its transpose. An update is not."""
    written = operator(with_copies(expr, {c: -1 for c in copies_of(expr) if c}))
    if written is None:
        return False
    outers = written.atoms(Outer)
    return all(e.args[1].label in columns or e.args[0].label in rows for e in outers)
