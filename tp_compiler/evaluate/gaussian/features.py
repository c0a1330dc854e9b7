"""Where along a line a function may be singular, kinked or steep, read off the arguments of the primitives in it.

A composed function is watched while it is evaluated: a divisor, a base or the argument of a logarithm that crosses 0,
an argument that crosses a kink, an exponent at its largest. Nothing else in the language can be narrow or infinite, and
arguments are tame where functions of them are not: sign changes on a grid find them, and grids are refined about what
has been found, for what lies inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tp_compiler.evaluate.gaussian.univariate import KINKS, Array, Seen

Trace = Callable[[Array, Seen], None]
ROUNDS = 3  # functions inside functions inside functions
MOST_PLACES = 64
_GOLDEN = (np.sqrt(5.0) - 1) / 2


def places(trace: Trace, low: float, high: float, known: tuple[float, ...] = ()) -> list[float]:
    """The places between low and high, in no order; those known before come first."""
    width = high - low
    found: list[float] = list(known)
    decades = width * 10.0 ** -np.arange(1.0, 16.0)
    grid = np.concatenate([np.linspace(low, high, 401), _around([0.0], decades)])
    for _ in range(ROUNDS):
        grid = np.unique(grid[(grid >= low) & (grid <= high)])
        new = [x for x in _roots(trace, grid) if _unknown(x, found, 1e-13 * abs(x))]
        new += [x for x in _tops(trace, grid) if _unknown(x, [*found, *new], 1e-7 * width)]
        found += new
        if not new or len(found) > MOST_PLACES + len(known):
            break
        grid = np.concatenate([grid, _around(new, decades)])
    return found


def _around(centres: list[float], decades: Array) -> Array:
    return np.concatenate([np.concatenate([c - decades, [c], c + decades]) for c in centres])


def _unknown(x: float, found: list[float], near: float) -> bool:
    return all(abs(x - y) > near for y in found)


def _crossing(trace: Trace, x: Array) -> Array:
    """Quantities (q, n) whose sign changes are places."""
    seen: Seen = []
    trace(x, seen)
    rows = [row for fn, args in seen for row in _watched(fn, args)]
    return np.stack([np.broadcast_to(r, x.shape) for r in rows]) if rows else np.zeros((0, len(x)))


def _watched(fn: str, args: list[Any]) -> list[Any]:
    if fn in ("add", "mul", "exp", "sin", "cos", "square"):
        return []
    if fn == "div":
        return [args[1]]
    if fn in ("max", "min"):
        return [args[0] - args[1]]
    if fn == "tan":
        return [np.cos(args[0])]
    return [args[0] - level for level in KINKS.get(fn, (0.0,))]


def _peaked(trace: Trace, x: Array) -> Array:
    """Quantities (q, n) whose largest values are places: exponents, and the reciprocals of divisors."""
    seen: Seen = []
    trace(x, seen)
    rows = [args[0] for fn, args in seen if fn in ("exp", "gauss")]
    rows += [
        -np.abs(row) for fn, args in seen if fn in ("div", "pow", "log", "sqrt", "power") for row in _watched(fn, args)
    ]
    return np.stack([np.broadcast_to(r, x.shape) for r in rows]) if rows else np.zeros((0, len(x)))


def _roots(trace: Trace, grid: Array) -> list[float]:
    """Sign changes, by bisection; a zero met on the grid, where its neighbours are none."""
    values = _crossing(trace, grid)
    signs = np.sign(np.where(np.isfinite(values), values, np.nan))
    which, at = np.nonzero(signs[:, :-1] * signs[:, 1:] < 0)
    zeros = signs == 0
    alone = zeros[:, 1:-1] & ~(zeros[:, :-2] & zeros[:, 2:])
    found = [float(x) for x in np.unique(grid[1:-1][np.any(alone, axis=0)])]
    which, at = which[: 4 * MOST_PLACES], at[: 4 * MOST_PLACES]
    if not len(which):
        return found
    a, b, start = grid[at].copy(), grid[at + 1].copy(), signs[which, at]
    pick = np.arange(len(a))
    for _ in range(70):
        middle = (a + b) / 2
        here = np.sign(_crossing(trace, middle)[which, pick])
        a = np.where((here == start) | (here == 0), middle, a)
        b = np.where((here != start) | (here == 0), middle, b)
    return found + [float(x) for x in np.unique((a + b) / 2)]


def _tops(trace: Trace, grid: Array) -> list[float]:
    """Local maxima inside the grid, by golden section."""
    values = _peaked(trace, grid)
    inner = values[:, 1:-1]
    which, at = np.nonzero((inner > values[:, :-2]) & (inner >= values[:, 2:]))
    which, at = which[:MOST_PLACES], at[:MOST_PLACES]
    if not len(which):
        return []
    a, b, pick = grid[at].copy(), grid[at + 2].copy(), np.arange(len(at))
    for _ in range(60):
        left, right = b - _GOLDEN * (b - a), a + _GOLDEN * (b - a)
        lower = _peaked(trace, left)[which, pick] < _peaked(trace, right)[which, pick]
        a, b = np.where(lower, left, a), np.where(lower, b, right)
    return [float(x) for x in np.unique((a + b) / 2)]
