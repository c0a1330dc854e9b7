"""Pieces of text: precedence, signs, numbers, long lines."""

from __future__ import annotations

import math

import pytest

from tests.unit.frontend.trees import expression
from tp_compiler.expand.text import (
    PRODUCT,
    SUM,
    Piece,
    added,
    divided,
    label,
    multiplied,
    number,
    raised,
    signed,
    wrapped,
)  # fmt: skip

A, B = Piece("a"), Piece("b")
X, Y = Piece("|x>", ket=True), Piece("|y>", ket=True)
APPLIED = Piece("W |x>", PRODUCT, True, True)


@pytest.mark.parametrize(
    ("piece", "text"),
    [
        (added([(False, A), (True, B)]), "a - b"),
        (added([(True, added([(False, A), (False, B)]))]), "-(a + b)"),
        (multiplied([A, B]), "a * b"),
        (multiplied([A, X]), "a |x>"),
        (multiplied([X, Y]), "|x> * |y>"),
        (multiplied([A, B, X, Y]), "a * b |x> * |y>"),
        (multiplied([A, APPLIED]), "a W |x>"),
        (multiplied([APPLIED, Y]), "(W |x>) * |y>"),
        (multiplied([Y, APPLIED]), "|y> * (W |x>)"),
        (multiplied([A, divided(A, B)]), "a * (a / b)"),
        (divided(multiplied([A, B]), multiplied([A, B])), "a * b / (a * b)"),
        (raised(added([(False, A), (False, B)]), (True, Piece("1/2", PRODUCT))), "(a + b)^-(1/2)"),
    ],
)
def test_precedence(piece: Piece, text: str) -> None:
    assert piece.text == text
    expression(text)  # parses


def test_labels_take_parentheses_around_bras_kets_and_signs() -> None:
    assert label(Piece("a + b", SUM)) == "a + b"
    assert label(Piece("tanh(|x>)")) == "tanh(|x>)"
    assert label(Piece("-a")) == "(-a)"
    assert label(APPLIED) == "(W |x>)"
    assert label(Piece("a * <x|y>", PRODUCT)) == "(a * <x|y>)"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.0, "2"), (-0.5, "-0.5"), (1 / 3, "1/3"), (-2 / 7, "-2/7"), (math.sqrt(2), "sqrt(2)"),
        (1 / math.sqrt(3), "1 / sqrt(3)"), (1e-5, "1e-5"), (1e300, "1e+300"), (0.1 + 0.2, "0.30000000000000004"),
        (math.pi, "3.141592653589793"), (1e16, "1e+16"), (-1e9, "-1000000000"),
    ],
)  # fmt: skip
def test_numbers_are_the_very_same_double(value: float, text: str) -> None:
    assert signed(number(value)).text == text


def test_long_lines_are_broken_outside_brackets_first() -> None:
    line = "    output k[i,j] = " + " + ".join(["<tanh(x[i])|tanh(x[j]) + y[j]>"] * 8)
    parts = wrapped(line).split("\n")
    assert all(len(p) <= 120 for p in parts) and len(parts) > 1
    assert all(p.endswith(" +") for p in parts[:-1])
    assert " ".join(p.strip() for p in parts) == line.strip()
