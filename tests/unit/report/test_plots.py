"""Plots need the plot extra, which the default tests do not install: hence slow."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.unit.report.fabricate import estimate
from tp_compiler.finite.converge import Verification
from tp_compiler.report import plots
from tp_compiler.results import Run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("ending", [".png", ".pdf", ".svg"])
def test_run_plot(run: Run, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"run{ending}"
    plots.plot_run(run, str(path))
    assert path.stat().st_size > 1000


def test_plot_without_outputs_and_over_steps(run: Run, tmp_path: Path) -> None:
    plots.plot_run(dataclasses.replace(run, outputs={}), str(tmp_path / "none.png"))
    steps = {"f": estimate(np.ones((3, 2)), 0.1, ("step", "i"))}
    plots.plot_run(dataclasses.replace(run, outputs=steps), str(tmp_path / "steps.png"))
    assert (tmp_path / "steps.png").exists()


def test_verification_plot(verification: Verification, tmp_path: Path) -> None:
    plots.plot_verification(verification, str(tmp_path / "verify.png"))
    assert (tmp_path / "verify.png").stat().st_size > 1000
