"""One network: every held value of a plan at finite width, in ascending serial order, freed as soon as possible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.finite import draws, instructions
from tp_compiler.finite.blame import Refusal, finite
from tp_compiler.finite.linalg import linalg
from tp_compiler.finite.schedule import Member, Plan, members
from tp_compiler.finite.tensors import Tensor, Values, align, contract, labels_of
from tp_compiler.finite.tiles import TILE, Averager, blame_on, first_blamed
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Output
from tp_compiler.ir.types import Width


def neurons(width: Width, n: int) -> int:
    """The number of neurons of a width class in a network of width n, at least 1."""
    return max(1, round(width.ratio * n))


@dataclass
class Network:
    """A network of width `n`; `key` is (seed, number of the network). `run` may be called once."""

    plan: Plan
    n: int
    key: draws.Key
    dtype: Any = np.float64
    tile: int = TILE
    values: dict[ir.Node, Values] = field(default_factory=dict)
    failed: dict[ir.Node, Diagnostic] = field(default_factory=dict)
    blamed: dict[ir.Node, Diagnostic] = field(default_factory=dict)
    matrices: dict[Member, Values] = field(default_factory=dict)

    def run(self) -> tuple[dict[str, Values], dict[str, Diagnostic]]:
        """Values by output name, of the shape of the output's indices, and the failures of the others."""
        for node in self.plan.order:
            self._compute(node)
            for gone in self.plan.freed[node]:
                for table in (self.values, self.blamed):
                    table.pop(gone, None)
        found: dict[str, Values] = {}
        lost: dict[str, Diagnostic] = {}
        for output in self.plan.outputs:
            guilty = self.failed.get(output.node) or self.blamed.get(output.node)
            if guilty:
                lost[output.name] = guilty
            else:
                found[output.name] = self._shown(output)
        return found, lost

    def _shown(self, output: Output) -> Values:
        shape = tuple(i.size for i in output.indices)
        return np.broadcast_to(align(self._tensor(output.node), output.indices), shape)

    def _compute(self, node: ir.Node) -> None:
        guilty = [need for need in self.plan.needs[node] if need in self.failed]
        if guilty:
            self.failed[node] = self.failed[min(guilty, key=lambda need: need.serial)]
            return
        blamed = [a for a in self._strict(node) if a in self.blamed]
        if blamed:
            self.failed[node] = self.blamed[min(blamed, key=lambda a: a.serial)]
            return
        try:
            with np.errstate(all="ignore"):
                value = np.asarray(self._value(node), dtype=self.dtype)
            if not finite(value):
                self._not_finite(node)
            self.values[node] = value
        except Refusal as refusal:
            self.failed[node] = refusal.diagnostic

    def _strict(self, node: ir.Node) -> list[ir.Node]:
        """What has to be finite before the node can be computed at all."""
        if isinstance(node, ir.MatMul | ir.Clt | ir.Linalg | ir.InitialKet):
            return self.plan.needs[node]
        return list(node.args[1:]) if isinstance(node, ir.Reindex) else []

    def _not_finite(self, node: ir.Node) -> None:
        """Entrywise functions may still drop the entry (`where`); averages and products with matrices may not."""
        blame = first_blamed(node, self.blamed) or blame_on(node, [self.values[a] for a in node.args])
        if isinstance(node, ir.MatMul | ir.Clt | ir.Linalg):
            raise Refusal(blame)
        self.blamed[node] = blame

    def _tensor(self, node: ir.Node) -> Tensor:
        return Tensor(self.values[node], labels_of(node))

    def _value(self, node: ir.Node) -> Values:
        row = ROWS.get(type(node))
        if row is not None:
            return row(self, node)
        if isinstance(node, ir.Contract) and node.slots:
            averager = Averager(self.values, self.blamed, self.plan.bodies, self._neurons, self.dtype, self.tile)
            return averager.average(node)
        return instructions.apply(node, [self._tensor(a) for a in node.args])

    def _neurons(self, width: Width) -> int:
        return neurons(width, self.n)

    def _constant(self, node: ir.Constant) -> Values:
        return np.asarray(node.value)

    def _array(self, node: ir.Array) -> Values:
        return np.asarray(node.values)

    def _position(self, node: ir.Position) -> Values:
        return np.arange(1, node.index.size + 1)

    def _initial_ket(self, node: ir.InitialKet) -> Values:
        mean, covariance = map(self._tensor, node.args)
        return draws.initial_ket(self.key, node, mean, covariance, self._neurons(node.symbol.width), self.dtype)

    def _matmul(self, node: ir.MatMul) -> Values:
        """y = W x, or Wᵀ x, for every member of the family that takes part."""
        x = self.values[node.args[0]]
        indices = node.args[0].type.indices
        out = np.empty((*node.type.shape, self._neurons(node.type.width)), self.dtype)
        for flat, at in members(node):
            w = self._matrix(node.matrix, flat, node.serial)
            chosen = x[tuple(at.get(i, slice(None)) for i in indices)]
            image = chosen.reshape(-1, x.shape[-1]) @ (w if node.transposed else w.T)
            place = tuple(at.get(i, slice(None)) for i in node.type.indices)
            out[place] = image.reshape(*chosen.shape[:-1], -1)
        return out

    def _matrix(self, symbol: ir.MatrixSymbol, flat: int, serial: int) -> Values:
        member = (symbol, flat)
        drawn = self.matrices.pop(member, None)
        if drawn is None:
            variance = align(self._tensor(symbol.variance), symbol.indices)
            sizes = tuple(i.size for i in symbol.indices)
            own = np.broadcast_to(variance, sizes).reshape(-1)[flat]
            shape = (self._neurons(symbol.rows), self._neurons(symbol.cols))
            drawn = draws.matrix(self.key, symbol, flat, shape, float(own), self.dtype)
        if self.plan.last_use[member] > serial:
            self.matrices[member] = drawn
        return drawn

    def _linalg(self, node: ir.Linalg) -> Values:
        return linalg(node, [self._tensor(a) for a in node.args])

    def _clt(self, node: ir.Clt) -> Values:
        """The inner product vᵀx over √m, m the number of neurons of the class."""
        v, x = map(self._tensor, node.args)
        total = contract([v, x], node.type.indices)
        return np.asarray(total / np.sqrt(v.array.shape[-1]))

    def _unavailable(self, node: ir.Unavailable) -> Values:
        message = f"{node.construct} cannot be evaluated in this version"
        raise Refusal(Diagnostic("NX500", message, node.span, "leave out the outputs that depend on it"))


ROWS: dict[type[ir.Node], Callable[..., Values]] = {
    ir.Constant: Network._constant,
    ir.Array: Network._array,
    ir.Position: Network._position,
    ir.InitialKet: Network._initial_ket,
    ir.MatMul: Network._matmul,
    ir.Linalg: Network._linalg,
    ir.Clt: Network._clt,
    ir.Unavailable: Network._unavailable,
}
