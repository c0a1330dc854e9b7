"""How the closed forms of `arccos_in_place` propagate errors of variances and covariances, and their rounding: bounds of
their derivatives, one for all pairs of two large families.

By Price's theorem ∂/∂c E f(u) g(v) = E f'(u) g'(v). With ρ = c/√(v1 v2) the kernels of order 1 are K = √(v1 v2) κ(ρ),
|κ'| ≤ √(E f'² E g'²), and v1 ∂K/∂v1 = |even|/π √(v1 v2 - c²). Those of order 0 are even + odd (2/π) arcsin ρ, whose
slope 1/√(1 - ρ²) follows from their largest value; noise (erf) keeps ρ away from 1. On the diagonal of a kernel the
errors of v1, v2 and c are the same error, and have less effect than elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tp_compiler.evaluate.array_types import Array, Error, Numbers
from tp_compiler.evaluate.bulk import EPS, Bulk
from tp_compiler.evaluate.gaussian import arccos_in_place
from tp_compiler.evaluate.gaussian.arccosine import Sided, shape_of
from tp_compiler.evaluate.gaussian.kernel_table import row_of
from tp_compiler.evaluate.gaussian.univariate import Univariate

Known = tuple[Array, Error]  # values that broadcast to the kernel, and their errors
Scaled = tuple[Array, Numbers]  # the same, where the function has scale 1
#: The error of a kernel from that of the covariances, and from the least and the largest ρ; None if no bound is known.
Carried = Callable[[Bulk, tuple[float, float]], Bulk | None]

_ROUNDED = 8.0  # rounding error of the formulas, in EPS; at most 6 were seen at three million random points
_STEEPEST = 1 / math.sqrt(
    1 - arccos_in_place.STEEP**2
)  # beyond, the formula in use has rounding errors that the slope does not amplify
_SECOND = 1 + 1e-6  # margin for terms of second order in the errors
_SMALL = 1e-7  # no bound is claimed for larger relative errors
_BLOCK = 2**15  # pairs at a time
_ROWS = 64  # of a kernel, at a time


@dataclass(frozen=True)
class Variances:
    """The variances v of a family, from `low` to `high`, with errors e. Each of `offs` says that e ≤ share · v + floor."""

    low: float
    high: float
    offs: tuple[Bulk, ...]

    @classmethod
    def of(cls, v: Array, e: Numbers) -> Variances:
        return cls(float(np.min(v)), float(np.max(v)), (Bulk(float(np.max(e / v))), Bulk(0.0, float(np.max(e)))))

    def _least(self, bound: Callable[[float, float], float]) -> float:
        return min(bound(off.share, off.floor) for off in self.offs)

    @cached_property
    def relative(self) -> float:
        """The largest e/v."""
        return self._least(lambda share, floor: share + floor / self.low)

    @cached_property
    def by_root(self) -> float:
        """The largest e/√v."""
        return self._least(lambda share, floor: share * math.sqrt(self.high) + floor / math.sqrt(self.low))

    @cached_property
    def most(self) -> float:
        """The largest e."""
        return self._least(lambda share, floor: share * self.high + floor)

    def with_noise(self, h: float) -> float:
        """The largest e/(v + h)."""
        return self._least(lambda share, floor: share * self.high / (self.high + h) + floor / (self.low + h))

    def bend(self, h: float) -> float:
        """The largest c/(2 w √(w1 w2 - c²)) · e for noise h, since c² ≤ v1 v2 and w1 w2 - c² ≥ h v2."""
        far, near = self.high**1.5 / (self.high + h), 1 / (2 * math.sqrt(h))
        return self._least(lambda share, floor: share * far + floor * near) * near

    def scaled(self, factor: float) -> Variances:
        if factor == 1.0:
            return self
        offs = tuple(Bulk(off.share, off.floor * factor) for off in self.offs)
        return Variances(self.low * factor, self.high * factor, offs)


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
    if not (np.min(v1) > 0 and np.min(v2) > 0):
        return None
    one, two = Variances.of(v1, e1), Variances.of(v2, e2)
    if not (_small(one, two) and off.share < _SMALL):
        return None
    if found[0].fast is arccos_in_place.order1:
        ratios = _ratios(v1, v2, c * scale if scale != 1.0 else c, symmetric)
        return _bends(f, g, one, two, symmetric)(off, ratios)
    a, b = shape_of(f), shape_of(g)
    height, level = f.factor * g.factor * a.odd * b.odd * 2 / math.pi, f.factor * g.factor * a.even * b.even
    angle = _furthest(value, level, symmetric) / abs(height) if height else math.inf
    return _jumps(f, g, one, two, symmetric)(off, (0.0, math.sin(min(angle, math.pi / 2))))


def of_ratios(f: Univariate, g: Univariate, one: Variances, two: Variances, symmetric: bool) -> Carried:
    """The same for many covariances of known variances, whose least and largest ρ (after noise, without the diagonal) are
    known; their error is that of the functions' arguments before these are scaled."""
    found = row_of(f, g)
    assert found is not None
    if not _small(one, two):
        return lambda off, ratios: None
    make = _bends if found[0].fast is arccos_in_place.order1 else _jumps
    carried, scale = make(f, g, one, two, symmetric), abs(f.scale * g.scale)

    def scaled(off: Bulk, ratios: tuple[float, float]) -> Bulk | None:
        return carried(Bulk(off.share, off.floor * scale), ratios) if off.share < _SMALL else None

    return scaled


def _small(one: Variances, two: Variances) -> bool:
    return max(one.relative, two.relative) < _SMALL


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


def _bends(f: Univariate, g: Univariate, one: Variances, two: Variances, symmetric: bool) -> Carried:
    """Laws on the line between two laws are laws. Clipping at ±√(v1 v2) adds as much again."""
    a, b = shape_of(f), shape_of(g)
    size = abs(f.factor * g.factor)
    steepest, share = size * _slope(a) * _slope(b), size * abs(a.even * b.even) / math.pi
    reach = math.sqrt(one.high) * math.sqrt(two.high)
    relative = one.relative + two.relative
    by_rows = one.by_root * math.sqrt(two.high) + two.by_root * math.sqrt(one.high)
    least = steepest * one.most if symmetric else 0.0
    rounded = _ROUNDED * EPS * steepest * reach

    def carried(off: Bulk, ratios: tuple[float, float]) -> Bulk:
        low, high = ratios
        moved = off.within(reach)
        clipped = max(high - 1, -low - 1, 0.0) * reach
        near = max(low, -high, 0.0)  # |ρ| of all pairs is at least that
        apart = math.sqrt(max(1 - near**2, 0.0) + 4 * (moved / reach + relative)) * reach
        total = steepest * (moved + clipped) + share * min(apart * relative, by_rows)
        return Bulk(0.0, _SECOND * max(total, least) + rounded)

    return carried


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


def _jumps(f: Univariate, g: Univariate, one: Variances, two: Variances, symmetric: bool) -> Carried:
    a, b = shape_of(f), shape_of(g)
    height, level = abs(f.factor * g.factor * a.odd * b.odd * 2 / math.pi), abs(f.factor * g.factor * a.even * b.even)
    h1, h2 = a.halves / 2, b.halves / 2
    reach = math.sqrt(one.high + h1) * math.sqrt(two.high + h2)
    closest = math.sqrt(one.low + h1) * math.sqrt(two.low + h2)
    bound = math.sqrt(one.high / (one.high + h1) * two.high / (two.high + h2))
    relative = (one.with_noise(h1) + two.with_noise(h2)) / 2
    least = _most_of_one(f, one) if symmetric else 0.0
    most = (math.inf, math.inf, math.inf)
    if a.halves and b.halves:
        leaning = math.sqrt(one.high * two.high) * _noise_alone(h1, h2, one.high, two.high)
        most = _noise_alone(h1, h2, one.low, two.low), leaning, one.bend(h1) + two.bend(h2)

    def carried(off: Bulk, ratios: tuple[float, float]) -> Bulk | None:
        ratio = min(max(-ratios[0], ratios[1], 0.0) + 1e-12, bound)
        ratio += off.within(ratio * reach) / closest + ratio * relative
        if not ratio < 1:
            return None
        slope = 1 / math.sqrt(1 - ratio**2)
        steepest, tilt = min(slope / closest, most[0]), min(slope * ratio, most[1])
        bend = min(slope * ratio * relative, most[2])
        rounded = EPS * (_ROUNDED * height * min(slope, _STEEPEST) * ratio + 4 * (level + height))
        error = _SECOND * height * (steepest * off.floor + tilt * off.share + bend) + rounded
        return Bulk(0.0, max(error, least))

    return carried


def _noise_alone(h1: float, h2: float, v1: float, v2: float) -> float:
    """The largest 1/√(w1 w2 - c²) for noise h1, h2 on variances v1, v2, whatever c. It falls with the variances; times
    the largest c, √(v1 v2), it rises."""
    return float(1 / np.sqrt(h1 * h2 + h1 * v2 + h2 * v1))


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


def _most_of_one(f: Univariate, law: Variances) -> float:
    """The largest of `_one_variable`: the rounding rises with v."""
    shape = shape_of(f)
    h, square = shape.halves / 2, f.factor**2
    size, root = square * shape.odd**2 * 2 / math.pi, math.sqrt(2 * law.high + h)
    steep = min((law.high + h) / (math.sqrt(h) * root), _STEEPEST) if h else 1.0
    rounded = EPS * (size * _ROUNDED * (1 + steep) + 4 * square * shape.even**2)
    return _SECOND * size * math.sqrt(h) / math.sqrt(2 * law.low + h) * law.with_noise(h) + rounded


def _one_variable(f: Univariate, v: Array, e: Numbers) -> Array:
    """The error of order 0 at u = v, where d arcsin ρ / dv = √h/((v + h) √(2v + h)) for noise h, and ρ = 1 without."""
    shape = shape_of(f)
    h, square = shape.halves / 2, f.factor**2
    size, root = square * shape.odd**2 * 2 / math.pi, np.sqrt(2 * v + h)
    steep = np.minimum((v + h) / (math.sqrt(h) * root), _STEEPEST) if h else 1.0
    rounded = EPS * (size * _ROUNDED * (1 + steep) + 4 * square * shape.even**2)
    return _SECOND * size * math.sqrt(h) / ((v + h) * root) * e + rounded
