"""Tables with the largest stable learning rates, at the program's parametrization and at four common ones with their multipliers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from tp_compiler.ir import nodes as ir
from tp_compiler.scale.alignment import Alignment
from tp_compiler.scale.analysis import Analysis
from tp_compiler.scale.equivalents import MULTIPLIERS, shifted
from tp_compiler.scale.figures import Row
from tp_compiler.scale.growth import Order
from tp_compiler.scale.largest import RateSearch
from tp_compiler.scale.optimizers import ParameterKind
from tp_compiler.scale.raw import Raw


def largest_rows(
    analysis: Analysis, rows: Sequence[Row], alignments: Sequence[Alignment]
) -> tuple[list[Row], tuple[ir.Node | None, ...], Order]:
    """The rows with the largest stable learning rates, what forbids larger ones, and the power by which features move.

    A rate that nothing bounds stays as it is.
    """
    found = RateSearch(analysis, rows, alignments).largest()
    aligned = [
        row if lr is None or node is None else replace(row, raw=_with(row.raw, lr, analysis.reading.name(node)))
        for row, lr, node in zip(rows, found.rates, found.held, strict=True)
    ]
    return aligned, found.held, found.features


def _with(raw: Raw, lr: Fraction, held: str) -> Raw:
    """The figures with another learning rate; a step still removes the same part of the weights."""
    figures = {**raw.figures, "lr": lr}
    if "weight_decay" in figures:
        figures["weight_decay"] = raw["weight_decay"] + raw["lr"] - lr
    return Raw(raw.kind, raw.optimizer, figures, {**raw.reasons, "lr": f"a larger one would make {held} blow up"})


@dataclass(frozen=True)
class CommonParametrization:
    """A point, and the multipliers that it is written with: by kind, or (None) such that all weights are N(0, 1)."""

    point: str
    multipliers: Mapping[ParameterKind, Fraction] | None

    def written(self, row: Row) -> Row:
        """The row with the multiplier of this parametrization."""
        size = row.raw["init_std"] + row.raw["multiplier"]
        multiplier = size if self.multipliers is None else self.multipliers.get(row.raw.kind, Fraction(0))
        return replace(row, raw=shifted(row.raw, row.optimizer, multiplier))


#: As Everett et al. have them: those of TP IV and TP V.
COMMON = {
    "standard": CommonParametrization("standard", {}),
    "ntk": CommonParametrization("ntk", None),
    "mup": CommonParametrization("mup", MULTIPLIERS["one learning rate for SGD (TP V Table 9)"]),
    "mean-field": CommonParametrization("mup", None),
}
