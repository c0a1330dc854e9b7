"""Replicates that share arrays have the digits, and the failures, that each of them has by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tp_compiler as tpc
from tests.benchmarks.training import OPTIMIZERS, tanh_network
from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate.arrays import REPLICATE, Labels, contract
from tp_compiler.evaluate.blas import one_blas_thread
from tp_compiler.evaluate.options import Options
from tp_compiler.evaluate.sampling.batch import Batch, Replicated, Sampler
from tp_compiler.evaluate.sampling.clock import ProgressClock
from tp_compiler.evaluate.sampling.merge_equal_nodes import shared
from tp_compiler.ir.types import Axis, Index

EXAMPLES = Path(__file__).parents[2] / "examples"
KETS = "ket |x> ~ N(0, 1)\nket |y> ~ N(0, 1)\nmatrix W ~ N(0, 1)\n"
PROGRAMS = {
    "adam": tanh_network(OPTIMIZERS["Adam"], 3),
    "sgd, until replicates need different numbers of directions": tanh_network(OPTIMIZERS["SGD"], 20),
    "adam, until nearly dependent kets are dropped": tanh_network(OPTIMIZERS["Adam"], 20),
    "clipped": tanh_network("Adam(lr = 0.1, eps = 0.01)", 2).replace(
        "mean[i]((f[i] - y[i])^2) / 2", "mean[i](relu(f[i] * y[i] + 0.02)) clip 0.3"
    ),
    "copies": f"{KETS}|a> = E[1,2](tanh((W |x>)@1 + |y>) * cos(|x>@2 * |y>))\noutput <a|tanh(a)>",
    "draws": f"{KETS}c = clt <x|tanh(y)>\noutput <tanh(c * x)|tanh(y)>\noutput c",
    "powers": f"{KETS}s = <x|x>\noutput s^2 + s^0.5 + s^3 + s^(-1.5)\noutput <abs(x)^s>\noutput <x^3|x^2>",
    "laws": f"ket |r> ~ uniform(1)\n{KETS}s = <x|x>\nket |z> ~ N(s, s^2)\noutput <z|z> + <step(x - r)>",
    "a variance that is zero in some replicates": f"{KETS}s = relu(<x|y>)\nket |z> ~ N(0, s)\nket |w> ~ N(0, 1)\n"
    "output <cos(z + w)|x + z>",
    "a failure of some replicates": f"{KETS}output sqrt(<x|y>)\noutput <x|x>",
    "tails": f"{KETS}output <1/sqrt(abs(x))>\noutput <step(x - 3)>\noutput <exp(x)>",
    "matrices": f"axis i, j : 2\n{KETS}ket |k[i]> ~ N(0, 1)\nG[i,j] = <k[i]|k[j]> + delta[i,j]\nH[i,j] = inv[i,j](G[i,j])\n"
    "output H[i,j]\noutput logdet[i,j](G[i,j])\noutput pow[i,j](G[i,j], -0.5)",
}  # fmt: skip
#: Gradient flows, which take minutes, are computed one by one: there is nothing to compare.
SLOW = sorted(path.name for path in EXAMPLES.glob("*.nexort") if path.stem != "gradient_flow")


def same(a: Replicated, b: Replicated) -> bool:
    """Whether two results agree in every digit."""
    if a.directions != b.directions:
        return False
    for x, y in zip(a[:3], b[:3], strict=True):
        assert x.keys() == y.keys()
        for name in x:
            if isinstance(x[name], Diagnostic):
                if x[name] != y[name]:
                    return False
            elif not np.array_equal(x[name], y[name]):
                return False
    return True


def check(program: tpc.Program, samples: int) -> None:
    found = shared(program)
    sampler = Sampler(found, [o.name for o in found.outputs], Options(method="qmc"))
    clock = ProgressClock(sampler.plan, sampler.options, 0.0)
    with one_blas_thread():
        eight = sampler(Batch(samples, tuple(range(8))), clock)
        three = sampler(Batch(samples, (5, 0, 3)), clock)
        for number, among in ((5, three[0]), (0, three[1]), (3, three[2])):
            (alone,) = sampler(Batch(samples, (number,)), clock)
            assert same(alone, among) and same(alone, eight[number]), number
        first, second, other = sampler(Batch(samples, (12, 13, 3), halved=True), clock)
        assert same(second, sampler(Batch(samples, (13,), halved=True), clock)[0])
        assert not same(first, second) and not same(second, other)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_replicate_does_not_depend_on_those_beside_it(name: str) -> None:
    check(tpc.compile(PROGRAMS[name]), 64)


A, B, C = (Index(name, Axis(name, size)) for name, size in (("i", 5), ("j", 7), ("k", 6)))


@pytest.mark.parametrize(
    "factors",
    [
        ((A, C), (C,)),
        ((A, C), (C, B)),
        ((C,), (B, C)),
        ((0, C), (C, B)),
        ((0, A, C), (A, C), (A, C)),
        ((0, A), (0, B), (B, C)),
    ],
)
@pytest.mark.parametrize("differing", [(0,), (1,), (0, 1)])
def test_sums_of_products_do_not_depend_on_the_number_of_replicates(
    factors: tuple[Labels, ...], differing: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(1)
    of = [(REPLICATE, *own) if k in differing else own for k, own in enumerate(factors)]
    sizes = {REPLICATE: 9, 0: 64, **{index: index.size for index in (A, B, C)}}
    arrays = [rng.standard_normal([sizes[label] for label in own]) for own in of]
    out = (REPLICATE, *(index for index in (A, B) if any(index in own for own in factors)))
    together = contract(arrays, of, out)
    for r in range(9):
        alone = [x[r : r + 1] if own[0] == REPLICATE else x for x, own in zip(arrays, of, strict=True)]
        assert np.array_equal(contract(alone, of, out)[0], together[r])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_replicates_of_the_examples_do_not_depend_on_each_other(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    program = tpc.compile((EXAMPLES / name).read_text())
    check(program, 128)
