"""Averages over particles: what the sampler sums over the neurons of a space passes through `Averages`.

A ket on particles is a column of an array (replicates, samples, k), and <x|y> = Σ x y / samples.
"""

from __future__ import annotations

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate.array_types import Array
from tp_compiler.shapes import Float

#: Mean squares between this number and its inverse have lost nothing to under- or overflow.
SMALLEST = 1e-200


class Averages:
    """Of the particles that each row of an array holds: all of its replicate.

    `count`: the rows among which the particles of a replicate are divided (shards.py).
    """

    count = 1

    def joined(self, rows: Array) -> Array:
        """Averages over the particles of each row as averages over all particles of its replicate."""
        return rows

    def inner(
        self, x: Float[Array, "replicates samples k"], y: Float[Array, "replicates samples l"]
    ) -> Float[Array, "replicates k l"]:
        """<x|y> of all pairs of columns."""
        return self.joined(transposed(x) @ y / x.shape[1])

    def norms(self, x: Float[Array, "replicates samples k"]) -> Float[Array, "replicates k"]:
        """√<x|x> of every column, without under- or overflow on the way."""
        squares = self.joined(np.einsum("rsk,rsk->rk", x, x) / x.shape[1])
        if ((squares > SMALLEST) & (squares < 1 / SMALLEST)).all():
            return np.sqrt(squares)
        largest = self.largest(np.max(np.abs(x), axis=1, initial=0.0))
        safe = np.where(largest > 0, largest, 1.0)
        return largest * np.sqrt(self.joined(np.mean(np.square(x / safe[:, None]), axis=1)))

    def largest(self, rows: Array) -> Array:
        """The largest of the numbers of all rows of a replicate."""
        return rows

    def first(self, problem: Diagnostic | None) -> Diagnostic | None:
        """What is wrong in any row of a replicate: all of them must come to the same end."""
        return problem


def transposed(x: Float[Array, "replicates a b"]) -> Float[Array, "replicates b a"]:
    return x.transpose(0, 2, 1)


#: Of replicates that have a row each.
AVERAGES = Averages()
