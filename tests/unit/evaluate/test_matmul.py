"""Conditioning: hats, dots and adjoints of W on particles, rectangular ones included (docs/mathematics.md, section 3)."""

from __future__ import annotations

import numpy as np
import pytest

from tp_compiler.evaluate.sampling.averages import AVERAGES, product, transposed
from tp_compiler.evaluate.sampling.conditioning.directions import Basis, orthonormal
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


def test_replicates_that_need_different_numbers_of_directions_share_arrays() -> None:
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


def _dependent(replicate: int, samples: int = 64, count: int = 5) -> np.ndarray:
    """Kets (1, samples, count) of which `replicate` depend on the others, exactly or nearly; sizes differ by 1e9."""
    rng = np.random.default_rng(replicate)
    x = rng.standard_normal((1, samples, count))
    for k in reversed(range(replicate)):
        x[:, :, k] = x[:, :, k + 1 :] @ rng.standard_normal(count - 1 - k) if k < count - 1 else 0.0
    if replicate == 2:
        x[:, :, 0] += 1e-6 * rng.standard_normal(samples)
    return x * 10.0 ** rng.uniform(-4, 5, count)


def test_orthonormal_directions_do_not_depend_on_the_replicates_beside() -> None:
    """Each replicate has the directions of its own kets: they are orthonormal, and leave nothing of any ket."""
    kets = np.concatenate([_dependent(r) for r in range(6)])
    found, sizes = orthonormal(kets, AVERAGES.norms(kets), 1e-11)
    assert sizes == (5, 4, 4, 2, 1, 0)
    for r, size in enumerate(sizes):
        alone, own = orthonormal(kets[r : r + 1], AVERAGES.norms(kets[r : r + 1]), 1e-11)
        assert own == (size,) and np.array_equal(alone[0], found[r, :, :size]) and not found[r, :, size:].any()
        np.testing.assert_allclose(found[r].T @ found[r] / 64, np.diag(np.arange(5) < size), atol=1e-9)
        seen = found[r].T @ kets[r] / 64
        assert np.all(np.linalg.norm(kets[r] - found[r] @ seen, axis=0) <= 1e-9 * np.linalg.norm(kets[r], axis=0))
        variances = np.linalg.norm(seen, axis=1)
        assert np.all(np.diff(variances) <= 1e-9 * variances[:1])


def test_bases_of_replicates_grow_by_what_each_needs() -> None:
    batches = [np.concatenate([_dependent((r + t) % 6) for r in range(4)]) for t in range(4)]
    together = Basis(1e-11)
    alone = [Basis(1e-11) for _ in range(4)]
    for kets in batches:
        found = together.coordinates(kets)
        for r, basis in enumerate(alone):
            (own,) = basis.coordinates(kets[r : r + 1])
            assert np.array_equal(found[r, : len(own)], own) and not found[r, len(own) :].any()
            assert np.array_equal(together.rows.values[r, : len(own)], basis.rows.values[0])
            np.testing.assert_allclose(own.T @ basis.rows.values[0], kets[r].T, atol=1e-9 * np.abs(kets[r]).max())
    assert together.sizes == tuple(basis.size for basis in alone) and len(set(together.sizes)) > 1


@pytest.mark.parametrize("seed", range(40))
def test_products_are_those_that_every_replicate_has_by_itself(seed: int) -> None:
    """Of matrices laid out by rows or by columns, of every size from one on."""
    rng = np.random.default_rng(seed)
    dims = [rng.integers(1, 9, 4) for _ in range(3)]
    sizes = [tuple(int(n) for n in one) if rng.random() < 0.8 else None for one in dims]
    most = [int(max(one)) for one in dims]

    def laid(rows: int, columns: int, by_rows: bool) -> tuple[np.ndarray, list[np.ndarray]]:
        """Random matrices beyond whose sizes there is nothing, and each of them by itself."""
        shape = most[rows], most[columns]
        full = rng.standard_normal((4, *(shape if by_rows else shape[::-1])))
        own = [
            full[r, : None if a is None else a[r], : None if b is None else b[r]].copy()[None]
            for a, b in [(sizes[rows], sizes[columns]) if by_rows else (sizes[columns], sizes[rows])]
            for r in range(4)
        ]
        return (full, own) if by_rows else (transposed(full), [transposed(x) for x in own])

    a, own_a = laid(0, 1, bool(seed % 2))
    b, own_b = laid(1, 2, bool(seed // 2 % 2))
    found = product(a, b, *sizes)
    for r in range(4):
        alone = (own_a[r] @ own_b[r])[0]
        assert np.array_equal(found[r, : len(alone), : alone.shape[1]], alone)
