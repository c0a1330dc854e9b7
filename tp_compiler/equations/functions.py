"""Entrywise functions and numbers in SymPy: the table of primitives, read in SymPy's algebra.

SymPy's functions are used where they exist, so that users can work with them; others are functions of the same name.
Derivatives come only from ir/primitives.py, so that they are the same in every stage.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import sympy as sp

from tp_compiler.equations.terms import Expr
from tp_compiler.ir.primitives import PRIMITIVES

#: Functions that SymPy has under its own rules for arguments of the form -x, which agree with the language.
_SYMPY = {
    "exp": sp.exp,
    "log": sp.log,
    "sin": sp.sin,
    "cos": sp.cos,
    "tan": sp.tan,
    "sinh": sp.sinh,
    "cosh": sp.cosh,
    "tanh": sp.tanh,
    "atan": sp.atan,
    "erf": sp.erf,
    "erfc": sp.erfc,
    "abs": sp.Abs,
    "sign": sp.sign,
}
#: Jumps: their derivative has a Dirac part, which the table leaves out, so no average may be taken of it.
JUMPS = frozenset(name for name, row in PRIMITIVES.items() if row.jumps)


class PrimitiveFunction(sp.Function):
    """A primitive that SymPy has no function for; `fdiff` reads the table of primitives."""

    is_real = True

    def fdiff(self, argindex: int = 1) -> Expr:
        return slope(self.func.__name__, argindex - 1, self.args)


class where(PrimitiveFunction):
    """a where c > 0, else b: decided if c is a number, or if a and b are equal."""

    @classmethod
    def eval(cls, c: Expr, a: Expr, b: Expr) -> Expr | None:
        if a == b:
            return a
        return (a if c > 0 else b) if c.is_number and c.is_comparable else None


class step(PrimitiveFunction):
    """1 where x > 0, else 0."""

    @classmethod
    def eval(cls, x: Expr) -> Expr | None:
        return sp.Integer(int(bool(x > 0))) if x.is_number and x.is_comparable else None


_DECIDED = {"where": where, "step": step}
_OWN: dict[str, Any] = {
    name: _DECIDED.get(name) or type(name, (PrimitiveFunction,), {})
    for name in PRIMITIVES
    if name not in _SYMPY and name not in ("add", "mul", "div", "pow", "sqrt", "square")
}


def _product(factors: tuple[Expr, ...]) -> Expr:
    """SymPy's product, with (-x) x = -x² for sums x, too."""
    sums = [f for f in factors if isinstance(f, sp.Add)]
    for k, f in enumerate(sums):
        if -f in sums[k + 1 :]:
            rest = list(factors)
            rest.remove(f)
            rest.remove(-f)
            return sp.Mul(sp.Integer(-1), (-f) ** 2, *rest)
    return sp.Mul(*factors)


_ARITHMETIC: dict[str, Callable[..., Expr]] = {
    "add": lambda *a: sp.Add(*a),
    "mul": lambda *a: _product(a),
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "sqrt": sp.sqrt,
    "square": lambda a: a**2,
}
#: primitive -> what makes the SymPy expression
FUNCTIONS: dict[str, Callable[..., Expr]] = {**_SYMPY, **_OWN, **_ARITHMETIC}
_NAMES: dict[Any, str] = {made: name for name, made in {**_SYMPY, **_OWN}.items()}


class _Algebra:
    """The algebra in which primitives.py writes derivatives, over SymPy."""

    def __call__(self, fn: str, *args: Any) -> Expr:
        return FUNCTIONS[fn](*args)

    def number(self, value: float) -> Expr:
        return number(value)


def name_of(expr: Expr) -> str | None:
    """The primitive that a function application is made by."""
    return _NAMES.get(expr.func)


def slope(name: str, k: int, args: tuple[Expr, ...]) -> Expr:
    """The derivative of a primitive in argument k, without Dirac parts."""
    return PRIMITIVES[name].partials[k](_Algebra(), *args)


def number(value: float) -> Expr:
    """A float as the number that was meant: 0.1 is 1/10, 1.4142135623730951 is √2; else the float itself.

    Only readings that round to the very same double are taken, or are as near as rounding errors of 1 - 0.9 go (a unit
    in the last place, for roots).
    """
    if math.isfinite(value) and value == int(value):
        return sp.Integer(int(value)) if abs(value) < 1e15 else sp.Float(value)
    exact = _rational(value)
    if exact is not None:
        return exact
    near = _rational(value, slack=2e-15)
    if near is not None and near.q <= 1000:
        return near
    readings: tuple[tuple[float, Callable[[Expr], Expr]], ...] = (
        (value * value, sp.sqrt),
        (value / math.pi, lambda q: q * sp.pi),
        (value * value * math.pi, lambda q: sp.sqrt(q / sp.pi)),
        (value * value / math.pi, lambda q: sp.sqrt(q * sp.pi)),
    )
    for reading, back in readings:
        near = _rational(reading, slack=4e-16)
        if near is not None and near.q <= 64:
            return back(near) * (1 if value > 0 or reading < 0 else -1)
    return sp.Float(value)


def _rational(value: float, slack: float = 0.0) -> Expr | None:
    if not math.isfinite(value) or value == 0:
        return None
    near = Fraction(value).limit_denominator(10_000)
    return sp.Rational(near) if abs(float(near) - value) <= slack * abs(value) and near.numerator else None
