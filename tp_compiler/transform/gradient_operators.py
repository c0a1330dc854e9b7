"""Gradients by matrices as operators: sums of outer products."""

from __future__ import annotations

from tp_compiler.diagnostics import Span
from tp_compiler.ir import nodes as ir
from tp_compiler.ir import operators as v
from tp_compiler.ir.build import Builder
from tp_compiler.ir.types import Index
from tp_compiler.transform.gradient import Gradient, Label


def gradient_operator(
    build: Builder, found: Gradient, matrix: ir.MatrixSymbol, wanted: tuple[Label, ...], span: Span
) -> v.Operator:
    """The gradient by the member of a matrix family, as an operator: Σ |left><right|."""
    terms: list[v.Operator] = []
    for outer in found.outer(matrix):
        names: dict[Index, Label] = {i: build.fresh(i) for i in outer.over}
        factors: list[ir.Node] = []
        for label, want in zip(outer.member, wanted, strict=True):
            if label in outer.free and isinstance(label, Index):
                names[label] = want
            elif label != want:
                factors.append(build.delta(label, want, span))
        if any(isinstance(f, ir.Constant) and f.value == 0 for f in factors):
            continue
        left, right = (build.rename(x, names, span) for x in (outer.left, outer.right))
        term: v.Operator = v.Outer(build.map("mul", (left, *factors), span), right)
        for i in outer.over:
            hidden = names[i]
            assert isinstance(hidden, Index)
            term = v.Summed(term, hidden)
        terms.append(term)
    if not terms:
        zero = build.constant(0, span)
        left, right = (build.mul(zero, build.ones(w, span), span) for w in (matrix.rows, matrix.cols))
        return v.Outer(left, right)
    return terms[0] if len(terms) == 1 else v.Added(tuple(terms))


Terms = list[tuple[ir.Node, ir.Node, ir.Node, tuple[Index, ...]]]


def outer_terms(build: Builder, op: v.Operator, span: Span) -> Terms:
    """(left, right, factor, over) of an operator that is a sum of outer products."""
    one = build.constant(1, span)
    match op:
        case v.Outer(left=left, right=right):
            return [(left, right, one, ())]
        case v.Summed(operator=inner, index=index):
            return [(y, x, f, (*over, index)) for y, x, f, over in outer_terms(build, inner, span)]
        case v.Added(terms=terms):
            return [t for part in terms for t in outer_terms(build, part, span)]
        case v.Scaled(factor=factor, operator=inner):
            parts = outer_terms(build, inner, span)
            return [(y, x, build.mul(factor, f, span), over) for y, x, f, over in parts]
    raise AssertionError(f"{type(op).__name__} is not a sum of outer products")
