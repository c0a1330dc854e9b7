"""Sums of sums multiplied out where that is cheaper: contractions of nested linear expressions.

An inner step of training moves a family, |u'[t,d]> = |u[d]> - η Σ_b χ[t,b] x[t,b,d] |v>, of which the network reads one
combination, Σ_d z[t,d] |u'[t,d]>. As Σ_d z u - η Σ_b χ (Σ_d z x) |v> it never forms the family. Whether this is cheaper is a
matter of sizes: the number of multiplications is counted both ways.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tp_compiler.evaluate.arrays import Labels
from tp_compiler.evaluate.linear.contraction import MEMORY, planned, size_of
from tp_compiler.evaluate.linear.fold import rewritten
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.onehot import one_hot
from tp_compiler.ir.program import Program
from tp_compiler.ir.types import Index
from tp_compiler.ir.walk import dependencies, reachable

#: What costs less than this is left as it is.
SMALL = 2.0**22
#: The most products that one contraction is multiplied out into.
MOST_TERMS = 16
#: How many coordinates a matrix is taken to add to a ket.
PER_MATRIX = 64


def merged(program: Program, build: Builder) -> Program:
    """The program with its expensive contractions multiplied out."""
    return rewritten(program, program.outputs, Merger(reachable(program.roots), build))


@dataclass(frozen=True)
class ContractionTerm:
    """Σ over indices of a product."""

    factors: tuple[ir.Node, ...]
    over: tuple[Index, ...] = ()


class Merger:
    def __init__(self, nodes: list[ir.Node], build: Builder):
        self.build = build
        self.uses = Counter(a for n in nodes for a in dependencies(n))
        kets = [n.type.size() for n in nodes if isinstance(n, ir.InitialKet)]
        self.typical = 1 + sum(kets) + PER_MATRIX * len({n.matrix for n in nodes if isinstance(n, ir.MatMul)})
        self._making: dict[ir.Node, float] = {}
        self._products: dict[tuple[tuple[ir.Node, ...], Labels], float] = {}

    def __call__(self, node: ir.Node, args: tuple[ir.Node, ...]) -> ir.Node:
        new = node if args == node.args else self.build.again(node, args, node.span)
        if isinstance(new, ir.Contract):
            new = self._contracted(new)
        if new is not node:
            self.uses[new] = max(self.uses[new], self.uses[node])
        self._made(new)  # now, so that later ones find it
        return new

    def _contracted(self, node: ir.Contract) -> ir.Node:
        if any(one_hot(a) for a in node.args) or self._total([ContractionTerm(node.args, node.over)], node) < SMALL:
            return node
        terms = self._best([ContractionTerm(node.args, node.over)], node)
        if len(terms) == 1 and terms[0].factors == node.args:
            return node
        build = self.build
        return build.map("add", [build.contract(t.factors, t.over, node.slots, node.span) for t in terms], node.span)

    def _best(self, terms: list[ContractionTerm], node: ir.Contract) -> list[ContractionTerm]:
        """Multiplied out level by level, the most expensive ket first; returns the cheapest form found, if it saves half."""
        best, least = terms, self._total(terms, node) / 2
        while True:
            places = [(self._made(f), k, f) for k, t in enumerate(terms) for f in t.factors if self._opened(f)]
            if not places:
                return best
            _, k, factor = max(places, key=lambda place: place[:2])
            inner = [self._joined(terms[k], factor, t) for t in self._opened(factor)]
            terms = [*terms[:k], *inner, *terms[k + 1 :]]
            if len(terms) > MOST_TERMS:
                return best
            if (cost := self._total(terms, node)) < least:
                best, least = terms, cost

    def _joined(self, term: ContractionTerm, factor: ir.Node, inner: ContractionTerm) -> ContractionTerm:
        """The product with one factor replaced; indices summed inside get new names."""
        names: dict[Index, Index | int] = {i: self.build.fresh(i) for i in inner.over}
        factors = tuple(self.build.rename(f, names, f.span) for f in inner.factors)
        at = term.factors.index(factor)
        over = (*term.over, *(i for i in names.values() if isinstance(i, Index)))
        return ContractionTerm((*term.factors[:at], *factors, *term.factors[at + 1 :]), over)

    def _opened(self, node: ir.Node) -> list[ContractionTerm]:
        """One level of a linear ket: the terms that it is the sum of. Empty for an atom."""
        if not node.type.is_ket:
            return []
        match node:
            case ir.Map(fn="add"):
                return [ContractionTerm((a,)) for a in node.args]
            case ir.Map(fn="mul", args=args) if sum(bool(a.type.slots) for a in args) == 1:
                return [ContractionTerm(args)]
            case ir.Map(fn="div", args=(x, y)) if not y.type.slots:
                one = self.build.constant(1.0, node.span)
                return [ContractionTerm((x, self.build.map("div", (one, y), node.span)))]
            case ir.Contract(slots=(), args=args, over=over) if not any(one_hot(a) for a in args):
                return [ContractionTerm(args, over)]
            case ir.Reindex(args=(x,), selectors=selectors):
                return self._renamed(x, selectors)
        return []

    def _renamed(self, x: ir.Node, selectors: tuple[Index | int | ir.Gather, ...]) -> list[ContractionTerm]:
        names: dict[Index, Index | int] = {
            i: s for i, s in zip(x.type.indices, selectors, strict=True) if not isinstance(s, ir.Gather)
        }
        found = []
        for term in self._opened(x):
            inner: dict[Index, Index | int] = {i: self.build.fresh(i) for i in term.over}
            factors = tuple(self.build.rename(f, {**names, **inner}, f.span) for f in term.factors)
            found.append(ContractionTerm(factors, tuple(i for i in inner.values() if isinstance(i, Index))))
        return found

    # -- costs ----------------------------------------------------------------------------------------------------
    def _total(self, terms: list[ContractionTerm], node: ir.Contract) -> float:
        """Multiplications for the terms, and for their factors if these are only needed here."""
        factors = {f for t in terms for f in t.factors}
        out = self._labels(node)
        return sum(self._product(t, out) for t in terms) + sum(self._made(f) for f in factors)

    def _product(self, term: ContractionTerm, out: Labels) -> float:
        key = term.factors, out
        if key not in self._products:
            self._products[key] = planned([self._labels(f) for f in term.factors], out, self.typical)[1]
        return self._products[key]

    def _labels(self, node: ir.Node) -> Labels:
        return (*node.type.indices, *(s for s, _ in node.type.slots))

    def _made(self, node: ir.Node) -> float:
        """The cost of making a linear ket, shared among its readers."""
        if node not in self._making:
            self._making[node] = self._making_of(node) / max(1, self.uses[node])
        return self._making[node]

    def _making_of(self, node: ir.Node) -> float:
        if isinstance(node, ir.Reindex):
            return self._made(node.args[0])
        terms = self._opened(node)
        if not terms:
            return 0.0
        parts = {f for t in terms for f in t.factors}
        own = (
            self._product(terms[0], self._labels(node)) if isinstance(node, ir.Contract) else MEMORY * self._size(node)
        )
        return own + sum(self._made(f) for f in parts)

    def _size(self, node: ir.Node) -> float:
        return float(size_of(self._labels(node), self.typical))


__all__ = ["merged"]
