"""The span of the kets that a matrix has met, found once for all matrices that have met the same kets.

The queries, keys and values of all heads see the same kets: their orthonormal directions are the same, only the images
differ. Spans do not change. The next one, with some more kets, is found by the first matrix that meets these; the
others take it, as long as it is somebody's latest.

Kets that are nearly dependent share directions: a span that drops more than rounding is loose. It takes the fewest
principal directions that leave less than `drop` of every ket, from a Gram matrix in double precision; directions, and
everything computed with them, are single where that is far more exact than the part that is dropped.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any
from weakref import ref

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.backend import contiguous, host
from tp_compiler.evaluate.sampling.averages import AVERAGES, Averages, Sizes, product, transposed
from tp_compiler.evaluate.sampling.conditioning.directions import SINGLE, TOLERANCE, Basis, signs
from tp_compiler.evaluate.sampling.conditioning.rows import Rows, appended
from tp_compiler.evaluate.sampling.entry_blocks import PRECISION
from tp_compiler.shapes import Float

#: Directions are single if what is dropped of a ket has a square of so many roundings.
ROUNDINGS = 100
#: Eigenvalues of a Gram matrix of normalised kets below so many roundings are rounding errors; below its square, if the
#: matrix itself is single, as it is in runs that are.
RESOLVED = 16


@dataclass(frozen=True, eq=False)
class Kets:
    """Which kets: those at a place of a value. They are as long as the value is."""

    value: ref[Any]
    place: tuple[Hashable, ...]

    @classmethod
    def at(cls, value: Array, *place: Hashable) -> Kets:
        return cls(ref(value), place)

    def same(self, other: Kets | None) -> bool:
        if other is None or self.place != other.place:
            return False
        return self.value() is not None and self.value() is other.value()


class KetSpan:
    """Orthonormal directions |Q>, and the coefficients in them of the kets that were met last."""

    def __init__(self, drop: float = TOLERANCE, averages: Averages = AVERAGES, rows: Rows | None = None):
        self.drop, self.averages = drop, averages
        self.rows = rows or Rows()
        self.new: Sizes = ()  # how many of the directions of every replicate are new
        self.coefficients: Any = None  # (replicates, size, k), of the kets that were met last; if loose, of their units
        self.unit: Any = None  # these kets, (replicates, samples, k), and their norms
        self.norms: Any = None
        self._following: list[tuple[Kets, ref[KetSpan]]] = []

    @property
    def size(self) -> int:
        return self.rows.size

    @property
    def sizes(self) -> Sizes:
        return self.rows.sizes

    @property
    def fresh(self) -> Float[Array, "replicates new samples"]:
        return self.rows.last(self.new)

    @property
    def loose(self) -> bool:
        """Whether parts of kets are dropped that are more than rounding: what is left of them keeps its dots."""
        return self.drop > SINGLE

    @property
    def precision(self) -> Any:
        return precision_of(self.drop)

    def met(self, x: Float[Array, "replicates samples k"], kets: Kets | None = None) -> KetSpan:
        """The span of these kets as well."""
        if kets is not None:
            self._following = [(k, s) for k, s in self._following if s() is not None]
            for known, span in self._following:
                found = span()
                if found is not None and kets.same(known):
                    return found
        found = self._loosely(x) if self.loose else self._exactly(x)
        before = self.sizes or (0,) * len(x)
        found.new = tuple(size - known for size, known in zip(found.sizes, before, strict=True))
        if kets is not None:
            self._following.append((kets, ref(found)))
        return found

    def _exactly(self, x: Float[Array, "replicates samples k"]) -> KetSpan:
        basis = Basis(self.drop, self.averages, self.rows)
        coefficients = basis.coordinates(x)
        found = KetSpan(self.drop, self.averages, basis.rows)
        found.coefficients = coefficients
        return found

    # -- nearly dependent kets ----------------------------------------------------------------------------------
    def _loosely(self, x: Float[Array, "replicates samples k"]) -> KetSpan:
        found = KetSpan(self.drop, self.averages, self.rows)
        found.norms = self.averages.norms(x)
        exact = x / np.where(found.norms > 0, found.norms, 1.0)[:, None]
        found.unit = unit = exact.astype(self.precision)
        gram = self.averages.inner(exact, exact)
        known = np.zeros_like(unit, shape=(unit.shape[0], 0, unit.shape[2]))
        if self.size:
            known = self.rows.seen(unit, self.averages)
            wide = known.astype(np.float64)
            gram -= product(transposed(wide), wide, terms=self.sizes)
        resolved = RESOLVED * float(np.finfo(unit.dtype).eps) * (RESOLVED if gram.dtype.itemsize == 4 else 1)
        weights, new = principal(gram, self.drop, resolved, self.averages)
        found.coefficients = known
        fresh = self._orthogonal(unit, known, weights.astype(self.precision), new)
        found.rows = self.rows.grown(fresh, new)
        if weights.shape[2]:
            seen = self.averages.inner(transposed(fresh), unit, new)
            found.coefficients = appended(known, seen, self.sizes or (0,) * len(x), new, axis=1)
        return found

    def _orthogonal(
        self,
        unit: Float[Array, "replicates samples k"],
        known: Float[Array, "replicates size k"],
        weights: Float[Array, "replicates k new"],
        new: Sizes,
    ) -> Float[Array, "replicates new samples"]:
        """Combinations of kets, orthonormal to each other and to the directions before them.

        Once more than the formula says: the rounding errors of small remainders would be amplified from step to step.
        """
        fresh = product(transposed(weights), transposed(unit), new)
        if not fresh.shape[1]:
            return fresh
        if self.size:
            q, sizes = self.rows, self.sizes
            fresh -= product(transposed(product(known, weights, sizes, None, new)), q.values, new, sizes)
            fresh -= product(transposed(q.seen(transposed(fresh), self.averages, new)), q.values, new, sizes)
        among = self.averages.inner(transposed(fresh), transposed(fresh), new, new)
        among = self.averages.constant(among.astype(np.float64))
        found = product(_inverse_roots(among, new).astype(self.precision), fresh, new, new)
        return transposed(self.averages.aligned(transposed(found), transposed(fresh)))


def _inverse_roots(gram: Float[Array, "replicates new new"], sizes: Sizes) -> Float[Array, "replicates new new"]:
    """The inverses of the Cholesky factors of Gram matrices of these sizes; rows of zeros stay as they are."""
    found = np.zeros_like(gram)
    none = np.einsum("rii->ri", gram) <= 0
    gram = np.where(none[:, :, None] & np.eye(gram.shape[1], dtype=bool), 1.0, gram)
    for size in set(sizes) - {0}:
        members = np.flatnonzero(np.array(sizes) == size)
        found[members, :size, :size] = np.linalg.inv(np.linalg.cholesky(gram[members, :size, :size]))
    return found


def precision_of(drop: float) -> Any:
    """Of directions, their images, and the coefficients of kets."""
    return PRECISION if drop**2 > ROUNDINGS * np.finfo(PRECISION).eps else np.float64


def principal(
    gram: Float[Array, "replicates k k"], drop: float, resolved: float, averages: Averages = AVERAGES
) -> tuple[Float[Array, "replicates k new"], Sizes]:
    """Combinations of the remainders of kets with this Gram matrix, strongest first: orthonormal, and as few as leave at
    most `drop` of every ket; and how many of them every replicate has.
    """
    values, vectors = np.linalg.eigh(averages.constant(gram))
    values = np.maximum(values, 0.0)
    left = np.max(np.cumsum(values[:, None] * np.square(vectors), axis=2), axis=1)
    dropped = (left <= drop**2) | (values <= resolved)
    new = tuple((vectors.shape[2] - host(averages.agreed(dropped).sum(axis=1)).astype(int)).tolist())
    weights = vectors * signs(vectors) / np.sqrt(np.where(dropped, np.inf, values))[:, None]
    return contiguous(np.flip(weights, axis=2)[:, :, : max(new)]), new
