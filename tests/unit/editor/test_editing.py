"""Quick fixes, formatting, the outline and colours, also of programs that are being written."""

from __future__ import annotations

import pickle
import re
from copy import copy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.editor.texts import BAD, EXAMPLES, checked
from tp_compiler import driver
from tp_compiler.check.hints import hint
from tp_compiler.diagnostics import Source, Suggestion, suggest
from tp_compiler.editor import colours
from tp_compiler.editor.checking import as_line, from_line, report
from tp_compiler.editor.completion import completions, signature
from tp_compiler.editor.edits import applied, difference, fixes
from tp_compiler.editor.hover import hover
from tp_compiler.editor.navigation import CannotRename, definition, references, renamed
from tp_compiler.editor.outline import OutlineEntry, outline
from tp_compiler.editor.positions import TextLines
from tp_compiler.editor.program import Open

TEXTS = [path.read_text(encoding="utf-8") for path in EXAMPLES]
MEANT = [
    path
    for path in sorted(BAD.glob("*.txt"))
    if re.search(r"did you mean|write `import layers` at the top", path.read_text(encoding="utf-8"))
    and "no readable place" not in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("path", MEANT, ids=lambda p: p.stem)
def test_what_was_meant_is_a_quick_fix(path: Path) -> None:
    """After the fix the finding is gone; the next use of the same word may be reported."""
    name = str(path.with_suffix(".nexort"))
    program = checked(name, Path(name).read_text(encoding="utf-8"))
    assert program.checked is not None
    findings = [
        f for f in program.checked[0].findings if f.remedy.startswith(("did you mean", "write `import layers`"))
    ]
    assert findings
    for finding in findings:
        found = [x for x in fixes(program, finding.start, finding.end) if x.finding == finding]
        assert len(found) == 1
        after = report(applied(program.text, found[0].edits), name)
        assert (finding.code, finding.start, finding.written) not in [
            (f.code, f.start, f.written) for f in after.findings
        ]


def test_there_are_such_programs() -> None:
    assert len(MEANT) >= 12


def test_suggestions_can_be_copied() -> None:
    for suggestion in (suggest("tanx", ["tan"]), hint("LayerNorm", [])):
        assert isinstance(suggestion, Suggestion)
        same = pickle.loads(pickle.dumps(suggestion))
        assert same == suggestion and vars(same) == vars(suggestion) and vars(copy(suggestion)) == vars(suggestion)


def test_imports_are_added_below_the_head() -> None:
    text = "# What it is.\n# verify: no\n\nnexort 1\n\n# kets\nket |x> ~ N(0, 1)\noutput <LayerNorm(|x>)>\n"
    program = checked("-", text)
    (fix,) = fixes(program, text.index("LayerNorm"), text.index("LayerNorm"))
    assert fix.title == "Add `import layers`"
    after = applied(text, fix.edits)
    assert "nexort 1\n\nimport layers\n# kets\n" in after and "<layernorm(|x>)>" in after
    assert report(after, "-").findings == ()


def test_fixes_are_those_of_this_text_and_place() -> None:
    program = checked("-", "ket |x> ~ N(0, 1)\noutput <x|y>\noutput <x|tanx(x)>\n")
    place = program.text.index("tanx")
    assert [x.title for x in fixes(program, place, place)] == ["Change `tanx` to `tan`"]
    assert fixes(program, 0, 3) == []
    assert fixes(program.edited(program.text + "\n"), place, place) == []


def test_reports_survive_the_way_between_processes() -> None:
    found = report("ket |x> ~ N(0, 1)\n|y⟩ = tanh(|x>)\noutput <x|why>\n", "-")
    assert found.findings and found.facts and from_line(as_line(found)) == found


def test_findings_in_imported_files_are_shown_at_the_import(tmp_path: Path) -> None:
    (tmp_path / "blocks.nexort").write_text("c = 1\ndef f(|x>) { return undefined * |x> }\n", encoding="utf-8")
    text = '# head\nimport "blocks.nexort"\nket |x> ~ N(0, 1)\noutput <x>\n'
    (finding,) = report(text, str(tmp_path / "p.nexort")).findings
    assert text[finding.start : finding.end] == 'import "blocks.nexort"'
    assert "blocks.nexort:2:" in finding.message and finding.code == "NX101"


# -- outline --------------------------------------------------------------------------------------------------------
def shown(entries: tuple[OutlineEntry, ...] | list[OutlineEntry]) -> list[object]:
    return [(e.name, shown(e.inside)) if e.inside else e.name for e in entries]


def test_outline() -> None:
    text = """axis i : 2
ket |u> ~ N(0, 1)
def net(|x>, a = 1) {
    |h> = a * |x>
    return <u|h>
}
train steps = 3 {
    loss = net(|u>)^2
    minimize loss
    update all with SGD(lr = 0.1)
}
output loss[step]
output k[i] = <u> * i
output <u|u>
"""
    assert shown(outline(Open("-", text))) == [
        "i",
        "|u>",
        ("net", ["|x>", "a", "|h>"]),
        ("train", ["loss", "minimize loss", "update all with SGD(lr = 0.1)"]),
        "loss[step]",
        "k",
        "<u|u>",
    ]


def test_outline_of_a_text_that_is_being_written() -> None:
    text = "axis i : 2\nket |u> ~ N(0, \nmatrix W ~ N(0, 1)\ndef f(|x>) {\n    return\noutput <u|W|u>\n"
    assert shown(outline(Open("-", text))) == ["i", "|u>", "W", ("f", ["|x>"]), "<u|W|u>"]


# -- every service answers whatever is written ----------------------------------------------------------------------
@given(
    st.sampled_from(TEXTS), st.floats(0, 1), st.integers(0, 40), st.text(alphabet='|<>()[]{}xW =~"#,.\n', max_size=8)
)
def test_services_answer_on_half_written_programs(text: str, at: float, length: int, inserted: str) -> None:
    start = int(at * len(text))
    program = Open("-", text[:start] + inserted + text[start + length :])
    place = start + len(inserted)
    hover(program, place)
    definition(program, place)
    references(program, place)
    completions(program, place)
    signature(program, place)
    for entry in outline(program):
        assert 0 <= entry.start <= entry.at[0] <= entry.at[1] <= entry.end <= len(program.text)
    assert len(colours.semantic_tokens(program.symbols.chunks)) % 5 == 0
    try:
        edits = renamed(program, place, "fresh")
    except CannotRename:
        return
    assert "fresh" in applied(program.text, edits)


# -- texts and places -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
@given(st.text(alphabet="aé⟩𝔼\n|", max_size=60))
def test_places(encoding: str, text: str) -> None:
    lines = TextLines(text, encoding)
    units = {"utf-8": 1, "utf-16": 2, "utf-32": 4}[encoding]
    for offset in range(len(text) + 1):
        line, column = lines.place(offset)
        before = text[:offset].rpartition("\n")[2]
        assert line == text[:offset].count("\n")
        assert (
            column == len(before.encode("utf-16-le" if units == 2 else "utf-32-le" if units == 4 else "utf-8")) // units
        )
        assert lines.offset(line, column) == offset
    assert lines.offset(10**6, 3) == len(text) and lines.offset(0, 10**6) == len(text.split("\n")[0])


@given(st.text(alphabet="ab\n", max_size=40), st.text(alphabet="ab\n", max_size=40))
def test_the_difference_of_two_texts(old: str, new: str) -> None:
    assert applied(old, difference(old, new)) == new


def test_formatting_changes_few_lines() -> None:
    text = "ket |x> ~ N(0, 1)\nket   |y> ~ N(0,1)\noutput <x|y>\n"
    ((start, end, new),) = difference(text, driver.format(Source("-", text)))
    assert text[start:end] == "ket   |y> ~ N(0,1)\n" and new == "ket |y> ~ N(0, 1)\n"


def test_semantic_tokens() -> None:
    text = "# é\nket |x⟩ ~ N(0, 1)\n\noutput <tanh(x)>  # 𝔼\n"
    data = colours.semantic_tokens(Open("-", text).symbols.chunks)
    lines, line, column, found = text.split("\n"), 0, 0, []
    for k in range(0, len(data), 5):
        moved, by, length, kind, _ = data[k : k + 5]
        line, column = line + moved, by if moved else column + by
        units = lines[line].encode("utf-16-le")[2 * column : 2 * (column + length)]
        found.append((units.decode("utf-16-le"), colours.TYPES[kind]))
    assert found[:5] == [
        ("# é", "comment"),
        ("ket", "keyword"),
        ("|", "operator"),
        ("x", "variable"),
        ("⟩", "operator"),
    ]
    assert found[-4:] == [("x", "variable"), (">", "operator"), ("# 𝔼", "comment")][-4:] or found[-1] == (
        "# 𝔼",
        "comment",
    )
    assert ("tanh", "function") in found and ("output", "keyword") in found
