"""Gaussian expectations of functions that fixed rules may miss: how they are recognised and integrated.

Functions that are bounded near all their places (features.py) and not steep are left to the fixed rules of quadrature.py.
For the others: functions of a single axis are integrated by lines.py; one such function among others is
integrated over its axis, the others over their conditional law; two, on the product of their two sets of panels.
Other functions of two axes are left to planes.py.
Raises `Infinite` where E|f| = ∞, and `Unsettled` where the integral is not known to be right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.gaussian import features, lines, planes, quadrature
from tp_compiler.evaluate.gaussian.lines import Infinite, Unsettled
from tp_compiler.evaluate.gaussian.univariate import Seen, Univariate
from tp_compiler.shapes import Float

__all__ = ["Infinite", "Unsettled", "expectation", "expectation_of"]

ROUGHLY = lines.Care(rtol=1e-3)
STEEP = 0.05  # steep: a function that changes by more than this part of its size
NEEDLE = 1e11  # for larger deviations, a function that varies over a distance of 1 is a needle
NEAR = 0.02  # distance from a place, in standard deviations, that the fixed rules do not resolve
ALIGNED = 1 - 1e-13  # more strongly correlated variables share one axis
SECTIONS = (-0.6, 0.13, 0.9)  # values of the other variables, in standard deviations, while one is examined
MOST_ROWS = 4  # members of a family of joint functions that are examined

MOST_CROSSED = 2**28  # points of a product of two sets of panels
UNSURE = 1e-6  # errors above this part of the largest value need a better rule,
SMALL = 1e-10  # unless they are below this

COST = {0: 0.0, 1: 0.01, 2: 0.05, 3: 2.0}  # approximate seconds of an integral, by the number of Gaussians
NESTED = 1.5  # of one by nested rules

Joint = Callable[[Array], Any]
Spend = Callable[[float], None]


@dataclass(frozen=True)
class Profile:
    """A function on an interval: its places, and whether it is narrow or unbounded at one of them."""

    places: tuple[float, ...]
    rough: bool


def expectation(
    functions: Sequence[Univariate],
    means: Float[Array, "*#rows p"],
    covariance: Float[Array, "*#rows p p"],
    spend: Spend = lambda seconds: None,
) -> tuple[Array, Array]:
    """E Π_k f_k(x_k), x ~ N(means, covariance): (value, error), as quadrature.expectation. `spend` is called with the seconds
    that each integral takes, before it is done."""
    mean, spread, shape = _rows(means, covariance)
    with np.errstate(all="ignore"):
        profiles = [profile(f, mean[:, k], np.sqrt(np.maximum(spread[:, k, k], 0.0))) for k, f in enumerate(functions)]
        if any(p.rough for p in profiles):
            value, error = np.full(len(mean), np.nan), np.full(len(mean), np.nan)
        else:
            value, error = quadrature.expectation(functions, mean, spread)
        left = ~np.isfinite(error)
        if left.any():
            product = _Product(list(functions), profiles, spend)
            value[left], error[left] = _each(product, mean[left], spread[left], spend)
    return value.reshape(shape), error.reshape(shape)


def expectation_of(
    function: Joint,
    watch: Callable[[Array, Seen], None],
    means: Float[Array, "*#rows p"],
    covariance: Float[Array, "*#rows p p"],
    kinks: Sequence[tuple[float, ...]] | None,
    spend: Spend = lambda seconds: None,
    kinked: bool = False,
) -> tuple[Array, Array]:
    """E f(x) of one function of up to three Gaussians, points (..., p) to values (...); `kinked`: along curves, too."""
    mean, spread, shape = _rows(means, covariance)
    joint = _JointFunction(function, watch, spend)
    with np.errstate(all="ignore"):
        root = quadrature.lower_root(spread)
        rank = np.sum(np.diagonal(root, axis1=1, axis2=2) > 0, axis=1)
        many = np.flatnonzero(rank > 1)
        rough = any([joint.rough(mean[k], root[k]) for k in many[:: max(1, len(many) // MOST_ROWS)]]) or kinked
        if rough and np.any(rank > 2):
            raise Unsettled("a function of three Gaussians that is narrow, unbounded or kinked")
        value, error = np.full(len(mean), np.nan), np.full(len(mean), np.nan)
        if not rough:
            value, error = quadrature.expectation_of(function, mean, spread, kinks=kinks)
        left = (rank <= 1) | ~np.isfinite(error)
        unsure = error > max(SMALL, UNSURE * float(np.max(np.abs(value[~left]), initial=0.0)))
        left |= unsure & (rank == 2)
        if left.any():
            value[left], error[left] = _each(joint, mean[left], spread[left], spend)
    return value.reshape(shape), error.reshape(shape)


def _rows(
    means: Float[Array, "*#rows p"], covariance: Float[Array, "*#rows p p"]
) -> tuple[Array, Array, tuple[int, ...]]:
    covariance = np.asarray(covariance, dtype=np.float64)
    means = np.asarray(means, dtype=np.float64)
    p = covariance.shape[-1]
    shape = np.broadcast_shapes(means.shape[:-1], covariance.shape[:-2])
    if not (np.all(np.isfinite(means)) and np.all(np.isfinite(covariance))):
        raise Unsettled("a covariance that overflows")
    mean = np.broadcast_to(means, (*shape, p)).reshape(-1, p)
    return mean, np.broadcast_to(covariance, (*shape, p, p)).reshape(-1, p, p), shape


def profile(f: Univariate, mean: Array, deviation: Array) -> Profile:
    """Its places within reach of all means and deviations."""
    largest = float(np.max(deviation, initial=0.0))
    if (f.watch is None and f.name not in ("tan", "real_power", "log")) or largest == 0:
        own = tuple(f.kinks) or (0.0,)
        return Profile(own, any(_needle(f, x, largest) for x in own))
    reach = lines.FARTHEST * deviation
    low, high = float(np.min(mean - reach)), float(np.max(mean + reach))
    places = tuple(features.places(f.seen, low, high, f.kinks))
    return Profile(places, f.crowded or any(_rough(f, x, largest, x in f.kinks) for x in places))


def _rough(f: Callable[[Array], Array], place: float, deviation: float, kink: bool) -> bool:
    """Whether f is undefined at a place, unbounded near it, or steep at a scale far below the deviation."""
    if not np.all(np.isfinite(f(np.array([place])))):
        return True
    if _needle(f, place, deviation):
        return True
    d = deviation * np.geomspace(1e-13, 1.0, 53)
    d = d[d > 4e-16 * abs(place)]
    sides = [np.abs(f(place + sign * d)) for sign in (-1.0, 1.0)]
    if not all(np.all(np.isfinite(sizes)) for sizes in sides):
        return True
    largest = max(float(np.max(sizes, initial=0.0)) for sizes in sides)
    for sizes in sides:
        near = sizes[d <= NEAR * deviation]
        if len(near) == 0:
            return True
        unbounded = near[0] > 1.5 * np.max(sizes[len(near) :], initial=0.0)
        if unbounded or (not kink and np.ptp(near) > STEEP * largest):
            return True
    return False


def _needle(f: Callable[[Array], Array], place: float, deviation: float) -> bool:
    """Whether f is larger within order 1 of a place than at the distances a fixed rule sees, if the deviation is far above 1."""
    if deviation < NEEDLE:
        return False
    d = np.geomspace(1e-3, 1e-13 * deviation, 8 + 4 * int(math.log10(deviation / NEEDLE)))
    heights = np.abs([f(place + sign * d) for sign in (-1.0, 1.0)])
    return bool(np.max(np.nan_to_num(heights)) > 1.5 * np.max(heights[:, -1]))


class _Product:
    """Π f_k(x_k)"""

    def __init__(self, functions: list[Univariate], profiles: list[Profile], spend: Spend):
        self.functions, self.profiles, self.spend = functions, profiles, spend

    def __call__(self, x: Array) -> Array:
        result = np.ones(x.shape[:-1])
        for k, f in enumerate(self.functions):
            result = result * f(x[..., k])
        return result

    def places(self, mean: Array, slope: Array, which: Sequence[int]) -> list[float]:
        """The places of some of them, along the line."""
        return [(x - mean[k]) / slope[k] for k in which if slope[k] for x in self.profiles[k].places]

    def on_axis(self, mean: Array, slope: Array) -> tuple[float, float]:
        places = self.places(mean, slope, range(len(mean)))
        return lines.integral(self, mean, slope, places)

    def several(self, mean: Array, spread: Array) -> tuple[float, float]:
        rough = [k for k, p in enumerate(self.profiles) if p.rough and spread[k, k] > 0]
        if not rough:
            self.rays(mean, spread)
            raise Unsettled("an average carried by values too large for doubles")
        first = _aligned(spread, rough[0])
        rest = [k for k in range(len(mean)) if k not in first]
        others = [k for k in rough if k not in first]
        if not rest:
            return self.on_axis(mean, _slope(spread, first[0]))
        if not others:
            return self._conditional(mean, spread, first, rest)
        if set(rest) != set(_aligned(spread, others[0])):
            return self._nested(mean, spread)
        return self._crossed(mean, spread, first, rest)

    def _nested(self, mean: Array, spread: Array) -> tuple[float, float]:
        def watch(x: Array, seen: Seen) -> None:
            for k, f in enumerate(self.functions):
                f.seen(x[..., k], seen)

        return _JointFunction(self, watch, self.spend).several(mean, spread)

    def rays(self, mean: Array, spread: Array) -> None:
        """Raises Infinite if the integrand outgrows the Gaussian in some direction."""
        root = quadrature.lower_root(spread[None])[0]
        for direction in quadrature.directions(len(mean)):
            lines.divided(self, mean, root @ direction, [])

    def _part(self, own: list[int]) -> _Product:
        return _Product([self.functions[k] for k in own], [self.profiles[k] for k in own], self.spend)

    def _conditional(self, mean: Array, spread: Array, own: list[int], rest: list[int]) -> tuple[float, float]:
        """Integrate over the axis of some variables, and over the others by the fixed rules given these."""
        slope = _slope(spread, own[0])
        left = spread[np.ix_(rest, rest)] - np.outer(slope[rest], slope[rest])
        left[np.diag_indices(len(rest))] = np.maximum(np.diagonal(left), 0.0)
        part = self._part(own)
        others = [self.functions[k] for k in rest]
        worst = 0.0

        def function(x: Array) -> Array:
            nonlocal worst
            value, error = quadrature.expectation(others, x[..., rest], left)
            worst = max(worst, float(np.max(error, initial=0.0)))
            return part(x[..., own]) * value

        value, error = lines.integral(function, mean, slope, self.places(mean, slope, own))
        if not np.isfinite(worst):
            raise Unsettled("a function that is not finite")
        size, _ = lines.integral(
            lambda x: np.abs(part(x)),
            mean[own],
            slope[own],
            part.places(mean[own], slope[own], range(len(own))),
            ROUGHLY,
        )
        return value, error + worst * size

    def _crossed(self, mean: Array, spread: Array, first: list[int], second: list[int]) -> tuple[float, float]:
        """Two axes, each with its own panels; panels are halved once to know the error."""
        sides = []
        slopes = [_slope(spread, own[0]) for own in (first, second)]
        for own, slope in zip((first, second), slopes, strict=True):
            part = self._part(own)
            m, s = mean[own], slope[own]
            cut = lines.divided(part, m, s, part.places(m, s, range(len(own))))
            sides.append((part, m, s, cut))
        cosine = spread[first[0], second[0]] / math.sqrt(spread[first[0], first[0]] * spread[second[0], second[0]])
        if math.prod(cut.panels.low.size * lines.NODES.size for *_, cut in sides) > MOST_CROSSED:
            raise Unsettled("two functions with many places")
        coarse, fine = (_crossed_sum(sides, cosine, halved) for halved in (False, True))
        if not np.isfinite(fine[0]):
            raise Unsettled("a function that is not finite")
        return fine[0], abs(fine[0] - coarse[0]) + fine[1]


#: A function of one axis, the mean and the slope of its variables along it, and its panels.
Side = tuple[_Product, Array, Array, lines.Cut]


def _crossed_sum(sides: Sequence[Side], cosine: float, halved: bool) -> tuple[float, float]:
    """aᵀ K b: values times weights on either axis, and the density of the two over that of independent ones."""
    vectors = []
    for part, _, slope, cut in sides:
        panels = cut.panels.halves() if halved else cut.panels
        x, weights = lines.rule(slope, panels)
        width = panels.high - panels.low
        z = panels.place[:, None] + panels.low[:, None] + width[:, None] * lines.NODES
        tails = cut.tails
        mass = np.concatenate([(weights * part(x)).ravel(), tails.value])
        errors = np.concatenate([np.zeros(weights.size), tails.error])
        vectors.append((np.concatenate([z.ravel(), tails.place]), mass, errors))
    (z, a, above), (w, b, below) = vectors
    rest = 1 - cosine * cosine
    total = size = unsure = 0.0
    for start in range(0, len(z), 512):
        here = slice(start, start + 512)
        grid = z[here, None]
        kernel = np.exp((cosine * grid * w - cosine**2 * (grid**2 + w**2) / 2) / rest) / math.sqrt(rest)
        total += float(a[here] @ kernel @ b)
        size += float(np.abs(a[here]) @ kernel @ np.abs(b))
        unsure += float(above[here] @ kernel @ np.abs(b)) + float(np.abs(a[here]) @ kernel @ below)
    ends = float(max(cut.beyond[0] for *_, cut in sides))
    return total, unsure + 2.0**-50 * size + ends * size


class _JointFunction:
    """One function of several variables."""

    def __init__(self, function: Joint, watch: Callable[[Array, Seen], None], spend: Spend):
        self.function, self.watch, self.spend = function, watch, spend

    def __call__(self, x: Array) -> Array:
        return np.broadcast_to(np.asarray(self.function(x), dtype=np.float64), x.shape[:-1])

    def places(self, mean: Array, slope: Array) -> list[float]:
        def trace(z: Array, seen: Seen) -> None:
            self.watch(mean + slope * z[..., None], seen)

        return features.places(trace, -lines.FARTHEST, lines.FARTHEST)

    def on_axis(self, mean: Array, slope: Array) -> tuple[float, float]:
        return lines.integral(self, mean, slope, self.places(mean, slope))

    def several(self, mean: Array, spread: Array) -> tuple[float, float]:
        root = quadrature.lower_root(spread[None])[0]
        axes = np.flatnonzero(np.diagonal(root) > 0)
        if len(axes) > 2:
            raise Unsettled("a function of three Gaussians that is narrow, unbounded or kinked")
        self.spend(NESTED)
        outer, inner = root[:, axes].T
        return planes.integral(planes.Plane(self, self.watch, mean, outer, inner))

    def rough(self, mean: Array, root: Array) -> bool:
        """Examines each axis, with the others fixed: raises Infinite if f is not integrable along one, wherever
        the others are (Fubini)."""
        axes = [k for k in range(len(mean)) if root[k, k] > 0]
        rough = False
        for axis in axes:
            infinite: list[Infinite] = []
            for k, held in enumerate(SECTIONS):
                z = [held * (1 - 2 * ((k + j) % 2)) if j in axes and j != axis else 0.0 for j in range(len(mean))]
                start, slope = mean + root @ np.array(z), root[:, axis]
                places = self.places(start, slope)
                section = lambda t, start=start, slope=slope: self(start + slope * t[..., None])  # noqa: E731
                rough = rough or any(_rough(section, x, 1.0, False) for x in places if abs(x) < 12)
                try:
                    lines.divided(self, start, slope, places)
                except Infinite as reason:
                    infinite.append(reason)
                except Unsettled:
                    rough = True
            if len(infinite) == len(SECTIONS):
                raise infinite[0]
            rough = rough or bool(infinite)
        return rough


def _each(integrand: _Product | _JointFunction, mean: Array, spread: Array, spend: Spend) -> tuple[Array, Array]:
    """Row by row; equal rows once."""
    rows = np.concatenate([mean, spread.reshape(len(mean), -1)], axis=1)
    _, first, back = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    ranks = np.sum(np.diagonal(quadrature.lower_root(spread[first]), axis1=1, axis2=2) > 0, axis=1)
    spend(sum(COST[int(rank)] for rank in ranks))
    found = [_one(integrand, mean[k], spread[k]) for k in first]
    values, errors = (np.array([f[side] for f in found]) for side in (0, 1))
    return values[back.ravel()], errors[back.ravel()]


def _one(integrand: _Product | _JointFunction, mean: Array, spread: Array) -> tuple[float, float]:
    root = quadrature.lower_root(spread[None])[0]
    axes = np.flatnonzero(np.diagonal(root) > 0)
    if len(axes) == 0:
        value = float(integrand(mean[None])[0])
        return value, 2.0**-50 * abs(value)
    if len(axes) == 1:
        return integrand.on_axis(mean, root[:, axes[0]])
    return integrand.several(mean, spread)


def _aligned(spread: Array, k: int) -> list[int]:
    """The variables that are k up to scale and shift; k first."""
    deviation = np.sqrt(np.diagonal(spread))
    return [
        k,
        *(j for j in range(len(spread)) if j != k and abs(spread[j, k]) >= ALIGNED * deviation[j] * deviation[k]),
    ]


def _slope(spread: Array, k: int) -> Array:
    """The regression of every variable on variable k, in its standard deviations."""
    return np.asarray(spread[:, k] / math.sqrt(spread[k, k]))
