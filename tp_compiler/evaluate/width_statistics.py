"""From limits along directions of the particles' weights to the spread and the bias of networks of finite width.

Along a direction ξ of random signs, particles have weights proportional to 1 + ε ξ. With F the output as a function of the
weights of M particles, first differences √M (F(ε) - F(-ε))/2ε have mean 0 and the covariance Σ, second differences
M (F(ε) + F(-ε) - 2F(0))/2ε² have the mean b. Arrays only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tp_compiler.results import Array

#: Differences below this part of a value are its rounding.
_ROUNDING = 1e-13
#: Two estimates agree within so many standard errors and this part of the size of the entry.
_STDERRS, _SHARE = 4.0, 0.1
#: Entries that are smaller, relative to the largest or in themselves, are rounding.
_NEGLIGIBLE, _NOTHING = 1e-6, 1e-10


@dataclass(frozen=True, eq=False)
class Differences:
    """Of one output, over R scramblings, K directions each and its flattened entries: two arrays (R, K, entries)."""

    first: Array
    second: Array

    @classmethod
    def of(cls, base: Array, plus: Array, minus: Array, particles: int, step: float) -> Differences:
        """From an output at the weights 1 (R, *shape), 1 + step ξ and 1 - step ξ (R, K, *shape) of its particles."""
        count, directions = plus.shape[:2]
        middle = base.reshape(count, 1, -1)
        ends = [x.reshape(count, directions, -1) for x in (plus, minus)]
        first, second = ends[0] - ends[1], ends[0] + ends[1] - 2 * middle
        noise = _ROUNDING * np.maximum(np.abs(middle).max(axis=0), 0.0)
        same = (np.abs(first) <= noise).all(axis=(0, 1)) & (np.abs(second) <= noise).all(axis=(0, 1))
        first, second = (np.where(same, 0.0, x) for x in (first, second))
        return cls(np.sqrt(particles) * first / (2 * step), particles * second / (2 * step**2))

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.first).all() and np.isfinite(self.second).all())

    def and_more(self, other: Differences) -> Differences:
        """With further directions of the same scramblings."""
        both = ((self.first, other.first), (self.second, other.second))
        return Differences(*(np.concatenate(pair, axis=1) for pair in both))

    def agrees(self, other: Differences) -> bool:
        """Are Σ and b those of runs with other particles, in every entry?"""
        mine, theirs = self._moments(), other._moments()
        off = [(x - y, np.hypot(error, noise)) for (x, error), (y, noise) in zip(mine, theirs, strict=True)]
        return _within(off, mine, theirs, _SHARE)

    def agrees_along(self, other: Differences) -> bool:
        """The same for runs of the same particles and directions with another step: the noise is the same too."""
        done = other.first.shape[1]  # where the time was up, some directions were left out
        own = Differences(self.first[:, :done], self.second[:, :done])
        off = [mean(own.first**2 - other.first**2), mean(own.second - other.second)]
        return _within(off, own._moments(), other._moments(), _SHARE / 2)

    def _moments(self) -> Moments:
        return [mean(self.first**2), mean(self.second)]


#: Σ and b of every entry, with their errors.
Moments = Sequence[tuple[Array, Array]]


def _within(off: Moments, one: Moments, other: Moments, share: float) -> bool:
    """Are differences of Σ and of b within their errors and a share of the size of their entry?"""
    variances, biases = (np.maximum(np.abs(x), np.abs(y)) for (x, _), (y, _) in zip(one, other, strict=True))
    size = sizes(biases, variances)
    scales = np.maximum(variances, (share * size) ** 2), size
    return all((np.abs(x) <= _STDERRS * error + share * s).all() for (x, error), s in zip(off, scales, strict=True))


def covariance(one: Array, other: Array) -> tuple[Array, Array]:
    """Σ between the entries of two outputs, and its standard errors, from first differences (R, K, k) and (R, K, m)."""
    scramblings, directions = one.shape[:2]
    each = np.einsum("rka,rkb->rab", one, other) / directions
    squares = np.einsum("rka,rkb->ab", one**2, other**2) / (scramblings * directions)
    sigma = each.mean(axis=0)
    return sigma, _error(each, squares - sigma**2, directions)


def mean(x: Array) -> tuple[Array, Array]:
    """The mean of numbers (R, K, entries) and its standard errors: b, of second differences; variances, of squares of first ones."""
    each = x.mean(axis=1)
    return each.mean(axis=0), _error(each, x.var(axis=(0, 1)), x.shape[1])


def _error(each: Array, within: Array, directions: int) -> Array:
    """Of a mean over scramblings: from their means, or from the directions alone where that is more."""
    count = len(each)
    between = each.var(axis=0, ddof=1) / count
    alone = np.maximum(within, 0.0) / max(count * directions - 1, 1)
    return np.asarray(np.sqrt(np.maximum(between, alone)))


def over_scramblings(each: Array) -> tuple[Array, Array]:
    """The mean of estimates (R, ...) and its standard error."""
    return each.mean(axis=0), np.asarray(each.std(axis=0, ddof=1) / np.sqrt(len(each)))


def sizes(bias: Array, variances: Array) -> Array:
    """Of each entry, beside which its errors are small: |b| or √Σ; entries that are rounding beside others do not count."""
    own = np.maximum(np.abs(bias), np.sqrt(np.maximum(variances, 0.0)))
    return np.maximum(own, max(_NEGLIGIBLE * own.max(initial=0.0), _NOTHING))


def together(few: tuple[Array, Array], many: tuple[Array, Array]) -> tuple[Array, Array]:
    """The mean of two independent estimates (with errors), each weighted by the inverse of its largest variance."""
    (b, error), (c, noise) = few, many
    own, other = float(np.max(error**2, initial=0.0)), float(np.max(noise**2, initial=0.0))
    share = other / (own + other) if own + other > 0 else 0.5
    return share * b + (1 - share) * c, np.hypot(share * error, (1 - share) * noise)
