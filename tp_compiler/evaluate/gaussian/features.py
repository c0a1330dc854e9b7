"""Where along lines a function may be singular, kinked or steep, found from the arguments of its primitives.

A composed function is monitored while it is evaluated: a divisor, a base or the argument of a logarithm that crosses 0,
an argument that crosses a kink, an exponent at its maximum. Nothing else in the language can be narrow or infinite, and
arguments are tame where functions of them are not: sign changes on a grid find them, and grids are refined where a sine
turns, where a sign may change twice between neighbours, and around each place found, for others close to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tp_compiler.evaluate.array_types import Array, Mask, Numbers, Whole
from tp_compiler.evaluate.gaussian.univariate import Seen
from tp_compiler.ir.primitives import PRIMITIVES

Which = Whole  # lines
Trace = Callable[[Which, Array, Seen], None]  # records the primitives on these lines, at these points
Quantities = Callable[[Which, Array], Array]  # (q, *shape) of the same
ROUNDS = 3  # depth of nested functions that is followed
MOST_PLACES = 1024  # on one line, approximately
TURN = 0.5  # step of the argument with which a sine is followed
MOST_POINTS = 2**14  # of a grid
_SECTIONS = 16
_STEPS = 18  # 16^-18 is below the spacing of doubles
_DOMAIN = np.arange(_SECTIONS + 1) / _SECTIONS


@dataclass(frozen=True, eq=False)
class Places:
    """Places on lines, and the quantity that changes sign there (-1: none)."""

    line: Which
    z: Array
    row: Which

    def of(self, which: Which | Mask) -> Places:
        return Places(self.line[which], self.z[which], self.row[which])

    def __add__(self, other: Places) -> Places:
        return Places(
            np.concatenate([self.line, other.line]),
            np.concatenate([self.z, other.z]),
            np.concatenate([self.row, other.row]),
        )


def places(trace: Callable[[Array, Seen], None], low: float, high: float, known: tuple[float, ...] = ()) -> list[float]:
    """The places between low and high, in no order; those known before come first."""
    found = on_lines(lambda line, z, seen: trace(z, seen), 1, low, high, known)
    return [float(z) for z in found.z]


def on_lines(trace: Trace, count: int, low: float, high: float, known: tuple[float, ...] = ()) -> Places:
    """The places on each of `count` lines, between low and high; those known before come first."""
    width = high - low
    decades = width * 10.0 ** -np.arange(1.0, 16.0)
    around = np.concatenate([-decades, [0.0], decades[::-1]])
    every: Which = np.arange(count)
    found = Places(np.repeat(every, len(known)), np.tile(np.array(known), count), np.full(len(known) * count, -1))
    grid = _resolved(trace, every, np.unique(np.clip(np.concatenate([np.linspace(low, high, 401), around]), low, high)))
    line, grid = every, np.broadcast_to(grid, (count, len(grid)))
    for _ in range(ROUNDS):
        new = roots(trace, line, grid)
        new = new.of(_far(new, found, 1e-13 * np.abs(new.z)))
        found = found + new
        top = _tops(trace, line, grid)
        top = top.of(_far(top, found, np.full(len(top.z), 1e-7 * width)))
        found, new = found + top, new + top
        if not len(new.z) or len(found.z) > (MOST_PLACES + len(known)) * count:
            break
        line, grid = new.line, np.clip(new.z[:, None] + around, low, high)
    return found


def _resolved(trace: Trace, every: Which, grid: Array) -> Array:
    """A grid on which sines and cosines are followed."""
    seen: Seen = []
    trace(every[:, None], np.broadcast_to(grid, (len(every), len(grid))), seen)
    turns = [args[0] for fn, args in seen if fn in ("sin", "cos", "tan")]
    if not turns:
        return grid
    steps = np.zeros(len(grid) - 1)
    for a in turns:
        change = np.abs(np.diff(np.broadcast_to(a, (len(every), len(grid))), axis=1))
        steps = np.maximum(steps, np.max(np.where(np.isfinite(change), change, 0.0), axis=0))
    pieces = np.ceil(np.clip(steps / TURN, 1, 64)).astype(np.intp)
    pieces[np.cumsum(pieces[_from_centre(grid)])[np.argsort(_from_centre(grid))] > MOST_POINTS] = 1
    of = np.repeat(np.arange(len(pieces)), pieces)
    within = np.arange(len(of)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    fine = grid[of] + np.diff(grid)[of] * within / pieces[of]
    return np.append(fine, grid[-1])


def _from_centre(grid: Array) -> Which:
    """The cells of a grid, those near its centre first."""
    return np.argsort(np.abs(grid[1:] + grid[:-1] - grid[0] - grid[-1]), kind="stable")


def _far(new: Places, found: Places, near: Array) -> Mask:
    """Which of the new places are not near any other, known or new before them, on the same line."""
    both = new + found
    other = np.append(np.zeros(len(new.z), dtype=bool), np.ones(len(found.z), dtype=bool))
    order = np.lexsort((~other, both.z, both.line))
    line, z, other = both.line[order], both.z[order], other[order]
    tolerance = np.append(near, np.zeros(len(found.z)))[order]
    if not len(z):
        return np.zeros(0, dtype=bool)
    close = np.zeros(len(z), dtype=bool)
    close[1:] = (line[1:] == line[:-1]) & (np.diff(z) <= tolerance[1:])
    for turned in (False, True):
        at = np.where(other, np.arange(len(z)), -1)
        before = np.maximum.accumulate(at)
        if turned:
            before = len(z) - 1 - np.maximum.accumulate(np.where(other[::-1], np.arange(len(z)), -1))[::-1]
            before = np.where(before >= len(z), -1, before)
        close |= (before >= 0) & (line[before] == line) & (np.abs(z - z[before]) <= tolerance)
    far = np.zeros(len(z), dtype=bool)
    far[order] = ~close
    return far[: len(new.z)]


# quantities --------------------------------------------------------------------------------------------------
def crossing(trace: Trace) -> Quantities:
    """Those whose sign changes are places."""
    return _quantities(trace, lambda seen: [row for fn, args in seen for row in _watched(fn, args)])


def peaked(trace: Trace) -> Quantities:
    """Those whose largest values are places: exponents, and the reciprocals of divisors."""
    return _quantities(trace, lambda seen: [*_exponents(seen), *(-np.abs(row) for row in _bases(seen))])


def exponents(trace: Trace) -> Quantities:
    return _quantities(trace, _exponents)


def bases(trace: Trace) -> Quantities:
    """The divisors, and the bases of powers."""
    return _quantities(trace, _bases)


def _exponents(seen: Seen) -> list[Numbers]:
    return [args[0] for fn, args in seen if fn in ("exp", "gauss")]


def _bases(seen: Seen) -> list[Numbers]:
    own = ("div", "pow", "log", "sqrt", "power", "real_power")
    return [row for fn, args in seen if fn in own for row in _watched(fn, args)]


def _quantities(trace: Trace, rows: Callable[[Seen], Sequence[Numbers]]) -> Quantities:
    def values(line: Which, z: Array) -> Array:
        seen: Seen = []
        trace(np.broadcast_to(line, z.shape), z, seen)
        found = rows(seen)
        return np.stack([np.broadcast_to(r, z.shape) for r in found]) if found else np.zeros((0, *z.shape))

    return values


def _watched(fn: str, args: Sequence[Numbers]) -> list[Numbers]:
    if fn in ("add", "mul", "exp", "sin", "cos", "square"):
        return []
    if fn == "div":
        return [args[1]]
    if fn in ("max", "min"):
        return [args[0] - args[1]]
    if fn == "tan":
        return [np.cos(args[0])]
    kinks = PRIMITIVES[fn].kinks if fn in PRIMITIVES else ()
    return [args[0] - level for level in kinks or (0.0,)]


# searches ----------------------------------------------------------------------------------------------------
def roots(trace: Trace, line: Which, grid: Array) -> Places:
    """Sign changes on grids (lines, n), and zeros on them whose neighbours are not zero."""
    quantities = crossing(trace)
    values = quantities(line[:, None], grid)
    signs = np.sign(np.where(np.isfinite(values), values, np.nan))
    row, k, at = np.nonzero(signs[..., :-1] * signs[..., 1:] < 0)
    low, high, start = grid[k, at], grid[k, at + 1], signs[row, k, at]
    zeros = signs == 0
    alone = np.nonzero(zeros[..., 1:-1] & ~(zeros[..., :-2] & zeros[..., 2:]))
    passed = signs[alone] != signs[alone[0], alone[1], alone[2] + 2]
    found = Places(line[alone[1]], grid[alone[1], alone[2] + 1], np.where(passed, alone[0], -1))
    size = np.abs(values)
    same = (signs[..., :-2] == signs[..., 1:-1]) & (signs[..., 2:] == signs[..., 1:-1]) & ~zeros[..., 1:-1]
    dips = np.nonzero(same & (size[..., 1:-1] < size[..., :-2]) & (size[..., 1:-1] <= size[..., 2:]))
    if len(dips[0]):
        sign = signs[dips[0], dips[1], dips[2] + 1]
        ends = grid[dips[1], dips[2]], grid[dips[1], dips[2] + 2]
        z, value = highest(quantities, dips[0], line[dips[1]], *ends, -sign)
        twice = value > 0
        row = np.concatenate([row, dips[0][twice], dips[0][twice]])
        k = np.concatenate([k, dips[1][twice], dips[1][twice]])
        low, high = np.concatenate([low, ends[0][twice], z[twice]]), np.concatenate([high, z[twice], ends[1][twice]])
        start = np.concatenate([start, sign[twice], -sign[twice]])
        touched = value == 0
        found = found + Places(line[dips[1][touched]], z[touched], np.full(np.sum(touched), -1))
    own = line[k]
    for _ in range(_STEPS if len(low) else 0):
        x = low[:, None] + (high - low)[:, None] * _DOMAIN
        here = np.sign(_rows(quantities, row, own, x))
        past = here != start[:, None]
        past[:, -1], past[:, 0] = True, False
        pick, first = np.arange(len(low)), np.argmax(past, axis=1)
        high = x[pick, first]
        low = np.where(here[pick, first] == 0, high, x[pick, first - 1])
    return found + Places(own, (low + high) / 2, row)


def _rows(quantities: Quantities, row: Which, line: Which, x: Array) -> Array:
    """Quantity row_k at the points x_k of line_k."""
    return np.asarray(quantities(line[:, None], x)[row, np.arange(len(row))])


def _tops(trace: Trace, line: Which, grid: Array) -> Places:
    """Local maxima in the interior of the grids."""
    quantities = peaked(trace)
    values = quantities(line[:, None], grid)
    inner = values[..., 1:-1]
    row, k, at = np.nonzero((inner > values[..., :-2]) & (inner >= values[..., 2:]))
    z, _ = highest(quantities, row, line[k], grid[k, at], grid[k, at + 2], np.ones(len(k)))
    return Places(line[k], z, np.full(len(z), -1))


def highest(
    quantities: Quantities, row: Which, line: Which, low: Array, high: Array, factor: Array
) -> tuple[Array, Array]:
    """Where factors times quantities are largest between low and high, and how large."""
    pick = np.arange(len(low))
    best, value = (low + high) / 2, np.full(len(low), -np.inf)
    for _ in range(_STEPS if len(low) else 0):
        x = low[:, None] + (high - low)[:, None] * _DOMAIN
        heights = factor[:, None] * _rows(quantities, row, line, x)
        heights = np.where(np.isnan(heights), -np.inf, heights)
        value = np.max(heights, axis=1)
        level = heights == value[:, None]
        first = np.argmax(level, axis=1)
        beyond = ~level & (np.arange(_SECTIONS + 1) > first[:, None])
        last = np.where(beyond.any(axis=1), np.argmax(beyond, axis=1) - 1, _SECTIONS)
        best = x[pick, (first + last) // 2]  # the middle of a stretch that is level up to rounding
        low, high = x[pick, np.maximum(first - 1, 0)], x[pick, np.minimum(last + 1, _SECTIONS)]
    return best, value


__all__ = ["Places", "Trace", "bases", "crossing", "exponents", "highest", "on_lines", "peaked", "places", "roots"]
