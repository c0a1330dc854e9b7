"""∂|x>/∂Ŵᵀ|y>: forward mode over expressions, rules from primitives.py.

The derivative goes through the first slot of an OuterNonlin only: iid copies are integrated out (TP IVb, Def 2.6.5).
If a function jumps, or its derivative is not an expression, `NoDerivative` tells the caller to use the Stein form.
"""

from __future__ import annotations

from collections.abc import Callable

import sympy as sp

from tp_compiler.equations.functions import JUMPS, name_of, slope
from tp_compiler.equations.terms import Expectation, Expr, Ket, Stacked, copies_of


class NoDerivative(Exception):
    """The derivative has a Dirac part, or no closed expression."""


def differentiate(expr: Expr, of_ket: Callable[[Ket], Expr]) -> Expr:
    """The derivative in a hat, given those of the row's kets.

    Raises NoDerivative.
    """
    if isinstance(expr, Ket):
        return sp.Integer(0) if expr.copy_number else of_ket(expr)
    if 0 not in copies_of(expr):
        return sp.Integer(0)
    if isinstance(expr, sp.Add):
        return sp.Add(*(differentiate(a, of_ket) for a in expr.args))
    if isinstance(expr, sp.Mul):
        return _product(expr, of_ket)
    if isinstance(expr, sp.Pow):
        return _power(expr, of_ket)
    if isinstance(expr, sp.Sum):
        inner = differentiate(expr.args[0], of_ket)
        return sp.Sum(inner, *expr.limits) if inner != 0 else inner
    if isinstance(expr, Expectation):
        inner = differentiate(expr.body, of_ket)
        return Expectation(inner, expr.args[1]) if inner != 0 else inner
    if isinstance(expr, Stacked):
        members = [differentiate(a, of_ket) for a in expr.args[1:]]
        return Stacked(expr.args[0], *members) if any(m != 0 for m in members) else sp.Integer(0)
    return _function(expr, of_ket)


def _product(expr: Expr, of_ket: Callable[[Ket], Expr]) -> Expr:
    terms = []
    for k, factor in enumerate(expr.args):
        d = differentiate(factor, of_ket)
        if d != 0:
            terms.append(sp.Mul(d, *(a for j, a in enumerate(expr.args) if j != k)))
    return sp.Add(*terms)


def _power(expr: Expr, of_ket: Callable[[Ket], Expr]) -> Expr:
    base, exponent = differentiate(expr.base, of_ket), differentiate(expr.exp, of_ket)
    through_base = base * expr.exp * expr.base ** (expr.exp - 1)
    return through_base + exponent * sp.log(expr.base) * expr if exponent != 0 else through_base


def _function(expr: Expr, of_ket: Callable[[Ket], Expr]) -> Expr:
    name = name_of(expr)
    if name is None:
        raise NoDerivative
    total = sp.Integer(0)
    for k, a in enumerate(expr.args):
        d = differentiate(a, of_ket)
        if d == 0:
            continue
        if name in JUMPS and not (name == "where" and k):
            raise NoDerivative
        total += d * slope(name, k, expr.args)
    return total
