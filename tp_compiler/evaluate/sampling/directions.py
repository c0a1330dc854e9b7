"""Orthonormal directions of kets: bases that grow, to a tolerance, from step to step.

Kets on particles are columns of arrays (samples, k), their inner product is <x|y> = Σ x y / samples. A basis keeps one
direction per row, in storage that doubles, so that appending is cheap.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.shapes import Float

#: A residual below this part of the ket's norm is rounding: the ket depends linearly on earlier ones.
TOLERANCE = 1e-11
#: A Gram matrix resolves directions down to the square root of the machine precision; weaker ones wait for the next
#: pass.
RESOLVED = 1e-5
#: The same where trained matrices are kept by their entries, which are single.
SINGLE = 1e-6
#: In training with more than this many products, nearly dependent directions, below DROP / samples, are dropped.
MANY = 128
DROP = 4.0
MOST_DROPPED = 0.03


def drop_of(products: int, samples: int, single: bool) -> float:
    """The part of a ket's norm below which its residual adds no direction.

    Short programs keep every direction down to rounding. In long training nearly every ket is nearly dependent on those
    of earlier steps, and all directions would be as many as particles. A dropped residual keeps its dot, and loses a
    Gaussian of this relative size, which enters averages in second order: measured (docs/benchmarks.md), the bias
    is a few hundredths of the threshold. Like the error of quasi-Monte Carlo the threshold falls as 1/M, so that the
    bias stays a small part of the error, and the ladder of sample sizes sees it.
    """
    least = SINGLE if single else TOLERANCE
    return max(least, min(MOST_DROPPED, DROP / samples)) if products > MANY else least


class Rows:
    """Rows (k, samples) appended in place."""

    def __init__(self, filled: Float[Array, "size samples"] | None = None):
        self.room: Any = filled
        self.size = 0 if filled is None else filled.shape[0]

    @property
    def values(self) -> Float[Array, "size samples"]:
        return self.room[: self.size]

    def extend(self, columns: Float[Array, "samples k"]) -> None:
        """`columns`: (samples, k)."""
        count = columns.shape[1]
        if self.room is None:
            self.room = np.empty((count, columns.shape[0]))
        elif self.size + count > self.room.shape[0]:
            room = np.empty((max(self.size + count, 2 * self.size), columns.shape[0]))
            room[: self.size] = self.values
            self.room = room
        self.room[self.size : self.size + count] = columns.T
        self.size += count

    def fork(self) -> Rows:
        """A copy that can grow separately; it shares storage until then."""
        return Rows(None if self.room is None else self.values)


class Basis:
    """Orthonormal directions |Q>."""

    def __init__(self, drop: float = TOLERANCE, rows: Rows | None = None):
        self.drop = drop
        self.rows = rows or Rows()

    def fork(self) -> Basis:
        return Basis(self.drop, self.rows.fork())

    @property
    def size(self) -> int:
        return self.rows.size

    def project(self, x: Float[Array, "samples k"]) -> tuple[Float[Array, "size k"], Float[Array, "samples k"]]:
        """<Q|x> and the residual; computed twice if small residuals matter, or rounding grows."""
        q, samples = self.rows.values, x.shape[0]
        a = q @ x / samples
        residual = x - q.T @ a
        if self.drop <= TOLERANCE:
            again = q @ residual / samples
            residual -= q.T @ again
            a += again
        return a, residual

    def fresh(self, residual: Float[Array, "samples k"], norms: Float[Array, " k"]) -> Float[Array, "samples new"]:
        """New directions that span the residuals of kets with these norms, (samples, k), not yet appended.

        Orthogonalised against the old ones once more: what rounding leaves would be amplified from step to step.
        """
        found = orthonormal(residual, norms, self.drop)
        if found.shape[1] and self.size:
            q = self.rows.values
            found -= q.T @ (q @ found / residual.shape[0])
        return found

    def coordinates(self, x: Float[Array, "samples k"]) -> Float[Array, "size k"]:
        """(size, k): the kets in the basis, which grows by the directions that they need."""
        old, residual = self.project(x) if self.size else (np.zeros((0, x.shape[1])), x)
        found = self.fresh(residual, norms_of(x))
        if not found.shape[1]:
            return old
        self.rows.extend(found)
        return np.concatenate([old, found.T @ residual / x.shape[0]])


def norms_of(x: Float[Array, "samples k"]) -> Float[Array, " k"]:
    """√<x|x> of every column, without under- or overflow on the way."""
    largest = np.max(np.abs(x), axis=0, initial=0.0)
    safe = np.where(largest > 0, largest, 1.0)
    return largest * np.sqrt(np.mean(np.square(x / safe), axis=0))


def orthonormal(
    residual: Float[Array, "samples k"], norms: Float[Array, " k"], drop: float
) -> Float[Array, "samples new"]:
    """Orthonormal directions spanning the residuals, in descending order of variance.

    So the weakest direction gets the last Sobol coordinate. `norms` are those of the kets themselves: a residual is
    compared with its own ket, so that small kets keep their directions in the presence of large ones. Each pass takes what the
    Gram matrix resolves and leaves the remainder, orthogonalised, to the next one.
    """
    samples = residual.shape[0]
    alive = norms > 0
    left = residual[:, alive] / norms[alive]
    found = left[:, :0]
    while left.shape[1]:
        values, vectors = np.linalg.eigh(left.T @ left / samples)
        order = np.argsort(values)[::-1]
        kept = order[values[order] > max(values[-1] * RESOLVED**2, drop**2)]
        if not len(kept):
            break
        fresh = left @ (vectors[:, kept] / np.sqrt(values[kept]))
        found = np.concatenate([found, fresh], axis=1)
        if len(kept) == left.shape[1]:
            break
        for _ in range(2):
            left = left - found @ (found.T @ left / samples)
        left = left[:, norms_of(left) > drop]
    return rotated(found, residual)


def rotated(found: Float[Array, "samples new"], residual: Float[Array, "samples k"]) -> Float[Array, "samples new"]:
    """The same span, in principal directions of the given residuals."""
    if found.shape[1] < 2:
        return found
    vectors, _, _ = np.linalg.svd(found.T @ residual / residual.shape[0])
    return found @ vectors
