"""Covariances over networks, with their standard errors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]


def covariances(drawn: Values) -> tuple[Values, Values]:
    """Sample covariance (ddof = 1) of samples (seeds, entries), and the standard error of each of its entries.

    The error is that of a mean of the products of deviations, without regard to their law.
    """
    seeds = len(drawn)
    centred = drawn - drawn.mean(axis=0)
    covariance = centred.T @ centred / (seeds - 1)
    fourth = (centred**2).T @ centred**2 / seeds
    variance = np.maximum(fourth - (covariance * (seeds - 1) / seeds) ** 2, 0.0)
    return covariance, np.sqrt(variance / (seeds - 1))
