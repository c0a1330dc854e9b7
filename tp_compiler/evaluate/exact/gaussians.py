"""The Gaussians of a ket, and its behaviour when one of its symbols changes sign, as bit sets.

Kets with different Gaussians are independent. And the law of a program does not change if a matrix, or an initial
ket of mean 0, is negated: a value that is negated with it has mean 0. So a network's gradient is odd in its
readout, the network even, and no product Wᵀ|dh> has a dot (gradient independence). Both are found in one step for
kets of any depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np

from tp_compiler.evaluate.exact.ket_formula import Bundle, GaussianFactor, KetFormula, Linear, Shared, Term, Variable
from tp_compiler.evaluate.gaussian.univariate import Univariate, parity
from tp_compiler.ir import nodes as ir


@dataclass(frozen=True, slots=True)
class MadeOf:
    """`atoms`: members of families, `whole`: families any member of which may occur, `families`: the families of both.

    `odd`: the symbols whose change of sign changes its sign; `mixed`: those whose change of sign changes it otherwise.
    `risky`: whether its mean may not exist.
    """

    atoms: int = 0
    whole: int = 0
    families: int = 0
    odd: int = 0
    mixed: int = 0
    risky: bool = False

    def meets(self, other: MadeOf) -> bool:
        """Whether the two may depend on each other."""
        return bool(self.atoms & other.atoms or self.whole & other.families or self.families & other.whole)

    @property
    def vanishes(self) -> bool:
        """Whether its mean is 0 by symmetry."""
        return bool(self.odd)

    def times(self, other: MadeOf) -> MadeOf:
        mixed = self.mixed | other.mixed
        return self._joined(other, (self.odd ^ other.odd) & ~mixed, mixed)

    def plus(self, other: MadeOf) -> MadeOf:
        mixed = self.mixed | other.mixed | (self.odd ^ other.odd)
        return self._joined(other, self.odd & ~mixed, mixed)

    def _joined(self, other: MadeOf, odd: int, mixed: int) -> MadeOf:
        families = self.families | other.families
        risky = self.risky or other.risky
        return MadeOf(self.atoms | other.atoms, self.whole | other.whole, families, odd, mixed, risky)

    def through(self, parity: int, risky: bool = False) -> MadeOf:
        """A function of it, even (1), odd (-1) or neither (0)."""
        if parity < 0 and not risky:
            return self
        odd, mixed = (self.odd, self.mixed) if parity < 0 else (0, self.mixed if parity else self.mixed | self.odd)
        return MadeOf(self.atoms, self.whole, self.families, odd, mixed, risky)


NUMBER = MadeOf()


class Gaussians:
    """The Gaussians of kets, for one evaluation. Operands of products with matrices are registered by `operand`."""

    def __init__(self, risky: Callable[[GaussianFactor], bool]) -> None:
        self._risky = risky  # whether the mean of a factor may not exist
        self._bits: dict[object, dict[object, int]] = {}
        self._operands: dict[ir.Node, MadeOf] = {}
        self._known: dict[object, MadeOf] = {}

    def operand(self, node: ir.MatMul, x: KetFormula) -> None:
        self._operands[node] = self.form(x)

    def _bit(self, kind: str, thing: object) -> int:
        bits = self._bits.setdefault(kind, {})
        return 1 << bits.setdefault(thing, len(bits))

    # -- Gaussian kets ------------------------------------------------------------------------------------------
    def variable(self, v: Variable, copy: int = 0) -> MadeOf:
        fixed = tuple(p if isinstance(p, int) else None for p in v.places)
        key = v.node, fixed, copy
        if key not in self._known:
            self._known[key] = self._variable(v, copy)
        return self._known[key]

    def _variable(self, v: Variable, copy: int) -> MadeOf:
        if isinstance(v.node, Bundle):
            return self._sum(v.node.placed(v.places), copy)
        family = v.group, copy
        bit = self._bit("family", family)
        one = all(isinstance(m, int) for m in v.members)
        atom = self._bit("atom", (family, v.members)) if one else 0
        odd, mixed = self._turn(v.node)
        return MadeOf(atom, 0 if one else bit, bit, odd, mixed)

    def _turn(self, node: ir.InitialKet | ir.MatMul) -> tuple[int, int]:
        if isinstance(node, ir.InitialKet):
            return self._bit("symbol", node.symbol), 0
        x, own = self._operands[node], self._bit("symbol", node.matrix)
        return (x.odd ^ own) & ~x.mixed, x.mixed

    def linear(self, x: Linear) -> MadeOf:
        fixed = tuple(p if isinstance(p, int) else None for p in x.positions)
        key = x.root, fixed, x.copy
        if key not in self._known:
            made = self._sum(x, x.copy)
            self._known[key] = made.plus(NUMBER) if np.any(x.mean.values) and x.parts else made
        return self._known[key]

    def _sum(self, x: Linear, copy: int) -> MadeOf:
        return _total(self.variable(p.variable, copy) for p in x.parts)

    # -- functions ----------------------------------------------------------------------------------------------
    def factor(self, f: GaussianFactor) -> MadeOf:
        if isinstance(f, Shared):
            return self._shared(f)
        if isinstance(f.function, Univariate):
            return self.linear(f.arguments[0]).through(parity(f.function), self._risky(f))
        return reduce(MadeOf.times, (self.linear(a).through(0, self._risky(f)) for a in f.arguments), NUMBER)

    def _shared(self, f: Shared) -> MadeOf:
        fixed = tuple(p if isinstance(p, int) else None for p in f.where)
        key = f.root, fixed
        if key not in self._known:
            self._known[key] = _total(self.term(t) for t in f.terms)
        return self._known[key]

    def term(self, t: Term) -> MadeOf:
        return reduce(MadeOf.times, (self.factor(f) for f in t.factors), NUMBER)

    def form(self, x: KetFormula) -> MadeOf:
        return _total(self.term(t) for t in x.shared().parts)

    def clusters(self, factors: Iterable[GaussianFactor]) -> list[tuple[MadeOf, list[GaussianFactor]]]:
        """Clusters of factors that may depend on each other: different clusters are independent."""
        clusters: list[tuple[MadeOf, list[GaussianFactor]]] = []
        for factor in factors:
            made = self.factor(factor)
            joined, rest = [factor], []
            for own, members in clusters:
                if own.meets(made):
                    made = made.times(own)
                    joined = members + joined
                else:
                    rest.append((own, members))
            clusters = [*rest, (made, joined)]
        return clusters


def _total(made: Iterable[MadeOf]) -> MadeOf:
    """The same for a sum."""
    first, *rest = [*made] or [NUMBER]
    return reduce(MadeOf.plus, rest, first)
