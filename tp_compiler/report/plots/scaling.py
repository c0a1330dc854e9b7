"""The plot of the classes (TP IV Figure 2): a slice through the space of parametrizations, with the program in it.

Horizontal: every update moves its output by n^-s. Vertical: an entry of the readout is n^-m at initialisation.
The classes are those of the program's own network (analysis.py), at exact points: inside regions, on borders, at corners.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from fractions import Fraction
from functools import cache

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tp_compiler.ir.model import Trainable
from tp_compiler.report.plots import rates
from tp_compiler.report.plots.regions import Point as Place
from tp_compiler.report.plots.regions import Regions, regions, runs, widest
from tp_compiler.report.plots.theme import Picture, Theme, legend, theme_named, themed, titled
from tp_compiler.scale.abcd import Layer
from tp_compiler.scale.figures import table
from tp_compiler.scale.numbers import HALF
from tp_compiler.scale.optimizers import OPTIMIZERS, EntrywiseOptimizer, OptimizerScaling, ParameterKind, Untrained
from tp_compiler.scale.points import Point
from tp_compiler.scale.result import Scaling
from tp_compiler.scale.verdict import Regime

STEP = Fraction(1, 4)
ACROSS = (-HALF, Fraction(1))
UP = (Fraction(1, 4), Fraction(3, 2))
#: Where the parametrizations of the literature are.
NAMED = {"muP": (Fraction(0), Fraction(1)), "NTP": (HALF, HALF)}


def slice_point(s: Fraction, m: Fraction) -> Point:
    """The parametrization at (s, m), with faithful d: gradients are as large as the readout, which updates of n^-(1 + s)
    outgrow where m > 1 + s."""
    d = min(m, 1 + s)
    scalar = Layer(Fraction(0), Fraction(0), s, Fraction(0))
    hidden, output = Layer(Fraction(0), HALF, 1 + s, d), Layer(m, Fraction(0), 1 + s - m, m)
    return Point(Layer(Fraction(0), Fraction(0), s, d), hidden, output, scalar)


def classifier(scaling: Scaling) -> Callable[[Place], Regime]:
    """The class of the program's network at (s, m). Without a readout, m has no meaning, and gradients are those of m = 1."""
    readout = place(scaling) is not None

    def entrywise(t: Trainable) -> OptimizerScaling:
        """Faithful points are the same for all optimizers; optimizers without d are treated as ignoring it."""
        found = scaling.choice(t)
        return found if isinstance(found, EntrywiseOptimizer | Untrained) else OPTIMIZERS["SignSGD"]

    @cache
    def judged(s: Fraction, m: Fraction) -> Regime:
        return scaling.analysis.judge(table(scaling.reading, entrywise, slice_point(s, m))).regime

    return lambda at: judged(at[0], at[1] if readout else Fraction(1))


def place(scaling: Scaling) -> Place | None:
    """The position of the program: (r, m); None if there is no readout."""
    for row in scaling.main.rows.values():
        if row.output is not None:
            return scaling.verdict.r, -row.output
        if row.raw.kind == ParameterKind.OUTPUT:
            return scaling.verdict.r, -row.raw["init_std"] - row.raw["multiplier"]
    return None


def window(own: Place | None) -> tuple[Place, Place]:
    """The corners of the picture: always the usual parametrizations, and this program."""
    if own is None:
        return (ACROSS[0], UP[0]), (ACROSS[1], UP[1])
    s, m = own
    rounded = (math.floor(s / STEP) * STEP, math.floor(m / STEP) * STEP)
    low = (min(ACROSS[0], rounded[0] - STEP), min(UP[0], rounded[1] - STEP))
    return low, (max(ACROSS[1], rounded[0] + 2 * STEP), max(UP[1], rounded[1] + 2 * STEP))


def plot(scaling: Scaling, path: str | os.PathLike[str] | None = None, *, theme: str = "light") -> Picture:
    """The picture; also written to `path`, if there is one. For given alignments, learning rates against them."""
    if scaling.alignments is not None:
        return rates.plot(scaling, scaling.alignments, path, theme=theme)
    picture = Picture(theme_named(theme), (6.6, 5.2))
    axes = picture.subplots()
    themed(axes, picture.theme)
    own = place(scaling)
    found = regions(classifier(scaling), window(own), STEP)
    axes.grid(False)
    _areas(axes, found, picture.theme)
    _borders(axes, found, picture.theme)
    if own is not None:
        _places(axes, own, scaling.main.parametrization, picture.theme)
    axes.set_xlabel("s: updates move their outputs by $n^{-s}$")
    axes.set_ylabel("m: entries of the readout are $n^{-m}$" if own else "m: there is no readout")
    (left, bottom), (right, top) = window(own)
    axes.set_xlim(float(left), float(right))
    axes.set_ylim(float(bottom), float(top))
    _ticks(axes.xaxis, left, right)
    _ticks(axes.yaxis, bottom, top if own else bottom - STEP)
    name = scaling.network.source.name
    titled(axes, "" if name == "<text>" else name.rsplit("/", 1)[-1], str(scaling.verdict.regime))
    legend(picture, picture.theme, _key(found, picture.theme), loc="outside lower center", ncols=4)
    if path is not None:
        picture.savefig(path)
    return picture


def _ticks(axis: Axis, low: Fraction, high: Fraction) -> None:
    """Exponents are fractions."""
    places = [low + k * STEP for k in range(int((high - low) / STEP) + 1)]
    axis.set_ticks([float(p) for p in places], [str(p) for p in places])


def _colours(theme: Theme) -> dict[Regime, str]:
    return {
        Regime.UNSTABLE: theme.unstable,
        Regime.UNFAITHFUL: theme.grid,
        Regime.TRIVIAL: theme.stable,
        Regime.OPERATOR: theme.curves[0],
        Regime.FEATURE_LEARNING: theme.curves[1],
    }


def _areas(axes: Axes, found: Regions[Regime], theme: Theme) -> None:
    """Regions, with their names in the middle."""
    for regime, triangles in found.triangles.items():
        corners = [[(float(x), float(y)) for x, y in triangle] for triangle in triangles]
        colour = _colours(theme)[regime]
        # A thin edge of the same colour closes the seams between triangles.
        axes.add_collection(PolyCollection(corners, facecolor=colour, edgecolor=colour, linewidth=0.4, zorder=1))
        x, y = widest(found, regime)
        axes.text(float(x), float(y), regime.value, ha="center", va="center", fontsize=9, color=theme.muted, zorder=2)


def _borders(axes: Axes, found: Regions[Regime], theme: Theme) -> None:
    """Classes that hold on a border alone, or at a corner."""
    for regime, segments in found.segments.items():
        for line in runs(segments):
            xs, ys = [float(x) for x, _ in line], [float(y) for _, y in line]
            axes.plot(xs, ys, color=_colours(theme)[regime], linewidth=3.5, solid_capstyle="butt", zorder=3)
    for regime, points in found.points.items():
        for x, y in points:
            axes.plot(float(x), float(y), "o", color=_colours(theme)[regime], markersize=9, zorder=4)


def _places(axes: Axes, own: Place, name: str, theme: Theme) -> None:
    """The parametrizations of the literature, and a ring around the program, through which the borders remain visible."""
    for known, (s, m) in NAMED.items():
        axes.plot(float(s), float(m), "o", color=theme.ink, markersize=4.5, zorder=5)
        axes.annotate(
            known, (float(s), float(m)), (-7, -4), textcoords="offset points", ha="right", va="top", fontsize=8.5,
            color=theme.ink, zorder=6,
        )  # fmt: skip
    at = (float(own[0]), float(own[1]))
    axes.plot(*at, "o", markersize=15, markerfacecolor="none", markeredgecolor=theme.ink, markeredgewidth=1.8, zorder=6)
    axes.annotate(
        f"this program ({name})", at, (13, 9), textcoords="offset points", fontsize=9, color=theme.ink, zorder=6
    )


def _key(found: Regions[Regime], theme: Theme) -> list[Patch | Line2D]:
    """A patch for what fills a region, a line for what holds on a border or at a corner; in the order of the classes."""
    handles: list[Patch | Line2D] = []
    for regime, colour in _colours(theme).items():
        if regime in found.triangles:
            handles.append(Patch(facecolor=colour, edgecolor=theme.muted, linewidth=0.5, label=regime.value))
        elif regime in found.segments:
            handles.append(Line2D([], [], color=colour, linewidth=3.5, label=regime.value))
        elif regime in found.points:
            handles.append(Line2D([], [], color=colour, marker="o", linestyle="", markersize=8, label=regime.value))
    return handles
