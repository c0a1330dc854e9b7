"""One-variable Gaussian averages: E f(x) with any mean, and E f^(k)(x) for centred x (used with polynomials)."""

from __future__ import annotations

import math

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.gaussian import powers
from tp_compiler.evaluate.gaussian.arccosine import absolute_moment, double_factorial, sided
from tp_compiler.evaluate.gaussian.operations import N, Operations
from tp_compiler.evaluate.gaussian.univariate import Univariate

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


def mean(ops: Operations[N], f: Univariate, m: N, v: N) -> N | None:
    """E f(x), x ~ N(m, v), v > 0, for the base function of f; None when there is no row."""
    if f.name == "real_power":
        return powers.mean(ops, f, m, v)
    if f.name in ("monomial", "hermite"):
        return _polynomial(ops, int(f.params[0]), m, v - (1 if f.name == "hermite" else 0))
    shape = sided(f)
    if shape is not None:
        right, left = shape.even + shape.odd, shape.even - shape.odd
        return _sided(ops, shape.order, right, left, m, v + ops.rational(shape.halves, 2))
    return _smooth(ops, f, m, v)


def _smooth(ops: Operations[N], f: Univariate, m: N, v: N) -> N | None:
    """exp(iax), exp(ax) and exp(-ax²) by completing the square; gelu and its derivative by Stein's lemma."""
    if f.name == "exp":
        return ops.exp(m + v / 2)
    if f.name in ("sinh", "cosh"):
        return (ops.damped_sinh if f.name == "sinh" else ops.damped_cosh)(m, -v, 0 * v)
    if f.name in ("sin", "cos"):
        return ops.exp(-v / 2) * (ops.sin(m) if f.name == "sin" else ops.cos(m))
    if f.name == "gauss":
        a = ops.number(f.params[0])
        return ops.exp(-a * m * m / (1 + 2 * a * v)) / ops.sqrt(1 + 2 * a * v)
    if f.name == "gauss_prime":
        a = ops.number(f.params[0])
        spread = 1 + 2 * a * v
        return -2 * a * m * ops.exp(-a * m * m / spread) / (spread * ops.sqrt(spread))
    if f.name in ("gelu", "gelu_prime"):
        root = ops.sqrt(1 + v)
        density = ops.exp(-m * m / (2 * (1 + v))) / ops.sqrt(2 * ops.pi)
        cdf = ops.normal_cdf(m / root)
        if f.name == "gelu":
            return m * cdf + v * density / root
        return cdf + m * density / (root * (1 + v))
    return None


def _polynomial(ops: Operations[N], k: int, m: N, w: N) -> N:
    """E (m + √w z)^k = Σ_i k! / (i! (k-2i)! 2^i) m^(k-2i) w^i; He_k has w = v - 1."""
    total = ops.rational(0) * (m + w)
    for i in range(k // 2 + 1):
        weight = math.factorial(k) // (math.factorial(i) * math.factorial(k - 2 * i) * 2**i)
        total = total + weight * (m ** (k - 2 * i) if k > 2 * i else 1) * (w**i if i else 1)
    return total


def _sided(ops: Operations[N], n: int, right: float, left: float, m: N, v: N) -> N:
    if n == 0 and right == -left:
        return ops.number(right) * ops.erf(m / ops.sqrt(2 * v))
    total = ops.rational(0) * (m + v)
    if right:
        total = total + ops.number(right) * _right(ops, n, m, v)
    if left:
        total = total + ops.number(left) * _right(ops, n, -m, v)
    return total


def _right(ops: Operations[N], n: int, m: N, v: N) -> N:
    """R_n = E x₊^n: R_0 = Φ(m/√v), R_1 = m R_0 + √v φ(m/√v), R_n = m R_(n-1) + (n-1) v R_(n-2)."""
    root = ops.sqrt(v)
    before, value = None, ops.normal_cdf(m / root)
    density = ops.exp(-m * m / (2 * v)) / ops.sqrt(2 * ops.pi)
    for k in range(1, n + 1):
        before, value = value, m * value + (root * density if k == 1 else (k - 1) * v * before)
    if n and isinstance(value, np.ndarray):
        far = np.broadcast_to(m < -0.5 * root, value.shape)
        if far.any():
            value[far] = _tail(n, *(np.broadcast_to(a, value.shape)[far] for a in (m, v)))
    return value


def _tail(n: int, m: Array, v: Array) -> Array:
    """E x₊^n for m < 0 as √v^n φ(m/√v) ∫₀^∞ t^n exp(-t²/2 - |m|t/√v) dt: all terms are positive, whereas the recursion cancels."""
    root = np.sqrt(v)
    mu = -m / root
    top = 96.0 / (mu + np.sqrt(mu * mu + 96.0))
    total = np.zeros_like(mu)
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        t = top * (1 + node) / 2
        total += weight * t**n * np.exp(-t * (mu + t / 2))
    return root**n * np.exp(-mu * mu / 2) / math.sqrt(2 * math.pi) * total * top / 2


def mean_derivative(ops: Operations[N], f: Univariate, k: int, v: N) -> N | None:
    """E f^(k)(x), x ~ N(0, v): the k-th Hermite coefficient, E f(x) He_k(x/√v) / v^(k/2), jumps included.

    For |x|^n: E|x|^n differentiated in v, as E f'' = 2 dE f/dv, gives n(n-2)…(n-k+2) E|x|^n / v^(k/2).
    """
    if f.name == "real_power":
        return powers.mean_derivative(ops, f, k, v)
    if f.name in ("monomial", "hermite"):
        return _polynomial_derivative(ops, int(f.params[0]), k, v - (1 if f.name == "hermite" else 0))
    shape = sided(f)
    if shape is not None:
        return _sided_derivative(ops, shape.order, shape.odd if k % 2 else shape.even, k, v, shape.halves)
    if f.name == "exp":
        return ops.exp(v / 2)
    if f.name in ("sinh", "cosh"):
        return int(k % 2 == (f.name == "sinh")) * ops.exp(v / 2)
    if f.name in ("sin", "cos"):
        turn = ((0, 1, 0, -1) if f.name == "sin" else (1, 0, -1, 0))[k % 4]
        return turn * ops.exp(-v / 2)
    if f.name in ("gauss", "gauss_prime"):
        return _gauss_derivative(ops, ops.number(f.params[0]), k + (f.name == "gauss_prime"), v)
    if f.name == "gelu":  # (x Φ)^(k) = x Φ^(k) + k Φ^(k-1), and E x h(x) = v E h'(x)
        return v * _cdf_derivative(ops, k + 1, v) + (k * _cdf_derivative(ops, k - 1, v) if k else 0)
    if f.name == "gelu_prime":
        return v * _cdf_derivative(ops, k + 2, v) + (k + 1) * _cdf_derivative(ops, k, v)
    return None


def _polynomial_derivative(ops: Operations[N], n: int, k: int, w: N) -> N:
    i, rest = divmod(n - k, 2)
    if k > n or rest:
        return ops.rational(0) * w
    weight = math.factorial(n) // (math.factorial(i) * 2**i)
    return weight * w**i if i else ops.rational(weight) + ops.rational(0) * w


def _sided_derivative(ops: Operations[N], n: int, part: float, k: int, v: N, halves: int) -> N:
    v = v + ops.rational(halves, 2) if halves else v
    low = n - k % 2
    falling = math.prod(low - 2 * i for i in range(k // 2))
    if part == 0.0 or falling == 0:
        return ops.rational(0) * v
    constant = ops.number(part) * absolute_moment(ops, n + k % 2, ops.rational(1)) * falling
    power = low - 2 * (k // 2)
    root = ops.sqrt(v)
    return constant * (root**power if power >= 0 else 1 / root ** (-power))


def _gauss_derivative(ops: Operations[N], a: N, k: int, v: N) -> N:
    if k % 2:
        return ops.rational(0) * v
    spread = 1 + 2 * a * v
    return double_factorial(k - 1) * (-2 * a / spread) ** (k // 2) / ops.sqrt(spread)


def _cdf_derivative(ops: Operations[N], k: int, v: N) -> N:
    """E Φ^(k)(x)."""
    if k == 0:
        return ops.rational(1, 2) + ops.rational(0) * v
    return _gauss_derivative(ops, ops.rational(1, 2), k - 1, v) / ops.sqrt(2 * ops.pi)
