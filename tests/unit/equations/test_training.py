"""Equations of training loops: their shape, and that read literally they give the numbers of training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

import tp_compiler as tpc
from tests.unit.equations.programs import ADAM, DETAILS, JUMPING, MOMENTUM, SHARED
from tests.unit.equations.reading import Reading
from tp_compiler.equations.derive import derive
from tp_compiler.equations.system import System
from tp_compiler.equations.terms import Entry, Expectation, Hat, Partial, Scalar


def _times(system: System) -> tuple[Any, Any]:
    assert system.clock is not None
    return system.clock.time, system.clock.earlier


def test_dots_run_over_the_earlier_steps_and_backward_over_the_current_one() -> None:
    """Ẇ|x_t> sums over s < t, Ẇᵀ|dh_t> over s ≤ t (the erratum to TP IV, Theorem 6.4)."""
    system = derive(tpc.compile(ADAM))
    t, s = _times(system)
    (forward,), (backward,) = system["h2"].dot, system["dx1"].dot
    assert forward.steps == (s, t - 1) and backward.steps == (s, t)
    assert forward.ket.label == "dh2" and backward.ket.label == "x1"
    assert isinstance(forward.derivative, Expectation) and isinstance(forward.derivative.body, Partial)
    assert isinstance(forward.derivative.body.args[1], Hat) and forward.derivative.body.args[1].transposed


def test_a_linear_net_depends_on_earlier_steps_only() -> None:
    """|dh_t> = χ_t|v_t> meets Ŵ|u_s> through |v_t> alone, so for s < t."""
    system = derive(tpc.compile(MOMENTUM))
    t, s = _times(system)
    assert [e.steps for e in system["du"].dot] == [(s, t - 1)]


def test_a_matrix_used_twice_in_a_step() -> None:
    """The later use of W meets the earlier one of its transpose within the step, not the other way round."""
    system = derive(tpc.compile(SHARED))
    t, s = _times(system)
    late = {term.ket.label: term.steps for term in system["dh2"].dot}
    early = {term.ket.label: term.steps for term in system["dh"].dot}
    assert late == {"h": (s, t - 1), "h2": (s, t)}
    assert early == {"h": (s, t), "h2": (s, t - 1)}


def test_linear_optimizers_leave_no_average_over_copies() -> None:
    system = derive(tpc.compile(MOMENTUM))
    assert not any(e.expression.has(Entry) for e in system if e.kind != "operator")
    t, s = _times(system)
    (weight,) = [f for f in system["ΔW"].expression.function.args if f.has(t)]
    number = sp.Mul(*(f for f in system["ΔW"].expression.function.args if f.is_number))
    for late, early in ((1, 0), (3, 0), (3, 2)):
        b = [0.9**k for k in range(late - early)]  # torch: b_{t+1} = 0.9 b_t + g, W -= 0.2 b
        found = float((number * weight).subs({t: late, s: early}))
        assert found == pytest.approx(-0.2 * sum(b))


def test_weights_that_change_with_the_steps_have_a_recursion() -> None:
    """Dampening at the first step only, and a learning rate that falls."""
    system = derive(tpc.compile(JUMPING))
    weight = system["a^ΔA"]
    assert weight.kind == "weight" and weight.start is not None
    assert system["ΔA"].expression.has(Scalar(weight.symbol.args[0], *weight.symbol.indices))
    assert system.matrices[1].keep != 1 and system.matrices[1].update is not None


def test_jumps_take_the_stein_form() -> None:
    system = derive(tpc.compile(JUMPING))
    assert all(term.derivative is None for e in system for term in e.dot)
    assert "E[∂" not in system.unicode() and "_{s<t}" in system.unicode()


def test_states_start_where_the_program_says() -> None:
    system = derive(tpc.compile(ADAM))
    t, _ = _times(system)
    momentum = system["|m^u>"]
    assert momentum.kind == "state" and momentum.start == 0 and momentum.time == t
    assert system["|u>"].start is None and system["|u[0,:]>"].kind == "initial"
    assert "|u_{0,d}⟩ ~ N(0, 1)" in system.unicode()
    assert "m^W_{t+1}⁽⁰¹⁾ = " in system.unicode() and r"m_{t+1}^{W,(01)}" in system.latex()


def test_names_behind_the_loop() -> None:
    system = derive(tpc.compile(JUMPING))
    assert [str(i) for i in system["f"].symbol.indices] == ["t", "i"]
    assert system["last"].expression == system["f"].symbol.func("f", 2, system["last"].symbol.indices[0])


def test_the_neural_tangent_limit() -> None:
    """Features stay, outputs move by their linear part: <dh|ΔW_t|x>."""
    text = ADAM.replace("axis i", "parametrization ntk\naxis i", 1).replace("<v|tanh(h2)>", "clt <v|tanh(h2)>")
    system = derive(tpc.compile(text))
    assert all(e.time is None for e in system if e.hat is not None)
    assert any(e.kind == "clt" for e in system) and system["|Δv>"].start == 0
    assert "|ΔW_t " in system.unicode()


def _figure_4(momentum: float) -> str:
    """Tensor Programs IV, Figure 4, left: depth 2, normal backpropagation."""
    text = MOMENTUM.replace("[-1, -1, 1, -1]", "[-1, -1, 1, -1, 1, 1]").replace("steps = 3", "steps = 5")
    return text.replace("momentum = 0.9", f"momentum = {momentum}")


def _read(text: str, samples: int, runs: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    program = tpc.compile(text)
    system = derive(program)
    found = [Reading(system, samples, seed) for seed in range(runs)]
    values = {o.name: np.array([p.output(o.name) for p in found]) for o in program.outputs}
    mean = {name: v.mean(0) for name, v in values.items()}
    return program, mean, {name: v.std(0, ddof=1) / runs**0.5 for name, v in values.items()}


def test_figure_4_of_tensor_programs_4() -> None:
    """The losses that the paper plots, from the equations on samples."""
    paper = [0.5, 0.316808, 0.982635, 0.458554, 0.685444, 0.509220]
    _, mean, stderr = _read(_figure_4(0), 16_384, 8)
    np.testing.assert_array_less(np.abs(mean["loss"] - paper), 6 * stderr["loss"] + 2e-3)


@pytest.mark.parametrize(
    ("text", "samples", "runs", "bias"),
    [
        (_figure_4(0.9), 16_384, 8, 5e-3),
        (SHARED, 4096, 6, 5e-3),
        (JUMPING, 4096, 6, 1e-2),
        (ADAM, 512, 6, 2e-2),
        (DETAILS, 512, 6, 2e-2),  # clipping, one input a step, decoupled decay, a frozen matrix
    ],
    ids=["momentum", "shared", "jumping", "adam", "details"],
)
def test_the_third_road(text: str, samples: int, runs: int, bias: float) -> None:
    """The equations, read literally on samples, give the engine's numbers; `bias` allows for so few samples."""
    program, mean, stderr = _read(text, samples, runs)
    run = tpc.limit(program, samples=2048)
    for output in program.outputs:
        estimate = run.outputs[output.name]
        error = 6 * np.hypot(stderr[output.name], np.asarray(estimate.stderr)) + bias
        np.testing.assert_array_less(np.abs(mean[output.name] - np.asarray(run[output.name])), error)
