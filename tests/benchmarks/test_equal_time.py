"""The comparison with PyTorch at equal time is fair, and is also won at small budgets."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tp_compiler as tpc  # noqa: E402
from tests.benchmarks import equal_time, simulation  # noqa: E402
from tests.benchmarks.opponents import OPPONENTS  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize(("name", "width", "seeds"), [("MLP", 24, 1500), ("Transformer", 12, 250)])
def test_the_opponents_train_the_networks_of_the_program(name: str, width: int, seeds: int, optimizer: str) -> None:
    """Means and spreads of independent networks of one width agree, where both are far from the limit."""
    opponent = OPPONENTS[name]
    theirs = opponent.networks(optimizer, width, 2 * seeds, torch.Generator().manual_seed(3), torch.float64).numpy()
    run = tpc.simulate(opponent.programs[optimizer], width=width, seeds=seeds)
    ours = np.stack([opponent.output(value) for value in run.outputs["f"].replicates.levels[0]])
    error = np.sqrt(theirs.var(axis=0) / len(theirs) + ours.var(axis=0) / len(ours))
    assert np.abs(theirs.mean(axis=0) - ours.mean(axis=0)).max() < 4.5 * error.max()
    np.testing.assert_allclose(theirs.std(axis=0), ours.std(axis=0), rtol=4.5 / math.sqrt(seeds))


def _batches(bias: float, spread: float, seconds: float) -> equal_time.Batches:
    """A hundred thousand networks of known mean and variance."""
    half = np.ones((50_000, 1)) * spread
    return equal_time.Batches(seconds, [bias + half, bias - half])


def test_networks_have_the_best_width_and_extrapolate() -> None:
    """Bias 1/n + 1/n^2, variance 1e-4/n and cost n^2: the error at n and 2n has a bias of -1/(2 n^2)."""
    found = {("float32", n): _batches(1 / n + 1 / n**2, 1e-2 * n**-0.5, 1e-7 * 100_000 * n**2) for n in (8, 16, 32)}
    # Cheap and biased networks win early: n = 8 with variance 8e-11 / t.
    error, how = equal_time.networks_error(found, np.zeros(1), 1e-9)
    assert how == "float32, n = 8" and error.error == pytest.approx(math.hypot(1 / 8 + 1 / 64, 0.08**0.5), rel=1e-3)
    # Later the extrapolation from 16 and 32, whose costs are (sqrt(1.6e-10) + 2 sqrt(3.2e-10))^2.
    error, how = equal_time.networks_error(found, np.zeros(1), 1e-3)
    assert how == "float32, n = 16 and 32"
    variance = 1.6e-7 * (1 + 2 * math.sqrt(2)) ** 2
    assert error.error == pytest.approx(math.hypot(1 / 512, math.sqrt(variance)), rel=1e-3)


def test_the_bias_of_networks_is_known_without_its_noise() -> None:
    """Many measurements of three outputs: squares of biases are right on the average, and as sure as they say."""
    rng, widths, count = np.random.default_rng(0), (32, 64, 128, 256), 40
    slopes = np.array([0.5, -1.0, 2.0])
    squares, spreads = [], []
    for _ in range(400):
        found = {}
        for n in widths:
            outputs = slopes / n + slopes[::-1] / n**2 + rng.standard_normal((count, 3)) / math.sqrt(n)
            found["float64", n] = equal_time.Batches(1.0, [outputs])
        expected = equal_time.Bias(found, np.zeros(3)).expected({32: 1.0}, 0.25)
        squares.append(expected.square - 0.25)
        spreads.append(expected.spread)
    true = float(np.mean((slopes / 32 + slopes[::-1] / 32**2) ** 2))
    kept = np.maximum(0.0, squares)
    assert np.mean(kept) == pytest.approx(true, rel=0.3)  # squares are not negative, so that some noise is left
    assert 0.5 < np.std(squares) / np.mean(spreads) < 2


def test_the_error_of_limits_is_expected_not_lucky() -> None:
    """Replicates of known variance and bias, three outputs; what is taken off as the bias has a noise of its own."""
    rng, bias, sigma, extra = np.random.default_rng(1), np.array([0.1, -0.2, 0.0]), 0.5, 0.05
    squares, spreads = [], []
    exact = equal_time.Limit(0.0, np.zeros(3), 1e-9 * rng.standard_normal((16, 3)))
    for _ in range(500):
        replicates = bias + sigma * rng.standard_normal((4, 5, 3))
        runs = [equal_time.Limit(0.0, r.mean(axis=0) + extra * rng.standard_normal(3), r) for r in replicates]
        found = equal_time.limit_error(runs, exact)
        squares.append(found.square)
        spreads.append(found.spread)
    true = float(np.mean(bias**2)) + sigma**2 / 5 + extra**2
    assert np.mean(squares) == pytest.approx(true, rel=0.1)
    assert 0.4 < np.std(squares) / np.mean(spreads) < 1.5


@pytest.mark.timed
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_a_limit_of_one_second_is_better_than_networks(optimizer: str) -> None:
    (row,) = equal_time.measure("MLP", optimizer, [1.0], rounds=3)
    assert row.ratio > 1.2, row


@pytest.mark.long
@pytest.mark.timed
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_a_limit_of_ten_seconds_is_better_than_transformers(optimizer: str) -> None:
    (row,) = equal_time.measure("Transformer", optimizer, [10.0], rounds=2, seconds=2.0)
    assert row.ratio > 1.2, row


@pytest.mark.timed
@pytest.mark.parametrize(("width", "seeds", "most"), [(64, 32, 2.8), (256, 8, 1.6), (1024, 2, 1.2)])
def test_simulation_takes_little_more_than_batched_pytorch(width: int, seeds: int, most: float) -> None:
    """In single precision, SGD; measured: 1.9, 1.0 and 0.7 times (docs/benchmarks.md)."""
    ours, theirs = simulation.seconds("SGD", width, seeds)
    assert ours < most * theirs
