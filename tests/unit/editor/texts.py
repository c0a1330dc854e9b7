"""Programs as an editor has them: a text with a mark where the cursor is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tp_compiler.editor.checking import report
from tp_compiler.editor.program import Open

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted((ROOT / "examples").rglob("*.nexort"))
BAD = ROOT / "tests" / "golden" / "bad"
MARK = "¦"


#: The examples that the default tests read, and all.
SOME = [
    path
    if path.stem in ("transformer", "own_optimizer", "train_resnet", "outer_operator", "width_classes")
    else pytest.param(path, marks=pytest.mark.slow)
    for path in EXAMPLES
]


def at(text: str, path: str = "-") -> tuple[Open, int]:
    """A program and the place of the mark in its text."""
    assert text.count(MARK) == 1
    return Open(path, text.replace(MARK, "")), text.index(MARK)


def checked(path: str, text: str) -> Open:
    """A program whose last check was one of this text."""
    program = Open(path, text)
    program.checked = report(text, path), program.symbols
    return program
