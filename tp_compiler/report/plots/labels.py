"""Labels at the ends of curves, moved apart where they would overlap, instead of a legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from tp_compiler.report.plots.spacing import apart
from tp_compiler.report.plots.theme import literal

SIZE = 8.0
_POINTS = 72.0


@dataclass(frozen=True)
class CurveLabel:
    """A text for the end (x, y) of a curve, in data coordinates."""

    text: str
    x: float
    y: float
    colour: Any


def within(places: Sequence[float], low: float, high: float) -> list[float]:
    """The places, moved together so that they lie between `low` and `high` if there is room."""
    if max(places) - min(places) > high - low:
        return list(places)
    shift = max(0.0, low - min(places)) - max(0.0, max(places) - high)
    return [place + shift for place in places]


def label_curves(axes: Axes, labels: Sequence[CurveLabel]) -> None:
    """Writes the labels to the right of the curves; call it when limits and scales of the axes are set."""
    if not labels:
        return
    figure: Any = axes.figure
    figure.draw_without_rendering()  # the layout decides how far apart the ends are in print
    scale = _POINTS / figure.dpi
    ends = axes.transData.transform([(label.x, label.y) for label in labels])[:, 1] * scale
    low, high = (float(y) * scale for y in axes.transAxes.transform([(0, 0), (0, 1)])[:, 1])
    targets = within(apart([float(e) for e in ends], SIZE * 1.25), low, high)
    for label, end, target in zip(labels, ends, targets, strict=True):
        axes.annotate(
            literal(label.text),
            xy=(label.x, label.y),
            xytext=(6, round(target - end, 1)),
            textcoords="offset points",
            va="center",
            fontsize=SIZE,
            color=label.colour,
            annotation_clip=False,
        )


def chosen(count: int, most: int = 12) -> list[int]:
    """Which of `count` curves are labelled: all, or `most` evenly spaced ones, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(k * (count - 1) / (most - 1)) for k in range(most)})
