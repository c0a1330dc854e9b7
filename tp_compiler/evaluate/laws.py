"""Laws of initial kets other than the normal one, as images of standard normal variables.

The limit only depends on the law: a quantile function of Φ(z) has it, so Gaussian coordinates, formulas and quadrature serve
all of them. Nothing is differentiated through an image, since gradients stop at initial kets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tp_compiler.evaluate import special
from tp_compiler.evaluate.array_types import Array, Numbers
from tp_compiler.evaluate.kernels import KERNELS

FAR = 40.0  # the normal law has no mass beyond, as far as doubles can tell


@dataclass(frozen=True)
class Image:
    """x = base + factor · fn(slope · z + offset), with arrays over the indices of the law's parameters."""

    fn: str
    slope: float
    offset: Numbers
    factor: Numbers
    base: Numbers

    def __call__(self, z: Array) -> Array:
        image: Array = self.base + self.factor * KERNELS[self.fn](self.slope * z + self.offset)
        return image


def image(law: str, parameters: Sequence[Numbers]) -> Image:
    """The image with this law; parameters as in the declaration (`InitialKet`)."""
    zero, one = np.float64(0.0), np.float64(1.0)
    match law, parameters:
        case "uniform", (half,):
            return Image("erf", np.sqrt(0.5), zero, half, zero)
        case "uniform", (low, high):
            return Image("erf", np.sqrt(0.5), zero, (high - low) / 2, (high + low) / 2)
        case "rademacher", _:
            return Image("sign", 1.0, zero, parameters[0] if parameters else one, zero)
        case "bernoulli", (p,):
            return Image("step", 1.0, np.clip(special.ndtri(p), -FAR, FAR), one, zero)
    raise AssertionError(law)


def rows(z: Array, count: int) -> Array:
    """Which of `count` equally likely rows each standard normal number selects."""
    return np.minimum(special.ndtr(z) * count, count - 1).astype(np.int64)
