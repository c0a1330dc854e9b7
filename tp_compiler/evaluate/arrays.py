"""Labelled arrays: alignment for broadcasting, contraction of products by BLAS, and moves along indices.

A value of type `Type` is an array whose leading dimensions are its slots (in ascending order) and whose trailing
dimensions are its indices. Labels are slot numbers (int) and `Index` objects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

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


def aligned(x: Kind, own: Sequence[Label], wanted: Sequence[Label]) -> Kind:
    """A view of x with one dimension per wanted label, of size 1 where x lacks it."""
    present = [label for label in wanted if label in own]
    if list(own) != present:
        x = np.transpose(x, [list(own).index(label) for label in present])
    if len(present) == len(wanted):
        return x
    shape = iter(np.shape(x))
    return np.reshape(x, [next(shape) if label in own else 1 for label in wanted])


def contract(arrays: Sequence[Array], of: list[Labels], out: Labels) -> Array:
    """The sum, over every label not in `out`, of the product of arrays. Pairs are merged smallest result first."""
    terms = [_summed(x, own, of[:k] + of[k + 1 :], out) for k, (x, own) in enumerate(zip(arrays, of, strict=True))]
    while len(terms) > 1:
        i, j = _cheapest(terms, out)
        (a, la), (b, lb) = terms[i], terms[j]
        rest = [t for k, t in enumerate(terms) if k not in (i, j)]
        needed = {*out, *(label for _, own in rest for label in own)}
        terms = [*rest, _pair(a, la, b, lb, needed)]
    ((x, own),) = terms
    current().room(x.size, "a sum of products")
    result = aligned(x, own, out).copy()
    current().hold(result)
    return result


def _summed(x: Array, own: Labels, others: list[Labels], out: Labels) -> Labelled:
    """x with the labels summed that nobody else carries."""
    lonely = [k for k, label in enumerate(own) if label not in out and not any(label in o for o in others)]
    if not lonely:
        return x, own
    return x.sum(axis=tuple(lonely)), tuple(label for k, label in enumerate(own) if k not in lonely)


def _cheapest(terms: list[Labelled], out: Labels) -> tuple[int, int]:
    """The pair whose product, after summing what is no longer needed, is smallest; however many replicates share an array."""
    best, chosen = None, (0, 1)
    for i in range(len(terms)):
        for j in range(i + 1, len(terms)):
            others = {label for k, (_, own) in enumerate(terms) if k not in (i, j) for label in own}
            sizes = _sizes(terms[i]) | _sizes(terms[j])
            size = 1
            for label, n in sizes.items():
                if (label in out or label in others) and label != REPLICATE:
                    size *= n
            if best is None or size < best:
                best, chosen = size, (i, j)
    return chosen


def _sizes(term: Labelled) -> dict[Label, int]:
    x, own = term
    return dict(zip(own, np.shape(x), strict=True))


def _pair(a: Array, la: Labels, b: Array, lb: Labels, needed: set[Label]) -> Labelled:
    """Two factors into one: batch, left, right and contracted labels of one matrix product.

    Replicates are a batch even where one factor is the same for all: as rows of a product, their digits would depend on
    how many there are.
    """
    a, la, b, lb = *_by_replicate(a, la, lb), *_by_replicate(b, lb, la)
    shared = [label for label in la if label in lb]
    batch = [label for label in shared if label in needed]
    summed = [label for label in shared if label not in needed]
    left = [label for label in la if label not in lb]
    right = [label for label in lb if label not in la]
    sizes = _sizes((a, la)) | _sizes((b, lb))
    if REPLICATE in shared:
        sizes[REPLICATE] = max(_sizes((a, la))[REPLICATE], _sizes((b, lb))[REPLICATE])
    own = (*batch, *left, *right)
    if not summed:
        return spacious(np.multiply, aligned(a, la, own), aligned(b, lb, own), what=STEP), own
    current().room(math.prod(sizes[label] for label in own) + a.size + b.size, STEP)

    def shaped(x: Array, own: Labels, order: list[Label], groups: list[list[Label]]) -> Array:
        shape = [int(np.prod([sizes[label] for label in g], dtype=np.int64)) for g in groups]
        return np.reshape(aligned(x, own, order), [*(_sizes((x, own))[label] for label in batch), *shape])

    x = shaped(a, la, [*batch, *left, *summed], [left, summed])
    y = shaped(b, lb, [*batch, *summed, *right], [summed, right])
    product = np.matmul(x, y)
    current().hold(product)
    return np.reshape(product, [sizes[label] for label in own]), own


def _by_replicate(x: Array, own: Labels, others: Labels) -> Labelled:
    """x with a dimension of size 1 for replicates, where only the other factor differs between them."""
    if REPLICATE in own or REPLICATE not in others:
        return x, own
    return np.reshape(x, (1, *np.shape(x))), (REPLICATE, *own)


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
