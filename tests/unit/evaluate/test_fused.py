"""Compiled passes over entries: every digit is that of the pass in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc
from tests.benchmarks.training import OPTIMIZERS, numba, tanh_network
from tp_compiler.evaluate.sampling import blocks, fused
from tp_compiler.evaluate.sampling.merge_equal_nodes import shared
from tp_compiler.evaluate.sampling.plan import SamplingPlan

pytest.importorskip("numba")
LOOPS = {
    "Adam": OPTIMIZERS["Adam"],
    "AMSGrad": "AMSGrad(lr = 0.1, eps = 0.01)",
    "Adamax": "Adamax(lr = 0.1, eps = 0.01)",
    "signSGD": "SignSGD(lr = 0.1)",
}


def run(text: str, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(blocks, "WORTHWHILE", 0 if compiled else 2**60)
    monkeypatch.setattr(fused, "_KERNELS", {})
    found = tpc.limit(text, method="qmc", samples=64, replicates=2)
    assert bool(fused._KERNELS) == compiled
    return found


@pytest.mark.parametrize(
    "name", ["Adam", *(pytest.param(name, marks=pytest.mark.slow) for name in LOOPS if name != "Adam")]
)
def test_every_digit_is_that_of_numpy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tanh_network(LOOPS[name], 3)
    np.testing.assert_array_equal(run(text, True, monkeypatch)["f"], run(text, False, monkeypatch)["f"])


def test_equal_loops_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And are used however few the entries, but not where numba is missing."""
    monkeypatch.setattr(fused, "_KERNELS", {})

    def passes(steps: int) -> blocks.Passes:
        (found,) = SamplingPlan(shared(tpc.compile(tanh_network(OPTIMIZERS["Adam"], steps)))).passes.values()
        return found

    few, many = passes(2), passes(2**12)
    assert few.fused(2048) is None
    loop = many.fused(2048)
    assert loop is not None
    kernel = loop.kernel()
    again = few.fused(2048)
    assert again is not None and again.kernel() is kernel
    with numba(False):
        assert few.fused(2048) is None
