"""The training loop of networks; everything that no step changes has been computed before.

Traced quantities are recorded before every update and after the last; all states are replaced together. A state that
is not finite ends the training, and nothing that depends on it has a value. Under gradient flow (`train time`) an "update" is
the flow from one listed time to the next.
"""

from __future__ import annotations

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.finite.array_types import Values
from tp_compiler.finite.blame import Refusal
from tp_compiler.finite.factors import FactoredMatrices, factored
from tp_compiler.finite.flow import States, flow
from tp_compiler.finite.network import FiniteNetworks, Traces
from tp_compiler.finite.schedule import StateUpdate, Steps
from tp_compiler.finite.tensors import align, labelled, state_labels
from tp_compiler.finite.updates import Diverged, advance
from tp_compiler.ir import nodes as ir


def run(network: FiniteNetworks) -> tuple[dict[str, Values], dict[str, Diagnostic]]:
    """Computes everything in the networks once: outputs by name, the networks first, and the failures of the others."""
    plan = network.plan
    network.evaluate(plan.before)
    if plan.steps is not None:
        network.traces = Traces()
        NetworkTraining(network, plan.steps, network.traces).run()
        network.forget(plan.steps.freed)
        for member in plan.steps.dropped:
            network.matrices.pop(member, None)
    network.evaluate(plan.after)
    return network.outputs()


class NetworkTraining:
    """The steps of networks side by side."""

    def __init__(self, network: FiniteNetworks, steps: Steps, traces: Traces):
        self.network = network
        self.steps = steps
        self.traces = traces
        self.before = {id(d) for d in (*network.failed.values(), *network.blamed.values())}

    def run(self) -> None:
        """Does not raise: failures are recorded in the traces."""
        try:
            self._start()
            for k in range(self.steps.count):
                self.network.clock = k
                self.network.evaluate(self.steps.each)
                self._record(k)
                self._go_on(k)
        except Diverged as diverged:
            self.traces.broken = self._stopped(diverged)
            return
        self.network.clock = self.steps.count
        self.network.evaluate(self.steps.last)
        self._record(self.steps.count)

    # -- states -------------------------------------------------------------------------------------------------
    def _start(self) -> None:
        network = self.network
        static = {node: labelled(value, node.labels) for node, value in network.values.items() if not node.type.slots}
        for update in self.steps.updates:
            rows, columns = (network.neurons(width) for _, width in next(iter(update.following)).type.slots)
            found = factored(update, self.steps.count, (network.count, rows, columns), network.dtype, static)
            if found is not None:
                network.factored.update(dict.fromkeys(update.following, found))
        for state in self.steps.states:
            if state not in network.factored:
                network.states[state] = self._value(state, state.init)

    def _value(self, state: ir.State, node: ir.Node) -> Values:
        """The value of a node as that of a state: of its shape, and its own."""
        cause = self.network.guilty(node)
        if cause is not None:
            raise Diverged(state, cause)
        neurons = (self.network.neurons(width) for _, width in state.type.slots)
        shape = (self.network.count, *state.type.shape, *neurons)
        value = labelled(self.network.values[node], node.labels)
        return np.array(np.broadcast_to(align(value, state_labels(state)), shape))

    def _go_on(self, k: int) -> None:
        """Replaces all states together: by their next values, or by the result of the flow."""
        states = self.network.states
        if self.steps.durations:
            states.update(flow(states, self.steps.durations[k], self._flowing))
        else:
            states.update(self._following(apart=any(update.body.inner for update in self.steps.updates)))

    def _flowing(self, states: States) -> States:
        self.network.states.update(states)
        self.network.evaluate(self.steps.each)
        return self._following(apart=True)

    def _following(self, apart: bool) -> States:
        """The next value of every state. Matrices are overwritten, unless `apart`, for updates that read other entries."""
        states = self.network.states
        new = {state: self._value(state, node) for state, node in self.steps.following.items()}
        if apart:
            entries = (state for update in self.steps.updates for state in update.following if state in states)
            new |= {state: np.empty_like(states[state]) for state in entries}
        averager = self.network.averager()
        for update in self.steps.updates:
            first = next(iter(update.following))
            for need in update.body.frontier:
                if need in self.network.failed:
                    raise Diverged(first, self.network.failed[need])
            if first in self.network.factored:
                self._extend(update, self.network.factored[first])
                continue
            self.network.values.update({carry: states[carry.state] for carry in update.entries})
            try:
                with np.errstate(all="ignore"):
                    advance(update, states, {**states, **new}, averager)
            except Refusal as refusal:
                raise Diverged(first, refusal.diagnostic) from None
        return new

    def _extend(self, update: StateUpdate, matrices: FactoredMatrices) -> None:
        blamed = self.network.blamed
        for need in update.reads:
            if need in blamed:
                raise Diverged(next(iter(update.following)), blamed[need])
        with np.errstate(all="ignore"):
            matrices.advance(self.network.tensor)

    def _stopped(self, diverged: Diverged) -> Diagnostic:
        cause = diverged.cause
        if id(cause) in self.before:
            return cause  # it has nothing to do with the training
        update, state = self.network.clock + 1, diverged.state.name
        message = f"training diverges in update {update}: `{state}` is no longer finite ({cause.message})"
        return Diagnostic("NX417", message, cause.span, "lower the learning rate, or clip the gradient")

    # -- traces -------------------------------------------------------------------------------------------------
    def _record(self, k: int) -> None:
        for node, trace in self.steps.traces.items():
            if not trace.runs_to(k):
                continue
            cause = self.network.guilty(node)
            if cause is not None:
                self.traces.failed.setdefault(trace, self._undefined(cause, k))
                continue
            if trace not in self.traces.recorded:
                self.traces.recorded[trace] = np.empty(
                    (self.network.count, trace.index.size, *node.type.shape), self.network.dtype
                )
            self.traces.recorded[trace][:, k] = self.network.values[node]

    def _undefined(self, cause: Diagnostic, k: int) -> Diagnostic:
        if id(cause) in self.before:
            return cause
        updates = "before the first update" if k == 0 else f"after {k} update{'s' if k > 1 else ''}"
        return Diagnostic(cause.code, f"{cause.message} ({updates})", cause.span, cause.remedy)
