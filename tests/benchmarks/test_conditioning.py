"""A GPT trains in its limit within the time of the contract (docs/benchmarks.md, "A GPT block")."""

from __future__ import annotations

import numpy as np
import pytest

import tp_compiler as tpc
from tests.benchmarks import conditioning
from tp_compiler.evaluate.sampling.merge_equal_nodes import shared
from tp_compiler.evaluate.sampling.plan import SamplingPlan
from tp_compiler.evaluate.sampling.replicate import Replication


def test_heads_of_a_gpt_share_the_spans_of_what_they_see() -> None:
    """Keys and values see the same kets, and the gradients of all heads reach O by the same kets."""
    plan = SamplingPlan(shared(tpc.compile(conditioning.gpt(tokens=8, heads=2, vocabulary=12, steps=4))))
    run = Replication(plan, 64, [(0, 0)], plain=False)
    spans = {
        (symbol.name, *member): (state.forward.span, state.backward.span)
        for (symbol, member), state in run.states.items()
    }
    assert spans["V", 1][0] is spans["V", 2][0] is spans["K", 1][0]
    assert spans["O", 1][1] is spans["O", 2][1]
    assert spans["O", 1][0] is not spans["O", 2][0]
    assert all(span.precision is np.float32 for pair in spans.values() for span in pair)


@pytest.mark.timed
def test_a_small_gpt() -> None:
    """It takes 7 s on a busy machine, imports included."""
    seconds, _, error = conditioning.gpt_seconds(conditioning.gpt(tokens=16, heads=2), samples=512, replicates=2)
    assert seconds < 14 and error < 0.05


@pytest.mark.long
@pytest.mark.timed
@pytest.mark.parametrize(("tokens", "layers", "goal"), [(32, 1, 100), (64, 2, 600)])
def test_blocks_of_a_gpt(tokens: int, layers: int, goal: float) -> None:
    seconds, samples, error = conditioning.gpt_seconds(conditioning.gpt(tokens, layers=layers))
    assert samples == 2048 and error < 5e-3
    assert seconds < goal
