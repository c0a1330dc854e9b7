"""Averages of functions that are narrow beside the deviation of their argument, at deviations of any size."""

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
}


@pytest.mark.parametrize("power", [8, 20, 40, 60, 120, 200])
def test_a_needle_of_any_width_is_seen(power: int) -> None:
    lines = [f"output o{k} = <{f}>" for k, f in enumerate(NEEDLES)]
    run = tpc.limit("\n".join([f"ket |x> ~ N(0, 1e{power})", *lines]))
    for k, (f, area) in enumerate(NEEDLES.items()):
        wanted, found = area / math.sqrt(2 * math.pi * 10.0**power), run.outputs[f"o{k}"]
        slack = 1e-9 + (10 / 10 ** (power / 2) if power < 20 else 0.0)
        assert found.value == pytest.approx(wanted, rel=slack, abs=8 * float(found.stderr)), (f, found)


def test_the_transpose_meets_a_needle() -> None:
    """<R^T tanh(R x)|x> = <tanh(y)|y> for y of variance 1e200 is E|y|."""
    text = "ket |x> ~ N(0, 1e200)\nmatrix R ~ N(0, 1)\n|y> = R |x>\n|b> = R^T tanh(|y>)\noutput e = <b|x>"
    found, wanted = tpc.limit(text).outputs["e"], 1e100 * math.sqrt(2 / math.pi)
    assert found.value == pytest.approx(wanted, rel=1e-9, abs=8 * float(found.stderr))
    assert found.stderr < 0.01 * wanted
