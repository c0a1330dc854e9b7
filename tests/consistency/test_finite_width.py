"""Networks of width n: the law of plain particles, and the stored networks that limits are compared with."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

import tp_compiler as tpc
from tests.consistency import networks

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
