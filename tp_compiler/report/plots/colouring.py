"""The colour of every curve of a panel: distinct colours for a few things, a map for many or for things in an order."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize

from tp_compiler.report.plots.across import Positions
from tp_compiler.report.plots.theme import Theme


def colours(theme: Theme, count: int, along: Positions | None = None) -> list[Any]:
    """`count` different colours; `along` gives the numbers of things that are in an order."""
    ordered = along is not None and along.ordered
    if count <= len(theme.curves) and not ordered:
        return list(theme.curves[:count])
    if along is not None and ordered and len(along.values) == count:
        shades = scale(theme, along)
        return [shades.to_rgba(v) for v in along.values]
    return [theme.ordered_map(k / max(count - 1, 1)) for k in range(count)]


def scale(theme: Theme, along: Positions) -> ScalarMappable:
    """The colours of an ordered index, for a colour bar."""
    low, high = float(np.min(along.values)), float(np.max(along.values))
    kind = LogNorm if along.logarithmic else Normalize
    return ScalarMappable(kind(low, high if high > low else low + 1), theme.ordered_map)
