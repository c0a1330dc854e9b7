"""Shampoo, Muon and SOAP at finite width against brute force on real matrices, to rounding: every kind of parameter."""

from __future__ import annotations

import numpy as np
import pytest

import tp_compiler as tpc
from tests.unit.matrix_optimizers.dense import SOAP, Muon, Shampoo
from tests.unit.matrix_optimizers.network import Layer, Network
from tests.unit.matrix_optimizers.programs import ARCHITECTURES, STEPS, XI, XT, Architecture, Make, Y, simulated

SHAMPOO: dict[str, Make] = {
    "Shampoo(lr = 0.5, damping = 0.1, beta2 = 0)": lambda: Shampoo(0.5, 0.1, beta2=0),
    "Shampoo(lr = 0.5, damping = 0.1)": lambda: Shampoo(0.5, 0.1),
    "Shampoo(lr = 0.5, damping = 0.05, power = 1/2, beta2 = 0.9)": lambda: Shampoo(0.5, 0.05, 0.5, beta2=0.9),
    "Shampoo(lr = 0.5, damping = 0.1, power = 1/2, power_right = 0)": lambda: Shampoo(0.5, 0.1, 0.5, 0),
    "Shampoo(lr = 0.5, damping = 0.1, power = 0, power_right = 1/3, beta2 = 0.5)": (
        lambda: Shampoo(0.5, 0.1, 0, 1 / 3, 0.5)
    ),
}
MUON: dict[str, Make] = {
    "Muon(lr = 0.1)": lambda: Muon(0.1),
    "Muon(lr = 0.1, momentum = 0, nesterov = 0)": lambda: Muon(0.1, 0, 0),
    "Muon(lr = 0.1, weight_decay = 0.3, nesterov = 0)": lambda: Muon(0.1, nesterov=0, weight_decay=0.3),
    "Muon(lr = 0.1, newton_schulz = 5)": lambda: Muon(0.1, newton_schulz=5),
}
ROTATED: dict[str, Make] = {
    "SOAP(lr = 0.1, eps = 0.1)": lambda: SOAP(0.1, 0.1),
    "SOAP(lr = 0.1, eps = 0.03, beta1 = 0.5, beta2 = 0.8, shampoo_beta = 0.3, weight_decay = 0.2)": (
        lambda: SOAP(0.1, 0.03, 0.5, 0.8, 0.3, 0.2)
    ),
}
OPTIMIZERS = SHAMPOO | MUON | ROTATED


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_against_dense_matrices(architecture: str, optimizer: str) -> None:
    a: Architecture = ARCHITECTURES[architecture]
    outputs = 2 if architecture == "a matrix" else 1
    found = simulated(a.text(f"update all with {optimizer}", outputs))
    np.testing.assert_allclose(found, a.dense(OPTIMIZERS[optimizer], outputs), rtol=1e-8, atol=1e-9)


LAGGED = """
fn relative(m, v, eps) = m / (sqrt(v) + eps)
optimizer Lagged(lr, eps, b = 0.9) on operators {
    state L = 0
    state R = 0
    state m = 0
    state v = 0
    P = eigenvectors(L)
    Q = eigenvectors(R)
    L := b * L + (1 - b) * g g^T
    R := b * R + (1 - b) * g^T g
    m := b * m + (1 - b) * g
    v := b * v + (1 - b) * square(P^T g Q)
    mhat = m / (1 - b^t)
    h = P^T mhat Q
    return -lr * P relative(h, v / (1 - b^t), eps) Q^T - lr * (mhat - P h Q^T) / eps
}
"""


def test_soap_in_the_eigenbasis_of_the_past() -> None:
    """Its published order: parts of a gradient outside are spread over n arbitrary directions, and eps outweighs them."""
    a = ARCHITECTURES["a matrix"]
    text = LAGGED + a.text("update W with Lagged(lr = 0.5, eps = 0.2)")
    errors = []
    for n in (32, 128, 512):
        network = Network(n, XI, Y[:, :1], [Layer("W", n, n)])
        wanted = network.train({"W0": SOAP(0.5, 0.2, 0.9, 0.9, 0.9, lag=True)}, STEPS, XT)[:, 0]
        found = np.asarray(tpc.simulate(text, width=n, seeds=1, seed=0)["f"])
        errors.append(np.abs(found - wanted).max())
        assert errors[-1] < 0.1 * np.abs(found - found[0]).max(), (found, wanted)
    assert errors[1] < errors[0] / 1.4 and errors[2] < errors[1] / 1.4, errors  # n^-1/2: by 2 each time


OWN = """
optimizer Own(lr, eps) on operators {
    P = eigenvectors(g g^T)
    Q = eigenvectors(g^T g)
    h = P^T g Q
    return -lr * P hadamard(h, exp(-log(eps + abs(h)))) Q^T
}
"""


def test_numbers_add_to_every_entry_of_a_table() -> None:
    """The same as SOAP without memory."""
    a = ARCHITECTURES["a matrix"]
    found = simulated(OWN + a.text("update W with Own(0.1, 0.2)"))
    soap = "SOAP(0.1, 0.2, beta1 = 0, beta2 = 0, shampoo_beta = 0)"
    np.testing.assert_allclose(found, simulated(a.text(f"update W with {soap}")), rtol=1e-8, atol=1e-9)
