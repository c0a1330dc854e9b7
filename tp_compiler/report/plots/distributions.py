"""Outputs that stay random at infinite width: their Gaussian law, not dots at its mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from tp_compiler.report.plots.theme import Picture
from tp_compiler.results import Array

#: How many entries are drawn beside one another.
MOST = 24
_HALF = 0.38
_Z = np.linspace(-3.2, 3.2, 129)


def deviations(covariance: Array, shape: tuple[int, ...]) -> Array:
    """The standard deviation of every entry."""
    return np.asarray(np.sqrt(np.maximum(np.diag(np.atleast_2d(covariance)), 0.0)).reshape(shape))


def correlations(covariance: Array) -> Array:
    """The correlation of the entries; 0 with what does not vary."""
    spread = deviations(covariance, (len(covariance),))
    scale = np.outer(spread, spread)
    return np.asarray(np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 0))


def draw_violins(
    picture: Picture,
    axes: Axes,
    names: Sequence[str],
    mean: Array,
    spread: Array,
    gaussian: bool,
    networks: Sequence[tuple[Array, Array]] = (),
) -> None:
    """The density of each entry, as wide as it is likely; boxes of one and two deviations if the law is not known.

    `networks`: mean and deviation over networks of each width, as bars of one deviation beside the limit.
    """
    theme = picture.theme
    hue = theme.curves[0]
    for k, (centre, width) in enumerate(zip(mean, spread, strict=True)):
        if gaussian and width > 0:
            half = _HALF * np.exp(-(_Z**2) / 2)
            axes.fill_betweenx(centre + width * _Z, k - half, k + half, color=hue, alpha=0.3, linewidth=0)
        axes.plot([k, k], [centre - 2 * width, centre + 2 * width], color=hue, linewidth=1, solid_capstyle="butt")
        axes.plot([k, k], [centre - width, centre + width], color=hue, linewidth=3.5, solid_capstyle="butt")
        axes.plot(k, centre, "o", color=theme.paper, markeredgecolor=hue, markersize=4.5, zorder=4)
    for number, (centres, widths) in enumerate(networks):
        at = np.arange(len(names)) + 0.1 * (1 + number)
        colour = theme.network(number)
        axes.errorbar(at, centres, yerr=widths, fmt="D", markersize=3, capsize=2, color=colour, linewidth=1)
    axes.set_xticks(range(len(names)), list(names), rotation=60 if max(map(len, names)) > 4 else 0)
    axes.set_xlim(-0.6, len(names) - 0.4)


def draw_density(
    picture: Picture, axes: Axes, mean: float, spread: float, networks: Sequence[tuple[float, float]] = ()
) -> None:
    """The density of one random number, with the normal densities of networks' means and deviations over it."""
    theme = picture.theme
    for number, (centre, width) in enumerate([(mean, spread), *networks]):
        hue: Any = theme.curves[0] if number == 0 else theme.network(number - 1)
        if width <= 0:
            axes.axvline(centre, color=hue)
            continue
        at = centre + width * _Z
        density = np.exp(-(_Z**2) / 2) / (width * np.sqrt(2 * np.pi))
        axes.plot(at, density, color=hue, linewidth=1.7, linestyle="-" if number == 0 else "--")
        if number == 0:
            axes.fill_between(at, density, color=hue, alpha=0.25, linewidth=0)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("density")
