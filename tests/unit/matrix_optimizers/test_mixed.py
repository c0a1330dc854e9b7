"""Optimizers on layers that call one on operators: NorMuon and AdaMuon as published, on raw tensors; their exponents and limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import tp_compiler as tpc
from tests.unit.matrix_optimizers.dense import Facts, Matrix, Muon, Shampoo
from tests.unit.matrix_optimizers.network import Network
from tests.unit.matrix_optimizers.programs import ARCHITECTURES, STEPS, XI, XT, N, Y, simulated


@dataclass
class Published:
    """An optimizer of raw tensors, rows first, as its authors wrote it. `unit` times the tensor is M, or its transpose."""

    rule: Callable[[Matrix, int], Matrix]  # of the polar factor and t
    unit: float
    turned: bool
    lr: float
    decay: float = 0.0
    t: int = 0

    def __post_init__(self) -> None:
        self.muon = Muon(-1)

    def step(self, g: Matrix, facts: Facts) -> Matrix:
        self.t += 1
        polar = self.muon.step(g, facts)
        change = -self.lr * self.rule(polar.T if self.turned else polar, self.t)
        return self.unit * (change.T if self.turned else change) - self.decay * facts["p"]


def normuon(eps: float, beta2: float = 0.95) -> Callable[[Matrix, int], Matrix]:
    v: list[Matrix] = []

    def rule(o: Matrix, t: int) -> Matrix:
        new = (1 - beta2) * (o * o).mean(1, keepdims=True)
        v.append(beta2 * v[-1] + new if v else new)
        u = o / (np.sqrt(v[-1]) + eps)
        return max(1, len(o) / len(o.T)) ** 0.5 * u * (np.linalg.norm(o) / np.linalg.norm(u))

    return rule


def adamuon(eps: float, beta2: float = 0.999) -> Callable[[Matrix, int], Matrix]:
    v: list[Matrix] = []

    def rule(o: Matrix, t: int) -> Matrix:
        new = (1 - beta2) * o * o
        v.append(beta2 * v[-1] + new if v else new)
        u = o / (np.sqrt(v[-1] / (1 - beta2**t)) + eps)
        return 0.2 * max(o.shape) ** 0.5 * u * (min(o.shape) ** 0.5 / np.linalg.norm(u))

    return rule


#: Of W : 2n x n with two inputs and two outputs: M over the raw tensor; learning rates and eps over those of the program.
UNITS = {"u": N**-0.5, "W0": 1.0, "v": (2 * N) ** 0.5}
EPS = {"u": N**-0.5, "W0": 1 / N, "v": (2 * N) ** -0.5}
RATES = {"normuon": {"u": 1.0, "W0": 1.0, "v": N**-0.5}, "adamuon": {"u": 1.0, "W0": 1 / N, "v": 1 / (2 * N)}}
CALLS = {
    "normuon": ("NorMuon(lr = 0.1, eps = 0.3, weight_decay = 0.2, scale = original)", normuon, 0.3),
    "adamuon": ("AdaMuon(lr = 0.3, eps = 0.2, weight_decay = 0.2)", adamuon, 0.2),
}


@pytest.mark.parametrize("name", CALLS)
def test_raw_implementations(name: str) -> None:
    call, rule, eps = CALLS[name]
    a, lr = ARCHITECTURES["two widths"], 0.1 if name == "normuon" else 0.3
    optimizers = {
        key: Published(rule(eps * EPS[key]), UNITS[key], key == "v", lr * RATES[name][key], lr * 0.2) for key in UNITS
    }
    wanted = Network(N, XI, Y[:, :2], list(a.layers)).train(optimizers, STEPS, XT)[:, 0]
    np.testing.assert_allclose(simulated(a.text(f"update all with {call}", 2)), wanted, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", CALLS)
def test_exponents_and_constants_are_those(name: str) -> None:
    table = tpc.scale(ARCHITECTURES["two widths"].text(f"update all with {CALLS[name][0]}", 2)).main
    for key, row in {"u": "u", "W0": "W", "v": "v"}.items():
        figures, factors = table.rows[row].raw, table.constants[row]
        for figure, raw in (("lr", RATES[name][key]), ("eps", EPS[key])):
            np.testing.assert_allclose(factors.get(figure, 1) * N ** float(figures[figure]), raw, rtol=1e-12)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_call_alone_is_the_optimizer(architecture: str) -> None:
    """On layers, of whatever kind: matrices, families of them, kets that are summed and kets that are read out."""
    own = """
optimizer Same(lr, momentum = 0.9) on layers {
    o = Muon(-1, momentum, weight_decay = 0.3)
    return -lr * o
}
"""
    a = ARCHITECTURES[architecture]
    found = simulated(own + a.text("update all with Same(lr = 0.1)", 2))
    wanted = simulated(a.text("update all with Muon(lr = 0.1, momentum = 0.9, weight_decay = 0.3)", 2))
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-11)


def test_two_calls_have_states_of_their_own() -> None:
    own = """
optimizer Two(lr) on layers {
    o = Muon(lr, 0.9)
    q = Muon(lr, 0.5, nesterov = 0)
    return o + q
}
optimizer Grafted(lr) on layers {
    o = Shampoo(-1, damping = 0.1)
    size = norm(o)
    return -lr * norm(g) / size * o
}
"""
    a = ARCHITECTURES["a matrix"]

    class Two:
        def __init__(self) -> None:
            self.both = Muon(0.1, 0.9), Muon(0.1, 0.5, 0)

        def step(self, g: Matrix, facts: Facts) -> Matrix:
            one, other = (muon.step(g, facts) for muon in self.both)
            return one + other

    found = simulated(own + a.text("update all with Two(lr = 0.1)"))
    np.testing.assert_allclose(found, a.dense(Two), rtol=1e-8, atol=1e-9)

    class Grafted:
        def __init__(self) -> None:
            self.shampoo = Shampoo(-1, 0.1)

        def step(self, g: Matrix, facts: Facts) -> Matrix:
            o = self.shampoo.step(g, facts)
            return -0.5 * o * (np.linalg.norm(g) / np.linalg.norm(o))

    found = simulated(own + a.text("update all with Grafted(lr = 0.5)"))
    np.testing.assert_allclose(found, a.dense(Grafted), rtol=1e-8, atol=1e-9)


def test_exponents_of_own_mixed_bodies_are_not_derived() -> None:
    own = "optimizer Own(lr) on layers { return lr * Muon(-1) }\n"
    with pytest.raises(tpc.ProgramError) as caught:
        tpc.scale(own + ARCHITECTURES["a matrix"].text("update all with Own(lr = 0.1)"))
    assert "uses the change that `Muon` makes" in caught.value.diagnostics[0].message
