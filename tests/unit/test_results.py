"""Results are finite numbers with errors, or failures with a reason: in Python as on the command line."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler.diagnostics import Diagnostic
from tp_compiler.results import Estimate, Run, settled

ROADS: dict[str, Callable[[str], Run]] = {
    "limit": lambda text: tpc.limit(text, samples=64),
    "qmc": lambda text: tpc.limit(text, samples=64, method="qmc"),
    "simulate": lambda text: tpc.simulate(text, 16, seeds=3),
}
#: What has no value, beside an output that has one.
WITHOUT_VALUE = [
    "output q = <exp(exp(exp(exp(x))))>",
    "|y> = 1e200 * |x>\noutput q = <y|y>",
    "output q = <log(x)>",
    "output q = 1/<x|0*x>",
    "output q = 1/(<x|x> - <x|x>)",
    "ket |v> ~ N(0, 1)\noutput q = clt <v|exp(400*x)>",
    "output q = <x|(1e300 * x)^3>",
]


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("line", WITHOUT_VALUE)
def test_what_is_not_finite_fails_alone_and_without_a_warning(line: str, road: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = ROADS[road](f"ket |x> ~ N(0, 1)\n{line}\noutput r = <x|x>\n")
    assert set(run.outputs) == {"r"} and set(run.failed) == {"q"}
    assert run.failed["q"].code in ("NX411", "NX412", "NX413", "NX441", "NX800")


@pytest.mark.parametrize("part", ["value", "stderr", "covariance", "covariance_stderr"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_entry_of_any_part_is_a_failure(part: str, bad: float) -> None:
    one, two = np.eye(2), np.eye(2)
    parts = {"value": one, "stderr": one, "covariance": one, "covariance_stderr": one}
    good = Estimate(**parts, axes=("i", "j"), method="qmc")
    spoilt = two.copy()
    spoilt[0, 1] = bad
    wrong = Estimate(**{**parts, part: spoilt}, axes=("i", "j"), method="qmc")
    before = Diagnostic("NX500", "no")
    run = settled(Run("p", "limit", {"good": good, "wrong": wrong}, {"other": before}))
    assert set(run.outputs) == {"good"}
    assert run.failed["wrong"].code == "NX800" and run.failed["other"] is before
