"""Functions that are bounded by a power everywhere: all products of them have averages under all Gaussian laws."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from tp_compiler.evaluate.array_types import Numbers
from tp_compiler.evaluate.gaussian.univariate import Seen, Univariate

MOST_POWER = 8
_SIZES = np.geomspace(1e-9, 1e9, 721)
_GRID = np.concatenate([-_SIZES[::-1], [0.0], _SIZES, np.linspace(-40, 40, 1601)])


@lru_cache(maxsize=4096)
def is_tame(f: Univariate) -> bool:
    """Whether a composed function is known to be tame: no divisor in it can be 0, and it grows like a power."""
    with np.errstate(all="ignore"):
        seen: Seen = []
        f.seen(_GRID, seen)
        if f.watch is None or not all(_is_regular(fn, args) for fn, args in seen):
            return False
        values = np.abs(f(_GRID))
        return bool(np.all(values <= 1e6 * (1.0 + np.abs(_GRID)) ** MOST_POWER))


def _is_regular(fn: str, args: Sequence[Numbers]) -> bool:
    """Whether a primitive is finite at its arguments and between them."""
    if fn == "div":
        return _away_from_zero(args[1])
    if fn in ("log", "sqrt"):
        return _away_from_zero(args[0]) and bool(np.all(args[0] > 0))
    if fn == "pow":
        exponent = np.asarray(args[1], dtype=float)
        whole = np.all(exponent == np.round(exponent)) and np.all(exponent >= 0)
        return bool(whole) or (_away_from_zero(args[0]) and bool(np.all(args[0] > 0)))
    return fn not in ("tan", "real_power", "power")


def _away_from_zero(x: Numbers) -> bool:
    x = np.asarray(x, dtype=float)
    return bool(np.all(np.abs(x) > 1e-6) and (np.all(x > 0) or np.all(x < 0)))


__all__ = ["is_tame"]
