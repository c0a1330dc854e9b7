"""Products of labelled arrays, summed over labels. How one is computed is found once for all arrays of equal labels and shapes.

The digits of a network do not depend on the others: sums and products are made network by network, in an order that does
not depend on their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from tp_compiler.finite.array_types import Values
from tp_compiler.finite.tensors import NETWORKS, Label, LabelledArray, Labels

Shape = tuple[int, ...]
One = Callable[[Values], Values]
Two = Callable[[Values, Values], Values]


def contract(factors: Sequence[LabelledArray], out: Labels) -> Values:
    """The product of the factors summed over every label outside `out`, dimensions in the order of `out`."""
    recipe = _recipe(tuple(f.labels for f in factors), tuple(f.array.shape for f in factors), out)
    left = [f.array if first is None else first(f.array) for f, first in zip(factors, recipe.first, strict=True)]
    for i, j, multiply in recipe.products:
        b, a = left.pop(j), left.pop(i)
        left.append(multiply(a, b))
    return recipe.last(left[0])


def merge_order(
    labels: Sequence[Labels], out: Collection[Label], sizes: Mapping[Label, int]
) -> tuple[list[tuple[int, int]], int]:
    """The pairs to multiply, smallest result first, and the number of entries of the largest intermediate result.

    Pairs are positions in a list, in ascending order, from which both factors are removed and to which the product is appended.
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


class _Factor(NamedTuple):
    """What is known of a factor without its entries."""

    labels: Labels
    shape: Shape

    def sizes(self) -> dict[Label, int]:
        return dict(zip(self.labels, self.shape, strict=True))


class _Recipe(NamedTuple):
    """What is done to each factor alone, the products of two in the order of `merge_order`, and what is done to the last."""

    first: list[One | None]
    products: list[tuple[int, int, Two]]
    last: One


@lru_cache(4096)
def _recipe(labels: tuple[Labels, ...], shapes: tuple[Shape, ...], out: Labels) -> _Recipe:
    factors = [_Factor(*f) for f in zip(labels, shapes, strict=True)]
    sizes = {x: size for f in factors for x, size in f.sizes().items()} | {NETWORKS: 1}
    first: list[One | None] = []
    left: list[_Factor] = []
    for k, f in enumerate(factors):
        elsewhere = {x for other in (*factors[:k], *factors[k + 1 :]) for x in other.labels} | set(out)
        kept = [(x, size) for x, size in f.sizes().items() if x in elsewhere]
        first.append(_sum(tuple(at for at, x in enumerate(f.labels) if x not in elsewhere)))
        left.append(_Factor(tuple(x for x, _ in kept), tuple(size for _, size in kept)))
    products = []
    for i, j in merge_order([f.labels for f in left], out, sizes)[0]:
        b, a = left.pop(j), left.pop(i)
        made, multiply = _product(a, b, {x for f in left for x in f.labels} | set(out))
        products.append((i, j, multiply))
        left.append(made)
    return _Recipe(first, products, _aligned(left[0].labels, out))


def _sum(axes: tuple[int, ...]) -> One | None:
    return (lambda array: np.asarray(array.sum(axis=axes))) if axes else None


def _aligned(labels: Labels, wanted: Labels) -> One:
    """What `tensors.align` does to an array of these labels."""
    order = [labels.index(x) for x in wanted if x in labels]
    place = tuple(slice(None) if x in labels else None for x in wanted)
    if labels == wanted:
        return lambda array: array
    return lambda array: array.transpose(order)[place]


def _product(a: _Factor, b: _Factor, wanted: set[Label]) -> tuple[_Factor, Two]:
    """The product of two factors, summed over the shared labels that are no longer needed."""
    gone = [x for x in a.labels if x in b.labels and x not in wanted]
    batch = [x for x in a.labels if x in b.labels and x in wanted and x != NETWORKS]
    left = [x for x in a.labels if x not in b.labels and x != NETWORKS]
    right = [x for x in b.labels if x not in a.labels and x != NETWORKS]
    networks: list[Label] = [NETWORKS] if NETWORKS in a.labels or NETWORKS in b.labels else []
    labels = (*networks, *batch, *left, *right)
    sizes = a.sizes() | b.sizes()
    made = _Factor(labels, tuple(sizes[x] for x in labels))
    if not gone:
        first, second = _aligned(a.labels, labels), _aligned(b.labels, labels)
        return made, lambda x, y: first(x) * second(y)
    if batch and (not left or not right):
        # Many small dot products: BLAS would be called once per member of the batch.
        names = {x: k for k, x in enumerate((*labels, *gone))}
        ones, others, out = ([names[x] for x in ls] for ls in (a.labels, b.labels, labels))
        einsum: Any = np.einsum  # whose form with lists of numbers has no type
        return made, lambda x, y: einsum(x, ones, y, others, out)
    rows, columns = _matrices(a, networks, batch, left, gone), _matrices(b, networks, batch, right, gone)
    return made, lambda x, y: np.matmul(rows(x), columns(y).swapaxes(-1, -2)).reshape(made.shape)


def _matrices(f: _Factor, networks: list[Label], batch: list[Label], own: list[Label], gone: list[Label]) -> One:
    """f as an array (networks, batch, own, gone), without a copy if its layout allows it."""
    sizes = f.sizes()
    count = [math.prod(sizes[x] for x in group) for group in (batch, own, gone)]
    lead = (*(sizes.get(x, 1) for x in networks), *count[: len(batch[:1])])
    if f.labels[-1] in gone:
        together = _aligned(f.labels, (*networks, *batch, *own, *gone))
        return lambda array: together(array).reshape(*lead, count[1], count[2])
    apart = _aligned(f.labels, (*networks, *batch, *gone, *own))
    return lambda array: apart(array).reshape(*lead, count[2], count[1]).swapaxes(-1, -2)
