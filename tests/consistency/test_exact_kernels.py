"""NNGP kernels of the exact evaluator against a 50-digit recursion that shares nothing with it.

One layer maps a covariance K to σ²E f(u)f(v) + σ_b², (u, v) ~ N(0, K), by the formulas of `kernel_formulas`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

import tp_compiler as tpc
from tests.consistency.kernel_formulas import ACTIVATIONS, SMOOTH, Activation, Kernel, trapezoid

VARIANCE, BIAS = 1.7, 0.25
#: Functions that grow faster than a line leave the range of doubles on large inputs; sin + cos has the kernel
#: exp(-|x - x'|²/2), whose distance is lost in the covariances of inputs of size 1e3.
BOUNDED = [n for n, a in ACTIVATIONS.items() if a.depth == 10 and n != "fourier"]


def recursion(kernels: list[Kernel], gram: list[list[Any]]) -> Any:
    """The kernel after the layers; gram is the exact covariance of the first preactivations."""
    size = range(len(gram))
    k = gram
    for layer, kernel in enumerate(kernels):
        if layer:
            k = [[mpf(VARIANCE) * k[i][j] + mpf(BIAS) for j in size] for i in size]
        k = [[kernel(k[i][i], k[j][j], k[i][j]) for j in size] for i in size]
    return k


def program(layers: list[Activation], inputs: np.ndarray) -> str:
    first, *deeper = layers
    rows = ", ".join("[" + ", ".join(repr(float(x)) for x in row) + "]" for row in inputs)
    n, d = inputs.shape
    lines = [f"|x[i]> = {f.call}(W[{k}] |x[i]> + |b[{k}]>)" for k, f in enumerate(deeper, 2)]
    return f"""
        {first.declaration}
        axis i, j : {n}
        axis d : {d}
        axis l : {len(layers)}
        data xi[i,d] = [{rows}]
        ket |u[d]> ~ N(0, 1)
        matrix W[l] ~ N(0, {VARIANCE})
        ket |b[l]> ~ N(0, {BIAS})
        |x[i]> = {first.call}(sum[d](xi[i,d] |u[d]>))
        {"; ".join(lines)}
        output k[i,j] = <x[i]|x[j]>
    """


def inputs(scale: float) -> np.ndarray:
    """Five inputs; one of them again, one negated, zero, and one 1e-6 from the third."""
    rng = np.random.default_rng(3)
    base = rng.standard_normal((5, 3)) * scale
    return np.array(
        [*base, base[0], -base[1], np.zeros(3), base[2] * (1 + 1e-6) + 1e-6 * scale * rng.standard_normal(3)]
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize(
    "depth", [2, *(pytest.param(d, marks=pytest.mark.slow if d == 3 else pytest.mark.long) for d in (1, 3, 5, 10))]
)
def test_kernels_of_every_depth(name: str, depth: int) -> None:
    activation = ACTIVATIONS[name]
    if depth <= activation.depth:
        _compare([name] * depth, inputs(activation.scale if depth > 1 else 1.0))


@pytest.mark.long
@pytest.mark.parametrize("name", BOUNDED)
@pytest.mark.parametrize("scale", [1e-3, 30.0, 1e3])
def test_kernels_of_small_and_large_inputs(name: str, scale: float) -> None:
    _compare([name] * 3, inputs(scale))


@pytest.mark.parametrize(
    "names", ["relu sign", "gelu step", "sign relu sign", "erf relu sin gelu cos abs", "step erf step"]
)
def test_layers_of_different_kinds(names: str) -> None:
    _compare(names.split(), inputs(1.0))


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("depth", [2, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (1, 3, 4))])
def test_kernels_by_quadrature(name: str, depth: int) -> None:
    points = inputs(1.0)
    run = tpc.limit(program([Activation(mp.mpf, call=name)] * depth, points), method="quadrature")
    assert run.outputs["k"].method == "quadrature"
    kernel = np.asarray(points, dtype=np.longdouble) @ points.T
    for layer in range(depth):
        kernel = trapezoid(SMOOTH[name], kernel * VARIANCE + BIAS if layer else kernel)
    np.testing.assert_allclose(run["k"], kernel.astype(float), rtol=1e-10, atol=1e-13)


def _compare(names: list[str], points: np.ndarray) -> None:
    layers = [ACTIVATIONS[name] for name in names]
    run = tpc.limit(program(layers, points), method="exact")
    assert run.outputs["k"].method in ("closed-form", "exact")
    with mp.workdps(50):
        rows = [[mpf(float(x)) for x in row] for row in points]
        gram = [[mp.fsum(a * b for a, b in zip(r, s, strict=True)) for s in rows] for r in rows]
        exact = recursion([layer.kernel for layer in layers], gram)
        wanted = np.array([[float(x) for x in row] for row in exact])
    near = np.zeros(wanted.shape, dtype=bool)  # pairs whose inputs are 1e-6 apart, where 1e-9 is asked for
    near[2, 8] = near[8, 2] = True
    tolerance = np.where(near, 1e-9, 1e-12) * np.abs(wanted) + 1e-13
    worst = np.abs(run["k"] - wanted) / tolerance
    assert worst.max() < 1, (names, np.unravel_index(worst.argmax(), worst.shape), worst.max())


@pytest.mark.parametrize("exponent", range(1, 8))
def test_errors_where_a_kernel_crosses_zero_count_the_terms_that_cancel(exponent: int) -> None:
    """Even and odd part of leaky_relu cancel there; the rounding of each stays."""
    slope = mpf("0.2")

    def kernel(a: Any, b: Any, c: Any) -> Any:
        relu = ACTIVATIONS["relu"].kernel(a, b, c)
        return (1 - slope) ** 2 * relu + slope * c

    with mp.workdps(50):
        crossing = float(mp.acos(mp.findroot(lambda c: kernel(1, 1, c), -0.5)))
    rng = np.random.default_rng(exponent)
    angles = rng.uniform(0, 2 * np.pi, 12)
    angles = np.concatenate([angles, angles + crossing + 10.0**-exponent * rng.uniform(-1, 1, 12)])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    layer = Activation(mp.mpf, "fn f(t) = leaky_relu(t, 0.2)")
    found = tpc.limit(program([layer], points)).outputs["k"]
    for i in range(12):
        with mp.workdps(50):
            x, y = ([mpf(float(t)) for t in points[k]] for k in (i, i + 12))
            wanted = kernel(mp.fdot(x, x), mp.fdot(y, y), mp.fdot(x, y))
            off = abs(float(mpf(float(found.value[i, i + 12])) - wanted))
        assert off <= found.stderr[i, i + 12] + 1e-13 * abs(found.value[i, i + 12])
