"""The targets of training as claims that run (docs/benchmarks.md has the figures), with room for a loaded machine."""

from __future__ import annotations

import pytest

from tests.benchmarks import growth, training

pytestmark = pytest.mark.timed


def test_time_is_linear_in_steps() -> None:
    training.training_seconds("SGD(lr = 0.1)", 2)  # imports
    for optimizer in ("SGD(lr = 0.1)", "Adam(lr = 0.02, eps = 0.01)"):
        short, long = (training.training_seconds(optimizer, steps) for steps in (20, 80))
        assert long < 4 * short * 2, (optimizer, short, long)


@pytest.mark.torch
def test_a_step_of_adam_takes_less_than_twice_the_time_of_pytorch() -> None:
    pytest.importorskip("torch")
    assert training.step_seconds(2**15, (8, 12)) < 2 * training.torch_step_seconds(2**15, "float64")


def test_small_errors_from_a_cold_start() -> None:
    seconds, error, _ = training.demand_seconds(3e-4)
    assert error < 3e-4 and seconds < 15


@pytest.mark.parametrize("optimizer", growth.OPTIMIZERS.values(), ids=growth.OPTIMIZERS)
def test_time_is_linear_in_the_layers_of_a_family(optimizer: str) -> None:
    found = growth.depth_seconds(optimizer)
    assert growth.exponent(found) < 1.2
    assert found[64] < 8
