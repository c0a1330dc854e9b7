"""Exact exponents, and their notation."""

from __future__ import annotations

from fractions import Fraction

#: Accepted types of an exponent; floats are excluded, so that 1/3 is 1/3.
Exponent = Fraction | int | str

HALF = Fraction(1, 2)


def exact(value: Exponent) -> Fraction:
    """The exponent as a fraction."""
    if not isinstance(value, Fraction | int | str) or isinstance(value, bool):
        raise TypeError(f"an exponent is an integer, a Fraction or a string such as '1/2', not {value!r}")
    return Fraction(value)


def power(exponent: Fraction) -> str:
    """n to this exponent: `1`, `n`, `n^2`, `n^(-1/2)`."""
    if exponent == 0:
        return "1"
    if exponent == 1:
        return "n"
    return f"n^{exponent}" if exponent > 0 and exponent.denominator == 1 else f"n^({exponent})"


def order(exponent: Fraction) -> str:
    """`Θ(n^(-1/2))`."""
    return f"Θ({power(exponent)})"


def total(*terms: Fraction) -> str:
    """A sum with its terms filled in: `1/2 + 0 - 1`."""
    first, *rest = terms
    return str(first) + "".join(f" - {-x}" if x < 0 else f" + {x}" for x in rest)


def difference(x: Fraction, y: Fraction) -> str:
    """`1 - 1/2`, with negative numbers in parentheses."""
    return f"{x} - {y if y >= 0 else f'({y})'}"
