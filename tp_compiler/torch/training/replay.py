"""The training loop of a program, run by torch on a module: what `compare` compares with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tp_compiler.torch.training.batches import Batches
from tp_compiler.torch.training.optimizers import NaturalRatios, counterpart
from tp_compiler.torch.training.owners import Owned
from tp_compiler.torch.walk import doubled

#: The ratios of a parameter (torch's name) at a width.
Ratios = Callable[[str, int], NaturalRatios]


@dataclass(eq=False)
class TorchLoop:
    """A loop that torch can run: a loss by name, and an optimizer of torch.optim of a module of some width."""

    loss: str
    targets: torch.Tensor
    steps: int
    optimizer: torch.optim.Optimizer
    width: int
    owned: list[Owned]
    ratios: Ratios
    loss_name: str
    given: Batches | None

    def run(self, module: nn.Module, inputs: Sequence[Any], width: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The loss and the output before each update and after the last; the module is trained."""
        held = dict(module.named_parameters())
        figures = {one.weight.name: self._figures(one, width) for one in self.owned if one.trained}
        updates = {name: self._optimizer(held[name], rows[0]) for name, rows in figures.items()}
        found = []
        for step in range(self.steps + 1 if self.given is None else self.given.count):
            at_step = [doubled(x) for x in (self.given.at(step) if self.given is not None else inputs)]
            (out,) = [x for x in torch.utils._pytree.tree_leaves(module(*at_step)) if isinstance(x, torch.Tensor)]
            loss = self._loss(out, step)
            found.append((loss.detach(), out.detach()))
            if step == self.steps:
                break
            module.zero_grad()
            loss.backward()
            for name, update in updates.items():
                update.param_groups[0].update(figures[name][step])
                update.step()
        return found

    def _loss(self, out: torch.Tensor, step: int) -> torch.Tensor:
        shape = out.shape if self.loss == "mse" or self.targets.is_floating_point() else out.shape[:-1]
        y = self.targets if self.targets.shape == shape else self.targets[min(step, len(self.targets) - 1)]
        y = y.to(out.dtype) if self.loss == "mse" or y.is_floating_point() else y
        if self.loss == "mse":
            return F.mse_loss(out, y)
        rows = out.reshape(-1, out.shape[-1])
        return F.cross_entropy(rows, y.reshape(rows.shape) if y.is_floating_point() else y.reshape(-1))

    def _figures(self, one: Owned, width: int) -> list[dict[str, Any]]:
        """The options of a parameter at every step, at a width: those of the optimizer, scaled as muP wants."""
        assert one.history is not None
        at_own, at_width = (self.ratios(one.weight.name, n) for n in (self.width, width))
        rows = []
        for options in one.history:
            scaled = dict(options)
            factors = {}
            for argument in counterpart(self.optimizer, options).arguments:
                factors[argument.name] = argument.factor(at_own) / argument.factor(at_width)
                if argument.name in options:
                    scaled[argument.name] = argument.value * factors[argument.name]
            if "step_sizes" in options:
                scaled["step_sizes"] = tuple(size * factors["step_size_min"] for size in options["step_sizes"])
            rows.append(scaled)
        return rows

    def _optimizer(self, parameter: nn.Parameter, options: dict[str, Any]) -> torch.optim.Optimizer:
        kind = type(self.optimizer)
        known = inspect.signature(kind).parameters
        return kind([parameter], **{name: value for name, value in options.items() if name in known})
