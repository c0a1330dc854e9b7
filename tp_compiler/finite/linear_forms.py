"""The next values of a trained matrix as linear combinations of its states and of products of kets, where they are that."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from tp_compiler.finite.tensors import NETWORKS, LabelledArray, Labels, align
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index

#: A state, or a product of kets that may be summed over indices, and the names that its own indices have where it is read.
Term = tuple[ir.Node, tuple[Index, ...]]
#: A linear combination of terms, with coefficients over networks and indices.
Form = dict[Term, LabelledArray]
Tensor = Callable[[ir.Node], LabelledArray]

_ONE = LabelledArray(np.asarray(1.0), ())


class _NotLinear(Exception):
    """A matrix that is not a linear combination of states and products of kets."""


def terms(following: Mapping[ir.State, ir.Node], passing: Iterable[ir.Node]) -> tuple[Term, ...] | None:
    """The products of kets that a step adds to these states; None if their next values have any other form.

    `passing` are the matrices that the next values are computed from, entry by entry, in topological order.
    """
    indices = next(iter(following)).type.indices
    if any(state.type.indices != indices or not _zero(state.init) for state in following):
        return None
    try:
        found = forms(following, passing, lambda _: _ONE)
    except _NotLinear:
        return None
    everything = tuple(dict.fromkeys(term for form in found.values() for term in form))
    if any(
        isinstance(node, ir.Carry) and (node.state not in following or names != indices) for node, names in everything
    ):
        return None
    return tuple((node, names) for node, names in everything if not isinstance(node, ir.Carry))


def _zero(node: ir.Node) -> bool:
    return isinstance(node, ir.Constant) and node.value == 0


def forms(following: Mapping[ir.State, ir.Node], passing: Iterable[ir.Node], tensor: Tensor) -> dict[ir.State, Form]:
    """The next values as linear combinations, whose coefficients are computed from the scalars `tensor(node)`."""
    known: dict[ir.Node, Form] = {}
    for node in passing:
        known[node] = _form(node, known, tensor)
    return {state: _read(node, known) for state, node in following.items()}


def _read(node: ir.Node, known: Mapping[ir.Node, Form]) -> Form:
    if isinstance(node, ir.Carry):
        return {(node, node.type.indices): _ONE}
    if node not in known:
        raise _NotLinear
    return known[node]


def _form(node: ir.Node, known: Mapping[ir.Node, Form], tensor: Tensor) -> Form:
    matrices = [a for a in node.args if len(a.type.slots) > 1]
    factors = [a for a in node.args if a not in matrices]
    if isinstance(node, ir.Reindex) and not factors:
        return _renamed(node, _read(node.args[0], known))
    if isinstance(node, ir.Contract | ir.Map) and not matrices and _multiplies(node):
        return {(node, node.type.indices): _ONE}
    if not isinstance(node, ir.Map) or any(a.type.slots for a in factors):
        raise _NotLinear
    if node.fn == "add" and not factors:
        return _sum([_read(a, known) for a in matrices])
    if node.fn == "mul" and len(matrices) == 1:
        return _scaled(_read(matrices[0], known), map(tensor, factors), np.multiply)
    if node.fn == "div" and matrices == [node.args[0]]:
        return _scaled(_read(matrices[0], known), map(tensor, factors), np.divide)
    raise _NotLinear


def _multiplies(node: ir.Contract | ir.Map) -> bool:
    """Whether the node is a product, summed over indices at most."""
    return not node.slots if isinstance(node, ir.Contract) else node.fn == "mul"


def _sum(parts: Sequence[Form]) -> Form:
    total: Form = {}
    for part in parts:
        for term, coefficient in part.items():
            total[term] = _combined(total[term], coefficient, np.add) if term in total else coefficient
    return total


def _scaled(form: Form, factors: Iterable[LabelledArray], operation: np.ufunc) -> Form:
    for factor in factors:
        form = {term: _combined(coefficient, factor, operation) for term, coefficient in form.items()}
    return form


def _combined(a: LabelledArray, b: LabelledArray, operation: np.ufunc) -> LabelledArray:
    labels: Labels = tuple(dict.fromkeys((*a.labels, *b.labels)))
    labels = (NETWORKS, *(x for x in labels if x != NETWORKS)) if NETWORKS in labels else labels
    return LabelledArray(np.asarray(operation(align(a, labels), align(b, labels))), labels)


def _renamed(node: ir.Reindex, form: Form) -> Form:
    selectors = node.selectors
    if not all(isinstance(s, Index) for s in selectors) or len(set(selectors)) < len(selectors):
        raise _NotLinear
    names = {old: s for old, s in zip(node.args[0].type.indices, selectors, strict=True) if isinstance(s, Index)}
    return {
        (source, tuple(names[i] for i in own)): LabelledArray(
            c.array, tuple(names[x] if isinstance(x, Index) else x for x in c.labels)
        )
        for (source, own), c in form.items()
    }


def pairs(node: ir.Node) -> int:
    """How many outer products a product of kets is the sum of."""
    return math.prod(i.size for i in node.over) if isinstance(node, ir.Contract) else 1
