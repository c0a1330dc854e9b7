"""Light and dark: colours that colour-blind readers can tell apart, and figures that need no window system.

A `Picture` is a figure of matplotlib without pyplot, so no global state is touched. Notebooks show it as SVG. Files are
reproducible: no date, and names in SVG that do not change from run to run.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

PANEL = (4.2, 3.3)
_DIGITS = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
#: Letters of small print per inch.
_LETTERS = 17
_SAVED: Any = {"svg.fonttype": "none", "svg.hashsalt": "tpc", "font.family": ["DejaVu Sans", "Verdana", "sans-serif"]}


@dataclass(frozen=True)
class Theme:
    """The colours of a picture. `curves` tell few things apart; `ordered` is the part of a map for things in an order."""

    name: str
    paper: str
    ink: str
    muted: str
    grid: str
    curves: tuple[str, ...]
    ordered: tuple[float, float]
    diverging: tuple[str, str, str]
    stable: str
    unstable: str

    def network(self, number: int) -> str:
        """The colour of the networks of one width, the same in every panel; the first colour is the limit's."""
        return self.curves[1 + number % (len(self.curves) - 1)]

    @property
    def sequential_map(self) -> Colormap:
        return colormaps["viridis"]

    @property
    def diverging_map(self) -> Colormap:
        return LinearSegmentedColormap.from_list(f"tpc-{self.name}", self.diverging)

    @property
    def ordered_map(self) -> Colormap:
        low, high = self.ordered
        shades = [self.sequential_map(low + (high - low) * k / 255) for k in range(256)]
        return LinearSegmentedColormap.from_list(f"tpc-ordered-{self.name}", shades)


#: The six colours are at least 30 apart in CIELAB for normal sight, protanopia, deuteranopia and tritanopia.
LIGHT = Theme(
    name="light",
    paper="#ffffff",
    ink="#1a1f26",
    muted="#5c6570",
    grid="#e3e6ea",
    curves=("#0f3fb5", "#b28f00", "#8a1010", "#4d94ff", "#e0607a", "#6b2460"),
    ordered=(0.0, 0.75),
    diverging=("#2166ac", "#f7f7f7", "#b2182b"),
    stable="#e4e9f0",
    unstable="#f5d9d2",
)
DARK = Theme(
    name="dark",
    paper="#14171c",
    ink="#e8eaed",
    muted="#9aa4b0",
    grid="#2b313a",
    curves=("#8cf2f2", "#cf6017", "#b45eed", "#c3e830", "#3f92a6", "#f2b58c"),
    ordered=(0.25, 1.0),
    diverging=("#6cb2ff", "#20252d", "#ff8d6b"),
    stable="#232b36",
    unstable="#4a2a27",
)
THEMES = {theme.name: theme for theme in (LIGHT, DARK)}


def theme_named(name: str) -> Theme:
    """The theme; ValueError names those that exist."""
    if name not in THEMES:
        raise ValueError(f"there is no theme {name!r}; the themes are {', '.join(THEMES)}")
    return THEMES[name]


@dataclass(frozen=True)
class CurveLabel:
    """A text for the end (x, y) of a curve, in data coordinates."""

    text: str
    x: float
    y: float
    colour: Any


class Picture(Figure):
    """A figure in a theme."""

    def __init__(self, theme: Theme, size: tuple[float, float]):
        super().__init__(figsize=size, layout="constrained", facecolor=theme.paper)
        self.theme = theme
        self.heading: Text | None = None
        #: Labels of curves that wait for the layout, by panel.
        self.ends: list[tuple[Axes, list[CurveLabel]]] = []

    def savefig(self, fname: Any, **options: Any) -> None:
        """PNG, SVG or PDF, by the ending; the same bytes for the same picture."""
        name = str(fname) if isinstance(fname, str | os.PathLike) else ""
        form = str(options.pop("format", None) or name.rpartition(".")[2]).lower()
        if form and form not in self.canvas.get_supported_filetypes():
            raise ValueError(
                f"pictures are written to files ending in .svg, .pdf or .png, and {name or form!r} is not one"
            )
        if form == "svg":
            _write(fname, self.svg())
            return
        options = {"dpi": 150, "metadata": {"CreationDate": None} if form == "pdf" else {}, **options}
        with rc_context(_SAVED), self._settled():
            super().savefig(fname, format=form or None, **options)

    def svg(self) -> str:
        """The picture as SVG text; its text remains text."""
        buffer = io.StringIO()
        with rc_context(_SAVED), self._settled():
            super().savefig(buffer, format="svg", metadata={"Date": None})
        return stable_names(buffer.getvalue())

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """The layout, rounded: the solver's last digits depend on addresses in memory."""
        engine = self.get_layout_engine()
        assert engine is not None
        engine.execute(self)
        engine.execute(self)  # what is written beside the axes moves with them
        self.set_layout_engine("none")
        for axes in self.axes:
            left, bottom, width, height = (round(float(x), 4) for x in axes.get_position(original=True).bounds)
            axes.set_position((left, bottom, width, height), which="original")
            axes.set_in_layout(True)
        if self.heading is not None:
            self.heading.set_y(round(float(self.heading.get_position()[1]), 4))
        try:
            yield
        finally:
            self.set_layout_engine(engine)

    def _repr_svg_(self) -> str:
        return self.svg()

    def panels(self, count: int) -> list[Axes]:
        """`count` axes in rows of two or three, in the theme."""
        across = 2 if count == 4 else min(max(count, 1), 3)
        rows = math.ceil(max(count, 1) / across)
        scale = 1.2 if count == 1 else 1.0
        self.set_size_inches(scale * PANEL[0] * across, scale * PANEL[1] * rows)
        grid = self.subplots(rows, across, squeeze=False).ravel().tolist()
        for unused in grid[count:]:
            unused.remove()
        for axes in grid[:count]:
            themed(axes, self.theme)
        return list(grid[:count])

    def head(self, text: str) -> None:
        """A title above all panels."""
        self.heading = self.suptitle(literal(text), x=0.01, ha="left", fontsize=11, color=self.theme.ink)

    def note(self, text: str) -> None:
        """Small print below everything else."""
        width, height = (float(inches) for inches in self.get_size_inches())
        lines = textwrap.wrap(text, int(_LETTERS * width))
        strip = (0.08 + 0.13 * len(lines)) / height
        engine: Any = self.get_layout_engine()
        engine.set(rect=(0.0, strip, 1.0, 1.0 - strip))
        self.text(
            0.5,
            0.05 / height,
            literal("\n".join(lines)),
            ha="center",
            fontsize=7,
            color=self.theme.muted,
            linespacing=1.2,
        )


def _write(target: Any, text: str) -> None:
    if isinstance(target, str | os.PathLike):
        with open(target, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
    else:
        target.write(text if isinstance(target, io.TextIOBase) else text.encode())


def stable_names(svg: str) -> str:
    """SVG text whose names do not depend on addresses in memory, and differ from those of other pictures on the same page.

    Paths are rounded to hundredths of a point.
    """
    svg = re.sub(r'\bd="[^"]*"', lambda path: _DIGITS.sub(lambda x: f"{float(x[0]):.2f}", path[0]), svg)
    names = dict.fromkeys(re.findall(r'\bid="([A-Za-z]\w*_)?([a-z]?[0-9a-f]{10})"', svg))
    numbered = {name: f"k{number}" for number, (_, name) in enumerate(names)}
    text = re.sub(r"\b[a-z]?[0-9a-f]{10}\b", lambda found: numbered.get(found[0], found[0]), svg)
    own = hashlib.sha256(text.encode()).hexdigest()[:6]
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>t{own}-", text)


def themed(axes: Axes, theme: Theme) -> None:
    """Paper, ink and a quiet grid."""
    axes.set_facecolor(theme.paper)
    axes.grid(True, color=theme.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=theme.muted, labelsize=8)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.muted)
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
        text.set_color(theme.ink)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)


def titled(axes: Axes, title: str, detail: str = "") -> None:
    """A title at the left, with a detail in small print at the right."""
    axes.set_title(literal(title), loc="left", fontsize=10, color=axes.xaxis.label.get_color())
    if detail:
        colour = next(iter(axes.get_xticklabels()), axes.xaxis.label).get_color()
        axes.set_title(literal(detail), loc="right", fontsize=7.5, color=colour)


def width_axis(axes: Axes, widths: Sequence[int]) -> np.ndarray:
    """A logarithmic axis of widths, with a tick at each."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(widths)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FixedFormatter([str(n) for n in widths]))
    axes.set_xlabel("width n")
    return np.array(widths, dtype=float)


def legend(owner: Any, theme: Theme, handles: Sequence[Any], **options: Any) -> None:
    """A legend without a frame, in the theme's ink."""
    owner.legend(handles=list(handles), frameon=False, labelcolor=theme.ink, fontsize=8, **options)


def literal(text: str) -> str:
    """A name taken literally: a dollar sign would start matplotlib's mathematics."""
    return text.replace("$", r"\$")
