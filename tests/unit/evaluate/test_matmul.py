"""Conditioning: hats, dots and adjoints of W on particles, rectangular ones included (docs/mathematics.md, section 3)."""

from __future__ import annotations

import numpy as np
import pytest

from tp_compiler.evaluate.sampling.conditioning.matmul import MatrixState
from tp_compiler.evaluate.sampling.points import JointPoints, Points

M = 2**14


def _points(seed: int) -> Points:
    return Points(M, (seed,), 16)


def applied(state: MatrixState, x: np.ndarray, transposed: bool, target: Points) -> np.ndarray:
    """The kets of one replicate."""
    (found,) = state.apply(x[None], transposed, JointPoints([target]))
    return found


@pytest.mark.parametrize("ratio", [0.25, 1.0, 4.0])
def test_hats_have_the_covariance_of_their_kets(ratio: float) -> None:
    rows, cols = _points(1), _points(2)
    x = np.tanh(cols.draw(3) @ np.array([[1.0, 0.5, 0.2], [0, 1, 0.3], [0, 0, 1]]))
    state = MatrixState(1.7, ratio)
    y = applied(state, x, False, rows)
    np.testing.assert_allclose(y.T @ y / M, 1.7 * x.T @ x / M, atol=4e-3)


@pytest.mark.parametrize("ratio", [0.25, 1.0, 4.0])
def test_the_adjoint_identity_holds(ratio: float) -> None:
    """<y|W|x> = ρ⁻¹ <Wᵀy|x>, brackets being means over their own width."""
    rows, cols = _points(3), _points(4)
    x = cols.draw(1)
    state = MatrixState(0.8, ratio)
    wx = applied(state, x, False, rows)
    y = np.tanh(wx) + 0.5 * rows.draw(1)
    wty = applied(state, y, True, cols)
    np.testing.assert_allclose(np.mean(y * wx), np.mean(wty * x) / ratio, rtol=1e-12)


def test_the_dot_of_a_nonlinear_ket_is_its_mean_derivative() -> None:
    """Ẇᵀ|φ(Wx)> = σ² |x> E φ'(Ŵx): TP IVb, Def 2.6.5."""
    rows, cols = _points(5), _points(6)
    x = cols.draw(1)
    state = MatrixState(1.0, 1.0)
    h = applied(state, x, False, rows)
    back = applied(state, np.tanh(h), True, cols)
    derivative = np.mean(1 - np.tanh(h) ** 2)
    np.testing.assert_allclose(np.mean(back * x) / np.mean(x * x), derivative, atol=3e-3)
    hat = back - derivative * x
    np.testing.assert_allclose(np.mean(hat * hat), np.mean(np.tanh(h) ** 2), atol=6e-3)


def test_dependent_kets_add_no_direction() -> None:
    rows, cols = _points(7), _points(8)
    x = cols.draw(2)
    family = np.column_stack([x[:, 0], x[:, 0], np.zeros(M), 2 * x[:, 0] - 3 * x[:, 1], 1e-3 * x[:, 1], 1e3 * x[:, 1]])
    state = MatrixState(1.0, 1.0)
    y = applied(state, family, False, rows)
    assert state.forward.size == 2
    np.testing.assert_allclose(y[:, 0], y[:, 1], atol=1e-9)
    assert not y[:, 2].any()
    np.testing.assert_allclose(y[:, 3], 2 * y[:, 0] - 1e-3 * 3 * y[:, 5], atol=1e-6)
    again = applied(state, x, False, rows)
    assert state.forward.size == 2
    np.testing.assert_allclose(again[:, 0], y[:, 0], atol=1e-9)


def test_nearly_equal_kets_keep_their_difference() -> None:
    rows, cols = _points(9), _points(10)
    x = cols.draw(2)
    near = np.column_stack([x[:, 0], x[:, 0] + 1e-4 * x[:, 1]])
    y = applied(MatrixState(1.0, 1.0), near, False, rows)
    difference = (y[:, 1] - y[:, 0]) / 1e-4
    np.testing.assert_allclose(np.mean(difference**2), np.mean(x[:, 1] ** 2), rtol=1e-2)


def test_replicates_that_need_different_numbers_of_directions_go_on_in_groups() -> None:
    """Two columns are dependent in the second replicate, and independent in the others."""
    kets = np.stack([_points(11 + r).draw(2) for r in range(3)])
    kets[1, :, 1] = 2 * kets[1, :, 0]

    def run(chosen: list[int]) -> tuple[np.ndarray, list[int]]:
        rows, cols = (JointPoints([_points(20 + 10 * k + r) for r in chosen]) for k in (0, 1))
        state = MatrixState(1.3, 2.0)
        y = state.apply(kets[chosen], False, rows)
        back = state.apply(np.tanh(y), True, cols)
        again = state.apply(np.tanh(back), False, rows)
        return np.concatenate([y, back, again], axis=2), state.sizes(len(chosen))

    together, sizes = run([0, 1, 2])
    for r in range(3):
        alone, size = run([r])
        assert np.array_equal(together[r], alone[0])
        assert [sizes[r]] == size
    assert len(set(sizes)) > 1
    np.testing.assert_allclose(together[1, :, 1], 2 * together[1, :, 0], atol=1e-9)
