"""Standard errors: as large as the errors, and falling as fast as quasi-Monte Carlo promises."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binom, t

import tp_compiler
from tests.consistency.recursions import erf_kernel, relu_kernel
from tests.consistency.scores import deviations
from tp_compiler.evaluate.sampling.copies import paired
from tp_compiler.evaluate.sampling.plan import SamplingPlan

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


NESTED = """
ket |x> ~ N(0, 1)
|n> = E[1](abs(|x>@1) * E[2](tanh(|x> + |x>@1 + |x>@2)))
|m> = E[1](abs(|x>@1 - E[2](cos(|x> * |x>@2) * |x>@1)))
|r> = E[1](step(|x> - |x>@1))
output n = <n|n>
output m = <m>
output v = <(r - 0.5)^2>
"""


def nested_exactly():
    """E[1](|x1| E[2] tanh(x + x1 + x2)) by sums over a fine grid; E|x1| E(1 - exp(-x²/2)); the variance of a rank."""
    grid = np.linspace(-10, 10, 2001)
    weight = np.exp(-(grid**2) / 2) / np.exp(-(grid**2) / 2).sum()
    far = np.linspace(-20, 20, 4001)  # sums of two points of the grid are points of this one
    inner = np.tanh(far[:, None] + grid) @ weight
    places = np.arange(2001)
    n = np.array([weight @ (np.abs(grid) * inner[k + places]) for k in range(2001)])
    return {"n": weight @ n**2, "m": np.sqrt(2 / np.pi) * (1 - np.sqrt(0.5)), "v": 1 / 12}


def test_every_average_over_copies_has_an_error_that_holds_its_bias():
    """The bias of P copies falls with P and not with M: a nested E has few copies, another E of the program has many."""
    exact = nested_exactly()
    program = tp_compiler.compile(NESTED)
    for samples in (1024, 4096):
        for seed in range(4):
            run = tp_compiler.limit(program, method="qmc", samples=samples, seed=seed)
            assert np.abs(deviations(run, exact)).max() < 5, (samples, seed, run.outputs)
            assert run.outputs["v"].stderr < 20 / samples**1.5  # each E has its own P


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_copies_that_a_row_meets_grow_without_bound(depth):
    sizes = [paired(2**k, depth) for k in range(6, 31)]
    assert all(a <= b for a, b in pairwise(sizes))
    assert all(b > a for a, b in zip(sizes[6:], sizes[6 + depth + 1 :], strict=False))
    assert all(p**depth <= 2**k and 2**k % p == 0 for k, p in zip(range(6, 31), sizes, strict=True))


@pytest.mark.parametrize(
    "text, depth",
    [
        ("E[1](abs(|x>@1) * E[2](tanh(|x> + |x>@1 + |x>@2)))", 1),  # linear in the inner one: pairs of copies
        ("E[1](E[2](tanh(|x> + |x>@1 + |x>@2))^2)", 2),
        ("E[1](tanh(|x> + |x>@1))^2", 1),
        ("E[1](exp(E[2](sin(|x>@1 + |x>@2 * |x>) * E[3](cos(|x>@1 * |x>@2 * |x>@3))))^2)", 2),
        ("E[1](exp(E[2](sin(|x>@1 + |x>@2 * |x>) * E[3](cos(|x>@1 * |x>@2 * |x>@3))^2)))", 3),
    ],
)
def test_only_what_is_not_linear_is_nested(text, depth):
    plan = SamplingPlan(tp_compiler.compile(f"ket |x> ~ N(0, 1)\n|y> = {text}\noutput q = <y>"))
    assert max(plan.depth.values()) == depth


def test_sums_inside_of_merged_averages_keep_their_indices():
    """The inner sum runs over i, and so does the outer one."""
    run = tp_compiler.limit(
        """
axis i : 2
ket |x[i]> ~ N(0, 1)
|y> = E[1](sum[i]((|x[i]>@1)^2 * E[2](sum[i]((|x[i]>@2 * |x[1]>)^2))))
output q = <y>
""",
        method="qmc",
        samples=1024,
    )
    assert abs(deviations(run, {"q": 4.0})[0]) < 5
