"""Divided differences of functions of eigenvalues, against quotients in 60 digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

from tests.unit.finite.programs import S, indices
from tp_compiler.finite.eigenvalues import Entrywise, SpectralFunction, SpectralPower
from tp_compiler.finite.linalg import linalg
from tp_compiler.finite.tensors import LabelledArray
from tp_compiler.ir.build import Builder

VALUES = np.array([1e-6, 0.3, 1.0, 1.0 + 1e-9, 1.0 + 3e-6, 2.5])


def wanted(fn: Callable[[Any], Any], values: np.ndarray) -> np.ndarray:
    with mpmath.workdps(60):
        exact = [mpmath.mpf(float(x)) for x in values]
        rows = [[mpmath.diff(fn, a) if a == b else (fn(a) - fn(b)) / (a - b) for b in exact] for a in exact]
    return np.array([[float(x) for x in row] for row in rows])


@pytest.mark.parametrize("p", [-0.25, 0.5, -2.0, 3.0, 1.0, 0.0])
def test_powers(p: float) -> None:
    found = SpectralPower(np.array([p])).differences(VALUES)
    np.testing.assert_allclose(found, wanted(lambda x: x**p, VALUES), rtol=1e-12, atol=1e-14)


def test_powers_of_a_singular_matrix() -> None:
    values = np.array([0.0, 0.0, 2.0])
    np.testing.assert_allclose(SpectralPower(np.array([2.0])).differences(values), np.add.outer(values, values))
    with np.errstate(all="ignore"):
        assert np.isinf(SpectralPower(np.array([0.5])).differences(values)[0, 0])


def test_whole_powers_of_negative_eigenvalues() -> None:
    values = np.array([-1.5, -0.5, 2.0])
    found = SpectralPower(np.array([3.0])).differences(values)
    np.testing.assert_allclose(found, wanted(lambda x: x**3, values), rtol=1e-9)


@pytest.mark.parametrize(("fn", "exact"), [("tanh", mpmath.tanh), ("exp", mpmath.exp), ("atan", mpmath.atan)])
def test_entrywise_functions(fn: str, exact: Callable[[Any], Any]) -> None:
    function: SpectralFunction = Entrywise(fn)
    np.testing.assert_allclose(function.differences(VALUES), wanted(exact, VALUES), rtol=1e-9)


@pytest.mark.parametrize("op", ["dpow", "dmatfun"])
def test_derivative_of_a_matrix_function(op: str) -> None:
    """<B, d f(K)> by central differences of f(K) itself, batched, with B that is not symmetric."""
    i, j = indices(4, "i", "j")
    rng = np.random.default_rng(0)
    k = rng.standard_normal((4, 4))
    k = k @ k.T + np.eye(4)
    b, step = rng.standard_normal((2, 4, 4))
    step = step + step.T
    build = Builder()
    (batch,) = indices(1, "l")
    matrix = build.array("k", None, (i, j), False, S)
    power = [build.constant(-0.3, S)] if op == "dpow" else []
    node = build.linalg(op, i, j, (matrix, build.array("b", None, (batch, i, j), False, S), *power), "tanh", S)
    args = [
        LabelledArray(k, (i, j)),
        LabelledArray(b[None], (batch, i, j)),
        *(LabelledArray(np.asarray(-0.3), ()) for _ in power),
    ]
    slope = (linalg(node, args)[0] * step).sum()  # type: ignore[arg-type]

    def value(at: np.ndarray) -> float:
        plain = build.linalg(op[1:], i, j, (matrix, *power), "tanh", S)
        return float((linalg(plain, [LabelledArray(at, (i, j)), *args[2:]]) * b).sum())  # type: ignore[arg-type]

    assert slope == pytest.approx((value(k + 1e-5 * step) - value(k - 1e-5 * step)) / 2e-5, rel=1e-8)
