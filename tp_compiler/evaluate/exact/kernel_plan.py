"""Kernels over pairs of points as a plan: what is computed for all points, and the steps for each block of pairs.

A plan is made once for a program, from expressions of data (tracer.py), and does not depend on the number of points but for the
data. Equal expressions become one step, whatever the names of their labels; the covariance of w and u is that of u and w, so that
a symmetric kernel is found to be one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.arrays import Label
from tp_compiler.evaluate.bulk import EPS
from tp_compiler.evaluate.exact import abstract, point_arrays
from tp_compiler.evaluate.exact.abstract import EntriesDecide, Labels, Placed
from tp_compiler.evaluate.exact.expectations import has_squares
from tp_compiler.evaluate.exact.pair_steps import (
    COLUMNS,
    ROWS,
    AnyRow,
    Bell,
    Bend,
    Inner,
    Jump,
    Law,
    PairStep,
    Ratio,
    ScaledPairs,
    Side,
    SummedPairs,
)
from tp_compiler.evaluate.exact.point_arrays import PointArray, Rule
from tp_compiler.evaluate.exact.recursion import Recursion
from tp_compiler.evaluate.exact.tracer import TracedOutput
from tp_compiler.evaluate.gaussian import arccos_in_place, closed_forms
from tp_compiler.evaluate.gaussian.arccosine import shape_of
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Output
from tp_compiler.ir.types import Axis, Index

#: Where a label is: the side of the block, or a label that is summed.
Place = int | Index
MOST_KEPT = 2**20  # numbers over points that a plan keeps from one run to the next
#: A step with a coefficient and its relative error.
Multiple = tuple[int, float, float]


@dataclass(frozen=True)
class PlannedOutput:
    """The step of an output, over rows and columns; `symmetric`: the transposed one is the same."""

    output: Output
    step: int
    symmetric: bool
    method: str


@dataclass(frozen=True)
class PointRule:
    """How one array over points follows from earlier ones, or from data alone; `known` is then its value."""

    rule: Rule
    reads: tuple[int, ...]
    known: PointArray | None = None
    data: ir.Array | None = None  # what it reads of the program


class KernelPlan:
    """Rules for arrays over points, and steps for blocks of pairs, in order."""

    def __init__(
        self, outputs: Sequence[tuple[Output, TracedOutput]], squared: Iterable[Placed], points: Collection[Axis]
    ):
        self.rules: list[PointRule] = []
        self.steps: list[PairStep] = []
        self._recursion = Recursion()
        self._found: dict[Hashable, int] = {}
        self._dims: list[tuple[Label, ...]] = []
        self._squared = [self._square(placed, points) for placed in squared]
        self._points: list[PointArray] | None = None
        self.spread: dict[tuple[Side, float], Array] = {}  # of these, for the pairs of a kernel of one block
        self.outputs = tuple(self._output(output, traced) for output, traced in outputs)
        self.last = self._last_uses()

    def _output(self, output: Output, traced: TracedOutput) -> PlannedOutput:
        first, second = output.indices
        step = self._whole(self._pair(traced.placed, {first: ROWS, second: COLUMNS}))
        other = (
            self._whole(self._pair(traced.placed, {first: COLUMNS, second: ROWS})) if first.axis == second.axis else -1
        )
        return PlannedOutput(output, step, step == other, traced.method)

    def _last_uses(self) -> list[list[int]]:
        """The steps whose results are not read after each step."""
        kept = {o.step for o in self.outputs}
        last: dict[int, int] = {}
        for k, step in enumerate(self.steps):
            last[k] = k
            for r in step.inputs:
                last[r] = k
        gone: list[list[int]] = [[] for _ in self.steps]
        for r, k in last.items():
            if r not in kept:
                gone[k].append(r)
        return gone

    # -- arrays over points -------------------------------------------------------------------------------------------
    def _square(self, placed: Placed, points: Collection[Axis]) -> int:
        """The number of the rule for coefficients that are squared."""
        return self._point(placed, {x: ROWS if x.axis in points else x for x in placed.labels})[0]

    def points(self) -> list[PointArray]:
        """The arrays over points, which are kept if they are few. Raises EntriesDecide if squares of coefficients underflow."""
        if self._points is not None:
            return self._points
        found: list[PointArray] = []
        with np.errstate(all="ignore"):
            for rule in self.rules:
                found.append(rule.known or rule.rule([found[k] for k in rule.reads]))
        if not all(has_squares(found[k].values) for k in self._squared):
            raise EntriesDecide("numbers too small or too large for their squares")
        if sum(x.values.size for x in found) <= MOST_KEPT:
            self._points = found
        return found

    def at(self, arrays: Mapping[ir.Array, ir.Array]) -> KernelPlan:
        """The same plan for other data over points: each array is replaced by another of its shape."""
        plan = copy.copy(self)
        plan._points, plan.spread, plan.rules = None, {}, []
        with np.errstate(all="ignore"):
            for rule in self.rules:
                if rule.data is not None:
                    node = arrays[rule.data]
                    known: PointArray | None = rule.rule([PointArray(np.asarray(node.values, dtype=np.float64))])
                    plan.rules.append(replace(rule, known=known, data=node))
                    continue
                inputs = [x for k in rule.reads if (x := plan.rules[k].known) is not None]
                plan.rules.append(rule if rule.known is None else replace(rule, known=rule.rule(inputs)))
        return plan

    def _add_rule(
        self, key: Hashable, dims: tuple[Label, ...], make: Callable[[], Rule], reads: tuple[int, ...]
    ) -> int:
        if key not in self._found:
            rule = make()
            inputs = [self.rules[k].known for k in reads]
            data = len(dims) > 1 or any(len(self._dims[k]) > 1 for k in reads)  # read once
            known = rule([x for x in inputs if x is not None]) if data and None not in inputs else None
            self.rules.append(PointRule(rule, reads, known))
            self._dims.append(dims)
            self._found[key] = len(self.rules) - 1
        return self._found[key]

    def _point(self, placed: Placed, places: dict[Index, Any]) -> tuple[int, tuple[Label, ...]]:
        """An array over points whose labels are at `places`: at most one side, and labels that are summed elsewhere. The number
        of its rule, and its dimensions: -1 for the points, then the others."""
        expression = placed.expression
        own = tuple(places[x] for x in placed.labels)
        return self._recursion.value((expression, own), lambda: self._point_at(expression, own))

    def _point_at(self, expression: abstract.Expression, own: tuple[Any, ...]) -> tuple[int, tuple[Label, ...]]:
        at = dict(zip(expression.labels, (-1 if isinstance(p, int) else p for p in own), strict=True))
        out: tuple[Label, ...] = tuple(dict.fromkeys(sorted(at.values(), key=_order)))
        if isinstance(expression, abstract.PointData):
            return self._data(expression, at, out), out
        if isinstance(expression, abstract.ProductOf):
            return self._point_product(expression, at, out), out
        parts = [self._point(p, at) for p in expression.parts]
        reads, dims = tuple(k for k, _ in parts), [d for _, d in parts]
        if isinstance(expression, abstract.SumOf):
            constant, off = expression.constant, expression.off
            key: Hashable = ("sum", constant, off, reads, tuple(dims), out)
            return self._add_rule(key, out, lambda: point_arrays.total(constant, off, dims, out), reads), out
        if any(d not in ((-1,), ()) for d in dims):
            raise EntriesDecide("a function of families")
        f: Any = getattr(expression, "f", None)
        if isinstance(expression, abstract.SingleOf):
            return self._add_rule(("single", f, reads), out, lambda: point_arrays.single(f), reads), out
        assert isinstance(expression, abstract.PairOf)
        g = expression.g
        if expression.apart is not None and all(at[p] == at[q] for p, q in expression.apart):
            return self._add_rule(("same", f, g, reads[0]), out, lambda: point_arrays.same(f, g), reads[:1]), out
        return self._add_rule(("pair", f, g, reads), out, lambda: point_arrays.pair(f, g), reads), out

    def _data(self, data: abstract.PointData, at: dict[Index, Any], out: tuple[Label, ...]) -> int:
        key = "data", id(data), tuple(at.values())
        if key not in self._found:
            if len(set(at.values())) < len(at):
                raise EntriesDecide("a diagonal of data")
            order = sorted(range(len(at)), key=lambda k: _order(at[data.labels[k]]))

            def rule(arrays: Sequence[PointArray]) -> PointArray:
                return PointArray(np.ascontiguousarray(np.transpose(arrays[0].values, order)))

            self.rules.append(PointRule(rule, (), rule([PointArray(data.values)]), data.node))
            self._dims.append(out)
            self._found[key] = len(self.rules) - 1
        return self._found[key]

    def _point_product(self, expression: abstract.ProductOf, at: dict[Index, Any], out: tuple[Label, ...]) -> int:
        inner = at | _bound(expression.over, at.values())
        parts = sorted(
            (self._point(p, inner) for p in expression.parts), key=lambda x: (x[0], [_order(d) for d in x[1]])
        )
        reads, dims = tuple(k for k, _ in parts), [d for _, d in parts]
        c, share = expression.coefficient, expression.share
        key = "product", c, share, reads, tuple(dims), out
        return self._add_rule(key, out, lambda: point_arrays.product(c, share, dims, out), reads)

    # -- blocks of pairs ----------------------------------------------------------------------------------------------
    def _add_step(self, key: Hashable, make: Callable[[], PairStep]) -> int:
        key = "step", key
        if key not in self._found:
            self.steps.append(make())
            self._found[key] = len(self.steps) - 1
        return self._found[key]

    def _side(self, placed: Placed, places: dict[Index, Any]) -> Side:
        """An array over points that a block reads along one side."""
        sides = {places[x] for x in placed.labels}
        number, dims = self._point(placed, places)
        if dims not in ((-1,), ()):
            raise EntriesDecide("a family")
        return number, next(iter(sides)) if sides else None

    def _pair(self, placed: Placed, places: dict[Index, Any]) -> Multiple:
        """An expression over rows and columns."""
        expression = placed.expression
        at = {x: places[y] for x, y in zip(expression.labels, placed.labels, strict=True)}
        return self._recursion.value((expression, *at.values()), lambda: self._pair_at(expression, at))

    def _pair_at(self, expression: abstract.Expression, at: dict[Index, Any]) -> Multiple:
        if set(at.values()) != {ROWS, COLUMNS}:
            raise EntriesDecide("not over pairs")
        if isinstance(expression, abstract.ProductOf):
            return self._product(expression, at)
        if isinstance(expression, abstract.SumOf):
            return self._sum(expression, at), 1.0, 0.0
        if isinstance(expression, abstract.PairOf):
            return self._row(expression, at), 1.0, 0.0
        raise EntriesDecide("data over pairs")

    def _whole(self, found: Multiple) -> int:
        """A multiple as a step."""
        step, c, share = found
        return step if c == 1.0 and not share else self._scaled(c, share, (step,), ())

    def _scaled(self, c: float, share: float, reads: tuple[int, ...], points: tuple[Side, ...]) -> int:
        return self._add_step(("scaled", c, share, reads, points), lambda: ScaledPairs(c, share, reads, points))

    def _product(self, expression: abstract.ProductOf, at: dict[Index, Any]) -> Multiple:
        inner = at | _bound(expression.over, at.values())
        gone = set(expression.over)
        within = [p for p in expression.parts if gone & set(p.labels)]
        c, share = expression.coefficient, expression.share
        steps, points = [], []
        for part in (p for p in expression.parts if not gone & set(p.labels)):
            if {inner[x] for x in part.labels} == {ROWS, COLUMNS}:
                step, factor, off = self._pair(part, inner)
                steps.append(step)
                c, share = c * factor, share + off + (0.0 if factor == 1.0 else EPS)
            else:
                points.append(self._side(part, inner))
        if within:
            found = self._inner(within, inner)
            (steps if isinstance(found, int) else points).append(found)  # type: ignore[arg-type]
        if len(steps) == 1 and not points:
            return steps[0], c, share
        return self._scaled(c, share, tuple(sorted(steps)), tuple(sorted(points, key=str))), 1.0, 0.0

    def _inner(self, parts: Sequence[Placed], places: dict[Index, Any]) -> int | Side:
        """Σ Π of arrays over points: rows by columns, or along one side."""
        sides: dict[int | None, list[Placed]] = {ROWS: [], COLUMNS: [], None: []}
        for p in parts:
            own = {places[x] for x in p.labels} & {ROWS, COLUMNS}
            if len(own) > 1:
                raise EntriesDecide("a sum over pairs")
            sides[next(iter(own), None)].append(p)
        if not (sides[ROWS] and sides[COLUMNS]):
            side = ROWS if sides[ROWS] else COLUMNS if sides[COLUMNS] else None
            return self._joined([*sides[ROWS], *sides[COLUMNS], *sides[None]], places, ())[0], side
        shared = tuple(x for x in _places(sides[ROWS] + sides[None], places) if x in _places(sides[COLUMNS], places))
        rows, columns = (
            self._joined([*sides[s], *(sides[None] if s == ROWS else [])], places, shared) for s in (ROWS, COLUMNS)
        )
        if rows[1] != columns[1] or len(rows[1]) > 2:
            raise EntriesDecide("a sum over several labels")
        if not shared:
            return self._scaled(1.0, 0.0, (), ((rows[0], ROWS), (columns[0], COLUMNS)))
        return self._add_step(("inner", rows[0], columns[0]), lambda: Inner(rows[0], columns[0]))

    def _joined(
        self, parts: Sequence[Placed], places: dict[Index, Any], kept: tuple[Index, ...]
    ) -> tuple[int, tuple[Label, ...]]:
        """The product of arrays over points, summed over all labels but those that are kept."""
        found = sorted((self._point(p, places) for p in parts), key=lambda x: (x[0], [_order(d) for d in x[1]]))
        reads, dims = tuple(k for k, _ in found), [d for _, d in found]
        points = any(-1 in d for d in dims)
        out: tuple[Label, ...] = (*((-1,) if points else ()), *sorted(kept, key=_order))
        if len(reads) == 1 and dims[0] == out:
            return reads[0], out
        key = "product", 1.0, 0.0, reads, tuple(dims), out
        return self._add_rule(key, out, lambda: point_arrays.product(1.0, 0.0, dims, out), reads), out

    def _sum(self, expression: abstract.SumOf, at: dict[Index, Any]) -> int:
        steps: list[Multiple] = []
        points: list[Side] = []
        for part in expression.parts:
            if {at[x] for x in part.labels} == {ROWS, COLUMNS}:
                steps.append(self._pair(part, at))
            else:
                points.append(self._side(part, at))
        constant, off = expression.constant, expression.off
        steps = sorted(steps)
        reads = tuple(number for number, _, _ in steps)
        factors, shares = tuple(c for _, c, _ in steps), tuple(share for _, _, share in steps)
        sides = tuple(sorted(points, key=str))
        key = "sum", constant, off, reads, factors, shares, sides
        return self._add_step(key, lambda: SummedPairs(constant, off, reads, factors, shares, sides))

    def _row(self, expression: abstract.PairOf, at: dict[Index, Any]) -> int:
        f, g, law = expression.f, expression.g, expression.parts
        first, second = (self._side(p, at) for p in law[:2])
        apart = [(at[p], at[q]) for p, q in expression.apart or ()]
        distance = expression.distance or ()
        if first[1] == COLUMNS or second[1] == ROWS:
            f, g, first, second = g, f, second, first
            distance = tuple((b, a, over) for a, b, over in distance)
        step, c, share = self._pair(law[2], at)
        own = expression.apart is not None and all({p, q} == {ROWS, COLUMNS} for p, q in apart)
        if expression.apart is not None and not own:
            raise EntriesDecide("one variable at some pairs")
        steep = closed_forms.steep(f, g)
        same = (
            self._add_rule(("same", f, g, first[0]), (-1,), lambda: point_arrays.same(f, g), first[:1])
            if own and steep
            else None
        )
        known = Law((first, second), step, c, share)
        between = tuple(self._between(d, at) for d in distance)
        return self._tabled(f, g, known, same, between)

    def _between(self, part: tuple[Placed, Placed, Labels], at: dict[Index, Any]) -> tuple[int, int]:
        one, other, over = part
        inner = at | _bound(over, at.values())
        (rows, own), (columns, theirs) = (self._point(p, inner) for p in (one, other))
        if not own == theirs or len(own) != 2:
            raise EntriesDecide("coefficients over several labels")
        return rows, columns

    def _tabled(self, f: Any, g: Any, law: Law, same: int | None, apart: tuple[tuple[int, int], ...]) -> int:
        found = closed_forms.row_of(f, g)
        fast = None if found is None else found[0].fast
        if fast is not None and fast is arccos_in_place.order1:
            a, b = shape_of(f), shape_of(g)
            if a.even * b.even == 0:
                fast = None
        if f.name == g.name == "gauss":
            rates = f.params[0] * f.scale**2, g.params[0] * g.scale**2
            wide = [
                self._of_side(s, ("spread", a), point_arrays.spread(a))
                for s, a in zip(law.variances, rates, strict=True)
            ]
            return self._add_step(
                ("bell", f, g, law, same), lambda: Bell(f, g, law, same, apart, rates, (wide[0], wide[1]))
            )
        if fast is None:
            return self._add_step(("row", f, g, law, same), lambda: AnyRow(f, g, law, same, apart))
        noise = [shape_of(x).halves / 2 / x.scale**2 for x in (f, g)]
        sign = 1.0 if f.scale * g.scale > 0 else -1.0
        roots = tuple(
            self._of_side(s, ("root", h), point_arrays.root(h)) for s, h in zip(law.variances, noise, strict=True)
        )
        ratio = self._add_step(
            ("ratio", law.covariance, law.coefficient * sign, roots),
            lambda: Ratio(law.covariance, law.coefficient * sign, (roots[0], roots[1])),
        )
        if fast is arccos_in_place.order0:
            return self._add_step(("jump", f, g, law, same), lambda: Jump(f, g, law, same, apart, ratio))
        a, b = shape_of(f), shape_of(g)
        size = 2 / np.pi * a.even * b.even * abs(f.scale * g.scale) * f.factor * g.factor
        first, second = law.variances
        heights = (
            self._of_side(first, ("height", size), point_arrays.height(size)),
            self._of_side(second, ("height", 1.0), point_arrays.height(1.0)),
        )
        weights = a.even * b.even, a.odd * b.odd
        return self._add_step(("bend", f, g, law, same), lambda: Bend(f, g, law, same, apart, ratio, heights, weights))

    def _of_side(self, side: Side, key: tuple[str, float], rule: Rule) -> Side:
        number, at = side
        return self._add_rule((*key, number), self._dims[number], lambda: rule, (number,)), at


def _order(label: Any) -> tuple[int, str, int]:
    """Points first."""
    return (0, "", 0) if isinstance(label, int) else (1, label.name, label.size)


def _bound(over: Labels, places: Iterable[Any]) -> dict[Index, Any]:
    """Names for labels that are summed, by their number: those in use are not taken again."""
    used = len([p for p in places if isinstance(p, Index)])
    return {x: Index(f"#{used + k}", x.axis) for k, x in enumerate(over)}


def _places(parts: Iterable[Placed], places: dict[Index, Any]) -> tuple[Index, ...]:
    return tuple(dict.fromkeys(p for part in parts for x in part.labels if isinstance(p := places[x], Index)))
