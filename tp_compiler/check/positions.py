"""Positions computed from indices, such as `2 * t + r - 1`, and values read at them."""

from __future__ import annotations

from itertools import product

from tp_compiler.diagnostics import Span, error
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.primitives import PRIMITIVES
from tp_compiler.ir.types import Index

#: Positions that are computed one by one when a program is read.
MAX_POSITIONS = 100_000


def values(node: ir.Node) -> list[float] | None:
    """The values of an expression of indices and numbers at all points; None if it contains anything else."""
    if not node.type.indices or node.type.size() > MAX_POSITIONS or not _of_indices(node):
        return None
    indices = node.type.indices
    points = product(*(range(1, i.size + 1) for i in indices))
    return [_value(node, dict(zip(indices, point, strict=True))) for point in points]


def _of_indices(node: ir.Node) -> bool:
    if isinstance(node, ir.Position | ir.Array):
        return all(i.name != "step" for i in node.type.indices)
    plain = isinstance(node, ir.Map) or (isinstance(node, ir.Reindex) and len(node.args) == 1)
    return isinstance(node, ir.Constant) or (plain and all(map(_of_indices, node.args)))


def _value(node: ir.Node, point: dict[Index, int]) -> float:
    match node:
        case ir.Constant(value=value):
            return value
        case ir.Position(index=index):
            return float(point[index])
        case ir.Array(values=values):
            return float(values[tuple(point[i] - 1 for i in node.type.indices)])
        case ir.Reindex(args=(x,), selectors=selectors):
            at = [point[s] if isinstance(s, Index) else s for s in selectors]
            return _value(x, {i: p for i, p in zip(x.type.indices, at, strict=True) if isinstance(p, int)})
        case ir.Map(fn=fn, args=args):
            return float(PRIMITIVES[fn].scalar(*(_value(a, point) for a in args)))
    raise TypeError(type(node).__name__)


def read(build: Builder, x: ir.Node, index: Index, position: ir.Node, span: Span) -> ir.Node:
    """x with its index at the position, which an expression of indices gives; 0 where it is outside the axis."""
    found = values(position)
    if found is None:
        remedy = "use smaller axes"
        raise error("NX263", f"more than {MAX_POSITIONS} positions are computed here", span, remedy)
    inside = build.constant(1, span)
    if min(found) < 1:
        inside = build.mul(
            inside, build.map("step", (build.add(position, build.constant(-0.5, span), span),), span), span
        )
    if max(found) > index.size:
        left = build.add(build.constant(index.size + 0.5, span), build.neg(position, span), span)
        inside = build.mul(inside, build.map("step", (left,), span), span)
    if index not in x.type.indices:
        return build.mul(x, inside, span)
    if min(found) < 1:
        position = build.map("max", (position, build.constant(1, span)), span)
    if max(found) > index.size:
        position = build.map("min", (position, build.constant(index.size, span)), span)
    own = x.type.indices
    picked = build.reindex(x, tuple(ir.Gather(1) if i == index else i for i in own), (position,), span)
    return build.mul(picked, inside, span)
