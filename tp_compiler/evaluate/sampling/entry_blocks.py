"""Entries of trained matrices on particles: P × P pairs of each block of rows with its partner block of columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.arrays import Labels
from tp_compiler.evaluate.backend import contiguous
from tp_compiler.evaluate.sampling.shared_values import SharedValues, whole
from tp_compiler.ir import nodes as ir
from tp_compiler.shapes import CHECKED, Float

#: The label of the dimension that numbers the blocks.
BLOCK = -1
#: Entries are single: sums over them are averages with errors far above its rounding. Particles stay double.
PRECISION = np.float32
Entries = NDArray[np.float32]
if CHECKED and not TYPE_CHECKING:
    Entries = Entries | np.float32  # arrays without dimensions
Real = TypeVar("Real", Array, Entries)


def block_size(samples: int) -> int:
    """P for M particles: √M, rounded up to a power of two, and at least eight blocks."""
    return max(1, min(samples // 8, 1 << samples.bit_length() // 2))


def entry_bytes(samples: int) -> float:
    """The bytes of one state of one matrix."""
    return float(samples * block_size(samples) * np.dtype(PRECISION).itemsize)


class EntryBlocks:
    """The entries of the states of one matrix (family) and its optimizer, and the pairing of blocks of rows and columns.

    The blocks of all replicates are one dimension.
    """

    def __init__(self, states: list[ir.State], run: SharedValues, paired: int, partners: Sequence[int]):
        """`paired`: P; `partners`: for every replicate a random number that chooses the partners of its blocks."""
        self.states, self.run = states, run
        self.indices = states[0].type.indices
        self.slot = states[0].slot
        self.samples = run.samples
        self.paired = paired
        self.each = run.samples // paired  # blocks of one replicate
        self.count = self.each * run.replicates
        blocks = np.arange(self.each)
        shifts = [partner % (self.each - 1) + 1 if self.each > 1 else 0 for partner in partners]
        self.partner = np.concatenate([r * self.each + np.roll(blocks, -shift) for r, shift in enumerate(shifts)])
        self.rows = np.argsort(self.partner)
        rows, cols = (w.ratio for _, w in states[0].type.slots)
        self.ratio = rows / cols
        self.shape = tuple(i.size for i in self.indices)
        self.entries = {s: self._first(s) for s in states}

    def _first(self, state: ir.State) -> Entries:
        labels_: Labels = (*self.indices, BLOCK, 0, self.slot)
        start = whole(self.run, state.init, labels_, (*self.shape, self.each, self.paired, self.paired))
        blocks = np.moveaxis(start, 0, len(self.shape))  # the replicates' blocks one after the other
        shape = (*self.shape, self.count, self.paired, self.paired)
        return blocks.astype(PRECISION).copy().reshape(shape)

    def to_partner(self, x: Float[Real, " blocks *rest"]) -> Float[Real, " blocks *rest"]:
        """Blocks of column particles, in the order of the blocks of rows with which they are paired."""
        return x[self.partner]

    def from_partner(self, y: Float[Entries, " blocks *rest"]) -> Float[Entries, " blocks *rest"]:
        return y[self.rows]

    def blocks(self, x: Array) -> Float[Array, "blocks paired *rest"]:
        """A ket (replicates, samples, ...) in blocks."""
        return contiguous(x).reshape(self.count, self.paired, *x.shape[2:])
