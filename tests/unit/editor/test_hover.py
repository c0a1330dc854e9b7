"""What is shown of a word: statement, type, hat and dot; and words of the language."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.editor.texts import MARK, SOME, at, checked
from tp_compiler.editor.hover import hover
from tp_compiler.explanation import explain

PROGRAM = """axis i, j : 2
axis d : 3
width m = 2
data xi[i,d] = [[1, 0, 2], [0, 1, 1]]
data tok[i] = [1, 2]
ket |u[d]> ~ N(0, 1)
ket |q> : m ~ N(0, 1)
matrix W ~ N(0, 2)
matrix R : m x n ~ N(0, 1)
scalar c = 0.5
|h[i]> = sum[d](xi[i,d] |u[d]>)
|x[i]> = W relu(|h[i]>)
|b[i]> = W^T tanh(|x[i]>)
|y[i]> = 0.5 * (W |b[i]>) + |h[i]>
|z[i]> = R |h[i]>
# Normalised to one.
def unit(|v>, eps = 0) {
    return |v> / sqrt(<v|v> + eps)
}
output k[i,j] = <x[i]|x[j]> * c
output <unit(|y[1]>)|b[tok[2]]> + <q|z[1]>
"""


def shown(mark: str, text: str = PROGRAM) -> str:
    """The page at the start of the last letter of the marked words."""
    start = text.index(mark.replace(MARK, ""))
    found = hover(checked("-", text), start + mark.index(MARK))
    assert found is not None
    return found[2]


def test_types() -> None:
    assert "ket over d (3), width n" in shown("ket |¦u[d]>") and "ket |u[d]> ~ N(0, 1)" in shown("ket |¦u[d]>")
    assert "ket, width m" in shown("ket |¦q>")
    assert "operator, n × n" in shown("= ¦W relu") and "operator, m × n" in shown("= ¦R |h")
    assert "trainable scalar" in shown("* ¦c\n") and "scalar c = 0.5" in shown("* ¦c\n")
    assert "data over i (2), d (3)" in shown("(¦xi[i,d]") and "integer data over i (2)" in shown("b[¦tok[2]")
    assert "index of the axis `i`: 1, ..., 2" in shown("k[i,¦j]")
    assert "scalar over i (2), j (2)" in shown("output ¦k[")
    assert "width class: m/n → 2" in shown("width ¦m")


def test_hats_and_dots() -> None:
    assert "hat" not in shown("|¦h[i]> = sum")
    assert "hat of `W`: Gaussian, Cov = 2 ⟨x|x′⟩; no dot" in shown("|¦x[i]> = W")
    assert "hat of `W^T`: Gaussian, Cov = 2 ⟨x|x′⟩; dot along the kets that `W` acts on before" in shown(
        "|¦b[i]> = W^T"
    )
    assert "hat of `W`: Gaussian, Cov = 2 ⟨x|x′⟩; dot along the kets that `W^T` acts on before" in shown(
        "|¦y[i]> = 0.5"
    )
    assert "hat of `R`: Gaussian, Cov = ⟨x|x′⟩; no dot" in shown("|¦z[i]> = R")


def test_members_of_a_family_of_matrices_are_independent() -> None:
    text = "axis l : 2\nmatrix A[l] ~ N(0, 1)\nket |u> ~ N(0, 1)\n|a> = A[1] |u>\n|b> = A[2]^T |a>\n|c> = A[1]^T |a>\noutput <b|c>\n"
    assert "no dot" in shown("|¦b> =", text) and "dot along" in shown("|¦c> =", text)


def test_definitions_show_their_heads_and_comments() -> None:
    page = shown("<¦unit(")
    assert "def unit(|v>, eps = 0)" in page and "return" not in page and "Normalised to one." in page
    assert "A parameter of `unit`." in shown("v> + ¦eps)".replace("v> + ", "v> + "))


def test_words_of_the_language() -> None:
    assert "max(x, 0), entry by entry." in shown("W ¦relu")
    assert "matrix W ~ N(0, 2)" in shown("mat¦rix R") and "over fan-in" in shown("mat¦rix R")
    assert "N(mean, variance)" in shown("u[d]> ~ ¦N(")
    assert "The sum over the indices in brackets" in shown("= ¦sum[d]")
    assert "transpose" in shown("W¦^T tanh") or "operator" in shown("W¦^T tanh")
    assert "def layernorm(|x>, eps = 1e-5)" in shown(
        "= ¦layernorm", "ket |x> ~ N(0, 1)\n|y> = layernorm(|x>)\noutput <y>\n"
    )
    text = "optimizer H(lr) {\n    return -lr * g\n}\nket |u> ~ N(0, 1)\noutput <u>\n"
    assert "one natural entry of the gradient" in shown("lr * ¦g", text)


def test_findings_are_explained() -> None:
    text = "ket |x> ~ N(0, 1)\noutput <x|y>\n"
    assert f"**NX102** {explain('NX102').why}" in shown("|¦y>", text)
    assert "NX102" not in shown("ket |¦x>", text)


def test_white_space_and_comments_show_nothing() -> None:
    program, offset = at("# a comm¦ent\nc = 1\n")
    assert hover(program, offset) is None
    program, offset = at("c = 1\n¦\n\nd = 2\n")
    assert hover(program, offset) is None


def test_types_of_the_last_check_serve_the_next_text() -> None:
    program = checked("-", PROGRAM).edited("# one more line\n" + PROGRAM)
    found = hover(program, program.text.index("|x[i]> = W") + 1)
    assert found is not None and "ket over i (2), width n" in found[2]
    program = program.edited(program.text + "|w[i]> = tanh(|x[i")
    found = hover(program, program.text.index("|x[i]> = W") + 1)
    assert found is not None and "ket over i (2), width n" in found[2]


def test_types_are_known_in_programs_with_mistakes() -> None:
    found = hover(checked("-", PROGRAM + "output <x[1]|nothing>\n"), PROGRAM.index("|x[i]> = W") + 1)
    assert found is not None and "ket over i (2), width n" in found[2]


@pytest.mark.parametrize("path", SOME, ids=lambda p: p.stem)
def test_every_name_of_an_example_is_known(path: Path) -> None:
    program = checked(str(path), path.read_text(encoding="utf-8"))
    for chunk_start, chunk in program.symbols.chunks:
        for lexeme in chunk.lexemes:
            if lexeme.kind == "NAME":
                place = chunk_start + lexeme.start
                assert hover(program, place) is not None, program.text[place : place + 30]
