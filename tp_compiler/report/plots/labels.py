"""Labels at the ends of curves, moved apart where they would overlap, instead of a legend."""

from __future__ import annotations

from collections.abc import Sequence

from tp_compiler.report.plots.spacing import apart
from tp_compiler.report.plots.theme import Picture, literal

SIZE = 8.0
_POINTS = 72.0


def within(places: Sequence[float], low: float, high: float) -> list[float]:
    """The places, moved together so that they lie between `low` and `high` if there is room."""
    if max(places) - min(places) > high - low:
        return list(places)
    shift = max(0.0, low - min(places)) - max(0.0, max(places) - high)
    return [place + shift for place in places]


def place_labels(picture: Picture) -> None:
    """Writes the labels of all panels, to the right of their curves; call it when everything else is drawn."""
    if not any(labels for _, labels in picture.ends):
        return
    picture.draw_without_rendering()  # the layout decides how far apart the ends are in print
    scale = _POINTS / picture.dpi
    for axes, labels in picture.ends:
        ends = [float(y) * scale for y in axes.transData.transform([(label.x, label.y) for label in labels])[:, 1]]
        low, high = (float(y) * scale for y in axes.transAxes.transform([(0, 0), (0, 1)])[:, 1])
        for label, end, target in zip(labels, ends, within(apart(ends, SIZE * 1.25), low, high), strict=True):
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
    picture.ends.clear()


def chosen(count: int, most: int = 12) -> list[int]:
    """Which of `count` curves are labelled: all, or `most` evenly spaced ones, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(k * (count - 1) / (most - 1)) for k in range(most)})
