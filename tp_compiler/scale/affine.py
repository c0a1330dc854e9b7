"""Powers of n that depend on unknown ones: their value at a point, and the affine piece that is largest there.

Sizes are made with max, + and multiples (tropical.py), so each is a maximum of affine functions of the exponents of learning rates.
At a point one of them attains it; `AffinePower` carries that one through the same arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any


class AffinePower(Fraction):
    """A Fraction with its slopes by unknowns. Comparisons, and so `max`, are those of values."""

    __slots__ = ("slopes",)
    slopes: Mapping[int, Fraction]

    def __new__(cls, value: Fraction, slopes: Mapping[int, Fraction]) -> AffinePower:
        self = super().__new__(cls, value)
        self.slopes = {k: slope for k, slope in slopes.items() if slope}
        return self

    def __add__(self, other: Any) -> Any:
        if isinstance(other, float):
            return float(self) + other
        return AffinePower(Fraction.__add__(self, other), _sum(self.slopes, slopes(other)))

    __radd__ = __add__

    def __neg__(self) -> AffinePower:
        return AffinePower(Fraction.__neg__(self), {k: -slope for k, slope in self.slopes.items()})

    def __sub__(self, other: Any) -> Any:
        return self + -other

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __mul__(self, other: Any) -> Any:
        """By a number: products of unknowns do not occur in sums of exponents."""
        return AffinePower(Fraction.__mul__(self, other), {k: slope * other for k, slope in self.slopes.items()})

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        return self * (1 / Fraction(other))


def slopes(x: Fraction | float) -> Mapping[int, Fraction]:
    """By the unknowns; none of a plain number."""
    return x.slopes if isinstance(x, AffinePower) else {}


def _sum(one: Mapping[int, Fraction], other: Mapping[int, Fraction]) -> dict[int, Fraction]:
    if not one or not other:
        return dict(one or other)
    return {k: one.get(k, Fraction(0)) + other.get(k, Fraction(0)) for k in {**one, **other}}
