"""Values that exist only in tiles: the inside of an average over neurons, and the new states of a matrix.

A node with at most one slot is *held*: its array is computed once. So is a matrix that the training carries. Other
nodes with more slots (the body of an OuterNonlin, TP IVb Def 2.6.1; the update of a matrix, entry by entry) are
*passing*: they are computed on one tile of neurons at a time by whatever reads them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from tp_compiler.ir import nodes as ir


def held(node: ir.Node) -> bool:
    """Whether the node's array is computed whole."""
    return len(node.type.slots) <= 1 or isinstance(node, ir.Carry)


@dataclass(eq=False)
class TileBody:
    """The passing nodes to compute in each tile, in ascending serial order.

    freed     for each of `nodes`, the nodes no longer needed once it is computed
    inner     the bodies of the averages among `nodes`
    outside   passing nodes the average reads but that the enclosing average computes
    frontier  held nodes read anywhere inside
    """

    nodes: list[ir.Node]
    freed: list[list[ir.Node]]
    inner: dict[ir.Contract, TileBody]
    outside: list[ir.Node]
    frontier: list[ir.Node]


def body_of(roots: Sequence[ir.Node], enclosed: Collection[int] = ()) -> TileBody:
    """The body that computes the passing ones of `roots`; inside another body, `enclosed` are the slots it averages.

    Recursive in the nesting depth of averages only; long chains of sums and maps are followed iteratively.
    """
    inside: dict[ir.Node, list[ir.Node]] = {}
    outside: dict[ir.Node, None] = {}
    frontier: dict[ir.Node, None] = {}
    inner: dict[ir.Contract, TileBody] = {}
    stack = list(roots)
    while stack:
        node = stack.pop()
        if held(node):
            frontier[node] = None
        elif enclosed and not any(slot in enclosed for slot, _ in node.type.slots):
            outside[node] = None  # constant over these slots: once per tile of the enclosing average
        elif node not in inside:
            reads = list(node.args)
            if isinstance(node, ir.Contract) and node.slots:
                inner[node] = body_of(node.args, node.slots)
                frontier.update(dict.fromkeys(inner[node].frontier))
                reads = inner[node].outside
            inside[node] = reads
            stack.extend(reads)
    nodes = sorted(inside, key=lambda node: node.serial)
    freed = freed_after(nodes, inside, {*roots, *outside, *frontier})
    return TileBody(nodes, [freed[n] for n in nodes], inner, list(outside), list(frontier))


def freed_after(
    order: Sequence[ir.Node], needs: dict[ir.Node, list[ir.Node]], keep: Iterable[ir.Node]
) -> dict[ir.Node, list[ir.Node]]:
    """For each node, the values that no later node needs."""
    kept = set(keep)
    last = {need: node for node in order for need in needs[node]}
    freed: dict[ir.Node, list[ir.Node]] = {node: [] for node in order}
    for need, node in last.items():
        if need not in kept:
            freed[node].append(need)
    return freed
