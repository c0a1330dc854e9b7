"""Regions of a plane, found by asking for the class at points."""

from __future__ import annotations

from fractions import Fraction as F

import pytest

from tp_compiler.report.plots.regions import Point, Regions, regions, runs, widest

WINDOW = ((F(-1), F(-1)), (F(1), F(1)))


def found(kind: str) -> Regions[str]:
    return regions(KINDS[kind], WINDOW, F(1, 4))


def diagonal(at: Point) -> str:
    return "line" if at[0] + at[1] == 0 and at[0] >= 0 else "above" if at[0] + at[1] > 0 else "below"


def corner(at: Point) -> str:
    return "corner" if at == (0, F(1, 2)) else "plain"


def steep(at: Point) -> str:
    return "left" if 2 * at[0] < at[1] else "right"


KINDS = {"diagonal": diagonal, "corner": corner, "steep": steep}


def area(triangles: list[tuple[Point, Point, Point]]) -> F:
    return sum(
        (abs((b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])) / 2 for a, b, c in triangles), start=F(0)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_triangles_cover_the_window_once(kind: str) -> None:
    assert sum(area(triangles) for triangles in found(kind).triangles.values()) == 4


def test_a_border_of_its_own_class() -> None:
    pieces = found("diagonal")
    assert runs(pieces.segments["line"]) == [[(F(k, 4), -F(k, 4)) for k in range(5)]]
    assert area(pieces.triangles["above"]) == 2 and set(pieces.segments) == {"line"} and not pieces.points


def test_a_class_at_a_corner() -> None:
    pieces = found("corner")
    assert pieces.points == {"corner": [(0, F(1, 2))]} and not pieces.segments


def test_other_borders_are_refined() -> None:
    assert abs(area(found("steep").triangles["left"]) - 2) <= F(1, 32)


@pytest.mark.parametrize("kind", ["diagonal", "steep"])
def test_names_stand_in_their_regions(kind: str) -> None:
    pieces = found(kind)
    for name in pieces.triangles:
        place = widest(pieces, name)
        assert KINDS[kind](place) == name and max(abs(x) for x in place) < F(9, 10)
