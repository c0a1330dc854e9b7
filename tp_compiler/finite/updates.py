"""The new states of a matrix after a step, entry by entry, a few rows at a time.

No array of the size of a matrix is made apart from the states: the natural entries Σ dh_α x_β of the gradient (a product of
matrices, by BLAS) and everything that the optimizer computes from them exist only for a few rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.finite.array_types import Values
from tp_compiler.finite.blame import finite, undefined
from tp_compiler.finite.schedule import StateUpdate
from tp_compiler.finite.tensors import NETWORKS, LabelledArray, align, state_labels
from tp_compiler.finite.tiles import Averager, Ranges, cut
from tp_compiler.ir import nodes as ir

#: Array entries of one intermediate result: few enough that a chain of entrywise functions stays in the cache.
ENTRIES = 1 << 17


class Diverged(Exception):
    """The next value of a state is not finite, or cannot be computed."""

    def __init__(self, state: ir.State, cause: Diagnostic):
        self.state, self.cause = state, cause
        super().__init__(cause.message)


def advance(
    update: StateUpdate, states: Mapping[ir.State, Values], into: Mapping[ir.State, Values], averager: Averager
) -> None:
    """Writes the next values of the states into arrays (which may be those of the states). Raises Diverged or Refusal."""
    for ranges in _rows(update, states):
        local = averager.tile_of(update.body, ranges, {})
        tiles = {state: averager.tensor(node, ranges, local) for state, node in update.following.items()}
        for state, tile in tiles.items():
            if not finite(tile.array):
                raise Diverged(state, _blame(update, state, ranges, averager))
        ready = {state: _fitting(state, tile, update) for state, tile in tiles.items()}
        for state, value in ready.items():
            into[state][cut(state_labels(state), ranges)] = value


def _fitting(state: ir.State, tile: LabelledArray, update: StateUpdate) -> Values:
    """The tile over the labels of the state; a copy if it is a view of a state that is about to change."""
    array = align(tile, state_labels(state))
    return array.copy() if isinstance(update.following[state], ir.Carry) else array


def _rows(update: StateUpdate, states: Mapping[ir.State, Values]) -> Iterator[Ranges]:
    """Whole rows, as many as fit, so that tiles lie contiguously; then networks, as many as fit."""
    rows, columns = update.slots
    count, *_, height, width = next(states[state].shape for state in update.following)
    largest = width * max(node.type.size() for node in (*update.body.nodes, *update.following.values()))
    step = min(height, max(1, ENTRIES // largest))
    together = max(1, ENTRIES // (largest * step))
    for first in range(0, count, together):
        for start in range(0, height, step):
            networks = (first, min(first + together, count))
            yield {NETWORKS: networks, rows: (start, min(start + step, height)), columns: (0, width)}


def _blame(update: StateUpdate, state: ir.State, ranges: Ranges, averager: Averager) -> Diagnostic:
    node = update.following[state]
    blamed = averager.blame_in(update.body, ranges, {})
    return blamed.get(node) or averager.blamed.get(node) or undefined(node, ())
