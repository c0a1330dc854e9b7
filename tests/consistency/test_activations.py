"""Kernels and tangent kernels of every activation without sampling, against a recursion that shares nothing with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc
from tests.consistency.activations import ACTIVATIONS, Activation, tangent
from tp_compiler.ir.primitives import DEFAULTS, PRIMITIVES

VARIANCE, BIAS = 1.3, 0.2
#: Primitives that are not activations: their kernels do not exist, or only for some arguments.
NONE = {"log", "sqrt", "tan"}
#: exp of exp has no moments: one layer.
SHALLOW = {"exp", "sinh", "cosh"}
NAMES = sorted(
    name for name, row in PRIMITIVES.items() if row.arity == 1 + len(DEFAULTS.get(name, {})) and name not in NONE
)


def inputs(apart: float) -> np.ndarray:
    """Two inputs, zero, one near the first, and the second negated."""
    base = np.array([[0.7, -0.4], [-0.2, 1.1]])
    return np.array([*base, [0.0, 0.0], base[0] + [apart, -2 * apart], -base[1]])


def program(call: str, depth: int, points: np.ndarray, declaration: str = "") -> str:
    rows = ", ".join("[" + ", ".join(repr(float(x)) for x in row) + "]" for row in points)
    lines = "".join(
        f"""
        matrix W{k} ~ N(0, {VARIANCE})
        ket |b{k}> ~ N(0, {BIAS})
        |x{k}[i]> = {call}(W{k} |x{k - 1}[i]> + |b{k}>)"""
        for k in range(2, depth + 1)
    )
    return f"""
        {declaration}
        axis i, j : {len(points)}
        axis d : 2
        data xi[i,d] = [{rows}]
        ket |u[d]> ~ N(0, 1)
        ket |v> ~ N(0, 1)
        |x1[i]> = {call}(sum[d](xi[i,d] |u[d]>)){lines}
        output k[i,j] = <x{depth}[i]|x{depth}[j]>
        output t[i,j] = ntk(<v|x{depth}[i]>, <v|x{depth}[j]>)
    """


def _compare(text: str, act: Activation, depth: int, points: np.ndarray) -> None:
    run = tpc.limit(text, method="quadrature")
    assert not run.failed, {name: d.message for name, d in run.failed.items()}
    wanted = dict(zip("kt", tangent(act, points @ points.T, depth, VARIANCE, BIAS), strict=True))
    for name, value in wanted.items():
        found = run.outputs[name]
        scale = max(1.0, float(np.abs(value).max()))
        assert np.max(found.stderr) < 1e-8 * scale, (name, np.max(found.stderr))
        np.testing.assert_allclose(found.value, value, rtol=0, atol=1e-9 * scale, err_msg=name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("depth", [2, *(pytest.param(d, marks=pytest.mark.slow) for d in (1, 3))])
def test_every_activation(name: str, depth: int) -> None:
    assert name in ACTIVATIONS, f"{name}: give its function, derivative and kinks to tests/consistency/activations.py"
    # The reference knows distances from covariances in doubles; a jump takes the root of them at every layer.
    points = inputs(1e-3 if name in ("step", "sign") else 1e-5)
    if depth == 2:
        points = points[:4]
    if name in SHALLOW:
        depth = 1
    _compare(program(name, depth, points), ACTIVATIONS[name], depth, points)


@pytest.mark.parametrize("name", sorted(set(NAMES) - SHALLOW))
def test_every_activation_of_multiples_of_one_ket(name: str) -> None:
    """Inputs x_i |u>: powers of them are families with a coefficient for each i, and must stay functions of one Gaussian."""
    points = np.array([[0.7], [-1.2]])
    text = program(name, 2, np.column_stack([points, points])).replace("sum[d](xi[i,d] |u[d]>)", "xi[i,1] * |u[1]>")
    _compare(text, ACTIVATIONS[name], 2, points)


def _clip(x: Any) -> Any:
    return np.clip(x, -1, 1)


WRITTEN = {
    "relu(x)^3": Activation(lambda x: np.maximum(x, 0) ** 3, lambda x: 3 * np.maximum(x, 0) ** 2, (0.0,)),
    "0.3*min(x, 0) + 1.2*max(x, 0)": Activation(
        lambda x: np.where(x > 0, 1.2, 0.3) * x, lambda x: 1.2 * (x > 0) + 0.3 * (x <= 0), (0.0,)
    ),
    "where(x, x, tanh(x))": Activation(
        lambda x: np.where(x > 0, x, np.tanh(x)), lambda x: np.where(x > 0, 1, 1 - np.tanh(x) ** 2), (0.0,)
    ),
    "max(min(x, 1), -1)": Activation(_clip, lambda x: 1.0 * (np.abs(x) < 1), (-1.0, 1.0)),
    "x * sigmoid(1.7*x)": Activation(
        lambda x: x / (1 + np.exp(-1.7 * x)),
        lambda x: 1 / (1 + np.exp(-1.7 * x)) + 1.7 * x * np.exp(-1.7 * x) / (1 + np.exp(-1.7 * x)) ** 2,
    ),
    "relu(tanh(x) - 0.3)": Activation(
        lambda x: np.maximum(np.tanh(x) - 0.3, 0),
        lambda x: (1 - np.tanh(x) ** 2) * (np.tanh(x) > 0.3),
        (float(np.arctanh(0.3)),),
    ),
}


@pytest.mark.parametrize("body", WRITTEN)
def test_functions_of_ones_own(body: str) -> None:
    points = inputs(1e-5)[:4]
    _compare(program("f", 2, points, f"fn f(x) = {body}"), WRITTEN[body], 2, points)


def kernel_gradient(call: str, a: float) -> str:
    return f"""
        axis i, j : 3
        axis d : 2
        data xi[i,d] = [[1.0, 0.5], [-0.3, 0.8], [0.9, 0.55]]
        scalar a = {a!r}
        ket |u[d]> ~ N(0, 1)
        ket |b> ~ N(0, 0.4)
        matrix W ~ N(0, 1.5)
        |h[i]> = a * sum[d](xi[i,d] |u[d]>) + |b>
        |x[i]> = {call}(|h[i]>)
        |y[i]> = {call}(W |x[i]> + a |u[1]>)
        k[i,j] = <y[i]|y[j]>
        output k[i,j]
        output g[i,j] = grad(k[i,j], a)
    """


@pytest.mark.parametrize("call", ["relu", "leaky_relu", "hardtanh", "silu", "tanh", "elu"])
def test_gradients_of_kernels_by_a_scalar(call: str) -> None:
    """By what the inputs depend on: five-point differences of the kernels themselves. relu's are closed forms."""
    run = tpc.limit(kernel_gradient(call, 0.7), method="quadrature")
    assert not run.failed and run.outputs["g"].method == ("closed-form" if "relu" in call else "quadrature")
    step = 4e-3
    at = {k: tpc.limit(kernel_gradient(call, 0.7 + k * step), method="quadrature")["k"] for k in (-2, -1, 1, 2)}
    wanted = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * step)
    np.testing.assert_allclose(run["g"], wanted, rtol=0, atol=3e-9)
