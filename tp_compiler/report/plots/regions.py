"""Regions of a plane on which a function of two exact coordinates is constant, their borders and corners.

The plane is cut into triangles by lines of slope 0, ∞ and -1. A triangle whose parts differ is refined. Classes that hold on a
border alone are found on the edges of the grid, those that hold at a point on its corners.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

Point = tuple[Fraction, Fraction]
Triangle = tuple[Point, Point, Point]
Segment = tuple[Point, Point]
K = TypeVar("K")

_FINEST = 2


@dataclass(frozen=True)
class Regions(Generic[K]):
    """Pieces of the plane by class: triangles; segments and points of a class that neither side of them has."""

    triangles: dict[K, list[Triangle]]
    segments: dict[K, list[Segment]]
    points: dict[K, list[Point]]


def regions(kind: Callable[[Point], K], across: Segment, step: Fraction) -> Regions[K]:
    """The regions between the corners `across`, whose sides are multiples of `step`."""
    triangles: dict[K, list[Triangle]] = {}
    beside: dict[Segment, set[K]] = {}
    for triangle in _grid(across, step):
        for found, part in _refined(kind, triangle, 0):
            triangles.setdefault(found, []).append(part)
            for edge in _edges(triangle):
                beside.setdefault(edge, set()).add(found)
    segments: dict[K, list[Segment]] = {}
    around: dict[Point, set[K]] = {}
    for edge, sides in beside.items():
        # Between equal neighbours and corners there is no border.
        found = kind(edge[0]) if len(sides | {kind(p) for p in edge}) == 1 else kind(_mean(*edge))
        if found not in sides:
            segments.setdefault(found, []).append(edge)
        for corner in edge:
            around.setdefault(corner, set()).update(sides | {found})
    points: dict[K, list[Point]] = {}
    for corner, near in around.items():
        if kind(corner) not in near:
            points.setdefault(kind(corner), []).append(corner)
    return Regions(triangles, segments, points)


def runs(segments: list[Segment]) -> list[list[Point]]:
    """Segments that continue one another, as polylines."""
    lines: list[list[Point]] = []
    for start, end in sorted(segments):
        before = next((line for line in lines if line[-1] == start and _straight(line[-2], start, end)), None)
        if before is None:
            lines.append([start, end])
        else:
            before.append(end)
    return lines


def _straight(a: Point, b: Point, c: Point) -> bool:
    return (b[0] - a[0]) * (c[1] - b[1]) == (b[1] - a[1]) * (c[0] - b[0])


def _grid(across: Segment, step: Fraction) -> Iterator[Triangle]:
    """Two triangles for each square of the grid."""
    (left, bottom), (right, top) = across
    for column in range(int((right - left) / step)):
        for row in range(int((top - bottom) / step)):
            x, y = left + column * step, bottom + row * step
            yield (x, y), (x + step, y), (x, y + step)
            yield (x + step, y + step), (x + step, y), (x, y + step)


def _refined(kind: Callable[[Point], K], triangle: Triangle, depth: int) -> Iterator[tuple[K, Triangle]]:
    """The triangle with its class, or its parts: it has one class if its parts at the corners agree."""
    parts = list(_quarters(triangle))
    found = {kind(_mean(*part)) for part in parts[1:]}
    if len(found) == 1:
        yield found.pop(), triangle
    elif depth == _FINEST:
        yield from ((kind(_mean(*part)), part) for part in parts)
    else:
        for part in parts:
            yield from _refined(kind, part, depth + 1)


def _quarters(triangle: Triangle) -> Iterator[Triangle]:
    a, b, c = triangle
    ab, bc, ca = _mean(a, b), _mean(b, c), _mean(c, a)
    yield ab, bc, ca  # in the middle
    yield a, ab, ca
    yield b, ab, bc
    yield c, bc, ca


def _edges(triangle: Triangle) -> Iterator[Segment]:
    a, b, c = sorted(triangle)
    yield a, b
    yield a, c
    yield b, c


def _mean(*points: Point) -> Point:
    return sum(p[0] for p in points) / Fraction(len(points)), sum(p[1] for p in points) / Fraction(len(points))


def widest(found: Regions[K], kind: K) -> Point:
    """A place for the name of a region, twice as wide as high: the centre of a triangle far from other regions and the rim."""
    inside = [_mean(*t) for t in found.triangles[kind]]
    walls = [p for other, ts in found.triangles.items() for t in ts for p in t if other != kind]
    rim = [p for ts in found.triangles.values() for t in ts for p in t]
    left, right = min(p[0] for p in rim), max(p[0] for p in rim)
    bottom, top = min(p[1] for p in rim), max(p[1] for p in rim)

    def room(at: Point) -> Fraction:
        edge = min(at[0] - left, right - at[0], 2 * (at[1] - bottom), 2 * (top - at[1]))
        return min([edge * edge, *(_squared(at[0] - x, 2 * (at[1] - y)) for x, y in walls)])

    return max(inside, key=room)


def _squared(x: Fraction, y: Fraction) -> Fraction:
    return x * x + y * y
