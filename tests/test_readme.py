"""The README is true: its Python runs, its program is the example, its commands are the two promised."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


def test_the_python_block_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (block,) = _blocks("python")
    exec(compile(block, "README.md", "exec"), {})


def test_there_are_two_commands() -> None:
    first, second = _blocks("bash")
    assert "tpc limit examples/mlp.nexort" in first and "pytest" in second


def test_the_program_shown_is_the_example() -> None:
    shown = _blocks("")[1]
    example = (ROOT / "examples" / "mlp.nexort").read_text(encoding="utf-8")
    lines = [line.split("#")[0].split() for line in shown.splitlines() if line.split("#")[0].strip()]
    wanted = [line.split("#")[0].split() for line in example.splitlines() if line.split("#")[0].strip()]
    assert lines == wanted


@pytest.mark.parametrize(
    "path",
    sorted(set(re.findall(r"\b(?:grammar|frontend|check|ir|scale|train|evaluate|finite|report)/[\w./]*", README))),
)
def test_the_paths_named_exist(path: str) -> None:
    assert (ROOT / path).exists() or (ROOT / "tp_compiler" / path).exists(), path
