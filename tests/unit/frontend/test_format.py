"""The canonical layout: golden pairs, idempotence, meaning and comments kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.frontend.trees import bare, statements
from tp_compiler import driver
from tp_compiler.diagnostics import ProgramError, Source

GOLDEN = Path(__file__).parents[2] / "golden" / "format"
NAMES = sorted(path.name.removesuffix(".in.nexort") for path in GOLDEN.glob("*.in.nexort"))


def layout(text: str, style: str = "keep") -> str:
    return driver.format(Source("p.nexort", text), style=style)


def text_of(name: str) -> str:
    return (GOLDEN / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str) -> None:
    assert layout(text_of(f"{name}.in.nexort")) == text_of(f"{name}.out.nexort")


@pytest.mark.parametrize("style", ["keep", "unicode", "ascii"])
@pytest.mark.parametrize("name", NAMES)
def test_idempotent_and_meaning_kept(name: str, style: str) -> None:
    source = text_of(f"{name}.in.nexort")
    once = layout(source, style)
    assert layout(once, style) == once
    assert bare(statements(once)) == bare(statements(source))


@pytest.mark.parametrize("name", NAMES)
def test_comments_kept_in_order(name: str) -> None:
    def comments(text: str) -> list[str]:
        return [line[line.index("#") :].rstrip() for line in text.splitlines() if "#" in line]

    assert comments(layout(text_of(f"{name}.in.nexort"))) == comments(text_of(f"{name}.in.nexort"))


def test_the_golden_programs_cover_the_syntax() -> None:
    """Every class of the tree occurs, so that a new construct asks for its golden lines."""
    from tp_compiler.frontend import syntax

    def classes(value: object) -> set[str]:
        inner = [x for x in value if isinstance(x, tuple)] if isinstance(value, tuple) else []
        here = {value[0]} if isinstance(value, tuple) and value and isinstance(value[0], str) else set()
        return here.union(*map(classes, inner))

    seen = set().union(*(classes(bare(statements(text_of(f"{name}.in.nexort")))) for name in NAMES))
    abstract = {"Tree", "Expr", "Statement"}
    wanted = {k for k, v in vars(syntax).items() if isinstance(v, type) and issubclass(v, syntax.Tree)} - abstract
    assert wanted <= seen


def test_styles() -> None:
    source = "a = <x|y⟩ + <z| W^T |u> Wᵀ\n".replace("<z| W^T", "<z|W^T").replace(" |u> ", "|u> ")
    assert layout(source) == "a = <x|y⟩ + <z|W^T|u> Wᵀ\n"
    assert layout(source, "unicode") == "a = ⟨x|y⟩ + ⟨z|Wᵀ|u⟩ Wᵀ\n"
    assert layout(source, "ascii") == "a = <x|y> + <z|W^T|u> W^T\n"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", ""),
        ("\n\n# only\n\n\n\n# comments\n\n", "# only\n\n# comments\n"),
        ("a=1;;b=2 # c", "a = 1\nb = 2  # c\n"),
        ("a=1\r\nb=2\r\n", "a = 1\nb = 2\n"),
        ("a = 1 # x\nlong = 2 # y\n", "a = 1     # x\nlong = 2  # y\n"),
        ("for i in 1. .. 2 { a=1 }", "for i in 1. .. 2 { a = 1 }\n"),
        ("for i in 1.. .5 { }", "for i in 1 .. .5 {}\n"),
        ("a = x ^\f T", "a = x^T\n"),
        ("a = ---b + - +c", "a = ---b + -+c\n"),
        ("for i in 1..2 { # c\n\n}", "for i in 1..2 {  # c\n}\n"),
        ("for i in 1..2 {\n\n a=1\n\n}", "for i in 1..2 {\n    a = 1\n}\n"),
        ("for i in 1..2 { a=1\n}; b=2", "for i in 1..2 {\n    a = 1\n}\nb = 2\n"),
        ("e\u0301 = 1", "e\u0301 = 1\n"),
        ("a = 2x 3.5y", "a = 2 x 3.5 y\n"),
        ("a = f(x)(y) (z)", "a = f(x) (y) (z)\n"),
    ],
)
def test_small(written: str, expected: str) -> None:
    assert layout(written) == expected
    assert layout(expected) == expected


def test_a_block_that_does_not_fit_is_broken() -> None:
    long = " + ".join(["averylongname"] * 7)
    assert layout(f"for i in 1..2 {{ a = {long}; b = 2 }}") == f"for i in 1..2 {{\n    a = {long}\n    b = 2\n}}\n"


def test_far_comments_are_not_aligned() -> None:
    text = "a = 1  # " + "x" * 100 + "\nlongername = 222222  # y\n"
    assert layout(text) == text


def test_errors_are_raised() -> None:
    with pytest.raises(ProgramError, match="NX011"):
        layout("a = (1")


def test_show_ast() -> None:
    shown = driver.show(Source("p.nexort", "|h[i]> = W |x> # c\noutput 2"), stage="ast")
    assert shown == (
        "Bind @1:1\n"
        "  targets:\n"
        "    Ket @1:1\n"
        "      label: Name ident='h' primes=0 @1:2\n"
        "        indices:\n"
        "          Name ident='i' indices=None primes=0 @1:4\n"
        "  value:\n"
        "    Product operators=('',) @1:10\n"
        "      factors:\n"
        "        Name ident='W' indices=None primes=0 @1:10\n"
        "        Ket @1:12\n"
        "          label: Name ident='x' indices=None primes=0 @1:13\n"
        "Output target=None @2:1\n"
        "  value: Number text='2' @2:8\n"
    )
