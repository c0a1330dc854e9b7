"""Gaussian moments of one-sided powers: the arc-cosine kernels of every order, and everything derived from them.

A *sided* function is x ↦ even·|x|^n + odd·sgn(x)|x|^n, averaged over an independent N(0, noise) added to x. With
noise 0 these are step, sign, relu, abs, leaky relu, relu powers and monomials; erf is the sign with noise 1/2, since
erf(x) = E sgn(x + ζ), ζ ~ N(0, 1/2), and Φ is the step with noise 1. So the
arc-sine kernel of erf is the arc-cosine kernel of order 0 at v + 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Array, Numbers
from tp_compiler.evaluate.gaussian.operations import N, Operations, at, places
from tp_compiler.evaluate.gaussian.univariate import Univariate

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


@dataclass(frozen=True)
class Sided:
    """x ↦ E[even·|y|^n + odd·sgn(y)|y|^n], y = x + N(0, noise). `halves` is noise in units of 1/2."""

    order: Any  # whole here; real in powers.py
    even: float
    odd: float
    halves: int = 0

    def times_x(self) -> Sided:
        """y ↦ y · f(y)."""
        return Sided(self.order + 1, self.odd, self.even, self.halves)


def sides(order: float, right: float, left: float, halves: int = 0) -> Sided:
    """right·y₊^n + left·(-y)₊^n."""
    return Sided(order, (right + left) / 2, (right - left) / 2, halves)


def _monomial(k: float) -> Sided:
    return Sided(int(k), float(k % 2 == 0), float(k % 2 == 1))


SIDED: dict[str, Callable[..., Sided]] = {
    "step": lambda: sides(0, 1, 0),
    "sign": lambda: sides(0, 1, -1),
    "leaky_step": lambda slope: sides(0, 1, slope),
    "relu": lambda: sides(1, 1, 0),
    "abs": lambda: sides(1, 1, 1),
    "leaky_relu": lambda slope: sides(1, 1, -slope),
    "relu_power": lambda k: sides(int(k), 1, 0),
    "two_sided": lambda k, right, left: sides(int(k), right, left),
    "monomial": _monomial,
    "erf": lambda: sides(0, 1, -1, 1),
    "erfc": lambda: sides(0, 0, 2, 1),
    "normal_cdf": lambda: sides(0, 1, 0, 2),
}


def sided(f: Univariate) -> Sided | None:
    return _sided(f.name, f.params)


@lru_cache(maxsize=256)
def _sided(name: str, params: tuple[float, ...]) -> Sided | None:
    make = SIDED.get(name)
    return None if make is None else make(*params)


def shape_of(f: Univariate) -> Sided:
    """The one-sided form of a function known to have one."""
    shape = sided(f)
    assert shape is not None
    return shape


def double_factorial(n: int) -> int:
    return math.prod(range(n, 0, -2))


def absolute_moment(ops: Operations[N], n: int, v: N) -> N:
    """E|x|^n for x ~ N(0, v): (n-1)!! v^(n/2), times √(2/π) when n is odd."""
    if n == 0:
        return ops.rational(1)
    if n % 2 == 0:
        return double_factorial(n - 1) * v ** (n // 2)
    root = double_factorial(n - 1) * ops.sqrt(2 * v / ops.pi)
    return root if n == 1 else root * v ** (n // 2)


def moment(ops: Operations[N], odd: int, m: int, n: int, v1: N, v2: N, c: N, det: N) -> N:
    """T = E s(u)|u|^m s(v)|v|^n with s = sgn (odd = 1) or 1 (odd = 0), for (u, v) ~ N(0, [[v1, c], [c, v2]]).

    Stein's lemma, E u h(u) g(v) = v1 E h'(u) g(v) + c E h(u) g'(v), with (s|u|^k)' = k s'|u|^(k-1) (the other parity)
    and sgn' = 2δ. Every term has the sign c^odd, so nothing cancels. Equal to the recursions of Cho & Saul 2009 (their
    J_n) for m = n, and to Sheppard 1899 for sgn, sgn.
    """
    if m > n:
        m, n, v1, v2 = n, m, v2, v1
    if m == 0 and not odd:
        return absolute_moment(ops, n, v2)
    if m == 0:
        return _sign_moment(ops, n, v1, v2, c, det)
    if m == 1 and odd:
        return c * n * absolute_moment(ops, n - 1, v2)
    if m == 1:
        return _edge(ops, n, v1, det) + n * c * _sign_moment(ops, n - 1, v1, v2, c, det)
    first = v1 * (m - 1) * moment(ops, odd, m - 2, n, v1, v2, c, det)
    return first + c * n * moment(ops, 1 - odd, m - 1, n - 1, v1, v2, c, det)


def _edge(ops: Operations[N], n: int, v1: N, det: N) -> N:
    """v1 E 2δ(u)|v|^n."""
    if n == 1:
        return ops.sqrt(det) * (2 / ops.pi)
    return ops.sqrt(2 * v1 / ops.pi) * absolute_moment(ops, n, det / v1)


def _sign_moment(ops: Operations[N], n: int, v1: N, v2: N, c: N, det: N) -> N:
    """E sgn(u) sgn(v)|v|^n; n = 0 is Sheppard's (2/π) arcsin ρ."""
    if n == 0:
        return ops.angle(c, det, v1, v2) * (2 / ops.pi)
    density = c * ops.sqrt(2 / (ops.pi * v1))
    if n == 1:
        return density
    before = _sign_moment(ops, n - 2, v1, v2, c, det)
    return (n - 1) * v2 * before + density * absolute_moment(ops, n - 1, det / v1)


def wedge(m: int, n: int, v1: Array, v2: Array, size: Array, det: Array) -> Array:
    """E u₊^m v₊^n at covariance -size ≤ 0, by the angle δ of the wedge {u > 0, v > 0}:

    √(v1^m v2^n) 2^(k/2) Γ(k/2 + 1)/(2π) ∫₀^δ sin^m φ sin^n(δ - φ) dφ, k = m + n, in polar coordinates. The integrand is
    positive, so the value keeps its relative accuracy as δ → 0, where the trigonometric formula cancels to nothing.
    """
    delta = np.arctan2(np.sqrt(det), size)
    total = np.zeros_like(delta)
    if m + n == 0:
        return delta / (2 * math.pi)
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        total += weight * np.sin(delta * (1 + node) / 2) ** m * np.sin(delta * (1 - node) / 2) ** n
    k = m + n
    constant = 2 ** (k / 2) * math.gamma(k / 2 + 1) / (4 * math.pi)
    return constant * np.sqrt(v1) ** m * np.sqrt(v2) ** n * delta * total


def sided_pair(ops: Operations[N], f: Sided, g: Sided, v1: N, v2: N, c: N, det: N) -> N:
    """E f(u) g(v), noise already added to v1, v2, det. Even with odd parts average to zero (u, v ↦ -u, -v)."""
    even, odd = f.even * g.even, f.odd * g.odd
    if (even, odd) == (0.0, 0.0):
        return ops.rational(0) * c
    if odd == 0.0:
        value = moment(ops, 0, f.order, g.order, v1, v2, c, det)
        return _weighted(ops, value, even)
    if even == 0.0:
        return _weighted(ops, moment(ops, 1, f.order, g.order, v1, v2, c, det), odd)
    values = [moment(ops, a, f.order, g.order, v1, v2, c, det) for a in (0, 1)]
    total = _weighted(ops, values[0], even) + _weighted(ops, values[1], odd)
    if isinstance(total, np.ndarray):
        _repair(total, values, f, g, (v1, v2, c, det))
    return total


def _weighted(ops: Operations[N], value: N, weight: float) -> N:
    return value if weight == 1.0 else ops.number(weight) * value


def _repair(total: Array, values: Sequence[Numbers], f: Sided, g: Sided, point: tuple[Numbers, ...]) -> None:
    """Where the even and the odd part nearly cancel (c near ∓√(v1 v2)), the sum by wedges, which does not."""
    even, odd = f.even * g.even, f.odd * g.odd
    v1, v2, c, det = (np.asarray(x) for x in point)
    threshold = 0.1 if f.order + g.order <= 2 else 0.75
    bad = (c < 0) if even * odd > 0 else (c > 0)
    if not bad.any():
        return
    where = places(bad & (det < threshold * v1 * v2))
    if not where[0].size:
        return
    v1, v2, c, det, first, second = (at(np.asarray(a), where) for a in (v1, v2, c, det, *values))
    sign = 1.0 if even * odd > 0 else -1.0  # the half-planes that form the small wedge
    small = wedge(f.order, g.order, v1, v2, np.abs(c), det)
    large = (np.abs(first) + np.abs(second)) / 4
    total[where] = 2 * (even + sign * odd) * small + 2 * (even - sign * odd) * large


def noisy(ops: Operations[N], f: int, g: int, v1: N, v2: N, det: N) -> tuple[N, N, N]:
    """Variances and determinant after independent noise of f/2 and g/2 on u and v; a sum of positive terms."""
    a, b = ops.rational(f, 2), ops.rational(g, 2)
    if f == 0 and g == 0:
        return v1, v2, det
    return v1 + a, v2 + b, det + a * v2 + b * v1 + a * b
