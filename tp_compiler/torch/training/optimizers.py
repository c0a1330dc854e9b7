"""Optimizers of torch as those of the library: one row for each class, and how its figures change with the units."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tp_compiler.torch.refusals import refusal

#: A figure in natural units is the raw one times entry^first and gradient^second.
Powers = tuple[int, int]
PURE: Powers = (0, 0)
COUPLED: Powers = (-1, 1)  # weight_decay times the parameter is added to the gradient
DECOUPLED: Powers = (-1, 0)  # lr times weight_decay times the parameter is subtracted from it
Options = Mapping[str, Any]


@dataclass(frozen=True)
class NaturalRatios:
    """How many times larger the natural entries of a parameter and of its gradient are than torch's: what becomes of lr and eps of
    Adam, whose steps do not depend on the size of the gradient."""

    entry: float
    gradient: float


@dataclass(frozen=True)
class OptimizerArgument:
    """An argument of an optimizer of the library."""

    name: str
    value: float
    powers: Powers = PURE
    default: float | None = None  # of the library; the argument is left out if it has it in all units

    def factor(self, ratios: NaturalRatios) -> float:
        """Natural figure over raw one."""
        return float(ratios.entry ** self.powers[0] * ratios.gradient ** self.powers[1])

    def natural(self, ratios: NaturalRatios) -> float:
        return self.value * self.factor(ratios)


@dataclass(frozen=True)
class Counterpart:
    """An optimizer of the library with the arguments of a parameter group."""

    name: str
    arguments: tuple[OptimizerArgument, ...]


def _betas(g: Options) -> tuple[OptimizerArgument, ...]:
    one, other = (float(b) for b in g["betas"])
    return OptimizerArgument("beta1", one, default=0.9), OptimizerArgument("beta2", other, default=0.999)


def _adaptive(g: Options, decay: Powers = COUPLED, kept: float = 0.0) -> tuple[OptimizerArgument, ...]:
    """Of optimizers whose step does not depend on the size of the gradient. `kept`: the library's weight decay."""
    found = (OptimizerArgument("lr", float(g["lr"]), (1, 0)), OptimizerArgument("eps", float(g["eps"]), (0, 1)))
    return (*found, OptimizerArgument("weight_decay", float(g["weight_decay"]), decay, kept))


def _sgd(g: Options) -> Counterpart:
    names = ("momentum", "dampening", "nesterov")
    rest = tuple(OptimizerArgument(name, float(g[name]), default=0.0) for name in names)
    decay = OptimizerArgument("weight_decay", float(g["weight_decay"]), COUPLED, 0.0)
    return Counterpart("SGD", (OptimizerArgument("lr", float(g["lr"]), (1, -1)), *rest, decay))


def _adam(g: Options) -> Counterpart:
    apart = bool(g.get("decoupled_weight_decay"))
    if apart and g["amsgrad"]:
        raise refusal("NX722", "AdamW with amsgrad has no counterpart", "use AdamW without it, or Adam with it")
    if apart:
        return Counterpart("AdamW", (*_adaptive(g, DECOUPLED, 0.01), *_betas(g)))
    return Counterpart("AMSGrad" if g["amsgrad"] else "Adam", (*_adaptive(g), *_betas(g)))


def _nadam(g: Options) -> Counterpart:
    apart = bool(g["decoupled_weight_decay"])
    decay = OptimizerArgument("momentum_decay", float(g["momentum_decay"]), default=4e-3)
    flag = OptimizerArgument("decoupled_weight_decay", float(apart), default=0.0)
    return Counterpart("NAdam", (*_adaptive(g, DECOUPLED if apart else COUPLED), *_betas(g), decay, flag))


def _rmsprop(g: Options) -> Counterpart:
    rest = (("alpha", 0.99), ("momentum", 0.0), ("centered", 0.0))
    return Counterpart(
        "RMSprop", (*_adaptive(g), *(OptimizerArgument(name, float(g[name]), default=d) for name, d in rest))
    )


def _adagrad(g: Options) -> Counterpart:
    decay = OptimizerArgument("lr_decay", float(g["lr_decay"]), default=0.0)
    start = OptimizerArgument("initial_accumulator_value", float(g["initial_accumulator_value"]), (0, 2), 0.0)
    return Counterpart("Adagrad", (*_adaptive(g), decay, start))


def _adadelta(g: Options) -> Counterpart:
    lr, eps = OptimizerArgument("lr", float(g["lr"]), (1, -1)), OptimizerArgument("eps", float(g["eps"]), (0, 2))
    decay = OptimizerArgument("weight_decay", float(g["weight_decay"]), COUPLED, 0.0)
    return Counterpart("Adadelta", (lr, OptimizerArgument("rho", float(g["rho"]), default=0.9), eps, decay))


def _rprop(g: Options) -> Counterpart:
    down, up = (float(eta) for eta in g["etas"])
    low, high = (float(size) for size in g["step_sizes"])
    sizes = (OptimizerArgument("step_size_min", low, (1, 0)), OptimizerArgument("step_size_max", high, (1, 0)))
    etas = (OptimizerArgument("etaminus", down, default=0.5), OptimizerArgument("etaplus", up, default=1.2))
    return Counterpart("Rprop", (OptimizerArgument("lr", float(g["lr"]), (1, 0)), *etas, *sizes))


#: Class of torch -> its counterpart.
CLASSES: dict[type[torch.optim.Optimizer], Callable[[Options], Counterpart]] = {
    torch.optim.SGD: _sgd,
    torch.optim.Adam: _adam,
    torch.optim.AdamW: _adam,
    torch.optim.Adamax: lambda g: Counterpart("Adamax", (*_adaptive(g), *_betas(g))),
    torch.optim.NAdam: _nadam,
    torch.optim.RMSprop: _rmsprop,
    torch.optim.Adagrad: _adagrad,
    torch.optim.Adadelta: _adadelta,
    torch.optim.Rprop: _rprop,
}
_REASONS = {"RAdam": ": its first steps are those of SGD and its later ones those of Adam, which scale differently"}


def counterpart(optimizer: torch.optim.Optimizer, options: Options) -> Counterpart:
    """The optimizer of the library that a parameter group has. Raises NX722 for what it lacks."""
    rule = CLASSES.get(type(optimizer))
    name = type(optimizer).__name__
    if rule is None:
        known = ", ".join(c.__name__ for c in CLASSES)
        reason = _REASONS.get(name, "")
        raise refusal(
            "NX722", f"the optimizer {name} has no counterpart here{reason}",
            f"use one of torch.optim's {known}, or text in natural units, such as \"Lion(lr = 0.01)\"",
        )  # fmt: skip
    if options.get("maximize"):
        raise refusal("NX722", f"{name} maximizes", "minimize minus the loss, as an expression")
    return rule(options)


def histories(optimizer: torch.optim.Optimizer, scheduler: Any, steps: int) -> list[list[dict[str, Any]]]:
    """The options of every parameter group at every step; the scheduler steps once after each update, on a copy."""
    if any(float(state.get("step", 1)) > 0 for state in optimizer.state.values()):
        raise refusal(
            "NX722", f"{type(optimizer).__name__} has made updates already", "give a new one: programs start at the initial values"
        )  # fmt: skip
    if scheduler is None:
        return [[_options(group) | _begun(optimizer, group)] * steps for group in optimizer.param_groups]
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise refusal("NX722", "ReduceLROnPlateau depends on the loss", "use a scheduler of the step alone")
    if id(getattr(scheduler, "optimizer", None)) != id(optimizer):
        raise refusal("NX722", "the scheduler is not one of this optimizer", "build it from the optimizer")
    copied = _copied(scheduler, optimizer)
    found: list[list[dict[str, Any]]] = [[] for _ in optimizer.param_groups]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not seen the optimizer step
        for _ in range(steps):
            for k, group in enumerate(copied.optimizer.param_groups):
                found[k].append(_options(group) | _begun(optimizer, optimizer.param_groups[k]))
            copied.step()
    return found


def _begun(optimizer: torch.optim.Optimizer, group: Options) -> dict[str, Any]:
    """What a group begins with: Adagrad fills its sums when it is made, with one number for all groups, whatever a group says.
    Raises NX722 for sums that differ."""
    if not isinstance(optimizer, torch.optim.Adagrad):
        return {}
    sums = torch.cat([optimizer.state[p]["sum"].detach().double().reshape(-1) for p in group["params"]])
    if sums.numel() and not bool((sums == sums[0]).all()):
        raise refusal("NX722", "Adagrad begins with sums that differ within a group", "fill them with one number")
    return {"initial_accumulator_value": float(sums[0])} if sums.numel() else {}


def _copied(scheduler: Any, optimizer: torch.optim.Optimizer) -> Any:
    """A scheduler with an optimizer of its own, which shares the parameters."""
    return copy.deepcopy(scheduler, {id(p): p for group in optimizer.param_groups for p in group["params"]})


def _options(group: Options) -> dict[str, Any]:
    return {name: copy.copy(value) for name, value in group.items() if name not in ("params", "param_names")}
