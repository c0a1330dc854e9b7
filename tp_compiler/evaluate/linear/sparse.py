"""Updates of a few members of a large family: a training step moves only the embeddings of the words it reads.

The gradient of |e[tok[i]]> is a sum over i with a factor delta[v, tok[i]]. Such a sum is stored as the rows that it
touches, and added to the state in place; a factor of the whole state (weight decay) is stored separately.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Array, Whole
from tp_compiler.evaluate.linear.contraction import contraction, viewer
from tp_compiler.evaluate.linear.shapes import Shapes, indices, slots
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.onehot import one_hot
from tp_compiler.ir.program import Loop
from tp_compiler.ir.types import Index
from tp_compiler.shapes import Float

#: Families of at least this size are updated in place.
LARGE = 64
#: A matrix with fewer entries than 1 in this many is multiplied as a sparse one.
SPARSE = 16


@dataclass(frozen=True, eq=False)
class KetScatter:
    """Σ over all indices of position = `at` of `scalars` · |ket>, as a family over `index`."""

    index: Index
    at: ir.Node
    ket: ir.Node
    scalars: tuple[ir.Node, ...]

    @property
    def needs(self) -> tuple[ir.Node, ...]:
        return (self.at, self.ket, *self.scalars)


@dataclass(frozen=True, eq=False)
class SparseUpdate:
    """keep · state + Σ coefficient · part, a part being rows or another state (its momentum); None means 1."""

    state: ir.State
    keep: ir.Node | None
    parts: tuple[tuple[ir.Node | None, KetScatter | ir.State], ...]

    @property
    def needs(self) -> tuple[ir.Node, ...]:
        coefficients = [c for c in (self.keep, *(c for c, _ in self.parts)) if c is not None]
        return (*coefficients, *(n for _, s in self.parts if isinstance(s, KetScatter) for n in s.needs))

    @property
    def others(self) -> tuple[ir.State, ...]:
        return tuple(s for _, s in self.parts if isinstance(s, ir.State))


def scatter(node: ir.Node, shapes: Shapes) -> KetScatter | None:
    """A contraction with one factor delta[v, p], the result a family over v alone."""
    if not isinstance(node, ir.Contract) or node.slots or not isinstance(shapes.of[node], tuple):
        return None
    found = [(a, *place) for a in node.args if (place := one_hot(a)) is not None and place[0] in shapes[node]]
    if len(found) != 1:
        return None
    hot, index, at = found[0]
    kets = [a for a in node.args if slots(shapes[a])]
    scalars = tuple(a for a in node.args if a is not hot and a not in kets)
    carried = [x for a in (*kets, *scalars, at) for x in indices(shapes[a])]
    if shapes[node] != (index, 0) or len(kets) != 1 or set(carried) != set(node.over):
        return None
    return KetScatter(index, at, kets[0], scalars)


def sparse_updates(loop: Loop, states: list[ir.State], shapes: Shapes, build: Builder) -> dict[ir.State, SparseUpdate]:
    """The states of large families that a step changes in few members."""
    found = {}
    for state in states:
        if shapes.states[state] == (*state.type.indices, 0) and state.type.size() >= LARGE:
            update = _update(state, loop.following[state], shapes, build)
            if update is not None:
                found[state] = update
    while mixed := [s for s, update in found.items() if any(o not in found for o in update.others)]:
        for state in mixed:
            del found[state]
    return found


def _update(state: ir.State, following: ir.Node, shapes: Shapes, build: Builder) -> SparseUpdate | None:
    terms = combination(following, shapes, build)
    nothing = build.constant(0.0, state.span)
    shapes.extend(nothing)
    keep: ir.Node | None = nothing
    parts: list[tuple[ir.Node | None, KetScatter | ir.State]] = []
    for atom, coefficient in terms.items():
        shapes.extend(coefficient)
        if shapes[coefficient]:
            return None
        factor = None if isinstance(coefficient, ir.Constant) and coefficient.value == 1 else coefficient
        if isinstance(atom, ir.Carry) and atom.state is state:
            keep = factor
        elif isinstance(atom, ir.Carry) and shapes[atom] == shapes.states[state]:
            parts.append((factor, atom.state))
        elif (part := scatter(atom, shapes)) is not None:
            parts.append((factor, part))
        else:
            return None
    return SparseUpdate(state, keep, tuple(parts))


def combination(root: ir.Node, shapes: Shapes, build: Builder) -> dict[ir.Node, ir.Node]:
    """A ket as a linear combination, atom -> coefficient: sums, and products and quotients with scalars, resolved."""
    done: dict[ir.Node, dict[ir.Node, ir.Node]] = {}
    todo = [root]
    while todo:
        node = todo[-1]
        inner = _linear_args(node, shapes)
        missing = [a for a, _ in inner if a not in done]
        if missing:
            todo += missing
            continue
        todo.pop()
        terms: dict[ir.Node, ir.Node] = {}
        for a, factors in inner:
            for atom, coefficient in done[a].items():
                for f, divide in factors:
                    coefficient = build.map("div" if divide else "mul", (coefficient, f), node.span)
                terms[atom] = build.add(terms[atom], coefficient, node.span) if atom in terms else coefficient
        done[node] = terms if inner else {node: build.constant(1.0, node.span)}
    return done[root]


def _linear_args(node: ir.Node, shapes: Shapes) -> list[tuple[ir.Node, list[tuple[ir.Node, bool]]]]:
    """The kets that a ket is the sum of, each with its factors (True: a divisor). Empty for an atom."""
    if not isinstance(node, ir.Map) or node.fn not in ("add", "mul", "div") or not isinstance(shapes.of[node], tuple):
        return []
    kets = [a for a in node.args if slots(shapes[a])]
    if node.fn == "add":
        return [(a, []) for a in kets] if len(kets) == len(node.args) else []
    if len(kets) != 1:
        return []
    return [(kets[0], [(a, node.fn == "div") for a in node.args if a is not kets[0]])]


def scattering(part: KetScatter, shapes: Shapes) -> Callable[[Array, Array, list[Array]], tuple[Whole, Array]]:
    """The function (positions, ket, scalars) -> (members touched, counted from 0, and their rows)."""
    at, own = indices(shapes[part.at]), indices(shapes[part.ket])
    full = tuple(dict.fromkeys((*at, *own)))
    sizes = [x.size for x in full]

    def spread(x: Array | Whole, labels: tuple[Index, ...]) -> Any:
        view = viewer(labels, full)
        return np.broadcast_to(view(x) if view else x, sizes).ravel()

    carried = {x for s in part.scalars for x in shapes[s]}
    kept = tuple(x for x in full if x in carried)
    weigh = contraction([shapes[s] for s in part.scalars], kept) if part.scalars else None
    count = math.prod(x.size for x in own)
    columns = spread(np.arange(count).reshape([x.size for x in own]), own)

    def run(positions: Array, ket: Array, scalars: list[Array]) -> tuple[Whole, Array]:
        touched, row = np.unique(spread(positions, at), return_inverse=True)
        weights = spread(weigh(scalars), kept) if weigh else np.ones(row.size)
        rows = _weighed(weights, row, columns, touched.size, ket.reshape(count, -1))
        inside = (touched >= 1) & (touched <= part.index.size) & (touched % 1 == 0)
        if not inside.all():
            touched, rows = touched[inside], rows[inside]
        return touched.astype(np.int64) - 1, rows

    return run


def _weighed(
    weights: Float[Array, " entries"], row: Whole, column: Whole, size: int, kets: Float[Array, "kets coordinates"]
) -> Float[Array, "{size} coordinates"]:
    """A kets, with the weights at (row, column) of a matrix A of `size` rows; dense unless it is too sparse."""
    if size * kets.shape[0] > SPARSE * row.size:
        from scipy.sparse import csr_array  # loaded where it is used: it takes a twentieth of a second

        return csr_array((weights, (row, column)), shape=(size, kets.shape[0])) @ kets
    dense = np.bincount(row * kets.shape[0] + column, weights, size * kets.shape[0])
    return dense.reshape(size, kets.shape[0]) @ kets
