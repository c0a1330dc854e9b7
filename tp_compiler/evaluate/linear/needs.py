"""The nodes to evaluate, and when: before the loop, at every step, with the last states, and after the traces.

Dependencies are those of the linear evaluator: a sparse update reads the factors of its rows instead of the rows, and
members of a large state are taken from it directly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tp_compiler.evaluate.interface import NotExact, Problem
from tp_compiler.evaluate.linear.shapes import EntrywiseProduct, Shapes
from tp_compiler.evaluate.linear.sparse import SparseUpdate, scatter
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Program
from tp_compiler.ir.types import Index
from tp_compiler.ir.walk import dependencies, reachable


@dataclass(frozen=True)
class Schedule:
    """Every list in the order of evaluation. `lost`: nodes that cannot be computed, with the reason."""

    static: list[ir.Node] = field(default_factory=list)
    step: list[ir.Node] = field(default_factory=list)
    last: list[ir.Node] = field(default_factory=list)
    after: list[ir.Node] = field(default_factory=list)
    traces: list[ir.Trace] = field(default_factory=list)
    states: list[ir.State] = field(default_factory=list)
    lost: dict[ir.Node | ir.State, Problem] = field(default_factory=dict)


def whole_renamed(node: ir.Reindex, shapes: Shapes) -> bool:
    """Whether a Reindex only gives new names to indices."""
    chosen = dict(zip(node.args[0].type.indices, node.selectors, strict=True))
    names = [chosen[i] for i in shapes[node.args[0]] if isinstance(i, Index)]
    return all(isinstance(s, Index) for s in names) and len(set(names)) == len(names)


class Needs:
    def __init__(self, program: Program, shapes: Shapes, sparse: dict[ir.State, SparseUpdate]):
        self.program, self.shapes, self.sparse = program, shapes, sparse
        self.varying: set[ir.Node] = set()
        self.after_loop: set[ir.Node] = set()
        self._reads: dict[ir.Node, tuple[ir.Node, ...]] = {}
        self.order = sorted(shapes.of, key=lambda n: n.serial)
        for n in self.order:
            if isinstance(n, ir.Trace) or any(a in self.after_loop for a in n.args):
                self.after_loop.add(n)
            elif isinstance(n, ir.Carry | ir.Clock | ir.Apply) or any(a in self.varying for a in dependencies(n)):
                self.varying.add(n)

    def reads(self, node: ir.Node) -> tuple[ir.Node, ...]:
        """The nodes whose registers the instruction of a node reads."""
        if node not in self._reads:
            self._reads[node] = self._read(node)
        return self._reads[node]

    def _read(self, node: ir.Node) -> tuple[ir.Node, ...]:
        if isinstance(node, ir.Contract):
            part = scatter(node, self.shapes)
            return part.needs if part is not None else self.shapes.factors(node.args)
        if isinstance(node, ir.Carry | ir.Trace):
            return ()
        if isinstance(node, ir.Reindex) and self._picks(node):
            return node.args[1:]
        return dependencies(node)

    def _picks(self, node: ir.Reindex) -> bool:
        """Whether members are taken from a state that is stored with a separate factor."""
        x = node.args[0]
        return isinstance(x, ir.Carry) and x.state in self.sparse and not whole_renamed(node, self.shapes)

    def state(self, node: ir.Node) -> ir.State | None:
        """The state that an instruction reads."""
        if isinstance(node, ir.Carry | ir.Apply):
            return node.state
        if isinstance(node, ir.Reindex) and self._picks(node):
            assert isinstance(node.args[0], ir.Carry)
            return node.args[0].state
        return None

    def update(self, state: ir.State) -> tuple[ir.Node, ...]:
        """The nodes on which the next value of a state depends."""
        if state in self.sparse:
            return self.sparse[state].needs
        assert self.program.loop is not None
        return (self.program.loop.following[state],)

    def others(self, state: ir.State) -> tuple[ir.State, ...]:
        """The states that the next value of a state reads in place."""
        return self.sparse[state].others if state in self.sparse else ()

    def schedule(self, problems: dict[ir.Node | ir.State, Problem]) -> Schedule:
        """The nodes needed by the outputs that do not depend on a problem."""
        lost = self._lost(problems)
        roots = [o.node for o in self.program.outputs if o.node not in lost]
        outside = self._closure(roots)
        traces = [n for n in self._closure(roots) if isinstance(n, ir.Trace)]
        traced = [t.args[0] for t in traces]
        states: dict[ir.State, None] = {}
        while True:
            inside = self._closure([*traced, *(n for s in states for n in self.update(s))])
            everything = {*inside, *outside}
            found = {s for n in everything if (s := self.state(n)) is not None}
            found.update(other for s in states for other in self.others(s))
            found -= set(states)
            if not found:
                break
            states.update(dict.fromkeys(sorted(found, key=lambda s: s.init.serial)))
        starts = self._closure(s.init for s in states)
        steps = self.program.loop.steps if self.program.loop else 0
        ends = self._closure(t.args[0] for t in traces if t.runs_to(steps))
        last = {*ends, *outside} & self.varying
        static = {*everything, *starts} - self.varying - self.after_loop
        after = (outside & self.after_loop) - set(traces)

        def ordered(nodes: set[ir.Node]) -> list[ir.Node]:
            return sorted(nodes, key=lambda n: n.serial)

        return Schedule(
            ordered(static), ordered(inside & self.varying), ordered(last), ordered(after), traces, list(states), lost
        )

    def _closure(self, roots: Iterable[ir.Node]) -> set[ir.Node]:
        return set(reachable(roots, self.reads))

    def _lost(self, problems: dict[ir.Node | ir.State, Problem]) -> dict[ir.Node | ir.State, Problem]:
        lost: dict[ir.Node | ir.State, Problem] = dict(problems)
        for node, shape in self.shapes.of.items():
            if isinstance(shape, NotExact):
                lost.setdefault(node, shape)
            elif isinstance(shape, EntrywiseProduct):
                lost.setdefault(node, NotExact("a product of kets"))
        while True:
            before = len(lost)
            for node in self.order:
                if node not in lost:
                    self._inherit(node, lost)
            for state in self.program.loop.following if self.program.loop else ():
                self._pass_on(state, lost)
            if len(lost) == before:
                return lost

    def _inherit(self, node: ir.Node, lost: dict[ir.Node | ir.State, Problem]) -> None:
        read: list[ir.Node | ir.State] = [*self.reads(node), *(node.args if isinstance(node, ir.Trace) else ())]
        state = self.state(node)
        for x in (*read, *([state] if state else [])):
            if x in lost:
                lost[node] = lost[x]
                return

    def _pass_on(self, state: ir.State, lost: dict[ir.Node | ir.State, Problem]) -> None:
        for x in (state.init, *self.update(state), *self.others(state)):
            if state not in lost and x in lost:
                lost[state] = lost[x]
