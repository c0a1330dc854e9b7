"""Recognises the factor δ[v, p] of a sum over the members selected by integers p."""

from __future__ import annotations

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index


def one_hot(node: ir.Node) -> tuple[Index, ir.Node] | None:
    """(v, p) of 1 - step(|v - p|), which is how `Builder.equal` writes that the position v equals p."""
    apart: ir.Node | None = node
    for fn, constant in (("add", 1.0), ("mul", -1.0), ("step", None), ("abs", None)):
        apart = _beside(apart, fn, constant)
    if not isinstance(apart, ir.Map) or apart.fn != "add" or not isinstance(apart.args[0], ir.Position):
        return None
    index, at = apart.args[0].index, _beside(apart.args[1], "mul", -1.0)
    return None if at is None or index in at.type.indices or at.type.slots else (index, at)


def _beside(node: ir.Node | None, fn: str, constant: float | None) -> ir.Node | None:
    """The argument of fn(x), or of fn(constant, x)."""
    if not isinstance(node, ir.Map) or node.fn != fn:
        return None
    if constant is None:
        return node.args[0]
    first, *rest = node.args
    known = isinstance(first, ir.Constant) and first.value == constant
    return rest[0] if known and len(rest) == 1 else None
