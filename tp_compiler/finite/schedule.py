"""What to compute, in which order, and how long each value is needed; decided before anything is allocated.

A program that trains has three phases: values that no step changes, the steps, and the rest. In each phase, held nodes are
computed in ascending serial order (a topological order).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

from tp_compiler.finite.bodies import TileBody, body_of, freed_after, held
from tp_compiler.finite.linear_forms import Term, terms
from tp_compiler.finite.scatter import Scatter, scatter
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Loop, Output
from tp_compiler.ir.types import Index
from tp_compiler.ir.walk import reachable

Member = tuple[ir.MatrixSymbol, int]
Needs = dict[ir.Node, list[ir.Node]]


@dataclass(eq=False)
class Phase:
    """Held nodes in ascending serial order; for each, the values and initial matrices that it is the last to need."""

    order: list[ir.Node]
    freed: dict[ir.Node, list[ir.Node]] = field(default_factory=dict)
    dropped: dict[ir.Node, set[Member]] = field(default_factory=dict)


@dataclass(eq=False)
class StateUpdate:
    """The next values of the states that share the neurons of one matrix: computed tile by tile, written in place.

    `terms`: what every step adds to them, if the next values are linear in the states and nothing else reads their entries.
    """

    following: dict[ir.State, ir.Node]
    body: TileBody
    terms: tuple[Term, ...] | None

    @property
    def slots(self) -> tuple[int, ...]:
        return tuple(slot for slot, _ in next(iter(self.following)).type.slots)

    def factored(self, products: int, rows: int, columns: int) -> int | None:
        """How many numbers the states are as sums of so many products of kets; None if they are entries, which are fewer."""
        states = len(self.following)
        numbers = products * (rows + columns + states)
        entries = states * next(iter(self.following)).type.size() * rows * columns
        return numbers if self.terms is not None and numbers <= entries else None

    @property
    def entries(self) -> list[ir.Carry]:
        """The states whose entries it reads."""
        return [need for need in self.body.frontier if isinstance(need, ir.Carry) and need.state.is_matrix]

    @property
    def reads(self) -> list[ir.Node]:
        """What has to be computed before it."""
        entries = self.entries if self.terms is not None else []
        return [need for need in self.body.frontier if need not in entries]


@dataclass(eq=False)
class Steps:
    """The training loop: `each` before every update, `last` (only what is traced) after the last one.

    following   of the states without slots and of kets: held nodes
    updates     of the states of matrices
    traces      by the node whose values they record
    freed, dropped   what is not needed after the loop
    durations   of gradient flow, between the listed times; none if networks train in steps
    """

    count: int
    each: Phase
    last: Phase
    following: dict[ir.State, ir.Node]
    updates: list[StateUpdate]
    traces: dict[ir.Node, ir.Trace]
    freed: list[ir.Node]
    dropped: list[Member]
    durations: tuple[float, ...]

    @property
    def states(self) -> list[ir.State]:
        return [*self.following, *(state for update in self.updates for state in update.following)]


@dataclass(eq=False)
class NetworkPlan:
    """The phases; `steps` is None if nothing is trained.

    needs      the held nodes that a node is computed from
    bodies     what is inside the averages that are computed in tiles
    scatters   the sums over members that positions select
    """

    outputs: tuple[Output, ...]
    needs: Needs
    bodies: dict[ir.Contract, TileBody]
    scatters: dict[ir.Node, Scatter]
    before: Phase
    steps: Steps | None
    after: Phase


def plan(outputs: Iterable[Output], loop: Loop | None = None) -> NetworkPlan:
    """The plan for the given outputs of a program with this training loop."""
    outputs = tuple(outputs)
    graph = _Graph()
    wanted = {o.node for o in outputs}
    after = graph.closure(wanted)
    if loop is None or not any(map(_of_the_loop, after)):
        return graph.plan(outputs, Phase([]), None, graph.phase(after, wanted))
    traces = {n.args[0]: n for n in after if isinstance(n, ir.Trace)}
    following = graph.following(after, traces, loop.following)
    updates = _updates(following, steps=not loop.times)
    small = {state: node for state, node in following.items() if not state.is_matrix}
    inits = {state.init for state in following}

    def reads() -> set[ir.Node]:
        return {*small.values(), *(node for update in updates for node in update.reads)}

    entries = {n.state for n in graph.closure({*traces, *reads(), *inits, *wanted}) if isinstance(n, ir.Carry)}
    for update in updates:
        if not entries.isdisjoint(update.following):
            update.terms = None
    read = reads()
    during = graph.closure({*traces, *read, *inits})
    moving = graph.moving(during)
    each = [n for n in during if n in moving]
    static = [n for n in during if n not in moving]
    ends = [node for node, trace in traces.items() if trace.runs_to(loop.steps)]
    last = [n for n in graph.closure(ends) if n in moving]
    ready = set(static)
    after_loop = [n for n in after if n not in ready]
    after_loop_reads = {*wanted, *graph.reads(after_loop)}
    roots = {*read, *traces}

    matrices, matrices_after_loop = _members(each), _members(after_loop)
    steps = Steps(
        count=loop.steps,
        each=graph.phase(each, {*static, *roots}, matrices),
        last=graph.phase(last, {*static, *ends}, matrices),
        following=small,
        updates=updates,
        traces=traces,
        freed=[n for n in during if n in moving or n not in after_loop_reads],
        dropped=[m for m in matrices if m not in matrices_after_loop],
        durations=tuple(loop.duration(k) for k in range(loop.steps)) if loop.times else (),
    )
    before = graph.phase(
        static, {*inits, *roots, *graph.reads(each), *after_loop_reads}, {*matrices, *matrices_after_loop}
    )
    return graph.plan(outputs, before, steps, graph.phase(after_loop, wanted))


class _Graph:
    """Held nodes, and the held nodes each is computed from; grows as it is walked."""

    def __init__(self) -> None:
        self.needs: Needs = {}
        self.bodies: dict[ir.Contract, TileBody] = {}
        self.scatters: dict[ir.Node, Scatter] = {}

    def plan(self, outputs: tuple[Output, ...], before: Phase, steps: Steps | None, after: Phase) -> NetworkPlan:
        return NetworkPlan(outputs, self.needs, self.bodies, self.scatters, before, steps, after)

    def closure(self, roots: Iterable[ir.Node]) -> list[ir.Node]:
        """Everything the roots are computed from, in topological order. Traces, states and the clock are given."""
        return reachable(roots, self._needs)

    def _needs(self, node: ir.Node) -> list[ir.Node]:
        if node not in self.needs:
            self.needs[node] = self._found(node)
        return self.needs[node]

    def _found(self, node: ir.Node) -> list[ir.Node]:
        if isinstance(node, ir.Contract) and not all(map(held, node.args)):
            self.bodies[node] = body_of(node.args)
            return self.bodies[node].frontier
        part = scatter(node)
        if part is not None:
            self.scatters[node] = part
            return part.needs
        if isinstance(node, ir.Unavailable | ir.Trace):
            return []  # a refusal, or values recorded by the loop
        extra = (node.matrix.variance,) if isinstance(node, ir.MatMul) else ()
        return list(dict.fromkeys((*node.args, *extra)))

    def reads(self, order: Iterable[ir.Node]) -> set[ir.Node]:
        return {need for node in order for need in self.needs[node]}

    def moving(self, order: Iterable[ir.Node]) -> set[ir.Node]:
        """The nodes of a topological order that change from step to step."""
        found: set[ir.Node] = set()
        for node in order:
            if _of_the_loop(node) or any(need in found for need in self.needs[node]):
                found.add(node)
        return found

    def following(
        self, after: Iterable[ir.Node], traced: Iterable[ir.Node], given: Mapping[ir.State, ir.Node]
    ) -> dict[ir.State, ir.Node]:
        """The next value of each state that is read, there or by the next value of another state."""
        found: dict[ir.State, ir.Node] = {}
        todo = [*after, *self.closure(traced)]
        while todo:
            new = {n.state for n in todo if isinstance(n, ir.Carry | ir.Apply)} - set(found)
            found.update({state: given[state] for state in given if state in new})
            held_roots = (r for s in new for r in (body_of([given[s]]).frontier if s.is_matrix else [given[s]]))
            todo = self.closure(held_roots)
        return {state: given[state] for state in given if state in found}

    def phase(self, order: list[ir.Node], keep: Collection[ir.Node], later: Collection[Member] = ()) -> Phase:
        """`keep` and `later`: values and matrices needed after this phase."""
        last = {member: n for n in order if isinstance(n, ir.MatMul) for member in _members([n])}
        dropped: dict[ir.Node, set[Member]] = {}
        for member, node in last.items():
            if member not in later:
                dropped.setdefault(node, set()).add(member)
        return Phase(order, freed_after(order, self.needs, keep), dropped)


def _of_the_loop(node: ir.Node) -> bool:
    return isinstance(node, ir.Trace | ir.Carry | ir.Clock | ir.Apply)


def _updates(following: Mapping[ir.State, ir.Node], steps: bool) -> list[StateUpdate]:
    """The states of matrices, grouped if they share the neurons of a matrix; they change in `steps`, or flow."""
    groups: dict[tuple[object, ...], dict[ir.State, ir.Node]] = {}
    for state, node in following.items():
        if state.is_matrix:
            groups.setdefault(state.type.slots, {})[state] = node
    bodies = [body_of(list(group.values())) for group in groups.values()]
    return [
        StateUpdate(group, body, terms(group, body.nodes) if steps else None)
        for group, body in zip(groups.values(), bodies, strict=True)
    ]


def _members(order: Iterable[ir.Node]) -> dict[Member, None]:
    """The initial matrices that occur in products."""
    return {
        (n.matrix, flat): None for n in order if isinstance(n, ir.MatMul) for flat, _ in members(n, n.matrix.indices)
    }


def members(node: ir.MatMul | ir.Apply, family: tuple[Index, ...]) -> Iterator[tuple[int, dict[Index, int]]]:
    """The family members in a product: the flat number of each, and the positions (from 0) of its indices."""
    batch = tuple(dict.fromkeys(m for m in node.member if isinstance(m, Index)))
    for positions in product(*(range(i.size) for i in batch)):
        at = dict(zip(batch, positions, strict=True))
        flat = 0
        for entry, index in zip(node.member, family, strict=True):
            flat = flat * index.size + (at[entry] if isinstance(entry, Index) else entry - 1)
        yield flat, at
