"""A PyTorch network with the initial draws of `tpc simulate`, trained by torch.optim in natural units.

A parameter is kept by its natural entries P: a ket by itself, a matrix W by P = cols · W. With P.grad the natural
gradient (entries of |dx>, for a matrix dh_α x_β), torch.optim does what an optimizer of the library says. From
df = <dx|δx> and df = <dh|δW|x>, brackets being means over neurons, the natural gradient of P is size(P) · ∂f/∂P: n for
a ket, rows · cols for a matrix, 1 for a scalar.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

import tp_compiler as tpc
from tests.unit.finite.programs import drawn_ket, drawn_matrix

Tensor = Any
Values = dict[str, np.ndarray]


@dataclass
class Parameters:
    """Natural entries by name; `neurons` is how many neurons one member has (all of them for kets and matrices)."""

    entries: dict[str, Tensor] = field(default_factory=dict)
    neurons: dict[str, int] = field(default_factory=dict)
    columns: dict[str, int] = field(default_factory=dict)

    def ket(self, name: str, n: int, members: int = 0, std: float = 1.0, mean: float = 0.0) -> None:
        """A declared ket (family over one index of `members`)."""
        drawn = std * drawn_ket(name, n, max(1, members)) + mean
        self._add(name, drawn if members else drawn[0], n)

    def matrix(self, name: str, rows: int, cols: int, members: int = 0, variance: float = 1.0) -> None:
        drawn = np.stack([drawn_matrix(name, rows, cols, k, variance) for k in range(max(1, members))])
        self.columns[name] = cols
        self._add(name, cols * (drawn if members else drawn[0]), rows * cols)

    def scalar(self, name: str, value: Any) -> None:
        self._add(name, np.asarray(value, dtype=np.float64), 1)

    def _add(self, name: str, value: np.ndarray, neurons: int) -> None:
        self.entries[name] = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        self.neurons[name] = neurons

    def __getitem__(self, name: str) -> Tensor:
        """The parameter as the network uses it."""
        return self.entries[name] / self.columns.get(name, 1)

    def gradients(self, f: Tensor, names: Sequence[str], **options: Any) -> list[Tensor]:
        """Natural gradients of a scalar."""
        found = torch.autograd.grad(f, [self.entries[name] for name in names], allow_unused=True, **options)
        zeros = (torch.zeros_like(self.entries[name]) if g is None else g for name, g in zip(names, found, strict=True))
        return [g * self.neurons[name] for name, g in zip(names, zeros, strict=True)]


def mean(x: Tensor) -> Tensor:
    """<x>"""
    return x.mean(-1)


def bracket(x: Tensor, y: Tensor) -> Tensor:
    """<x|y>"""
    return (x * y).mean(-1)


Loss = Callable[[Parameters, int], Tensor]
Shown = Callable[[Parameters, int], dict[str, Tensor]]
Group = tuple[Sequence[str], Callable[[list[Tensor]], Any]]


def train(
    parameters: Parameters, loss: Loss, shown: Shown, groups: Sequence[Group], steps: int, *,
    clip: float | None = None, rate: Callable[[int], float] | None = None,
) -> Values:  # fmt: skip
    """`shown` after 0, 1, ..., `steps` updates. A group is the names of its parameters and what makes their optimizer.

    clip   the norm that torch.nn.utils.clip_grad_norm_ clips the natural gradients to, in natural units (means)
    rate   the learning rate of a step
    """
    names = [name for group, _ in groups for name in group]
    optimizers = [make([parameters.entries[name] for name in group]) for group, make in groups]
    found = [shown(parameters, 0)]
    for k in range(steps):
        gradients = parameters.gradients(loss(parameters, k), names)
        scales = [parameters.neurons[name] ** -0.5 for name in names]
        for name, g, scale in zip(names, gradients, scales, strict=True):
            parameters.entries[name].grad = g * scale
        if clip is not None:
            torch.nn.utils.clip_grad_norm_([parameters.entries[name] for name in names], clip)
        for name, scale in zip(names, scales, strict=True):
            parameters.entries[name].grad /= scale
        for optimizer in optimizers:
            if rate is not None:
                for group in optimizer.param_groups:
                    group["lr"] = rate(k)
            optimizer.step()
        found.append(shown(parameters, k + 1))
    return {key: np.stack([values[key].detach().numpy() for values in found]) for key in found[0]}


def simulated(text: str, width: int) -> Values:
    """The outputs of one network of `tpc simulate` (the one whose draws the parameters have)."""
    run = tpc.simulate(text, width=width, seeds=1, seed=0)
    assert not run.failed, run.failed
    return {name: np.asarray(run[name]) for name in run}


def compare(text: str, width: int, wanted: Values, rtol: float = 1e-9, atol: float = 1e-12) -> None:
    """The simulator agrees with PyTorch on every output that both have, and there is one."""
    found = simulated(text, width)
    assert set(wanted) <= set(found), set(wanted) - set(found)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=rtol, atol=atol, err_msg=name)


__all__ = ["Parameters", "bracket", "compare", "mean", "simulated", "train"]
