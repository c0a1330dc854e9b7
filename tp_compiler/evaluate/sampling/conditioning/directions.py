"""Orthonormal directions of kets: bases that grow, to a tolerance, from step to step.

Kets on particles are columns of arrays (replicates, samples, k). A basis keeps one direction per row, in storage that
doubles, so that appending is cheap. Replicates share a basis as long as all of them need equally many directions; `Apart`
is raised, before anything has changed, where they differ.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Array, Mask, Whole
from tp_compiler.evaluate.backend import contiguous, host
from tp_compiler.evaluate.sampling.averages import AVERAGES, Averages, transposed
from tp_compiler.shapes import Float

#: A residual below this part of the ket's norm is rounding: the ket depends linearly on earlier ones.
TOLERANCE = 1e-11
#: A Gram matrix resolves directions down to the square root of the machine precision, double or single; weaker ones wait
#: for the next pass.
RESOLVED = {8: 1e-5, 4: 1e-2}
#: As TOLERANCE, where kets are single, or trained matrices are kept by their entries, which are.
SINGLE = 1e-6
#: In training with more than this many products, nearly dependent directions are dropped.
MANY = 128
#: The threshold of trained matrices falls as DROP / samples, since what is dropped of an update is lost in first order.
DROP = 4.0
#: The square of that of initial matrices falls as DROPPED_SQUARE / samples: a Gaussian is lost, in second order.
DROPPED_SQUARE = 0.25
MOST_DROPPED = 0.03


class Apart(Exception):
    """Replicates make different choices, one row each, such as how many directions they need: they must go on apart."""

    def __init__(self, choices: Array | Mask | Whole):
        numbers: Any = choices * 1.0
        self.choices = host(numbers).reshape(len(choices), -1)

    def groups(self) -> list[Whole]:
        """The replicates that choose alike."""
        _, group = np.unique(self.choices, axis=0, return_inverse=True)
        return [np.flatnonzero(group.reshape(-1) == g) for g in range(np.max(group) + 1)]


def place_of(members: Whole) -> Any:
    """Where replicates are in arrays: one alone is a view."""
    return slice(int(members[0]), int(members[0]) + 1) if len(members) == 1 else members


def drop_of(products: int, samples: int, single: bool) -> float:
    """The part of a ket's norm below which its residual adds no direction to the updates of a trained matrix.

    Short programs keep every direction down to rounding. In long training nearly every ket is nearly dependent on those
    of earlier steps, and all directions would be as many as particles.
    """
    return _dropped(products, DROP / samples, single)


def dropped_of(products: int, samples: int, single: bool) -> float:
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


class _Room:
    """Storage of rows, shared by all who have grown in it: `filled` rows are taken."""

    def __init__(self, values: Float[Array, "replicates most samples"], filled: int):
        self.values, self.filled = values, filled


class Rows:
    """Rows (replicates, size, samples). Growing leaves them as they are; the first to grow goes on in the same storage."""

    def __init__(self, room: _Room | None = None, size: int = 0):
        self._room, self.size = room, size

    @property
    def values(self) -> Float[Array, "replicates size samples"]:
        assert self._room is not None
        return self._room.values[:, : self.size]

    @property
    def columns(self) -> Float[Array, "replicates samples size"]:
        return transposed(self.values)

    def grown(self, rows: Float[Array, "replicates k samples"]) -> Rows:
        """These and some more."""
        replicates, count, samples = rows.shape
        size, room = self.size + count, self._room
        if room is None or room.filled != self.size or size > room.values.shape[1]:
            values = np.empty_like(rows, shape=(replicates, max(size, 2 * self.size), samples))
            if self.size:
                values[:, : self.size] = self.values
            room = _Room(values, self.size)
        room.values[:, self.size : size] = rows
        room.filled = size
        return Rows(room, size)

    def of(self, replicates: slice | Whole) -> Rows:
        """The rows of some replicates."""
        return Rows(None if self._room is None else _Room(self.values[replicates], self.size), self.size)


class Basis:
    """Orthonormal directions |Q>."""

    def __init__(self, drop: float = TOLERANCE, averages: Averages = AVERAGES, rows: Rows | None = None):
        self.drop, self.averages = drop, averages
        self.rows = rows or Rows()

    def of(self, replicates: slice | Whole) -> Basis:
        """The basis of some replicates, which can grow separately."""
        return Basis(self.drop, self.averages, self.rows.of(replicates))

    @property
    def size(self) -> int:
        return self.rows.size

    def project(
        self, x: Float[Array, "replicates samples k"]
    ) -> tuple[Float[Array, "replicates size k"], Float[Array, "replicates samples k"]]:
        """<Q|x> and the residual; computed twice if small residuals matter, or rounding grows."""
        q = self.rows.columns
        a = self.averages.inner(q, x)
        residual = x - q @ a
        if self.drop <= (TOLERANCE if x.dtype.itemsize == 8 else SINGLE):
            again = self.averages.inner(q, residual)
            residual -= q @ again
            a += again
        return a, residual

    def fresh(
        self, residual: Float[Array, "replicates samples k"], norms: Float[Array, "replicates k"]
    ) -> Float[Array, "replicates samples new"]:
        """New directions that span the residuals of kets with these norms, (replicates, samples, k), not yet appended.

        Orthogonalised against the old ones once more: what rounding leaves would be amplified from step to step.
        """
        found = orthonormal(residual, norms, self.drop, self.averages)
        if found.shape[2] and self.size:
            q = self.rows.columns
            found -= q @ self.averages.inner(q, found)
        return found

    def coordinates(self, x: Float[Array, "replicates samples k"]) -> Float[Array, "replicates size k"]:
        """(replicates, size, k): the kets in the basis, which grows by the directions that they need."""
        old, residual = self.project(x) if self.size else (np.zeros_like(x, shape=(x.shape[0], 0, x.shape[2])), x)
        found = self.fresh(residual, self.averages.norms(x))
        if not found.shape[2]:
            return old
        self.rows = self.rows.grown(transposed(found))
        return np.concatenate([old, self.averages.inner(found, residual)], axis=1)


def same_for_all(choices: Mask | Whole) -> Any:
    """What all replicates choose."""
    if (choices != choices[:1]).any():
        raise Apart(choices)
    return choices[0]


def _chosen(x: Float[Array, "replicates samples k"], kept: Mask) -> Float[Array, "replicates samples kept"]:
    """Some columns, laid out as all of them are."""
    return x if kept.all() else contiguous(x[:, :, kept])


def orthonormal(
    residual: Float[Array, "replicates samples k"],
    norms: Float[Array, "replicates k"],
    drop: float,
    averages: Averages = AVERAGES,
) -> Float[Array, "replicates samples new"]:
    """Orthonormal directions spanning the residuals, in descending order of variance. Raises Apart.

    So the weakest direction gets the last Sobol coordinate. `norms` are those of the kets themselves: a residual is
    compared with its own ket, so that small kets keep their directions in the presence of large ones. Each pass takes what the
    Gram matrix resolves and leaves the remainder, orthogonalised, to the next one.
    """
    resolved = RESOLVED[residual.dtype.itemsize]
    alive = same_for_all(norms > 0)
    left = _chosen(residual, alive) / norms[:, None, alive]
    found = left[:, :, :0]
    while left.shape[2]:
        values, vectors = np.linalg.eigh(averages.inner(left, left))
        values, vectors = np.flip(values, axis=1), contiguous(np.flip(vectors, axis=2))
        count = int(same_for_all((values > np.maximum(values[:, :1] * resolved**2, drop**2)).sum(axis=1)))
        if not count:
            break
        fresh = left @ (vectors[:, :, :count] / np.sqrt(values[:, None, :count]))
        found = np.concatenate([found, fresh], axis=2)
        if count == left.shape[2]:
            break
        for _ in range(2):
            left = left - found @ averages.inner(found, left)
        left = _chosen(left, same_for_all(averages.norms(left) > drop))
    return rotated(found, residual, averages)


def rotated(
    found: Float[Array, "replicates samples new"], residual: Float[Array, "replicates samples k"], averages: Averages
) -> Float[Array, "replicates samples new"]:
    """The same span, in principal directions of the given residuals, each along the residual nearest to it.

    Signs of singular vectors differ between libraries; these do not.
    """
    if not found.shape[2]:
        return found
    vectors, _, seen = np.linalg.svd(averages.inner(found, residual), full_matrices=False)
    nearest = np.take_along_axis(seen, np.argmax(np.abs(seen), axis=2)[:, :, None], axis=2)[:, :, 0]
    return found @ (vectors * np.where(nearest < 0, -1.0, 1.0)[:, None, :])
