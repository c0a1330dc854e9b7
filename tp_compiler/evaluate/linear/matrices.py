"""Initial matrices in coordinates: W|x> and Wᵀ|y> for kets that are combinations of independent standard Gaussians.

A ket is the row of its coefficients: coordinate 0 is |1>, every other one a separate standard Gaussian,
so that <x|y> is the dot product of two rows. A direction to which W has not been applied has an image with a fresh
coordinate, its hat; and by the conditioning form of the dot rule (docs/mathematics.md, section 3), with Q orthonormal,

    W|q> = σ z + ρ⁻¹ |Q'><W^T Q'|q>,    Wᵀ|q'> = σ √ρ z' + ρ |Q><W Q|q'>,

where Q and Q' span what W and Wᵀ were applied to so far. So there are as many coordinates as directions in use, not as
many as words in W and Wᵀ.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.shapes import Float

#: A part of a ket below this fraction of its norm is rounding, and no new direction.
NEGLIGIBLE = 2.0**-46


class Coordinates:
    """The number of coordinates: |1>, and the Gaussians so far."""

    def __init__(self) -> None:
        self._fresh = count(1)

    def draw(self, size: int) -> list[int]:
        """New independent Gaussians."""
        return [next(self._fresh) for _ in range(size)]


class GrowingRows:
    """A growing stack of rows of growing length; entries not written are 0."""

    def __init__(self) -> None:
        self._data = np.zeros((4, 4))
        self._shape = 0, 0

    @property
    def values(self) -> Float[Array, "rows coordinates"]:
        rows, length = self._shape
        return self._data[:rows, :length]

    def append(self, row: Float[Array, " coordinates"]) -> None:
        rows, length = self._shape
        length = max(length, row.size)
        self._shape = rows + 1, length
        if rows == self._data.shape[0] or length > self._data.shape[1]:
            data = np.zeros((max(2 * rows, 4), max(length, min(2 * length, self._data.shape[1] + length))))
            data[:rows, : self._data.shape[1]] = self._data[:rows]
            self._data = data
        self._data[rows, : row.size] = row


def dot(x: Float[Array, "*m k"], y: Float[Array, "n l"]) -> Float[Array, "*m n"]:
    """x yᵀ of two stacks of rows; coordinates that one of them lacks are 0."""
    k = min(x.shape[-1], y.shape[-1])
    return x[..., :k] @ y[..., :k].T


def padded(x: Float[Array, "*rows k"], length: int) -> Float[Array, "*rows n"]:
    """Rows padded to that length; longer rows are unchanged."""
    if x.shape[-1] >= length:
        return x
    result = np.zeros((*x.shape[:-1], length))
    result[..., : x.shape[-1]] = x
    return result


class OrthonormalImages:
    """For W, or for Wᵀ: an orthonormal basis of the kets it was applied to, and the images of the basis."""

    def __init__(self) -> None:
        self.basis = GrowingRows()
        self.image = GrowingRows()


class InitialMatrix:
    """One initial matrix of entry variance σ²/cols, ρ = lim rows/cols."""

    def __init__(self, variance: float, ratio: float, coordinates: Coordinates):
        self.ratio = ratio
        self.coordinates = coordinates
        self.forward, self.backward = OrthonormalImages(), OrthonormalImages()
        self.sigma = float(np.sqrt(variance))

    def apply(self, x: Float[Array, "rows coordinates"], transposed: bool) -> Float[Array, "rows new"]:
        """The images of the rows of x."""
        own, other = (self.backward, self.forward) if transposed else (self.forward, self.backward)
        scale = self.sigma * (np.sqrt(self.ratio) if transposed else 1.0)
        factor = self.ratio if transposed else 1 / self.ratio
        known = own.basis.values
        along, rest = _split(x, known)
        norms = np.linalg.norm(x, axis=1)
        for k in np.flatnonzero(np.linalg.norm(rest, axis=1) > NEGLIGIBLE * norms):
            _, q = _split(rest[k], own.basis.values)
            size = np.linalg.norm(q)
            if size > NEGLIGIBLE * norms[k]:
                own.basis.append(q / size)
                own.image.append(self._image(q / size, other, scale, factor))
        new = own.basis.values[known.shape[0] :]
        if new.size:
            along = np.concatenate([along, dot(rest, new)], axis=1)
        return along @ own.image.values

    def _image(
        self, q: Float[Array, " coordinates"], other: OrthonormalImages, scale: float, factor: float
    ) -> Float[Array, " new"]:
        """hat + dot of a new direction."""
        (fresh,) = self.coordinates.draw(1)
        image = np.zeros(fresh + 1)
        image[fresh] = scale
        seen = other.basis.values
        if seen.size:
            image[: seen.shape[1]] += factor * (dot(q, other.image.values) @ seen)
        return image


def _split(
    x: Float[Array, "*rows k"], basis: Float[Array, "size l"]
) -> tuple[Float[Array, "*rows size"], Float[Array, "*rows n"]]:
    """The coefficients of x in an orthonormal basis, and the residual; done twice, to remove rounding errors from the residual."""
    along: Any = 0.0
    rest = padded(x, basis.shape[1])
    for _ in range(2):
        part = dot(rest, basis)
        along, rest = along + part, rest - padded(part @ basis, rest.shape[-1])
    return along, rest
