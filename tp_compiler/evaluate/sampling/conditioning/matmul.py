"""W|x> and Wᵀ|y> on particles, by exact Gaussian conditioning; W is never stored.

Tensor Programs IVb, 4.7.3 to 4.7.6: with X, G = W|X> and Y, H = Wᵀ|Y> the kets W and Wᵀ were applied to so far,

    W|x> = |G>a + ρ⁻¹|Y><Y|Y>⁺(<H|x> - <H|X>a) + σ s P⊥z,   a = <X|X>⁺<X|x>,  s² = <x|x> - <x|X>a,  z ~ N(0,1) fresh,

P⊥ = 1 - |Y><Y|Y>⁺<Y|, and the same for Wᵀ with ρ⁻¹ → ρ and σ → σ√ρ, ρ = lim rows/cols. The second term is the dot
(Ẇ|x>, in its Stein form), the others are the hat given the earlier hats. P⊥ is 1 in the limit; with it the law is that of
a matrix with as many rows as particles. Instead of X and G the state keeps an orthonormal basis |Q> of X and its image
|G> = W|Q>, so that dependent kets (duplicates, zeros, linear combinations) add no direction. In long training this also
applies to nearly dependent ones (`directions.drop_of`): their remainders keep their dots.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Array, Numbers
from tp_compiler.evaluate.backend import contiguous
from tp_compiler.evaluate.sampling.averages import Sizes, product, transposed
from tp_compiler.evaluate.sampling.conditioning.rows import Rows, appended
from tp_compiler.evaluate.sampling.conditioning.spans import Kets, KetSpan
from tp_compiler.evaluate.sampling.points import JointPoints
from tp_compiler.shapes import Float


@dataclass
class Direction:
    """The arguments of one direction (W or Wᵀ) so far: their span, and the images |G> of its orthonormal |Q>."""

    span: KetSpan
    image: Rows = field(default_factory=Rows)
    met: Any = (
        None  # <H|Q>, with the images of the other direction, if parts of kets are dropped: (replicates, others, size)
    )

    @property
    def size(self) -> int:
        return self.image.size

    @property
    def sizes(self) -> Sizes:
        return self.image.sizes


class MatrixState:
    """One initial matrix: σ² (of every replicate, or one number), ρ = rows/cols, and the two directions.

    Replicates are conditioned together, whether or not they need equally many directions.
    """

    def __init__(
        self, variance: Numbers, ratio: float, columns: KetSpan | None = None, rows: KetSpan | None = None
    ):  # fmt: skip
        """`columns`, `rows`: the empty spans of the two spaces, which matrices that may meet the same kets share."""
        columns = columns or KetSpan()
        self.variance, self.ratio = np.asarray(variance), ratio
        self.forward, self.backward = Direction(columns), Direction(rows or columns)

    def fork(self) -> MatrixState:
        """A copy that can be applied further independently."""
        other = MatrixState(self.variance, self.ratio)
        other.forward, other.backward = replace(self.forward), replace(self.backward)
        return other

    def sizes(self, replicates: int) -> list[int]:
        """Rows of the bases of every replicate."""
        none = (0,) * replicates
        return [a + b for a, b in zip(self.forward.sizes or none, self.backward.sizes or none, strict=True)]

    def apply(
        self,
        x: Float[Array, "replicates samples k"],
        transposed: bool,
        target: JointPoints,
        kets: Kets | None = None,
    ) -> Float[Array, "replicates samples k"]:
        """The kets W|x> (or Wᵀ|x>) for the columns of x; `target` is the space they live in, `kets` says which x is."""
        own, other = (self.backward, self.forward) if transposed else (self.forward, self.backward)
        own.span = span = own.span.met(x, kets)
        if not span.size:
            return np.zeros_like(x)
        if any(span.new):
            self._grow(own, other, transposed, target)
        result = own.image.combined(span.coefficients)
        if not span.loose:
            return result
        if other.size:
            seen = other.image.seen(span.unit, span.averages)
            left = seen - product(own.met, span.coefficients, other.sizes, own.sizes)
            result += other.span.rows.combined(self._factor(transposed) * left)
        return result * span.norms[:, None]

    def _grow(self, own: Direction, other: Direction, adjoint: bool, target: JointPoints) -> None:
        """The images of new directions: hat + dot, Ẇ|q> = ρ⁻¹|Y><H|q> (ρ for Wᵀ) with |Y> orthonormal.

        The hat is drawn orthogonal to |Y>, so that <y|W|q> = ρ⁻¹<Wᵀy|q> holds to rounding, as it does in every network.
        """
        span, before = own.span, own.sizes or (0,) * target.replicates
        new, fresh = span.new, transposed(span.fresh)
        image = self._hat(new, adjoint, target).astype(span.precision)
        if other.size:
            y = other.span.rows
            met = other.image.seen(fresh, span.averages, new)
            drawn = y.seen(transposed(image), other.span.averages, new)
            dots = self._factor(adjoint) * met  # <y|W|q>
            image += product(transposed(dots - drawn), y.values, new, other.sizes)
        own.image = own.image.grown(image, new)
        if not span.loose:
            return
        if other.size:
            own.met = appended(own.met, met, before, new, axis=2)
            other.met = appended(other.met, transposed(dots), before, new, axis=1)
        else:
            own.met = np.zeros_like(image, shape=(len(image), 0, own.size))
            other.met = np.zeros_like(image, shape=(len(image), own.size, 0))

    def _factor(self, adjoint: bool) -> float:
        return self.ratio if adjoint else 1 / self.ratio

    def _hat(self, counts: Sizes, adjoint: bool, target: JointPoints) -> Float[Array, "replicates new samples"]:
        """Fresh Gaussians: the hats of new orthonormal directions."""
        scale = self.variance * (self.ratio if adjoint else 1.0)
        return contiguous(np.sqrt(scale).reshape(-1, 1, 1) * transposed(target.draw_each(counts)))
