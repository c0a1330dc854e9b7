"""Gradients by a ket (or number) that is a product: the terms that meet it in a bracket count as all others do.

The reference never asks for a gradient by a product: |y> = P + |z> with a declared |z> that is 0, differentiated by |z>.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

import tp_compiler as tpc

HEAD = """
axis s, t : 3
data o[t] = [1, 2, 4]
data one[t] = [1, 1, 1]
ket |u> ~ N(0, 1)
ket |x> ~ N(0.5, 1)
ket |z> ~ N(0, 0)
ket |zt[t]> ~ N(0, 0)
matrix W ~ N(0, 1)
scalar a = 1.5
"""

SINGLE = [
    "2 * |u>", "-|u>", "|u> / 3", "a * |u>", "a * (2 * |u>)", "<u|x> * |x>", "0.5 * (W |u>)", "(|x><u|) |u>",
    "|u> * |x>", "3 * tanh(|u>)", "a * (W tanh(2 * |x>))", "(2 * I) |u>",
]  # fmt: skip
FAMILY = ["o[t] * |u>", "one[t] * |u>", "o[t] * (W |u>)", "a * o[t] * |x>", "o[t] * tanh(|u>)", "<x|u> * o[t] * |u>"]

OF_ONE = [
    "<{0}|{0}>", "<tanh({0})|{0}>", "<{0}|u>", "<{0}|x> * <{0}|{0}>", "<{0} * {0} * u>", "<x|(|{0}><{0}|)|x>",
    "sum[t](o[t] * <{0}|{0}>)", "sum[t](<{0}|u>)", "<W {0}|W {0}>", "<2 * {0}|{0}>", "exp(-<{0}|{0}>)", "<u|W|{0}>",
    "<tanh({0} + u)>", "<({0} + x)|({0} + x)>",
]  # fmt: skip
OF_MANY = [
    "sum[t](t * <{0}[t]|{0}[t]>)", "sum[s](s * <{0}[s]|{0}[s]>)", "sum[t](<tanh({0}[t])|{0}[t]>)", "<{0}[2]|{0}[2]>",
    "sum[s,t](<{0}[s]|{0}[t]>)", "sum[t](softmax[t](<{0}[t]|u>) * o[t])", "<sum[t]({0}[t]) * u>",
    "<sum[t](o[t] * {0}[t] * {0}[t])>", "sum[t](<W {0}[t]|{0}[t]>)", "sum[t](<{0}[t]|u>) ^ 2",
]  # fmt: skip


def agree(name: str, zero: str, product: str, f: str, g: str) -> None:
    """grad(f, |y>) and grad(f, |y'>), paired with u and x: one program, so that both roads meet in it."""
    index = name.removeprefix("y")
    by = [
        f"|y{index}> = {product}",
        f"|r{index}> = {product} + |{zero}>",
        f"|dy{index}> = grad({f.format('y')} + {g.format('y')}, |y{index}>)",
        f"|dr{index}> = grad({f.format('r')} + {g.format('r')}, |{zero}>)",
        *(f"output {k}_{v}{index} = <{k}{index}|{v}>" for k in ("dy", "dr") for v in ("u", "x")),
    ]
    run = tpc.limit(HEAD + "\n".join(by), samples=2**10)
    for v in ("u", "x"):
        np.testing.assert_allclose(run[f"dy_{v}"], run[f"dr_{v}"], rtol=1e-6, atol=1e-8, err_msg="\n".join(by))


@given(st.sampled_from(SINGLE), st.sampled_from(OF_ONE), st.sampled_from(OF_ONE))
@settings(max_examples=40, deadline=None)
def test_a_product_is_a_ket_of_its_own(product: str, f: str, g: str) -> None:
    agree("y", "z", product, f, g)


@given(st.sampled_from(FAMILY), st.sampled_from(OF_MANY), st.sampled_from(OF_MANY))
@settings(max_examples=30, deadline=None)
def test_members_of_a_product(product: str, f: str, g: str) -> None:
    agree("y[t]", "zt[t]", product, f, g)


def test_values_by_hand() -> None:
    run = tpc.limit(
        HEAD
        + """
        |y> = 2 * |u>
        output square = <grad(<y|y>, |y>)|u>
        output odd = <grad(<tanh(y)|y>, |y>)|u>
        output along = jvp(<y|y>, |y>, |u>)
        output back = <vjp(|y> * |y>, |y>, |u>)|u * u>
        |c[t]> = o[t] * |u>
        |dc[t]> = grad(sum[t](t * <c[t]|c[t]>), |c[t]>)
        output many[t] = <dc[t]|u>
        output member = <grad(<c[2]|c[2]>, |c[2]>)|u>
        b = 2 * a
        output number = grad(sum[t](b) + sum[t](b * o[t]) + b * b, b)
        |h> = grad(<y|y>, |y>)
        output second = <grad(<h|u>, |y>)|u>
        """
    )

    def integrand(x: float) -> float:
        y = 2 * x
        return x * (y / math.cosh(y) ** 2 + math.tanh(y)) * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    wanted = {"square": 4, "odd": quad(integrand, -12, 12)[0], "along": 4, "back": 4 * 3, "member": 4}
    wanted |= {"number": 3 + 7 + 6, "second": 2}
    for name, value in wanted.items():
        assert run[name] == pytest.approx(value, rel=1e-8, abs=1e-12), name
    np.testing.assert_allclose(run["many"], [2, 8, 24], rtol=1e-12)


def test_members_parameters_functions_and_operators() -> None:
    run = tpc.limit(
        HEAD
        + """
        output before = <2 * u * u>
        |y> = 2 * |u>
        output single = <grad(<y|u>, |y>)|u>
        def square(|p>) { return <3 * p|p> }
        output inside = <grad(square(|y>), |y>)|u>
        b[t] = a * o[t]
        output numbers[t] = grad(sum[s](b[s]) + sum[t](b[t] * b[t]), b[t])
        |v[t]> = o[t] * |u>
        output member = <grad(<v[2]|v[2]> + <v[3]|v[2]>, |v[2]>)|u>
        f[t] = <v[t]|v[t]>
        |dv[s,t]> = grad(f[s], |v[t]>)
        output family[s,t] = <dv[s,t]|u>
        |e> = a * |u>
        output number = grad(<e|e>, a)
        output kernel = ntk(<e|e>, <e|e>; |e>, |u>)
        for t in 1..3 { |w[t]> = (t + 1) * |u> }
        output turn = <grad(sum[t](<w[t]|w[t]>), |w[2]>)|u>
        G = |y><x|
        output operator = <grad(<y|G|y>, |y>)|x>
        """
    )
    wanted = {
        "single": 1, "inside": 12, "member": 2 * 2 + 4, "number": 3, "kernel": 4 * 1.5**2 + 4 * 1.5**4, "turn": 6,
        "operator": 4 * 1.25,
    }  # fmt: skip
    for name, value in wanted.items():
        assert run[name] == pytest.approx(value, rel=1e-12), name
    np.testing.assert_allclose(run["numbers"], [4, 7, 13], rtol=1e-12)
    np.testing.assert_allclose(run["family"], np.diag([2, 4, 8]), rtol=1e-12)


def test_finite_networks_agree() -> None:
    text = HEAD + "|y> = 2 * |u>\noutput q = <grad(<tanh(y)|y> + <y|y>, |y>)|u>"
    found = tpc.verify(text)
    assert found.passed


def test_what_is_0_times_something_is_not_left_out() -> None:
    """A term that vanished before the gradient was asked for is refused, and is right where it is declared."""
    asked = "\noutput q = <grad(<(y + x)|(y + x)>, |y>)|x>"
    with pytest.raises(tpc.ProgramError, match="NX280"):
        tpc.limit(HEAD + "|y> = 0 * |u>" + asked)
    assert tpc.limit(HEAD + "ket |y> ~ N(0, 0)" + asked)["q"] == pytest.approx(2 * 1.25)
