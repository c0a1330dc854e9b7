"""Kernels that go to a file while they are computed: equal to those in memory, whatever the size of bands and blocks."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler.cli import main
from tp_compiler.evaluate import kernel_files
from tp_compiler.evaluate.exact import kernel_blocks

POINTS = 45
KERNEL = f"""
axis i, j : {POINTS}
axis t : 20
axis d : 3
data xi[i,d]
data zi[t,d]
ket |u[d]> ~ N(0, 1)
matrix W ~ N(0, 1)
|x[i]> = relu(W erf(sum[d](xi[i,d] |u[d]>)))
|z[t]> = relu(W erf(sum[d](zi[t,d] |u[d]>)))
output k[i,j] = <x[i]|x[j]>
output q[i,t] = <x[i]|z[t]>
output m = mean[i](<x[i]>)
"""
RNG = np.random.default_rng(3)
DATA = {"xi": RNG.standard_normal((POINTS, 3)), "zi": RNG.standard_normal((20, 3))}


@pytest.fixture(params=[(7, 1), (7, 400), (16, 10**6)])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and bands that do not divide the points: many, some, one."""
    side, band = request.param
    monkeypatch.setattr(kernel_blocks, "SIDE", side)
    monkeypatch.setattr(kernel_files, "BAND", band)


@pytest.mark.parametrize("name", ["k", "q"])
def test_a_file_has_the_values_that_memory_has(name: str, pieces: None, tmp_path: Path) -> None:
    program = tpc.compile(KERNEL, data=DATA)
    here, there = tpc.limit(program), tpc.limit(program, only=name, save=tmp_path / "kernel.npy")
    assert np.array_equal(np.load(tmp_path / "kernel.npy"), here[name])
    assert np.array_equal(there[name], here[name]) and there.outputs[name].method == "closed-form"
    assert np.max(here.outputs[name].stderr) <= float(there.outputs[name].stderr.flat[0])
    assert [p.name for p in tmp_path.iterdir()] == ["kernel.npy"]


def test_the_memory_is_that_of_a_band(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the kernel itself is refused, with the remedy."""
    n = 2000
    text = KERNEL.replace(f": {POINTS}", f": {n}")
    program = tpc.compile(text, data=DATA | {"xi": RNG.standard_normal((n, 3))})
    monkeypatch.setattr(kernel_files, "BAND", 2**20)
    refused = tpc.limit(program, only="k", max_memory="90M").failed["k"]
    assert refused.code == "NX431" and "--save" in refused.remedy, refused
    run = tpc.limit(program, only="k", max_memory="100M", save=tmp_path / "k.npy")
    assert run["k"].shape == (n, n)


def test_any_output_can_be_saved_alone(tmp_path: Path) -> None:
    run = tpc.limit(KERNEL, data=DATA, only="m", save=tmp_path / "m.npy")
    assert np.load(tmp_path / "m.npy") == run["m"]


def test_a_file_for_several_outputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(tpc.ProgramError, match="these are to be computed: k, q, m") as refused:
        tpc.limit(KERNEL, data=DATA, save=tmp_path / "all.npy")
    assert "--only" in refused.value.diagnostics[0].remedy
    with pytest.raises(tpc.ProgramError, match=r"must name a \.npy file"):
        tpc.limit(KERNEL, data=DATA, only="k", save=tmp_path / "k.txt")
    with pytest.raises(TypeError, match="blocks are not saved"):
        tpc.kernel(KERNEL, "k", data=DATA, save=tmp_path / "k.npy")


def test_a_disk_that_is_full_leaves_the_old_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target = tmp_path / "k.npy"
    target.write_bytes(b"old")

    def full(self: kernel_files.KernelFile) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(kernel_files.KernelFile, "_next", full)
    with pytest.raises(tpc.ProgramError, match="No space left"):
        tpc.limit(KERNEL, data=DATA, only="k", save=target)
    assert target.read_bytes() == b"old" and len([*tmp_path.iterdir()]) == 1
    with pytest.raises(tpc.ProgramError, match="cannot write"):
        tpc.limit(KERNEL, data=DATA, only="k", save=tmp_path / "no" / "k.npy")


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "k.nexort", tmp_path / "k.npy"
    np.save(tmp_path / "x.npy", DATA["xi"])
    np.save(tmp_path / "z.npy", DATA["zi"])
    source.write_text(
        KERNEL.replace("xi[i,d]\n", 'xi[i,d] from "x.npy"\n', 1).replace("zi[t,d]\n", 'zi[t,d] from "z.npy"\n', 1)
    )
    assert main(["limit", str(source), "--only", "k", "--save", str(target), "--quiet"]) == 0
    assert np.array_equal(np.load(target), tpc.limit(source)["k"])
    assert main(["limit", str(source), "--save", str(target)]) != 0
    assert "--only" in capsys.readouterr().err
