"""A killed run resumes where it stopped, with the same digits."""

from __future__ import annotations

import errno
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


@pytest.mark.parametrize("ticks", [2, 5, 8, 11])
def test_the_same_digits(tmp_path: Path, ticks: int) -> None:
    file = tmp_path / "run.npz"
    whole = tpc.limit(PROGRAM, **OPTIONS)
    with pytest.raises(Killed):
        tpc.limit(PROGRAM, **OPTIONS, checkpoint=file, progress=killed_after(ticks))
    with np.load(file) as stored:
        assert (len(stored.files) > 1) == (ticks > 3)  # three steps a level
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
    with pytest.raises(tpc.ProgramError, match="is not a checkpoint"):
        tpc.limit(PROGRAM, **OPTIONS, checkpoint=file)


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C keeps the values computed so far."""

    def progress(done: int, total: int, note: str = "") -> None:
        if note.startswith("M = 256"):
            raise KeyboardInterrupt

    run = tpc.limit(PROGRAM, **OPTIONS, progress=progress)
    assert [w.code for w in run.warnings] == ["NX914"]
    assert run.settings["samples"] == 64 and np.isfinite(run["f"]).all()


def test_damaged_files(tmp_path: Path) -> None:
    """Cut short anywhere, or with a byte changed: refused by name, and left as it is."""
    file = tmp_path / "run.npz"
    tpc.limit(PROGRAM, **OPTIONS, checkpoint=file)
    whole = file.read_bytes()
    damaged = [whole[: len(whole) * k // 7] for k in range(7)] + [whole[:200] + bytes(100) + whole[300:]]
    for raw in damaged:
        file.write_bytes(raw)
        with pytest.raises(tpc.ProgramError, match="NX434"):
            tpc.limit(PROGRAM, **OPTIONS, checkpoint=file)
        assert file.read_bytes() == raw
    np.savez(file, x=np.ones(3))
    with pytest.raises(tpc.ProgramError, match="NX434"):
        tpc.limit(PROGRAM, **OPTIONS, checkpoint=file)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.npz"]


@pytest.mark.parametrize("place", ["nowhere/run.npz", "/dev/full/run.npz", "nowhere/run/"])
def test_what_cannot_be_written_is_met_before_the_work(tmp_path: Path, place: str) -> None:
    with pytest.raises(tpc.ProgramError, match=r"NX43[45]"):
        tpc.limit(PROGRAM, **OPTIONS, checkpoint=f"{tmp_path}/{place}", progress=killed_after(0))


def test_a_disk_that_is_full_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(tpc.ProgramError, match=r"NX435.*No space left"):
        tpc.limit(PROGRAM, **OPTIONS, checkpoint=tmp_path / "run.npz", progress=killed_after(0))
    assert list(tmp_path.iterdir()) == []


def full(file: Any, **arrays: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_fills_up_costs_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "run.npz"
    save, left = np.savez, [4]

    def soon_full(target: Any, **arrays: Any) -> None:
        left[0] -= 1
        save(target, **arrays) if left[0] >= 0 else full(target)

    monkeypatch.setattr(np, "savez", soon_full)
    run = tpc.limit(PROGRAM, **OPTIONS, checkpoint=file)
    assert [w.code for w in run.warnings] == ["NX915"]
    monkeypatch.undo()
    whole = tpc.limit(PROGRAM, **OPTIONS)
    np.testing.assert_array_equal(run["f"], whole["f"])
    np.testing.assert_array_equal(tpc.limit(PROGRAM, **OPTIONS, checkpoint=file)["f"], whole["f"])


def test_two_runs_on_one_file(tmp_path: Path) -> None:
    file = tmp_path / "run.npz"
    refused: list[str] = []

    def progress(done: int, total: int, note: str = "") -> None:
        if not refused:
            refused.append("")
            with pytest.raises(tpc.ProgramError, match="in use") as found:
                tpc.limit(PROGRAM, **OPTIONS, checkpoint=file)
            refused[0] = found.value.diagnostics[0].code

    tpc.limit(PROGRAM, **OPTIONS, checkpoint=file, progress=progress)
    assert refused == ["NX434"]


def test_parts_of_a_program_share_a_file(tmp_path: Path) -> None:
    """Outputs that need draws of `clt` scalars are sampled apart, and `--only` asks for some."""
    file = tmp_path / "run.npz"
    text = "ket |u> ~ N(0, 1)\nket |w> ~ N(0, 1)\nc = clt <w|tanh(u)>\n"
    text += "output f = <tanh(u)|relu(w)>\noutput s = tanh(c)^2\n"
    run = tpc.limit(text, **OPTIONS, checkpoint=file)
    assert not run.failed
    again = tpc.limit(text, **OPTIONS, checkpoint=file, only=["f"])
    assert not again.failed
    np.testing.assert_array_equal(tpc.limit(text, **OPTIONS, checkpoint=file)["s"], run["s"])
