"""Which averages vanish at initialisation, by symmetry.

An average over n neurons is n^-1/2 (the central limit theorem) in place of Θ(1) (the law of large numbers) where it is
odd under a change of sign of an initial ket or matrix with a symmetric law, or if one factor is Gaussian given
all else and independent of it (`ir.dependence`). Scalars are numbers in the limit and take no part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.dependence import Dependence, gaussian_factor
from tp_compiler.ir.primitives import PRIMITIVES

Symbol = ir.KetSymbol | ir.MatrixSymbol
NONE: frozenset[Symbol] = frozenset()


@dataclass(frozen=True)
class Parity:
    """The symbols under whose change of sign a ket is odd, and those under which it is neither odd nor even."""

    odd: frozenset[Symbol] = NONE
    mixed: frozenset[Symbol] = NONE

    def __mul__(self, other: Parity) -> Parity:
        return Parity(self.odd ^ other.odd, self.mixed | other.mixed)

    def __add__(self, other: Parity) -> Parity:
        differ = (self.odd ^ other.odd) | self.mixed | other.mixed
        return Parity(self.odd & other.odd, differ)

    def through(self, parity: int) -> Parity:
        """After a function that is odd (-1), even (1) or neither (0)."""
        if parity < 0:
            return self
        return Parity(NONE, self.mixed if parity else self.mixed | self.odd)

    @property
    def vanishes(self) -> bool:
        """The mean over neurons is odd under some change of sign."""
        return bool(self.odd - self.mixed)


class Symmetry:
    """`suppressed(contract)`: does this average vanish at initialisation?"""

    def __init__(self, order: Iterable[ir.Node]):
        order = list(order)
        self._of: dict[ir.Node, Parity] = {}
        self._zero: set[ir.Node] = set()
        for node in order:
            if self._is_zero(node):
                self._zero.add(node)
            self._of[node] = self._parity(node)
        self._dependence = Dependence(order)

    def suppressed(self, node: ir.Contract) -> bool:
        factors = [f for a in node.args for f in _factors(a)]
        averaged = [f for f in factors if any(s in node.slots for s, _ in f.type.slots)]
        return self._product(averaged).vanishes or self._independent(averaged)

    def _independent(self, factors: list[ir.Node]) -> bool:
        if len(factors) < 2 or any(not f.type.is_ket for f in factors):
            return False
        return any(
            all(gaussian_factor(self._dependence, free, x) is not None for x in factors if x is not free)
            for free in factors
            if factors.count(free) == 1
        )

    def _product(self, factors: Iterable[ir.Node]) -> Parity:
        total = Parity()
        for factor in factors:
            total = total * self._of[factor]
        return total

    def _parity(self, node: ir.Node) -> Parity:
        if node.type.is_scalar:
            return Parity()
        kets = [a for a in node.args if a.type.slots]
        match node:
            case ir.InitialKet(symbol=symbol):
                mean = node.args[0]
                centred = isinstance(mean, ir.Constant) and mean.value == 0
                return Parity(frozenset({symbol})) if centred else Parity(NONE, frozenset({symbol}))
            case ir.MatMul(matrix=matrix):
                return self._of[node.args[0]] * Parity(frozenset({matrix}))
            case ir.Map(fn="mul" | "div") | ir.Contract():
                return self._product(kets)
            case ir.Map(fn="add"):
                return self._sum(node.args)
            case ir.Map(fn=fn) if len(node.args) == 1:
                return self._of[node.args[0]].through(PRIMITIVES[fn].parity)
            case ir.Map(fn="pow", args=(base, ir.Constant(value=power))) if power == int(power):
                return self._of[base].through(1 if power % 2 == 0 else -1)
        return self._sum(node.linear_in) if node.linear else self._sum(node.args).through(0)

    def _sum(self, args: Iterable[ir.Node]) -> Parity:
        """The symmetry of terms that may differ; a number among them is even, and 0 if the others are."""
        args = tuple(args)
        kinds = [self._of[a] for a in args if a not in self._zero] or [self._of[args[0]]]
        total = kinds[0]
        for kind in kinds[1:]:
            total = total + kind
        return total

    def _is_zero(self, node: ir.Node) -> bool:
        """Is it 0, as recurrent networks start?"""
        zeros = [a in self._zero for a in node.args]
        match node:
            case ir.Constant(value=value):
                return value == 0
            case ir.Map(fn="mul") | ir.Contract():
                return any(zeros)
            case ir.Map(fn="add"):
                return all(zeros)
            case ir.Map(fn=fn) if len(zeros) == 1:
                return zeros[0] and PRIMITIVES[fn].parity < 0
            case ir.InitialKet():
                return all(zeros)
        return bool(node.linear) and all(a in self._zero for a in node.linear_in)


def _factors(node: ir.Node) -> list[ir.Node]:
    found, todo = [], [node]
    while todo:
        top = todo.pop()
        if isinstance(top, ir.Map) and top.fn == "mul":
            todo += reversed(top.args)
        else:
            found.append(top)
    return found
