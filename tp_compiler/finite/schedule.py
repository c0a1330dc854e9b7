"""What to compute, in which order, and until when each value is needed; decided before anything is allocated.

A program that trains has three phases: what no step changes, the steps, and what follows them. In each, held nodes are
computed in ascending serial order (a topological order).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from tp_compiler.finite.bodies import Body, body_of, freed_after, held
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Loop, Output
from tp_compiler.ir.types import Index

Member = tuple[ir.MatrixSymbol, int]
Needs = dict[ir.Node, list[ir.Node]]


@dataclass(eq=False)
class Phase:
    """Held nodes in ascending serial order; after each, the values and the initial matrices that nobody needs any more."""

    order: list[ir.Node]
    freed: dict[ir.Node, list[ir.Node]] = field(default_factory=dict)
    dropped: dict[ir.Node, list[Member]] = field(default_factory=dict)


@dataclass(eq=False)
class Update:
    """What follows the states that share the slots of one matrix: computed tile by tile and written in place."""

    following: dict[ir.State, ir.Node]
    body: Body

    @property
    def slots(self) -> tuple[int, ...]:
        return tuple(slot for slot, _ in next(iter(self.following)).type.slots)


@dataclass(eq=False)
class Steps:
    """The training loop: `pass_` once before every update, `last` (what is traced alone) after the last one.

    following   of the states without slots and of kets: held nodes
    updates     of the states of matrices
    traces      by the node whose values they record
    """

    count: int
    pass_: Phase
    last: Phase
    following: dict[ir.State, ir.Node]
    updates: list[Update]
    traces: dict[ir.Node, ir.Trace]

    @property
    def states(self) -> list[ir.State]:
        return [*self.following, *(state for update in self.updates for state in update.following)]


@dataclass(eq=False)
class Plan:
    """The phases. `needs` are the held nodes a node is computed from; `steps` is None where nothing trains."""

    outputs: tuple[Output, ...]
    needs: Needs
    bodies: dict[ir.Contract, Body]
    before: Phase
    steps: Steps | None
    after: Phase


def plan(outputs: Iterable[Output], loop: Loop | None = None) -> Plan:
    """The plan for the given outputs of a program with this training loop."""
    outputs = tuple(outputs)
    found = _Needs()
    wanted = {o.node for o in outputs}
    after = found.of(wanted)
    if loop is None or not any(map(_of_the_loop, after)):
        phase = _phase(_sorted(after), found.needs, wanted, set())
        return Plan(outputs, found.needs, found.bodies, Phase([]), None, phase)
    traces = {n.args[0]: n for n in after if isinstance(n, ir.Trace)}
    last = found.of(traces)
    following = _following({*after, *last}, loop.following, found)
    updates = _updates(following)
    small = {state: node for state, node in following.items() if not state.is_matrix}
    read = {*small.values(), *(node for update in updates for node in update.body.frontier)}
    inits = {state.init for state in following}
    during = found.of({*traces, *read, *inits})
    moving = _moving(_sorted(during), found.needs)
    behind = [n for n in _sorted(after) if n in moving or n not in during]
    kept = {*during, *(need for n in behind for need in found.needs[n]), *wanted}
    static = set(during) - moving
    rest = _members(behind)
    before = _phase([n for n in _sorted(during) if n not in moving], found.needs, kept - _only_static(static, found.needs, behind, moving, {*read, *traces, *inits}, wanted), None)
    return Plan(outputs, found.needs, found.bodies, before, None, Phase([]))
