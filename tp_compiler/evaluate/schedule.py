"""When each node is evaluated: before the training loop, at every step, with the last states, or after the traces.

Nodes that depend on no state and not on the clock are *static*: their values never change. The other nodes of the loop are evaluated
at every step, and dropped after it. Programs without a loop are entirely static.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Loop, Output, Program
from tp_compiler.ir.walk import dependencies, reachable


@dataclass(frozen=True)
class Phases:
    """Every list is in the order of evaluation.

    `step` is needed by the updates and the traces at steps 0 .. T-1, `last` by the traces and the outputs with the
    last states; `after` reads traces. `states` are those that some output depends on.
    """

    static: list[ir.Node]
    step: list[ir.Node]
    last: list[ir.Node]
    after: list[ir.Node]
    traces: list[ir.Trace]
    states: list[ir.State]
    loop: Loop | None

    @property
    def nodes(self) -> list[ir.Node]:
        """Every node once, in program order."""
        everything = {*self.static, *self.step, *self.last, *self.after, *self.traces}
        return sorted(everything, key=lambda n: n.serial)

    def roots(self) -> list[ir.Node]:
        """The values a step must keep until its end: the next states and the traced scalars."""
        following = [self.loop.following[s] for s in self.states] if self.loop else []
        return [*following, *(t.args[0] for t in self.traces)]

    @cached_property
    def inside(self) -> set[ir.Node]:
        """The nodes evaluated at every step."""
        return {*self.step, *self.last}

    @property
    def random(self) -> bool:
        """Does training depend on draws of `clt` scalars (the neural tangent limit)?"""
        return any(s.type.random for s in self.states)

    def repeats(self, node: ir.Node) -> int:
        """How many times a node is evaluated, at most."""
        return self.loop.steps + 1 if self.loop is not None and node in self.inside else 1

    def uses(self, outputs: Iterable[Output]) -> Counter[ir.Node]:
        """How often values outside the steps are read; values that a step reads are held."""
        uses = Counter(a for n in (*self.static, *self.last, *self.after) for a in dependencies(n))
        uses.update(o.node for o in outputs)
        uses.update({a for n in self.step for a in dependencies(n)})
        uses.update(t.args[0] for t in self.traces)
        uses.update(s.init for s in self.states)
        return uses

    def step_uses(self) -> Counter[ir.Node]:
        inside = set(self.step)
        uses = Counter(a for n in self.step for a in dependencies(n) if a in inside)
        uses.update(n for n in self.roots() if n in inside)
        return uses


def phases(program: Program, outputs: Iterable[Output]) -> Phases:
    """The phases of the nodes that `outputs` need."""
    loop = program.loop
    roots = [o.node for o in outputs]
    if loop is None:
        return Phases(reachable(roots), [], [], [], [], [], None)
    states, nodes = _needed(roots, loop)
    traces = [n for n in nodes if isinstance(n, ir.Trace)]
    varying, after_loop = _varying(nodes)
    step = _within([*(loop.following[s] for s in states), *(t.args[0] for t in traces)], varying)
    outside = _within(roots, varying | after_loop, cut=True)
    ends = [t.args[0] for t in traces if t.runs_to(loop.steps)]
    last = {*_within(ends, varying), *(n for n in outside if n in varying)}
    static = [n for n in nodes if n not in varying and n not in after_loop]
    after = [n for n in outside if n in after_loop and not isinstance(n, ir.Trace)]
    return Phases(static, step, sorted(last, key=lambda n: n.serial), after, traces, states, loop)


def _needed(roots: list[ir.Node], loop: Loop) -> tuple[list[ir.State], list[ir.Node]]:
    """The states on which the roots depend, directly or through updates, and all nodes involved."""
    roots = list(roots)
    states: dict[ir.State, None] = {}
    while True:
        nodes = reachable(roots)
        read = {n.state for n in nodes if isinstance(n, ir.Carry | ir.Apply)} - set(states)
        if not read:
            return list(states), nodes
        for state in loop.following:
            if state in read:
                states[state] = None
                roots += [loop.following[state], state.init]


def _varying(nodes: list[ir.Node]) -> tuple[set[ir.Node], set[ir.Node]]:
    """Nodes that change from step to step; and nodes that read traces."""
    varying: set[ir.Node] = set()
    after_loop: set[ir.Node] = set()
    for n in nodes:
        if isinstance(n, ir.Trace) or any(a in after_loop for a in n.args):
            after_loop.add(n)
        elif isinstance(n, ir.Carry | ir.Clock | ir.Apply) or any(a in varying for a in n.args):
            varying.add(n)
    return varying, after_loop


def _within(roots: list[ir.Node], allowed: set[ir.Node], cut: bool = False) -> list[ir.Node]:
    """The allowed nodes that the roots depend on; `cut`: not through traces."""
    seen: set[ir.Node] = set()
    todo = [r for r in roots if r in allowed]
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            if not (cut and isinstance(node, ir.Trace)):
                todo.extend(a for a in node.args if a in allowed)
    return sorted(seen, key=lambda n: n.serial)


def cells(of: Phases) -> list[list[ir.State]]:
    """Matrix states grouped: those whose entries follow from one another (a matrix, its momentum, ...)."""
    groups: list[list[ir.State]] = []
    for state in of.states:
        if state.is_matrix:
            assert of.loop is not None
            own = {state, *_matrix_states([of.loop.following[state]])}
            groups = [g for g in groups if not own & set(g)] + [[*own, *(s for g in groups if own & set(g) for s in g)]]
    return [[s for s in of.states if s in group] for group in groups]


def averages_of_entries(nodes: list[ir.Node]) -> dict[ir.Node, ir.State]:
    """Contractions over neurons of expressions in the entries of trained matrices, with one of the states they read."""
    found: dict[ir.Node, ir.State] = {}
    for node in nodes:
        if isinstance(node, ir.Contract) and node.slots and (0 in dict(node.type.slots) or not node.type.slots):
            states = _matrix_states(list(node.args))
            if states:
                found[node] = states[0]
    return found


def entries(roots: list[ir.Node]) -> list[ir.Node]:
    """The nodes over two neurons inside expressions over two neurons."""
    seen: dict[ir.Node, None] = {}
    todo = list(roots)
    while todo:
        node = todo.pop()
        if node not in seen and len(node.type.slots) > 1:
            seen[node] = None
            todo.extend(node.args)
    return list(seen)


def _matrix_states(roots: list[ir.Node]) -> list[ir.State]:
    """The matrix states whose entries expressions over two neurons read."""
    return list(dict.fromkeys(n.state for n in entries(roots) if isinstance(n, ir.Carry)))
