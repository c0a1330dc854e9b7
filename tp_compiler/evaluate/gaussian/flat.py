"""E e^(b x + x²/(2v)) g(x), x ~ N(m, v): the exponential cancels the Gaussian, and g is integrated over the whole line.

∫ h dz over |z| < 1 and over |z| > 1, which z = 1/u folds into it, is one integral over u from -1 to 1: whether g falls
fast enough is decided by the power of the integrand at u = 0, which lines.py finds.
"""

from __future__ import annotations

import math

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.gaussian import features, lines
from tp_compiler.evaluate.gaussian.lines import Infinite
from tp_compiler.evaluate.gaussian.univariate import Univariate

CANCELS = 1e-12  # relative to the Gaussian's exponent: a smaller remainder is rounding


def cancels(quadratic: float, variance: Array) -> bool:
    return bool(np.all(np.abs(1 + 2 * quadratic * variance) <= CANCELS))


def expectation(g: Univariate, linear: float, quadratic: float, mean: Array, variance: Array) -> tuple[Array, Array]:
    """E e^(b x - q x²) g(x), 1 + 2 q v = 0, and its error; means and variances of one shape."""
    with np.errstate(all="ignore"):
        pairs = zip(np.ravel(mean), np.ravel(np.broadcast_to(variance, np.shape(mean))), strict=True)
        found = np.array([_one(g, linear, quadratic, float(m), float(v)) for m, v in pairs])
    return found[:, 0].reshape(np.shape(mean)), found[:, 1].reshape(np.shape(mean))


def _one(g: Univariate, linear: float, quadratic: float, mean: float, variance: float) -> tuple[float, float]:
    deviation = math.sqrt(variance)
    rate = (linear - 2 * quadratic * mean) * deviation
    size = math.exp(linear * mean - quadratic * mean**2)

    def whole(z: Array) -> Array:
        value = g(mean + deviation * z)
        return value if rate == 0.0 else np.where(value == 0.0, 0.0, np.exp(rate * z) * value)

    def folded(x: Array) -> Array:
        u = x[..., 0]
        value = whole(u) + whole(1 / u) / u**2
        return np.where(np.abs(u) < 1, value * np.exp(u * u / 2), 0.0)

    places = features.places(lambda z, seen: g.seen(mean + deviation * z, seen), -lines.FARTHEST, lines.FARTHEST)
    inside = [z if abs(z) < 1 else 1 / z for z in places]
    try:
        value, error = lines.integral(folded, np.zeros(1), np.ones(1), [0.0, -1.0, 1.0, *inside])
    except Infinite:
        raise Infinite("an exponential grows as the Gaussian falls, and the rest falls too slowly") from None
    return size * value, size * error
