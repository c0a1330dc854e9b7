"""Errors of kernels of many inputs, one for all pairs (bulk.py, sensitivity.py), against 50-digit recursions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

import tp_compiler as tpc
from tp_compiler.evaluate import errors
from tp_compiler.evaluate.bulk import LARGE
from tp_compiler.results import Estimate

INPUTS = 66  # the fewest whose kernel has one error for all
WEIGHT, BIAS = 1.9, 0.3
Kernel = Callable[[Any, Any, Any], Any]


def one_sided(right: float, left: float) -> Kernel:
    """right·x for x > 0, left·x else (Cho and Saul 2009)."""
    even, odd = (mpf(right) - left) / 2, (mpf(right) + left) / 2

    def kernel(v: Any, w: Any, c: Any) -> Any:
        rest = mp.sqrt(max(v * w - c * c, mpf(0)))
        return even**2 * 2 / mp.pi * (rest + c * mp.atan2(c, rest)) + odd**2 * c

    return kernel


def arcsine(even: float, odd: float) -> Kernel:
    """even + odd·erf (Williams 1997)."""

    def kernel(v: Any, w: Any, c: Any) -> Any:
        return even**2 + odd**2 * 2 / mp.pi * mp.asin(2 * c / mp.sqrt((1 + 2 * v) * (1 + 2 * w)))

    return kernel


FUNCTIONS = {
    "relu": one_sided(1, 0),
    "abs": one_sided(1, -1),
    "leaky_relu": one_sided(1, 0.01),
    "erf": arcsine(0, 1),
    "erfc": arcsine(1, -1),
}


def inputs(seed: int) -> np.ndarray:
    """Random ones of several sizes; pairs 1e-6 apart, and nearly opposite ones."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((INPUTS, 3)) * rng.choice([0.1, 1.0, 3.0], (INPUTS, 1))
    x[-8:-4] = x[:4] + 1e-6 * rng.standard_normal((4, 3))
    x[-4:] = -x[4:8] + 1e-6 * rng.standard_normal((4, 3))
    return x


def recursion(kernel: Kernel, x: np.ndarray, depth: int) -> list[list[Any]]:
    """One triangle."""
    exact = [[mpf(float(t)) for t in row] for row in x]
    k = [[mp.fdot(exact[i], exact[j]) for j in range(i + 1)] for i in range(len(x))]
    for layer in range(depth):
        if layer:
            k = [[mpf(WEIGHT) * c + mpf(BIAS) for c in row] for row in k]
        k = [[kernel(k[i][i], k[j][j], c) for j, c in enumerate(row)] for i, row in enumerate(k)]
    return k


def program(name: str, x: np.ndarray, depth: int) -> str:
    rows = ", ".join("[" + ", ".join(repr(float(t)) for t in row) + "]" for row in x)
    layers = "\n".join(f"|x[i]> = {name}(W[{k}] |x[i]> + |b[{k}]>)" for k in range(2, depth + 1))
    return f"""
axis i, j : {len(x)}
axis d : {x.shape[1]}
axis l : {depth}
data xi[i,d] = [{rows}]
ket |u[d]> ~ N(0, 1)
matrix W[l] ~ N(0, {WEIGHT})
ket |b[l]> ~ N(0, {BIAS})
|x[i]> = {name}(sum[d](xi[i,d] |u[d]>))
{layers}
output k[i,j] = <x[i]|x[j]>
"""


@pytest.fixture
def everything_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors that no printed digit would tell are reported as well."""
    monkeypatch.setattr(errors, "NEGLIGIBLE", 0.0)


def estimate(name: str, x: np.ndarray, depth: int) -> Estimate:
    return tpc.limit(program(name, x, depth), method="exact").outputs["k"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_pair_is_further_off_than_the_error(name: str, everything_shown: None) -> None:
    depth, x = 4, inputs(len(name))
    found = estimate(name, x, depth)
    assert found.value.size > LARGE
    with mp.workdps(50):
        truth = recursion(FUNCTIONS[name], x, depth)
        off = [
            abs(mpf(float(found.value[i, j])) - c) - found.stderr[i, j]
            for i, row in enumerate(truth)
            for j, c in enumerate(row)
        ]
    assert float(max(off)) <= 0
    assert np.max(found.stderr) < 3e-13 * np.max(np.abs(found.value)), "no more than some hundred roundings"


@pytest.mark.parametrize("name", ["relu", "erf"])
def test_many_inputs_are_told_nearly_as_well_as_few(name: str, everything_shown: None) -> None:
    x = inputs(1)
    few, many = (np.max(estimate(name, part, 6).stderr) for part in (x[:-8], x))
    assert few / 25 < many < 25 * few, "one for all pairs is that of the worst"


@pytest.mark.parametrize("name", ["relu", "erf"])
def test_training_and_test_inputs(name: str, everything_shown: None) -> None:
    """A kernel between two families has no diagonal."""
    x = inputs(2)
    rows = [
        "[" + ", ".join("[" + ", ".join(repr(float(t)) for t in row) + "]" for row in part) + "]"
        for part in (x, x + 1e-6)
    ]
    found = tpc.limit(
        f"""
axis i, j : {INPUTS}
axis d : 3
data x[i,d] = {rows[0]}
data y[j,d] = {rows[1]}
ket |u[d]> ~ N(0, 1)
matrix W ~ N(0, {WEIGHT})
ket |b> ~ N(0, {BIAS})
|g[i]> = {name}(W {name}(sum[d](x[i,d] |u[d]>)) + |b>)
|h[j]> = {name}(W {name}(sum[d](y[j,d] |u[d]>)) + |b>)
output k[i,j] = <g[i]|h[j]>
""",
        method="exact",
    ).outputs["k"]
    with mp.workdps(50):
        whole = recursion(FUNCTIONS[name], np.concatenate([x, x + 1e-6]), 2)
        off = [
            abs(mpf(float(found.value[i, j])) - whole[INPUTS + j][i]) - found.stderr[i, j]
            for i in range(INPUTS)
            for j in range(INPUTS)
        ]
    assert float(max(off)) <= 0
