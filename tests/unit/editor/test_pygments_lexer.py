"""Colours of Pygments."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest.importorskip("pygments")

from pygments.lexers import get_lexer_by_name, guess_lexer_for_filename
from pygments.token import Error, Keyword, Name, Number, Punctuation, String, Token

from tp_compiler.editor.pygments_lexer import NexortCellLexer, NexortLexer

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = sorted([*(ROOT / "examples").rglob("*.nexort"), *(ROOT / "tp_compiler").rglob("*.nexort")])


def colours(text: str) -> dict[str, object]:
    return {shown: kind for kind, shown in NexortLexer().get_tokens(text)}


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_programs_have_no_errors_and_lose_nothing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = list(NexortLexer(stripnl=False, ensurenl=False).get_tokens(text))
    assert "".join(shown for _, shown in found) == text
    assert [shown for kind, shown in found if kind in Error] == []


def test_colours() -> None:
    text = """import layers
ket |u[d]> ~ N(0, 1)
|y> = tanh(W |u[1]>)  # c
data x[i] from "x.npy"
update W with Adam(lr = 0.1)
z = block(pi)
"""
    found = colours(text)
    assert found["import"] is Keyword.Namespace and found["ket"] is Keyword.Declaration and found["with"] is Keyword
    assert found["u"] is Name.Variable.Instance and found["|"] is found[">"] is Punctuation.Marker
    assert found["d"] is Name.Label and found["N"] is found["tanh"] is Name.Builtin and found["Adam"] is Name.Class
    assert found["# c"] is Token.Comment.Single and found['"x.npy"'] is String.Double and found["0.1"] is Number
    assert found["lr"] is Name.Attribute and found["block"] is Name.Function and found["pi"] is Name.Builtin.Pseudo
    assert found["x"] is Name.Variable and found["W"] is Name


def test_contextual_keywords_are_names_elsewhere() -> None:
    assert colours("output = 3\n")["output"] is Name
    assert colours("c = 2 * key\n")["key"] is Name


def test_hats_dots_and_unicode() -> None:
    found = colours("|x̂⟩ = |ẋ⟩ + Wᵀ|z⟩ ⟨v|z⟩ @1\n")
    assert found["x̂"] is found["ẋ"] is Name.Variable.Magic and found["⟨"] is found["⟩"] is Punctuation.Marker
    assert found["ᵀ"] is Token.Operator.Word


def test_mistakes_are_shown_in_place() -> None:
    found = list(NexortLexer().get_tokens("c = 2 $ 3\nket |u> ~ N(0, 1)\n"))
    assert [shown for kind, shown in found if kind in Error] == ["$"]
    assert (Keyword.Declaration, "ket") in found


def test_cells_of_notebooks() -> None:
    found = list(NexortCellLexer().get_tokens("%%nexort p --limit\nket |u> ~ N(0, 1)\n"))
    assert found[0] == (Token.Comment.Preproc, "%%nexort p --limit") and (Keyword.Declaration, "ket") in found
    assert (Token.Keyword, "def") in list(NexortCellLexer().get_tokens("def f(x): return x\n"))
    text = "\n\n%%nexort\n|y> = |x>\n\n"
    assert "".join(s for _, s in NexortCellLexer(stripnl=False, ensurenl=False).get_tokens(text)) == text


def test_pygments_finds_them() -> None:
    if "nexort" not in {e.name for e in entry_points(group="pygments.lexers")}:
        pytest.skip("tp_compiler was installed before it had the entry point; install it again")
    assert isinstance(get_lexer_by_name("nexort"), NexortLexer)
    assert isinstance(guess_lexer_for_filename("a.nexort", ""), NexortLexer)
