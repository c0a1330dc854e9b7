"""The limit of a traced program is that of networks: kernels of features against ensembles at two widths.

Parameters that had become data, shared draws that had been lost, or wrong laws would show here and not in one forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tp_compiler as tpc  # noqa: E402
import tp_compiler.torch as tpt  # noqa: E402
from tests.torch.layer_modules import LAYERS  # noqa: E402
from tests.torch.modules import FAMILIES, GPT, TOKENS  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.usefixtures("single_precision")]
#: Widths of the networks, and how many there are of each.
SEEDS = {128: 100, 512: 50}


class Kernel(nn.Module):
    """Scalar products of what the readout of a module reads."""

    def __init__(self, body: nn.Module, n: int):
        super().__init__()
        self.n, self.body = n, body
        setattr(body, "head" if hasattr(body, "head") else "out", nn.Identity())

    def forward(self, x):
        h = self.body(x)
        h = h.reshape(-1, h.shape[-1])
        return h @ h.T / h.shape[-1]


FEATURES: dict[str, tuple[Callable[[int], nn.Module], torch.Tensor]] = {
    **{name: FAMILIES[name] for name in ("mlp", "gated", "llama", "images", "batch norm", "lstm", "gru", "experts")},
    "gpt": (lambda n: GPT(n, multiplier=1.0), TOKENS),
    **{name: LAYERS[name] for name in ("transposed convolution", "vision transformer", "rotary over the width")},
}


@pytest.mark.parametrize("name", FEATURES)
def test_kernels_are_those_of_networks(name: str) -> None:
    """The part of the mean that goes as 1/n is taken out with the narrower networks."""
    factory, x = FEATURES[name]
    made = tpt.trace(lambda n: Kernel(factory(n), n), (x,), (32, 64))
    run = tpc.limit(made, samples=1024, seed=1)
    assert not run.failed, run.failed
    means, errors = [], []
    for n, seeds in SEEDS.items():
        values = []
        for seed in range(seeds):
            torch.manual_seed(1000 * n + seed)
            with torch.no_grad():
                values.append(Kernel(factory(n), n).eval()(x).double().numpy())
        means.append(np.mean(values, 0))
        errors.append(np.std(values, 0, ddof=1) / math.sqrt(seeds))
    narrow, wide = SEEDS
    ratio = wide / narrow
    mean = (ratio * means[1] - means[0]) / (ratio - 1)
    error = np.sqrt((ratio * errors[1]) ** 2 + errors[0] ** 2) / (ratio - 1)
    limit, stderr = (np.reshape(v, mean.shape) for v in (run["out"], run.outputs["out"].stderr))
    scale = np.abs(limit).max()
    off = np.abs(mean - limit) / (np.hypot(error, stderr) + 2e-3 * scale)
    assert scale > 1e-3 and error.max() < 0.1 * scale
    assert off.max() < 4.5, (limit, mean, error)
