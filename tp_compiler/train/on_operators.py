"""Optimizers `on operators`: each parameter is one operator, including a family |u[d]>.

The gradient is low-rank, g = Σ_b |left_b><right_b|, and every operator that the body forms lies in the span of the kets
of g at this step and before. So training carries from step to step those kets and, for each state, a finite
matrix in their basis; the update is again a sum of outer products. An optimizer without memory keeps no past kets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tp_compiler.diagnostics import Span, error
from tp_compiler.ir import nodes as ir
from tp_compiler.ir import operators as v
from tp_compiler.ir.build import Builder
from tp_compiler.ir.rules import Change, OnOperators, OperatorUpdate
from tp_compiler.ir.shape_factors import natural_factor
from tp_compiler.ir.types import Axis, Index, Type, Width
from tp_compiler.ir.walk import reachable
from tp_compiler.train.layers import KetFactor, Layers, TrainedLayer
from tp_compiler.transform.algebra import OperatorAlgebra
from tp_compiler.transform.gradient import Gradient, Label, Leaf
from tp_compiler.transform.low_rank import LowRankOperators, Side, WorkedOut

#: inputs or signals, of which outputs.
FactorKey = tuple[str, tuple[ir.Node, ...]]


@dataclass(frozen=True, eq=False)
class OuterStack:
    """Σ_r |left_r><right_r| with one index r; for a family of kets `right` is None and r runs through the family."""

    left: ir.Node
    right: ir.Node | None
    index: Index


@dataclass(frozen=True, eq=False)
class MatrixParameter:
    """A parameter as an optimizer on operators sees it: its gradient in factors; `own` are indices of a batch of them."""

    name: str
    gradient: OuterStack
    own: tuple[Index, ...]
    leaf: Leaf
    layers: Layers


@dataclass(frozen=True, eq=False)
class MatrixUpdate:
    """The update of an optimizer, in the bases of `low_rank`, and the next values of its states."""

    core: WorkedOut
    low_rank: LowRankOperators
    following: dict[ir.State, ir.Node]


def stacked(
    build: Builder, gradient: Gradient, matrix: ir.MatrixSymbol, scale: ir.Node | None, span: Span
) -> OuterStack | None:
    """The gradient by a matrix (family) as one stack: all its outer products side by side."""
    lefts, rights, groups = [], [], []
    for outer in gradient.outer(matrix):
        names: dict[Index, Label] = {i: build.fresh(i) for i in outer.over}
        factors = [] if scale is None else [scale]
        for label, own in zip(outer.member, matrix.indices, strict=True):
            if label in outer.free and isinstance(label, Index):
                names[label] = own
            else:
                factors.append(build.delta(label, own, span))
        lefts.append(build.map("mul", (build.rename(outer.left, names, span), *factors), span))
        rights.append(build.rename(outer.right, names, span))
        groups.append(tuple(n for i in outer.over if isinstance(n := names[i], Index)))
    if not lefts:
        return None
    size = sum(_size(g) for g in groups)
    index = build.fresh(Index("rank", Axis(f"rank {matrix.name}", size)))
    joined = [build.join_indices(tuple(kets), tuple(groups), index, span) for kets in (lefts, rights)]
    return OuterStack(joined[0], joined[1], index)


def family(build: Builder, gradient: ir.Node, span: Span) -> OuterStack:
    """The gradient by a ket family |u[d]> as one operator; a lone ket is a family of one."""
    own = gradient.type.indices
    if len(own) > 1:
        names = ", ".join(i.name for i in own)
        message = f"a family over {names} is not one operator; only families over one index are"
        raise error("NX286", message, span, "combine the indices into one, or use an entrywise optimizer")
    if own:
        return OuterStack(gradient, None, own[0])
    index = build.fresh(Index("one", Axis("one", 1)))
    return OuterStack(build.join_indices((gradient,), ((),), index, span), None, index)


def _size(indices: tuple[Index, ...]) -> int:
    total = 1
    for i in indices:
        total *= i.size
    return total


@dataclass
class _Host:
    """A parameter that a body runs for. `layer`: where the body requests K-FAC's factors, `factors`: which ones."""

    algebra: OperatorAlgebra
    parameter: MatrixParameter
    layer: TrainedLayer | None
    steps: int  # how many steps of gradients the basis holds: 1 for an optimizer without memory
    count: ir.Node
    span: Span
    own: bool  # an optimizer defined in the program: errors are shown inside its body
    factors: dict[FactorKey, KetFactor] = field(default_factory=dict)  # requested by the body in earlier runs
    wanted: dict[FactorKey, KetFactor] = field(default_factory=dict)
    sides: dict[str, tuple[Side, Side]] = field(default_factory=dict)
    parts: dict[str, frozenset[str]] = field(default_factory=dict)  # which parts of a WorkedOut a state has
    following: dict[ir.State, ir.Node] = field(default_factory=dict)
    numbers: dict[str, ir.State] = field(default_factory=dict)
    states: dict[tuple[str, str], ir.State] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.build = self.algebra.build
        self.low_rank = LowRankOperators(self.algebra, self.span)
        self.gradient = self._gradient()
        self.low_rank.collect(self.gradient)
        self.worked_out = {key: self._factor(key, found) for key, found in self.factors.items()}
        for op in self.worked_out.values():
            self.low_rank.collect(op)
        self.low_rank.close()
        whole = self.core(self.gradient, self.span)
        one = self.build.constant(1, self.span)
        self.low_rank.carried["p"] = WorkedOut(whole.rows, whole.cols, start=one)

    def core(self, op: v.Operator, at: Span) -> WorkedOut:
        """An operator in the bases; errors are shown at a place if the program defines the optimizer."""
        if self.own:
            self.low_rank.span = at
        return self.low_rank.core(op)

    # -- the gradient -------------------------------------------------------------------------------------------
    def _gradient(self) -> v.Operator:
        """g, in kets that are written into the memory first."""
        stack = self.parameter.gradient
        if self.steps == 1:
            self.now = None
            return self._operator(stack.left, stack.right, stack.index)
        self.now = self.build.fresh(Index("memory", Axis("memory", self.steps)))
        left = self._remembered("left", stack.left)
        right = None if stack.right is None else self._remembered("right", stack.right)
        here = self._here()
        return v.Summed(v.Scaled(here, self._operator(left, right, stack.index)), self.now)

    def _here(self) -> ir.Node:
        """1 at the place of this step in the memory."""
        assert self.now is not None
        present = self.build.add(self.count, self.build.constant(1, self.span), self.span)
        return self.build.equal(self.build.position(self.now, self.span), present, self.span)

    def _remembered(self, name: str, ket: ir.Node) -> ir.Node:
        assert self.now is not None
        kind = replace(ket.type, indices=(self.now, *ket.type.indices))
        state = ir.State(f"{self.parameter.name}.{name}", kind, self.build.constant(0, self.span), self.span)
        written = self.build.map("where", (self._here(), ket, self.build.carry(state, self.span)), self.span)
        self.following[state] = written
        return written

    def _operator(self, left: ir.Node, right: ir.Node | None, index: Index) -> v.Operator:
        if right is not None:
            return v.Summed(v.Outer(left, right), index)
        return v.Flipped(v.Columns(left, index)) if self.flipped else v.Columns(left, index)

    @property
    def flipped(self) -> bool:
        """For K-FAC a readout is the operator <v| from kets to arrays, as the network applies it."""
        return self.layer is not None and self.layer.readout

    # -- answers ------------------------------------------------------------------------------------------------
    def number(self, name: str, start: ir.Node, span: Span) -> ir.Node:
        state = ir.State(f"{self.parameter.name}.{name}", Type(self.parameter.own), start, span)
        self.numbers[name] = state
        return self.build.carry(state, span)

    def operator(self, name: str) -> v.Operator:
        sides = self.sides.get(name)
        widths = [x if isinstance(x, Width) else None for x in sides] if sides else [None, None]
        return v.Carried(name, widths[0], widths[1], self.parameter.own)

    def transposed(self, value: v.Operator, at: Span) -> v.Operator:
        return self.algebra.transpose(value, at)

    def settled(self, value: v.Operator, at: Span) -> v.Operator:
        return value if isinstance(value, v.Carried) else self._named(self.core(value, at))

    def eigenvectors(self, value: v.Operator, at: Span) -> v.Operator:
        return self._named(self.low_rank.eigenvectors(self.core(value, at)))

    def mapped(self, parts: Sequence[v.Operator | ir.Node], change: Change, at: Span) -> v.Operator:
        """An entrywise function of operators and numbers: of tables, which operators between arrays are."""
        return self._named(
            self.low_rank.mapped([self.core(a, at) if isinstance(a, v.Operator) else a for a in parts], change)
        )

    def trace(self, value: v.Operator, at: Span) -> ir.Node:
        return self.low_rank.trace(self.core(value, at))

    def norm(self, value: v.Operator, at: Span) -> ir.Node:
        """The root mean square of the natural entries."""
        low_rank, core = self.low_rank, self.core(value, at)
        square = low_rank.trace(low_rank.product(low_rank.transposed(core), core))
        if isinstance(core.cols, Width) and isinstance(core.rows, Width):
            ratio = core.cols.ratio / core.rows.ratio
        else:
            ratio = 1 / (core.cols.size if not isinstance(core.cols, Width) else 1)
        return self.build.map("sqrt", (self.build.mul(self.build.constant(ratio, at), square, at),), at)

    def _named(self, found: WorkedOut) -> v.Carried:
        """An operator in the bases, as a value."""
        name = f"#{len(self.low_rank.carried)}"
        self.low_rank.carried[name] = found
        widths = [x if isinstance(x, Width) else None for x in (found.rows, found.cols)]
        return v.Carried(name, widths[0], widths[1], self.parameter.own)

    def aspect(self, name: str, at: Span) -> ir.Node:
        parameter = self.parameter
        return self.build.constant(natural_factor(name, lambda: parameter.layers.extents(parameter.leaf)), at)

    # -- K-FAC's factors ----------------------------------------------------------------------------------------
    def examples(self, outputs: Sequence[ir.Node | None], at: Span) -> ir.Node:
        counted = self.parameter.layers.examples(self._outputs(outputs))
        return self.build.constant(math.prod(i.size for i in counted), at)

    def factor(self, name: str, outputs: Sequence[ir.Node | None], at: Span) -> v.Operator:
        """inputs(g; f) = Σ|x><x| and signals(g; f) = Σ|d><d|."""
        found, layers = self._outputs(outputs), self.parameter.layers
        counted = layers.examples(found)
        assert self.layer is not None
        if name == "signals" and not found:
            found = layers.fitted()
        key = name, tuple(found)
        if key not in self.worked_out:
            self.wanted[key] = self.layer.inputs(counted) if name == "inputs" else self.layer.signals(found)
            self.low_rank.carried["?"] = WorkedOut(self.low_rank.anything, self.low_rank.anything)
            return v.Carried("?", None, None)
        return self.worked_out[key]

    def _outputs(self, outputs: Sequence[ir.Node | None]) -> list[ir.Node]:
        """None stands for the fitted outputs."""
        return [n for o in outputs for n in (self.parameter.layers.fitted() if o is None else [o])]

    def _factor(self, key: FactorKey, found: KetFactor) -> v.Operator:
        """A factor as an operator; its kets are written into the memory first."""
        if found.cols is not None:
            return v.FiniteMatrix(found.node, found.rows, found.cols)
        ket, index = found.node, found.rows
        if self.now is None:
            return v.Summed(v.Outer(ket, ket), index)
        ket = self._remembered(f"{key[0]}{list(self.factors).index(key) + 1}", ket)
        return v.Summed(v.Scaled(self._here(), v.Summed(v.Outer(ket, ket), index)), self.now)

    # -- cores of states ----------------------------------------------------------------------------------------
    def carried(self) -> None:
        """The operators that training carries, as cores over states that are finite matrices."""
        for name, (rows, cols) in self.sides.items():
            if rows == self.low_rank.anything:
                continue  # it stays 0
            row, column = self.low_rank.indexed(rows)[0], self.low_rank.indexed(cols)[1]
            shapes = {"core": (row, column), "identity": (), "start": ()}
            found: dict[str, ir.Node] = {}
            for part in self.parts.get(name, frozenset({"core"})):
                kind = Type((*self.parameter.own, *shapes[part]))
                zero = self.build.constant(0, self.span)
                state = ir.State(f"{self.parameter.name}.{name}.{part}", kind, zero, self.span)
                self.states[name, part] = state
                found[part] = self.build.carry(state, self.span)
            self.low_rank.carried[name] = WorkedOut(
                rows, cols, found.get("identity"), found.get("core"), found.get("start")
            )


def updated(
    algebra: OperatorAlgebra, rule: OnOperators, parameter: MatrixParameter, steps: int, count: ir.Node, span: Span
) -> MatrixUpdate:
    """Runs the rule, with a memory only if a state matters to the update."""
    for length in dict.fromkeys((steps, 1)) if rule.operators else (1,):
        host, update, result = _settled(algebra, rule, parameter, length, count, span)
        if length == 1 or _matters(host, result):
            break
    following = dict(host.following)
    for name, found in _followed(host, update).items():
        if length > 1 and found.rows != host.low_rank.anything:
            for part in host.parts.get(name, frozenset({"core"})):
                node = getattr(found, part)
                following[host.states[name, part]] = algebra.build.constant(0, span) if node is None else node
    for name, state in host.numbers.items():
        value = update.following[name]
        assert isinstance(value, ir.Node)
        following[state] = value
    return MatrixUpdate(result, host.low_rank, following)


def _followed(host: _Host, update: OperatorUpdate) -> dict[str, WorkedOut]:
    """The next values of the states that are operators."""
    changed = {n: x for n, x in update.following.items() if isinstance(x, v.Operator)}
    return {
        name: host.core(value, update.at)
        for name, value in changed.items()
        if not (isinstance(value, v.Carried) and value.name == name)
    }


def _matters(host: _Host, result: WorkedOut) -> bool:
    """Does the update depend on an operator from the steps before?"""
    states = set(host.states.values())
    roots = [n for n in (result.core, result.identity, result.start) if n is not None]
    return any(isinstance(n, ir.Carry) and n.state in states for n in reachable(roots))


def _settled(
    algebra: OperatorAlgebra, rule: OnOperators, parameter: MatrixParameter, steps: int, count: ir.Node, span: Span
) -> tuple[_Host, OperatorUpdate, WorkedOut]:
    """The rule run until the sides and the parts of every state are known."""
    sides: dict[str, tuple[Side, Side]] = {}
    parts: dict[str, frozenset[str]] = {}
    factors: dict[FactorKey, KetFactor] = {}
    layer = parameter.layers.layer(parameter.leaf) if rule.factors else None
    for _ in range(4 * len(rule.operators) + 8):
        host = _Host(
            algebra, parameter, layer, steps, count, span, rule.own, dict(factors), sides=dict(sides), parts=dict(parts)
        )
        if steps > 1 or not rule.operators:
            host.carried()
        for name in rule.operators:  # a zero operator can be added to anything
            host.low_rank.carried.setdefault(name, WorkedOut(host.low_rank.anything, host.low_rank.anything))
        update = rule.body.run(host)
        factors |= host.wanted
        if host.wanted:
            continue
        result = _result(host, update)
        if steps == 1:
            return host, update, result
        found = _followed(host, update)
        new_sides = {n: (c.rows, c.cols) for n, c in found.items()}
        new_parts = {n: parts.get(n, frozenset()) | _present(c) for n, c in found.items()}
        if new_sides == sides and new_parts == parts:
            return host, update, result
        sides, parts = new_sides, new_parts
    message = f"the shapes of the states of `{rule.name}` cannot be determined"
    raise error("NX284", message, span, "write the updates of the states out")


def _present(core: WorkedOut) -> frozenset[str]:
    return frozenset(part for part in ("core", "identity", "start") if getattr(core, part) is not None)


def _result(host: _Host, update: OperatorUpdate) -> WorkedOut:
    """The update in the bases; it has the shape of the parameter."""
    result, own = host.core(update.value, update.at), host.low_rank.carried["p"]
    if result.rows == host.low_rank.anything:
        result = WorkedOut(own.rows, own.cols)  # no update
    if (result.rows, result.cols) != (own.rows, own.cols) or result.identity is not None:
        message = "the update does not have the shape of the parameter"
        raise error("NX167", message, update.span, "return, for example, `-lr * g`")
    return host.low_rank.flipped(result) if host.flipped else result
