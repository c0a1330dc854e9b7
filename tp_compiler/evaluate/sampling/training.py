"""The training loop on particles: states from step to step, traces, matrix states.

The limit of training is the program itself under the ket rules: at every step the kets of the network are evaluated
with the current states, W_0 is conditioned on everything it was applied to before, and W_t|x> = κ W_0|x> + Δ|x>.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate import numerical_errors
from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.arrays import labels
from tp_compiler.evaluate.sampling.blocks import Blocks
from tp_compiler.evaluate.sampling.conditioning.directions import drop_of
from tp_compiler.evaluate.sampling.entry_blocks import Entries, block_size
from tp_compiler.evaluate.sampling.estimates import base
from tp_compiler.evaluate.sampling.flow import GradientFlow, States, unsupported
from tp_compiler.evaluate.sampling.lowrank import LowRank
from tp_compiler.evaluate.sampling.particles import Particles
from tp_compiler.evaluate.sampling.shared_values import whole
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index
from tp_compiler.shapes import Float

#: Runs some instructions. It is passed, not kept: it holds all particles, which would then outlive their run.
Evaluate = Callable[[list[ir.Node]], None]


class ParticleTraining:
    """The states of some replicates."""

    def __init__(self, run: Particles, tick: Callable[[], None]):
        """`tick` is called after each step."""
        self.run, self._tick = run, tick
        self.phases = run.plan.phases
        assert self.phases.loop is not None
        self.loop = self.phases.loop
        self.clock = 0
        self.failure: Diagnostic | None = None  # why the training has stopped
        self.before = {id(v) for v in run.values.values() if isinstance(v, Diagnostic)}
        states = [s for s in self.phases.states if not s.is_matrix]
        self.current: dict[ir.State, Any] = {s: self.shaped(s, s.init) for s in states}
        self.matrices = self._matrices()
        self.traced: dict[ir.Trace, list[Any]] = {t: [] for t in self.phases.traces}
        self.broken: dict[ir.Trace, Diagnostic] = {}

    def _matrices(self) -> dict[ir.State, LowRank | Blocks]:
        run, found = self.run, {}
        way = [run.pairing] if run.pairing else []
        generators = [np.random.Generator(np.random.PCG64([*seed, 65537, *way])) for seed in run.seeds]
        for cell, linear in zip(run.plan.cells, run.plan.linear, strict=True):
            partners = [int(generator.integers(0, 2**31)) for generator in generators]
            matrix: LowRank | Blocks
            if linear:
                drop = drop_of(
                    run.plan.outer_products(cell),
                    run.averages.resolution(run.all),
                    run.plan.single or run.backend.single,
                )
                matrix = LowRank(cell, run, drop)
            else:
                matrix = Blocks(cell, run, self._paired(), partners, run.plan.passes[cell[0]])
            found.update(dict.fromkeys(cell, matrix))
        return found

    def _paired(self) -> int:
        """P, the columns that a row meets where entries are kept."""
        run = self.run
        if run.pairing is None:
            return run.samples
        return max(1, block_size(run.full) // 2) if run.halves else block_size(run.full)

    def shaped(self, state: ir.State, node: ir.Node) -> Array | Diagnostic:
        """A value as an array of the state's shape, or a Diagnostic."""
        value = self.run.values[node]
        if not isinstance(value, Diagnostic):
            value = self.run.problem(node, value) or value
        if isinstance(value, Diagnostic):
            return value
        own = labels(state.type)
        return whole(self.run, node, own, tuple(i.size if isinstance(i, Index) else self.run.samples for i in own))

    # -- read by the instructions -------------------------------------------------------------------------------
    def carried(self, state: ir.State) -> Array | Diagnostic:
        return self.failure or self.current[state]

    def time(self) -> np.float64 | Diagnostic:
        return self.failure or np.float64(self.clock)

    def applied(
        self, node: ir.Apply, member: tuple[int, ...], columns: Float[Array, "replicates samples k"]
    ) -> Float[Array | Entries, "replicates samples k"]:
        """Δ|x> for one member and the columns of x."""
        result = self.matrices[node.state].apply(node.state, member, columns, node.transposed)
        broken = None if numerical_errors.finite(result) else self._diverged(node.state, None)
        broken = self.run.averages.first(broken)
        if broken is not None:
            raise numerical_errors.Refused(broken)
        return result

    # -- the loop -----------------------------------------------------------------------------------------------
    def train(self, evaluate: Evaluate) -> None:
        """All the updates, and the traces before each of them. `evaluate` runs the instructions of a step with the current states."""
        step = self.phases.step
        while self.clock < self.loop.steps and self.failure is None:
            evaluate(step)
            self._record()
            self._follow(evaluate)
            self.run.forget(step)
            self.clock += 1
            self._tick()

    def finish(self) -> None:
        """The traces' last values, and the traces themselves."""
        self._record()
        for trace, values in self.traced.items():
            self.run.values[trace] = self.broken[trace] if trace in self.broken else np.stack(values, axis=1)

    def _record(self) -> None:
        for trace, values in self.traced.items():
            if not trace.runs_to(self.clock):
                continue
            node = trace.args[0]
            value = self.run.values[node]
            if not isinstance(value, Diagnostic):
                value = self.run.problem(node, value) or value
            if isinstance(value, Diagnostic):
                self.broken.setdefault(trace, self._undefined(value))
            else:
                values.append(whole(self.run, node, node.type.indices, node.type.shape).copy())
            for found in self.run.found:
                counted = found.counted
                counted[trace] = max(counted.get(trace, 0.0), counted.get(base(node), 0.0))

    def _follow(self, evaluate: Evaluate) -> None:
        if self.loop.times:
            self.failure = unsupported(list(self.matrices)) or self._flow(evaluate)
            return
        following = self.loop.following
        new = {s: self.shaped(s, following[s]) for s in self.current}
        found = new | {s: self.run.values[following[s]] for s in self.matrices}
        for state, value in found.items():
            if isinstance(value, Diagnostic):
                self.failure = value if self._is_known(value) else self._diverged(state, value)
                return
        try:
            for matrix in dict.fromkeys(self.matrices.values()):
                matrix.follow(following)
        except numerical_errors.Refused as refused:
            self.failure = self._diverged(next(iter(self.matrices)), refused.diagnostic)
        self.current = new

    def _flow(self, evaluate: Evaluate) -> Diagnostic | None:
        """The states after the time to the next trace."""
        moved = partial(self._moved, evaluate)
        found = GradientFlow(self.loop, self.current, moved).advance(self.loop.duration(self.clock))
        if isinstance(found, Diagnostic):
            return found
        self.current = {s: self.run.backend.array(x) for s, x in found.items()}
        return None

    def _moved(self, evaluate: Evaluate, states: States) -> Mapping[ir.State, Array | Diagnostic]:
        """The updated values of some states."""
        self.current = {s: self.run.backend.array(x) for s, x in states.items()}
        self.run.forget(self.phases.step)
        evaluate(self.phases.step)
        return {s: self.shaped(s, self.loop.following[s]) for s in states}

    # -- messages -----------------------------------------------------------------------------------------------
    def _is_known(self, cause: Diagnostic) -> bool:
        """A problem unrelated to training, or one reported before."""
        return id(cause) in self.before or cause.code == "NX417"

    def _diverged(self, state: ir.State, cause: Diagnostic | None) -> Diagnostic:
        why = f" ({cause.message})" if cause is not None else ""
        update = self.clock + 1 if cause is not None else self.clock
        message = f"training diverges in update {update}: `{state.name}` is no longer finite{why}"
        span = cause.span if cause is not None else state.span
        return Diagnostic("NX417", message, span, "lower the learning rate, or clip the gradient")

    def _undefined(self, cause: Diagnostic) -> Diagnostic:
        if self._is_known(cause):
            return cause
        k = self.clock
        updates = "before the first update" if k == 0 else f"after {k} update{'s' if k > 1 else ''}"
        return Diagnostic(cause.code, f"{cause.message} ({updates})", cause.span, cause.remedy)
