"""Every code is explained, and what is said is so: each example that breaks the rule raises that code alone, and the other
example passes."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler import cli
from tp_compiler.explanation import Explanation, catalogue, codes

CODE = re.compile(r"NX\d{3}")
ALL = {e.code: e for section in catalogue().sections for e in section.entries}
#: What no small example shows, each with its reason in `shown`.
NOT_SHOWN = {
    "NX018",
    "NX436",
    "NX437",
    "NX438",
    "NX439",
    "NX500",
    "NX503",
    "NX800",
    "NX911",
    "NX914",
    "NX915",
    "NX916",
    "NX932",
    "NX934",
    "NX935",
    "NX936",
}
#: Examples that take more than a second or so.
SLOW = {"NX133", "NX417", "NX418", "NX912", "NX931", "NX933"}
#: What is found together with a code, of necessity: where memory ends before the tolerance is met, it is not met.
TOGETHER = {"NX912": {"NX913"}}


def test_every_code_has_one_entry() -> None:
    assert sorted(codes()) == sorted(ALL)


def _missing(e: Explanation) -> Iterator[str]:
    if not (e.what and e.why and (e.remedy or e.shown)):
        yield "what, remedy and why"
    if not (e.code in NOT_SHOWN) == bool(e.shown) == (not e.bad) == (not e.good):
        yield "examples, or the reason why there are none"
    if e.bad == e.good != "":
        yield "an example that is right"
    if any("\n" in line or re.search(r"[^.]\.$", line) for line in (e.what, e.remedy)):
        yield "one line without a full stop"
    if not e.why.rstrip().endswith(".") or len(e.why.split()) > 90:
        yield "a few sentences"


def test_every_explanation_is_complete() -> None:
    assert {code: [*_missing(e)] for code, e in ALL.items() if [*_missing(e)]} == {}


def _marks(e: Explanation) -> list[pytest.MarkDecorator]:
    return [pytest.mark.torch] if e.code.startswith("NX7") else [pytest.mark.slow] if e.code in SLOW else []


EXAMPLES = [
    pytest.param(ALL[code], which, id=f"{code}-{which}", marks=_marks(ALL[code]))
    for code in ALL
    for which in ("bad", "good")
    if code not in NOT_SHOWN
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that examples read."""
    folder = tmp_path_factory.mktemp("files")
    assert cli.main(["new", "mlp", "--output", str(folder / "mlp.nexort"), "--quiet"]) == 0
    (folder / "blocks.nexort").write_text("def half(|x>) { return |x> / 2 }\n", encoding="utf-8")
    rng = np.random.default_rng(0)
    points = rng.normal(size=(4, 3))
    np.save(folder / "points.npy", points)
    np.savez(folder / "points.npz", train=points, test=points[:2])
    np.savetxt(folder / "points.csv", points, delimiter=",")
    np.savetxt(folder / "points.txt", points)
    np.save(folder / "inputs.npy", points[:3, :2])
    np.save(folder / "complex.npy", points[:, 0] * 1j)
    np.save(folder / "empty.npy", points[:0])
    np.save(folder / "objects.npy", np.array([1, "a", None], dtype=object), allow_pickle=True)
    return folder


def enter(e: Explanation, files: Path, request: pytest.FixtureRequest) -> Path:
    """Programs only read; commands and Python also write, each in its own folder."""
    if e.language == "nexort":
        return files
    own: Path = request.getfixturevalue("tmp_path")
    return shutil.copytree(files, own, dirs_exist_ok=True)


def _commands(e: Explanation, example: str) -> Iterator[list[str]]:
    if e.language == "console":
        for line in example.splitlines():
            if line.startswith("$ tpc "):
                yield shlex.split(line.removeprefix("$ tpc "))
    else:
        Path("program.nexort").write_text(example, encoding="utf-8")
        command, *options = shlex.split(e.command)
        yield [command, "program.nexort", *options]


def found(e: Explanation, example: str, capsys: Any) -> tuple[list[str], int]:
    """The codes that an example raises, and the exit code."""
    if e.language == "python":
        try:
            exec(compile(example, "example.py", "exec"), {"tpc": tpc})
        except tpc.ProgramError as problem:
            return [d.code for d in problem.diagnostics], 1
        return [], 0
    status = 0
    for command in _commands(e, example):
        status = max(status, cli.main(command))
    said = capsys.readouterr().err
    return re.findall(r"(?:error|warning)\[(NX\d{3})\]", said), status


@pytest.mark.parametrize(("e", "which"), EXAMPLES)
def test_examples_are_as_said(
    e: Explanation,
    which: str,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.chdir(enter(e, files, request))
    raised, status = found(e, e.bad if which == "bad" else e.good, capsys)
    assert raised[:1] == ([e.code] if which == "bad" else [])
    assert set(raised) - TOGETHER.get(e.code, set()) <= {e.code}
    assert bool(status) == (which == "bad" and not e.is_warning)


@pytest.mark.slow
@pytest.mark.parametrize(
    "code", [e.code for e in ALL.values() if e.good and (e.language, e.command) == ("nexort", "check")]
)
def test_what_is_accepted_has_a_limit(code: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    run = tpc.limit(ALL[code].good, samples=64)
    assert not run.failed, run.failed


# -- the command and the record --------------------------------------------------------------------------------------
def test_codes_may_be_written_shortly(capsys: Any) -> None:
    assert cli.main(["explain", "226", "nx101", "NX030", "30"]) == 0
    out, err = capsys.readouterr()
    assert not err and "\x1b" not in out
    assert [line[:5] for line in out.splitlines() if CODE.match(line)] == ["NX226", "NX101", "NX030", "NX030"]
    assert "Refused (tpc check):\n    axis i : 3\n" in out and max(map(len, out.splitlines())) <= 88


def test_without_codes_there_is_a_list(capsys: Any) -> None:
    assert cli.main(["explain"]) == 0
    out = capsys.readouterr().out
    assert sorted(CODE.findall(out)) == sorted(ALL) and "\nTraining\n" in out
    assert cli.main(["explain", "--json"]) == 0
    sections = json.loads(capsys.readouterr().out)["sections"]
    assert sorted(entry["code"] for entries in sections.values() for entry in entries) == sorted(ALL)


def test_json_has_everything(capsys: Any) -> None:
    assert cli.main(["explain", "NX226", "NX104", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "explain"
    assert document["explanations"] == [ALL["NX226"].to_json(), ALL["NX104"].to_json()]
    assert document["explanations"][1]["language"] == "console"


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("NX2260", "did you mean NX226?"), ("NX999", "did you mean NX9"), ("NX", "lists them"), ("axis", "lists them")],
)
def test_an_unknown_code(wrong: str, meant: str, capsys: Any) -> None:
    assert cli.main(["explain", "NX226", wrong]) == 2
    out, err = capsys.readouterr()
    assert not out and meant in err and "more:" not in err
    with pytest.raises(ValueError, match=re.escape(meant)):
        tpc.explain(wrong)


def test_the_record() -> None:
    found = tpc.explain("nx226")
    assert found == tpc.explain(226) == ALL["NX226"] and not found.is_warning and tpc.explain(901).is_warning
    assert repr(found) == "<NX226: an index of another axis>" and str(found).startswith(
        "NX226: an index of another axis\n\n"
    )
    assert found.markdown().startswith("## NX226\n\nAn index of another axis.\n\n")
    assert repr(tpc.explain()) == f"<{len(ALL)} codes in {len(catalogue().sections)} sections>"
    page = found._repr_html_() or ""
    assert "<pre>" in page and "&gt;" in tpc.explain("NX014")._repr_html_()


def test_latex_outside_programs_is_ascii() -> None:
    for code, e in ALL.items():
        prose = re.sub(r"\\begin\{verbatim\}.*?\\end\{verbatim\}", "", e._repr_latex_() or "", flags=re.DOTALL)
        assert prose.isascii() and prose.count("{") == prose.count("}"), code


def test_a_terminal_has_colours(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert cli.main(["explain", "NX226"]) == 0
    out = capsys.readouterr().out
    assert "\x1b[" in out
    assert re.sub(r"\x1b\[[0-9;]*m", "", out) == f"{tpc.explain('NX226')}\n"


def test_standard_output_may_be_closed(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("sys.stdout", None)
    assert cli.main(["explain", "NX226"]) == 2
    assert "cannot write to standard output" in capsys.readouterr().err


# -- the last line of what is said about errors ----------------------------------------------------------------------
def last(capsys: Any) -> str:
    said: str = capsys.readouterr().err
    assert said.count("more: tpc explain") <= 1
    return said.splitlines()[-1] if said else ""


def test_errors_end_with_the_command_that_says_more(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "program.nexort"
    file.write_text("output a\noutput b\noutput <c|d>\n", encoding="utf-8")
    for command in ("check", "limit", "scale"):
        assert cli.main([command, str(file)]) == 1 and last(capsys) == "= more: tpc explain NX101 NX102"
    assert cli.main(["check", str(file), str(tmp_path / "nowhere")]) == 1
    assert last(capsys) == "= more: tpc explain NX101 NX102 NX001"
    for quiet in ("--quiet", "--json"):
        assert cli.main(["check", str(file), quiet]) == 1 and "more:" not in last(capsys)


def test_outputs_that_fail_count_and_warnings_do_not(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "program.nexort"
    file.write_text("ket |x> ~ N(0, 1)\noutput <1 / x^2>\noutput <log(x)>\n", encoding="utf-8")
    assert cli.main(["limit", str(file), "--samples", "64"]) == 3
    assert last(capsys).startswith("= more: tpc explain NX4")
    file.write_text("ket |x> ~ N(0, 1)\n", encoding="utf-8")
    assert cli.main(["check", str(file)]) == 0 and "more:" not in last(capsys)
