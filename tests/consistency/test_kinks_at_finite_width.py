"""Programs whose outputs are at kinks and jumps of what fluctuates: Σ and b are refused; beside them, where they exist, right."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler.evaluate.exact.fluctuations import sigma
from tp_compiler.evaluate.fluctuations import exactly
from tp_compiler.evaluate.interface import NotExact
from tp_compiler.evaluate.options import Options

KETS = """
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
ket |r> ~ rademacher
ket |m> ~ bernoulli(0.5)
"""

#: √n (f_n - f) is not Gaussian with a mean of order n^-1/2. In each, x and y are independent standard normal numbers.
NOT_GAUSSIAN = {
    "|x|": "output f = abs(<u|v>)",
    "relu(x)": "output f = relu(<u|v>)",
    "the larger of two": "output f = max(<u|u>, <v|v>)",
    "order one, a sign": "output f = step(<u|v>)",
    "a sign inside kets": "|w> = sign(|u> * <u|v>)\noutput f = <w|u>",
    "a scale at a kink": "|w> = relu(<u|v> * |u>)\noutput f = <w>",
    "a kink moves a jump": "output f = <step(|u> - abs(<v|r>))>",
    "relu of an atom": "output f = <relu(|r> - 1 + <u|r>)>",
    "abs of an atom": "output f = <abs(|r> - 1 + <u|r>)>",
    "max of an atom": "output f = <max(|r>, 1 - <u|r>)>",
    "dropped neurons": "output f = <relu(|m> * |u> - <u>)>",
    "beside a bias": "output f = <relu(|r> + <u|r> + 1)> + 20 * <u>^2",
    "an entry a thousand times smaller": (
        "axis i : 2\ndata c[i] = [1000, 0]\ndata d[i] = [0, 1]\noutput f[i] = c[i] * <u|u>^2 + d[i] * abs(<u|v>)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_GAUSSIAN)
def test_what_is_not_gaussian_has_no_spread_and_no_bias(name: str) -> None:
    run = tpc.limit(KETS + NOT_GAUSSIAN[name], width=64)
    (warning,) = run.warnings
    assert run.outputs["f"].fluctuations is None and warning.code == "NX933" and "`f`" in warning.message


def test_other_outputs_keep_theirs() -> None:
    """<step(|u> - <u>)>: the average of step moves by φ(0) <u>, so that Σ = 1/4 - φ(0)². A kink beside it changes nothing."""
    run = tpc.limit(KETS + "output kink = abs(<u|r>)\noutput jump = <step(|u> - <u>)>", width=64)
    assert [w.code for w in run.warnings] == ["NX933"] and run.outputs["kink"].fluctuations is None
    found = run.fluctuations("jump")
    assert found.sigma is not None and found.sigma_stderr is not None and found.bias is not None
    assert abs(found.sigma[0, 0] - (1 / 4 - 1 / (2 * math.pi))) < 4 * found.sigma_stderr[0, 0] < 0.05
    assert abs(found.bias[0]) < 1


SMOOTH = {
    #: A scale c = <v|v> moves f = c² <m relu(u)²>, and leaves neurons on their side of 0, dropped ones at 0.
    "a scale": ("|h> = relu(|m> * |u> * <v|v>)\noutput f = <h|h>", 3 / 4 - 1 / 16 + 2 * (1 / 2) ** 2),
    #: E relu(u + c)² has the slope 2 E relu(u) in c = <v>.
    "a place": ("|h> = relu(|u> + <v>)\noutput f = <h|h>", 3 / 2 - 1 / 4 + (2 / math.sqrt(2 * math.pi)) ** 2),
    #: At ±1 the place -2 is not met.
    "atoms elsewhere": ("output f = <relu(|r> + 2 + <u>)>", 2.0),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_neurons_pass_kinks_where_their_law_has_a_density(name: str) -> None:
    program = tpc.compile(KETS + SMOOTH[name][0])
    assert sigma(program, program.outputs).value[0, 0] == pytest.approx(SMOOTH[name][1], rel=1e-6)


@pytest.mark.parametrize(
    "name", ["relu of an atom", "abs of an atom", "max of an atom", "dropped neurons", "beside a bias"]
)
def test_formulas_refuse_neurons_that_lie_on_a_kink(name: str) -> None:
    program = tpc.compile(KETS + NOT_GAUSSIAN[name])
    with pytest.raises(NotExact, match="neurons at a kink"):
        sigma(program, program.outputs)


def test_many_steps_of_signs_are_refused_and_two_are_not() -> None:
    """Networks of two steps have the law (test_finite_width.py); of six larger ones, b of width 256 is twice that of 4,096."""
    text = (Path(__file__).parent / "finite_width" / "sign_sgd.nexort").read_text(encoding="utf-8")
    run = tpc.limit(text.replace("steps = 2", "steps = 6").replace("lr = 0.2", "lr = 0.3"), width=64)
    assert all(x.fluctuations is None for x in run.outputs.values()) and {w.code for w in run.warnings} == {"NX933"}


RELU = """
axis i : 2
axis d : 2
data xi[i,d] = [[1.0, 0.4], [-0.2, 0.9]]
data y[i] = [0.8, -0.6]
ket |u[d]> ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 3 {
    f[i] = <v|relu(sum[d](xi[i,d] |u[d]>))>
    loss = mean[i]((f[i] - y[i])^2)
    minimize loss
    update all with SGD(lr = 0.3)
}
output f[i]
output loss
"""


def test_trained_kinks_have_a_spread_and_a_bias() -> None:
    """Neurons pass the jump of relu′. The bias of the loss is that of its formula in f."""
    run = tpc.limit(RELU, width=64)
    loss = run.fluctuations("loss")
    assert not run.warnings and loss.bias is not None and loss.bias_stderr is not None
    y = np.array([0.8, -0.6])
    through = run.expected(lambda f: ((f - y) ** 2).mean(), width=1000)
    apart = 1000 * (through.value - run["loss"]) - loss.bias[0]
    assert abs(apart) < 4 * np.hypot(1000 * through.stderr, loss.bias_stderr[0]) + 0.05


#: <step(W x)> of lattice sums is 1/2 - 1/√(2πn) in networks; relu has no jump, and its Σ is that of Gaussian entries.
SIGNS = "ket |x> = 1\nmatrix W ~ rademacher(1)\n"
LATTICE = {
    "step": "output f = <step(W|x>)>",
    "sign": "|s> = sign(W|x>)\noutput f = <s|s>",
    "derivative": "|g> = W^T(relu'(W|x>))\noutput f = <g|g>",
    "training": (
        "ket |v> ~ N(0, 1)\ntrain steps = 2 {\nf = <v|relu(W|x>)>\nminimize (f - 1)^2\n"
        "update |v>, W with SGD(lr = 0.1)\n}\noutput f = <v|relu(W|x>)>"
    ),
}


@pytest.mark.parametrize("name", LATTICE)
def test_jumps_of_sums_of_signs_are_refused(name: str) -> None:
    run = tpc.limit(SIGNS + LATTICE[name], width=64)
    assert run.outputs["f"].fluctuations is None
    assert {w.code for w in run.warnings} <= {"NX934", "NX935"} and "sums of the entries of `W`" in str(run.warnings)


def test_kinks_of_sums_of_signs_have_their_spread() -> None:
    run = tpc.limit(SIGNS + "output f = <relu(W|x>)>", width=64)
    found = run.fluctuations("f")
    # relu has the variance 1/2 - 1/2π; and |x|² = n has none.
    assert found.sigma is not None and found.sigma[0, 0] == pytest.approx(1 / 2 - 1 / (2 * math.pi))
    assert found.bias is None and [w.code for w in run.warnings] == ["NX935"]


OWN_EXPONENTS = """
parametrization {
    |u> : a = 0,   b = 0,   c = 1/4, d = 3/4
    W   : a = 0,   b = 1/2, c = 3/2, d = 3/4
    |v> : a = 3/4, b = 0,   c = 1/4, d = 3/4
}
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
matrix W ~ N(0, 1)
train steps = 2 {
    f = <v|tanh(W tanh(|u>))>
    minimize (f - 3)^2
    update all with SGD(lr = 0.8)
}
output k = <W tanh(u)|W tanh(u)>
"""


def test_other_networks_than_those_of_the_limit_have_no_formula() -> None:
    """Σ of the kernel at initialisation is exact; but networks have trained features, which the limit leaves out."""
    program = tpc.compile(OWN_EXPONENTS)
    assert not exactly(program, program.outputs, tpc.limit(program).outputs, Options()).each
    run = tpc.limit(program, width=64)
    assert run.outputs["k"].fluctuations is None and [w.code for w in run.warnings] == ["NX934"]
