"""Places on a line, moved as little as possible until they do not overlap."""

from __future__ import annotations

from collections.abc import Sequence


def apart(places: Sequence[float], gap: float) -> list[float]:
    """The places, in the order of their size, moved as little as possible until neighbours are `gap` apart."""
    order = sorted(range(len(places)), key=lambda k: places[k])
    moved = spread([places[k] for k in order], [gap] * (len(places) - 1))
    back = dict(zip(order, moved, strict=True))
    return [back[k] for k in range(len(places))]


def spread(places: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """The places, in the order given, moved as little as possible (least squares) until they are `gaps` apart.

    Isotonic regression: places less the gaps before them must not decrease, and blocks that violate this take their mean.
    """
    before = [sum(gaps[:k]) for k in range(len(places))]
    blocks: list[tuple[float, int]] = []
    for place, offset in zip(places, before, strict=True):
        total, size = place - offset, 1
        while blocks and blocks[-1][0] / blocks[-1][1] >= total / size:
            last = blocks.pop()
            total, size = total + last[0], size + last[1]
        blocks.append((total, size))
    levels = [total / size for total, size in blocks for _ in range(size)]
    return [level + offset for level, offset in zip(levels, before, strict=True)]
