"""Networks side by side: every held value of a plan at finite width, phase by phase, freed as soon as possible."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.finite import draws, instructions
from tp_compiler.finite.array_types import Values
from tp_compiler.finite.blame import Refusal, finite
from tp_compiler.finite.contraction import contract
from tp_compiler.finite.factors import FactoredMatrices
from tp_compiler.finite.linalg import linalg
from tp_compiler.finite.scatter import Scatter, scattered
from tp_compiler.finite.schedule import Member, NetworkPlan, Phase, members
from tp_compiler.finite.tensors import (
    NETWORKS,
    LabelledArray,
    align,
    each_network,
    labelled,
    labels_from,
)
from tp_compiler.finite.tiles import TILE, Averager, blame_on, first_blamed
from tp_compiler.finite.weights import NO_WEIGHTS, Weights
from tp_compiler.finite.widths import neurons
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Output
from tp_compiler.ir.types import Index, Width


@dataclass
class Traces:
    """The records of a training loop. `failed` says why a trace has no value, `broken` why training itself failed."""

    recorded: dict[ir.Trace, Values] = field(default_factory=dict)
    failed: dict[ir.Trace, Diagnostic] = field(default_factory=dict)
    broken: Diagnostic | None = None


@dataclass
class FiniteNetworks:
    """Networks of width `n`; each key is (seed, number of the network), `weights` what is not drawn.

    Everything that differs between networks has one dimension more, the networks, in front of the others.
    """

    plan: NetworkPlan
    n: int
    keys: Sequence[draws.Key]
    dtype: type[np.floating] | np.dtype[np.floating] = np.float64
    tile: int = TILE
    weights: Weights = NO_WEIGHTS
    values: dict[ir.Node, Values] = field(default_factory=dict)
    failed: dict[ir.Node, Diagnostic] = field(default_factory=dict)
    blamed: dict[ir.Node, Diagnostic] = field(default_factory=dict)
    matrices: dict[Member, Values] = field(default_factory=dict)
    states: dict[ir.State, Values] = field(default_factory=dict)
    factored: dict[ir.State, FactoredMatrices] = field(default_factory=dict)  # the states that have no entries
    clock: int = 0
    traces: Traces | None = None  # of a training loop that runs, or has run

    @property
    def count(self) -> int:
        return len(self.keys)

    def outputs(self) -> tuple[dict[str, Values], dict[str, Diagnostic]]:
        """Values by output name, of the shape (networks, *indices of the output), and the failures of the others."""
        found: dict[str, Values] = {}
        lost: dict[str, Diagnostic] = {}
        for output in self.plan.outputs:
            guilty = self.guilty(output.node)
            if guilty:
                lost[output.name] = guilty
            else:
                found[output.name] = self._shown(output)
        return found, lost

    def _shown(self, output: Output) -> Values:
        shape = (self.count, *(i.size for i in output.indices))
        return np.broadcast_to(align(self.tensor(output.node), (NETWORKS, *output.indices)), shape)

    def evaluate(self, phase: Phase) -> None:
        """Computes a phase (again) without raising; values that cannot be computed are in `failed` and `blamed`."""
        for table in (self.values, self.blamed, self.failed):
            for node in phase.order:
                table.pop(node, None)
        for node in phase.order:
            self._compute(node, phase.dropped.get(node, set()))
            self.forget(phase.freed[node])

    def guilty(self, node: ir.Node) -> Diagnostic | None:
        """Why a computed node has no finite value."""
        return self.failed.get(node) or self.blamed.get(node)

    def averager(self) -> Averager:
        return Averager(self.values, self.blamed, self.plan.bodies, self.neurons, self.dtype, self.count, self.tile)

    def neurons(self, width: Width) -> int:
        return neurons(width, self.n)

    def forget(self, nodes: Iterable[ir.Node]) -> None:
        for node in nodes:
            self.values.pop(node, None)
            self.blamed.pop(node, None)

    def _compute(self, node: ir.Node, dropped: set[Member]) -> None:
        guilty = self._without_value(node)
        if guilty is not None:
            self.failed[node] = guilty
            return
        try:
            value = np.asarray(self._value(node, dropped), dtype=self.dtype)
            if not isinstance(node, ir.Carry) and not finite(value):
                self._not_finite(node)
            self.values[node] = value
        except Refusal as refusal:
            self.failed[node] = refusal.diagnostic

    def _without_value(self, node: ir.Node) -> Diagnostic | None:
        """Why a node cannot be computed: by its arguments, or by the training that it reads."""
        if not (self.failed or self.blamed or (self.traces and (self.traces.broken or self.traces.failed))):
            return None
        failed = [need for need in self.plan.needs[node] if need in self.failed]
        if failed:
            return self.failed[min(failed, key=lambda need: need.serial)]
        blamed = [a for a in self._strict(node) if a in self.blamed]
        if blamed:
            return self.blamed[min(blamed, key=lambda a: a.serial)]
        if self.traces is None or not isinstance(node, ir.Trace | ir.Carry | ir.Clock | ir.Apply):
            return None
        return self.traces.broken or (self.traces.failed.get(node) if isinstance(node, ir.Trace) else None)

    def _strict(self, node: ir.Node) -> list[ir.Node]:
        """The values that must be finite before the node can be computed."""
        if isinstance(node, ir.MatMul | ir.Apply | ir.Clt | ir.Linalg | ir.InitialKet):
            return self.plan.needs[node]
        return list(node.args[1:]) if isinstance(node, ir.Reindex) else []

    def _not_finite(self, node: ir.Node) -> None:
        """Entrywise functions may still drop the entry (`where`); averages and products with matrices may not."""
        args = [self.values[a] for a in node.args] if node not in self.plan.scatters else []
        blame = first_blamed(node, self.blamed) or blame_on(node, args)
        if isinstance(node, ir.MatMul | ir.Apply | ir.Clt | ir.Linalg):
            raise Refusal(blame)
        self.blamed[node] = blame

    def tensor(self, node: ir.Node) -> LabelledArray:
        return labelled(self.values[node], node.labels)

    def _value(self, node: ir.Node, dropped: set[Member]) -> Values:
        if isinstance(node, ir.MatMul):
            return self._matmul(node, dropped)
        row = ROWS.get(type(node))
        if row is not None:
            return row(self, node)
        if isinstance(node, ir.Contract) and node.slots:
            return self.averager().average(node)
        part = self.plan.scatters.get(node)
        if part is not None:
            assert isinstance(node, ir.Contract)
            return self._scattered(node, part)
        return instructions.apply(node, [self.tensor(a) for a in node.args])

    def _constant(self, node: ir.Constant) -> Values:
        return np.asarray(node.value)

    def _array(self, node: ir.Array) -> Values:
        return np.asarray(node.values)

    def _position(self, node: ir.Position) -> Values:
        whole: Any = np.arange(1, node.index.size + 1)
        return np.asarray(whole)

    def _clock(self, _: ir.Clock) -> Values:
        return np.asarray(self.clock)

    def _width_power(self, node: ir.WidthPower) -> Values:
        return np.asarray(float(self.n) ** node.exponent)

    def _carry(self, node: ir.Carry) -> Values:
        return self.states[node.state]

    def _trace(self, node: ir.Trace) -> Values:
        assert self.traces is not None
        return self.traces.recorded[node]

    def _initial_ket(self, node: ir.InitialKet) -> Values:
        if node.symbol.name in self.weights.kets:
            return self.weights.kets[node.symbol.name]
        neurons = self.neurons(node.symbol.width)
        law = list(map(self.tensor, node.args))
        if node.symbol.law == "normal" and not any(NETWORKS in a.labels for a in law):
            return draws.initial_kets(self.keys, node, law[0], law[1], neurons, self.dtype)

        def drawn(number: int, args: list[LabelledArray]) -> Values:
            mean, covariance, *parameters = args
            if node.symbol.law != "normal":
                return draws.other_ket(self.keys[number], node, mean, covariance, parameters, neurons, self.dtype)
            return np.asarray(draws.initial_kets([self.keys[number]], node, mean, covariance, neurons, self.dtype)[0])

        return each_network(drawn, law, self.count)

    def _scattered(self, node: ir.Contract, part: Scatter) -> Values:
        args = [self.tensor(x) for x in (part.at, *part.factors)]
        if NETWORKS in args[0].labels:
            return each_network(lambda _, own: scattered(node, part, own[0], own[1:]), args, self.count)
        return scattered(node, part, args[0], args[1:])

    # -- products with matrices ---------------------------------------------------------------------------------
    def _matmul(self, node: ir.MatMul, dropped: set[Member]) -> Values:
        """y = W x, or Wᵀ x, for every member of the family that is used."""

        def image(flat: int, x: Values) -> Values:
            w = self._matrix(node.matrix, flat)
            if (node.matrix, flat) in dropped:
                del self.matrices[node.matrix, flat]
            return x @ (w if node.transposed else w.swapaxes(-1, -2))

        return self._products(node, node.matrix.indices, image)

    def _apply(self, node: ir.Apply) -> Values:
        """The learned part of a matrix: y(α) = mean over β of Δ(α, β) x(β), transposed ρ · mean over α."""
        (_, rows), (_, columns) = node.state.type.slots
        scale = rows.ratio / columns.ratio / self.neurons(rows) if node.transposed else 1 / self.neurons(columns)

        def image(flat: int, x: Values) -> Values:
            if node.state in self.factored:
                return self.factored[node.state].image(node.state, flat, x, node.transposed, scale)
            entries = self.states[node.state]
            member = entries.reshape(self.count, -1, *entries.shape[-2:])[:, flat]
            return np.asarray(x @ (member if node.transposed else member.swapaxes(-1, -2)) * scale)

        return self._products(node, node.state.type.indices, image)

    def _products(
        self, node: ir.MatMul | ir.Apply, family: tuple[Index, ...], image: Callable[[int, Values], Values]
    ) -> Values:
        """`image(member, kets)` for every member of the family that is used; kets are rows of a matrix."""
        x = self.tensor(node.args[0])
        indices = node.args[0].type.indices
        kets = align(x, (NETWORKS, *x.labels[-1 - len(indices) :]))
        out = np.empty((self.count, *node.type.shape, self.neurons(node.type.width)), self.dtype)
        for flat, at in members(node, family):
            chosen = kets[(slice(None), *(at.get(i, slice(None)) for i in indices))]
            place = (slice(None), *(at.get(i, slice(None)) for i in node.type.indices))
            product = image(flat, chosen.reshape(len(kets), -1, chosen.shape[-1]))
            out[place] = product.reshape(len(product), *chosen.shape[1:-1], -1)
        return out

    def _matrix(self, symbol: ir.MatrixSymbol, flat: int) -> Values:
        """The initial value of a member, given or drawn when it is first requested."""
        member = (symbol, flat)
        given = self.weights.matrices.get(symbol.name)
        if member not in self.matrices and given is not None:
            self.matrices[member] = given.reshape(-1, *given.shape[-2:])[flat].astype(self.dtype)
        if member not in self.matrices:
            self.matrices[member] = self._drawn(symbol, flat)
        return self.matrices[member]

    def _drawn(self, symbol: ir.MatrixSymbol, flat: int) -> Values:
        variance = align(self.tensor(symbol.variance), (NETWORKS, *symbol.indices))
        own = np.broadcast_to(variance, (self.count, *(i.size for i in symbol.indices))).reshape(self.count, -1)
        out = np.empty((self.count, self.neurons(symbol.rows), self.neurons(symbol.cols)), self.dtype)
        draws.matrices(self.keys, symbol, flat, out, own[:, flat])
        return out

    # -- scalars --------------------------------------------------------------------------------------------------
    def _linalg(self, node: ir.Linalg) -> Values:
        return instructions.network_by_network(linalg)(node, [self.tensor(a) for a in node.args])

    def _clt(self, node: ir.Clt) -> Values:
        """The inner product vᵀx over √m, m the number of neurons of the class."""
        v, x = map(self.tensor, node.args)
        total = contract([v, x], labels_from(node, [v, x]))
        return np.asarray(total / np.sqrt(v.array.shape[-1]))

    def _unavailable(self, node: ir.Unavailable) -> Values:
        raise Refusal(node.diagnostic("leave out the outputs that depend on it"))


ROWS: dict[type[ir.Node], Callable[..., Values]] = {
    ir.Constant: FiniteNetworks._constant,
    ir.Array: FiniteNetworks._array,
    ir.Position: FiniteNetworks._position,
    ir.InitialKet: FiniteNetworks._initial_ket,
    ir.Clock: FiniteNetworks._clock,
    ir.WidthPower: FiniteNetworks._width_power,
    ir.Carry: FiniteNetworks._carry,
    ir.Trace: FiniteNetworks._trace,
    ir.Apply: FiniteNetworks._apply,
    ir.Linalg: FiniteNetworks._linalg,
    ir.Clt: FiniteNetworks._clt,
    ir.Unavailable: FiniteNetworks._unavailable,
}
