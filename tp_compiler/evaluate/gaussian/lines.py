"""E f(x) along Gaussian axes where no fixed rule can be trusted: poles, needles, powers, heavy tails.

x = mean + slope z, z ~ N(0, 1), on one line or on many parallel ones. An axis is cut at every place where f may be
singular, steep or kinked; panels shrink geometrically towards it, so that a feature of any width is seen, and are halved
until Gauss-Legendre rules agree (adaptive quadrature: de Boor 1971). The remainder at a singular place is a power A d^α:
integrated in closed form for α > -1; otherwise E|f| = ∞. An axis ends where |f| φ becomes negligible,
unless f grows too fast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Array, Mask, Numbers, Whole
from tp_compiler.evaluate.budget import current

FARTHEST = 38.5  # φ underflows here
FALLEN = 42.0  # |f| φ below e^-42 of its peak is negligible
WIDEST = 0.75  # of a panel
EXACT_END = 1e-30  # panels shrink to this distance from a place known exactly,
NEAR_END = 1e-8  # to this one from a singular place known up to rounding,
SMALLEST = 250  # needles are searched for down to this many powers of ten below a distance
SMALL_END = 1e-15  # and to this one from any other
WEAK = -0.1  # weaker singularities, such as logarithms, are resolved completely
POLE = 1e-4  # an exponent this close to -1 is -1
MOST_PANELS = 30_000
NODES, WEIGHTS = (1 + np.polynomial.legendre.leggauss(12)[0]) / 2, np.polynomial.legendre.leggauss(12)[1] / 2

Function = Callable[[Array], Array]  # points (..., p) to values (...)
Known = Callable[[Array], tuple[Array, Numbers]]  # to values, and how far they are off
Which = Whole  # lines


class Infinite(Exception):
    """E|f| = ∞; gives the place responsible."""


class Unsettled(Exception):
    """The reason why the integral is not known."""


@dataclass(frozen=True)
class Care:
    """How closely axes are examined."""

    rtol: float = 1e-13
    exact_end: float = EXACT_END
    ratio: float = 4.0  # by which panels shrink
    step: float = 0.125  # at which the ends are looked for
    most: int = MOST_PANELS  # of a line
    closest: float = 0.0  # places nearer to 0 are known to the rounding of this, others to that of their own size


@dataclass(frozen=True, eq=False)
class Panels:
    """Intervals [z_k + low, z_k + high] next to the places z_k to which they shrink; `base` is x at z_k."""

    line: Which
    place: Array
    base: Array  # (panels, p)
    low: Array
    high: Array

    def halves(self) -> Panels:
        middle = (self.low + self.high) / 2
        return Panels(
            np.concatenate([self.line, self.line]),
            np.concatenate([self.place, self.place]),
            np.concatenate([self.base, self.base]),
            np.concatenate([self.low, middle]),
            np.concatenate([middle, self.high]),
        )

    def of(self, which: Array) -> Panels:
        return Panels(self.line[which], self.place[which], self.base[which], self.low[which], self.high[which])


@dataclass(frozen=True, eq=False)
class Sides:
    """Both sides of every place, as far as halfway to the next place or to the end of the axis; both halves of a line
    without places."""

    line: Which
    place: Array
    base: Array  # (sides, p)
    sign: Array
    length: Array
    exact: Any  # whether a coordinate is exactly 0 there
    placed: Any  # whether there is a place
    blur: Array  # the scale of what rounding moves a place by, 1 at most

    def of(self, which: Which | Mask) -> Sides:
        return Sides(*(getattr(self, f.name)[which] for f in fields(self)))


@dataclass(frozen=True, eq=False)
class Remainders:
    """The remainders next to places: ∫ A d^α over 0 < d < end, and their accuracy."""

    line: Which
    place: Array
    start: Array  # (tails, p), the point at d = end
    value: Array
    error: Array


@dataclass(frozen=True, eq=False)
class Cut:
    """Axes as panels, with the parts they leave out: tails next to singular places, and the ends. `faults` gives the reason why
    the integral along a line is not known."""

    count: int
    panels: Panels
    tails: Remainders
    beyond: Array
    faults: dict[int, Exception] = field(default_factory=dict)


def integral(
    function: Function, mean: Array, slope: Array, places: Iterable[float], care: Care = Care()
) -> tuple[float, float]:
    """(E f, its error). Raises Infinite where E|f| = ∞, Unsettled where the integral cannot be known."""
    value, error = settled(exactly(function), slope, divided(function, mean, slope, places, care), care)
    return float(value[0]), float(error[0])


def integrals(
    function: Function, mean: Array, slope: Array, line: Which, places: Array, care: Care = Care()
) -> tuple[Array, Array]:
    """The same on the lines through mean (lines, p), with places on them; ∞ where E|f| = ∞, and not a number where the
    integral cannot be known."""
    cut = _cut(function, mean, slope, line, places, care)
    value, error = settled(exactly(function), slope, cut, care)
    for k, reason in cut.faults.items():
        value[k] = np.inf if isinstance(reason, Infinite) else np.nan
    return value, np.where(np.isfinite(value), error, np.inf)


def divided(function: Function, mean: Array, slope: Array, places: Iterable[float], care: Care = Care()) -> Cut:
    """One axis cut for f."""
    inside = np.array([float(z) for z in places])
    cut = _cut(function, mean[None], slope, np.zeros(len(inside), dtype=np.intp), inside, care)
    for reason in cut.faults.values():
        raise reason
    return cut


def exactly(function: Function) -> Known:
    return lambda x: (function(x), 0.0)


def ends(function: Function, mean: Array, slope: Array, care: Care) -> tuple[float, float]:
    """The ends of one axis for f."""
    faults: dict[int, Exception] = {}
    low, high, _ = _ends(function, mean[None], slope, care, faults)
    for reason in faults.values():
        raise reason
    return float(low[0]), float(high[0])


def settled(function: Known, slope: Array, cut: Cut, care: Care) -> tuple[Array, Array]:
    """The integrals over a cut, and their errors."""
    value, error, size = _adaptive(function, slope, cut, care)
    left = _total(cut.tails.line, cut.tails.value, cut.count)
    unsure = _total(cut.tails.line, cut.tails.error, cut.count)
    return value + left, error + unsure + cut.beyond + 2.0**-50 * size


def _total(line: Which, values: Array, count: int) -> Array:
    """Sums over each line."""
    if count == 1:
        return np.array([math.fsum(values)])
    return np.asarray(np.bincount(line, values, count), dtype=np.float64)


# places, ends and tails --------------------------------------------------------------------------------------
def _cut(function: Function, mean: Array, slope: Array, line: Which, places: Array, care: Care) -> Cut:
    current().poll()
    faults: dict[int, Exception] = {}
    low, high, beyond = _ends(function, mean, slope, care, faults)
    sides = _sides(mean, slope, low, high, line, places, care)
    end = np.zeros(len(sides.line))
    tails, end[sides.placed] = _tails(function, slope, sides.of(sides.placed), care, faults)
    return Cut(len(mean), _graded(sides, end, care.ratio), tails, beyond, faults)


def _sides(mean: Array, slope: Array, low: Array, high: Array, line: Which, z: Array, care: Care) -> Sides:
    inside = (low[line] < z) & (z < high[line])
    line, z = line[inside], z[inside]
    without = np.setdiff1d(np.arange(len(mean)), line)
    line = np.concatenate([line, without])
    z = np.concatenate([z, (low[without] + high[without]) / 2])
    order = np.lexsort((z, line))
    line, z = line[order], z[order]
    first = np.append(True, line[1:] != line[:-1])
    blur = np.maximum(_blurred(mean, slope)[line] + np.abs(z), care.closest)
    apart = np.append(True, np.diff(z) > 1e-13 * blur[1:])
    line, z, blur = line[first | apart], z[first | apart], np.minimum(blur[first | apart], 1.0)
    first = np.append(True, line[1:] != line[:-1])
    last = np.append(first[1:], True)
    middle = (z[1:] + z[:-1]) / 2
    left = np.where(first, low[line], np.append(0.0, middle))
    right = np.where(last, high[line], np.append(middle, 0.0))
    base = _snapped(mean[line], slope, z)
    exact = np.any((base == 0) & (slope != 0), axis=1)
    sign = np.repeat([-1.0, 1.0], len(z))
    length = np.concatenate([z - left, right - z])
    placed = np.tile(~np.isin(line, without), 2)
    exact, blur = np.tile(exact, 2), np.tile(blur, 2)
    return Sides(np.tile(line, 2), np.tile(z, 2), np.tile(base, (2, 1)), sign, length, exact, placed, blur)


def _blurred(mean: Array, slope: Array) -> Array:
    """How far from 0, in deviations, the zeros of the coordinates of each line lie: places are sums of such distances."""
    moving = slope != 0
    apart = np.abs(mean) / np.where(moving, np.abs(slope), 1.0)
    return np.asarray(np.max(np.where(moving, apart, 0.0), axis=1, initial=0.0))


def _snapped(mean: Array, slope: Array, z: Array) -> Array:
    """x at z; a coordinate that is 0 up to rounding is 0, so that its smallest values keep all their digits."""
    moved = slope * z[:, None]
    base = mean + moved
    return np.where(np.abs(base) <= 8 * 2.0**-52 * (np.abs(mean) + np.abs(moved)), 0.0, base)


def _graded(sides: Sides, end: Array, ratio: float) -> Panels:
    """Panels from `end` to the length of each side: geometric near the place, then even."""
    near = np.where(sides.placed, np.minimum(sides.length, 0.5), 0.0)
    geometric = np.zeros(len(end), dtype=np.intp)
    own = sides.placed
    geometric[own] = np.maximum(np.ceil(np.log(near[own] / end[own]) / math.log(ratio)), 0)
    even = np.ceil((sides.length - near) / WIDEST).astype(np.intp)
    of, k = _counted(geometric)
    low = np.where(k == geometric[of] - 1, end[of], near[of] * ratio ** -(k + 1.0))
    high = near[of] * ratio**-k
    beyond, m = _counted(even)
    step = (sides.length[beyond] - near[beyond]) / even[beyond]
    of = np.concatenate([of, beyond])
    low = np.concatenate([low, near[beyond] + m * step])
    high = np.concatenate([high, near[beyond] + (m + 1) * step])
    sign = sides.sign[of]
    ends = np.where(sign > 0, low, -high), np.where(sign > 0, high, -low)
    return Panels(sides.line[of], sides.place[of], sides.base[of], *ends)


def _counted(counts: Which) -> tuple[Which, Array]:
    """Each index repeated as often as its count, with 0, 1, .. for each repetition."""
    of = np.repeat(np.arange(len(counts)), counts)
    return of, np.arange(len(of), dtype=np.float64) - np.repeat(np.cumsum(counts) - counts, counts)


def _tails(
    function: Function, slope: Array, sides: Sides, care: Care, faults: dict[int, Exception]
) -> tuple[Remainders, Array]:
    """The power of f next to each place, on each side, and the distance up to which it holds."""
    end = np.minimum(np.where(sides.exact, care.exact_end, NEAR_END * sides.blur), 1e-3 * sides.length)
    own = np.flatnonzero(sides.exact)
    end[own] = _narrower(function, slope, sides.of(own), end[own])
    values, end = _beside(function, slope, sides, end)
    sizes = np.abs(values)
    density = np.exp(-(sides.place**2) / 2) / math.sqrt(2 * math.pi)
    with np.errstate(all="ignore"):
        first, second = np.diff(np.log10(sizes), axis=1).T
        known = np.all(np.isfinite(sizes), axis=1)
        vanishes = known & ~np.all(sizes > 0, axis=1)
        rest = known & ~vanishes
        regular = rest & ~sides.exact & (first > WEAK)
        open_ = np.flatnonzero(rest & ~sides.exact & ~regular)
        regular[open_] = ~_go_on(function, slope, sides, open_, first[open_], sizes[open_, 0])
        grows = rest & ~regular & (first <= -1 + POLE)
        singular = rest & ~regular & ~grows
        end = np.where(~sides.exact & (vanishes | regular), np.minimum(SMALL_END * sides.blur, end), end)
        left = np.where(singular, values[:, 0] * end / (1 + first) * density, 0.0)
        drift = np.minimum(1.0, 40 * (np.abs(first - second) + 1e-13) / (1 + first) + end)
        error = np.where(singular, np.abs(left) * drift, np.where(regular, 10.0, 1.0) * sizes[:, 0] * end * density)
    for k in np.flatnonzero(~known):
        faults.setdefault(int(sides.line[k]), Unsettled("a function that is not finite"))
    for k in np.flatnonzero(grows):
        if abs(first[k] - second[k]) > 0.05:
            reason: Exception = Unsettled("a function that is hardly integrable")
        else:
            reason = Infinite(f"near {_shown(sides.base[k])} it grows like |d|^{first[k]:.3g}")
        faults.setdefault(int(sides.line[k]), reason)
    start = sides.base + (sides.sign * end)[:, None] * slope
    return Remainders(sides.line, sides.place, start, left, error), end


def _narrower(function: Function, slope: Array, sides: Sides, end: Array) -> Array:
    """Where f has more mass at or within `end` of a place known exactly than beyond, the distance within which there is none:
    a needle. A power that is not finite at the place has no such mass, or no end of it."""
    end = end.copy()
    left = np.flatnonzero(np.isfinite(function(sides.base)))
    if not len(left):
        return end
    shares = 10.0 ** np.arange(2, -SMALLEST, -1.0)  # of `end`
    d = end[left, None] * shares
    values = np.abs(function(sides.base[left, None, :] + slope * (sides.sign[left, None] * d)[..., None]))
    mass = np.where(np.isfinite(values), values, 0.0) * shares
    peak = np.argmax(mass, axis=1)
    largest = mass[np.arange(len(left)), peak]
    gone = (mass < 2.0**-60 * largest[:, None]) & (np.arange(len(shares)) > peak[:, None])
    inside = (peak > 0) & gone.any(axis=1)
    end[left[inside]] *= shares[np.argmax(gone[inside], axis=1)]
    return end


def _beside(function: Function, slope: Array, sides: Sides, end: Array) -> tuple[Array, Array]:
    """f at three distances from each place, the smallest at which it is finite; and the first of them."""
    end, values = end.copy(), np.full((len(end), 3), np.nan)
    left = np.arange(len(end))
    while len(left):
        d = sides.sign[left, None] * end[left, None] * np.array([1.0, 10.0, 100.0])
        found = function(sides.base[left, None, :] + slope * d[..., None])
        fine = np.all(np.isfinite(found), axis=1)
        values[left[fine]] = found[fine]
        left = left[~fine]
        end[left] *= 1e4
        left = left[end[left] < 1e-3]
    return values, end


def _go_on(function: Function, slope: Array, sides: Sides, which: Which, power: Array, size: Array) -> Mask:
    """Whether the powers found at NEAR_END hold down to the rounding of the place; otherwise f is steep, not singular."""
    if not len(which):
        return np.zeros(0, dtype=bool)
    nearer = 1e-5 * NEAR_END * sides.blur[which] * sides.sign[which]
    inner = np.abs(function(sides.base[which] + nearer[:, None] * slope))
    return np.isfinite(inner) & (inner > 0) & (np.abs(np.log10(inner / size) / -5.0 - power) < 0.03)


def _shown(base: Array) -> str:
    return ", ".join(f"{x:.6g}" for x in np.atleast_1d(base))


def _ends(
    function: Function, mean: Array, slope: Array, care: Care, faults: dict[int, Exception]
) -> tuple[Array, Array, Array]:
    """Where |f| φ becomes negligible on either side of each line, and a bound of the rest."""
    z = np.arange(0.0, FARTHEST, care.step)
    z = z[: len(z) // 4 * 4]
    logs = [_logs(function, mean, slope, sign * (z + 0.0317)) for sign in (-1.0, 1.0)]
    peak = np.max([np.max(np.where(own < np.inf, own - z**2 / 2, -np.inf), axis=1) for own in logs], axis=0)
    ends, beyond = np.full((2, len(mean)), 10.0), np.zeros(len(mean))
    for side, own in enumerate(logs):
        size = np.max(own.reshape(len(own), -1, 4), axis=2)
        far = z[3::4]
        seen = size - far**2 / 2 > peak[:, None] - FALLEN
        last = np.where(seen.any(axis=1), len(far) - 1 - np.argmax(seen[:, ::-1], axis=1), 0)
        ends[side] = np.where(np.isfinite(peak), np.maximum(far[last] + 1.0, 2.0), 10.0)
        for k in np.flatnonzero(np.isfinite(peak) & ((last == len(far) - 1) | np.any(own == np.inf, axis=1))):
            try:
                ends[side, k], more = _end(own[k], z, float(peak[k]))
                beyond[k] += more
            except (Infinite, Unsettled) as reason:
                faults.setdefault(int(k), reason)
    return -ends[0], ends[1], beyond


def _logs(function: Function, mean: Array, slope: Array, z: Array) -> Array:
    """log|f|; +∞ where f overflows or is undefined."""
    value = np.abs(function(mean[:, None, :] + slope * z[:, None]))
    return np.where(np.isfinite(value), np.log(np.where(value > 0, value, 1.0)), np.inf) + np.where(
        value == 0, -np.inf, 0
    )


def _end(logs: Array, z: Array, peak: float) -> tuple[float, float]:
    over = np.flatnonzero(logs == np.inf)
    if len(over) and np.any(logs[over[0] :] < np.inf):
        over = over[:0] if len(over) < 4 else over  # a pole hit by chance
    stop = over[0] if len(over) else len(z)
    blocks = stop // 4
    if blocks < 2:
        raise Unsettled("a function that overflows")
    here = slice(stop - 4 * blocks, stop)
    size = np.max(np.where(logs == np.inf, -np.inf, logs)[here].reshape(blocks, 4), axis=1)
    far = z[here][3::4]
    height = size - far**2 / 2
    seen = np.flatnonzero(height > peak - FALLEN)
    last = seen[-1] if len(seen) else 0
    if last < blocks - 1:
        return float(max(far[last] + 1.0, 2.0)), 0.0
    return _cut_off(far, size, height)


def _cut_off(far: Array, size: Array, height: Array) -> tuple[float, float]:
    """Where |f| φ is not negligible when f overflows, or φ underflows."""
    earlier = int(np.searchsorted(far, 0.8 * far[-1]))
    rising = height[-1] > height[earlier] and height[-1] >= height[-2]
    if rising and size[earlier] > 0:
        growth = math.log(size[-1] / size[earlier]) / math.log(far[-1] / far[earlier])
        if growth > 1.98:
            raise Infinite(f"it grows like exp(|d|^{growth:.2g}) or faster in the tail")
    rate = (height[-2] - height[-1]) / (far[-1] - far[-2])
    if rising or rate < 0.05:
        raise Unsettled("an average carried by values too large for doubles")
    return float(far[-1]), math.exp(height[-1]) / rate


# panels ------------------------------------------------------------------------------------------------------
def _adaptive(function: Known, slope: Array, cut: Cut, care: Care) -> tuple[Array, Array, Array]:
    """Σ over the panels of each line, halved until two rules agree: value, error, and the integral of |f|."""
    count, panels = cut.count, cut.panels
    done, lost, mass = np.zeros(count), np.zeros(count), np.zeros(count)
    whole, size, off = summed(function, slope, panels)
    for _ in range(40):
        halves = panels.halves()
        parts, sizes, offs = summed(function, slope, halves)
        n = len(whole)
        both, size, off = (a[:n] + a[n:] for a in (parts, sizes, offs))
        error = np.abs(whole - both)
        value = done + _total(halves.line, parts, count)
        if not np.all(np.isfinite(value)):
            if count == 1:
                raise Unsettled("a function that is not finite")
            for k in np.flatnonzero(~np.isfinite(value)):
                cut.faults.setdefault(int(k), Unsettled("a function that is not finite"))
        total = mass + _total(halves.line, sizes, count)
        budget = np.maximum(care.rtol * np.abs(value), 2.0**-51 * total)
        left = np.bincount(panels.line, minlength=count)
        enough = (_total(panels.line, error, count) + lost <= budget) | (left > care.most) | ~np.isfinite(value)
        own = np.maximum(budget[panels.line] / np.maximum(64, 2 * left[panels.line]), 2.0**-52 * size)
        fine = (error <= np.maximum(own, off)) | enough[panels.line]
        done = done + _total(panels.line[fine], both[fine], count)
        lost = lost + _total(panels.line[fine], (error + off)[fine], count)
        mass = mass + _total(panels.line[fine], size[fine], count)
        again = np.concatenate([~fine, ~fine])
        panels, whole, size = halves.of(again), parts[again], sizes[again]
        if not len(whole):
            return done, lost, mass
    lines, total = panels.line, _total(panels.line, size, count)
    return done + _total(lines, whole, count), lost + total, mass + total


def summed(function: Known, slope: Array, panels: Panels) -> tuple[Array, Array, Array]:
    """∫ f φ and ∫ |f| φ over each panel, and the error of the first due to the error of f."""
    current().poll(panels.low.size * NODES.size * slope.size)
    x, weights = rule(slope, panels)
    values, off = function(x)
    own = weights * values
    return own.sum(axis=1), np.abs(own).sum(axis=1), np.sum(weights * off, axis=1)


def rule(slope: Array, panels: Panels) -> tuple[Array, Array]:
    """Nodes x (panels, nodes, p), and weights with φ in them."""
    width = panels.high - panels.low
    d = panels.low[:, None] + width[:, None] * NODES
    z = panels.place[:, None] + d
    x = panels.base[:, None, :] + slope * d[..., None]
    return x, width[:, None] * WEIGHTS * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
