"""Rows that grow: directions, their images, and coefficients, of which every replicate has as many as it needs."""

from __future__ import annotations

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.sampling.averages import Averages, Sizes, even, product, transposed
from tp_compiler.shapes import Float


def total(sizes: Sizes, counts: Sizes) -> Sizes:
    return tuple(size + count for size, count in zip(sizes, counts, strict=True))


def appended(
    first: Float[Array, "replicates a b"],
    second: Float[Array, "replicates c d"],
    sizes: Sizes,
    counts: Sizes,
    axis: int,
) -> Array:
    """The rows (axis 1) or columns (axis 2) that every replicate has in the first array, and then those in the second."""
    if even(sizes) and even(counts):
        return np.concatenate([first, second], axis=axis)
    both = total(sizes, counts)
    shape = [*first.shape]
    shape[axis] = max(both)
    found = np.zeros_like(first, order="C", shape=tuple(shape))
    parts = [x if axis == 1 else transposed(x) for x in (found, first, second)]
    for to, one, other, size, end, count in zip(*parts, sizes, both, counts, strict=True):
        to[:size] = one[:size]
        to[size:end] = other[:count]
    return found


class _Room:
    """Storage of rows, shared by all who have grown in it: `filled` rows of every replicate are taken."""

    def __init__(self, values: Float[Array, "replicates most samples"], filled: Sizes):
        self.values, self.filled = values, filled


class Rows:
    """Rows (replicates, size, samples), `sizes` of them in every replicate; what is beyond means nothing.

    Growing leaves them as they are; the first to grow goes on in the same storage, which doubles, so that appending is
    cheap.
    """

    def __init__(self, room: _Room | None = None, sizes: Sizes = ()):
        self._room, self.sizes = room, sizes
        self.size = max(sizes, default=0)

    @property
    def values(self) -> Float[Array, "replicates size samples"]:
        assert self._room is not None
        return self._room.values[:, : self.size]

    @property
    def columns(self) -> Float[Array, "replicates samples size"]:
        return transposed(self.values)

    def grown(self, rows: Float[Array, "replicates k samples"], counts: Sizes) -> Rows:
        """These, and so many more in every replicate."""
        replicates, _, samples = rows.shape
        before = self.sizes or (0,) * replicates
        if not any(counts):
            return Rows(self._room, before)
        after = total(before, counts)
        size, room = max(after), self._room
        if room is None or room.filled != before or size > room.values.shape[1]:
            values = np.empty_like(rows, order="C", shape=(replicates, max(size, 2 * self.size), samples))
            if self.size:
                values[:, : self.size] = self.values
            room = _Room(values, before)
        if even(before) and even(counts):
            room.values[:, self.size : size] = rows
        else:
            for r, count in enumerate(counts):
                room.values[r, before[r] : after[r]] = rows[r, :count]
        room.filled = after
        return Rows(room, after)

    def last(self, counts: Sizes) -> Float[Array, "replicates new samples"]:
        """The last rows of every replicate, zero where it has fewer."""
        values = self.values
        if even(self.sizes) and even(counts):
            return values[:, self.size - max(counts) :]
        found = np.zeros_like(values, order="C", shape=(len(values), max(counts), values.shape[2]))
        for r, (size, count) in enumerate(zip(self.sizes, counts, strict=True)):
            found[r, :count] = values[r, size - count : size]
        return found

    def seen(
        self, x: Float[Array, "replicates samples k"], averages: Averages, columns: Sizes | None = None
    ) -> Float[Array, "replicates size k"]:
        """<rows|x>."""
        return averages.inner(self.columns, x, self.sizes, columns)

    def combined(
        self, a: Float[Array, "replicates size k"], columns: Sizes | None = None
    ) -> Float[Array, "replicates samples k"]:
        """Σ |row> a."""
        return product(self.columns, a, None, self.sizes, columns)
