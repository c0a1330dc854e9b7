"""Standard errors, stopping, refusals and the other promises of `limit`."""

from __future__ import annotations

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler.results import Run

SMOOTH = "ket |x> ~ N(0, 1)\noutput a = <tanh(x)|tanh(x)>\noutput b = <x|x>\n"


def test_doubling_stops_when_the_tolerance_is_met() -> None:
    coarse = tpc.limit(SMOOTH, method="qmc", rtol=1e-2, atol=1e-2)
    fine = tpc.limit(SMOOTH, method="qmc", rtol=1e-6, atol=1e-6)
    assert coarse.settings["samples"] < fine.settings["samples"]
    assert float(fine.outputs["a"].stderr) < 2e-6


def test_unmet_tolerance_is_said() -> None:
    run = tpc.limit(SMOOTH, method="qmc", rtol=1e-12, atol=1e-12, max_samples=4096)
    assert any(w.code == "NX913" for w in run.warnings)


@pytest.mark.parametrize(
    "options",
    [
        {"samples": 1000},
        {"samples": 256.0},
        {"samples": "256"},
        {"replicates": 1},
        {"replicates": 2.5},
        {"seed": -1},
        {"seed": "a"},
        {"threads": "a"},
        {"method": "magic"},
        {"f0": "median"},
        {"rtol": -1.0},
        {"max_time": "10"},
        {"max_time": [1]},
        {"max_memory": [1]},
        {"checkpoint": ""},
        {"checkpoint": 3},
        {"save": 3},
    ],
)
def test_bad_options_are_named(options: dict[str, object]) -> None:
    with pytest.raises(tpc.ProgramError, match=f"NX432.*{next(iter(options))}"):
        tpc.limit(SMOOTH, **options)


def test_plain_monte_carlo_is_available_and_worse() -> None:
    plain, sobol = (tpc.limit(SMOOTH, samples=4096, method=m) for m in ("mc", "qmc"))
    assert plain.outputs["a"].method == "mc"
    assert float(plain.outputs["a"].stderr) > 5 * float(sobol.outputs["a"].stderr)


def test_memory_is_estimated_before_anything_runs() -> None:
    program = "axis i : 20000\naxis j : 30000\nket |u[i]> ~ N(0, 1)\n|y[i,j]> = j |u[i]>\noutput a = sum[i,j](<y[i,j]>)"
    with pytest.raises(tpc.ProgramError, match="NX431"):
        tpc.limit(program, method="qmc")


def _failed(program: str, **options: object) -> Run:
    return tpc.limit(program, samples=4096, **options)


def test_a_failing_output_leaves_the_others() -> None:
    run = _failed("ket |x> ~ N(0, 1)\noutput bad = <log(x)>\noutput good = <x|x>")
    assert run.failed["bad"].code == "NX413" and abs(run["good"] - 1) < 1e-2


@pytest.mark.parametrize("moment", ["1/abs(x)", "1/x^2", "exp(x^2)", "tan(2 x)^2"])
def test_infinite_moments_are_refused(moment: str) -> None:
    run = tpc.limit(f"ket |x> ~ N(0, 1)\noutput m = <{moment}>", method="qmc")
    assert run.failed["m"].code == "NX441"


def test_finite_moments_of_heavy_tails_are_not() -> None:
    run = tpc.limit(
        "ket |x> ~ N(0, 1)\noutput a = <exp(x)>\noutput b = <exp(2 x)>\noutput c = <1/(1 + x^2)>\noutput d = <x^8>"
    )
    wanted = {"a": np.exp(0.5), "b": np.exp(2.0), "c": 0.6556795424187985, "d": 105.0}
    for name, value in wanted.items():
        estimate = run.outputs[name]
        assert abs(estimate.value - value) < 4 * estimate.stderr + 1e-12, (name, estimate)


def test_unselected_branches_may_be_undefined() -> None:
    run = _failed("ket |x> ~ N(0, 1)\noutput a = <where(x, sqrt(x), 0)>")
    assert not run.failed and abs(run["a"] - 0.4110894) < 2e-3


def test_same_digits_for_any_number_of_threads() -> None:
    program = """
        axis i, j : 3
        ket |u[i]> ~ N(0, 1)
        matrix W ~ N(0, 1)
        |x[i]> = tanh(W^T tanh(W |u[i]>))
        output k[i,j] = <x[i]|x[j]>
    """
    first, second = (tpc.limit(program, method="qmc", samples=2048, threads=t)["k"] for t in (1, 2))
    assert np.array_equal(first, second)
