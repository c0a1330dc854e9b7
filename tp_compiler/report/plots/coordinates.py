"""A coordinate check as a picture: root mean squares against the width, a line for each module with its slope."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from tp_compiler.report.plots.labels import chosen, place_labels
from tp_compiler.report.plots.theme import PANEL, CurveLabel, Picture, theme_named, titled, width_axis
from tp_compiler.scale.coordinates import CoordCheck, CoordinateRow, CoordinateVerdict

_PANELS = {
    "activation": "activations at initialisation",
    "update": "updates of activations",
    "parameter update": "updates of parameters",
    "gradient": "first gradients",
}
#: As many lines as this have labels; those that are off have them first.
_LABELLED = 10
#: Names of modules are long: panels are wider than others by this.
_WIDER = 1.3


def plot(check: CoordCheck, path: str | os.PathLike[str] | None = None, *, theme: str = "light") -> Picture:
    """A panel for each quantity; also written to `path`, if there is one."""
    picture = Picture(theme_named(theme), PANEL)
    drawn = {
        q: [r for r in check.rows if r.quantity == q and r.slope is not None and r.step is not None] for q in _PANELS
    }
    drawn = {quantity: rows for quantity, rows in drawn.items() if rows}
    panels = picture.panels(len(drawn))
    width, height = picture.get_size_inches()
    picture.set_size_inches(_WIDER * width, height)
    for (quantity, rows), axes in zip(drawn.items(), panels, strict=False):
        after = f" after {rows[0].step} step{'s' * (rows[0].step != 1)}" if rows[0].step else ""
        titled(axes, _PANELS[quantity] + after)
        _lines(picture, axes, check.widths, rows)
    picture.head(f"coordinate check: {'passed' if check.passed else 'FAILED'}")
    picture.note(
        "; ".join(map(str, check.problems)) or "numbers are slopes, the exponents that muP wants in parentheses"
    )
    place_labels(picture)
    if path is not None:
        picture.savefig(path)
    return picture


def _lines(picture: Picture, axes: Axes, widths: Sequence[int], rows: Sequence[CoordinateRow]) -> None:
    """Lines in the order of the modules; what is off is thick, and red."""
    theme = picture.theme
    x = width_axis(axes, widths)
    axes.set_yscale("log")
    axes.set_ylabel("root mean square")
    hues: list[Any] = [theme.ordered_map(k / max(1, len(rows) - 1)) for k in range(len(rows))]
    off = [row.verdict in (CoordinateVerdict.WRONG, CoordinateVerdict.FOLLOWS) for row in rows]
    for row, hue, wrong in zip(rows, hues, off, strict=True):
        axes.plot(
            x, row.sizes, "o-", color=theme.curves[2] if wrong else hue, linewidth=2 if wrong else 1, markersize=3
        )
    named = [k for k, wrong in enumerate(off) if wrong] or list(range(len(rows)))
    labels = []
    for k in (named[j] for j in chosen(len(named), _LABELLED)):
        row, hue = rows[k], theme.curves[2] if off[k] else hues[k]
        wanted = "" if row.derived is None else f" ({row.derived})"
        name = f"{row.name or 'the module'}: {row.slope:+.2f}{wanted}"
        labels.append(CurveLabel(name, float(x[-1]), row.sizes[-1], hue))
    picture.ends.append((axes, labels))
