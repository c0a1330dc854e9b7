"""A run that is killed goes on where it stood, to the same digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc

PROGRAM = """
ket |u> ~ N(0, 1)
matrix W ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 3 {
    f = <v|tanh(W |u>)>
    minimize (f - 1)^2 / 2
    update all with Adam(lr = 0.1, eps = 0.01)
}
output f[step]
output <tanh(u)|relu(v)>
"""
OPTIONS: dict[str, Any] = {"samples": 256, "replicates": 4, "method": "qmc", "threads": 1}


class Killed(BaseException):
    pass


def killed_after(ticks: int) -> Any:
    def progress(done: int, total: int, note: str = "") -> None:
        nonlocal ticks
        ticks -= 1
        if ticks < 0:
            raise Killed

    return progress


@pytest.mark.parametrize("ticks", [5, 14, 29, 40])
def test_the_same_digits(tmp_path: Path, ticks: int) -> None:
    file = tmp_path / "run.npz"
    whole = tpc.limit(PROGRAM, **OPTIONS)
    with pytest.raises(Killed):
        tpc.limit(PROGRAM, **OPTIONS, checkpoint=file, progress=killed_after(ticks))
    assert file.exists() == (ticks > 3)  # three steps a replicate
    again = tpc.limit(PROGRAM, **OPTIONS, checkpoint=file)
    for name, estimate in whole.outputs.items():
        np.testing.assert_array_equal(again.outputs[name].value, estimate.value)
        np.testing.assert_array_equal(again.outputs[name].stderr, estimate.stderr)


def test_nothing_is_computed_twice(tmp_path: Path) -> None:
    file = tmp_path / "run.npz"
    tpc.limit(PROGRAM, **OPTIONS, checkpoint=file)
    tpc.limit(PROGRAM, **OPTIONS, checkpoint=file, progress=killed_after(0))  # no step is made


@pytest.mark.parametrize("change", [{"seed": 1}, {"method": "mc"}])
def test_another_run(tmp_path: Path, change: dict[str, Any]) -> None:
    file = tmp_path / "run.npz"
    tpc.limit(PROGRAM, **OPTIONS, checkpoint=file)
    with pytest.raises(tpc.ProgramError, match="belongs to another"):
        tpc.limit(PROGRAM, **{**OPTIONS, **change}, checkpoint=file)


def test_no_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "run.npz"
    file.write_text("hello")
    with pytest.raises(tpc.ProgramError, match="is no checkpoint"):
        tpc.limit(PROGRAM, **OPTIONS, checkpoint=file)


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C leaves what was computed."""

    def progress(done: int, total: int, note: str = "") -> None:
        if note.startswith("M = 128"):
            raise KeyboardInterrupt

    run = tpc.limit(PROGRAM, **OPTIONS, progress=progress)
    assert [w.code for w in run.warnings] == ["NX914"]
    assert run.settings["samples"] == 64 and np.isfinite(run["f"]).all()
