"""Comma-separated values: every entry with its axes, covariances of random outputs, names that could collide."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler.pages import FORMATS, PAGES, written
from tp_compiler.results import Run

PROGRAM = """
axis i, value : 2
data xi[i] = [1, 2]
ket |u> ~ N(0, 1); ket |v> ~ N(0, 1); ket |w> ~ N(0, 1)
|x[i,value]> = xi[i] * |u> + value * |v>
output k[i,value] = <x[i,value]|x[1,1]>
output F[i] = clt <w|x[i,1]>
"""


@pytest.fixture(scope="module")
def run() -> Run:
    return tpc.limit(PROGRAM)


def test_every_entry_is_a_row(run: Run) -> None:
    rows = [*csv.DictReader(io.StringIO(written(run, "csv")))]
    assert list(rows[0]) == [
        "output", "quantity", "i", "axis value", "entry", "other", "value", "stderr", "method"
    ]  # fmt: skip
    k = {(r["i"], r["axis value"]): float(r["value"]) for r in rows if r["output"] == "k"}
    assert k == {("1", "1"): 2.0, ("1", "2"): 3.0, ("2", "1"): 3.0, ("2", "2"): 4.0}
    covariance = np.zeros((2, 2))
    for r in rows:
        if r["quantity"] == "covariance":
            covariance[int(r["entry"]) - 1, int(r["other"]) - 1] = float(r["value"])
    assert np.array_equal(covariance, run.outputs["F"].covariance)


def test_the_steps_of_a_training_count_from_0() -> None:
    loop = "train steps = 2 { loss = (<u|v> - 1)^2; minimize loss; update |u> with SGD(lr = 0.1) }"
    run = tpc.limit(f"ket |u> ~ N(0, 1); ket |v> ~ N(0, 1)\n{loop}\noutput loss[step]")
    assert [r["step"] for r in csv.DictReader(io.StringIO(written(run, "csv")))] == ["0", "1", "2"]


@pytest.mark.parametrize("form", [*FORMATS, "reasons", "notebook"])
def test_every_form_of_a_run_is_written(run: Run, form: str) -> None:
    assert "k" in written(run, form)
    assert set(FORMATS) < set(PAGES["Run"])
