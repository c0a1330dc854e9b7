"""Optimizers `on operators`: each parameter is one operator, a family |u[d]> too (limit.md section 6).

The gradient is low-rank, g = Σ_b |left_b><right_b|, and every operator that the body forms lies in the span of the kets
of g at this step and before. So what training carries from step to step are those kets and, for each state, a finite
matrix in their basis; the update is again a sum of outer products. An optimizer without memory keeps no past kets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from tp_compiler.check import values as v
from tp_compiler.check.core import Context, Core, a_kind
from tp_compiler.check.definitions import calls_in
from tp_compiler.check.names import Binding, Body, OptimizerName, Scope
from tp_compiler.diagnostics import ProgramError, Span, error, suggest
from tp_compiler.frontend import syntax as ast
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder, is_zero
from tp_compiler.ir.types import Axis, Index, Type, Width
from tp_compiler.ir.walk import reachable
from tp_compiler.train.layers import Factor, Layer, Layers
from tp_compiler.transform.gradient import Gradient, Label, Leaf
from tp_compiler.transform.low_rank import LowRank, Side, WorkedOut

#: inputs or signals, of which outputs.
FactorKey = tuple[str, tuple[ir.Node, ...]]
Run = Callable[[tuple[ast.Statement, ...], Scope], None]


@dataclass(frozen=True, eq=False)
class Stack:
    """Σ_r |left_r><right_r| with one index r; for a family of kets `right` is None and r runs through the family."""

    left: ir.Node
    right: ir.Node | None
    index: Index


@dataclass(frozen=True, eq=False)
class MatrixParameter:
    """A parameter as an optimizer on operators sees it: its gradient in factors; `own` are indices of a batch of them."""

    name: str
    gradient: Stack
    own: tuple[Index, ...]
    leaf: Leaf
    layers: Layers


@dataclass(frozen=True, eq=False)
class MatrixUpdate:
    """What an optimizer adds: a core in the bases of `spectral`, and what follows its states."""

    core: WorkedOut
    spectral: LowRank
    following: dict[ir.State, ir.Node]


def stacked(
    build: Builder, gradient: Gradient, matrix: ir.MatrixSymbol, scale: ir.Node | None, span: Span
) -> Stack | None:
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
    return Stack(joined[0], joined[1], index)


def family(build: Builder, gradient: ir.Node, span: Span) -> Stack:
    """The gradient by a ket family |u[d]> as one operator; a lone ket is a family of one."""
    own = gradient.type.indices
    if len(own) > 1:
        names = ", ".join(i.name for i in own)
        message = f"a family over {names} is not one operator; only families over one index are"
        raise error("NX286", message, span, "combine the indices into one, or use an entrywise optimizer")
    if own:
        return Stack(gradient, None, own[0])
    index = build.fresh(Index("one", Axis("one", 1)))
    return Stack(build.join_indices((gradient,), ((),), index, span), None, index)


def _size(indices: tuple[Index, ...]) -> int:
    total = 1
    for i in indices:
        total *= i.size
    return total


@dataclass
class MatrixBody(Body):
    """One run of the body for one parameter. `layer`: where the body asks for K-FAC's factors."""

    core: Core
    parameter: MatrixParameter
    layer: Layer | None
    steps: int  # how many steps of gradients the basis holds: 1 for an optimizer without memory
    clock: ir.Node
    span: Span
    own: bool  # the program's own optimizer, in which mistakes are shown where they are
    factors: dict[FactorKey, Factor] = field(default_factory=dict)  # what the body asked for in the runs before
    numbers: dict[str, ir.State] = field(default_factory=dict)
    operators: dict[str, ast.State] = field(default_factory=dict)
    wanted: dict[FactorKey, Factor] = field(default_factory=dict)
    sides: dict[str, tuple[Side, Side]] = field(default_factory=dict)
    parts: dict[str, frozenset[str]] = field(default_factory=dict)  # which parts of a WorkedOut a state has
    current: dict[str, v.Value] = field(default_factory=dict)
    following: dict[ir.State, ir.Node] = field(default_factory=dict)
    states: dict[tuple[str, str], ir.State] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.build = self.core.build
        self.spectral = LowRank(self.core.algebra, self.span)
        self.gradient = self._gradient()
        self.spectral.collect(self.gradient)
        self.worked_out = {key: self._factor(key, found) for key, found in self.factors.items()}
        for op in self.worked_out.values():
            self.spectral.collect(op)
        self.spectral.close()

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
        present = self.build.add(self.clock, self.build.constant(1, self.span), self.span)
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

    # -- K-FAC's factors ----------------------------------------------------------------------------------------
    def factor(self, name: str, extra: list[v.Value], span: Span) -> v.Value:
        """inputs(g; f) = Σ|x><x| and signals(g; f) = Σ|d><d|; examples(g; f) is the number of examples."""
        outputs = [node for value in extra for node in self._outputs(value, span)]
        layers = self.parameter.layers
        counted = layers.examples(outputs)
        if name == "examples":
            return v.Scalar(self.build.constant(math.prod(i.size for i in counted), span))
        assert self.layer is not None
        if name == "signals" and not outputs:
            outputs = layers.fitted()
        key = name, tuple(outputs)
        if key not in self.worked_out:
            self.wanted[key] = self.layer.inputs(counted) if name == "inputs" else self.layer.signals(outputs)
            self.spectral.carried["?"] = WorkedOut(self.spectral.anything, self.spectral.anything)
            return v.Carried("?", None, None)
        return self.worked_out[key]

    def _outputs(self, value: v.Value, span: Span) -> list[ir.Node]:
        if isinstance(value, v.Fitted):
            return self.parameter.layers.fitted()
        if not isinstance(value, v.Scalar):
            raise error(
                "NX293", f"outputs must be scalars, found {a_kind(value)}", span, "write `KFAC(..., outputs = f[i])`"
            )
        return [value.node]

    def _factor(self, key: FactorKey, found: Factor) -> v.Operator:
        """A factor as an operator; its kets are written into the memory first."""
        if found.cols is not None:
            return v.Table(found.node, found.rows, found.cols)
        ket, index = found.node, found.rows
        if self.now is None:
            return v.Summed(v.Outer(ket, ket), index)
        ket = self._remembered(f"{key[0]}{list(self.factors).index(key) + 1}", ket)
        return v.Summed(v.Scaled(self._here(), v.Summed(v.Outer(ket, ket), index)), self.now)

    # -- statements ---------------------------------------------------------------------------------------------
    def declare(self, s: ast.State, scope: Scope) -> None:
        init = self.core.scalar(s.value, Context(scope), "a number")
        if init is None:
            raise ProgramError([])
        if s.scalar:
            state = ir.State(f"{self.parameter.name}.{s.name}", Type(self.parameter.own), init, s.span)
            self.numbers[s.name] = state
            self.bind(s.name, v.Scalar(self.build.carry(state, s.span)), scope)
            return
        if not is_zero(init):
            self.core.unresolved.add(s.name)
            raise error("NX165", "an operator state must start at 0", s.value.span, "write `state L = 0`")
        self.operators[s.name] = s
        sides = self.sides.get(s.name)
        widths = [x if isinstance(x, Width) else None for x in sides] if sides else [None, None]
        self.bind(s.name, v.Carried(s.name, widths[0], widths[1], self.parameter.own), scope)

    def assign(self, s: ast.Assign, scope: Scope) -> None:
        if s.name not in self.numbers and s.name not in self.operators:
            if s.name in self.core.unresolved:
                raise ProgramError([])
            known = [*self.numbers, *self.operators]
            raise error(
                "NX166", f"`{s.name}` is not a state", s.span, suggest(s.name, known) or "declare it: `state L = 0`"
            )
        value = self.settled(self.value(s.value, scope))
        if s.name in self.numbers and not isinstance(value, v.Scalar):
            raise error(
                "NX167",
                f"`{s.name}` is a number, but {a_kind(value)} is assigned to it",
                s.value.span,
                f"declare it as an operator: `state {s.name} = 0`",
            )
        self.bind(s.name, value, scope)

    def value(self, expr: ast.Expr, scope: Scope) -> v.Value:
        if self.own:
            self.spectral.span = expr.span
        found = self.core.value(expr, Context(scope))
        if isinstance(found, v.Broken):
            raise ProgramError([])
        return found

    def bind(self, name: str, value: v.Value, scope: Scope) -> None:
        scope.others[name] = Binding(value)
        if name in self.numbers or name in self.operators:
            self.current[name] = value

    def settled(self, value: v.Value) -> v.Value:
        """An operator that a statement binds is worked out once, however often it is used."""
        if not isinstance(value, v.Operator) or isinstance(value, v.Carried):
            return value
        return self.named(self.spectral.core(value))

    def named(self, found: WorkedOut) -> v.Carried:
        """An operator that is worked out, as a value."""
        name = f"#{len(self.spectral.carried)}"
        self.spectral.carried[name] = found
        widths = [x if isinstance(x, Width) else None for x in (found.rows, found.cols)]
        return v.Carried(name, widths[0], widths[1], self.parameter.own)

    def mapped(self, args: Sequence[v.Operator | v.Scalar], change: Callable[[list[ir.Node]], ir.Node]) -> v.Carried:
        """An entrywise function of operators and numbers: of tables, which operators between arrays are."""
        parts = [self.spectral.core(a) if isinstance(a, v.Operator) else a.node for a in args]
        return self.named(self.spectral.mapped(parts, change))

    # -- cores of states ----------------------------------------------------------------------------------------
    def carried(self) -> None:
        """The operators that training carries, as cores over states that are finite matrices."""
        for name, (rows, cols) in self.sides.items():
            if rows == self.spectral.anything:
                continue  # it stays 0
            row, column = self.spectral.indexed(rows)[0], self.spectral.indexed(cols)[1]
            shapes = {"core": (row, column), "identity": (), "start": ()}
            found: dict[str, ir.Node] = {}
            for part in self.parts.get(name, frozenset({"core"})):
                kind = Type((*self.parameter.own, *shapes[part]))
                zero = self.build.constant(0, self.span)
                state = ir.State(f"{self.parameter.name}.{name}.{part}", kind, zero, self.span)
                self.states[name, part] = state
                found[part] = self.build.carry(state, self.span)
            self.spectral.carried[name] = WorkedOut(
                rows, cols, found.get("identity"), found.get("core"), found.get("start")
            )

    def followed(self) -> dict[str, WorkedOut]:
        """The cores that follow the operator states."""
        cores = {}
        for name in self.operators:
            value = self.current[name]
            if isinstance(value, v.Carried) and value.name == name:
                continue
            if not isinstance(value, v.Operator):
                raise error(
                    "NX167",
                    f"`{name}` is an operator, but {a_kind(value)} is assigned to it",
                    self.span,
                    "assign an operator",
                )
            cores[name] = self.spectral.core(value)
        return cores


def updated(
    core: Core, run: Run, optimizer: OptimizerName, values: dict[str, ir.Node], parameter: MatrixParameter,
    steps: int, clock: ir.Node, span: Span,
) -> MatrixUpdate:  # fmt: skip
    """Runs the body: with a memory only where a state matters to the update."""
    for length in dict.fromkeys((steps, 1)) if _has_states(optimizer) else (1,):
        body, result = _settled(core, run, optimizer, values, parameter, length, clock, span)
        if length == 1 or _matters(body, result):
            break
    assert body is not None
    following = dict(body.following)
    for name, found in body.followed().items():
        if length > 1 and found.rows != body.spectral.anything:
            for part in body.parts.get(name, frozenset({"core"})):
                node = getattr(found, part)
                following[body.states[name, part]] = core.build.constant(0, span) if node is None else node
    for name, state in body.numbers.items():
        value = body.current[name]
        assert isinstance(value, v.Scalar)
        following[state] = value.node
    return MatrixUpdate(result, body.spectral, following)


def _has_states(optimizer: OptimizerName) -> bool:
    return any(isinstance(s, ast.State) and not s.scalar for s in optimizer.statement.body)


def _matters(body: MatrixBody, result: WorkedOut) -> bool:
    """Does the update depend on an operator from the steps before?"""
    states = set(body.states.values())
    roots = [n for n in (result.core, result.identity, result.start) if n is not None]
    return any(isinstance(n, ir.Carry) and n.state in states for n in reachable(roots))


def _settled(
    core: Core, run: Run, optimizer: OptimizerName, values: dict[str, ir.Node], parameter: MatrixParameter,
    steps: int, clock: ir.Node, span: Span,
) -> tuple[MatrixBody, WorkedOut]:  # fmt: skip
    """The body run until the sides and the parts of every state are known."""
    sides: dict[str, tuple[Side, Side]] = {}
    parts: dict[str, frozenset[str]] = {}
    factors: dict[FactorKey, Factor] = {}
    layer = None
    if any(call.fn.ident in ("inputs", "signals") for call in calls_in(optimizer.statement.body)):
        layer = parameter.layers.layer(parameter.leaf)
    own = not optimizer.statement.span.source.name.startswith("library/")
    unknown = [s.name for s in optimizer.statement.body if isinstance(s, ast.State) and not s.scalar]
    for _ in range(4 * len(unknown) + 8):
        body = MatrixBody(
            core, parameter, layer, steps, clock, span, own, dict(factors), sides=dict(sides), parts=dict(parts)
        )
        if steps > 1 or not unknown:
            body.carried()
        body.spectral.carried |= {n: WorkedOut(*_guess(body)) for n in unknown if n not in body.spectral.carried}
        result = _once(body, run, optimizer, values)
        factors |= body.wanted
        if body.wanted:
            continue
        if steps == 1:
            return body, result
        found = body.followed()
        new_sides = {n: (c.rows, c.cols) for n, c in found.items()}
        new_parts = {n: parts.get(n, frozenset()) | _present(c) for n, c in found.items()}
        if new_sides == sides and new_parts == parts:
            return body, result
        sides, parts = new_sides, new_parts
    raise error(
        "NX284",
        f"the shapes of the states of `{optimizer.statement.name}` cannot be determined",
        span,
        "write the updates of the states out",
    )


def _guess(body: MatrixBody) -> tuple[Side, Side]:
    """The sides of a state that nothing was assigned to yet: a zero operator adds to anything."""
    return body.spectral.anything, body.spectral.anything


def _present(core: WorkedOut) -> frozenset[str]:
    return frozenset(part for part in ("core", "identity", "start") if getattr(core, part) is not None)


def _once(body: MatrixBody, run: Run, optimizer: OptimizerName, values: dict[str, ir.Node]) -> WorkedOut:
    build = body.build
    statement = optimizer.statement
    scope = optimizer.scope.snapshot()
    scope.body = scope.entries = True
    for param in statement.params:
        node = values.get(param.name.ident)
        scope.others[param.name.ident] = Binding(v.Fitted() if node is None else v.Scalar(node))
    scope.others["g"] = Binding(body.gradient)
    scope.others["p"] = Binding(v.Carried("p", None, None, body.parameter.own))
    present = build.add(body.clock, build.constant(1, body.span), body.span)
    scope.others["t"] = Binding(v.Scalar(present))
    scope.others["step"] = Binding(v.Scalar(body.clock))
    gradient = body.spectral.core(body.gradient)
    one = build.constant(1, body.span)
    body.spectral.carried["p"] = WorkedOut(gradient.rows, gradient.cols, start=one)
    scope.optimizer = body
    *before, last = statement.body
    run(tuple(before), scope)
    assert isinstance(last, ast.Return)
    value = body.value(last.values[0], scope)
    if body.wanted:
        return WorkedOut(body.spectral.anything, body.spectral.anything)
    if not isinstance(value, v.Operator):
        raise error("NX167", f"the update is {a_kind(value)}, not an operator", last.span, "return an operator")
    result = body.spectral.core(value)
    if result.rows == body.spectral.anything:
        result = WorkedOut(gradient.rows, gradient.cols)  # nothing moves
    if (result.rows, result.cols) != (gradient.rows, gradient.cols) or result.identity is not None:
        raise error(
            "NX167", "the update does not have the shape of the parameter", last.span, "return, for example, `-lr * g`"
        )
    return body.spectral.flipped(result) if body.flipped else result
