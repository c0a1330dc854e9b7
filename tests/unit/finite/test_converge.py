from __future__ import annotations

import numpy as np
import pytest

from tp_compiler.finite.converge import verify
from tp_compiler.finite.statistics.scores import normal_score, two_sided_normal
from tp_compiler.results import Estimate

WIDTHS = (256, 512, 1024)


def limit(value, stderr=0.0, **more) -> Estimate:
    value = np.asarray(value, dtype=float)
    return Estimate(value, np.broadcast_to(stderr, value.shape), ("i",) * value.ndim, "qmc", **more)


def made(value, power=-0.5, bias=0.0, offset=0.0, seeds=24, seed=0):
    rng = np.random.default_rng(seed)
    value = np.asarray(value, dtype=float)
    draw = {n: rng.standard_normal((seeds, *value.shape)) * n**power for n in WIDTHS}
    return {n: {"f": value + offset + bias / n + x} for n, x in draw.items()}


VALUE = np.array([1.0, -2.0, 0.5])


def check(samples, target=None):
    result = verify({"f": target or limit(VALUE)}, samples)
    (found,) = result.checks
    assert result.passed == found.passed and found.widths == WIDTHS
    return found


@pytest.mark.parametrize("seed", range(5))
def test_passes_on_clt_fluctuations_with_a_bias(seed: int) -> None:
    found = check(made(VALUE, bias=8.0, seed=seed))
    assert found.passed, found.reason
    assert found.slope_interval[0] < found.slope < found.slope_interval[1]


def test_bias_is_allowed_only_when_it_decays() -> None:
    biased = check(made(VALUE, bias=40.0, seeds=100))
    assert biased.z[-1] > biased.threshold > biased.z_corrected
    assert biased.passed, biased.reason
    constant = check(made(VALUE, offset=0.05, seeds=100))
    assert not constant.passed and "mean deviates" in constant.reason
    assert constant.z_corrected > constant.threshold


def test_fails_on_a_wrong_entry_among_many() -> None:
    values = np.zeros(200)
    samples = made(values, seeds=32)
    for n in WIDTHS:
        samples[n]["f"][:, 17] += 0.1
    assert not check(samples, limit(values)).passed


def test_fails_when_the_deviation_does_not_decay() -> None:
    found = check(made(VALUE, power=0.0, seeds=60))
    assert not found.passed and "too slowly" in found.reason


def test_faster_decay_is_remarked_not_failed() -> None:
    found = check(made(VALUE, power=-1.0, seeds=200))
    assert found.passed and "faster than expected" in found.reason


def test_error_of_the_limit_is_taken_into_account() -> None:
    shifted = made(VALUE, offset=0.01, seeds=400)
    assert not check(shifted).passed
    assert check(shifted, limit(VALUE, 0.008)).passed
    hidden = check(made(VALUE, power=-1, seeds=20), limit(VALUE, 1.0))
    assert hidden.passed and hidden.slope is None and "hidden" in hidden.reason


def test_constants_are_compared_to_1e_9() -> None:
    exact = {n: {"f": np.broadcast_to(VALUE * (1 + 1e-12), (4, 3))} for n in WIDTHS}
    found = check(exact)
    assert found.passed and found.slope is None and found.z == (0.0, 0.0, 0.0)
    wrong = {n: {"f": np.broadcast_to(VALUE * (1 + 1e-7), (4, 3))} for n in WIDTHS}
    assert not check(wrong).passed


def test_random_outputs_compare_mean_and_covariance() -> None:
    cov = np.array([[1.0, 0.5], [0.5, 2.0]])
    rng = np.random.default_rng(1)
    samples = {n: {"f": rng.multivariate_normal([0, 0], cov, 60)} for n in WIDTHS}
    target = {"law": "gaussian", "covariance": cov, "covariance_stderr": np.zeros((2, 2))}
    found = check(samples, limit([0, 0], **target))
    assert found.passed and found.slope is None and found.figures == 5
    target["covariance"] = cov * 3
    assert not check(samples, limit([0, 0], **target)).passed


def test_false_alarms_are_rare() -> None:
    passed = [check(made(VALUE, bias=2.0, seeds=8, seed=s)).passed for s in range(100, 200)]
    assert sum(passed) >= 99


def test_a_finite_network_against_its_known_limit() -> None:
    from tests.unit.finite.programs import S, ket, matrix, program
    from tp_compiler.finite.run import samples
    from tp_compiler.ir.build import Builder

    b = Builder()
    h = b.map("relu", (b.matmul(matrix(b, "W"), (), False, ket(b, "x"), S),), S)
    k = program(f=b.contract((h, h), (), (0,), S))
    drawn = {n: samples(k, n, 30).values for n in (32, 64, 128)}
    (right,) = verify({"f": limit(0.5)}, drawn).checks
    (wrong,) = verify({"f": limit(0.7)}, drawn).checks
    assert right.passed and not wrong.passed


def test_the_mean_of_constants_is_compared_exactly_unless_the_limit_has_an_error() -> None:
    """A number that does not fluctuate, off by one standard error of its limit."""
    samples = {n: {"f": np.full((8, 1), 1.0)} for n in WIDTHS}
    assert not check(samples, limit([1.01])).passed
    assert check(samples, limit([1.01], stderr=0.01)).passed


def test_a_raw_score_is_the_mean_over_its_standard_error() -> None:
    samples = made([0.0], seeds=40, seed=3)
    found = check(samples, limit([0.0]))
    expected = [samples[n]["f"].mean() / (samples[n]["f"].std(ddof=1) / np.sqrt(40)) for n in WIDTHS]
    assert found.z == pytest.approx(np.abs(normal_score(np.array(expected), np.full(3, 39.0))))


def test_figures_are_means_and_one_triangle_of_the_covariance() -> None:
    rng = np.random.default_rng(0)
    samples = {n: {"f": rng.standard_normal((64, 3))} for n in WIDTHS}
    found = check(samples, limit(np.zeros(3), law="gaussian", covariance=np.eye(3), covariance_stderr=np.zeros((3, 3))))
    assert found.figures == 3 + 6 and found.passed
    assert found.threshold == pytest.approx(two_sided_normal(1e-3 / 9))


def test_a_slope_that_is_surely_steeper_passes_as_faster() -> None:
    found = check(made(VALUE, power=-1.2, seeds=200))
    assert found.slope_interval[1] < -0.8
    assert found.passed and "faster" in found.reason


def test_a_variance_is_known_as_well_as_that_of_a_gaussian_sample() -> None:
    """Two values in equal parts: their fourth moment says that nothing is uncertain; Var s² = 2σ⁴/(n - 1) does not."""
    seeds = 24
    samples = {n: {"f": 1.5 * np.where(np.arange(seeds) % 2, 1.0, -1.0)[:, None]} for n in WIDTHS}
    found = check(samples, limit([0.0], law="gaussian", covariance=np.eye(1), covariance_stderr=np.zeros((1, 1))))
    score = (1.5**2 * seeds / (seeds - 1) - 1) / np.sqrt(2 / (seeds - 1))
    assert found.z == pytest.approx([normal_score(np.array([score]), np.array([seeds - 1.0]))[0]] * 3)
