"""Learned matrices as sums of outer products are the matrices, entry by entry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler.finite import loop, run
from tp_compiler.finite.batch import Networks
from tp_compiler.finite.factors import FactoredMatrices
from tp_compiler.finite.memory import peak
from tp_compiler.finite.tiles import TILE
from tp_compiler.finite.weights import NO_WEIGHTS
from tp_compiler.finite.widths import neurons
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.program import Output
from tp_compiler.ir.walk import reachable

EXAMPLES = Path(__file__).parents[3] / "examples"

#: One matrix between classes of different sizes, read forward and backward.
ONE = """
axis i : 3
axis d : 2
width m = 2
data xi[i,d] = [[0.9, -0.4], [0.3, 1.1], [-0.8, 0.2]]
data y[i] = [1.0, -0.5, 0.25]
ket |u[d]> : m ~ N(0, 1)
matrix W : n x m ~ N(0, 2)
ket |v> ~ N(0, 1)
def net(x[d]) { return <v|tanh(W tanh(sum[d](x[d] |u[d]>)))> }
train steps = 4 {
    f[i] = net(xi[i,d])
    minimize mean[i]((f[i] - y[i])^2) / 2 CLIP
    update all with OPTIMIZER
}
output f[step,i] = net(xi[i,d])
"""
#: A family, two members of which are written out, and one that no step changes.
FAMILY = """
axis i : 2
axis k : 3
axis h : 2
data y[i] = [1.0, -0.5]
ket |u[i]> ~ N(0, 1)
matrix W[k,h] ~ N(0, 1)
ket |v> ~ N(0, 1)
def net(|x>) {
    |x> = |x> + W[1,1] tanh(|x>) / 2
    |x> = |x> + W[3,2] tanh(W[1,1] |x>) / 2
    return <v|tanh(|x> + sum[h](W[2,h] |x>))>
}
train steps = 3 {
    f[i] = net(|u[i]>)
    minimize mean[i]((f[i] - y[i])^2) / 2
    update W, |v> with OPTIMIZER
}
output f[step,i] = net(|u[i]>)
output last[i,k,h] = <v|W[k,h]|u[i]>
"""
OPTIMIZERS = {
    "SGD": "SGD(lr = 0.5)",
    "schedule": "SGD(lr = 0.5 / (1 + step))",
    "momentum": "SGD(lr = 0.3, momentum = 0.8, weight_decay = 0.1)",
    "Nesterov": "SGD(lr = 0.3, momentum = 0.8, nesterov = 1)",
    "LARS": "LARS(lr = 0.5, trust = 0.1, weight_decay = 0.1)",
}
CASES = {
    **{name: ONE.replace("OPTIMIZER", how).replace("CLIP", "") for name, how in OPTIMIZERS.items()},
    "clipped": ONE.replace("OPTIMIZER", "SGD(lr = 0.5)").replace("CLIP", "clip 0.1"),
    "family": FAMILY.replace("OPTIMIZER", OPTIMIZERS["SGD"]),
    "family with momentum": FAMILY.replace("OPTIMIZER", OPTIMIZERS["momentum"]),
    "residual": (EXAMPLES / "train_resnet.nexort").read_text(encoding="utf-8"),
    "Muon": (EXAMPLES / "muon.nexort").read_text(encoding="utf-8"),
}


@contextmanager
def spied() -> Iterator[list[FactoredMatrices]]:
    """The matrices that have factors."""
    found: list[FactoredMatrices] = []

    def noted(*args, **options) -> FactoredMatrices | None:
        matrices = made(*args, **options)
        found.extend([] if matrices is None else [matrices])
        return matrices

    made = loop.factored
    with mock.patch.object(loop, "factored", noted):
        yield found


def samples(text: str, width: int, **options) -> run.Samples:
    return run.samples(tpc.compile(text), width, 3, **options)


@pytest.mark.parametrize("text", CASES.values(), ids=CASES)
def test_factors_give_the_outputs_of_entries(text: str) -> None:
    width = 300 if "Muon" in text else 80  # a step of Muon has as many products as its basis has kets
    with spied() as found:
        quick = samples(text, width)
    assert found
    with mock.patch.object(loop, "factored", return_value=None):
        plain = samples(text, width)
    assert quick.values and not quick.failed
    for name, value in plain.values.items():
        np.testing.assert_allclose(quick.values[name], value, rtol=1e-11, atol=1e-12)


def test_factors_are_used_while_they_are_fewer_numbers() -> None:
    """Four steps of three products, of kets of n and 2n neurons: 12 (3n + 1) numbers for 2n² entries, twice with momentum."""
    for name, width, factors in (("SGD", 18, False), ("SGD", 19, True), ("momentum", 9, False), ("momentum", 10, True)):
        with spied() as found:
            samples(CASES[name], width)
        assert bool(found) == factors, width


def test_members_have_only_the_products_of_their_own_uses() -> None:
    """W[1,1] is used twice, W[3,2] and W[2,h] once, the others never; three steps, two inputs."""
    with spied() as found:
        samples(CASES["family"], 80)
    (matrices,) = found
    assert {at: own.used for at, own in matrices.members.items()} == {
        (0, 0): 12, (0, 1): 0, (1, 0): 6, (1, 1): 6, (2, 0): 0, (2, 1): 6,
    }  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_digits_do_not_depend_on_how_many_share_an_array(dtype: type[np.floating]) -> None:
    for name in ("momentum", "family", "clipped"):
        compute = Networks(tpc.compile(CASES[name]), None, 64, 5, np.dtype(dtype), TILE, NO_WEIGHTS)
        eight = compute(range(8))
        for others in (compute([2, 5, 7]), compute([2])):
            for output, value in others[0][0].items():
                np.testing.assert_array_equal(value, eight[2][0][output], strict=True)


ENTRYWISE = {
    "Adam": ONE.replace("OPTIMIZER", "Adam(lr = 0.1)").replace("CLIP", ""),
    "own": (EXAMPLES / "own_optimizer.nexort").read_text(encoding="utf-8"),
}


@pytest.mark.parametrize("text", ENTRYWISE.values(), ids=ENTRYWISE)
def test_updates_of_entries_have_none(text: str) -> None:
    plan = Networks(tpc.compile(text), None, 64, 0, np.dtype(float), TILE, NO_WEIGHTS).plan
    assert plan.steps is not None and plan.steps.updates
    assert all(update.terms is None for update in plan.steps.updates)


def test_entries_that_an_output_reads_are_computed() -> None:
    """The mean square of Δ, which equals that of the factors where nothing reads it."""
    program = tpc.compile(CASES["momentum"])
    assert program.loop is not None
    carry = next(n for n in reachable(program.roots) if isinstance(n, ir.Carry) and n.state.name == "W")
    norm = Builder().contract((carry, carry), (), (0, carry.state.slot), carry.span)
    outputs = (*program.outputs, Output("norm", (), norm, carry.span))
    with spied() as found:
        read = run.samples(replace(program, outputs=outputs), 60, 3)
    assert not found
    with spied() as found:
        unread = run.samples(program, 60, 3)
    own = found[0].flat[0]
    entries = np.einsum("kr,kra,krb->kab", own.coefficients[carry.state], own.left, own.right)
    np.testing.assert_allclose(read.values["norm"], (entries**2).mean(axis=(1, 2)), rtol=1e-12)
    np.testing.assert_allclose(read.values["f"], unread.values["f"], rtol=1e-12)


def test_memory_is_that_of_the_factors() -> None:
    """What `--max-memory` counts is at least what the states take, and far less than their entries."""
    for name in ("momentum", "family with momentum"):
        program = tpc.compile(CASES[name])
        with spied() as found:
            samples(CASES[name], 200)
        plan = Networks(program, None, 200, 0, np.dtype(float), TILE, NO_WEIGHTS).plan
        most = peak(plan, lambda width: neurons(width, 200), TILE)
        arrays = [a for own in found[0].flat for a in (own.left, own.right, *own.coefficients.values())]
        assert sum(a.size for a in arrays) / 3 < most.carried
        states = len(found[0].update.following)
        assert most.carried < (0.3 if name == "momentum" else 0.8) * states * len(found[0].flat) * 200 * 200


DIVERGING = {
    "overflow of a ket": ONE.replace("OPTIMIZER", "SGD(lr = 1e30)").replace("tanh(W", "0.1 * (W"),
    "overflow of a product": ONE.replace("update all", "update W")
    .replace("OPTIMIZER", "SGD(lr = 1e308)")
    .replace("1.0, -0.5", "1e6, 0"),
    "division": "optimizer Unit(lr) on layers { return -lr * g / norm(g) }"
    + ONE.replace("OPTIMIZER", "Unit(lr = 0.1)")
    .replace("f[i] - y[i]", "y[i] * f[i]")
    .replace("1.0, -0.5, 0.25", "0, 0, 0"),
}


@pytest.mark.parametrize("text", DIVERGING.values(), ids=DIVERGING)
def test_a_training_that_diverges_is_refused_alike(text: str) -> None:
    text = text.replace("CLIP", "")
    with spied() as found:
        failed = samples(text, 40).failed
    assert found
    with mock.patch.object(loop, "factored", return_value=None):
        plain = samples(text, 40).failed
    assert failed
    assert {name: (d.code, d.message) for name, d in failed.items()} == {
        name: (d.code, d.message) for name, d in plain.items()
    }
