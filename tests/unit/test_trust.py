"""What a program that nobody has read may do: read files below its folder, and print nothing that a terminal obeys."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler import cli, terminal
from tp_compiler.diagnostics import Diagnostic, Source, Span, printable
from tp_compiler.report import html, latex, text
from tp_compiler.results import Estimate, Run

DATA = 'axis i : 2\ndata x[i] from "{}"\noutput q = sum[i](x[i])\n'
IMPORT = 'import "{}"\noutput q = c\n'


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A program's folder with a subfolder, and files outside the folder."""
    inside = tmp_path / "inside"
    for folder in (tmp_path, inside, inside / "below"):
        folder.mkdir(exist_ok=True)
        np.save(folder / "x.npy", np.array([1.0, 2.0]))
        (folder / "c.nexort").write_text("c = 3\n")
    (inside / "link.npy").symlink_to(tmp_path / "x.npy")
    (inside / "link.nexort").symlink_to(tmp_path / "c.nexort")
    (inside / "folder").symlink_to(tmp_path)
    (inside / "circle.npy").symlink_to(inside / "circle.npy")
    return inside


def codes(program: Path | str, **options: Any) -> set[str]:
    return {d.code for d in tpc.check(program, **options) if not d.is_warning}


@pytest.mark.parametrize(("form", "name"), [(DATA, "x.npy"), (IMPORT, "c.nexort")])
def test_files_below_the_folder_are_read_and_no_others(folders: Path, form: str, name: str) -> None:
    file = folders / "p.nexort"
    outside = [
        f"../{name}",
        str(folders.parent / name),
        f"folder/{name}",
        f"link{Path(name).suffix}",
        f"below/../../{name}",
    ]
    for path in (name, f"below/{name}", f"./below/../{name}", str(folders / name)):
        file.write_text(form.format(path))
        assert codes(file) == set(), path
    for path in outside:
        file.write_text(form.format(path))
        assert "NX143" in codes(file), path
        assert codes(file, allow_outside=True) == set(), path
        assert cli.main(["check", str(file), "--quiet"]) == 1
        assert cli.main(["check", str(file), "--quiet", "--allow-outside"]) == 0


def test_the_rule_holds_in_what_is_imported(folders: Path) -> None:
    (folders / "below" / "d.nexort").write_text(
        'axis i : 2\ndata x[i] from "../x.npy"\ndata y[i] from "../../x.npy"\nc = 1\n'
    )
    file = folders / "p.nexort"
    file.write_text('import "below/d.nexort"\noutput q = c\n')
    found = [d for d in tpc.check(file) if not d.is_warning]
    assert [d.code for d in found] == ["NX143"] and "../../x.npy" in found[0].message
    assert codes(file, allow_outside=True) == set()


def test_a_program_given_as_text_reads_below_the_working_directory(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders)
    assert codes(DATA.format("below/x.npy")) == set()
    assert codes(DATA.format("../x.npy")) == {"NX143"}
    assert codes(DATA.format("../x.npy"), allow_outside=True) == set()
    assert float(tpc.limit(DATA.format("../x.npy"), allow_outside=True)["q"]) == 3.0
    program = tpc.compile(DATA.format("../x.npy"), allow_outside=True)
    assert float(tpc.limit(program)["q"]) == 3.0 and float(tpc.simulate(program, 2, seeds=2)["q"]) == 3.0


def test_whether_a_file_exists_outside_is_not_told(folders: Path) -> None:
    file = folders / "p.nexort"
    said = []
    for path in ("../x.npy", "../y.npy"):
        file.write_text(DATA.format(path))
        said.append([d.render().replace(path, "") for d in tpc.check(file)])
    assert said[0] == said[1]


@pytest.mark.parametrize("path", ["circle.npy", "x" * 3000 + ".npy", "p.nexort/x.npy", "below", "nowhere/x.npy"])
def test_paths_that_lead_nowhere(folders: Path, path: str) -> None:
    file = folders / "p.nexort"
    file.write_text(DATA.format(path))
    assert codes(file) <= {"NX311", "NX310"} and codes(file)
    file.write_text(IMPORT.format(path))
    assert "NX141" in codes(file)


SECRET = "root:x:0:0:secret\nhunter2\n"


@pytest.mark.parametrize(
    ("name", "content"), [("passwd", SECRET), ("key", "password = hunter2\n"), ("k.nexort", SECRET)]
)
def test_files_that_are_no_programs_are_not_shown(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    file = tmp_path / "p.nexort"
    file.write_text(f'import "{name}"\noutput q = 1\n')
    found = tpc.check(file)
    assert "NX142" in {d.code for d in found}
    assert all("secret" not in d.render() and "hunter2" not in d.render() for d in found)


# ------------------------------------------------------------------------------------------------ control characters
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\u202e\x08\r"


def obeyed(shown: str) -> set[str]:
    return {c for c in shown if not c.isprintable() and c != "\n"}


def test_what_a_terminal_obeys_is_written_out() -> None:
    assert printable("tab\tand\nline") == "tab\\x09and\nline"
    assert printable(HOSTILE).startswith("\\x1b]0;owned\\x07") and "\\u202e" in printable(HOSTILE)
    assert obeyed(printable(HOSTILE)) == set()


def test_messages_and_tables() -> None:
    source = Source(f"{HOSTILE}.nexort", f"output {HOSTILE}\n")
    shown = Diagnostic("NX101", HOSTILE, Span(source, 7, 8), HOSTILE).render()
    assert obeyed(shown) == set() and shown.count("\n") == 4
    assert obeyed(Diagnostic("NX101", HOSTILE, None, HOSTILE).render()) == set()
    value = np.ones((2, 2))
    run = Run(
        HOSTILE,
        "limit",
        {HOSTILE: Estimate(value, value, (HOSTILE, "j"), "qmc")},
        {HOSTILE: Diagnostic("NX500", HOSTILE)},
    )
    assert obeyed(text.run_text(run)) == set()
    assert obeyed(latex.run_latex(run)) == set()


@pytest.mark.parametrize("where", ["comment", "string", "name", "file"])
def test_no_command_prints_them(tmp_path: Path, where: str, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file that is called so, or says so, on a terminal."""
    monkeypatch.setattr(io.TextIOBase, "isatty", lambda self: True, raising=False)
    monkeypatch.setattr(terminal, "_safe", lambda x: "\t".join(map(printable, x.split("\t"))))
    program = {
        "comment": f"# {HOSTILE}\noutput q = 1\n".replace("\r", ""),
        "string": f'axis i : 2\ndata x[i] from "{HOSTILE}.npy"\noutput q = 1\n',
        "name": f"x{HOSTILE} = 1\noutput q = 1\n",
        "file": "output q = 1\n",
    }[where]
    file = tmp_path / (f"{HOSTILE}.nexort".replace("/", "") if where == "file" else "p.nexort")
    file.write_text(program)
    for argv in (["check"], ["limit"], ["expand"], ["show", "--stage", "ast"], ["fmt", "--check"], ["equations"]):
        cli.main([*argv[:1], str(file), *argv[1:]])
        captured = capsys.readouterr()
        assert obeyed(captured.out + captured.err) == set(), argv


def test_program_text_is_printed_as_it_is_into_a_file(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"# \x1b[1mbold\noutput q = 1\n")))
    assert cli.main(["fmt", "-"]) == 0
    assert capsys.readouterr().out == "# \x1b[1mbold\noutput q = 1\n"


def test_names_are_escaped_in_latex_and_html() -> None:
    name = r"<b>&a_{b}^2\input{x}$#%~</b>"
    value = np.ones(2)
    run = Run(name, "limit", {name: Estimate(value, value, ("i_j<",), "qmc")}, {name + "2": Diagnostic("NX500", name)})
    page = html.run_html(run)
    assert "<b>&a" not in page and "&lt;b&gt;&amp;a_" in page and "i_j<" not in page
    shown = latex.run_latex(run).split("%")[0]
    assert r"\input" not in shown and r"\textbackslash{}input\{x\}\$\#" in shown
