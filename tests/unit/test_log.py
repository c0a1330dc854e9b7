"""The logger `tp_compiler`, and progress bars of the Python functions."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest

import tp_compiler as tpc
from tp_compiler.report import progress

PROGRAM = "ket |x> ~ N(0, 1); matrix W ~ N(0, 1); |y> = tanh(W tanh(|x>)); output a = <y|tanh(x * y)>"


def test_silent_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    tpc.limit(PROGRAM, samples=64, method="qmc")
    assert capsys.readouterr() == ("", "")


def test_stages_and_methods_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "tp_compiler"):
        tpc.verify(PROGRAM, widths=(8, 16), seeds=2, samples=64, method="qmc")
    said = [r.getMessage() for r in caplog.records]
    assert any(s.startswith("compile") and s.endswith(" s") for s in said)
    assert any(s.startswith("a: qmc") for s in said)
    assert {"2 networks of width 8 ...", "2 networks of width 16 ..."} <= set(said)


def test_steps_are_logged_for_those_who_look(caplog: pytest.LogCaptureFixture) -> None:
    told: list[float] = []
    with caplog.at_level(logging.DEBUG, "tp_compiler"):
        tpc.limit(PROGRAM, samples=64, method="qmc", progress=lambda done, *rest: told.append(done))
    steps = [r for r in caplog.records if r.levelno == logging.DEBUG]
    assert told and len(steps) == len(told)


def test_a_bar_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    quiet, loud = (tpc.limit(PROGRAM, samples=64, method="qmc", progress=p)["a"] for p in (False, True))
    assert quiet == loud and capsys.readouterr().out == ""


def test_directions_of_finite_width_are_progress() -> None:
    """After the last step of the limit, every scrambling of the runs along directions is news."""
    told: list[tuple[float, float, str]] = []
    options: dict[str, Any] = {"samples": 64, "method": "qmc", "replicates": 2, "width": 64}
    tpc.limit(PROGRAM, **options, progress=lambda done, total, note: told.append((done, total, note)))
    runs = [(done, total) for done, total, note in told if note.startswith("finite width, directions 1 to 4, M = ")]
    assert len(runs) > 2 and set(runs) == {(0, 2), (1, 2)}


def test_the_clock_of_a_bar_runs_when_a_part_is_done() -> None:
    from rich.progress import Progress

    now = 0.0
    bar = Progress(get_time=lambda: now)
    bar.add_task("limit", total=2)
    (task,) = bar.tasks
    bar.update(task.id, completed=2)
    now = 42.0
    assert task.finished and str(progress._elapsed().render(task)) == "0:00:42"


@pytest.mark.slow
def test_a_bar_below_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar is one display, which is updated and is empty at the end."""
    shown: list[str] = []
    handle = SimpleNamespace(update=lambda x: shown.append(x.data))

    def display(x: Any, display_id: bool) -> Any:
        shown.append(x.data)
        return handle

    pytest.importorskip("IPython")
    import IPython.display

    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setattr(IPython.display, "display", display)
    tpc.simulate(PROGRAM, width=8, seeds=3, progress=True)
    assert "simulate" in shown[0] and shown[-1] == ""
    assert any('value="3" max="3"' in text for text in shown)
    assert progress._element("<b>", 1, None, "") == "<div>&lt;b&gt; <progress></progress> </div>"
