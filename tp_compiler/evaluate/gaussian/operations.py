"""The functions in which formulas are written: once for float64 arrays, once for SymPy expressions.

A closed form is one piece of code that takes such an `Operations`; so the number and the printed formula cannot
differ. Where the textbook expression loses digits, the operation is named here and its array form is the stable one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

import numpy as np

from tp_compiler.evaluate import special
from tp_compiler.evaluate.array_types import Array, Mask, Numbers, Places

if TYPE_CHECKING:
    import sympy

    #: Numbers, or an expression of SymPy: a formula is one or the other throughout.
    N = TypeVar("N", Numbers, sympy.Expr)
else:
    N = TypeVar("N")

_DEKKER = 134217729.0  # 2^27 + 1
_DAWSON_FAR = 6.5


@runtime_checkable
class Operations(Protocol[N]):
    @property
    def pi(self) -> N: ...

    def rational(self, p: int, q: int = 1) -> N: ...
    def number(self, value: float) -> N: ...
    def sqrt(self, x: N) -> N: ...
    def exp(self, x: N) -> N: ...
    def sin(self, x: N) -> N: ...
    def cos(self, x: N) -> N: ...
    def erf(self, x: N) -> N: ...
    def normal_cdf(self, x: N) -> N: ...

    def determinant(self, v1: N, v2: N, c: N) -> N:
        """v1 v2 - c²."""

    def angle(self, c: N, det: N, v1: N, v2: N) -> N:
        """arcsin(c / √(v1 v2)), det = v1 v2 - c²."""

    def dawson(self, n: int, x: N) -> N:
        """The n-th derivative of D(x) = √π/2 exp(-x²) erfi(x)."""

    def damped_sinh(self, c: N, v1: N, v2: N) -> N:
        """exp(-(v1 + v2)/2) sinh(c)."""

    def damped_cosh(self, c: N, v1: N, v2: N) -> N:
        """exp(-(v1 + v2)/2) cosh(c)."""


class ArrayOperations:
    """On float64 arrays."""

    pi = math.pi

    def rational(self, p: int, q: int = 1) -> float:
        return p / q

    def number(self, value: float) -> float:
        return value

    sqrt = staticmethod(np.sqrt)
    exp = staticmethod(np.exp)
    sin = staticmethod(np.sin)
    cos = staticmethod(np.cos)
    erf = staticmethod(special.erf)

    def normal_cdf(self, x: Array) -> Array:
        """Φ(x); of centred variables, where it is ½, without SciPy."""
        return special.ndtr(x) if np.any(x) else np.add(x, 0.5)

    def determinant(self, v1: Array, v2: Array, c: Array) -> Array:
        """v1 v2 - c², to a relative 1e-13 or better of the given floats, never negative.

        Where the two products nearly cancel, their rounding errors are added back (Dekker's exact product).
        """
        product = v1 * v2
        det = np.asarray(product - c * c)
        product *= 1e-3
        near = places(det < product)
        if near[0].size:
            v1, v2, c = (at(a, near) for a in (v1, v2, c))
            det[near] = np.maximum((v1 * v2 - c * c) + (product_error(v1, v2) - product_error(c, c)), 0.0)
        return det

    def angle(self, c: Array, det: Array, v1: Array, v2: Array) -> Array:
        return np.arctan2(c, np.sqrt(det))

    def dawson(self, n: int, x: Array) -> Array:
        """By the recurrence, except for large x, where the recurrence cancels and the asymptotic series is used."""
        value = _dawson(n, special.dawsn(x), x)
        far = np.abs(x) > _DAWSON_FAR
        if n and np.any(far):
            value = np.where(far, _dawson_series(n, np.where(far, x, _DAWSON_FAR)), value)
        return value

    def damped_sinh(self, c: Array, v1: Array, v2: Array) -> Array:
        size = np.abs(c)
        return -0.5 * np.sign(c) * np.exp(-0.5 * ((v1 - size) + (v2 - size))) * np.expm1(-2 * size)

    def damped_cosh(self, c: Array, v1: Array, v2: Array) -> Array:
        size = np.abs(c)
        return 0.5 * np.exp(-0.5 * ((v1 - size) + (v2 - size))) * (1 + np.exp(-2 * size))


def _dawson(n: int, first: N, x: N) -> N:
    """D⁽ⁿ⁾ from D: D' = 1 - 2x D, D⁽ᵏ⁺¹⁾ = -2x D⁽ᵏ⁾ - 2k D⁽ᵏ⁻¹⁾."""
    before, value = first, first
    for k in range(n):
        before, value = value, -2 * x * value + (-2 * k * before if k else 1)
    return value


def _dawson_series(n: int, x: Array) -> Array:
    """D⁽ⁿ⁾ of D(x) = Σ_k (2k-1)!!/(2^(k+1) x^(2k+1)), good to 1e-16 for |x| > 6.5."""
    total = 0.0 * x
    for k in reversed(range(24)):
        size = math.prod(range(1, 2 * k, 2)) / 2 ** (k + 1) * math.prod(range(2 * k + 1, 2 * k + 1 + n))
        total = total / (x * x) + size
    return (-1) ** n * total / x ** (n + 1)


def places(mask: Mask) -> Places:
    """np.nonzero, which is slow on few hits in many dimensions."""
    return np.unravel_index(np.flatnonzero(mask), np.shape(mask))


def at(x: Array, where: Places) -> Array:
    """The entries of x, broadcast, at `places` of its leading dimensions."""
    if x.ndim == 0:
        return x
    return x[tuple(i if size > 1 else 0 * i for i, size in zip(where, x.shape, strict=False))]


def product_error(x: Array, y: Array) -> Array:
    """x y - fl(x y), exactly (Dekker 1971), for |x|, |y| below 1e140."""
    xh, yh = _high(x), _high(y)
    xl, yl = x - xh, y - yh
    return ((xh * yh - x * y) + xh * yl + xl * yh) + xl * yl


def _high(x: Array) -> Array:
    big = _DEKKER * x
    return big - (big - x)


class SymbolicOperations:
    """On SymPy expressions."""

    def __init__(self) -> None:
        import sympy

        self._sympy = sympy
        self.pi = sympy.pi
        self.sqrt, self.exp, self.sin, self.cos, self.erf = sympy.sqrt, sympy.exp, sympy.sin, sympy.cos, sympy.erf

    def rational(self, p: int, q: int = 1) -> sympy.Expr:
        return self._sympy.Rational(p, q)

    def number(self, value: float) -> sympy.Expr:
        if isinstance(value, float) and value.is_integer():
            return self._sympy.Integer(int(value))
        return self._sympy.Rational(str(value)) if isinstance(value, float) else value

    def normal_cdf(self, x: sympy.Expr) -> sympy.Expr:
        return (1 + self._sympy.erf(x / self._sympy.sqrt(2))) / 2

    def determinant(self, v1: sympy.Expr, v2: sympy.Expr, c: sympy.Expr) -> sympy.Expr:
        return v1 * v2 - c**2

    def angle(self, c: sympy.Expr, det: sympy.Expr, v1: sympy.Expr, v2: sympy.Expr) -> sympy.Expr:
        return self._sympy.asin(c / self._sympy.sqrt(v1 * v2))

    def dawson(self, n: int, x: sympy.Expr) -> sympy.Expr:
        return _dawson(n, self._sympy.sqrt(self.pi) / 2 * self._sympy.exp(-(x**2)) * self._sympy.erfi(x), x)

    def damped_sinh(self, c: sympy.Expr, v1: sympy.Expr, v2: sympy.Expr) -> sympy.Expr:
        return self._sympy.exp(-(v1 + v2) / 2) * self._sympy.sinh(c)

    def damped_cosh(self, c: sympy.Expr, v1: sympy.Expr, v2: sympy.Expr) -> sympy.Expr:
        return self._sympy.exp(-(v1 + v2) / 2) * self._sympy.cosh(c)


ARRAYS = ArrayOperations()
