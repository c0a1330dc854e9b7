"""`parametrization ntk` at finite width against networks in the NTK parametrization trained by torch.optim."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch.harness import Parameters, compare  # noqa: E402

pytestmark = pytest.mark.torch

N = 24
XI = np.array([[0.9, -0.4], [-0.7, 1.1], [0.5, 0.8]])
Y = np.array([1.0, -0.5, 0.25])
TEXT = """
parametrization ntk
axis i : 3
axis d : 2
data xi[i,d] = [[0.9, -0.4], [-0.7, 1.1], [0.5, 0.8]]
data y[i] = [1.0, -0.5, 0.25]
ket |u[d]> ~ N(0, 1)
matrix W ~ N(0, 1)
ket |v> ~ N(0, 1)
def net(x[d]) {{ return clt <v|tanh(W tanh(sum[d](x[d] |u[d]>)))> }}
train steps = 5 {{
    minimize mean[i]((net(xi[i,d]) - y[i])^2) / 2
    update all with {call}
}}
output f[step,i] = net(xi[i,d])
"""


def trained(make: Any) -> Any:
    """f = vᵀ tanh(w tanh(Uξ) / √n) / √n, every weight N(0, 1): its outputs after 0, ..., 5 updates."""
    p = Parameters()
    p.ket("u", N, 2)
    p.matrix("W", N, N)
    p.ket("v", N)
    raw = {name: x.detach().clone() for name, x in p.entries.items()}
    raw["W"] = raw["W"] / N**0.5
    for x in raw.values():
        x.requires_grad_(True)
    optimizer = make(raw)

    def net() -> Any:
        return torch.tanh(torch.tanh(torch.tensor(XI) @ raw["u"]) @ raw["W"].T / N**0.5) @ raw["v"] / N**0.5

    found = [net()]
    for _ in range(5):
        optimizer.zero_grad()
        (((net() - torch.tensor(Y)) ** 2).mean() / 2).backward()
        optimizer.step()
        found.append(net())
    return {"f": np.stack([f.detach().numpy() for f in found])}


@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_sgd(decay: float) -> None:
    """lr, momentum and weight decay are those of the raw network, free of n."""
    call = f"SGD(lr = 0.3, momentum = 0.6, weight_decay = {decay})"
    wanted = trained(lambda p: torch.optim.SGD(p.values(), lr=0.3, momentum=0.6, weight_decay=decay))
    compare(TEXT.format(call=call), N, wanted)


def test_decoupled_decay() -> None:
    """Raw gradients are 1/√n (kets) and 1/n (matrices) of the natural ones: so are lr and eps; lr · decay stays."""

    def make(p: dict[str, Any]) -> Any:
        groups = [
            {"params": [p[name]], "lr": 0.1 / s, "eps": 0.05 / s, "weight_decay": 0.4 * s}
            for name, s in (("u", N**0.5), ("W", N), ("v", N**0.5))
        ]
        return torch.optim.AdamW(groups)

    compare(TEXT.format(call="AdamW(lr = 0.1, eps = 0.05, weight_decay = 0.4)"), N, trained(make))
