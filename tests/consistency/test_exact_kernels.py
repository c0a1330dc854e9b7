"""NNGP kernels of the exact evaluator against a 50-digit recursion that shares nothing with it.

One layer maps a covariance K to σ²E f(u)f(v) + σ_b², (u, v) ~ N(0, K): the formulas below are textbook ones (Cho & Saul
2009; Williams 1997; Rahimi & Recht 2007), evaluated in mpmath.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

import tp_compiler as tpc

Kernel = Callable[[Any, Any, Any], Any]


def _angle(a: Any, b: Any, c: Any) -> Any:
    return mp.atan2(mp.sqrt(max(a * b - c * c, mpf(0))), c)


def _relu(a: Any, b: Any, c: Any) -> Any:
    t = _angle(a, b, c)
    return mp.sqrt(a * b) * (mp.sin(t) + (mp.pi - t) * mp.cos(t)) / (2 * mp.pi)


def _step(a: Any, b: Any, c: Any) -> Any:
    return (mp.pi - _angle(a, b, c)) / (2 * mp.pi) if a * b > 0 else mpf(0)


def _sign(a: Any, b: Any, c: Any) -> Any:
    return 1 - 2 * _angle(a, b, c) / mp.pi if a * b > 0 else mpf(0)


def _erf(a: Any, b: Any, c: Any) -> Any:
    return 2 / mp.pi * mp.asin(2 * c / mp.sqrt((1 + 2 * a) * (1 + 2 * b)))


def _abs(a: Any, b: Any, c: Any) -> Any:
    return 4 * _relu(a, b, c) - c


def _leaky(a: Any, b: Any, c: Any) -> Any:
    s = mpf(0.01)
    return (1 - s) ** 2 * _relu(a, b, c) + s * c


KERNELS: dict[str, Kernel] = {
    "relu": _relu,
    "abs": _abs,
    "leaky_relu": _leaky,
    "step": _step,
    "sign": _sign,
    "erf": _erf,
    "sin": lambda a, b, c: mp.exp(-(a + b) / 2) * mp.sinh(c),
    "cos": lambda a, b, c: mp.exp(-(a + b) / 2) * mp.cosh(c),
    "square": lambda a, b, c: a * b + 2 * c * c,
}
#: Activations whose kernel grows beyond doubles with depth or input size.
GROWING = {"square": 3}


def recursion(kernel: Kernel, gram: list[list[Any]], depth: int, variance: float, bias: float) -> Any:
    """The kernel after `depth` layers; gram is the exact covariance of the first preactivations."""
    size = len(gram)
    k = gram
    for layer in range(depth):
        new = [[kernel(k[i][i], k[j][j], k[i][j]) for j in range(size)] for i in range(size)]
        last = layer == depth - 1
        k = new if last else [[mpf(variance) * new[i][j] + mpf(bias) for j in range(size)] for i in range(size)]
    return k


def program(name: str, inputs: np.ndarray, depth: int) -> str:
    rows = ", ".join("[" + ", ".join(repr(float(x)) for x in row) + "]" for row in inputs)
    n, d = inputs.shape
    return f"""
        axis i, j : {n}
        axis d : {d}
        axis l : {depth}
        data xi[i,d] = [{rows}]
        ket |u[d]> ~ N(0, 1)
        matrix W[l] ~ N(0, 1.7)
        ket |b[l]> ~ N(0, 0.25)
        |x[i]> = {name}(sum[d](xi[i,d] |u[d]>))
        for k in 2..{depth} {{ |x[i]> = {name}(W[k] |x[i]> + |b[k]>) }}
        output k[i,j] = <x[i]|x[j]>
    """


def inputs(scale: float) -> np.ndarray:
    rng = np.random.default_rng(3)
    base = rng.standard_normal((5, 3)) * scale
    return np.array(
        [*base, base[0], -base[1], np.zeros(3), base[2] * (1 + 1e-6) + 1e-6 * scale * rng.standard_normal(3)]
    )


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("depth", [1, 2, 5, 10])
def test_kernels_of_every_depth(name: str, depth: int) -> None:
    _compare(name, inputs(1.0), min(depth, GROWING.get(name, depth)))


@pytest.mark.parametrize("name", sorted(set(KERNELS) - {"square"}))
@pytest.mark.parametrize("scale", [1e-3, 30.0, 1e3])
def test_kernels_of_small_and_large_inputs(name: str, scale: float) -> None:
    _compare(name, inputs(scale), 3)


def _compare(name: str, points: np.ndarray, depth: int) -> None:
    run = tpc.limit(program(name, points, depth), method="exact")
    assert run.outputs["k"].method in ("closed-form", "exact")
    with mp.workdps(50):
        rows = [[mpf(float(x)) for x in row] for row in points]
        gram = [[mp.fsum(a * b for a, b in zip(r, s, strict=True)) for s in rows] for r in rows]
        exact = recursion(KERNELS[name], gram, depth, 1.7, 0.25)
        wanted = np.array([[float(x) for x in row] for row in exact])
    near = np.zeros(wanted.shape, dtype=bool)  # pairs whose inputs are 1e-6 apart, where 1e-9 is asked for
    near[2, 8] = near[8, 2] = True
    # Functions that jump take a square root of the distance in every layer: what rounding does to 1e-12 grows with it.
    close = 1e-4 if name in ("step", "sign") and depth > 1 else 1e-9
    tolerance = np.where(near, close, 1e-12) * np.abs(wanted) + 1e-13
    worst = np.abs(run["k"] - wanted) / tolerance
    assert worst.max() < 1, (name, depth, np.unravel_index(worst.argmax(), worst.shape), worst.max())
