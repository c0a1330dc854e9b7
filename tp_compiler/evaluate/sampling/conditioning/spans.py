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

from tp_compiler.evaluate.array_types import Array, Whole
from tp_compiler.evaluate.backend import contiguous
from tp_compiler.evaluate.sampling.averages import AVERAGES, Averages, transposed
from tp_compiler.evaluate.sampling.conditioning.directions import (
    SINGLE,
    TOLERANCE,
    Apart,
    Basis,
    Rows,
    place_of,
    same_for_all,
)
from tp_compiler.evaluate.sampling.entry_blocks import PRECISION
from tp_compiler.shapes import Float

#: Directions are single if what is dropped of a ket has a square of so many roundings.
ROUNDINGS = 100
#: Eigenvalues of a Gram matrix of normalised kets below so many roundings are rounding errors; below its square, if the
#: matrix itself is single, as it is in runs that are.
RESOLVED = 16


@dataclass(frozen=True, eq=False)
class Kets:
    """Which kets: those at a place of a value, of all replicates or of some. They are as long as the value is."""

    value: ref[Any]
    place: tuple[Hashable, ...]

    @classmethod
    def at(cls, value: Array, *place: Hashable) -> Kets:
        return cls(ref(value), place)

    def of(self, members: Whole) -> Kets:
        return Kets(self.value, (*self.place, tuple(members)))

    def same(self, other: Kets | None) -> bool:
        if other is None or self.place != other.place:
            return False
        return self.value() is not None and self.value() is other.value()


class KetSpan:
    """Orthonormal directions |Q>, and the coefficients in them of the kets that were met last."""

    def __init__(self, drop: float = TOLERANCE, averages: Averages = AVERAGES, rows: Rows | None = None):
        self.drop, self.averages = drop, averages
        self.rows = rows or Rows()
        self.new = 0  # how many of the directions are new
        self.coefficients: Any = None  # (replicates, size, k), of the kets that were met last; if loose, of their units
        self.unit: Any = None  # these kets, (replicates, samples, k), and their norms
        self.norms: Any = None
        self._following: list[tuple[Kets, ref[KetSpan]]] = []
        self._parts: dict[tuple[int, ...], ref[KetSpan]] = {}  # by replicates
        self._apart: tuple[Kets, Any] | None = None  # kets for which replicates choose differently, and what

    @property
    def size(self) -> int:
        return self.rows.size

    @property
    def fresh(self) -> Float[Array, "replicates new samples"]:
        return self.rows.values[:, self.size - self.new :]

    @property
    def keeps_dots(self) -> bool:
        """Whether parts of kets are dropped that are more than rounding in double precision."""
        return self.drop > TOLERANCE

    @property
    def loose(self) -> bool:
        return self.drop > SINGLE

    @property
    def precision(self) -> Any:
        return precision_of(self.drop)

    def of(self, members: Whole) -> KetSpan:
        """The span of some replicates."""
        key = tuple(members)
        found = self._parts[key]() if key in self._parts else None
        if found is None:
            found = KetSpan(self.drop, self.averages, self.rows.of(place_of(members)))
            self._parts[key] = ref(found)
        return found

    def met(self, x: Float[Array, "replicates samples k"], kets: Kets | None = None) -> KetSpan:
        """The span of these kets as well. Raises Apart."""
        if kets is not None:
            self._following = [(k, s) for k, s in self._following if s() is not None]
            for known, span in self._following:
                found = span()
                if found is not None and kets.same(known):
                    return found
            if self._apart is not None and kets.same(self._apart[0]):
                raise Apart(self._apart[1])
        try:
            found = self._loosely(x) if self.loose else self._exactly(x)
        except Apart as apart:
            self._apart = None if kets is None else (kets, apart.choices)
            raise
        found.new = found.size - self.size
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
            known = self.averages.inner(self.rows.columns, unit)
            wide = known.astype(np.float64)
            gram -= transposed(wide) @ wide
        resolved = RESOLVED * float(np.finfo(unit.dtype).eps) * (RESOLVED if gram.dtype.itemsize == 4 else 1)
        weights = principal(gram, self.drop, resolved).astype(self.precision)
        found.coefficients = known
        if weights.shape[2]:
            fresh = self._orthogonal(unit, known, weights)
            found.rows = self.rows.grown(fresh)
            found.coefficients = np.concatenate([known, self.averages.inner(transposed(fresh), unit)], axis=1)
        return found

    def _orthogonal(
        self,
        unit: Float[Array, "replicates samples k"],
        known: Float[Array, "replicates size k"],
        weights: Float[Array, "replicates k new"],
    ) -> Float[Array, "replicates new samples"]:
        """Combinations of kets, orthonormal to each other and to the directions before them.

        Once more than the formula says: the rounding errors of small remainders would be amplified from step to step.
        """
        fresh = transposed(weights) @ transposed(unit)
        if self.size:
            q = self.rows.values
            fresh -= transposed(known @ weights) @ q
            fresh -= transposed(self.averages.inner(transposed(q), transposed(fresh))) @ q
        among = self.averages.inner(transposed(fresh), transposed(fresh)).astype(np.float64)
        return np.linalg.inv(np.linalg.cholesky(among)).astype(self.precision) @ fresh


def precision_of(drop: float) -> Any:
    """Of directions, their images, and the coefficients of kets."""
    return PRECISION if drop**2 > ROUNDINGS * np.finfo(PRECISION).eps else np.float64


def principal(gram: Float[Array, "replicates k k"], drop: float, resolved: float) -> Float[Array, "replicates k new"]:
    """Combinations of the remainders of kets with this Gram matrix, strongest first: orthonormal, and as few as leave at
    most `drop` of every ket. Raises Apart.

    Signs of eigenvectors differ between libraries; each is along the ket with the largest part in it.
    """
    values, vectors = np.linalg.eigh(gram)
    values = np.maximum(values, 0.0)
    left = np.max(np.cumsum(values[:, None] * np.square(vectors), axis=2), axis=1)
    dropped = int(same_for_all(((left <= drop**2) | (values <= resolved)).sum(axis=1)))
    values, vectors = np.flip(values[:, dropped:], axis=1), contiguous(np.flip(vectors[:, :, dropped:], axis=2))
    nearest = np.take_along_axis(vectors, np.argmax(np.abs(vectors), axis=1)[:, None], axis=1)
    return vectors * (np.where(nearest < 0, -1.0, 1.0) / np.sqrt(values)[:, None])
