"""Powers of n of entrywise functions, against their own values at two sizes."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import pytest

from tp_compiler.scale.growth import NOTHING, growth, moved

#: Functions with the same values in mpmath, whose digits hold differences of any size.
FUNCTIONS = {
    "tanh": mpmath.tanh,
    "square": lambda x: x * x,
    "relu": lambda x: max(x, mpmath.mpf(0)),
    "abs": abs,
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "erf": mpmath.erf,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
}
HALF = Fraction(1, 2)


SMALL, LARGE = mpmath.mpf(10) ** 16, mpmath.mpf(10) ** 20


def power(value, small=SMALL, large=LARGE):
    """The power of n of value(n), from two values."""
    ratio = abs(value(large)) / abs(value(small))
    return round(float(mpmath.log(ratio) / mpmath.log(large / small)), 3)


@pytest.mark.parametrize("fn", FUNCTIONS)
@pytest.mark.parametrize("size", [-1, -HALF])
@pytest.mark.parametrize("ratio", [0, HALF, 1])
def test_a_small_argument_that_moves_by_less_than_itself(fn, size, ratio) -> None:
    """fn(x + Δ) - fn(x) for x = n^size and Δ = n^(size - ratio); at least as large as said, off by no power of n."""
    change = size - ratio

    def difference(n):
        x, d = 0.7 * n ** mpmath.mpf(float(size)), 0.3 * n ** mpmath.mpf(float(change))
        return FUNCTIONS[fn](x + d) - FUNCTIONS[fn](x)

    with mpmath.workdps(120):
        found = power(difference)
    said = moved(fn, size, change)
    if fn == "cos":  # even at 0 without vanishing there: the bound counts the slope as 1
        assert found <= said
    else:
        assert found == pytest.approx(float(said))


@pytest.mark.parametrize("fn", ["square", "relu", "abs", "softplus"])
@pytest.mark.parametrize("change", [-1, 0, HALF])
def test_a_large_argument_that_moves_by_less_than_itself(fn, change) -> None:
    """x = n: the square moves by 2 x Δ, others by Δ."""

    def difference(n):
        x, d = n, 0.3 * n ** mpmath.mpf(float(change))
        return FUNCTIONS[fn](x + d) - FUNCTIONS[fn](x)

    with mpmath.workdps(120):
        found = power(difference)
    assert found == pytest.approx(float(moved(fn, Fraction(1), change)))


def test_the_square_of_a_large_argument() -> None:
    """(n + 1)² - n² = 2n + 1."""
    assert moved("square", Fraction(1), Fraction(0)) == 1
    assert growth("square", Fraction(1)) == 2
    assert growth("square", -HALF) == -1


def test_what_does_not_move_has_no_size() -> None:
    assert moved("tanh", Fraction(0), NOTHING) == NOTHING
    assert growth("tanh", NOTHING) == NOTHING
    assert growth("cos", NOTHING) == 0
