"""Kernels of convolutional networks against their recursion over pairs of positions, and against samples.

A convolution takes a kernel K over (image, position) pairs to Σ_r G_r K G_rᵀ, where G_r reads the position of tap r (Novak et al.
2019, Garriga-Alonso et al. 2019; tangent kernels: Arora et al. 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest

import tp_compiler as tpc
from tests.benchmarks import convolutions
from tests.consistency.kernel_formulas import trapezoid
from tests.consistency.recursions import erf_kernel, relu_kernel
from tp_compiler.evaluate.exact import apart, evaluator

Kernel = Callable[[np.ndarray], np.ndarray]
IMAGES = 2


def step_kernel(k: np.ndarray) -> np.ndarray:
    """E step(a) step(b)."""
    cosine = np.clip(k / np.sqrt(np.outer(np.diag(k), np.diag(k))), -1, 1)
    return (np.pi - np.arccos(cosine)) / (2 * np.pi)


def bell_kernel(k: np.ndarray) -> np.ndarray:
    """E erf'(a) erf'(b)."""
    square = np.outer(1 + 2 * np.diag(k), 1 + 2 * np.diag(k))
    return 4 / np.pi / np.sqrt(square - 4 * k * k)


#: E f(a) f(b), and E f'(a) f'(b).
FUNCTIONS: dict[str, tuple[Kernel, Kernel]] = {
    "relu": (relu_kernel, step_kernel),
    "erf": (erf_kernel, bell_kernel),
    "tanh": (lambda k: trapezoid(np.tanh, k), lambda k: trapezoid(lambda x: 1 / np.cosh(x) ** 2, k)),
}


def taps(size: int, stride: int = 1, around: bool = False) -> list[np.ndarray]:
    """G_r of three taps: position stride t + r - 1 (from 0), 0 outside or around the circle."""
    found = [np.zeros((size // stride, size)) for _ in range(3)]
    for r, t in product(range(3), range(size // stride)):
        at = stride * t + r - 1
        if around or 0 <= at < size:
            found[r][t, at % size] = 1
    return found


def plane(matrices: list[np.ndarray]) -> list[np.ndarray]:
    """Of an image: both positions in one, all pairs of taps."""
    return [np.kron(a, b) for a, b in product(matrices, matrices)]


@dataclass(frozen=True)
class Network:
    """A program up to the last |h>, its positions and copies of these, and the taps of each convolution."""

    layers: str
    taps: list[list[np.ndarray]]
    places: str = "s"
    others: str = "t"
    shape: tuple[int, ...] = (4,)  # of an input


HALVES = np.kron(np.eye(2), np.ones((1, 2)) / 2)  # averages of two neighbours

NETWORKS = {
    "shifts before the matrices": Network(
        """
        |h[i,s]> = shift[s](x[i,s], 1) * |u[1]> + x[i,s] * |u[2]> + shift[s](x[i,s], -1) * |u[3]>
        |h[i,s]> = W[1] shift[s](F(|h[i,s]>), 1) + W[2] F(|h[i,s]>) + W[3] F(shift[s](|h[i,s]>, -1)) * step(5/2 - s + 1)
        |h[i,s]> = V[1] shift[s](F(|h[i,s]>), 1) + V[2] F(|h[i,s]>) + V[3] shift[s](F(|h[i,s]>), -1)
        """,
        [taps(4)] * 3,
    ),
    "shifts after the matrices": Network(
        """
        |h[i,s]> = shift[s](x[i,s], 1) * |u[1]> + x[i,s] * |u[2]> + shift[s](x[i,s], -1) * |u[3]>
        |h[i,s]> = shift[s](W[1] F(|h[i,s]>), 1) + W[2] F(|h[i,s]>) + shift[s](W[3] F(|h[i,s]>), -1)
        |h[i,s]> = shift[s](V[1] F(|h[i,s]>), 1) + V[2] F(|h[i,s]>) + shift[s](V[3] F(|h[i,s]>), -1)
        """,
        [taps(4)] * 3,
    ),
    "a circle": Network(
        """
        |h[i,s]> = sum[r](x[i,around[s,r]] * |u[r]>)
        |h[i,s]> = sum[r](W[r] F(|h[i,around[s,r]]>))
        |h[i,s]> = sum[r](V[r] F(|h[i,around[s,r]]>))
        """,
        [taps(4, around=True)] * 3,
    ),
    "a stride": Network(
        """
        |h[i,s]> = sum[r](unfold[s,s,r](x[i,s], padding = 1) * |u[r]>)
        |h[i,a]> = conv1d[a,s,r](F(|h[i,s]>), W[r], stride = 2, padding = 1)
        |h[i,a]> = conv1d[a,a,r](F(|h[i,a]>), V[r], padding = 1)
        """,
        [taps(4), taps(4, stride=2), taps(2)],
        "a",
        "b",
    ),
    "pooling between": Network(
        """
        |h[i,s]> = sum[r](unfold[s,s,r](x[i,s], padding = 1) * |u[r]>)
        |z[i,a]> = avg_pool1d[a,s,b](F(|h[i,s]>), stride = 2)
        |h[i,a]> = conv1d[a,a,r](|z[i,a]>, W[r], padding = 1)
        """,
        [taps(4), [g @ HALVES for g in taps(2)]],
        "a",
        "b",
    ),
    "an image": Network(
        """
        |h[i,s,c]> = sum[r,q](unfold[s,s,r](unfold[c,c,q](x[i,s,c], padding = 1), padding = 1) * |uu[r,q]>)
        |h[i,s,c]> = conv2d[s,c,s,c,r,q](F(|h[i,s,c]>), WW[r,q], padding = 1)
        """,
        [plane(taps(4))] * 2,
        "s,c",
        "t,d",
        (4, 4),
    ),
}


def program(network: Network, fn: str, x: np.ndarray) -> str:
    s, t = network.places, network.others
    line = x.ndim == 2
    return f"""
    parametrization ntk
    import layers
    axis i, j : {IMAGES}
    axis s, t : 4
    axis c, d : 4
    axis a, b : 2
    axis r, q : 3
    data x[i,{"s" if line else "s,c"}] = {x.tolist()}
    data around[s,r] = [[4, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 1]]
    ket {"|u[r]> ~ N(0, 2/3)" if line else "|uu[r,q]> ~ N(0, 2/9)"}
    matrix {"W[r] ~ N(0, 2/3)" if line else "WW[r,q] ~ N(0, 2/9)"}
    matrix V[r] ~ N(0, 2/3)
    ket |v> ~ N(0, 1)
    ket |w[{s}]> ~ N(0, 1)
    fn F(z) = {fn}(z)
    {network.layers}
    pooled[i] = clt <v|mean[{s}](F(|h[i,{s}]>))>
    flat[i] = sum[{s}](clt <w[{s}]|F(h[i,{s}])>)
    output nngp_pooled[i,j] = <mean[{s}](F(|h[i,{s}]>))|mean[{t}](F(|h[j,{t}]>))>
    output nngp_flat[i,j] = sum[{s}](<F(h[i,{s}])|F(h[j,{s}])>)
    output ntk_pooled[i,j] = ntk(pooled[i], pooled[j])
    output ntk_flat[i,j] = ntk(flat[i], flat[j])
    """


def recursion(network: Network, fn: str, x: np.ndarray) -> dict[str, np.ndarray]:
    """NNGP and tangent kernel, of the mean over positions and of a readout with its own weights at every position."""
    value, slope = FUNCTIONS[fn]
    flat = x.reshape(-1)
    k, tangent = np.outer(flat, flat), np.zeros((flat.size, flat.size))
    for number, matrices in enumerate(network.taps):
        before = value(k) if number else k
        below = slope(k) * tangent if number else tangent
        tangent = len(matrices) * convolved(matrices, before) + 2 * convolved(matrices, below)  # u and W as declared
        k = 2 * convolved(matrices, before)
    found = {"nngp": value(k), "ntk": value(k) + slope(k) * tangent}
    pairs = {
        name: np.asarray(a, dtype=float).reshape(IMAGES, -1, IMAGES, len(a) // IMAGES) for name, a in found.items()
    }
    pooled = {name + "_pooled": a.mean(axis=(1, 3)) for name, a in pairs.items()}
    return pooled | {name + "_flat": np.einsum("isjs->ij", a) for name, a in pairs.items()}


def convolved(matrices: list[np.ndarray], k: np.ndarray) -> np.ndarray:
    whole = [np.kron(np.eye(IMAGES), g) for g in matrices]
    return sum(g @ k @ g.T for g in whole) / len(whole)


def images(network: Network) -> np.ndarray:
    return np.random.default_rng(4).standard_normal((IMAGES, *network.shape)).round(2)


CASES = [(name, fn) for name in NETWORKS for fn in ("relu", "erf")]
LONG = [pytest.param(name, "tanh", marks=pytest.mark.slow) for name in ("a stride", "a circle")]
SLOW = ("an image", "shifts before the matrices")  # to sample


@pytest.mark.parametrize("many", [2**12, 0], ids=["all averages", "those that count"])
@pytest.mark.parametrize(("name", "fn"), [*CASES, *LONG])
def test_kernels_are_those_of_the_recursion(name: str, fn: str, many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones too, where averages that vanish are left out only if they are many."""
    monkeypatch.setattr(apart, "MANY", many)
    network = NETWORKS[name]
    x = images(network)
    run = tpc.limit(program(network, fn, x), method="quadrature")
    for output, wanted in recursion(network, fn, x).items():
        np.testing.assert_allclose(run[output], wanted, rtol=1e-9, err_msg=output)
        assert run.outputs[output].method in ("closed-form", "quadrature")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in NETWORKS])
def test_kernels_are_those_of_samples(name: str) -> None:
    network = NETWORKS[name]
    text = program(network, "erf", images(network))
    names = ("nngp_pooled", "nngp_flat", "ntk_pooled", "ntk_flat")
    exact, sampled = tpc.limit(text, only=names), tpc.limit(text, only=names, method="qmc", samples=2048)
    for output in names:
        off = np.abs(exact[output] - sampled[output])
        assert np.all(off <= 6 * sampled.outputs[output].stderr), output
        assert np.max(sampled.outputs[output].stderr) < 0.05 * np.max(exact[output]), output


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_a_flat_readout_needs_equal_positions_alone(kernel: str) -> None:
    """Kernels over all pairs of the 64 positions of 40 images are arrays of 6.6 million numbers."""
    x = convolutions.images(40)
    run = tpc.limit(convolutions.program(kernel, "flat", 40), data={"xi": x}, method="exact", max_memory="200M")
    assert run.outputs["k"].method == "closed-form"


def test_families_are_examined_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network of any depth, not once for every path through it."""
    seen: list[object] = []

    class Watched(apart.Diagonals):
        def _found(self, node: apart.Node) -> list[int]:
            seen.append(node)
            return super()._found(node)

    monkeypatch.setattr(apart, "MANY", 0)
    monkeypatch.setattr(evaluator, "Diagonals", Watched)
    tpc.limit(
        """
        parametrization ntk
        axis i, j : 2
        axis s : 4
        data x[i,s] ~ N(0, 1) seed 1
        ket |u> ~ N(0, 1)
        ket |w[s]> ~ N(0, 1)
        axis l : 8
        axis r : 2
        matrix W[l,r] ~ N(0, 1)
        |h[i,s]> = x[i,s] * |u>
        for k in 1..8 { |h[i,s]> = W[k,1] shift[s](erf(|h[i,s]>), 1) + W[k,2] erf(|h[i,s]>) }
        f[i] = sum[s](clt <w[s]|erf(h[i,s])>)
        output k[i,j] = ntk(f[i], f[j])
        """,
        method="exact",
    )
    assert len(seen) == len(set(seen)) > 15
