"""K-FAC at finite width against brute force: every kind of parameter, powers, memories, losses and Fisher factors."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.matrix_optimizers.dense import KFAC
from tests.unit.matrix_optimizers.programs import ARCHITECTURES, Make, simulated

OPTIMIZERS: dict[str, Make] = {
    "KFAC(lr = 0.5, damping = 0.1)": lambda: KFAC(0.5, 0.1),
    "KFAC(lr = 0.5, damping = 0.1, power_left = 0)": lambda: KFAC(0.5, 0.1, power_left=0),
    "KFAC(lr = 0.5, damping = 0.1, damping_left = 0.3, power_right = 1/2, beta2 = 0.7)": (
        lambda: KFAC(0.5, 0.1, 0.3, power_right=0.5, beta2=0.7)
    ),
    "KFAC(lr = 0.5, damping = 0.1, damping_right = 0.2, beta2 = 1)": lambda: KFAC(0.5, 0.1, None, 0.2, beta2=1),
}
PLAIN = "KFAC(lr = 0.5, damping = 0.1{})"
MODEL = ", outputs = stop(sqrt(p[i,c])) * log(p[i,c])"
SOFTMAX = "p[i,c] = softmax[c](f[i,c])\n    "


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_against_dense_matrices(architecture: str, optimizer: str) -> None:
    a = ARCHITECTURES[architecture]
    outputs = 2 if architecture == "a matrix" else 1
    found = simulated(a.text(f"update all with {optimizer}", outputs))
    np.testing.assert_allclose(found, a.dense(OPTIMIZERS[optimizer], outputs), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("fisher", ["outputs", "examples", "model"])
def test_fisher_factors_of_cross_entropy(fisher: str) -> None:
    """The empirical Fisher where nothing is said; df/dh where the outputs are named; the Fisher of the softmax."""
    a = ARCHITECTURES["a matrix"]
    named = {"outputs": ", outputs = f[i,c]", "examples": "", "model": MODEL}[fisher]
    update = f"{SOFTMAX if named == MODEL else ''}update all with {PLAIN.format(named)}"
    found = simulated(a.text(update, 2, loss="entropy"))
    wanted = a.dense(lambda: KFAC(0.5, 0.1), 2, loss="entropy", fisher=fisher)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-10)


def test_outputs_of_a_squared_loss_are_found() -> None:
    a = ARCHITECTURES["one matrix twice"]
    found, named = (simulated(a.text(f"update all with {PLAIN.format(x)}", 2)) for x in ("", ", outputs = f[i,c]"))
    np.testing.assert_allclose(found, named, rtol=1e-13)


def test_both_powers_zero_are_sgd() -> None:
    a = ARCHITECTURES["a family"]
    found, sgd = (
        simulated(a.text(f"update all with {x}"))
        for x in ("KFAC(lr = 0.5, damping = 0.1, power_left = 0, power_right = 0)", "SGD(lr = 0.5)")
    )
    np.testing.assert_allclose(found, sgd, rtol=1e-9, atol=1e-12)
