"""Influences of particles by reverse mode: derivatives along directions, and the spread of networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc
from tests.consistency import networks
from tp_compiler.evaluate.options import Options
from tp_compiler.evaluate.sampling import weighted
from tp_compiler.evaluate.sampling.averages import DifferentiableAverages
from tp_compiler.evaluate.sampling.weighted import WeightedSampler

torch_arrays = pytest.importorskip("tp_compiler.evaluate.torch_arrays")

pytestmark = pytest.mark.torch

M = 256
SMOOTH = ["linear", "mlp_sgd", "rectangular", "there_and_back", "tied", "transformer"]


def sampler(name: str, **options: Any) -> WeightedSampler:
    program = tpc.compile(networks.PROGRAMS[name].read_text(encoding="utf-8"))
    return WeightedSampler(program, [o.name for o in program.outputs], Options(**options))


def along_directions(found: WeightedSampler, count: int) -> dict[str, np.ndarray]:
    """√M times the derivatives along the first directions of the first scrambling, by reverse mode."""
    asked = weighted.Runs(M, 0.5)
    weights = [found._weights(space, ratio, asked, 0, range(count)) for space, ratio in found.ratios.items()]
    directions = np.concatenate([np.sign(w[1::2] - w[2::2]) for w in weights], axis=1)
    return {name: directions @ x[0].T for name, x in found.influences(M, range(1)).items()}


def by_differences(found: WeightedSampler, count: int) -> dict[str, np.ndarray]:
    runs = found.runs(M, range(1), range(count))
    return {
        name: np.sqrt(M) * (runs.plus[name][0] - runs.minus[name][0]).reshape(count, -1) / (2 * runs.step)
        for name in runs.base
    }


@pytest.mark.parametrize("name", SMOOTH)
def test_reverse_mode_has_the_derivatives_of_small_differences(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weighted, "SMOOTH", 1e-4)
    found = sampler(name)
    assert found.differentiable
    reverse, small = along_directions(found, 3), by_differences(found, 3)
    assert reverse.keys() == small.keys() and reverse
    for output in reverse:
        np.testing.assert_allclose(reverse[output], small[output], rtol=1e-4, atol=1e-5, err_msg=output)


def test_directions_that_turn_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without their derivatives, the directions of kets are constants, and derivatives are those of another function."""
    monkeypatch.setattr(weighted, "SMOOTH", 1e-4)
    monkeypatch.setattr(DifferentiableAverages, "aligned", lambda self, found, kets: self.constant(found))
    found = sampler("mlp_sgd")
    assert np.abs(along_directions(found, 3)["f"] - by_differences(found, 3)["f"]).max() > 0.01


def test_differences_on_tensors_are_those_on_arrays() -> None:
    ours, theirs = (by_differences(sampler("rectangular", backend=name), 2)["f"] for name in ("numpy", "torch"))
    np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["linear", "linear_deep", "mlp_sgd", "rectangular", "there_and_back"])
def test_influences_give_the_spread_of_networks(name: str) -> None:
    """n Cov of networks, extrapolated from two widths."""
    (few, least), (many, most) = sorted(networks.truth(name).items())[-2:]
    for output, influences in sampler(name).influences(2048, range(4)).items():
        sigma = np.einsum("rap,rbp->rab", influences, influences)
        low, high = least[output], most[output]
        expected = 2 * many * high.covariance - few * low.covariance
        noise = np.hypot(2 * many * high.covariance_stderr, few * low.covariance_stderr)
        error = sigma.std(axis=0) / 2
        assert (
            np.abs(sigma.mean(axis=0) - expected) < 4 * np.hypot(noise, error) + 0.02 * np.abs(expected).max()
        ).all(), output
        assert (error < 0.03 * np.abs(expected).max()).all()


def test_tapes_that_do_not_fit_are_not_begun() -> None:
    with pytest.raises(torch_arrays.Undifferentiated):
        sampler("mlp_sgd", max_memory=1e6).influences(2048, range(1))
