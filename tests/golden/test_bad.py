"""Programs with mistakes, each with every word that is said about it. `--update-golden` rewrites the words."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import tp_compiler
from tp_compiler import driver
from tp_compiler.diagnostics import ProgramError

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BAD = sorted(p.stem for p in (HERE / "bad").glob("NX*.nexort"))
FAILING = sorted(p.stem for p in (HERE / "bad_evaluation").glob("NX*.nexort"))
CODE = re.compile(r"NX\d{3}")

#: Codes of checks that no program reaches when it is read: files (tests/unit/test_cli.py), sizes nobody wants to store,
#: `--set`; and what is said when a limit is asked for (bad_evaluation/, tests/consistency/test_parametrizations.py).
NO_PROGRAM = {"NX001", "NX003", "NX104", "NX132", "NX136", "NX017", "NX018", "NX144", "NX312", "NX500", "NX504"}


def said(name: str) -> str:
    try:
        found = driver.diagnose(driver.read(f"{name}.nexort"))
    except ProgramError as problem:
        found = problem.diagnostics
    return "\n".join(d.render() for d in found) + "\n"


def failure(name: str) -> str:
    run = tp_compiler.limit(Path(f"{name}.nexort"), samples=256, replicates=4)
    return "\n".join(f"{output}: {d.render()}" for output, d in sorted(run.failed.items())) + "\n"


def compare(actual: str, expected: Path, update: bool) -> None:
    if update:
        expected.write_text(actual, encoding="utf-8")
    assert actual == expected.read_text(encoding="utf-8")
    assert f"[{expected.name[:5]}]" in actual


@pytest.mark.parametrize("name", BAD)
def test_bad(name: str, monkeypatch: pytest.MonkeyPatch, update_golden: bool) -> None:
    monkeypatch.chdir(HERE / "bad")
    compare(said(name), HERE / "bad" / f"{name}.txt", update_golden)


@pytest.mark.parametrize("name", FAILING)
def test_bad_evaluation(name: str, monkeypatch: pytest.MonkeyPatch, update_golden: bool) -> None:
    monkeypatch.chdir(HERE / "bad_evaluation")
    compare(failure(name), HERE / "bad_evaluation" / f"{name}.txt", update_golden)


def codes_of(folder: Path) -> set[str]:
    """Every code that stands in a string of the sources below a folder (docstrings included)."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= {c for c in CODE.findall(node.value)}
    return found


def test_every_compile_time_code_has_a_program() -> None:
    checked = codes_of(ROOT / "tp_compiler" / "frontend") | codes_of(ROOT / "tp_compiler" / "ir") - {"NX451", "NX452"}
    assert checked - NO_PROGRAM <= {n[:5] for n in BAD}


@pytest.mark.parametrize("name", BAD)
def test_every_message_names_a_remedy(name: str) -> None:
    text = (HERE / "bad" / f"{name}.txt").read_text(encoding="utf-8")
    messages = re.split(r"^(?=\S+: (?:error|warning))", text, flags=re.M)[1:]
    assert [m for m in messages if not re.search(r"^ *= \S", m, re.M)] == []
