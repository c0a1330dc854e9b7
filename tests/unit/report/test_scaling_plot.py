"""The plot of the classes: against TP IV and docs/parametrizations.md, networks in NumPy, and what is drawn."""

from __future__ import annotations

import random
from fractions import Fraction as F
from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc
from tests.unit.scale.programs import text

pytestmark = pytest.mark.slow
pytest.importorskip("matplotlib")


def documented(s: F, m: F) -> str:
    """Section 5 of docs/parametrizations.md."""
    if s < 0 or m < F(1, 2) or s + m < 1:
        return "unstable"
    if s == 0:
        return "feature-learning"
    return "operator" if s + m == 1 else "trivial"


@pytest.mark.parametrize("optimizer", ["SGD(lr = 0.1)", "Adam(lr = 0.1)", "Muon(lr = 0.1)", "LAMB(lr = 0.1)"])
def test_classes_are_those_of_the_documentation(optimizer: str) -> None:
    from tp_compiler.report.plots.scaling import classifier

    kind = classifier(tpc.scale(text("mlp", optimizer)))
    rng = random.Random(0)
    anywhere = [(F(rng.randint(-40, 80), 80), F(rng.randint(20, 120), 80)) for _ in range(40)]
    borders = [(F(0), F(rng.randint(40, 120), 80)) for _ in range(10)] + [(F(k, 80), 1 - F(k, 80)) for k in (7, 40, 41)]
    for place in [*anywhere, *borders, (F(0), F(1)), (F(0), F(3, 2)), (F(1, 8), F(3, 2))]:
        assert kind(place) == documented(*place), place


def test_a_small_readout_is_forgotten_by_networks() -> None:
    """SGD at s = 0, m = 3/2, in NumPy: features move by Θ(1), and the initial readout leaves no trace."""

    def trained(n: int, seed: int, readout: float) -> tuple[float, float]:
        rng = np.random.default_rng(seed)
        u, v = rng.standard_normal(n), readout * rng.standard_normal(n) * n**-1.5
        start = u.copy()
        for _ in range(4):
            x, slope = np.tanh(u), 1 - np.tanh(u) ** 2
            error = v @ x - 1
            # d is faithful to gradients of n^-1: the update moves u by Θ(1) as soon as v is of that size.
            u, v = u - 0.5 * n * error * v * slope, v - 0.5 / n * error * x
        return float(np.sqrt(np.mean((u - start) ** 2))), float(v @ np.tanh(u))

    sizes = {n: [trained(n, seed, 1.0)[0] for seed in range(8)] for n in (256, 4096)}
    moved = [np.mean(sizes[n]) for n in (256, 4096)]
    assert moved[0] > 0.05 and abs(np.log(moved[1] / moved[0]) / np.log(16)) < 0.05
    traces = [
        np.mean([abs(trained(n, seed, 1.0)[1] - trained(n, seed, 0.0)[1]) for seed in range(16)]) for n in (256, 4096)
    ]
    assert np.log(traces[1] / traces[0]) / np.log(16) < -0.4


def drawn(axes: Any, colour: str) -> list[list[tuple[float, float]]]:
    return [
        [(float(x), float(y)) for x, y in line.get_xydata()] for line in axes.get_lines() if line.get_color() == colour
    ]


def test_the_picture() -> None:
    from tp_compiler.report.plots.theme import LIGHT

    scaling = tpc.scale(text("mlp", "SGD(lr = 0.1)"))
    axes = scaling.plot().axes[0]
    ((start, *_, end),) = drawn(axes, LIGHT.curves[0])
    assert (start, end) == ((0.0, 1.0), (0.5, 0.5))  # the operator facet
    ((low, *_, high),) = drawn(axes, LIGHT.curves[1])
    assert (low, high) == ((0.0, 1.0), (0.0, 1.5))  # where features are learnt
    ring = next(line for line in axes.get_lines() if line.get_markersize() == 15)
    assert ring.get_xydata().tolist() == [[0, 1]] and ring.get_markerfacecolor() == "none"  # the lines show through
    labels = [t.get_text() for t in axes.texts]
    assert {"unstable", "trivial", "muP", "NTP", "this program (mup)"} == set(labels)


def test_an_unstable_program_is_in_the_picture() -> None:
    from tp_compiler.report.plots.scaling import place

    scaling = tpc.scale("parametrization standard\n" + text("mlp", "SGD(lr = 0.1)"))
    s, m = place(scaling) or (F(9), F(9))
    axes = scaling.plot().axes[0]
    assert axes.get_xlim()[0] < s < axes.get_xlim()[1] and axes.get_ylim()[0] < m < axes.get_ylim()[1]


def test_without_a_readout_the_classes_depend_on_the_updates_alone() -> None:
    program = "axis d : 2\nket |u[d]> ~ N(0, 1)\nmatrix W ~ N(0, 1)\noutput K[d] = <tanh(W tanh(u[d]))>\n"
    axes = tpc.scale(program).plot().axes[0]
    assert "no readout" in axes.get_ylabel() and not axes.get_yticks().size
    assert not any("this program" in t.get_text() for t in axes.texts)
