"""`tpc trace`: a module named on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import tp_compiler as tpc
from tp_compiler.cli import main

pytestmark = pytest.mark.torch

MODULE = """
from torch import nn

def net(n):
    out = nn.Linear(n, 5, bias=False)
    nn.init.normal_(out.weight, std=1 / n)
    return nn.Sequential(nn.Embedding(7, n), nn.Linear(n, n), nn.GELU(), out)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet_traces: None) -> None:
    (tmp_path / "traced_net.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_a_program_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "traced_net:net", "--inputs", "int[2,3]<7", "--widths", "16,32", "-o", "net.nexort"]) == 0
    said = capsys.readouterr()
    assert said.out == "" and "wrote net.nexort" in said.err and "note: 1.bias" in said.err
    assert tpc.simulate(Path("net.nexort"), 8, seeds=1)["out"].shape == (2, 3, 5)
    assert main(["trace", "traced_net:net", "--inputs", "int[2,3]<7", "--widths", "16,32", "--quiet"]) == 0
    assert capsys.readouterr().out == Path("net.nexort").read_text(encoding="utf-8")


def test_longer_data_are_written_beside_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["trace", "traced_net:net", "--inputs", "int[5,20]<7", "--widths", "16,32"]
    assert main([*given, "-o", "net.nexort"]) == 0
    assert "wrote net.nexort and net.npz" in capsys.readouterr().err
    text = Path("net.nexort").read_text(encoding="utf-8")
    assert 'from "net.npz" key' in text and len(text) < 1500
    assert main([*given, "--quiet"]) == 0
    whole = capsys.readouterr().out
    assert "from" not in whole.replace("traced from", "")
    runs = [tpc.simulate(program, 8, seeds=1)["out"] for program in (Path("net.nexort"), whole)]
    assert (runs[0] == runs[1]).all()


TRAIN = ["--loss", "cross_entropy", "--optimizer", "Adam(lr = 0.1)", "--steps", "2"]


def test_a_training_loop_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["trace", "traced_net:net", "--inputs", "int[2,3]<7", "--widths", "16,32", "--quiet", *TRAIN]
    np.save("classes.npy", np.arange(6).reshape(2, 3) % 5)
    programs = []
    for targets in ([], ["--targets", "int[2,3]<5"], ["--targets", "int[2,2,3]<5"], ["--targets", "classes.npy"]):
        assert main([*given, *targets]) == 0
        programs.append(capsys.readouterr().out)
    assert programs[0] == programs[1] and "[[1, 2, 3], [4, 5, 1]]" in programs[3]
    runs = [tpc.simulate(program, 64, seeds=1) for program in programs]
    assert [len(run["loss"]) for run in runs] == [3, 3, 2, 3]
    assert runs[0]["loss"][2] < runs[0]["loss"][1] < runs[0]["loss"][0]
    own = [*given[: -len(TRAIN)], "--loss", "mean[i](square(out[i,1,1]))", *TRAIN[2:]]
    assert main(own) == 0 and "target" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["traced_net:net", "--inputs", "int[2]<7", *TRAIN[:4]], 2, "needs --steps"),
        (["traced_net:net", "--inputs", "int[2]<7", "--targets", "int[2]<7"], 2, "--loss and --optimizer and --steps"),
        (["traced_net:net", "--inputs", "int[2]<7", *TRAIN, "--targets", "int[3]<5"], 1, "NX721"),
        (["traced_net:net", "--inputs", "int[2]<7", *TRAIN, "--targets", "none.npy"], 1, "NX708"),
        (["traced_net:net", "--inputs", "int[2]<7", *TRAIN, "--targets", "int[2]<5, int[2]<5"], 1, "NX708"),
        (["traced_net:nothing", "--inputs", "int[2]<7"], 2, "nothing"),
        (["no_such_module:net", "--inputs", "int[2]<7"], 2, "no_such_module"),
        (["traced_net:net", "--inputs", "int[2]"], 1, "NX708"),
        (["traced_net:net", "--inputs", "int[2]<0"], 1, "is empty"),
        (["traced_net:net", "--inputs", "int[0]<7"], 1, "is empty"),
        (
            ["traced_net:net", "--inputs", "int[2]<7, int[2]<7"],
            1,
            "the module at width 64 fails on the inputs: TypeError",
        ),
        (["traced_net:nn", "--inputs", "int[2]<7"], 1, "the factory failed at width 64: TypeError"),
        (["traced_net:net", "--inputs", "int[2]<7", "--widths", "64"], 2, "two widths"),
        (["traced_net", "--inputs", "int[2]<7"], 2, "package.module:function"),
    ],
)
def test_mistakes(arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", *arguments]) == code
    assert words in (err := capsys.readouterr().err) and "Traceback" not in err
