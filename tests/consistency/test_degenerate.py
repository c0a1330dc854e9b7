"""Batches that make Gram matrices singular or badly scaled, and outputs without a value."""

from __future__ import annotations

import numpy as np
import pytest

import tp_compiler
from tests.consistency.recursions import relu_kernel
from tests.consistency.scores import assert_equal


def kernels(inputs, samples=2048, seed=0):
    rows = ", ".join("[" + ", ".join(repr(float(x)) for x in row) + "]" for row in inputs)
    text = f"""
axis i, j : {len(inputs)}
axis d : {len(inputs[0])}
data xi[i,d] = [{rows}]
ket |u[d]> ~ N(0, 1)
matrix W ~ N(0, 2)
|h[i]> = sum[d](xi[i,d] |u[d]>)
|c[i]> = relu(W |h[i]>)
|y[i]> = W^T |c[i]>
output code[i,j] = <c[i]|c[j]>
output overlap[i,j] = <h[i]|y[j]>
output decoded[i,j] = <y[i]|y[j]>
"""
    return tp_compiler.limit(text, method="qmc", samples=samples, seed=seed)


def exact(inputs):
    inputs = np.asarray(inputs, dtype=float)
    gram = inputs @ inputs.T
    with np.errstate(invalid="ignore"):
        code = np.nan_to_num(relu_kernel(2 * gram))
    # |y> = hat + |h> (the dot: 2 · E relu' = 1), the hats of covariance 2 <c|c'>
    return {"code": code, "overlap": gram, "decoded": 2 * code + gram}


CASES = {
    "duplicates": [[1.0, 0.5], [-0.3, 0.8], [1.0, 0.5], [1.0, 0.5]],
    "zeros": [[0.0, 0.0], [1.0, 0.5], [0.0, 0.0]],
    "all zero": [[0.0, 0.0], [0.0, 0.0]],
    "linearly dependent": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, -1.0]],
    "opposite": [[1.0, 0.5], [-1.0, -0.5], [3.0, 1.5]],
    "1e-6 apart": [[1.0, 0.5], [1.000001, 0.5], [1.0, 0.500001]],
    "1e-9 apart": [[1.0, 0.5], [1.000000001, 0.5]],
}


@pytest.mark.parametrize("name", CASES)
def test_right_numbers(name):
    assert_equal(kernels(CASES[name]), exact(CASES[name]), within=3e-3)


def test_equal_inputs_have_equal_rows():
    run = kernels(CASES["duplicates"])
    for name in ("code", "overlap", "decoded"):
        value = run[name]
        assert (value[0] == value[2]).all() and (value[0] == value[3]).all(), name
        assert (value[:, 0] == value[:, 2]).all(), name
        assert (run.outputs[name].stderr[0] == run.outputs[name].stderr[2]).all()


def test_zero_inputs_give_zeros():
    run = kernels(CASES["zeros"])
    for name in ("code", "overlap", "decoded"):
        assert not run[name][0].any() and not run[name][:, 2].any()


def test_norms_from_small_to_large():
    inputs = np.array([[1e-3, 0.5e-3], [-0.3, 0.8], [200.0, -1100.0]])
    run = kernels(inputs)
    scale = np.linalg.norm(inputs, axis=1)
    unit = kernels(inputs / scale[:, None])
    for name, wanted in exact(inputs).items():
        relative = run[name] / np.outer(scale, scale)
        np.testing.assert_allclose(relative, wanted / np.outer(scale, scale), atol=2e-2)
        np.testing.assert_allclose(relative, unit[name], atol=1e-2)


def test_a_small_difference_of_large_kets_survives():
    """(W x' - W x) / 1e-4 is W of the difference."""
    text = """
matrix W ~ N(0, 1)
ket |x> ~ N(0, 1)
ket |e> ~ N(0, 1)
|a> = W |x>
|b> = W(|x> + 1e-4 |e>)
output difference = <(b - a)^2> * 1e8
"""
    assert_equal(tp_compiler.limit(text, method="qmc", samples=2048), {"difference": 1.0}, within=3e-3)


@pytest.mark.parametrize("batched", [True, False])
def test_one_matrix_applied_one_by_one_or_all_at_once(batched):
    product = "|a[i]> = W |x[i]>" if batched else "for i in 1..3 { |a[i]> = W |x[i]> }"
    text = f"""
axis i, j : 3
axis d : 2
data xi[i,d] = [[1, 0], [0, 1], [1, 1]]
matrix W ~ N(0, 1)
ket |u[d]> ~ N(0, 1)
|x[i]> = sum[d](xi[i,d] |u[d]>)
{product}
output k[i,j] = <a[i]|a[j]>
output sum = <(a[1] + a[2] - a[3])^2>
"""
    exact = {"k": [[1, 0, 1], [0, 1, 1], [1, 1, 2]], "sum": 0}
    assert_equal(tp_compiler.limit(text, method="qmc", samples=2048), exact, within=3e-3)


def test_failing_outputs_do_not_stop_the_others():
    text = """
ket |x> ~ N(0, 1)
matrix W ~ N(0, 1)
output good = <x|x>
output infinite = 1 / (<x> - <x>)
output nan = log(-<x|x>)
output later = exp(1000 <x|x>)
|h> = W |x>
output alsogood = <h|h>
output depends = nan + 1
"""
    run = tp_compiler.limit(text, method="qmc", samples=1024)
    assert set(run.outputs) == {"good", "alsogood"}
    assert set(run.failed) == {"infinite", "nan", "later", "depends"}
    assert_equal(
        tp_compiler.limit(text, method="qmc", samples=1024, only=["good", "alsogood"]),
        {"good": 1, "alsogood": 1},
        within=5e-3,
    )
