"""Laws with finitely many values, exactly: a ket is a table of its values, over a label that counts them.

Given the label, a ket is a number, and its functions are numbers; Gaussians do not depend on it. An average over neurons is
taken for every value first, and then over the values with their weights (`Atoms.averaged`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.exact.ket_formula import Tensor, summed
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Axis, Index
from tp_compiler.ir.walk import reachable

MOST_VALUES = 64  # that the members of a family with two values each may take together


@dataclass
class Atoms:
    """The labels that count values, with the weights of these."""

    weights: dict[Index, Tensor] = field(default_factory=dict)
    copied: frozenset[ir.Node] = frozenset()  # kets with copies, which would need a label each

    @classmethod
    def of(cls, nodes: Iterable[ir.Node]) -> Atoms:
        return cls({}, frozenset(reachable(n for n in nodes if isinstance(n, ir.Copy))))

    def table(self, node: ir.InitialKet, parameters: Sequence[Tensor]) -> Tensor | None:
        """The values of a ket (family); None if it has too many, or copies."""
        own = node.symbol.indices
        if node in self.copied:
            return None
        if node.symbol.law == "rows":
            count = node.row.size
            return self._known(
                node, parameters[0].renamed({node.row: self._label(node, count)}), np.full(count, 1 / count)
            )
        members = math.prod(i.size for i in own)
        if node.symbol.law == "uniform" or 2**members > MOST_VALUES:
            return None
        sizes = tuple(i.size for i in own)
        given = [np.broadcast_to(p.at(own), sizes).ravel() for p in parameters]
        bits = (np.arange(2**members)[:, None] >> np.arange(members)) & 1
        if node.symbol.law == "bernoulli":
            values, weights = bits + 0.0, np.prod(np.where(bits == 1, given[0], 1 - given[0]), axis=1)
        else:
            values = (2.0 * bits - 1) * (given[0] if given else 1.0)
            weights = np.full(2**members, 0.5**members)
        values, weights = values[weights > 0], weights[weights > 0]  # a function may be infinite at the others
        table = Tensor(values.reshape(-1, *sizes), (self._label(node, len(weights)), *own))
        return self._known(node, table, weights)

    def _label(self, node: ir.InitialKet, count: int) -> Index:
        return Index(f"row#{node.serial}", Axis("row", count))

    def _known(self, node: ir.InitialKet, table: Tensor, weights: Array) -> Tensor:
        label = self._label(node, len(weights))
        self.weights[label] = Tensor(weights, (label,))
        return table

    def averaged(self, x: Tensor) -> Tensor:
        """The average of numbers over the values of the kets that they depend on."""
        over = tuple(label for label in x.labels if label in self.weights)
        return summed([x, *(self.weights[label] for label in over)], over) if over else x
