"""Labelled arrays: alignment for broadcasting, contraction of products by BLAS, and moves along indices.

A value of type `Type` is an array whose leading dimensions are its slots (in ascending order) and whose trailing
dimensions are its indices. Labels are slot numbers (int) and `Index` objects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tp_compiler.evaluate.array_types import Array, Kind, Whole
from tp_compiler.evaluate.budget import current, spacious
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index, Type

Label = int | Index
Labels = tuple[Label, ...]
#: An array and what its dimensions are.
Labelled = tuple[Array, Labels]
STEP = "a step of a sum of products"
#: The label of the dimension that numbers replicates: the first of every array that differs between them.
REPLICATE = -2


def labels(kind: Type) -> Labels:
    return (*(slot for slot, _ in kind.slots), *kind.indices)


class Move(NamedTuple):
    """How an array is laid out under other labels: the order of its dimensions, and where new ones of size 1 are put."""

    axes: tuple[int, ...] | None
    place: tuple[slice | None, ...] | None

    def __call__(self, x: Kind) -> Kind:
        moved: Any = x if hasattr(x, "ndim") else np.asarray(x)
        if self.axes is not None:
            moved = moved.transpose(*self.axes)
        if self.place is not None:
            moved = moved[self.place]
        result: Kind = moved
        return result


def move(own: Sequence[Label], wanted: Sequence[Label]) -> Move:
    present = [label for label in wanted if label in own]
    axes = None if list(own) == present else tuple([list(own).index(label) for label in present])
    place = tuple([slice(None) if label in own else None for label in wanted])
    return Move(axes, None if len(present) == len(wanted) else place)


def aligned(x: Kind, own: Sequence[Label], wanted: Sequence[Label]) -> Kind:
    """A view of x with one dimension per wanted label, of size 1 where x lacks it."""
    return move(own, wanted)(x)


def contract(arrays: Sequence[Array], of: list[Labels], out: Labels) -> Array:
    """The sum, over every label not in `out`, of the product of arrays. Pairs are merged smallest result first."""
    plan = _contraction(tuple(of), tuple([np.shape(x) for x in arrays]), out)
    terms = [x.sum(axis=lonely) if lonely else x for x, lonely in zip(arrays, plan.lonely, strict=True)]
    for pair in plan.pairs:
        second, first = terms.pop(pair.second), terms.pop(pair.first)
        terms.append(pair(first, second))
    (x,) = terms
    current().room(x.size, "a sum of products")
    result = plan.last(x)
    if not plan.pairs or plan.last.axes is not None:  # an array that is given, or another layout
        result = result.copy()
    current().hold(result)
    return result


class _Pair(NamedTuple):
    """Two factors into one: an elementwise product if `shape` is None, else a matrix product of reshaped factors."""

    first: int  # places among the terms, the first before the second
    second: int
    left: Move
    right: Move
    left_shape: tuple[int, ...] = ()
    right_shape: tuple[int, ...] = ()
    shape: tuple[int, ...] | None = None

    def __call__(self, a: Array, b: Array) -> Array:
        if self.shape is None:
            return spacious(np.multiply, self.left(a), self.right(b), what=STEP)
        budget = current()
        budget.room(math.prod(self.shape) + a.size + b.size, STEP)
        product = np.matmul(np.reshape(self.left(a), self.left_shape), np.reshape(self.right(b), self.right_shape))
        budget.hold(product)
        return np.reshape(product, self.shape)


class _Contraction(NamedTuple):
    """The order of a sum of products: sums of single factors, pairs, and the layout of the result."""

    lonely: tuple[tuple[int, ...], ...]
    pairs: tuple[_Pair, ...]
    last: Move


#: A factor without its numbers: its labels with their sizes.
_Sizes = dict[Label, int]


@lru_cache(maxsize=2**12)
def _contraction(of: tuple[Labels, ...], shapes: tuple[tuple[int, ...], ...], out: Labels) -> _Contraction:
    """Kept, since a loop contracts the same shapes again and again."""
    lonely, terms = [], []
    for k, (own, shape) in enumerate(zip(of, shapes, strict=True)):
        others = {label for one in (*of[:k], *of[k + 1 :]) for label in one}
        summed = [label not in out and label not in others for label in own]
        lonely.append(tuple(axis for axis, gone in enumerate(summed) if gone))
        sizes = zip(own, shape, summed, strict=True)
        terms.append({label: n for label, n, gone in sizes if not gone})
    pairs = []
    while len(terms) > 1:
        i, j = _cheapest(terms, out)
        b, a = terms.pop(j), terms.pop(i)
        pair, product = _pair(i, j, a, b, {*out, *(label for own in terms for label in own)})
        pairs.append(pair)
        terms.append(product)
    return _Contraction(tuple(lonely), tuple(pairs), move(tuple(terms[0]), out))


def _cheapest(terms: list[_Sizes], out: Labels) -> tuple[int, int]:
    """The pair whose product, after summing what is no longer needed, is smallest; however many replicates share an array."""
    best, chosen = None, (0, 1)
    for i in range(len(terms)):
        for j in range(i + 1, len(terms)):
            others = {label for k, own in enumerate(terms) if k not in (i, j) for label in own}
            size = 1
            for label, n in (terms[i] | terms[j]).items():
                if (label in out or label in others) and label != REPLICATE:
                    size *= n
            if best is None or size < best:
                best, chosen = size, (i, j)
    return chosen


def _pair(i: int, j: int, a: _Sizes, b: _Sizes, needed: set[Label]) -> tuple[_Pair, _Sizes]:
    """Batch, left, right and contracted labels of one product, and the labels of its result.

    Replicates are a batch even where one factor is the same for all: as rows of a product, their digits would depend on
    how many there are.
    """
    of_a, of_b = tuple(a), tuple(b)
    if REPLICATE in {**a, **b}:
        one: _Sizes = {REPLICATE: 1}
        a, b = one | a, one | b
    shared = [label for label in a if label in b]
    batch = [label for label in shared if label in needed]
    summed = [label for label in shared if label not in needed]
    left = [label for label in a if label not in b]
    right = [label for label in b if label not in a]
    own = (*batch, *left, *right)
    sizes = {label: max(a.get(label, 1), b.get(label, 1)) for label in (*own, *summed)}
    product = {label: sizes[label] for label in own}
    if not summed:
        return _Pair(i, j, move(of_a, own), move(of_b, own)), product

    def shaped(x: _Sizes, groups: list[list[Label]]) -> tuple[int, ...]:
        return (*(x[label] for label in batch), *(math.prod(sizes[label] for label in g) for g in groups))

    return (
        _Pair(
            i, j, move(of_a, (*batch, *left, *summed)), move(of_b, (*batch, *summed, *right)),
            shaped(a, [left, summed]), shaped(b, [summed, right]), tuple(product.values()),
        ),
        product,
    )  # fmt: skip


def reduced(op: str, x: Array, axis: int) -> Array:
    """max, min, prod or logsumexp over one dimension."""
    if op == "logsumexp":
        top = np.max(x, axis=axis, keepdims=True)
        return np.log(np.exp(x - top).sum(axis=axis)) + np.squeeze(top, axis)
    plain: dict[str, Callable[..., Any]] = {"max": np.max, "min": np.min, "prod": np.prod}
    return plain[op](x, axis=axis)


def shifted(x: Array, axis: int, by: int) -> Array:
    """result[i] = x[i - by], zero outside."""
    size = x.shape[axis]
    result = np.zeros_like(x)
    source, target = [slice(None)] * x.ndim, [slice(None)] * x.ndim
    if abs(by) < size:
        source[axis] = slice(max(0, -by), size - max(0, by))
        target[axis] = slice(max(0, by), size + min(0, by))
        result[tuple(target)] = x[tuple(source)]
    return result


def joined(node: ir.Join, arrays: Sequence[Array], of: list[Labels], wanted: Labels) -> Array:
    """Arrays laid out over the groups of a Join, one after the other along its index."""
    rest = tuple(w for w in wanted if w != node.index)
    sizes = {label: n for x, own in zip(arrays, of, strict=True) for label, n in zip(own, np.shape(x), strict=True)}
    shape = [label.size if isinstance(label, Index) else sizes[label] for label in rest]
    parts = []
    for x, own, group in zip(arrays, of, node.groups, strict=True):
        full = np.broadcast_to(aligned(x, own, (*rest, *group)), (*shape, *(i.size for i in group)))
        parts.append(full.reshape(*shape, -1))
    return aligned(np.concatenate(parts, axis=-1), (*rest, node.index), wanted)


def reindexed(node: ir.Reindex, x: Kind, own: Labels, positions: list[Whole], wanted: Labels) -> Kind:
    """Renames, selections, diagonals and gathers of an array with labels `own`; the result has labels `wanted`."""
    lead: int = len(own) - len(node.selectors)
    renamed: list[Index] = [s for s in node.selectors if isinstance(s, Index)]
    if len(set(renamed)) == len(node.selectors):
        return aligned(x, (*own[:lead], *renamed), wanted)
    new = tuple(w for w in wanted if isinstance(w, Index))
    grid: list[Any] = [slice(None)] * lead
    for selector in node.selectors:
        if isinstance(selector, int):
            grid.append(selector - 1)
        elif isinstance(selector, Index):
            grid.append(aligned(np.arange(selector.size), (selector,), new))
        else:
            gather = node.args[selector.arg]
            grid.append(aligned(positions[selector.arg - 1], labels(gather.type), new))
    return x[tuple(grid)]
