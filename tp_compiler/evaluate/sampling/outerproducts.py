"""Sums of outer products |l><r| of kets, recognised in expressions over two neurons and extracted as columns.

The gradient of a family, matrix by matrix in a program, is a sum with one term for every use of a member, and a factor
(a `delta` of the member) that is zero at all others: `by_member` finds what each member consists of without looking at the kets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from tp_compiler.evaluate.array_types import Array, Mask
from tp_compiler.evaluate.arrays import REPLICATE, Label, Labelled, Labels, aligned, contract
from tp_compiler.evaluate.backend import host
from tp_compiler.evaluate.sampling.shared_values import SharedValues
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index
from tp_compiler.shapes import Float

#: Positions of some of a family's indices: the member in question.
Member = Mapping[Index, int]
#: Outer products, and the replicates that have them, by the position of a member in its family.
ByMember = Mapping[tuple[int, ...], Mapping[ir.Node, Mask]]


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


def by_member(terms: Iterable[ir.Node], family: tuple[Index, ...], run: SharedValues) -> ByMember:
    """The terms with which each member of a family is concerned, and in which replicates: those that no scalar factor makes
    zero there."""
    shape = tuple(i.size for i in family)
    found: dict[tuple[int, ...], dict[ir.Node, Mask]] = {place: {} for place in np.ndindex(shape)}
    for term in terms:
        there = np.moveaxis(_nonzero(term, family, run), 0, -1)
        for where in zip(*np.nonzero(there.any(axis=-1)), strict=True) if family else [()]:
            place = tuple(map(int, where))
            found[place][term] = there[place]
    return found


def _nonzero(term: ir.Node, family: tuple[Index, ...], run: SharedValues) -> Mask:
    """In which replicates, and where in a family, the scalars of a term are not all zero."""
    wanted: Labels = (REPLICATE, *family)
    result = np.ones((run.replicates, *(i.size for i in family)), dtype=bool)
    for f in _factors(term) if family else ():
        if f.type.is_scalar:
            own = run.labels[f]
            hidden = tuple(k for k, label in enumerate(own) if label not in wanted)
            some = np.any(host(run.values[f] != 0) > 0, axis=hidden)
            result &= aligned(some, [label for label in own if label in wanted], wanted)
    return result


def _factors(term: ir.Node) -> tuple[ir.Node, ...]:
    return term.args if len(term.type.slots) == 2 else (term,)


def _is_factor(node: ir.Node) -> bool:
    return node.type.is_scalar or node.type.is_ket or isinstance(node, ir.Copy)


def columns(
    term: ir.Node, member: Member, run: SharedValues
) -> tuple[Float[Array, "replicates samples r"], Float[Array, "replicates samples r"]]:
    """Left and right kets, (replicates, samples, r) each, of the Σ |l><r| that equals a node at one member of the family.

    Scalars are multiplied into the left kets.
    """
    product = len(term.type.slots) == 2
    over = term.over if isinstance(term, ir.Contract) and product else ()
    sides: tuple[list[Labelled], list[Labelled]] = ([], [])
    for f in _factors(term):
        x, own = _factor(f, member, run)
        of_columns = not (f.type.is_scalar or f.type.is_ket)
        sides[of_columns].append((x, tuple(_ket_label(label) for label in own)))
    shared = tuple(i for i in over if all(any(i in own for _, own in side) for side in sides))
    left, right = (_joined(side, shared, run) for side in sides)
    return left, right


def _factor(node: ir.Node, member: Member, run: SharedValues) -> Labelled:
    return selected(run.values[node.args[0] if isinstance(node, ir.Copy) else node], run.labels[node], member)


def _ket_label(label: Label) -> Label:
    return 0 if isinstance(label, int) and label != REPLICATE else label


def _joined(
    factors: list[Labelled], shared: tuple[Index, ...], run: SharedValues
) -> Float[Array, "replicates samples r"]:
    """The product of one side's factors, summed over the indices that the other side lacks."""
    if not any(0 in own for _, own in factors):
        factors = [*factors, (np.ones(run.samples), (0,))]
    out: tuple[Label, ...] = (REPLICATE, 0, *shared)
    found = contract([x for x, _ in factors], [own for _, own in factors], out)
    return np.broadcast_to(found, (run.replicates, *found.shape[1:])).reshape(run.replicates, run.samples, -1)


def selected(x: Array, own: tuple[Label, ...], member: Member) -> Labelled:
    """x at fixed positions of some of its indices."""
    where = tuple(member[label] if isinstance(label, Index) and label in member else slice(None) for label in own)
    return x[where], tuple(label for label in own if label not in member)
