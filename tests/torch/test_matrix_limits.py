"""Nonlinear networks under optimizers on matrices: PyTorch at widths 256 to 2,048 against the limit, by z-scores.

The PyTorch implementations are checked to rounding on the draws of `tpc simulate` first (Nero, whose projection of hidden
rows vanishes with the width, in test_matrix_layers.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tp_compiler as tpc  # noqa: E402
from tests.torch.harness import Parameters, bracket, simulated  # noqa: E402
from tests.torch.matrix import KFAC, SOAP, AdaMuon, Drawn, Muon, Nero, NorMuon, Record, Shampoo, train  # noqa: E402

pytestmark = pytest.mark.torch

STEPS = 3
XI = torch.tensor([[0.9, -0.4], [-0.7, 1.1], [0.5, 0.8]], dtype=torch.float64)
Y = torch.tensor([1.0, -0.5, 0.25], dtype=torch.float64)
XT = torch.tensor([[0.3, 0.7]], dtype=torch.float64)
TOKENS = torch.tensor(
    [[[0.9, -0.4], [0.2, 0.5]], [[-0.7, 1.1], [0.4, -0.6]], [[0.5, 0.8], [-1.0, 0.3]]], dtype=torch.float64
)
TOKENS_T = torch.tensor([[[0.3, 0.7], [-0.2, 0.6]]], dtype=torch.float64)

TRAIN = """
train steps = 3 {
    f[i] = net(INPUT)
    loss = mean[i]((f[i] - y[i])^2) / 2
    minimize loss
    update all with OPTIMIZER
}
output f[step] = net(PROBE)
"""
MLP = f"""
axis i : 3
axis d : 2
data x[i,d] = {XI.tolist()}
data xt[d] = {XT[0].tolist()}
data y[i] = {Y.tolist()}
ket |u[d]> ~ N(0, 1)
matrix W ~ N(0, 1)
ket |v> ~ N(0, 1)
def net(x[d]) {{
    |x> = tanh(sum[d](x[d] |u[d]>))
    |x> = |x> + tanh(W |x>)
    return <v|x>
}}
""" + TRAIN.replace("INPUT", "x[i,d]").replace("PROBE", "xt[d]")
TRANSFORMER = f"""
axis i : 3
axis s, t : 2
axis d : 2
data x[i,s,d] = {TOKENS.tolist()}
data xt[s,d] = {TOKENS_T[0].tolist()}
data y[i] = {Y.tolist()}
ket |u[d]> ~ N(0, 1)
matrix Q ~ N(0, 1)
matrix K ~ N(0, 1)
matrix V ~ N(0, 1)
matrix O ~ N(0, 1)
matrix W ~ N(0, 1)
matrix Z ~ N(0, 1)
ket |v> ~ N(0, 1)
def net(x[s,d]) {{
    |x[s]> = sum[d](x[s,d] |u[d]>)
    |q[s]> = Q |x[s]>
    |k[s]> = K |x[s]>
    |a[s]> = V |x[s]>
    w[s,t] = softmax[t](<q[s]|k[t]>)
    |x[s]> = |x[s]> + O sum[t](w[s,t] |a[t]>)
    |x[s]> = |x[s]> + Z tanh(W |x[s]>)
    return <v|mean[s](|x[s]>)>
}}
""" + TRAIN.replace("INPUT", "x[i,s,d]").replace("PROBE", "xt[s,d]")


def mlp(xi: Any, p: Parameters, record: Record) -> Any:
    x = torch.tanh(record("u", xi, xi @ p["u"]))
    x = x + torch.tanh(record("W", x, x @ p["W"].T))
    return record("v", x, bracket(p["v"], x))


def transformer(xi: Any, p: Parameters, record: Record) -> Any:
    x = record("u", xi, xi @ p["u"])
    q, k, a = (record(name, x, x @ p[name].T) for name in "QKV")
    weights = torch.softmax(torch.einsum("isn,itn->ist", q, k) / x.shape[-1], -1)
    mixed = weights @ a
    x = x + record("O", mixed, mixed @ p["O"].T)
    h = torch.tanh(record("W", x, x @ p["W"].T))
    x = x + record("Z", h, h @ p["Z"].T)
    pooled = x.mean(1)
    return record("v", pooled, bracket(p["v"], pooled))


def declared(p: Parameters, n: int, matrices: str) -> Parameters:
    p.ket("u", n, 2)
    for name in matrices:
        p.matrix(name, n, n)
    p.ket("v", n)
    return p


@dataclass(frozen=True)
class Network:
    text: str
    matrices: str
    net: Callable[..., Any]
    inputs: Any
    probe: Any

    def trained(self, p: Parameters, make: Callable[[], Any]) -> np.ndarray:
        found = train(p, partial(self.net, self.inputs), Y, {"v"}, make, STEPS, partial(self.net, self.probe))
        return np.asarray(found)[:, 0]


NETWORKS = {
    "a tanh MLP with a residual": Network(MLP, "W", mlp, XI, XT),
    "a Transformer block": Network(TRANSFORMER, "QKVOWZ", transformer, TOKENS, TOKENS_T),
}
OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "Shampoo(lr = 0.3, damping = 0.1)": lambda: Shampoo(0.3, 0.1),
    "Shampoo(lr = 0.3, damping = 0.1, beta2 = 0.9)": lambda: Shampoo(0.3, 0.1, 0.9),
    "KFAC(lr = 0.2, damping = 0.2)": lambda: KFAC(0.2, 0.2),
    "Muon(lr = 0.1)": lambda: Muon(0.1),
    "NorMuon(lr = 0.1, eps = 0.01)": lambda: NorMuon(0.1, 0.01),
    "AdaMuon(lr = 0.3, eps = 0.1)": lambda: AdaMuon(0.3, 0.1),
    "SOAP(lr = 0.1, eps = 0.1)": lambda: SOAP(0.1, 0.1),
    "Nero(lr = 0.1)": lambda: Nero(0.1),
}


@pytest.mark.parametrize("optimizer", [o for o in OPTIMIZERS if not o.startswith("Nero")])
@pytest.mark.parametrize("network", NETWORKS)
def test_pytorch_is_the_simulator(network: str, optimizer: str) -> None:
    net, n = NETWORKS[network], 24
    found = net.trained(declared(Parameters(), n, net.matrices), OPTIMIZERS[optimizer])
    wanted = simulated(net.text.replace("OPTIMIZER", optimizer), n)["f"]
    np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-9)


#: width -> how many networks
SEEDS = {256: 24, 512: 12, 1024: 6, 2048: 3}


def scores(network: Network, optimizer: str) -> dict[int, np.ndarray]:
    """Deviations of the means of finite networks from the limit, in standard errors (pooled over the widths), by width."""
    limit = tpc.limit(network.text.replace("OPTIMIZER", optimizer), samples=4096, max_samples=4096)
    assert not limit.failed, limit.failed
    value, error = np.asarray(limit["f"]), np.asarray(limit.outputs["f"].stderr)
    runs = {
        n: np.stack([
            network.trained(declared(Drawn(1000 * n + k), n, network.matrices), OPTIMIZERS[optimizer]) for k in range(count)
        ])
        for n, count in SEEDS.items()
    }  # fmt: skip
    degrees = sum(len(r) - 1 for r in runs.values())
    variance = sum(n * ((r - r.mean(0)) ** 2).sum(0) for n, r in runs.items()) / degrees  # of one network, times n
    return {n: (r.mean(0) - value) / np.sqrt(variance / (n * len(r)) + error**2) for n, r in runs.items()}


@pytest.mark.long
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_widths_against_the_limit(network: str, optimizer: str) -> None:
    found = scores(NETWORKS[network], optimizer)
    assert all(np.abs(z).max() < 4.5 for z in found.values()), found
