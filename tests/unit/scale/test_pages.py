"""The page of `tpc scale` says all that its JSON says, and parameters that are alike once."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import tp_compiler as tpc
from tests.unit.scale.programs import PROGRAMS, text
from tp_compiler.scale.result import Scaling

Row = dict[str, str]
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def grids(page: str) -> list[dict[str, Row]]:
    """The tables of a page: parameter -> column -> cell."""
    lines, found = page.splitlines(), []
    for k, head in enumerate(lines):
        if head.startswith("parameters  "):
            starts = [m.start() for m in re.finditer(r"(?<= {2})\S|^\S", head)]
            names = [head[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
            found.append(_rows(lines[k + 1 :], starts, names))
    return found


def _rows(lines: list[str], starts: list[int], names: list[str]) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    cells: Row = {}
    for line in lines:
        values = [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
        if not line or line.startswith(("  ", "factors")) or (not values[1] and not cells):
            break
        if values[1]:  # otherwise more names of the row before
            cells = dict(zip(names[1:], values[1:], strict=True))
        rows |= dict.fromkeys(re.split(r",\s*(?![^\[]*\])", values[0].removesuffix(",")), cells)
    return rows


def value(cell: str) -> tuple[float, Fraction]:
    """The factor and the exponent of `1.414 n^(-1/2)`."""
    match = re.fullmatch(r"([\d.e+-]+)?\s*(n)?(?:\^\(?(-?[\d/]+)\)?)?", cell)
    assert match and cell, cell
    return float(match[1] or 1), Fraction(match[3] or 1) if match[2] else Fraction(0)


def compare(document: Mapping[str, Any], shown: dict[str, Row]) -> None:
    assert set(document["parameters"]) == set(shown)
    for name, figures in document["parameters"].items():
        for figure, found in figures.items():
            if figure in ("kind", "optimizer"):
                assert shown[name][figure] == found
                continue
            factor, exponent = value(shown[name][figure])
            assert exponent == Fraction(found), (name, figure)
            assert math.isclose(factor, document["constants"].get(name, {}).get(figure, 1), rel_tol=1e-3)


def whole(scaling: Scaling) -> None:
    page, document = scaling.text(), scaling.as_json()
    tables = document.get("tables") or {"": document}
    shown = grids(page)
    assert len(shown) == len(tables) + len(document["compared"])
    for table, grid in zip([*tables.values(), *document["compared"].values()], shown, strict=True):
        compare(table, grid)
        words = {True: "yes", False: "no", None: "-"}
        found = table["class"]
        answers = [f"{q}: {words[found[q]]}" for q in ("faithful", "stable", "nontrivial")]
        assert f": {found['regime']}, r = {found['r']}" in page and ", ".join(answers) in page
        for problem in [*table.get("problems", ()), *table["notes"]]:
            name, rest = re.split(r" (?=blows up|freezes|is |learn)", problem, maxsplit=1)
            assert name in page and rest.split(": ")[-1].split(" ", 2)[-1] in page, problem
    reasons = {
        (name, figure) for t in scaling.tables.values() for name, raw in t.raw.items() for figure in raw.reasons
    } - {(name, "multiplier") for name in scaling.keys}
    said = re.findall(r"^([^:\n]+), (\w+): .*\.$", page, re.MULTILINE)
    assert reasons <= {(name, figure) for names, figure in said for name in re.split(r",\s*(?![^\[]*\])", names)}


OPTIMIZERS = ["AdamW(lr = 0.1)", "SGD(lr = 0.1)", "Shampoo(lr = 0.1, damping = 0.1)"]


@pytest.mark.parametrize(("name", "optimizer"), [(n, OPTIMIZERS[k % 3]) for k, n in enumerate(PROGRAMS)])
def test_the_page_has_every_figure_of_the_json(name: str, optimizer: str) -> None:
    whole(tpc.scale(text(name, optimizer)))


@pytest.mark.parametrize("name", ["transformer", "scale_tied", "parametrization", "kfac"])
def test_so_have_the_examples(name: str) -> None:
    whole(tpc.scale(str(EXAMPLES / f"{name}.nexort")))


def test_the_page_of_a_gpt_fits_on_a_screen() -> None:
    page = tpc.scale(text("gpt", "AdamW(lr = 0.1)")).text()
    assert len(page.splitlines()) <= 50
    assert re.search(r"^Q, K, V, O, B +matrix", page, re.MULTILINE)
    assert page.count("gradient entry") == 2  # one line for all whose gradients are alike


def test_many_names_are_broken_into_lines() -> None:
    kets = "\n".join(f"ket |layer{k}> ~ N(0, 1)" for k in range(12))
    total = " + ".join(f"|layer{k}>" for k in range(12))
    scaling = tpc.scale(f"{kets}\nket |v> = 0\noutput f = <v|tanh({total})>")
    whole(scaling)
    assert max(map(len, scaling.text().split("\n\n")[1].splitlines())) < 140
    assert max(line.count("layer") for line in scaling.text().splitlines() if "  input  " in line) < 6


def test_one_weight_keeps_its_name_in_its_reason() -> None:
    page = tpc.scale(text("mlp")).text()
    assert "v, lr: gradient entries are 1" in page and "v, init_std: an entry of v is n^(-1)." in page
    assert "W, A, init_std: an entry of W is n^(-1/2), so that" in page
