"""Optimizers under the names that torch.optim gives them and their arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.shape_factors import IN_TORCH
from tp_compiler.scale.figures import Row
from tp_compiler.scale.optimizers import ScaledOptimizer, foreign

#: Names of rows under which torch.optim has another name.
_TORCH = {"Momentum": "SGD", "AMSGrad": "Adam"}
#: Arguments of the library's optimizers that are flags in torch.optim.
_FLAGS = ("nesterov", "centered", "decoupled_weight_decay")
#: What torch.optim does not take: where the library has more. Your own optimizer gets all of its arguments.
_NOT_IN_TORCH = ("eps_root", "newton_schulz", "clip_power", "eval_after", "scale")
#: Arguments of torch.optim that are tuples, with the library's names of their entries.
_TUPLES = {
    "betas": ("beta1", "beta2"),
    "eps": ("eps1", "eps2"),
    "etas": ("etaminus", "etaplus"),
    "step_sizes": ("step_size_min", "step_size_max"),
}
#: Arguments of torch.optim that scale with a figure: the figure, and its power.
COMPANIONS = {"initial_accumulator_value": ("eps", 2), "step_sizes": ("lr", 1)}


#: The number of a layer in a name of torch.
_NUMBER = re.compile(r"(?<=\.)[0-9]+(?=\.)|^[0-9]+(?=\.)")


def starred(name: str) -> str:
    """The name of a parameter of torch, with `*` for the number of its layer: `blocks.*.fc.weight`."""
    return _NUMBER.sub("*", name)


def torch_name(optimizer: str) -> str:
    """The class in torch.optim, if it has one."""
    return _TORCH.get(optimizer, optimizer)


def hyperparameters(row: Row) -> dict[str, Any]:
    """The hyperparameters that the program gives as numbers, in natural units, under torch.optim's names."""
    declared = row.parameter.declared
    given = declared.arguments if declared.optimizer == row.optimizer.name else {}
    left_out = _NOT_IN_TORCH if declared.standard else ()
    values = {k: node.value for k, node in given.items() if isinstance(node, ir.Constant) and k not in left_out}
    found: dict[str, Any] = {k: bool(v) if k in _FLAGS else v for k, v in values.items()}
    found = joined(found)
    if isinstance(row.optimizer, ScaledOptimizer) and row.optimizer.scale in IN_TORCH:
        found["adjust_lr_fn"] = row.optimizer.scale
    if row.optimizer.name == "AMSGrad":
        found["amsgrad"] = True
    return found


def joined(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by the library's names of arguments, by those of torch.optim: some of them are entries of a tuple there."""
    found = dict(values)
    for name, parts in _TUPLES.items():
        if all(part in found for part in parts):
            found[name] = tuple(found.pop(part) for part in parts)
    return found


def lacking(row: Row) -> list[str]:
    """What the program gives to an optimizer of torch that has no such argument."""
    given = row.parameter.declared.arguments if row.parameter.declared.optimizer == row.optimizer.name else {}
    root = given.get("eps_root")
    found = []
    if root is not None and not (isinstance(root, ir.Constant) and root.value == 0):
        found.append(f"torch.optim.{torch_name(row.optimizer.name)} has no `eps_root`, which the program gives")
    scale = foreign(row.optimizer)
    if scale is not None:
        where = "torch.optim.Muon" if row.optimizer.name == "Muon" else f"the published {row.optimizer.name}"
        found.append(f"{where} has no factor `{scale}`: the figures are those of the same training with `original`")
    return found
