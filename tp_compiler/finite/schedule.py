"""What to compute, in which order, and until when each value is needed; decided before anything is allocated.

A node with at most one slot is *held*: its array is computed once. A node with more slots (the body of an
OuterNonlin, TP IVb Def 2.6.1) is *passing*: it exists only inside tiles of the average that contains it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Output
from tp_compiler.ir.types import Index, Width

Member = tuple[ir.MatrixSymbol, int]


def held(node: ir.Node) -> bool:
    """Whether the node's array is computed whole."""
    return len(node.type.slots) <= 1


@dataclass(eq=False)
class Body:
    """The passing nodes to compute in each tile of one average, in ascending serial order.

    freed     for each of `nodes`, the nodes not needed any more once it is computed
    inner     the bodies of the averages among `nodes`
    outside   passing nodes the average reads but that the enclosing average computes
    frontier  held nodes read anywhere inside
    """

    nodes: list[ir.Node]
    freed: list[list[ir.Node]]
    inner: dict[ir.Contract, Body]
    outside: list[ir.Node]
    frontier: list[ir.Node]


@dataclass(eq=False)
class Plan:
    """The held nodes in ascending serial order, and what each step needs and frees."""

    outputs: tuple[Output, ...]
    order: list[ir.Node]
    needs: dict[ir.Node, list[ir.Node]]
    freed: dict[ir.Node, list[ir.Node]]
    bodies: dict[ir.Contract, Body]
    last_use: dict[Member, int] = field(default_factory=dict)
    first_use: dict[Member, int] = field(default_factory=dict)


def plan(outputs: Iterable[Output]) -> Plan:
    """The plan for the given outputs."""
    outputs = tuple(outputs)
    bodies: dict[ir.Contract, Body] = {}
    needs: dict[ir.Node, list[ir.Node]] = {}
    stack = [o.node for o in outputs]
    while stack:
        node = stack.pop()
        if node in needs:
            continue
        if isinstance(node, ir.Contract) and not all(map(held, node.args)):
            bodies[node] = _body(node, outermost=True)
        needs[node] = _needs(node, bodies)
        stack.extend(needs[node])
    order = sorted(needs, key=lambda node: node.serial)
    found = Plan(outputs, order, needs, _freed(order, needs, {o.node for o in outputs}), bodies)
    for node in order:
        if isinstance(node, ir.MatMul):
            for flat, _ in members(node):
                found.first_use.setdefault((node.matrix, flat), node.serial)
                found.last_use[node.matrix, flat] = node.serial
    return found


def _needs(node: ir.Node, bodies: dict[ir.Contract, Body]) -> list[ir.Node]:
    if isinstance(node, ir.Contract) and node in bodies:
        return bodies[node].frontier
    if isinstance(node, ir.Unavailable):
        return []  # never evaluated, so its arguments need not be
    extra = (node.matrix.variance,) if isinstance(node, ir.MatMul) else ()
    return list(dict.fromkeys((*node.args, *extra)))


def _body(average: ir.Contract, outermost: bool) -> Body:
    """Recursive in the nesting depth of averages only; long chains of sums and maps are followed iteratively."""
    slots = set(average.slots)
    inside: dict[ir.Node, list[ir.Node]] = {}
    outside: dict[ir.Node, None] = {}
    frontier: dict[ir.Node, None] = {}
    inner: dict[ir.Contract, Body] = {}
    stack = list(average.args)
    while stack:
        node = stack.pop()
        if held(node):
            frontier[node] = None
        elif not outermost and slots.isdisjoint(slot for slot, _ in node.type.slots):
            outside[node] = None  # constant over these slots: once per tile of the enclosing average
        elif node not in inside:
            reads = list(node.args)
            if isinstance(node, ir.Contract) and node.slots:
                inner[node] = _body(node, outermost=False)
                frontier.update(dict.fromkeys(inner[node].frontier))
                reads = inner[node].outside
            inside[node] = reads
            stack.extend(reads)
    nodes = sorted(inside, key=lambda node: node.serial)
    keep = {*average.args, *outside, *frontier}
    freed = _freed(nodes, inside, keep)
    return Body(nodes, [freed[n] for n in nodes], inner, list(outside), list(frontier))


def _freed(
    order: Sequence[ir.Node], needs: dict[ir.Node, list[ir.Node]], keep: set[ir.Node]
) -> dict[ir.Node, list[ir.Node]]:
    """For each node, what nobody later in the order needs."""
    last = {need: node for node in order for need in needs[node]}
    freed: dict[ir.Node, list[ir.Node]] = {node: [] for node in order}
    for need, node in last.items():
        if need not in keep:
            freed[node].append(need)
    return freed


def members(node: ir.MatMul) -> Iterator[tuple[int, dict[Index, int]]]:
    """The family members a product meets: the flat number of each, and the positions (from 0) of its indices."""
    batch = tuple(dict.fromkeys(m for m in node.member if isinstance(m, Index)))
    for positions in product(*(range(i.size) for i in batch)):
        at = dict(zip(batch, positions, strict=True))
        flat = 0
        for entry, index in zip(node.member, node.matrix.indices, strict=True):
            flat = flat * index.size + (at[entry] if isinstance(entry, Index) else entry - 1)
        yield flat, at


def peak_entries(found: Plan, neurons: Callable[[Width], int], tile: int) -> int:
    """An estimate of the largest number of array entries alive at once: values, cached matrices, one draw, tiles."""

    def entries(node: ir.Node) -> int:
        return node.type.size() * math.prod(neurons(width) for _, width in node.type.slots)

    alive = peak = 0
    for node in found.order:
        draw = 0
        own = entries(node)
        if isinstance(node, ir.MatMul):
            size = neurons(node.matrix.rows) * neurons(node.matrix.cols)
            for flat, _ in members(node):
                first, last = (use[node.matrix, flat] for use in (found.first_use, found.last_use))
                alive += size * (first == node.serial) * (last > node.serial)
                draw = max(draw, size * (first == node.serial) * (last == node.serial))
        elif isinstance(node, ir.Contract) and node.slots:
            draw = min(8 * tile, _whole(node, neurons)) if node in found.bodies else 0
        peak = max(peak, alive + own + draw)
        alive += own - sum(map(entries, found.freed[node]))
        if isinstance(node, ir.MatMul):
            done = [f for f, _ in members(node) if found.last_use[node.matrix, f] == node.serial]
            alive -= sum(size for f in done if found.first_use[node.matrix, f] < node.serial)
    return peak


def _whole(node: ir.Contract, neurons: Callable[[Width], int]) -> int:
    slots = {slot: width for a in node.args for slot, width in a.type.slots}
    indices = {i for a in node.args for i in a.type.indices}
    return 8 * math.prod(map(neurons, slots.values())) * math.prod(i.size for i in indices)
