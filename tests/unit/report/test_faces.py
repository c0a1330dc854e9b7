"""What notebooks and terminals show of every record: text, HTML and LaTeX, with everything escaped."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import tp_compiler as tpc
from tp_compiler.diagnostics import Source
from tp_compiler.pages import PAGES, Shown

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
PROGRAM = """# a <b>bold</b> & \\end{verbatim} $5_000$ program, \x1b[31mred
axis i, j : 2
data xi[i] = [1, -2]
ket |u> ~ N(0, 1)
matrix W ~ N(0, 2)
ket |v> ~ N(0, 1)
|x[i]> = W tanh(xi[i] |u>)
output k[i,j] = <x[i]|x[j]>
output f[i] = clt <v|x[i]>
"""
SOURCE = Source("<img src=x>&_%.nexort", PROGRAM)
WRONG = Source("<img src=x>&_%.nexort", "output <b|x>\noutput <script>\n")


def _error() -> tpc.ProgramError:
    with pytest.raises(tpc.ProgramError) as caught:
        tpc.compile(WRONG)
    return caught.value


RECORDS: dict[str, Callable[[], Any]] = {
    "Run": lambda: tpc.limit(SOURCE, samples=64, method="qmc"),
    "simulation": lambda: tpc.simulate(SOURCE, 16, seeds=2),
    "System": lambda: tpc.equations(SOURCE),
    "Equation": lambda: tpc.equations(SOURCE)["x"],
    "Scaling": lambda: tpc.scale(SOURCE),
    "Verification": lambda: tpc.verify(SOURCE, widths=(16, 32), seeds=2, samples=64, method="qmc"),
    "Compiled": lambda: tpc.compile(SOURCE),
    "ProgramError": _error,
}


@pytest.fixture(scope="module")
def records() -> dict[str, Any]:
    return {name: make() for name, make in RECORDS.items()}


class Reader(HTMLParser):
    """Elements that are opened and closed, and the text between them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.said = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert not reader.open
    return reader


@pytest.mark.parametrize("name", RECORDS)
def test_every_record_has_its_faces(records: dict[str, Any], name: str) -> None:
    record = records[name]
    assert isinstance(record, Shown)
    assert len(str(record)) > 20 and "object at" not in repr(record)
    assert record._repr_latex_()
    assert (record._repr_html_() is None) == (name in ("System", "Equation"))  # JupyterLab would prefer it


@pytest.mark.parametrize("name", RECORDS)
def test_nothing_of_a_program_is_obeyed(records: dict[str, Any], name: str) -> None:
    record = records[name]
    assert "\x1b" not in str(record) and "\x1b" not in repr(record).encode().decode("unicode_escape")
    page = record._repr_html_()
    if page is None:
        return
    found = read(page)
    assert not found.seen & {"img", "script"}
    assert "\x1b" not in page
    if name != "Verification":
        assert "<img src=x>" in found.said
    if name == "Compiled":
        assert "<b>bold</b> & \\end{verbatim}" in found.said


def environments(tex: str) -> Iterator[str]:
    """The text outside `verbatim`, which holds anything but its end."""
    while tex:
        before, begun, rest = tex.partition(r"\begin{verbatim}")
        yield before
        _, ended, tex = rest.partition("\n\\end{verbatim}\n")
        assert bool(begun) == bool(ended)


@pytest.mark.parametrize("name", RECORDS)
def test_latex_is_balanced_and_in_ascii(records: dict[str, Any], name: str) -> None:
    for part in environments(records[name]._repr_latex_()):
        assert part.isascii()
        assert part.count("{") == part.count("}") and part.count("$") % 2 == 0
        assert part.count(r"\begin{") == part.count(r"\end{")
        assert "img src=x>&" not in part and "_%" not in part.replace(r"\_\%", "")


def test_equations_are_formulas_with_their_notes(records: dict[str, Any]) -> None:
    tex = records["System"]._repr_latex_()
    assert tex.count("$$\\begin{aligned}") == 1 and r"\widehat{W}" in tex
    assert tex.startswith("Hats of one matrix") and "of clt are jointly Gaussian" in tex
    assert records["Equation"]._repr_latex_().count(r"\operatorname{Cov}(\widehat{W}|") > 1


@pytest.mark.parametrize("name", ["train_resnet", "scale_tied"])
def test_long_systems_are_parts_that_mathjax_reads(name: str) -> None:
    """It stops at 5 KiB ("internal buffer size exceeded"); nothing is lost between the parts."""
    system = tpc.equations(str(EXAMPLES / f"{name}.nexort"))
    tex = system._repr_latex_() or ""
    displays = re.findall(r"\$\$(.*?)\$\$", tex, re.DOTALL)
    assert len(displays) > 1 and max(map(len, displays)) < 5 * 1024
    rows = [r.strip() for d in displays for r in d.splitlines() if r.lstrip().startswith("&")]
    assert sum("\\quad" not in r[:7] for r in rows) >= len(system)
    assert all(d.count("{") == d.count("}") for d in displays)


def test_one_name_for_equations() -> None:
    importlib.import_module("tp_compiler.equations.terms")  # the room, which has the same name
    assert tpc.equations is tpc.derive and callable(tpc.equations)


def test_an_error_is_its_source_and_carets(records: dict[str, Any]) -> None:
    error = records["ProgramError"]
    lines = error._render_traceback_()
    assert "\n".join(lines) == str(error)
    assert "1 | output <b|x>" in lines and "  |         ^" in lines
    assert not any("Traceback" in line or ".py" in line for line in lines)


def test_every_face_is_one_of_a_known_record() -> None:
    assert {name for name in RECORDS if name != "simulation"} <= set(PAGES)


# -- in IPython ------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_ipython_shows_the_error_alone() -> None:
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell()
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        shell.run_cell("import tp_compiler as tpc\ntpc.limit('ket |x> ~ N(0, 1)\\noutput <y|x>\\n')")
    lines = shown.getvalue().strip().splitlines()
    assert lines[0].startswith("<text>:2:9: error[NX102]: there is no ket `|y>`")
    assert lines[1:4] == ["  |", "2 | output <y|x>", "  |         ^"] and len(lines) <= 5


@pytest.mark.slow
def test_ipython_prefers_the_faces(records: dict[str, Any]) -> None:
    formatter = pytest.importorskip("IPython.core.formatters").DisplayFormatter()
    for name, record in records.items():
        found, _ = formatter.format(record)
        html = set() if name in ("System", "Equation") else {"text/html"}
        assert set(found) == {"text/plain", "text/latex"} | html, name
        assert found["text/plain"] == str(record)


@pytest.mark.slow
def test_a_notebook() -> None:
    """A kernel sends equations as LaTeX alone, and an error as the lines of its source."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    start = "import tp_compiler as tpc\ntext = 'ket |x> ~ N(0, 1)\\noutput k = <tanh(x)|x>'\n"
    cells = [start + f"tpc.{call}" for call in ("equations(text)", "limit(text)", "limit('output <y|y>')")]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    nbclient.NotebookClient(book, allow_errors=True, timeout=None).execute()
    equations, limit, error = (cell["outputs"][-1] for cell in book.cells)
    assert set(equations["data"]) == {"text/plain", "text/latex"}
    assert set(limit["data"]) == {"text/plain", "text/html", "text/latex"}
    assert error["ename"] == "ProgramError" and len(error["traceback"]) <= 5
    assert error["traceback"][2:4] == ["1 | output <y|y>", "  |         ^"]
