"""E f(x) along one Gaussian axis where no fixed rule can be trusted: poles, needles, powers, heavy tails.

x = mean + slope z, z ~ N(0, 1). The axis is cut at every place where f may be singular, steep or kinked; panels shrink
geometrically towards it, so that a feature of any width is seen, and are halved until Gauss-Legendre rules agree
(adaptive quadrature: de Boor 1971). What is left at a singular place is a power A d^α: integrated in closed form for
α > -1, and the proof that E|f| = ∞ below. The axis ends where |f| φ has fallen to nothing; f may also grow too fast.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from tp_compiler.evaluate.budget import current
from tp_compiler.evaluate.gaussian.univariate import Array

FARTHEST = 38.5  # φ underflows here
FALLEN = 42.0  # |f| φ below e^-42 of its peak is nothing
WIDEST = 0.75  # of a panel
EXACT_END = 1e-30  # panels shrink to this distance from a place known exactly,
NEAR_END = 1e-8  # to this one from a singular place known up to rounding,
SMALL_END = 1e-15  # and to this one from any other
POLE = 1e-4  # an exponent this close to -1 is -1
MOST_PANELS = 30_000
NODES, WEIGHTS = (1 + np.polynomial.legendre.leggauss(12)[0]) / 2, np.polynomial.legendre.leggauss(12)[1] / 2

Function = Callable[[Array], Array]  # points (..., p) to values (...)


class Infinite(Exception):
    """E|f| = ∞; says where f is to blame."""


class Unsettled(Exception):
    """What keeps the integral from being known."""


@dataclass(frozen=True, eq=False)
class Panels:
    """Intervals [z_k + low, z_k + high] beside the places z_k they shrink to; `base` is x at z_k."""

    place: Array
    base: Array  # (panels, p)
    low: Array
    high: Array

    def halves(self) -> Panels:
        middle = (self.low + self.high) / 2
        return Panels(
            np.concatenate([self.place, self.place]),
            np.concatenate([self.base, self.base]),
            np.concatenate([self.low, middle]),
            np.concatenate([middle, self.high]),
        )

    def of(self, which: Array) -> Panels:
        return Panels(self.place[which], self.base[which], self.low[which], self.high[which])


@dataclass(frozen=True, eq=False)
class Tail:
    """What is left beside a singular place: ∫ A d^α over 0 < d < end, and how well that is known."""

    place: float
    end: float
    value: float
    error: float


@dataclass(frozen=True, eq=False)
class Cut:
    """The axis as panels, with what they leave out: tails beside singular places, and the ends."""

    panels: Panels
    tails: list[Tail]
    beyond: float


def integral(
    function: Function, mean: Array, slope: Array, places: Iterable[float], rtol: float
) -> tuple[float, float]:
    """(E f, its error). Raises Infinite where E|f| = ∞, Unsettled where the integral cannot be known."""
    current().poll()
    cut = divided(function, mean, slope, places)
    value, error, size = _adaptive(function, slope, cut.panels, rtol)
    left = math.fsum(t.value for t in cut.tails)
    unsure = math.fsum(t.error for t in cut.tails)
    return value + left, error + unsure + cut.beyond + 2.0**-50 * size


def divided(function: Function, mean: Array, slope: Array, places: Iterable[float]) -> Cut:
    """The axis cut for f."""
    low, high, beyond = _ends(function, mean, slope)
    inside = sorted({float(z) for z in places if low < z < high}) or [(low + high) / 2]
    kept = [inside[0]]
    for z in inside[1:]:
        if z - kept[-1] > 1e-13 * max(1.0, abs(z)):
            kept.append(z)
    edges = [low, *((a + b) / 2 for a, b in itertools.pairwise(kept)), high]
    panels: list[Panels] = []
    tails: list[Tail] = []
    for k, z in enumerate(kept):
        base = _snapped(mean, slope, z)
        for sign, length in ((-1.0, z - edges[k]), (1.0, edges[k + 1] - z)):
            tail = _tail(function, z, base, slope, sign, length, bool(np.any((base == 0) & (slope != 0))))
            tails.append(tail)
            cuts = _graded(tail.end, length)
            ends = sign * cuts
            n = len(cuts) - 1
            near, far = (ends[:-1], ends[1:]) if sign > 0 else (ends[1:], ends[:-1])
            panels.append(Panels(np.full(n, z), np.tile(base, (n, 1)), near, far))
    together = Panels(
        *(np.concatenate([getattr(p, name) for p in panels]) for name in ("place", "base", "low", "high"))
    )
    return Cut(together, tails, beyond)


def _snapped(mean: Array, slope: Array, z: float) -> Array:
    """x at z; a coordinate that is 0 up to rounding is 0, so that its smallest values keep all their digits."""
    base = mean + slope * z
    return np.where(np.abs(base) <= 8 * 2.0**-52 * (np.abs(mean) + np.abs(slope * z)), 0.0, base)


def _graded(end: float, length: float) -> Array:
    """0 or `end` < … < length: geometric near 0, then even."""
    near = min(length, 0.5)
    count = max(0, math.ceil(math.log(near / end) / math.log(4.0))) if end < near else 0
    geometric = near * 4.0 ** -np.arange(count, -1.0, -1.0)
    geometric[0] = min(end, near)
    even = np.linspace(near, length, math.ceil((length - near) / WIDEST) + 1)[1:]
    return np.concatenate([geometric, even])


def _tail(function: Function, z: float, base: Array, slope: Array, sign: float, length: float, exact: bool) -> Tail:
    """The power that f is beside a place, on one side."""
    end = min(EXACT_END if exact else NEAR_END, 1e-3 * length)
    while end < 1e-3:
        d = end * np.array([1.0, 10.0, 100.0])
        sizes = np.abs(function(base + sign * slope * d[:, None]))
        if np.all(np.isfinite(sizes)):
            break
        end *= 1e4
    else:
        raise Unsettled("a function that is not finite")
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    if not np.all(sizes > 0):
        end = end if exact else min(SMALL_END, end)
        return Tail(z, end, 0.0, float(sizes[0]) * end * density)
    first, second = np.diff(np.log10(sizes))
    if not exact and (first > -0.02 or not _goes_on(function, base, slope, sign, float(first), float(sizes[0]))):
        end = min(SMALL_END, end)
        return Tail(z, end, 0.0, 2 * float(sizes[0]) * end * density)
    if first <= -1 + POLE:
        if abs(first - second) > 0.05:
            raise Unsettled("a function that is hardly integrable")
        raise Infinite(f"near {_shown(base)} it grows like |d|^{first:.3g}")
    left = float(function(base + sign * slope * end)) * end / (1 + first) * density
    drift = min(1.0, 40 * (abs(first - second) + 1e-13) / (1 + first) + end)
    return Tail(z, end, left, abs(left) * drift)


def _goes_on(function: Function, base: Array, slope: Array, sign: float, power: float, size: float) -> bool:
    """Whether the power found at NEAR_END holds down to the rounding of the place: else f is steep, not singular."""
    nearer = 1e-5 * NEAR_END
    inner = np.abs(function(base + sign * slope * np.array([[nearer]])))[0]
    return bool(np.isfinite(inner) and inner > 0 and abs(math.log10(inner / size) / -5.0 - power) < 0.03)


def _shown(base: Array) -> str:
    return ", ".join(f"{x:.6g}" for x in np.atleast_1d(base))


def _ends(function: Function, mean: Array, slope: Array) -> tuple[float, float, float]:
    """Where |f| φ has fallen to nothing on either side, and what lies beyond at most."""
    z = np.arange(0.0, FARTHEST, 0.125)
    logs = [_logs(function, mean, slope, sign * (z + 0.0317)) for sign in (-1.0, 1.0)]
    peak = -np.inf
    for own in logs:
        finite = own < np.inf
        peak = max(peak, np.max((own - z**2 / 2)[finite], initial=-np.inf))
    if not np.isfinite(peak):
        return -10.0, 10.0, 0.0
    (low, first), (high, second) = (_end(own, z, float(peak)) for own in logs)
    return -low, high, first + second


def _logs(function: Function, mean: Array, slope: Array, z: Array) -> Array:
    """log|f|; +∞ where f overflows or is undefined."""
    value = np.abs(function(mean + slope * z[:, None]))
    return np.where(np.isfinite(value), np.log(np.where(value > 0, value, 1.0)), np.inf) + np.where(
        value == 0, -np.inf, 0
    )


def _end(logs: Array, z: Array, peak: float) -> tuple[float, float]:
    over = np.flatnonzero(logs == np.inf)
    if len(over) and np.any(logs[over[0] :] < np.inf):
        over = over[:0] if len(over) < 4 else over  # a pole met by chance
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
    """Where |f| φ has not fallen to nothing when f overflows, or φ underflows."""
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


def _adaptive(function: Function, slope: Array, panels: Panels, rtol: float) -> tuple[float, float, float]:
    """Σ over the panels, halved until two rules agree: value, error, and the integral of |f|."""
    done: list[float] = []
    lost: list[float] = []
    mass: list[float] = []
    whole, size = summed(function, slope, panels)
    for _ in range(40):
        halves = panels.halves()
        parts, sizes = summed(function, slope, halves)
        n = len(whole)
        error = np.abs(whole - parts[:n] - parts[n:])
        if not np.all(np.isfinite(parts)):
            raise Unsettled("a function that is not finite")
        value = math.fsum([*done, *parts])
        total = math.fsum([*mass, *sizes])
        budget = max(rtol * abs(value), 2.0**-51 * total)
        own = np.maximum(budget / max(64, 2 * n), 2.0**-52 * (sizes[:n] + sizes[n:]))
        fine = error <= own
        done += [*(parts[:n] + parts[n:])[fine]]
        lost += [*error[fine]]
        mass += [*(sizes[:n] + sizes[n:])[fine]]
        left = np.concatenate([~fine, ~fine])
        if not left.any() or math.fsum(error) + math.fsum(lost) <= budget or n > MOST_PANELS:
            done += [*parts[left]]
            lost += [*error[~fine]]
            mass += [*sizes[left]]
            break
        panels, whole, size = halves.of(left), parts[left], sizes[left]
    else:
        done, lost, mass = [*done, *whole], [*lost, *size], [*mass, *size]
    return math.fsum(done), math.fsum(lost), math.fsum(mass)


def summed(function: Function, slope: Array, panels: Panels) -> tuple[Array, Array]:
    """∫ f φ and ∫ |f| φ over each panel."""
    x, weights = rule(slope, panels)
    values = weights * function(x)
    return values.sum(axis=1), np.abs(values).sum(axis=1)


def rule(slope: Array, panels: Panels) -> tuple[Array, Array]:
    """Nodes x (panels, nodes, p), and weights with φ in them."""
    width = panels.high - panels.low
    d = panels.low[:, None] + width[:, None] * NODES
    z = panels.place[:, None] + d
    x = panels.base[:, None, :] + slope * d[..., None]
    return x, width[:, None] * WEIGHTS * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
