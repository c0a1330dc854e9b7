"""Sums by reference, and what follows from signs and independence: exact values beside sampled ones."""

from __future__ import annotations

import numpy as np
import pytest

import tp_compiler as tpc

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
