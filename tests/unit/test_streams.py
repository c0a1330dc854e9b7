"""Closed, full and broken streams, and signals: every end has its exit code, and none a traceback."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler import cli

ROOT = Path(__file__).resolve().parents[2]
TPC = f"{shlex.quote(sys.executable)} -m tp_compiler"


def shell(line: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (f"{TPC} new mlp >&-", 2, "cannot write to standard output: it is closed"),
        (f"{TPC} new mlp > /dev/full", 2, "cannot write to standard output: No space left"),
        (f"{TPC} new mlp 2>&- > /dev/null", 0, ""),
        (f"{TPC} nonsense 2> /dev/full", 2, ""),
        (f"{TPC} fmt - <&-", 1, "NX001"),
        (f"{TPC} new mlp <&- >&- 2>&-", 2, ""),
    ],
)
def test_streams(line: str, code: int, said: str) -> None:
    done = shell(line)
    assert done.returncode == code, done
    assert said in done.stderr and "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_sigterm_leaves_what_was_computed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "p.nexort"
    file.write_text("ket |u> ~ N(0, 1)\noutput q = <u|u>\n")
    before = signal.getsignal(signal.SIGTERM)

    from tp_compiler.finite import run as runs

    computed = runs.Networks.__call__

    def terminated_in_the_fourth(networks: runs.Networks, numbers: tuple[int, ...]) -> object:
        if 3 in numbers:
            os.kill(os.getpid(), signal.SIGTERM)
        return computed(networks, numbers)

    monkeypatch.setattr(runs, "_together", lambda *_: 1)
    monkeypatch.setattr(runs.Networks, "__call__", terminated_in_the_fourth)
    assert cli.main(["simulate", str(file), "--width", "8", "--seeds", "10"]) == cli.TERMINATED == 143
    shown = capsys.readouterr()
    assert "q = " in shown.out and "3 of 10 networks" in shown.err
    assert signal.getsignal(signal.SIGTERM) is before
    monkeypatch.undo()
    whole = tpc.simulate(file, 8, seeds=3)
    assert f"{float(np.round(whole['q'], 2)):.2f}"[:3] in shown.out


def test_interrupted_at_the_start(tmp_path: Path) -> None:
    """Before anything is imported, by a `tp_compiler` that takes for ever."""
    (tmp_path / "tp_compiler").mkdir()
    (tmp_path / "tp_compiler" / "__init__.py").write_text("print('started', flush=True)\nwhile True: pass\n")
    # A process started in the background ignores Ctrl-C, and so would its children.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heard}; import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import tpc_start; tpc_start.main()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130 and said == ""
