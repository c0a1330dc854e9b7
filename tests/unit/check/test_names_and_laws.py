"""Functions that share their name with an index, statements in the wrong block, and laws made of trainable numbers."""

from __future__ import annotations

import numpy as np
import pytest

import tp_compiler as tpc

TRAINED = """
axis i : 2
data xi[i] = [1, -0.5]
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 2 {
    minimize sum[i]((<v|tanh(xi[i] * |u>)> - 1)^2)
    update |u>, |v> with SGD(lr = 0.1)
}
"""


def codes(text: str) -> list[str]:
    return [d.code for d in tpc.check(text) if not d.is_warning]


@pytest.mark.parametrize("method", ["auto", "qmc"])
def test_step_with_an_argument_is_the_function_after_the_loop(method: str) -> None:
    """The outputs are of the last step; the trained |u> stays symmetric, so that half its entries are positive."""
    text = TRAINED + "output q = <step(u)>\noutput r = step(0.3) + step(-0.3)\n"
    run = tpc.limit(text, method=method, samples=1024)
    assert run.outputs["q"].axes == ()
    assert abs(run["q"] - 0.5) < 6 * run.outputs["q"].stderr + 1e-12
    assert run["r"] == 1


def test_step_is_the_function_for_matfun_too() -> None:
    text = TRAINED + "axis k, l : 2\nK[k,l] = 2 * delta[k,l] - 1\noutput s[k,l] = matfun[k,l](step, K[k,l])\n"
    assert np.allclose(tpc.limit(text)["s"], 0.5 * np.array([[1, -1], [-1, 1]]))  # the projection on eigenvalue 2


@pytest.mark.parametrize("statement", ["x = 3", "axis k : 2", "output <u>", "|w> = |u>", "for l in 1..2 { x = l }"])
def test_a_parametrization_block_holds_rows_only(statement: str) -> None:
    assert codes(TRAINED.replace("train", f"parametrization {{\n    {statement}\n}}\ntrain")) == ["NX120"]


def test_a_row_outside_of_a_parametrization_block_is_called_so() -> None:
    (found,) = [d for d in tpc.check("ket |u> ~ N(0, 1)\n|u> : a = 1\noutput <u>\n") if not d.is_warning]
    assert found.message == "a row of exponents is not allowed here"


LAWS = """
scalar s = 0.3
ket |x> ~ N(0, 1)
ket |q> ~ N(2 * {0}, {0}^2)
matrix W ~ N(0, {0})
output power = <q|q>
output image = <x|W^T W|x>
"""


@pytest.mark.parametrize("value", ["s", "stop(s)"])
@pytest.mark.parametrize("method", ["auto", "qmc"])
def test_laws_are_read_at_the_initial_values_of_trainable_numbers(value: str, method: str) -> None:
    run = tpc.limit(LAWS.format(value), method=method, samples=1024)
    for name, truth in (("power", 5 * 0.3**2), ("image", 0.3)):
        assert abs(run[name] - truth) < 7 * run.outputs[name].stderr + 1e-12
    network = tpc.simulate(LAWS.format(value), 256, seeds=4)
    assert abs(network["power"] - 0.45) < 0.1


@pytest.mark.parametrize("value", ["s", "stop(s)"])
@pytest.mark.parametrize("name", ["power", "image"])
def test_gradients_hold_laws_fixed(name: str, value: str) -> None:
    assert tpc.limit(LAWS.format(value) + f"output slope = grad({name}, s)\n")["slope"] == 0


def test_an_average_over_a_copy_alone_is_a_number() -> None:
    """E of tanh(N(0.3, 1)) by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    truth = weights @ np.tanh(0.3 + nodes) / np.sqrt(2 * np.pi)
    text = "ket |x> ~ N(0.3, 1)\nket |z> = 0\noutput b = <E[1](tanh(|x>@1))>\noutput c = <E[1](tanh(|z>@1))>\n"
    run = tpc.limit(text)
    assert abs(run["b"] - truth) < 1e-9 and run["c"] == 0


@pytest.mark.parametrize(("by", "slope"), [(1, [1, 1, 0]), (-2, [0, 0, 1]), (5, [0, 0, 0]), (-5, [0, 0, 0])])
def test_the_gradient_of_a_shift_is_the_shift_back(by: int, slope: list[int]) -> None:
    text = f"axis s : 3\nscalar c[s] = 0.5\ntotal = sum[s](shift[s](c[s], {by}))\noutput h[s] = grad(total, c[s])\n"
    assert tpc.limit(text)["h"].tolist() == slope
    assert tpc.simulate(text, 4)["h"].tolist() == slope
    assert tpc.limit(tpc.expand(text))["h"].tolist() == slope


@pytest.mark.parametrize("method", ["auto", "qmc"])
def test_a_trainable_number_stays_a_family_where_its_value_is_one_number(method: str) -> None:
    """shift, gathers, matrices and laws of members read it along its index."""
    text = """
axis i, j : 3
data at[i] = [3, 3, 1]
scalar c[i] = -2
matrix B ~ N(0, -c[1])
ket |x> ~ N(0, 1)
output a[i] = shift[i](c[i], -1)
output b[i] = c[at[i]]
output e[i,j] = pow[i,j](c[i] * c[j] + delta[i,j], -1)
output f = <x|B^T B|x>
"""
    run = tpc.limit(text, method=method, samples=256)
    assert run["a"].tolist() == [-2, -2, 0] and run["b"].tolist() == [-2, -2, -2]
    assert np.allclose(run["e"], np.linalg.inv(4 + np.eye(3)))
    assert abs(run["f"] - 2) < 7 * run.outputs["f"].stderr + 1e-12
    assert tpc.simulate(text, 4)["a"].tolist() == [-2, -2, 0]


@pytest.mark.parametrize(
    "law", ["ket |q> ~ N(0, c^2)", "ket |q> ~ N(c^2, 1)", "S[i,j] = c^2\nket |g[i]> ~ N(0, S[i,j])\n|q> = |g[1]>"]
)
def test_a_law_that_is_not_finite_is_refused(law: str) -> None:
    text = f"axis i, j : 2\nket |o> ~ N(0, 1)\nc = 1e200 * <o|o>\n{law}\noutput b = <tanh(q)>\n"
    for run in (tpc.limit(text), tpc.limit(text, method="qmc", samples=256), tpc.simulate(text, 4)):
        assert run.failed["b"].code in ("NX412", "NX413", "NX425")  # the number itself, or the law made of it


def test_members_bound_at_positions_of_no_axis_are_not_read_by_an_index() -> None:
    head = "axis i : 3\nket |x[i]> ~ N(0, 1)\n|h[1]> = |x[1]>\n"
    tail = "output a[i] = <h[i]|x[i]>\n"
    (found,) = [d for d in tpc.check(head + "for k in 2..3 { |h[k]> = 2 |x[k]> }\n" + tail) if not d.is_warning]
    assert found.code == "NX226" and "?" not in found.message + found.remedy
    assert tpc.limit(head + "for i in 2..3 { |h[i]> = 2 |x[i]> }\n" + tail)["a"].tolist() == [1, 2, 2]


CONSTANT = """
axis i, j : 3
axis d : 2
S[i,j] = 2
a[i] = 1
c[d] = 1
ket |u[d]> ~ N(0, 1)
ket |z> ~ N(0, 1)
|y[i]> = |z>
ket |h[i]> ~ N(0, S[i,j])
ket |g[i]> ~ N(0, <y[i]|y[j]>)
def net(x[d]) { return <sum[d](x[d] |u[d]>)|u[1]> }
output joint[i,j] = <h[i]|h[j]>
output bracket[i,j] = <g[i]|tanh(g[j])>
output power[i,j] = pow[i,j](S[i,j], 2)
output moved[i] = shift[i](a[i], 1)
output family[i] = <shift[i](y[i], -1)|z>
output solved[i] = solve[i,j](S[i,j] + delta[i,j], a[j])
output called = net(c[d])
"""


@pytest.mark.parametrize("method", ["auto", "qmc"])
def test_what_is_constant_over_its_indices_is_a_family_all_the_same(method: str) -> None:
    """S[i,j] = 2 is a covariance of ones times two, not the variance of independent members."""
    run = tpc.limit(CONSTANT, method=method, samples=1024)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    one = weights @ (nodes * np.tanh(nodes)) / np.sqrt(2 * np.pi)
    right = {"joint": 2.0, "bracket": one, "power": 12.0, "solved": 1 / 7, "called": 1.0}
    for name, value in right.items():
        assert np.all(np.abs(run[name] - value) < 7 * run.outputs[name].stderr + 1e-9), name
    assert run["moved"].tolist() == [0, 1, 1]
    assert np.all(np.abs(run["family"] - [1, 1, 0]) < 0.02)


@pytest.mark.parametrize("law", ["R[i,j]", "i + 0 * j", "i * q[j]"])
def test_a_covariance_that_is_not_symmetric_is_refused_even_without_one_of_its_indices(law: str) -> None:
    text = f"axis i, j : 3\ndata q[i] = [1, 1, 1]\nR[i,j] = i\nket |k[i]> ~ N(0, {law})\noutput d[i,j] = <k[i]|k[j]>\n"
    assert tpc.limit(text).failed["d"].code == "NX423"
    assert tpc.simulate(text, 4).failed["d"].code == "NX423"


def test_indices_that_a_sum_binds_are_not_carried() -> None:
    text = "axis i, j : 2\nS[i,j] = 2\nket |h[i]> ~ N(0, sum[j](S[i,j]))\noutput k[i,j] = <h[i]|h[j]>\n"
    assert tpc.limit(text)["k"].tolist() == [[4, 0], [0, 4]]


def test_a_state_is_changed_by_its_own_sign() -> None:
    """`m = 0.9 * m + g` would be forgotten after the step, so that momentum was plain descent."""
    optimizer = "optimizer Heavy(lr) {\n    state m = 0\n    m = 0.9 * m + g\n    return -lr * m\n}\n"
    (found,) = [d for d in tpc.check(optimizer + TRAINED.replace("SGD", "Heavy")) if not d.is_warning]
    assert found.code == "NX166" and found.remedy == "write `m := ...`"


@pytest.mark.parametrize("norm", ["0", "-1"])
def test_a_gradient_is_not_clipped_to_a_norm_that_is_not_positive(norm: str) -> None:
    assert codes(TRAINED.replace("- 1)^2)", f"- 1)^2) clip {norm}")) == ["NX181"]


def test_a_loop_variable_that_hides_an_index_is_named() -> None:
    (found,) = [d for d in tpc.check("axis i : 3\nfor i in 1..2 { c = sum[i](i) }\noutput c\n") if not d.is_warning]
    assert found.code == "NX253" and "is a number here" in found.message and "hides" in found.remedy
