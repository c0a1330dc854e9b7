"""Two roads inside the evaluator: whatever has an exact value must lie within the errors of its sampled one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

import tp_compiler as tpc
from tests.property.test_random_programs import Writer

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.nexort"))


def compare(program: str | Path, samples: int = 4096, seed: int = 0) -> int:
    """How many figures were compared; fails where one is beyond the level 1e-6 over all."""
    exact = tpc.limit(program, method="quadrature")
    if not exact.outputs:
        return 0
    sampled = tpc.limit(program, method="qmc", samples=samples, seed=seed, only=list(exact.outputs))
    figures = sum(e.value.size for e in exact.outputs.values())
    bound = t.isf(1e-6 / max(1, figures), 7)
    for name, estimate in exact.outputs.items():
        if name not in sampled.outputs:
            continue
        other = sampled.outputs[name]
        error = np.hypot(other.stderr, estimate.stderr) + 1e-9 * (1 + np.abs(estimate.value))
        score = np.max(np.abs(other.value - estimate.value) / error)
        assert score < bound, (name, score, estimate.method, estimate.value, other.value, other.stderr)
    return figures


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples(path: Path) -> None:
    compare(path)


@pytest.mark.parametrize("seed", range(12))
def test_random_programs(seed: int) -> None:
    compare(Writer(seed).text(3), seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 320))
def test_many_random_programs(seed: int) -> None:
    compare(Writer(seed).text(seed % 7), seed=seed)
