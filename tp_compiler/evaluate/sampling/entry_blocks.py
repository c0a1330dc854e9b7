"""Entries of trained matrices on particles: P × P pairs of each block of rows with its partner block of columns."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tp_compiler.evaluate.array_types import Array, ArraysByNode
from tp_compiler.evaluate.arrays import aligned, labels
from tp_compiler.ir import nodes as ir
from tp_compiler.shapes import Float

#: The label of the dimension that numbers the blocks.
BLOCK = -1
#: Entries are single: sums over them are averages with errors far above its rounding. Particles stay double.
PRECISION = np.float32
Entries = NDArray[np.float32]
Real = TypeVar("Real", Array, Entries)


def block_size(samples: int) -> int:
    """P for M particles: √M, rounded up to a power of two, and at least eight blocks."""
    return max(1, min(samples // 8, 1 << samples.bit_length() // 2))


def entry_bytes(samples: int) -> float:
    """The bytes of one state of one matrix."""
    return float(samples * block_size(samples) * np.dtype(PRECISION).itemsize)


class EntryBlocks:
    """The entries of the states of one matrix (family) and its optimizer, and the pairing of blocks of rows and columns."""

    def __init__(
        self, states: list[ir.State], values: ArraysByNode, samples: int, paired: int, partner: int
    ):  # fmt: skip
        """`paired`: P; `partner`: a random number that chooses the partners of the blocks."""
        self.states = states
        self.indices = states[0].type.indices
        self.slot = states[0].slot
        self.samples = samples
        self.paired = paired
        self.count = samples // self.paired
        self.shift = partner % (self.count - 1) + 1 if self.count > 1 else 0
        rows, cols = (w.ratio for _, w in states[0].type.slots)
        self.ratio = rows / cols
        self.shape = tuple(i.size for i in self.indices)
        size = (*self.shape, self.count, self.paired, self.paired)
        self.entries = {}
        for s in states:
            start = aligned(values[s.init], labels(s.init.type), (*self.indices, BLOCK, 0, self.slot))
            self.entries[s] = np.array(np.broadcast_to(start, size), dtype=PRECISION)

    def to_partner(self, x: Float[Real, " blocks *rest"]) -> Float[Real, " blocks *rest"]:
        """Blocks of column particles, in the order of the blocks of rows with which they are paired."""
        return np.roll(x, -self.shift, axis=0)

    def _from_partner(self, y: Float[Entries, "samples k"]) -> Float[Entries, "samples k"]:
        return np.roll(y, self.shift * self.paired, axis=0)
