"""E f(x) of one function of two Gaussian axes that is narrow, unbounded or kinked along curves: nested rules (lines.py).

f is integrated over the inner axis at each value of the outer one, on many lines at once, each with its own places. The
result is a function of the outer axis, singular, steep or kinked only where the pattern of inner places changes:
where places appear, vanish or change order, and where an exponent or the reciprocal of a divisor is largest over the
whole inner axis.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.budget import current
from tp_compiler.evaluate.gaussian import features, lines
from tp_compiler.evaluate.gaussian.features import Which
from tp_compiler.evaluate.gaussian.lines import FARTHEST, Care, Function, Unsettled
from tp_compiler.evaluate.gaussian.univariate import Seen

INNER = Care(
    closest=1.0, rtol=1e-12, ratio=16.0, exact_end=1e-60, most=4000
)  # a place of the inner axis may be as near as the outer one is
OUTER = Care(closest=1.0, rtol=1e-10, ratio=16.0, step=0.5, most=800)
LINES = 256  # at a time
GRID = np.linspace(-FARTHEST, FARTHEST, 309)  # of the inner axis, where places are only counted
SPAN = 101  # points of the outer axis at which the inner one is compared
LOOKS = np.array([-2.1, -0.97, -0.31, 0.43, 1.13, 1.9])  # points at which the choice of the inner axis is tested
DECADES = 10.0 ** -np.arange(0.0, 16.0)
AROUND = np.concatenate([-DECADES, [0.0], DECADES[::-1]])
SAME = 1e-11  # heights that differ by less, relatively, are the same
BESIDE = 1e-6  # a distance at which slopes are measured
ROUNDING = 64 * 2.0**-52
NEAR = 1e-3  # distance from a place of the outer axis at which apparent changes are rounding, except near 0
MOST_EVENTS = 24
_SECTIONS, _STEPS = 16, 14
_DOMAIN = np.arange(_SECTIONS + 1) / _SECTIONS

#: The signs at the end of a line, and what passes 0 along it, in order.
Picture = tuple[tuple[float, ...], tuple[int, ...]]
Watch = Callable[[Array, Seen], None]  # points (..., p)


@dataclass(frozen=True, eq=False)
class Plane:
    """x = mean + outer t + inner z; `watch` records the primitives in the function."""

    function: Function
    watch: Watch
    mean: Array
    outer: Array
    inner: Array

    def trace(self, x: Array) -> features.Trace:
        """Along the inner axis, from points (lines, p) on."""

        def trace(line: Which, z: Array, seen: Seen) -> None:
            current().poll(2.0 * z.size)
            self.watch(x[line] + self.inner * z[..., None], seen)

        return trace

    def at(self, t: Array) -> Array:
        return self.mean + self.outer * t[:, None]


def integral(plane: Plane) -> tuple[float, float]:
    """(E f, its error). Raises Infinite where E|f| = ∞, Unsettled where the integral cannot be known."""
    plane = min(plane, replace(plane, outer=plane.inner, inner=plane.outer), key=_inner_places)
    over = _Sections(plane)

    def values(x: Array) -> Array:
        return over.both(x)[0]

    events = _events(plane, *lines.ends(values, plane.mean, plane.outer, OUTER))
    cut = lines.divided(values, plane.mean, plane.outer, events, OUTER)
    value, error = lines.settled(over.both, plane.outer, cut, OUTER)
    singular = cut.tails.value != 0
    size, off = over.both(cut.tails.start[singular])
    share = np.where(np.isfinite(off / size), off / np.abs(size), 1.0)
    unsure = float(np.sum(np.abs(cut.tails.value[singular]) * share))
    if not np.isfinite(value[0] + error[0] + unsure):
        raise Unsettled("a function that is not finite")
    return float(value[0]), float(error[0]) + unsure


def _inner_places(plane: Plane) -> int:
    """The number of places on a few lines."""
    trace = plane.trace(plane.at(LOOKS))
    return len(features.on_lines(trace, len(LOOKS), -FARTHEST, FARTHEST).z)


class _Sections:
    """The integral over the inner axis, as a function of points on the outer one."""

    def __init__(self, plane: Plane):
        self.plane = plane

    def both(self, x: Array) -> tuple[Array, Array]:
        plane = self.plane
        flat = x.reshape(-1, x.shape[-1])
        found = np.empty((2, len(flat)))
        for start in range(0, len(flat), LINES):
            current().poll()
            own = flat[start : start + LINES]
            places = features.on_lines(plane.trace(own), len(own), -FARTHEST, FARTHEST)
            found[:, start : start + LINES] = lines.integrals(
                plane.function, own, plane.inner, places.line, places.z, INNER
            )
        return found[0].reshape(x.shape[:-1]), found[1].reshape(x.shape[:-1])


# where the outer axis is cut ---------------------------------------------------------------------------------
def _events(plane: Plane, low: float, high: float) -> list[float]:
    """Where the pattern of inner places changes between low and high, and where its highest point is highest."""
    found: list[float] = []
    _add(found, plane, np.linspace(low, high, SPAN), low, high)
    inside = [t + AROUND[np.abs(AROUND) >= NEAR] for t in found]
    with suppress(Unsettled):  # rounding next to a place looks like many places
        _add(found, plane, np.concatenate([[low], *inside]), low, high)
    return found


def _add(found: list[float], plane: Plane, grid: Array, low: float, high: float) -> None:
    grid = np.unique(np.clip(np.concatenate([grid, AROUND]), low, high))
    new = list(found)
    for t in (*_changes(plane, grid), *_summits(plane, grid)):
        if _apart(t, new):
            new.append(t)
    if len(new) > MOST_EVENTS:
        raise Unsettled("a function with too many places")
    found[:] = new


def _apart(t: float, found: list[float]) -> bool:
    return all(abs(t - other) > 1e-9 * max(1e-3, abs(other)) for other in found)


def _picture(plane: Plane, t: Array) -> list[Picture]:
    """For each line: the signs at the end of the inner axis, and the quantities that pass 0 along it, in order."""
    x = plane.at(t)
    trace, every = plane.trace(x), np.arange(len(t))
    roots = features.roots(trace, every, np.broadcast_to(GRID, (len(t), len(GRID))))
    roots = roots.of(np.asarray(roots.row >= 0))
    order = np.lexsort((roots.z, roots.line))
    bounds = np.searchsorted(roots.line[order], [*every, len(t)])
    rows = roots.row[order]
    signs = np.sign(features.crossing(trace)(every[:, None], np.full((len(t), 1), GRID[0])))[..., 0]
    return [(tuple(signs[:, k]), tuple(rows[bounds[k] : bounds[k + 1]])) for k in every]


def _differ(a: Picture, b: Picture) -> bool:
    """Whether more has changed than that a place has left at an end of the axis."""
    return a != b and abs(len(a[1]) - len(b[1])) != 1


def _changes(plane: Plane, grid: Array) -> list[float]:
    pictures = _picture(plane, grid)
    change = np.array([_differ(a, b) for a, b in itertools.pairwise(pictures)], dtype=bool)
    alone = change[:-1] & change[1:] & (grid[2:] - grid[:-2] < 1e-12)  # at a point of the grid, exactly
    found = [float(t) for t in grid[1:-1][alone]]
    change[:-1] &= ~alone
    change[1:] &= ~alone
    at = np.flatnonzero(change)
    if len(at) > MOST_EVENTS:
        raise Unsettled("a function with too many places")
    low, high = grid[at], grid[at + 1]
    start = [pictures[k] for k in at]
    for _ in range(_STEPS if len(at) else 0):
        current().poll()
        t = low[:, None] + (high - low)[:, None] * _DOMAIN
        own = _picture(plane, t[:, 1:-1].ravel())
        for k, first in enumerate(start):
            here = own[k * (_SECTIONS - 1) : (k + 1) * (_SECTIONS - 1)]
            n = next((n for n, p in enumerate(here) if _differ(first, p)), _SECTIONS - 1)
            low[k], high[k] = t[k, n], t[k, n + 1]
    return [*found, *(float(t) for t in (low + high) / 2)]


def _heights(plane: Plane, row: Which, t: Array, exponents: bool) -> Array:
    """The largest value of exponent row_k along the inner axis, or minus the least size of a divisor (0 where it passes
    0), at outer points t (k, n)."""
    count, n = t.shape
    trace, every, own = plane.trace(plane.at(t.ravel())), np.arange(count * n), np.repeat(row, n)
    quantities = (features.exponents if exponents else features.bases)(trace)
    values = quantities(every[:, None], np.broadcast_to(GRID, (len(every), len(GRID))))[own, every]
    highest = values if exponents else -np.abs(values)
    at = np.argmax(np.where(np.isnan(highest), -np.inf, highest), axis=1)
    factor = np.ones(len(every)) if exponents else -np.sign(values[every, at])
    low, high = GRID[np.maximum(at - 1, 0)], GRID[np.minimum(at + 1, len(GRID) - 1)]
    z, best = features.highest(quantities, own, every, low, high, factor)
    if not exponents:
        passes = np.any(values * factor[:, None] >= 0, axis=1) | _touches(quantities, own, every, z, -best)
        best = np.where(passes, 0.0, best)
    return best.reshape(count, n)


def _touches(quantities: features.Quantities, row: Which, line: Which, z: Array, least: Array) -> Array:
    """Whether a quantity is 0 at z up to rounding: its size turns there like |z|, and `least` is within rounding of 0."""
    touches = np.zeros(len(z), dtype=bool)
    for step in (np.full(len(z), BESIDE), 1e-3 * np.abs(z)):
        x = z[:, None] + step[:, None] * np.array([-1.0, -0.5, 0.5, 1.0])
        beside = np.abs(quantities(line[:, None], x)[row, line])
        straight = np.all(np.abs(beside[:, [0, 3]] - 2 * beside[:, 1:3]) <= 0.1 * beside[:, [0, 3]], axis=1)
        rounding = ROUNDING * np.maximum(np.abs(z), GRID[1] - GRID[0]) * np.max(beside, axis=1)
        touches |= straight & (least * step <= rounding)
    return touches


def _summits(plane: Plane, grid: Array) -> list[float]:
    return [t for exponents in (True, False) for t in _summits_of(plane, grid, exponents)]


def _summits_of(plane: Plane, grid: Array, exponents: bool) -> list[float]:
    quantities = features.exponents if exponents else features.bases
    count = len(quantities(plane.trace(plane.at(grid[:1])))(np.zeros((1, 1), dtype=np.intp), np.zeros((1, 1))))
    if not count:
        return []
    row = np.arange(count)
    heights = _heights(plane, row, np.broadcast_to(grid, (count, len(grid))), exponents)
    slack = SAME * np.abs(heights[:, 1:-1])
    left, right = heights[:, 1:-1] - heights[:, :-2], heights[:, 1:-1] - heights[:, 2:]
    row, at = np.nonzero(((left > slack) & (right >= -slack)) | ((right > slack) & (left >= -slack)))
    if len(at) > 2 * MOST_EVENTS:
        raise Unsettled("a function with too many places")
    backwards = left[row, at] <= slack[row, at]
    low, high = np.where(backwards, grid[at + 2], grid[at]), np.where(backwards, grid[at], grid[at + 2])
    pick, best = np.arange(len(at)), grid[at + 1]
    for _ in range(_STEPS if len(at) else 0):
        current().poll()
        t = low[:, None] + (high - low)[:, None] * _DOMAIN
        own = _heights(plane, row, t, exponents)
        top = np.max(own, axis=1, keepdims=True)
        first = np.argmax(own >= top - SAME * np.abs(top), axis=1)
        best = t[pick, first]
        low, high = t[pick, np.maximum(first - 1, 0)], t[pick, np.minimum(first + 1, _SECTIONS)]
    return [float(t) for t in best]
