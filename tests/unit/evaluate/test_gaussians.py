"""Sums by reference, and what follows from signs and independence: exact values beside sampled ones."""

from __future__ import annotations

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler.evaluate.exact.evaluator import ExactEvaluator
from tp_compiler.evaluate.exact.ket_formula import KetFormula, Linear
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.walk import reachable

HEAD = """
    axis i, j : 2
    axis l : 5
    data xi[i] = [1.0, -0.6]
    ket |u> ~ N(0, 1); ket |v> ~ N(0, 1); ket |m> ~ N(0.4, 1); ket |c[l]> ~ N(0, 1)
    matrix W ~ N(0, 1); matrix A[l] ~ N(0, 0.5); matrix B ~ N(0, 0.7)
    |h[i]> = xi[i] * |u>
"""
STREAM = "for l in 1..5 { |h[i]> = |h[i]> + 0.3*(A[l] tanh'(|h[i]>)) + 0.2*|c[l]> }"

PROGRAMS = {
    "a stream and what is left of it": """
        |g[i]> = |h[i]>
        for l in 1..5 { |g[i]> = |g[i]> + 0.3*(A[l] relu(|g[i]>)) + 0.2*|c[l]> }
        |d[i]> = |g[i]> - |h[i]>
        output kern[i,j] = <d[i]|d[j]>
        output r[i,j] = <relu(d[i])|relu(d[j])>
        |p[i,j]> = |g[i]> - 0.5*|g[j]>
        output pairs[i,j] = <relu(p[i,j])|h[i]>
    """,
    "a sum of functions of one layer and of the next": """
        |z[i]> = W relu(|h[i]>)
        |s[i]> = relu(|h[i]>) + relu(|z[i]>) + |h[i]> * |z[i]>
        |t[i]> = |s[i]> + relu(B |s[i]>)
        output kern[i,j] = <t[i]|t[j]>
        output mean[i] = <t[i]>
        output third[i] = <s[i] * s[i] * h[i]>
    """,
    "odd in a readout that is an input as well": """
        |z[i]> = W tanh(|h[i]> + |v>)
        |y[i]> = relu(|z[i]>) + |h[i]>*|v> + |v>*|v>
        output f[i] = <v|y[i]>
        output g[i] = <y[i] * y[i]>
    """,
    "means that are not 0": """
        |z[i]> = W (|h[i]> + |m>) + |m>
        |y[i]> = relu(|z[i]>) + |z[i]> * |m> + |m>
        output one[i] = <y[i]>
        output two[i,j] = <y[i]|z[j]>
    """,
    "a matrix and its transpose": """
        |y[i]> = W |h[i]>
        |a[i]> = |y[i]> + relu(|y[i]>) + relu(|h[i]> + |v>) * |v>
        |b[i]> = W^T |a[i]> + |h[i]>
        output kern[i,j] = <b[i]|b[j]>
        output q[i] = <h[i]|W^T (|a[i]> * |a[i]>)>
    """,
    "members of a family, whole and one by one": """
        |z[l]> = A[l] relu(|h[2]>)
        |s> = relu(|z[3]>) + relu(|z[5]>) + |h[1]>*|h[2]>
        |t> = |s> + sum[l](xi[1] * relu(|z[l]>))
        output one = <s|s>
        output two = <t|t>
        output mixed[l] = <t|relu(z[l])>
    """,
    "averages over copies": """
        |s[i]> = relu(|h[i]>) + |h[i]>*|v> + relu(|v>)
        |e[i]> = E[1](relu(|v>@1) * |s[i]>@1 * |h[i]>) + |s[i]>
        output kern[i,j] = <e[i]|v * s[j]>
    """,
    "gradients of a stream in every layer": STREAM
    + """
        f[i] = <v|h[i]> + <u|h[i]> / 4
        output K[i,j] = ntk(f[i], f[j])
        |g[i]> = grad(f[i], |u>)
        output s[i] = <g[i]|u>
    """,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_exact_values_are_those_of_samples(name: str) -> None:
    program = tpc.compile(HEAD + PROGRAMS[name])
    exact = tpc.limit(program)
    sampled = tpc.limit(program, method="qmc", samples=1024)
    assert not sampled.failed
    for output, found in exact.outputs.items():
        assert found.method in ("exact", "closed-form", "quadrature"), (output, found.note)
        beside = sampled.outputs[output]
        apart = np.abs(found.value - beside.value)
        assert np.all(apart <= 6 * beside.stderr + 1e-9), (output, found.value, beside.value, beside.stderr)


def _kets(body: str) -> list[KetFormula]:
    program = tpc.compile(f"""
        axis i, j : 2
        axis d : 2
        axis l : 4
        data xi[i,d] = [[1.0, 0.3], [-0.6, 0.2]]
        ket |u[d]> ~ N(0, 1); ket |v> ~ N(0, 1); matrix A[l] ~ N(0, 1)
        |h[i]> = sum[d](xi[i,d] |u[d]>)
        for l in 1..4 {{ |h[i]> = {body} }}
        output ntk[i,j] = ntk(<v|h[i]>, <v|h[j]>)
    """)
    values = ExactEvaluator(reachable([program.outputs[0].node])).values.values()
    return [x for x in values if isinstance(x, KetFormula)]


def _arguments(body: str) -> list[Linear]:
    return [a for x in _kets(body) for t in x.parts for f in t.factors for a in f.arguments]


def test_what_vanishes_by_symmetry_adds_no_terms() -> None:
    """The gradient of a norm is odd in the readout: a multiple of the stream by 0."""
    met = [{p.variable.node for p in a.parts} for a in _arguments("|h[i]> + A[l] relu(|h[i]> / sqrt(<h[i]|h[i]>))")]
    readout = [own for own in met if any(isinstance(n, ir.InitialKet) and n.symbol.name == "v" for n in own)]
    assert readout and all(len(own) == 1 for own in readout)


def test_an_input_that_every_layer_reads_is_one_part_of_the_stream() -> None:
    arguments = _arguments("0.5*|h[i]> + A[l] relu(|h[i]>) + sum[d](0.5*xi[i,d]*|u[d]>)")
    assert max(len(a.parts) for a in arguments) == 5
    assert all(len({p.variable.node for p in a.parts}) == len(a.parts) for a in arguments)
