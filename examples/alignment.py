"""Which learning rates does a network allow? Alignments are measured on small networks, and turned into powers of the width.

    python examples/alignment.py            (needs torch)

A perceptron with PyTorch's usual initial values is trained by Adam for a few steps at four widths. Updates turn out to be aligned with
what they multiply (sums of n terms grow as n), initial weights of hidden layers are not (√n), and those of the readout are: its
gradient has moved the features. So rates of this network must fall faster than those of Everett et al. for full alignment, which
assume a readout that is not aligned either.
"""

from __future__ import annotations

import torch
from torch import nn

import tp_compiler.torch as tpt

WIDTHS = (64, 128, 256, 512)
X = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))
Y = torch.sin(X.sum(1, keepdim=True))


def network(n: int) -> nn.Module:
    return nn.Sequential(nn.Linear(8, n), nn.Tanh(), nn.Linear(n, n), nn.Tanh(), nn.Linear(n, 1, bias=False))


def loss(model: nn.Module, step: int) -> torch.Tensor:
    return nn.functional.mse_loss(model(X), Y)


def rates(n: int) -> float:
    """Small enough that nothing blows up at any of the widths."""
    return 0.02 / n


def measured() -> tpt.CoordCheck:
    """The alignments after four steps of Adam."""
    return tpt.coord_check(
        network,
        loss,
        WIDTHS,
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=rates(model[0].out_features)),
    )


def main() -> None:
    check = measured()
    for name, found in check.alignments.items():
        print(f"{name}: ΔW x {found.update}, W Δx {found.features}, ΔW Δx {found.both}")
    traced = tpt.trace(network, (X,), WIDTHS[:2])
    print(traced.scale("Adam", alignment=check.alignments))


if __name__ == "__main__":
    main()
