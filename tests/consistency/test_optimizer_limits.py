"""Limits of networks that are trained by optimizers of the library, against networks of finite width."""

from __future__ import annotations

import pytest

import tp_compiler as tpc

NETWORK = """
axis i : 3
axis d : 2
data x[i,d] = [[0.9, -0.4], [-0.7, 1.1], [0.5, 0.8]]
data y[i]   = [1.0, -0.5, 0.25]
ket |u[d]> ~ N(0, 1)
matrix W   ~ N(0, 1)
ket |v>    ~ N(0, 1)
def net(x[d]) { return <v|tanh(W tanh(sum[d](x[d] |u[d]>)))> }
train steps = 3 {
    f[i] = net(x[i,d])
    minimize mean[i]((f[i] - y[i])^2) / 2
    update all with CALL
}
output f[i] = net(x[i,d])
"""
CALLS = (
    "AdamAtan2(lr = 0.1)",
    "ADOPT(lr = 0.1, beta2 = 0.9, eps = 0.1)",
    "SGDScheduleFree(lr = 0.5, weight_decay = 0.1)",
    "AdamWScheduleFree(lr = 0.1, eps = 0.1, eval_after = 3)",
    "Muon(lr = 0.2, scale = unit_rms_norm)",
    "NorMuon(lr = 0.1, weight_decay = 0.1)",
    "AdaMuon(lr = 1)",
    "Prodigy(d0 = 0.05, eps = 0.1)",
)


@pytest.mark.parametrize("call", CALLS)
def test_limit_and_networks_agree(call: str) -> None:
    found = tpc.verify(NETWORK.replace("CALL", call), widths=(64, 128, 256), seeds=16)
    assert found.passed, found.checks
