"""Names, statements and scopes of the editor are those of the parser and of the checker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.editor.texts import BAD, EXAMPLES, ROOT, SOME
from tp_compiler import driver
from tp_compiler.check import values as v
from tp_compiler.check.names import Seen
from tp_compiler.diagnostics import Diagnostics, Source
from tp_compiler.editor.chunks import placed, split
from tp_compiler.editor.facts import place_of
from tp_compiler.editor.program import Open
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.parse import parse

SOUND = [*EXAMPLES, *sorted((ROOT / "tp_compiler").rglob("*.nexort")), *sorted(ROOT.glob("tests/golden/*/*.in.nexort"))]


@pytest.mark.parametrize("path", SOUND, ids=lambda p: p.stem)
def test_statements_are_those_of_the_parser(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    whole = parse(Source("-", text), Diagnostics()).statements
    parts = [(at, s) for at, chunk in placed(text) for s in chunk.file.statements]
    assert [(type(s), at + s.span.start, at + s.span.end) for at, s in parts] == [
        (type(s), s.span.start, s.span.end) for s in whole
    ]
    assert all(chunk.sound for _, chunk in placed(text))


@given(st.text(alphabet="|<>()[]{}xW =~,:+#\"\n\r\x0b\u2028é'^@1 .ketdfaxis", max_size=200))
def test_pieces_join_to_the_text(text: str) -> None:
    assert "".join(split(text)) == text
    assert all(split(text))


@pytest.mark.parametrize("path", SOME, ids=lambda p: p.stem)
def test_definitions_are_those_of_the_checker(path: Path) -> None:
    """Every name that the checker read: the editor finds the binding whose value it got, loops apart, whose last turn counts."""
    text = path.read_text(encoding="utf-8")
    seen, program = Seen(), Open(str(path), text)
    driver.diagnose(Source(str(path), text), seen=seen)
    loops = list(_loops(parse(Source("-", text), Diagnostics()).statements))
    compared = 0
    for (source, start), binding in seen.readings.items():
        if source != str(path) or binding.span is None or binding.span.source.name != str(path):
            continue
        found = program.symbols.at(start)
        assert found is not None, text[start : start + 20]
        symbol, place = found
        bindings = [p for p in symbol.bindings if p.start == place_of(symbol.name, binding.span)]
        assert place.start == start and bindings, text[start : start + 20]
        if not any(a <= start < b for a, b in loops) and not isinstance(binding.value, v.Broken):
            before = symbol.binding_before(start)
            assert before in bindings, text[start : start + 20]
        compared += 1
    assert compared > 3


def _loops(statements: tuple[object, ...]) -> Iterator[tuple[int, int]]:
    for s in statements:
        if isinstance(s, ast.For):
            yield s.span.start, s.span.end
        elif isinstance(s, ast.Def | ast.Train):
            yield from _loops(s.body)


def names(text: str) -> dict[str, list[str]]:
    """The symbols that are bound in a text, with the words of their places."""
    symbols = Open("-", text).symbols
    return {
        f"{s.owner}:{s.shown}" if s.owner else s.shown: [text[p.start : p.end] for p in s.places]
        for n in (symbols.top, *symbols.bodies)
        for s in (*n.kets.values(), *n.others.values())
        if s.bindings
    }


def test_kets_and_numbers_have_namespaces_of_their_own() -> None:
    found = names("ket |x> ~ N(0, 1)\nx = 2\n|y> = x |x>\noutput a = <x|y> * x\n")
    assert len(found["|x>"]) == 3 and len(found["x"]) == 3


def test_a_bare_name_in_a_label_is_a_ket_if_there_is_one() -> None:
    found = names("ket |x> ~ N(0, 1)\nc = 2\noutput <c * tanh(x)|x>\n")
    assert len(found["|x>"]) == 3 and len(found["c"]) == 2
    found = names("ket |x> ~ N(0, 1)\nx = 2\noutput <tanh(x)> + tanh(x)\n")
    assert len(found["|x>"]) == len(found["x"]) == 2


def test_parameters_and_locals_of_a_def() -> None:
    text = "axis i : 2\nket |u> ~ N(0, 1)\ndef f(|x[i]>, c = 1) {\n    |u> = c * |x[i]>\n    return |u>\n}\noutput <f(|u>, c = 3)>\n"
    found = names(text)
    assert len(found["f:|u>"]) == 2 and len(found["|u>"]) == 2
    assert len(found["f:c"]) == 3  # the keyword of the call is one of its places
    assert len(found["i"]) == 3


def test_brackets_of_a_def_are_its_own_indices() -> None:
    found = names(
        "axis s : 2\ndef pool[s](|x[s]>) { return mean[s](|x[s]>) }\nket |v[s]> ~ N(0, 1)\noutput <pool[s](|v[s]>)>\n"
    )
    assert len(found["pool:s"]) == 4 and len(found["s"]) == 4


def test_the_body_of_an_optimizer() -> None:
    text = "optimizer H(lr, beta = 0.9) {\n    state m = 0\n    m := beta * m + g\n    return -lr * m\n}\n"
    text += "ket |u> ~ N(0, 1)\ntrain steps = 2 {\n    loss = <u>^2\n    minimize loss\n"
    text += "    update |u> with H(lr = 1, beta = 0)\n}\noutput loss[step]\n"
    found = names(text)
    assert len(found["H:m"]) == 4 and len(found["H:beta"]) == 3 and len(found["H:lr"]) == 3
    assert len(found["loss"]) == 3 and len(found["|u>"]) == 3


def test_loop_variables_and_indices_of_one_name_are_one_symbol() -> None:
    found = names("axis l : 3\nmatrix A[l] ~ N(0, 1)\nket |x> ~ N(0, 1)\nfor l in 1..3 { |x> = A[l] |x> }\n")
    assert len(found["l"]) == 4


def test_functions_of_the_program() -> None:
    found = names("fn f(z, w) = z * w\nket |x> ~ N(0, 1)\noutput <f(x, 2)>\n")
    assert len(found["f:z"]) == 2 and len(found["f"]) == 2


def test_comments_inside_statements() -> None:
    found = names(
        "fn f(z,  # w is the other\n     w) = z * w\nwidth m = 4\nmatrix R :  # m x n\n    m x n ~ N(0, 1)\noutput <f(1, 2)>\n"
    )
    assert found["f:w"] == ["w", "w"] and found["m"] == ["m", "m"]


def test_widths() -> None:
    found = names("width m = 4\nket |q> : m ~ N(0, 1)\nmatrix R : m x n ~ N(0, 1)\noutput <q|R|(R^T |q>)>\n")
    assert len(found["m"]) == 3


def test_normal_forms_are_one_name() -> None:
    composed, apart = "é", "e\u0301"
    assert names(f"ket |{composed}> ~ N(0, 1)\noutput <{apart}>\n")[f"|{composed}>"] == [composed, apart]


# -- statements that are being written ------------------------------------------------------------------------------
def test_names_of_statements_with_mistakes() -> None:
    found = names("ket |x> ~ N(0, \nmatrix W ~ N(0, 1)\n|y> = W |x\n|z> = W |y>\nc = (1 + \noutput <z|y>\n")
    assert {"|x>", "W", "|y>", "|z>", "c"} <= set(found)
    assert len(found["|y>"]) == 3 and len(found["W"]) == 3


def test_a_block_that_is_not_closed_hides_nothing_below() -> None:
    found = names("def f(|x>) {\n    |y> = tanh(|x>)\n\nmatrix W ~ N(0, 1)\nket |u> ~ N(0, 1)\noutput <u|W|u>\n")
    assert {"f", "W", "|u>"} <= set(found)
    assert len(found["|u>"]) == 3


def test_a_bracket_that_is_not_closed_hides_nothing_below() -> None:
    found = names("c = f(1,\nket |u> ~ N(0, 1)\nmatrix W ~ N(0, 1)\n|y> = W |u>\noutput <y>\n")
    assert {"W", "|u>", "|y>"} <= set(found) and len(found["|y>"]) == 2


def test_mistakes_end_with_their_statement() -> None:
    """Otherwise a letter typed in a large file would cost what follows it."""
    block = "def f(|x>) {\n    c = (1 +\n    return |x>\n}\n"
    assert split(block + "|y> = 2 * |1>\n") == [block, "|y> = 2 * |1>\n"]
    lines = ["c = f(1,\n", "ket |u> ~ N(0, 1)\n", "|y> = |u>\n"]
    assert split("".join(lines)) == lines
    lines = ["def f(|x>) {  # {\n", "    |y> = |x>\n", "\nmatrix W ~ N(0, 1)\n"]
    assert split("".join(lines)) == lines


@pytest.mark.parametrize("path", sorted(BAD.glob("*.nexort")), ids=lambda p: p.stem)
def test_programs_with_mistakes_have_names(path: Path) -> None:
    text = path.read_bytes().decode("utf-8", "replace")
    symbols = Open(str(path), text).symbols
    assert all(text[a:b] for a, b, _ in symbols.found)
    assert [a for a, _, _ in symbols.found] == sorted({a for a, _, _ in symbols.found}), "one symbol for each place"
