"""Functions of functions: the recognised function equals the composition, at points and in expectation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

import tp_compiler as tpc
from tp_compiler.evaluate.exact import compositions
from tp_compiler.evaluate.gaussian.univariate import (
    Univariate,
    gauss,
    hermite,
    leaky_step,
    monomial,
    relu_power,
    scaled,
    times,
    two_sided,
    univariate,
)

X = np.array([-2.3, -1.0, -0.2, 0.0, 0.4, 1.0, 3.1])
FUNCTIONS = [
    *(univariate(n) for n in ("relu", "abs", "step", "sign", "exp")),
    *(univariate("leaky_relu", 0.2), leaky_step(-0.3), gauss(0.7), relu_power(2), two_sided(2, 1.0, -0.4)),
    *(monomial(0), monomial(1), monomial(3), scaled(univariate("relu"), -2.0), times(scaled(gauss(1.0), 0.5), -3.0)),
]


def test_products() -> None:
    found = 0
    for f in FUNCTIONS:
        for g in FUNCTIONS:
            product = compositions.multiplied(f, g)
            if product is not None:
                found += 1
                assert_allclose(product(X), f(X) * g(X), rtol=1e-14, err_msg=f"{f} {g}")
    assert found > 120
    assert compositions.multiplied(univariate("tanh"), univariate("tanh")) is None
    assert compositions.multiplied(univariate("erf"), univariate("relu")) is None


def test_powers() -> None:
    for f in FUNCTIONS:
        for k in (1, 2, 3):
            power = compositions.power(f, k)
            assert power is not None
            assert_allclose(power(X), f(X) ** k, rtol=1e-13, err_msg=f"{f} {k}")
    assert compositions.power(univariate("relu"), 171) is None


@pytest.mark.parametrize(
    "f", [monomial(3), hermite(3), *(univariate(n) for n in ("exp", "sin", "cos", "sinh", "cosh"))], ids=str
)
def test_functions_of_a_ket_with_a_mean(f: Univariate) -> None:
    f = times(scaled(f, 0.7), -2.0)
    parts = compositions.centred(f, 0.6)
    assert parts is not None
    assert_allclose(sum(a * g(X) for a, g in parts), f(X + 0.6), rtol=1e-13)
    assert compositions.centred(univariate("relu"), 0.6) is None


RELU_FOURTH = 3 * 2**2 / 2  # E relu(x)^4 at variance 2


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("exp(-z^2/2)", 3**-0.5),
        ("exp(1 - z*z)", np.e * 5**-0.5),
        ("relu(z)^4", RELU_FOURTH),
        ("square(relu(z)) * relu(z) * z", RELU_FOURTH),
        ("abs(z)^3 * abs(z)", 12.0),
        ("relu(-2*z)^4", 16 * RELU_FOURTH),
        ("relu(z^3)", 2 * np.sqrt(2) * 2 / np.sqrt(2 * np.pi)),
        ("step(relu(z))", 0.5),
        ("abs(leaky_relu(z, 0.5))", 1.5 * np.sqrt(2) / np.sqrt(2 * np.pi)),
        ("sign(z) * step(-z)", -0.5),
        ("exp(z)^2", np.exp(4)),
        ("(z + 1)^3", 1 + 3 * 2),
        ("sin(z + 1) * sin(z + 1)", (1 - np.cos(2) * np.exp(-4)) / 2),
        ("(z + 1) * z^3", 12.0),
    ],
)
def test_programs_that_compose(expression: str, value: float) -> None:
    run = tpc.limit(f"ket |z> ~ N(0, 2)\noutput k = <{expression}>\n", method="exact")
    assert_allclose(run["k"], value, rtol=1e-13)


@pytest.mark.parametrize("expression", ["tanh(relu(z))", "exp(-abs(z))", "softplus(abs(z) - relu(z)^2)"])
def test_smooth_functions_of_kinked_ones_are_integrated(expression: str) -> None:
    program = f"ket |z> ~ N(0, 2)\noutput k = <{expression}>\n"
    exact = tpc.limit(program, method="quadrature").outputs["k"]
    sampled = tpc.limit(program, method="qmc", samples=8192).outputs["k"]
    assert exact.stderr < 1e-11
    assert abs(exact.value - sampled.value) < 6 * sampled.stderr + 1e-9


def test_joint_functions_beside_kinks_are_integrated() -> None:
    program = "ket |x> ~ N(0, 1)\nket |y> ~ N(0, 2)\noutput k = <tanh(x*y) * relu(x) * y>\n"
    exact = tpc.limit(program, method="quadrature").outputs["k"]
    sampled = tpc.limit(program, method="qmc", samples=8192).outputs["k"]
    assert exact.stderr < 1e-12
    assert abs(exact.value - sampled.value) < 6 * sampled.stderr


def test_functions_of_affine_functions_of_one_gaussian() -> None:
    """Of the steepest of them, which may have a shift: E tanh(x) 1[x < 1/2] relu(3 - x/2), x ~ N(0, 1)."""
    program = "ket |x> ~ N(0, 1)\noutput k = <step(1 - 2*x) * tanh(x) * relu(3 - x/2)>\n"
    found = tpc.limit(program, method="quadrature").outputs["k"]
    x = np.linspace(-12.0, 0.5, 200_001)
    values = np.tanh(x) * np.maximum(3 - x / 2, 0) * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    weights = np.full(x.shape, 2.0)  # Simpson's rule
    weights[1::2], weights[[0, -1]] = 4.0, 1.0
    assert_allclose(found.value, weights @ values * (x[1] - x[0]) / 3, rtol=1e-11)
