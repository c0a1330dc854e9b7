"""Kernels of networks exactly as torch.nn.Linear initialises them, against the limit with uniform kets and matrices."""

from __future__ import annotations

import numpy as np
import pytest

import tp_compiler as tpc

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

X = [[1.0, 0.0], [0.6, 0.8], [-1.0, 0.5]]
PROGRAM = f"""
axis i, j : 3
axis d : 2
data x[i,d] = {X}
ket |u[d]> ~ uniform(sqrt(1/2))
ket |b> ~ uniform(sqrt(1/2))
matrix W ~ uniform(1/3)
|h[i]> = relu(sum[d](x[i,d] |u[d]>) + |b>)
|g[i]> = W |h[i]>
output first[i,j] = <h[i]|h[j]>
output second[i,j] = <relu(g[i])|relu(g[j])>
output fourth[i] = <(u[1] + b)^4>
"""
WIDTH, NETWORKS = 2048, 16


def kernels(seed: int) -> list[np.ndarray]:
    torch.manual_seed(seed)
    one, two = torch.nn.Linear(2, WIDTH), torch.nn.Linear(WIDTH, WIDTH)
    with torch.no_grad():
        h = torch.relu(one(torch.tensor(X)))
        g = torch.relu(two(h))
        fourth = ((one.weight[:, 0] + one.bias) ** 4).mean() * torch.ones(3)
        return [(h @ h.T / WIDTH).numpy(), (g @ g.T / WIDTH).numpy(), fourth.numpy()]


def test_linear_layers_start_as_uniform_kets_and_matrices() -> None:
    """The biases of the second layer have the variance 1/(3 n), which vanishes in the limit."""
    run = tpc.limit(PROGRAM, samples=8192)
    drawn = [kernels(seed) for seed in range(NETWORKS)]
    for k, name in enumerate(("first", "second", "fourth")):
        found = run.outputs[name]
        each = np.array([d[k] for d in drawn])
        error = each.std(axis=0, ddof=1) / np.sqrt(NETWORKS)
        bias = 1 / WIDTH if name == "second" else 0.0
        assert np.all(np.abs(each.mean(axis=0) - found.value) <= 5 * np.hypot(error, found.stderr) + bias), name
    assert np.allclose(run["fourth"], 2 / 20 + 6 / 36)  # E u⁴ = a⁴/5 and (E u²)² = (a²/3)², for a² = 1/2
