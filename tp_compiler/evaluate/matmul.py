"""W|x> and Wᵀ|y> on particles, by exact Gaussian conditioning; W is never stored.

Tensor Programs IVb, 4.7.3 to 4.7.6: with X, G = W|X> and Y, H = Wᵀ|Y> the kets W and Wᵀ were applied to so far,

    W|x> = |G>a + ρ⁻¹|Y><Y|Y>⁺(<H|x> - <H|X>a) + σ s z,     a = <X|X>⁺<X|x>,  s² = <x|x> - <x|X>a,  z ~ N(0,1) fresh,

and the same for Wᵀ with ρ⁻¹ → ρ and σ → σ√ρ, ρ = lim rows/cols. The second term is the dot (Ẇ|x>, in its Stein form),
the others are the hat given the earlier hats. Instead of X and G the state keeps an orthonormal basis |Q> of X and its
image |G> = W|Q>, so that dependent kets (duplicates, zeros, linear combinations) add no direction.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
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
    """What one direction (W or Wᵀ) has been applied to: orthonormal |Q> and its image |G>, (samples, k) each."""

    basis: Any = None
    image: Any = None

    def extend(self, basis: Any, image: Any) -> None:
        self.basis = basis if self.basis is None else np.concatenate([self.basis, basis], axis=1)
        self.image = image if self.image is None else np.concatenate([self.image, image], axis=1)


@dataclass
class MatrixState:
    """One initial matrix: σ², ρ = rows/cols, and the two directions."""

    variance: float
    ratio: float
    forward: Direction = field(default_factory=Direction)
    backward: Direction = field(default_factory=Direction)

    def fork(self) -> MatrixState:
        """A copy that may be applied further on its own (arrays are never changed in place)."""
        return MatrixState(self.variance, self.ratio, replace(self.forward), replace(self.backward))

    def apply(self, x: Any, transposed: bool, target: Points) -> Any:
        """The kets W|x> (or Wᵀ|x>) for the columns of x, (samples, k); `target` is the space they live in."""
        own, other = (self.backward, self.forward) if transposed else (self.forward, self.backward)
        samples = x.shape[0]
        coefficients, residual = _project(own.basis, x, samples)
        fresh = _orthonormal(residual, _norms(x), samples)
        result = own.image @ coefficients if own.basis is not None else np.zeros((samples, x.shape[1]))
        if fresh.shape[1]:
            if own.basis is not None:
                fresh -= own.basis @ (own.basis.T @ fresh / samples)
            image = self._hat(fresh.shape[1], transposed, target) + self._dot(fresh, other, transposed, samples)
            result += image @ (fresh.T @ residual / samples)
            own.extend(fresh, image)
        return result

    def _hat(self, count: int, transposed: bool, target: Points) -> Any:
        """Fresh Gaussians: the hats of new orthonormal directions."""
        scale = self.variance * (self.ratio if transposed else 1.0)
        return np.sqrt(scale) * target.draw(count)

    def _dot(self, fresh: Any, other: Direction, transposed: bool, samples: int) -> Any:
        """Ẇ|q> = ρ⁻¹|Y><Y|Y>⁺<H|q> (ρ for Wᵀ), with |Y> orthonormal."""
        if other.basis is None:
            return 0.0
        factor = self.ratio if transposed else 1 / self.ratio
        return factor * (other.basis @ (other.image.T @ fresh / samples))


def _project(basis: Any, x: Any, samples: int) -> tuple[Any, Any]:
    """Coefficients on an orthonormal basis and the residual; twice, or rounding grows from step to step."""
    if basis is None:
        return None, x
    a = basis.T @ x / samples
    residual = x - basis @ a
    again = basis.T @ residual / samples
    residual = residual - basis @ again
    return a + again, residual


def _norms(x: Any) -> Any:
    """√<x|x> of every column, without under- or overflow on the way."""
    largest = np.max(np.abs(x), axis=0, initial=0.0)
    safe = np.where(largest > 0, largest, 1.0)
    return largest * np.sqrt(np.mean(np.square(x / safe), axis=0))


def _orthonormal(residual: Any, norms: Any, samples: int) -> Any:
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
        kept = order[values[order] > max(values[-1] * RESOLVED**2, TOLERANCE**2)]
        if not len(kept):
            break
        fresh = left @ (vectors[:, kept] / np.sqrt(values[kept]))
        found = np.concatenate([found, fresh], axis=1)
        if len(kept) == left.shape[1]:
            break
        for _ in range(2):
            left = left - found @ (found.T @ left / samples)
        left = left[:, _norms(left) > TOLERANCE]
    return found
