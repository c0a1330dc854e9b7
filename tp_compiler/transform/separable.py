"""Values over two neurons that are sums of products of kets: Σ_over Π factors, every factor over at most one neuron.

The entries Σ_b dh_α x_β of a gradient are of this kind, and remain so when rows are scaled or
centred. Their averages over a neuron are brackets: nothing over two neurons has to be evaluated. A learned matrix Δ is a
factor, too, and its mean over the columns the ket Δ|1>.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tp_compiler.diagnostics import Span
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder, join
from tp_compiler.ir.types import Index, Width


@dataclass(frozen=True)
class SeparableTerm:
    """Σ_over Π factors, times the entries of a learned matrix."""

    factors: tuple[ir.Node, ...]
    over: tuple[Index, ...] = ()
    learned: ir.Carry | None = None


def separated(build: Builder, node: ir.Node, span: Span) -> list[SeparableTerm] | None:
    """The terms that add up to a node; None if it is not such a sum."""
    if len(node.type.slots) < 2:
        return [SeparableTerm((node,))]
    if isinstance(node, ir.Carry):
        return [SeparableTerm((), (), node)]
    if isinstance(node, ir.Contract) and not node.slots and all(len(a.type.slots) < 2 for a in node.args):
        return [SeparableTerm(node.args, node.over)]
    if not isinstance(node, ir.Map) or node.fn not in ("add", "mul", "div"):
        return None
    if node.fn == "add":
        parts = [separated(build, a, span) for a in node.args]
        return None if any(p is None for p in parts) else [t for p in parts for t in p or ()]
    double = [a for a in node.args if len(a.type.slots) == 2]
    if len(double) > 1 or (node.fn == "div" and double != [node.args[0]]):
        return [SeparableTerm(node.args)] if node.fn == "mul" and not double else None
    if not double:
        return [SeparableTerm(node.args)] if node.fn == "mul" else None
    terms = separated(build, double[0], span)
    others = [a for a in node.args if a is not double[0]]
    if node.fn == "div":
        others = [build.map("div", (build.constant(1, span), a), span) for a in others]
    if terms is None:
        return None
    return [_times(build, t, others, span) for t in terms]


def _times(build: Builder, term: SeparableTerm, others: list[ir.Node], span: Span) -> SeparableTerm:
    factors, over = build.apart(term.factors, term.over, join(others).indices, span)
    return replace(term, factors=(*factors, *others), over=over)


def added(build: Builder, terms: list[SeparableTerm], columns: tuple[int, Width], span: Span) -> ir.Node:
    """The sum of the terms, each over slot 0 and that of the columns."""
    slot, width = columns
    ones = build.copy(build.ones(width, span), slot, span)
    parts = []
    weights: dict[ir.Carry, float] = {}
    for term in terms:
        weight = _number(term)
        if weight is not None and term.learned is not None:
            weights[term.learned] = weights.get(term.learned, 0.0) + weight
            continue
        if term.learned is not None:
            parts.append(build.map("mul", (*term.factors, term.learned), span))
            continue
        factors = term.factors if any(slot in dict(f.type.slots) for f in term.factors) else (*term.factors, ones)
        parts.append(build.contract(factors, term.over, (), span))
    parts += [build.mul(build.constant(w, span), entries, span) for entries, w in weights.items() if w != 0]
    return build.map("add", parts, span)


def _number(term: SeparableTerm) -> float | None:
    """The factor, if it is a number."""
    product = 1.0
    for f in term.factors:
        if not isinstance(f, ir.Constant):
            return None
        product *= f.value
    return product


def averaged(
    build: Builder, terms: list[SeparableTerm], power: int, over: tuple[Index, ...], slots: tuple[int, ...], span: Span
) -> ir.Node | None:
    """Σ_over mean_slots (Σ terms)^power, for power 1 or 2; None with learned entries elsewhere than in a mean of rows."""
    if any(t.learned is not None for t in terms) and (power == 2 or 0 in slots):
        return None
    if power == 1:
        means = []
        for t in terms:
            factors, inner = build.apart(t.factors, t.over, over, span)
            means.append(build.contract((*factors, *_mean(build, t, span)), (*inner, *over), slots, span))
        return build.map("add", means, span)
    parts = []
    free = _free(terms)
    for first in terms:
        ours, left = build.apart(first.factors, first.over, (*over, *free), span)
        for second in terms:
            theirs, right = build.apart(second.factors, second.over, (*over, *free, *left), span)
            parts.append(build.contract((*ours, *theirs), (*left, *right, *over), slots, span))
    return build.map("add", parts, span)


def _free(terms: list[SeparableTerm]) -> set[Index]:
    """The indices that terms have outside."""
    return {i for t in terms for i in join(t.factors).indices if i not in t.over}


def _mean(build: Builder, term: SeparableTerm, span: Span) -> tuple[ir.Node, ...]:
    """Δ|1>"""
    if term.learned is None:
        return ()
    state = term.learned.state
    ones = build.ones(state.type.slots[1][1], span)
    return (build.apply(state, state.type.indices, False, ones, span),)
