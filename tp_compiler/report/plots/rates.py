"""The largest stable learning rates against alignment: a curve for the parameters that share one, and dots for what was given.

Along a curve updates are aligned better and better, α = u from 1/2 to 1; ω is as given.
"""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction

from matplotlib.axes import Axes

from tp_compiler.report.plots.theme import Picture, Theme, legend, literal, theme_named, themed, titled
from tp_compiler.scale.aligned_tables import largest_rows
from tp_compiler.scale.given_alignments import ParameterAlignments
from tp_compiler.scale.numbers import HALF
from tp_compiler.scale.result import Scaling, Table

#: α = u along the horizontal axis.
ALIGNMENTS = tuple(HALF + Fraction(k, 16) for k in range(9))
Curve = tuple[Fraction, ...]


def plot(
    scaling: Scaling, given: ParameterAlignments, path: str | os.PathLike[str] | None = None, *, theme: str = "light"
) -> Picture:
    """A panel for the program's parametrization, and one for the standard one; also written to `path`, if there is one."""
    tables = [scaling.main]
    tables += [scaling.compared["standard"]] if scaling.main.parametrization != "standard" else []
    picture = Picture(theme_named(theme), (4.6, 4.0))
    for table, axes in zip(tables, picture.panels(len(tables)), strict=False):
        themed(axes, picture.theme)
        _panel(axes, scaling, table, given, picture.theme)
    name = scaling.network.source.name
    picture.head("" if name == "<text>" else name.rsplit("/", 1)[-1])
    picture.note(f"alignment {given.title}")
    if path is not None:
        picture.savefig(path)
    return picture


def curves(scaling: Scaling, table: Table, given: ParameterAlignments) -> dict[str, Curve]:
    """The exponents of every trained parameter at `ALIGNMENTS`."""
    rows, found = list(table.rows.values()), []
    for exponent in ALIGNMENTS:
        aligned = [replace(a, update=exponent, both=exponent) for a in given.each]
        found.append(largest_rows(scaling.analysis, rows, aligned)[0])
    return {key: tuple(rows[k].raw["lr"] for rows in found) for k, key in enumerate(table.rows) if rows[k].trained}


def _panel(axes: Axes, scaling: Scaling, table: Table, given: ParameterAlignments, theme: Theme) -> None:
    lines = []
    together: dict[Curve, list[str]] = {}
    for key, curve in curves(scaling, table, given).items():
        together.setdefault(curve, []).append(key)
    at = dict(zip(table.rows, given.each, strict=True))
    for number, (curve, keys) in enumerate(together.items()):
        hue = theme.curves[number % len(theme.curves)]
        lines += axes.plot([*map(float, ALIGNMENTS)], [*map(float, curve)], color=hue, label=literal(_listed(keys)))
        dots = {(at[key].update, table.rows[key].raw["lr"]) for key in keys}
        for x, y in sorted(dots):
            axes.plot(float(x), float(y), "o", color=hue, markersize=6)
    ticks = [Fraction(k, 4) for k in range(2, 5)]
    axes.set_xticks([*map(float, ticks)], [*map(str, ticks)])
    heights = sorted({y for curve in together for y in (curve[0], curve[-1])})
    axes.set_yticks([*map(float, heights)], [_power(y) for y in heights])
    axes.set_xlabel("alignment of updates, α = u")
    axes.set_ylabel("largest stable learning rate")
    titled(axes, table.parametrization)
    legend(axes, theme, lines, loc="best")


def _power(exponent: Fraction) -> str:
    return "1" if exponent == 0 else "n" if exponent == 1 else f"$n^{{{exponent}}}$"


def _listed(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
