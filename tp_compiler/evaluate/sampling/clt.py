"""`clt` scalars in the limit: jointly Gaussian, with covariances E[v x v' x'] (docs/mathematics.md, section 4).

If later statements use their values they are drawn, one draw for each run of the program (an outer loop); the
draws are conditioned on those of earlier `clt` scalars, since later kets may depend on them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.ir import nodes as ir
from tp_compiler.shapes import Float


class CltScalars:
    """The laws of `clt` scalars in one run. `coordinates` are N(0,1) numbers for the draw, or None: every scalar is 0."""

    def __init__(self, coordinates: Float[Array, " coordinates"] | None = None):
        self.coordinates = coordinates
        self.at = 0
        self.products: dict[int, Any] = {}  # space -> (samples, k): v x of the scalars so far
        self.drawn: dict[int, Any] = {}  # space -> (k,): their values
        self.covariance: dict[ir.Node, Any] = {}  # the covariance of one instruction's flattened entries

    def value(self, node: ir.Clt, product: Float[Array, "samples k"], space: int) -> Float[Array, " k"]:
        """The drawn value of a family of `clt` scalars; product is v x, (samples, k)."""
        samples = product.shape[0]
        own = product.T @ product / samples
        self.covariance[node] = own
        if self.coordinates is None:
            return np.zeros(product.shape[1])
        fresh = self.coordinates[self.at : self.at + product.shape[1]]
        self.at += product.shape[1]
        mean = np.zeros(product.shape[1])
        if space in self.products:
            earlier, values = self.products[space], self.drawn[space]
            among = earlier.T @ earlier / samples
            cross = earlier.T @ product / samples
            weights = np.linalg.pinv(among, rcond=1e-10, hermitian=True) @ cross
            mean = values @ weights
            own = own - cross.T @ weights
        eigenvalues, vectors = np.linalg.eigh(own)
        draw = mean + vectors @ (np.sqrt(np.maximum(eigenvalues, 0.0)) * fresh)
        self._remember(space, product, draw)
        return draw

    def _remember(self, space: int, product: Float[Array, "samples k"], draw: Float[Array, " k"]) -> None:
        if space in self.products:
            product = np.concatenate([self.products[space], product], axis=1)
            draw = np.concatenate([self.drawn[space], draw])
        self.products[space], self.drawn[space] = product, draw
