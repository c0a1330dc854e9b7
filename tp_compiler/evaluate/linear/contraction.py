"""Sums of products of labelled arrays, planned once and run at every step by BLAS.

The dimensions of an array are its labels, the finite indices first, the neuron slots last. A dimension that belongs to
a slot holds the coordinates of a ket and may be shorter than another one: missing coordinates are 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.arrays import Label, Labels
from tp_compiler.evaluate.budget import COUNTED, current, spacious
from tp_compiler.ir.types import Index

Average = Callable[[list[Array]], Array]
Step = Callable[..., Array]

#: How many coordinates a ket is taken to have, in the choice of an order.
TYPICAL = 256
#: An entry written to memory costs as much as this many multiplications inside a matrix product.
MEMORY = 16.0


def arranged(labels: Iterable[Label]) -> Labels:
    """Each once: indices in order of appearance, then slots in ascending order."""
    distinct = dict.fromkeys(labels)
    return (*(x for x in distinct if isinstance(x, Index)), *sorted(x for x in distinct if isinstance(x, int)))


def size_of(labels: Iterable[Label], typical: int = TYPICAL) -> int:
    return math.prod(x.size if isinstance(x, Index) else typical for x in labels)


def viewer(own: Labels, wanted: Labels) -> Step | None:
    """A view with one dimension per wanted label, of size 1 where x lacks it; None if x is such a view already."""
    if own == wanted:
        return None
    order = [own.index(label) for label in wanted if label in own]
    grid = tuple(slice(None) if label in own else None for label in wanted)
    if order == list(range(len(own))):
        return lambda x: x[grid]
    return lambda x: x.transpose(order)[grid]


@dataclass(frozen=True)
class Merge:
    """A step of a contraction: entries `first` and `second` into one (second -1: a sum over some axes of the first)."""

    first: int
    second: int
    labels: Labels
    needed: frozenset[Label] = frozenset()


def planned(of: list[Labels], out: Labels, typical: int = TYPICAL) -> tuple[list[Merge], float]:
    """The order of merges, smallest result first, and its cost in multiplications."""
    steps: list[Merge] = []
    terms = dict(enumerate(of))
    cost = 0.0

    def put(first: int, second: int, labels: Labels, needed: Iterable[Label] = ()) -> None:
        steps.append(Merge(first, second, labels, frozenset(needed)))
        terms[len(of) + len(steps) - 1] = labels

    for k, own in list(terms.items()):
        kept = tuple(x for x in own if x in out or any(x in o for j, o in terms.items() if j != k))
        if kept != own:
            del terms[k]
            cost += MEMORY * size_of(own, typical)
            put(k, -1, kept)
    while len(terms) > 1:
        i, j = _cheapest(terms, out, typical)
        a, b = terms.pop(i), terms.pop(j)
        needed = {*out, *(x for own in terms.values() for x in own)}
        if _leads(b, a, needed):
            i, j, a, b = j, i, b, a  # slots come last
        result = paired(a, b, needed)
        cost += size_of({*a, *b}, typical) + MEMORY * size_of(result, typical)
        put(i, j, result, needed)
    return steps, cost


def contraction(of: list[Labels], out: Labels) -> Average:
    """The function that sums the product of arrays with labels `of` over all labels except `out`."""
    merges, _ = planned(of, out)
    known = [*of, *(m.labels for m in merges)]
    steps: list[tuple[int, int, Step]] = []
    for m in merges:
        if m.second < 0:
            steps.append((m.first, -1, _summing(known[m.first], m.labels)))
        else:
            steps.append((m.first, m.second, _pairing(known[m.first], known[m.second], m.labels, m.needed)))
    final = viewer(known[-1], out)

    def run(arrays: list[Array]) -> Array:
        entries = list(arrays)
        for first, second, step in steps:
            entries.append(step(entries[first]) if second < 0 else step(entries[first], entries[second]))
        return entries[-1] if final is None else final(entries[-1])

    return run


def _leads(b: Labels, a: Labels, needed: set[Label]) -> bool:
    """Whether b should be on the left: a has an open slot and b has a lower one, or none."""
    left = [x for x in a if isinstance(x, int) and x in needed]
    right = [x for x in b if isinstance(x, int) and x in needed]
    return bool(left) and (not right or max(right) < max(left))


def _summing(own: Labels, kept: Labels) -> Step:
    axes = tuple(k for k, x in enumerate(own) if x not in kept)
    return lambda x: x.sum(axis=axes)


def _cheapest(terms: dict[int, Labels], out: Labels, typical: int) -> tuple[int, int]:
    """The pair whose product is smallest after summing what is no longer needed."""
    best, chosen = (math.inf, math.inf), (-1, -1)
    keys = list(terms)
    for p, i in enumerate(keys):
        for j in keys[p + 1 :]:
            others = {x for k in keys if k not in (i, j) for x in terms[k]}
            both = {*terms[i], *terms[j]}
            result = size_of((x for x in both if x in out or x in others), typical)
            cost = float(result), float(size_of(both, typical))
            if cost < best:
                best, chosen = cost, (i, j)
    return chosen


def _roles(
    la: Labels, lb: Labels, needed: Iterable[Label]
) -> tuple[list[Label], list[Label], list[Label], list[Label]]:
    """The labels of a product: batch, left, summed, right."""
    shared = [x for x in la if x in lb]
    summed = [x for x in arranged(shared) if x not in needed]
    return (
        [x for x in shared if x in needed], [x for x in la if x not in lb], summed, [x for x in lb if x not in la]
    )  # fmt: skip


def paired(la: Labels, lb: Labels, needed: Iterable[Label]) -> Labels:
    batch, left, summed, right = _roles(la, lb, needed)
    return (*batch, *left, *right) if summed else arranged((*batch, *left, *right))


def _pairing(la: Labels, lb: Labels, own: Labels, needed: Iterable[Label]) -> Step:
    """Two factors into one: a product with broadcasting, or one matrix product."""
    batch, left, summed, right = _roles(la, lb, needed)
    if not summed:
        return _multiplying(viewer(la, own), viewer(lb, own))
    first = [la.index(x) for x in (*batch, *left, *summed)]
    second = [lb.index(x) for x in (*batch, *summed, *right)]
    sizes = len(batch), len(left), len(summed)
    return _matrix_product(first, second, sizes, isinstance(summed[-1], int))


def _multiplying(first: Step | None, second: Step | None) -> Step:
    if first is None and second is None:
        return _product
    return lambda a, b: _product(first(a) if first else a, second(b) if second else b)


def _product(a: Array, b: Array) -> Array:
    return spacious(np.multiply, a, b, what="a product of families")


def _matrix_product(first: list[int], second: list[int], sizes: tuple[int, int, int], ragged: bool) -> Step:
    """(batch, left, summed) of a times (batch, summed, right) of b; `ragged` if the last summed one is a slot."""
    batch, left, summed = sizes
    turn_a, turn_b = first != sorted(first), second != sorted(second)
    simple = not batch and left <= 1 and summed == 1 and len(second) <= 2

    def run(a: Array, b: Array) -> Array:
        if turn_a:
            a = a.transpose(first)
        if turn_b:
            b = b.transpose(second)
        if ragged:
            k, other = a.shape[-1], b.shape[batch + summed - 1]
            if k > other:
                a = a[..., :other]
            elif k < other:
                b = b[(slice(None),) * (batch + summed - 1) + (slice(k),)]
        sa, sb = a.shape, b.shape
        if simple and a.size * b.size <= COUNTED**2:
            return np.dot(a, b)
        size = a.size * math.prod(sb[batch + summed :]) / max(1, math.prod(sa[batch + left :]))
        current().room(size + (a.size if turn_a else 0) + (b.size if turn_b else 0), "a contraction")
        middle = math.prod(sa[batch + left :])
        x = a.reshape((*sa[:batch], math.prod(sa[batch : batch + left]), middle))
        y = b.reshape((*sa[:batch], middle, math.prod(sb[batch + summed :])))
        product = np.matmul(x, y)
        current().hold(product)
        return product.reshape((*sa[: batch + left], *sb[batch + summed :]))

    return run
