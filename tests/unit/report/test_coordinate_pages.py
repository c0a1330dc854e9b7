"""The page of a coordinate check: causes first, settings together, a row for each module."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tp_compiler.scale.coordinates import CoordCheck, CoordinateProblem, CoordinateRow, CoordinateVerdict, listed

OK, WRONG, FOLLOWS = CoordinateVerdict.OK, CoordinateVerdict.WRONG, CoordinateVerdict.FOLLOWS
WARNING, UNKNOWN = CoordinateVerdict.WARNING, CoordinateVerdict.UNKNOWN


def check() -> CoordCheck:
    sizes = (0.1, 0.2, 0.4)
    rows = [
        *(CoordinateRow(f"h.{k}.weight", "lr", None, -1.0, 0.0, Fraction(-1), OK, "", sizes) for k in range(5)),
        CoordinateRow(
            "ln_$.weight", "lr", None, -1.0, 0.0, Fraction(0), WRONG, "falls as n^(-1), muP wants it constant", sizes
        ),
        CoordinateRow(
            "ln_$.weight", "eps", None, 0.0, 0.0, Fraction(-1), WARNING, "is constant, muP wants n^(-1)", sizes
        ),
        CoordinateRow("ln_$", "activation", 0, 0.01, 0.02, Fraction(0), OK, "", sizes),
        CoordinateRow("", "activation", 0, -0.45, 0.1, Fraction(-1, 2), OK, "", sizes),
        CoordinateRow("ln_$", "update", 4, -0.52, 0.05, Fraction(0), FOLLOWS, "falls as n^-0.52; see above", sizes),
        CoordinateRow("k.bias", "gradient", 0, None, 0.0, Fraction(-1), UNKNOWN, "rounding errors", sizes),
    ]
    problem = CoordinateProblem(("ln_$.weight",), "lr", "falls as n^(-1), muP wants it constant")
    return CoordCheck((32, 64, 128), 3, 4, ("AdamW",), tuple(rows), (problem,), ("<a note>",), {32: (1.0, 0.5)})


def test_text() -> None:
    lines = str(check()).splitlines()
    assert lines[0] == "coordinate check: FAILED"
    assert lines[1] == "1. lr of ln_$.weight: falls as n^(-1), muP wants it constant"
    assert "n = 32, 64, 128; 3 seeds; 4 steps of AdamW" in lines
    assert "warning: eps of ln_$.weight: is constant, muP wants n^(-1)" in lines and "note: <a note>" in lines
    (together,) = (line for line in lines if line.startswith("h.0.weight"))
    assert together.split() == ["h.0.weight,", "h.1.weight", "and", "3", "more", "lr", "n^(-1)", "n^(-1)", "ok"]
    assert "updates of activations, after 4 steps" in lines and "activations at initialisation" in lines
    (module,) = (line for line in lines if line.startswith("the module"))
    assert module.split() == ["the", "module", "-0.45", "0.10", "-1/2", "ok"]
    (still,) = (line for line in lines if line.startswith("k.bias"))
    assert still.split() == ["k.bias", "-", "-1", "-", "rounding", "errors"]
    assert str(check()).endswith(check().table)


def test_other_faces() -> None:
    assert repr(check()) == "<CoordCheck at n = 32, 64, 128: 1 problem>"
    assert "&lt;a note&gt;" in (check()._repr_html_() or "") and r"ln\_\$" in (check()._repr_latex_() or "")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_plot(theme: str) -> None:
    pytest.importorskip("matplotlib")
    picture = check().plot(theme=theme)
    assert [axes.get_title(loc="left") for axes in picture.axes] == [
        "activations at initialisation",
        "updates of activations after 4 steps",
    ]
    thick = [line for axes in picture.axes for line in axes.get_lines() if line.get_linewidth() == 2]
    assert len(thick) == 1 and thick[0].get_color() == picture.theme.curves[2]
    assert r"ln_\$: -0.52 (0)" in {text.get_text() for text in picture.axes[1].texts}


def test_names_are_listed() -> None:
    assert [listed(names) for names in ((), ("a",), ("a", "b"), ("a", "", "c"), ("a", "b", "c", "d"))] == [
        "", "a", "a and b", "a, the module and c", "a, b and 2 more",
    ]  # fmt: skip
