"""Plots: bars for numbers, lines over one axis, heat maps over two; verification against width.

Figures are made without pyplot, so that no window system or global state is touched.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tp_compiler.report.numbers import axis_names, labels, titled
from tp_compiler.results import Estimate, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tp_compiler.finite.converge import OutputCheck, Verification

_PANEL = (4.2, 3.4)
_LABELLED = 16


def plot_run(run: Run, path: str) -> None:
    """One panel per array output; all plain numbers share one panel of bars."""
    scalars = {name: e for name, e in run.outputs.items() if e.value.ndim == 0}
    arrays = {name: e for name, e in run.outputs.items() if e.value.ndim and e.value.size}
    figure, panels = _panels(len(arrays) + bool(scalars))
    figure.suptitle(_literal(run.program))
    if scalars:
        _bars(panels.pop(0), list(scalars), list(scalars.values()))
    for (name, estimate), panel in zip(arrays.items(), panels, strict=False):
        _draw(figure, panel, name, estimate)
    figure.savefig(path, dpi=150)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    count = max(count, 1)
    columns = min(count, 3)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for unused in grid[count:]:
        unused.set_axis_off()
    return figure, grid[:count]


def _bars(panel: Axes, names: list[str], estimates: list[Estimate]) -> None:
    heights = [float(e.value) for e in estimates]
    panel.bar(range(len(names)), heights, yerr=[2 * float(e.stderr) for e in estimates], capsize=4)
    panel.set_xticks(range(len(names)), [_literal(name) for name in names], rotation=30 if len(names) > 4 else 0)
    panel.axhline(0, color="black", linewidth=0.6)


def _draw(figure: Figure, panel: Axes, name: str, estimate: Estimate) -> None:
    axes = axis_names(estimate)
    error = np.broadcast_to(estimate.stderr, estimate.value.shape)
    panel.set_title(_literal(titled(name, axes)), fontsize=10)
    if "step" in axes or len(axes) == 1:
        _lines(panel, axes, estimate.value, error)
    else:
        _heat_map(figure, panel, axes, estimate.value)


def _lines(panel: Axes, axes: tuple[str, ...], value: Any, error: Any) -> None:
    """Against `step` (or the only axis), one line per position of the others, error bars of two standard errors."""
    at = axes.index("step") if "step" in axes else 0
    curves = np.moveaxis(value, at, 0).reshape(value.shape[at], -1)
    spread = np.moveaxis(error, at, 0).reshape(value.shape[at], -1)
    first = 0 if axes[at] == "step" else 1
    x = np.arange(first, first + value.shape[at])
    style = "o-" if axes[at] == "step" else "o"
    for k in range(min(curves.shape[1], 32)):
        panel.errorbar(x, curves[:, k], yerr=2 * spread[:, k], fmt=style, markersize=4, capsize=3)
    panel.set_xlabel(_literal(axes[at]))
    if len(x) <= _LABELLED:
        panel.set_xticks(x)


def _heat_map(figure: Figure, panel: Axes, axes: tuple[str, ...], value: Any) -> None:
    """The last axis across; all others, in order, down."""
    matrix = value.reshape(-1, value.shape[-1])
    low, high = float(matrix.min()), float(matrix.max())
    if low < 0 < high:
        bound = max(-low, high)
        image = panel.imshow(matrix, aspect="auto", cmap="RdBu_r", vmin=-bound, vmax=bound)
    else:
        image = panel.imshow(matrix, aspect="auto", cmap="viridis")
    figure.colorbar(image, ax=panel)
    panel.set_xlabel(_literal(axes[-1]))
    panel.set_ylabel(_literal(", ".join(axes[:-1])))
    if matrix.shape[1] <= _LABELLED:
        panel.set_xticks(range(matrix.shape[1]), labels(axes[-1], matrix.shape[1]))
    if matrix.shape[0] <= _LABELLED:
        places = np.ndindex(*value.shape[:-1])
        panel.set_yticks(range(matrix.shape[0]), [",".join(str(k + 1) for k in place) for place in places])


def _literal(text: str) -> str:
    """A name taken literally: a dollar sign would start matplotlib's mathematics."""
    return text.replace("$", r"\$")


def plot_verification(verification: Verification, path: str) -> None:
    """The RMS deviation of each output against width, log-log, with the expected n^(-1/2)."""
    figure, panels = _panels(len(verification.checks))
    for check, panel in zip(verification.checks, panels, strict=False):
        _deviation(panel, check)
    figure.savefig(path, dpi=150)


def _deviation(panel: Axes, check: OutputCheck) -> None:
    widths, deviation = np.array(check.widths, dtype=float), np.array(check.deviation)
    slope = "" if check.slope is None else f", slope {check.slope:.2f}"
    panel.set_title(_literal(f"{check.name}: {'pass' if check.passed else 'FAIL'}{slope}"), fontsize=10)
    panel.set_xlabel("width n")
    panel.set_ylabel("RMS deviation from the limit")
    panel.set_xscale("log", base=2)
    seen = deviation > 0  # an output that is exact at every width cannot be shown on a logarithmic axis
    if not seen.any():
        panel.text(0.5, 0.5, "no deviation", ha="center", transform=panel.transAxes)
        return
    panel.set_yscale("log")
    panel.plot(widths[seen], deviation[seen], "o-", label="networks")
    first = int(np.argmax(seen))
    panel.plot(widths, deviation[first] * np.sqrt(widths[first] / widths), "k--", linewidth=0.8, label=r"$n^{-1/2}$")
    panel.legend()
