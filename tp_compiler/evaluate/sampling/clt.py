"""`clt` scalars in the limit: jointly Gaussian, with covariances E[v x v' x'] (docs/mathematics.md, section 4).

If later statements use their values they are drawn, one draw for each run of the program (an outer loop); the
draws are conditioned on those of earlier `clt` scalars, since later kets may depend on them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.backend import host
from tp_compiler.evaluate.sampling.averages import AVERAGES, Averages, transposed
from tp_compiler.ir import nodes as ir
from tp_compiler.shapes import Float


class CltScalars:
    """The laws of `clt` scalars in one run of some replicates.

    `coordinates` are N(0,1) numbers for the draw, or None: every scalar is 0.
    """

    def __init__(
        self, coordinates: Float[Array, "replicates coordinates"] | None = None, averages: Averages = AVERAGES
    ):
        self.coordinates, self.averages = coordinates, averages
        self.at = 0
        self.products: dict[int, Any] = {}  # space -> (replicates, samples, k): v x of the scalars so far
        self.drawn: dict[int, Any] = {}  # space -> (replicates, k): their values
        self.covariance: dict[ir.Node, Any] = {}  # (replicates, n, n), of one instruction's flattened entries

    def value(
        self, node: ir.Clt, product: Float[Array, "replicates samples k"], space: int
    ) -> Float[Array, "replicates k"]:
        """The drawn value of a family of `clt` scalars; product is v x."""
        replicates, _, count = product.shape
        averages = self.averages.of(space)
        own = averages.inner(product, product)
        self.covariance[node] = host(own)
        if self.coordinates is None:
            return np.zeros((replicates, count))
        fresh = self.coordinates[:, self.at : self.at + count, None]
        self.at += count
        mean = np.zeros((replicates, count, 1))
        if space in self.products:
            earlier, values = self.products[space], self.drawn[space]
            among = averages.inner(earlier, earlier)
            cross = averages.inner(earlier, product)
            weights = np.linalg.pinv(among, rcond=1e-10, hermitian=True) @ cross
            mean = transposed(weights) @ values[:, :, None]
            own = own - transposed(cross) @ weights
        eigenvalues, vectors = np.linalg.eigh(own)
        draw = (mean + vectors @ (np.sqrt(np.maximum(eigenvalues, 0.0))[:, :, None] * fresh))[:, :, 0]
        self._remember(space, product, draw)
        return draw

    def _remember(
        self, space: int, product: Float[Array, "replicates samples k"], draw: Float[Array, "replicates k"]
    ) -> None:
        if space in self.products:
            product = np.concatenate([self.products[space], product], axis=2)
            draw = np.concatenate([self.drawn[space], draw], axis=1)
        self.products[space], self.drawn[space] = product, draw
