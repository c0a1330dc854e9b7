"""Orthonormal directions of kets: bases that grow, to a tolerance, from step to step.

Kets on particles are columns of arrays (replicates, samples, k). A basis keeps one direction per row (rows.py). Replicates share
arrays whether or not they need equally many directions: kets that need none are zero columns.
"""

from __future__ import annotations

import math

import numpy as np

from tp_compiler.evaluate.array_types import Array, Whole
from tp_compiler.evaluate.backend import contiguous, host
from tp_compiler.evaluate.sampling.averages import AVERAGES, Averages, Sizes, transposed
from tp_compiler.evaluate.sampling.conditioning.rows import Rows, appended
from tp_compiler.shapes import Float

#: A residual below this part of the ket's norm is rounding: the ket depends linearly on earlier ones.
TOLERANCE = 1e-11
#: A Gram matrix resolves directions down to the square root of the machine precision, double or single; weaker ones wait
#: for the next pass.
RESOLVED = {8: 1e-5, 4: 1e-2}
#: If all directions of residuals are above this part of the strongest, their Gram matrix as it is shows them well.
PLAIN = {8: 1e-3, 4: 3e-2}
#: As TOLERANCE, where kets are single, or trained matrices are kept by their entries, which are.
SINGLE = 1e-6
#: In training with more than this many products, nearly dependent directions are dropped.
MANY = 128
#: The threshold of trained matrices falls as DROP / samples, since what is dropped of an update is lost in first order.
DROP = 4.0
#: The square of that of initial matrices falls as DROPPED_SQUARE / samples: a Gaussian is lost, in second order.
DROPPED_SQUARE = 0.25
MOST_DROPPED = 0.03


def drop_of(products: int, samples: float, single: bool) -> float:
    """The part of a ket's norm below which its residual adds no direction to the updates of a trained matrix.

    Short programs keep every direction down to rounding. In long training nearly every ket is nearly dependent on those
    of earlier steps, and all directions would be as many as particles.
    """
    return _dropped(products, DROP / samples, single)


def dropped_of(products: int, samples: float, single: bool) -> float:
    """The same of the kets that an initial matrix meets.

    A dropped residual keeps its dot, and loses a Gaussian of this relative size that is independent of everything else.
    It enters averages in second order: measured (docs/benchmarks.md), the bias is 0.1 to 0.4 times the square of the
    threshold. Like the error of quasi-Monte Carlo the square falls as 1/M, so that the bias stays a small part of the
    error, and the ladder of sample sizes sees it.
    """
    return _dropped(products, math.sqrt(DROPPED_SQUARE / samples), single)


def _dropped(products: int, wanted: float, single: bool) -> float:
    least = SINGLE if single else TOLERANCE
    return max(least, min(MOST_DROPPED, wanted)) if products > MANY else least


class Basis:
    """Orthonormal directions |Q>."""

    def __init__(self, drop: float = TOLERANCE, averages: Averages = AVERAGES, rows: Rows | None = None):
        self.drop, self.averages = drop, averages
        self.rows = rows or Rows()

    @property
    def size(self) -> int:
        return self.rows.size

    @property
    def sizes(self) -> Sizes:
        return self.rows.sizes

    def project(
        self, x: Float[Array, "replicates samples k"]
    ) -> tuple[Float[Array, "replicates size k"], Float[Array, "replicates samples k"]]:
        """<Q|x> and the residual; computed twice if small residuals matter, or rounding grows."""
        q = self.rows
        a = q.seen(x, self.averages)
        residual = x - q.combined(a)
        if self.drop <= (TOLERANCE if x.dtype.itemsize == 8 else SINGLE):
            again = q.seen(residual, self.averages)
            residual -= q.combined(again)
            a += again
        return a, residual

    def fresh(
        self, residual: Float[Array, "replicates samples k"], norms: Float[Array, "replicates k"]
    ) -> tuple[Float[Array, "replicates samples new"], Sizes]:
        """New directions that span the residuals of kets with these norms, not yet appended, and how many there are.

        Orthogonalised against the old ones once more: what rounding leaves would be amplified from step to step.
        """
        found, counts = orthonormal(residual, norms, self.drop, self.averages)
        if found.shape[2] and self.size:
            found -= self.rows.combined(self.rows.seen(found, self.averages, counts), counts)
        return found, counts

    def coordinates(self, x: Float[Array, "replicates samples k"]) -> Float[Array, "replicates size k"]:
        """(replicates, size, k): the kets in the basis, which grows by the directions that they need."""
        old, residual = self.project(x) if self.size else (np.zeros_like(x, shape=(x.shape[0], 0, x.shape[2])), x)
        found, counts = self.fresh(residual, self.averages.norms(x))
        sizes = self.sizes or (0,) * len(x)
        self.rows = self.rows.grown(transposed(found), counts)
        if not found.shape[2]:
            return old
        return appended(old, self.averages.inner(found, residual, counts), sizes, counts, axis=1)


def orthonormal(
    residual: Float[Array, "replicates samples k"],
    norms: Float[Array, "replicates k"],
    drop: float,
    averages: Averages = AVERAGES,
) -> tuple[Float[Array, "replicates samples new"], Sizes]:
    """Orthonormal directions spanning the residuals, in descending order of variance, and how many every replicate has.

    So the weakest direction gets the last Sobol coordinate. They are the principal directions of the residuals, each along the
    residual nearest to it. `norms` are those of the kets themselves: a residual is compared with its own ket, so that small
    kets keep their directions in the presence of large ones.
    """
    largest = np.max(norms, axis=1, initial=0.0)
    scale = np.where(largest > 0, largest, np.inf)[:, None]
    unit = residual / scale[:, None]
    values, vectors = np.linalg.eigh(averages.constant(averages.inner(unit, unit)))
    clear = values > np.maximum(values[:, -1:] * PLAIN[unit.dtype.itemsize] ** 2, drop**2)
    plain = averages.agreed(clear[:, 0])
    weights = np.flip(vectors * signs(vectors) / np.sqrt(np.where(clear, values, np.inf))[:, None], axis=2)
    found = unit @ contiguous(weights)
    if plain.all():
        return averages.aligned(found, unit), (unit.shape[2],) * len(unit)
    left = averages.constant(np.where(plain[:, None, None], 0.0, unit))
    others, counts = _pass_by_pass(left, norms / scale, drop, averages)
    sizes = tuple(unit.shape[2] if each else count for each, count in zip(plain, counts, strict=True))
    both = np.where(plain[:, None, None], found, others)[:, :, : max(sizes)]
    return averages.aligned(contiguous(both), unit), sizes


def _pass_by_pass(
    residual: Float[Array, "replicates samples k"],
    norms: Float[Array, "replicates k"],
    drop: float,
    averages: Averages,
) -> tuple[Float[Array, "replicates samples k"], Sizes]:
    """The same for residuals of very different sizes.

    Each pass takes what the Gram matrix resolves and leaves the remainder, orthogonalised, to the next one.
    """
    resolved, most = RESOLVED[residual.dtype.itemsize], residual.shape[2]
    left = residual / np.where(norms > 0, norms, np.inf)[:, None]
    found, sizes = np.zeros_like(left, order="C"), np.zeros(len(left), dtype=int)
    going = np.ones(len(left), dtype=bool)
    while going.any():
        values, vectors = np.linalg.eigh(averages.inner(left, left))
        values, vectors = np.flip(values, axis=1), contiguous(np.flip(vectors, axis=2))
        strong = values > np.maximum(values[:, :1] * resolved**2, drop**2)
        counts = np.minimum(host(averages.agreed(strong).sum(axis=1)).astype(int), most - sizes)
        fresh = left @ (vectors / np.sqrt(np.where(strong, values, np.inf))[:, None])
        for r, (size, count) in enumerate(zip(sizes.tolist(), counts.tolist(), strict=True)):
            found[r, :, size : size + count] = fresh[r, :, :count]
        sizes += counts
        going = (counts > 0) & (sizes < most)
        if going.any():
            for _ in range(2):
                left = left - found @ averages.inner(found, left)
            kept = averages.agreed(averages.norms(left) > drop) & going[:, None]
            left, going = np.where(kept[:, None], left, 0.0), host(np.any(kept, axis=1)) > 0
    return _rotated(found, residual, sizes, averages), tuple(sizes.tolist())


def _rotated(
    found: Float[Array, "replicates samples k"],
    residual: Float[Array, "replicates samples k"],
    sizes: Whole,
    averages: Averages,
) -> Float[Array, "replicates samples k"]:
    """The same span, in principal directions of the given residuals, each along the residual nearest to it."""
    seen = averages.inner(found, residual)
    turns = np.zeros_like(seen, order="C")
    for size in set(sizes.tolist()) - {0}:
        members = np.flatnonzero(sizes == size)
        vectors, _, parts = np.linalg.svd(seen[members, :size], full_matrices=False)
        turns[members, :size, :size] = vectors * signs(transposed(parts))
    return found @ turns


def signs(vectors: Float[Array, "replicates a b"]) -> Float[Array, "replicates 1 b"]:
    """1 or -1 for every column, which makes its largest entry positive: libraries differ in the signs of vectors."""
    return np.sign(np.take_along_axis(vectors, np.argmax(np.abs(vectors), axis=1)[:, None], axis=1))
