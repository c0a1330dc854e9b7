"""Writes docs/system.md: one line a file, from its docstring, the rooms in the order of the pipeline.

python docs/system.py
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tp_compiler"

#: The rooms, in the order in which a program passes through them.
PIPELINE = [
    "",
    "frontend",
    "ir",
    "transform",
    "check",
    "scale",
    "train",
    "expand",
    "equations",
    "evaluate",
    "evaluate/gaussian",
    "evaluate/exact",
    "evaluate/linear",
    "evaluate/sampling",
    "evaluate/sampling/conditioning",
    "evaluate/sampling/storage",
    "finite",
    "finite/statistics",
    "report",
    "report/plots",
    "torch",
    "torch/training",
    "torch/checking",
    "editor",
]

HEAD = """# The system, file by file

`tp_compiler/driver.py` is the pipeline in Python; the README draws it. Each line below is the first sentence of a file's
docstring, written here by `python docs/system.py`.
"""

TAIL = """
## Outside the package

| place | what is there |
| --- | --- |
| `grammar/nexort.lark` | the grammar, LALR(1); installed as `tp_compiler.grammar` |
| `grammar/vscode/` | the extension of VS Code; its colours are written by `editor/textmate.py` |
| `tpc_start.py` | entry point of the command `tpc`; handles Ctrl-C until the package is imported |
| `examples/` | programs, one idea each, and a notebook; listed in `examples/README.md` |
| `tests/unit/` | unit tests, one folder per subpackage |
| `tests/golden/` | inputs and their expected outputs |
| `tests/property/` | properties under random input |
| `tests/consistency/` | limits against closed forms, quadrature and finite networks |
| `tests/test_suite.py` | no test depends on the load of the machine |
| `tests/examples/` | every example checks and runs; `slow` also verifies them |
| `docs/` | [language](language.md), [results](results.md), [mathematics](mathematics.md), [design](design.md) and others, and this page |
"""


def first_sentence(path: Path) -> str:
    """The first paragraph of a file's docstring up to the end of its first sentence."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(doc.split("\n\n")[0].split())
    sentence, stop, _ = paragraph.partition(". ")
    return (sentence if stop else paragraph.removesuffix(".")).replace("|", "\\|")


def section(room: str) -> str:
    folder = PACKAGE / room
    title = f"tp_compiler/{room}/" if room else "tp_compiler/"
    rows = [
        f"| `{p.relative_to(ROOT).as_posix()}` | {first_sentence(p)} |"
        for p in sorted(folder.glob("*.py"))
        if p.name != "__init__.py" or not room
    ]
    return "\n".join([f"\n## `{title}`: {heading(folder)}\n", "| file | what it does |", "| --- | --- |", *rows, ""])


def heading(folder: Path) -> str:
    return "the package" if folder == PACKAGE else first_sentence(folder / "__init__.py")


def page() -> str:
    return HEAD + "".join(section(room) for room in PIPELINE) + TAIL


if __name__ == "__main__":
    (ROOT / "docs" / "system.md").write_text(page(), encoding="utf-8")
