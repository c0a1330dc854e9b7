"""Optimizers under the names that torch.optim gives them and their arguments."""

from __future__ import annotations

import re
from typing import Any

from tp_compiler.ir import nodes as ir
from tp_compiler.scale.figures import Row

#: Names of rows under which torch.optim has another name.
_TORCH = {"Momentum": "SGD", "AMSGrad": "Adam"}
#: Arguments of the library's optimizers that are flags in torch.optim.
_FLAGS = ("nesterov", "centered", "decoupled_weight_decay")
#: What torch.optim does not take: where the library has more.
_NOT_IN_TORCH = ("eps_root", "newton_schulz")


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
    given = row.parameter.declared.arguments if row.parameter.declared.optimizer == row.optimizer.name else {}
    values = {k: node.value for k, node in given.items() if isinstance(node, ir.Constant) and k not in _NOT_IN_TORCH}
    found: dict[str, Any] = {k: bool(v) if k in _FLAGS else v for k, v in values.items()}
    if "beta1" in found and "beta2" in found:
        found = {k: v for k, v in found.items() if k not in ("beta1", "beta2")}
        found["betas"] = (values["beta1"], values["beta2"])
    if row.optimizer.name == "AMSGrad":
        found["amsgrad"] = True
    return found
