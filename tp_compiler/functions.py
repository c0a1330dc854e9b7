"""Functions of outputs with their own standard errors: by the jackknife over replicates, by differences where exact.

Outputs that are sampled share their replicates, so that a function of replicate r of each has the right correlations.
Errors without replicates (of exact values, and what is known of a sampled one beyond its replicates) have unknown signs:
they count as if all of them acted in the same direction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tp_compiler.replicates import Array, Replicates, mean_and_error

Function = Callable[..., object]
#: Differences that are taken of a function: one for each uncertain entry, or for a group of neighbours if there are more.
MOST_DIFFERENCES = 64
#: Directions with random signs, within the groups.
_DIRECTIONS = 8
#: A difference is taken over at least this part of the values, far above rounding errors.
_STEP = 1e-7


@dataclass(frozen=True, eq=False)
class Known:
    """An argument: its value and standard error, and the replicates that they were computed from, if there are any."""

    value: Array
    stderr: Array
    replicates: Replicates | None = None


def value_and_error(function: Function, arguments: Sequence[Known]) -> tuple[Array, Array]:
    """The value of a function of outputs and its standard error.

    The value of a sampled argument is a mean over R replicates; that of the function is its jackknife estimate, whose
    bias is of order 1/R². The bias of finite size is read off the function of coarser levels, as for the outputs.
    """
    drawn = [a.replicates for a in arguments if a.replicates is not None]
    if not drawn:
        base = _called(function, [a.value for a in arguments])
        return base, _by_differences(function, [a.value for a in arguments], [a.stderr for a in arguments])
    count = {r.count for r in drawn}
    if min(count) < 2:
        raise ValueError("one replicate gives no standard error; use more seeds")
    if len(count) > 1:
        raise ValueError("the outputs do not have the same replicates")
    shared = _shared(drawn)
    kept = [_Kept(a, None if a.replicates is None else shared(a.replicates)) for a in arguments]
    first = next(k.replicates for k in kept if k.replicates is not None)
    levels = [_pseudo(function, [k.level(n) for k in kept]) for n in range(len(first.levels))]
    halves = None if first.halves is None else _pseudo(function, [k.halves() for k in kept])
    value, error = mean_and_error(levels, first.sizes, halves)
    rest = _by_differences(function, [a.value for a in arguments], [k.rest for k in kept])
    return value, np.hypot(error, rest)


def _shared(drawn: Sequence[Replicates]) -> Callable[[Replicates], Replicates]:
    """The levels that all arguments have, by their sizes relative to the last one, and halves if all have or can have them."""
    ratios = sorted(set.intersection(*(set(_ratios(r)) for r in drawn)))
    halved = {len(r.halves) for r in drawn if r.halves is not None}
    count = min(halved, default=0)
    all_halved = bool(halved) and all(r.halves is not None or 0.5 in _ratios(r) for r in drawn)

    def restrict(r: Replicates) -> Replicates:
        held = dict(zip(_ratios(r), r.levels, strict=True))
        # Halves have the bias of a level of half the size, which serves in their place.
        halves = (r.halves if r.halves is not None else held[0.5])[:count] if all_halved else None
        return Replicates(tuple(held[x] for x in ratios), tuple(ratios), halves)

    return restrict


def _ratios(r: Replicates) -> list[float]:
    return [s / r.sizes[-1] for s in r.sizes]


class _Kept:
    """An argument at the levels that all share, and the part of its error that these do not show."""

    def __init__(self, known: Known, replicates: Replicates | None):
        self.known, self.replicates = known, replicates
        self.rest = known.stderr
        if replicates is None:
            return
        value, error = mean_and_error(replicates.levels, replicates.sizes, replicates.halves)
        # Fewer levels than the output's own may show another bias.
        moved = known.value - value
        halves = None if replicates.halves is None else replicates.halves + moved
        self.replicates = replace(replicates, levels=tuple(x + moved for x in replicates.levels), halves=halves)
        with np.errstate(all="ignore"):
            hidden = 1 - np.where(known.stderr > 0, error / known.stderr, 1.0) ** 2
            self.rest = known.stderr * np.sqrt(np.where(hidden > 1e-9, hidden, 0.0))

    def level(self, number: int) -> Array:
        """Arrays (R, ...), or (1, ...) of an argument without replicates."""
        return self.known.value[None] if self.replicates is None else self.replicates.levels[number]

    def halves(self) -> Array:
        if self.replicates is None or self.replicates.halves is None:
            return self.known.value[None]
        return self.replicates.halves


def _pseudo(function: Function, arguments: Sequence[Array]) -> Array:
    """The jackknife's pseudo-values R g(mean) - (R - 1) g(mean without r), one for each replicate."""
    count = max(map(len, arguments))
    means = [x.mean(axis=0) for x in arguments]
    whole = _called(function, means)
    without = [
        _called(
            function,
            [m if len(x) == 1 else m + (m - x[r]) / (count - 1) for x, m in zip(arguments, means, strict=True)],
        )
        for r in range(count)
    ]
    return np.array([count * whole - (count - 1) * part for part in without])


def _called(function: Function, values: Sequence[Array]) -> Array:
    found = function(*(np.array(v) for v in values))  # copies: a function may write into its arguments
    try:
        if found is None:  # NaN, as a number
            raise TypeError
        return np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):
        message = f"a function of outputs returns a number or an array of numbers, not {type(found).__name__}"
        raise TypeError(message) from None


# -- differences -------------------------------------------------------------------------------------------------------
def _by_differences(function: Function, values: Sequence[Array], errors: Sequence[Array]) -> Array:
    """Σ |∂g/∂x| e over the uncertain entries x, from differences to both sides; the larger counts, for kinks.

    Neighbours move together where there are more than MOST_DIFFERENCES entries; moves with random signs then show what
    cancels in a group.
    """
    base = _called(function, values)
    flat = np.concatenate([np.broadcast_to(e, v.shape).ravel() for v, e in zip(values, errors, strict=True)])
    places = np.flatnonzero(flat)
    if not places.size:
        return np.zeros_like(base)
    point = np.concatenate([np.ravel(v) for v in values])

    def change(direction: Array) -> Array:
        """How much the function changes along a direction, to first order."""
        far = float(np.max(np.abs(direction)))
        moved = np.abs(point[direction != 0])
        stretch = max(1.0, _STEP * float(np.max(moved)) / far)
        with np.errstate(all="ignore"):
            both = [np.abs(_at(function, values, point + s * stretch * direction) - base) for s in (1.0, -1.0)]
            found: Array = np.fmax(*both) / stretch
        return np.where(np.isnan(found), np.inf, found)

    groups = np.array_split(places, min(places.size, MOST_DIFFERENCES))
    total = sum((change(_only(flat, group)) for group in groups), np.zeros_like(base))
    if len(groups) == places.size:
        return total
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (_DIRECTIONS, flat.size))
    mixed = _root_mean_square(np.array([change(s * flat) for s in signs]))
    return np.asarray(np.maximum(total, 2 * mixed))


def _root_mean_square(changes: Array) -> Array:
    """Over the first axis, of numbers whose squares may overflow or underflow."""
    most = changes.max(axis=0)
    scale = np.where(np.isfinite(most) & (most > 0), most, 1.0)
    with np.errstate(all="ignore"):
        return np.asarray(scale * np.sqrt(np.mean((changes / scale) ** 2, axis=0)))


def _only(flat: Array, group: np.ndarray) -> Array:
    found = np.zeros_like(flat)
    found[group] = flat[group]
    return found


def _at(function: Function, values: Sequence[Array], point: Array) -> Array:
    ends = np.cumsum([v.size for v in values])[:-1]
    return _called(function, [x.reshape(v.shape) for x, v in zip(np.split(point, ends), values, strict=True)])
