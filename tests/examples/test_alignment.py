"""`examples/alignment.py`: measured alignments are those of the limit, and so are the learning rates that follow."""

from __future__ import annotations

import runpy
from fractions import Fraction
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def test_rates_from_measured_alignments(capsys: pytest.CaptureFixture[str]) -> None:
    names = runpy.run_path(str(Path(__file__).resolve().parents[2] / "examples" / "alignment.py"))
    names["main"]()
    page = capsys.readouterr().out
    assert "largest stable learning rates" in page and "4.weight: ΔW x" in page
    found = names["measured"]().alignments
    assert all(abs(a.update - 1) < Fraction(1, 6) for a in found.values())
    assert (
        abs(found["2.weight"].features - Fraction(1, 2)) < Fraction(1, 10) < found["4.weight"].features - Fraction(4, 5)
    )
