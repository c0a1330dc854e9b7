"""Tails of averages: bounds that formulas show, Hill's estimator, what is refused and what has an error."""

from __future__ import annotations

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler.evaluate.sampling import heavy_tails
from tp_compiler.evaluate.sampling.plan import SamplingPlan
from tp_compiler.ir import nodes as ir

KETS = "ket |x> ~ N(0, 1)\nket |y> ~ N(0, 1)\n"


def plan_of(expression: str) -> SamplingPlan:
    return SamplingPlan(tpc.compile(f"{KETS}output m = <{expression}>"))


def average(plan: SamplingPlan) -> ir.Contract:
    (found,) = (n for n in plan.nodes if isinstance(n, ir.Contract))
    return found


@pytest.mark.parametrize(
    "expression",
    [
        "exp(-2 * softplus(3 * x))", "exp(-x^2)", "exp(-x*x/2) * erf(x)", "1 / (1 + x^2)", "(1 + exp(x))^(-0.5)", "tanh(1/x)",
        "1 / (2 + sin(x*y))", "exp(-abs(x*y))", "sigmoid(exp(x))", "1 / (1 + softplus(x))", "log(1 + exp(-x^2))",
        "exp(min(x, 1))", "exp(-relu(x^3))", "1 / max(abs(x), 0.1)", "exp(cos(x*y))", "1 / sqrt(x^2 + y^2 + 1)",
    ],
)  # fmt: skip
def test_what_is_bounded_has_no_tail(expression: str) -> None:
    plan = plan_of(expression)
    assert not plan.tails.may_be_infinite(average(plan)), plan.tails.range


@pytest.mark.parametrize(
    "expression",
    [
        "abs(x)^(-0.9)", "x^(-2)", "1/x", "exp(x)", "exp(softplus(x))", "tan(x)", "log(tanh(x)^2)", "1 / (x^2 - 1)", "(1 - tanh(x))^(-1)",
        "exp(x*y)", "sinh(x)", "1 / (1 - sigmoid(x))", "abs(x)^y", "x / sin(x)", "exp(-min(x, 1))", "1 / sqrt(abs(x))",
    ],
)  # fmt: skip
def test_what_may_be_infinite_is_looked_at(expression: str) -> None:
    plan = plan_of(expression)
    assert plan.tails.may_be_infinite(average(plan))
    assert plan.tails.inspected(average(plan))


@pytest.mark.parametrize(
    "expression, looked_at",
    [
        ("x^4", False),
        ("x^5", True),
        ("(x*y)^2", False),
        ("(x*y)^3", True),
        ("log(abs(x))", False),
        ("log((x*y - 1)^2)", False),
        ("log(abs(x)) * x^6", True),
    ],
)
def test_polynomials_have_all_moments(expression: str, looked_at: bool) -> None:
    plan = plan_of(expression)
    assert plan.tails.may_be_heavy(average(plan)) is looked_at
    assert not plan.tails.may_be_infinite(average(plan))


RANGED = [
    "exp(-2 * softplus(3 * x))", "x*x*y", "-x*x", "x^2 - y^2", "abs(x) - 1", "(x - 1)^3", "(abs(x) + 1)^(-1.5)", "1 / (x^2 + 0.5)",
    "-1 / (1 + exp(x))", "sqrt(abs(x))", "log(1 + x^2)", "max(x, 0.3)", "min(x, tanh(y))", "where(x, sin(y), 2)", "relu6(4*x)",
    "gelu(x)", "silu(3*x)", "mish(x)", "gelu_tanh(2*x)", "hardswish(3*x)", "elu(x)", "selu(x)", "erfc(x)", "cosh(x)", "softsign(x)",
    "hardtanh(x)", "hardsigmoid(9*x)", "logsigmoid(x)", "leaky_relu(x)", "atan(x) * sigmoid(y)", "(-abs(x))^3", "sinh(relu(x))",
]  # fmt: skip


@pytest.mark.parametrize("expression", RANGED)
def test_values_lie_in_their_ranges(expression: str) -> None:
    """Every node of a formula, on Gaussian samples."""
    program = tpc.compile(f"{KETS}output m = <{expression}>")
    plan = SamplingPlan(program)
    values = sampled(plan)
    for node, value in values.items():
        low, high = plan.tails.range[node]
        slack = 1e-9 * (1 + np.abs(value).max())
        assert low - slack <= value.min() and value.max() <= high + slack, (node, low, high)


def sampled(plan: SamplingPlan) -> dict[ir.Node, np.ndarray]:
    """The kets of a program on plain Gaussian samples, by the primitives' own definitions."""
    from tp_compiler.ir.primitives import PRIMITIVES

    generator, found = np.random.default_rng(0), {}
    for node in plan.nodes:
        if isinstance(node, ir.InitialKet):
            found[node] = 2 * generator.standard_normal(400)
        elif isinstance(node, ir.Constant):
            found[node] = np.full(400, node.value)
        elif isinstance(node, ir.Map):
            scalar = PRIMITIVES[node.fn].scalar
            found[node] = np.array([scalar(*row) for row in zip(*(found[a] for a in node.args), strict=True)])
    return found


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.5, 3.0])
def test_the_index_of_a_pareto_tail(alpha: float) -> None:
    generator = np.random.default_rng(1)
    found = [heavy_tails.logs(generator.pareto(alpha, (2**14, 2)) + 1) for _ in range(8)]
    for part in (heavy_tails.PART, heavy_tails.FAR):
        expected = alpha / np.sqrt(8 * heavy_tails.top_of(2**14, part))
        assert np.abs(heavy_tails.index(found, part == heavy_tails.FAR) - alpha).max() < 4.5 * expected
    assert heavy_tails.infinite(found) == (alpha <= 1)


def test_few_samples_refuse_nothing_that_has_a_mean() -> None:
    """Eight samples of a rung of 128 fix α to a third: over many draws of α = 1.5 none is refused."""
    generator = np.random.default_rng(2)
    for _ in range(200):
        found = [heavy_tails.logs(generator.pareto(1.5, (128, 1)) + 1) for _ in range(8)]
        assert not heavy_tails.infinite(found)


def test_a_tail_that_cannot_move_the_average_is_left_alone() -> None:
    generator = np.random.default_rng(3)
    found = [heavy_tails.logs(1 + 1e-9 * generator.pareto(1.0, (4096, 1))) for _ in range(8)]
    assert not heavy_tails.infinite(found)


def test_what_jumps_is_known_to_one_particle() -> None:
    products = np.zeros((64, 1))
    assert heavy_tails.counted(products) == 1 / 64
    products[5] = -3.0
    assert heavy_tails.counted(products) == 3 / 64


def test_the_last_cell_leaves_its_error() -> None:
    """max|x| / (α M √R) of a light tail; more where the variance is infinite."""
    generator = np.random.default_rng(4)
    light, heavy = ([heavy_tails.logs(generator.pareto(a, (2**14, 1)) + 1) for _ in range(8)] for a in (3.0, 1.3))
    for found, far in ((light, False), (light, True), (heavy, False)):
        alpha = heavy_tails.index(found, far=True)[0]
        cell = np.mean([x[4] for x in found]) / 2**14
        assert heavy_tails.beyond(found, far) == pytest.approx(cell / alpha / np.sqrt(8))
    assert heavy_tails.beyond(heavy, True) > 5 * heavy_tails.beyond(heavy, False)


@pytest.mark.parametrize(
    "average, output",
    [
        ("1/(|x> - |x>@1)", "<a>"),
        ("1/abs(|x>@1)", "tanh(<a>)"),
        ("exp((|x>@1)^2) * tanh(|x>)", "<tanh(a)>"),
        ("exp(|x> * (|x>@1)^3)", "<tanh(a)>"),
        ("1/(|x>@1 - |x>@2)", "<a>"),
    ],
)
def test_averages_over_copies_are_looked_at(average: str, output: str) -> None:
    for seed in range(3):
        text = f"ket |x> ~ N(0, 1)\n|a> = E[{'1,2' if '@2' in average else 1}]({average})\noutput m = {output}"
        assert tpc.limit(text, method="qmc", samples=4096, seed=seed).failed["m"].code == "NX441"


@pytest.mark.parametrize(
    "average", ["exp(|x> * |x>@1 / 2)", "exp(-(|x> - |x>@1)^2)", "exp(2 * |x>@1)", "abs(|x> - |x>@1)^(-0.5)"]
)
def test_averages_over_copies_that_exist_are_answered(average: str) -> None:
    for seed in range(3):
        text = f"ket |x> ~ N(0, 1)\n|a> = exp(|x>^2) * E[1]({average})\noutput m = <tanh(a)>"
        assert not tpc.limit(text, method="qmc", samples=4096, seed=seed).failed


MAMBA = """
axis t : 6
axis d : 2
data xi[t,d] = [[1, 0.5], [-0.3, 0.8], [0.2, -1.1], [0.9, 0.1], [-0.5, -0.5], [0.3, 0.4]]
ket |u[d]> ~ N(0, 1)
ket |a> ~ N(0, 1)
ket |v> ~ N(0, 1)
scalar A = -2
matrix W ~ N(0, 9)
|x[t]> = sum[d](xi[t,d] |u[d]>)
|e[t]> = exp(A * softplus(W |x[t]>))
|h> = 0 * |a>
for s in 1..6 { |h> = |e[s]> * |h> + tanh(|x[s]>) }
output q = <h|h>
"""


def test_bounded_decays_are_no_heavy_tails() -> None:
    """Products of exp(A softplus(..)), A < 0, from small rungs on."""
    run = tpc.limit(MAMBA, method="qmc", samples=128)
    fine = tpc.limit(MAMBA, method="qmc", samples=8192)
    assert abs(run["q"] - fine["q"]) < 6 * np.hypot(run.outputs["q"].stderr, fine.outputs["q"].stderr)


TRAINED = """
axis i : 2
axis d : 2
data xi[i,d] = [[1.0, 0.5], [-0.3, 0.8]]
data y[step,i] = [[0.9, 0.3], [0.5, 0.1], [0.9, 0.3], [0.5, 0.1], [0.9, 0.3], [0.5, 0.1]]
ket |u[d]> ~ N(0, 1)
ket |v> ~ N(0, 1)
matrix W ~ N(0, 4)
def net(a[d]) { return <v|erf(W erf(sum[d](a[d] |u[d]>)))> }
train steps = 6 {
    f[i] = net(xi[i,d])
    loss = mean[i]((f[i] - y[step,i])^2) / 2
    minimize loss clip 0.5
    update |u[d]>, W, |v> with SGD(lr = 0.8 * cos(pi * step / 6), momentum = 0.5)
}
output f[i] = net(xi[i,d])
"""


def test_derivatives_of_erf_do_not_stop_a_training() -> None:
    """exp(-x²) has a bounded tail: its few large values were taken for an infinite moment, and |u> for not finite."""
    verification = tpc.verify(TRAINED, widths=(64, 128, 256), seeds=12, method="qmc", samples=512)
    assert verification.passed, verification


@pytest.mark.parametrize(
    "expression, jumps",
    [
        ("step(x)", True),
        ("relu(x)", False),
        ("tanh(W step(x))", False),
        ("x * sign(y)", True),
        ("where(x, y, 1)", True),
    ],
)
def test_what_jumps_is_counted_until_a_matrix_mixes_it(expression: str, jumps: bool) -> None:
    plan = SamplingPlan(tpc.compile(f"{KETS}matrix W ~ N(0, 1)\noutput m = <{expression}>"))
    assert plan.tails.jump(average(plan)) is jumps


RARE = {
    "ket |b> ~ bernoulli(0.01)\noutput m = <b>\n": 0.01,
    "ket |x> ~ N(0, 1)\noutput m = <step(x - 2.2)>\n": 0.013903447513498609,
    "ket |x> ~ N(0, 1)\noutput m = 2 * tanh(<step(x - 2.2)>)\n": 0.02780510330,
    "ket |u> ~ uniform(1)\noutput m = <step(u - 0.97)>\n": 0.015,
}


@pytest.mark.parametrize("text", RARE)
def test_rare_events_have_finite_moments(text: str) -> None:
    """64 samples meet none of them at first, so that the spread grows from 0."""
    values = []
    for seed in range(30):
        run = tpc.limit(text, method="mc", samples=64, seed=seed)
        assert set(run.outputs) == {"m"}, str(run)
        values.append(run["m"])
    assert abs(np.mean(values) - RARE[text]) < 5 * np.std(values) / np.sqrt(30)


@pytest.mark.parametrize(
    ("output", "settles"),
    [
        ("<tanh(x)> * <step(y)>", True),
        ("<x^2|y^2>", True),
        ("1 / (1 + <x>^2)", True),
        ("max(<x>, <y>)", True),
        ("<x^6>", False),
        ("<exp(x)>", False),
        ("1 / <x>", False),
        ("<x>^(-2)", False),
        ("sign(<x>)", False),
        ("tanh(1 / <x>)", False),
        ("<tanh(|x> / <y>)>", False),
        ("exp(<x>)", False),
    ],
)
def test_errors_that_are_sure_to_fall(output: str, settles: bool) -> None:
    assert SamplingPlan(tpc.compile(f"{KETS}output m = {output}\n")).settles("m") is settles
