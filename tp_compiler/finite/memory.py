"""How much memory a plan needs: values, cached initial matrices, training states, tiles."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tp_compiler.finite.bodies import held
from tp_compiler.finite.flow import COPIES
from tp_compiler.finite.linear_forms import pairs
from tp_compiler.finite.schedule import Member, NetworkPlan, Phase, StateUpdate, members
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Type, Width


@dataclass
class Peak:
    """An estimate of the largest number of array entries alive at the same time; `carried` of them are training states.

    `held` of them multiply with the networks that are computed side by side; tiles have a size of their own.
    """

    entries: int
    carried: int
    held: int


def peak(plan: NetworkPlan, neurons: Callable[[Width], int], tile: int) -> Peak:
    """`neurons` gives the size of a width class, `tile` the entries of the largest piece of an average."""
    count = _Count(plan, neurons, tile)
    steps = plan.steps
    count.phase(plan.before)
    if steps is None:
        count.phase(plan.after)
        return Peak(count.peak, 0, count.held)
    carried = sum(count.size(state.type) for state in steps.following)
    carried += sum(count.updated(update, steps.count) for update in steps.updates)
    carried *= 1 + COPIES * bool(steps.durations)
    carried += sum((steps.count + 1) * count.size(x.type) for x in steps.traces)
    count.hold(carried)
    count.phase(steps.each)
    if steps.updates:
        count.spike(8 * tile)
    for node in steps.freed:
        count.free(node)
    for member in steps.dropped:
        count.drop(member)
    count.phase(plan.after)
    return Peak(count.peak, carried, count.held)


class _Count:
    """The entries alive while a plan is traversed."""

    def __init__(self, plan: NetworkPlan, neurons: Callable[[Width], int], tile: int):
        self.plan, self.neurons, self.tile = plan, neurons, tile
        self.alive = self.peak = self.held = 0
        self.values: set[ir.Node] = set()
        self.matrices: set[Member] = set()

    def size(self, kind: Type) -> int:
        return kind.size() * math.prod(self.neurons(width) for _, width in kind.slots)

    def updated(self, update: StateUpdate, steps: int) -> int:
        """The states of one matrix (or family): products of kets, if every term adds to every member; or entries."""
        kind = next(iter(update.following)).type
        products = kind.size() * steps * sum(pairs(node) for node, _ in update.terms or ())
        found = update.factored(products, *(self.neurons(width) for _, width in kind.slots))
        return self.size(kind) * len(update.following) if found is None else found

    def spike(self, entries: int) -> None:
        self.peak = max(self.peak, self.alive + entries)

    def hold(self, entries: int) -> None:
        self.alive += entries
        self.held = max(self.held, self.alive)
        self.spike(0)

    def phase(self, phase: Phase) -> None:
        for node in phase.order:
            self._compute(node, phase)
            for gone in phase.freed[node]:
                self.free(gone)

    def _compute(self, node: ir.Node, phase: Phase) -> None:
        if isinstance(node, ir.Carry):
            return  # the state itself
        if isinstance(node, ir.MatMul):
            for flat, _ in members(node, node.matrix.indices):
                member = (node.matrix, flat)
                self._draw(member)
                if member in phase.dropped.get(node, ()):
                    self.drop(member)
        if isinstance(node, ir.Contract) and node.slots and not all(map(held, node.args)):
            self.spike(min(8 * self.tile, self._whole(node)))
        self.values.add(node)
        self.hold(self.size(node.type))

    def free(self, node: ir.Node) -> None:
        if node in self.values:
            self.values.remove(node)
            self.alive -= self.size(node.type)

    def _draw(self, member: Member) -> None:
        if member not in self.matrices:
            self.matrices.add(member)
            self.hold(self._matrix(member))

    def drop(self, member: Member) -> None:
        if member in self.matrices:
            self.matrices.remove(member)
            self.alive -= self._matrix(member)

    def _matrix(self, member: Member) -> int:
        return self.neurons(member[0].rows) * self.neurons(member[0].cols)

    def _whole(self, node: ir.Contract) -> int:
        """The body of an average, were it built in one piece."""
        slots = {slot: width for a in node.args for slot, width in a.type.slots}
        indices = {i for a in node.args for i in a.type.indices}
        return 8 * math.prod(map(self.neurons, slots.values())) * math.prod(i.size for i in indices)
