"""Deep and long programs, under Python's own limit on recursion: each stage of them, and the values where these are known."""

from __future__ import annotations

import sys

import pytest

import tp_compiler as tpc
from tp_compiler import driver
from tp_compiler.diagnostics import Source
from tp_compiler.evaluate.linear.fold import Unbounded, folded

LAYERS = """
axis l : {0}
matrix A[l] ~ N(0, 1)
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
"""
LOOP = "for l in 1..{0} {{ |h> = 0.5 * (A[l] tanh(stop(|h>) + |h>)) + |u> }}\n"
NETWORK = LAYERS + "|h> = |u>\n" + LOOP + "output <h|h>\n"
TRAINED = (
    LAYERS
    + "train steps = 1 {{\n|h> = |u>\n"
    + LOOP
    + """
minimize (BRACKET - 1)^2
update all with OPTIMIZER
}}
output f[step] = BRACKET
"""
)


def trained(layers: int, optimizer: str, bracket: str = "<v|h>") -> str:
    return TRAINED.format(layers).replace("OPTIMIZER", optimizer).replace("BRACKET", bracket)


@pytest.fixture(autouse=True)
def python_s_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sys.getrecursionlimit() <= 1000
    monkeypatch.setattr(sys, "setrecursionlimit", lambda limit: pytest.fail("the limit is the process's own"))


def test_a_thousand_layers() -> None:
    text = NETWORK.format(1000)
    driver.format(Source("<text>", text))
    assert "1000" in tpc.expand(text)
    assert tpc.simulate(text, 4, seeds=1)["<h|h>"] > 0


@pytest.mark.parametrize("optimizer", ["SGD(lr = 0.1)", "AdamW(lr = 0.1)", "Nero(lr = 0.01)"])
def test_training_of_many_layers(optimizer: str) -> None:
    program = tpc.compile(trained(300, optimizer))
    assert program.loop is not None and len(program.loop.following) >= 3


@pytest.mark.parametrize("asked", ["ntk", "standard", "{ |v> : a = 1/2, b = 0, c = 1 }"])
def test_other_parametrizations(asked: str) -> None:
    bracket = "clt <v|h>" if asked == "ntk" else "<v|h>"
    assert tpc.compile(f"parametrization {asked}\n" + trained(300, "SGD(lr = 0.1)", bracket)).outputs


def test_ten_thousand_lines() -> None:
    text = "\n".join(f"c{k} = {k} + {'c' + str(k - 1) if k else '0'}" for k in range(10_000)) + "\noutput c9999"
    assert tpc.limit(text)["c9999"] == sum(range(10_000))


def test_calls_within_calls() -> None:
    functions = "fn f0(x) = x + 1\n" + "\n".join(f"fn f{k}(x) = f{k - 1}(x) + 1" for k in range(1, 400))
    assert tpc.limit(f"{functions}\noutput y = f399(0)")["y"] == 400
    defs = "def d0(x) { return x + 1 }\n" + "\n".join(
        f"def d{k}(x) {{ return d{k - 1}(x) + 1 }}" for k in range(1, 190)
    )
    assert tpc.limit(f"{defs}\noutput y = d189(0)")["y"] == 190


def test_products_of_products() -> None:
    """Squares of squares share their factors: 2^60 of them, were each followed."""
    text = "scalar c = 1\nx = c\nfor k in 1..60 { x = x * x + 0 * c }\noutput x"
    assert tpc.limit(text)["x"] == 1
    chain = "ket |u> ~ N(0, 1)\n|x> = tanh(|u>)\nfor k in 1..200 { |x> = 0.999 |x> }\noutput q = <x|x>"
    assert tpc.limit(chain)["q"] == pytest.approx(0.999**400 * tpc.limit(chain.replace("200", "1"))["q"] / 0.999**2)
    assert tpc.scale(chain).verdict


def test_sums_within_sums() -> None:
    loss = "loss = 0\nfor k in 1..1000 { loss = loss + (<v|h> - k)^2 }\n"
    text = trained(1, "KFAC(lr = 0.1, damping = 0.1)").replace("minimize (<v|h> - 1)^2", loss + "minimize loss")
    assert tpc.compile(text).outputs
    operator = "A = W\nfor k in 1..240 { A = 0.5 A + W }\n"
    text = f"ket |x> ~ N(0, 1)\nmatrix W ~ N(0, 1)\n{operator}output q = <x|A^T A|x>"
    assert tpc.limit(text)["q"] == pytest.approx(4)


def test_sums_within_sums_that_are_renamed() -> None:
    """The stream of a residual network at other inputs, for the coefficients of linear programs."""
    program = tpc.compile("""
        axis i, j : 2
        axis l : 600
        data xi[i] = [1.0, 0.5]
        ket |u> ~ N(0, 1); ket |c[l]> ~ N(0, 1)
        |h[i]> = xi[i] * |u>
        for l in 1..600 { |h[i]> = |h[i]> + xi[i] * |c[l]> }
        output k[i,j] = <h[i]|h[j]>
    """)
    (output,) = folded(program, program.outputs, Unbounded()).outputs
    assert output.node.type.indices == program.outputs[0].node.type.indices
