"""Closed forms of Gaussian expectations, one theorem per row: E f(u) g(v) for centred (u, v), and E f(x).

A row is written once, in `Operations`; `pair` runs it on arrays, `formula` on SymPy symbols. Functions are found by
family, so cross-expectations of different functions need no row of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tp_compiler.evaluate import fast, singles
from tp_compiler.evaluate.arccosine import SIDED, Sided, noisy, sided, sided_pair, sides
from tp_compiler.evaluate.operations import ARRAYS, Operations, SymbolicOperations, at
from tp_compiler.evaluate.univariate import Array, Univariate, monomial, normal_cdf

Formula = Callable[[Operations, Univariate, Univariate, Any, Any, Any, Any], Any]

_RELU, _STEP, _RELU_SQUARED = sides(1, 1, 0), sides(0, 1, 0), sides(2, 1, 0)
_BLOCK = 1 << 16  # elements per pass: a block and its temporaries stay in cache


@dataclass(frozen=True)
class Row:
    """E f(u) g(v) for f named in `first` and g in `second` (order irrelevant).

    `formula(ops, f, g, v1, v2, c, det)`, det = v1 v2 - c², returns None for the members it does not cover.
    """

    first: frozenset[str]
    second: frozenset[str]
    formula: Formula
    source: str
    fast: Callable[[Sided, Sided, Any, Any, Any], tuple[Any, Any]] | None = None  # for most entries (fast.py)


def _shape(f: Univariate) -> Sided:
    shape = sided(f)
    assert shape is not None
    return shape


def _sided_sided(ops: Operations, f: Univariate, g: Univariate, v1: Any, v2: Any, c: Any, det: Any) -> Any:
    """Arc-cosine and arc-sine kernels: `arccosine.moment` at the variances with noise."""
    a, b = _shape(f), _shape(g)
    v1, v2, det = noisy(ops, a.halves, b.halves, v1, v2, det)
    return sided_pair(ops, a, b, v1, v2, c, det)


def _polynomial_any(ops: Operations, p: Univariate, g: Univariate, v1: Any, v2: Any, c: Any, det: Any) -> Any:
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


def _exp_any(ops: Operations, f: Univariate, g: Univariate, v1: Any, v2: Any, c: Any, det: Any) -> Any:
    """Cameron-Martin: E e^u g(v) = e^(v1/2) E g(v + c)."""
    if g.name == "exp":
        return ops.exp(((v1 + c) + (v2 + c)) / 2)
    if g.name in ("sin", "cos"):
        return ops.exp((v1 - v2) / 2) * (ops.sin(c) if g.name == "sin" else ops.cos(c))
    average = singles.mean(ops, g, c, v2)
    return None if average is None else ops.exp(v1 / 2) * average


def _gauss_any(ops: Operations, f: Univariate, g: Univariate, v1: Any, v2: Any, c: Any, det: Any) -> Any:
    """Tilting: E e^(-au²) g(v) = (1 + 2a v1)^(-1/2) E g(w), w ~ N(0, (v2 + 2a det)/(1 + 2a v1))."""
    a = ops.number(f.params[0] if f.name == "gauss" else 1.0)
    spread = 1 + 2 * a * v1
    average = singles.mean(ops, g, ops.rational(0), (v2 + 2 * a * det) / spread)
    return None if average is None else average / ops.sqrt(spread)


def _trig_trig(ops: Operations, f: Univariate, g: Univariate, v1: Any, v2: Any, c: Any, det: Any) -> Any:
    """sin, sin: e^(-(v1+v2)/2) sinh c; cos, cos: the same with cosh; sin, cos: 0 (odd)."""
    if f.name != g.name:
        return ops.rational(0) * (c + v1 + v2)
    return ops.damped_sinh(c, v1, v2) if f.name == "sin" else ops.damped_cosh(c, v1, v2)


def _trig_sided(ops: Operations, f: Univariate, g: Univariate, v1: Any, v2: Any, c: Any, det: Any) -> Any:
    """E e^(iu) g(v) = e^(-v1/2) E g(v + ic): for one parity v^n against sin or cos, for the other one repeated integrals
    of φ at an imaginary argument, which are derivatives of Dawson's D: E sin(u) sgn(v)|v|^n (n even) and E cos(u)|v|^n
    (n odd) are ±(2/√π) (v2/2)^(n/2) D⁽ⁿ⁾(c/√(2 v2)) e^(-det/(2 v2)), + for n = 0, 1 mod 4."""
    shape = _shape(g)
    part, n = shape.odd if f.name == "sin" else shape.even, shape.order
    _, v2n, detn = noisy(ops, 0, shape.halves, v1, v2, det)
    if part == 0.0:
        return ops.rational(0) * (c + v1 + v2)
    if n % 2 == (f.name == "sin"):
        return ops.number(part) * _polynomial_any(ops, monomial(n), f, v2n, v1, c, det)
    root = ops.sqrt(v2n / 2)
    damped = ops.dawson(n, c / (2 * root)) * ops.exp(-detn / (2 * v2n)) / ops.sqrt(ops.pi)
    return (2 * (-1) ** (n // 2) * ops.number(part)) * damped * (root**n if n else 1)


def _trig_gelu(ops: Operations, f: Univariate, g: Univariate, v1: Any, v2: Any, c: Any, det: Any) -> Any:
    """gelu(v) = v/2 + an even function: sin meets the first, c/2 e^(-v1/2); cos the second, by E gelu(v + ic) as above:
    (v2 D'(y) - 2y D(y)) e^(-(det + v1)/(2w²))/(w √2π), w² = 1 + v2, y = c/(w√2)."""
    if f.name == "sin":
        return c * ops.exp(-v1 / 2) / 2
    square = 1 + v2
    y = c / ops.sqrt(2 * square)
    bracket = v2 * ops.dawson(1, y) - 2 * y * ops.dawson(0, y)
    return bracket * ops.exp(-(det + v1) / (2 * square)) / ops.sqrt(2 * ops.pi * square)


def _gelu_sided(ops: Operations, f: Univariate, g: Univariate, v1: Any, v2: Any, c: Any, det: Any) -> Any:
    """gelu(u) = E u 1[a > 0], a = u + N(0, 1). With b = v + noise, E[u | a, b] = (det' a + c b)/D, so the average is
    det'/D E a₊ g(b) + c/D E 1[a > 0] b g(b), D = det of (a, b), det' = D - (variance of b)."""
    shape = _shape(g)
    w1, w2, wdet = noisy(ops, 2, shape.halves, v1, v2, det)
    _, _, udet = noisy(ops, 0, shape.halves, v1, v2, det)
    first = sided_pair(ops, _RELU, shape, w1, w2, c, wdet)
    second = sided_pair(ops, _STEP, shape.times_x(), w1, w2, c, wdet)
    return (udet * first + c * second) / wdet


def _gelu_gelu(ops: Operations, f: Univariate, g: Univariate, v1: Any, v2: Any, c: Any, det: Any) -> Any:
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


def _gelu_prime_twice(ops: Operations, f: Univariate, g: Univariate, v1: Any, v2: Any, c: Any, det: Any) -> Any:
    """(Φ + uφ)(Φ + vφ): M_00 at unit noise, and Gaussian integrals; ∂/∂c of the gelu kernel."""
    w1, w2, d = noisy(ops, 2, 2, v1, v2, det)
    root = ops.sqrt(d)
    smooth = (1 / w1 + 1 / w2 + 1 / d) / root
    return sided_pair(ops, _STEP, _STEP, w1, w2, c, d) + c * smooth / (2 * ops.pi)


def _gelu_prime_any(ops: Operations, f: Univariate, g: Univariate, v1: Any, v2: Any, c: Any, det: Any) -> Any:
    """Φ(u) is a row of its own; E uφ(u) g(v) = c E g'(w)/(√2π (1 + v1)^(3/2)), w ~ N(0, (v2 + det)/(1 + v1))."""
    found = row_of(_CDF, g)
    spread = 1 + v1
    slope = singles.mean_derivative(ops, g, 1, (v2 + det) / spread)
    if found is None or slope is None:
        return None
    row, swap = found
    own = row.formula(ops, g, _CDF, v2, v1, c, det) if swap else row.formula(ops, _CDF, g, v1, v2, c, det)
    return None if own is None else own + c * slope / (spread * ops.sqrt(2 * ops.pi * spread))


def _gauss_prime_any(ops: Operations, f: Univariate, g: Univariate, v1: Any, v2: Any, c: Any, det: Any) -> Any:
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
_GAUSS_PRIME, _GELU_PRIME = frozenset({"gauss_prime"}), frozenset({"gelu_prime"})
_JUMPS = frozenset({"step", "sign", "leaky_step"}) | _NOISY
_BENDS = frozenset({"relu", "leaky_relu", "abs"})
_SMOOTH = _EXP | _GAUSS | _TRIG | _GELU | _GELU_PRIME

ROWS: tuple[Row, ...] = (
    Row(_POLYNOMIALS, _POLYNOMIALS, _polynomial_any, "Isserlis 1918 (Wick); Mehler 1866"),
    Row(_JUMPS, _JUMPS, _sided_sided, "Sheppard 1899; Cho & Saul 2009, eq. 4; erf: Williams 1997, eq. 11", fast.jumps),
    Row(_BENDS, _BENDS, _sided_sided, "Cho & Saul 2009, eq. 6", fast.bends),
    Row(_ALL_SIDED - _NOISY, _ALL_SIDED - _NOISY, _sided_sided, "Cho & Saul 2009, eqs. 1-7; mixed orders: Stein"),
    Row(_GAUSS, _POLYNOMIALS, _gauss_any, "tilting (no cancellation, unlike Mehler's sum)"),
    Row(_GAUSS_PRIME, _POLYNOMIALS | _ALL_SIDED | _SMOOTH | _GAUSS_PRIME, _gauss_prime_any, "tilting; Stein 1981"),
    Row(_POLYNOMIALS, _ALL_SIDED | _SMOOTH, _polynomial_any, "Mehler 1866; Stein 1981; Price 1958"),
    Row(_ALL_SIDED, _ALL_SIDED, _sided_sided, "Cho & Saul 2009 at variances + 1/2 (erf is a noisy sign)"),
    Row(_EXP, _ALL_SIDED | _SMOOTH, _exp_any, "Cameron & Martin 1944"),
    Row(_GAUSS, _ALL_SIDED | _SMOOTH, _gauss_any, "Williams 1997, eq. 13 (Gaussian units); tilting"),
    Row(_TRIG, _TRIG, _trig_trig, "Rahimi & Recht 2007; Lee et al. 2018 (characteristic function)"),
    Row(_TRIG, _ALL_SIDED, _trig_sided, "Cameron & Martin 1944 at imaginary shift; DLMF 7.18"),
    Row(_TRIG, _GELU, _trig_gelu, "Stein 1981; Cameron & Martin 1944 at imaginary shift"),
    Row(_GELU, _ALL_SIDED, _gelu_sided, "conditioning on the noisy arguments"),
    Row(_GELU, _GELU, _gelu_gelu, "Tsuchida et al. 2021, eq. 4; Neural Tangents (Novak et al. 2020), Gelu"),
    Row(_GELU_PRIME, _GELU_PRIME, _gelu_prime_twice, "Tsuchida et al. 2021"),
    Row(_GELU_PRIME, _ALL_SIDED | _TRIG | _GELU, _gelu_prime_any, "Φ + uφ: noisy step, and tilting"),
)


def row_of(f: Univariate, g: Univariate) -> tuple[Row, bool] | None:
    """The row of a pair, and whether f and g change places in it."""
    for row in ROWS:
        if f.name in row.first and g.name in row.second:
            return row, False
        if g.name in row.first and f.name in row.second:
            return row, True
    return None


def pair(f: Univariate, g: Univariate, v1: Any, v2: Any, c: Any, same: Any = None) -> Array | None:
    """E f(u) g(v), (u, v) ~ N(0, [[v1, c], [c, v2]]), arrays broadcast; None when there is no closed form.

    `same` marks entries where u and v are one variable: c and v2 are then read as v1. A variance of exactly 0 gives
    the value at 0, with the language's conventions there (step(0) = 0). |c| beyond √(v1 v2) by rounding is clipped.
    """
    found = row_of(f, g)
    if found is None:
        return None
    row, swap = found
    (f, v1), (g, v2) = ((g, v2), (f, v1)) if swap else ((f, v1), (g, v2))
    v1, v2, c = (np.asarray(a, dtype=np.float64) for a in (v1, v2, c))
    if same is not None:
        own = v2 if swap else v1
        v1, v2, c = np.where(same, own, v1), np.where(same, own, v2), np.where(same, own, c)
    shape = np.broadcast_shapes(v1.shape, v2.shape, c.shape)
    out = np.empty(shape)
    dims = max(len(shape), 1)
    arrays = [a.reshape((1,) * (dims - a.ndim) + a.shape) for a in (v1, v2, c)]
    rows = out.reshape(shape or (1,))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        return out if _fill(row, f, g, arrays, rows) else None


def _fill(row: Row, f: Univariate, g: Univariate, arrays: list[Array], out: Array) -> bool:
    """Block by block; the entries that need care are gathered, and done at the end."""
    careful: list[tuple[Any, ...]] = []
    for block in _blocks(out.shape):
        part = [a[block] if len(a) > 1 else a for a in arrays]
        value, near = _block(row, f, g, *part, quick=True)
        if value is None:
            return False
        out[block] = value
        if near is not None:
            careful.append((near[0] + block.start, *near[1:]))
    if careful:
        where = tuple(np.concatenate(indices) for indices in zip(*careful, strict=True))
        for block in _blocks(where[0].shape):
            here = tuple(i[block] for i in where)
            out[here] = _block(row, f, g, *(at(a, here) for a in arrays), quick=False)[0]
    return True


def _blocks(shape: tuple[int, ...]) -> list[slice]:
    step = max(1, _BLOCK // max(1, int(np.prod(shape[1:]))))
    return [slice(start, start + step) for start in range(0, shape[0], step)] or [slice(0, 0)]


def _block(row: Row, f: Univariate, g: Univariate, v1: Array, v2: Array, c: Array, *, quick: bool) -> tuple[Any, Any]:
    """One block, in the scaled variables; entries with a constant argument are filled in afterwards."""
    sv1, sv2, sc, near = v1, v2, c, None
    if (f.scale, g.scale) != (1.0, 1.0):
        sv1, sv2, sc = v1 * f.scale**2, v2 * g.scale**2, c * (f.scale * g.scale)
    constant = (sv1 <= 0) | (sv2 <= 0) if not (sv1.min(initial=1) > 0 and sv2.min(initial=1) > 0) else None
    if constant is not None:
        sv1, sv2, sc = np.where(sv1 > 0, sv1, 1.0), np.where(sv2 > 0, sv2, 1.0), np.where(constant, 0.0, sc)
    if quick and row.fast is not None:
        value, near = row.fast(_shape(f), _shape(g), sv1, sv2, sc)
    else:
        value = row.formula(ARRAYS, f, g, sv1, sv2, sc, ARRAYS.determinant(sv1, sv2, sc))
    if value is not None and f.factor * g.factor != 1.0:
        value = value * (f.factor * g.factor)
    if value is not None and constant is not None:
        product = np.asarray(single(f, 0.0, np.maximum(v1, 0.0))) * np.asarray(single(g, 0.0, np.maximum(v2, 0.0)))
        value = np.where(constant, product, value)
    return value, near


def single(f: Univariate, mean: Any, variance: Any) -> Array | None:
    """E f(x), x ~ N(mean, variance), arrays broadcast; f(mean) where the variance is 0; None without a closed form."""
    m, v = np.broadcast_arrays(np.asarray(mean, dtype=np.float64), np.asarray(variance, dtype=np.float64))
    shape = m.shape
    m, v = np.atleast_1d(m) * f.scale, np.atleast_1d(v) * f.scale**2
    fixed = ~(v > 0)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        value = singles.mean(ARRAYS, f, m, np.where(fixed, 1.0, v))
        if value is None:
            return None
        result = np.where(fixed, f.base(m), value) if fixed.any() else np.asarray(value + 0.0 * m)
    return (f.factor * result).reshape(shape)


def formula(f: Univariate, g: Univariate | None = None) -> Any | None:
    """The SymPy formula: of E f(u) g(v) in positive v1, v2 and real c, or of E f(x) in real m and positive v."""
    import sympy

    ops = SymbolicOperations()
    factor = ops.number(f.factor) * (ops.number(g.factor) if g is not None else 1)
    if g is None:
        m, v = sympy.Symbol("m", real=True), sympy.Symbol("v", positive=True)
        scale = ops.number(f.scale)
        value = singles.mean(ops, f, m * scale, v * scale**2)
        return None if value is None else factor * value
    v1, v2 = sympy.symbols("v1 v2", positive=True)
    c = sympy.Symbol("c", real=True)
    found = row_of(f, g)
    if found is None:
        return None
    row, swap = found
    (f, w1), (g, w2) = ((g, v2), (f, v1)) if swap else ((f, v1), (g, v2))
    a, b = ops.number(f.scale), ops.number(g.scale)
    w1, w2, w = w1 * a**2, w2 * b**2, c * a * b
    value = row.formula(ops, f, g, w1, w2, w, ops.determinant(w1, w2, w))
    return None if value is None else factor * value


def source(f: Univariate, g: Univariate) -> str | None:
    """Where the closed form of a pair is proved."""
    found = row_of(f, g)
    return None if found is None else found[0].source
