"""Members of families that are uncorrelated: E x[p] x[q] = 0 unless p = q, found before anything is computed.

With weights of its own at every position, a readout's gradient is x[s] = w[s] f(h[s]), and so only pairs of equal positions count:
the tangent kernel of a convolutional network needs N² · P averages then, not N² · P². The members of |w[s]> are independent; those
of Ŵᵀ|x[s]> are if E x[s] x[s'] is 0 unless s = s'; and a convolution reads different positions for different s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.arrays import Label, contract
from tp_compiler.evaluate.exact.binding import fresh
from tp_compiler.evaluate.exact.gaussians import Gaussians
from tp_compiler.evaluate.exact.ket_formula import (
    Bundle,
    KetFormula,
    Linear,
    LinearPart,
    Shared,
    Tensor,
    Term,
    Variable,
    delta,
    product,
)
from tp_compiler.evaluate.exact.places import Place
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index

MANY = 2**12  # averages; of fewer, all are computed
MOST_OFF = 4  # entries off the diagonal, for each on it, that weights may still be 0 at: those at the edges of an image

Node = ir.InitialKet | ir.MatMul | Bundle
Pairs = list[tuple[Place, Place]]


def is_large(labels: Iterable[Index]) -> bool:
    """Whether there are so many averages over labels that it is worth asking which of them vanish."""
    return math.prod(x.size for x in dict.fromkeys(labels)) > MANY


class Diagonals:
    """Which averages vanish off a diagonal, for one evaluation. `operand` gives the ket that a matrix is applied to."""

    def __init__(self, gaussians: Gaussians, operand: Callable[[ir.MatMul], KetFormula]):
        self._gaussians, self._operand = gaussians, operand
        self._known: dict[Node, frozenset[int]] = {}

    def form(self, form: KetFormula, a: Index, b: Index) -> bool:
        """Whether E of a ket is 0 wherever the labels a and b differ."""
        return all(self.terms((t,), a, b) for t in form.parts)

    def terms(self, terms: Sequence[Term], a: Index, b: Index) -> bool:
        """Whether E of a product is 0 there: one of its independent factors is. Sums of sums are not taken apart."""
        factors = [f for t in terms for f in t.factors]
        if any(isinstance(f, Shared) for f in factors):
            return False
        clusters = self._gaussians.clusters(factors)
        if any(made.risky for made, _ in clusters):
            return False  # 0 only if it exists
        weights = [_support(t.coefficient) for t in terms]
        pairs = [own for _, own in clusters if len(own) == 2 and all(f.is_identity for f in own)]
        return any(self._moment(u.arguments[0], w.arguments[0], a, b, weights) for u, w in pairs)

    def _moment(self, u: Linear, w: Linear, a: Index, b: Index, weights: Sequence[Tensor]) -> bool:
        """Whether E u w, where the weights are not 0, is 0 where a and b differ."""
        return (u.mean.vanishes or w.mean.vanishes) and self._covariance(u, w, a, b, weights)

    def _covariance(self, u: Linear, w: Linear, a: Index, b: Index, weights: Sequence[Tensor] = ()) -> bool:
        if not {a, b} <= {*u.labels, *w.labels}:
            return False
        theirs = [(q, self._gaussians.variable(q.variable)) for q in (part.refreshed() for part in w.parts)]
        for p in (part.refreshed() for part in u.parts):
            own = self._gaussians.variable(p.variable)
            if not all(self._parts(p, q, a, b, weights) for q, other in theirs if own.meets(other)):
                return False
        return True

    def _parts(self, p: LinearPart, q: LinearPart, a: Index, b: Index, weights: Sequence[Tensor]) -> bool:
        """Whether no coefficients other than 0 meet at equal members where a and b differ."""
        factors = [_support(p.coefficient), _support(q.coefficient)]
        for one, other in self.pairs(p.variable, q.variable):
            if {one, other} == {a, b}:
                return True
            if (d := delta(one, other)) is not None:
                factors.append(d)
        off = _off_diagonal(factors, a, b)
        if off and off <= MOST_OFF * a.size and weights:
            off = _off_diagonal([*factors, *weights], a, b)
        return not off

    def pairs(self, u: Variable, w: Variable) -> Pairs:
        """The places that must agree wherever the covariance of two variables of one group is not 0."""
        if u.node is not w.node:
            return [*zip(u.members, w.members, strict=True)] if u.group == w.group else []
        return [(u.places[k], w.places[k]) for k in sorted(self._positions(u.node))]

    def _positions(self, node: Node) -> frozenset[int]:
        """The places of a family at which members are uncorrelated unless they agree; those of earlier layers first."""
        todo = [node]
        while todo:
            last = todo[-1]
            missing = [] if last in self._known else [n for n in self._below(last) if n not in self._known]
            if missing:
                todo += dict.fromkeys(missing)
                continue
            if last not in self._known:
                self._known[last] = frozenset(self._found(last))
            todo.pop()
        return self._known[node]

    def _below(self, node: Node) -> list[Node]:
        """The families that decide about one."""
        if isinstance(node, ir.InitialKet):
            return []
        if isinstance(node, Bundle):
            return [p.variable.node for p in node.linear.parts]
        factors = [f for t in self._operand(node).parts for f in t.factors if f.is_identity]
        return [p.variable.node for f in factors for p in f.arguments[0].parts]

    def _found(self, node: Node) -> list[int]:
        if isinstance(node, ir.InitialKet):
            return [] if node.symbol.pair is not None else [*range(len(node.type.indices))]
        labels = node.linear.labels if isinstance(node, Bundle) else node.type.indices
        new = {label: fresh(label) for label in labels}
        if isinstance(node, Bundle):
            u, w = node.linear, node.linear.placed(new)
            return [k for k, label in enumerate(labels) if self._covariance(u, w, label, new[label])]
        x = self._operand(node)
        squared = product([x, x.placed(new)])
        found = [k for k, label in enumerate(labels) if label in node.member]
        if squared is not None:
            rest = [k for k in range(len(labels)) if k not in found]
            found += [k for k in rest if self.form(squared, labels[k], new[labels[k]])]
        return found


def _support(t: Tensor) -> Tensor:
    """1 where numbers are not 0, or are 0 up to an error."""
    known = t.values != 0 if t.error is None else (t.values != 0) | (np.asarray(t.error) > 0)
    return Tensor(np.asarray(known, dtype=float), t.labels)


def _off_diagonal(factors: Sequence[Tensor], a: Index, b: Index) -> int:
    """Where a sum of products of numbers that are not negative, over all labels but two, is not 0 although these differ."""
    arrays: list[Array] = []
    of: list[tuple[Label, ...]] = []
    for k, t in enumerate(factors):
        others = {a, b, *(x for j, o in enumerate(factors) if j != k for x in o.labels)}
        lonely = tuple(n for n, x in enumerate(t.labels) if x not in others)
        arrays.append(np.asarray(t.values.max(axis=lonely), dtype=float))
        of.append(tuple(x for x in t.labels if x in others))
    if not {a, b} <= {x for own in of for x in own}:
        return a.size * b.size
    found = contract(arrays, of, (a, b))
    return int(np.count_nonzero(found[~np.eye(a.size, dtype=bool)]))
