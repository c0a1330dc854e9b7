"""`tpc verify` with the law that the limit predicts: its level, its power, and what it says of both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tp_compiler.finite.converge import Verification, verify
from tp_compiler.results import Estimate, Fluctuations

WIDTHS = (64, 128, 256)
VALUE = np.array([1.0, -2.0, 0.5])
ROOT = np.array([[0.4, 0.0, 0.0], [0.1, 0.3, 0.0], [0.0, -0.2, 0.5]])
SIGMA, BIAS = ROOT @ ROOT.T, np.array([0.7, -0.4, 0.0])


def limit(known: float | None = 0.1, **more: Any) -> Estimate:
    """The limit, with its law known to a relative error, or not known."""
    moves = None
    if known is not None:
        moves = Fluctuations(SIGMA, known * np.abs(SIGMA), BIAS, np.full(3, known * 0.1))
    return Estimate(VALUE, np.full(3, 1e-4), ("i",), "qmc", fluctuations=moves, **more)


def networks(
    seed: int, seeds: int = 4, offset: Any = 0.0, wide: float = 1.0, second: float = 0.0
) -> dict[int, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return {
        n: {
            "f": VALUE
            + offset
            + BIAS / n
            + second / n**2
            + wide * rng.standard_normal((seeds, 3)) @ ROOT.T / np.sqrt(n)
        }
        for n in WIDTHS
    }


def found(target: Estimate, *arguments: Any, **options: Any) -> Verification:
    return verify({"f": target}, networks(*arguments, **options))


def passes(known: float | None, count: int = 200, **options: Any) -> float:
    return float(np.mean([found(limit(known), seed, **options).passed for seed in range(count)]))


def test_correct_limits_pass() -> None:
    """The level is 1e-3, and the slope has one of its own: of 1,000 verifications hardly any fails."""
    assert passes(0.1, 1000) >= 0.99


def test_a_bias_of_second_order_is_no_fault() -> None:
    """c/n² with c = 200 is 0.05 at n = 64, three standard errors of the mean there."""
    assert passes(0.1, second=200.0) >= 0.97


@pytest.mark.parametrize(("offset", "least"), [(0.04, 0.5), (0.06, 0.95)])
def test_faults_that_are_missed_without_the_prediction_are_found(offset: float, least: float) -> None:
    """Of 4 networks at each width; without the law, t with 3 degrees of freedom and a fitted bias see nothing."""
    assert 1 - passes(0.1, offset=offset) > least
    assert 1 - passes(None, offset=offset) < 0.1


def test_the_gain_is_what_it_says() -> None:
    """Offsets of the sizes that it says it sees fail every second time, up to the width of the intervals."""
    said = [found(limit(), seed).checks[0].predicted for seed in range(50)]
    assert all(p is not None for p in said)
    seen = float(np.median([p.seen for p in said if p]))
    assert 0.3 < 1 - passes(0.1, offset=np.array([0, 0, seen])) < 0.7
    assert np.median([p.gain for p in said if p]) > 3
    few, many = (found(limit(), 0, seeds=s).checks[0].predicted for s in (3, 64))
    assert few is not None and many is not None and few.gain > 2 * many.gain > 2


@pytest.mark.parametrize("wide", [0.3, 3.0])
def test_networks_with_another_variance_fail(wide: float) -> None:
    result = found(limit(), 3, seeds=16, wide=wide)
    (check,) = result.checks
    assert not result.passed and (wide > 1 or "the variance of networks is" in check.reason)
    assert check.predicted is not None and check.predicted.spread == pytest.approx(wide**2, rel=0.8)


def squares(seed: int, mean: float = 0.0, seeds: int = 100, widths: Any = WIDTHS) -> dict[int, dict[str, Any]]:
    """Networks of (m + g)^2 with g ~ N(0, 1/n): n Var = 4 m² + 2/n, b = 1."""
    rng = np.random.default_rng(seed)
    return {n: {"f": (mean + rng.standard_normal((seeds, 1)) / np.sqrt(n)) ** 2} for n in widths}


def square(mean: float, sigma: float, bias: float = 1.0) -> Estimate:
    one = np.ones((1, 1))
    moves = Fluctuations(sigma * one, 0.0 * one, np.array([bias]), np.array([0.03]))
    return Estimate(np.array([mean**2]), np.zeros(1), ("i",), "exact", fluctuations=moves)


@pytest.mark.parametrize("sigma", [0.0, 3e-7])
def test_variances_of_second_order_are_not_compared_with_sigma(sigma: float) -> None:
    """<u|v>² is z²/n: Σ = 0, or what is left of it by sampling, and b = 1. A wrong b is found all the same."""
    results = [verify({"f": square(0.0, sigma)}, squares(seed)) for seed in range(200)]
    assert np.mean([r.passed for r in results]) >= 0.99
    (check,) = results[0].checks
    assert check.predicted is not None and check.predicted.second_order == 1 and np.isnan(check.predicted.spread)
    assert "its spread is of order 1/n" in str(results[0])
    assert not verify({"f": square(0.0, sigma, 3.0)}, squares(0)).passed


@pytest.mark.parametrize(("seeds", "widths"), [(1500, WIDTHS), (8, WIDTHS), (1500, (64,))])
def test_a_variance_with_a_term_of_order_1_over_n_is_no_fault(seeds: int, widths: Any) -> None:
    """Of (m + g)² with m = 0.2 it is 0.16 + 2/n: 20% more than Σ/n at n = 64, 5% more at n = 256. (F sees it with 1,500 networks.)"""
    right, wrong = square(0.2, 0.16), square(0.2, 0.08)
    passed = [verify({"f": right}, squares(seed, 0.2, seeds, widths)).passed for seed in range(60)]
    assert np.mean(passed) >= 0.96
    if seeds > 8:
        failed = [verify({"f": wrong}, squares(seed, 0.2, seeds, widths)) for seed in range(10)]
        assert not any(r.passed for r in failed) and "not by a term of order 1/n" in failed[0].checks[0].reason


def test_a_law_that_is_known_badly_is_used_with_care() -> None:
    """A variance known to 50% says less, and a bias known to its own size is not a fault of the limit."""
    sure, unsure = (found(limit(known), 0).checks[0].predicted for known in (0.0, 0.5))
    assert sure is not None and unsure is not None and unsure.seen > 1.2 * sure.seen
    assert passes(0.5, 300) >= 0.99


def test_without_a_bias_the_test_is_that_without_a_law() -> None:
    moves = Fluctuations(SIGMA, 0.1 * SIGMA)
    with_spread = Estimate(VALUE, np.full(3, 1e-4), ("i",), "qmc", fluctuations=moves)
    assert found(with_spread, 0).checks == found(limit(None), 0).checks


def test_networks_of_one_width_are_compared_as_well() -> None:
    one = {64: networks(0, seeds=6)[64]}
    result = verify({"f": limit()}, one)
    assert result.passed and result.checks[0].predicted is not None
    assert result.checks[0].predicted.gain > 1


def test_what_does_not_fluctuate_is_compared_as_a_constant() -> None:
    moves = Fluctuations(np.zeros((3, 3)), np.zeros((3, 3)), np.zeros(3), np.zeros(3))
    target = Estimate(VALUE, np.zeros(3), ("i",), "exact", fluctuations=moves)
    still = {n: {"f": np.tile(VALUE, (3, 1))} for n in WIDTHS}
    assert verify({"f": target}, still).passed
    assert not verify({"f": target}, networks(0)).passed  # they were to be equal
    assert not verify({"f": limit()}, still).passed  # they were to fluctuate


def test_it_is_printed() -> None:
    text = str(found(limit(), 0))
    assert "n·Var/Σ" in text.splitlines()[0]
    assert "from the limit fails" in text and "times smaller than without the prediction" in text
    assert "predicted" not in str(found(limit(None), 0))
