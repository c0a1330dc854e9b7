"""Values that change from step to step of a training loop, and scalars at one step as families over all steps."""

from __future__ import annotations

from collections.abc import Iterable

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.types import Index
from tp_compiler.ir.walk import reachable


def changing(order: Iterable[ir.Node]) -> set[ir.Node]:
    """The nodes that change from step to step, of nodes in topological order."""
    found: set[ir.Node] = set()
    for n in order:
        own = isinstance(n, ir.Carry | ir.Clock) or (isinstance(n, ir.MatMul) and n.matrix.start is not None)
        if own or (not isinstance(n, ir.Trace) and any(a in found for a in n.args)):
            found.add(n)
    return found


def traced(build: Builder, node: ir.Node, clock: Index) -> ir.Node:
    """A scalar at one step as a family over the steps; families over the steps do not change."""
    done: dict[ir.Node, ir.Node] = {}
    order = reachable([node])
    traces = {n for n in order if isinstance(n, ir.Trace)}
    beyond: set[ir.Node] = set(traces)
    for n in order:
        if any(a in beyond for a in n.args):
            beyond.add(n)
    moving = changing(order)
    for n in order:
        if n not in beyond:
            done[n] = build.trace(n, clock, n.span) if n in moving and n.type.is_scalar else n
        elif n in traces:
            done[n] = n
        else:
            done[n] = build.again(n, tuple(done[a] for a in n.args), n.span)
    return done[node]
