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


def expected(
    function: Callable[[Array], Array], value: Array, sigma: Array, bias: Array, width: int
) -> tuple[Array, Array]:
    """What the width adds to E L(f_n) beyond L(f), for a function L of one flat array: (½ tr(L'' Σ) + L'·b)/n.

    Returns the part of the spread and that of the bias. Derivatives are differences over one standard deviation at this
    width, along the principal axes of sigma, so that functions with kinks are averaged over what networks do.
    """
    base = function(value)
    variances, axes = np.linalg.eigh(sigma / width)
    moves = [axes[:, k] * math.sqrt(v) for k, v in enumerate(variances) if v > 0]
    spread = sum(((function(value + m) + function(value - m)) / 2 - base for m in moves), np.zeros_like(base))
    drift = (function(value + bias / width) - function(value - bias / width)) / 2 if bias.any() else 0 * base
    return np.asarray(spread), np.asarray(drift)


def width_within(distance: float, bias: float, deviation: float) -> int:
    """The smallest width n with |bias|/n + deviation/√n ≤ distance; deviation 0 asks for the mean alone."""
    if not distance > 0:
        raise ValueError("networks come as close as a positive distance, and no closer")
    bias, deviation = abs(bias), abs(deviation)
    # With s = √n this is distance s² - deviation s - bias ≥ 0.
    root = (deviation + math.sqrt(deviation**2 + 4 * distance * bias)) / (2 * distance)
    return max(1, math.ceil(root**2 * (1 - 1e-12)))
