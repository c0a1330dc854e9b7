"""Covariances over networks, with their standard errors."""

from __future__ import annotations

import numpy as np

from tp_compiler.finite.array_types import Double, Values
from tp_compiler.shapes import Float


def covariances(
    drawn: Float[Values, "seeds entries"],
) -> tuple[Float[Double, "entries entries"], Float[Double, "entries entries"]]:
    """Sample covariance (ddof = 1) of samples (seeds, entries), and the standard error of each of its entries.

    The error is that of a mean of the products of deviations, without regard to their law.
    """
    seeds = len(drawn)
    centred = drawn - drawn.mean(axis=0)
    covariance: Double = centred.T @ centred / (seeds - 1)
    fourth = (centred**2).T @ centred**2 / seeds
    variance = np.maximum(fourth - (covariance * (seeds - 1) / seeds) ** 2, 0.0)
    return covariance, np.sqrt(variance / (seeds - 1))
