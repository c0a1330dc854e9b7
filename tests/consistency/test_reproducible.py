"""The same seed gives the same digits, whatever the number of threads."""

from __future__ import annotations

import numpy as np
import pytest

import tp_compiler
from tests.examples.programs import EXAMPLES

CHOSEN = ["mlp", "tied_weights", "transformer", "width_classes", "outer_nonlin"]


def digits(run):
    return {name: (e.value.tobytes(), np.asarray(e.stderr).tobytes()) for name, e in run.outputs.items()}


@pytest.mark.parametrize("name", CHOSEN)
def test_threads_and_repetition(name):
    program = tp_compiler.compile(EXAMPLES / f"{name}.nexort")
    first = tp_compiler.limit(program, method="qmc", samples=512, threads=1)
    assert digits(first) == digits(tp_compiler.limit(program, method="qmc", samples=512, threads=2))
    assert digits(first) == digits(tp_compiler.limit(program, method="qmc", samples=512, threads=1))
    assert digits(first) != digits(tp_compiler.limit(program, method="qmc", samples=512, seed=1))


def test_drawn_clt_values():
    path = EXAMPLES / "attention_clt.nexort"
    assert digits(tp_compiler.limit(path, method="qmc", samples=256, threads=1)) == digits(
        tp_compiler.limit(path, method="qmc", samples=256, threads=2)
    )


def test_outputs_do_not_depend_on_names_of_other_outputs():
    text = "ket |x> ~ N(0, 1)\noutput a = <tanh(x)|x>\n"
    alone = tp_compiler.limit(text, method="qmc", samples=512)
    beside = tp_compiler.limit(text + "output b = <x>\n", method="qmc", samples=512)
    assert alone["a"] == beside["a"]


def test_networks():
    text = "ket |x> ~ N(0, 1)\nmatrix W ~ N(0, 1)\noutput a = <tanh(W |x>)|tanh(W |x>)>\n"
    runs = [tp_compiler.simulate(text, 64, seeds=4, seed=s) for s in (0, 0, 1)]
    assert runs[0]["a"] == runs[1]["a"] != runs[2]["a"]
