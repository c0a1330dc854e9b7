"""Averages over neurons, in coordinates (matrices.py): E x is coordinate 0, E xy the dot product.

For more Gaussians it is the sum over all ways to split them into means and pairs (Isserlis 1918), each a contraction.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial, reduce
from itertools import combinations, count, product
from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.arrays import Label, Labels
from tp_compiler.evaluate.budget import spacious
from tp_compiler.evaluate.linear.contraction import Average, contraction
from tp_compiler.ir.types import Index


def averaging(of: list[Labels], closed: tuple[int, ...], over: tuple[Index, ...], out: Labels) -> Average:
    """The function of the arrays of factors: their product, summed over `over`, averaged over the closed slots.

    E x is coordinate 0, E xy the dot product; of more Gaussians, the sum over pairings and means (Isserlis 1918).
    """
    present = {x for own in of for x in own}
    repeats = math.prod(i.size for i in over if i not in present)
    moments = [list(_moments([k for k, own in enumerate(of) if slot in own])) for slot in closed if slot in present]
    terms = [_term(of, closed, choice, out) for choice in product(*moments)]
    if len(terms) == 1 and repeats == 1:
        return terms[0]

    def run(arrays: list[Array]) -> Array:
        total = reduce(partial(spacious, np.add), (t(arrays) for t in terms))
        return total if repeats == 1 else repeats * total

    return run


Pairing = list[tuple[int, ...]]


def _moments(factors: list[int]) -> Iterator[Pairing]:
    """Every way to part the factors into means (one) and covariances (two); of two factors, their second moment."""
    if len(factors) <= 2:
        yield [tuple(factors)]
        return
    for pairs in range(len(factors) // 2 + 1):
        yield from _pairings(factors, pairs)


def _pairings(factors: list[int], pairs: int) -> Iterator[Pairing]:
    if not pairs:
        yield [(f,) for f in factors]
        return
    for a, b in combinations(factors, 2):
        rest = [f for f in factors if f not in (a, b)]
        for inner in _pairings(rest, pairs - 1):
            if all(len(p) == 1 or p > (a, b) for p in inner):
                yield [(a, b), *inner]


def _term(of: list[Labels], closed: tuple[int, ...], choice: tuple[Pairing, ...], out: Labels) -> Average:
    """One product of means and covariances, contracted."""
    private = count(-1, -1)
    names: list[list[Label | None]] = [list(own) for own in of]
    cuts: dict[int, list[Any]] = {}
    slot_of = [s for s in closed if any(s in own for own in of)]
    for slot, pairing in zip(slot_of, choice, strict=True):
        centred = sum(len(p) for p in pairing) > 2
        for group in pairing:
            name = next(private) if len(group) == 2 else None
            for f in group:
                axis = of[f].index(slot)
                names[f][axis] = name
                cut = cuts.setdefault(f, [slice(None)] * len(of[f]))
                if name is None:
                    cut[axis] = 0
                elif centred:
                    cut[axis] = slice(1, None)
    grids = {f: tuple(cut) for f, cut in cuts.items() if any(c != slice(None) for c in cut)}
    run = contraction([tuple(x for x in own if x is not None) for own in names], out)
    if not grids:
        return run
    return lambda arrays: run([x[grids[f]] if f in grids else x for f, x in enumerate(arrays)])
