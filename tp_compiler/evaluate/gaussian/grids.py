"""Gaussian averages of products of analytic functions of three or four variables, on two uniform grids.

The trapezoid rule converges like exp(-2πd/h), d the distance of the nearest pole from the axes (Trefethen and Weideman 2014). The
variables are whitened by a lower triangular root, so that only the last function is evaluated on the whole grid. Two grids, half a
step apart along every axis, are averaged; they are off in opposite directions, and half their difference is the error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.budget import current
from tp_compiler.evaluate.gaussian import careful, quadrature
from tp_compiler.evaluate.gaussian.univariate import Univariate

RADII = (7.5, 9.0, 11.0)  # the axes end at one of them,
FALLEN = 1e-8  # where |f| φ is less than this part of E|f|
SIZES = {1: (40, 80, 160), 2: (28, 40, 60, 90), 3: (16, 22, 30, 40, 60), 4: (14, 18, 24, 32, 42)}
SETTLED = 1e-7  # relative to E|f|


def mean(functions: Sequence[Univariate], means: Array, covariance: Array) -> tuple[float, float] | None:
    """E Π_k f_k(x_k), x ~ N(means, covariance), and its error; None where the functions are not this tame."""
    deviations = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    for k, f in enumerate(functions):
        if not f.analytic or f.kinks or careful.profile(f, means[k : k + 1], deviations[k : k + 1]).rough:
            return None
    root = quadrature.lower_root(covariance[None])[0]
    axes = [k for k in range(len(functions)) if root[k, k] > 0]
    sizes = SIZES.get(len(axes), ())
    if not sizes:
        return None
    _, rough = _sum(functions, means, root, axes, _grid(sizes[0], RADII[0], 0.0))
    reach = next((r for r in RADII if _falls(functions, means, root[:, axes], r, rough)), None)
    if reach is None:
        return None
    for fewest in sizes:
        count = round(fewest * reach / RADII[0])
        current().poll(2.0 * count ** len(axes))
        both = [_sum(functions, means, root, axes, _grid(count, reach, offset)) for offset in (0.0, 0.5)]
        (first, size), (second, _) = both
        error = abs(first - second) / 2
        if error <= SETTLED * size:
            return (first + second) / 2, error
    return None


def _grid(count: int, reach: float, offset: float) -> tuple[Array, Array]:
    """The nodes of an axis, and their weights."""
    step = 2 * reach / count
    z = np.asarray(np.arange(count) + offset - (count - 1) / 2) * step
    return z, np.asarray(np.exp(-z * z / 2) * step / math.sqrt(2 * math.pi))


def _falls(functions: Sequence[Univariate], means: Array, root: Array, reach: float, size: float) -> bool:
    """Whether the integrand is negligible where the axes end."""
    x = means + reach * quadrature.directions(root.shape[1]) @ root.T
    height = np.prod([np.abs(f(x[:, k])) for k, f in enumerate(functions)], axis=0)
    return bool(np.all(height * math.exp(-reach * reach / 2) * reach ** root.shape[1] <= FALLEN * size))


def _sum(
    functions: Sequence[Univariate], means: Array, root: Array, axes: Sequence[int], grid: tuple[Array, Array]
) -> tuple[float, float]:
    """Σ w f, and Σ w |f|; axis by axis, the first one value at a time."""
    z, weights = grid
    total = size = 0.0
    for first, weight in zip(z, weights, strict=True):
        value = _inner(functions, means + root[:, axes[0]] * first, root, axes, z, weights)
        total, size = total + weight * value[0], size + weight * value[1]
    return total, size


def _inner(
    functions: Sequence[Univariate], means: Array, root: Array, axes: Sequence[int], z: Array, weights: Array
) -> tuple[float, float]:
    """The sums over the other axes; function k depends on those up to its own alone."""
    ends = [*axes[1:], len(functions)]
    shift: list[Array] = [np.asarray(m) for m in means]
    values = []
    begin = 0
    for depth, end in enumerate(ends):
        factor = np.ones((len(z),) * depth)
        for k in range(begin, end):
            factor = factor * functions[k](shift[k])
        values.append(factor)
        if depth + 1 < len(ends):
            axis = axes[depth + 1]
            shift = [x[..., None] + root[k, axis] * z for k, x in enumerate(shift)]
        begin = end
    total, size = values[-1], np.abs(values[-1])
    for factor in reversed(values[:-1]):
        total, size = factor * (total @ weights), np.abs(factor) * (size @ weights)
    return float(total), float(size)
