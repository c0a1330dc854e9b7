"""Arrays over the points of a kernel, one or several numbers a point: what its blocks (pair_steps.py) read.

Coefficients and variances: O(N) numbers, computed once for all blocks. Each has one error for all entries (bulk.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tp_compiler.evaluate import errors
from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.arrays import Labels, aligned, contract
from tp_compiler.evaluate.bulk import EPS, Bulk, Extent
from tp_compiler.evaluate.exact.abstract import EntriesDecide
from tp_compiler.evaluate.gaussian import arccos_in_place, closed_forms
from tp_compiler.evaluate.gaussian.arccosine import shape_of
from tp_compiler.evaluate.gaussian.sensitivity import Carried, Variances
from tp_compiler.evaluate.gaussian.univariate import Univariate

NO_ERROR = Bulk()


@dataclass(eq=False)
class PointArray:
    """Numbers over the points, or a number for all of them, with their error."""

    values: Array
    off: Bulk = NO_ERROR
    known: Extent | None = None

    @property
    def extent(self) -> Extent:
        if self.known is None:
            self.known = Extent.of(self.values)
        return self.known

    @property
    def largest(self) -> float:
        return self.extent.largest

    @property
    def low(self) -> float:
        return self.extent.low

    @cached_property
    def law(self) -> Variances:
        """As variances."""
        if not (self.low > 0 and math.isfinite(self.largest)):
            raise EntriesDecide("a variance of 0")
        return Variances(self.low, self.largest, (self.off,))

    def scaled_law(self, scale: float) -> Variances:
        """As variances of what is `scale` times as large."""
        if scale == 1.0:
            return self.law
        if scale not in self._laws:
            self._laws[scale] = self.law.scaled(scale**2)
        return self._laws[scale]

    @cached_property
    def _laws(self) -> dict[float, Variances]:
        return {}

    @cached_property
    def carried(self) -> dict[tuple[int, bool], tuple[object, Carried]]:
        """How steps of a plan, by their `id`, carry errors of pairs whose first variances these are."""
        return {}


#: One array from others.
Rule = Callable[[Sequence[PointArray]], PointArray]


def product(coefficient: float, share: float, of: Sequence[Labels], out: Labels) -> Rule:
    """coefficient · Π, summed over the labels that `out` lacks; the coefficient is off by a share of itself."""
    gone = any(label not in out for own in of for label in own)

    def entrywise(arrays: Sequence[PointArray]) -> PointArray:
        value = coefficient * aligned(arrays[0].values, of[0], out)
        for x, own in zip(arrays[1:], of[1:], strict=True):
            value = value * aligned(x.values, own, out)
        return PointArray(value, of_product(arrays, coefficient, share))

    def summed(arrays: Sequence[PointArray]) -> PointArray:
        value = coefficient * contract([x.values for x in arrays], list(of), out)
        found = PointArray(value)
        off = EPS * found.largest + (share + EPS) * found.largest
        if any(x.off.share or x.off.floor for x in arrays):
            sizes = [np.abs(x.values) for x in arrays]
            for k, x in enumerate(arrays):
                moved = [*sizes[:k], x.off.on(x.values) + 0.0 * sizes[k], *sizes[k + 1 :]]
                off += abs(coefficient) * float(np.max(contract(moved, list(of), out), initial=0.0))
        return PointArray(value, Bulk(0.0, off))

    return summed if gone else entrywise


def of_product(arrays: Sequence[PointArray], coefficient: float, share: float) -> Bulk:
    """The error of coefficient · Π; that of the coefficient is a share of itself."""
    share += EPS * len(arrays)
    floor, reach = 0.0, 1.0  # of the product of those so far
    plain = True
    for x in arrays:
        share += x.off.share
        plain = plain and not x.off.floor
    for x in () if plain else arrays:
        size = x.largest * (1 + x.off.share) + x.off.floor
        floor, reach = floor * size + x.off.floor * reach, reach * size
    return Bulk(share, abs(coefficient) * floor)


def total(constant: float, off: float, of: Sequence[Labels], out: Labels) -> Rule:
    def rule(arrays: Sequence[PointArray]) -> PointArray:
        value = constant + aligned(arrays[0].values, of[0], out)
        for x, own in zip(arrays[1:], of[1:], strict=True):
            value = value + aligned(x.values, own, out)
        return PointArray(value, of_sum(arrays, off, constant))

    return rule


def of_sum(arrays: Sequence[PointArray], off: float, constant: float) -> Bulk:
    """The error of a sum; sums of positive numbers keep the digits of these."""
    floor = off + sum([x.off.floor for x in arrays])
    rounded = EPS * len(arrays)
    if constant >= 0 and min([x.low for x in arrays]) >= 0:
        return Bulk(max([x.off.share for x in arrays]) + rounded, floor)
    return Bulk(0.0, floor + sum((x.off.share + rounded) * x.largest for x in arrays) + rounded * abs(constant))


def single(f: Univariate) -> Rule:
    """E f(u) of centred Gaussians, from their variances."""

    def value(v: Array) -> Array:
        found = closed_forms.single(f, 0.0, v)
        if found is None:
            raise EntriesDecide("a row of the table")
        return found

    return _of_variance(value, _degree(f))


def same(f: Univariate, g: Univariate) -> Rule:
    """E f(u) g(u), from the variance of u."""

    def value(v: Array) -> Array:
        found = closed_forms.kernel(f, g, v, v, v, same=np.True_)
        if found is None:
            raise EntriesDecide("a row of the table")
        return found

    one, other = _degree(f), _degree(g)
    return _of_variance(value, None if one is None or other is None else one + other)


def _degree(f: Univariate) -> int | None:
    """The degree of a homogeneous function of at most second degree."""
    kinds = {"relu": 1, "leaky_relu": 1, "abs": 1, "step": 0, "sign": 0, "leaky_step": 0}
    if f.name in ("relu_power", "two_sided", "monomial"):
        return int(f.params[0])
    return kinds.get(f.name)


def _of_variance(value: Callable[[Array], Array], degree: int | None) -> Rule:
    """An average that is constant · v^(degree/2), or one whose error is seen at the ends of the intervals of v."""
    if degree in (0, 2):
        constant = float(value(np.ones(1))[0])
        if degree == 0:
            return lambda arrays: PointArray(np.full_like(arrays[0].values, constant), Bulk(EPS))

        def scaled(arrays: Sequence[PointArray]) -> PointArray:
            (v,) = arrays
            v.law  # noqa: B018  # a variance of 0 is for the evaluation entry by entry
            share = EPS * (1 if math.frexp(constant)[0] == 0.5 else 2)
            return PointArray(constant * v.values, Bulk(v.off.share + share, constant * v.off.floor))

        return scaled

    def moved(arrays: Sequence[PointArray]) -> PointArray:
        (v,) = arrays
        v.law  # noqa: B018
        found, away = np.asarray(value(v.values)), v.off.on(v.values)
        ends = [np.abs(value(v.values + side * away) - found) for side in (-1, 1)]
        return PointArray(found, _relative(found, np.maximum(*ends) + 8 * EPS * np.abs(found)))

    return moved


def pair(f: Univariate, g: Univariate) -> Rule:
    """E f(u) g(w) at each point, from variances and covariance."""

    def rule(arrays: Sequence[PointArray]) -> PointArray:
        one, other, _ = arrays
        one.law, other.law  # noqa: B018
        value, error = probed(f, g, [(x.values, x.off) for x in arrays])
        return PointArray(value, _relative(value, error))

    return rule


def _relative(value: Array, error: Array) -> Bulk:
    """Errors as one rule: a share of each entry, unless small entries make that far too much for the large ones."""
    size, most = np.abs(value), float(np.max(error, initial=0.0))
    share = float(np.max(error / size)) if np.min(size) > 0 else math.inf
    return Bulk(share) if share * float(np.max(size)) <= 2 * most else Bulk(0.0, most)


def probed(f: Univariate, g: Univariate, law: Sequence[tuple[Array, Bulk]]) -> tuple[Array, Array]:
    """E f(u) g(w) with its error, from how it moves with variances and covariance, which stay a law."""
    v1, v2, c = (x for x, _ in law)
    found = closed_forms.kernel(f, g, v1, v2, c)
    if found is None:
        raise EntriesDecide("a row of the table")

    def probe(k: int) -> Array:
        rng = np.random.default_rng(k)
        w1, w2, d = (errors.shaken(x, off.on(x) + 0.0 * x, rng) for x, off in law)
        most = np.sqrt(w1 * w2)
        near = c * c >= v1 * v2 * (1 - 2.0**-40)
        return np.asarray(closed_forms.kernel(f, g, w1, w2, np.where(near, np.sign(c) * most, np.clip(d, -most, most))))

    return found, np.broadcast_to(np.asarray(errors.again(probe, found)) + 8 * EPS * np.abs(found), found.shape)


def root(h: float) -> Rule:
    """1/√(v + h)."""
    return lambda arrays: PointArray(1 / np.sqrt(arrays[0].values + h if h else arrays[0].values))


def spread(a: float) -> Rule:
    """1 + 2a v."""
    return lambda arrays: PointArray(1 + 2 * a * arrays[0].values)


def height(factor: float) -> Rule:
    """factor · √v."""
    return lambda arrays: PointArray(factor * np.sqrt(arrays[0].values))


def is_jump(f: Univariate, g: Univariate) -> bool:
    """Whether the pair jumps at one place, so that Var(u - w) tells more than the covariance."""
    found = closed_forms.row_of(f, g)
    fast = found is not None and found[0].fast is arccos_in_place.order0
    return fast and shape_of(f).halves == shape_of(g).halves == 0 and f.scale == g.scale
