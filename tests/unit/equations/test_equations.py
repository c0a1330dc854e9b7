"""Limit equations: what they say, that they read as in the paper, that they give the engine's numbers."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import tp_compiler as tpc
from tests.campaigns.random_programs import program as random_program
from tests.unit.equations.numbers import Grid, compiled
from tests.unit.equations.programs import PROGRAMS, TIED, WITH_FORMULAS
from tp_compiler.equations.derive import derive
from tp_compiler.equations.formulas import Gaussian
from tp_compiler.equations.functions import FUNCTIONS, number
from tp_compiler.equations.laws import LAWS
from tp_compiler.equations.terms import Expectation, Hat, Ket, Partial, Scalar, reindex
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.primitives import PRIMITIVES

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "equations"


@pytest.mark.parametrize("name", sorted(PROGRAMS))
@pytest.mark.parametrize("suffix", ["tex", "txt"])
def test_golden(name: str, suffix: str, update_golden: bool) -> None:
    system = (tpc.derive if name in WITH_FORMULAS else derive)(compiled(PROGRAMS[name]))
    text = system.latex() if suffix == "tex" else system.unicode()
    path = GOLDEN / f"{name}.{suffix}"
    if update_golden:
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_a_matrix_and_its_transpose_as_in_the_paper() -> None:
    """|Wᵀc> = Ŵᵀ|c> + |x> σ²E[∂|c>/∂Ŵ|x>] (TP IVb, Def 2.6.5)."""
    system = derive(compiled(TIED))
    i = sp.Symbol("i", integer=True, positive=True)
    j = sp.Symbol("i′", integer=True, positive=True)
    y, c, x, h = system["y"], Ket("c", 0, i), Ket("x", 0, i), Ket("h", 0, i)
    assert y.hat is not None
    assert y.hat.covariance == 2 * Expectation(c * Ket("c", 0, j))
    ((ket, coefficient),) = y.dot
    assert ket == x and coefficient == 2 - 2 * Expectation(sp.tanh(h) ** 2)
    assert y.dot[0].derivative == Expectation(Partial(c, Hat("W", False, x)))
    assert system["h"].dot == () and system["r"].dot[0].ket == c
    assert "⟨c_i|c_i′⟩" in system.unicode() and r"\widehat{W}^{\top}|c_{i}\rangle" in system.latex()


@pytest.mark.parametrize(
    ("name", "accuracy"),
    [
        ("mlp", 2e-2),
        ("tied", 2e-5),
        ("rnn", 1e-5),
        ("widths", 2e-5),
        ("free", 1e-9),
        ("step", 3e-2),
        ("steps", 3e-2),
        ("gradient", 5e-4),
    ],
)
def test_the_third_road(name: str, accuracy: float) -> None:
    """The equations, read literally, give the engine's numbers; `accuracy` is the grid's own (poor at kinks)."""
    text = PROGRAMS[name].replace("axis i, j : 2", "axis i, j : 1")
    for matrix in ("W", "R : half x n"):  # small variances: Hermite nodes see the poles of tanh otherwise
        text = re.sub(rf"matrix {matrix} ~ N\(0, [23]\)", f"matrix {matrix} ~ N(0, 1/2)", text)
    program = compiled(text.replace("[[1.0, 0.5], [-0.3, 0.8]]", "[[1.0, 0.5]]"))
    grid, run = Grid(program, derive(program)), tpc.limit(program, samples=2**14)
    for output in program.outputs:
        error = 5 * np.max(np.asarray(run.outputs[output.name].stderr)) + accuracy
        np.testing.assert_allclose(grid.output(output.name), run[output.name], atol=error)


def test_deep_programs_never_recurse() -> None:
    def deep(layers: int) -> str:
        head = "ket |u> ~ N(0, 1)\n|x> = |u>\n" + f"axis l : {layers}\nmatrix W[l] ~ N(0, 1)\n"
        body = f"for l in 1..{layers} {{ |x> = tanh(W[l] |x>) }}\n"
        return head + body + "output a = <x|x>\n"

    assert len(derive(tpc.compile(deep(1000)))) > 1000


def test_brackets_are_followed_back_only_so_far() -> None:
    text = "ket |u> ~ N(0, 1)\nmatrix W ~ N(0, 1)\n|x> = |u>\n"
    text += "for l in 1..400 { |x> = W |x> }\noutput a = <x|x>\noutput b = <u|x>\n"
    system = derive(tpc.compile(text))
    assert system["b"].expression == 0 and system["a"].expression != 0


@pytest.mark.timed
def test_a_shared_matrix_forward_and_backward_stays_fast() -> None:
    text = (
        "ket |u> ~ N(0, 1)\nmatrix W ~ N(0, 1)\n|x> = |u>\n"
        + "for l in 1..12 { |x> = tanh(W^T tanh(W |x>)) }\noutput a = <x|x>\n"
    )
    start = time.process_time()
    derive(tpc.compile(text))
    assert time.process_time() - start < 20


def test_gradient_independence_removes_the_dot() -> None:
    system = derive(compiled(PROGRAMS["gradient"]))
    assert system["dx"].dot == ()
    raw = derive(compiled(PROGRAMS["gradient"]), simplify=False)
    assert len(raw["dx"].dot) == 1


def test_a_jump_takes_the_stein_form() -> None:
    system = derive(compiled(PROGRAMS["step"]))
    (term,) = system["y"].dot
    assert term.derivative is None and term.coefficient.has(Hat)
    assert "E[∂" not in system.unicode()


def test_access_from_python() -> None:
    system = derive(compiled(TIED))
    overlap = system["overlap"]
    assert overlap.output and overlap in system.outputs and "overlap" in system
    theta = next(s for s in overlap.free_symbols if isinstance(s, Scalar))
    assert overlap.subs(theta, 3).expression.has(sp.Integer(3))
    summed = derive(compiled(PROGRAMS["mlp"]))["h1"]
    assert not summed.doit().expression.has(sp.Sum)
    with pytest.raises(KeyError, match="no equation is named"):
        system["nothing"]
    assert system.covariance(system["h"], system["y"]) == 0
    assert system.covariance(system["h"], system["r"]).has(Expectation)


def test_closed_forms_are_a_hook() -> None:
    asked: list[Gaussian] = []

    def arcsine(f: sp.Expr, g: Gaussian) -> sp.Expr | None:
        asked.append(g)
        return sp.Symbol("formula")

    system = derive(compiled(PROGRAMS["rnn"]), closed_form=arcsine)
    assert system["last"].closed_form is None or asked
    mlp = derive(
        compiled("ket |x> ~ N(0, 2)\nmatrix W ~ N(0, 1)\n|h> = W |x>\noutput a = <relu(h)|relu(h)>\n"),
        closed_form=arcsine,
    )
    assert mlp["a"].closed_form == sp.Symbol("formula")
    assert asked[-1].covariance == sp.Matrix([[2]]) and asked[-1].mean == (0,)
    assert mlp.unicode().rstrip().endswith("= formula")


def test_notebooks_and_markdown() -> None:
    system = derive(compiled(TIED))
    shown = system._repr_latex_()
    assert shown is not None and "\n$$\\begin{aligned}" in shown and system._repr_html_() is None
    assert system.markdown().count("$$") % 2 == 0


def test_indices_are_never_caught() -> None:
    i, j = (sp.Symbol(n, integer=True, positive=True) for n in "ij")
    total = sp.Sum(Scalar("a", i, j) * Ket("x", 0, j), (j, 1, 3))
    moved = reindex(total, {i: j})
    assert Scalar("a", j, moved.limits[0][0]) in moved.function.args and moved.limits[0][0] != j


def test_tables_are_complete() -> None:
    assert set(LAWS) == set(ir.INSTRUCTIONS)
    assert set(FUNCTIONS) == set(PRIMITIVES)


@pytest.mark.parametrize("value", [0.1, 2**0.5, 1 / 3, -(3**-0.5), 0.3989422804014327, 1e-9, 0.123456789, -2.0, 1e300])
def test_numbers_are_read_as_meant(value: float) -> None:
    assert abs(float(number(value)) - value) <= 4e-16 * abs(value)


def test_a_matrix_times_a_constant_ket_has_equations():
    text = "matrix B ~ N(0, 1/2)\nket |x> = 0.5\noutput e = <x|B^T B|x>\n"
    assert "e = 1/8" in tpc.derive(text).unicode()


def test_a_cotangent_that_does_not_carry_an_index_has_a_name():
    system = tpc.derive(random_program(1005)[1])
    assert system.unicode() and system.latex()


def test_a_member_that_does_not_carry_an_index_of_its_family_has_a_name():
    text = """
axis i, j, k : 2
ket |o[i]> ~ N(0, 1)
matrix W ~ N(0, 1)
|h[i,1]> = |o[1]>
for k in 2..2 { |h[i,k]> = W tanh(|h[i,k-1]>) }
output c[i,j] = <h[i,j]|h[i,j]>
"""
    assert "|h_2⟩ = Ŵ|" in tpc.derive(text).unicode()


def test_fresh_names_go_on_behind_the_sources_own() -> None:
    text = """
    ket |z2> ~ N(0, 1)
    ket |c1> ~ N(0, 1)
    matrix W ~ N(0, 1)
    |y> = tanh(W sin(|z2>) + W |c1>)
    output o = <y|W|y>
    """
    names = [e.name for e in tpc.derive(text) if e.is_ket]
    assert names == ["z2", "c1", "z3", "z4", "z5", "y", "z6"]


def test_no_family_is_stated_twice_in_another_order() -> None:
    text = """
    axis i, j : 2
    axis s, t : 3
    data a[i,s] = [[1, 2, 3], [4, 5, 6]]
    ket |u> ~ N(0, 1)
    ket |b[s]> ~ N(0, 1)
    matrix W ~ N(0, 1)
    matrix V ~ N(0, 1)
    |c[i,s]> = a[i,s] |u>
    |h[i,1]> = tanh(|c[i,1]>)
    for s in 2..3 { |h[i,s]> = tanh(W |h[i,s-1]> + |b[s]>) }
    |p[i,s]> = tanh(|c[i,s]> + |b[s]>)
    |q[s,i]> = sin(tanh(|c[i,s]> + |b[s]>))
    output o[i,j] = sum[s](<h[i,s]|V|h[j,s]> + <p[i,s]|V|q[s,j]>)
    """
    system = tpc.derive(text)
    shown = system.unicode()
    assert "= |h_{i,s}⟩" not in shown and "V̂|h_{j,s}⟩" in shown and "|q_{s,i}⟩ = sin(|p_{i,s}⟩)" in shown


def test_closed_forms_are_normal() -> None:
    """E relu relu of W|x>, W ~ N(0, 2): numbers in front of roots, one root where there were two."""
    text = """
    axis i, j : 2
    ket |x[i]> ~ N(0, 1)
    matrix W ~ N(0, 2)
    |s[i]> = sin(|x[i]>) + |x[1]>
    |h[i]> = W |s[i]>
    output k[i,j] = <relu(h[i])|relu(h[j])>
    """
    shown = tpc.derive(text).unicode()
    assert "√(⟨s_i|s_i⟩ ⟨s_j|s_j⟩ − ⟨s_i|s_j⟩²)/π" in shown and "asin(⟨s_i|s_j⟩/(√(⟨s_i|s_i⟩ ⟨s_j|s_j⟩)))" in shown


def test_clt_scalars_that_are_correlated() -> None:
    text = """
    ket |v> ~ N(0, 1)
    ket |x> ~ N(0, 1)
    ket |w> ~ N(0, 1)
    a = clt <v|x>
    b = clt <v|x + w>
    c = clt <w|x>
    output o = a * b + c
    """
    shown = tpc.derive(text).unicode()
    assert "Cov(b, a) = 1" in shown and "Cov(c, " not in shown


def test_notes_stand_where_they_are_needed() -> None:
    plain = tpc.derive("ket |x> ~ N(0, 1)\noutput o = <tanh(x)|x>\n").unicode()
    assert "(" not in plain.splitlines()[-1][:1] and "hats" not in plain and "clt" not in plain
    tied = derive(compiled(TIED))
    assert (
        "hats of one matrix" in tied.unicode()
        and "jointly Gaussian" in tied.latex()
        and "i, j = 1, 2" in tied.unicode()
    )
    ntk = tpc.derive(
        "ket |x> ~ N(0, 1)\nket |v> ~ N(0, 1)\noutput o = ntk(clt <v|tanh(x)>, clt <v|tanh(x)>)\n"
    ).unicode()
    assert "clt scalars" not in ntk
