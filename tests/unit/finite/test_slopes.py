"""The slope of a deviation in log n, and its interval."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from tp_compiler.finite.statistics.slopes import fitted_slope

WIDTHS = (64, 128, 512)


def draws(generator: np.random.Generator, power: float = -0.5, seeds: int = 12, entries: int = 3) -> list[np.ndarray]:
    return [n**power * generator.standard_normal((seeds, entries)) for n in WIDTHS]


@pytest.mark.parametrize("power", [-1.0, -0.5, 0.0])
def test_the_slope_is_that_of_least_squares(power: float) -> None:
    drawn = draws(np.random.default_rng(0), power)
    found = fitted_slope(WIDTHS, drawn, np.zeros(3), np.zeros(3))
    roots = [np.sqrt(np.mean(x**2)) for x in drawn]
    assert found.value == pytest.approx(np.polyfit(np.log(WIDTHS), np.log(roots), 1)[0])
    assert found.interval[0] < power < found.interval[1]


def test_the_error_of_the_limit_is_no_deviation() -> None:
    """Every sample is off by the limit's own error as well: its square is subtracted."""
    generator, error = np.random.default_rng(1), 0.02
    drawn = draws(generator, seeds=2000)
    value = np.full(3, error)  # the limit is off by one standard error
    found = fitted_slope(WIDTHS, drawn, value, np.full(3, error))
    assert found.value == pytest.approx(-0.5, abs=0.03)
    blind = fitted_slope(WIDTHS, drawn, value, np.zeros(3))
    assert abs(blind.value + 0.5) > 2 * abs(found.value + 0.5)
    # it moves all widths together, which no spread over networks shows
    assert np.ptp(found.interval) > 1.3 * np.ptp(blind.interval)


def test_intervals_keep_their_level() -> None:
    generator, level, trials = np.random.default_rng(2), 0.1, 400
    outside = 0
    for _ in range(trials):
        low, high = fitted_slope(WIDTHS, draws(generator, seeds=30), np.zeros(3), np.zeros(3), level).interval
        outside += not low <= -0.5 <= high
    low, high = binom.ppf([1e-4, 1 - 1e-4], trials, level)
    assert low <= outside <= 1.3 * high, outside


def test_there_is_no_slope_of_one_width_or_of_noise() -> None:
    drawn = draws(np.random.default_rng(3))
    assert fitted_slope(WIDTHS[:1], drawn[:1], np.zeros(3), np.zeros(3)) is None
    assert fitted_slope(WIDTHS, drawn, np.zeros(3), np.ones(3)) is None
