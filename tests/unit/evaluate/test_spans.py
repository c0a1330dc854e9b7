"""Spans of nearly dependent kets: few directions, in single precision, shared by the matrices that meet the same kets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import tp_compiler as tpc
from tests.benchmarks.training import tanh_network
from tp_compiler.evaluate.sampling.conditioning import spans
from tp_compiler.evaluate.sampling.conditioning.directions import dropped_of
from tp_compiler.evaluate.sampling.conditioning.matmul import MatrixState
from tp_compiler.evaluate.sampling.conditioning.spans import Kets, KetSpan
from tp_compiler.evaluate.sampling.points import JointPoints, Points

M = 2**12
DROP = dropped_of(1000, M, False)
STEPS = 24


def _points(seed: int, samples: int = M) -> JointPoints:
    return JointPoints([Points(samples, (seed,), 128)])


def smooth(t: int, z: np.ndarray) -> np.ndarray:
    """Kets of a training that goes on smoothly: the dependence on earlier ones is nearly linear."""
    return np.tanh((1 + 0.05 * t) * z[:, :, :1] + 0.1 * t * z[:, :, 1:2])


def nearly_dependent(t: int, z: np.ndarray) -> np.ndarray:
    """Every ket is the first one and a little of a new direction, just above what is dropped and just below it."""
    return z[:, :, :1] + (1.5 if t % 2 else 0.8) * DROP * z[:, :, t + 1 : t + 2]


def far_and_near(t: int, z: np.ndarray) -> np.ndarray:
    """Kets of sizes from 1e-30 to 1e30, with and without a part that was met."""
    return 10.0 ** (5 * (t % 13) - 30) * (z[:, :, t : t + 1] + np.sin(z[:, :, : t % 3 + 1].sum(axis=2, keepdims=True)))


KETS: list[Callable[[int, np.ndarray], np.ndarray]] = [smooth, nearly_dependent, far_and_near]


def images(kets: Callable[[int, np.ndarray], np.ndarray], precision: float) -> tuple[np.ndarray, np.ndarray]:
    """W|x> and Wᵀ|y>, relative to the norms of their kets, of one ket after the other."""
    rows, cols = _points(1), _points(2)
    z, w = _points(3).draw(STEPS + 1), _points(4).draw(STEPS + 1)
    state = MatrixState(1.3, 2.0, KetSpan(DROP))
    found: tuple[list[np.ndarray], list[np.ndarray]] = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spans, "ROUNDINGS", precision)
        for t in range(STEPS):
            for side, (x, target) in enumerate(((kets(t, z), rows), (kets(t, w), cols))):
                y = state.apply(x, bool(side), target)
                found[side].append(y / np.sqrt(np.mean(x**2)))
    return np.concatenate(found[0], axis=2), np.concatenate(found[1], axis=2)


@pytest.mark.parametrize("kets", KETS)
def test_single_precision_errs_far_less_than_what_is_dropped(kets: Callable[[int, np.ndarray], np.ndarray]) -> None:
    """Errors of images are far below 1/M, as averages err; what is dropped has a square of 1/(4M)."""
    for single, double in zip(images(kets, spans.ROUNDINGS), images(kets, np.inf), strict=True):
        assert 0 < np.sqrt(np.mean((single - double) ** 2, axis=(0, 1))).max() < 0.05 / M


@pytest.mark.parametrize("kets", KETS)
def test_directions_stay_orthonormal_and_leave_less_than_what_may_be_dropped(
    kets: Callable[[int, np.ndarray], np.ndarray],
) -> None:
    z = _points(3).draw(STEPS + 3)
    span = KetSpan(DROP)
    for t in range(STEPS):
        x = np.concatenate([kets(t, z), kets(t + 1, z), 0 * z[:, :, :1]], axis=2)
        span = span.met(x)
        q = span.rows.values[0].astype(float)
        np.testing.assert_allclose(q @ q.T / M, np.eye(len(q)), atol=2e-6)
        unit = x[0] / np.maximum(np.sqrt(np.mean(x[0] ** 2, axis=0)), 1e-300)
        left = unit - q.T @ span.coefficients[0]
        assert np.sqrt(np.mean(left**2, axis=0)).max() < 1.001 * DROP
    assert span.precision is np.float32


def test_no_more_directions_than_kets_need() -> None:
    """Sixteen kets with two strong directions, each with 0.9 of what may be dropped in one direction more."""
    z = _points(5).draw(19)
    x = z[:, :, :2] @ np.stack([np.cos(np.arange(16)), np.sin(np.arange(16))])[None] + 0.9 * DROP * z[:, :, 2:18]
    assert KetSpan(DROP).met(x).size == 2
    x[:, :, 7] += 2 * DROP * z[:, :, 18]
    assert KetSpan(DROP).met(x).size == 3


def test_matrices_that_meet_the_same_kets_share_their_span() -> None:
    z = _points(6).draw(4)
    x, other = np.tanh(z), np.tanh(z + 1)
    start = KetSpan(DROP)
    states = [MatrixState(1.0, 1.0, start) for _ in range(3)]
    values = [x, x, x.copy()]  # the third value is another one, whatever its numbers
    for state, value in zip(states, values, strict=True):
        state.apply(value, False, _points(7), Kets.at(value))
    one, same, apart = (state.forward.span for state in states)
    assert one is same and one is not apart
    assert one.size == apart.size == 4
    for state in states[:2]:
        state.apply(other, False, _points(8), Kets.at(other))
    assert states[0].forward.span is states[1].forward.span and states[0].forward.span is not one
    np.testing.assert_array_equal(one.rows.values, apart.rows.values)


def test_kets_at_other_places_are_other_kets() -> None:
    x = _points(6).draw(2)
    assert Kets.at(x, 1).same(Kets.at(x, 1)) and not Kets.at(x, 1).same(Kets.at(x, 2))
    gone = Kets.at(x.copy())
    assert not gone.same(gone)


def test_a_span_that_two_go_on_from_gives_each_its_own() -> None:
    z = _points(9).draw(3)
    start = KetSpan(DROP).met(z[:, :, :1])
    one, other = start.met(z[:, :, 1:2]), start.met(z[:, :, 2:])
    assert start.size == 1 and one.size == other.size == 2
    assert abs(np.mean(one.rows.values[0, 1] * other.rows.values[0, 1])) < 0.1
    again = KetSpan(DROP).met(z[:, :, :1]).met(z[:, :, 1:2])
    np.testing.assert_array_equal(one.rows.values, again.rows.values)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["SGD(lr = 0.2)", "Adam(lr = 0.03, eps = 0.01)"])
def test_training_in_single_precision_errs_far_less_than_sampling(optimizer: str) -> None:
    program = tpc.compile(tanh_network(optimizer, 40))
    found = []
    for precision in (spans.ROUNDINGS, np.inf):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(spans, "ROUNDINGS", precision)
            found.append(tpc.limit(program, method="qmc", samples=512).outputs["f"])
    single, double = found
    assert 0 < np.max(np.abs(single.value - double.value)) < 0.1 * np.min(double.stderr)
