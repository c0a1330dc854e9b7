"""Substitution in formulas: labels renamed or placed at positions, and labels bound by a sum.

A bound label has a name that occurs nowhere else: `bind` gives it when the sum is made. So placing a formula anywhere
cannot capture one of its free labels; `placed` checks anyway. If two sums are multiplied, one of them is
`refreshed` first; `opened` takes labels out of a sum.
"""

from __future__ import annotations

from itertools import count
from typing import Self

from tp_compiler.evaluate.exact.places import Places, labels_of
from tp_compiler.ir.types import Index

_names = count()


def fresh(label: Index) -> Index:
    """A label of the same axis under a name that occurs nowhere else."""
    return Index(f"{label.name.split('~')[0]}~{next(_names)}", label.axis)


class Bound:
    """The body of a sum over the labels `over`."""

    over: tuple[Index, ...]

    def substituted(self, places: Places, over: tuple[Index, ...]) -> Self:
        """Labels replaced in everything under the sum, which then runs over `over`. For the methods below."""
        raise NotImplementedError

    def placed(self, places: Places) -> Self:
        """Free labels replaced."""
        mine = {label: place for label, place in places.items() if label not in self.over}
        if not mine:
            return self
        if any(label in self.over for label in labels_of(mine.values())):
            return self.refreshed().placed(mine)
        return self.substituted(mine, self.over)

    def refreshed(self) -> Self:
        """The same sum with new names, so that it can be combined with any other."""
        return self._named(self.over, ()) if self.over else self

    def bind(self, labels: tuple[Index, ...]) -> Self:
        """The sum over free labels, which get new names."""
        return self._named(labels, self.over)

    def _named(self, labels: tuple[Index, ...], others: tuple[Index, ...]) -> Self:
        new = {label: fresh(label) for label in labels}
        return self.substituted(new, (*others, *new.values())) if new else self

    def opened(self, places: Places) -> Self:
        """Bound labels replaced by places from outside: the sum no longer runs over them."""
        return self.substituted(places, tuple(label for label in self.over if label not in places))
