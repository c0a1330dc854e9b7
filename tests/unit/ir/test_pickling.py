"""Compiled programs in other processes: every kind of them, and chains that are too long for pickle itself."""

from __future__ import annotations

import multiprocessing
import pickle

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler.ir.model import Compiled
from tp_compiler.ir.walk import reachable

START = """
axis i : 2
data x[i] = [1.0, -0.5]
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
matrix W ~ N(0, 1)
def net(z) { return READ <v|tanh(W tanh(z * |u>))> }
"""
TRAINED = (
    START
    + """
train CLOCK {
    f[i] = net(x[i])
    loss = mean[i]((f[i] - 1)^2)
    minimize loss
    update all with OPTIMIZER
}
output f[step,i]
output loss[step]
"""
)


def trained(optimizer: str, head: str = "", read: str = "", clock: str = "steps = 2") -> str:
    text = TRAINED.replace("READ", read).replace("CLOCK", clock).replace("OPTIMIZER", optimizer)
    return f"{head}\n{text}" if head else text


PROGRAMS = {
    "initialisation": START.replace("READ", "") + "output f[i] = net(x[i])",
    "kernel": START.replace("READ", "clt") + "axis k : 2\nf[i] = net(x[i])\noutput t = ntk(f[1], f[2])",
    "sgd": trained("SGD(lr = 0.1, momentum = 0.5)"),
    "adam": trained("Adam(lr = 0.1, eps = 0.1)"),
    "operators": trained("Muon(lr = 0.1)"),
    "layers": trained("Nero(lr = 0.1)"),
    "tangent": trained("SGD(lr = 0.1)", "parametrization ntk", "clt"),
    "flow": trained("SGD(lr = 0.1)", "parametrization ntk", "clt", "time = [1, 2]"),
    "block": trained("SGD(lr = 0.1)", "parametrization { W : c = 3/2 }"),
}
DEEP = (
    "axis l : 2000\nket |u> ~ N(0, 1)\nmatrix A[l] ~ N(0, 1)\n|h> = |u>\n"
    "for l in 1..2000 { |h> = 0.5 * (A[l] |h>) + |u> }\noutput <h|h>"
)


def numbers(program: Compiled) -> dict[str, np.ndarray]:
    """The limit from samples or exact, and a small network."""
    limit = tpc.limit(program, samples=64, max_samples=64, replicates=2, seed=3)
    network = tpc.simulate(program, 8, seeds=1)
    found = {f"limit {name}": x.value for name, x in limit.outputs.items()}
    return found | {f"network {name}": x.value for name, x in network.outputs.items()}


def answers(stored: bytes) -> dict[str, dict[str, np.ndarray]]:
    return {name: numbers(program) for name, program in pickle.loads(stored).items()}


def test_programs_go_to_other_processes() -> None:
    """The other process numbers its instructions anew: they must come after those of the program."""
    programs = {name: tpc.compile(text) for name, text in PROGRAMS.items()}
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(answers, (pickle.dumps(programs),))
    for name, program in programs.items():
        here = numbers(program)
        assert here.keys() == there[name].keys() and here
        for output, value in here.items():
            np.testing.assert_array_equal(there[name][output], value, err_msg=f"{name}: {output}")


@pytest.mark.parametrize("protocol", [2, 5])
def test_long_chains(protocol: int) -> None:
    again = pickle.loads(pickle.dumps(tpc.compile(DEEP), protocol))
    assert again.source.text == DEEP and [o.name for o in again.outputs] == ["<h|h>"]


def test_what_belongs_together_stays_together() -> None:
    """The programs of limit and networks share nodes; the source is one object."""
    program = tpc.compile(PROGRAMS["tangent"])
    again = pickle.loads(pickle.dumps(program))

    def shared(p: Compiled) -> int:
        one, other = (set(reachable([o.node for o in x.outputs])) for x in (p, p.finite))
        return len(one & other)

    assert shared(again) == shared(program) > 0
    assert again.outputs[0].span.source is again.source
