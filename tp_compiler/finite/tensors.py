"""Arrays whose dimensions are labelled by named indices and slots; broadcasting and contraction by label.

A label is an `Index` or a slot number. The array of a node has the dimensions of `node.type`: its indices in order,
then its slots in ascending order, so that neurons lie contiguously and a product with a matrix is one BLAS call. In front
of them, what differs from network to network has one more dimension: the networks that are computed side by side.
The digits of a network do not depend on the others: sums and products are made network by network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from tp_compiler.finite.array_types import Values
from tp_compiler.ir.nodes import Node, State
from tp_compiler.ir.types import Index

Label = Index | int
Labels = tuple[Label, ...]

#: The label of the networks, the first dimension of what differs between them; not the number of any slot.
NETWORKS = -1


class LabelledArray(NamedTuple):
    """An array and the labels of its dimensions."""

    array: Values
    labels: Labels


def labels_of(node: Node) -> Labels:
    """The labels of a node's array: indices, then slots."""
    indices, slots = node.type.indices, node.type.slots
    if len(slots) < 2:
        return (*indices, slots[0][0]) if slots else indices
    return (*indices, *(slot for slot, _ in slots))


def state_labels(state: State) -> Labels:
    """The labels of the array that a state of the training is."""
    return (NETWORKS, *state.type.indices, *(slot for slot, _ in state.type.slots))


def labelled(array: Values, labels: Labels) -> LabelledArray:
    """An array with the labels of its node, and that of the networks if it has one dimension more."""
    return LabelledArray(array, labels if array.ndim == len(labels) else (NETWORKS, *labels))


def labels_from(node: Node, args: Sequence[LabelledArray]) -> Labels:
    """The labels of the array of a node that is computed from `args`."""
    labels = labels_of(node)
    return (NETWORKS, *labels) if any(NETWORKS in a.labels for a in args) else labels


def each_network(
    function: Callable[[int, list[LabelledArray]], Values], args: Sequence[LabelledArray], count: int
) -> Values:
    """What cannot be computed for all networks at once: `function(number, its own arguments)`, one after the other."""

    def own(k: int, a: LabelledArray) -> LabelledArray:
        return LabelledArray(a.array[k], a.labels[1:]) if NETWORKS in a.labels else a

    return np.stack([function(k, [own(k, a) for a in args]) for k in range(count)])


def align(x: LabelledArray, labels: Sequence[Label]) -> Values:
    """x with one dimension per entry of `labels`, in that order; size 1 where x lacks the label."""
    if x.labels == labels:
        return x.array
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
    pairs, peak = _merges(tuple(labels), tuple(out), tuple(sizes[x] for ls in labels for x in ls))
    return list(pairs), peak


@lru_cache(4096)
def _merges(
    labels: tuple[Labels, ...], out: Labels, counts: tuple[int, ...]
) -> tuple[tuple[tuple[int, int], ...], int]:
    sizes = dict(zip((x for ls in labels for x in ls), counts, strict=True))
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
    return tuple(pairs), peak


def _kept(labels: frozenset[Label], rest: Sequence[frozenset[Label]], out: Collection[Label]) -> frozenset[Label]:
    return frozenset(x for x in labels if x in out or any(x in other for other in rest))


def contract(factors: Sequence[LabelledArray], out: Labels) -> Values:
    """The product of the factors summed over every label outside `out`, dimensions in the order of `out`."""
    # The order of the products does not depend on how many networks there are.
    sizes = {x: size for f in factors for x, size in zip(f.labels, f.array.shape, strict=True)} | {NETWORKS: 1}
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
    batch = [x for x in a.labels if x in b.labels and x in wanted and x != NETWORKS]
    left = [x for x in a.labels if x not in b.labels and x != NETWORKS]
    right = [x for x in b.labels if x not in a.labels and x != NETWORKS]
    networks: list[Label] = [NETWORKS] if NETWORKS in a.labels or NETWORKS in b.labels else []
    labels = (*networks, *batch, *left, *right)
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
    rows, columns = _matrices(a, networks, batch, left, gone), _matrices(b, networks, batch, right, gone)
    return LabelledArray(np.matmul(rows, columns.swapaxes(-1, -2)).reshape(shape), labels)


def _matrices(
    f: LabelledArray, networks: list[Label], batch: list[Label], own: list[Label], gone: list[Label]
) -> Values:
    """f as an array (networks, batch, own, gone), without a copy if its layout allows it."""
    size = {NETWORKS: 1} | dict(zip(f.labels, f.array.shape, strict=True))
    count = [math.prod(size[x] for x in group) for group in (batch, own, gone)]
    lead = (*(size[x] for x in networks), *count[: len(batch[:1])])
    if f.labels[-1] in gone:
        return align(f, (*networks, *batch, *own, *gone)).reshape(*lead, count[1], count[2])
    return align(f, (*networks, *batch, *gone, *own)).reshape(*lead, count[2], count[1]).swapaxes(-1, -2)
