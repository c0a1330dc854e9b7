"""The limit against finite networks; and that a broken limit is found out."""

from __future__ import annotations

import pytest

import tp_compiler
from tp_compiler.evaluate.sampling.conditioning.matmul import MatrixState

FREE = """
matrix W ~ N(0, 1)
ket |v> ~ N(0, 1)
S = (W + W^T) / sqrt(2)
output c2 = <v|S^4|v>
output c3 = <v|S^6|v>
"""

TIED = """
axis i, j : 2
axis d : 2
data xi[i,d] = [[1.0, 0.4], [-0.2, 0.9]]
ket |u[d]> ~ N(0, 1)
matrix W ~ N(0, 1)
|x[i]> = sum[d](xi[i,d] |u[d]>)
|y[i]> = W^T relu(W |x[i]>)
output overlap[i,j] = <x[i]|y[j]>
output second[i,j] = <tanh(W tanh(|y[i]>))|tanh(W tanh(|y[j]>))>
"""

RECTANGULAR = """
width m = 3
matrix R : m x n ~ N(0, 1)
matrix Q : n x m ~ N(0, 2)
ket |x> ~ N(0, 1)
|c> = tanh(R |x>)
|y> = tanh(R^T |c> + Q |c>)
|d> = R |y> + Q^T |y>
output a = <x|y>
output b = <d|c>
output c = <d|d>
output e = <y|Q tanh(|d>)>
"""

PROGRAMS = {"free probability": FREE, "tied weights": TIED, "rectangular": RECTANGULAR}


def verification(text):
    return tp_compiler.verify(text, widths=(64, 128, 256), seeds=32, method="qmc", samples=4096)


@pytest.mark.parametrize("name", PROGRAMS)
def test_limit_and_networks_agree(name):
    found = verification(PROGRAMS[name])
    assert found.passed, found.checks


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_engine_without_dots_is_found_out(name, monkeypatch):
    monkeypatch.setattr(MatrixState, "_factor", lambda self, adjoint: 0.0)  # of every dot
    found = verification(PROGRAMS[name])
    assert not found.passed
    failed = [check for check in found.checks if not check.passed]
    assert all(check.reason for check in failed)
    assert max(min(max(check.z), check.z_corrected) for check in failed) > 5


def test_an_engine_with_a_wrong_ratio_is_found_out(monkeypatch):
    before = MatrixState.__init__
    monkeypatch.setattr(
        MatrixState, "__init__", lambda self, variance, ratio, *rest: before(self, variance, 1.0, *rest)
    )
    assert not verification(RECTANGULAR).passed


@pytest.mark.parametrize("seed", range(3))
def test_the_verdict_does_not_hang_on_the_seed(seed):
    assert tp_compiler.verify(TIED, widths=(64, 128, 256), seeds=24, method="qmc", samples=2048, seed=seed).passed
