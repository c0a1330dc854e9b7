"""Prodigy as published, with one instance for every raw tensor: the library's, its exponents, and why muP comes out by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import tp_compiler as tpc
from tests.unit.matrix_optimizers.dense import Facts, Matrix
from tests.unit.matrix_optimizers.network import Network
from tests.unit.matrix_optimizers.programs import ARCHITECTURES, STEPS, XI, XT, N, Y, simulated


@dataclass
class Prodigy:
    """The authors' step on a raw tensor θ: M = unit θ, and the gradient by θ is `slope` times the one of M."""

    unit: float
    slope: float
    lr: float
    d0: float
    eps: float
    beta1: float = 0.9
    beta2: float = 0.999
    decay: float = 0.0

    def __post_init__(self) -> None:
        self.d, self.numerator, self.beta3 = self.d0, 0.0, self.beta2**0.5
        self.m = self.v = self.s = 0.0
        self.start: Matrix | None = None

    def step(self, g: Matrix, facts: Facts) -> Matrix:
        grad, p = g * self.slope, facts["p"] / self.unit
        self.start = p.copy() if self.start is None else self.start
        dlr = self.d * self.lr
        self.numerator = self.beta3 * self.numerator + self.d / self.d0 * dlr * float(np.sum(grad * (self.start - p)))
        self.m = self.beta1 * self.m + self.d * (1 - self.beta1) * grad
        self.v = self.beta2 * self.v + self.d**2 * (1 - self.beta2) * grad**2
        self.s = self.beta3 * self.s + self.d / self.d0 * dlr * grad
        self.d = max(self.d, self.numerator / float(np.abs(self.s).sum()))
        change = -dlr * self.m / (np.sqrt(self.v) + self.d * self.eps) - dlr * self.decay * p
        return np.asarray(self.unit * change)


UNITS = {"u": N**-0.5, "W0": 1.0, "v": (2 * N) ** 0.5}
SLOPES = {"u": N**-0.5, "W0": 0.5, "v": (2 * N) ** 0.5}
#: Raw figures over those of the program, for W : 2n x n.
D0 = {"u": 1.0, "W0": 1 / N, "v": 1 / (2 * N)}
EPS = {"u": 1 / N, "W0": 1 / (2 * N), "v": 1.0}
A = ARCHITECTURES["two widths"]
CALL = "Prodigy(lr = 1, d0 = 0.02, eps = 0.001)"


def test_the_published_step_on_raw_tensors() -> None:
    """The same learning rate for all of them; d grows from d0 to natural sizes."""
    optimizers = {key: Prodigy(UNITS[key], SLOPES[key], 1.0, 0.02 * D0[key], 0.001 * EPS[key]) for key in UNITS}
    wanted = Network(N, XI, Y[:, :2], list(A.layers)).train(optimizers, STEPS, XT)[:, 0]
    found = simulated(A.text(f"update all with {CALL}", 2))
    np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-9)
    assert all(optimizer.d > 1.5 * optimizer.d0 for optimizer in optimizers.values())


def test_weight_decay_of_kets() -> None:
    optimizers = {
        "u": Prodigy(UNITS["u"], SLOPES["u"], 1.0, 0.02 * D0["u"], 0.1 * EPS["u"], decay=0.5),
        "v": Prodigy(UNITS["v"], SLOPES["v"], 1.0, 0.02 * D0["v"], 0.1 * EPS["v"], decay=0.5 / D0["v"]),
    }
    wanted = Network(N, XI, Y[:, :2], list(A.layers)).train(optimizers, STEPS, XT)[:, 0]
    call = "Prodigy(lr = 1, d0 = 0.02, eps = 0.1, weight_decay = 0.5)"
    np.testing.assert_allclose(simulated(A.text(f"update |u>, |v> with {call}", 2)), wanted, rtol=1e-8, atol=1e-9)
    with pytest.raises(tpc.ProgramError) as caught:
        tpc.compile(A.text(f"update all with {call}", 2))
    assert {d.code for d in caught.value.diagnostics} == {"NX169"}


def test_exponents_and_constants() -> None:
    """lr is the same at every width, with its own estimate for every tensor."""
    table = tpc.scale(A.text(f"update all with {CALL}", 2)).main
    for key, row in {"u": "u", "W0": "W", "v": "v"}.items():
        figures, factors = table.rows[row].raw, table.constants[row]
        wanted = {"lr": 1.0, "d0": D0[key], "eps": EPS[key], "weight_decay": 1 / D0[key]}
        for figure, raw in wanted.items():
            np.testing.assert_allclose(factors.get(figure, 1) * N ** float(figures[figure]), raw, rtol=1e-12)
