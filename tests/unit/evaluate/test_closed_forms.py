"""The table of closed forms against 50-digit integration, quadrature, its own symbolic formulas, and its edge cases."""

from __future__ import annotations

import math
from itertools import combinations_with_replacement

import mpmath as mp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tests.unit.evaluate import reference
from tp_compiler.evaluate.gaussian import closed_forms, quadrature
from tp_compiler.evaluate.gaussian.univariate import (
    Univariate,
    gauss,
    gauss_prime,
    gelu_prime,
    hermite,
    leaky_step,
    monomial,
    normal_cdf,
    relu_power,
    scaled,
    times,
    two_sided,
    univariate,
)

FUNCTIONS = [
    *(
        univariate(n)
        for n in ("relu", "step", "sign", "abs", "erf", "erfc", "gelu", "sin", "cos", "exp", "sinh", "cosh")
    ),
    *(univariate("leaky_relu", 0.2), leaky_step(0.2), relu_power(2), relu_power(3), gauss(0.7), gelu_prime()),
    *(two_sided(2, 1.0, -0.3), two_sided(3, 0.5, 0.5), normal_cdf(), gauss_prime(0.7)),
    *(monomial(0), monomial(1), monomial(2), monomial(3), monomial(4), hermite(2), hermite(3)),
]
PAIRS = [p for p in combinations_with_replacement(FUNCTIONS, 2) if closed_forms.row_of(*p)]
GROWING = {"exp", "sin", "cos", "sinh", "cosh"}  # beyond the range of floats, or zero, at large variances
ORDINARY = [(1.0, 2.0, 0.7), (0.3, 1.5, -0.4)]
NASTY = [
    (1.3, 1.3, 1.3),  # diagonal, duplicated
    (1.3, 1.3, -1.3),  # negated
    (1.0, (1 + 1e-6) ** 2, 1 + 1e-6),  # parallel
    (1.0, 1.0, 1 - 5e-13),  # nearly equal, 1e-6 apart
    (1.0, 1.0, -1 + 5e-13),
    (1.0, 1.0, -0.95),
    (0.0, 1.7, 0.0),
    (1e-6, 2e-6, 1e-6),
    (1e-6, 1e6, -0.3),
]
LARGE = [(1e6, 1e6, 1e6), (1e6, 1e6, -1e6), (1e6, 2e6, 5e5), (1e6, 1e6, 1e6 - 5e-7), (1e6, 1e6, -0.999e6)]


def name(f: Univariate) -> str:
    return f.name + "".join(f"_{p:g}" for p in f.params)


def check(f: Univariate, g: Univariate, cases: list[tuple[float, float, float]], rtol: float = 1e-12) -> None:
    got = closed_forms.kernel(f, g, *np.array(cases).T)
    if got is None:
        return
    for value, case in zip(got, cases, strict=True):
        want = reference.pair((f.name, f.params), (g.name, g.params), *case)
        want *= f.factor * g.factor
        assert_allclose(value, float(want), rtol=rtol, atol=1e-13, err_msg=f"{name(f)} {name(g)} {case}")


@pytest.mark.parametrize("f", FUNCTIONS, ids=name)
@pytest.mark.parametrize("case", [(0.6, 0.0), (-0.4, 1.3), (2.5, 0.01), (-6.0, 1.0)], ids=str)
def test_single_is_the_integral(f: Univariate, case: tuple[float, float]) -> None:
    m, v = mp.mpf(case[0]), mp.mpf(case[1])
    s = mp.sqrt(v)
    if v == 0:
        want = reference.average(f.name, f.params, m, 0)
    else:
        own = reference.AVERAGES[f.name]
        want = mp.quad(
            lambda z: own(*f.params, m + s * z, mp.mpf(0)) * mp.npdf(z), sorted([-17, -4, -m / s, 4, 17 + s])
        )
        assert abs(want - reference.average(f.name, f.params, m, v)) < 1e-25 * max(1, abs(want))
    assert_allclose(closed_forms.single(f, *case), float(want), rtol=1e-12, atol=1e-15)


@pytest.mark.long
@pytest.mark.parametrize("f", FUNCTIONS, ids=name)
def test_kernels_are_right(f: Univariate) -> None:
    check(f, f, ORDINARY[1:])


ACTIVATIONS = [
    *(univariate(n) for n in ("relu", "abs", "erf", "gelu", "sin", "cos", "exp")),
    *(univariate("leaky_relu", 0.2), relu_power(2), relu_power(3), gauss(0.5), monomial(3), hermite(3)),
]


@pytest.mark.slow
@pytest.mark.parametrize("f", ACTIVATIONS[::2], ids=name)
def test_tangent_kernels_are_right(f: Univariate) -> None:
    """E f'(u) f'(v), duplicates and inputs 1e-6 apart and zero included."""
    slope = f.derivative()
    assert slope is not None and closed_forms.source(slope, slope)
    check(slope, slope, [ORDINARY[1], NASTY[0], NASTY[3], NASTY[6]])


@pytest.mark.parametrize("case", [*NASTY[2:5], NASTY[8], LARGE[4]], ids=str)
def test_kernels_of_nasty_inputs(case: tuple[float, float, float]) -> None:
    for f in (univariate("relu"), univariate("gelu")):
        check(f, f, [case])


@pytest.mark.slow
@pytest.mark.parametrize("at", range(len(PAIRS)), ids=lambda i: f"{name(PAIRS[i][0])}-{name(PAIRS[i][1])}")
def test_every_row(at: int) -> None:
    """Every pair at an eighth of the covariances, turn by turn (all of them take twenty minutes)."""
    f, g = PAIRS[at]
    check(f, g, [*ORDINARY, *NASTY[:-1], *(() if {f.name, g.name} & GROWING else LARGE)][at % 8 :: 8])


def test_every_row_is_the_quadrature() -> None:
    v1, v2, c = np.array([*ORDINARY, (1.3, 1.3, 1.3), (1.3, 1.3, -1.3), (1.0, 1.0, -0.95)]).T
    covariance = np.stack([np.stack([v1, c], -1), np.stack([c, v2], -1)], -2)
    for f, g in PAIRS:
        got = closed_forms.kernel(f, g, v1, v2, c)
        if got is None:
            continue
        want, error = quadrature.expectation([f, g], np.zeros(2), covariance)
        assert np.all(error < 1e-10 * np.maximum(1, np.abs(want)))
        assert_allclose(got, want, rtol=1e-10, atol=1e-11, err_msg=f"{name(f)} {name(g)}")
        assert_allclose(closed_forms.kernel(g, f, v2, v1, c), got, rtol=1e-12, atol=1e-14)


def test_every_formula_is_the_number() -> None:
    point = {"v1": 0.8, "v2": 1.9, "c": -0.6, "m": 0.3, "v": 1.1}
    for f, g in PAIRS:
        got, formula = closed_forms.kernel(f, g, 0.8, 1.9, -0.6), closed_forms.formula(f, g)
        assert (got is None) == (formula is None), (f, g)
        if formula is not None:
            value = formula.subs({s: point[s.name] for s in formula.free_symbols}).evalf(30)
            assert_allclose(got, float(value), rtol=1e-13, atol=1e-15, err_msg=f"{name(f)} {name(g)}")
    for f in FUNCTIONS:
        formula = closed_forms.formula(f)
        value = formula.subs({s: point[s.name] for s in formula.free_symbols}).evalf(30)
        assert_allclose(closed_forms.single(f, 0.3, 1.1), float(value), rtol=1e-13)


def test_every_row_names_its_source() -> None:
    assert all(row.source for row in closed_forms.ROWS)
    assert "Cho & Saul" in str(closed_forms.source(univariate("relu"), univariate("relu")))
    assert closed_forms.source(univariate("tanh"), univariate("tanh")) is None


def test_without_a_row_there_is_no_value() -> None:
    tanh = univariate("tanh")
    assert closed_forms.kernel(tanh, tanh, 1.0, 1.0, 0.5) is None
    assert closed_forms.single(tanh, 0.0, 1.0) is None
    assert closed_forms.formula(tanh) is None


def test_same_makes_the_diagonal_exact() -> None:
    step = univariate("step")
    v, c = np.array([[0.3], [0.7]]), np.array([[0.3 * (1 - 1e-13), 0.1], [0.1, 0.7 * (1 + 1e-13)]])
    got = closed_forms.kernel(step, step, v, v.T, c, same=np.eye(2, dtype=bool))
    assert got is not None and got[0, 0] == 0.5 and got[1, 1] == 0.5
    assert_allclose(got[0, 1], 0.25 + math.asin(0.1 / math.sqrt(0.21)) / (2 * math.pi), rtol=1e-14)


@pytest.mark.parametrize("f", [*(univariate(n) for n in ("relu", "step", "sign", "erf", "cos"))], ids=name)
def test_one_triangle_gives_the_other(f: Univariate) -> None:
    x = np.random.default_rng(5).standard_normal((700, 4))
    x[3], x[650], x[10], x[20] = x[600], -x[2], 0.0, x[21] * (1 + 1e-7)
    c = x @ x.T
    v = np.diag(c).copy()
    same = np.eye(700, dtype=bool)
    whole = closed_forms.kernel(f, f, v[:, None], v, c, same)
    half = closed_forms.kernel(f, f, v[:, None], v, c, same, symmetric=True)
    assert whole is not None and half is not None
    assert_allclose(half, half.T, rtol=1e-14, atol=1e-15)
    assert_allclose(half, whole, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("stretch", [0.0, 1e-8, -5e-7])
def test_distances_that_covariances_have_lost(stretch: float) -> None:
    """u = (1, 0), v = (1 + stretch, 1e-9): step is asked for their angle."""
    step, v, c = univariate("step"), np.array([(1 + stretch) ** 2]), np.array([1 + stretch])
    got = closed_forms.kernel(
        step, step, np.ones(1), v, c, distance=lambda where: np.full(where[0].shape, stretch**2 + 1e-18)
    )
    angle = math.atan2(1e-9, 1 + stretch)
    assert got is not None
    assert_allclose(0.5 - got, angle / (2 * math.pi), rtol=1e-3)


def test_covariances_beyond_the_bound_are_clipped() -> None:
    for f in FUNCTIONS:
        for v in (1e-6, 1.3, 1e6) if f.name not in GROWING else (1.3,):
            over = closed_forms.kernel(f, f, v, v, v * (1 + 4e-16))
            assert_allclose(over, closed_forms.kernel(f, f, v, v, v), rtol=1e-7, err_msg=name(f))


def test_constants_take_the_value_at_zero() -> None:
    step, cos = univariate("step"), univariate("cos")
    assert closed_forms.kernel(step, cos, 0.0, 2.0, 0.0) == 0.0
    assert closed_forms.kernel(cos, cos, [0.0, 0.0], [2.0, 0.0], 0.0) == pytest.approx([math.exp(-1), 1.0], rel=1e-15)


def test_scales_and_factors() -> None:
    f, g = times(scaled(univariate("gelu"), -2.0), 3.0), scaled(univariate("sin"), 0.5)
    want = 3 * closed_forms.kernel(univariate("gelu"), univariate("sin"), 4 * 0.8, 0.25 * 1.9, -1.0 * -0.6)  # type: ignore[operator]
    assert_allclose(closed_forms.kernel(f, g, 0.8, 1.9, -0.6), want, rtol=1e-14)
    for f in FUNCTIONS:
        slope = f.derivative()
        if slope is not None:
            x, h = np.array([-1.3, 0.4, 2.2]), 1e-6
            assert_allclose(slope(x), (f(x + h) - f(x - h)) / (2 * h), rtol=1e-7, atol=1e-9, err_msg=name(f))


def test_any_shape_broadcasts() -> None:
    relu = univariate("relu")
    assert closed_forms.kernel(relu, relu, 1.0, 1.0, 0.5).shape == ()  # type: ignore[union-attr]
    big = closed_forms.kernel(relu, relu, np.ones((300, 1)), np.ones(400), np.full((2, 300, 400), 0.5))
    assert big is not None and big.shape == (2, 300, 400) and np.ptp(big) == 0
    assert closed_forms.kernel(relu, relu, np.ones(0), 1.0, 0.0).shape == (0,)  # type: ignore[union-attr]
