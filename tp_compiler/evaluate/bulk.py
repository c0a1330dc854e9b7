"""One error for a whole large array, so that its entries are not read again for each operation: share · |x| + floor.

A `Bulk` says that every entry x is off by at most share · |x| + floor. Rounding of a product with a
number, or of a sum with one, increases the share; nothing is computed entry by entry until it is needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tp_compiler.evaluate.array_types import Array, Error, Mask, Numbers

EPS = 2.0**-53
GRID = 2.0**20  # multiples of 2^-20 below 2^32 are taken to be exact: sums and products of small whole numbers are
LARGE = 2**12  # entries; an array of more may have one error for all
FEW = 2**13  # entries in a row; below, the places of the extreme ones are found sooner than the numbers
_LOOKED_AT = 64  # entries of a large array examined for one that is not an integer


@dataclass(slots=True, unsafe_hash=True)  # never changed, but frozen would take five times as long to make
class Bulk:
    """An entry x is off by share · |x| + floor at most."""

    share: float = 0.0
    floor: float = 0.0

    def on(self, values: Numbers) -> Numbers:
        """Entry by entry; rounding does not affect values that are not finite."""
        if not self.share:
            return np.float64(self.floor)
        return np.where(np.isfinite(values), self.share * np.abs(values), 0.0) + self.floor

    def within(self, size: float) -> float:
        """The largest, of entries up to `size`."""
        return self.share * size + self.floor


class Extent(NamedTuple):
    """The least and the largest of some numbers."""

    low: float
    high: float

    @classmethod
    def of(cls, x: Array) -> Extent:
        if x.size <= FEW and x.flags.c_contiguous:
            return cls(x.item(x.argmin()), x.item(x.argmax()))
        return cls(float(np.minimum.reduce(x, axis=None)), float(np.maximum.reduce(x, axis=None)))

    @property
    def largest(self) -> float:
        """max |x|; NaN if there is one among the numbers."""
        return self.high if self.high >= -self.low else -self.low

    @property
    def least(self) -> float:
        """A bound of min |x|: 0 if there may be numbers of both signs."""
        return self.low if self.low > 0 else -self.high if self.high < 0 else 0.0


def of(error: Error | Bulk) -> Bulk | None:
    """An error as one number for all entries; None if it is given entry by entry."""
    if error is None or isinstance(error, Bulk):
        return error or Bulk()
    return Bulk(0.0, float(error)) if np.ndim(error) == 0 else None


def on_grid(x: Numbers) -> Mask:
    """Where numbers are taken to be exact."""
    grid = x * GRID
    return (grid == np.rint(grid)) & (np.abs(x) < 2.0**32)


def plainly_rounded(result: Array) -> bool:
    """Whether a large array contains rounded numbers, judged by a few entries."""
    if result.size <= LARGE:
        return False
    each = math.ceil(_LOOKED_AT ** (1 / result.ndim))
    return not np.all(on_grid(result[tuple(slice(None, None, max(1, size // each)) for size in result.shape)]))


def of_product(result: Array, error: Error | Bulk, number: float, off: float) -> Bulk | None:
    """The error of x · number from the error of the large array x; None if the entries must be examined."""
    own, size = of(error), abs(number)
    if own is None or not size or not math.isfinite(size) or not plainly_rounded(result):
        return None
    rounded = 0.0 if math.frexp(size)[0] == 0.5 else EPS
    return Bulk(own.share + (1 + own.share) * off / size + rounded, own.floor * (size + off))


def of_sum(result: Array, error: Error | Bulk, number: float, off: float) -> Bulk | None:
    """The error of x + number: |x| is at most |x + number| + |number|."""
    own, size = of(error), abs(number)
    if own is None or not math.isfinite(size) or not plainly_rounded(result):
        return None
    return Bulk(own.share + EPS, own.floor + own.share * size + off)
