"""Optimizers: what the body of an `optimizer` means for one parameter.

An entrywise optimizer acts on natural entries: `g`, `p` and the states stand for one entry of a ket, a scalar, or a
matrix. An entry of a matrix is a value over two neurons, slot 0 (row α) and a slot of its own (column β); that of the
gradient is Σ dh_α x_β. So the update of a matrix is a nonlinear outer product (Tensor Programs IVb, Def 2.2.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tp_compiler.check import values as v
from tp_compiler.check.core import Context, Core, a_kind
from tp_compiler.check.definitions import calls_in
from tp_compiler.check.names import Binding, Body, OptimizerName, Scope
from tp_compiler.diagnostics import ProgramError, Span, error, suggest
from tp_compiler.frontend import syntax as ast
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder, is_zero
from tp_compiler.ir.types import Type
from tp_compiler.ir.walk import reachable

Run = Callable[[tuple[ast.Statement, ...], Scope], None]


@dataclass(frozen=True, eq=False)
class Parameter:
    """A trained parameter as an optimizer sees it. `entry` is one entry of the initial matrix, None for the others."""

    name: str
    type: Type
    current: ir.Node
    gradient: ir.Node
    entry: ir.Node | None = None


@dataclass
class EntryBody(Body):
    """One run of an optimizer's body for one parameter: states, and what follows them."""

    core: Core
    parameter: Parameter
    clock: ir.Node
    span: Span
    states: dict[str, ir.State] = field(default_factory=dict)
    keeping: frozenset[str] = frozenset()  # the states of a matrix that have a part along W_0
    keeps: dict[str, ir.State] = field(default_factory=dict)  # the coefficients of those parts
    current: dict[str, ir.Node] = field(default_factory=dict)

    def value(self, node: ir.Node) -> v.Value:
        return v.Ket(node) if node.type.slots else v.Scalar(node)

    def declare(self, s: ast.State, scope: Scope) -> None:
        """`state m = 0`: has the parameter's shape, or is one number."""
        build = self.core.build
        init = self.core.value(s.value, Context(scope))
        if isinstance(init, v.Broken):
            raise ProgramError([])
        self.core.unresolved.add(s.name)  # until its start is known
        if not isinstance(init, v.Scalar | v.Ket):
            raise error(
                "NX165", f"a state must start at a number, found {a_kind(init)}", s.value.span, "write `state m = 0`"
            )
        start = init.node
        if start is self.parameter.current and isinstance(start, ir.Carry):
            start = start.state.init  # `state z = p`: starts at the initial parameter
        elif any(isinstance(n, ir.Carry | ir.Clock) for n in reachable([start])) or start.type.slots:
            raise error("NX165", "a state must start at a number", s.value.span, "write `state m = 0`")
        if s.name in self.states:
            raise error("NX110", f"`{s.name}` is declared twice", s.span, "choose another name")
        self.core.unresolved.discard(s.name)
        kind = Type() if s.scalar else self.parameter.type
        state = ir.State(f"{self.parameter.name}.{s.name}", kind, start, s.span)
        self.states[s.name] = state
        value = build.carry(state, s.span)
        if s.name in self.keeping:
            assert self.parameter.entry is not None
            keep = ir.State(f"{state.name}.keep", Type(self.parameter.type.indices), build.constant(0, s.span), s.span)
            self.keeps[s.name] = keep
            value = build.add(build.mul(build.carry(keep, s.span), self.parameter.entry, s.span), value, s.span)
        self.bind(s.name, value, scope)

    def assign(self, s: ast.Assign, scope: Scope) -> None:
        if s.name not in self.states and s.name in self.core.unresolved:
            raise ProgramError([])
        if s.name not in self.states:
            remedy = suggest(s.name, self.states) or f"declare it: `state {s.name} = 0`"
            raise error("NX166", f"`{s.name}` is not a state", s.span, remedy)
        self.bind(s.name, self.number(s.value, scope), scope)

    def number(self, expr: ast.Expr, scope: Scope) -> ir.Node:
        found = self.core.value(expr, Context(scope))
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

    def bind(self, name: str, node: ir.Node, scope: Scope) -> None:
        scope.others[name] = Binding(self.value(node))
        if name in self.states:
            self.current[name] = node


def arguments(core: Core, optimizer: OptimizerName, call: ast.Call, scope: Scope) -> dict[str, ir.Node]:
    """The scalars that an optimizer is called with; defaults may name parameters before them."""
    statement = optimizer.statement
    params = {p.name.ident: p for p in statement.params}
    form = f"{statement.name}({', '.join(p.span.text for p in statement.params)})"
    given: dict[str, ast.Arg] = {}
    for arg, name in zip(call.args, params, strict=False):
        if arg.keyword is None:
            given[name] = arg
    for arg in call.args:
        if arg.keyword is not None and arg.keyword not in params:
            remedy = suggest(arg.keyword, params) or f"write `{form}`"
            raise error("NX251", f"`{statement.name}` has no argument `{arg.keyword}`", arg.span, remedy)
        if arg.keyword is not None and arg.keyword in given:
            raise error("NX251", f"`{statement.name}` is given `{arg.keyword}` twice", arg.span, f"write `{form}`")
        if arg.keyword is not None:
            given[arg.keyword] = arg
    if len([a for a in call.args if a.keyword is None]) > len(params):
        raise error("NX251", f"`{statement.name}` takes {len(params)} arguments", call.span, f"write `{form}`")
    values: dict[str, ir.Node] = {}
    inner = optimizer.scope.snapshot()
    families = {e.ident for call in calls_in(statement.body) for e in call.extra if isinstance(e, ast.Name)}
    for name, param in params.items():
        source = given[name].value if name in given else param.default
        if source is param.default and isinstance(source, ast.Name) and source.ident == "fitted":
            continue  # what the loss fits
        if source is None:
            raise error(
                "NX251", f"the argument `{name}` of `{statement.name}` is missing", call.span, f"write `{form}`"
            )
        node = core.scalar(source, Context(scope if name in given else inner), "a number")
        if node is None:
            raise ProgramError([])
        if node.type.indices and name not in families:
            raise error(
                "NX168", f"`{name}` has the index `{node.type.indices[0].name}`", source.span, "give a single number"
            )
        values[name] = node
        inner.others[name] = Binding(v.Scalar(node))
    return values


def stepped(
    core: Core, run: Run, optimizer: OptimizerName,
    values: dict[str, ir.Node], parameter: Parameter, clock: ir.Node, span: Span,
) -> tuple[ir.Node, ir.Node | None, dict[ir.State, ir.Node]]:  # fmt: skip
    """(update, its part along W_0, following values of the states).

    The states of a matrix may pick up a multiple of W_0 (coupled weight decay): found by running the body again until
    no further state does.
    """
    keeps: frozenset[str] = frozenset()
    while True:
        body = EntryBody(core, parameter, clock, span, keeping=keeps)
        update = _once(body, run, optimizer, values)
        if parameter.entry is None:
            return update, None, {body.states[n]: node for n, node in body.current.items()}
        split = {n: along(core.build, node, parameter.entry, span) for n, node in body.current.items()}
        more = keeps | {n for n, (part, _) in split.items() if part is not None}
        if more == keeps:
            break
        keeps = more
    following: dict[ir.State, ir.Node] = {}
    for name, (part, rest) in split.items():
        following[body.states[name]] = rest
        if name in body.keeps:
            following[body.keeps[name]] = part if part is not None else core.build.constant(0, span)
    part, rest = along(core.build, update, parameter.entry, span)
    return rest, part, following


def _once(
    body: EntryBody, run: Run, optimizer: OptimizerName,
    values: dict[str, ir.Node],
) -> ir.Node:  # fmt: skip
    build, parameter = body.core.build, body.parameter
    statement = optimizer.statement
    scope = optimizer.scope.snapshot()
    scope.body = scope.entries = True
    for name, node in values.items():
        scope.others[name] = Binding(v.Scalar(node))
    body.bind("g", parameter.gradient, scope)
    body.bind("p", parameter.current, scope)
    body.bind("t", build.add(body.clock, build.constant(1, body.span), body.span), scope)
    scope.others["step"] = Binding(v.Scalar(body.clock))
    *before, last = statement.body
    scope.optimizer = body
    run(tuple(before), scope)
    assert isinstance(last, ast.Return)
    return body.number(last.values[0], scope)


def along(build: Builder, root: ir.Node, entry: ir.Node, span: Span) -> tuple[ir.Node | None, ir.Node]:
    """root = part · entry + rest. Raises NX169 where an entry of the initial matrix enters nonlinearly."""
    parts: dict[ir.Node, ir.Node | None] = {}
    rests: dict[ir.Node, ir.Node] = {}
    zero = build.constant(0, span)
    for node in reachable([root]):
        if node is entry:
            parts[node], rests[node] = build.constant(1, span), zero
            continue
        moving = [a for a in node.args if parts.get(a) is not None]
        if not moving or is_zero(node):
            parts[node], rests[node] = None, zero if moving else _without(build, node, rests, span)
            continue
        if not isinstance(node, ir.Map):
            raise _nonlinear(span)
        if node.fn == "add":
            parts[node] = build.map("add", [p for a in node.args if (p := parts[a]) is not None], span)
            kept = [rests[a] for a in node.args if not is_zero(rests[a])]
            rests[node] = build.map("add", kept, span) if kept else zero
        elif (node.fn == "mul" and len(moving) == 1) or (node.fn == "div" and moving == [node.args[0]]):
            (inner,) = moving
            others = [a for a in node.args if a is not inner]
            if any(a.type.slots for a in others):
                raise _nonlinear(span)
            part = parts[inner]
            assert part is not None
            parts[node] = build.map(node.fn, (part, *others), span)
            rests[node] = zero if is_zero(rests[inner]) else build.map(node.fn, (rests[inner], *others), span)
        else:
            raise _nonlinear(span)
    return parts[root], rests[root]


def _without(build: Builder, node: ir.Node, rests: dict[ir.Node, ir.Node], span: Span) -> ir.Node:
    """A node free of the entry, though zero multiples of it may stand in its arguments."""
    args = tuple(rests[a] for a in node.args)
    return node if args == node.args else build.again(node, args, span)


def _nonlinear(span: Span) -> ProgramError:
    return error(
        "NX169",
        "the entries of an initial matrix enter this update nonlinearly, which has no limit",
        span,
        "use decoupled weight decay (`AdamW`), or `SGD`",
    )


__all__ = ["EntryBody", "Parameter", "along", "arguments", "stepped"]
