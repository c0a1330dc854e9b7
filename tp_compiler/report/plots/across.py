"""Along which index an output is drawn, and what the positions of an index stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tp_compiler.report.numbers import labels
from tp_compiler.results import Array

Coordinates = Mapping[str, Mapping[str, Any]]
#: Numbers over more than this ratio are shown on a logarithmic axis.
_WIDE = 20.0


@dataclass(frozen=True)
class Positions:
    """The positions of an index: their numbers, and whether numbers between them have a meaning."""

    index: str
    label: str
    values: Array
    ordered: bool
    logarithmic: bool = False

    def name(self, k: int) -> str:
        """`lr = 0.1`, or `i = 3`."""
        return f"{self.label} = {self.values[k]:g}"


def positions(index: str, size: int, coordinates: Coordinates, data: str | None = None) -> Positions:
    """The positions of an index in the numbers of `data`, or, if it has only one, of its data."""
    named = coordinates.get(index, {})
    chosen = data if data in named else next(iter(named)) if len(named) == 1 else None
    if chosen is None or np.size(named[chosen]) != size:
        return Positions(index, index, np.array([float(k) for k in labels(index, size)]), index == "step")
    values = np.asarray(named[chosen], dtype=np.float64).reshape(-1)
    wide = bool(values.min() > 0 and values.max() > _WIDE * values.min())
    return Positions(index, chosen, values, True, wide)


def across(axes: tuple[str, ...], shape: tuple[int, ...], coordinates: Coordinates, x: str | None) -> Positions | None:
    """What an output is drawn against: `x` if it has it, else its steps, its only index, or its only index with numbers;
    None for a heat map."""
    for index, size in zip(axes, shape, strict=True):
        if x is not None and (x == index or x in coordinates.get(index, {})):
            return positions(index, size, coordinates, x)
    numbered = [index for index in axes if len(coordinates.get(index, {})) == 1 and index != "step"]
    chosen = "step" if "step" in axes else axes[0] if len(axes) == 1 else numbered[0] if len(numbered) == 1 else None
    return None if chosen is None else positions(chosen, shape[axes.index(chosen)], coordinates)


def known(axes: tuple[str, ...], coordinates: Coordinates) -> list[str]:
    """What `x` may be for an output."""
    return [name for index in axes for name in (index, *coordinates.get(index, {}))]
