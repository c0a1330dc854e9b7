"""The largest stable learning rates of a program, as powers of n, for given alignments (Everett et al., arXiv 2407.05872).

Learning rates are n^e_k, one unknown for each parameter. Everything that may not blow up (kets that move, numbers that scale them,
readings) moves by a power of n that is a maximum of affine functions of the unknowns, computed from the program's graph
(tropical.py). That none is positive is a linear programme, whose constraints are found one after another: where the largest sum of
unknowns below those found so far still makes something blow up, the affine piece that is largest there is a new one. All fractions
are exact. Of equal sums, the one with larger rates near the input is taken.

Gradients are those in training, when a readout is as large as its updates make it, so a larger rate of the readout may demand smaller
ones before it. For gradients, a parameter that starts at 0 counts as large as muP would draw it: the product of two rates alone
would be bounded otherwise, and one of them could be arbitrarily large.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.model import Member
from tp_compiler.scale.affine import AffinePower, slopes
from tp_compiler.scale.alignment import Alignment
from tp_compiler.scale.analysis import Analysis, initial_sizes
from tp_compiler.scale.figures import Row
from tp_compiler.scale.growth import CONSTANT, NOTHING, Order
from tp_compiler.scale.linear_programme import LargestSum
from tp_compiler.scale.tropical import NodeSizes, Size
from tp_compiler.transform.gradient import Leaf

#: No learning rate is sought above n to this.
CEILING = Fraction(64)
#: How much more a parameter counts than the next one, at most: it only decides between equal sums.
FIRST = Fraction(1, 1000)


@dataclass(frozen=True)
class StabilityBound:
    """Σ slopes_k e_k ≤ bound, or `node` blows up."""

    slopes: Mapping[int, Fraction]
    bound: Fraction
    node: ir.Node

    def holds_back(self, k: int, rates: Sequence[Fraction]) -> bool:
        """Is it what forbids a larger e_k?"""
        return self.slopes.get(k, 0) > 0 and sum(s * rates[j] for j, s in self.slopes.items()) == self.bound


@dataclass(frozen=True)
class LargestRates:
    """Exponents by the rows' numbers: None where no learning rate is too large. `held`: what larger ones would make blow up;
    `features`: the power by which features move."""

    rates: tuple[Fraction | None, ...]
    held: tuple[ir.Node | None, ...]
    features: Order


class RateSearch:
    """The search, for the parameters of an analysis with their optimizers and initial sizes."""

    def __init__(self, analysis: Analysis, rows: Sequence[Row], alignments: Sequence[Alignment]):
        self.analysis, self.rows = analysis, list(rows)
        self._aligned: dict[Leaf, dict[Member, Alignment]] = {}
        for row, aligned in zip(rows, alignments, strict=True):
            self._aligned.setdefault(row.parameter.leaf, {})[row.parameter.declared.member] = aligned
        numbers = {p.leaf for p in analysis.reading.parameters if isinstance(p.leaf, ir.Node) and p.leaf.type.is_scalar}
        self._watched = {*analysis.watched, *numbers}
        self._members = analysis.members_apart(self.rows)

    def largest(self) -> LargestRates:
        count = len(self.rows)
        programme = LargestSum([1 + FIRST * Fraction(count - k, count) for k in range(count)], CEILING)
        cuts: list[StabilityBound] = []
        while True:
            rates = programme.solve()
            sizes, new = self.violated(rates)
            if not new:
                break
            for cut in new:
                programme.cut(cut.slopes, cut.bound)
            cuts += new
        held = [next((c.node for c in cuts if c.holds_back(k, rates)), None) for k in range(count)]
        features = max((sizes.of[n].moves for n in self.analysis.reading.features), default=NOTHING)
        return LargestRates(tuple(None if e == CEILING else e for e in rates), tuple(held), features)

    def violated(self, rates: Sequence[Fraction]) -> tuple[NodeSizes, list[StabilityBound]]:
        """The sizes at these learning rates, and the constraints that they violate: of what nothing before it has made blow up."""
        unknown = [AffinePower(rate, {k: Fraction(1)}) for k, rate in enumerate(rates)]
        found: list[Order] = [NOTHING for _ in self.rows]
        while True:
            sizes = self._sweep(found, self.analysis.forward)
            cuts = [
                StabilityBound(slopes(size), sum((s * rates[k] for k, s in slopes(size).items()), -size), node)
                for node, size in self._bursting(sizes)
            ]
            if cuts:
                return sizes, cuts
            gradients = self._sweep(found, self.analysis.backward)
            steps = [self._step(row, lr, gradients) for row, lr in zip(self.rows, unknown, strict=True)]
            largest = [max(old, new) for old, new in zip(found, steps, strict=True)]
            if largest == found:
                return sizes, []
            found = largest

    def _sweep(self, updates: Sequence[Order], nodes: list[ir.Node]) -> NodeSizes:
        """Forwards, or with the gradients, for updates of these sizes, at all orders in the learning rates."""
        starts, backwards = initial_sizes(self.rows), nodes is self.analysis.backward
        moved: dict[Leaf, dict[Member, Size]] = {}
        for row, by in zip(self.rows, updates, strict=True):
            leaf, member = row.parameter.leaf, row.parameter.declared.member
            start = CONSTANT if backwards and row.parameter.zero else starts[leaf][member].start
            moved.setdefault(leaf, {})[member] = Size(start, by, row.parameter)
        return self.analysis.aligned_sizes(nodes, moved, self.rows, self._aligned, self._members)

    def _step(self, row: Row, lr: Fraction, sizes: NodeSizes) -> Order:
        """The change of a parameter in natural units."""
        terms = self.analysis.reading.gradient(row.parameter)
        natural = max((sum((sizes[x].total for x in t), CONSTANT) for t in terms), default=NOTHING)
        if not row.trained or not isinstance(natural, Fraction):
            return NOTHING
        return lr + row.optimizer.step(row.gradient(natural)) + row.raw["multiplier"]

    def _bursting(self, sizes: NodeSizes) -> list[tuple[ir.Node, Fraction]]:
        """What blows up although nothing does that it is made of: numbers that are trained, kets, and readings."""
        after: set[ir.Node] = set()
        found = []
        for node in self.analysis.forward:
            size = sizes.of[node].moves
            if any(a in after for a in node.args):
                after.add(node)
            elif node in self._watched and isinstance(size, Fraction) and size > 0:
                after.add(node)
                found.append((node, size))
        return found
