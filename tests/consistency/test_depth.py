"""Kernels and tangent kernels of deep networks against their recursions, in 30 digits, at every depth up to 1,000.

The recursions are linear in the depth, and so is the time: `tests/benchmarks/test_benchmarks.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

import tp_compiler as tpc

INPUTS = [[1.0, 0.5], [-0.3, 0.8], [0.2, -1.1]]
SIZE = range(len(INPUTS))
DEPTHS = [1, 2, 5, 17, 64]

Matrix = Any


def _entries(function: Callable[[Any, Any, Any], Any], k: Matrix) -> Matrix:
    return np.array([[function(k[i, i], k[j, j], k[i, j]) for j in SIZE] for i in SIZE], dtype=object)


def _angle(a: Any, b: Any, c: Any) -> Any:
    return mp.acos(max(mpf(-1), min(mpf(1), c / mp.sqrt(a * b))))


#: activation -> E f(x) f(y), E f'(x) f'(y), E f(x), of centred Gaussians with variances a, b and covariance c
RELU = (
    lambda k: _entries(
        lambda a, b, c: (mp.sqrt(max(mpf(0), a * b - c * c)) + (mp.pi - _angle(a, b, c)) * c) / (2 * mp.pi), k
    ),
    lambda k: _entries(lambda a, b, c: (mp.pi - _angle(a, b, c)) / (2 * mp.pi), k),
    lambda k: np.array([mp.sqrt(k[i, i] / (2 * mp.pi)) for i in SIZE], dtype=object),
)
ERF = (
    lambda k: _entries(lambda a, b, c: 2 / mp.pi * mp.asin(2 * c / mp.sqrt((1 + 2 * a) * (1 + 2 * b))), k),
    lambda k: _entries(lambda a, b, c: 4 / mp.pi / mp.sqrt((1 + 2 * a) * (1 + 2 * b) - 4 * c * c), k),
    lambda k: np.array([mpf(0)] * len(INPUTS), dtype=object),
)
ACTIVATIONS = {"relu": RELU, "erf": ERF}


def gram() -> Matrix:
    rows = [[mpf(x) for x in row] for row in INPUTS]
    return np.array([[sum(x * y for x, y in zip(a, b, strict=True)) for b in rows] for a in rows], dtype=object)


def program(layers: int, declarations: str, body: str, readout: str) -> str:
    return f"""
        axis i, j : {len(INPUTS)}
        axis d : 2
        axis l : {layers}
        data xi[i,d] = {INPUTS}
        ket |u[d]> ~ N(0, 1); ket |v> ~ N(0, 1)
        {declarations}
        |h[i]> = sum[d](xi[i,d] |u[d]>)
        {body}
        |y[i]> = {readout}
        f[i] = <v|y[i]>
        output nngp[i,j] = <y[i]|y[j]>
        output ntk[i,j] = ntk(f[i], f[j])
    """


Kernels = tuple[Matrix, Matrix]


def plain(layers: int, phi: str) -> tuple[str, Kernels]:
    """h' = 1.5 A φ(h) + 0.3 c, both families over the layers."""
    text = program(
        layers,
        "matrix A[l] ~ N(0, 1); ket |c[l]> ~ N(0, 1)",
        f"for l in 1..{layers} {{ |h[i]> = 1.5*(A[l] {phi}(|h[i]>)) + 0.3*|c[l]> }}",
        f"{phi}(|h[i]>)",
    )
    return text, _plain(layers, phi, mpf("1.5") ** 2, mpf("0.3") ** 2)


def _plain(layers: int, phi: str, square: Any, bias: Any) -> Kernels:
    first, slope, _ = ACTIVATIONS[phi]
    ks = [gram()]
    for _ in range(layers):
        ks.append(square * first(ks[-1]) + bias)
    back, tangent = slope(ks[-1]), first(ks[-1])
    for k in reversed(ks[:-1]):
        tangent = tangent + back * (square * first(k) + bias)
        back = square * slope(k) * back
    return first(ks[-1]), tangent + back * gram()


def separate(layers: int, phi: str) -> tuple[str, Kernels]:
    """The same with a separate matrix and ket for each layer."""
    names = range(1, layers + 1)
    text = program(
        layers,
        "; ".join(f"matrix A{k} ~ N(0, 1); ket |c{k}> ~ N(0, 1)" for k in names),
        "\n".join(f"|h[i]> = 1.2*(A{k} {phi}(|h[i]>)) + 0.3*|c{k}>" for k in names),
        f"{phi}(|h[i]>)",
    )
    return text, _plain(layers, phi, mpf("1.2") ** 2, mpf("0.3") ** 2)


def residual(layers: int, phi: str) -> tuple[str, Kernels]:
    """h' = h + s A φ(h): the gradient is a sum over all layers above, each φ'(h) times a separate ket."""
    first, slope, _ = ACTIVATIONS[phi]
    s = layers**-0.5
    text = program(
        layers,
        "matrix A[l] ~ N(0, 1)",
        f"for l in 1..{layers} {{ |h[i]> = |h[i]> + {s!r}*(A[l] {phi}(|h[i]>)) }}",
        f"{phi}(|h[i]>)",
    )
    square = mpf(s) ** 2
    ks = [gram()]
    for _ in range(layers):
        ks.append(ks[-1] + square * first(ks[-1]))
    back, tangent = slope(ks[-1]), first(ks[-1])
    for k in reversed(ks[:-1]):
        tangent = tangent + square * back * first(k)
        back = back + square * slope(k) * back
    return text, (first(ks[-1]), tangent + back * gram())


def blocks(layers: int, phi: str) -> tuple[str, Kernels]:
    """h' = h + s A φ(B φ(h) + b): preactivation blocks of two matrices and a bias."""
    first, slope, _ = ACTIVATIONS[phi]
    s = layers**-0.5
    text = program(
        layers,
        "matrix A[l] ~ N(0, 1); matrix B[l] ~ N(0, 1); ket |b[l]> ~ N(0, 0.5)",
        f"""def block(|x>, op A, op B, |b>) {{ return |x> + {s!r}*(A {phi}(B {phi}(|x>) + |b>)) }}
        for l in 1..{layers} {{ |h[i]> = block(|h[i]>, A[l], B[l], |b[l]>) }}""",
        f"{phi}(|h[i]>)",
    )
    square = mpf(s) ** 2
    ks = [gram()]
    for _ in range(layers):
        ks.append(ks[-1] + square * first(first(ks[-1]) + mpf("0.5")))
    back, tangent = slope(ks[-1]), first(ks[-1])
    for k in reversed(ks[:-1]):
        inner = first(k) + mpf("0.5")
        signal = square * slope(inner) * back
        tangent = tangent + square * back * first(inner) + signal * (first(k) + 1)
        back = back + slope(k) * signal
    return text, (first(ks[-1]), tangent + back * gram())


def after(layers: int, phi: str) -> tuple[str, Kernels]:
    """h' = h + s φ(A h + c): the stream is a sum of nonlinear kets, whose means meet those of all layers before."""
    first, slope, mean = ACTIVATIONS[phi]
    s = layers**-0.5
    text = program(
        layers,
        "matrix A[l] ~ N(0, 1); ket |c[l]> ~ N(0, 1)",
        f"for l in 1..{layers} {{ |h[i]> = |h[i]> + {s!r}*{phi}(A[l] |h[i]> + |c[l]>) }}",
        "|h[i]>",
    )
    scale, centre = mpf(s), np.array([mpf(0)] * len(INPUTS), dtype=object)
    ks = [gram()]
    for _ in range(layers):
        inner = ks[-1] + 1
        cross = scale * np.outer(centre, mean(inner))
        ks.append(ks[-1] + cross + cross.T + scale**2 * first(inner))
        centre = centre + scale * mean(inner)
    back = np.array([[mpf(1)] * len(INPUTS)] * len(INPUTS), dtype=object)
    tangent = ks[-1]
    for k in reversed(ks[:-1]):
        signal = scale**2 * slope(k + 1) * back
        tangent = tangent + signal * (k + 1)
        back = back + signal
    return text, (ks[-1], tangent + back * gram())


def classical(layers: int, phi: str) -> tuple[str, Kernels]:
    """h' = h + s B φ(A h + b) + c / 10: two matrices and two biases in a block, and a linear readout."""
    first, slope, _ = ACTIVATIONS[phi]
    s = layers**-0.5
    text = program(
        layers,
        "matrix A[l] ~ N(0, 1.5); matrix B[l] ~ N(0, 1); ket |b[l]> ~ N(0, 0.5); ket |c[l]> ~ N(0, 1)",
        f"for l in 1..{layers} {{ |h[i]> = |h[i]> + {s!r}*(B[l] {phi}(A[l] |h[i]> + |b[l]>)) + 0.1*|c[l]> }}",
        "|h[i]>",
    )
    square, variance, bias, tenth = mpf(s) ** 2, mpf("1.5"), mpf("0.5"), mpf("0.1") ** 2
    ks = [gram()]
    for _ in range(layers):
        ks.append(ks[-1] + square * first(variance * ks[-1] + bias) + tenth)
    back = np.array([[mpf(1)] * len(INPUTS)] * len(INPUTS), dtype=object)
    tangent = ks[-1]
    for k in reversed(ks[:-1]):
        inner = variance * k + bias
        signal = square * slope(inner) * back
        tangent = tangent + back * (square * first(inner) + tenth) + signal * (k + 1)
        back = back + variance * signal
    return text, (ks[-1], tangent + back * gram())


def normalised(layers: int, phi: str) -> tuple[str, Kernels]:
    """h' = h + s A φ(h / |h|): the gradient of a norm is 0, being odd in |v>."""
    first, slope, _ = ACTIVATIONS[phi]
    s = layers**-0.5
    text = program(
        layers,
        "matrix A[l] ~ N(0, 1)",
        f"for l in 1..{layers} {{ |h[i]> = |h[i]> + {s!r}*(A[l] {phi}(|h[i]> / sqrt(<h[i]|h[i]>))) }}",
        "|h[i]> / sqrt(<h[i]|h[i]>)",
    )

    def norms(k: Matrix) -> Matrix:
        return np.array([[mp.sqrt(k[i, i] * k[j, j]) for j in SIZE] for i in SIZE], dtype=object)

    square = mpf(s) ** 2
    ks = [gram()]
    for _ in range(layers):
        ks.append(ks[-1] + square * first(ks[-1] / norms(ks[-1])))
    tangent, back = ks[-1] / norms(ks[-1]), 1 / norms(ks[-1])
    for k in reversed(ks[:-1]):
        tangent = tangent + square * back * first(k / norms(k))
        back = back + square * slope(k / norms(k)) / norms(k) * back
    return text, (ks[-1] / norms(ks[-1]), tangent + back * gram())


def injected(layers: int, phi: str) -> tuple[str, Kernels]:
    """h' = (1 - t) h + s A φ(h) + t x: every layer reads the input, whose matrix has a gradient from all of them."""
    first, slope, _ = ACTIVATIONS[phi]
    s, t = layers**-0.5, 0.5 / layers
    text = program(
        layers,
        "matrix A[l] ~ N(0, 1)",
        f"""|x[i]> = |h[i]>
        for l in 1..{layers} {{ |h[i]> = {1 - t!r}*|h[i]> + {s!r}*(A[l] {phi}(|h[i]>)) + {t!r}*|x[i]> }}""",
        "|h[i]>",
    )
    square, keep, share = mpf(s) ** 2, mpf(1 - t), mpf(t)
    ks, crosses = [gram()], [mpf(1)]  # <h|h'> and <h|x'> / <x|x'>
    for _ in range(layers):
        k, c = ks[-1], crosses[-1]
        ks.append(keep**2 * k + square * first(k) + share**2 * gram() + 2 * keep * share * c * gram())
        crosses.append(keep * c + share)
    ones = np.array([[mpf(1)] * len(INPUTS)] * len(INPUTS), dtype=object)
    # back = <dh|dh'>, ours = <Σ|dh'> and whole = <Σ|Σ'>, where |Σ> = t (the sum of the |dh> above): the gradient by |x>
    back, ours, whole, tangent = ones, 0 * ones, 0 * ones, ks[-1]
    for k in reversed(ks[:-1]):
        tangent = tangent + square * back * first(k)
        whole = whole + 2 * share * ours + share**2 * back
        ours = keep * (ours + share * back)
        back = keep**2 * back + square * slope(k) * back
    return text, (ks[-1], tangent + (back + 2 * ours + whole) * gram())


NETWORKS = {"plain": plain, "separate": separate, "residual": residual, "blocks": blocks, "after": after}
NETWORKS |= {"classical": classical, "normalised": normalised, "injected": injected}


def compare(name: str, phi: str, layers: int) -> None:
    with mp.workdps(30):
        text, kernels = NETWORKS[name](layers, phi)
        wanted = [np.array(k, dtype=float) for k in kernels]
    run = tpc.limit(text, method="exact")
    assert not run.failed
    for kernel, right in zip(("nngp", "ntk"), wanted, strict=True):
        assert run[kernel] == pytest.approx(right, rel=1e-9)


def _cases() -> list[Any]:
    """Every network at every depth; beyond a few layers by default only those with which the recursions were built."""
    late = ("classical", "normalised", "injected")
    slow = [(n, d) for n in late for d in (1, 5, 64)]
    every = [(n, d) for n in NETWORKS for d in DEPTHS if (n, d) not in slow]
    slow += [(n, 300) for n in NETWORKS]
    return [*every, *(pytest.param(*case, marks=pytest.mark.slow) for case in slow)]


@pytest.mark.parametrize("name, layers", _cases())
def test_kernels_of_deep_networks(name: str, layers: int) -> None:
    compare(name, "relu", layers)


@pytest.mark.parametrize("layers", [1, 17])
@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_of_deep_smooth_networks(name: str, layers: int) -> None:
    compare(name, "erf", layers)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["plain", "residual", "blocks", *(pytest.param(n, marks=pytest.mark.long) for n in ("classical", "normalised"))],
)
def test_kernels_of_a_thousand_layers(name: str) -> None:
    compare(name, "relu", 1000)
