"""Scaling results as a Python module: parameter groups for torch.optim, as functions of `width_mult`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tp_compiler.ir import nodes as ir
from tp_compiler.scale.constants import law
from tp_compiler.scale.figures import Row
from tp_compiler.scale.libraries import COMPANIONS, hyperparameters, joined, lacking, torch_name
from tp_compiler.scale.result import Scaling
from tp_compiler.scale.units import Units

_TEXT = '''"""Width exponents of {name}, parametrization {parametrization}: parameter groups for torch.optim.

Written by `tpc scale --emit torch`. `width_mult` is the width relative to the one at which the hyperparameters were
tuned; those of the program itself are for width_mult = the width. `parameters` maps the names below to tensors, or to
lists of tensors.
"""

import torch
{lacking}
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


def gradient_multiplier(name, width_mult):
    """The factor by which to multiply a parameter's gradient before its optimizer sees it."""
    return CONSTANTS[name].get("gradient", 1) * width_mult ** EXPONENTS[name].get("gradient", 0)


def scaled(value, exponent, width_mult):
    """A hyperparameter at a width. A tuple, such as the step sizes of Rprop, has an exponent for each entry."""
    if isinstance(value, tuple):
        return tuple(None if x is None else x * width_mult**e for x, e in zip(value, exponent))
    return value * width_mult**exponent


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
                values[figure] = scaled(values[figure], exponent, width_mult)
        tensors = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
        groups.append({{"params": tensors, "name": name, **values}})
    return groups


def optimizers(parameters, width_mult, classes=None, **hyperparameters):
    """One optimizer of each kind: those of torch.optim, and those given by name in `classes`.

    Each of their steps first multiplies gradients by `gradient_multiplier`, in place.
    """

    def multiply_gradients(optimizer, args, kwargs):
        for group in optimizer.param_groups:
            for tensor in group["params"]:
                if tensor.grad is not None:
                    tensor.grad *= gradient_multiplier(group["name"], width_mult)

    made = []
    for name in dict.fromkeys(OPTIMIZER[p] for p in parameters if p in OPTIMIZER):
        kind = (classes or {{}}).get(name) or getattr(torch.optim, name)
        made.append(kind(parameter_groups(parameters, width_mult, name, **hyperparameters)))
        if any("gradient" in EXPONENTS[p] for p in parameters if OPTIMIZER.get(p) == name):
            made[-1].register_step_pre_hook(multiply_gradients)
        if isinstance(made[-1], torch.optim.Adagrad):  # which does not read this figure of a group
            for group in made[-1].param_groups:
                for tensor in group["params"]:
                    made[-1].state[tensor]["sum"].fill_(group["initial_accumulator_value"])
    return made
'''


def emit(scaling: Scaling) -> str:
    """The text of a Python module."""
    tensors = scaling.implemented
    rows = {name: row for name, (row, _) in tensors.items()}
    found = {name: own.wide for name, (_, own) in tensors.items()}
    factors = {name: _factors(row, found[name]) for name, row in rows.items()}
    trained = {name: row for name, row in rows.items() if row.trained}
    lacks = dict.fromkeys(text for row in trained.values() for text in lacking(row))
    return _TEXT.format(
        lacking="".join(f"\n# {text}" for text in lacks) + "\n" * bool(lacks),
        name=scaling.network.source.name.replace("\\", "/").replace('"', "'"),
        parametrization=scaling.main.parametrization,
        exponents=_dict({name: _exponents(rows[name], own) for name, own in found.items()}),
        optimizer=_dict({name: torch_name(row.optimizer.name) for name, row in trained.items()}),
        base=_dict({name: _base(row, factors[name]) for name, row in trained.items()}),
        constants=_dict(factors),
        init=_dict({name: _init(row, factors[name]) for name, row in rows.items()}),
        laws=_dict({name: kind for name, row in rows.items() if (kind := _kind(row)) != "normal"}),
    )


def _exponents(row: Row, own: Units) -> dict[str, Any]:
    """Powers of width_mult by torch's names of arguments; of tuples, one for each entry."""
    found: dict[str, Any] = {name: float(value) for name, value in own.exponents.items()}
    for argument, value in (hyperparameters(row) if row.trained else {}).items():
        if argument in COMPANIONS:
            figure, power = COMPANIONS[argument]
            found[argument] = (found[figure] * power,) * 2 if isinstance(value, tuple) else found[figure] * power
    return joined(found)


def _factors(row: Row, found: Units) -> dict[str, float]:
    """Constants, that of the initial deviation with the deviation itself."""
    start = found.constants.get("init_std", 1.0) * (law(row)[1] or 1.0)
    factors = {"init_std": start} | {name: x for name, x in found.constants.items() if name != "init_std"}
    return {name: x for name, x in factors.items() if not math.isclose(x, 1, rel_tol=1e-12)}


def _kind(row: Row) -> str:
    leaf = row.parameter.leaf
    if isinstance(leaf, ir.InitialKet):
        return leaf.symbol.law
    return leaf.law if isinstance(leaf, ir.MatrixSymbol) else "normal"


def _init(row: Row, factors: Mapping[str, float]) -> tuple[float | None, float | None]:
    mean, deviation = law(row)
    scale = factors.get("init_std", 1.0) / (deviation or 1.0)
    return None if mean is None else mean * scale, None if deviation is None else deviation * scale


def _base(row: Row, factors: Mapping[str, float]) -> dict[str, Any]:
    """The hyperparameters of the program, with their factors."""
    return {k: _times(v, k, factors) for k, v in hyperparameters(row).items()}


def _times(value: Any, argument: str, factors: Mapping[str, float]) -> Any:
    """An argument with its factor, or a tuple with those of its entries."""
    if isinstance(value, tuple) and argument == "eps":
        return tuple(x * factors.get(f"eps{k}", 1.0) for k, x in enumerate(value, 1))
    figure, power = COMPANIONS.get(argument, (argument, 1))
    if figure not in factors:
        return value
    factor = factors[figure] ** power
    return tuple(x * factor for x in value) if isinstance(value, tuple) else value * factor


def _dict(values: Mapping[str, Any]) -> str:
    if not values:
        return "{}"
    return "{\n" + "".join(f"    {key!r}: {value!r},\n" for key, value in values.items()) + "}"
