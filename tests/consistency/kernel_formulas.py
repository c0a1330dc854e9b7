"""Textbook kernels E f(u) f(v), (u, v) ~ N(0, [[a, c], [c, b]]), in mpmath: 50 digits, and nothing of the package.

Cancellation does not matter here, so each is the shortest formula (Cho & Saul 2009; Williams 1997; Rahimi & Recht
2007). `trapezoid` is for functions without a formula: the trapezoid rule converges geometrically on a Gaussian weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb, factorial, prod
from typing import Any

import numpy as np
from mpmath import mp, mpf

Kernel = Callable[[Any, Any, Any], Any]


@dataclass(frozen=True)
class Activation:
    """How a program declares and names a function, its kernel, and the depths and sizes where doubles hold it."""

    kernel: Kernel
    declaration: str = ""
    call: str = "f"
    depth: int = 10  # the largest before the kernel leaves the range of doubles, or amplifies their rounding
    scale: float = 1.0  # of the inputs, at that depth


def _angle(a: Any, b: Any, c: Any) -> Any:
    return mp.atan2(mp.sqrt(max(a * b - c * c, mpf(0))), c)


def _relu_power(n: int) -> Kernel:
    """Cho & Saul 2009, eqs. 3-7: √(ab)^n J_n(θ)/2π."""

    def kernel(a: Any, b: Any, c: Any) -> Any:
        if a * b == 0:
            return mpf(0)
        t = _angle(a, b, c)
        s, k, rest = mp.sin(t), mp.cos(t), mp.pi - t
        j = (
            rest,
            s + rest * k,
            3 * s * k + rest * (1 + 2 * k * k),
            15 * s - 11 * s**3 + rest * (9 * k + 6 * k**3),
        )[n]
        return mp.sqrt(a * b) ** n * j / (2 * mp.pi)

    return kernel


_step, _relu = _relu_power(0), _relu_power(1)


def _sign(a: Any, b: Any, c: Any) -> Any:
    return 1 - 2 * _angle(a, b, c) / mp.pi if a * b > 0 else mpf(0)


def _erf(a: Any, b: Any, c: Any) -> Any:
    return 2 / mp.pi * mp.asin(2 * c / mp.sqrt((1 + 2 * a) * (1 + 2 * b)))


def _leaky(a: Any, b: Any, c: Any) -> Any:
    s = mpf(0.01)
    return (1 - s) ** 2 * _relu(a, b, c) + s * c


def _gelu(a: Any, b: Any, c: Any) -> Any:
    """Stein on u: a E φ(u) vΦ(v) + c E Φ(u) vφ(v) + c E Φ(u) Φ(v)."""
    det = a * b - c * c
    d = 1 + a + b + det
    smooth = (a * (b + det) / (1 + a) + c * c / (1 + b)) / mp.sqrt(d)
    both = mpf(1) / 4 + mp.asin(c / mp.sqrt((1 + a) * (1 + b))) / (2 * mp.pi)
    return smooth / (2 * mp.pi) + c * both


def _moment(m: int, n: int, a: Any, b: Any, c: Any) -> Any:
    """E u^m v^n: k factors paired across, the rest within (Isserlis)."""
    total = mpf(0)
    for k in range(min(m, n) + 1):
        if (m - k) % 2 or (n - k) % 2:
            continue
        ways = comb(m, k) * comb(n, k) * factorial(k) * prod(range(1, m - k, 2)) * prod(range(1, n - k, 2))
        total += ways * c**k * a ** ((m - k) // 2) * b ** ((n - k) // 2)
    return total


def polynomial(*coefficients: float) -> Kernel:
    """Of Σ_k coefficients[k] x^k."""
    numbers = [mpf(x) for x in coefficients]

    def kernel(a: Any, b: Any, c: Any) -> Any:
        return mp.fsum(p * q * _moment(m, n, a, b, c) for m, p in enumerate(numbers) for n, q in enumerate(numbers))

    return kernel


def _exp(a: Any, b: Any, c: Any) -> Any:
    return mp.exp((a + b) / 2 + c)


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(_relu, call="relu"),
    "abs": Activation(lambda a, b, c: 4 * _relu(a, b, c) - c, call="abs"),
    "leaky_relu": Activation(_leaky, call="leaky_relu"),
    "step": Activation(_step, call="step"),
    "sign": Activation(_sign, call="sign"),
    "erf": Activation(_erf, call="erf"),
    "gelu": Activation(_gelu, call="gelu"),
    "sin": Activation(lambda a, b, c: mp.exp(-(a + b) / 2) * mp.sinh(c), call="sin"),
    "cos": Activation(lambda a, b, c: mp.exp(-(a + b) / 2) * mp.cosh(c), call="cos"),
    "fourier": Activation(lambda a, b, c: mp.exp(c - (a + b) / 2), "fn f(z) = sin(z) + cos(z)"),
    "exp": Activation(_exp, call="exp", depth=2, scale=0.2),
    "gauss": Activation(lambda a, b, c: 1 / mp.sqrt((1 + a) * (1 + b) - c * c), "fn f(z) = exp(-z^2/2)"),
    "gauss_of_product": Activation(
        lambda a, b, c: 1 / mp.sqrt((1 + 2 * a) * (1 + 2 * b) - 4 * c * c), "fn f(z) = exp(-z*z)"
    ),
    "square": Activation(polynomial(0, 0, 1), call="square", depth=3),
    "cube": Activation(polynomial(0, 0, 0, 1), "fn f(z) = z^3", depth=3, scale=0.5),
    "hermite2": Activation(polynomial(-1, 0, 1), "fn f(z) = z^2 - 1", depth=3, scale=0.5),
    "hermite3": Activation(polynomial(0, -3, 0, 1), "fn f(z) = z^3 - 3*z", depth=3, scale=0.5),
    "polynomial": Activation(polynomial(0.25, -1, 0.5, 0.125), "fn f(z) = 0.125*z^3 + 0.5*z^2 - z + 0.25", depth=3),
    "relu_square": Activation(_relu_power(2), "fn f(z) = relu(z)^2", depth=4),
    "relu_product": Activation(_relu_power(2), "fn f(z) = relu(z) * relu(z)", depth=4),
    "relu_cube": Activation(_relu_power(3), "fn f(z) = relu(z)^3", depth=3, scale=0.5),
}

SMOOTH: dict[str, Callable[[Any], Any]] = {
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(x, 0),
}


def trapezoid(f: Callable[[Any], Any], covariance: Any) -> Any:
    """E f(u_i) f(u_j) for all pairs, in extended precision, on a grid of the whitened plane."""
    step = 0.06
    z = np.arange(-10.5, 10.5 + step / 2, step, dtype=np.longdouble)
    weight = np.exp(-z * z / 2)
    weight /= weight.sum()
    size = len(covariance)
    result = np.empty((size, size), dtype=np.longdouble)
    for i in range(size):
        for j in range(size):
            a, b, c = covariance[i, i], covariance[j, j], covariance[i, j]
            slope = c / np.sqrt(a) if a > 0 else 0 * c
            rest = np.sqrt(max(b - slope * slope, np.longdouble(0)))
            inner = f(slope * z[:, None] + rest * z) @ weight
            result[i, j] = (weight * f(np.sqrt(a) * z)) @ inner
    return result
