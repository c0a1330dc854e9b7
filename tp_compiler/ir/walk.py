"""Traversals of nodes: iterative, each node once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from tp_compiler.diagnostics import Span
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder


def reachable(roots: Iterable[ir.Node], reads: Callable[[ir.Node], Iterable[ir.Node]] | None = None) -> list[ir.Node]:
    """Every node that the roots read, directly or not, in ascending serial number: a topological order.

    A node reads its `dependencies` unless `reads` says otherwise.
    """
    reads = dependencies if reads is None else reads
    seen: dict[ir.Node, None] = {}
    todo = list(roots)
    while todo:
        node = todo.pop()
        if node not in seen:
            seen[node] = None
            todo.extend(reads(node))
    return sorted(seen, key=lambda n: n.serial)


def dependencies(node: ir.Node) -> tuple[ir.Node, ...]:
    """The nodes whose values a node needs: its arguments, the variance of a matrix, the start of a state."""
    if isinstance(node, ir.MatMul):
        return (*node.args, node.matrix.variance)
    return (node.state.init,) if isinstance(node, ir.Carry) else node.args


def rewrite(
    build: Builder,
    root: ir.Node,
    rule: Callable[[ir.Node], ir.Node | None],
    span: Span,
    done: dict[ir.Node, ir.Node] | None = None,
    made: Callable[[ir.Node, tuple[ir.Node, ...]], ir.Node | None] | None = None,
) -> ir.Node:
    """Replaces nodes bottom-up: `rule` returns a replacement (which is not traversed) or None to rebuild the node from its args.

    `made` is given a node with its new args; it returns what is made of these, or None for the same instruction. `done`
    keeps replacements from one root to the next.
    """
    done = {} if done is None else done
    todo = [root]
    while todo:
        node = todo[-1]
        if node in done:
            todo.pop()
            continue
        replacement = rule(node)
        if replacement is not None:
            done[node] = replacement
            continue
        missing = [a for a in node.args if a not in done]
        if missing:
            todo.extend(missing)
            continue
        args = tuple(done[a] for a in node.args)
        new = made(node, args) if made is not None else None
        done[node] = new if new is not None else node if args == node.args else build.again(node, args, span)
    return done[root]


def uses_initial(root: ir.Node, starts: Collection[ir.Node | ir.MatrixSymbol]) -> bool:
    """Is `root` made of the initial value of one of these parameters (not through the state that carries it)?"""
    for node in reachable([root]):
        if isinstance(node, ir.MatMul) and node.matrix in starts:
            return True
        if any(a in starts for a in node.args) or (node in starts and node is root):
            return True
    return False
