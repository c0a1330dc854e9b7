"""Optimizers on entries: what an update does to one parameter.

Such an optimizer acts on natural entries: `g`, `p` and the states stand for one entry of a ket, a scalar, or a matrix. An
entry of a matrix is a value over two neurons, slot 0 (row α) and a slot of its own (column β); that of the gradient is
Σ dh_α x_β. So the update of a matrix is a nonlinear outer product (Tensor Programs IVb, Def 2.2.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tp_compiler.diagnostics import Span, error
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.rules import UNCHANGED, Changed, OnEntries
from tp_compiler.ir.types import Type
from tp_compiler.ir.walk import reachable
from tp_compiler.transform.linear import split_linear

#: The result of a step for one parameter: (update, part along W_0, next values of the states).
Stepped = tuple[ir.Node, ir.Node | None, dict[ir.State, ir.Node]]


@dataclass(frozen=True, eq=False)
class Parameter:
    """A trained parameter as an optimizer sees it. `entry` is one entry of the initial matrix, None for the others; `slope` the
    gradient of another loss, where there can be one."""

    name: str
    type: Type
    current: ir.Node
    gradient: ir.Node
    entry: ir.Node | None = None
    slope: Callable[[ir.Node, Span], ir.Node] | None = None


@dataclass
class _Host:
    """A parameter that a body runs for. The states in `keeping` have a part along W_0, with coefficients `keeps`."""

    build: Builder
    parameter: Parameter
    count: ir.Node
    keeping: frozenset[str]
    states: dict[str, ir.State] = field(default_factory=dict)
    keeps: dict[str, ir.State] = field(default_factory=dict)

    @property
    def gradient(self) -> ir.Node:
        return self.parameter.gradient

    @property
    def current(self) -> ir.Node:
        return self.parameter.current

    def slope(self, of: ir.Node, span: Span) -> ir.Node:
        if self.parameter.slope is None:
            message = "gradients of a second loss are not supported under this parametrization"
            raise error("NX298", message, span, "use `parametrization mup`, or another optimizer")
        return self.parameter.slope(of, span)

    def state(self, name: str, start: ir.Node, scalar: bool, span: Span, at: Span) -> ir.Node:
        build, parameter = self.build, self.parameter
        if start is parameter.current and isinstance(start, ir.Carry):
            start = start.state.init  # `state z = p`: starts at the initial parameter
        elif any(isinstance(n, ir.Carry | ir.Clock) for n in reachable([start])) or start.type.slots:
            raise error("NX165", "a state must start at a number", at, "write `state m = 0`")
        kind = Type() if scalar else parameter.type
        self.states[name] = state = ir.State(f"{parameter.name}.{name}", kind, start, span)
        value = build.carry(state, span)
        if name not in self.keeping:
            return value
        assert parameter.entry is not None
        keep = ir.State(f"{state.name}.keep", Type(parameter.type.indices), build.constant(0, span), span)
        self.keeps[name] = keep
        return build.add(build.mul(build.carry(keep, span), parameter.entry, span), value, span)


def stepped(
    build: Builder, rule: OnEntries, parameter: Parameter, count: ir.Node, span: Span, changed: Changed = UNCHANGED
) -> Stepped:
    """(update, its part along W_0, following values of the states).

    The states of a matrix may pick up a multiple of W_0 (coupled weight decay): found by running the rule again until no
    further state does.
    """
    keeping: frozenset[str] = frozenset()
    while True:
        host = _Host(build, parameter, count, keeping)
        update = rule.run(host, changed)
        if parameter.entry is None:
            return update.value, None, {host.states[n]: node for n, node in update.following.items()}
        split = {n: split_linear(build, node, parameter.entry, span) for n, node in update.following.items()}
        more = keeping | {n for n, (part, _) in split.items() if part is not None}
        if more == keeping:
            break
        keeping = more
    following: dict[ir.State, ir.Node] = {}
    for name, (part, rest) in split.items():
        following[host.states[name]] = rest
        if name in host.keeps:
            following[host.keeps[name]] = part if part is not None else build.constant(0, span)
    part, rest = split_linear(build, update.value, parameter.entry, span)
    return rest, part, following
