"""The effect of instructions on labelled arrays, one row each: the table shared by the evaluators of samples, formulas and
coefficients.

A row gives the array of a node over the labels `own` from its arguments and their labels. Labels are indices and
dimensions of neurons; a row knows nothing of particles, tiles or coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tp_compiler.evaluate import numerical_errors
from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.arrays import Labelled, Labels, aligned, joined, reduced, reindexed, shifted
from tp_compiler.evaluate.kernels import KERNELS
from tp_compiler.evaluate.spectral import spectral
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index

Rule = Callable[[Any, Sequence[Labelled], Labels], Array]


def _map(node: ir.Map, args: Sequence[Labelled], own: Labels) -> Array:
    return KERNELS[node.fn](*(aligned(x, of, own) for x, of in args))


def _reduce(node: ir.Reduce, args: Sequence[Labelled], own: Labels) -> Array:
    ((x, of),) = args
    rest = tuple(label for label in of if label != node.index)
    return aligned(reduced(node.op, x, of.index(node.index)), rest, own)


def _shift(node: ir.Shift, args: Sequence[Labelled], own: Labels) -> Array:
    ((x, of),) = args
    return aligned(shifted(x, of.index(node.index), node.by), of, own)


def _cumulate(node: ir.Cumulate, args: Sequence[Labelled], own: Labels) -> Array:
    ((x, of),) = args
    axis = of.index(node.index)
    found = np.flip(np.cumsum(np.flip(x, axis), axis), axis) if node.reverse else np.cumsum(x, axis)
    return aligned(found, of, own)


def _stack(node: ir.Stack, args: Sequence[Labelled], own: Labels) -> Array:
    rest = tuple(label for label in own if label != node.index)
    sizes = {label: n for x, of in args for label, n in zip(of, np.shape(x), strict=True)}
    shape = [label.size if isinstance(label, Index) else sizes[label] for label in rest]
    parts = [np.broadcast_to(aligned(x, of, rest), shape) for x, of in args]
    return np.stack(parts, axis=own.index(node.index))


def _reindex(node: ir.Reindex, args: Sequence[Labelled], own: Labels) -> Array:
    (x, of), *gathers = args
    positions = [
        numerical_errors.positions(aligned(at, labels, gather.type.indices), gather, node)
        for gather, (at, labels) in zip(node.args[1:], gathers, strict=True)
    ]
    neurons = tuple(label for label in of if not isinstance(label, Index))
    before: Labels = (*neurons, *node.args[0].type.indices)
    after: Labels = (*neurons, *node.type.indices)
    return aligned(reindexed(node, aligned(x, of, before), before, positions, after), after, own)


def _join(node: ir.Join, args: Sequence[Labelled], own: Labels) -> Array:
    return joined(node, [x for x, _ in args], [of for _, of in args], own)


def _linalg(node: ir.Linalg, args: Sequence[Labelled], own: Labels) -> Array:
    return numerical_errors.linalg(node, list(args), own)


def _spectral(node: ir.Spectral, args: Sequence[Labelled], own: Labels) -> Array:
    return spectral(node, list(args), own)


RULES: dict[type[ir.Node], Rule] = {
    ir.Map: _map,
    ir.Reduce: _reduce,
    ir.Reindex: _reindex,
    ir.Shift: _shift,
    ir.Cumulate: _cumulate,
    ir.Stack: _stack,
    ir.Join: _join,
    ir.Linalg: _linalg,
    ir.Spectral: _spectral,
}
