"""`simulate(weights=...)`: networks whose initial values are given."""

from __future__ import annotations

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler.diagnostics import ProgramError
from tp_compiler.finite import draws

NETWORK = """
axis i : 2
axis d : 3
axis l : 2
width m = 2
data x[i,d] = [[1, 2, 0], [0, -1, 0.5]]
ket |u[d]> ~ N(0, 1)
matrix A : m x n ~ N(0, 2)
matrix W[l] : m x m ~ N(0, 1)
ket |v> : m ~ N(0, 1)
ket |b> : m = 0
scalar c[i] = 0.1
scalar t = 0.5
|h[i]> = tanh(sum[d](x[i,d] |u[d]>))
|g[i]> = A |h[i]> + |b>
|k[i]> = W[2] tanh(W[1]^T |g[i]>)
output f[i] = t * <v|k[i]> + c[i]
"""
WIDTH, DOUBLE = 5, 10


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {
        "u": (3, WIDTH), "A": (DOUBLE, WIDTH), "W": (2, DOUBLE, DOUBLE), "v": (DOUBLE,), "b": (DOUBLE,), "c": (2,), "t": ()
    }  # fmt: skip
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def test_the_forward_pass_is_that_of_numpy(arrays: dict[str, np.ndarray]) -> None:
    run = tpc.simulate(NETWORK, WIDTH, weights=arrays)
    w = arrays
    x = np.array([[1, 2, 0], [0, -1, 0.5]])
    g = np.tanh(x @ w["u"]) @ w["A"].T + w["b"]
    k = np.tanh(g @ w["W"][0]) @ w["W"][1].T
    np.testing.assert_allclose(run["f"], w["t"] * (k @ w["v"]) / DOUBLE + w["c"], rtol=1e-13)
    assert run.settings["seeds"] == 1 and not run.outputs["f"].stderr.any()
    assert not run.warnings


def test_what_is_not_given_is_drawn(arrays: dict[str, np.ndarray]) -> None:
    drawn = tpc.simulate(NETWORK, WIDTH, seeds=3)
    again = tpc.simulate(NETWORK, WIDTH, seeds=3, weights={"t": 1.0})
    np.testing.assert_allclose(again["f"] - 0.1, 2 * (drawn["f"] - 0.1))
    assert tpc.simulate(NETWORK, WIDTH, seeds=3, weights={"A": arrays["A"]}).outputs["f"].stderr.all()


QUARTER = """{
    |u> : a = 0,   b = 0,   c = 1/4, d = 3/4
    |w> : a = 0,   b = 0,   c = 1/4, d = 3/4
    W   : a = 0,   b = 1/2, c = 3/2, d = 3/4
    |v> : a = 3/4, b = 0,   c = 1/4, d = 3/4
}"""


@pytest.mark.parametrize("parametrization", ["mup", "ntk", QUARTER])
@pytest.mark.parametrize(
    "optimizer", ["SGD(lr = 0.1, momentum = 0.9)", "AdamW(lr = 0.01, eps = 0.1, weight_decay = 0.1)"]
)
def test_training_on_the_weights_that_would_be_drawn_is_the_same(parametrization: str, optimizer: str) -> None:
    bracket, also = ("clt <v|", "") if parametrization == "ntk" else ("<v|", ", c" if parametrization == "mup" else "")
    text = f"""
    axis i : 2
    data y[i] = [1, -1]
    ket |u[i]> ~ N(0, 1)
    ket |w> ~ uniform(2)
    matrix W ~ N(0, 2)
    ket |v> ~ N(0, 1)
    scalar c = 0.3
    parametrization {parametrization}
    train steps = 3 {{
        f[i] = {bracket}tanh(W relu(|u[i]> + |w>))> {"+ c" if also else ""}
        minimize mean[i]((f[i] - y[i])^2)
        update |u>, |w>, W, |v>{also} with {optimizer}
    }}
    output loss[step] = mean[i]((f[i] - y[i])^2)
    """
    n, key = 8, (5, 0)
    u = np.stack([draws.generator(key, "ket", "u", k).standard_normal(n) for k in range(2)])
    W = draws.generator(key, "matrix", "W", 0).standard_normal((n, n)) * np.sqrt(2 / n)
    v = draws.generator(key, "ket", "v", 0).standard_normal(n)
    drawn = tpc.simulate(text, n, seeds=1, seed=5)
    given = tpc.simulate(text, n, seeds=1, seed=5, weights={"u": u, "W": W, "|v>": v})
    np.testing.assert_allclose(given["loss"], drawn["loss"], rtol=1e-12)


def test_a_ket_and_a_matrix_of_one_name() -> None:
    text = "ket |u> ~ N(0, 1); matrix u ~ N(0, 1); output q = <u|u|u>"
    u, matrix = np.array([1.0, 2.0]), np.array([[1.0, 2.0], [3.0, 4.0]])
    run = tpc.simulate(text, 2, weights={"|u>": u, "u": matrix})
    assert run["q"] == u @ matrix @ u / 2


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1}, "`a` was given, but no output depends on a parameter of this name"),
        ({"V": np.ones(DOUBLE)}, "did you mean `v`"),
        ({"A": np.ones((WIDTH, DOUBLE))}, r"shape \(5, 10\), not \(10, 5\), at width 5"),
        ({"W": np.ones((DOUBLE, DOUBLE))}, "its axes are, in this order: l : 2, rows, columns"),
        ({"v": np.full(DOUBLE, np.nan)}, "not finite"),
        ({"v": ["a"] * DOUBLE}, "not an array of numbers"),
        ({"c": [1, 2, 3]}, "`c` has 3 entries over `i`"),
        ({"x": [[1, 2, 0], [0, 0, 0]]}, "no output depends on a parameter of this name"),
    ],
)
def test_what_does_not_fit_is_refused(weights: dict[str, object], message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        tpc.simulate(NETWORK, WIDTH, weights=weights)


def test_an_output_without_a_limit_says_so_whatever_the_weights() -> None:
    text = """
    ket |u> ~ N(0, 1); ket |v> ~ N(0, 1)
    parametrization standard
    train steps = 1 { loss = (<v|relu(u)> - 1)^2; minimize loss; update all with Adam(lr = 0.1) }
    output loss[step]
    """
    run = tpc.simulate(text, 2, weights={"u": [1.0, 2.0]})
    assert run.failed["loss"].code == tpc.simulate(text, 2).failed["loss"].code != "NX432"


def test_scalars_of_a_compiled_program_are_given_when_it_is_compiled() -> None:
    compiled = tpc.compile(NETWORK, data={"c": [1, 2]})
    with pytest.raises(ProgramError, match="give initial kets, matrices and, with the text, scalars"):
        tpc.simulate(compiled, WIDTH, weights={"c": [1, 2]})
    zero = tpc.simulate(compiled, WIDTH, weights={"v": np.zeros(DOUBLE)})
    np.testing.assert_array_equal(zero["f"], [1, 2])
