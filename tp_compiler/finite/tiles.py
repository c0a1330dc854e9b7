"""Averages over neurons: n^-r Σ over all β of a product (Avg and OuterNonlin, TP IVb Def 2.6.1), in bounded memory.

Factors that are held arrays are contracted by BLAS in one piece. A body with several slots is never built whole: the
slots are cut into tiles, every passing node is computed on one tile at a time, and nested averages run inside tiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.finite import instructions
from tp_compiler.finite.array_types import Values
from tp_compiler.finite.blame import Refusal, finite, undefined
from tp_compiler.finite.bodies import TileBody, held
from tp_compiler.finite.contraction import contract, merge_order
from tp_compiler.finite.tensors import (
    NETWORKS,
    Label,
    LabelledArray,
    Labels,
    align,
    labelled,
    labels_from,
)
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Width

#: Array entries of the largest intermediate result in a tile.
TILE = 1 << 19

Ranges = Mapping[int, tuple[int, int]]
Passing = dict[ir.Node, Values]
_NO_BODY = TileBody([], [], {}, [], [])


@dataclass
class Averager:
    """Evaluates averages given the held values so far, and the blame for those that are not finite."""

    values: Mapping[ir.Node, Values]
    blamed: Mapping[ir.Node, Diagnostic]
    bodies: Mapping[ir.Contract, TileBody]
    neurons: Callable[[Width], int]
    dtype: type[np.floating] | np.dtype[np.floating]
    count: int = 1  # of networks
    tile: int = TILE

    def average(self, node: ir.Contract) -> Values:
        """The array of a held Contract with slots."""
        return self._average(node, self.bodies.get(node, _NO_BODY), {}, {})

    def _average(self, node: ir.Contract, body: TileBody, outer: Ranges, known: Passing) -> Values:
        """The mean on the tile `outer` of the enclosing averages; `known` holds their passing values there."""
        widths = {slot: self.neurons(width) for a in node.args for slot, width in a.type.slots}
        free = {slot: size for slot, size in widths.items() if slot not in outer}
        steps = self._steps(node, body, outer, free)
        widths[NETWORKS] = self.count
        if NETWORKS not in outer:
            free = {NETWORKS: self.count, **free}
        spans = {slot: outer[slot][1] - outer[slot][0] if slot in outer else widths[slot] for slot in widths}
        out = None
        for ranges in _tiles(free, steps):
            here = {**outer, **ranges}
            part = self._tile(node, body, here, known)
            if not finite(part):
                raise Refusal(self._blame(node, body, here, known))
            labels = labelled(part, node.labels).labels
            out = np.zeros([_size(x, spans) for x in labels], self.dtype) if out is None else out
            if NETWORKS in labels or ranges.get(NETWORKS, (0, 0))[0] == 0:  # else it is the same for all networks
                out[cut(labels, ranges)] += part
        assert out is not None
        out /= math.prod(widths[slot] for slot in node.slots)
        if not finite(out):
            raise Refusal(undefined(node, ()))
        return out

    def _tile(self, node: ir.Contract, body: TileBody, ranges: Ranges, known: Passing) -> Values:
        local = self.tile_of(body, ranges, known)
        args = [self.tensor(a, ranges, local) for a in node.args]
        return contract(args, labels_from(node, args))

    def tile_of(self, body: TileBody, ranges: Ranges, known: Passing) -> Passing:
        """The passing values of a body on one tile, without those that are no longer needed."""
        local = dict(known)
        for inside, freed in zip(body.nodes, body.freed, strict=True):
            local[inside] = self._passing(inside, body, ranges, local)
            for gone in freed:
                local.pop(gone, None)
        return local

    def _passing(self, node: ir.Node, body: TileBody, ranges: Ranges, local: Passing) -> Values:
        if isinstance(node, ir.Contract) and node in body.inner:
            return self._average(node, body.inner[node], _within(ranges, node), local)
        return instructions.apply(node, [self.tensor(a, ranges, local) for a in node.args])

    def tensor(self, node: ir.Node, ranges: Ranges, local: Passing) -> LabelledArray:
        if not held(node):
            return labelled(local[node], node.labels)
        found = labelled(self.values[node], node.labels)
        if any(x in ranges for x in found.labels):
            return LabelledArray(found.array[cut(found.labels, ranges)], found.labels)
        return found

    def _steps(self, node: ir.Contract, body: TileBody, outer: Ranges, free: Mapping[int, int]) -> dict[int, int]:
        """How many neurons of each free slot go into one tile: all of them, halved until the tile fits; then networks."""
        steps = dict(free)
        fixed = {slot: stop - start for slot, (start, stop) in outer.items()}
        while steps and self._cost(node, body, {**fixed, **steps}) > self.tile:
            widest = max(steps, key=lambda slot: steps[slot])
            if steps[widest] == 1:
                break
            steps[widest] = -(-steps[widest] // 2)
        steps[NETWORKS] = max(1, self.tile // max(1, self._cost(node, body, {**fixed, **steps})))
        return steps

    def _cost(self, node: ir.Contract, body: TileBody, slots: Mapping[int, int]) -> int:
        """Entries of the largest array made in a tile, the result of the average itself left out."""
        cost = max((_entries(inside, slots) for inside in body.nodes), default=0)
        factors = [a.labels for a in node.args]
        sizes: dict[Label, int] = {x: _size(x, slots) for ls in factors for x in ls}
        return max(cost, merge_order(factors, node.labels, sizes)[1])

    def _blame(self, node: ir.Contract, body: TileBody, ranges: Ranges, known: Passing) -> Diagnostic:
        blamed = self.blame_in(body, ranges, known)
        return first_blamed(node, blamed) or undefined(node, ())

    def blame_in(self, body: TileBody, ranges: Ranges, known: Passing) -> dict[ir.Node, Diagnostic]:
        """The diagnostics of all that is not finite on this tile, which is computed once more for it."""
        local = dict(known)
        blamed = dict(self.blamed)
        for inside in body.nodes:
            local[inside] = self._passing(inside, body, ranges, local)
            if not finite(local[inside]):
                guilty = first_blamed(inside, blamed)
                args = [] if inside in body.inner else [self.tensor(a, ranges, local).array for a in inside.args]
                blamed[inside] = guilty or blame_on(inside, args)
        return blamed


def first_blamed(node: ir.Node, blamed: Mapping[ir.Node, Diagnostic]) -> Diagnostic | None:
    """The diagnostic of the earliest argument that is not finite."""
    guilty = [a for a in node.args if a in blamed]
    return blamed[min(guilty, key=lambda a: a.serial)] if guilty else None


def blame_on(node: ir.Node, args: list[Values]) -> Diagnostic:
    """The diagnostic for a node whose arguments, given as arrays of their own labels, are finite."""
    # Only pow looks at two arguments entry by entry.
    if isinstance(node, ir.Map):
        shown = [labelled(a, n.labels) for a, n in zip(args, node.args, strict=True)]
        args = [align(a, labels_from(node, shown)) for a in shown]
    return undefined(node, args)


def cut(labels: Labels, ranges: Ranges) -> tuple[slice, ...]:
    """The index of the tile in an array with these labels."""
    return tuple(slice(*ranges[x]) if isinstance(x, int) and x in ranges else slice(None) for x in labels)


def _within(ranges: Ranges, node: ir.Contract) -> Ranges:
    """The ranges of the slots the nested average leaves free."""
    return {slot: span for slot, span in ranges.items() if slot not in node.slots}


def _size(label: Label, slots: Mapping[int, int]) -> int:
    return slots[label] if isinstance(label, int) else label.size


def _entries(node: ir.Node, slots: Mapping[int, int]) -> int:
    return math.prod(_size(x, slots) for x in node.labels)


def _tiles(sizes: Mapping[int, int], steps: Mapping[int, int]) -> Iterator[dict[int, tuple[int, int]]]:
    cuts = [[(a, min(a + steps[s], size)) for a in range(0, size, steps[s])] for s, size in sizes.items()]
    for spans in product(*cuts):
        yield dict(zip(sizes, spans, strict=True))
