"""Runs in several parts: folders of replicates, filled in any order by any process, have the digits of one run."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler.cli import main

TRAINED = """
ket |u> ~ N(0, 1)
matrix W ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 3 {
    f = <v|tanh(W |u>)>
    minimize (f - 1)^2 / 2
    update all with Adam(lr = 0.1, eps = 0.01)
}
output f[step]
output exact = <u|u>
"""
#: Kinds of outputs: sampled, exact, Gaussian, with draws inside, without a value (the logarithm of negative numbers).
KINDS = """
ket |u> ~ N(0, 1)
ket |w> ~ N(0, 1)
c = clt <w|tanh(u)>
output f = <tanh(u)|relu(w)>
output s = tanh(c)^2
output g = c
output broken = <log(u)|w>
"""
#: A network in the tangent limit under a nonlinear optimizer: all draws of f_0 together.
TANGENT = """
parametrization ntk
axis i : 2
data x[i] = [1.0, -0.5]
ket |u> ~ N(0, 1)
matrix W ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 2 {
    f[i] = clt <v|tanh(W tanh(x[i] * |u>))>
    minimize mean[i]((f[i] - 1)^2)
    update all with Adam(lr = 0.1, eps = 0.1)
}
output f[step,i]
output q = <tanh(u)|tanh(u)>
"""
OPTIONS: dict[str, Any] = {"samples": 64, "replicates": 4, "threads": 1}


def digits(run: tpc.Run) -> dict[str, Any]:
    found: dict[str, Any] = {name: problem.render() for name, problem in run.failed.items()}
    for name, x in run.outputs.items():
        found[name] = [np.asarray(a) for a in (x.value, x.stderr, x.covariance, x.covariance_stderr) if a is not None]
        found[name] += [x.method, x.law, x.note]
    return found | {"warnings": [w.render() for w in run.warnings], "settings": run.settings}


def parts(text: str, folder: Path, ranges: list[tuple[int, int]], **options: Any) -> list[tpc.Run]:
    return [tpc.limit(text, **{**OPTIONS, **options}, replicate_range=r, checkpoint=folder) for r in ranges]


@pytest.mark.parametrize("method", ["auto", "qmc", "mc"])
@pytest.mark.parametrize("text", [TRAINED, KINDS], ids=["trained", "kinds"])
def test_parts_in_any_order(tmp_path: Path, text: str, method: str) -> None:
    runs = parts(text, tmp_path / "parts", [(3, 4), (0, 1), (1, 3)], method=method)
    assert all(w.code == "NX917" for run in runs for w in run.warnings[-1:])
    assert all(estimate.method != "qmc" for run in runs for estimate in run.outputs.values())
    whole = tpc.limit(text, **OPTIONS, method=method)
    np.testing.assert_equal(digits(tpc.merge(tmp_path / "parts")), digits(whole))
    assert whole.outputs


def test_draws_of_all_replicates_are_made_at_the_end(tmp_path: Path) -> None:
    (run,) = parts(TANGENT, tmp_path / "parts", [(0, 4)])
    assert [*run.outputs] == ["q"]
    whole = tpc.limit(TANGENT, **OPTIONS)
    assert whole.outputs["f"].method == "qmc"
    np.testing.assert_equal(digits(tpc.merge(tmp_path / "parts")), digits(whole))


def test_a_folder_resumes_like_a_file(tmp_path: Path) -> None:
    folder = f"{tmp_path}/run/"
    here = tpc.limit(TRAINED, method="qmc", max_samples=512, replicates=4)
    assert (
        digits(tpc.limit(TRAINED, method="qmc", max_samples=512, replicates=4, checkpoint=folder)).keys()
        == digits(here).keys()
    )
    steps: list[int] = []
    again = tpc.limit(
        TRAINED, method="qmc", max_samples=512, replicates=4, checkpoint=folder, progress=lambda *_: steps.append(1)
    )
    np.testing.assert_equal(digits(again), digits(here))
    assert not steps  # nothing was computed
    np.testing.assert_equal(digits(tpc.merge(folder)), digits(here))


def test_missing_replicates_are_named_with_the_commands_that_compute_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "axis i : 3\ndata x[i]\nket |u> ~ N(0, 1)\nscalar a = 1\noutput f = <exp(a * u)|tanh(u)>\noutput m[i] = x[i] * <exp(u)|tanh(u)>"
    Path("net.nexort").write_text(text, encoding="utf-8")
    np.save("x.npy", np.array([1.0, 2.0, 3.0]))
    options = ["--method", "qmc", "--samples", "64", "--seed", "5", "--data", "x=x.npy", "--set", "a=0.25", "--quiet"]
    folder = ["--checkpoint", "my parts"]
    assert main(["limit", "net.nexort", *options, *folder, "--replicate-range", "2:3"]) == 0
    os.remove("x.npy")  # the folder has its numbers
    capsys.readouterr()
    assert main(["merge", "my parts"]) == 3
    said = capsys.readouterr().err
    assert "NX438" in said and "0 to 1, 3 to 7" in said
    commands = said.split("`")[3::2]
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "tpc" and main([*words[1:], "--quiet"]) == 0
    capsys.readouterr()
    assert main(["merge", "my parts", "--format", "json"]) == 0
    merged = json.loads(capsys.readouterr().out)
    np.save("x.npy", np.array([1.0, 2.0, 3.0]))
    assert main(["limit", "net.nexort", *options, "--format", "json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert {**merged, "seconds": 0} == {**whole, "seconds": 0}


def test_a_run_that_is_not_finished(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        tpc.limit(TRAINED, method="qmc", checkpoint=f"{tmp_path}/run/", progress=_stops)
    with pytest.raises(tpc.ProgramError, match=r"NX438.*not finished"):
        tpc.merge(tmp_path / "run")


def _stops(done: int, total: int, note: str = "") -> None:
    if note.startswith("M = 512"):
        raise RuntimeError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checkpoint": "parts"}, "needs a number of samples"),
        ({"samples": 64}, "needs a folder"),
        ({"samples": 64, "checkpoint": "file"}, "is a file"),
        ({"samples": 64, "checkpoint": "parts", "replicate_range": (3, 9)}, "must lie in 0:8"),
        ({"samples": 64, "checkpoint": "parts", "replicate_range": (3, 3)}, "must lie in 0:8"),
        ({"samples": 64, "checkpoint": "parts", "replicate_range": "0:2"}, "pair of whole numbers"),
        ({"samples": 64, "checkpoint": "parts", "replicate_range": (0, 1.5)}, "pair of whole numbers"),
    ],
)
def test_what_a_range_needs(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(tpc.ProgramError, match=f"NX432.*{message}"):
        tpc.limit(TRAINED, **{"replicate_range": (0, 4), **options})
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_part_of_the_replicates_is_not_verified(tmp_path: Path) -> None:
    with pytest.raises(tpc.ProgramError, match="NX432"):
        tpc.verify(TRAINED, samples=64, replicate_range=(0, 4), checkpoint=tmp_path / "parts")


@pytest.mark.parametrize(
    "change", [{"samples": 128}, {"replicates": 8}, {"seed": 1}, {"method": "mc"}, {"only": ["f"]}]
)
def test_a_folder_has_one_run(tmp_path: Path, change: dict[str, Any]) -> None:
    parts(TRAINED, tmp_path, [(0, 2)])
    with pytest.raises(tpc.ProgramError, match=f"NX434.*{next(iter(change))} = .* there, .* here"):
        parts(TRAINED, tmp_path, [(2, 4)], **change)


def test_another_program_is_refused(tmp_path: Path) -> None:
    parts(TRAINED, tmp_path, [(0, 2)])
    for other in (TRAINED.replace("0.01", "0.02"), KINDS):
        with pytest.raises(tpc.ProgramError, match="NX434"):
            tpc.limit(other, **OPTIONS, checkpoint=tmp_path)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_replicates_of_another_array_library(tmp_path: Path, dtype: str) -> None:
    """Each process has its own device, and they are merged where that may not be."""
    chosen: dict[str, Any] = {"backend": "torch", "dtype": dtype}
    parts(TRAINED, tmp_path, [(0, 2)], **chosen)
    parts(TRAINED, tmp_path, [(2, 4)], **chosen, device="cpu:0")
    merged, whole = tpc.merge(tmp_path), tpc.limit(TRAINED, **OPTIONS, **chosen)
    # PyTorch rounds differently when more replicates share arrays.
    np.testing.assert_allclose(merged["f"], whole["f"], rtol=0, atol=1e-12 if dtype == "float64" else 1e-5)
    record = tmp_path / "run.json"
    record.write_text(record.read_text(encoding="utf-8").replace("cpu:0", "cuda:77"), encoding="utf-8")
    merged = tpc.merge(tmp_path)
    assert merged.outputs["f"].method == "qmc" and "cuda:77" in str(merged.settings["backend"])


def test_a_range_says_what_is_stored(tmp_path: Path) -> None:
    text = "ket |u> ~ N(0, 1)\noutput f = <u|u>"
    (nothing,) = parts(text, tmp_path / "exact", [(0, 2)])
    assert "no replicates to store" in nothing.warnings[-1].message
    (one,) = parts(TRAINED, tmp_path / "sampled", [(1, 2)], method="qmc")
    assert "of 4 replicates, 1 is stored; exact, f " in one.warnings[-1].message


def test_numbers_of_numpy_are_options_of_a_folder(tmp_path: Path) -> None:
    parts(TRAINED, tmp_path, [(0, 4)], samples=np.int64(64), seed=np.int32(0), rtol=np.float32(0.5))
    assert tpc.merge(tmp_path).settings["samples"] == 64


def test_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "missing"):
        with pytest.raises(tpc.ProgramError, match=r"NX434.*is not a folder of replicates"):
            tpc.merge(tmp_path / name)


def test_an_imported_file_that_has_changed_is_noticed(tmp_path: Path) -> None:
    library = tmp_path / "half.nexort"
    library.write_text("def half(|x>) { return tanh(|x>) / 2 }\n", encoding="utf-8")
    program = tmp_path / "net.nexort"
    program.write_text('import "half.nexort"\nket |u> ~ N(0, 1)\noutput f = <half(u)|exp(u)>\n', encoding="utf-8")
    parts(str(program), tmp_path / "parts", [(0, 4)])
    assert tpc.merge(tmp_path / "parts").outputs
    library.write_text("def half(|x>) { return erf(|x>) / 2 }\n", encoding="utf-8")
    with pytest.raises(tpc.ProgramError, match=r"NX434.*have changed"):
        tpc.merge(tmp_path / "parts")
    with pytest.raises(tpc.ProgramError, match="NX434"):
        tpc.limit(str(program), **OPTIONS, checkpoint=tmp_path / "parts")
    library.unlink()
    with pytest.raises(tpc.ProgramError, match="NX141"):
        tpc.merge(tmp_path / "parts")


def test_what_the_first_process_samples_the_others_sample(tmp_path: Path) -> None:
    """A slow machine gives up a formula that a fast one finds; both must compute replicates of the same outputs."""
    (tmp_path / "sampled.json").write_text(json.dumps({"f": "too slow", "exact": "too slow"}), encoding="utf-8")
    parts(TRAINED, tmp_path, [(0, 2), (2, 4)])
    merged = tpc.merge(tmp_path)
    assert merged.outputs["exact"].method == "qmc" and merged.outputs["exact"].note == "too slow"
    assert abs(merged["exact"] - 1) < 0.3


# -- what goes wrong -----------------------------------------------------------------------------------------------------
def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*-M*.npz"))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, "byte"])
def test_damaged_files_are_computed_again(tmp_path: Path, share: Any) -> None:
    parts(TRAINED, tmp_path, [(0, 4)], method="qmc")
    whole = digits(tpc.merge(tmp_path))
    file = files(tmp_path)[3]
    raw = file.read_bytes()
    middle = len(raw) // 2
    file.write_bytes(raw[:middle] + bytes(40) + raw[middle + 40 :] if share == "byte" else raw[: int(share * len(raw))])
    with pytest.raises(tpc.ProgramError, match="NX438"):
        tpc.merge(tmp_path)
    again = tpc.limit(TRAINED, **OPTIONS, method="qmc", checkpoint=tmp_path)
    assert [w.code for w in again.warnings] == ["NX916"] and file.name in again.warnings[0].message
    assert file.read_bytes() == raw
    np.testing.assert_equal(digits(tpc.merge(tmp_path)), whole)


@pytest.mark.parametrize("name", ["run.json", "given.npz"])
def test_damaged_records_are_refused(tmp_path: Path, name: str) -> None:
    text = "axis i : 2\ndata x[i]\nket |u> ~ N(0, 1)\noutput f[i] = x[i] * <tanh(u)|exp(u)>"
    tpc.limit(text, **OPTIONS, data={"x": [1.0, 2.0]}, replicate_range=(0, 4), checkpoint=tmp_path)
    raw = (tmp_path / name).read_bytes()
    for cut in range(0, len(raw), len(raw) // 5):
        (tmp_path / name).write_bytes(raw[:cut])
        with pytest.raises(tpc.ProgramError, match="NX434"):
            tpc.merge(tmp_path)


def test_no_code_is_read_from_a_folder(tmp_path: Path) -> None:
    """Files hold numbers and text; nothing in them is run."""
    parts(TRAINED, tmp_path, [(0, 4)], method="qmc")
    np.savez(files(tmp_path)[0], key=np.array([print], dtype=object))
    with pytest.raises(tpc.ProgramError, match="NX438"):
        tpc.merge(tmp_path)


def full(file: Any, **arrays: Any) -> None:
    file.write(b"PK")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_costs_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, count = np.savez, [0]

    def almost_full(file: Any, **arrays: Any) -> None:
        count[0] += 1
        (full if 3 < count[0] < 9 else save)(file, **arrays)  # somebody frees some space later

    monkeypatch.setattr(np, "savez", almost_full)
    run = tpc.limit(TRAINED, **OPTIONS, method="qmc", checkpoint=f"{tmp_path}/run/")
    monkeypatch.undo()
    assert [w.code for w in run.warnings] == ["NX915"]
    whole = tpc.limit(TRAINED, **OPTIONS, method="qmc")
    np.testing.assert_array_equal(run["f"], whole["f"])
    assert len(files(tmp_path / "run")) == count[0] - 5
    assert not list((tmp_path / "run").glob(".*"))  # nothing is left of what was cut off
    again = tpc.limit(TRAINED, **OPTIONS, method="qmc", checkpoint=tmp_path / "run")
    np.testing.assert_equal(digits(again), digits(whole))


def test_a_part_that_was_not_stored_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(tpc.ProgramError, match=r"NX435.*No space left"):
        parts(TRAINED, tmp_path, [(0, 2)], method="qmc")


def tpc_command(*words: str, folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tp_compiler", *words]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("extra", [(), ("--workers", "2")], ids=["threads", "workers"])
def test_killed_clients_resume(tmp_path: Path, extra: tuple[str, ...]) -> None:
    (tmp_path / "net.nexort").write_text(TRAINED.replace("steps = 3", "steps = 30"), encoding="utf-8")
    words = ("limit", "net.nexort", "--method", "qmc", "--samples", "1024", "--format", "json", *extra)
    killed = tpc_command(*words, "--checkpoint", "parts/", folder=tmp_path)
    while len(files(tmp_path / "parts")) < 6:
        assert killed.poll() is None
        time.sleep(0.01)
    children = _children(killed.pid)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    kept = len(files(tmp_path / "parts"))
    resumed = tpc_command(*words, "--checkpoint", "parts/", folder=tmp_path)
    found, said = resumed.communicate()
    assert resumed.returncode == 0, said
    whole, _ = tpc_command(*words[: -len(extra) or None], folder=tmp_path).communicate()
    assert {**json.loads(found), "seconds": 0} == {**json.loads(whole), "seconds": 0}
    assert 6 <= kept < len(files(tmp_path / "parts"))
    assert bool(children) == bool(extra)
    assert not [child for child in children if Path(f"/proc/{child}").exists()]  # no worker outlives its client


def _children(process: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        if parent == process:
            found.append(int(status.parent.name))
    return found


@pytest.mark.slow
def test_processes_fill_a_folder_together(tmp_path: Path) -> None:
    (tmp_path / "net.nexort").write_text(TRAINED, encoding="utf-8")
    words = ("limit", "net.nexort", "--samples", "256", "--checkpoint", "parts", "--quiet")
    running = [tpc_command(*words, "--replicate-range", f"{k}:{k + 4}", folder=tmp_path) for k in (0, 2, 4)]
    assert [p.communicate()[1] and p.returncode for p in running] == [0, 0, 0]
    merged, _ = tpc_command("merge", "parts", "--format", "json", folder=tmp_path).communicate()
    whole, _ = tpc_command("limit", "net.nexort", "--samples", "256", "--format", "json", folder=tmp_path).communicate()
    assert {**json.loads(merged), "seconds": 0} == {**json.loads(whole), "seconds": 0}


def test_what_parts_belong_to_is_not_overwritten(tmp_path: Path) -> None:
    """A run without a range may use their replicates with other options; they are still combined with their own."""
    folder = tmp_path / "parts"
    parts(KINDS, folder, [(0, 2)])
    tpc.limit(KINDS, **OPTIONS, checkpoint=folder, only=["f"], rtol=0.5)
    parts(KINDS, folder, [(2, 4)])
    assert digits(tpc.merge(folder))["f"] and set(tpc.merge(folder).outputs) == set(tpc.limit(KINDS, **OPTIONS).outputs)


def test_a_range_of_draws_computes_nothing_and_says_so(tmp_path: Path) -> None:
    text = "ket |u> ~ N(0, 1)\nket |w> ~ N(0, 1)\nc = clt <w|tanh(u)>\noutput s = tanh(c)^2\n"
    (run,) = parts(text, tmp_path / "draws", [(0, 2)])
    (warning,) = [w for w in run.warnings if w.code == "NX917"]
    assert "nothing is computed for a range: s will be" in warning.message and "stored" not in warning.message


def test_a_folder_of_another_run_has_one_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program, folder = tmp_path / "p.nexort", tmp_path / "folder"
    program.write_text(KINDS)
    folder.mkdir()
    assert main(["merge", str(folder)]) == 3 and "NX434" in capsys.readouterr().err
    parts(TRAINED, folder, [(0, 2)])
    assert main(["limit", str(program), "--checkpoint", str(folder)]) == 3 and "NX434" in capsys.readouterr().err


def test_more_samples_than_are_allowed() -> None:
    with pytest.raises(tpc.ProgramError, match=r"NX432.*samples must be max_samples at most; found 128 and 64"):
        tpc.limit(KINDS, samples=128, max_samples=64)
