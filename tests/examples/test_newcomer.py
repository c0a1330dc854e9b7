"""Programs as someone who comes from PyTorch writes them: each compiles, has a limit, and its networks agree; starters alike."""

from __future__ import annotations

import inspect
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler.arguments import STARTERS

HERE = Path(__file__).parent / "newcomer"
PROGRAMS = sorted(HERE.glob("*.nexort"))
STARTED = [Path(str(files("tp_compiler") / "starters" / f"{name}.nexort")) for name in STARTERS]

programs = pytest.mark.parametrize("path", [*PROGRAMS, *STARTED], ids=lambda p: f"{p.parent.name}-{p.stem}")


def test_there_are_sixteen() -> None:
    assert len(PROGRAMS) == 16


@programs
def test_no_message(path: Path) -> None:
    assert [d.render() for d in tpc.check(path)] == []
    assert path.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.slow
@programs
def test_its_limit_is_that_of_its_networks(path: Path) -> None:
    found = tpc.verify(path, widths=(32, 64), seeds=6, samples=256, max_samples=256)
    assert found.passed, found.checks


@pytest.mark.slow
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_training_lowers_the_loss(path: Path) -> None:
    run = tpc.limit(path, samples=256, max_samples=256)
    assert not run.failed
    for name, estimate in run.outputs.items():
        assert np.isfinite(estimate.value).all() and np.isfinite(estimate.stderr).all(), name
    losses = [run[name] for name in ("loss", "each") if name in run.outputs]
    batches = path.stem == "classifier"  # a new batch at each step
    assert all(loss[-1].max() < loss[0].min() for loss in losses) or batches
    assert losses


def code_lines(text: str) -> int:
    return sum(bool(line.split("#")[0].strip()) for line in text.splitlines())


@pytest.mark.torch
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_at_most_the_lines_of_pytorch(path: Path) -> None:
    """The same script in PyTorch, which runs; imports and the head of its function do not count."""
    pytest.importorskip("torch")
    from tests.examples.newcomer import in_pytorch

    written = getattr(in_pytorch, path.stem)
    assert np.isfinite(written()).all()
    assert code_lines(path.read_text(encoding="utf-8")) <= code_lines(inspect.getsource(written)) - 1
