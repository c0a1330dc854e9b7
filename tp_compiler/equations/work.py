"""The state of a derivation: the equations so far, facts about their kets, and the names of nodes.

Names bound in the source have separate equations, and so have their cotangents; so has everything that would
nest too deeply, so that no expression grows with the program and no recursion is too deep. Families that differ only in
index names are one.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence

import sympy as sp

from tp_compiler.equations.brackets import pair_of
from tp_compiler.equations.canonical import canonical
from tp_compiler.equations.facts import LOOPED, Character, Facts
from tp_compiler.equations.flow import StepDependence
from tp_compiler.equations.folding import Folding
from tp_compiler.equations.names import Names, uses
from tp_compiler.equations.overlaps import MeetingProducts
from tp_compiler.equations.simplify import simplify
from tp_compiler.equations.system import Equation
from tp_compiler.equations.terms import (
    Expr,
    Joined,
    Ket,
    Named,
    Scalar,
    Stacked,
    copies_of,
    family_of,
    reindex,
    renumbered,
)
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Program
from tp_compiler.ir.types import Index

#: Expressions of more operations than this get a name of their own where they are used again, or anyway (twice this).
_LONG = 24
#: So many indices are tried in every order.
_PERMUTED = 4
#: Used more than once, an unnamed ket of so many operations is named.
_SHARED = 6


class Work:
    """A program, its equations, and the names of its nodes in them."""

    def __init__(self, program: Program, simplify: bool):
        self.program, self.simplify = program, simplify
        self.flow = StepDependence(program)
        self.nodes = self.flow.nodes
        self.names = Names(program, self.nodes, self.flow.states, self.flow.moving)
        self.facts = Facts()
        self.facts.batched = _batched(self.nodes)
        self.facts.sizes = self.names.sizes
        self.equations: list[Equation] = []
        self.weight: dict[ir.Node, int] = {}
        self.expr: dict[ir.Node, Expr] = {}
        self._looks: set[Hashable] = set()
        self._families: dict[Hashable, tuple[Named, Sequence[Expr], str]] = {}
        self._must_name = {a for n in self.nodes if isinstance(n, ir.Along | ir.Stack) for a in n.args}
        self._must_name |= {a for n in self.nodes if isinstance(n, ir.MatMul | ir.Apply) for a in n.args}
        there = set(self.nodes)
        self.folding = Folding(n for n in program.cotangents if n in there or self.names.has_name(n))
        self.count = uses(self.nodes, self.folding.args)

    def clean(self, expr: Expr) -> Expr:
        """The expression in the form in which it is stated."""
        expr = renumbered(expr)
        return renumbered(simplify(expr, self.facts)) if self.simplify else expr

    def emit(self, equation: Equation, character: Character | None = None) -> Named:
        """Adds an equation and the facts about its ket."""
        self.equations.append(equation)
        if equation.is_ket:
            looped = LOOPED if equation.time is not None else None
            self.facts.kets[equation.name] = looped or character or self.facts.of(equation.expression)
            self.facts.definitions[equation.name] = equation
        return equation.symbol

    # -- time ----------------------------------------------------------------------------------------------------
    def is_current(self, node: ir.Node) -> bool:
        """Is this a value at step t of the loop?"""
        return node in self.flow.moving and node not in self.flow.beyond

    def time(self, node: ir.Node) -> Expr | None:
        return self.names.time if self.is_current(node) else None

    def indices(self, node: ir.Node) -> list[Expr]:
        """The indices of a node's family; in the loop t comes first."""
        own = [self.names.symbol(i) for i in node.type.indices]
        return [self.names.time, *own] if self.is_current(node) else own

    # -- names ---------------------------------------------------------------------------------------------------
    def member(self, node: ir.Node, without: Expr, like: Sequence[Expr]) -> Ket:
        """A fresh name for one member of the family of a node, over its other indices."""
        own = self._own(node, without)
        return Ket(self.names.fresh("z", True), 0, *(i for i in like if i in own), *(i for i in own if i not in like))

    def symbol(self, node: ir.Node, stem: str, like: Sequence[Expr] = ()) -> Named:
        """The name of a node: from the source, or fresh; over the node's indices, in the order of `like` if fresh."""
        is_ket = not node.type.is_scalar
        label = self._label(node, is_ket) if node in self.names.source else self._fresh(node, stem, is_ket)
        indices = self.symbol_indices(node)
        if node not in self.names.source:
            indices = [*(i for i in like if i in indices), *(i for i in indices if i not in like)]
        return Ket(label, 0, *indices) if is_ket else Scalar(label, *indices)

    def _label(self, node: ir.Node, is_ket: bool) -> str:
        """The name in the source; t comes before fixed positions."""
        name, written = self.names.source[node]
        # An index that the value does not carry is left out: |h[i,1]> = |x> is h_1.
        positions = tuple(p for p in written if isinstance(p, int) or p in node.type.indices)
        return self.names.label(name, positions, is_ket, timed=self.is_current(node))

    def symbol_indices(self, node: ir.Node) -> list[Expr]:
        """The indices of a node in the order that the source has them in; t comes first."""
        own = list(node.type.indices)
        if node in self.names.source:
            first = [p for p in self.names.source[node][1] if isinstance(p, Index) and p in own]
            own = [*first, *(i for i in own if i not in first)]
        return [*([self.names.time] if self.is_current(node) else []), *(self.names.symbol(i) for i in own)]

    def named_family(self, family: MeetingProducts, slots: Mapping[int, Expr], looped: bool) -> Ket:
        """The name of a family of products that coincide: the source's, if it has one for the whole family."""
        if family.named is not None:
            label, order = self._label(family.named[0], True), family.order
        else:
            label, order = self.names.fresh("z", True), tuple(sorted(slots))
        return Ket(label, 0, *([self.names.time] if looped else []), *(slots[s] for s in order))

    def _fresh(self, node: ir.Node, stem: str, is_ket: bool) -> str:
        """dh for the cotangent of h; otherwise a fresh name."""
        primal = self.names.primal(node)
        value = self.expr.get(primal) if primal is not None else None
        if isinstance(value, Ket if is_ket else Scalar):
            return self.names.cotangent(value.label, is_ket)
        return self.names.fresh(stem, is_ket)

    def wants_name(self, node: ir.Node, value: Expr) -> bool:
        """Should this have a separate equation?"""
        if not (node.type.is_scalar or node.type.is_ket) or isinstance(value, Named) or not value.args:
            return False
        if isinstance(node, ir.Linalg | ir.Spectral | ir.Unavailable) or node in self.names.source:
            return True
        if isinstance(value, Joined):
            return True
        weight, count = self.weight[node], self.count[node]
        is_alias = isinstance(node, ir.Reindex | ir.Stack | ir.Trace)
        if is_alias and weight <= 2 * _LONG:
            return False
        if node in self._must_name or (self.names.has_name(node) and not _is_multiple(value)):
            return True
        if isinstance(node, ir.Contract) and 0 in node.slots and count > 1:
            return True
        if node.type.is_scalar and not value.atoms(Named) and weight <= _LONG:
            return False  # a formula in t
        return weight > 2 * _LONG or (count > 1 and weight > _SHARED and bool(value.count_ops() > _SHARED))

    def named(self, node: ir.Node, value: Expr, always: bool = False) -> Expr:
        """The name for a value: of a family with the same value, or a new name with its equation. Numbers and
        pairs of kets are not named, unless `always`."""
        value = self.clean(value)
        short = isinstance(value, Named) or (not always and (not value.args or pair_of(value)))
        if short and node not in self.names.source:
            return value
        known = self.known(node, value)
        if known is not None:
            return known
        kind = "scalar" if node.type.is_scalar else "ket"
        symbol = self._whole_family(node, value) or self.symbol(node, "c" if node.type.is_scalar else "z")
        local = self.names.local(symbol.indices)
        self.emit(Equation(reindex(symbol, local), kind, reindex(value, local), time=self.time(node)))
        self.remember(node, value, symbol)
        return symbol

    def _whole_family(self, node: ir.Node, value: Expr) -> Named | None:
        """h over (i, s) for |h_{i,1}>, |h_{i,2}>, ... assembled, if the source has no other name for it."""
        found = family_of(value) if isinstance(value, Stacked) and node not in self.names.source else None
        if found is None or set(found[1]) != set(self.indices(node)) or not all(i.is_Symbol for i in found[1]):
            return None
        name, indices = found
        if not self.names.claim(name, not node.type.is_scalar):
            return None
        return Scalar(name, *indices) if node.type.is_scalar else Ket(name, 0, *indices)

    def known(self, node: ir.Node, value: Expr, without: Expr | None = None) -> Expr | None:
        """A family with other index names that already has a name (the same name, if the source gives it one).

        `without`: an index of the node that the value does not have, as one member of the node's family.
        """
        for own in self._orders(node, value, without):
            found = self._families.get(self._key(node, value, own))
            if found is None:
                continue
            symbol, indices, name = found
            if node in self.names.source and without is None and self.names.source[node][0] != name:
                return None
            return reindex(symbol, dict(zip(indices, own, strict=True)))
        return None

    def remember(self, node: ir.Node, value: Expr, symbol: Named, without: Expr | None = None) -> None:
        name = self.names.source[node][0] if node in self.names.source and without is None else ""
        own = self._by_axis(node, without)
        self._families[self._key(node, value, own)] = symbol, own, name
        self._looks.add(self._look(value, own))

    def _orders(self, node: ir.Node, value: Expr, without: Expr | None) -> Iterator[list[Expr]]:
        """The node's indices in the orders that a family with the same value may have them in: i before j, j before i."""
        own = self._by_axis(node, without)
        yield own
        if len(own) > _PERMUTED or self._look(value, own) not in self._looks:
            return
        axes = [self._axis(i) for i in own]
        for order in itertools.permutations(own):
            if list(order) != own and [self._axis(i) for i in order] == axes:
                yield list(order)

    def _look(self, value: Expr, own: Sequence[Expr]) -> Hashable:
        """A key shared by families with the same value, whatever the order of their indices."""
        return tuple(self._axis(i) for i in own), frozenset(n.label for n in value.atoms(Named))

    def _axis(self, index: Expr) -> tuple[str, int]:
        return self.names.axes[index], self.names.sizes[index]

    def _by_axis(self, node: ir.Node, without: Expr | None) -> list[Expr]:
        return sorted(self._own(node, without), key=self._axis)

    def _own(self, node: ir.Node, without: Expr | None) -> list[Expr]:
        return [i for i in self.indices(node) if i != without]

    def _key(self, node: ir.Node, value: Expr, indices: Sequence[Expr]) -> Hashable:
        axes = tuple(map(self._axis, indices))
        return node.type.is_scalar, axes, canonical(value, indices)


def _is_multiple(value: Expr) -> bool:
    """A number times one named ket: no name makes it shorter."""
    random = [f for f in sp.Mul.make_args(value) if copies_of(f)]
    return len(random) == 1 and isinstance(random[0], Ket)


def _batched(nodes: list[ir.Node]) -> set[str]:
    """Families of matrices used with a symbolic member: all their members then count as one generator."""
    return {n.matrix.name for n in nodes if isinstance(n, ir.MatMul) and any(isinstance(m, Index) for m in n.member)}
