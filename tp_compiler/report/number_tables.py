"""Outputs as tables of numbers: which entries a page shows, and what it says of those that it leaves out."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from tp_compiler.report.numbers import Written, labels, write
from tp_compiler.results import Array


@dataclass(frozen=True, eq=False)
class NumberTable:
    """A two-dimensional part of an output: `cells[row][column]`, with headings; `None` marks left-out lines."""

    caption: str
    corner: str
    columns: list[str]
    rows: list[tuple[str, list[Written | None]]]


@dataclass(frozen=True)
class TableLimits:
    """The most lines of a table that are shown; `rows` and `columns` of its last two axes, `slices` of the others together."""

    rows: int = 12
    columns: int = 8
    slices: int = 6


EVERYTHING = TableLimits(sys.maxsize, sys.maxsize, sys.maxsize)


def positions(axis: str, size: int, limit: int) -> list[int | None]:
    """The positions of an axis to show: all; of steps the ends and evenly spaced ones; of others the ends, and None between."""
    if size <= limit:
        return list(range(size))
    if axis == "step":
        gaps = _gaps(size - 1, limit - 1)
        return [round(k * (size - 1) / gaps) for k in range(gaps + 1)]
    head = (limit + 1) // 2
    return [*range(head), None, *range(size - (limit - head), size)]


def _gaps(last: int, most: int) -> int:
    """How many gaps between steps: as many as fit, or not much fewer if the gaps are then equal."""
    equal = (g for g in range(most, most // 2, -1) if last % g == 0)
    return next(equal, most)


def omission(axes: tuple[str, ...], shape: tuple[int, ...], limits: TableLimits) -> str:
    """What tables leave out, for a reader who may want it; empty if nothing."""
    pairs = zip(axes[-2:], shape[-2:], (limits.rows, limits.columns)[-2:], strict=False)
    parts = [_part(axis, size, limit) for axis, size, limit in pairs if size > limit]
    count, leading = math.prod(shape[:-2]), axes[:-2]
    if len(shape) > 2 and count > limits.slices:
        shown = [k for k in _slices(leading, shape[:-2], limits.slices) if k is not None]
        spaced = ", at evenly spaced steps" if "step" in leading and _spaced(leading, shape[:-2], limits.slices) else ""
        parts.insert(0, f"{len(shown)} of {count} tables{spaced}")
    return "; ".join(parts)


def _part(axis: str, size: int, limit: int) -> str:
    if axis == "step":
        return f"{len(positions(axis, size, limit))} of {size} steps, evenly spaced"
    return f"the ends of {axis} = 1, ..., {size}"


def _slices(axes: tuple[str, ...], shape: tuple[int, ...], limit: int) -> list[int | None]:
    """The tables to show, one for each position of the leading axes, as positions in the flattened axes."""
    count = math.prod(shape)
    if not _spaced(axes, shape, limit):
        return positions("", count, limit)
    own = axes.index("step")
    steps = positions("step", shape[own], limit * shape[own] // count)
    return [k for k in range(count) if int(np.unravel_index(k, shape)[own]) in steps]


def _spaced(axes: tuple[str, ...], shape: tuple[int, ...], limit: int) -> bool:
    """Are tables shown at evenly spaced steps? If at least two steps fit with all positions of the other axes."""
    count = math.prod(shape)
    return count > limit and "step" in axes and limit * shape[axes.index("step")] // count >= 2


#: How a value and what belongs to it (an error, a spread) are written.
Writing = Callable[[float, float], Written]


def tables(
    axes: tuple[str, ...], value: Array, error: Array, limits: TableLimits, written: Writing = write
) -> Iterator[NumberTable | None]:
    """The value as tables over its last two axes, one per position of the others; None if some are left out."""
    if value.ndim == 1:
        yield _column(axes[0], value, error, limits.rows, written)
        return
    leading = [labels(axis, size) for axis, size in zip(axes[:-2], value.shape[:-2], strict=True)]
    for flat in _slices(axes[:-2], value.shape[:-2], limits.slices):
        if flat is None:
            yield None
            continue
        at = np.unravel_index(flat, value.shape[:-2]) if leading else ()
        named = zip(axes[:-2], leading, at, strict=True)
        caption = ", ".join(f"{axis} = {names[int(k)]}" for axis, names, k in named)
        yield _matrix(caption, axes[-2:], value[at], error[at], limits, written)


def _column(axis: str, value: Array, error: Array, limit: int, written: Writing) -> NumberTable:
    names = labels(axis, value.shape[0])
    rows: list[tuple[str, list[Written | None]]] = [
        ("…", [None]) if k is None else (names[k], [written(float(value[k]), float(error[k]))])
        for k in positions(axis, value.shape[0], limit)
    ]
    return NumberTable("", axis, [""], rows)


def _matrix(
    caption: str, axes: tuple[str, ...], value: Array, error: Array, limits: TableLimits, written: Writing
) -> NumberTable:
    down, across = (labels(axis, size) for axis, size in zip(axes, value.shape, strict=True))
    shown = positions(axes[1], value.shape[1], limits.columns)
    body: list[tuple[str, list[Written | None]]] = []
    for r in positions(axes[0], value.shape[0], limits.rows):
        if r is None:
            body.append(("…", [None] * len(shown)))
        else:
            cells = [None if c is None else written(float(value[r, c]), float(error[r, c])) for c in shown]
            body.append((down[r], cells))
    return NumberTable(caption, "\\".join(axes), ["…" if c is None else across[c] for c in shown], body)
