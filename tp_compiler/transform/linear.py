"""Splits a node that is linear in an entry of an initial matrix."""

from __future__ import annotations

from tp_compiler.diagnostics import ProgramError, Span, error
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder, is_zero
from tp_compiler.ir.walk import reachable


def split_linear(build: Builder, root: ir.Node, entry: ir.Node, span: Span) -> tuple[ir.Node | None, ir.Node]:
    """root = part · entry + rest. Raises NX169 if an entry of the initial matrix enters nonlinearly."""
    parts: dict[ir.Node, ir.Node | None] = {}
    rests: dict[ir.Node, ir.Node] = {}
    zero = build.constant(0, span)
    for node in reachable([root]):
        if node is entry:
            parts[node], rests[node] = build.constant(1, span), zero
            continue
        moving = [a for a in node.args if parts.get(a) is not None]
        if not moving or is_zero(node):
            parts[node], rests[node] = None, zero if moving else _without(build, node, rests, span)
            continue
        if not isinstance(node, ir.Map):
            raise _nonlinear(span)
        if node.fn == "add":
            parts[node] = build.map("add", [p for a in node.args if (p := parts[a]) is not None], span)
            kept = [rests[a] for a in node.args if not is_zero(rests[a])]
            rests[node] = build.map("add", kept, span) if kept else zero
        elif (node.fn == "mul" and len(moving) == 1) or (node.fn == "div" and moving == [node.args[0]]):
            (inner,) = moving
            others = [a for a in node.args if a is not inner]
            if any(a.type.slots for a in others):
                raise _nonlinear(span)
            part = parts[inner]
            assert part is not None
            parts[node] = build.map(node.fn, (part, *others), span)
            rests[node] = zero if is_zero(rests[inner]) else build.map(node.fn, (rests[inner], *others), span)
        else:
            raise _nonlinear(span)
    return parts[root], rests[root]


def _without(build: Builder, node: ir.Node, rests: dict[ir.Node, ir.Node], span: Span) -> ir.Node:
    """A node without the entry, even if its arguments contain zero multiples of it."""
    args = tuple(rests[a] for a in node.args)
    return node if args == node.args else build.again(node, args, span)


def _nonlinear(span: Span) -> ProgramError:
    return error(
        "NX169",
        "the entries of an initial matrix enter this update nonlinearly, which has no limit",
        span,
        "use decoupled weight decay (`AdamW`), or `SGD`",
    )
