"""The training loop on particles: states from step to step, traces, matrix states (limit.md section 4).

The limit of training is the program itself under the ket rules: at every step the kets of the network are evaluated
with the current states, W_0 is conditioned on everything it met before, and W_t|x> = κ W_0|x> + Δ|x>.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate import faults
from tp_compiler.evaluate.arrays import aligned, labels
from tp_compiler.evaluate.blocks import Blocks
from tp_compiler.evaluate.directions import drop_of
from tp_compiler.evaluate.lowrank import LowRank
from tp_compiler.ir import nodes as ir

if TYPE_CHECKING:
    from tp_compiler.evaluate.replicate import Replicate


class Training:
    """The states of one replicate."""

    def __init__(self, run: Replicate):
        self.run = run
        self.phases = run.plan.phases
        loop = self.phases.loop
        assert loop is not None
        self.loop = loop
        self.clock = 0
        self.current: dict[ir.State, Any] = {}
        self.matrices: dict[ir.State, LowRank | Blocks] = {}
        self.traced: dict[ir.Trace, list[Any]] = {t: [] for t in self.phases.traces}
        self.failure: Diagnostic | None = None
        for state in self.phases.states:
            if not state.is_matrix:
                self.current[state] = self._shaped(state, state.init)
        generator = np.random.Generator(np.random.PCG64([*run.seed, 65537]))
        for cell, linear in zip(run.plan.cells, run.plan.linear, strict=True):
            shift = int(generator.integers(0, 2**31))
            matrix: LowRank | Blocks
            if linear:
                drop = drop_of(run.plan.outer_products(cell), run.samples)
                matrix = LowRank(cell, run.values, run.samples, drop)
            else:
                matrix = Blocks(cell, run.values, run.samples, shift)
            self.matrices.update(dict.fromkeys(cell, matrix))

    def _shaped(self, state: ir.State, node: ir.Node) -> Any:
        value = self.run.values[node]
        if isinstance(value, Diagnostic):
            return value
        own = labels(state.type)
        shape = tuple(self.run.samples if label == 0 else label.size for label in own)
        return np.broadcast_to(aligned(value, labels(node.type), own), shape)

    def carried(self, state: ir.State) -> Any:
        return self.current[state]

    def train(self) -> None:
        """All the steps, and the traces up to the last update but one."""
        step = self.phases.step
        for k in range(self.loop.steps):
            self.clock = k
            self.run.step(step)
            self._record()
            self._follow()
            self.run.forget(step)
            if self.failure is not None:
                break
        self.clock = self.loop.steps

    def finish(self) -> None:
        """The traces' last values, and the traces themselves."""
        self._record()
        for trace in self.traced:
            self.run.values[trace] = self.trace(trace)

    def _record(self) -> None:
        for trace, values in self.traced.items():
            node = trace.args[0]
            value = self.run.values[node]
            if not isinstance(value, Diagnostic):
                shape = node.type.shape
                value = faults.problem(node, value, self.run.suspect) or np.array(np.broadcast_to(value, shape))
            if isinstance(value, Diagnostic):
                value = self._failed(value)
            values.append(value)

    def _follow(self) -> None:
        following = self.loop.following
        new = {s: self._shaped(s, following[s]) for s in self.current}
        for s, value in new.items():
            problem = value if isinstance(value, Diagnostic) else faults.problem(following[s], value, self.run.suspect)
            if problem is not None:
                self._failed(problem)
        broken = [self.run.values[following[s]] for s in self.matrices]
        for problem in broken:
            if isinstance(problem, Diagnostic):
                self._failed(problem)
        if self.failure is not None:
            return
        for matrix in dict.fromkeys(self.matrices.values()):
            matrix.follow(following, self.run.values)
        self.current = new

    def _failed(self, problem: Diagnostic) -> Diagnostic:
        if self.failure is None:
            made = "before the first update" if not self.clock else f"after {self.clock} updates"
            if self.clock == 1:
                made = "after 1 update"
            message = f"training breaks down {made}: {problem.message}"
            self.failure = Diagnostic(problem.code, message, problem.span, problem.remedy)
        return self.failure

    def trace(self, trace: ir.Trace) -> Any:
        """The values over the steps."""
        values = self.traced[trace]
        broken = next((v for v in values if isinstance(v, Diagnostic)), self.failure)
        if broken is not None:
            return broken
        return np.stack(values)
