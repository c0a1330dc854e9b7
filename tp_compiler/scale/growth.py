"""How entrywise functions propagate sizes: the power of n of φ(x) if x is n^e, derived from values of the primitives."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache

from tp_compiler.ir.primitives import PRIMITIVES

#: A power of n; -inf stands for 0.
Order = Fraction | float
NOTHING = -math.inf
CONSTANT = Fraction(0)


def growth(fn: str, size: Order) -> Order:
    """The power of n of fn(x). Faster than every power counts as the power of x itself."""
    if _start(fn) != 0:
        return CONSTANT if size <= 0 else _far(fn) * size
    if size == NOTHING:
        return NOTHING
    return (_near(fn) if size <= 0 else _far(fn)) * size


def moved(fn: str, size: Order, change: Order) -> Order:
    """The power of n of fn(x + Δ) - fn(x), for x of this size."""
    if change == NOTHING:
        return NOTHING
    if size == 0 and change <= 0:
        return change
    if change <= size:
        flat = size < 0 and _start(fn) != 0
        return change if flat else growth(fn, size) - size + change
    if change <= 0 and _start(fn) != 0:
        return change
    return growth(fn, change)


@cache
def _start(fn: str) -> float:
    return _value(fn, 0.0)


@cache
def _far(fn: str) -> Fraction:
    """p if fn(x) grows like x^p."""
    return _power(lambda x: _largest(fn, x), 1e4, 1e8, Fraction(1))


@cache
def _near(fn: str) -> Fraction:
    """p if fn(x) vanishes like x^p at 0."""
    return _power(lambda x: _largest(fn, x), 1e-2, 1e-4, Fraction(1))


def _power(value: Callable[[float], float], a: float, b: float, otherwise: Fraction) -> Fraction:
    x, y = value(a), value(b)
    if not (0 < x < math.inf and 0 < y < math.inf):
        return CONSTANT if x == y == 0 else otherwise
    return Fraction(math.log(y / x) / math.log(b / a)).limit_denominator(6)


def _largest(fn: str, x: float) -> float:
    found = [abs(v) for v in (_value(fn, x), _value(fn, -x)) if not math.isnan(v)]
    return max(found, default=math.inf)


def _value(fn: str, x: float) -> float:
    try:
        return float(PRIMITIVES[fn].scalar(x))
    except OverflowError:
        return math.inf
    except (ValueError, ZeroDivisionError):
        return math.nan
