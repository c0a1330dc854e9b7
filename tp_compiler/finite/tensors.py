"""Arrays whose dimensions are labelled by named indices and slots; broadcasting and contraction by label.

A label is an `Index` or a slot number. The array of a node has the dimensions of `node.type`: its indices in order,
then its slots in ascending order, so that neurons lie contiguously and a product with a matrix is one BLAS call.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from tp_compiler.finite.array_types import Values
from tp_compiler.ir.nodes import Node, State
from tp_compiler.ir.types import Index

Label = Index | int
Labels = tuple[Label, ...]


class LabelledArray(NamedTuple):
    """An array and the labels of its dimensions."""

    array: Values
    labels: Labels


def labels_of(node: Node) -> Labels:
    """The labels of a node's array: indices, then slots."""
    return (*node.type.indices, *(slot for slot, _ in node.type.slots))


def state_labels(state: State) -> Labels:
    """The labels of the array that a state of the training is."""
    return (*state.type.indices, *(slot for slot, _ in state.type.slots))


def align(x: LabelledArray, labels: Sequence[Label]) -> Values:
    """x with one dimension per entry of `labels`, in that order; size 1 where x lacks the label."""
    order = [x.labels.index(label) for label in labels if label in x.labels]
    array = x.array.transpose(order)
    if len(order) == len(labels):
        return array
    sizes = iter(array.shape)
    return array.reshape([next(sizes) if label in x.labels else 1 for label in labels])


def merge_order(
    labels: Sequence[Labels], out: Collection[Label], sizes: Mapping[Label, int]
) -> tuple[list[tuple[int, int]], int]:
    """The pairs to multiply, smallest result first, and the number of entries of the largest intermediate result.

    Pairs are positions in a list from which both factors are removed and to which the product is appended.
    A label outside `out` is summed as soon as no other factor carries it.
    """
    # A label on one factor alone is summed before anything is multiplied.
    left = [frozenset(ls) for ls in labels]
    left = [_kept(one, left[:k] + left[k + 1 :], out) for k, one in enumerate(left)]
    pairs: list[tuple[int, int]] = []
    peak = 0
    while len(left) > 1:
        options = []
        for i, j in combinations(range(len(left)), 2):
            rest = [f for k, f in enumerate(left) if k not in (i, j)]
            kept = _kept(left[i] | left[j], rest, out)
            options.append((math.prod(sizes[x] for x in kept), i, j, kept))
        size, i, j, kept = min(options, key=lambda option: option[:3])
        pairs.append((i, j))
        left = [f for k, f in enumerate(left) if k not in (i, j)] + [kept]
        if len(left) > 1:
            peak = max(peak, size)
    return pairs, peak


def _kept(labels: frozenset[Label], rest: Sequence[frozenset[Label]], out: Collection[Label]) -> frozenset[Label]:
    return frozenset(x for x in labels if x in out or any(x in other for other in rest))


def contract(factors: Sequence[LabelledArray], out: Labels) -> Values:
    """The product of the factors summed over every label outside `out`, dimensions in the order of `out`."""
    sizes = {x: size for f in factors for x, size in zip(f.labels, f.array.shape, strict=True)}
    with np.errstate(all="ignore"):
        left = [_sum_alone(f, factors[:k], factors[k + 1 :], out) for k, f in enumerate(factors)]
        for i, j in merge_order([f.labels for f in left], out, sizes)[0]:
            rest = [f for k, f in enumerate(left) if k not in (i, j)]
            left = [*rest, _multiply(left[i], left[j], {x for f in rest for x in f.labels} | set(out))]
    return align(left[0], out)


def _sum_alone(
    f: LabelledArray, before: Sequence[LabelledArray], after: Sequence[LabelledArray], out: Labels
) -> LabelledArray:
    elsewhere = {x for other in (*before, *after) for x in other.labels} | set(out)
    gone = tuple(k for k, x in enumerate(f.labels) if x not in elsewhere)
    if not gone:
        return f
    return LabelledArray(np.asarray(f.array.sum(axis=gone)), tuple(x for x in f.labels if x in elsewhere))


def _multiply(a: LabelledArray, b: LabelledArray, wanted: set[Label]) -> LabelledArray:
    """The product of two factors, summed over the shared labels that are no longer needed."""
    gone = [x for x in a.labels if x in b.labels and x not in wanted]
    batch = [x for x in a.labels if x in b.labels and x in wanted]
    left = [x for x in a.labels if x not in b.labels]
    right = [x for x in b.labels if x not in a.labels]
    labels = (*batch, *left, *right)
    if not gone:
        return LabelledArray(align(a, labels) * align(b, labels), labels)
    size = {x: n for f in (a, b) for x, n in zip(f.labels, f.array.shape, strict=True)}
    shape = tuple(size[x] for x in labels)
    if batch and (not left or not right):
        # Many small dot products: BLAS would be called once per member of the batch.
        names = {x: k for k, x in enumerate((*labels, *gone))}
        sub = [[names[x] for x in f.labels] for f in (a, b)]
        product: Any = np.einsum  # whose form with lists of numbers has no type
        return LabelledArray(product(a.array, sub[0], b.array, sub[1], [names[x] for x in labels]), labels)
    rows, columns = _matrices(a, batch, left, gone), _matrices(b, batch, right, gone)
    return LabelledArray(np.matmul(rows, columns.swapaxes(-1, -2)).reshape(shape), labels)


def _matrices(f: LabelledArray, batch: list[Label], own: list[Label], gone: list[Label]) -> Values:
    """f as an array (batch, own, gone), without a copy if its layout allows it."""
    size = dict(zip(f.labels, f.array.shape, strict=True))
    count = [math.prod(size[x] for x in group) for group in (batch, own, gone)]
    lead = (count[0],) if batch else ()
    if f.labels[-1] in gone:
        return align(f, (*batch, *own, *gone)).reshape(*lead, count[1], count[2])
    return align(f, (*batch, *gone, *own)).reshape(*lead, count[2], count[1]).swapaxes(-1, -2)
