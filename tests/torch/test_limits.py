"""Trained limits against real PyTorch networks under torch.optim: mean over seeds at growing widths.

Nothing is shared with the project but the statistics of `tpc verify`: the networks, their random initialisation, the
gradients (autograd) and the optimizers are PyTorch's. Lion and SignSGD, which torch.optim lacks, are written out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tp_compiler as tpc  # noqa: E402
from tests.torch.architectures import ARCHITECTURES  # noqa: E402
from tp_compiler.finite.converge import OutputCheck, verify  # noqa: E402
from tp_compiler.results import Estimate  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]

STEPS = 3


class Sign(torch.optim.Optimizer):
    """p -= lr sign(g)"""

    def __init__(self, params: Any, lr: float):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p -= group["lr"] * p.grad.sign()


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, Algorithm 2, without weight decay."""

    def __init__(self, params: Any, lr: float, betas: tuple[float, float] = (0.9, 0.99)):
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            one, two = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p -= group["lr"] * (one * m + (1 - one) * p.grad).sign()
                m.lerp_(p.grad, 1 - two)


OPTIMIZERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "momentum": ("SGD(lr = 0.1, momentum = 0.9)", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    "adam": ("Adam(lr = 0.1, eps = 0.01)", lambda p: torch.optim.Adam(p, lr=0.1, eps=0.01)),
    "adamw": (
        "AdamW(lr = 0.1, eps = 0.01, weight_decay = 0.1)",
        lambda p: torch.optim.AdamW(p, lr=0.1, eps=0.01, weight_decay=0.1),
    ),
    "rmsprop": ("RMSprop(lr = 0.02, eps = 0.01)", lambda p: torch.optim.RMSprop(p, lr=0.02, eps=0.01)),
    "lion": ("Lion(lr = 0.05, weight_decay = 0)", lambda p: Lion(p, lr=0.05)),
    "signsgd": ("SignSGD(lr = 0.05)", lambda p: Sign(p, lr=0.05)),
}


#: The others take a minute or more each.
QUICK = ("mlp", "rnn")


def compared(name: str, optimizer: str) -> tuple[Estimate, OutputCheck]:
    """The trained limit, and what PyTorch networks of growing width say of it."""
    architecture = ARCHITECTURES[name]
    text, make = OPTIMIZERS[optimizer]
    limit = tpc.limit(
        tpc.Source(f"{name}.nexort", architecture.program(text, STEPS)), samples=architecture.samples, seed=1
    )
    assert not limit.failed, limit.failed
    seeds = {64: 12, 128: 8, 256: 6, 512: 4, 1024: 2, 2048: 2}
    networks = {
        n: {"f": np.stack([architecture.trained(make, STEPS, n, 1000 * n + k).numpy() for k in range(seeds[n])])}
        for n in architecture.widths
    }
    found = verify({"f": limit.outputs["f"]}, networks, dof=limit.settings["replicates"] - 1)
    (check,) = found.checks
    return limit.outputs["f"], check


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in ARCHITECTURES]
)
def test_trained_limit(name: str, optimizer: str) -> None:
    limit, check = compared(name, optimizer)
    assert check.passed, check
    assert np.max(limit.stderr) < 0.02
