"""The slope of the RMS deviation from the limit in log n, with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tp_compiler.finite.array_types import Values


@dataclass(frozen=True)
class Slope:
    """A least squares slope and its interval at the level of `fitted_slope`."""

    value: float
    interval: tuple[float, float]


def fitted_slope(
    widths: Sequence[int], drawn: Sequence[Values], value: Values, error: Values, level: float = 1e-3
) -> Slope | None:
    """The slope of log RMS(sample - limit) in log n; None with one width, or where the limit's error hides it.

    drawn   per width, samples (seeds, entries)
    value   the limit (entries,), and `error`, its standard error, whose square is subtracted from the mean square
    """
    from scipy.special import stdtrit

    if len(widths) < 2:
        return None
    noise = float(np.mean(error**2))
    squares = [((x - value) ** 2).mean(axis=1) for x in drawn]
    means = np.array([q.mean() for q in squares]) - noise
    if (means <= noise).any():
        return None
    # Var log r = Var(r²) / (4 r⁴): over the networks, plus the limit's error, common to its entries at worst.
    own = np.array([q.var(ddof=1) / len(q) for q in squares])
    offsets = np.array([float(np.sqrt(np.mean((x.mean(axis=0) - value) ** 2))) for x in drawn])
    shift = (2 * offsets * np.sqrt(noise) + noise) ** 2
    logs = np.log(np.asarray(widths, dtype=np.float64))
    centred = logs - logs.mean()
    weights = centred / (centred @ centred)
    parts = weights**2 * own / (4 * means**2)
    # One error of the limit moves all widths together: at worst its effects add up.
    common = float((np.abs(weights) * np.sqrt(shift) / (2 * means)).sum()) ** 2
    dofs = np.array([len(q) - 1.0 for q in squares])
    total, spread = parts.sum() + common, (parts**2 / dofs).sum()
    dof = total**2 / spread if spread > 0 else dofs.min()
    slope = float(weights @ np.log(means) / 2)
    half = float(stdtrit(max(1.0, min(dof, 1e6)), 1 - level / 2) * np.sqrt(total))
    return Slope(slope, (slope - half, slope + half))
