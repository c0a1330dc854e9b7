"""Spread, bias and expected loss of networks of width n, from the limit: against networks, algebra and published recursions.

f_n = f + b/n + N(0, Σ/n). The networks are those of `networks.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss
from scipy.stats import ks_2samp

import tp_compiler as tpc
from tests.consistency import networks
from tp_compiler.results import Run

#: Programs whose fluctuations cost more than their part of the slow tests.
COSTLY = ("transformer",)
QUICK = ("linear", "linear_deep")


def programs() -> list[Any]:
    """Every program, at an accuracy of 20%; by hand at 4%, which takes half an hour."""
    found = []
    for name in networks.PROGRAMS:
        mark = () if name in QUICK else (pytest.mark.long if name in COSTLY else pytest.mark.slow,)
        found += [pytest.param(name, 0.2, marks=mark, id=name)]
        found += [pytest.param(name, 0.04, marks=pytest.mark.long, id=f"{name}, sharp")]
    return found


@cache
def predicted(name: str, accuracy: float = 0.1, method: str = "auto") -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tp_compiler.evaluate.fluctuations.ACCURACY", accuracy)
        run = tpc.limit(networks.PROGRAMS[name], width=64, method=method)
    assert not run.failed and not run.warnings
    return run


@cache
def value(name: str) -> Run:
    """The limit, sharper than b/n at n = 128."""
    return tpc.limit(networks.PROGRAMS[name], samples=2**14)


def fluctuations(run: Run, output: str) -> Any:
    found = run.outputs[output].fluctuations
    assert found is not None
    return found


def bias_of(name: str, output: str, width: int) -> tuple[np.ndarray, np.ndarray]:
    """n (E f_n - f) and its standard error."""
    measured, estimate = networks.truth(name)[width][output], value(name).outputs[output]
    error = np.hypot(measured.stderr, np.ravel(estimate.stderr))
    return width * (measured.mean - np.ravel(estimate.value)), width * error


@pytest.mark.parametrize(("name", "accuracy"), programs())
def test_the_spread_is_that_of_networks(name: str, accuracy: float) -> None:
    """Every variance and covariance within 5% of the deviations and 4 standard errors."""
    run, measured = predicted(name, accuracy), networks.truth(name)[128]
    for output, found in measured.items():
        own = fluctuations(run, output)
        scale = np.sqrt(np.outer(np.diag(own.sigma), np.diag(own.sigma)))
        error = np.hypot(own.sigma_stderr, 128 * found.covariance_stderr)
        assert (error <= 1.5 * accuracy * scale).all(), (output, error / scale)
        apart = np.abs(own.sigma - 128 * found.covariance)
        assert (apart < 0.05 * scale + 4 * error).all(), (output, own.sigma, 128 * found.covariance, error)


@pytest.mark.parametrize(("name", "accuracy"), programs())
def test_the_bias_is_that_of_networks(name: str, accuracy: float) -> None:
    """Within 4 standard errors of 2 b_128 - b_64, which has no term of order 1/n left."""
    run = predicted(name, accuracy)
    for output in run:
        (half, half_error), (whole, error) = (bias_of(name, output, n) for n in (64, 128))
        own = fluctuations(run, output)
        noise = np.sqrt((2 * error) ** 2 + half_error**2 + own.bias_stderr**2)
        assert (np.abs(own.bias - (2 * whole - half)) < 4 * noise).all(), (output, own.bias, whole, half, noise)


@pytest.mark.slow
def test_the_expected_loss_follows_from_spread_and_bias() -> None:
    """n (E L - L) of networks of width 32 to 256: the bias of the loss, and ½ tr(L″Σ) + L′b of the outputs in it."""
    run, labels = predicted("mlp_sgd"), np.array([1.0, -0.5, 0.25])
    loss, error = (float(x[0]) for x in (fluctuations(run, "loss").bias, fluctuations(run, "loss").bias_stderr))
    through = run.expected(lambda f: ((f - labels) ** 2).mean() / 2, width=10_000)
    assert abs(loss / 10_000 - (through.value - run["loss"])) < 4 * np.hypot(error / 10_000, through.stderr)
    assert error < 0.1 * loss
    for width in networks.truth("mlp_sgd"):
        (found,), (noise,) = bias_of("mlp_sgd", "loss", width)
        assert abs(found - loss) < 4 * np.hypot(noise, error) + 2 / width * loss, width


#: Σ and b by algebra.
ETA, LABEL, MU = 0.3, 0.8, 2 / np.pi
ALGEBRA = {
    # f_1 = a - η(a - y)(p + q) + η²(a - y)²a for a = <v|u>, p = <v|v>, q = <u|u>, with n Var (a, p, q) = (1, 2, 2).
    "linear": (
        [[(1 - 2 * ETA + (ETA * LABEL) ** 2) ** 2 + 4 * (ETA * LABEL) ** 2]],
        [-2 * ETA**2 * LABEL],
    ),
    # E f f' = x x' E |Wu|² |Vᵀv|² / n³: the chain has norm 1.
    "linear_deep": ([[1.25, -0.1], [-0.1, 0.73]], [0.0, 0.0]),
    # f = uᵀA²u / n for A = WᵀW: n Var = 2 tr A⁴ / n + Var tr A² / n, the fourth Marchenko-Pastur moment; E tr A² exactly.
    "there_and_back": ([[180.0]], [2.0]),
    # f = <|x|>².
    "sign_entries": ([[4 * MU * (1 - MU)]], [1 - MU]),
    "sign_entries_square": ([[4 * MU * (1 - MU)]], [1 - MU]),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n.startswith("sign") else ()) for n in ALGEBRA]
)
def test_spread_and_bias_by_algebra(name: str) -> None:
    sigma, bias = (np.array(a) for a in ALGEBRA[name])
    found = fluctuations(predicted(name, 0.2), "f")
    size = np.sqrt(np.outer(np.diag(sigma), np.diag(sigma)))
    assert (found.sigma_stderr <= 0.25 * size).all() and (found.bias_stderr <= 0.3 * np.sqrt(np.diag(sigma))).all()
    np.testing.assert_array_less(np.abs(found.sigma - sigma), 4 * found.sigma_stderr + 0.01 * size)
    np.testing.assert_array_less(np.abs(found.bias - bias), 4 * found.bias_stderr + 1e-6)


def test_unequal_widths_by_directions() -> None:
    """Both spaces count, each by the inverse of its width: with weights of equal size in both, Σ is 290."""
    found = fluctuations(predicted("there_and_back", 0.05, "qmc"), "f")
    assert found.sigma_stderr[0, 0] < 16
    assert abs(found.sigma[0, 0] - 180) < 4 * found.sigma_stderr[0, 0]
    assert abs(found.bias[0] - 2) < 4 * found.bias_stderr[0]


def moments(phi: Callable[[np.ndarray], np.ndarray], k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of φ(a)², φ(a)φ(b), φ(b)² for (a, b) ~ N(0, K), k = (K11, K12, K22)."""
    points, weights = hermegauss(80)
    weights = weights / weights.sum()
    side = np.sqrt(k[0])
    x = phi(side * points)[:, None]
    y = phi(k[1] / side * points[:, None] + np.sqrt(k[2] - k[1] ** 2 / k[0]) * points)
    products = np.stack([x * x + 0 * y, x * y, y * y])
    both = np.outer(weights, weights)
    mean = (products * both).sum(axis=(1, 2))
    return mean, np.einsum("ast,bst,st->ab", products, products, both) - np.outer(mean, mean)


def recursion(k: np.ndarray, gains: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kernel of a tanh perceptron with its Σ and b, layer by layer: Σ' = Cov + JΣJᵀ, b' = Jb + ½ H:Σ, for two inputs.

    Given a layer, the next kernel is a mean over independent neurons, so that its own noise adds to what it hands on (the
    recursion of the four-point vertex: Yaida, arXiv 1910.00019).
    """
    h, sigma, bias = 1e-4, np.zeros((3, 3)), np.zeros(3)
    for gain in gains:

        def mean(at: np.ndarray) -> np.ndarray:
            return moments(np.tanh, at)[0]

        e = h * np.eye(3)
        slope = np.stack([(mean(k + d) - mean(k - d)) / (2 * h) for d in e], axis=1)
        bent = np.array([[mean(k + c + d) - mean(k + c - d) - mean(k - c + d) + mean(k - c - d) for c in e] for d in e])
        value, spread = moments(np.tanh, k)
        bias = gain * (slope @ bias + np.einsum("abi,ab->i", bent, sigma) / (8 * h * h))
        sigma, k = gain**2 * (spread + slope @ sigma @ slope.T), gain * value
    return k, sigma, bias


TANH = """
axis i, j : 2
axis d : 2
axis l : 3
data x[i,d] = [[1, 0.5], [-0.3, 0.8]]
ket |u[d]> ~ N(0, 1)
matrix W[l] ~ N(0, 1.5)
|h[i]> = sum[d](x[i,d] |u[d]>)
for l in 1..3 {
    |h[i]> = W[l] tanh(|h[i]>)
}
output k[i,j] = <tanh(h[i])|tanh(h[j])>
"""


def test_kernels_of_tanh_perceptrons_follow_the_published_recursion() -> None:
    x = np.array([[1, 0.5], [-0.3, 0.8]])
    value, sigma, bias = recursion((x @ x.T)[np.triu_indices(2)], [1.5, 1.5, 1.5, 1.0])
    run = tpc.limit(TANH, width=64)
    found, picked = fluctuations(run, "k"), [0, 1, 3]
    np.testing.assert_allclose(run["k"].reshape(-1)[picked], value, atol=1e-6)
    error, size = found.sigma_stderr[np.ix_(picked, picked)], np.sqrt(np.outer(np.diag(sigma), np.diag(sigma)))
    np.testing.assert_array_less(np.abs(found.sigma[np.ix_(picked, picked)] - sigma), 4 * error + 0.01 * size)
    assert found.bias_stderr.max() < 0.2
    np.testing.assert_array_less(np.abs(found.bias[picked] - bias), 4 * found.bias_stderr[picked] + 1e-4)


RELU = """
ket |u> ~ N(0, 2)
matrix W ~ N(0, 2)
matrix V ~ N(0, 2)
|x> = relu(|u>)
|y> = relu(W |x>)
|z> = relu(V |y>)
output k1 = <x|x>
output k2 = <y|y>
output k3 = <z|z>
"""


def test_relu_kernels_fluctuate_with_depth_over_width() -> None:
    """Var K = (1 + 5/n)^L - 1 in networks, and E K = 1: n Var = 5L and b = 0 (Hanin and Nica, arXiv 1812.05994)."""
    run = tpc.limit(RELU, width=64)
    for depth in (1, 2, 3):
        found = fluctuations(run, f"k{depth}")
        assert abs(found.sigma[0, 0] - 5 * depth) < 4 * found.sigma_stderr[0, 0] + 0.01 * depth
        assert abs(found.bias[0]) < 4 * found.bias_stderr[0] + 1e-6


PROBE = """
axis i : 2
ket |u[i]> ~ N(0, 1)
ket |v> ~ N(0, 1)
matrix W ~ N(0, 1.5)
train steps = 2 {
    |x[i]> = tanh(|u[i]>)
    |h[i]> = tanh(W |x[i]>)
    |r[i]> = W^T |h[i]>
    f[i] = <v|h[i]> + <x[i]|tanh(r[i])>
    minimize mean[i]((f[i] - 1)^2)
    update all with SGD(lr = 0.3)
}
output f[i]
output r[i] = <r[i]|r[i]>
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [16, 32])
def test_plain_particles_have_the_distribution_of_networks(width: int) -> None:
    """Every output, and a mixture of all of them, by the test of Kolmogorov and Smirnov: the law, not its moments alone."""
    count = 4000
    particles = tpc.limit(PROBE, method="mc", samples=width, replicates=count, seed=3)
    ours = np.stack([particles.outputs[n].replicates.levels[-1][:, i] for n in "fr" for i in range(2)], axis=1)
    theirs = tpc.simulate(PROBE, width, seeds=count, seed=5).replicates
    theirs = np.stack([theirs[n][:, i] for n in "fr" for i in range(2)], axis=1)
    mixed = np.array([1.0, -1.0, 0.3, -0.3])
    for a, b in [*zip(ours.T, theirs.T, strict=True), (ours @ mixed, theirs @ mixed)]:
        assert ks_2samp(a, b).pvalue > 1e-3


def by_hand(width: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """The outputs of `rectangular` in bare NumPy, without the compiler: (networks, inputs)."""
    xi = np.array([[0.9, -0.4, 1.3], [-0.7, 1.1, 0.3], [0.5, 0.8, -0.6]])
    labels, rate, wide = np.array([1.0, -0.5, 0.25]), 0.8, 2 * width
    u, v = generator.standard_normal((count, width, 3)), generator.standard_normal((count, wide))
    w = generator.standard_normal((count, wide, width)) / np.sqrt(width)
    for _ in range(4):
        x = np.tanh(u @ xi.T / np.sqrt(3))
        z = np.tanh(w @ x)
        residual = (np.einsum("rm,rmi->ri", v, z) / wide - labels) / 3
        dz = v[:, :, None] * (1 - z**2)
        dx = np.swapaxes(w, 1, 2) @ dz / 2 * (1 - x**2)  # n df/du: f is a mean over 2n
        w = w - rate * (dz * residual[:, None]) @ np.swapaxes(x, 1, 2) / width
        v = v - rate * np.einsum("rmi,ri->rm", z, residual)
        u = u - rate * (dx * residual[:, None]) @ xi / np.sqrt(3)
    return np.asarray(np.einsum("rm,rmi->ri", v, np.tanh(w @ np.tanh(u @ xi.T / np.sqrt(3)))) / wide)


@pytest.mark.slow
def test_networks_by_hand_are_the_stored_ones() -> None:
    found, stored = networks.over(by_hand(64, 3000, np.random.default_rng(0))), networks.truth("rectangular")[64]["f"]
    assert (np.abs(found.mean - stored.mean) < 4 * np.hypot(found.stderr, stored.stderr)).all()
    noise = np.hypot(found.covariance_stderr, stored.covariance_stderr)
    assert (np.abs(found.covariance - stored.covariance) < 4 * noise).all()


@pytest.mark.long
@pytest.mark.parametrize("name", networks.PROGRAMS)
def test_the_stored_networks_are_what_other_seeds_give(name: str) -> None:
    for width, stored in networks.truth(name).items():
        for output, again in networks.measured(name, width, 5000, seed=10_000 + width).items():
            old = stored[output]
            error = np.hypot(old.stderr, again.stderr)
            assert (np.abs(old.mean - again.mean) < 5 * error).all(), (width, output)
            noise = np.hypot(old.covariance_stderr, again.covariance_stderr)
            assert (np.abs(old.covariance - again.covariance) < 5 * noise).all(), (width, output)
