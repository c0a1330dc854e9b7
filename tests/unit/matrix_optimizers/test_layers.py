"""Optimizers on layers in the limit against wide networks in NumPy: a hidden matrix, one step, statistics as written."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import tp_compiler as tpc

PROGRAM = """
axis i : 2
data x[i] = [0.9, -0.7]
data y[i] = [1.0, -0.5]
ket |u> ~ N(0, 1)
matrix W ~ N(0, 1)
ket |v> ~ N(0, 1)
DEFINED
def net(x) { return <v|tanh(W tanh(x |u>))> }
train steps = 1 {
    f[i] = net(x[i])
    minimize mean[i]((f[i] - y[i])^2) / 2
    update W with OPTIMIZER
}
output f[step,i] = net(x[i])
"""
X, Y = np.array([0.9, -0.7]), np.array([1.0, -0.5])
Matrix = np.ndarray


def rms(g: Matrix) -> float:
    return float(np.sqrt(np.mean(g**2)))


def adafactor(g: Matrix, p: Matrix) -> Matrix:
    """At step 1 the statistics are those of this gradient; |p| is 1, and lr is below 1/√t."""
    r, c = np.mean(g**2, axis=1, keepdims=True), np.mean(g**2, axis=0, keepdims=True)
    u = g / np.sqrt(r * c / np.mean(r))
    return -0.05 * rms(p) * u / max(1.0, rms(u))


def lamb(g: Matrix, p: Matrix) -> Matrix:
    u = g / (np.abs(g) + 1e-6)
    return -0.05 * rms(p) * u / rms(u)


def of_rows(g: Matrix, p: Matrix) -> Matrix:
    u = g / np.mean(np.abs(g), axis=1, keepdims=True)
    return -0.05 * u / rms(u)


def of_columns(g: Matrix, p: Matrix) -> Matrix:
    u = g / np.mean(np.abs(g), axis=0, keepdims=True)
    return -0.02 * u / rms(u)


def of_both(g: Matrix, p: Matrix) -> Matrix:
    u = g / np.sqrt(np.mean(g**2, axis=1, keepdims=True) + np.mean(g**2, axis=0, keepdims=True))
    return -0.05 * np.mean(np.mean(u**2, axis=0)) * u


OWN = "optimizer Own(lr) on layers {{ {} }}"
CASES: dict[str, tuple[str, Callable[[Matrix, Matrix], Matrix]]] = {
    "Adafactor(lr = 0.05)": ("", adafactor),
    "LAMB(lr = 0.05)": ("", lamb),
    "Own(0.05)": (OWN.format("u = g / rowmean(abs(g))\n return -lr * u / norm(u)"), of_rows),
    "Own(0.02)": (OWN.format("u = g / colmean(abs(g))\n return -lr * u / norm(u)"), of_columns),
    "Own(0.050)": (
        OWN.format("u = g / sqrt(rowmean(g^2) + colmean(g^2))\n return -lr * rowmean(colmean(u^2)) * u"), of_both
    ),
}  # fmt: skip


def moved(step: Callable[[Matrix, Matrix], Matrix], n: int, seed: int) -> Matrix:
    """f_1 − f_0 of a network of width n."""
    rng = np.random.default_rng(seed)
    u, v, p = rng.standard_normal(n), rng.standard_normal(n), rng.standard_normal((n, n))
    x = np.tanh(np.outer(u, X))
    h = p @ x / np.sqrt(n)
    dh = v[:, None] / np.cosh(h) ** 2 * -Y / 2  # the error signal of the limit, where f_0 = 0
    change = step(dh @ x.T, p) @ x / n
    return v @ (np.tanh(h + change) - np.tanh(h)) / n


@pytest.mark.parametrize("optimizer", CASES)
def test_one_step_of_a_matrix(optimizer: str) -> None:
    defined, step = CASES[optimizer]
    text = PROGRAM.replace("DEFINED", defined).replace("OPTIMIZER", optimizer)
    run = tpc.limit(text, samples=2048, max_samples=2048)
    assert not run.failed, run.failed
    found = np.stack([moved(step, 512, seed) for seed in range(16)])
    error = np.hypot(found.std(0, ddof=1) / np.sqrt(len(found)), np.asarray(run.outputs["f"].stderr)[1])
    assert (error < 0.1 * np.abs(found.mean(0))).all()
    assert (np.abs(run["f"][1] - found.mean(0)) < 4 * error).all(), (run["f"][1], found.mean(0), error)
