"""Error bounds of exact numbers: the errors of quadrature and of rounding, propagated through every
operation, entry by entry. All these rules are here; `exact` and `gaussian` call them.

An error is None (none at all), or an array that broadcasts to its values. A number lies within its error and within the
range that its formula implies (ranges.py): functions are evaluated at the ends of that interval and at turning points, so
that bounded values stay bounded, a sign or a branch that the error does not decide is reported, and a division by a value that may be
0 has an infinite error; small errors propagate as |f'| · error. Functions of whole arrays (inverses,
solutions) are probed: they are computed again at values moved by their errors (Higham 2002, section 1.6).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tp_compiler.evaluate.array_types import Array, Mask, Numbers
from tp_compiler.evaluate.array_types import Error as Error
from tp_compiler.evaluate.budget import spacious
from tp_compiler.evaluate.bulk import EPS as EPS
from tp_compiler.evaluate.bulk import Bulk, Extent, on_grid, plainly_rounded
from tp_compiler.evaluate.kernels import KERNELS
from tp_compiler.evaluate.ranges import ANY, Range
from tp_compiler.ir.primitives import PRIMITIVES

#: Where something holds.
Where = bool | np.bool_ | Mask
_IN_CACHE = 2**15  # entries examined at a time
MOST_ENTRIES = 2**18  # larger arrays have one error for all entries
PROBES = 3
LINEAR = 1e-7  # relative errors below this: the derivative suffices
NEGLIGIBLE = 1e-13  # a relative error below this is not visible in the printed value


def rounding(result: Numbers, size: Numbers | None = None) -> Error:
    """The rounding error of an operation with this result, or of a sum whose terms are as large as `size`."""
    result = np.asarray(result)
    if result.size > MOST_ENTRIES and (size is None or np.ndim(size) == 0):
        return _worst_rounding(result, size)
    with np.errstate(all="ignore"):
        exact = on_grid(result)
    if exact.all():
        return None
    scale = np.abs(result) if size is None else np.maximum(np.abs(result), size)
    return compact(np.where(exact | ~np.isfinite(result), 0.0, EPS * scale))


def _worst_rounding(result: Array, size: Numbers | None) -> Error:
    """One error for a large array, which is processed in parts, so that no memory of its size is needed."""
    if plainly_rounded(result) and np.isfinite(most := largest(result)):
        return EPS * np.maximum(most, 0.0 if size is None else size)
    entries = result.ravel(order="K")
    worst = [rounding(entries[k : k + MOST_ENTRIES], size) for k in range(0, entries.size, MOST_ENTRIES)]
    known = [np.max(e) for e in worst if e is not None]
    return max(known) if known else None


def largest(x: Numbers) -> float:
    """max |x|, without an array of |x|."""
    return Extent.of(np.asarray(x)).largest if np.size(x) else 0.0


def most(error: Error) -> Numbers:
    """The largest."""
    return 0.0 if error is None else np.max(error, initial=0.0)


def compact(error: Error) -> Error:
    """One number for a large array."""
    return np.max(error, initial=0.0) if error is not None and np.size(error) > MOST_ENTRIES else error


def _many(*arrays: Numbers) -> bool:
    """Whether arrays broadcast to a large one."""
    shapes = [np.shape(x) for x in arrays]
    if math.prod(math.prod(s) for s in shapes) <= MOST_ENTRIES:
        return False
    return math.prod(np.broadcast_shapes(*shapes)) > MOST_ENTRIES


def told(error: Error | Bulk, values: Numbers) -> Error:
    """An error entry by entry if it is given as a rule; one number if there are very many entries."""
    if not isinstance(error, Bulk):
        return error
    if np.size(values) > MOST_ENTRIES and np.isfinite(size := float(largest(values))):
        return np.float64(error.within(size))
    return compact(error.on(values))


def full(error: Error, shape: tuple[int, ...]) -> Error:
    """An error in the shape of its values, unless it is None or one number."""
    return error if error is None or not np.ndim(error) else np.broadcast_to(error, shape)


def added(*errors: Error) -> Error:
    """The sum of errors."""
    known = [e for e in errors if e is not None]
    if not known:
        return None
    if len(known) > 1 and _many(*known):
        known = [np.max(e, initial=0.0) for e in known]
    total = known[0]
    for e in known[1:]:
        total = total + e
    return compact(total)


def of_product(a: Numbers, error_a: Error, b: Numbers, error_b: Error) -> Error:
    """|a| e_b + |b| e_a + e_a e_b."""
    if _many(a, b):
        a, b = largest(a), largest(b)
        error_a, error_b = (None if e is None else np.max(e, initial=0.0) for e in (error_a, error_b))
    both = None if error_a is None or error_b is None else error_a * error_b
    return added(_times(a, error_b), _times(b, error_a), both)


def _times(size: Numbers, error: Error) -> Error:
    """|size| · error, none at all for 0: what vanishes by symmetry does so whatever it is multiplied with."""
    if error is None or (not np.any(size) and np.all(np.isfinite(error))):
        return None
    return np.abs(size) * error


def applied(
    fn: str, values: Sequence[Numbers], errors: Sequence[Error], within: Sequence[Range] = ()
) -> tuple[Array, Error]:
    """A primitive of numbers, with its error; `within` are ranges that its arguments are known to lie in."""
    copies = 2.0 if all(e is None for e in errors) else 8.0  # the ends of every interval, and their distances
    result = spacious(KERNELS[fn], *values, what="a function of numbers", copies=copies)
    own = None if PRIMITIVES[fn].exact else rounding(result)
    if all(e is None for e in errors):
        return result, own
    with np.errstate(all="ignore"):
        if fn == "add":
            moved = added(*errors)
        elif fn == "mul":
            moved = _of_products(values, errors)
        else:
            moved = _moved(fn, values, result, errors, [interval(*x) for x in _each(values, errors, within)])
        return result, added(own, None if moved is None else np.where(np.isnan(moved), np.inf, moved))


def interval(value: Numbers, error: Error, of: Range = ANY) -> tuple[Numbers, Numbers]:
    """The interval in which a number lies: within its error, and within its range."""
    if error is None:
        return value, value
    low, high = np.maximum(value - error, of[0]), np.minimum(value + error, of[1])
    return np.minimum(low, value), np.maximum(high, value)


def within(value: Numbers, error: Error | Bulk, of: Range) -> Error | Bulk:
    """The error of a number in a range: no more than the way to its further end."""
    if error is None or (math.isinf(of[0]) or math.isinf(of[1])):
        return error
    if isinstance(error, Bulk):
        if error.within(max(abs(of[0]), abs(of[1]))) <= (of[1] - of[0]) / 2:
            return error  # the further end is equally far for all entries
        error = error.on(value)
    return compact(np.fmin(error, np.maximum(np.abs(of[1] - value), np.abs(value - of[0]))))


def pole(fn: str, values: Sequence[Numbers], errors: Sequence[Error], within: Sequence[Range] = ()) -> Where:
    """Where the error leaves open whether a primitive divides by 0, or takes the logarithm of 0."""
    return _pole(fn, errors, [interval(*x) for x in _each(values, errors, within)])


def _each(
    values: Sequence[Numbers], errors: Sequence[Error], within: Sequence[Range]
) -> Iterator[tuple[Array, Error, Range]]:
    return zip((np.asarray(v) for v in values), errors, within or [ANY] * len(values), strict=True)


def _pole(fn: str, errors: Sequence[Error], places: Sequence[tuple[Numbers, Numbers]]) -> Where:
    k = PRIMITIVES[fn].pole
    error = None if k is None else errors[k]
    if k is None or error is None:
        return np.False_
    low, high = places[k]
    if fn == "tan":
        return _next_turn(low - np.pi / 2) + np.pi / 2 <= high
    met = (error > 0) & (low <= 0) & ((fn == "log") | (high >= 0))
    return met & (places[1][0] < 0) if fn == "pow" else met


def _next_turn(x: Numbers) -> Numbers:
    """The next whole multiple of π."""
    return np.pi * np.ceil(x / np.pi)


def _of_products(values: Sequence[Numbers], errors: Sequence[Error]) -> Error:
    value, error = values[0], errors[0]
    for v, e in zip(values[1:], errors[1:], strict=True):
        error = of_product(value, error, v, e)
        value = value * v
    return error


def _moved(
    fn: str,
    values: Sequence[Numbers],
    result: Numbers,
    errors: Sequence[Error],
    places: Sequence[tuple[Numbers, Numbers]],
) -> Array:
    """How far the arguments, each in its interval, move the result: evaluated at the ends and at turning points."""
    points = [
        (v,) if e is None else (*place, *(np.clip(t, *place) for t in _turns(fn, k, values, place)))
        for k, (v, e, place) in enumerate(zip(values, errors, places, strict=True))
    ]
    widest = np.asarray(np.nan)
    for corner in itertools.product(*points):
        widest = np.fmax(widest, np.abs(KERNELS[fn](*corner) - result))  # f has no values outside its domain
    lines, small, off = np.zeros(()), np.asarray(True), np.asarray(False)
    for k, e in enumerate(errors):
        if e is not None:
            slope = np.abs(np.asarray(PRIMITIVES[fn].partials[k](_Arrays(), *values)))
            lines = lines + np.where(e > 0, slope * e, 0.0)
            small, off = small & (e <= LINEAR * np.abs(values[k])), off | (np.asarray(e) > 0)
    widest = np.where(small & np.isfinite(lines), np.fmax(widest, lines), widest)
    widest = np.where(np.isnan(widest) | _pole(fn, errors, places), np.inf, widest)
    return np.where(off, widest, 0.0)


def _turns(fn: str, k: int, values: Sequence[Numbers], place: tuple[Numbers, Numbers]) -> list[Numbers]:
    """Where a primitive turns, in argument k: at one place, or from π to π."""
    if fn in ("sin", "cos"):
        start = np.pi / 2 if fn == "sin" else 0.0
        first = _next_turn(place[0] - start) + start
        return [first, first + np.pi]
    turn = PRIMITIVES[fn].turn
    return [turn] if turn is not None and k == 0 else []


class _Arrays:
    """The derivative rules of `ir.primitives`, on arrays."""

    def __call__(self, fn: str, *args: Numbers) -> Array:
        return KERNELS[fn](*args)

    def number(self, value: float) -> float:
        return value


def monotone(function: Callable[[Array], Array], values: Array, error: Error) -> tuple[Array, Error]:
    """A function of a whole array that rises with every entry, with its error."""
    result = function(values)
    if error is None:
        return result, rounding(result)
    with np.errstate(all="ignore"):
        moved = [np.abs(function(values + side * error) - result) for side in (-1, 1)]
    return result, added(rounding(result), np.where(np.isnan(np.maximum(*moved)), np.inf, np.maximum(*moved)))


def probed(
    function: Callable[[list[Array]], Array], values: Sequence[Array], errors: Sequence[Error], result: Array
) -> Error:
    """By how much `function`, of whole arrays, moves when these move by their errors, with signs drawn once for all."""
    if all(e is None for e in errors):
        return None

    def probe(k: int) -> Array:
        rng = np.random.default_rng(k)
        return function([shaken(v, e, rng) for v, e in zip(values, errors, strict=True)])

    return again(probe, result)


def again(probe: Callable[[int], Array], result: Array) -> Error:
    """The largest change of a result between probes; the whole result if no probe has a value."""
    worst = None
    for k in range(PROBES):
        try:
            change = np.abs(probe(k) - result)
        except (ArithmeticError, np.linalg.LinAlgError, Unknown):
            continue
        worst = change if worst is None else np.maximum(worst, change)
    return compact(np.abs(result) if worst is None else worst)


class Unknown(Exception):
    """A probe that has no value."""


def shaken(value: Array, error: Error, rng: np.random.Generator) -> Array:
    """The values moved by their errors, with random signs."""
    if error is None:
        return value
    return value + rng.choice([-1.0, 1.0], size=np.shape(value)) * error


def shown(value: Array, error: Error | Bulk, always: bool) -> Array:
    """The error of a result as reported: 0 if it would not affect any printed digit, unless `always`."""
    if isinstance(error, Bulk):
        return _shown_in_parts(value, error, always)
    full = (
        np.zeros(np.shape(value)) if error is None else np.array(np.broadcast_to(error, np.shape(value)), dtype=float)
    )
    if always or not np.size(value):
        return full
    scale = np.where(value == 0, np.max(np.abs(value)), np.abs(value))
    return np.where(full <= NEGLIGIBLE * scale, 0.0, full)


def visible_below(error: Bulk) -> float:
    """The size of entries below which their error is visible."""
    return math.inf if error.share >= NEGLIGIBLE else error.floor / (NEGLIGIBLE - error.share)


def visible_at_zero(error: Bulk, most: float) -> bool:
    """Whether the error of a 0 is visible among entries of a size up to `most`."""
    return error.floor > NEGLIGIBLE * most


def most_shown(value: Array, error: Bulk, extent: Extent) -> float:
    """The largest error that is reported, or a bound of it, if one may be visible; `extent` is that of the values."""
    most, small = extent.largest, visible_below(error)
    if extent.least or visible_at_zero(error, most):
        return error.within(min(small, most))
    return float(np.max(_shown_in_parts(value, error, False)))


def _shown_in_parts(value: Array, error: Bulk, always: bool) -> Array:
    """The same for a large array, in chunks: few entries usually have a visible error."""
    result, entries = np.zeros(np.shape(value)), value.reshape(-1)
    small = math.inf if always else visible_below(error)
    at_zero = True if always else None
    for start in range(0, entries.size, _IN_CACHE):
        part = entries[start : start + _IN_CACHE]
        visible = np.abs(part) < small
        if not np.count_nonzero(visible):
            continue
        if at_zero is None:
            at_zero = visible_at_zero(error, largest(value))
        if not at_zero:
            visible &= part != 0
        result.reshape(-1)[start : start + _IN_CACHE] = np.where(visible, error.on(part), 0.0)
    return result
