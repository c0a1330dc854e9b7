"""How far the numbers of the exact road may be off: what quadrature leaves and what rounding does, carried through every
operation, entry by entry. This is the one home of these rules; forms.py, exact.py and expectations.py call them.

An error is None (none at all), or an array that broadcasts to its values. Arithmetic and smooth functions carry
|f'| · error; where f bends or jumps, the ends of the interval are looked at, so that a sign or a branch that the error
does not decide says so, and a division by what may be 0 has an infinite error. Functions of whole arrays (inverses,
solutions) are probed: they are computed again at values moved by their errors (Higham 2002, section 1.6).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tp_compiler.evaluate.kernels import KERNELS
from tp_compiler.ir.primitives import PRIMITIVES

Error = Any  # None, or an array
EPS = 2.0**-53
GRID = 2.0**20  # multiples of 2^-20 below 2^32 are taken to be exact: sums and products of small whole numbers are
MOST_ENTRIES = 2**18  # an array of more has one error for all
PROBES = 3
LINEAR = 1e-7  # errors below this part of a value: the derivative says it all
NEGLIGIBLE = 1e-13  # an error below this part of a value does not show in what is printed

_EXACT = frozenset({"abs", "sign", "step", "max", "min", "where", "relu", "relu6", "hardtanh"})
_BOUNDED = {"sin": 2.0, "cos": 2.0}
_POLES = {"div": 1, "log": 0, "pow": 0}  # which argument must not be 0


def rounding(result: Any, size: Any = None) -> Error:
    """That of an operation with this result; of a sum whose terms are as large as `size`."""
    result = np.asarray(result)
    with np.errstate(all="ignore"):
        grid = result * GRID
        exact = (grid == np.rint(grid)) & (np.abs(result) < 2.0**32)
    if exact.all():
        return None
    scale = np.abs(result) if size is None else np.maximum(np.abs(result), size)
    return compact(np.where(exact | ~np.isfinite(result), 0.0, EPS * scale))


def compact(error: Error) -> Error:
    """One number for a large array."""
    return np.max(error, initial=0.0) if error is not None and np.size(error) > MOST_ENTRIES else error


def full(error: Error, shape: tuple[int, ...]) -> Error:
    """In the shape of its values, unless it is none or one number."""
    return error if error is None or not np.ndim(error) else np.broadcast_to(error, shape)


def added(*errors: Error) -> Error:
    """The sum of errors."""
    known = [e for e in errors if e is not None]
    if not known:
        return None
    total = known[0]
    for e in known[1:]:
        total = total + e
    return compact(total)


def of_product(a: Any, error_a: Error, b: Any, error_b: Error) -> Error:
    """|a| e_b + |b| e_a + e_a e_b."""
    if np.size(a) * np.size(b) > MOST_ENTRIES and (np.size(a) > MOST_ENTRIES or np.size(b) > MOST_ENTRIES):
        a, b = np.max(np.abs(a), initial=0.0), np.max(np.abs(b), initial=0.0)
    parts = [None if error_b is None else np.abs(a) * error_b, None if error_a is None else np.abs(b) * error_a]
    return added(*parts, None if error_a is None or error_b is None else error_a * error_b)


def applied(fn: str, values: Sequence[Any], errors: Sequence[Error]) -> tuple[Any, Error]:
    """A primitive of numbers, with its error."""
    result = KERNELS[fn](*values)
    own = None if fn in _EXACT else rounding(result)
    if all(e is None for e in errors):
        return result, own
    with np.errstate(all="ignore"):
        parts = [_moved(fn, values, result, k, e) for k, e in enumerate(errors) if e is not None and np.any(e)]
    return result, added(own, *parts)


def _moved(fn: str, values: Sequence[Any], result: Any, k: int, error: Any) -> Any:
    """How far argument k, off by its error, moves the result."""
    x = np.asarray(values[k])
    ends = [KERNELS[fn](*(x + side * error if j == k else v for j, v in enumerate(values))) for side in (-1, 1)]
    moved = [np.abs(end - result) for end in ends]
    widest = np.fmax(*moved)  # outside the domain of f there is nothing
    small = error <= LINEAR * np.abs(x)
    if fn in ("add", "mul"):
        slope = np.ones(()) if fn == "add" else np.prod(np.broadcast_arrays(*values[:k], *values[k + 1 :], 1.0), axis=0)
    else:
        slope = np.abs(np.asarray(PRIMITIVES[fn].partials[k](_Arrays(), *values)))
    widest = np.where(small & np.isfinite(slope), np.fmax(widest, np.abs(slope) * error), widest)
    if _POLES.get(fn) == k and (fn != "pow" or np.any(np.asarray(values[1]) < 0)):
        widest = np.where((error > 0) & (np.abs(x) <= error), np.inf, widest)
    if fn in _BOUNDED:
        widest = np.where(error > 1, _BOUNDED[fn], widest)
    return np.where(error > 0, np.where(np.isnan(widest), np.inf, widest), 0.0)


class _Arrays:
    """The derivative rules of `ir.primitives`, on arrays."""

    def __call__(self, fn: str, *args: Any) -> Any:
        return KERNELS[fn](*args)

    def number(self, value: float) -> float:
        return value


def probed(function: Callable[[list[Any]], Any], values: Sequence[Any], errors: Sequence[Error], result: Any) -> Error:
    """By how much `function`, of whole arrays, moves when these move by their errors, with signs drawn once for all."""
    if all(e is None for e in errors):
        return None

    def probe(k: int) -> Any:
        rng = np.random.default_rng(k)
        return function([shaken(v, e, rng) for v, e in zip(values, errors, strict=True)])

    return again(probe, result)


def again(probe: Callable[[int], Any], result: Any) -> Error:
    """The largest change of a result from probe to probe; all of it where no probe has a value."""
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


def shaken(value: Any, error: Error, rng: Any) -> Any:
    """The values moved by their errors, with random signs."""
    if error is None:
        return value
    return value + rng.choice([-1.0, 1.0], size=np.shape(value)) * error


def shown(value: Any, error: Error, always: bool) -> Any:
    """The error of a result as it is reported: 0 where no digit that is printed could tell, unless `always`."""
    full = (
        np.zeros(np.shape(value)) if error is None else np.array(np.broadcast_to(error, np.shape(value)), dtype=float)
    )
    if always or not np.size(value):
        return full
    scale = np.where(value == 0, np.max(np.abs(value)), np.abs(value))
    return np.where(full <= NEGLIGIBLE * scale, 0.0, full)
