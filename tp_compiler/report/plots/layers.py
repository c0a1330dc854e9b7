"""A directed graph in layers: every arrow leads down, few arrows cross, and neighbours are close (Sugiyama, Tagawa and Toda 1981)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tp_compiler.report.plots.spacing import spread

_SWEEPS = 12
#: The width of the place at which a long arrow passes a layer, and the space between neighbours.
_PASSING, _SPACE = 0.12, 0.25


@dataclass(frozen=True)
class LayeredGraph:
    """The place (x, layer) of every vertex, and the places at which an arrow passes layers, ends included."""

    places: tuple[tuple[float, int], ...]
    routes: Mapping[tuple[int, int], tuple[tuple[float, int], ...]]
    depth: int


def layout(widths: Sequence[float], arrows: Sequence[tuple[int, int]]) -> LayeredGraph:
    """Places for vertices of these widths; arrows lead from a smaller number to a larger one."""
    level = _levels(len(widths), arrows)
    layers: list[list[int]] = [[] for _ in range(max(level, default=-1) + 1)]
    for vertex, depth in enumerate(level):
        layers[depth].append(vertex)
    size = list(widths)
    links: list[tuple[int, int]] = []
    chains: dict[tuple[int, int], list[int]] = {}
    for source, target in arrows:
        chain = [source]
        for depth in range(level[source] + 1, level[target]):
            size.append(_PASSING)
            layers[depth].append(len(size) - 1)
            chain.append(len(size) - 1)
        chain.append(target)
        chains[source, target] = chain
        links += pairwise(chain)
    above, below = _neighbours(len(size), links)
    _order(layers, above, below)
    x = _across(layers, size, above, below)
    depths = {node: depth for depth, layer in enumerate(layers) for node in layer}
    places = tuple((x[v], level[v]) for v in range(len(widths)))
    routes = {arrow: tuple((x[v], depths[v]) for v in chain) for arrow, chain in chains.items()}
    return LayeredGraph(places, routes, len(layers))


def _levels(count: int, arrows: Sequence[tuple[int, int]]) -> list[int]:
    """The longest path to each vertex; a source is then moved down to just above the first vertex that needs it."""
    level = [0] * count
    for source, target in sorted(arrows, key=lambda a: a[1]):
        level[target] = max(level[target], level[source] + 1)
    above, below = _neighbours(count, arrows)
    for vertex in reversed(range(count)):
        if below[vertex] and not above[vertex]:
            level[vertex] = min(level[target] for target in below[vertex]) - 1
    return level


def _neighbours(count: int, links: Sequence[tuple[int, int]]) -> tuple[list[list[int]], list[list[int]]]:
    above: list[list[int]] = [[] for _ in range(count)]
    below: list[list[int]] = [[] for _ in range(count)]
    for source, target in links:
        above[target].append(source)
        below[source].append(target)
    return above, below


def _order(layers: list[list[int]], above: list[list[int]], below: list[list[int]]) -> None:
    """Sweeps down and up; each layer is sorted by the mean rank of its neighbours in the layer before. The best is kept."""
    best, fewest = [list(layer) for layer in layers], crossings(layers, below)
    rank = {v: k for layer in layers for k, v in enumerate(layer)}
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            near = above if down else below
            layer.sort(key=lambda v: sum(rank[w] for w in near[v]) / len(near[v]) if near[v] else rank[v])
            rank.update((v, k) for k, v in enumerate(layer))
        found = crossings(layers, below)
        if found < fewest:
            best, fewest = [list(layer) for layer in layers], found
    layers[:] = best


def crossings(layers: Sequence[Sequence[int]], below: Sequence[Sequence[int]]) -> int:
    """How many pairs of arrows between neighbouring layers cross."""
    count = 0
    for upper, lower in pairwise(layers):
        rank = {v: k for k, v in enumerate(lower)}
        ends = [(k, rank[w]) for k, v in enumerate(upper) for w in below[v]]
        count += sum((a < c) and (b > d) for a, b in ends for c, d in ends)
    return count


def _across(
    layers: list[list[int]], size: Sequence[float], above: list[list[int]], below: list[list[int]]
) -> list[float]:
    """Places from left to right: as near as possible to the mean of the neighbours without overlap."""
    x = [0.0] * len(size)
    for layer in layers:
        for v, place in zip(layer, spread([0.0] * len(layer), _gaps(layer, size)), strict=True):
            x[v] = place
    for sweep in range(2 * _SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            near = above if sweep % 2 == 0 else below
            wanted = [sum(x[w] for w in near[v]) / len(near[v]) if near[v] else x[v] for v in layer]
            for v, place in zip(layer, spread(wanted, _gaps(layer, size)), strict=True):
                x[v] = place
    return x


def _gaps(layer: Sequence[int], size: Sequence[float]) -> list[float]:
    return [(size[a] + size[b]) / 2 + _SPACE for a, b in pairwise(layer)]
