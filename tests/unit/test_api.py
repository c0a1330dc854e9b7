"""The Python interface: paths are distinguished from the text of a program."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

import pytest

import tp_compiler as tpc
from tp_compiler.diagnostics import ProgramError
from tp_compiler.evaluate.options import Options
from tp_compiler.finite.run import simulate
from tp_compiler.signatures import LimitOptions, SimulateOptions

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "text",
    ["examples/mlp.nexrt", "mlp.nexrt", "mlp", "my programs/mlp.txt", "~/mlp.nexort", "C:\\programs\\mlp", "a/b"],
)
def test_what_looks_like_a_path_is_one(text: str) -> None:
    with pytest.raises(ProgramError) as problem:
        tpc.limit(text)
    assert problem.value.diagnostics[0].code == "NX001"


def test_a_typo_in_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ProgramError, match=r"did you mean `examples/mlp\.nexort`\?"):
        tpc.limit("examples/mlp.nexrt")
    with pytest.raises(ProgramError, match="check the path"):
        tpc.limit("nowhere/mlp.nexrt")
    with pytest.raises(ProgramError, match="name a program in this folder"):
        tpc.limit(Path("examples"))


@pytest.mark.parametrize(
    "text",
    [
        "output 1/2",
        "output 0.5",
        "output = 3; output output / 2",
        "ket |u> ~ N(0, 1); output <u|u>",
        "import layers",
        "",
    ],
)
def test_a_statement_is_none(text: str) -> None:
    assert tpc.compile(text).source.name == "<text>"


def test_an_expression_alone_is_text() -> None:
    with pytest.raises(ProgramError, match="NX021"):
        tpc.compile("1 + 2")


def test_the_typed_options_are_those_that_are_read() -> None:
    assert {*LimitOptions.__annotations__} == {f.name for f in fields(Options)} | {"only"}
    assert {*SimulateOptions.__annotations__} <= {*inspect.signature(simulate).parameters}
