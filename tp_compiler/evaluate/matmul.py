"""W|x> and Wᵀ|y> on particles, by exact Gaussian conditioning; W is never stored.

Tensor Programs IVb, 4.7.3 to 4.7.6: with X, G = W|X> and Y, H = Wᵀ|Y> the kets W and Wᵀ were applied to so far,

    W|x> = |G>a + ρ⁻¹|Y><Y|Y>⁺(<H|x> - <H|X>a) + σ s z,     a = <X|X>⁺<X|x>,  s² = <x|x> - <x|X>a,  z ~ N(0,1) fresh,

and the same for Wᵀ with ρ⁻¹ → ρ and σ → σ√ρ, ρ = lim rows/cols. The second term is the dot (Ẇ|x>, in its Stein form),
the others are the hat given the earlier hats. Instead of X and G the state keeps an orthonormal basis |Q> of X and its
image |G> = W|Q>, so that dependent kets (duplicates, zeros, linear combinations) add no direction.

In long training nearly every ket is nearly dependent. There a residual below `drop` of its ket's norm adds no direction
either: it keeps its dot and loses its fresh Gaussian (see `drop_of`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tp_compiler.evaluate.points import Points

#: A residual below this part of the ket's norm is rounding: the ket depends linearly on earlier ones.
TOLERANCE = 1e-11
#: A Gram matrix resolves directions down to the square root of the machine precision; weaker ones wait for the next
#: pass.
RESOLVED = 1e-5


@dataclass
class Direction:
    """What one direction (W or Wᵀ) has been applied to: orthonormal |Q> and its image |G>, a row for each direction.

    Rows are appended in place, into room that doubles; `size` of them are filled.
    """

    size: int = 0
    store: Any = None  # (2, room, samples): basis, image

    @property
    def basis(self) -> Any:
        return self.store[0, : self.size]

    @property
    def image(self) -> Any:
        return self.store[1, : self.size]

    def extend(self, basis: Any, image: Any) -> None:
        """`basis`, `image`: (samples, k)."""
        count = basis.shape[1]
        if self.store is None:
            self.store = np.empty((2, count, basis.shape[0]))
        elif self.size + count > self.store.shape[1]:
            room = max(self.size + count, 2 * self.size)
            store = np.empty((2, room, basis.shape[0]))
            store[:, : self.size] = self.store[:, : self.size]
            self.store = store
        self.store[0, self.size : self.size + count] = basis.T
        self.store[1, self.size : self.size + count] = image.T
        self.size += count

    def fork(self) -> Direction:
        """A copy that may grow on its own: it has no room of its own yet."""
        return Direction(self.size, None if self.store is None else self.store[:, : self.size])


@dataclass
class MatrixState:
    """One initial matrix: σ², ρ = rows/cols, and the two directions."""

    variance: float
    ratio: float
    drop: float = TOLERANCE
    forward: Direction = field(default_factory=Direction)
    backward: Direction = field(default_factory=Direction)

    def fork(self) -> MatrixState:
        """A copy that may be applied further on its own."""
        return MatrixState(self.variance, self.ratio, self.drop, self.forward.fork(), self.backward.fork())

    def apply(self, x: Any, transposed: bool, target: Points) -> Any:
        """The kets W|x> (or Wᵀ|x>) for the columns of x, (samples, k); `target` is the space they live in."""
        own, other = (self.backward, self.forward) if transposed else (self.forward, self.backward)
        samples = x.shape[0]
        result, residual = np.zeros_like(x), x
        if own.size:
            coefficients, residual = self._project(own.basis, x, samples)
            result = own.image.T @ coefficients
        norms = _norms(x)
        if self.drop > TOLERANCE:
            return result + self._residual_in_long_training(residual, norms, own, other, transposed, target)
        fresh = _orthonormal(residual, norms, samples, self.drop)
        if fresh.shape[1]:
            if own.size:
                fresh -= own.basis.T @ (own.basis @ fresh / samples)
            image = self._hat(fresh.shape[1], transposed, target) + self._dot(fresh, other, transposed, samples)
            result += image @ (fresh.T @ residual / samples)
            own.extend(fresh, image)
        return result

    def _residual_in_long_training(
        self, residual: Any, norms: Any, own: Direction, other: Direction, transposed: bool, target: Points
    ) -> Any:
        """W|r>: the dot of all of |r>, and hats along the directions that are not dropped.

        New directions are combinations of the residuals, |q> = |r>c, so that their dots are those of the residuals.
        """
        samples = residual.shape[0]
        dots = self._dot(residual, other, transposed, samples)
        fresh = _orthonormal(residual, norms, samples, self.drop)
        if not fresh.shape[1]:
            return dots
        hats = self._hat(fresh.shape[1], transposed, target)
        along = fresh.T @ residual / samples
        own.extend(fresh, hats + self._dot(fresh, other, transposed, samples))
        return dots + hats @ along

    def _project(self, basis: Any, x: Any, samples: int) -> tuple[Any, Any]:
        """Coefficients on the basis and the residual; twice where small residuals count, or rounding grows."""
        a = basis @ x / samples
        residual = x - basis.T @ a
        if self.drop <= TOLERANCE:
            again = basis @ residual / samples
            residual -= basis.T @ again
            a += again
        return a, residual

    def _hat(self, count: int, transposed: bool, target: Points) -> Any:
        """Fresh Gaussians: the hats of new orthonormal directions."""
        scale = self.variance * (self.ratio if transposed else 1.0)
        return np.sqrt(scale) * target.draw(count)

    def _dot(self, fresh: Any, other: Direction, transposed: bool, samples: int) -> Any:
        """Ẇ|q> = ρ⁻¹|Y><Y|Y>⁺<H|q> (ρ for Wᵀ), with |Y> orthonormal."""
        if not other.size:
            return 0.0
        factor = self.ratio if transposed else 1 / self.ratio
        return factor * (other.basis.T @ (other.image @ fresh / samples))


def _norms(x: Any) -> Any:
    """√<x|x> of every column, without under- or overflow on the way."""
    largest = np.max(np.abs(x), axis=0, initial=0.0)
    safe = np.where(largest > 0, largest, 1.0)
    return largest * np.sqrt(np.mean(np.square(x / safe), axis=0))


def _orthonormal(residual: Any, norms: Any, samples: int, drop: float) -> Any:
    """Orthonormal directions spanning the residuals, in descending order of variance.

    The weakest direction so gets the last Sobol coordinate. `norms` are those of the kets themselves: a residual is
    judged against its own ket, so that small kets beside large ones keep their directions. Each pass takes what the
    Gram matrix resolves and leaves the rest, orthogonalised, to the next one.
    """
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
        left = left[:, _norms(left) > drop]
    return found
