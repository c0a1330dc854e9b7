"""Formulas for expectations: E f(g) of jointly Gaussian kets g, in terms of their brackets.

The formulas themselves come from outside (`ClosedForm`; in the program, evaluate/exact/symbolic.py). They are requested once for
each form of an expectation, with symbols for the brackets, since the layers of a network repeat the same forms.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import sympy as sp

from tp_compiler.equations.facts import Facts
from tp_compiler.equations.simplify import is_short, simplify
from tp_compiler.equations.system import Equation
from tp_compiler.equations.terms import Expectation, Expr, Ket

#: Entrywise definitions that are followed back in search of Gaussian kets.
FOLLOWED = 3


@dataclass(frozen=True)
class Gaussian:
    """Jointly Gaussian variables: their symbols, means and covariances."""

    variables: tuple[Expr, ...]
    mean: tuple[Expr, ...]
    covariance: Expr


ClosedForm = Callable[[Expr, Gaussian], Expr | None]


class Formulas:
    """`formulas(E)`: the formula of an expectation, or None."""

    def __init__(self, equations: Iterable[Equation], facts: Facts, closed_form: ClosedForm):
        self.facts, self.closed_form = facts, closed_form
        self.known = {e.name: e for e in equations if e.kind == "ket"}
        self._asked: dict[Hashable, Expr | None] = {}

    def __call__(self, e: Expectation) -> Expr | None:
        body = self._followed(e.body)
        kets = sorted(body.atoms(Ket), key=str)
        if e.copies != {0} or any(k.copy_number or not self.facts.gaussian(k) for k in kets) or not kets:
            return None
        if body in kets or (isinstance(body, sp.Mul | sp.Pow) and len(kets) <= 2 and not body.has(sp.Function)):
            return None  # a bracket of Gaussians is a covariance: nothing to integrate
        variables = sp.symbols(f"g1:{len(kets) + 1}", real=True)
        mean = tuple(simplify(Expectation(k), self.facts) for k in kets)
        values: dict[Expr, Expr] = {}
        size = len(kets)
        entries = [[0] * size for _ in kets]
        for i in range(size):
            for j in range(i + 1):
                value = self._bracket(kets[i], kets[j]) - mean[i] * mean[j]
                symbol = sp.Symbol(f"v{i}_{j}", positive=True) if i == j else sp.Symbol(f"v{i}_{j}", real=True)
                entries[i][j] = entries[j][i] = value if value.is_number else symbol
                values[symbol] = value
        asked = body.xreplace(dict(zip(kets, variables, strict=True)))
        found = self._ask(asked, Gaussian(variables, mean, sp.Matrix(entries)))
        return None if found is None else _put(found, values)

    def _ask(self, body: Expr, gaussian: Gaussian) -> Expr | None:
        key = body, gaussian.mean, tuple(gaussian.covariance)
        if key not in self._asked:
            found = self.closed_form(body, gaussian)
            self._asked[key] = None if found is None else tidied(found)
        return self._asked[key]

    def _bracket(self, x: Ket, y: Ket) -> Expr:
        """<x|y>, or its value if that is as short; brackets of entrywise kets have their own formulas."""
        value = simplify(Expectation(x * y), self.facts)
        parts = [f for f in sp.Mul.make_args(value) if not f.is_number]
        short = len(parts) == 1 and isinstance(parts[0], Expectation)
        stated = x.label in self.known or y.label in self.known
        return Expectation(x * y) if stated and not short and not is_short(value) else value

    def _followed(self, body: Expr) -> Expr:
        """The body in terms of Gaussian kets, if entrywise definitions lead to them; otherwise unchanged."""
        for _ in range(FOLLOWED):
            definitions = {
                k: self.known[k.label].at(k, self.known[k.label].expression)
                for k in body.atoms(Ket)
                if not k.copy_number and k.label in self.known and not self.facts.of(k).affine
            }
            if not definitions:
                break
            body = body.xreplace(definitions)
        return body


def _put(expr: Expr, values: Mapping[Expr, Expr]) -> Expr:
    """Substitutes values for symbols, without evaluating functions again: SymPy has simplified them with the symbols."""
    if expr in values:
        return values[expr]
    if not expr.args or not expr.free_symbols:
        return expr
    args = [_put(a, values) for a in expr.args]
    if isinstance(expr, sp.Mul):
        return _joined(args)
    keep = isinstance(expr, sp.Function) and not any(a.is_number for a in args)
    found = expr.func(*args, evaluate=False) if keep else expr.func(*args)
    return _root(found.base) ** (2 * found.exp) if _is_root(found) else found


def tidied(expr: Expr) -> Expr:
    """√a √b as √(a b), and √(4 a + 4 b) as 2 √(a + b); formulas have roots of variances alone."""
    if not expr.args:
        return expr
    args = [tidied(a) for a in expr.args]
    if isinstance(expr, sp.Mul):
        return _joined(args)
    return _root(args[0]) ** (2 * args[1]) if _is_root(expr) else expr.func(*args)


def _joined(factors: Sequence[Expr]) -> Expr:
    """A product, its roots under one."""
    factors = [f for a in factors for f in sp.Mul.make_args(a)]
    roots = [a for a in factors if _is_root(a)]
    if len(roots) < 2:
        return sp.Mul(*factors)
    under = sp.Mul(*(a.base if a.exp > 0 else 1 / a.base for a in roots))
    rest = [a for a in factors if not _is_root(a)]
    return sp.Mul(*rest, _root(sp.expand(sp.cancel(under)) if _is_fraction(roots) else under))


def _is_root(e: Expr) -> bool:
    return isinstance(e, sp.Pow) and e.exp in (sp.S.Half, -sp.S.Half) and not e.base.is_number


def _is_fraction(roots: Iterable[Expr]) -> bool:
    return any(isinstance(p, sp.Pow) and p.exp == -1 for r in roots for p in sp.preorder_traversal(r.base))


def _root(base: Expr) -> Expr:
    top, bottom = (e.primitive() for e in sp.fraction(base))
    return sp.sqrt(top[0] / bottom[0]) * sp.sqrt(top[1]) / sp.sqrt(bottom[1])
