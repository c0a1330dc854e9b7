"""Labelled arrays: alignment for broadcasting, contraction of products by BLAS, and the moves along indices.

A value of type `Type` is an array whose leading dimensions are its slots (in ascending order) and whose trailing
dimensions are its indices. Labels are slot numbers (int) and `Index` objects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tp_compiler.evaluate.budget import current, spacious
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index, Type

Label = int | Index
STEP = "a step of a sum of products"


def labels(kind: Type) -> tuple[Label, ...]:
    return (*(slot for slot, _ in kind.slots), *kind.indices)


def aligned(x: Any, own: Sequence[Label], wanted: Sequence[Label]) -> Any:
    """A view of x with one dimension per wanted label, of size 1 where x lacks it."""
    present = [label for label in wanted if label in own]
    if list(own) != present:
        x = np.transpose(x, [list(own).index(label) for label in present])
    if len(present) == len(wanted):
        return x
    shape = iter(np.shape(x))
    return np.reshape(x, [next(shape) if label in own else 1 for label in wanted])


def contract(arrays: list[Any], of: list[tuple[Label, ...]], out: tuple[Label, ...]) -> Any:
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
    result = np.array(aligned(x, own, out))
    current().hold(result)
    return result


def _summed(x: Any, own: tuple[Label, ...], others: list[tuple[Label, ...]], out: tuple[Label, ...]) -> Any:
    """x with the labels summed that nobody else carries."""
    lonely = [k for k, label in enumerate(own) if label not in out and not any(label in o for o in others)]
    if not lonely:
        return x, own
    return x.sum(axis=tuple(lonely)), tuple(label for k, label in enumerate(own) if k not in lonely)


def _cheapest(terms: list[Any], out: tuple[Label, ...]) -> tuple[int, int]:
    """The pair whose product, after summing what is no longer needed, is smallest."""
    best, chosen = None, (0, 1)
    for i in range(len(terms)):
        for j in range(i + 1, len(terms)):
            others = {label for k, (_, own) in enumerate(terms) if k not in (i, j) for label in own}
            sizes = _sizes(terms[i]) | _sizes(terms[j])
            size = 1
            for label, n in sizes.items():
                if label in out or label in others:
                    size *= n
            if best is None or size < best:
                best, chosen = size, (i, j)
    return chosen


def _sizes(term: Any) -> dict[Label, int]:
    x, own = term
    return dict(zip(own, np.shape(x), strict=True))


def _pair(a: Any, la: tuple[Label, ...], b: Any, lb: tuple[Label, ...], needed: set[Label]) -> Any:
    """Two factors into one: batch, left, right and contracted labels of one matrix product."""
    shared = [label for label in la if label in lb]
    batch = [label for label in shared if label in needed]
    summed = [label for label in shared if label not in needed]
    left = [label for label in la if label not in lb]
    right = [label for label in lb if label not in la]
    sizes = _sizes((a, la)) | _sizes((b, lb))
    own = (*batch, *left, *right)
    if not summed:
        return spacious(np.multiply, aligned(a, la, own), aligned(b, lb, own), what=STEP), own
    current().room(math.prod(sizes[label] for label in own) + a.size + b.size, STEP)

    def shaped(x: Any, own: tuple[Label, ...], order: list[Label], groups: list[list[Label]]) -> Any:
        shape = [int(np.prod([sizes[label] for label in g], dtype=np.int64)) for g in groups]
        return np.reshape(aligned(x, own, order), [*(sizes[label] for label in batch), *shape])

    x = shaped(a, la, [*batch, *left, *summed], [left, summed])
    y = shaped(b, lb, [*batch, *summed, *right], [summed, right])
    product = np.matmul(x, y)
    current().hold(product)
    return np.reshape(product, [sizes[label] for label in own]), own


def reduced(op: str, x: Any, axis: int) -> Any:
    """max, min, prod or logsumexp over one dimension."""
    if op == "logsumexp":
        top = np.max(x, axis=axis, keepdims=True)
        return np.log(np.exp(x - top).sum(axis=axis)) + np.squeeze(top, axis)
    plain: dict[str, Callable[..., Any]] = {"max": np.max, "min": np.min, "prod": np.prod}
    return plain[op](x, axis=axis)


def shifted(x: Any, axis: int, by: int) -> Any:
    """result[i] = x[i - by], zero outside."""
    size = x.shape[axis]
    result = np.zeros_like(x)
    source, target = [slice(None)] * x.ndim, [slice(None)] * x.ndim
    if abs(by) < size:
        source[axis] = slice(max(0, -by), size - max(0, by))
        target[axis] = slice(max(0, by), size + min(0, by))
        result[tuple(target)] = x[tuple(source)]
    return result


def joined(node: ir.Join, arrays: list[Any], of: list[tuple[Label, ...]], wanted: tuple[Label, ...]) -> Any:
    """Arrays laid out over the groups of a Join, one after the other along its index."""
    rest = tuple(w for w in wanted if w != node.index)
    sizes = {label: n for x, own in zip(arrays, of, strict=True) for label, n in zip(own, np.shape(x), strict=True)}
    shape = [label.size if isinstance(label, Index) else sizes[label] for label in rest]
    parts = []
    for x, own, group in zip(arrays, of, node.groups, strict=True):
        full = np.broadcast_to(aligned(x, own, (*rest, *group)), (*shape, *(i.size for i in group)))
        parts.append(full.reshape(*shape, -1))
    return aligned(np.concatenate(parts, axis=-1), (*rest, node.index), wanted)


def reindexed(node: ir.Reindex, x: Any, own: Any, positions: list[Any], wanted: Any) -> Any:
    """Renames, selections, diagonals and gathers of an array with labels `own`; the result has labels `wanted`."""
    lead = len(own) - len(node.selectors)
    renamed = [s for s in node.selectors if isinstance(s, Index)]
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
