"""Sums with a factor δ[v, p]: added only to the members that p selects, without an array over v and p.

The gradient of a family |e[v]> that was read at positions p is such a sum, Σ_i δ[v, p_i] |g_i>.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tp_compiler.finite.array_types import Values
from tp_compiler.finite.contraction import contract
from tp_compiler.finite.tensors import LabelledArray, Labels, align, labels_from
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.onehot import one_hot
from tp_compiler.ir.types import Index


@dataclass(frozen=True, eq=False)
class Scatter:
    """Σ over the indices of `at` (and others) of δ[index, at] · the product of `factors`."""

    index: Index
    at: ir.Node
    factors: tuple[ir.Node, ...]

    @property
    def needs(self) -> list[ir.Node]:
        return list(dict.fromkeys((self.at, *self.factors)))


def scatter(node: ir.Node) -> Scatter | None:
    """A sum with one factor δ[v, p] whose indices are summed, v occurring in no other factor."""
    if not isinstance(node, ir.Contract) or node.slots:
        return None
    for hot in node.args:
        found = one_hot(hot)
        rest = tuple(a for a in node.args if a is not hot)
        if found is None or not rest or len(rest) < len(node.args) - 1:
            continue
        index, at = found
        alone = index not in node.over and all(index not in a.type.indices for a in rest)
        if alone and at.type.indices and set(at.type.indices) <= set(node.over):
            return Scatter(index, at, rest)
    return None


def scattered(node: ir.Contract, found: Scatter, at: LabelledArray, factors: Sequence[LabelledArray]) -> Values:
    """The sum, with the dimensions of the node; a position outside the axis adds nothing. All networks read the same `at`."""
    out = labels_from(node, factors)
    open_labels: Labels = tuple(x for x in out if x != found.index)
    size = {x: n for f in (at, *factors) for x, n in zip(f.labels, f.array.shape, strict=True)}
    reached = [x for x in at.labels if any(x in f.labels for f in factors)]
    rows = contract(factors, (*reached, *open_labels))
    shape = [size[x] for x in at.labels], [size[x] for x in open_labels]
    whole = align(LabelledArray(rows, (*reached, *open_labels)), (*at.labels, *open_labels))
    rows = np.broadcast_to(whole, (*shape[0], *shape[1])).reshape(-1, *shape[1])
    places = at.array.reshape(-1)
    inside = (places >= 1) & (places <= found.index.size) & (places == np.round(places))
    result = np.zeros((found.index.size, *shape[1]), rows.dtype)
    chosen, places = np.flatnonzero(inside), places[inside]
    if places.size:
        order = np.argsort(places, kind="stable")
        members, starts = np.unique(places[order], return_index=True)
        result[members.astype(np.intp) - 1] = np.add.reduceat(rows[chosen[order]], starts, axis=0)
    return align(LabelledArray(result, (found.index, *open_labels)), out)
