"""Scaling results as a Python module: parameter groups for torch.optim, as functions of `width_mult`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tp_compiler.ir import nodes as ir
from tp_compiler.scale.constants import law, ratios
from tp_compiler.scale.figures import Row
from tp_compiler.scale.result import Scaling

#: Names of rows under which torch.optim has another name.
_TORCH = {"Momentum": "SGD", "AMSGrad": "Adam"}
#: Arguments of the library's optimizers that are flags in torch.optim.
_FLAGS = ("nesterov", "centered", "decoupled_weight_decay")
#: What torch.optim does not take: where the library has more.
_NOT_IN_TORCH = ("eps_root", "newton_schulz")

_TEXT = '''"""Width exponents of {name}, parametrization {parametrization}: parameter groups for torch.optim.

Written by `tpc scale --emit torch`. `width_mult` is the width relative to the one at which the hyperparameters were
tuned; those of the program itself are for width_mult = the width. `parameters` maps the names below to tensors, or to
lists of tensors.
"""

import torch

#: parameter -> hyperparameter -> power of width_mult
EXPONENTS = {exponents}

#: trained parameter -> optimizer
OPTIMIZER = {optimizer}

#: parameter -> default hyperparameters at width_mult = 1
BASE = {base}

#: parameter -> factors already contained in BASE and INIT: width ratios, initial standard deviations
CONSTANTS = {constants}

#: parameter -> mean and standard deviation of its entries at width_mult = 1; None if members of a family differ
INIT = {init}

#: parameter -> the distribution of its entries, with that mean and standard deviation, where it is not normal
LAWS = {laws}


def init_std(name, std=None, width_mult=1.0):
    """The standard deviation of a parameter's entries; `std`, at width_mult = 1, replaces the one in INIT."""
    return (INIT[name][1] if std is None else std) * width_mult ** EXPONENTS[name]["init_std"]


def init_mean(name, width_mult=1.0):
    """The mean of a parameter's entries."""
    return INIT[name][0] * width_mult ** (EXPONENTS[name]["init_std"] if INIT[name][0] else 0)


def multiplier(name, width_mult):
    """The factor by which to multiply a parameter's output in the network."""
    return width_mult ** EXPONENTS[name]["multiplier"]


def output_multiplier(name, width_mult):
    """The factor by which to multiply outputs that are read out with the transpose of a tied parameter."""
    return CONSTANTS[name].get("output_multiplier", 1) * width_mult ** EXPONENTS[name].get("output_multiplier", 0)


def parameter_groups(parameters, width_mult, optimizer=None, **hyperparameters):
    """A group for each trained parameter (of one optimizer). `hyperparameters`, at width_mult = 1, replace those in BASE."""
    groups = []
    for name, tensors in parameters.items():
        if name not in OPTIMIZER or (optimizer is not None and OPTIMIZER[name] != optimizer):
            continue
        values = dict(BASE[name])
        values.update(hyperparameters)
        for figure, exponent in EXPONENTS[name].items():
            if figure in values:
                values[figure] = values[figure] * width_mult**exponent
        tensors = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
        groups.append({{"params": tensors, "name": name, **values}})
    return groups


def optimizers(parameters, width_mult, classes=None, **hyperparameters):
    """One optimizer of each kind: those of torch.optim, and those given by name in `classes`."""
    made = []
    for name in dict.fromkeys(OPTIMIZER[p] for p in parameters if p in OPTIMIZER):
        kind = (classes or {{}}).get(name) or getattr(torch.optim, name)
        made.append(kind(parameter_groups(parameters, width_mult, name, **hyperparameters)))
    return made
'''


def emit(scaling: Scaling) -> str:
    """The text of a Python module."""
    rows = scaling.main.rows
    factors = {name: _constants(row, scaling.main.constants[name]) for name, row in rows.items()}
    exponents = {name: _exponents(row) for name, row in rows.items()}
    trained = {name: row for name, row in rows.items() if row.trained}
    names = {name: _TORCH.get(row.optimizer.name, row.optimizer.name) for name, row in trained.items()}
    return _TEXT.format(
        name=scaling.network.source.name.replace("\\", "/").replace('"', "'"),
        parametrization=scaling.main.parametrization,
        exponents=_dict(exponents),
        optimizer=_dict(names),
        base=_dict({name: _base(row, factors[name]) for name, row in trained.items()}),
        constants=_dict(factors),
        init=_dict({name: _init(row, factors[name]) for name, row in rows.items()}),
        laws=_dict({name: kind for name, row in rows.items() if (kind := _kind(row)) != "normal"}),
    )


def _constants(row: Row, found: Mapping[str, float]) -> dict[str, float]:
    """The factors as torch.optim needs them."""
    factors = dict(found)
    if row.optimizer.name == "Muon":  # it multiplies by √(rows / columns) of a tall matrix itself
        into, out = ratios(row)
        tall = max(math.exp(out - into), 1.0) if row.raw.kind.reads_features else math.exp(out) / _members(row)
        if row.raw.kind.writes_features and tall != 1:
            factors["lr"] = factors.get("lr", 1.0) / math.sqrt(tall)
    return factors


def _kind(row: Row) -> str:
    leaf = row.parameter.leaf
    if isinstance(leaf, ir.InitialKet):
        return leaf.symbol.law
    return leaf.law if isinstance(leaf, ir.MatrixSymbol) else "normal"


def _members(row: Row) -> int:
    """How many columns a family of kets has as one matrix."""
    leaf = row.parameter.leaf
    return math.prod(i.size for i in leaf.type.indices) if isinstance(leaf, ir.Node) else 1


def _init(row: Row, factors: Mapping[str, float]) -> tuple[float | None, float | None]:
    mean, deviation = law(row)
    scale = factors.get("init_std", 1.0) / (deviation or 1.0)
    return None if mean is None else mean * scale, None if deviation is None else deviation * scale


def _exponents(row: Row) -> dict[str, float]:
    found = {name: float(value) for name, value in row.raw.figures.items()}
    if row.optimizer.name == "Muon" and row.raw.kind.writes_features and not row.raw.kind.reads_features:
        found["lr"] -= 0.5  # torch.optim.Muon multiplies by √(rows / columns) of a tall matrix itself
    return found if row.output is None else found | {"output_multiplier": float(row.output)}


def _base(row: Row, factors: Mapping[str, float]) -> dict[str, Any]:
    """The hyperparameters that the program gives as numbers, with their factors, under torch.optim's names."""
    given = row.parameter.declared.arguments if row.parameter.declared.optimizer == row.optimizer.name else {}
    values = {k: node.value for k, node in given.items() if isinstance(node, ir.Constant) and k not in _NOT_IN_TORCH}
    values = {k: value * factors[k] if k in factors else value for k, value in values.items()}
    found: dict[str, Any] = {k: bool(v) if k in _FLAGS else v for k, v in values.items()}
    if "beta1" in found and "beta2" in found:
        found = {k: v for k, v in found.items() if k not in ("beta1", "beta2")}
        found["betas"] = (values["beta1"], values["beta2"])
    if row.optimizer.name == "AMSGrad":
        found["amsgrad"] = True
    return found


def _dict(values: Mapping[str, Any]) -> str:
    if not values:
        return "{}"
    return "{\n" + "".join(f"    {key!r}: {value!r},\n" for key, value in values.items()) + "}"
