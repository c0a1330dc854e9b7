"""Standard errors: as large as the errors, and falling as fast as quasi-Monte Carlo promises."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, t

import tp_compiler
from tests.consistency.recursions import erf_kernel, relu_kernel
from tests.consistency.scores import deviations

SMOOTH = """
axis d : 3
ket |u[d]> ~ N(0, 1)
matrix W ~ N(0, 1)
|x> = erf(sum[d](|u[d]>) / sqrt(3))
output k = <erf(W |x>)|erf(W |x>)>
"""
SMOOTH_EXACT = erf_kernel(erf_kernel(np.eye(1)))[0, 0]

RELU = """
axis i, j : 2
axis d : 2
data xi[i,d] = [[1, 0], [0.6, 0.8]]
ket |u[d]> ~ N(0, 1)
matrix W ~ N(0, 2)
output k = <relu(W relu(sum[d](xi[1,d] |u[d]>)))|relu(W relu(sum[d](xi[2,d] |u[d]>)))>
"""
RELU_EXACT = relu_kernel(2 * relu_kernel(np.array([[1, 0.6], [0.6, 1]])))[0, 1]

TRANSPOSED = """
matrix W ~ N(0, 1)
ket |v> ~ N(0, 1)
output k = <v|(W^T W)^3|v>
"""

OUTER = """
axis d : 4
ket |x[d]> ~ N(0, 1)
|y> = E[1](cos(sum[d](|x[d]> * |x[d]>@1)))
output k = <y|y>
"""
CASES = {
    "smooth": (SMOOTH, SMOOTH_EXACT),
    "kinked": (RELU, RELU_EXACT),
    "transposed": (TRANSPOSED, 5.0),
    "outer": (OUTER, 1 / 9),  # |y> = exp(-|x|²/2), and E exp(-|x|²) = 3^(-4/2)
}


@pytest.mark.parametrize("case", CASES)
def test_standard_errors_are_calibrated(case):
    """Over 40 seeds, the 95% point of Student's t is exceeded about twice."""
    text, exact = CASES[case]
    program = tp_compiler.compile(text)
    runs = [
        tp_compiler.limit(program, method="qmc", samples=256 if case == "outer" else 512, seed=s) for s in range(40)
    ]
    scores = np.array([deviations(run, {"k": exact})[0] for run in runs])
    beyond = int((np.abs(scores) > t.ppf(0.975, 7)).sum())
    assert beyond <= binom.ppf(1 - 1e-4, 40, 0.05), scores
    # and they are not merely large: t with 7 degrees of freedom has a root mean square of 1.18
    assert 0.5 < np.sqrt(np.mean(scores**2)) < 2.0, scores


def rms_error(samples, method):
    program = tp_compiler.compile(SMOOTH)
    options = {"samples": samples, "replicates": 8, "method": method}
    errors = [float(tp_compiler.limit(program, seed=s, **options)["k"]) - SMOOTH_EXACT for s in range(16)]
    return np.sqrt(np.mean(np.square(errors)))


@pytest.mark.parametrize("method, low, high", [("qmc", -1.8, -0.75), ("mc", -0.8, -0.25)])
def test_the_error_falls_faster_than_that_of_plain_sampling(method, low, high):
    sizes = 2 ** np.arange(10, 14)
    errors = [rms_error(int(m), method) for m in sizes]
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert low < slope < high, (slope, errors)


def test_averages_over_copies_own_up_to_the_bias_of_their_pairing():
    """A rough integrand in ten dimensions: the average over paired copies is noisy, and its square is biased by that
    noise, however many rows there are."""
    text = """
axis d : 10
ket |x[d]> ~ N(0, 1)
|y> = E[1](cos(2 * sum[d](|x[d]> * |x[d]>@1)))
output q = <y|y>
"""
    run = tp_compiler.limit(text, method="qmc", samples=8192, replicates=2)
    assert abs(deviations(run, {"q": 9.0**-5})[0]) < 8, run["q"]
