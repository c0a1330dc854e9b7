"""Printed standard errors against true errors; the whole table is `python -m tests.consistency.calibration`."""

from __future__ import annotations

import numpy as np
import pytest

from tests.consistency import calibration

#: Cheap programs of every group of the table.
SOME = [
    "kernel relu", "kernel tanh", "kernel step", "tangent kernel erf", "mean tanh(x)^4", "mean x^6", "mean step(x + y - 1)",
    "mean abs(x)^(-0.3)", "function <tanh(x)^2>^3", "function 1/<exp(x)>", "matrix through and back", "matrix tied resnet", "E ranks",
    "E differences", "E in E, squared", "softmax norms", "rms norm", "trained tanh SGD 1", "trained tanh Adam 1", "clt relu",
]  # fmt: skip


def test_the_table_has_a_hundred_programs() -> None:
    assert len(calibration.cases()) >= 100
    assert set(SOME) <= set(calibration.cases())


def test_one_score_for_each_figure_and_normal_ones() -> None:
    """Deviations that follow Student's t with 7 degrees of freedom have a root mean square of 1.18, their scores of 1."""
    ratio = np.random.default_rng(0).standard_t(7, 100_000)
    assert np.sqrt(np.mean(ratio**2)) == pytest.approx(np.sqrt(7 / 5), rel=0.02)
    assert np.sqrt(np.mean(calibration.normal(ratio) ** 2)) == pytest.approx(1.0, rel=0.02)
    assert calibration.summary({"a": np.array([1.0, -1.0]), "b": np.array([0.0])}) == pytest.approx((np.sqrt(0.5), 1.0))


@pytest.mark.slow
def test_standard_errors_are_as_large_as_errors() -> None:
    """Twenty programs, of which some have figures that go together: within a factor of 1.6."""
    found = {name: calibration.scores(calibration.cases()[name], seed) for seed, name in enumerate(SOME)}
    rms, largest = calibration.summary(found)
    assert 0.6 < rms < 1.6 and largest < 6, {name: np.round(z, 1) for name, z in found.items()}
