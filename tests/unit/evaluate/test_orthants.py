"""Averages over three and four Gaussians: by signs and on grids, against one another, factorisation and scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from tp_compiler.evaluate.gaussian import grids, orthants, quadrature
from tp_compiler.evaluate.gaussian.univariate import Univariate, combination, monomial, relu_power, univariate

RELU, STEP, ERF, ABS = (univariate(name) for name in ("relu", "step", "erf", "abs"))
RNG = np.random.default_rng(5)


def _law(p: int) -> np.ndarray:
    root = RNG.normal(size=(p, p))
    return root @ root.T / p + 0.05 * np.eye(p)


def _by_signs(functions: list[list[Univariate]], covariance: np.ndarray) -> float:
    found = orthants.mean(functions, covariance)
    assert found is not None and found[1] < 1e-6 * max(abs(found[0]), 1e-3)
    return found[0]


@pytest.mark.parametrize("sample", range(5))
def test_probabilities_of_orthants(sample: int) -> None:
    law = _law(4)
    wanted = multivariate_normal.cdf(np.zeros(4), np.zeros(4), law, maxpts=10**6, abseps=1e-7)
    assert _by_signs([[STEP]] * 4, law) == pytest.approx(float(wanted), abs=2e-5)


@pytest.mark.parametrize("functions", [[RELU] * 4, [RELU, STEP, ABS, relu_power(2)], [monomial(2), RELU, RELU, STEP]])
def test_order_does_not_matter_and_independent_ones_factorise(functions: list[Univariate]) -> None:
    law = _law(4)
    whole = _by_signs([[f] for f in functions], law)
    for order in itertools.islice(itertools.permutations(range(4)), 1, 24, 5):
        moved = _by_signs([[functions[k]] for k in order], law[np.ix_(order, order)])
        assert moved == pytest.approx(whole, rel=1e-10)
    law[:2, 2:] = law[2:, :2] = 0.0
    apart = [quadrature.expectation(functions[k : k + 2], np.zeros(2), law[k : k + 2, k : k + 2])[0] for k in (0, 2)]
    assert _by_signs([[f] for f in functions], law) == pytest.approx(float(apart[0] * apart[1]), rel=1e-9)


@pytest.mark.parametrize("functions", [[RELU] * 3, [relu_power(2), RELU, STEP]])
def test_three_kinks_against_nested_rules(functions: list[Univariate]) -> None:
    law = _law(3)
    value, _ = quadrature.expectation(functions, np.zeros(3), law, rtol=1e-8)
    assert _by_signs([[f] for f in functions], law) == pytest.approx(float(value), rel=1e-7)


def test_a_variable_that_depends_on_the_others_is_a_limit() -> None:
    mix = np.array([[1.0, 0, 0], [0.3, 1, 0], [-0.5, 0.4, 1], [0.6, -0.7, 0.5]])
    law = mix @ mix.T
    near = [_by_signs([[RELU]] * 4, law + eps * np.eye(4)) for eps in (2e-5, 1e-5)]
    assert _by_signs([[RELU]] * 4, law) == pytest.approx(2 * near[1] - near[0], rel=1e-6)


def test_four_variables_in_a_plane() -> None:
    """x_k = r cos(t - t_k): an integral over the angle, E r^4 = 8."""
    angles = np.array([0.1, 0.9, 1.3, -0.4])
    t = (np.arange(400_000) + 0.5) * 2 * np.pi / 400_000
    law = np.cos(angles[:, None] - angles)
    products = np.prod(np.maximum(np.cos(t[:, None] - angles), 0.0), axis=1)
    assert _by_signs([[RELU]] * 4, law) == pytest.approx(8 * float(np.mean(products)), rel=1e-7)
    inside = np.mean(np.all(np.cos(t[:, None] - angles) > 0, axis=1))
    assert _by_signs([[STEP]] * 4, law) == pytest.approx(float(inside), abs=1e-5)


@pytest.mark.parametrize(("p", "size"), [*itertools.product((3, 4), (0.3, 1.0, 4.0))])
def test_grids_and_signs_agree_for_erf(p: int, size: float) -> None:
    law = size * _law(p)
    square = combination([(1.0, [ERF, ERF])])
    functions = [square, ERF, ERF] if p == 3 else [ERF] * 4
    found = grids.mean(functions, np.zeros(p), law)
    assert found is not None and found[1] < 1e-6
    assert _by_signs([[f] for f in functions], law) == pytest.approx(found[0], abs=1e-8)


def test_grids_refuse_what_they_may_miss() -> None:
    law = _law(3)
    tanh = univariate("tanh")
    steep = [tanh, tanh, combination([(1.0, [tanh, tanh])])]
    assert grids.mean([RELU, ERF, ERF], np.zeros(3), law) is None
    assert grids.mean(steep, np.zeros(3), 1e6 * law) is None
    assert grids.mean([univariate("exp")] * 3, np.zeros(3), 30 * law) is None
