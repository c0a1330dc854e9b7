"""`examples/nanogpt_mup.py`: with muP one learning rate is best at every width, without it the best one falls."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def test_the_best_learning_rate_stays(capsys: pytest.CaptureFixture[str]) -> None:
    names = runpy.run_path(str(Path(__file__).resolve().parents[2] / "examples" / "nanogpt_mup.py"))
    without, with_mup = names["main"]()
    best = [[names["RATES"][losses.index(min(losses))] for losses in table.values()] for table in (without, with_mup)]
    assert best[0][-1] <= best[0][0] / 2
    assert len(set(best[1])) == 1
    lowest = [min(losses) for losses in with_mup.values()]
    assert lowest == sorted(lowest, reverse=True), "wider is better"
    assert "matrix: lr 0.000488" in capsys.readouterr().out
    script = Path(names["__file__"]).read_text()
    assert script.count("# muP") == 5, "the five lines of the heading"
