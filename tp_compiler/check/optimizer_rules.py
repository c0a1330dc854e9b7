"""The bodies of optimizers: the meaning of their statements and words, and rules obtained from them once (ir/rules.py).

A body runs for a host. To read it once, the host is a recorder, which answers every question with a symbol. If words
inspect g, p or a state (their indices, averages of them), a symbol is not enough: the body is `typed`, and is
run for each parameter separately.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from tp_compiler.check import values as v
from tp_compiler.check.arguments import arguments
from tp_compiler.check.core import Context, Core, a_kind
from tp_compiler.check.names import Binding, Body, OptimizerName, Scope
from tp_compiler.diagnostics import ProgramError, Span, error, suggest
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.mentions import bound_names, calls_in, names_in
from tp_compiler.ir import nodes as ir
from tp_compiler.ir import rules
from tp_compiler.ir.build import Builder, is_zero
from tp_compiler.ir.operators import Carried, Operator, widths
from tp_compiler.ir.rules import UNCHANGED, Change, Changed, symbol
from tp_compiler.ir.types import Width

Read = Callable[[tuple[ast.Statement, ...], Scope], None]
Values = dict[str, ir.Node]

#: The functions of an optimizer on layers.
STATISTICS = ("rowmean", "colmean", "rownorm", "colnorm", "norm", "lengths", "balanced")
#: The functions of an optimizer on operators.
ON_OPERATORS = (
    "pow", "inv", "solve", "msign", "matfun", "norm", "trace", "eigenvectors", "hadamard", "inputs", "signals", "examples",
    "aspect",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Source:
    """An optimizer applied to its arguments. `read` reads statements; `span` is the span of the call; `sides` are the rows and
    columns of the parameters, as far as they agree."""

    core: Core
    read: Read
    optimizer: OptimizerName
    values: Values
    span: Span
    sides: tuple[Width | None, Width | None]

    def scope(self, body: Body, changed: Changed) -> Scope:
        """The names that the body sees, except g, p, t and `step`."""
        scope = self.optimizer.scope.snapshot()
        scope.body = scope.entries = True
        scope.optimizer = body
        for param in self.optimizer.statement.params:
            node = self.values.get(param.name.ident)
            value = v.Fitted() if node is None else v.Scalar(changed.get(node, node))
            scope.others[param.name.ident] = Binding(value)
        return scope

    def count(self, scope: Scope, count: ir.Node) -> None:
        """`t` counts updates from 1, `step` from 0."""
        build = self.core.build
        scope.others["t"] = Binding(v.Scalar(build.add(count, build.constant(1, self.span), self.span)))
        scope.others["step"] = Binding(v.Scalar(count))

    @property
    def statements(self) -> tuple[ast.Statement, ...]:
        return self.optimizer.statement.body[:-1]

    @property
    def returned(self) -> ast.Return:
        last = self.optimizer.statement.body[-1]
        assert isinstance(last, ast.Return)
        return last


def _number(core: Core, expr: ast.Expr, scope: Scope) -> ir.Node:
    found = core.value(expr, Context(scope))
    if isinstance(found, v.Broken):
        raise ProgramError([])
    if not isinstance(found, v.Scalar | v.Ket):
        raise error(
            "NX167",
            f"expected a number, found {a_kind(found)}",
            expr.span,
            "compute with the entries `g` and `p` and with states",
        )
    return found.node


# on entries ----------------------------------------------------------------------------------------------------
@dataclass
class EntryBody(Body):
    """A body that acts on entries, for one host."""

    source: _Source
    host: rules.EntryHost
    current: dict[str, ir.Node] = field(default_factory=dict)
    words: ClassVar[tuple[str, ...]] = ("stop", "grad")

    @property
    def core(self) -> Core:
        return self.source.core

    def gradient(self, call: ast.Call) -> v.Value | None:
        """grad(f, p): an entry of the gradient of another loss, which is an argument of the optimizer."""
        match call.args:
            case (ast.Arg(value=ast.Name(ident=name)), ast.Arg(value=ast.Name(ident="p"))) if (
                name in self.source.values
            ):
                library = call.span.source.name.startswith("library/")
                node = self.host.slope(self.source.values[name], self.source.span if library else call.span)
                return v.Ket(node) if node.type.slots else v.Scalar(node)
            case (_, ast.Arg(value=ast.Name(ident="p"))):
                remedy = (
                    "make the loss an argument of the optimizer, `optimizer N(lr, sampled) {..}`: `grad(sampled, p)`"
                )
                raise error("NX298", "only losses that the optimizer is given have gradients here", call.span, remedy)
        return None

    def declare(self, s: ast.State, scope: Scope) -> None:
        """`state m = 0`: has the parameter's shape, or is one number."""
        init = self.core.value(s.value, Context(scope))
        if isinstance(init, v.Broken):
            raise ProgramError([])
        self.core.unresolved.add(s.name)  # until its start is known
        if not isinstance(init, v.Scalar | v.Ket):
            raise error(
                "NX165", f"a state must start at a number, found {a_kind(init)}", s.value.span, "write `state m = 0`"
            )
        value = self.host.state(s.name, init.node, s.scalar, s.span, s.value.span)
        if s.name in self.current:
            raise error("NX110", f"`{s.name}` is declared twice", s.span, "choose another name")
        self.core.unresolved.discard(s.name)
        self.current[s.name] = value
        self.bind(s.name, value, scope)

    def assign(self, s: ast.Assign, scope: Scope) -> None:
        if s.name not in self.current and s.name in self.core.unresolved:
            raise ProgramError([])
        if s.name not in self.current:
            remedy = suggest(s.name, self.current) or f"declare it: `state {s.name} = 0`"
            raise error("NX166", f"`{s.name}` is not a state", s.span, remedy)
        self.current[s.name] = _number(self.core, s.value, scope)
        self.bind(s.name, self.current[s.name], scope)

    def bind(self, name: str, node: ir.Node, scope: Scope) -> None:
        scope.others[name] = Binding(v.Ket(node) if node.type.slots else v.Scalar(node))


@dataclass(frozen=True, eq=False)
class _Entries:
    """A body on entries, read again for every parameter."""

    source: _Source

    def run(self, host: rules.EntryHost, changed: Changed = UNCHANGED) -> rules.Update:
        with self.source.core.found.raising():
            return self.read(EntryBody(self.source, host), changed)

    def read(self, body: EntryBody, changed: Changed) -> rules.Update:
        source, host = self.source, body.host
        scope = source.scope(body, changed)
        body.bind("g", host.gradient, scope)
        body.bind("p", host.current, scope)
        source.count(scope, host.count)
        source.read(source.statements, scope)
        value = _number(source.core, source.returned.values[0], scope)
        return rules.Update(value, dict(body.current))


@dataclass
class _EntryRecorder:
    build: Builder
    gradient: ir.Node
    current: ir.Node
    count: ir.Node
    states: list[rules.EntryState] = field(default_factory=list)
    slopes: list[rules.EntrySlope] = field(default_factory=list)

    def slope(self, of: ir.Node, span: Span) -> ir.Node:
        self.slopes.append(rules.EntrySlope(symbol("slope", span), of, span))
        return self.slopes[-1].symbol

    def state(self, name: str, start: ir.Node, scalar: bool, span: Span, at: Span) -> ir.Node:
        self.states.append(rules.EntryState(name, symbol(name, span), start, scalar, span, at))
        return self.states[-1].symbol


def on_entries(source: _Source) -> rules.OnEntries:
    again = _Entries(source)
    gradient, current, count = (symbol(name, source.span) for name in ("g", "p", "count"))
    host = _EntryRecorder(source.core.build, gradient, current, count)
    body = EntryBody(source, host)
    update = source.core.found.attempt(lambda: again.read(body, UNCHANGED), lambda: not body.typed)
    if update is None:
        return again
    arguments = tuple(node for node in source.values.values() if not isinstance(node, ir.Constant))
    return rules.EntryRule(
        host.gradient, host.current, host.count, arguments, tuple(host.states), tuple(host.slopes), update
    )


# on layers -----------------------------------------------------------------------------------------------------
@dataclass
class LayerBody(Body):
    """A body on layers, for one host. `start` is the parameter before step 0, as `init` has made it so far."""

    source: _Source
    host: rules.LayerHost
    start: ir.Node
    starting: bool = False  # inside of `init`
    current: dict[str, ir.Node] = field(default_factory=dict)
    words: ClassVar[tuple[str, ...]] = ("stop", "aspect", *STATISTICS)

    @property
    def core(self) -> Core:
        return self.source.core

    def declare(self, s: ast.State, scope: Scope) -> None:
        """A state starts at a value computed from the initial parameter, and has the shape of what is assigned to it."""
        inner = scope.snapshot()
        inner.body, inner.entries, inner.optimizer = scope.body, scope.entries, self
        self.bind("p", self.start, inner)
        self.current[s.name] = self.host.state(s.name, self.number(s.value, inner), s.span)
        self.bind(s.name, self.current[s.name], scope)

    def assign(self, s: ast.Assign, scope: Scope) -> None:
        if self.starting and s.name == "p":
            self.start = self.number(s.value, scope)
            self.bind("p", self.start, scope)
            return
        if s.name not in self.current:
            remedy = suggest(s.name, self.current) or f"declare it: `state {s.name} = 0`"
            raise error("NX166", f"`{s.name}` is not a state", s.span, remedy)
        self.current[s.name] = self.number(s.value, scope)
        self.bind(s.name, self.current[s.name], scope)

    def number(self, expr: ast.Expr, scope: Scope) -> ir.Node:
        return _number(self.core, expr, scope)

    def called(self, optimizer: OptimizerName, call: ast.Call) -> v.Value:
        """The change that an optimizer on operators makes, as entries."""
        if optimizer.statement.on != "operators" or self.starting:
            return super().called(optimizer, call)
        inside = {"g", "p", "t", "step", *bound_names(self.source.optimizer.statement.body, False)}
        for name, _ in names_in(call.args, False):
            if name.ident in inside:
                message = f"an argument of `{call.fn.ident}` depends on `{name.ident}`"
                raise error("NX297", message, name.span, "pass numbers, or arguments of the optimizer")
        values = arguments(self.core, optimizer, call, self.source.scope(self, UNCHANGED))
        rule = on_operators(replace(self.source, optimizer=optimizer, values=values, span=call.span))
        found = self.host.change_by(rule, call.span)
        return v.Ket(found) if found.type.slots else v.Scalar(found)

    def statistic(self, name: str, node: ir.Node, span: Span) -> ir.Node:
        return self.host.statistic(name, node, span, self.starting)

    def bind(self, name: str, node: ir.Node, scope: Scope) -> None:
        scope.others[name] = Binding(v.Ket(node) if node.type.slots else v.Scalar(node))


@dataclass(frozen=True, eq=False)
class _Layers:
    """A body on layers, read again for every parameter."""

    source: _Source

    def run(self, host: rules.LayerHost) -> rules.LayerUpdate:
        with self.source.core.found.raising():
            return self.read(LayerBody(self.source, host, host.start))

    def read(self, body: LayerBody) -> rules.LayerUpdate:
        source, host = self.source, body.host
        scope = source.scope(body, UNCHANGED)
        body.bind("g", host.gradient, scope)
        source.count(scope, host.count)
        body.starting = True
        body.bind("p", host.start, scope)
        for s in source.statements:
            if isinstance(s, ast.Init):
                source.read(s.body, scope)
        body.starting = False
        body.bind("p", host.current, scope)
        source.read(tuple(s for s in source.statements if not isinstance(s, ast.Init)), scope)
        value = body.number(source.returned.values[0], scope)
        return rules.LayerUpdate(value, dict(body.current), body.start)


@dataclass
class _LayerRecorder:
    build: Builder
    gradient: ir.Node
    start: ir.Node
    current: ir.Node
    count: ir.Node
    steps: list[rules.LayerQuestion] = field(default_factory=list)

    def state(self, name: str, start: ir.Node, span: Span) -> ir.Node:
        step = rules.LayerState(name, symbol(name, span), start, span)
        self.steps.append(step)
        return step.symbol

    def statistic(self, name: str, node: ir.Node, span: Span, starting: bool) -> ir.Node:
        step = rules.Statistic(name, symbol(name, span), node, span, starting)
        self.steps.append(step)
        return step.symbol

    def aspect(self, name: str, at: Span) -> ir.Node:
        self.steps.append(rules.Aspect(found := symbol(name, at), name, at))
        return found

    def change_by(self, rule: rules.OnOperators, span: Span) -> ir.Node:
        self.steps.append(rules.ChangeBy(found := symbol(rule.name, span), rule, span))
        return found


def on_layers(source: _Source) -> rules.OnLayers:
    again = _Layers(source)
    gradient, start, current, count = (symbol(name, source.span) for name in ("g", "p0", "p", "count"))
    host = _LayerRecorder(source.core.build, gradient, start, current, count)
    body = LayerBody(source, host, host.start)
    update = source.core.found.attempt(lambda: again.read(body), lambda: not body.typed)
    if update is None:
        return again
    return rules.LayerRule(host.gradient, host.start, host.current, host.count, tuple(host.steps), update)


# on operators --------------------------------------------------------------------------------------------------
@dataclass
class HostedBody(Body):
    """A body on operators, for one host. `call` is the span of the optimizer's call; errors are shown `at` a place."""

    core: Core
    host: rules.OperatorHost
    call: Span
    at: Span
    own: bool
    numbers: set[str] = field(default_factory=set)
    current: dict[str, Operator | ir.Node] = field(default_factory=dict)
    words: ClassVar[tuple[str, ...]] = ("stop", *ON_OPERATORS)

    # -- statements ---------------------------------------------------------------------------------------------
    def declare(self, s: ast.State, scope: Scope) -> None:
        init = self.core.scalar(s.value, Context(scope), "a number")
        if init is None:
            raise ProgramError([])
        if s.scalar:
            self.numbers.add(s.name)
            self._bind(s.name, self.host.number(s.name, init, s.span), scope)
            return
        if not is_zero(init):
            self.core.unresolved.add(s.name)
            raise error("NX165", "an operator state must start at 0", s.value.span, "write `state L = 0`")
        self._bind(s.name, self.host.operator(s.name), scope)

    def assign(self, s: ast.Assign, scope: Scope) -> None:
        if s.name not in self.current:
            if s.name in self.core.unresolved:
                raise ProgramError([])
            known = [*self.numbers, *(name for name in self.current if name not in self.numbers)]
            remedy = suggest(s.name, known) or "declare it: `state L = 0`"
            raise error("NX166", f"`{s.name}` is not a state", s.span, remedy)
        value = self.settled(self.value(s.value, scope))
        if s.name in self.numbers and not isinstance(value, v.Scalar):
            message = f"`{s.name}` is a number, but {a_kind(value)} is assigned to it"
            raise error("NX167", message, s.value.span, f"declare it as an operator: `state {s.name} = 0`")
        if s.name not in self.numbers and not isinstance(value, Operator):
            message = f"`{s.name}` is an operator, but {a_kind(value)} is assigned to it"
            raise error("NX167", message, self.call, "assign an operator")
        assert isinstance(value, v.Scalar | Operator)
        self._bind(s.name, value.node if isinstance(value, v.Scalar) else value, scope)

    def _bind(self, name: str, value: Operator | ir.Node, scope: Scope) -> None:
        self.current[name] = value
        scope.others[name] = Binding(v.Scalar(value) if isinstance(value, ir.Node) else value)

    def value(self, expr: ast.Expr, scope: Scope) -> v.Value:
        if self.own:
            self.at = expr.span
        found = self.core.value(expr, Context(scope))
        if isinstance(found, v.Broken):
            raise ProgramError([])
        return found

    # -- words --------------------------------------------------------------------------------------------------
    def settled(self, value: v.Value) -> v.Value:
        """An operator bound by a statement is computed once, however often it is used."""
        return self.host.settled(value, self.at) if isinstance(value, Operator) else value

    def mapped(self, args: Sequence[Operator | v.Scalar], change: Change) -> Operator:
        """An entrywise function of operators and numbers: of tables, which operators between arrays are."""
        return self.host.mapped([a.node if isinstance(a, v.Scalar) else a for a in args], change, self.at)

    def factor(self, name: str, extra: Sequence[v.Value], span: Span) -> v.Value:
        """inputs(g; f) = Σ|x><x| and signals(g; f) = Σ|d><d|; examples(g; f) is the number of examples."""
        outputs = [self._output(value, span) for value in extra]
        if name == "examples":
            return v.Scalar(self.host.examples(outputs, span))
        return self.host.factor(name, outputs, self.at)

    def _output(self, value: v.Value, span: Span) -> ir.Node | None:
        if isinstance(value, v.Fitted):
            return None
        if not isinstance(value, v.Scalar):
            raise error(
                "NX293", f"outputs must be scalars, found {a_kind(value)}", span, "write `KFAC(..., outputs = f[i])`"
            )
        return value.node


@dataclass(frozen=True, eq=False)
class _Operators:
    """A body on operators, read again for every parameter."""

    source: _Source
    own: bool

    def run(self, host: rules.OperatorHost) -> rules.OperatorUpdate:
        with self.source.core.found.raising():
            return self.read(self.body(host))

    def body(self, host: rules.OperatorHost) -> HostedBody:
        return HostedBody(self.source.core, host, self.source.span, self.source.span, self.own)

    def read(self, body: HostedBody) -> rules.OperatorUpdate:
        source, host = self.source, body.host
        scope = source.scope(body, UNCHANGED)
        scope.others["g"] = Binding(host.gradient)
        scope.others["p"] = Binding(Carried("p", None, None))
        source.count(scope, host.count)
        source.read(source.statements, scope)
        last = source.returned
        value = body.value(last.values[0], scope)
        if not isinstance(value, Operator):
            raise error("NX167", f"the update is {a_kind(value)}, not an operator", last.span, "return an operator")
        return rules.OperatorUpdate(value, dict(body.current), last.span, body.at)


@dataclass
class _OperatorRecorder:
    build: Builder
    gradient: Operator
    count: ir.Node
    steps: list[rules.NumberState | rules.OperatorState | rules.HostAnswer | rules.Mapped | rules.Number] = field(
        default_factory=list
    )

    def number(self, name: str, start: ir.Node, span: Span) -> ir.Node:
        self.steps.append(rules.NumberState(name, found := symbol(name, span), start, span))
        return found

    def operator(self, name: str) -> Operator:
        self.steps.append(rules.OperatorState(name))
        return Carried(name, None, None)

    def transposed(self, value: Operator, at: Span) -> Operator:
        raise AssertionError("asked when a rule is run")

    def settled(self, value: Operator, at: Span) -> Operator:
        return value if isinstance(value, Carried) else self._named("settled", value, at, widths(value))

    def eigenvectors(self, value: Operator, at: Span) -> Operator:
        return self._named("eigenvectors", value, at, (None, None))

    def factor(self, name: str, outputs: Sequence[ir.Node | None], at: Span) -> Operator:
        return self._named(name, tuple(outputs), at, (None, None))

    def _named(
        self, question: str, value: Operator | tuple[ir.Node | None, ...], at: Span, sides: tuple[Width | None, Width | None]
    ) -> Operator:  # fmt: skip
        name = f"%{len(self.steps)}"
        self.steps.append(rules.HostAnswer(name, question, value, at))
        return Carried(name, *sides)

    def mapped(self, parts: Sequence[Operator | ir.Node], change: Change, at: Span) -> Operator:
        name = f"%{len(self.steps)}"
        symbols = [symbol(name, at) for _ in parts]
        self.steps.append(rules.Mapped(name, tuple(parts), tuple(symbols), change([*symbols]), at))
        return Carried(name, None, None)

    def trace(self, value: Operator, at: Span) -> ir.Node:
        return self._answer("trace", value, at)

    def norm(self, value: Operator, at: Span) -> ir.Node:
        return self._answer("norm", value, at)

    def examples(self, outputs: Sequence[ir.Node | None], at: Span) -> ir.Node:
        return self._answer("examples", tuple(outputs), at)

    def aspect(self, name: str, at: Span) -> ir.Node:
        return self._answer("aspect", name, at)

    def _answer(self, question: str, value: str | Operator | tuple[ir.Node | None, ...], at: Span) -> ir.Node:
        self.steps.append(rules.Number(found := symbol(question, at), question, value, at))
        return found


def on_operators(source: _Source) -> rules.OnOperators:
    statement = source.optimizer.statement
    own = not statement.span.source.name.startswith("library/")
    operators = tuple(s.name for s in statement.body if isinstance(s, ast.State) and not s.scalar)
    factors = any(call.fn.ident in ("inputs", "signals") for call in calls_in(statement.body))
    again = _Operators(source, own)
    host = _OperatorRecorder(source.core.build, Carried("g", *source.sides), symbol("count", source.span))
    body = again.body(host)
    update = source.core.found.attempt(lambda: again.read(body), lambda: not body.typed)
    rule = rules.OperatorRule(host.count, tuple(host.steps), update) if update is not None else again
    return rules.OnOperators(statement.name, own, source.span, operators, factors, rule)


def rule_of(
    core: Core,
    read: Read,
    optimizer: OptimizerName,
    values: Values,
    span: Span,
    sides: tuple[Width | None, Width | None],
) -> rules.OnEntries | rules.OnLayers | rules.OnOperators:
    """The effect of an `update` line on a parameter. `read` reads statements of a body in a scope."""
    source = _Source(core, read, optimizer, values, span, sides)
    match optimizer.statement.on:
        case "operators":
            return on_operators(source)
        case "layers":
            return on_layers(source)
    return on_entries(source)
