"""Gaussian averages of real powers: right·x₊^p + left·(-x)₊^p for any p > -1, singular at 0 where p < 0.

One variable: Kummer's function (Winkelbauer 2012); two: Gauss's function (Nabeya 1951). Arrays only: the printed
equations do not expand such averages.
"""

from __future__ import annotations

import math

import numpy as np

from tp_compiler.evaluate import special
from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.gaussian.arccosine import Sided, shape_of, sides
from tp_compiler.evaluate.gaussian.operations import ARRAYS, N, Operations
from tp_compiler.evaluate.gaussian.univariate import Univariate

_SQRT_PI = math.sqrt(math.pi)


def shape(f: Univariate) -> Sided:
    """Its order (real), even and odd part; also of the sided functions of whole order."""
    if f.name != "real_power":
        return shape_of(f)
    order, right, left = f.params
    return sides(order, right, left)


def mean(ops: Operations[N], f: Univariate, m: N, v: N) -> N | None:
    """E f(x), x ~ N(m, v); infinite for p ≤ -1."""
    if ops is not ARRAYS:
        return None
    own = shape(f)
    p = own.order
    m, v = np.broadcast_arrays(m, v)
    if p <= -1:
        return np.full(v.shape, np.inf)
    x = m * m / (2 * v)
    even = (2 * v) ** (p / 2) * math.gamma((1 + p) / 2) / _SQRT_PI * _kummer(-p / 2, 0.5, x)
    odd = m * (2 * v) ** ((p - 1) / 2) * 2 * math.gamma(p / 2 + 1) / _SQRT_PI * _kummer((1 - p) / 2, 1.5, x)
    return own.even * even + own.odd * odd


def _kummer(a: float, b: float, x: Array) -> Array:
    """M(a, b, -x), x ≥ 0; for large x by its asymptotic series (DLMF 13.7.2), since the sum cancels in double precision."""
    far = x > 60
    near = special.hyp1f1(a, b, -np.where(far, 1.0, x))
    if not np.any(far):
        return near
    large = np.where(far, x, 1e3)
    term = total = np.ones_like(large)
    for k in range(24):
        term = term * (a + k) * (a - b + 1 + k) / ((k + 1) * large)
        total = total + term
    return np.where(far, special.gamma(b) * special.rgamma(b - a) * large**-a * total, near)


def mean_derivative(ops: Operations[N], f: Univariate, k: int, v: N) -> N | None:
    """E f(x) He_k(x/√v) / v^(k/2), x ~ N(0, v): as for whole orders (means.py)."""
    if ops is not ARRAYS:
        return None
    own = shape(f)
    p, odd = own.order, k % 2
    part = own.odd if odd else own.even
    low = p - odd
    falling = math.prod(low - 2 * i for i in range(k // 2))
    moment = 2 ** ((p + odd) / 2) * math.gamma((p + odd + 1) / 2) / _SQRT_PI
    return part * moment * falling * v ** ((low - 2 * (k // 2)) / 2)


def pair(ops: Operations[N], f: Univariate, g: Univariate, v1: N, v2: N, c: N, det: N) -> N | None:
    """E f(u) g(v) for centred (u, v), both of real or whole order above -1."""
    if ops is not ARRAYS:
        return None
    a, b = shape(f), shape(g)
    p, q = a.order, b.order
    size = (2 * v1) ** (p / 2) * (2 * v2) ** (q / 2) / math.pi
    cosine = np.clip(c / np.sqrt(v1 * v2), -1.0, 1.0)
    square = np.clip(1 - det / (v1 * v2), 0.0, 1.0)
    total = 0.0 * size * cosine
    if a.even * b.even:
        both = math.gamma((p + 1) / 2) * math.gamma((q + 1) / 2)
        total = total + a.even * b.even * size * both * special.hyp2f1(-p / 2, -q / 2, 0.5, square)
    if a.odd * b.odd:
        both = 2 * math.gamma(p / 2 + 1) * math.gamma(q / 2 + 1)
        total = total + a.odd * b.odd * size * both * cosine * special.hyp2f1((1 - p) / 2, (1 - q) / 2, 1.5, square)
    return total
