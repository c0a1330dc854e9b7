"""Outputs over two indices as heat maps, with their values where these fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.image import AxesImage

from tp_compiler.report.numbers import labels
from tp_compiler.report.plots.curves import styled_bar
from tp_compiler.report.plots.theme import PANEL, Picture, literal
from tp_compiler.results import Array

_LABELLED = 16
_SIZES = (8.5, 7.5, 6.5)
#: The share of a panel's width that a map without its axis and colour bar has.
_SHARE = 0.68


def limits(values: Array) -> tuple[float, float]:
    """The ends of the colours: symmetric about 0 where signs differ."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low < 0 < high:
        return -max(-low, high), max(-low, high)
    return low, high


def draw_heat_map(
    picture: Picture, axes: Axes, matrix: Array, names: tuple[str, str], ends: tuple[float, float]
) -> None:
    """Rows down, columns across; a divergent map if `ends` are symmetric about 0."""
    theme, divergent = picture.theme, ends[0] < 0 < ends[1]
    square = matrix.shape[0] == matrix.shape[1]
    image = axes.imshow(
        matrix,
        aspect="equal" if square else "auto",
        cmap=theme.diverging_map if divergent else theme.sequential_map,
        norm=Normalize(*ends) if ends[1] > ends[0] else Normalize(ends[0] - 0.5, ends[1] + 0.5),
        interpolation="nearest",
    )
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    _ticks(axes, matrix.shape, names)
    size = written_size(matrix)
    if size is not None:
        _write(axes, image, matrix, size)
    styled_bar(picture.colorbar(image, ax=axes, pad=0.02, shrink=0.9), theme)


def _ticks(axes: Axes, shape: tuple[int, ...], names: tuple[str, str]) -> None:
    rows, columns = names
    axes.set_xlabel(literal(columns))
    axes.set_ylabel(literal(rows))
    for axis, name, size in ((axes.yaxis, rows, shape[0]), (axes.xaxis, columns, shape[1])):
        every = range(size) if size <= _LABELLED else range(0, size, -(-size // 8))
        axis.set_ticks(list(every), [labels(name, size)[k] for k in every])
        axis.set_tick_params(length=0)


def cell_texts(matrix: Array) -> list[list[str]]:
    """Three significant digits of the largest value, the same number of decimals in every cell."""
    largest = float(np.nanmax(np.abs(matrix), initial=0.0))
    decimals = 2 if largest == 0 else min(max(2 - int(np.floor(np.log10(largest))), 0), 6)
    if largest >= 1e5 or 0 < largest < 1e-3:
        return [[f"{value:.1e}" for value in row] for row in matrix]
    return [[f"{value + 0.0:.{decimals}f}" for value in row] for row in np.round(matrix, decimals)]


def written_size(matrix: Array) -> float | None:
    """The size of print at which every value fits into its cell; None if none does."""
    width = max((len(text) for row in cell_texts(matrix) for text in row), default=0)
    across, down = (72 * _SHARE * PANEL[k] / max(matrix.shape[1 - k], 1) for k in (0, 1))
    if matrix.shape[0] == matrix.shape[1]:
        across = down = min(across, down)
    return next((size for size in _SIZES if 0.62 * size * width + 3 <= across and 1.3 * size <= down), None)


def _write(axes: Axes, image: AxesImage, matrix: Array, size: float) -> None:
    for (row, column), text in np.ndenumerate(np.array(cell_texts(matrix))):
        shade: Any = image.cmap(image.norm(matrix[row, column]))
        colour = ink_on(shade[:3])
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)


def ink_on(paper: Sequence[float]) -> str:
    """Black or white, whichever has more contrast (WCAG relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in paper]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else "white"
