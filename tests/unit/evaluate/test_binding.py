"""Substitution in formulas: no free label is caught by a sum, and no sum meets another under one name."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tp_compiler.evaluate.exact.binding import fresh
from tp_compiler.evaluate.exact.ket_formula import LinearPart, Tensor, Term, Variable, delta
from tp_compiler.evaluate.exact.places import Place, PositionTable, moved, placed_by
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Axis, Index

P, Q, R = (Index(name, Axis("i", 3)) for name in "pqr")
NUMBERS = np.arange(27.0).reshape(3, 3, 3) ** 2
TABLES: list[Place] = [
    PositionTable(P.axis, np.array([2, 0, 0]), (P,)),
    PositionTable(P.axis, np.array([1, 2, 1]), (R,)),
    PositionTable(P.axis, np.array([[0, 2, 1], [1, 1, 0], [2, 0, 2]]), (Q, R)),
]
PLACES: list[Place] = [P, Q, R, 1, 3, *TABLES]


def position(place: Place, at: dict[Index, int]) -> int:
    """From 0, the labels at positions."""
    if isinstance(place, int):
        return place - 1
    return at[place] if isinstance(place, Index) else int(place.positions[tuple(at[x] for x in place.labels)])


def part(labels: tuple[Index, ...], over: tuple[Index, ...]) -> LinearPart:
    node = object.__new__(ir.InitialKet)  # a variable that only carries labels
    return LinearPart(Tensor(NUMBERS, labels), Variable(node, labels), over)


def coefficient(sum_: LinearPart | Term, at: dict[Index, int]) -> float:
    """Σ_over of the coefficient, the free labels at positions: straight from the definition."""
    own = sum_.coefficient.labels
    total = 0.0
    for bound in itertools.product(range(3), repeat=len(sum_.over)):
        position = at | dict(zip(sum_.over, bound, strict=True))
        total += float(sum_.coefficient.values[tuple(position[label] for label in own)])
    return total


@pytest.mark.parametrize("over", [(), (P,), (Q,), (P, R)])
@pytest.mark.parametrize(("to_q", "to_r"), list(itertools.product(PLACES, PLACES)))
def test_placing_is_substitution(over: tuple[Index, ...], to_q: Place, to_r: Place) -> None:
    """The value of a placed sum at a point is that of the sum at the places of its free labels."""
    places: dict[Index, Place] = {Q: to_q, R: to_r, P: P}
    for sum_ in (part((P, Q, R), over), Term(Tensor(NUMBERS, (P, Q, R)), (), over)):
        placed = sum_.placed(places)
        for point in itertools.product(range(3), repeat=3):
            at = dict(zip((P, Q, R), point, strict=True))
            before = {x: position(places[x], at) for x in (P, Q, R)}
            assert coefficient(placed, at) == coefficient(sum_, before)


@pytest.mark.parametrize(("one", "other"), list(itertools.product(PLACES, PLACES)))
def test_tables_are_read_through_tables(one: Place, other: Place) -> None:
    """Places at places: first the table, then what its labels have become."""
    (placed,) = moved((one,), {P: other, Q: R, R: P})
    for point in itertools.product(range(3), repeat=3):
        at = dict(zip((P, Q, R), point, strict=True))
        inner = {P: position(other, at), Q: at[R], R: at[P]}
        assert position(placed, at) == position(one, inner)


@pytest.mark.parametrize(("one", "other"), list(itertools.product(PLACES, PLACES)))
def test_places_agree_where_their_positions_do(one: Place, other: Place) -> None:
    found = delta(one, other)
    for point in itertools.product(range(3), repeat=3):
        at = dict(zip((P, Q, R), point, strict=True))
        value = 1.0 if found is None else found.values[tuple(at[x] for x in found.labels)]
        assert value == (position(one, at) == position(other, at))


def test_a_table_in_order_is_its_label() -> None:
    assert placed_by(P.axis, np.arange(3), (Q,)) == Q
    assert placed_by(P.axis, np.array(1), ()) == 2
    shifted = placed_by(P.axis, np.array([2, 0, 1]), (Q,))
    assert moved((shifted,), {Q: placed_by(P.axis, np.array([1, 2, 0]), (Q,))}) == (Q,)


def test_bound_labels_are_new_each_time() -> None:
    first, second = (part((P, Q, R), ()).bind((Q,)) for _ in range(2))
    assert not {*first.over, Q} & {*second.over, Q} - {Q}
    assert first.coefficient.labels == (P, *first.over, R) == first.variable.places
    again = first.refreshed()
    assert set(again.over).isdisjoint(first.over) and again.coefficient.labels == (P, *again.over, R)
    assert part((P, Q, R), ()).refreshed().coefficient.labels == (P, Q, R)


def test_opening_a_sum_sets_its_label() -> None:
    opened = part((P, Q, R), ()).bind((Q, R))
    label, other = opened.over
    opened = opened.opened({label: P})
    assert opened.over == (other,)
    at = {P: 2}
    assert coefficient(opened, at) == NUMBERS[2, 2].sum()


def test_labels_may_change_places() -> None:
    swapped = Tensor(NUMBERS, (P, Q, R)).renamed({P: Q, Q: P})
    np.testing.assert_array_equal(swapped.at((P, Q, R)), NUMBERS.transpose(1, 0, 2))
    diagonal = Tensor(NUMBERS, (P, Q, R)).renamed({P: Q, R: Q})
    np.testing.assert_array_equal(diagonal.at((Q,)), NUMBERS[np.arange(3), np.arange(3), np.arange(3)])


def test_fresh_labels_keep_their_axis() -> None:
    assert fresh(P) != fresh(P) != P and fresh(fresh(P)).axis == P.axis
