"""How the outputs of a program follow from data over points, without the entries: the exact evaluator on unknown numbers.

Data over the points of an output are unknown (abstract.py). Everything else, such as variances, sizes and kets, is what it is, so
that the instructions take the same decisions as in the evaluation of any number of points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tp_compiler.evaluate.exact import abstract, distances
from tp_compiler.evaluate.exact.abstract import EntriesDecide, Labels, Placed, PointData, Symbolic
from tp_compiler.evaluate.exact.evaluator import ExactEvaluator, Held
from tp_compiler.evaluate.exact.expectations import CLOSED, METHODS, Expectations, left_alone
from tp_compiler.evaluate.exact.ket_formula import GaussianFactor, Linear, Operand, Tensor, number, plus, times
from tp_compiler.evaluate.gaussian import closed_forms
from tp_compiler.evaluate.gaussian.univariate import Univariate
from tp_compiler.evaluate.interface import NotExact
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Output
from tp_compiler.ir.types import Axis, Index


@dataclass(frozen=True)
class TracedOutput:
    """An output as an expression of data, and the name of the method that its entries are found by."""

    placed: Placed
    method: str


class KernelTracer(ExactEvaluator):
    """Runs the nodes of a plan with unknown data over the axes `points`."""

    reads_tables = False  # numbers that are not known are multiplied and summed, but not picked

    def __init__(self, nodes: list[ir.Node], points: frozenset[Axis]):
        self._points = points
        self.expected = SymbolicExpectations(self.between)
        super().__init__(nodes, expectations=self.expected)

    def traced(self, output: Output) -> TracedOutput | None:
        """The output over pairs of points; None if the entries themselves decide how it is computed."""
        value = self.values[output.node]
        if not isinstance(value, Tensor) or not isinstance(value.values, Symbolic):
            return None
        return TracedOutput(value.values.placed, METHODS[self.method[output.node]])

    @property
    def squared(self) -> list[Placed]:
        """Coefficients that must not be too small or too large."""
        return self.expected.squared

    def _evaluate(self, node: ir.Node) -> Held:
        try:
            return super()._evaluate(node)
        except EntriesDecide as reason:
            return NotExact(f"entries decide: {reason}")

    def _array(self, node: ir.Array, args: list[Operand]) -> Tensor:
        own = node.type.indices
        if not any(i.axis in self._points for i in own):
            return super()._array(node, args)
        return Tensor(Symbolic(Placed(PointData(own, (), np.asarray(node.values, dtype=np.float64), node), own)), own)

    def _map(self, node: ir.Map, args: list[Operand]) -> Operand:
        tensors = [a for a in args if isinstance(a, Tensor)]
        if len(tensors) < len(args) or not any(isinstance(t.values, Symbolic) for t in tensors):
            return super()._map(node, args)
        if node.fn in ("add", "mul"):
            return (plus if node.fn == "add" else times)(*tensors)
        if node.fn == "neg":
            return times(number(-1.0), *tensors)
        raise EntriesDecide(node.fn)

    _own: ClassVar[dict[type[ir.Node], Callable[[Any, Any, list[Any]], Any]]] = {ir.Array: _array, ir.Map: _map}
    rules: ClassVar[dict[type[ir.Node], Callable[..., Any]]] = {**ExactEvaluator.rules, **_own}


class SymbolicExpectations(Expectations):
    """Expectations under laws that are not known yet: rows of the table are noted, not evaluated."""

    def __init__(self, between: Callable[..., Tensor]):
        super().__init__(between)
        self.squared: list[Placed] = []

    def squares(self, coefficient: Tensor) -> None:
        if isinstance(coefficient.values, Symbolic):
            self.squared.append(coefficient.values.placed)
        else:
            super().squares(coefficient)

    def _tabled(self, factors: list[GaussianFactor]) -> Tensor | None:
        functions = [x.function for x in factors if isinstance(x.function, Univariate)]
        if len(factors) > 2 or len(functions) < len(factors) or left_alone(factors):
            return super()._tabled(factors)
        f, g, u, w = functions[0], functions[-1], factors[0].arguments[0], factors[-1].arguments[0]
        if len(factors) == 1:
            return self._alone(factors, f, u)
        law = [self.covariance(u, u), self.covariance(w, w), self.covariance(u, w)]
        if not any(isinstance(t.values, Symbolic) for t in (*law, u.mean, w.mean)):
            return super()._tabled(factors)
        if np.any(u.mean.values) or np.any(w.mean.values) or closed_forms.kernel(f, g, 1.0, 1.0, 0.5) is None:
            return None
        _plain(f, g)
        self.method = max(self.method, CLOSED)
        known = [(t.values, t.labels, t.off) for t in law]
        steep = closed_forms.steep(f, g)
        return Tensor(
            *abstract.pair(known, f=f, g=g, apart=_apart(u, w), distance=self._distance(u, w) if steep else None)
        )

    def _alone(self, factors: list[GaussianFactor], f: Univariate, u: Linear) -> Tensor | None:
        variance = self.covariance(u, u)
        if not any(isinstance(t.values, Symbolic) for t in (variance, u.mean)):
            return super()._tabled(factors)
        if np.any(u.mean.values) or closed_forms.single(f, 0.0, 1.0) is None:
            return None
        _plain(f)
        self.method = max(self.method, CLOSED)
        return Tensor(*abstract.single((variance.values, variance.labels, variance.off), f))

    def _distance(self, u: Linear, w: Linear) -> tuple[tuple[Placed, Placed, Labels], ...] | None:
        """Coefficients of the two, scaled by the deviation of what they multiply."""
        found = []
        for p, q in distances.comparable(u, w) or ():
            variance = self.between(p.variable, p.variable)
            if not np.ndim(p.coefficient.values):
                continue  # equal in both
            if np.ndim(variance.values) or not isinstance(p.coefficient.values, Symbolic):
                raise EntriesDecide("coefficients of several kinds")
            deviation = number(float(np.sqrt(variance.values)))
            one, other = (times(deviation, x.coefficient).values for x in (p, q))
            found.append((one.placed, other.placed, p.over))
        return tuple(found) or None


def _plain(*functions: Univariate) -> None:
    if any(f.name == "real_power" for f in functions):
        raise EntriesDecide("a singular power")


def _apart(u: Linear, w: Linear) -> tuple[tuple[Index, Index], ...] | None:
    """The pairs of labels that must agree for two placements of a family to be one variable; None if they never are."""
    if u.root != w.root or u.copy != w.copy:
        return None
    found = [(p, q) for p, q in zip(u.positions, w.positions, strict=True) if p != q]
    if any(isinstance(p, int) and isinstance(q, int) for p, q in found):
        return None
    if not all(isinstance(p, Index) and isinstance(q, Index) for p, q in found):
        raise EntriesDecide("an entry of a family")
    return tuple((p, q) for p, q in found if isinstance(p, Index) and isinstance(q, Index))
