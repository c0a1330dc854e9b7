"""W|x> and Wᵀ|y> on particles, by exact Gaussian conditioning; W is never stored.

Tensor Programs IVb, 4.7.3 to 4.7.6: with X, G = W|X> and Y, H = Wᵀ|Y> the kets W and Wᵀ were applied to so far,

    W|x> = |G>a + ρ⁻¹|Y><Y|Y>⁺(<H|x> - <H|X>a) + σ s z,     a = <X|X>⁺<X|x>,  s² = <x|x> - <x|X>a,  z ~ N(0,1) fresh,

and the same for Wᵀ with ρ⁻¹ → ρ and σ → σ√ρ, ρ = lim rows/cols. The second term is the dot (Ẇ|x>, in its Stein form),
the others are the hat given the earlier hats. Instead of X and G the state keeps an orthonormal basis |Q> of X and its
image |G> = W|Q>, so that dependent kets (duplicates, zeros, linear combinations) add no direction. In long training
this also applies to nearly dependent ones (`directions.drop_of`): their remainders keep their dots.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.sampling.directions import TOLERANCE, Basis, Rows, norms_of
from tp_compiler.evaluate.sampling.points import Points
from tp_compiler.shapes import Float


@dataclass
class Direction:
    """The arguments of one direction (W or Wᵀ) so far: orthonormal |Q> and their images |G>."""

    basis: Basis
    image: Rows = field(default_factory=Rows)

    @property
    def size(self) -> int:
        return self.basis.size

    def extend(self, basis: Float[Array, "samples k"], image: Float[Array, "samples k"]) -> None:
        """`basis`, `image`: (samples, k)."""
        self.basis.rows.extend(basis)
        self.image.extend(image)

    def fork(self) -> Direction:
        return Direction(self.basis.fork(), self.image.fork())


class MatrixState:
    """One initial matrix: σ², ρ = rows/cols, and the two directions."""

    def __init__(self, variance: float, ratio: float, drop: float = TOLERANCE):
        self.variance, self.ratio, self.drop = variance, ratio, drop
        self.forward, self.backward = Direction(Basis(drop)), Direction(Basis(drop))

    def fork(self) -> MatrixState:
        """A copy that can be applied further independently."""
        other = MatrixState(self.variance, self.ratio, self.drop)
        other.forward, other.backward = self.forward.fork(), self.backward.fork()
        return other

    def apply(self, x: Float[Array, "samples k"], transposed: bool, target: Points) -> Float[Array, "samples k"]:
        """The kets W|x> (or Wᵀ|x>) for the columns of x, (samples, k); `target` is the space they live in."""
        own, other = (self.backward, self.forward) if transposed else (self.forward, self.backward)
        result, residual = np.zeros_like(x), x
        if own.size:
            coefficients, residual = own.basis.project(x)
            result = own.image.values.T @ coefficients
        fresh = own.basis.fresh(residual, norms_of(x))
        if self.drop > TOLERANCE:
            result += self._dot(residual, other, transposed)
        if fresh.shape[1]:
            hats, dots = self._hat(fresh.shape[1], transposed, target), self._dot(fresh, other, transposed)
            image = hats if self.drop > TOLERANCE else hats + dots
            result += image @ (fresh.T @ residual / x.shape[0])
            own.extend(fresh, hats + dots)
        return result

    def _hat(self, count: int, transposed: bool, target: Points) -> Float[Array, "samples {count}"]:
        """Fresh Gaussians: the hats of new orthonormal directions."""
        scale = self.variance * (self.ratio if transposed else 1.0)
        return np.sqrt(scale) * target.draw(count)

    def _dot(self, fresh: Float[Array, "samples k"], other: Direction, transposed: bool) -> Float[Array, "samples k"]:
        """Ẇ|q> = ρ⁻¹|Y><Y|Y>⁺<H|q> (ρ for Wᵀ), with |Y> orthonormal."""
        if not other.size:
            return np.zeros_like(fresh)
        factor = self.ratio if transposed else 1 / self.ratio
        return factor * (other.basis.rows.values.T @ (other.image.values @ fresh / fresh.shape[0]))
