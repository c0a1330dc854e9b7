"""Limits whose answers are known in closed form, or by an independent quadrature."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf

import tp_compiler
from tests.consistency.recursions import (
    catalan,
    erf_kernel,
    expectation,
    marchenko_pastur,
    recurrent_kernel,
    relu_kernel,
)
from tests.consistency.scores import assert_equal
from tests.examples.programs import EXAMPLES

INPUTS = np.array([[1.0, 0.5], [-0.3, 0.8], [0.2, -1.1]])


def test_semicircle_moments_are_catalan_numbers():
    outputs = "\n".join(f"output c{k} = <v|S^{2 * k}|v>" for k in range(1, 6))
    odd = "\n".join(f"output d{k} = <v|S^{k}|v>" for k in (1, 3, 5))
    run = tp_compiler.limit(
        f"matrix W ~ N(0, 1)\nket |v> ~ N(0, 1)\nS = (W + W^T) / sqrt(2)\n{outputs}\n{odd}\n", samples=8192
    )
    assert_equal(run, {f"c{k}": catalan(k) for k in range(1, 6)} | {f"d{k}": 0 for k in (1, 3, 5)}, within=3e-3)


@pytest.mark.parametrize("rho", [0.5, 1.0, 2.0])
def test_marchenko_pastur_moments_from_both_sides(rho):
    text = f"""
width m = {rho}
matrix R : m x n ~ N(0, 1)
ket |v> ~ N(0, 1)
ket |w> : m ~ N(0, 1)
"""
    text += "".join(f"output n{k} = <v|(R^T R)^{k}|v>\noutput m{k} = <w|(R R^T)^{k}|w>\n" for k in range(1, 5))
    exact = {f"n{k}": marchenko_pastur(k, rho) for k in range(1, 5)}
    exact |= {f"m{k}": marchenko_pastur(k, rho) / rho for k in range(1, 5)}
    assert_equal(tp_compiler.limit(text, method="qmc", samples=8192), exact, within=3e-3)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["relu", "erf"])
def test_kernels_of_mlps(name, depth):
    variance, bias = 1.7, 0.3
    rows = ", ".join(f"[{a}, {b}]" for a, b in INPUTS)
    text = f"""
axis i, j : 3
axis d : 2
axis l : 4
data xi[i,d] = [{rows}]
ket |u[d]> ~ N(0, {variance})
ket |b[l]> ~ N(0, {bias})
matrix W[l] ~ N(0, {variance})
|h[i]> = sum[d](xi[i,d] |u[d]>) + |b[1]>
"""
    if depth > 1:
        text += f"for l in 2..{depth} {{ |h[i]> = W[l] {name}(|h[i]>) + |b[l]> }}\n"
    text += f"output k[i,j] = <{name}(h[i])|{name}(h[j])>\n"
    kernel = {"relu": relu_kernel, "erf": erf_kernel}[name]
    covariance = variance * INPUTS @ INPUTS.T + bias
    for _ in range(depth - 1):
        covariance = variance * kernel(covariance) + bias
    assert_equal(tp_compiler.limit(text, method="qmc", samples=4096), {"k": kernel(covariance)}, within=2e-3)


def test_gaussian_moments():
    text = """
ket |x> ~ N(0.5, 4)
ket |y> ~ N(0, 1)
output mean = <x>
output second = <x|x>
output fourth = <square(x - 0.5)|square(x - 0.5)>
output sixth = <y^3|y^3>
output exponential = <exp(y)>
output half = <step(y)>
output modulus = <abs(y)>
output product = <x*y|x*y>
output cosine = <cos(3*y)>
"""
    exact = {
        "mean": 0.5,
        "second": 4.25,
        "fourth": 48,
        "sixth": 15,
        "exponential": np.exp(0.5),
        "half": 0.5,
        "modulus": np.sqrt(2 / np.pi),
        "product": 4.25,
        "cosine": np.exp(-4.5),
    }
    assert_equal(tp_compiler.limit(text, method="qmc", samples=16384), exact, within=1e-2)


def test_outer_nonlin():
    text = """
ket |x> ~ N(0, 1)
ket |z> ~ N(0, 1)
|y> = E[1](sin(|x> * |z>@1) * |z>@1)
|t> = E[1,2](exp(-(|x> - |x>@1 - |x>@2)^2 / 2))
|r> = E[1](step(|x> - |x>@1))
output y = <y|x>
output f = <(y - x*exp(-x^2/2))^2>
output t = <t>
output r = <r|x>
"""
    exact = {
        "y": 1 / (2 * np.sqrt(2)),
        "f": 0,
        "t": 0.5,
        "r": 1 / (2 * np.sqrt(np.pi)),
    }
    assert_equal(tp_compiler.limit(text, method="qmc", samples=2048), exact, within=3e-3)


def test_an_average_inside_an_average():
    text = """
ket |x> ~ N(0, 1)
|n> = E[1](abs(|x>@1) * E[2](exp(-(|x> - |x>@1 + |x>@2)^2 / 2)))
output n = <n>
"""
    # Given a = |x>@1, x - a + b ~ N(-a, 2), so E exp(-(x - a + b)²/2) = exp(-a²/6)/√3; E |a| exp(-a²/6) = √(2/π)·3/4.
    assert_equal(
        tp_compiler.limit(text, method="qmc", samples=256), {"n": np.sqrt(2 / np.pi) * 0.75 / np.sqrt(3)}, within=2e-2
    )


def test_the_rnn_example_against_quadrature():
    tokens = np.array(
        [[[0.5, -0.2], [0.3, 0.8], [-0.4, 0.2], [1.0, 0.1]], [[0.1, 0.7], [-0.9, 0.4], [0.6, -0.5], [0.2, -0.3]]]
    )
    kernel = recurrent_kernel(tokens, 4, erf, var_w=1.0, var_u=2.0, var_b=0.2, features=2)
    exact = {"last": kernel[:, 3, :, 3], "pooled": kernel.mean(axis=(1, 3)), "memory": kernel[0, :, 0, :]}
    assert_equal(tp_compiler.limit(EXAMPLES / "rnn.nexort", method="qmc", samples=4096), exact, within=2e-3)


def test_correlated_initial_kets():
    position = np.arange(1, 6)
    given = np.exp(-((position[:, None] - position) ** 2) / 8.0)
    text = """
axis s, t : 5
S[s,t] = exp(-(s - t)^2 / 8)
ket |g[s]> ~ N(0, S[s,t])
matrix W ~ N(0, 3)
|h[s]> = W erf(|g[s]>)
output given[s,t] = <g[s]|g[t]>
output kernel[s,t] = <tanh(h[s])|tanh(h[t])>
"""
    hidden = 3 * erf_kernel(given)
    exact = {"given": given, "kernel": expectation(np.tanh, hidden, points=120)}
    assert_equal(tp_compiler.limit(text, method="qmc", samples=4096), exact, within=2e-3)


def test_a_covariance_of_low_rank():
    text = """
axis s, t : 3
data a[s] = [1, -2, 0]
S[s,t] = a[s] * a[t]
ket |g[s]> ~ N(0, S[s,t])
output given[s,t] = <g[s]|g[t]>
output tied = <(2*g[1] + g[2])^2>
"""
    exact = {"given": np.outer([1, -2, 0], [1, -2, 0]), "tied": 0}
    assert_equal(tp_compiler.limit(text, method="qmc", samples=1024), exact, within=3e-3)


@pytest.mark.parametrize("rho", [0.25, 1.0, 4.0])
def test_dots_of_rectangular_matrices(rho):
    text = f"""
width m = {rho}
matrix R : m x n ~ N(0, 2)
ket |x> ~ N(0, 1)
|c> = relu(R |x>)
|y> = R^T |c>
|e> = R |y>
output overlap = <x|y>
output adjoint = <c|R|x>
output norm = <y|y>
output again = <e|c>
output curved = <x|R^T (R|x>)^3>
"""
    # |y> = hat + (rho·2·1/2)|x>, the hat of variance 2 rho <c|c> = 2 rho; <e|c> = <y|y> / rho.
    exact = {
        "overlap": rho,
        "adjoint": 1.0,
        "norm": 2 * rho + rho**2,
        "again": 2 + rho,
        "curved": rho * 2 * 3 * 2,
    }
    assert_equal(tp_compiler.limit(text, method="qmc", samples=4096), exact, within=5e-3)


def test_a_second_pass_through_the_same_matrix():
    """W Wᵀ tanh(W x): hat and dot of a ket that itself contains W."""
    text = """
matrix W ~ N(0, 1)
ket |x> ~ N(0, 1)
|h> = W |x>
|y> = W^T erf(|h>)
|z> = W |y>
output zh = <z|h>
output zz = <z|z>
output ze = <z|erf(h)>
"""
    # y = ĝ + d x with d = E erf'(h); z = W ĝ + d h with W ĝ = ζ + erf(h) (dot: ∂ĝ/∂ĝ), ζ ~ N(0, E erf²) independent.
    d = 2 / np.sqrt(np.pi) / np.sqrt(3)
    square = erf_kernel(np.eye(1))[0, 0]
    exact = {"zh": 2 * d, "zz": square + square + d**2 + 2 * d * d, "ze": square + d * d}
    assert_equal(tp_compiler.limit(text, method="qmc", samples=4096), exact, within=2e-3)


def test_clt_covariance_is_the_kernel():
    rows = ", ".join(f"[{a}, {b}]" for a, b in INPUTS)
    text = f"""
axis i, j : 3
axis d : 2
data xi[i,d] = [{rows}]
ket |u[d]> ~ N(0, 1)
ket |v> ~ N(0, 2)
|x[i]> = relu(sum[d](xi[i,d] |u[d]>))
output f[i] = clt <v|x[i]>
"""
    estimate = tp_compiler.limit(text, method="qmc", samples=4096).outputs["f"]
    assert estimate.law == "gaussian" and not estimate.value.any()
    score = (estimate.covariance - 2 * relu_kernel(INPUTS @ INPUTS.T)) / estimate.covariance_stderr
    assert np.abs(score).max() < 7


def test_clt_covariance_of_attention_logits():
    estimate = tp_compiler.limit(EXAMPLES / "attention_logits.nexort", method="qmc", samples=4096).outputs["logit"]
    tokens = np.array([[1.0, 0.3], [-0.4, 0.8]])
    gram = tokens @ tokens.T
    exact = np.einsum("ac,bd->abcd", gram, gram).reshape(4, 4)
    assert np.abs((estimate.covariance - exact) / estimate.covariance_stderr).max() < 7
    assert estimate.covariance_stderr.max() < 0.02


SAMPLED = """
ket |v> ~ N(0, 1)
ket |x> ~ N(0, 2)
s = clt <v|x>
output square = s*s
output curved = cos(s)
output shifted = <cos(x + s)>
"""


def test_values_of_clt_scalars_are_drawn_or_zero():
    drawn = tp_compiler.limit(SAMPLED, method="qmc", samples=1024)
    assert {e.law for e in drawn.outputs.values()} == {"sampled"}
    assert_equal(drawn, {"square": 2, "curved": np.exp(-1), "shifted": np.exp(-2)}, within=0.05)
    zero = tp_compiler.limit(SAMPLED, method="qmc", samples=1024, f0="zero")
    assert zero["square"] == 0 and zero["curved"] == 1
    assert abs(zero["shifted"] - np.exp(-1)) < 1e-3


def test_f0_zero_makes_attention_uniform():
    run = tp_compiler.limit(EXAMPLES / "attention_clt.nexort", method="qmc", samples=1024, f0="zero")
    assert (run["weight"] == 0.5).all()


def refused(run):
    """Refused as no known Gaussian, rather than for want of accuracy."""
    return bool(run.failed) and all(d.code in ("NX451", "NX452") for d in run.failed.values())


@pytest.mark.parametrize("bracket", ["clt <x|(W + W^T)|x>", "clt <x|(W V + V^T W^T)|x>"], ids=["alone", "in a chain"])
def test_a_matrix_in_both_directions_is_refused_or_right(bracket):
    """Twice one number of variance 1, hence variance 4; independent hats would give 2."""
    declared = "ket |x> ~ N(0, 1)\nmatrix W ~ N(0, 1)\nmatrix V ~ N(0, 1)\n"
    run = tp_compiler.limit(f"{declared}output s = {bracket}\n", method="qmc", samples=4096)
    assert refused(run) or abs(run.outputs["s"].covariance.item() - 4) < 0.1


def test_two_spellings_of_one_number_are_refused_or_equal():
    text = """
ket |x> ~ N(0, 1)
ket |u> ~ N(0, 1)
matrix W ~ N(0, 1)
a = clt <u|W|x>
|y> = W^T |u>
b = clt <y|x>
output gap = (a - b)^2
"""
    run = tp_compiler.limit(text, method="qmc", samples=2048)
    assert refused(run) or abs(float(run["gap"])) < 1e-9
