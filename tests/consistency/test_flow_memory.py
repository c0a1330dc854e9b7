"""Gradient flow with momentum, dampening and schedules against the differential equation, integrated by SciPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import tp_compiler as tpc
from tp_compiler.diagnostics import ProgramError

Schedule = Callable[[float], float]
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


#: What depends on the time: the optimizer, the loss as a factor, and both as functions of the time.
SCHEDULES = [
    ("SGD(lr = 0.3 / (1 + step))", "", lambda t: 0.3 / (1 + t), lambda t: 1.0, (0.0, 0.0, False)),
    ("SGD(lr = 0.3 * cos(step), momentum = 0.5)", "", lambda t: 0.3 * np.cos(t), lambda t: 1.0, (0.5, 0.0, False)),
    ("SGD(lr = 0.3)", "exp(-step) *", lambda t: 0.3, lambda t: np.exp(-t), (0.0, 0.0, False)),
    ("SGD(lr = 1 / (2 + step), momentum = 0.4, nesterov = 1)", "(1 + step^2) *", lambda t: 1 / (2 + t),
     lambda t: 1 + t**2, (0.4, 0.0, True)),
]  # fmt: skip


def scheduled(
    kernel: np.ndarray, rate: Schedule, weight: Schedule, memory: tuple[float, float, bool], start: np.ndarray
) -> np.ndarray:
    """f at time 4, as `solved`, with a rate and a weight of the loss that change with the time."""
    momentum, dampening, nesterov = memory

    def moved(t: float, state: np.ndarray) -> np.ndarray:
        g, b = weight(t) * (state[:2] - Y), state[2:]
        step = g + momentum * b if nesterov else b if momentum else g
        return np.concatenate([-rate(t) * kernel @ step, (1 - dampening) * g - (1 - momentum) * b])

    return solve_ivp(moved, (0, 4), np.concatenate([start, np.zeros(2)]), rtol=1e-11, atol=1e-12).y[:2, -1]


@pytest.mark.parametrize(("optimizer", "factor", "rate", "weight", "memory"), SCHEDULES)
def test_step_is_the_time(
    optimizer: str, factor: str, rate: Schedule, weight: Schedule, memory: tuple[float, float, bool]
) -> None:
    kernel = np.asarray(tpc.limit(HEAD)["kernel"])
    wanted = scheduled(kernel, rate, weight, memory, np.zeros(2))
    for times in ("[4]", "[0.5, 4]", "[1, 2, 3, 4]"):
        text = program(optimizer, times).replace("minimize ", f"minimize {factor} ")
        np.testing.assert_allclose(tpc.limit(text, f0="zero")["g"][-1], wanted, rtol=1e-8)


def test_step_is_the_time_of_a_network_and_of_outputs() -> None:
    optimizer, factor, rate, weight, memory = SCHEDULES[3]
    kernel = np.asarray(tpc.limit(HEAD)["kernel"])
    for times in ("[4]", "[0.5, 4]"):
        text = program(optimizer, times).replace("minimize ", f"w = step^2\n    minimize {factor} ")
        text += "output when[step] = step + 1\noutput w[step]\noutput whole[step,i] = step * net(x[i])\n"
        network, limit = tpc.simulate(text, 4096, seeds=6), tpc.limit(text, f0="zero")
        wanted = scheduled(kernel, rate, weight, memory, network["g"][0])
        np.testing.assert_allclose(network["g"][-1], wanted, atol=0.02)
        for run in (network, limit):
            assert (run["when"][-1], run["w"][-1]) == pytest.approx((5, 16))
            np.testing.assert_allclose(run["whole"][-1], 4 * run["g"][-1], rtol=1e-9)


def test_data_over_step_are_constant_from_one_time_to_the_next() -> None:
    kernel = np.asarray(tpc.limit(HEAD)["kernel"])
    text = "data scale[step] = [1, 3]\n" + program("SGD(lr = 0.3 * scale[step])", "[0.5, 4]")
    wanted = scheduled(kernel, lambda t: 0.3 if t < 0.5 else 0.9, lambda t: 1.0, (0.0, 0.0, False), np.zeros(2))
    np.testing.assert_allclose(tpc.limit(text, f0="zero")["g"][-1], wanted, rtol=1e-5)


def test_what_the_time_cannot_be() -> None:
    text = program("SGD(lr = 0.3)", "[1, 4]")
    with pytest.raises(ProgramError, match=r"NX177.*moves features"):
        tpc.compile(text.replace("    f[i] = net(x[i])\n", "    f[i] = clt <v|tanh(step * x[i] * |u>)>\n"))
    with pytest.raises(ProgramError, match=r"NX178.*not a number here"):
        tpc.compile(text + "output s = sum[step](step * g[step,1])\n")
