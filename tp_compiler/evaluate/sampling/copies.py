"""Copies of an average E: how many are paired with a row, and how many E are nested."""

from __future__ import annotations

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index


def paired(samples: int, depth: int) -> int:
    """P, the number of copies paired with a row: M/16 (beyond 2^16 particles like √M); (M/4)^(1/d) for each of d nested E."""
    exponent = samples.bit_length() - 1
    if depth > 1:
        return 1 << max(2, (exponent - 2) // depth)
    return 1 << max(1, min(exponent - 4, 4 + exponent // 2))


def depth_of(node: ir.Contract) -> int:
    """The depth of nested E in a contraction, itself included."""
    args, _, _ = flattened(node, list(node.args))
    return nested(args)


def flattened(node: ir.Contract, args: list[ir.Node]) -> tuple[list[ir.Node], list[int], set[Index]]:
    """Factors, copies and summed indices of a contraction: an E that is a factor itself becomes part of it.

    E[1](a E[2](b)) = E[1,2](a b) by independence: the pairs of copies need no grid. Sums whose index is in use
    outside are not changed.
    """
    args, copies, over = list(args), [s for s in node.slots if s != 0], set(node.over)
    for k in range(len(args) - 1, -1, -1):
        inner = args[k]
        if isinstance(inner, ir.Contract) and inner.slots and over_copies(inner):
            own, more, summed = flattened(inner, list(inner.args))
            elsewhere = {i for a in (*args[:k], *args[k + 1 :]) for i in a.type.indices} | over
            if not summed & elsewhere and not set(more) & set(copies):
                args[k : k + 1] = own
                copies, over = [*copies, *more], over | summed
    return args, copies, over


def over_copies(node: ir.Node) -> bool:
    """Whether a value depends on copies, so that it exists in tiles only."""
    return any(slot != 0 for slot, _ in node.type.slots)


def nested(args: list[ir.Node]) -> int:
    """How many E are nested, the one over these factors included."""
    deepest = 0
    seen: set[ir.Node] = set()
    todo = list(args)
    while todo:
        node = todo.pop()
        if node in seen or not over_copies(node) or isinstance(node, ir.Copy):
            continue
        seen.add(node)
        if isinstance(node, ir.Contract) and node.slots:
            deepest = max(deepest, nested(flattened(node, list(node.args))[0]))
        else:
            todo.extend(node.args)
    return 1 + deepest
