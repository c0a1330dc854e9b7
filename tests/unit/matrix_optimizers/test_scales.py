"""Factors of rows and columns in Muon: raw implementations with them, and what torch.optim.Muon makes of the emitted groups."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import pytest

import tp_compiler as tpc
from tests.unit.matrix_optimizers.dense import Facts, Matrix, Muon
from tests.unit.matrix_optimizers.network import Network
from tests.unit.matrix_optimizers.programs import ARCHITECTURES, STEPS, XI, XT, N, Y, simulated

#: What the codes of Jordan et al., torch.optim and NVIDIA compute from the sizes of a tensor.
CODE = {
    "original": lambda rows, cols: max(1, rows / cols) ** 0.5,
    "match_rms_adamw": lambda rows, cols: 0.2 * max(rows, cols) ** 0.5,
    "unit_rms_norm": lambda rows, cols: (rows / cols) ** 0.5,
    "spectral": lambda rows, cols: max(rows, cols) ** 0.5,
}
#: The power of n in the learning rate of input weights, a hidden matrix, and a readout.
POWERS = {
    "original": (0, 0, -0.5), "match_rms_adamw": (0, -0.5, -1), "unit_rms_norm": (0, 0, 0), "spectral": (0, -0.5, -1),
}  # fmt: skip
KEYS = ("u", "W0", "v")


@dataclass
class RawMuon:
    """lr n^p s(rows, cols) polar(momentum) on a tensor of `rows` x `cols`, `unit` times which is M."""

    muon: Muon
    unit: float

    def step(self, g: Matrix, facts: Facts) -> Matrix:
        return self.unit * self.muon.step(g, facts)


@pytest.mark.parametrize("scale", CODE)
def test_a_raw_implementation_with_the_factor(scale: str) -> None:
    """W : 2n x n, two inputs, two outputs; tensors of an implementation: u (n, 2), W, v (2, 2n) with f = v x."""
    a, lr = ARCHITECTURES["two widths"], 0.1
    shapes, units = {"u": (N, 2), "W0": (2 * N, N), "v": (2, 2 * N)}, (N**-0.5, 1, (2 * N) ** 0.5)
    optimizers = {
        key: RawMuon(Muon(lr * N**p * CODE[scale](*shapes[key])), unit)
        for key, p, unit in zip(KEYS, POWERS[scale], units, strict=True)
    }
    network = Network(N, XI, Y[:, :2], list(a.layers))
    found = simulated(a.text(f"update all with Muon(lr = {lr}, scale = {scale})", 2))
    np.testing.assert_allclose(found, network.train(optimizers, STEPS, XT)[:, 0], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("scale", CODE)
def test_exponents_and_constants(scale: str) -> None:
    text = ARCHITECTURES["two widths"].text(f"update all with Muon(lr = 0.1, scale = {scale})", 2)
    table = tpc.scale(text).main
    found = [(table.rows[k].raw["lr"], table.constants[k].get("lr", 1)) for k in ("u", "W", "v")]
    assert [float(power) for power, _ in found] == list(POWERS[scale])
    np.testing.assert_allclose([factor for _, factor in found], 1, rtol=1e-12)


@pytest.mark.parametrize("scale", CODE)
def test_emitted_groups_make_the_same_steps(scale: str) -> None:
    """The emitted learning rate times torch's own factor is that of the implementation with its factor."""
    text = ARCHITECTURES["two widths"].text(f"update all with Muon(lr = 0.1, scale = {scale})", 2)
    emitted = tpc.scale(text).torch()
    names: dict[str, object] = {}
    exec(emitted.replace("import torch\n", ""), names)
    exponents, base = names["EXPONENTS"], names["BASE"]
    assert isinstance(exponents, dict) and isinstance(base, dict)
    n = 4096
    shapes = {"u": (n, 2), "W": (2 * n, n), "v": (2, 2 * n)}
    for (name, shape), p in zip(shapes.items(), POWERS[scale], strict=True):
        chosen = base[name].get("adjust_lr_fn", "original")
        step = base[name]["lr"] * n ** exponents[name]["lr"] * CODE[chosen](*shape)
        assert math.isclose(step, 0.1 * n**p * CODE[scale](*shape), rel_tol=1e-12), name
        assert math.isclose(exponents[name]["weight_decay"], -exponents[name]["lr"])
    lacks = re.findall(r"has no factor `(\w+)`", emitted)
    assert lacks == ([scale] if scale in ("unit_rms_norm", "spectral") else [])


def test_without_a_factor_the_step_is_the_polar_factor_alone() -> None:
    text = ARCHITECTURES["two widths"].text("update all with Muon(lr = 0.1OWN)", 2)
    np.testing.assert_array_equal(
        simulated(text.replace("OWN", "")), simulated(text.replace("OWN", ", scale = natural"))
    )


OWN = """
optimizer Half(lr, scale = original) on operators { return -lr * aspect(g; scale) * msign(g) }
"""


def test_a_factor_in_an_own_optimizer() -> None:
    """The same function; its exponents depend on the factor, and are not derived."""
    text = OWN + ARCHITECTURES["two widths"].text("update all with Half(lr = 0.1)", 2)
    same = ARCHITECTURES["two widths"].text(
        "update all with Muon(lr = 0.1, momentum = 0, nesterov = 0, scale = original)", 2
    )
    np.testing.assert_allclose(simulated(text), simulated(same), rtol=1e-10)
    with pytest.raises(tpc.ProgramError) as caught:
        tpc.scale(text)
    assert [d.code for d in caught.value.diagnostics] == ["NX601"]
