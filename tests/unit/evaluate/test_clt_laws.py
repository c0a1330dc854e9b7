"""Outputs that are `clt` brackets: their covariance is a kernel, found as kernels are."""

from __future__ import annotations

import numpy as np
import pytest

import tp_compiler as tpc

KERNEL = """
axis i, j : 3
axis d : 2
data xi[i,d] = [[1.0, 0.5], [-0.3, 0.8], [0.2, -1.1]]
ket |u[d]> ~ N(0, 1)
ket |v> ~ N(0, 2)
matrix W ~ N(0, 2)
|h[i]> = sum[d](xi[i,d] |u[d]>)
|g[i]> = relu(W relu(|h[i]>))
output F[i] = clt <v|g[i]>
output both[j,i] = clt <v|g[j]>
output second = clt <v|g[2]>
output hard[i] = clt <v|tanh(tanh(|g[i]>) + tanh(W |g[i]>))>
output K[i,j] = <g[i]|g[j]>
"""


def test_the_covariance_is_that_of_the_kernel_beside_it() -> None:
    run = tpc.limit(KERNEL)
    kernel = 2 * run["K"]
    found = run.outputs["F"]
    assert found.method == run.outputs["K"].method == "closed-form"
    assert found.law == "gaussian" and not found.value.any() and not found.stderr.any()
    assert found.covariance == pytest.approx(kernel, rel=1e-12)
    assert found.covariance_stderr.max() < 1e-10
    assert run.outputs["second"].covariance == pytest.approx(kernel[1:2, 1:2], rel=1e-12)
    repeated = run.outputs["both"].covariance.reshape(3, 3, 3, 3)  # j, i, j', i': constant over i
    assert repeated == pytest.approx(np.broadcast_to(kernel[:, None, :, None], (3, 3, 3, 3)), rel=1e-12)


def test_what_has_no_formula_is_sampled_with_an_error() -> None:
    hard = tpc.limit(KERNEL).outputs["hard"]
    assert hard.method == "qmc" and hard.covariance_stderr.min() > 0


def test_samples_agree() -> None:
    exact, sampled = (tpc.limit(KERNEL, only=["F", "both"], **o).outputs for o in ({}, {"method": "qmc"}))
    for name, known in exact.items():
        off = (sampled[name].covariance - known.covariance) / sampled[name].covariance_stderr
        assert np.abs(off).max() < 5


@pytest.mark.parametrize("method", ["exact", "quadrature"])
def test_other_methods_answer_too(method: str) -> None:
    run = tpc.limit(KERNEL, method=method)
    assert run.outputs["F"].covariance == pytest.approx(2 * run["K"], rel=1e-10)
    assert run.failed["hard"].code == "NX501"


def test_brackets_not_known_to_be_gaussian_are_refused_as_before() -> None:
    program = "ket |x> ~ N(0, 1)\nmatrix W ~ N(0, 1)\noutput q = clt <x|W + W^T|x>"
    assert tpc.limit(program).failed["q"].code == "NX451"


def test_networks_have_this_covariance() -> None:
    verification = tpc.verify(KERNEL, widths=(128, 256), seeds=24, only=["F", "both"])
    assert verification.passed, verification
