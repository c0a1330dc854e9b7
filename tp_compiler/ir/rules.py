"""The body of an optimizer, read once: instructions over symbols, which are then replaced for each parameter.

A *host* is one parameter that a body runs for (train/on_entries.py, on_layers.py, on_operators.py). The body asks it for
everything that depends on the parameter: values of states, means of rows and columns, operators in a basis. A rule
that is read once has these questions in order, with symbols for the answers; `run` asks a host. If a body
inspects what it is given (it names an index of g, or averages it), its result depends on the parameter: it is read
again for each (check/optimizer_rules.py), through the same interface.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

from tp_compiler.diagnostics import Span
from tp_compiler.ir import nodes as ir
from tp_compiler.ir import operators as op
from tp_compiler.ir.build import Builder
from tp_compiler.ir.types import Type
from tp_compiler.ir.walk import reachable

#: Arguments of an optimizer -> what takes their place.
Changed: TypeAlias = Mapping[ir.Node, ir.Node]
UNCHANGED: Changed = {}


def symbol(name: str, span: Span, kind: Type | None = None) -> ir.Node:
    """A leaf for a value that is not known yet."""
    return ir.Array(type=kind or Type(), name=name, values=0.0, span=span)


class Replay:
    """Instructions over symbols with values substituted for them; everything else is unchanged."""

    def __init__(self, build: Builder, place: dict[ir.Node, ir.Node], moving: frozenset[ir.Node]):
        self.build, self.place, self.moving = build, place, moving
        self._done: dict[ir.Node, ir.Node] = {}

    def __call__(self, root: ir.Node) -> ir.Node:
        done, todo = self._done, [root]
        while todo:
            node = todo[-1]
            if node in done:
                todo.pop()
            elif node in self.place:
                done[node] = self.place[node]
            elif node not in self.moving:
                done[node] = node
            else:
                missing = [a for a in node.args if a not in done]
                if missing:
                    todo.extend(missing)
                else:
                    args = tuple(done[a] for a in node.args)
                    done[node] = node if args == node.args else self.build.again(node, args, node.span)
        return done[root]


def moving(roots: Sequence[ir.Node], symbols: Sequence[ir.Node]) -> frozenset[ir.Node]:
    """The nodes that depend on symbols."""
    found = set(symbols)
    for node in reachable(roots):
        if any(a in found for a in node.args):
            found.add(node)
    return frozenset(found)


# on entries ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Update:
    """The result of a body, and the next value of each of its states."""

    value: ir.Node
    following: Mapping[str, ir.Node]


class EntryHost(Protocol):
    """A parameter as a body on entries sees it: its gradient, its value, and how many updates were made."""

    @property
    def build(self) -> Builder: ...

    @property
    def gradient(self) -> ir.Node: ...

    @property
    def current(self) -> ir.Node: ...

    @property
    def count(self) -> ir.Node: ...

    def state(self, name: str, start: ir.Node, scalar: bool, span: Span, at: Span) -> ir.Node:
        """The value of a state that starts at `start`, written at `at`."""

    def slope(self, of: ir.Node, span: Span) -> ir.Node:
        """The gradient of another loss."""


class OnEntries(Protocol):
    """The body of an optimizer that acts on entries."""

    def run(self, host: EntryHost, changed: Changed = UNCHANGED) -> Update: ...


@dataclass(frozen=True, eq=False)
class EntryState:
    """`start` depends on symbols; it is the parameter's value if the state starts there."""

    name: str
    symbol: ir.Node
    start: ir.Node
    scalar: bool
    span: Span
    at: Span


@dataclass(frozen=True, eq=False)
class EntrySlope:
    """`symbol` stands for the gradient of another loss, `of`."""

    symbol: ir.Node
    of: ir.Node
    span: Span


@dataclass(frozen=True, eq=False)
class EntryRule:
    """A body on entries, read once."""

    gradient: ir.Node
    parameter: ir.Node
    count: ir.Node
    arguments: tuple[ir.Node, ...]
    states: tuple[EntryState, ...]
    slopes: tuple[EntrySlope, ...]
    update: Update
    moving: frozenset[ir.Node] = field(init=False)

    def __post_init__(self) -> None:
        asked = (*(s.symbol for s in self.states), *(s.symbol for s in self.slopes))
        symbols = (self.gradient, self.parameter, self.count, *self.arguments, *asked)
        roots = (self.update.value, *self.update.following.values(), *(s.start for s in self.states))
        object.__setattr__(self, "moving", moving(roots, symbols))

    def run(self, host: EntryHost, changed: Changed = UNCHANGED) -> Update:
        place = {self.gradient: host.gradient, self.parameter: host.current, self.count: host.count}
        put = Replay(host.build, place | {a: changed.get(a, a) for a in self.arguments}, self.moving)
        for loss in self.slopes:
            put.place[loss.symbol] = host.slope(loss.of, loss.span)
        for s in self.states:
            put.place[s.symbol] = host.state(s.name, put(s.start), s.scalar, s.span, s.at)
        return Update(put(self.update.value), {name: put(node) for name, node in self.update.following.items()})


# on layers -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class LayerUpdate(Update):
    """`start`: the parameter after `init`."""

    start: ir.Node


class LayerHost(Protocol):
    """A parameter as a body on layers sees it; `start` is its value before step 0."""

    @property
    def build(self) -> Builder: ...

    @property
    def gradient(self) -> ir.Node: ...

    @property
    def start(self) -> ir.Node: ...

    @property
    def current(self) -> ir.Node: ...

    @property
    def count(self) -> ir.Node: ...

    def state(self, name: str, start: ir.Node, span: Span) -> ir.Node:
        """The value of a state that starts at `start`."""

    def statistic(self, name: str, node: ir.Node, span: Span, starting: bool) -> ir.Node:
        """A mean or norm of rows or columns; `starting`: inside `init`."""

    def aspect(self, name: str, at: Span) -> ir.Node:
        """A factor of the rows and columns (ir/shape_factors.py)."""

    def change_by(self, rule: OnOperators, span: Span) -> ir.Node:
        """The entries of the change that an optimizer on operators makes."""


class OnLayers(Protocol):
    """The body of an optimizer on layers."""

    def run(self, host: LayerHost) -> LayerUpdate: ...


@dataclass(frozen=True, eq=False)
class LayerState:
    name: str
    symbol: ir.Node
    start: ir.Node
    span: Span


@dataclass(frozen=True, eq=False)
class Statistic:
    name: str
    symbol: ir.Node
    of: ir.Node
    span: Span
    starting: bool


@dataclass(frozen=True, eq=False)
class ChangeBy:
    """`symbol` stands for the entries of the change that another optimizer makes. Its rule reads no symbols of this body."""

    symbol: ir.Node
    rule: OnOperators
    span: Span


@dataclass(frozen=True, eq=False)
class Aspect:
    """`symbol` is the factor `name` of the rows and columns."""

    symbol: ir.Node
    name: str
    at: Span


LayerQuestion: TypeAlias = LayerState | Statistic | Aspect | ChangeBy


@dataclass(frozen=True, eq=False)
class LayerRule:
    """A body on layers, read once; `steps` in order."""

    gradient: ir.Node
    start: ir.Node
    parameter: ir.Node
    count: ir.Node
    steps: tuple[LayerQuestion, ...]
    update: LayerUpdate

    def run(self, host: LayerHost) -> LayerUpdate:
        place = {
            self.gradient: host.gradient, self.start: host.start, self.parameter: host.current, self.count: host.count
        }  # fmt: skip
        put = Replay(host.build, place, self._moving())
        for step in self.steps:
            match step:
                case LayerState():
                    put.place[step.symbol] = host.state(step.name, put(step.start), step.span)
                case Statistic():
                    put.place[step.symbol] = host.statistic(step.name, put(step.of), step.span, step.starting)
                case Aspect():
                    put.place[step.symbol] = host.aspect(step.name, step.at)
                case ChangeBy():
                    put.place[step.symbol] = host.change_by(step.rule, step.span)
        following = {name: put(node) for name, node in self.update.following.items()}
        return LayerUpdate(put(self.update.value), following, put(self.update.start))

    def _moving(self) -> frozenset[ir.Node]:
        symbols = (self.gradient, self.start, self.parameter, self.count, *(s.symbol for s in self.steps))
        parts = [s.start for s in self.steps if isinstance(s, LayerState)]
        parts += [s.of for s in self.steps if isinstance(s, Statistic)]
        roots = (self.update.value, self.update.start, *self.update.following.values(), *parts)
        return moving(roots, symbols)


# on operators --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class OperatorUpdate:
    """The result of a body, and the next values of its states: operators, or numbers."""

    value: op.Operator
    following: Mapping[str, op.Operator | ir.Node]
    span: Span  # of the returned value
    at: Span  # where mistakes are shown


class OperatorHost(Protocol):
    """A parameter as a body on operators sees it. Its answers are operators in a basis, and numbers."""

    @property
    def build(self) -> Builder: ...

    @property
    def gradient(self) -> op.Operator: ...

    @property
    def count(self) -> ir.Node: ...

    def number(self, name: str, start: ir.Node, span: Span) -> ir.Node:
        """The value of a state that is a number."""

    def operator(self, name: str) -> op.Operator:
        """The value of a state that is an operator."""

    def transposed(self, value: op.Operator, at: Span) -> op.Operator: ...

    def settled(self, value: op.Operator, at: Span) -> op.Operator:
        """An operator bound by a statement, computed once."""

    def eigenvectors(self, value: op.Operator, at: Span) -> op.Operator: ...

    def mapped(self, parts: Sequence[op.Operator | ir.Node], change: Change, at: Span) -> op.Operator:
        """An entrywise function of operators and numbers."""

    def factor(self, name: str, outputs: Sequence[ir.Node | None], at: Span) -> op.Operator:
        """`inputs` or `signals`; None stands for the fitted outputs."""

    def trace(self, value: op.Operator, at: Span) -> ir.Node: ...

    def norm(self, value: op.Operator, at: Span) -> ir.Node: ...

    def examples(self, outputs: Sequence[ir.Node | None], at: Span) -> ir.Node: ...

    def aspect(self, name: str, at: Span) -> ir.Node:
        """A factor of the rows and columns (ir/shape_factors.py)."""


#: A function of several numbers.
Change: TypeAlias = Callable[[list[ir.Node]], ir.Node]


class OperatorBody(Protocol):
    def run(self, host: OperatorHost) -> OperatorUpdate: ...


@dataclass(frozen=True, eq=False)
class OnOperators:
    """An optimizer on operators. `own`: one of the program, in which mistakes are shown where they are; `operators`: its
    states that are operators; `factors`: whether it asks for those of K-FAC."""

    name: str
    own: bool
    span: Span
    operators: tuple[str, ...]
    factors: bool
    body: OperatorBody


@dataclass(frozen=True, eq=False)
class NumberState:
    name: str
    symbol: ir.Node
    start: ir.Node
    span: Span


@dataclass(frozen=True, eq=False)
class OperatorState:
    name: str


@dataclass(frozen=True, eq=False)
class HostAnswer:
    """`name` is the answer of the host to `settled`, `eigenvectors`, `inputs` or `signals`."""

    name: str
    question: str
    value: op.Operator | tuple[ir.Node | None, ...]
    at: Span


@dataclass(frozen=True, eq=False)
class Mapped:
    """An entrywise function: `body` over a symbol for each part."""

    name: str
    parts: tuple[op.Operator | ir.Node, ...]
    symbols: tuple[ir.Node, ...]
    body: ir.Node
    at: Span


@dataclass(frozen=True, eq=False)
class Number:
    """`symbol` is a number given by the host: `trace`, `norm`, `examples` or `aspect`."""

    symbol: ir.Node
    question: str
    value: str | op.Operator | tuple[ir.Node | None, ...]
    at: Span


@dataclass(frozen=True, eq=False)
class OperatorRule:
    """A body on operators, read once: `Carried` operators with the names in `steps` are answers of the host, the one with
    the name `g` is the gradient."""

    count: ir.Node
    steps: tuple[NumberState | OperatorState | HostAnswer | Mapped | Number, ...]
    update: OperatorUpdate

    def run(self, host: OperatorHost) -> OperatorUpdate:
        found = _Operators(host, {"g": host.gradient}, Replay(host.build, {self.count: host.count}, self._moving()))
        for step in self.steps:
            found.take(step)
        following = {name: found.placed(value, self.update.at) for name, value in self.update.following.items()}
        return replace(self.update, value=found.operator(self.update.value, self.update.at), following=following)

    def _moving(self) -> frozenset[ir.Node]:
        symbols: list[ir.Node] = [self.count]
        values: list[object] = [self.update.value, *self.update.following.values()]
        for step in self.steps:
            match step:
                case NumberState(symbol=own, start=start):
                    symbols.append(own)
                    values.append(start)
                case Number(symbol=own, value=value):
                    symbols.append(own)
                    values.append(value)
                case HostAnswer(value=value):
                    values.append(value)
                case Mapped(parts=parts, symbols=own_symbols, body=body):
                    symbols += own_symbols
                    values += [*parts, body]
        return moving([n for value in values for n in _nodes(value)], symbols)


def _nodes(value: object) -> list[ir.Node]:
    if isinstance(value, ir.Node):
        return [value]
    if isinstance(value, op.Operator):
        return op.nodes(value)
    return [n for part in value for n in _nodes(part)] if isinstance(value, tuple) else []


@dataclass
class _Operators:
    """The values of symbols of operators and numbers."""

    host: OperatorHost
    place: dict[str, op.Operator]
    put: Replay

    def take(self, step: NumberState | OperatorState | HostAnswer | Mapped | Number) -> None:
        host = self.host
        match step:
            case NumberState(name=name, symbol=own, start=start, span=span):
                self.put.place[own] = host.number(name, self.put(start), span)
            case OperatorState(name=name):
                self.place[name] = host.operator(name)
            case HostAnswer(name=name, question=question, value=tuple() as outputs, at=at):
                self.place[name] = host.factor(question, self._outputs(outputs), at)
            case HostAnswer(name=name, question=question, value=op.Operator() as value, at=at):
                answer = host.settled if question == "settled" else host.eigenvectors
                self.place[name] = answer(self.operator(value, at), at)
            case Mapped(name=name, parts=parts, at=at):
                self.place[name] = host.mapped([self.placed(p, at) for p in parts], self._change(step), at)
            case Number(symbol=own, value=str() as name, at=at):
                self.put.place[own] = host.aspect(name, at)
            case Number(symbol=own, value=tuple() as outputs, at=at):
                self.put.place[own] = host.examples(self._outputs(outputs), at)
            case Number(symbol=own, question=question, value=op.Operator() as value, at=at):
                number = host.trace if question == "trace" else host.norm
                self.put.place[own] = number(self.operator(value, at), at)

    def _outputs(self, outputs: tuple[ir.Node | None, ...]) -> list[ir.Node | None]:
        return [None if node is None else self.put(node) for node in outputs]

    def _change(self, step: Mapped) -> Change:
        def change(nodes: list[ir.Node]) -> ir.Node:
            place = self.put.place | dict(zip(step.symbols, nodes, strict=True))
            return Replay(self.host.build, place, self.put.moving)(step.body)

        return change

    def placed(self, value: op.Operator | ir.Node, at: Span) -> op.Operator | ir.Node:
        return self.put(value) if isinstance(value, ir.Node) else self.operator(value, at)

    def operator(self, value: op.Operator, at: Span) -> op.Operator:
        def leaf(x: op.Operator) -> op.Operator | None:
            match x:
                case op.Carried(name=name):
                    return self.place.get(name, x)
                case op.Flipped(operator=op.Carried(name=name)) if name in self.place:
                    return self.host.transposed(self.place[name], at)
            return None

        return op.replaced(value, leaf, self.put)
