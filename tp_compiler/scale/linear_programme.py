"""Exact linear programmes: the largest weighted sum of unknowns below cuts with slopes that are not negative.

    maximise  Σ_k w_k e_k   with   Σ_k a_ik e_k ≤ b_i  for every cut i,   e_k ≤ c,      w > 0, a ≥ 0.

With x = c − e this is a covering problem, minimise w·x with A x ≥ A c − b and x ≥ 0. Its dual has one row for each unknown, its slack
basis is feasible, and a new cut is a new column: the simplex method goes on from the basis that it has. Everything is in fractions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

ZERO, ONE = Fraction(0), Fraction(1)
Column = dict[int, Fraction]


class LargestSum:
    """The simplex method on the dual: rows are unknowns, columns are their slacks (numbered from 0) and then cuts."""

    def __init__(self, weights: Sequence[Fraction], ceiling: Fraction):
        self._ceiling = ceiling
        self._rows: list[Column] = [{k: ONE} for k in range(len(weights))]
        self._right = list(weights)
        self._basis = list(range(len(weights)))
        self._prices: Column = {}  # of columns: what a unit of them adds to the dual's value
        self._columns = len(weights)

    def cut(self, slopes: Mapping[int, Fraction], bound: Fraction) -> None:
        """Adds Σ slopes_k e_k ≤ bound."""
        column, self._columns = self._columns, self._columns + 1
        price = self._ceiling * sum(slopes.values()) - bound
        for k, slope in slopes.items():
            price += slope * self._prices.get(k, ZERO)
        for row in self._rows:
            entry = sum((slope * row.get(k, ZERO) for k, slope in slopes.items()), ZERO)
            if entry:
                row[column] = entry
        if price:
            self._prices[column] = price

    def solve(self) -> list[Fraction]:
        """The unknowns. Columns enter in the order of their numbers (Bland), so that it ends."""
        while True:
            entering = min((j for j, price in self._prices.items() if price > 0), default=None)
            if entering is None:
                return [self._ceiling + self._prices.get(k, ZERO) for k in range(len(self._rows))]
            ratios = [
                (self._right[i] / row[entering], self._basis[i], i)
                for i, row in enumerate(self._rows)
                if row.get(entering, ZERO) > 0
            ]
            self._pivot(min(ratios)[2], entering)

    def _pivot(self, leaving: int, entering: int) -> None:
        pivot = self._rows[leaving][entering]
        own = {j: x / pivot for j, x in self._rows[leaving].items()}
        right = self._right[leaving] / pivot
        self._rows[leaving], self._right[leaving], self._basis[leaving] = own, right, entering
        for i, row in enumerate(self._rows):
            factor = row.get(entering, ZERO)
            if i != leaving and factor:
                _subtract(row, own, factor)
                self._right[i] -= factor * right
        _subtract(self._prices, own, self._prices.get(entering, ZERO))


def _subtract(row: Column, other: Column, factor: Fraction) -> None:
    for j, x in other.items():
        rest = row.get(j, ZERO) - factor * x
        if rest:
            row[j] = rest
        else:
            row.pop(j, None)
