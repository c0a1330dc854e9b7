"""Equations of gradients: as in the papers, without dots that vanish, and giving the engine's numbers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import sympy as sp

import tp_compiler as tpc
from tests.unit.equations.numbers import Grid, compiled
from tests.unit.equations.programs import NTK, RNN_NTK
from tp_compiler.equations import terms
from tp_compiler.equations.derive import derive
from tp_compiler.equations.system import System
from tp_compiler.equations.terms import Expectation, Ket, Stein

RESNET = """
axis i, j : 2
axis l : 3
data xi[i] = [0.5, -0.7]
ket |u> ~ N(0, 1)
matrix A[l] ~ N(0, 2)
matrix B[l] ~ N(0, 1)
ket |v> ~ N(0, 1)
def block(|x>, op A, op B) { return |x> + 0.5 (B relu(A |x>)) }
|x[i]> = xi[i] |u>
for l in 1..3 { |x[i]> = block(|x[i]>, A[l], B[l]) }
output ntk[i,j] = ntk(<v|x[i]>, <v|x[j]>)
"""

ATTENTION = """
axis i, j : 2
axis s, t : 2
axis h : 2
data tok[i,s] = [[0.6, -0.2], [-0.9, 0.7]]
ket |e> ~ N(0, 1)
ket |p[s]> ~ N(0, 1/2)
matrix Q[h] ~ N(0, 1)
matrix K[h] ~ N(0, 1)
matrix V[h] ~ N(0, 1)
matrix M ~ N(0, 2)
ket |v> ~ N(0, 1)
|x[i,s]> = tok[i,s] |e> + |p[s]>
a[i,s,t,h] = softmax[t](<Q[h] |x[i,s]>|K[h] |x[i,t]>>)
|x[i,s]> = |x[i,s]> + sum[h](V[h] sum[t](a[i,s,t,h] |x[i,t]>))
|x[i,s]> = |x[i,s]> + relu(M |x[i,s]>)
f[i] = sum[s](<v|x[i,s]>)
output ntk[i,j] = ntk(f[i], f[j])
"""
ATTENTION = ATTENTION.replace("<Q[h] |x[i,s]>|K[h] |x[i,t]>>", "<q[i,s,h]|k[i,t,h]>").replace(
    "a[i,s,t,h] =", "|q[i,s,h]> = Q[h] |x[i,s]>\n|k[i,s,h]> = K[h] |x[i,s]>\na[i,s,t,h] ="
)

KERNELS = {"mlp": NTK, "rnn": RNN_NTK, "resnet": RESNET, "attention": ATTENTION}


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_dots_of_backward_kets_vanish(name: str) -> None:
    """The readout has mean zero and is independent of what the backward kets are multiplied by."""
    system = tpc.derive(KERNELS[name])
    assert all(not e.dot for e in system)
    assert not any(e.expression.has(Stein) for e in system)


def test_a_readout_of_nonzero_mean_keeps_the_dot() -> None:
    """E[Ĝ step(h) v] = E[Ĝ step(h)] E[v] does not vanish."""
    text = NTK.replace("ket |v> ~ N(0, 1)", "ket |v> ~ N(1, 1)").replace("axis i, j : 2", "axis i, j : 1")
    text = text.replace("[[1.0, 0.5], [-0.3, 0.8]]", "[[0.6, 0.3]]")
    program = tpc.compile(text)
    system = derive(program)
    (term,) = system["dx1"].dot
    assert term.ket == Ket("x1", 0, *term.ket.indices)
    grid, run = Grid(program, system), tpc.limit(program, samples=2**13)
    error = 5 * np.max(np.asarray(run.outputs["ntk"].stderr)) + 5e-2  # kinks on a grid of eight points
    np.testing.assert_allclose(grid.output("ntk"), run["ntk"], atol=error)


def test_the_kernel_reads_as_in_the_papers() -> None:
    """Σ over the layers of <dh_i|dh_j><x_i|x_j>, and nothing else (TP IVb, section 2.4)."""
    system = tpc.derive(NTK)
    assert {"dh1", "dh2", "dx1"} <= {e.name for e in system if e.is_ket}
    i, j = (sp.Symbol(n, integer=True, positive=True) for n in "ij")

    def bracket(name: str) -> Expectation:
        return Expectation(Ket(name, 0, i) * Ket(name, 0, j))

    d = sp.Symbol("d", integer=True, positive=True)
    xi = sp.Sum(terms.Data("xi", i, d) * terms.Data("xi", j, d) * bracket("dh1"), (d, 1, 2))
    wanted = sp.Rational(9, 100) * bracket("dh2") + bracket("dz1") * bracket("x1") + bracket("x2") + xi
    assert sp.expand(system["ntk"].expression - wanted) == 0
    recursion = system["<dh1|dh1>"]
    assert recursion.meaning == bracket("dh1") and recursion.expression.has(bracket("dz1"))


def test_members_are_one_family_whatever_their_index() -> None:
    """ntk(<v|x[i]>, <v|x[j]>) states no ket twice."""
    apart = NTK.replace("f[i] = <v|x2[i]>\n", "").replace("ntk(f[i], f[j])", "ntk(<v|x2[i]>, <v|x2[j]>)")
    kets = [[e.name for e in tpc.derive(text) if e.is_ket] for text in (NTK, apart)]
    assert len(kets[0]) == len(kets[1])


class Recursion:
    """The kernels of a system from its statements about brackets alone: formulas, one after the other, to 40 digits."""

    def __init__(self, system: System, data: dict[str, Any], sizes: dict[str, int]):
        self.data, self.sizes = data, sizes
        self.known: dict[Any, Any] = {}
        for e in system:
            if e.kind == "bracket":
                for env in self._places(e.symbol.indices):
                    value = self.value(e.closed_form if e.closed_form is not None else e.expression, env)
                    self.known[e.meaning.xreplace(env)] = value

    def _places(self, indices: Any) -> list[dict[Any, int]]:
        ranges = [range(1, self.sizes[i.name.rstrip("′")] + 1) for i in indices]
        return [dict(zip(indices, map(sp.Integer, at), strict=True)) for at in itertools.product(*ranges)]

    def value(self, e: Any, env: dict[Any, int]) -> Any:
        if isinstance(e, sp.Sum):
            index, low, high = e.limits[0]
            inner = e.function if len(e.limits) == 1 else sp.Sum(e.function, *e.limits[1:])
            return sum(self.value(inner, {**env, index: k}) for k in range(int(low), int(high) + 1))
        if isinstance(e, Expectation):
            return self.known[e.xreplace(env)]
        if isinstance(e, terms.Data):
            return sp.Rational(str(self.data[e.label][tuple(int(i.xreplace(env)) - 1 for i in e.indices)]))
        if not e.args or isinstance(e, sp.KroneckerDelta):
            return e.xreplace(env)
        return sp.N(e.func(*(self.value(a, env) for a in e.args)), 40)


@pytest.mark.parametrize("name", ["mlp", "resnet"])
def test_the_recursion_of_brackets_gives_the_kernel(name: str) -> None:
    """What is stated of brackets is enough to compute the kernel, to the last digit."""
    program = tpc.compile(KERNELS[name])
    data = {"xi": np.array([[1.0, 0.5], [-0.3, 0.8]]) if name == "mlp" else np.array([0.5, -0.7])}
    system = tpc.derive(program)
    recursion, equation = Recursion(system, data, {"i": 2, "j": 2, "d": 2}), system["ntk"]
    i, j = equation.symbol.indices
    found = [[float(recursion.value(equation.expression, {i: a, j: b})) for b in (1, 2)] for a in (1, 2)]
    np.testing.assert_allclose(found, tpc.limit(program)["ntk"], rtol=1e-10)


def test_the_kernel_on_a_grid() -> None:
    """The equations of a recurrent net's gradients, read literally, give the engine's kernel."""
    program = compiled(RNN_NTK.replace("N(0, 2)", "N(0, 1/4)"))
    for simplify in (True, False):
        grid = Grid(program, derive(program, simplify=simplify))
        np.testing.assert_allclose(grid.output("ntk"), tpc.limit(program)["ntk"], atol=3e-3)


def test_deep_kernels_are_short() -> None:
    text = (
        "axis i, j : 2\naxis l : 30\ndata xi[i] = [0.7, -0.4]\nket |u> ~ N(0, 1)\nket |v> ~ N(0, 1)\n"
        "matrix W[l] ~ N(0, 2)\n|x[i]> = xi[i] |u>\nfor l in 1..30 { |x[i]> = relu(W[l] |x[i]>) }\n"
        "f[i] = <v|x[i]>\noutput ntk[i,j] = ntk(f[i], f[j])\n"
    )
    shown = tpc.derive(text).unicode()
    assert max(map(len, shown.splitlines())) < 1000
