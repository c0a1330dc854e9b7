"""Values that change with the clock, for all steps together: families over the steps.

In the neural tangent limit the outputs at initialisation are one Gaussian vector, over inputs and over steps: those
of the minibatch of every step, and of the network whose weights decay. So a bracket that reads the clock becomes a
family over a hidden index, static like every other, and the loop reads the member of its step.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from tp_compiler.diagnostics import Span
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.types import Axis, Index
from tp_compiler.ir.walk import reachable, rewrite
from tp_compiler.transform.gradient import Gradient, Label, Leaf, Outer


class StepIndex:
    """The hidden index of a family over the steps, and the way back to one step."""

    def __init__(self, build: Builder, steps: int, head: Span):
        self.build, self.head, self.steps = build, head, steps
        self.indices = {size: Index("step#", Axis("step#", size)) for size in (steps, steps + 1)}

    def index(self, node: ir.Node) -> Index | None:
        """The hidden index of a node, if it is a family over the steps."""
        return next((i for i in node.type.indices if i in self.indices.values()), None)

    def now(self, node: ir.Node) -> ir.Node:
        """The member of this step."""
        own = self.index(node)
        if own is None:
            return node
        place = self.build.add(self.build.clock(self.head), self.build.constant(1, self.head), self.head)
        selectors = tuple(ir.Gather(1) if i == own else i for i in node.type.indices)
        return self.build.reindex(node, selectors, (place,), node.span)

    def here(self, index: Index) -> ir.Node:
        """1 at this step, else 0."""
        place = self.build.add(self.build.clock(self.head), self.build.constant(1, self.head), self.head)
        return self.build.equal(self.build.position(index, self.head), place, self.head)

    def reach(self, node: ir.Node) -> Index:
        """0 .. steps, or up to steps - 1 if data that the node reads end there."""
        for n in reachable([node]):
            if isinstance(n, ir.Reindex) and any(isinstance(g, ir.Clock) for a in n.args[1:] for g in reachable([a])):
                gathered = zip(n.args[0].type.indices, n.selectors, strict=True)
                if any(i.name == "step" and i.size == self.steps for i, s in gathered if isinstance(s, ir.Gather)):
                    return self.indices[self.steps]
        return self.indices[self.steps + 1]

    def spread(self, node: ir.Node, index: Index) -> ir.Node:
        """A node over the steps that replaces one that reads the clock."""
        build, head = self.build, self.head
        count = build.add(build.position(index, head), build.constant(-1, head), head)
        return rewrite(build, node, lambda n: count if isinstance(n, ir.Clock) else None if n.args else n, head)


class Now:
    """The gradients of a family over the steps at this step."""

    def __init__(self, steps: StepIndex, gradient: Gradient, weight: ir.Node):
        """`weight`: a scalar that multiplies every gradient, a number or a family over the steps."""
        self.steps, self.gradient = steps, gradient
        self.weight = steps.now(weight)

    def depends(self, leaf: Leaf) -> bool:
        return self.gradient.depends(leaf)

    def by(self, leaf: ir.Node, wanted: tuple[Label, ...]) -> ir.Node:
        return self._now(self.gradient.by(leaf, wanted))

    def outer(self, matrix: ir.MatrixSymbol) -> tuple[Outer, ...]:
        return tuple(
            replace(o, left=self._now(o.left), right=self.steps.now(o.right)) for o in self.gradient.outer(matrix)
        )

    def _now(self, node: ir.Node) -> ir.Node:
        return self.steps.build.mul(self.weight, self.steps.now(node), node.span)


def reads(node: ir.Node, changing: Collection[object]) -> bool:
    """Does a node depend on the clock, or on a leaf (value or matrix) of `changing`?"""
    return any(
        isinstance(n, ir.Clock) or n in changing or (isinstance(n, ir.MatMul) and n.matrix in changing)
        for n in reachable([node])
    )


def renamed(build: Builder, node: ir.Node, span: Span) -> tuple[ir.Node, Mapping[Index, Index]]:
    """A family under fresh names."""
    names = {i: build.fresh(i) for i in node.type.indices}
    return build.rename(node, {**names}, span), names


__all__ = ["Now", "StepIndex", "reads", "renamed"]
