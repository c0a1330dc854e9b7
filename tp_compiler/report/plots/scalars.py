"""Plain numbers, one a row, with their values in print."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from tp_compiler.report.numbers import write
from tp_compiler.report.plots.theme import Picture, literal
from tp_compiler.results import Array, Estimate

_WIDE = 1e3


def draw_scalars(
    picture: Picture,
    axes: Axes,
    names: Sequence[str],
    estimates: Sequence[Estimate],
    networks: Sequence[Sequence[Estimate | None]] = (),
    laws: Sequence[tuple[Array, Array] | None] = (),
    dotted: Sequence[bool] = (),
) -> None:
    """Dots with two standard errors; networks below them.

    laws     mean and standard deviation at finite width, of each number
    dotted   whether networks are drawn one by one, for each of `networks`
    """
    theme = picture.theme
    values = np.array([float(e.value) for e in estimates])
    for number, family in enumerate([list(estimates), *networks]):
        hue = theme.curves[0] if number == 0 else theme.network(number - 1)
        for row, estimate in enumerate(family):
            if estimate is not None and number and dotted and dotted[number - 1] and estimate.replicates is not None:
                each = estimate.replicates.levels[-1]
                axes.plot(each, np.full(len(each), row + 0.16 * number), ".", color=hue, markersize=4, alpha=0.55)
            elif estimate is not None:
                at, error = float(estimate.value), 2 * float(estimate.stderr)
                sign, size = ("o", 6) if number == 0 else ("D", 4)
                axes.errorbar(at, row + 0.16 * number, xerr=error, capsize=3, color=hue, fmt=sign, markersize=size)
    for row, law in enumerate(laws):
        if law is not None:
            for many, alpha in ((2, 0.12), (1, 0.2)):
                reach = many * float(law[1])
                axes.errorbar(
                    float(law[0]), row, xerr=reach, fmt="none", elinewidth=9, color=theme.curves[0], alpha=alpha
                )
    for row, estimate in enumerate(estimates):
        text = str(write(float(estimate.value), float(estimate.stderr)))
        axes.annotate(
            text, (float(estimate.value), row), (0, 7), textcoords="offset points", ha="center", fontsize=8,
            color=theme.ink,
        )  # fmt: skip
    axes.set_yticks(range(len(names)), [literal(name) for name in names])
    axes.set_ylim(len(names) - 0.3, -0.7)
    axes.grid(False, axis="y")
    axes.margins(x=0.15)
    sizes = np.abs(values[values != 0])
    if sizes.size and sizes.max() > _WIDE * sizes.min():
        if (values > 0).all():
            axes.set_xscale("log")
        else:
            axes.set_xscale("symlog", linthresh=sizes.min())
        return
    axes.xaxis.set_major_locator(MaxNLocator(5))
    if values.min() < 0 < values.max():
        axes.axvline(0, color=theme.muted, linewidth=0.6, zorder=0)
