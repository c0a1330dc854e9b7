"""Definitions, references, and renaming that keeps what every name means."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.unit.editor.texts import EXAMPLES, SOME, at
from tp_compiler import driver
from tp_compiler.check.names import Seen
from tp_compiler.diagnostics import Source
from tp_compiler.editor.edits import applied
from tp_compiler.editor.navigation import CannotRename, definition, references, renamable, renamed, text_of
from tp_compiler.editor.program import Open


def defined(text: str, path: str = "-") -> str:
    """The file, unless it is the text itself, and the line of the definition from the name on."""
    program, offset = at(text, path)
    found = definition(program, offset)
    assert found is not None
    file, start, _ = found
    line = text_of(program, file)[start:].split("\n")[0]
    return line if file == path else f"{Path(file).name}: {line}"


def new(text: str, name: str) -> str:
    program, offset = at(text)
    return applied(program.text, renamed(program, offset, name))


def refused(text: str, name: str = "fresh") -> str:
    program, offset = at(text)
    with pytest.raises(CannotRename) as problem:
        renamed(program, offset, name)
    return str(problem.value)


def test_definitions() -> None:
    rebound = "ket |x> ~ N(0, 1)\n|y> = 2 * |x>\n|y> = |y> + |x>\noutput <y¦|x>\n"
    assert defined(rebound) == "y> = |y> + |x>"
    assert defined(rebound.replace("<y¦", "<y").replace("= |y>", "= |¦y>")) == "y> = 2 * |x>"
    assert defined("axis i : 2\nket |x[i]> ~ N(0, 1)\noutput k[i] = <x[¦i]>\n") == "i : 2"
    assert defined("axis l : 3\nmatrix A[l] ~ N(0, 1)\nfor l in 1..3 { c = <A[¦l]> }\n") == "l in 1..3 { c = <A[l]> }"
    assert defined(
        "def f(|x>, eps = 1) { return eps * |x> }\nket |u> ~ N(0, 1)\noutput <f(|u>, ¦eps = 2)>\n"
    ).startswith("eps")
    assert defined("output <x¦>\nket |x> ~ N(0, 1)\n") == "x> ~ N(0, 1)"


def test_definitions_in_other_files(tmp_path: Path) -> None:
    assert defined("import layers\nket |x> ~ N(0, 1)\n|y> = layer¦norm(|x>)\n").startswith(
        "layers.nexort: layernorm(|x>"
    )
    assert defined("train steps = 1 { update all with Ad¦am(lr = 0.1) }\n").startswith("optimizers.nexort: Adam(lr")
    assert defined("train steps = 1 { update all with Mu¦on(lr = 0.1) }\n").startswith(
        "matrix_optimizers.nexort: Muon(lr"
    )
    (tmp_path / "inner.nexort").write_text("def g(|x>) { return tanh(|x>) }\n", encoding="utf-8")
    (tmp_path / "blocks.nexort").write_text('import "inner.nexort"\nscale = 2\n', encoding="utf-8")
    path = str(tmp_path / "p.nexort")
    text = 'import "blocks.nexort"\nket |u> ~ N(0, 1)\noutput <g(|u>)> * scale\n'
    assert defined(text.replace("g(", "¦g("), path) == "inner.nexort: g(|x>) { return tanh(|x>) }"
    assert defined(text.replace("* scale", "* sc¦ale"), path) == "blocks.nexort: scale = 2"
    assert defined(text.replace("blocks", "blo¦cks"), path) == 'blocks.nexort: import "inner.nexort"'


def test_files_that_import_each_other_end(tmp_path: Path) -> None:
    (tmp_path / "a.nexort").write_text('import "b.nexort"\nc = 1\n', encoding="utf-8")
    (tmp_path / "b.nexort").write_text('import "a.nexort"\nd = 1\n', encoding="utf-8")
    assert defined('import "a.nexort"\nket |u> ~ N(0, ¦d)\n', str(tmp_path / "p.nexort")) == "b.nexort: d = 1"
    program, offset = at('import "missing.nexort"\nimport nothing\nc = ¦x\n', str(tmp_path / "p.nexort"))
    assert definition(program, offset) is None


def test_imports_bring_what_the_checker_takes(tmp_path: Path) -> None:
    """Not outputs, and nothing of training."""
    loop = "train steps = 1 {\n    loss = <v>^2\n    minimize loss\n    update all with SGD(lr = 1)\n}\n"
    text = f"ket |v> ~ N(0, 1)\nc = 1\n{loop}output k = <v>\n"
    (tmp_path / "a.nexort").write_text(text, encoding="utf-8")
    program = Open(str(tmp_path / "p.nexort"), 'import "a.nexort"\n')
    assert {s.shown for s in program.symbols.top.visible()} == {"|v>", "c"}


def test_references() -> None:
    program, offset = at("ket |¦x> ~ N(0, 1)\nx = 2\n|y> = x * |x>\noutput <x|y>\n")
    assert [program.text[a : a + 3] for a, _ in references(program, offset)] == ["x> ", "x>\n", "x|y"]
    assert len(references(program, offset, declarations=False)) == 2
    program, offset = at("c = 1 ¦+ 2\n")
    assert references(program, offset) == []


def test_renaming() -> None:
    text = "ket |¦x> ~ N(0, 1)\nx = 2\n|y> = x * |x>\noutput <tanh(x)|y>\n"
    assert new(text, "z") == "ket |z> ~ N(0, 1)\nx = 2\n|y> = x * |z>\noutput <tanh(z)|y>\n"
    assert new(text, "|z>") == new(text, "|z⟩") == new(text, "z")
    assert new("def f(|x>, eps = 1) { return ¦eps * |x> }\noutput <f(|1>, eps = 2)>\n", "tol") == (
        "def f(|x>, tol = 1) { return tol * |x> }\noutput <f(|1>, tol = 2)>\n"
    )
    assert new("axis l : 3\nmatrix A[l] ~ N(0, 1)\nfor ¦l in 1..3 { c = trace(A[l]) }\n", "k") == (
        "axis k : 3\nmatrix A[k] ~ N(0, 1)\nfor k in 1..3 { c = trace(A[k]) }\n"
    )
    assert new("ket |¦x> ~ N(0, 1)\n", "x") == "ket |x> ~ N(0, 1)\n"
    assert new("ket |¦é> ~ N(0, 1)\noutput <e\u0301|é>\n", "z") == "ket |z> ~ N(0, 1)\noutput <z|z>\n"


def test_refusals() -> None:
    text = "ket |x> ~ N(0, 1)\nc¦ = 2\nd = 1\noutput <c * x> + d\n"
    assert (
        "not a name" in refused(text, "2c")
        and "not a name" in refused(text, "a b")
        and "not a name" in refused(text, "")
    )
    assert "keyword" in refused(text, "output") and "keyword" in refused(text, "frozen")
    assert (
        "language" in refused(text, "tanh") and "language" in refused(text, "I") and "language" in refused(text, "Adam")
    )
    assert "meaning" in refused(text, "d")
    assert "meaning" in refused(text, "x"), "in a label it would be the ket"
    assert "belongs to the language" in refused("output <ta¦nh(x)>\n")
    assert "layers.nexort" in refused("import layers\nket |x> ~ N(0, 1)\n|y> = layer¦norm(|x>)\n")
    assert "no name" in refused("c = 1 ¦+ 2\n")
    inner = "a = 1\ndef f(|x>) {\n    ¦b = 2\n    return a * b * |x>\n}\n"
    assert "meaning" in refused(inner, "a"), "the body would lose the outer name"
    outer = inner.replace("¦", "").replace("a = 1", "¦a = 1")
    assert "meaning" in refused(outer, "b"), "the outer name would be hidden"
    assert "another parameter" in refused("def f(|q>, c = 1) { return ¦c * |q> }\n", "q")
    used = "c = 1\nket |x> ~ N(0, 1)\n¦e = 2\noutput <undefined * x>\n"
    assert "meaning" in refused(used, "undefined"), "a name that means nothing yet"


#: Added to the examples, so that namespaces, scopes and keywords of calls meet.
SCOPES = """
ket |w> ~ N(0, 1)
shift_by = 3
def wrap(|q>, c = 2) { return c * tanh(|q>) * shift_by }
output extra = <tanh(w) * shift_by|wrap(|w>, c = 1)>
"""


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in EXAMPLES if p.parent.name == "examples"], ids=lambda p: p.stem)
def test_renaming_is_right_or_refused(path: Path) -> None:
    """To names that the program has: after what is not refused, the checker reads every name from the same binding."""
    text = path.read_text(encoding="utf-8") + SCOPES
    program = Open(str(path), text)
    codes, before = _readings(path, text)
    scopes = (program.symbols.top, *program.symbols.bodies)
    symbols = [s for n in scopes for s in (*n.kets.values(), *n.others.values()) if s.home is None and s.places]
    chosen = random.Random(path.stem)
    names = [*chosen.sample(sorted({s.name for s in symbols}), 3), "fresh"]
    for symbol in chosen.sample(symbols, 2):
        for name in names:
            try:
                edits = renamed(program, symbol.places[0].start, name)
            except CannotRename:
                continue
            moved = [(start, len(name) - (end - start)) for start, end, _ in edits]
            wanted = {_after(at, moved): _after(binding, moved) for at, binding in before.items()}
            assert _readings(path, applied(text, edits)) == (codes, wanted), (symbol.shown, name)


def _readings(path: Path, text: str) -> tuple[list[str], dict[int, int]]:
    """The codes of findings, and the places of names that were read, each with that of its binding (-1: elsewhere)."""
    seen = Seen()
    codes = [d.code for d in driver.diagnose(Source(str(path), text), seen=seen)]
    own = {at: binding.span for (source, at), binding in seen.readings.items() if source == str(path)}
    return codes, {at: span.start if span and span.source.name == str(path) else -1 for at, span in own.items()}


def _after(offset: int, moved: list[tuple[int, int]]) -> int:
    return offset + sum(by for start, by in moved if start < offset)


@pytest.mark.parametrize("path", SOME, ids=lambda p: p.stem)
def test_every_name_of_a_program_can_be_renamed(path: Path) -> None:
    """One after the other; what the compiler says of the program, and makes of it, stays the same."""
    text = path.read_text(encoding="utf-8")
    program = Open(str(path), text)
    before = [d.code for d in driver.diagnose(Source(str(path), text))]
    count = 0
    for k in range(len(program.symbols.found)):
        start, _, symbol = program.symbols.found[k]
        if symbol.home is not None or symbol.name.startswith("fresh") or symbol.name == "step":
            continue
        assert renamable(program, start)[0] == start
        program = Open(str(path), applied(program.text, renamed(program, start, f"fresh{count}")))
        count += 1
    bound = {
        s.name for n in (program.symbols.top, *program.symbols.bodies) for s in (*n.kets.values(), *n.others.values())
    }
    assert count > 3 and all(n.startswith("fresh") for n in bound if not _foreign(program, n))
    assert [d.code for d in driver.diagnose(Source(str(path), program.text))] == before


def _foreign(program: Open, name: str) -> bool:
    symbols = program.symbols.top
    return any(s is not None and s.home is not None for s in (symbols.kets.get(name), symbols.others.get(name)))
