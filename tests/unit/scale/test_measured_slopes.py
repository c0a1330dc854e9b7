"""Slopes against NumPy's least squares, their standard errors against their own spread, and the bend of finite width."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tp_compiler.scale.slopes import exact_power, slope

WIDTHS = (32, 64, 128, 256)
X = np.log(WIDTHS)


def test_the_slope_is_that_of_least_squares() -> None:
    logs = np.random.default_rng(0).normal(size=(4, 3))
    wanted = np.polyfit(np.repeat(X, 3), logs.ravel(), 1)[0]
    found = slope(WIDTHS, logs.tolist())
    assert math.isclose(found.value, wanted, rel_tol=1e-12)
    assert math.isclose(found.low, (logs[1].mean() - logs[0].mean()) / math.log(2), rel_tol=1e-12)
    assert math.isclose(found.high, (logs[3].mean() - logs[2].mean()) / math.log(2), rel_tol=1e-12)


def test_three_standard_errors_cover() -> None:
    """Of pure noise around a line, 3 standard errors miss the exponent in less than two of a hundred."""
    rng, missed = np.random.default_rng(1), 0
    for _ in range(2000):
        found = slope(WIDTHS, (0.5 * X[:, None] + 0.2 * rng.normal(size=(4, 3))).tolist())
        missed += abs(found.value - 0.5) > 3 * found.error(0.5)
    assert missed < 40


@pytest.mark.parametrize("power", [-0.5, -1])
def test_a_correction_of_finite_width_is_within_the_error(power: float) -> None:
    bent = np.log(1 + 3 * np.array(WIDTHS, dtype=float) ** power)[:, None] + 1e-3 * np.array([[-1, 0, 1]])
    found = slope(WIDTHS, bent.tolist())
    assert found.value < -4 * found.stderr and abs(found.value) < 3 * found.error(0)


@pytest.mark.parametrize("off", [0.2, 0.5, -0.5])
def test_a_power_is_not_mistaken_for_a_correction(off: float) -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        found = slope(WIDTHS, (off * X[:, None] + 0.02 * rng.normal(size=(4, 3))).tolist())
        assert abs(found.value) > 3 * found.error(0)


def test_a_growth_that_sets_in_late_is_found() -> None:
    """It bends away from the exponent, which no correction of finite width does."""
    late = np.log(1 + np.array(WIDTHS) / 100)[:, None] + 1e-3 * np.array([[-1, 0, 1]])
    found = slope(WIDTHS, late.tolist())
    assert found.error(0) == found.stderr and found.value > 0.2


def test_lack_of_fit_counts_where_seeds_agree() -> None:
    jagged = slope(WIDTHS, [[0.0, 0.0], [0.3, 0.3], [0.0, 0.0], [0.3, 0.3]])
    assert jagged.stderr > 0.1


def test_powers_of_settings_are_exact() -> None:
    assert exact_power([(n, 3 * n**-0.5) for n in WIDTHS]) == (-0.5, True)
    assert exact_power([(n, 0.1) for n in WIDTHS]) == (0.0, True)
    power, exact = exact_power([(n, 0.1 + 1 / n) for n in WIDTHS]) or (0, True)
    assert not exact and -1 < power < 0
    assert exact_power([(n, 0.0) for n in WIDTHS]) is None and exact_power([(32, 1.0)]) is None
