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

from tp_compiler.evaluate.array_types import Array, Numbers, Whole
from tp_compiler.evaluate.sampling.averages import AVERAGES, Averages
from tp_compiler.evaluate.sampling.directions import TOLERANCE, Apart, Basis, Rows
from tp_compiler.evaluate.sampling.points import JointPoints
from tp_compiler.shapes import Float


@dataclass
class Direction:
    """The arguments of one direction (W or Wᵀ) so far: orthonormal |Q> and their images |G>."""

    basis: Basis
    image: Rows = field(default_factory=Rows)

    @property
    def size(self) -> int:
        return self.basis.size

    def extend(self, basis: Float[Array, "replicates samples k"], image: Float[Array, "replicates samples k"]) -> None:
        """`basis`, `image`: (replicates, samples, k)."""
        self.basis.rows.extend(basis)
        self.image.extend(image)

    def fork(self) -> Direction:
        return Direction(self.basis.fork(), self.image.fork())

    def of(self, replicates: Whole) -> Direction:
        return Direction(self.basis.of(replicates), self.image.of(replicates))


class MatrixState:
    """One initial matrix: σ² (of every replicate, or one number), ρ = rows/cols, and the two directions.

    Replicates are conditioned together as long as they need equally many directions, then in groups that do.
    """

    def __init__(self, variance: Numbers, ratio: float, drop: float = TOLERANCE, averages: Averages = AVERAGES):
        self.variance, self.ratio, self.drop, self.averages = np.asarray(variance), ratio, drop, averages
        self.forward, self.backward = Direction(Basis(drop, averages)), Direction(Basis(drop, averages))
        self.groups: list[tuple[Whole, MatrixState]] = []  # which replicates, and their state

    def fork(self) -> MatrixState:
        """A copy that can be applied further independently."""
        other = MatrixState(self.variance, self.ratio, self.drop, self.averages)
        other.forward, other.backward = self.forward.fork(), self.backward.fork()
        other.groups = [(members, state.fork()) for members, state in self.groups]
        return other

    def _of(self, members: Whole) -> MatrixState:
        variance = self.variance[members] if self.variance.ndim else self.variance
        other = MatrixState(variance, self.ratio, self.drop, self.averages)
        other.forward, other.backward = self.forward.of(members), self.backward.of(members)
        return other

    def sizes(self, replicates: int) -> list[int]:
        """Rows of the bases of every replicate."""
        found = [self.forward.size + self.backward.size] * replicates
        for members, state in self.groups:
            for member, size in zip(members, state.sizes(len(members)), strict=True):
                found[member] = size
        return found

    def apply(
        self, x: Float[Array, "replicates samples k"], transposed: bool, target: JointPoints
    ) -> Float[Array, "replicates samples k"]:
        """The kets W|x> (or Wᵀ|x>) for the columns of x; `target` is the space they live in."""
        if not self.groups:
            try:
                return self._applied(x, transposed, target)
            except Apart as apart:
                self.groups = [(members, self._of(members)) for members in apart.groups()]
        result = np.empty_like(x)
        for members, state in self.groups:
            result[members] = state.apply(x[members], transposed, target.of(members))
        return result

    def _applied(
        self, x: Float[Array, "replicates samples k"], transposed: bool, target: JointPoints
    ) -> Float[Array, "replicates samples k"]:
        """The same for replicates that need equally many directions. Raises Apart, before anything has changed."""
        own, other = (self.backward, self.forward) if transposed else (self.forward, self.backward)
        result, residual = np.zeros_like(x), x
        if own.size:
            coefficients, residual = own.basis.project(x)
            result = own.image.columns @ coefficients
        fresh = own.basis.fresh(residual, self.averages.norms(x))
        if self.drop > TOLERANCE:
            result += self._dot(residual, other, transposed)
        count = fresh.shape[2]
        if count:
            hats, dots = self._hat(count, transposed, target), self._dot(fresh, other, transposed)
            image = hats if self.drop > TOLERANCE else hats + dots
            result += image @ self.averages.inner(fresh, residual)
            own.extend(fresh, hats + dots)
        return result

    def _hat(self, count: int, transposed: bool, target: JointPoints) -> Float[Array, "replicates samples {count}"]:
        """Fresh Gaussians: the hats of new orthonormal directions."""
        scale = self.variance * (self.ratio if transposed else 1.0)
        return np.sqrt(scale).reshape(-1, 1, 1) * target.draw(count)

    def _dot(
        self, fresh: Float[Array, "replicates samples k"], other: Direction, transposed: bool
    ) -> Float[Array, "replicates samples k"]:
        """Ẇ|q> = ρ⁻¹|Y><Y|Y>⁺<H|q> (ρ for Wᵀ), with |Y> orthonormal."""
        if not other.size:
            return np.zeros_like(fresh)
        factor = self.ratio if transposed else 1 / self.ratio
        return factor * (other.basis.rows.columns @ self.averages.inner(other.image.columns, fresh))
