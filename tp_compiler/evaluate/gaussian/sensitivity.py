"""How the closed forms of `arccos_in_place` propagate errors of variances and covariances, and their rounding: bounds of
their derivatives, one for all pairs of two large families.

By Price's theorem ∂/∂c E f(u) g(v) = E f'(u) g'(v). With ρ = c/√(v1 v2) the kernels of order 1 are K = √(v1 v2) κ(ρ),
|κ'| ≤ √(E f'² E g'²), and v1 ∂K/∂v1 = |even|/π √(v1 v2 - c²). Those of order 0 are even + odd (2/π) arcsin ρ, whose
slope 1/√(1 - ρ²) follows from their largest value; noise (erf) keeps ρ away from 1. On the diagonal of a kernel the
errors of v1, v2 and c are the same error, and have less effect than elsewhere.
"""

from __future__ import annotations

import math

import numpy as np

from tp_compiler.evaluate.array_types import Array, Error, Numbers
from tp_compiler.evaluate.bulk import EPS, Bulk
from tp_compiler.evaluate.gaussian import arccos_in_place
from tp_compiler.evaluate.gaussian.arccosine import Sided, shape_of
from tp_compiler.evaluate.gaussian.kernel_table import row_of
from tp_compiler.evaluate.gaussian.univariate import Univariate

Known = tuple[Array, Error]  # values that broadcast to the kernel, and their errors
Scaled = tuple[Array, Numbers]  # the same, where the function has scale 1

_ROUNDED = 8.0  # rounding error of the formulas, in EPS; at most 6 were seen at three million random points
_STEEPEST = 1 / math.sqrt(
    1 - arccos_in_place.STEEP**2
)  # beyond, the formula in use has rounding errors that the slope does not amplify
_SECOND = 1 + 1e-6  # margin for terms of second order in the errors
_SMALL = 1e-7  # no bound is claimed for larger relative errors
_BLOCK = 2**15  # pairs at a time
_ROWS = 64  # of a kernel, at a time


def of_kernel(
    f: Univariate, g: Univariate, first: Known, second: Known, c: Array, off: Bulk | None, value: Array, symmetric: bool
) -> Bulk | None:
    """The error of E f(u) g(v) at all pairs; None if no bound is known. `off` is the error of the covariances; `symmetric`
    says that u and v run over one family, so that they are one variable on the diagonal."""
    found = row_of(f, g)
    if found is None or found[0].fast is None or off is None:
        return None
    scale = abs(f.scale * g.scale)
    (v1, e1), (v2, e2) = _scaled(f, *first), _scaled(g, *second)
    off = Bulk(off.share, off.floor * scale)
    if not (np.min(v1) > 0 and np.min(v2) > 0 and max(np.max(e1 / v1), np.max(e2 / v2), off.share) < _SMALL):
        return None
    if found[0].fast is arccos_in_place.order1:
        return _bends(f, g, (v1, e1), (v2, e2), c * scale if scale != 1.0 else c, off, symmetric)
    return _jumps(f, g, (v1, e1), (v2, e2), off, value, symmetric)


def size_of_terms(f: Univariate, g: Univariate, first: Array, second: Array) -> Array | None:
    """A bound of the two terms, even and odd, whose sum is E f(u) g(v); None if they do not cancel, or the formula in use
    loses no digits where they do."""
    found = row_of(f, g)
    if found is None or found[0].fast is None:
        return None
    a, b = shape_of(f), shape_of(g)
    factor = abs(f.factor * g.factor)
    if found[0].fast is not arccos_in_place.order1:
        level, height = abs(a.even * b.even), abs(a.odd * b.odd)
        return None if level in (0.0, height) else np.asarray(factor * (level + height))
    if abs(a.even * b.even) in (0.0, abs(a.odd * b.odd)):
        return None
    scale = abs(f.scale * g.scale)
    return np.asarray(factor * scale * _slope(a) * _slope(b) * np.sqrt(first) * np.sqrt(second))


def of_variances(f: Univariate, variance: Array, error: Error, value: Array) -> Array | None:
    """The errors of E f(u)² for many u; None if no bound is known."""
    found = row_of(f, f)
    if found is None or found[0].fast is None:
        return None
    v, e = _scaled(f, variance, error)
    if not (np.min(v) > 0 and np.max(e / v) < _SMALL):
        return None
    if found[0].fast is arccos_in_place.order1:
        return np.abs(value) * (_SECOND * e / v + _ROUNDED * EPS)
    return _one_variable(f, v, e)


def _scaled(f: Univariate, variance: Array, error: Error) -> Scaled:
    return f.scale**2 * np.asarray(variance), 0.0 if error is None else f.scale**2 * np.asarray(error)


def _slope(f: Sided) -> float:
    """√(E f'²) of order 1."""
    return math.hypot(f.even, f.odd)


def _bends(
    f: Univariate, g: Univariate, first: Scaled, second: Scaled, c: Array, off: Bulk, symmetric: bool
) -> Bulk | None:
    """Laws on the line between two laws are laws. Clipping at ±√(v1 v2) adds as much again."""
    (v1, e1), (v2, e2) = first, second
    a, b = shape_of(f), shape_of(g)
    size = abs(f.factor * g.factor)
    steepest, share = size * _slope(a) * _slope(b), size * abs(a.even * b.even) / math.pi
    reach = math.sqrt(np.max(v1)) * math.sqrt(np.max(v2))
    low, high = _ratios(v1, v2, c, symmetric)
    moved, relative = off.within(reach), float(np.max(e1 / v1) + np.max(e2 / v2))
    clipped = max(high - 1, -low - 1, 0.0) * reach
    near = max(low, -high, 0.0)  # |ρ| of all pairs is at least that
    apart = math.sqrt(max(1 - near**2, 0.0) + 4 * (moved / reach + relative)) * reach
    by_rows = float(np.max(e1 / np.sqrt(v1)) * math.sqrt(np.max(v2)) + np.max(e2 / np.sqrt(v2)) * math.sqrt(np.max(v1)))
    carried = steepest * (moved + clipped) + share * min(apart * relative, by_rows)
    if symmetric:
        carried = max(carried, steepest * float(np.max(e1)))
    return Bulk(0.0, _SECOND * carried + _ROUNDED * EPS * steepest * reach)


def _ratios(v1: Array, v2: Array, c: Array, symmetric: bool) -> tuple[float, float]:
    """The least and the largest c/√(v1 v2) of all pairs, some rows at a time."""
    shape = np.broadcast_shapes(np.shape(v1), np.shape(v2), np.shape(c))
    one, two, c = (np.broadcast_to(x, shape) for x in (1 / np.sqrt(v1), 1 / np.sqrt(v2), c))
    rows = max(1, _BLOCK * shape[0] // c.size)
    low, high = math.inf, -math.inf
    for start in range(0, shape[0], rows):
        part = (slice(start, start + rows), *([slice(start, None)] if symmetric else []))
        ratio = c[part] * one[part]
        ratio *= two[part]
        low, high = min(low, float(np.min(ratio))), max(high, float(np.max(ratio)))
    return low, high


def _jumps(
    f: Univariate, g: Univariate, first: Scaled, second: Scaled, off: Bulk, value: Array, symmetric: bool
) -> Bulk | None:
    (v1, e1), (v2, e2) = first, second
    a, b = shape_of(f), shape_of(g)
    height, level = f.factor * g.factor * a.odd * b.odd * 2 / math.pi, f.factor * g.factor * a.even * b.even
    w1, w2 = v1 + a.halves / 2, v2 + b.halves / 2
    reach, least = (math.sqrt(pick(w1)) * math.sqrt(pick(w2)) for pick in (np.max, np.min))
    angle = _furthest(value, level, symmetric) / abs(height) if height else math.inf
    bound = math.sqrt(np.max(v1 / w1) * np.max(v2 / w2))
    ratio = min(math.sin(min(angle, math.pi / 2)) + 1e-12, bound)
    moved, relative = off.within(ratio * reach), float(np.max(e1 / w1) + np.max(e2 / w2)) / 2
    ratio += moved / least + ratio * relative
    if not ratio < 1:
        return None
    slope = 1 / math.sqrt(1 - ratio**2)
    steepest, tilt, bend = slope / least, slope * ratio, slope * ratio * relative
    if a.halves and b.halves:
        h1, h2 = a.halves / 2, b.halves / 2
        steepest = min(steepest, _noise_alone(h1, h2, np.min(v1), np.min(v2)))
        tilt = min(tilt, math.sqrt(np.max(v1) * np.max(v2)) * _noise_alone(h1, h2, np.max(v1), np.max(v2)))
        bend = min(bend, sum(_bend_of_noise(s.halves / 2, v, e) for s, (v, e) in ((a, first), (b, second))))
    rounded = EPS * (_ROUNDED * abs(height) * min(slope, _STEEPEST) * ratio + 4 * (abs(level) + abs(height)))
    error = _SECOND * abs(height) * (steepest * off.floor + tilt * off.share + bend) + rounded
    return Bulk(0.0, max(error, float(np.max(_one_variable(f, v1, e1)))) if symmetric else error)


def _noise_alone(h1: float, h2: float, v1: float, v2: float) -> float:
    """The largest 1/√(w1 w2 - c²) for noise h1, h2 on variances v1, v2, whatever c. It falls with the variances; times
    the largest c, √(v1 v2), it rises."""
    return float(1 / np.sqrt(h1 * h2 + h1 * v2 + h2 * v1))


def _bend_of_noise(h: float, v: Array, e: Numbers) -> float:
    """The largest c/(2 w √(w1 w2 - c²)) · e for noise h, since c² ≤ v1 v2 and w1 w2 - c² ≥ h v2."""
    return float(np.max(e * np.sqrt(v) / (v + h))) / (2 * math.sqrt(h))


def _furthest(value: Array, level: float, symmetric: bool) -> float:
    """max |K - level|, of a symmetric kernel off the diagonal."""
    if not symmetric:
        return float(max(np.max(value) - level, level - np.min(value)))
    worst = 0.0
    for start in range(0, len(value), _ROWS):
        rows, stop = value[start : start + _ROWS], start + _ROWS
        own = rows[:, start:stop].copy()
        np.fill_diagonal(own, level)
        worst = max(worst, *(_furthest(part, level, False) for part in (own, rows[:, stop:]) if part.size))
    return worst


def _one_variable(f: Univariate, v: Array, e: Numbers) -> Array:
    """The error of order 0 at u = v, where d arcsin ρ / dv = √h/((v + h) √(2v + h)) for noise h, and ρ = 1 without."""
    shape = shape_of(f)
    h, square = shape.halves / 2, f.factor**2
    size, root = square * shape.odd**2 * 2 / math.pi, np.sqrt(2 * v + h)
    steep = np.minimum((v + h) / (math.sqrt(h) * root), _STEEPEST) if h else 1.0
    rounded = EPS * (size * _ROUNDED * (1 + steep) + 4 * square * shape.even**2)
    return _SECOND * size * math.sqrt(h) / ((v + h) * root) * e + rounded
