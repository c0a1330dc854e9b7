"""Values over two neurons that are sums of products of kets: Σ_over Π factors, every factor over one neuron at most.

The entries Σ_b dh_α x_β of a gradient are of this kind, and stay so when rows are scaled or centred (second-order note
2.4). Their averages over a neuron are brackets: nothing over two neurons has to be evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass

from tp_compiler.diagnostics import Span
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.types import Index, Width


@dataclass(frozen=True)
class Term:
    """Σ_over Π factors"""

    factors: tuple[ir.Node, ...]
    over: tuple[Index, ...] = ()


def separated(build: Builder, node: ir.Node, span: Span) -> list[Term] | None:
    """The terms that add up to a node; None where it is no such sum."""
    if len(node.type.slots) < 2:
        return [Term((node,))]
    if isinstance(node, ir.Contract) and not node.slots and all(len(a.type.slots) < 2 for a in node.args):
        return [Term(node.args, node.over)]
    if not isinstance(node, ir.Map) or node.fn not in ("add", "mul", "div"):
        return None
    if node.fn == "add":
        parts = [separated(build, a, span) for a in node.args]
        return None if any(p is None for p in parts) else [t for p in parts for t in p or ()]
    double = [a for a in node.args if len(a.type.slots) == 2]
    if len(double) > 1 or (node.fn == "div" and double != [node.args[0]]):
        return [Term(node.args)] if node.fn == "mul" and not double else None
    if not double:
        return [Term(node.args)] if node.fn == "mul" else None
    terms = separated(build, double[0], span)
    others = [a for a in node.args if a is not double[0]]
    if node.fn == "div":
        others = [build.map("div", (build.constant(1, span), a), span) for a in others]
    if terms is None:
        return None
    return [Term((*t.factors, *others), t.over) for t in terms]


def added(build: Builder, terms: list[Term], columns: tuple[int, Width], span: Span) -> ir.Node:
    """The sum of the terms, each over slot 0 and that of the columns."""
    slot, width = columns
    ones = build.copy(build.ones(width, span), slot, span)
    parts = []
    for term in terms:
        factors = term.factors if any(slot in dict(f.type.slots) for f in term.factors) else (*term.factors, ones)
        parts.append(build.contract(factors, term.over, (), span))
    return build.map("add", parts, span)


def averaged(
    build: Builder, terms: list[Term], power: int, over: tuple[Index, ...], slots: tuple[int, ...], span: Span
) -> ir.Node:
    """Σ_over mean_slots (Σ terms)^power, for power 1 or 2."""
    if power == 1:
        return build.map("add", [build.contract(t.factors, (*t.over, *over), slots, span) for t in terms], span)
    parts = []
    for first in terms:
        for second in terms:
            names: dict[Index, Index | int] = {i: build.fresh(i) for i in second.over}
            factors = (*first.factors, *(build.rename(f, names, span) for f in second.factors))
            summed = (*first.over, *(i for i in names.values() if isinstance(i, Index)), *over)
            parts.append(build.contract(factors, summed, slots, span))
    return build.map("add", parts, span)
