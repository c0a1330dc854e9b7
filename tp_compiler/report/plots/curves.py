"""Outputs against an index: means with bands of two standard errors, networks of finite width over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from tp_compiler.report.numbers import labels
from tp_compiler.report.plots.across import Positions
from tp_compiler.report.plots.colouring import colours, scale
from tp_compiler.report.plots.labels import chosen
from tp_compiler.report.plots.theme import CurveLabel, Picture, Theme, literal
from tp_compiler.results import Array

#: Of more curves than this, evenly spaced ones are drawn.
MOST = 200
_FEW = 16
_LABELLED = 12
#: Positive values over more than this ratio are shown on a logarithmic axis.
_WIDE = 1e3
_DASHES = ((0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (2.5, 1.2)), (0, (8, 2)))


@dataclass(frozen=True)
class Family:
    """Curves of one source: `mean`, `error` (two-sided band) and, where the output is random, its deviation `spread`;
    each of shape (curves, positions). `law` (2, curves, positions): mean and deviation at finite width; `dots`
    (networks, curves, positions): each network by itself."""

    mean: Array
    error: Array
    spread: Array | None = None
    law: Array | None = None
    dots: Array | None = None


@dataclass(frozen=True)
class CurvePanel:
    """The limit's curves against `x`, the names of the curves, and those of networks by label."""

    x: Positions
    names: Sequence[str]
    along: Positions | None
    limit: Family
    networks: Sequence[Family] = ()


def network_style(number: int) -> Any:
    """The dashes of the networks of one width, the same in every panel."""
    return _DASHES[number % len(_DASHES)]


def draw_curves(picture: Picture, axes: Axes, panel: CurvePanel) -> None:
    """One line per curve, its name at its end."""
    theme, count = picture.theme, len(panel.names)
    shown = chosen(count, MOST)
    hues = colours(theme, count, panel.along)
    for k in shown:
        _curve(axes, panel.x, panel.limit, k, hues[k], marker=len(panel.x.values) <= _FEW)
        for number, family in enumerate(panel.networks):
            _network(axes, panel, family, k, number, _hue(theme, panel, hues, k, number))
    _horizontal(axes, panel.x)
    low, high = float(panel.limit.mean.min()), float(panel.limit.mean.max())
    if low > 0 and high > _WIDE * low and panel.limit.spread is None:
        axes.set_yscale("log")
    if low < 0 < high:
        axes.axhline(0, color=theme.muted, linewidth=0.6, zorder=0)
    if panel.along is not None and panel.along.ordered and count > _LABELLED:
        bar = picture.colorbar(scale(theme, panel.along), ax=axes, pad=0.02)
        styled_bar(bar, theme, panel.along.label)
    elif count > 1:
        named = [shown[k] for k in chosen(len(shown), _LABELLED)]
        picture.ends.append((axes, _ends(panel, hues, named)))


def _hue(theme: Theme, panel: CurvePanel, hues: list[Any], k: int, number: int) -> Any:
    """Networks have the colour of their curve; a lone curve is told from its networks by colour, too."""
    if len(panel.names) > 1:
        return hues[k]
    return theme.network(number)


def _curve(axes: Axes, x: Positions, family: Family, k: int, hue: Any, marker: bool) -> None:
    mean, error = family.mean[k], family.error[k]
    order = np.argsort(x.values, kind="stable")
    at = x.values[order]
    if family.law is not None:
        _law(axes, x.ordered, at, family.law[:, k][:, order], hue)
    if not x.ordered:
        spread = family.spread[k] if family.spread is not None else error
        axes.errorbar(at, mean[order], yerr=2 * spread[order], fmt="o", markersize=4.5, capsize=3, color=hue)
        return
    axes.plot(at, mean[order], color=hue, linewidth=1.7, marker="o" if marker else None, markersize=3.5, zorder=3)
    if family.spread is not None:
        for width, alpha in ((2, 0.12), (1, 0.2)):
            band = width * family.spread[k][order]
            axes.fill_between(at, mean[order] - band, mean[order] + band, color=hue, alpha=alpha, linewidth=0)
    elif error.any():
        band = 2 * error[order]
        axes.fill_between(at, mean[order] - band, mean[order] + band, color=hue, alpha=0.25, linewidth=0)


def _law(axes: Axes, ordered: bool, at: Array, law: Array, hue: Any) -> None:
    """Where networks of a width lie: one and two standard deviations about their mean."""
    mean, deviation = law
    for number, alpha in ((2, 0.12), (1, 0.2)):
        if ordered:
            band = number * deviation
            axes.fill_between(at, mean - band, mean + band, color=hue, alpha=alpha, linewidth=0)
        else:
            axes.errorbar(at, mean, yerr=number * deviation, fmt="none", elinewidth=7, color=hue, alpha=alpha)


def _network(axes: Axes, panel: CurvePanel, family: Family, k: int, number: int, hue: Any) -> None:
    order = np.argsort(panel.x.values, kind="stable")
    at, mean = panel.x.values[order], family.mean[k][order]
    if family.dots is not None:
        for network in family.dots[:, k]:
            axes.plot(at, network[order], ".", color=hue, markersize=3.5, alpha=0.55, zorder=2)
        return
    if not panel.x.ordered:
        shift = 0.12 * (1 + number)
        bar = 2 * (family.error if family.spread is None else family.spread)[k][order]
        axes.errorbar(at + shift, mean, yerr=bar, fmt="D", markersize=3.5, capsize=2, color=hue, alpha=0.75)
        return
    axes.plot(at, mean, color=hue, linewidth=1.2, linestyle=network_style(number), alpha=0.9, zorder=2)
    if family.spread is not None:
        for edge in (mean - family.spread[k][order], mean + family.spread[k][order]):
            axes.plot(at, edge, color=hue, linewidth=0.8, linestyle=network_style(number), alpha=0.7, zorder=2)
        return
    band = 2 * family.error[k][order]
    if band.any():
        axes.fill_between(at, mean - band, mean + band, color=hue, alpha=0.1, linewidth=0)


def _horizontal(axes: Axes, x: Positions) -> None:
    axes.set_xlabel(literal(x.label))
    if x.logarithmic:
        axes.set_xscale("log")
    elif x.label != x.index:
        return
    elif len(x.values) <= _FEW:
        axes.set_xticks(x.values, labels(x.index, len(x.values)))
        if not x.ordered:
            axes.set_xlim(x.values[0] - 0.6, x.values[-1] + 0.6)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _ends(panel: CurvePanel, hues: list[Any], which: list[int]) -> list[CurveLabel]:
    """The names of curves at their right ends."""
    last = int(np.argmax(panel.x.values))
    x = float(panel.x.values[last])
    return [CurveLabel(panel.names[k], x, float(panel.limit.mean[k, last]), hues[k]) for k in which]


def styled_bar(bar: Any, theme: Theme, label: str = "") -> None:
    """A colour bar in the theme."""
    bar.outline.set_visible(False)
    bar.ax.tick_params(which="both", colors=theme.muted, labelsize=8)
    if label:
        bar.set_label(literal(label), color=theme.ink, fontsize=9)
