"""What formulas may take: seconds by a clock of the test's own, and bytes."""

from __future__ import annotations

import importlib
import re
import tracemalloc
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler.evaluate import budget as budgets
from tp_compiler.evaluate.budget import BASE, LEAST, Budget, budget_for, current
from tp_compiler.evaluate.exact.evaluator import ExactEvaluator
from tp_compiler.evaluate.interface import NotExact, TooLarge
from tp_compiler.evaluate.linear.evaluator import LinearEvaluator
from tp_compiler.evaluate.options import Options
from tp_compiler.ir.walk import reachable

RESIDUAL = """
    axis i, j : 2
    axis l : 10
    data xi[i] = [1.0, -0.5]
    ket |u> ~ N(0, 1); ket |v> ~ N(0, 1)
    matrix A[l] ~ N(0, 1)
    |h[i]> = xi[i] * |u>
    output first[i,j] = <relu(h[i])|relu(h[j])>
    for l in 1..10 { |h[i]> = |h[i]> + 0.2*(A[l] relu(|h[i]>)) }
    f[i] = <v|h[i]>
    output K[i,j] = ntk(f[i], f[j])
"""


def ticking(step: float):
    """A clock that advances by `step` whenever it is read."""
    times = count()
    return lambda: next(times) * step


def test_nothing_is_given_up_in_time() -> None:
    with Budget(5.0, now=ticking(0.1)).running() as budget:
        for _ in range(20):
            budget.poll()
    assert current().seconds == float("inf")


def test_every_formula_after_the_time_is_given_up() -> None:
    late = Budget(1.0, now=ticking(0.3))
    with late.running(), pytest.raises(NotExact, match=r"abandoned after 1\.2 s"):
        for _ in range(10):
            current().poll()
    with pytest.raises(NotExact, match=r"abandoned after 1\.2 s"):
        late.poll()


def test_long_loops_look_at_the_clock() -> None:
    """Not once for an instruction: once for every step of a recursion."""
    outputs = tpc.compile(RESIDUAL).outputs
    nodes = reachable(o.node for o in outputs)
    looked = []
    clock = Budget(1e9, now=lambda: float(len(looked)) if looked.append(0) is None else 0.0)
    with clock.running():
        ExactEvaluator(nodes)
    assert len(looked) > len(nodes) + 50


def test_what_is_late_is_sampled_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(*given, progress=None):
        return Budget(budget_for(*given).seconds, now=ticking(2.0))

    monkeypatch.setattr(
        importlib.import_module("tp_compiler.evaluate.auto"), "budget_for", lambda *given: timed(*given[:4])
    )
    program = tpc.compile(RESIDUAL)
    run = tpc.limit(program, max_time=400, samples=8)
    assert run.outputs["first"].method == "closed-form"
    assert run.outputs["K"].method == "qmc" and "abandoned after 20" in run.outputs["K"].note
    (warning,) = [w for w in run.warnings if w.code == "NX911"]
    assert "half of the time that was left, 200 s" in warning.message and warning.message.endswith("did not find `K`")


def test_what_takes_more_work_than_samples_is_sampled_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: the same choice, note and digits on every machine; and `exact` waits."""
    monkeypatch.setattr(budgets, "WORK", 12 * budgets.STEP)
    monkeypatch.setattr(budgets, "WORK_EACH", 0.0)
    runs = [tpc.limit(RESIDUAL, samples=8) for _ in range(2)]
    for run in runs:
        assert run.outputs["first"].method == "closed-form"
        assert run.outputs["K"].method == "qmc"
        assert run.outputs["K"].note == runs[0].outputs["K"].note
        assert "abandoned, since sampling takes less time" in run.outputs["K"].note
        assert not run.warnings
    assert np.array_equal(runs[0]["K"], runs[1]["K"])
    exact = tpc.limit(RESIDUAL, method="exact")
    assert exact.outputs["K"].method == "closed-form"


def test_what_formulas_may_take() -> None:
    assert budget_for("auto", 10.0, 1000, 1e9).seconds == 5.0
    assert budget_for("exact", 10.0, 1000, 1e9).seconds == 10.0
    waiting = budget_for("exact", None, 1000, 1e9)
    assert waiting.seconds == waiting.work == float("inf")
    assert budget_for("auto", None, 2000, 1e9).work > budget_for("auto", None, 1000, 1e9).work > 0
    assert budget_for("auto", None, 1000, 1e9).seconds == float("inf"), (
        "no clock chooses a method, unless it is asked to"
    )


POINTS = {  # the method, and a number of points that it cannot do without
    "nested sums": ("<tanh(x[1] + x[2] + 1)|mish(x[2] - 1)>", 32**2),
    "lines and planes": ("<relu(tanh(x[1]) + x[2])>", 1e5),
}


@pytest.mark.parametrize("kind", POINTS)
def test_quadrature_counts_the_points_of_its_integrands(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "STEP", 0.0)
    integrand, points = POINTS[kind]
    program = tpc.compile(f"axis k : 2\nket |x[k]> ~ N(0, 1)\noutput m = {integrand}")
    with Budget().running() as budget:
        ExactEvaluator(reachable(o.node for o in program.outputs))
    assert budget.done > points


KERNEL = """
    axis i, j : 2000
    ket |u> ~ N(0, 1); ket |b> ~ N(0, 1)
    |h[i]> = (i / 1000) * |u> + |b>
    output k[i,j] = <relu(h[i])|relu(h[j])>
    output q = <relu(h[1])|relu(h[2])>
"""


def test_arrays_are_refused_before_they_are_made() -> None:
    small = Budget(memory=100e6)
    with small.running():
        small.room(1e6, "a small array")
        with pytest.raises(TooLarge, match="a large array takes 160 MB"):
            small.room(2e7, "a large array")


def test_views_of_one_array_count_once() -> None:
    held = Budget(memory=1e9)
    array = np.zeros((1000, 1000))
    for view in (array, array.T, array[None], np.broadcast_to(array, (5, 1000, 1000))):
        held.hold(view)
    assert held.held == 8e6


def test_an_array_counts_as_long_as_it_lives() -> None:
    held = Budget(memory=1e9)
    array = np.zeros((1000, 1000))
    view = array.T
    held.hold(view)
    del array
    assert held.held == 8e6
    del view
    assert held.held == 0


FAMILIES = {  # 36^4 numbers are 13 MB
    "products": "ket |x[i]> ~ N(0, 1)\n|y[i,j]> = |x[i]>*|x[j]>\noutput a = mean[i,j,k,l](<y[i,j]|y[k,l]>^2)",
    "moments": "ket |x> ~ N(0, 1)\n|y[i]> = sin(i)*|x> + 1/i\noutput a = mean[i,j,k,l](<y[i]*y[j]|y[k]*y[l]>)",
    "means": "ket |x[i]> ~ N(0, 1)\n|y[i]> = relu(|x[i]>)\noutput a = mean[i,j,k,l](<y[i]|y[j]>*<y[k]|y[l]>)",
    "numbers": "ket |x> ~ N(0, 1)\nc[i,j] = <x|x>*exp(-(i-j)^2)\noutput a = mean[i,j,k,l](tanh(c[i,j]*c[k,l]))",
}


@pytest.mark.parametrize("program", FAMILIES)
@pytest.mark.parametrize("allowed", [10e6, 40e6, 160e6])
def test_formulas_keep_to_the_memory_allowed(program: str, allowed: float) -> None:
    """Computations stay within the memory limit, and arrays that do not fit are refused before they are made."""
    compiled = tpc.compile("axis i, j, k, l : 36\n" + FAMILIES[program])
    tracemalloc.start()
    try:
        run = tpc.limit(compiled, method="exact", max_memory=BASE + allowed)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < allowed + 8 * LEAST, f"{most / 1e6:.3g} MB"
    assert "a" in run.outputs or run.failed["a"].code == "NX431"
    if program == "products" and "a" in run.outputs:  # Σ of (δij δkl + δik δjl + δil δjk)²
        assert run["a"] == pytest.approx((3 * 36**2 + 6 * 36) / 36**4, rel=1e-13)
    if allowed > 100e6:
        assert "a" in run.outputs


def test_linear_programs_stop_when_the_time_is_up() -> None:
    program = tpc.compile("axis i, j, k, l : 36\n" + FAMILIES["products"])
    with Budget(0.0).running():
        found = LinearEvaluator(program, program.outputs).output(program.outputs[0])
    assert isinstance(found, NotExact) and "abandoned after" in found.reason


def test_a_kernel_that_does_not_fit_is_refused_with_its_size() -> None:
    run = tpc.limit(KERNEL, method="exact", max_memory=90e6)
    assert run.outputs["q"].method == "closed-form"
    problem = run.failed["k"]
    assert problem.code == "NX431" and "an array over i, j takes 64 MB" in problem.message
    assert "--max-memory" in problem.remedy
    fitting = tpc.limit(KERNEL, method="exact", max_memory=900e6)
    assert fitting["k"].shape == (2000, 2000)


def test_ctrl_c_keeps_what_formulas_have_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def report(self: Budget, done: int, total: int) -> None:
        if done == total - 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Budget, "report", report)
    run = tpc.limit(RESIDUAL)
    assert list(run.outputs) == ["first"] and run.failed["K"].code == "NX436"
    assert [w.code for w in run.warnings] == ["NX914"]
    with pytest.raises(KeyboardInterrupt):  # nothing was found
        tpc.limit(RESIDUAL, only=["K"])


def test_a_sample_that_does_not_fit_does_not_stop_the_others() -> None:
    text = """
axis i : 20000
ket |x[i]> ~ N(0, 1)
ket |z> ~ N(0, 1)
|y[i]> = relu(tanh(|x[i]>) + tanh(|z>))
output a = <z|z>
output b[i] = <y[i]>
"""
    run = tpc.limit(text, max_memory=200e6)
    assert run["a"] == 1 and run.failed["b"].code == "NX431"
    assert re.search(r"need about [\d.]+ [MG]B, but only 200 MB are allowed", run.failed["b"].message)
    with pytest.raises(tpc.ProgramError, match="NX431"):
        tpc.limit(text, max_memory=200e6, only=["b"])


def test_samples_keep_to_the_time_allowed_between_instructions() -> None:
    text = "ket |x> ~ N(0, 1)\nmatrix W ~ N(0, 1)\noutput a = <x|x>\n|h> = |x>\n"
    text += "for l in 1..20 { |h> = tanh(W |h> + |x>) }\noutput b = <h|h>\n"
    run = tpc.limit(text, max_time=0.0)
    assert run["a"] == 1 and run.failed["b"].code == "NX433"
    with pytest.raises(tpc.ProgramError, match="NX433"):
        tpc.limit(text, max_time=0.0, method="qmc")


@pytest.mark.parametrize("option", [{"max_time": -1}, {"max_memory": "1 gigabyte"}, {"max_time": float("nan")}])
def test_limits_are_numbers(option: dict[str, object]) -> None:
    with pytest.raises(tpc.ProgramError, match="NX432"):
        tpc.limit("ket |x> ~ N(0, 1)\noutput a = <x|x>\n", **option)


@pytest.mark.parametrize("given", ["1G", "1 GiB", "1024M", 2**30])
def test_memory_is_given_as_on_the_command_line(given: str | int) -> None:
    text = "ket |x> ~ N(0, 1)\noutput a = <x|x>\n"
    assert tpc.limit(text, max_memory=given)["a"] == 1
    assert tpc.simulate(text, 8, seeds=2, max_memory=given).outputs["a"].method == "finite-width"
    assert tpc.verify(text, widths=(8,), seeds=2, max_memory=given).checks


@pytest.mark.parametrize("run", [tpc.limit, lambda text, **options: tpc.simulate(text, 8, **options)])
def test_a_size_that_is_not_one_is_refused_with_an_example(run: Callable[..., object]) -> None:
    with pytest.raises(tpc.ProgramError, match="a size such as 500M or 4G") as refused:
        run("ket |x> ~ N(0, 1)\noutput a = <x|x>\n", max_memory="plenty")
    assert "4G" in refused.value.diagnostics[0].remedy


def test_kernels_that_do_not_fit_are_refused_rather_than_sampled_for_minutes() -> None:
    """Formulas lack only the memory: samples of a million averages are not what anybody waits for."""
    run = tpc.limit(KERNEL, max_memory="90M")
    assert run.outputs["q"].method == "closed-form"
    problem = run.failed["k"]
    assert problem.code == "NX431" and "are allowed" in problem.message
    assert "--max-memory" in problem.remedy and "--method qmc" in problem.remedy


def test_the_time_that_one_road_has_taken_is_missing_on_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of kernels, formulas, coefficients, and the covariances of Gaussian outputs have one limit: 60 of 100 s are gone."""
    auto = importlib.import_module("tp_compiler.evaluate.auto")
    given: list[float] = []

    def watched(real: Callable[..., Budget]) -> Callable[..., Budget]:
        def made(*options: Any, **more: Any) -> Budget:
            budget = real(*options, **more)
            given.append(budget.seconds)
            return budget

        return made

    monkeypatch.setattr(auto, "Budget", watched(Budget))
    monkeypatch.setattr(auto, "budget_for", watched(budget_for))
    monkeypatch.setattr(auto.time, "monotonic", lambda: 1000.0)
    text = """axis i, j : 20
data s[i]
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
c[i] = clt <v|tanh(s[i] * |u>)>
output k[i,j] = <gelu(s[i] * |u>)|silu(s[j] * |u>)>
output c[i]
output q = <exp(exp(u))|v>
"""
    program = tpc.compile(text, data={"s": np.linspace(0.5, 2, 20)})
    question = auto.Request(program, Options(max_time=100.0), start=940.0)
    auto.answer(question, program.outputs, auto.METHODS[:4])
    assert len(given) >= 4 and set(given) == {20.0, 40.0}, given
