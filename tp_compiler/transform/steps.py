"""Values that change from step to step of a training loop, and scalars at one step as families over all steps."""

from __future__ import annotations

from collections.abc import Iterable

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.types import Axis, Index
from tp_compiler.ir.walk import reachable


def changing(order: Iterable[ir.Node]) -> set[ir.Node]:
    """The nodes that change from step to step, of nodes in topological order."""
    found: set[ir.Node] = set()
    for n in order:
        own = isinstance(n, ir.Carry | ir.Clock) or (isinstance(n, ir.MatMul) and n.matrix.start is not None)
        if own or (not isinstance(n, ir.Trace) and any(a in found for a in n.args)):
            found.add(n)
    return found


def extent(node: ir.Node, clock: Index) -> Index:
    """The index over the steps at which a value exists: `clock`, or one shorter if it reads data over `step` that end with
    the last update."""
    return shorter(clock) if node in _ending(reachable([node]), clock) else clock


def shorter(clock: Index) -> Index:
    """The index over the steps that lacks the one after the last update; that of data with as many entries as updates."""
    return Index(clock.name, Axis(clock.axis.name, clock.size - 1))


def reads_beyond(node: ir.Node, clock: Index) -> tuple[ir.Node, Index] | None:
    """What a node reads by `step` although that has no entry for the value after the last update, and its index."""
    if not isinstance(node, ir.Reindex):
        return None
    for place, selector in zip(node.args[0].type.indices, node.selectors, strict=True):
        ahead = steps_ahead(node.args[selector.arg]) if isinstance(selector, ir.Gather) else None
        if ahead is not None and clock.size - 1 + ahead >= place.size:
            return node.args[0], place
    return None


def _ending(order: Iterable[ir.Node], clock: Index) -> set[ir.Node]:
    """The nodes without a value after the last update, of nodes in topological order."""
    found: set[ir.Node] = set()
    for n in order:
        own = reads_beyond(n, clock) is not None
        if own or (not isinstance(n, ir.Trace) and any(a in found for a in n.args)):
            found.add(n)
    return found


def traced(build: Builder, node: ir.Node, clock: Index) -> ir.Node:
    """A scalar at one step as a family over the steps at which it exists; families over the steps do not change."""
    done: dict[ir.Node, ir.Node] = {}
    order = reachable([node])
    traces = {n for n in order if isinstance(n, ir.Trace)}
    beyond: set[ir.Node] = set(traces)
    for n in order:
        if any(a in beyond for a in n.args):
            beyond.add(n)
    moving, ending = changing(order), _ending(order, clock)
    own = shorter(clock) if node in ending else clock
    for n in order:
        if n in traces:
            done[n] = n
        elif n in beyond:
            done[n] = build.again(n, tuple(done[a] for a in n.args), n.span)
        elif n not in moving or not n.type.is_scalar:
            done[n] = n
        else:
            whole = build.trace(n, shorter(clock) if n in ending else clock, n.span)
            cut = own != clock and n not in ending
            done[n] = _until_the_last(build, whole, clock, own) if cut else whole
    return done[node]


def _until_the_last(build: Builder, family: ir.Node, clock: Index, own: Index) -> ir.Node:
    """A family over all steps without the value after the last update."""
    selectors = tuple(ir.Gather(1) if i == clock else i for i in family.type.indices)
    return build.reindex(family, selectors, (build.position(own, family.span),), family.span)


def clocked(node: ir.Node) -> float | None:
    """k if this is `step + k`."""
    if isinstance(node, ir.Clock):
        return 0.0
    if not (isinstance(node, ir.Map) and node.fn == "add"):
        return None
    numbers = [a.value for a in node.args if isinstance(a, ir.Constant)]
    return (
        sum(numbers) if len(numbers) == len(node.args) - 1 and any(isinstance(a, ir.Clock) for a in node.args) else None
    )


def steps_ahead(position: ir.Node) -> float | None:
    """k if a position is that of `step + k`: `step` + k + 1, or 1 if that is larger."""
    match position:
        case ir.Map(fn="max", args=(raw, ir.Constant(value=1.0))):
            return steps_ahead(raw)
        case ir.Map(fn="add", args=(ir.Clock() | ir.Map() as node, ir.Constant(value=1.0))):
            return clocked(node)
    return None
