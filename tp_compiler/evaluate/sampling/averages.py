"""Averages over particles: what the sampler sums over the neurons of a space passes through `Averages`.

A ket on particles is a column of an array (replicates, samples, k), and <x|y> = Σ x y / samples, or Σ w x y / samples if the
particles have weights w (weighted.py). Where replicates have different numbers of kets, arrays are as large as the largest
needs and zero beyond, and each product is the one that a replicate has by itself: its digits depend on neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate.array_types import Array, Mask
from tp_compiler.evaluate.backend import compact, detached
from tp_compiler.shapes import Float

#: How many rows or columns every replicate has.
Sizes = tuple[int, ...]
#: Mean squares between this number and its inverse have lost nothing to under- or overflow.
SMALLEST = 1e-200


class Averages:
    """Of the particles that each row of an array holds: all of its replicate.

    `count`: the rows among which the particles of a replicate are divided (shards.py).
    """

    count = 1
    equal = True  # whether all particles have the weight 1
    #: Of the particles of a space, (replicates, samples), with mean 1; None if all are 1.
    weights: Any = None

    def of(self, space: int) -> Averages:
        """The averages over the particles of one space."""
        return self

    def weighed(self, x: Float[Array, "replicates samples *rest"]) -> Float[Array, "replicates samples *rest"]:
        """Kets whose plain averages are the averages of these."""
        return x

    def constant(self, x: Array) -> Array:
        """Numbers that choose directions, and do not change what these span."""
        return x

    def resolution(self, samples: int) -> float:
        """The number of particles whose error is as small as what is asked of so many."""
        return samples

    def agreed(self, choices: Mask) -> Mask:
        """Choices of the replicates, such as which directions kets need, as far as they must make the same."""
        return choices

    def aligned(
        self, found: Float[Array, "replicates samples new"], kets: Float[Array, "replicates samples k"]
    ) -> Float[Array, "replicates samples new"]:
        """The directions found in the span of kets, turned to those that the replicates are to have in common."""
        return found

    def joined(self, rows: Array) -> Array:
        """Averages over the particles of each row as averages over all particles of its replicate."""
        return rows

    def inner(
        self,
        x: Float[Array, "replicates samples k"],
        y: Float[Array, "replicates samples l"],
        rows: Sizes | None = None,
        columns: Sizes | None = None,
    ) -> Float[Array, "replicates k l"]:
        """<x|y> of all pairs of columns, or of as many of x and of y as each replicate has."""
        return self.joined(product(transposed(x), self.weighed(y), rows, None, columns) / x.shape[1])

    def norms(self, x: Float[Array, "replicates samples k"]) -> Float[Array, "replicates k"]:
        """√<x|x> of every column, without under- or overflow on the way."""
        squares = self.joined(np.einsum("rsk,rsk->rk", x, self.weighed(x)) / x.shape[1])
        safe = (squares > SMALLEST) & (squares < 1 / SMALLEST)
        if safe.all():
            return np.sqrt(squares)
        largest = self.largest(np.max(np.abs(x), axis=1, initial=0.0))
        scale = np.where(largest > 0, largest, 1.0)
        parts = self.joined(np.mean(self.weighed(np.square(x / scale[:, None])), axis=1))
        scaled = largest * np.sqrt(np.maximum(parts, 0.0))  # weights may hide all particles of a ket
        return np.where(safe, np.sqrt(squares), scaled)

    def largest(self, rows: Array) -> Array:
        """The largest of the numbers of all rows of a replicate."""
        return rows

    def first(self, problem: Diagnostic | None) -> Diagnostic | None:
        """What is wrong in any row of a replicate: all of them must come to the same end."""
        return problem


class WeightedAverages(Averages):
    """Of particles with weights, space by space. All replicates have the points of the first one, and differ from it in their
    weights alone: they make its choices, so that results are smooth functions of weights."""

    equal = False

    def __init__(self, spaces: Mapping[int, Float[Array, "replicates samples"]], weights: Any = None):
        """`weights`: those of the space that is meant; without it, only `of` gives averages."""
        self.spaces, self.weights = spaces, weights

    def of(self, space: int) -> Averages:
        return WeightedAverages(self.spaces, self.spaces[space])

    def weighed(self, x: Float[Array, "replicates samples *rest"]) -> Float[Array, "replicates samples *rest"]:
        assert self.weights is not None, "an average must say of which space"
        return x * self.weights.reshape(*self.weights.shape, *(1,) * (x.ndim - 2))

    def resolution(self, samples: int) -> float:
        """What is divided by a square of weights, which move averages by 1/√M, is as exact as averages."""
        return float(samples) ** 2

    def agreed(self, choices: Mask) -> Mask:
        return np.broadcast_to(choices[:1], choices.shape)

    def aligned(
        self, found: Float[Array, "replicates samples new"], kets: Float[Array, "replicates samples k"]
    ) -> Float[Array, "replicates samples new"]:
        """The orthonormal directions closest to those of the first replicate: the polar factor of what they have in common."""
        if not found.shape[2]:
            return found
        left, _, right = np.linalg.svd(self.inner(found, np.broadcast_to(found[:1], found.shape)), full_matrices=False)
        return found @ (left @ right)


class DifferentiableAverages(WeightedAverages):
    """Of particles whose weights are variables, near 1: tensors that know what they are made of."""

    def of(self, space: int) -> Averages:
        return DifferentiableAverages(self.spaces, self.spaces[space])

    def constant(self, x: Array) -> Array:
        return detached(x)

    def resolution(self, samples: int) -> float:
        """Directions of remainders that weights turn as a whole have no use: they are dropped as in a limit."""
        return samples

    def norms(self, x: Float[Array, "replicates samples k"]) -> Float[Array, "replicates k"]:
        return detached(super().norms(x))

    def aligned(
        self, found: Float[Array, "replicates samples new"], kets: Float[Array, "replicates samples k"]
    ) -> Float[Array, "replicates samples new"]:
        """The same directions as functions of weights, in first order: combinations of the kets that do not change, made orthonormal
        again without turning them. Eigenvectors would have infinite derivatives where eigenvalues coincide."""
        if not found.shape[2]:
            return found
        moved = kets @ np.linalg.pinv(detached(self.inner(found, kets)))
        gram, seen = self.inner(moved, moved), self.inner(moved, detached(moved))
        return moved @ (1.5 * np.eye(gram.shape[1]) - gram / 2 + (seen - transposed(seen)) / 2)


def transposed(x: Float[Array, "replicates a b"]) -> Float[Array, "replicates b a"]:
    return x.transpose(0, 2, 1)


def even(sizes: Sizes | None) -> bool:
    """Whether all replicates have the same; None: as much as the array has."""
    return sizes is None or min(sizes) == max(sizes)


def product(
    a: Float[Array, "replicates a b"],
    b: Float[Array, "replicates b c"],
    rows: Sizes | None = None,
    terms: Sizes | None = None,
    columns: Sizes | None = None,
) -> Float[Array, "replicates a c"]:
    """Products of the matrices of every replicate, without what is beyond the sizes that it has."""
    if even(rows) and even(terms) and even(columns):
        return a @ b
    found = np.zeros_like(a, np.result_type(a.dtype, b.dtype), "C", shape=(len(a), a.shape[1], b.shape[2]))
    for r in range(len(a)):
        p, q, s = (None if sizes is None else sizes[r] for sizes in (rows, terms, columns))
        found[r, :p, :s] = compact(a[r, :p, :q]) @ compact(b[r, :q, :s])
    return found


#: Of replicates that have a row each.
AVERAGES = Averages()
