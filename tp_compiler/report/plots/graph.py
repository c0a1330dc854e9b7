"""The graph of a limit's quantities as a picture, from the initial kets down to the outputs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch, PathPatch
from matplotlib.path import Path

from tp_compiler.equations.graph import Arrow, DependencyGraph, Quantity
from tp_compiler.report.graph_dot import names
from tp_compiler.report.plots.layers import LayeredGraph, layout
from tp_compiler.report.plots.theme import Picture, Theme, legend, literal, theme_named

_LETTER, _MARGIN, _HEIGHT, _ROW = 0.088, 0.18, 0.27, 0.62
_ROUND = (Quantity.SCALAR, Quantity.RANDOM)


def plot(graph: DependencyGraph, path: str | os.PathLike[str] | None = None, *, theme: str = "light") -> Picture:
    """The picture; also written to `path`, if there is one."""
    texts = names(graph)
    widths = [_LETTER * _length(text) + _MARGIN for text in texts]
    forward = [(a.source, a.target) for a in graph.arrows if not a.earlier]
    found = layout(widths, forward)
    left, right = _sides(found, widths)
    chosen = theme_named(theme)
    top = 0.9 if any(arrow.earlier for arrow in graph.arrows) else 0.35  # bows rise above the boxes
    picture = Picture(chosen, (max(right - left, 3.5) + 0.6, _ROW * max(found.depth, 1) + 0.35 + top))
    axes = picture.subplots()
    axes.set_axis_off()
    axes.set_xlim(left - 0.3, right + 0.3)
    axes.set_ylim(-_ROW * (found.depth - 1) - 0.35, top)
    axes.set_aspect("equal")
    for arrow in graph.arrows:
        _arrow(axes, arrow, found, chosen)
    for k, (vertex, text) in enumerate(zip(graph.vertices, texts, strict=True)):
        _box(axes, found.places[k], widths[k], text, vertex.quantity, vertex.output, chosen)
    legend(
        picture, chosen, _key(graph, chosen), loc="outside lower center", ncols=max(2, min(5, int(right - left) // 2))
    )
    if path is not None:
        picture.savefig(path)
    return picture


def _sides(found: LayeredGraph, widths: Sequence[float]) -> tuple[float, float]:
    ends = [(x - w / 2, x + w / 2) for (x, _), w in zip(found.places, widths, strict=True)]
    ends += [(x, x) for route in found.routes.values() for x, _ in route]
    return min((a for a, _ in ends), default=0.0), max((b for _, b in ends), default=1.0)


def _length(text: str) -> int:
    """Letters that take space: an accent is drawn over the one before."""
    return sum(1 for letter in text if letter not in "\u0302\u0307")


def colours(theme: Theme) -> dict[Quantity, tuple[str, float]]:
    """The colour of each kind, and how much of it fills the box."""
    return {
        Quantity.INITIAL: (theme.curves[0], 0.28),
        Quantity.KET: (theme.muted, 0.0),
        Quantity.HAT: (theme.curves[1], 0.28),
        Quantity.DOT: (theme.curves[2], 0.28),
        Quantity.LEARNED: (theme.curves[5], 0.28),
        Quantity.ENTRY: (theme.curves[5], 0.1),
        Quantity.SCALAR: (theme.curves[3], 0.12),
        Quantity.RANDOM: (theme.curves[4], 0.28),
    }


def _box(
    axes: Axes, place: tuple[float, int], width: float, text: str, kind: Quantity, output: bool, theme: Theme
) -> None:
    colour, filled = colours(theme)[kind]
    x, y = place[0], -_ROW * place[1]
    corner = "round,pad=0,rounding_size=0.13" if kind in _ROUND else "round,pad=0,rounding_size=0.04"
    for fill, alpha in ((theme.paper, 1.0), (colour, filled)):
        axes.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - _HEIGHT / 2), width, _HEIGHT, boxstyle=corner, facecolor=fill, alpha=alpha,
                edgecolor="none", zorder=3,
            )
        )  # fmt: skip
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - _HEIGHT / 2), width, _HEIGHT, boxstyle=corner, facecolor="none", edgecolor=colour,
            linewidth=2.2 if output else 1.0, zorder=4,
        )
    )  # fmt: skip
    weight = "bold" if output else "normal"
    axes.text(
        x, y, literal(text), ha="center", va="center_baseline", fontsize=8.5, color=theme.ink, weight=weight, zorder=5
    )


def _arrow(axes: Axes, arrow: Arrow, found: LayeredGraph, theme: Theme) -> None:
    """A curve through the layers it passes; a dashed bow for what comes from an earlier step."""
    if arrow.earlier:
        start, end = ((found.places[v][0], -_ROW * found.places[v][1]) for v in (arrow.source, arrow.target))
        _bow(axes, start, end, theme)
        return
    points = [np.array([x, -_ROW * depth]) for x, depth in found.routes[arrow.source, arrow.target]]
    points[0] = points[0] - [0, _HEIGHT / 2]
    points[-1] = points[-1] + [0, _HEIGHT / 2 + 0.02]
    corners, codes = [points[0]], [Path.MOVETO]
    for a, b in pairwise(points):
        bend = [0, (a[1] - b[1]) / 2]
        corners += [a - bend, b + bend, b]
        codes += [Path.CURVE4] * 3
    axes.add_patch(PathPatch(Path(corners, codes), facecolor="none", edgecolor=theme.muted, linewidth=0.9, zorder=2))
    axes.plot(*points[-1], marker="v", markersize=3.5, color=theme.muted, zorder=2)


def _bow(axes: Axes, start: tuple[float, float], end: tuple[float, float], theme: Theme) -> None:
    """A dashed arrow beside the layers; a loop on top of a quantity that depends on its own earlier value."""
    own = start == end
    if own:
        start, end = (start[0] + 0.12, start[1] + _HEIGHT / 2), (end[0] - 0.12, end[1] + _HEIGHT / 2)
    axes.add_patch(
        FancyArrowPatch(
            start, end, connectionstyle=f"arc3,rad={1.2 if own else 0.15}", arrowstyle="-|>", mutation_scale=7,
            linestyle=(0, (3, 2)), linewidth=0.8, color=theme.muted, alpha=0.6, shrinkA=1 if own else 9,
            shrinkB=1 if own else 10, zorder=1,
        )
    )  # fmt: skip


def _key(graph: DependencyGraph, theme: Theme) -> list[Patch | Line2D]:
    there = {vertex.quantity for vertex in graph.vertices}
    handles: list[Patch | Line2D] = []
    for kind in Quantity:
        if kind in there:
            colour, filled = colours(theme)[kind]
            handles.append(Patch(facecolor=(colour, filled), edgecolor=colour, label=kind.value))
    if any(vertex.output for vertex in graph.vertices):
        handles.append(Patch(facecolor="none", edgecolor=theme.ink, linewidth=2.2, label="output"))
    if any(arrow.earlier for arrow in graph.arrows):
        handles.append(Line2D([], [], color=theme.muted, linestyle=(0, (3, 2)), label="from an earlier step"))
    return handles
