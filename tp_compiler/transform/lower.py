"""Lowering: removes Stop and InitialScalar, which only differentiation distinguishes from their values.

`stop(x)` becomes x, a trainable scalar its value, and a product with a trained matrix W_t the product with W_0 and the
update: W_t|x> = κ W_0|x> + Δ|x>.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.types import Index
from tp_compiler.ir.walk import rewrite


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained matrix: W_t = keep W_0 + Δ. `keep` is None where it stays 1 (no weight decay).

    `centred`: keep W_0 (I - |1><1|) + Δ, whose rows have mean 0 (Nero).
    """

    update: ir.State
    keep: ir.Node | None = None
    centred: bool = False


@dataclass(frozen=True, eq=False)
class Powers:
    """Powers of n relative to natural units (`WidthPowers` in ir/model.py). In the limit values with negative powers are 0.

    starts    initial kets, with the power at which they start
    reading   the power at `clt` brackets
    still     trained matrices that do not move in the limit
    """

    limit: bool = False
    starts: Mapping[ir.InitialKet, float] = field(default_factory=dict)
    reading: float = 0.0
    still: Collection[ir.State] = ()


class Lowering:
    """Rewrites node after node, shared parts once."""

    def __init__(
        self, build: Builder, trained: Mapping[ir.MatrixSymbol, Trained], starts: Mapping[ir.State, ir.State],
        powers: Powers | None = None,
    ):  # fmt: skip
        self.build = build
        self.trained = trained
        self.starts = starts
        self.powers = powers or Powers()
        self.done: dict[ir.Node, ir.Node] = {}

    def __call__(self, root: ir.Node) -> ir.Node:
        return rewrite(self.build, root, self._leaf, root.span, self.done, self._made)

    def known(self, node: ir.Node) -> ir.Node | None:
        """The lowered form of a node; a node that is not in the program itself is rebuilt from its parts."""
        made = node.args and not isinstance(node, ir.InitialKet)
        if node not in self.done and made and all(a in self.done for a in node.args):
            return self.build.again(node, tuple(self.done[a] for a in node.args), node.span)
        return self.done.get(node)

    def cotangents(self) -> ir.Cotangents:
        """The record of the nodes made by differentiation, for the lowered program."""
        found: ir.Cotangents = {}
        for value, uses in self.build.cotangents.items():
            lowered = self.known(value)
            if lowered is not None:
                found.setdefault(lowered, []).extend((self.done.get(of, of), labels) for of, labels in uses)
        return found

    def _leaf(self, node: ir.Node) -> ir.Node | None:
        match node:
            case ir.InitialKet() if node in self.powers.starts:
                return self.started(node)
            case ir.WidthPower(exponent=exponent) if self.powers.limit and exponent < 0:
                return self.build.constant(0, node.span)
            case ir.Clt() if self.powers.reading and self.powers.limit:
                return self.build.constant(0, node.span)
            case ir.Carry(state=state, span=span) if state in self.starts:
                return self.build.carry(self.starts[state], span)
        return None if node.args else node

    def _made(self, node: ir.Node, args: tuple[ir.Node, ...]) -> ir.Node | None:
        """What is made of a node's arguments, once they are lowered."""
        match node:
            case ir.InitialScalar() | ir.Stop():
                return self.build.over(args[0], node.type.indices, node.span)
            case ir.MatMul(matrix=matrix, member=member, transposed=transposed, span=span) if matrix.start is not None:
                (x,) = args
                if matrix not in self.trained:  # the loss does not depend on it, and it is updated as a whole
                    return self.build.matmul(matrix.start, member, transposed, x, span)
                trained = self.trained[matrix]
                met = self._less_mean(x) if trained.centred and not transposed else x
                start = self.build.matmul(matrix.start, member, transposed, met, span)
                if trained.centred and transposed:
                    start = self._less_mean(start)
                if trained.keep is not None:
                    keep = self(self._member(trained.keep, matrix, member))
                    start = self.build.mul(keep, start, span)
                if trained.update in self.powers.still:
                    return start
                return self.build.add(start, self.build.apply(trained.update, member, transposed, x, span), span)
            case ir.Clt(span=span) if self.powers.reading:
                power = self.build.width_power(self.powers.reading, span)
                return self.build.mul(power, self.build.clt(args[0], args[1], span), span)
        return None

    def started(self, node: ir.InitialKet) -> ir.Node:
        """An initial ket at its power of n; in the limit 0."""
        if self.powers.limit:
            zero = self.build.constant(0, node.span)
            symbol = replace(node.symbol, pair=None, law="normal")
            return self.build.initial_ket(symbol, zero, zero, node.span)
        return self.build.mul(self.build.width_power(self.powers.starts[node], node.span), node, node.span)

    def _less_mean(self, x: ir.Node) -> ir.Node:
        """(I - |1><1|)|x>"""
        return self.build.add(x, self.build.neg(self.build.average(x, x.span), x.span), x.span)

    def _member(self, keep: ir.Node, matrix: ir.MatrixSymbol, member: tuple[Index | int, ...]) -> ir.Node:
        return self.build.rename(keep, dict(zip(matrix.indices, member, strict=True)), keep.span)
