"""Programs in the documentation are programs: every ```nexort block passes `check`."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import tp_compiler
from tp_compiler.explanation import codes

ROOT = Path(__file__).resolve().parents[1]
#: Pages that are written by hand; those of the gallery are made by the build, and tests/unit/test_explanation.py reads errors/.
PAGES = sorted(
    path
    for path in (ROOT / "docs").rglob("*.md")
    if path.relative_to(ROOT).parts[1] not in ("gallery", "_build", "errors")
)
BLOCK = re.compile(r"^```nexort\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(found[1], id=f"{path.name}:{path.read_text(encoding='utf-8')[: found.start()].count(chr(10)) + 1}")
    for path in PAGES
    for found in BLOCK.finditer(path.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("text", BLOCKS)
def test_block_checks(text):
    assert [d.render() for d in tp_compiler.check(text)] == []


@pytest.mark.parametrize("text", BLOCKS)
def test_block_has_a_limit(text):
    """Everything documented also runs, except for constructs that this version only checks."""
    run = tp_compiler.limit(text, samples=64)
    assert {d.code for d in run.failed.values()} <= {"NX441", "NX500"}, run.failed


def test_there_are_blocks_for_the_language_and_the_mathematics():
    names = {param.id.split(":")[0] for param in BLOCKS}
    assert {"language.md", "mathematics.md"} <= names


#: Pages with Python: what runs before their first block, and what they need.
PYTHON = {
    "language.md": ("", ()),
    "kernels.md": ("", ()),
    "results.md": (
        "import tp_compiler as tpc\nrun = tpc.limit('examples/train_mlp.nexort', samples=64)\n",
        ("xarray", "pandas"),
    ),
    "pictures.md": ("", ("matplotlib",)),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if needs else ()) for n, (_, needs) in PYTHON.items()]
)
def test_python_in_the_documentation_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, needs = PYTHON[name]
    for library in needs:
        pytest.importorskip(library)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    blocks = python(name)
    assert blocks
    found: dict[str, object] = {}
    exec("".join([before, *blocks]), found)


def test_every_page_with_python_is_run():
    """Pages that are notebooks are run by the build of the site, docs/torch.md with the tests that need PyTorch,
    howto/many_machines.md with those that need a cluster (tests/unit/test_cluster.py)."""
    pages = {path.name for path in PAGES if python(path.relative_to(ROOT / "docs").as_posix())}
    assert pages - {"torch.md", "tutorial.md", "many_machines.md"} == set(PYTHON)


def python(name: str) -> list[str]:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_every_page_is_in_the_contents():
    """The site's build is slow; a page that it would not show is found here."""
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = set(
        re.findall(r"^[\w/]+$", "".join(re.findall(r"```{toctree}\n(.*?)```", index, re.DOTALL)), re.MULTILINE)
    )
    pages = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in PAGES}
    assert {page for page in pages if not page.startswith(("errors/", "paper/"))} == listed - {"gallery/index"} | {
        "index"
    }


LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+\.\w+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("path", [*PAGES, *(ROOT / "docs" / "errors").glob("*.md")], ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        assert "://" in target or (path.parent / target).exists() or _made_by_the_build(path.parent / target), target


def _made_by_the_build(page: Path) -> bool:
    """A page of the gallery: one for each example."""
    if page.parent.resolve() != ROOT / "docs" / "gallery":
        return False
    return page.stem == "index" or any((ROOT / "examples").rglob(f"{page.stem}.nexort"))


def test_system_is_written_from_the_docstrings():
    written = runpy.run_path(str(ROOT / "docs" / "system.py"))["page"]()
    assert (ROOT / "docs" / "system.md").read_text(encoding="utf-8") == written, "run: python docs/system.py"
    files = [p.relative_to(ROOT).as_posix() for p in (ROOT / "tp_compiler").rglob("*.py") if p.name != "__init__.py"]
    assert [f for f in files if f"`{f}`" not in written] == []


def test_every_code_is_explained():
    """How to write an entry: docs/adding.md, "An error code"."""
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "tp_compiler").rglob("*.py"))
    used = {code for text in texts for code in re.findall(r"\bNX\d{3}\b", text)} - {"NX900"}  # where warnings begin
    assert sorted(used - {*codes()}) == [], "codes without an entry in tp_compiler/explanations/"
    assert sorted({*codes()} - used) == [], "entries for codes that nothing raises"


def test_errors_are_written_from_the_explanations():
    pages = runpy.run_path(str(ROOT / "docs" / "errors.py"))["pages"]()
    assert set(pages) == {ROOT / "docs" / "errors.md", *(ROOT / "docs" / "errors").glob("*.md")}
    stale = [p.name for p, text in pages.items() if p.read_text(encoding="utf-8") != text]
    assert stale == [], "edit tp_compiler/explanations/, then run: python docs/errors.py"


def test_what_adding_names_exists():
    text = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:tp_compiler|tests|docs)/[\w./]+)`", text)
    assert len(named) > 30 and [f for f in named if not (ROOT / f).exists()] == []


TEST = re.compile(r"`(tests/[\w/.]+\.py)(?:::(\w+))?`")


def test_every_test_that_a_promise_names_exists():
    rows = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines()
    rows = [row for row in rows if row.startswith("| ") and not row.startswith(("| promise", "| ---"))]
    assert [row for row in rows if not TEST.search(row)] == []
    for path, name in TEST.findall("\n".join(rows)):
        assert (ROOT / path).is_file(), path
        assert not name or f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"


def test_the_record_of_an_added_instruction_is_true():
    """The files that docs/adding.md counts for `cumsum` are those of the package that know it."""
    text = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
    listed = re.findall(
        r"^\d+\. `([\w/.]+)`", text.partition("## An instruction")[2].partition("\n## ")[0], re.MULTILINE
    )
    assert len(listed) == len(set(listed)) <= 10
    words = re.compile(r"\bCumulate\b|build\.cumsum|AtMost|at_least|_sums\(node: ir\.Along")
    package = [p.relative_to(ROOT).as_posix() for p in (ROOT / "tp_compiler").rglob("*.py")]
    assert {f for f in package if words.search((ROOT / f).read_text(encoding="utf-8"))} == set(listed)
