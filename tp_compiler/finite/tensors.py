"""Arrays whose dimensions are labelled by named indices and slots; broadcasting by label.

A label is an `Index` or a slot number. The array of a node has the dimensions of `node.type`: its indices in order,
then its slots in ascending order, so that neurons lie contiguously and a product with a matrix is one BLAS call. In front
of them, what differs from network to network has one more dimension: the networks that are computed side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

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


def state_labels(state: State) -> Labels:
    """The labels of the array that a state of the training is."""
    return (NETWORKS, *state.type.indices, *(slot for slot, _ in state.type.slots))


def labelled(array: Values, labels: Labels) -> LabelledArray:
    """An array with the labels of its node, and that of the networks if it has one dimension more."""
    return LabelledArray(array, labels if array.ndim == len(labels) else (NETWORKS, *labels))


def labels_from(node: Node, args: Sequence[LabelledArray]) -> Labels:
    """The labels of the array of a node that is computed from `args`."""
    labels = node.labels
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
