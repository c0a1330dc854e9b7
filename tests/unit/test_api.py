"""The Python interface: paths are distinguished from the text of a program."""

from __future__ import annotations

import inspect
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import tp_compiler as tpc
from tp_compiler.diagnostics import ProgramError
from tp_compiler.evaluate.options import Options
from tp_compiler.executors import crew
from tp_compiler.finite.run import simulate
from tp_compiler.signatures import LimitOptions, SimulateOptions, Workplace

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
    """What says where the work is done becomes a crew before it reaches the rooms."""
    place = {*Workplace.__annotations__}
    assert {*inspect.signature(crew).parameters} == place
    assert {*LimitOptions.__annotations__} - place == ({f.name for f in fields(Options)} | {"only"}) - {
        "crew",
        "stored",
    }
    assert {*SimulateOptions.__annotations__} - place <= {*inspect.signature(simulate).parameters} - {"crew"}


@pytest.mark.parametrize("width", ["64", [64], None])
def test_a_width_is_a_number(width: Any) -> None:
    with pytest.raises(TypeError, match="a width is a whole number, such as 256"):
        tpc.simulate("output 1", width)
    with pytest.raises(TypeError, match="a width is a whole number, such as 256"):
        tpc.verify("output 1", widths=[width])


def test_one_width_for_verify() -> None:
    text = "ket |u> ~ N(0, 1)\noutput a = <u|u>"
    assert str(tpc.verify(text, widths=64, seeds=2)) == str(tpc.verify(text, widths=(64,), seeds=2))


def test_numbers_and_arrays_of_the_program_are_not_options() -> None:
    with pytest.raises(TypeError, match=r"no option 'lr'.*settings=.*data="):
        tpc.limit("scalar lr = 1\noutput lr", lr=2)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="did you mean `loss`"):
        tpc.limit("output loss = 1", only="los")


def test_names_of_scalings_are_suggested() -> None:
    scaling = tpc.scale(ROOT / "examples/train_mlp.nexort")
    with pytest.raises(KeyError, match="did you mean `W`"):
        scaling["w"]
    with pytest.raises(KeyError, match="its figures are init_std, lr"):
        scaling["W"]["LR"]
    assert str(scaling["W"]).startswith("matrix, Adam: init_std = n^(-1/2), lr = n^(-1)")


@pytest.mark.parametrize("over", ["ij", ("i",), ("i", "j", "k")])
def test_kernels_are_over_two_indices(over: Any) -> None:
    text = "axis i, j\ndata x[i]\nket |u> ~ N(0, 1)\noutput k[i,j] = x[i] * x[j] * <u|u>"
    with pytest.raises(ValueError, match="must be two indices of k"):
        tpc.kernel(text, "k", over)


@pytest.mark.parametrize("missing", ["matplotlib", "latex2mathml"])
def test_missing_libraries_are_named_with_their_extra(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.split(".")[0] == missing or m.startswith("tp_compiler.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    if missing == "matplotlib":
        with pytest.raises(ImportError, match=r"this needs matplotlib: .*extra `plot`"):
            tpc.limit("output 1").plot()
    else:
        with pytest.raises(ImportError, match=r"this needs (matplotlib|latex2mathml): .*extra `(plot|report)`"):
            tpc.html_report("output 1", only="nothing that is computed")  # type: ignore[arg-type]


def test_runs_are_indexed_by_names() -> None:
    run = tpc.limit("output a = 1")
    for key in (0, ("a", 0)):
        with pytest.raises(TypeError, match="indexed by names of outputs"):
            run[key]  # type: ignore[index]
    with pytest.raises(TypeError, match="returns a number or an array of numbers, not NoneType"):
        run.map(lambda a: None)
