"""From replicates to estimates: value, bias and error from the levels of a ladder."""

from __future__ import annotations

import numpy as np
import pytest

from tp_compiler.evaluate.sampling.estimates import covariances
from tp_compiler.replicates import mean_and_error

SPREAD = np.linspace(-1, 1, 8)
SPREAD /= SPREAD.std(ddof=1)  # eight replicates with standard deviation 1: the error of their mean is 1/√8


def level(mean: float, noise: float = 0.0, turn: int = 0) -> np.ndarray:
    """Replicates with this mean and standard deviation; other turns are other orders of the same numbers."""
    return mean + noise * np.roll(SPREAD, turn)


def test_one_level_has_the_spread_of_its_replicates() -> None:
    value, error = mean_and_error([level(3.0, 0.2)], [64])
    assert value == pytest.approx(3.0)
    assert error == pytest.approx(0.2 / np.sqrt(8))


def test_one_coarser_level_shows_the_bias_in_the_error() -> None:
    """f(M) = 1 + 8/M: at M = 32 the bias is 1/4, which is what f(16) - f(32) says."""
    value, error = mean_and_error([level(1 + 8 / 16), level(1 + 8 / 32)], [16, 32])
    assert value == pytest.approx(1.25)
    assert error == pytest.approx(0.25)


def test_one_coarser_level_a_quarter_of_the_size_shows_the_same_bias() -> None:
    _, error = mean_and_error([level(1 + 8 / 8), level(1 + 8 / 32)], [8, 32])
    assert error == pytest.approx(0.25)


def test_a_plain_bias_is_taken_off() -> None:
    """Three levels of 1 + 8/M with little noise: 2 f(32) - f(16) = 1."""
    levels = [level(1 + 8 / m, 1e-3, turn) for turn, m in enumerate((8, 16, 32))]
    value, error = mean_and_error(levels, [8, 16, 32])
    assert value == pytest.approx(1.0, abs=2e-3)
    assert error < 0.01


def test_what_bends_the_bias_stays_in_the_error() -> None:
    """f = 1 + 8/M + 64/M²: 2 f(32) - f(16) is off by 2 · 1/16 - 1/4 = -1/8, and the levels disagree by as much."""
    levels = [level(1 + 8 / m + 64 / m**2, 1e-6, turn) for turn, m in enumerate((8, 16, 32))]
    value, error = mean_and_error(levels, [8, 16, 32])
    assert value - 1 == pytest.approx(-0.125, abs=1e-4)
    assert 0.125 < error < 0.25


@pytest.mark.parametrize("sigmas, taken_off", [(2.0, False), (3.5, False), (4.5, True)])
def test_a_bias_within_four_sigmas_of_its_noise_is_not_taken_off(sigmas: float, taken_off: bool) -> None:
    """Taking off what noise explains would double the spread, and choose the value by the noise."""
    last = level(0.0, 0.01)
    noise = level(0.0, 0.1, 3)  # of the estimated bias, whose mean is that many of its standard errors
    bias = noise + sigmas * 0.1 / np.sqrt(8)
    levels = [last + 3 * bias, last + bias, last]
    value, error = mean_and_error(levels, [8, 16, 32])
    assert bool(abs(value - (last - bias).mean()) < 1e-12) == taken_off
    assert bool(abs(value - last.mean()) < 1e-12) != taken_off
    if not taken_off:  # what exceeds the noise joins the error
        assert error == pytest.approx(np.sqrt(0.01**2 / 8 + (sigmas**2 - 1) * 0.1**2 / 8))


@pytest.mark.parametrize("count", [2, 3, 4])
def test_few_replicates_take_off_noise_as_rarely_as_four(count: int) -> None:
    """P(|t| > 4) = 0.028 with three degrees of freedom: the share of entries without any bias that are corrected."""
    rng = np.random.default_rng(count)
    last, noise = rng.normal(size=(count + 2, 40_000)), rng.normal(scale=1e-3, size=(count, 40_000))
    value, _ = mean_and_error([last], [64], last[:count] + noise)
    assert np.mean(value != last.mean(axis=0)) == pytest.approx(0.028, rel=0.1)


def test_entries_are_judged_one_by_one() -> None:
    biased = np.array([1.0, 0.0])
    levels = [np.array([level(0.0, 1e-4, turn)] * 2).T + biased * 8 / m for turn, m in enumerate((8, 16, 32))]
    value, error = mean_and_error(levels, [8, 16, 32])
    assert np.all(np.abs(value) < 1e-3)
    assert np.all(error < 1e-2)


def test_levels_of_one_size_say_nothing_of_the_bias() -> None:
    """Where P has stopped growing, the ladder is flat."""
    _, error = mean_and_error([level(5.0), level(1.0, 0.1)], [64, 64])
    assert error == pytest.approx(0.1 / np.sqrt(8))


def test_levels_without_a_value_are_passed_over() -> None:
    _, error = mean_and_error([None, level(1 + 8 / 16), level(1 + 8 / 32)], [8, 16, 32])
    assert error == pytest.approx(0.25)


def halves(mean: float, noise: float = 0.0) -> np.ndarray:
    """Means over two halves, for four of the eight replicates."""
    return level(mean, noise)[:4]


def test_halves_show_the_bias_and_hardly_any_noise() -> None:
    """f(M) = 1 + 1/M with replicates that scatter by 1: both halves together scatter equally."""
    last = level(1 + 1 / 32, 1.0)
    value, error = mean_and_error([last], [32], level(1 + 1 / 16, 1.0)[:4])
    assert value == pytest.approx(1.0)
    assert error == pytest.approx(np.sqrt(1 / 8 + 1 / 32**2))


def test_a_bias_within_the_noise_of_the_halves_joins_the_error() -> None:
    last, noise = level(0.0, 0.01), 0.1 * np.array([1.0, -1, 1, -1])
    error_of_mean = noise.std(ddof=1) / 2
    value, error = mean_and_error([last], [32], last[:4] + noise + 3 * error_of_mean)
    assert value == pytest.approx(0.0)
    assert error == pytest.approx(np.sqrt(0.01**2 / 8 + (3**2 - 1) * error_of_mean**2))


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_laws_other_than_1_over_size_leave_their_part(power: float) -> None:
    """f = M^-p. The halves say (2^p - 1) f(M); taken off, (2 - 2^p) f(M) is left, and the error holds it."""
    levels = [level(m**-power, 1e-9, m) for m in (8, 16, 32)]
    value, error = mean_and_error(levels, [8, 16, 32], levels[-1][:4] + 16**-power - 32**-power)
    assert value == pytest.approx((2 - 2**power) * 32**-power, abs=1e-8)
    assert error >= abs(value) - 1e-8
    assert error <= 1.01 * max(abs(value), 1e-8)


def test_halves_are_preferred_to_levels() -> None:
    """A ladder whose sizes say nothing: P has stopped, and only the halves have fewer copies."""
    levels = [level(1 + 1 / 64, 1e-6, turn) for turn in range(4)]
    value, error = mean_and_error(levels, [64] * 4, levels[-1][:4] + 1 / 64)
    assert value == pytest.approx(1.0, abs=1e-5)
    assert error == pytest.approx(1 / 64, rel=1e-3)


def test_known_covariances_are_averaged_over_the_draws() -> None:
    laws = [{"f": np.eye(2)}, {"f": 3 * np.eye(2)}]
    assert covariances([{"f": np.zeros(2)}] * 2, laws)["f"] == pytest.approx(2 * np.eye(2))


def test_sampled_covariances_are_those_over_the_draws() -> None:
    draws = np.random.default_rng(0).standard_normal((50, 2))
    found = covariances([{"f": x} for x in draws], [{"f": None}] * 50)["f"]
    assert found == pytest.approx(np.cov(draws.T))
