"""Expectations over at most three jointly Gaussian variables, to a stated tolerance, by nested rules.

The variables are whitened (x = mean + A z, A lower triangular) and integrated axis by axis, so each rule knows, given
the earlier coordinates, where its functions are steep or kinked (`rules`). Dependent variables take no axis: duplicates
and zero variances lower the dimension exactly. The number of nodes doubles until two rules agree; their difference
is the error returned. Work goes in blocks of bounded memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.polynomial import hermite_e
from numpy.typing import ArrayLike

from tp_compiler.evaluate.array_types import Array, Mask, Whole
from tp_compiler.evaluate.budget import current
from tp_compiler.evaluate.gaussian import rules
from tp_compiler.evaluate.gaussian.operations import ARRAYS
from tp_compiler.evaluate.gaussian.rules import QuadratureRule
from tp_compiler.evaluate.gaussian.univariate import Univariate
from tp_compiler.shapes import Float

SIZES = {0: (1, 2), 1: tuple(24 * 2**k for k in range(10)), 2: (24, 48, 96, 192, 384, 768), 3: (16, 32, 64, 128)}
#: Where there are kinks: as long as functions are not steep, Gauss-Legendre needs the fewest nodes.
PLAIN = {1: (20, 32, 56), 2: (20, 32, 48, 72), 3: (16, 24, 32)}
NARROW = 0.6  # standard deviations of an axis: a kink blurred by less is cut out
STEEP = 4.0  # standard deviations of a variable above which its functions may be too steep for that
MAPPED, WIDE, CUT = range(3)
MOST_POINTS = 2**23  # of one integral
BLOCK = 2**19  # function values at a time
ROUNDING = 8 * 2.0**-52  # below this share of its variance, a variable's own randomness is rounding
RTOL, ATOL = 1e-12, 1e-14
RADII = (rules.REACH, 14.0, 20.0, 28.0, 38.0)  # the axes end at one of them
FALLEN = 1e-17  # an axis ends where |f| φ is less than this part of E|f|,
TINY = float(np.finfo(float).tiny)  # or underflows

Joint = Callable[[Array], Any]


def expectation(
    functions: Sequence[Univariate],
    means: ArrayLike,
    covariance: ArrayLike,
    *,
    rtol: float = RTOL,
    atol: float = ATOL,
) -> tuple[Array, Array]:
    """E Π_k f_k(x_k), x ~ N(means, covariance); means (..., p), covariance (..., p, p), p ≤ 3.

    Returns (value, error) of the leading shape. The error is nan where a value is not finite.
    """
    features = [f.kinks for f in functions]
    return _refined(_Integral(list(functions), None, features), means, covariance, rtol, atol)


def expectation_of(
    function: Joint,
    means: ArrayLike,
    covariance: ArrayLike,
    *,
    kinks: Sequence[tuple[float, ...]] | None = None,
    rtol: float = RTOL,
    atol: float = ATOL,
) -> tuple[Array, Array]:
    """E f(x) of one function of up to three Gaussians, points (..., p) to values (...).

    f is assumed analytic, except for kinks on the planes x_k = κ, κ in kinks[k].
    """
    p = np.shape(means)[-1]
    features: list[tuple[float, ...]] = list(kinks) if kinks is not None else [()] * p
    return _refined(_Integral([], function, features), means, covariance, rtol, atol)


def polynomial(function: Joint, means: ArrayLike, covariance: ArrayLike, degree: int) -> tuple[Array, Array]:
    """E f(x) of a polynomial of at most this degree in any number of Gaussians, points (..., p) to values (...).

    Gauss-Hermite rules of degree/2 + 1 nodes an axis are exact (Davis and Rabinowitz 1984, section 2.7); what two rules
    differ by is rounding, and so is the error returned.
    """
    covariance = np.asarray(covariance, dtype=np.float64)
    p = covariance.shape[-1]
    shape = np.broadcast_shapes(np.shape(means)[:-1], covariance.shape[:-2])
    mean = np.broadcast_to(np.asarray(means, dtype=np.float64), (*shape, p)).reshape(-1, p)
    root = lower_root(np.broadcast_to(covariance, (*shape, p, p)).reshape(-1, p, p))
    axes = np.flatnonzero(np.any(np.diagonal(root, axis1=1, axis2=2) > 0, axis=0))
    found = [_hermite_sum(function, mean, root[:, :, axes], degree // 2 + more) for more in (1, 2)]
    (first, _), (value, size) = found
    return value.reshape(shape), (np.abs(value - first) + (degree + 4) * 2.0**-52 * size).reshape(shape)


def _hermite_sum(function: Joint, mean: Array, root: Array, count: int) -> tuple[Array, Array]:
    """Σ w f, and Σ w |f|, block by block."""
    x, w = hermite_e.hermegauss(count)
    axes = root.shape[-1]
    points = count**axes
    total, size = np.zeros(len(mean)), np.zeros(len(mean))
    step = max(1, BLOCK // points)
    for begin in range(0, points, BLOCK):
        current().poll(min(BLOCK, points) * mean.size)
        grid = np.stack(np.unravel_index(np.arange(begin, min(points, begin + BLOCK)), (count,) * axes or (1,)))[:axes]
        z, weights = x[grid], np.prod(w[grid] / np.sqrt(2 * np.pi), axis=0)
        for start in range(0, len(mean), step):
            rows = slice(start, start + step)
            at = mean[rows, None, :] + np.einsum("kpa,an->knp", root[rows], z)
            value = weights * np.asarray(function(at), dtype=np.float64)
            total[rows] += value.sum(axis=1)
            size[rows] += np.abs(value).sum(axis=1)
    return total, size


class _Integral:
    """The integrand, and its nested sums."""

    def __init__(self, functions: list[Univariate], joint: Joint | None, kinks: list[tuple[float, ...]]):
        self.functions, self.joint, self.kinks = functions, joint, kinks
        self.p = len(kinks)
        self.reach = rules.REACH

    def points(self, axes: Sequence[int], rule: QuadratureRule) -> int:
        """The largest number of points of one integral."""
        total = 1
        for axis in axes:
            breaks = sum(max(1, len(k)) for k in self.kinks[axis:])
            breaks += 2 * sum(len(k) for k in self.kinks[axis + 1 :]) if rule.cut else 0
            breaks += 2 if rule.plain else 0
            total *= rule.n * (1 + breaks if any(self.kinks[axis:]) else 1)
        return total

    def value(self, mean: Array, root: Array, axes: Sequence[int], rule: QuadratureRule, size: bool = False) -> Array:
        """The nested sum over `axes` at conditional means (k, p); `size` is the sum of the absolute value."""
        current().poll()
        start = axes[0] if axes else self.p
        factor = self._factors(mean, range(start), size)
        if not axes:
            return self._leaf(mean, size) if self.joint is not None else factor
        return factor * self._sum(mean, root, axes, rule, size)

    def _sum(self, mean: Array, root: Array, axes: Sequence[int], rule: QuadratureRule, size: bool) -> Array:
        axis, rest = axes[0], axes[1:]
        slopes = root[:, :, axis]
        blur = rules.blur(root, axis)
        z, weights = rules.nodes(mean[:, axis:], slopes[:, axis:], blur, self.kinks[axis:], rule, self.reach)
        current().poll(z.size * self.p)
        x = mean[:, None, :] + slopes[:, None, :] * z[..., None]
        if not rest and self.joint is not None:
            return _rowwise(weights, self._leaf(x, size))
        if not rest:
            return _rowwise(weights, self._factors(x, range(axis, self.p), size))
        count = z.shape[1]
        flat = x.reshape(-1, self.p)
        inner = self._sum(flat, np.repeat(root, count, axis=0), rest, rule, size).reshape(z.shape)
        return _rowwise(weights * self._factors(x, range(axis, rest[0]), size), inner)

    def _factors(self, x: Array, which: range, size: bool) -> Array:
        result = np.ones(x.shape[:-1])
        for k in which:
            if self.functions:
                result *= self.functions[k](x[..., k])
        return np.abs(result) if size else result

    def at(self, x: Array) -> Array:
        """|f| at points (..., p)."""
        return self._leaf(x, True) if self.joint is not None else self._factors(x, range(self.p), True)

    def _leaf(self, x: Array, size: bool) -> Array:
        assert self.joint is not None
        result = np.asarray(self.joint(x), dtype=np.float64)
        return np.abs(result) if size else result


def _rowwise(weights: Array, values: Array) -> Array:
    """Σ_n w_kn f_kn for every k."""
    return np.asarray(np.einsum("kn,kn->k", weights, values))


def _refined(
    integral: _Integral,
    means: ArrayLike,
    covariance: ArrayLike,
    rtol: float,
    atol: float,
) -> tuple[Array, Array]:
    p = integral.p
    if p > 3:
        raise ValueError("quadrature is for at most three Gaussians")
    covariance = np.asarray(covariance, dtype=np.float64)
    shape = np.broadcast_shapes(np.shape(means)[:-1], covariance.shape[:-2])
    mean = np.broadcast_to(np.asarray(means, dtype=np.float64), (*shape, p)).reshape(-1, p)
    root = lower_root(np.broadcast_to(covariance, (*shape, p, p)).reshape(-1, p, p))
    value, error = np.full(len(mean), np.nan), np.full(len(mean), np.nan)
    pattern = (np.diagonal(root, axis1=1, axis2=2) > 0) @ (1 << np.arange(p))
    with np.errstate(all="ignore"):
        for code in sorted(set(pattern.tolist())):
            group = np.flatnonzero(pattern == code)
            axes = [k for k in range(p) if code >> k & 1]
            kinds = _kinds(integral, root[group], axes)
            for kind in sorted(set(kinds.tolist())):
                some = group[kinds == kind]
                value[some], error[some] = _group(integral, mean[some], root[some], axes, int(kind), rtol, atol)
    return value.reshape(shape), error.reshape(shape)


def _group(
    integral: _Integral,
    mean: Float[Array, "rows p"],
    root: Float[Array, "rows p p"],
    axes: Sequence[int],
    kind: int,
    rtol: float,
    atol: float,
) -> tuple[Array, Array]:
    """Entries of one dimension: nodes doubled for those that have not settled."""
    beyond = _extended(integral, mean, root, axes)
    first, *finer = _rules(integral, axes, kind)
    value = _blocked(integral, mean, root, axes, first, False)
    floor = 2.0**-50 * _blocked(integral, mean, root, axes, first, True)
    error = np.full(len(mean), np.nan)
    left = np.flatnonzero(np.isfinite(value))
    for rule in finer:
        new = _blocked(integral, mean[left], root[left], axes, rule, False)
        error[left] = np.abs(new - value[left]) + floor[left]
        value[left] = new
        enough = rtol * np.abs(new) + (0.0 if rule.plain else atol)
        settled = error[left] <= np.maximum(enough, 8 * floor[left])
        left = left[~settled & np.isfinite(new)]
        if not len(left):
            break
    error[beyond & np.isfinite(value)] = np.inf
    return value, error


def _kinds(integral: _Integral, root: Array, axes: Sequence[int]) -> Whole:
    """The rule for each entry: maps alone, between kinks, or with cuts about blurred kinks, if an
    axis crosses a kink of a later variable that further axes blur only slightly."""
    if not any(integral.kinks):
        return np.full(len(root), MAPPED)
    narrow = np.zeros(len(root), dtype=bool)
    for axis in axes:
        for k in range(axis + 1, integral.p):
            if integral.kinks[k]:
                narrow |= rules.blur(root, axis)[:, k - axis] < NARROW * np.abs(root[:, k, axis])
    steep = np.max(np.sum(root**2, axis=2), axis=1, initial=0.0) > STEEP**2
    return np.where(steep, MAPPED, np.where(narrow, CUT, WIDE))


def _rules(integral: _Integral, axes: Sequence[int], kind: int) -> list[QuadratureRule]:
    """The rules to try, from the cheapest on."""
    plain = () if kind == MAPPED else PLAIN.get(len(axes), ())
    maps = [n for n in SIZES[len(axes)] if n > max(plain, default=0)]
    found = [*(QuadratureRule(n, True, kind == CUT) for n in plain), *(QuadratureRule(n) for n in maps)]
    return [r for r in found if integral.points(axes, r) <= MOST_POINTS] or [QuadratureRule(SIZES[len(axes)][0])]


def directions(p: int) -> Array:
    """The corners, edges and faces of a cube, as unit vectors (count, p)."""
    grid = np.stack(np.meshgrid(*[[-1.0, 0.0, 1.0]] * p, indexing="ij"), axis=-1).reshape(-1, p)
    grid = grid[np.any(grid != 0, axis=1)]
    return np.asarray(grid / np.linalg.norm(grid, axis=1, keepdims=True))


def _extended(integral: _Integral, mean: Array, root: Array, axes: Sequence[int]) -> Mask:
    """Extend the axes to where |f| φ is negligible; mark the entries for which there is no such place."""
    beyond = np.zeros(len(mean), dtype=bool)
    integral.reach = rules.REACH
    if not axes:
        return beyond
    size = _size(integral, mean, root, axes)
    large = [_large(integral, mean, root, axes, radius, size) for radius in RADII]
    farthest = max((k + 1 for k, entries in enumerate(large) if entries.any()), default=0)
    integral.reach = RADII[min(farthest, len(RADII) - 1)]
    if farthest == len(RADII):  # E|f| may come from regions that only the longer axes reach
        rows = np.flatnonzero(large[-1])
        size = _size(integral, mean[rows], root[rows], axes)
        beyond[rows] = _large(integral, mean[rows], root[rows], axes, RADII[-1], size)
    return beyond


def _size(integral: _Integral, mean: Array, root: Array, axes: Sequence[int]) -> Array:
    """E|f|, roughly."""
    return _blocked(integral, mean, root, axes, QuadratureRule(SIZES[len(axes)][0]), True)


def _large(integral: _Integral, mean: Array, root: Array, axes: Sequence[int], radius: float, size: Array) -> Mask:
    """Whether |f| φ is not negligible in some direction at this distance."""
    steps = root[:, :, axes] @ directions(len(axes)).T  # (k, p, directions)
    x = mean[:, None, :] + radius * np.swapaxes(steps, 1, 2)
    height = integral.at(x) * (math.exp(-radius * radius / 2) * radius ** len(axes))
    return np.asarray(~np.all(height <= np.maximum(FALLEN * size[:, None], TINY), axis=1))


def _blocked(
    integral: _Integral, mean: Array, root: Array, axes: Sequence[int], rule: QuadratureRule, size: bool
) -> Array:
    step = max(1, BLOCK // integral.points(axes, rule))
    parts = [
        integral.value(mean[start : start + step], root[start : start + step], axes, rule, size)
        for start in range(0, len(mean), step)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def lower_root(covariance: Array) -> Array:
    """A lower triangular root (k, p, p) of positive semidefinite matrices of any rank; dependent rows end in 0."""
    p = covariance.shape[-1]
    root = np.zeros(covariance.shape)
    for j in range(p):
        variance = covariance[:, j, j]
        pivot = variance - np.sum(root[:, j, :j] ** 2, axis=-1)
        if j == 1:  # to full relative accuracy: nearly equal variables
            first = covariance[:, 0, 0]
            det = ARRAYS.determinant(first, variance, covariance[:, 1, 0])
            pivot = np.divide(det, first, out=variance.copy(), where=first > 0)
        length = np.sqrt(np.where(pivot > ROUNDING * variance, pivot, 0.0))
        root[:, j, j] = length
        for i in range(j + 1, p):
            rest = covariance[:, i, j] - np.sum(root[:, i, :j] * root[:, j, :j], axis=-1)
            root[:, i, j] = np.divide(rest, length, out=np.zeros_like(rest), where=length > 0)
    return root
