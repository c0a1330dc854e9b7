"""The run of a linear program: before the loop, step by step, and after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate import numerical_errors
from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.blas import one_blas_thread
from tp_compiler.evaluate.budget import current
from tp_compiler.evaluate.interface import Late, NotExact, Problem, TooLarge
from tp_compiler.evaluate.linear.code import Code, Run
from tp_compiler.evaluate.linear.contraction import viewer
from tp_compiler.evaluate.linear.needs import Needs
from tp_compiler.evaluate.linear.states import DenseState, NotFinite, SparseState
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Output

#: How often a training loop reports its progress.
REPORTS = 200


class Failed(Exception):
    """An instruction, or the next value of a state, that does not exist."""

    def __init__(self, where: ir.Node | ir.State, problem: Problem):
        super().__init__()
        self.where, self.problem = where, problem


class LinearRun:
    """`values` holds an array, a Diagnostic or a NotExact for every output."""

    def __init__(self, needs: Needs, deadline: float | None = None, progress: Callable[..., None] | None = None):
        self.needs = needs
        self.loop = needs.program.loop
        self.deadline = deadline
        self.progress = progress
        self.code = Code(needs.shapes, self.loop, needs.sparse)
        self.problems: dict[ir.Node | ir.State, Problem] = {}
        self.plan = needs.schedule(self.problems)
        self.instructions: dict[ir.Node, Run] = {}
        self.states: dict[ir.State, DenseState | SparseState] = {}
        self.done: set[ir.Node] = set()
        self.clock = 0
        with np.errstate(all="ignore"), one_blas_thread():
            self._run()
        self.values = {o.name: self._value(o) for o in needs.program.outputs}

    def _run(self) -> None:
        """Runs the phases in order. If something fails, everything that depends on it is skipped, and the rest continues."""
        plan = self.plan
        self._emit(plan.static)
        starts = {s: self.code.state(s) for s in plan.states}
        self._emit(sorted({*plan.step, *plan.last}, key=lambda n: n.serial))
        self._emit([*plan.traces, *plan.after])
        self._schedule()
        self._attempt(lambda: self._once(self.plan.static))
        if self.loop is not None:
            for state in self.plan.states:
                starts[state]()
                sparse = self.code.sparse.get(state)
                self.states[state] = SparseState(self.code, sparse) if sparse else DenseState(self.code, state)
            self._schedule()
            self._train(self.loop.steps)
        self._attempt(lambda: self._once(self.plan.after))

    def _emit(self, nodes: Iterable[ir.Node]) -> None:
        for node in nodes:
            run = self.code.instruction(node)
            if run is not None:
                self.instructions[node] = run

    def _schedule(self) -> None:
        """The remaining instructions to run, as lists."""
        self.plan = self.needs.schedule(self.problems)
        self.step, self.last = (
            [(n, self.instructions[n]) for n in nodes if n in self.instructions]
            for nodes in (self.plan.step, self.plan.last)
        )
        self.moving = [self.states[s] for s in self.plan.states if s in self.states]

    def _attempt(self, run: Callable[[], None]) -> None:
        while True:
            try:
                return run()
            except Failed as failed:
                self.problems[failed.where] = failed.problem
                self._schedule()

    def _train(self, steps: int) -> None:
        for k in range(steps):
            if self.progress is not None and k % max(1, steps // REPORTS) == 0:
                self.progress(k, steps, "exact")
            self._set_clock(k)
            if self.deadline is not None and time.monotonic() > self.deadline:
                self._late()
            self._attempt(self._step)
            for state in self.moving:
                state.commit()
            if not (self.step or self.last or self.plan.traces):
                return
        self._set_clock(steps)
        self._attempt(self._end)

    def _late(self) -> None:
        """Give up on the loop: the time limit was reached."""
        late = Late(f"the time limit was reached after {self.clock} steps")
        self.problems |= dict.fromkeys([*self.plan.states, *self.plan.traces, *self.plan.step, *self.plan.last], late)
        self._schedule()

    def _set_clock(self, k: int) -> None:
        self.clock = k
        self.code.registers[self.code.clock] = np.float64(k)

    def _step(self) -> None:
        self._all(self.step)
        self._trace()
        try:
            for state in self.moving:
                state.prepare()
        except NotFinite as problem:
            raise Failed(problem.state, self._dated(self._culprit(self.needs.update(problem.state)[0]))) from None

    def _end(self) -> None:
        self._all(self.last)
        self._trace()

    def _trace(self) -> None:
        for trace in self.plan.traces:
            if not trace.runs_to(self.clock):
                continue
            self.instructions[trace]()
            node = trace.args[0]
            if not np.isfinite(self.code.registers[self.code.at[node]]).all():
                raise Failed(trace, self._dated(self._culprit(node)))

    def _all(self, instructions: list[tuple[ir.Node, Run]]) -> None:
        done = 0
        try:
            for _, run in instructions:
                run()
                done += 1
        except numerical_errors.Refused as refused:
            raise Failed(instructions[done][0], self._dated(refused.diagnostic)) from None
        except (NotExact, MemoryError) as reason:
            why = reason if isinstance(reason, NotExact) else TooLarge("an array that does not fit into the memory")
            raise Failed(instructions[done][0], why) from None

    def _once(self, nodes: list[ir.Node]) -> None:
        """The constant values: each is computed once, whatever fails later."""
        for node in nodes:
            if node in self.instructions and node not in self.done:
                try:
                    current().poll()
                except NotExact as late:
                    self.problems |= {n: late for n in nodes if n not in self.done}
                    return self._schedule()
                self._all([(node, self.instructions[node])])
                self.done.add(node)

    # -- what went wrong ----------------------------------------------------------------------------------------
    def _culprit(self, node: ir.Node) -> Diagnostic:
        """The error at the place where the first infinite or undefined number arose."""
        registers, at = self.code.registers, self.code.at
        values = {n: registers[at[n]] for n in self.instructions}
        suspect = [n for n, value in values.items() if value is not None and not np.isfinite(value).all()]
        problem = numerical_errors.problem(node, np.nan, {n: self._blamed(n) for n in suspect})
        assert problem is not None
        return problem

    def _blamed(self, node: ir.Node) -> Diagnostic:
        args = [self.code.registers[self.code.at[a]] for a in node.args if a in self.code.at]
        known = len(args) == len(node.args) and all(x is not None for x in args)
        return numerical_errors.blame(node, args if known else ())

    def _dated(self, problem: Diagnostic) -> Diagnostic:
        """The same, with the number of updates made."""
        if not self.states:
            return problem
        made = "before the first update" if not self.clock else f"after {self.clock} updates"
        if self.clock == 1:
            made = "after 1 update"
        return replace(problem, message=f"training fails {made}: {problem.message}")

    def _value(self, output: Output) -> Array | Problem:
        node = output.node
        if node in self.plan.lost:
            return self.plan.lost[node]
        value = self.code.registers[self.code.at[node]]
        if not np.isfinite(value).all():
            return self._culprit(node)
        own = self.code.shapes[node]
        view = viewer(own, output.indices)
        shape = tuple(i.size for i in output.indices)
        return np.array(np.broadcast_to(view(value) if view else value, shape), dtype=np.float64)
