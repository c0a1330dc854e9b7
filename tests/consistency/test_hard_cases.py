"""The hard cases: answered within their printed error at every seed, or refused because there is nothing to answer."""

from __future__ import annotations

import pytest

import tp_compiler as tpc
from tests.consistency.hard_cases import EXACT, INFINITE, KETS, LONG, NESTED, SAMPLED, SAMPLED_INFINITE


def _answered(expression: str, value: float, seed: int) -> None:
    run = tpc.limit(f"{KETS}output o = {expression}", seed=seed)
    assert not run.failed, run.failed["o"].message
    estimate = run.outputs["o"]
    assert estimate.method in ("exact", "closed-form", "quadrature"), estimate.note
    assert abs(estimate.value - value) <= 3 * estimate.stderr + 1e-11 * abs(value)
    assert estimate.stderr <= 1e-6 * max(abs(value), 1e-7)


@pytest.mark.parametrize(("expression", "value"), EXACT.items(), ids=EXACT)
def test_finite_averages_are_answered(expression: str, value: float) -> None:
    for seed in (0, 1, 2):
        _answered(expression, value, seed)


@pytest.mark.parametrize(
    ("expression", "value"),
    [pytest.param(*row, marks=[pytest.mark.slow] if row[0] in LONG else []) for row in NESTED.items()],
    ids=NESTED,
)
def test_finite_averages_over_planes_are_answered(expression: str, value: float) -> None:
    _answered(expression, value, 0)


@pytest.mark.parametrize("expression", INFINITE)
def test_averages_that_do_not_exist_are_refused(expression: str) -> None:
    for seed in (0, 1, 2):
        run = tpc.limit(f"{KETS}output o = {expression}", seed=seed, max_samples=2**12)
        assert run.failed["o"].code == "NX441"
        assert "does not exist" in run.failed["o"].message


@pytest.mark.parametrize(("expression", "value", "largest"), [(e, *known) for e, known in SAMPLED.items()], ids=SAMPLED)
def test_samples_answer_what_is_finite(expression: str, value: float, largest: float) -> None:
    for seed in (0, 1, 2):
        run = tpc.limit(f"{KETS}output o = {expression}", method="qmc", seed=seed)
        assert not run.failed, run.failed["o"].message
        estimate = run.outputs["o"]
        assert abs(estimate.value - value) <= 5 * estimate.stderr, (seed, estimate)
        assert estimate.stderr <= largest


@pytest.mark.parametrize("expression", SAMPLED_INFINITE)
def test_samples_refuse_what_does_not_exist(expression: str) -> None:
    for seed in (0, 1, 2):
        run = tpc.limit(f"{KETS}output o = {expression}", method="qmc", seed=seed, samples=2**12)
        assert run.failed["o"].code == "NX441", run.outputs


def test_a_divisor_that_is_0_by_symmetry_is_named() -> None:
    """Not an average that the sampler finds no end of."""
    for method in ("auto", "exact"):
        run = tpc.limit(f"{KETS}output o = 1/<x|tanh(x*x)>", method=method)
        assert run.failed["o"].code == "NX411", run.failed["o"].message
