"""Colours and editors read every character of a text, whatever its mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tp_compiler.diagnostics import Diagnostics, Source
from tp_compiler.frontend.parse import tokenize
from tp_compiler.frontend.scan import covered, scan

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = sorted((ROOT / "examples").rglob("*.nexort"))
TEXTS = [path.read_text(encoding="utf-8") for path in PROGRAMS]
PIECES = [
    "|",
    ">",
    "<",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "\n",
    " ",
    "ket ",
    "x",
    "W",
    "~",
    "'",
    "^T",
    "@1",
    "#",
    '"',
    "$",
    "ᵀ",
    "⟨",
    "é",
]


def kinds(text: str) -> list[tuple[str, str]]:
    return [(p.kind, p.text) for p in scan(text) if p.kind not in ("NEWLINE", "COMMENT")]


def roles(text: str) -> list[tuple[str, str]]:
    return [(p.text, p.role) for p in scan(text) if p.kind == "NAME"]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_sound_programs_have_the_tokens_of_the_parser(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    statements, _ = tokenize(Source("-", text), Diagnostics())
    wanted = [(t.type, str(t)) for tokens in statements for t in tokens if t]
    assert [x for x in kinds(text) if x != ("SEMICOLON", ";")] == [x for x in wanted if x != ("SEMICOLON", ";")]


@given(st.sampled_from(TEXTS), st.floats(0, 1), st.floats(0, 0.1), st.lists(st.sampled_from(PIECES), max_size=6))
def test_every_character_has_its_place(text: str, at: float, length: float, inserted: list[str]) -> None:
    start = int(at * len(text))
    text = text[:start] + "".join(inserted) + text[start + int(length * len(text)) :]
    assert "".join(shown for _, shown in covered(scan(text), text)) == text


@given(
    st.sampled_from(TEXTS),
    st.floats(0, 1),
    st.sampled_from(["|y> = W |", "c = (", "output <x|", "ket |", "f(", "$", "|x"]),
)
def test_a_line_that_is_being_written_changes_no_line_before_it(text: str, at: float, line: str) -> None:
    lines = text.split("\n")
    starts = [k for k, one in enumerate(lines) if one.startswith(("ket", "matrix", "output")) and not _inside(lines, k)]
    k = starts[int(at * (len(starts) - 1))] if starts else 0
    before = "\n".join(lines[:k]) + "\n"
    broken = before + line + "\n" + "\n".join(lines[k:])
    sound = kinds(before)
    assert kinds(broken)[: len(sound)] == sound


def _inside(lines: list[str], k: int) -> bool:
    """Is the line within a block, or a continuation?"""
    before = "\n".join(line.split("#")[0].rstrip() for line in lines[:k]).rstrip()
    unclosed = any(before.count(a) != before.count(b) for a, b in ("()", "[]", "{}"))
    return unclosed or before.endswith(("+", "-", "*", "/", "=", ",", "^", "~", ":"))


def test_half_a_statement_is_guessed() -> None:
    assert kinds("|y> = W |x") == [
        ("KET_OPEN", "|"), ("NAME", "y"), ("CLOSE", ">"), ("EQUAL", "="), ("NAME", "W"), ("KET_OPEN", "|"), ("NAME", "x"),
    ]  # fmt: skip
    assert [k for k, _ in kinds("output <v|W|x")] == ["OUTPUT", "BRA_OPEN", "NAME", "SEP", "NAME", "SEP", "NAME"]
    assert [k for k, _ in kinds("data x[i] from (")] == ["DATA", "NAME", "LSQB", "NAME", "RSQB", "FROM", "LPAR"]
    assert kinds("ket |u> ~ N(0, 1) frozen (")[-2] == ("FROZEN", "frozen")
    assert [k for k, _ in kinds("c = (<z|) |")][3:6] == ["BRA_OPEN", "NAME", "BRA_END"]


def test_roles() -> None:
    assert roles("axis i, j : 4") == [("i", "declared"), ("j", "declared")]
    assert roles("ket |u[d]> ~ N(0, 1)") == [("u", "ket"), ("d", "index"), ("N", "law")]
    assert roles("c = <tanh(x)|W|y[i]> + sum[d](f(x, eps = a))") == [
        ("c", ""), ("tanh", "call"), ("x", "ket"), ("W", ""), ("y", "ket"), ("i", "index"),
        ("sum", "call"), ("d", "index"), ("f", "call"), ("x", ""), ("eps", "keyword"), ("a", ""),
    ]  # fmt: skip
    assert roles("c = relu'(|x>)")[1] == ("relu", "call")
    assert roles("c = <x|(W + V)|(y + z)>")[1:] == [("x", "ket"), ("W", ""), ("V", ""), ("y", "ket"), ("z", "ket")]
    # A statement of several lines keeps its brackets.
    assert roles("c = f(a,\n  b = 2,\n  <x>)") == [("c", ""), ("f", "call"), ("a", ""), ("b", "keyword"), ("x", "ket")]
    assert roles("c = f(\nmatrix W ~ N(0, 1)\n")[2:] == [("W", "declared"), ("N", "law")]
