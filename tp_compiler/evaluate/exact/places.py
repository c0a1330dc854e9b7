"""Places in families: labels, positions, and positions that a table gives, as in x[s - 1], x[2 s + r] or e[tok[i,s]].

A family that is read through a table remains what it is: an average over it is computed once, at its own positions, and the
entries are picked afterwards, for every shift of a convolution.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from tp_compiler.evaluate.array_types import Whole
from tp_compiler.evaluate.arrays import aligned
from tp_compiler.ir.types import Axis, Index


@dataclass(frozen=True, eq=False)
class PositionTable:
    """The position (from 0) on `axis` that a table over `labels` gives."""

    axis: Axis
    positions: Whole
    labels: tuple[Index, ...]

    @cached_property
    def _key(self) -> tuple[Axis, tuple[Index, ...], bytes]:
        return self.axis, self.labels, np.ascontiguousarray(self.positions, dtype=np.int64).tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PositionTable) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def placed(self, to: Places) -> Place:
        """The labels of the table replaced."""
        if not any(label in to for label in self.labels):
            return self
        places = [to.get(label, label) for label in self.labels]
        labels = labels_of(places)
        return placed_by(self.axis, self.positions[grid(places, labels)], labels)


Place: TypeAlias = Index | int | PositionTable  # a label, a 1-based position, or a table of positions
Places: TypeAlias = Mapping[Index, Place]


def placed_by(axis: Axis, positions: Any, labels: tuple[Index, ...]) -> Place:
    """The place that a table gives: a position if it has no labels, a label if it is read in order."""
    if not labels:
        return int(positions) + 1
    if len(labels) == 1 and labels[0].axis == axis and np.array_equal(positions, np.arange(axis.size)):
        return labels[0]
    return PositionTable(axis, np.broadcast_to(positions, [x.size for x in labels]), labels)


def labels_of(places: Iterable[Place]) -> tuple[Index, ...]:
    found: dict[Index, None] = {}
    for p in places:
        if isinstance(p, Index):
            found[p] = None
        elif isinstance(p, PositionTable):
            found |= dict.fromkeys(p.labels)
    return tuple(found)


def positions(place: Place, labels: Sequence[Index]) -> Any:
    """The positions, from 0, in a view for broadcasting over `labels`."""
    if isinstance(place, int):
        return place - 1
    if isinstance(place, PositionTable):
        return aligned(place.positions, place.labels, labels)
    return aligned(np.arange(place.size), (place,), labels)


def grid(places: Iterable[Place], labels: Sequence[Index]) -> tuple[Any, ...]:
    """The entries at some places of an array, over `labels`."""
    return tuple(positions(p, labels) for p in places)


def moved(places: Iterable[Place], to: Places) -> tuple[Place, ...]:
    """Places after a substitution: all labels simultaneously, so that two can be swapped."""
    return tuple(_moved(p, to) for p in places)


def _moved(p: Place, to: Places) -> Place:
    if isinstance(p, Index):
        return to.get(p, p)
    return p.placed(to) if isinstance(p, PositionTable) else p


def exchanged(places: Iterable[Place], names: Mapping[Place, Place]) -> tuple[Place, ...]:
    """Whole places replaced by others."""
    return tuple(names.get(p, p) for p in places)
