"""`cumsum` against sums over a triangle of ones, written out: every method, gradients, training, words and equations."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc
from tests.unit.equations.test_reading import agrees

HEAD = """
axis i, j : 2
axis t, q : 4
data x[i,t] = [[0.3, -1, 0.5, 2], [1, 0.8, -0.7, 0.1]]
data past[t,q] = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
ket |u> ~ N(0, 1)
ket |b> ~ N(0.2, 1/2)
ket |c> ~ N(0, 1)
scalar a[t] = 0.3 * t
matrix W ~ N(0, 1)
"""
#: Programs with running sums; each use has one free family index.
PROGRAMS = {
    "linear": """
|h[i,t]> = x[i,t] |u> + |b>
|s[i,t]> = cumsum[t](W |h[i,t]>)
|g[i,t]> = W^T cumsum[t](|s[i,t]>, reverse = 1)
output k[i,t] = <s[i,t]|s[1,2]>
output d[i,t] = <g[i,t]|h[2,t]>
output e[i,t] = cumsum[t](<h[i,t]|b>)
""",
    "nonlinear": """
|h[i,t]> = tanh(x[i,t] |u> + |b>)
|s[i,t]> = cumsum[t](a[t] * (W |h[i,t]>)) / 2
|g[i,t]> = W^T cumsum[t](erf(|s[i,t]>), reverse = 1)
output k[i,t] = <relu(s[i,t])|relu(s[1,2])>
output d[i,t] = <g[i,t]|h[2,t]>
output e[i,t] = cumsum[t](a[t] * <h[i,t]|b>, reverse = 1)
""",
    "gradients": """
|h[i,t]> = x[i,t] |u> + |b>
|s[i,t]> = cumsum[t](W |h[i,t]>)
f[i] = <c|relu(s[i,4])> + sum[t](a[t] * cumsum[t](a[t] * <h[i,t]|b>, reverse = 1))
output n[i,j] = ntk(f[i], f[j])
output da[t] = grad(f[1], a[t])
output du[i] = <grad(f[i], |u>)|u>
""",
    "copies": """
|h[i,t]> = x[i,t] |u> + |b>
|s[i,t]> = E[1](cumsum[t](tanh(|h[i,t]> - |h[i,t]>@1)))
output k[i,t] = <s[i,t]|h[1,2]>
""",
    "linear training": """
train steps = 3 {
    |h[i,t]> = x[i,t] |u> + |b>
    f[i] = <c|mean[t](cumsum[t](W |h[i,t]>))>
    minimize mean[i]((f[i] - 1)^2)
    update all with SGD(lr = 0.1, momentum = 0.5)
}
output f[step,i]
""",
    "training": """
train steps = 2 {
    |h[i,t]> = tanh(x[i,t] |u> + |b>)
    |s[i,t]> = cumsum[t](a[t] * (W |h[i,t]>))
    f[i] = <c|tanh(s[i,4])>
    minimize mean[i]((f[i] - 1)^2)
    update all with Adam(lr = 0.1)
}
output f[step,i]
""",
}
#: Those without sampling, and without a loop of pairs of neurons.
EXACT = ("linear", "nonlinear", "gradients", "linear training")


def written_out(text: str) -> str:
    """Running sums over t as sums over q of a triangle of ones."""
    while (start := re.search(r"cumsum\[t\]\(", text)) is not None:
        depth, end = 1, start.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        inner = text[start.end() : end - 1]
        body, reverse = inner.removesuffix(", reverse = 1"), inner.endswith(", reverse = 1")
        assert "cumsum" not in body
        weight = "past[q,t]" if reverse else "past[t,q]"
        moved = re.sub(r"\bt\b", "q", body)
        text = f"{text[: start.start()]}sum[q]({weight} * ({moved})){text[end:]}"
    return text


def values(run: Any) -> dict[str, np.ndarray]:
    assert not run.failed
    return {name: o.value for name, o in run.outputs.items()}


def close(one: dict[str, np.ndarray], other: dict[str, np.ndarray], off: float) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=off, atol=off, err_msg=name)


@pytest.mark.parametrize("name", EXACT)
def test_the_limit_by_formulas(name: str) -> None:
    runs = [tpc.limit(HEAD + text) for text in (PROGRAMS[name], written_out(PROGRAMS[name]))]
    assert all(o.method != "qmc" for run in runs for o in run.outputs.values())
    close(*map(values, runs), off=1e-9)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_sampled_limit(name: str) -> None:
    texts = PROGRAMS[name], written_out(PROGRAMS[name])
    one, other = (values(tpc.limit(HEAD + t, method="qmc", samples=64, replicates=2)) for t in texts)
    close(one, other, off=1e-9)


@pytest.mark.parametrize("name", PROGRAMS)
def test_finite_networks(name: str) -> None:
    one, other = (values(tpc.simulate(HEAD + t, 12, seeds=2)) for t in (PROGRAMS[name], written_out(PROGRAMS[name])))
    close(one, other, off=1e-5)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "copies")) for name in PROGRAMS]
)
def test_two_roads(name: str) -> None:
    """The limit and wide networks; the tolerance is five standard errors, and the bias of width 256."""
    limit = tpc.limit(HEAD + PROGRAMS[name], samples=1024)
    network = tpc.simulate(HEAD + PROGRAMS[name], 256, seeds=12)
    for output, o in limit.outputs.items():
        found = network.outputs[output]
        off = 5 * np.hypot(o.stderr, found.stderr) + 0.02 * (1 + np.abs(o.value))
        np.testing.assert_array_less(np.abs(found.value - o.value), off, err_msg=output)


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_expand_writes_is_the_same_program(name: str) -> None:
    text = tpc.expand(HEAD + PROGRAMS[name])
    assert "cumsum[" in text
    one, other = (values(tpc.limit(t, method="qmc", samples=64, replicates=2)) for t in (HEAD + PROGRAMS[name], text))
    close(one, other, off=1e-7)


def test_gradients_are_slopes() -> None:
    """By the scalars that running sums carry: central differences of the exact limit."""
    text = """
axis t : 4
ket |u> ~ N(0, 1)
ket |b> ~ N(0.2, 1/2)
scalar a = 0.7
scalar r = -0.4
|s[t]> = cumsum[t](sin(a * t) * |u> + |b>)
|z[t]> = cumsum[t](r * tanh(|s[t]>), reverse = 1)
f = <z[2]|s[3]> + sum[t](cumsum[t](a^t * <z[t]|b>))
output f
output da = grad(f, a)
output dr = grad(f, r)
"""
    found, step = tpc.limit(text), 1e-4
    for name in ("a", "r"):
        at = {"a": 0.7, "r": -0.4}[name]
        ends = [tpc.limit(text, settings={name: at + e}, only=["f"])["f"] for e in (step, -step)]
        slope = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(found[f"d{name}"], slope, rtol=1e-6)


def test_what_is_constant_along_the_axis() -> None:
    text = """
axis t : 4
ket |u> ~ N(0, 1)
|s[t]> = |u>
|c[t]> = cumsum[t](|s[t]>)
|d[t]> = cumsum[t](|s[t]>, reverse = 1)
one[t] = 1
output k[t] = <c[t]|u>
output l[t] = <d[t]|u>
output n[t] = cumsum[t](one[t])
"""
    for options in ({}, {"method": "qmc", "samples": 4096}):
        run = tpc.limit(text, **options)
        for name, wanted in {"k": [1, 2, 3, 4], "l": [4, 3, 2, 1], "n": [1, 2, 3, 4]}.items():
            np.testing.assert_allclose(run[name], wanted, rtol=1e-2)
    np.testing.assert_array_equal(tpc.limit(text)["n"], [1, 2, 3, 4])


def test_a_recurrence_is_a_running_sum() -> None:
    """s_t = a_t s_{t-1} + x_t by a loop, and as exp(A_t) Σ_{q≤t} exp(-A_q) x_q with A the running sum of log a."""
    head = """
axis t : 4
data a[t] = [0.9, 0.5, 0.7, 0.2]
ket |u[t]> ~ N(0, 1)
ket |v> ~ N(0, 1)
|x[t]> = tanh(|u[t]> + |v>)
"""
    loop = "|s[1]> = |x[1]>\nfor t in 2..4 { |s[t]> = a[t] |s[t-1]> + |x[t]> }\n"
    scan = "A[t] = cumsum[t](log(a[t]))\n|s[t]> = exp(A[t]) * cumsum[t](exp(-A[t]) * |x[t]>)\n"
    tail = "output k[t] = <s[t]|s[4]>\noutput r[t] = <relu(s[t])|v>\n"
    close(*(values(tpc.limit(head + s + tail)) for s in (loop, scan)), off=1e-7)


@pytest.mark.parametrize("name", ["linear", "nonlinear"])
def test_the_equations_are_the_limit(name: str) -> None:
    agrees(HEAD + PROGRAMS[name], 256)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gradients", "copies"])
def test_more_equations_are_the_limit(name: str) -> None:
    agrees(HEAD + PROGRAMS[name], 256)


def test_equations_have_bounds() -> None:
    system = tpc.derive(HEAD + PROGRAMS["linear"])
    assert "Σ_{t′≤t}" in system.unicode() and "Σ_{t′≥t}" in system.unicode()
    assert r"\sum_{t'\le t}" in system.latex() and r"\sum_{t'\ge t}" in system.latex()


def test_exponents_are_those_of_sums() -> None:
    text = PROGRAMS["gradients"]
    one, other = (json.dumps(tpc.scale(HEAD + t).as_json()) for t in (text, written_out(text)))
    assert one == other.replace("[i,q]", "[i,t]")
