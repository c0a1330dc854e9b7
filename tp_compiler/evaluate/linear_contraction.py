"""Sums of products of labelled arrays, planned once and run at every step by BLAS.

The dimensions of an array are its labels, the finite indices first, the neuron slots last. A dimension that belongs to
a slot holds the coordinates of a ket and may be shorter than another one: what is missing is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tp_compiler.evaluate.arrays import Label
from tp_compiler.ir.types import Index

Labels = tuple[Label, ...]
Step = Callable[..., Any]

#: How many coordinates a ket is taken to have, in the choice of an order.
TYPICAL = 256


def arranged(labels: Iterable[Label]) -> Labels:
    """Each once: indices in order of appearance, then slots in ascending order."""
    distinct = dict.fromkeys(labels)
    return (*(x for x in distinct if isinstance(x, Index)), *sorted(x for x in distinct if isinstance(x, int)))


def size_of(labels: Iterable[Label]) -> int:
    return math.prod(x.size if isinstance(x, Index) else TYPICAL for x in labels)


def viewer(own: Labels, wanted: Labels) -> Step | None:
    """A view with one dimension per wanted label, of size 1 where x lacks it; None where x is that already."""
    if own == wanted:
        return None
    order = [own.index(label) for label in wanted if label in own]
    grid = tuple(slice(None) if label in own else None for label in wanted)
    if order == list(range(len(own))):
        return lambda x: x[grid]
    return lambda x: x.transpose(order)[grid]


def contraction(of: list[Labels], out: Labels) -> Callable[[list[Any]], Any]:
    """The function of arrays with labels `of` that gives the sum over all labels but `out` of their product."""
    steps: list[tuple[int, int, Step]] = []  # (first, second, f): f of two entries is appended; second -1: of one
    terms = dict(enumerate(of))
    number = len(of)

    def put(first: int, second: int, step: Step, labels: Labels) -> None:
        nonlocal number
        steps.append((first, second, step))
        terms[number] = labels
        number += 1

    for k, own in list(terms.items()):
        lonely = tuple(
            a for a, x in enumerate(own) if x not in out and not any(x in o for j, o in terms.items() if j != k)
        )
        if lonely:
            del terms[k]
            put(k, -1, _summing(lonely), tuple(x for a, x in enumerate(own) if a not in lonely))
    while len(terms) > 1:
        i, j = _cheapest(terms, out)
        a, b = terms.pop(i), terms.pop(j)
        needed = {*out, *(x for own in terms.values() for x in own)}
        if _rows(b, a, needed):
            i, j, a, b = j, i, b, a  # slots come last
        step, labels = pairing(a, b, needed)
        put(i, j, step, labels)
    ((last, own),) = terms.items()
    final = viewer(own, out)

    def run(arrays: list[Any]) -> Any:
        entries = list(arrays)
        for first, second, step in steps:
            entries.append(step(entries[first]) if second < 0 else step(entries[first], entries[second]))
        return entries[last] if final is None else final(entries[last])

    return run


def _rows(b: Labels, a: Labels, needed: set[Label]) -> bool:
    """Whether b should stand on the left: a has an open slot and b has a lower one, or none."""
    left = [x for x in a if isinstance(x, int) and x in needed]
    right = [x for x in b if isinstance(x, int) and x in needed]
    return bool(left) and (not right or max(right) < max(left))


def _summing(axes: tuple[int, ...]) -> Step:
    return lambda x: x.sum(axis=axes)


def _cheapest(terms: dict[int, Labels], out: Labels) -> tuple[int, int]:
    """The pair whose product is smallest after summing what is no longer needed."""
    best, chosen = (math.inf, math.inf), (-1, -1)
    keys = list(terms)
    for p, i in enumerate(keys):
        for j in keys[p + 1 :]:
            others = {x for k in keys if k not in (i, j) for x in terms[k]}
            both = {*terms[i], *terms[j]}
            cost = float(size_of(x for x in both if x in out or x in others)), float(size_of(both))
            if cost < best:
                best, chosen = cost, (i, j)
    return chosen


def pairing(la: Labels, lb: Labels, needed: set[Label]) -> tuple[Step, Labels]:
    """Two factors into one: a product with broadcasting, or one matrix product."""
    shared = [x for x in la if x in lb]
    batch = [x for x in shared if x in needed]
    summed = [x for x in arranged(shared) if x not in needed]
    left, right = [x for x in la if x not in lb], [x for x in lb if x not in la]
    own = (*batch, *left, *right)
    if not summed:
        own = arranged(own)
        return _multiplying(viewer(la, own), viewer(lb, own)), own
    first = [la.index(x) for x in (*batch, *left, *summed)]
    second = [lb.index(x) for x in (*batch, *summed, *right)]
    sizes = len(batch), len(left), len(summed)
    return _matrix_product(first, second, sizes, isinstance(summed[-1], int)), own


def _multiplying(first: Step | None, second: Step | None) -> Step:
    if first is None and second is None:
        return np.multiply
    return lambda a, b: (first(a) if first else a) * (second(b) if second else b)


def _matrix_product(first: list[int], second: list[int], sizes: tuple[int, int, int], ragged: bool) -> Step:
    """(batch, left, summed) of a times (batch, summed, right) of b; `ragged` where the last summed one is a slot."""
    batch, left, summed = sizes
    turn_a, turn_b = first != sorted(first), second != sorted(second)
    simple = not batch and left <= 1 and summed == 1 and len(second) <= 2

    def run(a: Any, b: Any) -> Any:
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
        if simple:
            return np.dot(a, b)
        sa, sb = a.shape, b.shape
        middle = math.prod(sa[batch + left :])
        x = a.reshape(*sa[:batch], math.prod(sa[batch : batch + left]), middle)
        y = b.reshape(*sa[:batch], middle, math.prod(sb[batch + summed :]))
        return np.matmul(x, y).reshape(*sa[: batch + left], *sb[batch + summed :])

    return run
