"""The table of closed forms, one theorem per row: E f(u) g(v) for centred jointly Gaussian (u, v).

A row is written once, in `Operations`; closed_forms.py runs it on arrays and on SymPy symbols. Functions are found by
family, so cross-expectations of different functions need no row of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

from tp_compiler.evaluate.array_types import Array, Places
from tp_compiler.evaluate.gaussian import arccos_in_place, powers
from tp_compiler.evaluate.gaussian import means as singles
from tp_compiler.evaluate.gaussian.arccosine import SIDED, Sided, noisy, shape_of, sided_pair, sides
from tp_compiler.evaluate.gaussian.operations import N, Operations
from tp_compiler.evaluate.gaussian.univariate import Univariate, monomial, normal_cdf


@runtime_checkable
class Formula(Protocol):
    def __call__(self, ops: Operations[N], f: Univariate, g: Univariate, v1: N, v2: N, c: N, det: N, /) -> N | None: ...


_RELU, _STEP, _RELU_SQUARED = sides(1, 1, 0), sides(0, 1, 0), sides(2, 1, 0)


@dataclass(frozen=True)
class KernelRow:
    """E f(u) g(v) for f named in `first` and g in `second` (order irrelevant).

    `formula(ops, f, g, v1, v2, c, det)`, det = v1 v2 - c², returns None for the members it does not cover.
    """

    first: frozenset[str]
    second: frozenset[str]
    formula: Formula
    source: str
    fast: Callable[[Sided, Sided, Array, Array, Array], tuple[Array, Places | None]] | None = (
        None  # for most entries (arccos_in_place.py)
    )


def _sided_sided(ops: Operations[N], f: Univariate, g: Univariate, v1: N, v2: N, c: N, det: N) -> N:
    """Arc-cosine and arc-sine kernels: `arccosine.moment` at the variances with noise."""
    a, b = shape_of(f), shape_of(g)
    v1, v2, det = noisy(ops, a.halves, b.halves, v1, v2, det)
    return sided_pair(ops, a, b, v1, v2, c, det)


def _polynomial_any(ops: Operations[N], p: Univariate, g: Univariate, v1: N, v2: N, c: N, det: N) -> N | None:
    """Mehler's formula, E p(u) g(v) = Σ_k c^k/k! E p^(k)(u) E g^(k)(v): a finite sum for a polynomial p."""
    if singles.mean_derivative(ops, g, 0, v2) is None:
        return None
    total = ops.rational(0) * c
    factorial = 1
    for k in range(int(p.params[0]) + 1):
        factorial *= max(k, 1)
        if p.name == "monomial" and (int(p.params[0]) - k) % 2:
            continue
        of_p: Any = singles.mean_derivative(ops, p, k, v1)
        total = total + of_p * singles.mean_derivative(ops, g, k, v2) * (c**k if k else 1) / factorial
    return total


def _exp_any(ops: Operations[N], f: Univariate, g: Univariate, v1: N, v2: N, c: N, det: N) -> N | None:
    """Cameron-Martin: E e^u g(v) = e^(v1/2) E g(v + c)."""
    if g.name == "exp":
        return ops.exp(((v1 + c) + (v2 + c)) / 2)
    if g.name in ("sin", "cos"):
        return ops.exp((v1 - v2) / 2) * (ops.sin(c) if g.name == "sin" else ops.cos(c))
    average = singles.mean(ops, g, c, v2)
    return None if average is None else ops.exp(v1 / 2) * average


def _gauss_any(ops: Operations[N], f: Univariate, g: Univariate, v1: N, v2: N, c: N, det: N) -> N | None:
    """Tilting: E e^(-au²) g(v) = (1 + 2a v1)^(-1/2) E g(w), w ~ N(0, (v2 + 2a det)/(1 + 2a v1))."""
    a = ops.number(f.params[0] if f.name == "gauss" else 1.0)
    spread = 1 + 2 * a * v1
    average = singles.mean(ops, g, ops.rational(0), (v2 + 2 * a * det) / spread)
    return None if average is None else average / ops.sqrt(spread)


def _trig_trig(ops: Operations[N], f: Univariate, g: Univariate, v1: N, v2: N, c: N, det: N) -> N:
    """sin, sin: e^(-(v1+v2)/2) sinh c; cos, cos: the same with cosh; sin, cos: 0 (odd)."""
    if f.name != g.name:
        return ops.rational(0) * (c + v1 + v2)
    return ops.damped_sinh(c, v1, v2) if f.name == "sin" else ops.damped_cosh(c, v1, v2)


def _hyperbolic_twice(ops: Operations[N], f: Univariate, g: Univariate, v1: N, v2: N, c: N, det: N) -> N:
    """sinh, sinh: e^((v1+v2)/2) sinh c; cosh, cosh: the same with cosh; sinh, cosh: 0 (odd)."""
    if f.name != g.name:
        return ops.rational(0) * (c + v1 + v2)
    return ops.damped_sinh(c, -v1, -v2) if f.name == "sinh" else ops.damped_cosh(c, -v1, -v2)


def _hyperbolic_any(ops: Operations[N], f: Univariate, g: Univariate, v1: N, v2: N, c: N, det: N) -> N | None:
    """Cameron-Martin on both sides: e^(v1/2) (E g(v + c) ∓ E g(v - c))/2."""
    right, left = singles.mean(ops, g, c, v2), singles.mean(ops, g, -c, v2)
    if right is None or left is None:
        return None
    return ops.exp(v1 / 2) * (right - left if f.name == "sinh" else right + left) / 2


def _trig_sided(ops: Operations[N], f: Univariate, g: Univariate, v1: N, v2: N, c: N, det: N) -> N | None:
    """E e^(iu) g(v) = e^(-v1/2) E g(v + ic): v^n against sin or cos for one parity; for the other repeated integrals of
    φ at an imaginary argument, which are derivatives of Dawson's D: E sin(u) sgn(v)|v|^n (n even) and E cos(u)|v|^n
    (n odd) are ±(2/√π) (v2/2)^(n/2) D⁽ⁿ⁾(c/√(2 v2)) e^(-det/(2 v2)), + for n = 0, 1 mod 4."""
    shape = shape_of(g)
    part, n = shape.odd if f.name == "sin" else shape.even, shape.order
    _, v2n, detn = noisy(ops, 0, shape.halves, v1, v2, det)
    if part == 0.0:
        return ops.rational(0) * (c + v1 + v2)
    if n % 2 == (f.name == "sin"):
        average = _polynomial_any(ops, monomial(n), f, v2n, v1, c, det)
        return None if average is None else ops.number(part) * average
    root = ops.sqrt(v2n / 2)
    damped = ops.dawson(n, c / (2 * root)) * ops.exp(-detn / (2 * v2n)) / ops.sqrt(ops.pi)
    return (2 * (-1) ** (n // 2) * ops.number(part)) * damped * (root**n if n else 1)


def _trig_gelu(ops: Operations[N], f: Univariate, g: Univariate, v1: N, v2: N, c: N, det: N) -> N:
    """gelu(v) = v/2 + an even function: sin meets the first, c/2 e^(-v1/2); cos the second, by E gelu(v + ic) as above:
    (v2 D'(y) - 2y D(y)) e^(-(det + v1)/(2w²))/(w √2π), w² = 1 + v2, y = c/(w√2)."""
    if f.name == "sin":
        return c * ops.exp(-v1 / 2) / 2
    square = 1 + v2
    y = c / ops.sqrt(2 * square)
    bracket = v2 * ops.dawson(1, y) - 2 * y * ops.dawson(0, y)
    return bracket * ops.exp(-(det + v1) / (2 * square)) / ops.sqrt(2 * ops.pi * square)


def _gelu_sided(ops: Operations[N], f: Univariate, g: Univariate, v1: N, v2: N, c: N, det: N) -> N:
    """gelu(u) = E u 1[a > 0], a = u + N(0, 1). With b = v + noise, E[u | a, b] = (det' a + c b)/D, so the average is
    det'/D E a₊ g(b) + c/D E 1[a > 0] b g(b), D = det of (a, b), det' = D - (variance of b)."""
    shape = shape_of(g)
    w1, w2, wdet = noisy(ops, 2, shape.halves, v1, v2, det)
    _, _, udet = noisy(ops, 0, shape.halves, v1, v2, det)
    first = sided_pair(ops, _RELU, shape, w1, w2, c, wdet)
    second = sided_pair(ops, _STEP, shape.times_x(), w1, w2, c, wdet)
    return (udet * first + c * second) / wdet


def _gelu_gelu(ops: Operations[N], f: Univariate, g: Univariate, v1: N, v2: N, c: N, det: N) -> N:
    """As above with both noisy: E[u | a, b] = ((v1 + det) a + c b)/D and Cov(u, v | a, b) = c/D, D = 1 + v1 + v2 + det.

    M_mn = E a₊^m b₊^n. Equal to Tsuchida et al. 2021, eq. 4 (and NT's Gelu), without its cancellation at c < 0.
    """
    w1, w2, d = noisy(ops, 2, 2, v1, v2, det)
    one, two = (v1 + det) / d, (v2 + det) / d
    cross = c / d
    m11, m00 = (sided_pair(ops, s, s, w1, w2, c, d) for s in (_RELU, _STEP))
    m20 = sided_pair(ops, _RELU_SQUARED, _STEP, w1, w2, c, d)
    m02 = sided_pair(ops, _STEP, _RELU_SQUARED, w1, w2, c, d)
    return (one * two + cross * cross) * m11 + cross * (one * m20 + two * m02 + m00)


def _gelu_prime_twice(ops: Operations[N], f: Univariate, g: Univariate, v1: N, v2: N, c: N, det: N) -> N:
    """(Φ + uφ)(Φ + vφ): M_00 at unit noise, and Gaussian integrals; ∂/∂c of the gelu kernel."""
    w1, w2, d = noisy(ops, 2, 2, v1, v2, det)
    root = ops.sqrt(d)
    smooth = (1 / w1 + 1 / w2 + 1 / d) / root
    return sided_pair(ops, _STEP, _STEP, w1, w2, c, d) + c * smooth / (2 * ops.pi)


def _gelu_prime_any(ops: Operations[N], f: Univariate, g: Univariate, v1: N, v2: N, c: N, det: N) -> N | None:
    """Φ(u) is a separate row; E uφ(u) g(v) = c E g'(w)/(√2π (1 + v1)^(3/2)), w ~ N(0, (v2 + det)/(1 + v1))."""
    found = row_of(_CDF, g)
    spread = 1 + v1
    slope = singles.mean_derivative(ops, g, 1, (v2 + det) / spread)
    if found is None or slope is None:
        return None
    row, swap = found
    own = row.formula(ops, g, _CDF, v2, v1, c, det) if swap else row.formula(ops, _CDF, g, v1, v2, c, det)
    return None if own is None else own + c * slope / (spread * ops.sqrt(2 * ops.pi * spread))


def _gauss_prime_any(ops: Operations[N], f: Univariate, g: Univariate, v1: N, v2: N, c: N, det: N) -> N | None:
    """Tilting and Stein: E -2au e^(-au²) g(v) = -2a c (1 + 2a v1)^(-3/2) E g'(w), w as for gauss."""
    a = ops.number(f.params[0])
    spread = 1 + 2 * a * v1
    slope = singles.mean_derivative(ops, g, 1, (v2 + 2 * a * det) / spread)
    return None if slope is None else -2 * a * c * slope / (spread * ops.sqrt(spread))


_CDF = normal_cdf()
_ALL_SIDED = frozenset(SIDED)
_NOISY = frozenset({"erf", "erfc", "normal_cdf"})
_POLYNOMIALS = frozenset({"monomial", "hermite"})
_EXP, _GAUSS, _TRIG, _GELU = (frozenset(s.split()) for s in ("exp", "gauss", "sin cos", "gelu"))
_HYPERBOLIC = frozenset({"sinh", "cosh"})
_GAUSS_PRIME, _GELU_PRIME = frozenset({"gauss_prime"}), frozenset({"gelu_prime"})
_REAL = frozenset({"real_power"})
_JUMPS = frozenset({"step", "sign", "leaky_step"}) | _NOISY
_BENDS = frozenset({"relu", "leaky_relu", "abs"})
_SMOOTH = _EXP | _HYPERBOLIC | _GAUSS | _TRIG | _GELU | _GELU_PRIME

ROWS: tuple[KernelRow, ...] = (
    KernelRow(_POLYNOMIALS, _POLYNOMIALS, _polynomial_any, "Isserlis 1918 (Wick); Mehler 1866"),
    KernelRow(
        _JUMPS,
        _JUMPS,
        _sided_sided,
        "Sheppard 1899; Cho & Saul 2009, eq. 4; erf: Williams 1997, eq. 11",
        arccos_in_place.order0,
    ),
    KernelRow(_BENDS, _BENDS, _sided_sided, "Cho & Saul 2009, eq. 6", arccos_in_place.order1),
    KernelRow(_ALL_SIDED - _NOISY, _ALL_SIDED - _NOISY, _sided_sided, "Cho & Saul 2009, eqs. 1-7; mixed orders: Stein"),
    KernelRow(_GAUSS, _POLYNOMIALS, _gauss_any, "tilting (no cancellation, unlike Mehler's sum)"),
    KernelRow(
        _GAUSS_PRIME,
        _POLYNOMIALS | _ALL_SIDED | _SMOOTH | _GAUSS_PRIME | _REAL,
        _gauss_prime_any,
        "tilting; Stein 1981",
    ),
    KernelRow(_POLYNOMIALS, _ALL_SIDED | _SMOOTH | _REAL, _polynomial_any, "Mehler 1866; Stein 1981; Price 1958"),
    KernelRow(_ALL_SIDED, _ALL_SIDED, _sided_sided, "Cho & Saul 2009 at variances + 1/2 (erf is a noisy sign)"),
    KernelRow(_EXP, _ALL_SIDED | _SMOOTH | _REAL, _exp_any, "Cameron & Martin 1944"),
    KernelRow(_GAUSS, _ALL_SIDED | _SMOOTH | _REAL, _gauss_any, "Williams 1997, eq. 13 (Gaussian units); tilting"),
    KernelRow(_HYPERBOLIC, _HYPERBOLIC, _hyperbolic_twice, "Cameron & Martin 1944"),
    KernelRow(_HYPERBOLIC, _ALL_SIDED | _TRIG | _GELU | _GELU_PRIME, _hyperbolic_any, "Cameron & Martin 1944"),
    KernelRow(_REAL, _REAL | (_ALL_SIDED - _NOISY), powers.pair, "Nabeya 1951"),
    KernelRow(_TRIG, _TRIG, _trig_trig, "Rahimi & Recht 2007; Lee et al. 2018 (characteristic function)"),
    KernelRow(_TRIG, _ALL_SIDED, _trig_sided, "Cameron & Martin 1944 at imaginary shift; DLMF 7.18"),
    KernelRow(_TRIG, _GELU, _trig_gelu, "Stein 1981; Cameron & Martin 1944 at imaginary shift"),
    KernelRow(_GELU, _ALL_SIDED, _gelu_sided, "conditioning on the noisy arguments"),
    KernelRow(_GELU, _GELU, _gelu_gelu, "Tsuchida et al. 2021, eq. 4; Neural Tangents (Novak et al. 2020), Gelu"),
    KernelRow(_GELU_PRIME, _GELU_PRIME, _gelu_prime_twice, "Tsuchida et al. 2021"),
    KernelRow(_GELU_PRIME, _ALL_SIDED | _TRIG | _GELU, _gelu_prime_any, "Φ + uφ: noisy step, and tilting"),
)


def row_of(f: Univariate, g: Univariate) -> tuple[KernelRow, bool] | None:
    """The row of a pair, and whether f and g change places in it."""
    return _row(f.name, g.name)


@lru_cache(maxsize=1024)
def _row(one: str, other: str) -> tuple[KernelRow, bool] | None:
    for row in ROWS:
        if one in row.first and other in row.second:
            return row, False
        if other in row.first and one in row.second:
            return row, True
    return None
