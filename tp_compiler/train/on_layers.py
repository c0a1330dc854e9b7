"""Optimizers `on layers`: entries of a parameter that know their rows and columns (Nero, Adafactor, LARS, LAMB).

A layer is a matrix as the network applies it: its rows are its outputs. For W : m x n the rows are the m-neurons (slot 0) and
the columns the n-neurons; for a family |u[d]> that is summed over d, the rows are neurons and the columns d; for a readout
<v[c]| the rows are c and the columns neurons. A lone |b> that is added up is a vector: each entry is a row.

Everything of the order of the initial matrix is known without its entries: its rows have length σ, and |1><1| removes
their means, W_0 (I - |1><1|), which acts at order 1 (`Trained.centred` in transform/lower.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tp_compiler.diagnostics import Span, error
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder, is_zero
from tp_compiler.ir.rules import OnLayers, OnOperators
from tp_compiler.ir.shape_factors import SideLength, natural_factor
from tp_compiler.ir.types import Index, Type
from tp_compiler.ir.walk import reachable
from tp_compiler.transform.linear import split_linear
from tp_compiler.transform.separable import added, averaged, separated
from tp_compiler.transform.slots import exchanged

#: What counts rows or columns: neurons of a slot, or an index.
Side = tuple[int | Index, ...]


@dataclass(frozen=True, eq=False)
class LayerParameter:
    """A parameter as an optimizer on layers sees it.

    `current` and `start` are its values now and before step 0; `lengths` those of its sides; `entry` and `deviation` (σ)
    belong to an initial matrix.
    """

    name: str
    type: Type
    current: ir.Node
    start: ir.Node
    gradient: ir.Node
    rows: Side
    cols: Side
    lengths: Callable[[], tuple[SideLength, SideLength]]
    entry: ir.Node | None = None
    deviation: ir.Node | None = None


#: The entries of the change that an optimizer on operators makes of a parameter.
ChangeOf = Callable[[OnOperators, Span], ir.Node]


@dataclass(frozen=True, eq=False)
class LayerStep:
    """The update, without and along W_0; the next states; the value before step 0 (for a matrix the factor of
    W_0, whose rows are `centred` or not)."""

    change: ir.Node
    along: ir.Node | None
    following: dict[ir.State, ir.Node]
    start: ir.Node
    centred: bool


@dataclass
class _Host:
    """A parameter that a body runs for. `kinds` are the shapes of its states, as far as the runs before have shown them;
    `columns` those that are kets of the columns of a matrix, with the slot of these."""

    build: Builder
    parameter: LayerParameter
    count: ir.Node
    span: Span
    kinds: dict[str, Type]
    columns: dict[str, int]
    change_of: ChangeOf
    changes: list[ir.Node]  # by other optimizers, as the runs before have asked for them
    asked: int = 0  # how many of them this run has asked for
    centred: bool = False
    states: dict[str, ir.State] = field(default_factory=dict)

    @property
    def gradient(self) -> ir.Node:
        return self.parameter.gradient

    @property
    def start(self) -> ir.Node:
        return self.parameter.start

    @property
    def current(self) -> ir.Node:
        return self.parameter.current

    def state(self, name: str, start: ir.Node, span: Span) -> ir.Node:
        kind = self.kinds.get(name, replace(start.type, random=False))
        self.states[name] = state = ir.State(f"{self.parameter.name}.{name}", kind, start, span)
        value, slot = self.build.carry(state, span), self.columns.get(name)
        return value if slot is None else self.build.copy(value, slot, span)

    def aspect(self, name: str, at: Span) -> ir.Node:
        return self.build.constant(natural_factor(name, self.parameter.lengths), at)

    def change_by(self, rule: OnOperators, span: Span) -> ir.Node:
        self.asked += 1
        if self.asked > len(self.changes):
            self.changes.append(self.change_of(rule, span))
        return self.changes[self.asked - 1]

    # -- rows and columns ---------------------------------------------------------------------------------------
    def statistic(self, name: str, node: ir.Node, span: Span, starting: bool) -> ir.Node:
        """rowmean, rownorm, colmean, colnorm, norm: means and root mean squares; lengths, balanced: see docs/matrix_optimizers.md."""
        part, rest = self.split(node, span)
        if name == "balanced":
            return self._balanced(node, part, rest, span, starting)
        if part is not None:
            if name not in ("norm", "lengths", "rownorm"):
                raise error(
                    "NX169",
                    f"`{name}` of an initial matrix is not a number",
                    span,
                    f"apply it to the gradient: `{name}(g)`",
                )
            assert self.parameter.deviation is not None
            return self.build.mul(self.build.map("abs", (part,), span), self.parameter.deviation, span)
        side = {"row": self.parameter.cols, "col": self.parameter.rows}.get(name[:3])
        if name == "lengths":
            return self._root(self._total(node, self.parameter.cols, 2, span), span)
        if side is None:
            side = (*self.parameter.rows, *self.parameter.cols)
        mean = self._mean(node, side, 1 if name.endswith("mean") else 2, span)
        return mean if name.endswith("mean") else self._root(mean, span)

    def split(self, node: ir.Node, span: Span) -> tuple[ir.Node | None, ir.Node]:
        if self.parameter.entry is None:
            return None, node
        return split_linear(self.build, node, self.parameter.entry, span)

    def _total(self, node: ir.Node, side: Side, power: int, span: Span) -> ir.Node:
        """The sum of powers over an index, the mean over neurons."""
        over = tuple(x for x in side if isinstance(x, Index))
        slots = tuple(x for x in side if not isinstance(x, Index))
        terms = separated(self.build, node, span) if len(node.type.slots) == 2 else None
        found = averaged(self.build, terms, power, over, slots, span) if terms is not None else None
        if found is not None:
            return found
        build = self.build
        others = [slot for slot, _ in node.type.slots if slot]
        if slots == (0,) and others and not any(_is_entry(n) for n in reachable([node])):
            # The mean over the rows as a separate ket, over the columns: averages are not nested.
            ket = build.contract((exchanged(build, node, others[0], span),) * power, over, (others[0],), span)
            return build.copy(ket, others[0], span)
        return build.contract((node,) * power, over, slots, span)

    def _mean(self, node: ir.Node, side: Side, power: int, span: Span) -> ir.Node:
        count = math.prod(x.size for x in side if isinstance(x, Index))
        total = self._total(node, side, power, span)
        return self.build.mul(self.build.constant(1 / count, span), total, span)

    def _root(self, node: ir.Node, span: Span) -> ir.Node:
        return self.build.map("sqrt", (node,), span)

    def _balanced(self, node: ir.Node, part: ir.Node | None, rest: ir.Node, span: Span, starting: bool) -> ir.Node:
        """The rows with mean 0 and length 1; a vector unchanged. Updates of a matrix add nothing to the length of
        its rows in the limit, but has to be centred."""
        build, cols = self.build, self.parameter.cols
        if not cols:
            return node
        if self.parameter.entry is None:
            if isinstance(node, ir.InitialKet) and all(is_zero(a) for a in node.args):
                message = f"`{self.parameter.name}` starts at 0, so there is no length to preserve"
                raise error("NX294", message, self.span, "initialise it at random, or train it with another optimizer")
            centred = self._less_mean(node, cols, span)
            length = self._root(self._total(centred, cols, 2, span), span)
            return build.map("div", (centred, length), span)
        if part is None or (starting and not is_zero(rest)):
            raise error("NX294", "`balanced` acts only on the parameter and its updates", span, "write `balanced(p)`")
        self.centred = self.centred or starting
        if not self.centred:
            raise error(
                "NX294", "the rows of the initial matrix are not centred", span, "add `init { p := balanced(p) }`"
            )
        assert self.parameter.deviation is not None
        weight = build.map("div", (build.constant(1, span), self.parameter.deviation), span)
        start = build.mul(weight, self.parameter.entry, span)
        return start if is_zero(rest) else build.add(start, self._less_mean(rest, cols, span), span)

    def _less_mean(self, node: ir.Node, side: Side, span: Span) -> ir.Node:
        return self.build.add(node, self.build.neg(self._mean(node, side, 1, span), span), span)


def _is_entry(node: ir.Node) -> bool:
    return isinstance(node, ir.Carry) and node.state.is_matrix


def layered(
    build: Builder, rule: OnLayers, parameter: LayerParameter, count: ir.Node, span: Span, change_of: ChangeOf
) -> LayerStep:
    """Runs the rule until the shapes of its states are settled."""
    kinds: dict[str, Type] = {}
    columns: dict[str, int] = {}
    changes: list[ir.Node] = []
    while True:
        host = _Host(build, parameter, count, span, dict(kinds), dict(columns), change_of, changes)
        update = rule.run(host)
        found = {n: _wider(host.states[n].type, node.type, n in columns) for n, node in update.following.items()}
        shapes = {n: kind for n, (kind, _) in found.items()}
        if shapes == kinds:
            break
        kinds, columns = shapes, {n: slot for n, (_, slot) in found.items() if slot is not None}
    following = {}
    for name, node in update.following.items():
        part, rest = host.split(node, span)
        if part is not None:
            raise error(
                "NX169", f"the state `{name}` contains the initial matrix", span, "use `p` in the update itself"
            )
        following[host.states[name]] = exchanged(build, rest, columns[name], span) if name in columns else rest
    part, rest = host.split(update.value, span)
    terms = separated(build, rest, span) if parameter.entry is not None else None
    if terms is not None:
        ((_, _), (slot, width)) = parameter.type.slots
        rest = added(build, terms, (slot, width), span)
    start, left = host.split(update.start, span)
    if parameter.entry is not None and (start is None or not is_zero(left)):
        raise error("NX294", "`init` can only multiply a matrix by numbers", span, "write `init { p := balanced(p) }`")
    return LayerStep(rest, part, following, left if start is None else start, host.centred)


def _wider(state: Type, value: Type, column: bool) -> tuple[Type, int | None]:
    """The type of a state that takes a value; for a ket of the columns of a matrix, stored as a ket, their slot."""
    indices = (*state.indices, *(i for i in value.indices if i not in state.indices))
    slots = tuple(sorted({*(() if column else state.slots), *value.slots}))
    if len(slots) == 1 and slots[0][0] != 0:
        return Type(indices, ((0, slots[0][1]),)), slots[0][0]
    return Type(indices, slots), None
