"""`tpc verify` as a picture: deviations that should fall as n^(-1/2), and z-scores of outputs that stay random."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from tp_compiler.report.plots.theme import PANEL, Picture, Theme, legend, theme_named, titled, width_axis

if TYPE_CHECKING:
    from tp_compiler.finite.converge import OutputCheck, Verification


def plot(verification: Verification, path: str | os.PathLike[str] | None = None, *, theme: str = "light") -> Picture:
    """A panel per output; also written to `path`, if there is one."""
    picture = Picture(theme_named(theme), PANEL)
    for check, axes in zip(verification.checks, picture.panels(len(verification.checks)), strict=False):
        titled(axes, check.name, f"{'pass' if check.passed else 'FAIL'}")
        if not check.passed:
            axes.title.set_color(picture.theme.curves[2])
        if not any(check.deviation):
            axes.text(0.5, 0.5, "equal at every width", ha="center", color=picture.theme.ink, transform=axes.transAxes)
            axes.set_axis_off()
        elif check.concentrates:
            _deviation(axes, check, picture.theme)
        else:
            _scores(axes, check, picture.theme)
    picture.head(f"verify: {'pass' if verification.passed else 'FAIL'}")
    picture.note(f"{verification.figures} figures at the level {verification.level:g}, all together")
    if path is not None:
        picture.savefig(path)
    return picture


def _deviation(axes: Axes, check: OutputCheck, theme: Theme) -> None:
    """The RMS deviation of networks from the limit, beside n^(-1/2); an output without spread has no such rate."""
    widths, deviation = width_axis(axes, check.widths), np.array(check.deviation)
    axes.set_ylabel("RMS deviation from the limit")
    axes.set_yscale("log")
    seen = deviation > 0  # a width at which the output is exact cannot be shown on a logarithmic axis
    slope = "" if check.slope is None or not np.isfinite(check.slope) else f", slope {check.slope:.2f}"
    axes.plot(widths[seen], deviation[seen], "o-", color=theme.curves[0], label=f"networks{slope}")
    if check.slope is not None:
        # Through the middle of the points, so that it shows their slope and not the scatter of the first.
        centre = np.exp(np.mean(np.log(deviation[seen]) + np.log(widths[seen]) / 2))
        axes.plot(widths, centre / np.sqrt(widths), "--", color=theme.muted, linewidth=1, label=r"$n^{-1/2}$")
    legend(axes, theme, axes.get_lines())


def _scores(axes: Axes, check: OutputCheck, theme: Theme) -> None:
    """The largest |z| of means and covariances: an output that stays random does not approach a number."""
    widths = width_axis(axes, check.widths)
    z = np.array(check.z)
    axes.set_ylabel("largest |z|, mean and covariance")
    axes.plot(widths, np.where(np.isfinite(z), z, np.nan), "o-", color=theme.curves[0], label="networks")
    corrected = Line2D([], [], marker="D", linestyle="", color=theme.curves[1], label="bias b/n removed")
    if np.isfinite(check.z_corrected):
        axes.plot(widths[-1:], [check.z_corrected], "D", color=theme.curves[1])
    axes.axhline(check.threshold, color=theme.muted, linestyle="--", linewidth=1, label="allowed")
    axes.set_ylim(0, 1.25 * max(check.threshold, *z[np.isfinite(z)], 0.0))
    legend(axes, theme, [axes.get_lines()[0], corrected, axes.get_lines()[-1]])
