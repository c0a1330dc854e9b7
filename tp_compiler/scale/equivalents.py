"""Equivalent tables: the same training with a multiplier on every weight (TP IVb (2.5)).

Shifting a weight by (a, b, c, d) → (a + θ, b − θ, c − θ, d + θ) leaves the network as it is at every width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial

from tp_compiler.scale.figures import Row
from tp_compiler.scale.numbers import HALF
from tp_compiler.scale.optimizers import GradientSize, OptimizerScaling, ParameterKind
from tp_compiler.scale.raw import Raw

ZERO = Fraction(0)

#: Title → the multiplier of a kind of parameter, as a power of n.
MULTIPLIERS: dict[str, dict[ParameterKind, Fraction]] = {
    "output multiplier (TP V Table 8)": {ParameterKind.OUTPUT: Fraction(-1)},
    "one learning rate for SGD (TP V Table 9)": {ParameterKind.INPUT: HALF, ParameterKind.OUTPUT: -HALF},
}


def equivalents(rows: Mapping[str, Row]) -> dict[str, list[tuple[str, Raw]]]:
    """The tables by title; those with every weight Θ(1) at initialisation, too."""
    found = {}
    for title, given in MULTIPLIERS.items():
        found[title] = _shifted(rows, partial(_listed, given))
    found["weights N(0, 1) at initialisation"] = _shifted(rows, lambda row: row.raw["init_std"] + row.raw["multiplier"])
    return {title: table for title, table in found.items() if any(raw["multiplier"] != 0 for _, raw in table)}


def _listed(given: Mapping[ParameterKind, Fraction], row: Row) -> Fraction:
    return given.get(row.raw.kind, ZERO)


def _shifted(rows: Mapping[str, Row], multiplier: Callable[[Row], Fraction]) -> list[tuple[str, Raw]]:
    return [(name, shifted(row.raw, row.optimizer, multiplier(row))) for name, row in rows.items()]


def shifted(raw: Raw, optimizer: OptimizerScaling, multiplier: Fraction) -> Raw:
    """The same parameter as W = n^multiplier w: w is n^-k as large, and its gradient n^k as large."""
    k = multiplier - raw["multiplier"]
    if k == 0 or "init_std" not in raw.figures or optimizer.name == "Nero":
        return raw
    figures = dict(raw.figures)
    figures["init_std"] -= k
    if "lr" not in figures:
        return Raw(raw.kind, raw.optimizer, figures | {"multiplier": multiplier}, {})
    g = GradientSize.of(raw.kind, ZERO, weight=raw["init_std"])
    h = GradientSize.of(raw.kind, ZERO, k, figures["init_std"])
    figures["lr"] -= optimizer.step(h) - optimizer.step(g) + k
    before, after = optimizer.scales(g), optimizer.scales(h)
    for name in before:
        figures[name] += after[name][0] - before[name][0]
    if "weight_decay" in figures:
        figures["weight_decay"] = raw["weight_decay"] + raw["lr"] - figures["lr"]
    figures["multiplier"] = multiplier
    return Raw(raw.kind, raw.optimizer, figures, {})
