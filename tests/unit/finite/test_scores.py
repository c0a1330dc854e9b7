"""Scores of deviations: levels, tails of Student's t, intercepts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, t

from tp_compiler.finite.statistics.scores import normal_score, score, two_sided_normal


@pytest.mark.parametrize("level", [0.3, 0.05, 1e-3, 1e-6])
def test_both_tails_share_the_level(level: float) -> None:
    z = two_sided_normal(level)
    assert norm.cdf(-z) + norm.sf(z) == pytest.approx(level)


@pytest.mark.parametrize("dof", [1.0, 3.0, 7.0, 100.0])
def test_scores_keep_the_tail_probability(dof: float) -> None:
    points = np.array([-8.0, -2.0, -0.5, 0.0, 1.0, 3.0])
    assert norm.cdf(normal_score(points, np.full(6, dof))) == pytest.approx(t.cdf(points, dof))


def test_the_error_of_the_limit_counts_once_in_the_intercept() -> None:
    """All networks without noise: the intercept is as uncertain as the limit is."""
    widths, tiny = (64, 128, 256), np.full((3, 1), 1e-12)
    deviation = np.array([[2.0], [2.0], [2.0]])
    found = score(widths, deviation, tiny, np.full(3, 15.0), np.array([1.0]), 7)
    assert found.corrected == pytest.approx(normal_score(np.array([2.0]), np.array([7.0])))
    assert found.raw[-1] == pytest.approx(found.corrected)


def test_a_bias_of_order_1_over_n_leaves_no_intercept() -> None:
    widths = (64, 128, 256)
    deviation = np.array([[3.0 / n] for n in widths])
    found = score(widths, deviation, np.full((3, 1), 1e-3), np.full(3, 15.0), np.array([0.0]), 7)
    assert found.bias == pytest.approx([3.0])
    assert abs(found.corrected[0]) < 1e-9
    assert abs(found.raw[-1, 0]) > 5


def test_a_bias_is_taken_off_where_it_is_visible_only() -> None:
    widths, noise = (64, 256), np.full((2, 1), 0.1)
    deviation = np.array([[0.25], [0.2]])
    shown, hidden = (
        score(widths, deviation, noise, np.full(2, 15.0), np.array([0.0]), 7, visible=v) for v in (0.0, 5.0)
    )
    assert hidden.corrected == pytest.approx(hidden.raw[-1])
    assert shown.corrected[0] < hidden.corrected[0]


def test_the_intercept_is_that_of_weighted_least_squares() -> None:
    """Weights are seeds times width; the error of the limit joins those of the networks once, whatever the bias."""
    widths, seeds = np.array([64.0, 128.0, 512.0]), np.array([8.0, 16.0, 24.0])
    deviation, stderr = np.array([[0.9], [0.2], [0.4]]), np.array([[0.3], [0.2], [0.1]])
    root = np.sqrt(widths * seeds)
    design = np.stack([np.ones(3), 1 / widths], axis=1)
    (intercept, bias), *_ = np.linalg.lstsq(design * root[:, None], deviation[:, 0] * root, rcond=None)
    lever = np.linalg.inv(design.T @ np.diag(root**2) @ design) @ design.T @ np.diag(root**2)
    parts, limit_error = lever[0] ** 2 * stderr[:, 0] ** 2, 0.25
    total = parts.sum() + limit_error**2
    dof = total**2 / ((parts**2 / (seeds - 1)).sum() + limit_error**4 / 7)
    found = score([64, 128, 512], deviation, stderr, seeds - 1, np.array([limit_error]), 7)
    assert found.bias == pytest.approx([bias])
    assert found.corrected == pytest.approx(normal_score(np.array([intercept / np.sqrt(total)]), np.array([dof])))
