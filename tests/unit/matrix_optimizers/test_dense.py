"""Shampoo, Muon and SOAP at finite width against brute force on real matrices, to rounding: every kind of parameter."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.matrix_optimizers.dense import SOAP, Muon, Shampoo
from tests.unit.matrix_optimizers.programs import ARCHITECTURES, Architecture, Make, simulated

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
