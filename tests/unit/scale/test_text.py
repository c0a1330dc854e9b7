"""The tables as they are printed; docs/parametrizations.md shows them."""

from __future__ import annotations

import re
from pathlib import Path

from tp_compiler.report.scaling_tables import classification_table, raw_table
from tp_compiler.scale import points
from tp_compiler.scale.raw import classify_raw, raw, raw_sizes
from tp_compiler.scale.verdict import classify

DOCS = (Path(__file__).resolve().parents[3] / "docs" / "parametrizations.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(.*?)\n^```", DOCS, re.DOTALL | re.MULTILINE)


def test_the_classification_in_the_documentation() -> None:
    layers = points.standard(1).layers(2)
    assert BLOCKS[0] == classification_table(classify(layers, 0), layers)


def test_the_figures_in_the_documentation() -> None:
    mup = points.maximal_update()
    rows = {"u": raw(mup, "input", "Adam"), "W": raw(mup, "matrix", "Adam"), "v": raw(mup, "output", "Shampoo")}
    assert raw_table(rows).startswith(BLOCKS[1])


def test_the_powers_in_the_documentation() -> None:
    """Constant learning rates at standard initialisation."""
    head, _, body = re.findall(r"^\| SGD \| Adam.*\n.*\n.*", DOCS, re.MULTILINE)[0].split("\n")
    for name, cell in zip(head.strip("| ").split(" | "), body.strip("| ").split(" | "), strict=True):
        moves = raw_sizes((0, "-1/2", "-1/2"), (0, 0, 0), name, first=True).moves
        assert ", ".join(map(str, moves)) == cell.replace("−", "-")


def test_a_raw_network_is_shown_without_abcd() -> None:
    shown = classification_table(classify_raw((0, "-1/2", -1), (0, 0, -1), "KFAC"))
    assert "regime: feature-learning, r = 0" in shown and shown.startswith("layer  a+b  r")
