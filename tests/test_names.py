"""One class name, one meaning: a name that two files define has its reason here."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "tp_compiler"

#: Classes of the syntax tree, always read as `ast.Ket`: the words of the language.
TREE = "frontend/syntax.py"
#: Names that stand for one notion at several stages of the pipeline.
STAGES = {
    "Bra": "the tree's <x|, and its value in the checker",
    "Ket": "the tree's |x>, its value in the checker, and the ket of printed equations",
    "Linalg": "the instruction, and the SymPy term that prints it",
    "Outer": "|x><y| as a value of the checker, as a gradient, and in printed equations",
    "Parameter": "what an optimizer updates entry by entry, and a parameter of a traced PyTorch module",
    "Reduce": "the instruction, and the SymPy term that prints it",
    "Scalar": "a number as a value of the checker, and in printed equations",
}


@cache
def _defined() -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(path.relative_to(PACKAGE).as_posix())
    return found


def test_one_class_name_has_one_meaning() -> None:
    twice = {name: [f for f in files if f != TREE] for name, files in _defined().items()}
    assert {name: files for name, files in twice.items() if len(files) > 1 and name not in STAGES} == {}


def test_every_reason_is_needed() -> None:
    assert [name for name in STAGES if len(_defined()[name]) < 2] == []
