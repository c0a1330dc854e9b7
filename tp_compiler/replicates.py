"""Numbers from replicates: values, and standard errors with the bias of finite size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Replicates:
    """The replicates of an output: independent scramblings of a limit, or networks of finite width.

    levels   arrays (R, ...) from coarse to fine, of the sizes `sizes`; the last one is reported
    halves   for some of the last level's replicates, the mean of two runs on the halves of their particles

    Replicate number r of every output, at every level, is of the same scrambling or network: functions of several outputs
    have the right errors because of it.
    """

    levels: tuple[Array, ...]
    sizes: tuple[float, ...]
    halves: Array | None = None

    @staticmethod
    def of(levels: Levels, sizes: Sequence[float], halves: Array | None = None) -> Replicates:
        """What `mean_and_error` reads of these levels: the last one, and the finest of each of three coarser sizes."""
        last = _last(levels)
        found = {s: x for x, s in zip(levels, sizes, strict=True) if x is not None and s < sizes[-1]}
        kept = {s: x for s, x in found.items() if x.shape == last.shape}
        chosen = sorted(kept)[-3:]
        return Replicates((*(kept[s] for s in chosen), last), (*map(float, chosen), float(sizes[-1])), halves)

    @property
    def count(self) -> int:
        return len(self.levels[-1])

    def around(self, value: Array) -> Array:
        """The reported replicates (R, ...), moved by what the bias takes off, so that `value` is their mean."""
        last = self.levels[-1]
        moved: Array = last + (value - last.mean(axis=0))
        return moved


@np.errstate(all="ignore")  # errors that are not finite are values
def mean_and_error(levels: Levels, sizes: Sequence[float], halves: Array | None = None) -> tuple[Array, Array]:
    """Value and standard error of the last level, over its replicates and with the bias of finite size.

    levels   arrays (R, ...) from coarse to fine, None if a level has no value
    sizes    of the levels: M particles, or the P copies of an E
    halves   for some of the last level's replicates, the mean of two runs on the halves of their particles

    Functions of averages have a bias b/size. Runs on halves have twice that bias and hardly any additional noise,
    since averages over the halves add up to those over the whole (those over copies do not). The coarser levels also show
    it; the sharper of the two is used. If the noise explains the difference, any excess is added to the error.
    If it is clearly a bias, it is subtracted, 2f(M) - f(M/2), and the remainder under a law other than 1/size is added to the
    error.
    """
    scale = _scale(_last(levels))
    if np.any(scale != 1):
        levels = [x / scale if x is not None and x.shape == _last(levels).shape else None for x in levels]
        value, error = mean_and_error(levels, sizes, None if halves is None else halves / scale)
        return value * scale, error * scale
    value, variance, noise = _by_levels(levels, sizes)
    if halves is not None:
        other, of_other, its_noise = _by_halves(levels, sizes, halves)
        sharper = its_noise <= noise
        value, variance = np.where(sharper, other, value), np.where(sharper, of_other, variance)
    return value, np.sqrt(variance)


def _clear(bias: Array, noise: Array, count: int) -> NDArray[np.bool_]:
    """Whether a mean difference of so many replicates is clearly a bias: more than four standard errors, as is likely by chance
    for 3% of four replicates. For fewer the same quantile of Student's law."""
    found: NDArray[np.bool_] = bias**2 > {2: 22.7, 3: 5.85}.get(count, 4.0) ** 2 * noise
    return found


def _scale(level: Array) -> Array:
    """Powers of 2, one for each entry, that bring replicates near 1 whose squares would overflow or underflow; 1 for the others."""
    most = np.max(np.abs(level), axis=0)
    extreme = np.isfinite(most) & (most > 0) & ((most < 1e-100) | (most > 1e100))
    return np.ldexp(1.0, np.where(extreme, np.frexp(most)[1] - 1, 0))


def _mean(level: Array) -> tuple[Array, Array]:
    """The mean over replicates and its variance."""
    return level.mean(axis=0), level.var(axis=0, ddof=1) / len(level)


#: Arrays (R, ...) from coarse to fine, None where a level has no value; the last one has.
Levels = Sequence[Array | None]
#: A value, its variance, and the variance of the noise in the bias that they are made with.
_Judged = tuple[Array, Array, Array]


def _last(levels: Levels) -> Array:
    last = levels[-1]
    assert last is not None
    return last


def _by_halves(levels: Levels, sizes: Sequence[float], halves: Array) -> _Judged:
    """The bias from the difference between two halves and the whole.

    Under the law 1/size this difference equals the bias.
    """
    last = _last(levels)
    value, variance = _mean(last)
    bias, noise = _mean(halves - last[: len(halves)])
    left = _left(bias, bias**2, levels, sizes)
    plain = _clear(bias, noise, len(halves))
    kept = variance + np.maximum(bias**2 - noise, 0.0)
    return np.where(plain, value - bias, value), np.where(plain, variance + noise + left, kept), noise


def _left(bias: Array, otherwise: Array, levels: Levels, sizes: Sequence[float]) -> Array:
    """The square of the bias that remains after subtracting f(M/2) - f(M).

    Under the law M^-p this difference is (2^p - 1) b(M). A level of a quarter of the size determines 2^p if it is well above
    its noise (if not: `otherwise`); laws as slow as 1/√M are allowed for.
    """
    quarter = _level_of(levels, sizes, sizes[-1] / 4)
    if quarter is None:
        return otherwise
    far, noise = _mean(quarter - _last(levels))
    with np.errstate(all="ignore"):
        growth = np.clip(np.where(bias != 0, far / bias, 3.0) - 1, np.sqrt(2.0), 16.0)
    told = np.square(bias * (2 - growth) / (growth - 1)) + noise
    return np.where(_clear(far, noise, len(quarter)), told, otherwise)


def _level_of(levels: Levels, sizes: Sequence[float], size: float) -> Array | None:
    found = [x for x, own in zip(levels, sizes, strict=True) if x is not None and own == size]
    return found[-1] if found and found[-1].shape == _last(levels).shape else None


def _by_levels(levels: Levels, sizes: Sequence[float]) -> _Judged:
    """From up to three coarser levels, each the finest of its size.

    The bias is their mean difference from the last, over size_last/size - 1. The scramblings are common (the first half
    of a Sobol sequence is one).
    """
    last = _last(levels)
    value, variance = _mean(last)
    finest = {size: x for x, size in zip(levels, sizes, strict=True) if x is not None and size < sizes[-1]}
    coarser = [
        (finest[size] - last) / (sizes[-1] / size - 1)
        for size in sorted(finest, reverse=True)[:3]
        if finest[size].shape == last.shape
    ]
    if not coarser:
        return value, variance, np.full_like(variance, np.inf)
    bias, noise = _mean(np.mean(coarser, axis=0))
    kept = variance + np.maximum(bias**2 - noise, 0.0)
    if len(coarser) < 2:
        return value, kept, noise
    corrected, spread_corrected = _mean(last - coarser[0])
    disagreement = np.square((coarser[0] - coarser[1]).mean(axis=0))
    if _level_of(levels, sizes, sizes[-1] / 2) is not None:
        disagreement = _left(coarser[0].mean(axis=0), disagreement, levels, sizes)
    plain = _clear(bias, noise, len(last)) & (spread_corrected < kept)
    return np.where(plain, corrected, value), np.where(plain, spread_corrected + disagreement, kept), noise
