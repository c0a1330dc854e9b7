"""Sums of outer products |l><r| of kets, recognised in expressions over two neurons and extracted as columns.

The gradient of a family, matrix by matrix in a program, is a sum with one term for every use of a member, and a factor
(a `delta` of the member) that is zero at all others: `by_member` finds what each member consists of without looking at the kets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from tp_compiler.evaluate.array_types import Array, ArraysByNode
from tp_compiler.evaluate.arrays import Label, Labelled, aligned, contract, labels
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index
from tp_compiler.shapes import Float

#: Positions of some of a family's indices: the member in question.
Member = Mapping[Index, int]
#: Outer products by the position of a member in its family.
ByMember = Mapping[tuple[int, ...], list[ir.Node]]


def is_outer(node: ir.Node) -> bool:
    """A sum over indices of products of kets of the rows, kets of the columns and scalars."""
    if len(node.type.slots) < 2:
        return _is_factor(node)
    product = (isinstance(node, ir.Contract) and not node.slots) or (isinstance(node, ir.Map) and node.fn == "mul")
    return product and all(_is_factor(a) for a in node.args)


def outer_terms(node: ir.Node) -> tuple[ir.Node, ...]:
    """The outer products that a node over two neurons is the sum of; () if it is not such a sum."""
    if len(node.type.slots) != 2:
        return ()
    if is_outer(node):
        return (node,)
    summed = isinstance(node, ir.Map) and node.fn == "add"
    return node.args if summed and all(len(a.type.slots) == 2 and is_outer(a) for a in node.args) else ()


def by_member(terms: Iterable[ir.Node], family: tuple[Index, ...], values: ArraysByNode) -> ByMember:
    """The terms with which each member of a family is concerned: those that no scalar factor makes zero there."""
    shape = tuple(i.size for i in family)
    found: dict[tuple[int, ...], list[ir.Node]] = {place: [] for place in np.ndindex(shape)}
    for term in terms:
        for place in zip(*np.nonzero(_nonzero(term, family, values)), strict=True) if family else [()]:
            found[tuple(map(int, place))].append(term)
    return found


def _nonzero(term: ir.Node, family: tuple[Index, ...], values: ArraysByNode) -> NDArray[np.bool_]:
    """Where in a family the scalars of a term are not all zero."""
    result = np.ones(tuple(i.size for i in family), dtype=bool)
    for f in _factors(term):
        if f.type.is_scalar:
            own = labels(f.type)
            hidden = tuple(k for k, label in enumerate(own) if label not in family)
            some = np.any(np.asarray(values[f]) != 0, axis=hidden)
            result &= aligned(some, [label for label in own if label in family], family)
    return result


def _factors(term: ir.Node) -> tuple[ir.Node, ...]:
    return term.args if len(term.type.slots) == 2 else (term,)


def _is_factor(node: ir.Node) -> bool:
    return node.type.is_scalar or node.type.is_ket or isinstance(node, ir.Copy)


def columns(
    term: ir.Node, member: Member, values: ArraysByNode, samples: int
) -> tuple[Float[Array, "samples r"], Float[Array, "samples r"]]:
    """Left and right kets, (samples, r) each, of the Σ |l><r| that equals a node at one member of the family.

    Scalars are multiplied into the left kets. Terms that a scalar (a `delta` of the member) makes zero have r = 0.
    """
    product = len(term.type.slots) == 2
    over = term.over if isinstance(term, ir.Contract) and product else ()
    sides: tuple[list[Labelled], list[Labelled]] = ([], [])
    for f in _factors(term):
        x, own = selected(_ket(f, values), labels(f.type), member)
        of_columns = not (f.type.is_scalar or f.type.is_ket)
        sides[of_columns].append((x, tuple(0 if isinstance(label, int) else label for label in own)))
    if not all(np.any(x) for x, own in sides[0] if 0 not in own):
        return np.zeros((samples, 0)), np.zeros((samples, 0))
    shared = tuple(i for i in over if all(any(i in own for _, own in side) for side in sides))
    left, right = (_joined(side, shared, samples) for side in sides)
    return left, right


def _joined(factors: list[Labelled], shared: tuple[Index, ...], samples: int) -> Float[Array, "samples r"]:
    """The product of one side's factors, summed over the indices that the other side lacks."""
    if not any(0 in own for _, own in factors):
        factors = [*factors, (np.ones(samples), (0,))]
    out: tuple[Label, ...] = (0, *shared)
    return contract([x for x, _ in factors], [own for _, own in factors], out).reshape(samples, -1)


def _ket(node: ir.Node, values: ArraysByNode) -> Array:
    return values[node.args[0]] if isinstance(node, ir.Copy) else values[node]


def selected(x: Array, own: tuple[Label, ...], member: Member) -> Labelled:
    """x at fixed positions of some of its indices."""
    where = tuple(member[label] if isinstance(label, Index) and label in member else slice(None) for label in own)
    return np.asarray(x)[where], tuple(label for label in own if label not in member)
