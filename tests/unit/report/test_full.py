"""Large outputs: by default the ends and evenly spaced steps, with a sentence that says so; on request everything."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.report.fabricate import estimate
from tp_compiler import cli
from tp_compiler.pages import PAGES, SHORTENED, written
from tp_compiler.report.number_tables import EVERYTHING, TableLimits, omission, positions
from tp_compiler.results import Run

SHAPES: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "steps": (("step",), (101,)),
    "steps down": (("step", "i"), (38, 3)),
    "steps across": (("i", "step"), (3, 101)),
    "steps in front": (("step", "i", "j"), (51, 2, 3)),
    "steps among others": (("l", "step", "i", "j"), (2, 20, 2, 2)),
    "entries": (("i",), (40,)),
    "a kernel": (("i", "j"), (30, 31)),
    "many tables": (("a", "b", "i", "j"), (7, 8, 2, 2)),
}


@pytest.fixture(params=SHAPES)
def long(run: Run, request: pytest.FixtureRequest) -> Run:
    axes, shape = SHAPES[request.param]
    values = 1000.0 + np.arange(np.prod(shape)).reshape(shape)  # each entry can be found
    return dataclasses.replace(run, outputs={"f": estimate(values, 0.0, axes, "exact")}, failed={})


def shown(page: str) -> list[int]:
    return [int(x) for x in re.findall(r"(?<![\d.])(\d{4})(?![\d.])", page)]


@pytest.mark.parametrize("form", SHORTENED)
def test_full_has_every_entry_and_the_default_says_what_it_leaves_out(long: Run, form: str) -> None:
    value = long["f"]
    full, short = written(long, form, full=True), written(long, form)
    assert set(shown(full)) >= set(value.ravel().astype(int))
    assert "full" not in full and "…" not in full
    left_out = value.size - len(set(shown(short)) & set(value.ravel().astype(int)))
    assert (left_out > 0) == ("--full" in short)
    if form != "latex":
        assert left_out > 0 and len(shown(short)) < 160
        assert value.ravel()[0] in shown(short) and value.ravel()[-1] in shown(short)


def test_the_tables_of_a_run(long: Run) -> None:
    assert long.table() == str(long) and long.table(full=True) == written(long, "text", full=True)
    noted = dataclasses.replace(long.outputs["f"], note="because")
    assert "exact: because" in dataclasses.replace(long, outputs={"f": noted}).table(full=True, reasons=True)


@pytest.mark.parametrize("size", [13, 25, 51, 101, 98, 1000])
@pytest.mark.parametrize("limit", [6, 8, 12])
def test_steps_are_evenly_spaced(size: int, limit: int) -> None:
    found = [k for k in positions("step", size, limit) if k is not None]
    assert found[0] == 0 and found[-1] == size - 1 and limit / 2 <= len(found) <= limit
    gaps = np.diff(found)
    assert gaps.max() - gaps.min() <= 1
    assert positions("step", limit, limit) == positions("i", limit, limit) == list(range(limit))


def test_round_steps_where_there_are_some() -> None:
    assert positions("step", 101, 12) == [*range(0, 101, 10)]
    assert positions("step", 101, 8) == [*range(0, 101, 20)]
    assert positions("i", 10, 5) == [0, 1, 2, None, 8, 9]


def test_what_is_left_out_is_said_exactly() -> None:
    limits = TableLimits()
    assert omission(("step", "i"), (101, 20), limits) == "11 of 101 steps, evenly spaced; the ends of i = 1, ..., 20"
    assert omission(("i", "step"), (5, 101), limits) == "6 of 101 steps, evenly spaced"
    assert omission(("step", "i", "j"), (101, 2, 2), limits) == "6 of 101 tables, at evenly spaced steps"
    assert omission(("l", "step", "i", "j"), (2, 20, 2, 2), limits) == "6 of 40 tables, at evenly spaced steps"
    assert omission(("a", "i", "j"), (50, 2, 2), limits) == "6 of 50 tables"
    assert (
        omission(("i",), (12,), limits) == omission((), (), limits) == omission(("i", "j"), (99, 99), EVERYTHING) == ""
    )


def test_covariances_are_shown_in_full(run: Run) -> None:
    size = 20
    random = estimate(
        np.zeros(size), 0.0, ("step",), law="gaussian", covariance=2000.0 + np.arange(400.0).reshape(20, 20)
    )
    whole = dataclasses.replace(run, outputs={"g": random}, failed={})
    assert set(shown(whole.table(full=True))) >= set(range(2000, 2400))
    assert "the ends of entry = 1, ..., 20" in str(whole)


def test_the_command(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "p.nexort"
    path.write_text("axis i : 40\nket |u[i]> ~ N(0, 1)\noutput k[i] = <u[i]|u[i]>\n", encoding="utf-8")
    assert cli.main(["limit", str(path)]) == 0
    page = capsys.readouterr().out
    assert "(the ends of i = 1, ..., 40; --full or run.table(full=True) shows all)" in page
    for form in ("text", "html", "latex", "json", "csv"):
        assert cli.main(["limit", str(path), "--full", "--format", form]) == 0
        assert "shows all" not in capsys.readouterr().out
    assert cli.main(["simulate", str(path), "--width", "8", "--full"]) == 0
    assert re.search(r"^ +27  ", capsys.readouterr().out, re.MULTILINE)


def test_every_form_that_shortens_is_one() -> None:
    assert set(SHORTENED) <= set(PAGES["Run"])
