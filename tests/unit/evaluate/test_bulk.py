"""Errors of large arrays, one for all entries, and the bounds of derivatives that carry them through closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tp_compiler as tpc
from tp_compiler.evaluate import bulk, errors
from tp_compiler.evaluate.bulk import LARGE, Bulk
from tp_compiler.evaluate.gaussian import closed_forms, sensitivity
from tp_compiler.evaluate.gaussian.univariate import Univariate, normal_cdf, scaled, times, univariate

SIZE = 2 * LARGE
LONG = np.longdouble


def moved(values: Any, error: Bulk, rng: Any) -> Any:
    """What may be meant by values with this error, in more digits."""
    sides = rng.choice([-1.0, 1.0], np.shape(values))
    return LONG(values) + LONG(sides) * LONG(error.on(values))


@pytest.mark.skipif(np.finfo(LONG).eps > 1e-18, reason="no numbers longer than doubles")
@given(
    seed=st.integers(0, 2**32),
    number=st.floats(-1e3, 1e3).filter(lambda x: abs(x) > 1e-3) | st.sampled_from([2.0, -0.5, 3.0]),
    share=st.sampled_from([0.0, 1e-15, 1e-9]),
    floor=st.sampled_from([0.0, 1e-16, 1e-7]),
    off=st.sampled_from([0.0, 1e-14]),
)
@settings(max_examples=60, deadline=None)
def test_products_and_sums_with_a_number(seed: int, number: float, share: float, floor: float, off: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(SIZE) * 10 ** rng.uniform(-3, 3, SIZE)
    error = Bulk(share, floor)
    slack = 1e-18 * (abs(number) * np.abs(x) + np.abs(x) + abs(number))  # rounding of the longer numbers
    truth, other = moved(x, error, rng), LONG(number) + LONG(rng.choice([-off, off]))
    for operation, rule in ((np.multiply, bulk.of_product), (np.add, bulk.of_sum)):
        result = operation(x, number)
        found = rule(result, error, number, off)
        assert found is not None
        away = np.abs(operation(truth, other) - LONG(result))
        assert np.all(away <= LONG(found.on(result)) * (1 + 1e-14) + slack)
        assert np.max(found.on(result)) <= 4 * (
            np.max(away) + errors.EPS * np.max(np.abs(result)) + error.within(np.max(np.abs(x)))
        )


def test_whole_numbers_stay_exact_however_many() -> None:
    whole = np.arange(float(SIZE))
    assert not bulk.plainly_rounded(whole) and bulk.plainly_rounded(whole / 3)
    assert bulk.of_product(2 * whole, None, 2.0, 0.0) is None and errors.rounding(whole) is None
    program = (
        f"axis i : {SIZE}\naxis j : 100\n" + "output o[i] = 3 * i + 1\noutput p[i] = sum[j](j * (3 * i + 1)) + 0.5"
    )
    run = tpc.limit(program)
    assert not np.any(run.outputs["o"].stderr) and not np.any(run.outputs["p"].stderr)


@pytest.mark.parametrize("always", [False, True])
def test_what_is_shown_is_what_each_entry_would_show(always: bool) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((70, 70)) * 10 ** rng.uniform(-6, 2, (70, 70))
    x[3, 4:9] = 0.0
    for error in (Bulk(1e-15, 1e-16), Bulk(0.0, 1e-14), Bulk(1e-12, 0.0), Bulk(1e-14, 0.0), Bulk(0.0, 1e-9)):
        entries = errors.shown(x, np.broadcast_to(error.on(x), x.shape), always)
        assert np.array_equal(errors.shown(x, error, always), entries)


def test_a_range_cuts_large_errors_of_large_arrays() -> None:
    x = np.linspace(-1, 1, SIZE)
    small = Bulk(1e-15, 1e-15)
    assert errors.within(x, small, (-1.0, 1.0)) is small
    assert np.max(errors.within(x, Bulk(0.0, 10.0), (-1.0, 1.0))) <= 2.0


FUNCTIONS = {
    "relu": univariate("relu"),
    "abs": univariate("abs"),
    "leaky_relu": times(univariate("leaky_relu"), -2.0),
    "erf": univariate("erf"),
    "scaled erf": times(scaled(univariate("erf"), 0.7), 3.0),
    "erfc": univariate("erfc"),
    "normal_cdf": normal_cdf(),
}
E1, E2 = 3e-9, 1e-8  # far above rounding, so that changes are errors carried


def law(seed: int, spread: float | None, rows: int = 80) -> Any:
    """The covariance of random vectors, pairs of them 1e-6 apart and nearly opposite; or of nearly orthogonal ones."""
    rng = np.random.default_rng(seed)
    if spread is None:
        x = np.diag(rng.uniform(0.5, 1.5, rows)) + 1e-4 * rng.standard_normal((rows, rows))
        return x @ x.T
    x = rng.standard_normal((rows, 4)) * np.exp(spread * rng.standard_normal((rows, 1)))
    x[:8] = x[8:16] + 1e-6 * rng.standard_normal((8, 4))
    x[16:24] = -x[24:32] + 1e-6 * rng.standard_normal((8, 4))
    return x @ x.T


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("spread", [0.1, 1.0, None])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("off", [Bulk(E2, 1e-10), Bulk()], ids=["covariances", "variances alone"])
def test_no_change_of_the_law_moves_a_kernel_further(name: str, spread: float, symmetric: bool, off: Bulk) -> None:
    """Every variance and covariance is moved by its error, to one side or the other: the kernel of what comes out is
    within the bound of that of the law, and the bound not far above."""
    f = FUNCTIONS[name]
    gram, rng = law(5, spread), np.random.default_rng(0)
    v = np.diag(gram).copy()
    e1 = E1 * v * rng.uniform(0.5, 1.0, v.size)
    same = np.eye(v.size, dtype=bool) if symmetric else None

    def kernel(v1: Any, v2: Any, c: Any) -> Any:
        return closed_forms.kernel(f, f, v1[:, None], v2[None, :], c, same=same)

    truth, worst, least = kernel(v, v, gram), 0.0, np.inf
    for k in range(24):
        rows = rng.choice([-1.0, 1.0], v.size) if k % 3 else np.full(v.size, 1.0 - k % 2 * 2)
        columns = rows if symmetric else rng.permutation(rows)
        v1, v2, c = v + rows * e1, v + columns * e1, gram + (k // 2 % 2 * 2 - 1) * off.on(gram)
        value = kernel(v1, v2, c)
        law_of_rows, law_of_columns = (v1[:, None], e1[:, None]), (v2[None, :], e1[None, :])
        found = sensitivity.of_kernel(f, f, law_of_rows, law_of_columns, c, off, value, symmetric)
        assert found is not None
        assert np.all(np.abs(value - truth) <= found.on(value))
        worst, least = max(worst, float(np.max(np.abs(value - truth)))), min(least, float(np.max(found.on(value))))
    assert least < 20 * worst


@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_of_variances_are_the_derivative(name: str) -> None:
    f = FUNCTIONS[name]
    v = np.exp(np.linspace(-6, 6, 200))
    error = E1 * v

    def moment(v: Any) -> Any:
        return closed_forms.kernel(f, f, v, v, v, same=np.True_)

    found = sensitivity.of_variances(f, v, error, moment(v))
    away = np.maximum(*(np.abs(moment(v + side * error) - moment(v)) for side in (-1, 1)))
    assert np.all(away <= found) and np.all(found <= 1.01 * away + 30 * errors.EPS * np.max(found / E1 + 1))


def rounded_pairs(f: Univariate, seed: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    size = 100_000
    v1, v2 = np.exp(2 * rng.standard_normal((2, size)))
    near = 10 ** rng.uniform(-16, 0, size)
    ratio = np.choose(
        rng.integers(4, size=size), [rng.uniform(-1, 1, size), 1 - near, near - 1, rng.uniform(0.8, 1, size)]
    )
    return v1, v2, ratio * np.sqrt(v1 * v2)


@pytest.mark.skipif(np.finfo(LONG).eps > 1e-18, reason="no numbers longer than doubles")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_formulas_round_no_more_than_they_say(name: str) -> None:
    """Against the same formulas in longer numbers; one pair at a time, so that the bound is that of the pair."""
    f = FUNCTIONS[name]
    v1, v2, c = rounded_pairs(f, 2)
    with np.errstate(all="ignore"):
        value = closed_forms.kernel(f, f, v1, v2, c)
        exact = _in_long(f, *(a.astype(LONG) for a in (v1, v2, c)))
    assert value is not None
    away = np.abs(exact - value).astype(float)
    for k in (*np.argsort(-away)[:20], *np.argsort(-away / np.sqrt(v1 * v2))[:20], *range(100)):
        told = sensitivity.of_kernel(
            f, f, (v1[k : k + 1, None], None), (v2[None, k : k + 1], None), c[k : k + 1, None], Bulk(),
            value[k : k + 1, None], False,
        )  # fmt: skip
        assert told is None or away[k] <= told.floor


def _in_long(f: Univariate, v1: Any, v2: Any, c: Any) -> Any:
    from tp_compiler.evaluate.gaussian.arccosine import shape_of

    shape, pi = shape_of(f), 4 * np.arctan(LONG(1))
    scale, factor = LONG(f.scale), LONG(f.factor)
    w1, w2 = (scale**2 * v + LONG(shape.halves) / 2 for v in (v1, v2))
    root = np.sqrt(w1 * w2)
    ratio = np.clip(scale**2 * c / root, -1, 1)
    even, odd = LONG(shape.even) ** 2, LONG(shape.odd) ** 2
    if shape.order == 0:
        return factor**2 * (even + odd * 2 / pi * np.arcsin(ratio))
    rest = np.sqrt((1 - ratio) * (1 + ratio))
    return factor**2 * root * (even * 2 / pi * (rest + ratio * np.arctan2(ratio, rest)) + odd * ratio)
