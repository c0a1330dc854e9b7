"""`--html`: one page that needs nothing else. It needs the report extra, hence slow."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.entities import html5
from pathlib import Path
from typing import Any

import pytest

import tp_compiler as tpc
from tp_compiler import cli
from tp_compiler.diagnostics import Source
from tp_compiler.report import highlight

pytestmark = pytest.mark.slow
pytest.importorskip("matplotlib")
pytest.importorskip("latex2mathml")

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
MATH, SVG = "{http://www.w3.org/1998/Math/MathML}", "{http://www.w3.org/2000/svg}"
TITLE = "<script>&_%.nexort"
PROGRAM = """# a <b>bold</b> & "quoted" program
axis i, j : 2
data x[i] = [1, -2.5e-1]
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
matrix W ~ N(0, 2)
|h[i]> = W^T tanh(W tanh(x[i] |u>))
output k[i,j] = <h[i]|h[j]>
output f[i] = clt <v|h[i]>
"""


@pytest.fixture(scope="module")
def page() -> str:
    return tpc.html_report(Source(TITLE, PROGRAM), samples=64)


def tree(page: str) -> ET.Element:
    """The page as XML: every element is closed, every character escaped."""
    doctype, _, rest = page.partition("\n")
    assert doctype == "<!DOCTYPE html>"
    return ET.fromstring(rest)


def text_of(element: ET.Element) -> str:
    return "".join(element.itertext())


def test_everything_is_there(page: str) -> None:
    root = tree(page)
    heads = [text_of(h) for h in root.iter("{http://www.w3.org/1999/xhtml}h2")]
    assert heads[:6] == ["Program", "Pictures", "Numbers", "Equations", "Methods", "Settings and versions"]
    source = next(root.iter("{http://www.w3.org/1999/xhtml}pre"))
    assert text_of(source) == PROGRAM.strip("\n")
    facts = text_of(root)
    assert (
        f"tpc{tpc.__version__}" in facts and "seed0" in facts and "replicates8" in facts and "closed-form" not in TITLE
    )


def test_nothing_comes_from_elsewhere(page: str) -> None:
    used = re.sub(r'xmlns(:\w+)?=["\'][^"\']*["\']', "", page)
    assert not re.search(r"https?:|<script|<link|@import|src=|url\((?!#)", used)


def test_names_of_elements_are_unique(page: str) -> None:
    names = [e.get("id") for e in tree(page).iter() if e.get("id")]
    assert len(names) == len(set(names))
    assert {m for m in re.findall(r'(?:url\(|href=")#([^")]*)', page)} <= set(names)


def test_pictures_in_both_themes(page: str) -> None:
    root = tree(page)
    themes = [e for e in root.iter() if (e.get("class") or "").startswith("picture")]
    assert [e.get("class") for e in themes] == ["picture light", "picture dark"] * 2  # the outputs, and the graph
    for picture in themes:
        drawing = picture.find(f"{SVG}svg")
        assert drawing is not None and drawing.get("viewBox") and not drawing.get("width")


def test_equations_are_typeset(page: str) -> None:
    formulas = list(tree(page).iter(f"{MATH}math"))
    said = ["".join(text_of(f).split()) for f in formulas]
    assert any("|u⟩∼" in f for f in said) and any("tanh" in f and "=" in f for f in said)
    rows = [e for e in tree(page).iter() if e.get("class") == "row"]
    indents = {"".join(text_of(e).split())[:3]: e.get("style") or "" for e in rows}
    assert indents["|u⟩"] == "" and indents["Cov"] == "margin-left:2em"
    names = {e.tag.removeprefix(MATH) for f in formulas for e in f.iter()}
    assert {"msub", "mover", "mfrac", "mo", "mi", "mn"} <= names
    assert not [e.text for f in formulas for e in f.iter() if e.text and e.text.startswith("\\")]


@pytest.mark.parametrize(
    "example", ["train_mlp", "transformer", "muon", "shampoo", "soap", "state_space", "nngp_posterior"]
)
def test_equations_of_the_examples(example: str) -> None:
    """No command of LaTeX is left as text, and everything is well formed."""
    from tp_compiler.report.mathml import equations

    found = equations(tpc.equations(EXAMPLES / f"{example}.nexort"))
    root = ET.fromstring(f"<div>{found}</div>")
    assert not [e.text for e in root.iter() if e.text and re.match(r"\\[A-Za-z]+", e.text)]
    assert len(list(root.iter(f"{MATH}math"))) >= len(tpc.equations(EXAMPLES / f"{example}.nexort").equations)


def test_a_limit_without_equations() -> None:
    found = tpc.html_report(EXAMPLES / "gradient_flow.nexort")
    assert "gradient flow cannot be written as equations" in text_of(tree(found))


def test_the_command(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    program, target = tmp_path / "p.nexort", tmp_path / "p.html"
    program.write_text(PROGRAM, encoding="utf-8")
    assert cli.main(["limit", str(program), "--html", str(target), "--samples", "64", "--quiet"]) == 0
    assert "k[i, j]" in capsys.readouterr().out
    assert "p.nexort: limit n → ∞" in text_of(tree(target.read_text(encoding="utf-8")))
    assert cli.main(["limit", str(program), "--html", "page.pdf"]) == 2
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    capsys.readouterr()
    assert cli.main(["limit", str(program), "--html", str(target)]) == 2
    assert "--html needs matplotlib and latex2mathml" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.nexort")), ids=lambda p: p.stem)
def test_highlighting_loses_nothing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = ET.fromstring(f"<pre>{highlight.highlighted(text)}</pre>")
    assert text_of(found) == text
    kinds = {e.get("class") for e in found}
    assert {"comment", "keyword", "ket"} <= kinds
    assert all((e.text or "").startswith("#") == (e.get("class") == "comment") for e in found)


def test_entities_are_those_of_xml(page: str) -> None:
    named = {m for m in re.findall(r"&(\w+);", page)}
    assert named <= {"lt", "gt", "amp", "quot"} and all(f"{name};" in html5 for name in named)
