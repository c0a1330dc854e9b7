"""The exact limit: reference values, and brute force on finite matrices.

In a linear network with one hidden layer the limit is an ordinary linear network: its kets are combinations of the d + C
initial ones, which are orthonormal (Tensor Programs IV). So there is a dense reference: the network
with d + C "neurons" that starts at the identity, brackets being dot products, trained by SciPy's matrix functions.
"""

from __future__ import annotations

import numpy as np
import pytest

import tp_compiler as tpc
from tests.unit.matrix_optimizers.dense import KFAC, SOAP, Muon, Shampoo
from tests.unit.matrix_optimizers.network import Network
from tests.unit.matrix_optimizers.programs import ARCHITECTURES, STEPS, XI, XT, Make, Y, exact

NOTE = """
axis i : 2
axis d : 2
data x[i,d] = [[1.0, 0.0], [0.5, -1.0]]
data y[i]   = [1.0, -1.0]
data xt[d]  = [0.3, 0.7]
ket |u[d]> ~ N(0, 1)
ket |v>    ~ N(0, 1)
def net(x[d]) { return <v|sum[d](x[d] |u[d]>)> }
train steps = 5 {
    loss = mean[i]((net(x[i,d]) - y[i])^2) / 2
    minimize loss
    update |u>, |v> with OPTIMIZER
}
output f[step] = net(xt[d])
"""
#: Second-order note 1.8: f after 1, ..., 5 steps.
VALUES = {
    "SGD(lr = 0.5)": [0.425000, 0.746686, 1.002693, 1.176216, 1.272437],
    "KFAC(lr = 0.5, damping = 0.1)": [0.927395, 1.251630, 1.325418, 1.343766, 1.348413],
    "KFAC(lr = 0.5, damping = 0.1, power_left = 0, power_right = 0)": [
        0.425000,
        0.746686,
        1.002693,
        1.176216,
        1.272437,
    ],
    "Shampoo(lr = 0.5, damping = 0.1, beta2 = 0)": [0.661724, 1.274160, 1.426276, 1.241233, 1.447302],
    "Shampoo(lr = 0.5, damping = 0.1, power = 1/2, beta2 = 0)": [1.030303, 2.063640, 1.684201, 0.804823, 0.741430],
}


@pytest.mark.parametrize("optimizer", VALUES)
def test_reference_values(optimizer: str) -> None:
    run = tpc.limit(NOTE.replace("OPTIMIZER", optimizer))
    assert run.outputs["f"].method == "exact"
    np.testing.assert_allclose(run["f"], [0.0, *VALUES[optimizer]], rtol=0, atol=1e-6)


class Reduced(Network):
    """The limit of f[c] = <v[c]|Σ_d x[d] |u[d]>> as a network of d + C neurons: <x|y> is a dot product."""

    def __init__(self, outputs: int, loss: str, fisher: str):
        super().__init__(1, XI, Y[:, :outputs], [], True, loss, fisher)
        basis = np.eye(XI.shape[1] + outputs)
        self.u, self.v = basis[:, : XI.shape[1]].copy(), basis[:, XI.shape[1] :].copy()


CASES: dict[str, Make] = {
    "Shampoo(lr = 0.5, damping = 0.1)": lambda: Shampoo(0.5, 0.1),
    "Shampoo(lr = 0.5, damping = 0.05, power = 1/2, power_right = 1/3, beta2 = 0.9)": (
        lambda: Shampoo(0.5, 0.05, 0.5, 1 / 3, 0.9)
    ),
    "Shampoo(lr = 0.5, damping = 0.1, power = 0, power_right = 1/2, beta2 = 0)": lambda: Shampoo(0.5, 0.1, 0, 0.5, 0),
    "Muon(lr = 0.1)": lambda: Muon(0.1),
    "Muon(lr = 0.1, momentum = 0.5, nesterov = 0, weight_decay = 0.2)": lambda: Muon(0.1, 0.5, 0, 0.2),
    "Muon(lr = 0.1, newton_schulz = 5)": lambda: Muon(0.1, newton_schulz=5),
    "SOAP(lr = 0.1, eps = 0.1)": lambda: SOAP(0.1, 0.1),
    "SOAP(lr = 0.1, eps = 0.1, beta1 = 0, beta2 = 0.5, weight_decay = 0.2)": (lambda: SOAP(0.1, 0.1, 0, 0.5, 0.5, 0.2)),
    "KFAC(lr = 0.5, damping = 0.1)": lambda: KFAC(0.5, 0.1),
    "KFAC(lr = 0.5, damping = 0.1, damping_left = 0.3, power_right = 1/2, beta2 = 0.7)": (
        lambda: KFAC(0.5, 0.1, 0.3, power_right=0.5, beta2=0.7)
    ),
    "KFAC(lr = 0.5, damping = 0.1, beta2 = 1)": lambda: KFAC(0.5, 0.1, beta2=1),
}


@pytest.mark.parametrize("loss", ["squared", "entropy"])
@pytest.mark.parametrize("optimizer", CASES)
def test_linear_networks(optimizer: str, loss: str) -> None:
    program = ARCHITECTURES["one hidden layer"].text(f"update all with {optimizer}", 2, linear=True, loss=loss)
    network = Reduced(2, loss, "outputs" if loss == "squared" else "examples")
    wanted = network.train({key: CASES[optimizer]() for key in "uv"}, STEPS, XT)[:, 0]
    np.testing.assert_allclose(exact(program), wanted, rtol=1e-8, atol=1e-9)


DEPENDENT = """
axis i : 4
axis d : 3
axis c : 2
data x[i,d] = [[1.0, 0.0, 0.3], [0.5, -1.0, 0.2], [-0.3, 0.4, 1.1], [0.7, 0.2, -0.6]]
data y[i,c] = [[1.0, 0.2], [-1.0, 0.5], [0.3, -0.8], [0.1, 0.9]]
ket |u[d]> ~ N(0, 1)
ket |v[c]> ~ N(0, 2)
def net(x[d]) { return <v[c]|sum[d](x[d] |u[d]>)> }
train steps = 3 {
    f[i,c] = net(x[i,d])
    minimize mean[i](sum[c]((f[i,c] - y[i,c])^2)) / 2
    update all with OPTIMIZER
}
output f[step,i,c] = net(x[i,d])
"""


@pytest.mark.parametrize("damping", [1e-6, 1e-10, 1e-14])
def test_damping_next_to_nothing(damping: float) -> None:
    """More gradients than they have dimensions. Shampoo of one gradient U s Vᵀ is U s (s² + ρ)^-½ Vᵀ, whatever its null space."""
    x = np.array([[1.0, 0.0, 0.3], [0.5, -1.0, 0.2], [-0.3, 0.4, 1.1], [0.7, 0.2, -0.6]])
    y = np.array([[1.0, 0.2], [-1.0, 0.5], [0.3, -0.8], [0.1, 0.9]])
    u, v = np.eye(5)[:, :3], np.sqrt(2) * np.eye(5)[:, 3:]

    def shrunk(g: np.ndarray) -> np.ndarray:
        left, s, right = np.linalg.svd(g, full_matrices=False)
        return (left * (s * (s > 1e-13 * s.max()) / np.sqrt(s**2 + damping))) @ right

    wanted = []
    for _ in range(4):
        h = x @ u.T
        wanted.append(h @ v)
        chi = (wanted[-1] - y) / 4
        u, v = u - 0.1 * shrunk((v @ chi.T) @ x), v - 0.1 * shrunk(h.T @ chi)
    run = tpc.limit(DEPENDENT.replace("OPTIMIZER", f"Shampoo(lr = 0.1, damping = {damping}, beta2 = 0)"))
    np.testing.assert_allclose(run["f"], wanted, atol=1e-12)


def test_kfac_has_a_limit_in_its_damping() -> None:
    small, smaller = (
        tpc.limit(DEPENDENT.replace("OPTIMIZER", f"KFAC(lr = 0.05, damping = {d})"))["f"] for d in (1e-6, 1e-12)
    )
    np.testing.assert_allclose(small, smaller, atol=1e-5)
    text = ARCHITECTURES["a matrix"].text("update all with KFAC(lr = 0.05, damping = 1e-9)")
    wide = tpc.simulate(text, width=64, seeds=1)["f"]
    np.testing.assert_allclose(tpc.simulate(text.replace("1e-9", "1e-7"), width=64, seeds=1)["f"], wide, atol=2e-3)


def test_undamped_is_without_the_multiple_of_the_identity() -> None:
    """damping = 0: powers of the statistics alone, pseudo-inverses on null spaces."""
    none, little = (
        tpc.limit(DEPENDENT.replace("OPTIMIZER", f"KFAC(lr = 0.05, damping = {d})"))["f"] for d in (0, 1e-12)
    )
    np.testing.assert_allclose(none, little, atol=1e-8)


@pytest.mark.parametrize("optimizer", ["Muon(lr = 0.1, newton_schulz = 5)", "LARS(lr = 0.5)", "LAMB(lr = 0.05)"])
def test_a_readout_that_starts_at_zero(optimizer: str) -> None:
    """Gradients by features are 0 at first; the readout, of no size, moves all the same."""
    text = (
        ARCHITECTURES["one hidden layer"].text(f"update all with {optimizer}").replace("|v[c]> ~ N(0, 1)", "|v[c]> = 0")
    )
    run = tpc.limit(text, samples=1024, max_samples=1024)
    assert not run.failed, run.failed
    assert np.abs(run["f"][-1]).max() > 1e-3


def test_the_inverse_of_an_operator_that_is_not_symmetric() -> None:
    """(1 + |y><z|)⁻¹|y><w| = |y><w| / (1 + <z|y>), with <z|y> = 1."""
    text = "ket |y> ~ N(0, 1)\nket |w> ~ N(1, 1)\n|z> = |y> + 0 |w>\noutput <y|(inv(1 + |y><z|) (|y><w|))|w>"
    for run in (tpc.limit(text), tpc.simulate(text, width=4000, seeds=8)):
        assert not run.failed, run.failed
        np.testing.assert_allclose(run.outputs[next(iter(run.outputs))].value, 1.0, atol=0.06)


@pytest.mark.parametrize("kind", ["on operators", "on layers", ""])
def test_a_matrix_that_the_loss_does_not_depend_on_stays(kind: str) -> None:
    program = f"""
    ket |u> ~ N(0, 1)
    matrix P ~ N(0, 1)
    optimizer O(lr) {kind} {{ return -lr * g }}
    train steps = 2 {{
        loss = <tanh(P |u>) * 0> + <u|u>
        minimize loss
        update P with O(0.1)
    }}
    output f[step] = <tanh(P |u>)|P|u>
    """
    assert [d.code for d in tpc.check(program)] == ["NX920"]
    for run in (tpc.limit(program, samples=256), tpc.simulate(program, width=16, seeds=2)):
        np.testing.assert_array_equal(run["f"], run["f"][0])
