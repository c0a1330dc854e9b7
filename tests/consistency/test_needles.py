"""Averages of functions that are narrow relative to the deviation of their argument, at deviations of any size."""

from __future__ import annotations

import math

import pytest

import tp_compiler as tpc

#: <f(x)> for x of a large deviation s: the integral of f, over s √(2π).
NEEDLES = {
    "tanh'(x)": 2.0,
    "1 - tanh(x)^2": 2.0,
    "sigmoid'(x)": 1.0,
    "abs(x) * exp(-x^2)": 1.0,
    "1/(1 + x^2)": math.pi,
    "1/(1 + x^4)": math.pi / math.sqrt(2),
    "exp(-abs(x))": 2.0,
    "hardtanh'(x)": 2.0,
    "relu6(x) - relu6(x - 1)": 6.0,
    "relu6'(x - 3)": 6.0,
}
#: <f(x)|x> for bounded f with f(∞) - f(-∞) = rise: the rise, times s/√(2π).
BOUNDED = {"tanh": 2.0, "sigmoid": 1.0, "hardtanh": 2.0, "relu6": 6.0, "softsign": 2.0, "hardsigmoid": 1.0, "erf": 2.0}


@pytest.mark.parametrize("power", [8, 20, 40, 60, 120, 200])
def test_a_needle_of_any_width_is_seen(power: int) -> None:
    lines = [f"output o{k} = <{f}>" for k, f in enumerate(NEEDLES)]
    run = tpc.limit("\n".join([f"ket |x> ~ N(0, 1e{power})", *lines]))
    for k, (f, area) in enumerate(NEEDLES.items()):
        wanted, found = area / math.sqrt(2 * math.pi * 10.0**power), run.outputs[f"o{k}"]
        slack = 1e-9 + (10 / 10 ** (power / 2) if power < 20 else 0.0)
        assert found.value == pytest.approx(wanted, rel=slack, abs=8 * float(found.stderr)), (f, found)


@pytest.mark.parametrize("power", [24, 40, 120, 200])
def test_bounded_functions_meet_their_argument(power: int) -> None:
    """By Stein's lemma these are averages of needles."""
    outputs = "\n".join(f"output {f} = <{f}(x)|x>" for f in BOUNDED)
    run = tpc.limit(f"ket |x> ~ N(0, 1e{power})\n{outputs}")
    for f, rise in BOUNDED.items():
        found, wanted = run.outputs[f], rise * 10.0 ** (power / 2) / math.sqrt(2 * math.pi)
        assert found.value == pytest.approx(wanted, rel=1e-9, abs=8 * float(found.stderr)), (f, found)
        assert found.stderr < 1e-6 * wanted


def test_the_transpose_meets_a_needle() -> None:
    """<R^T tanh(R x)|x> = <tanh(y)|y> for y of variance 1e200 is E|y|."""
    text = "ket |x> ~ N(0, 1e200)\nmatrix R ~ N(0, 1)\n|y> = R |x>\n|b> = R^T tanh(|y>)\noutput e = <b|x>"
    found, wanted = tpc.limit(text).outputs["e"], 1e100 * math.sqrt(2 / math.pi)
    assert found.value == pytest.approx(wanted, rel=1e-9, abs=8 * float(found.stderr))
    assert found.stderr < 0.01 * wanted
