"""Formulas that equations are given against integrals of the expressions they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import sympy as sp

import tp_compiler as tpc
from tp_compiler.equations.functions import FUNCTIONS
from tp_compiler.evaluate.exact.symbolic import closed_form
from tp_compiler.evaluate.gaussian.quadrature import expectation
from tp_compiler.evaluate.gaussian.univariate import Univariate, gauss, relu_power, univariate

G1, G2 = sp.symbols("g1 g2", real=True)
COVARIANCE = sp.ImmutableMatrix([[sp.Rational(3, 2), sp.Rational(1, 3)], [sp.Rational(1, 3), 1]])


@dataclass
class Pair:
    variables: tuple[Any, ...] = (G1, G2)
    mean: tuple[Any, ...] = (sp.Integer(0), sp.Integer(0))
    covariance: Any = COVARIANCE


@pytest.mark.parametrize(
    ("f", "g", "a", "b"),
    [
        ("relu", "relu", (sp.sqrt(2), 1), (0, 1)),
        ("erf", "erf", (1, 0), (1, -1)),
        ("relu", "erf", (1, 0), (0, 1)),
        ("step", "relu", (1, 2), (0, 1)),
        ("sin", "sin", (1, 0), (1, 1)),
        ("abs", "sign", (1, 1), (0, 1)),
    ],
)
def test_formulas_of_linear_arguments(f: str, g: str, a: tuple[Any, Any], b: tuple[Any, Any]) -> None:
    u, w = (c[0] * G1 + c[1] * G2 for c in (a, b))
    formula = closed_form(3 * FUNCTIONS[f](u) * FUNCTIONS[g](w), Pair())
    assert formula is not None
    columns = sp.Matrix([[a[0], b[0]], [a[1], b[1]]])
    covariance = np.array((columns.T * COVARIANCE * columns).tolist(), dtype=float)
    value, error = expectation([univariate(f), univariate(g)], np.zeros(2), covariance)
    np.testing.assert_allclose(float(formula), 3 * value, rtol=1e-9, atol=float(10 * error))


@pytest.mark.parametrize(
    ("expression", "f"),
    [
        (sp.exp(-(G1**2) / 3) * sp.exp(-(G2**2) / 3), gauss(1 / 3)),
        (FUNCTIONS["relu"](G1) ** 2 * FUNCTIONS["relu"](G2) ** 2, relu_power(2)),
    ],
    ids=["bells", "squares"],
)
def test_formulas_of_compositions(expression: Any, f: Univariate) -> None:
    formula = closed_form(expression, Pair())
    value, error = expectation([f, f], np.zeros(2), np.array(COVARIANCE.tolist(), dtype=float))
    np.testing.assert_allclose(float(formula), value, rtol=1e-9, atol=float(10 * error))


def test_what_has_no_formula_is_left_alone() -> None:
    assert closed_form(sp.tanh(G1) * sp.tanh(G2), Pair()) is None
    assert closed_form(sp.erf(G1 * G2), Pair()) is None
    assert closed_form(sp.erf(G1), Pair(mean=(sp.Integer(1), sp.Integer(0)))) is None


def test_equations_name_the_arc_sine_kernel() -> None:
    program = """
        axis i, j : 2
        data xi[i] = [0.7, -0.4]
        ket |u> ~ N(0, 1)
        matrix W ~ N(0, 2)
        |x[i]> = tanh(xi[i] |u>)
        |y[i]> = erf(W |x[i]>)
        output k[i,j] = <x[i]|x[j]>
        output e[i,j] = <y[i]|y[j]>
    """
    formula = tpc.derive(program)["e"].closed_form
    assert formula.has(sp.asin) and tpc.derive(program)["k"].closed_form is None
    k = tpc.limit(program)["k"]
    wanted = 2 / np.pi * np.arcsin(4 * k[0, 1] / np.sqrt((1 + 4 * k[0, 0]) * (1 + 4 * k[1, 1])))
    np.testing.assert_allclose(tpc.limit(program)["e"][0, 1], wanted, rtol=1e-11)
