"""Gaussian expectations in 50 digits, by direct integration: f against the conditional average of g.

Nothing here knows the table under test. E f(u) g(v) = ∫ f(s z) φ(z) E[g(v) | u = s z] dz; conditional averages are
elementary for these functions, and are themselves checked by integration in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mpmath as mp

mp.mp.dps = 50
Real = Any


def _phi(x: Real) -> Real:
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


def _cdf(x: Real) -> Real:
    return mp.erfc(-x / mp.sqrt(2)) / 2


def _upper(k: int, m: Real, s: Real) -> Real:
    """E max(m + s z, 0)^k."""
    if s == 0:
        return (m**k if k else mp.mpf(1)) if m > 0 else mp.mpf(0)
    a, b = _cdf(m / s), m * _cdf(m / s) + s * _phi(m / s)
    if k == 0:
        return a
    for j in range(2, k + 1):
        a, b = b, m * b + (j - 1) * s * s * a
    return b


def _power(k: int, m: Real, s: Real) -> Real:
    a, b = mp.mpf(0), mp.mpf(1)
    for j in range(1, k + 1):
        a, b = b, m * b + (j - 1) * s * s * a
    return b


def _gelu(m: Real, s: Real) -> Real:
    w = mp.sqrt(1 + s * s)
    return m * _cdf(m / w) + s * s / w * _phi(m / w)


def _gelu_prime(m: Real, s: Real) -> Real:
    w = mp.sqrt(1 + s * s)
    return _cdf(m / w) + m / w**3 * _phi(m / w)


def _gauss(a: Real, m: Real, s: Real) -> Real:
    w = 1 + 2 * mp.mpf(a) * s * s
    return mp.exp(-mp.mpf(a) * m * m / w) / mp.sqrt(w)


def _gauss_prime(a: Real, m: Real, s: Real) -> Real:
    w = 1 + 2 * mp.mpf(a) * s * s
    return -2 * mp.mpf(a) * m / w * _gauss(a, m, s)


def _two_sided(k: float, right: float, left: float, m: Real, s: Real) -> Real:
    return mp.mpf(right) * _upper(int(k), m, s) + mp.mpf(left) * _upper(int(k), -m, s)


def _leak(k: int, slope: float, m: Real, s: Real) -> Real:
    return _upper(k, m, s) + (-1) ** k * mp.mpf(slope) * _upper(k, -m, s)


#: name -> E f(m + s z), which is f(m) for s = 0; parameters come first.
AVERAGES: dict[str, Callable[..., Real]] = {
    "relu": lambda m, s: _upper(1, m, s),
    "step": lambda m, s: _upper(0, m, s),
    "sign": lambda m, s: _upper(0, m, s) - _upper(0, -m, s),
    "abs": lambda m, s: _upper(1, m, s) + _upper(1, -m, s),
    "leaky_relu": lambda slope, m, s: _leak(1, slope, m, s),
    "leaky_step": lambda slope, m, s: _leak(0, slope, m, s),
    "relu_power": lambda k, m, s: _upper(int(k), m, s),
    "monomial": lambda k, m, s: _power(int(k), m, s),
    "hermite": lambda k, m, s: mp.re(_power(int(k), m, mp.sqrt(mp.mpc(s * s - 1)))),
    "erf": lambda m, s: mp.erf(m / mp.sqrt(1 + 2 * s * s)),
    "erfc": lambda m, s: mp.erfc(m / mp.sqrt(1 + 2 * s * s)),
    "gelu": _gelu,
    "gelu_prime": _gelu_prime,
    "sin": lambda m, s: mp.exp(-s * s / 2) * mp.sin(m),
    "cos": lambda m, s: mp.exp(-s * s / 2) * mp.cos(m),
    "exp": lambda m, s: mp.exp(m + s * s / 2),
    "sinh": lambda m, s: mp.exp(s * s / 2) * mp.sinh(m),
    "cosh": lambda m, s: mp.exp(s * s / 2) * mp.cosh(m),
    "gauss": _gauss,
    "gauss_prime": _gauss_prime,
    "two_sided": _two_sided,
    "normal_cdf": lambda m, s: _cdf(m / mp.sqrt(1 + s * s)),
}


def average(name: str, params: Sequence[float], m: Real, v: Real) -> Real:
    return AVERAGES[name](*params, mp.mpf(m), mp.sqrt(mp.mpf(v)))


def integrated(value: Callable[[Real], Real], scales: Sequence[Real], shift: Real = 0) -> Real:
    """∫ value(z) φ(z) dz, cut where it changes: at 0 and at a few times each scale; the bulk is at `shift`."""
    ends = {mp.mpf(0)} | {shift + sign * end for sign in (-1, 1) for end in (mp.mpf(4), mp.mpf(17))}
    for scale in scales:
        if 0 < scale < 2:
            ends |= {sign * scale * k for sign in (-1, 1) for k in (2, 12) if scale * k < 16}
    return mp.quad(lambda z: value(z) * _phi(z), sorted(ends))


def pair(f: tuple[str, tuple[float, ...]], g: tuple[str, tuple[float, ...]], v1: float, v2: float, c: float) -> Real:
    """E f(u) g(v) at the given floats."""
    v1, v2, c = mp.mpf(v1), mp.mpf(v2), mp.mpf(c)
    if v1 == 0 or v2 == 0:
        return average(*f, 0, v1) * average(*g, 0, v2)
    s, slope = mp.sqrt(v1), c / mp.sqrt(v1)
    rest = mp.sqrt(max(v2 - c * c / v1, mp.mpf(0)))
    f_of, g_of = AVERAGES[f[0]], AVERAGES[g[0]]

    def value(z: Real) -> Real:
        return f_of(*f[1], s * z, mp.mpf(0)) * g_of(*g[1], slope * z, rest)

    width = (mp.sqrt(1 + rest * rest) if any(n in g[0] + f[0] for n in ("gelu", "erf", "cdf")) else rest) / max(
        abs(slope), 1
    )
    shift = s if f[0] == "exp" else (slope if g[0] == "exp" else 0)
    return integrated(value, [1 / s, width], shift)
