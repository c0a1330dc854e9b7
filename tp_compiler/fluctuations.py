"""How outputs fluctuate at finite width, and what follows from it: f_n = value + bias/n + N(0, sigma/n).

n is the base width, for every width class. Arrays only: nothing here knows programs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tp_compiler.replicates import Array

#: The law of first order is that of networks where its variance is above this part of the squared bias.
_LEAST_VARIANCE = 0.1
#: Points that averages over normal laws are taken over, and independent scramblings of them.
_POINTS = 256
_SCRAMBLINGS = 8
#: Biases below this part of an output are rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Fluctuations:
    """The spread and the bias of an output over networks of width n, times n; None where they could not be computed.

    sigma          (k, k), the limit of n Cov f_n over the entries of the output in C order
    sigma_stderr   standard error of each entry of sigma
    bias           (k,), the limit of n (E f_n - f)
    bias_stderr    standard error of each entry of bias

    Between two outputs, sigma (k, m) is their covariance times n, and there is no bias.
    """

    sigma: Array | None
    sigma_stderr: Array | None
    bias: Array | None = None
    bias_stderr: Array | None = None

    @property
    def constant(self) -> bool:
        """Has every network the same value?"""
        return self.sigma is not None and self.bias is not None and not self.sigma.any() and not self.bias.any()

    def second_order(self, width: int, scale: float) -> NDArray[np.bool_]:
        """Entries (k,) whose spread over networks of a width is of order 1/n, as their bias is, and not known.

        Of ⟨u|v⟩² the spread of order n^(-1/2) is 0: networks have z²/n with z ~ N(0, 1). `scale` is the largest |value|.
        """
        assert self.sigma is not None
        variance = np.diag(self.sigma)
        if self.bias is None or self.bias_stderr is None:
            return np.asarray(variance <= 0)
        reach = np.abs(self.bias) + self.bias_stderr
        return np.asarray((width * variance <= _LEAST_VARIANCE * reach**2) & (reach > _ROUNDING * scale))

    def deviation(self, width: int, shape: tuple[int, ...]) -> Array:
        """The standard deviation of each entry over networks of a width."""
        assert self.sigma is not None
        return np.asarray(np.sqrt(np.maximum(np.diag(self.sigma), 0.0) / width).reshape(shape))

    def shift(self, width: int, shape: tuple[int, ...]) -> Array:
        """What the width adds to the mean of each entry; 0 where it is not known."""
        return np.zeros(shape) if self.bias is None else np.asarray((self.bias / width).reshape(shape))


def normal_quantile(q: float) -> float:
    """Of the standard normal law."""
    from statistics import NormalDist  # takes 5 ms to load

    return NormalDist().inv_cdf(q)


def joint(blocks: Sequence[Sequence[Array]]) -> Array:
    """The covariance of several outputs, one after the other, from the blocks of each pair; made symmetric."""
    whole = np.block([list(row) for row in blocks])
    return np.asarray((whole + whole.T) / 2)


@dataclass(frozen=True, eq=False)
class WidthEffect:
    """What the width adds to the mean of a function of outputs, to its value at their limits.

    spread   by their spread about their means; `error` is its standard error, of the points that were averaged over
    drift    by their bias
    """

    spread: Array
    error: Array
    drift: Array


def expected(function: Callable[[Array], Array], value: Array, sigma: Array, bias: Array, width: int) -> WidthEffect:
    """E L(f_n) beyond L(f), for a function L of one flat array: its average over N(value + bias/n, sigma/n).

    Of smooth functions it is (½ tr(L'' Σ) + L'·b)/n and terms of order 1/n². Kinks are averaged over what networks do.
    """
    middle = value + bias / width
    base = np.asarray(function(middle))
    spread, error = _averaged(lambda move: np.asarray(function(middle + move)) - base, _roots(sigma / width))
    shape = base.shape
    return WidthEffect(spread.reshape(shape), error.reshape(shape), np.asarray(base - function(value)))


def bent(function: Callable[[Array], Array], value: Array, move: Array) -> bool:
    """Does a function of one flat array have a kink about `value`: does it bend in proportion to a move, not to its square?"""
    base = np.asarray(function(value))
    whole, half = (float(np.abs(function(value + m) + function(value - m) - 2 * base).sum()) for m in (move, move / 2))
    return _ROUNDING * float(np.abs(base).sum()) < whole < 3 * half


def _roots(covariance: Array) -> Array:
    """Rows whose sum, with independent standard normal factors, has this covariance: its principal axes."""
    variances, axes = np.linalg.eigh(covariance)
    live = variances > 1e-14 * np.max(variances, initial=0.0)
    return np.asarray((axes[:, live] * np.sqrt(variances[live])).T)


def _averaged(function: Callable[[Array], Array], roots: Array) -> tuple[Array, Array]:
    """The mean of a function of a normal array with these roots, and its standard error; both flat.

    Over scrambled Sobol points, each with its mirror image, which leaves the even part of the function. A quadratic function is
    taken off by regression on products of the normals, whose means are known; of quadratic functions the mean is exact.
    """
    if not len(roots):
        nothing = np.zeros(np.size(function(np.zeros(roots.shape[1]))))
        return nothing, nothing
    normals = np.concatenate([_normals(len(roots), seed) for seed in range(_SCRAMBLINGS)])
    values = np.stack([np.ravel(function(m) + function(-m)) / 2 for m in normals @ roots])
    products = _products(normals)
    if products.shape[1] and np.isfinite(values).all():
        products_apart, values_apart = (x - x.mean(axis=0) for x in (products, values))
        values = values - products @ np.linalg.lstsq(products_apart, values_apart, rcond=None)[0]
    means = values.reshape(_SCRAMBLINGS, _POINTS, -1).mean(axis=1)
    return means.mean(axis=0), means.std(axis=0, ddof=1) / math.sqrt(_SCRAMBLINGS)


def _normals(count: int, seed: int) -> Array:
    from scipy.special import ndtri
    from scipy.stats.qmc import Sobol

    uniform = Sobol(count, scramble=True, rng=np.random.default_rng(seed)).random(_POINTS)
    return np.asarray(ndtri(np.clip(uniform, 2.0**-40, 1 - 2.0**-40)))


def _products(normals: Array) -> Array:
    """Even products of mean 0: z_i² - 1 and z_i z_j, as many as the points can tell apart."""
    count = normals.shape[1]
    most = len(normals) // 8
    first, second = np.triu_indices(count) if count * (count + 1) // 2 <= most else (np.arange(min(count, most)),) * 2
    return np.asarray(normals[:, first] * normals[:, second] - (first == second))


def width_within(distance: float, bias: float, deviation: float) -> int:
    """The smallest width n with |bias|/n + deviation/√n ≤ distance; deviation 0 asks for the mean alone."""
    if not distance > 0:
        raise ValueError("networks come as close as a positive distance, and no closer")
    bias, deviation = abs(bias), abs(deviation)
    # With s = √n this is distance s² - deviation s - bias ≥ 0.
    root = (deviation + math.sqrt(deviation**2 + 4 * distance * bias)) / (2 * distance)
    return max(1, math.ceil(root**2 * (1 - 1e-12)))
