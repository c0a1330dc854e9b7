"""Gradient flow with momentum and dampening against the differential equation, integrated by SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import tp_compiler as tpc
from tp_compiler.diagnostics import ProgramError

HEAD = """
axis i, j : 2
data x[i] = [1.0, -0.5]
data y[i] = [1.0, 0.3]
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
def net(z) { return clt <v|tanh(z * |u>)> }
f[i] = net(x[i])
output kernel[i,j] = ntk(f[i], f[j])
"""
TRAINED = (
    "parametrization ntk\n"
    + HEAD
    + """
train time = TIMES {
    f[i] = net(x[i])
    minimize mean[i]((f[i] - y[i])^2)
    update all with OPTIMIZER
}
output g[step,i] = net(x[i])
"""
)
Y = np.array([1.0, 0.3])


def program(optimizer: str, times: str) -> str:
    loop = TRAINED.replace("f[i] = net(x[i])\noutput kernel[i,j] = ntk(f[i], f[j])\n", "")
    return loop.replace("OPTIMIZER", optimizer).replace("TIMES", times)


def solved(
    start: np.ndarray, kernel: np.ndarray, lr: float, momentum: float, dampening: float, nesterov: bool
) -> np.ndarray:
    """f at time 4: b' = (1 - dampening) g - (1 - momentum) b and f' = -lr K b, or -lr K (g + momentum b) with nesterov."""

    def rate(_: float, state: np.ndarray) -> np.ndarray:
        g, b = state[:2] - Y, state[2:]
        step = g + momentum * b if nesterov else b
        return np.concatenate([-lr * kernel @ step, (1 - dampening) * g - (1 - momentum) * b])

    return solve_ivp(rate, (0, 4), np.concatenate([start, np.zeros(2)]), rtol=1e-11, atol=1e-12).y[:2, -1]


@pytest.mark.parametrize(
    ("optimizer", "memory"),
    [
        ("SGD(lr = 0.3, momentum = 0.5, dampening = 0.7)", (0.5, 0.7, False)),
        ("SGD(lr = 0.3, momentum = 0.5)", (0.5, 0.0, False)),
        ("SGD(lr = 0.3, momentum = 0.5, nesterov = 1)", (0.5, 0.0, True)),
    ],
)
def test_the_flow_does_not_depend_on_the_times_listed(optimizer: str, memory: tuple[float, float, bool]) -> None:
    kernel = np.asarray(tpc.limit(HEAD)["kernel"])
    wanted = solved(np.zeros(2), kernel, 0.3, *memory)
    for times in ("[4]", "[0.5, 4]", "[1, 2, 3, 4]"):
        found = tpc.limit(program(optimizer, times), f0="zero")["g"][-1]
        np.testing.assert_allclose(found, wanted, rtol=1e-8)


def test_a_network_follows_the_same_equation() -> None:
    """At width n features move by n^-1/2: the flow of the network's own kernel is its flow up to that."""
    optimizer, gaps = "SGD(lr = 0.3, momentum = 0.5, dampening = 0.7)", []
    for times in ("[4]", "[0.5, 4]"):
        network = tpc.simulate(program(optimizer, times), 4096, seeds=6)
        kernel = np.asarray(tpc.limit(HEAD)["kernel"])
        start, end = network["g"][0], network["g"][-1]
        gaps.append(np.abs(end - solved(start, kernel, 0.3, 0.5, 0.7, False)).max())
    assert max(gaps) < 0.02, gaps  # with the first update undamped: 0.2 and more


def test_what_counts_its_updates_has_no_flow() -> None:
    own = "optimizer Own(lr) { return -lr * g / t }\n"
    with pytest.raises(ProgramError, match=r"NX179.*counts its updates"):
        tpc.compile(own + program("Own(lr = 0.3)", "[1, 4]"))
    first = "optimizer Own(lr) { return -lr * g * where(t - 1.5, 1, 5) }\n"
    found = tpc.limit(first + program("Own(lr = 0.3)", "[1, 4]"), f0="zero")["g"]
    np.testing.assert_allclose(found, tpc.limit(program("SGD(lr = 0.3)", "[1, 4]"), f0="zero")["g"], rtol=1e-10)
