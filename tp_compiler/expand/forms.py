"""Maps instructions, or small groups of them, back to constructs of the language.

`1 - step(abs(i - j))` is `delta[i,j]`, `exp(x - logsumexp[t](x))` is `softmax[t](x)`, a sum of 1/n x is `mean[i](x)`,
`1 - tanh(x)^2` is `tanh'(x)`. Everything else is written literally. A form names the nodes it is written with (`args`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tp_compiler.diagnostics import ProgramError
from tp_compiler.expand.operators import nodes
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.operators import Applied
from tp_compiler.ir.primitives import CALLABLE, PRIMITIVES
from tp_compiler.ir.types import Index
from tp_compiler.transform.entrywise import NodeAlgebra, partial

LEAVES = (ir.Constant, ir.Array, ir.Position, ir.InitialKet, ir.InitialScalar, ir.Carry, ir.Clock)
_ARITHMETIC = {"add": "sum", "div": "quotient", "pow": "power"}


@dataclass(frozen=True, eq=False)
class WrittenForm:
    """How a node is written. `indices`: those that its brackets name; `hidden`: those of them that the result lacks;
    `renamed`: index of the argument -> index of the node, where a node is another one under other names."""

    kind: str
    args: tuple[ir.Node, ...] = ()
    word: str = ""
    indices: tuple[Index, ...] = ()
    hidden: tuple[Index, ...] = ()
    renamed: Mapping[Index, Index] = field(default_factory=dict)

    @property
    def rigid(self) -> tuple[Index, ...]:
        """Indices of the result that occur in brackets: they must be written as names."""
        return tuple(i for i in self.indices if i not in self.hidden)


class Forms:
    """The form of every node, found once. `slopes` are the nodes that are derivatives of entrywise functions."""

    def __init__(self, build: Builder, applications: Mapping[ir.Node, Applied]):
        self.build = build
        self.applications = applications
        self._known: dict[ir.Node, WrittenForm] = {}
        self.products: dict[ir.Node, list[ir.Map]] = {}  # products with a name, under their first factor
        self.slopes: dict[ir.Node, tuple[str, ir.Node]] = {}

    def of(self, node: ir.Node) -> WrittenForm:
        if node not in self._known:
            self._known[node] = self._found(node)
        return self._known[node]

    def rename(self, node: ir.Node, other: ir.Node, renamed: Mapping[Index, Index]) -> None:
        """A node is another one under other index names."""
        self._known[node] = WrittenForm("renamed", (other,), renamed=renamed)

    def learn_slopes(self, nodes: Iterable[ir.Node]) -> None:
        """Records f'(x) for every f(x) among the nodes, if `f'(x)` is the shorter form."""
        for node in nodes:
            if isinstance(node, ir.Map) and PRIMITIVES[node.fn].arity == 1 and node.fn in CALLABLE:
                try:
                    slope = partial(NodeAlgebra(self.build, node.span), node, 0)
                except ProgramError:
                    return
                if _length(slope, node.args[0]) > 2:
                    self.slopes.setdefault(slope, (node.fn, node.args[0]))
        self.learn_products(self.slopes)

    def learn_products(self, nodes: Iterable[ir.Node]) -> None:
        """Records named products: averages split products, but are written with them whole."""
        for node in nodes:
            if isinstance(node, ir.Map) and node.fn == "mul":
                self.products.setdefault(node.args[0], []).append(node)

    def _grouped(self, node: ir.Node) -> tuple[ir.Node, ...]:
        """The factors of a product or average, with named products in place of their factors, the longest first."""
        factors = list(unmasked(node.args))
        known = {p for f in factors for p in self.products.get(f, ()) if p.serial < node.serial}
        for product in sorted(known, key=lambda p: (-len(p.args), p.serial)):
            while not Counter(product.args) - Counter(factors):
                place = min(factors.index(a) for a in product.args)
                factors.insert(place, product)
                for a in product.args:
                    factors.remove(a)
        return tuple(factors)

    def _found(self, node: ir.Node) -> WrittenForm:
        if isinstance(node, LEAVES) or counted(node) is not None:
            return WrittenForm("leaf")
        if node in self.applications:
            applied = self.applications[node]
            return WrittenForm(
                "applied", (*nodes(applied.operator), *([applied.ket] if applied.ket is not None else []))
            )
        if isinstance(node, ir.Contract):
            return _contract(node, self._grouped(node))
        if node in self.slopes:
            fn, x = self.slopes[node]
            return WrittenForm("call", (x,), f"{fn}'")
        if isinstance(node, ir.Map) and node.fn == "mul":
            factors = self._grouped(node)
            return WrittenForm("same", factors) if len(factors) == 1 else WrittenForm("product", factors)
        rule = _RULES.get(type(node))
        return rule(node) if rule else WrittenForm("unwritten", node.args)


def _length(node: ir.Node, leaf: ir.Node) -> int:
    """The number of entrywise functions in a node, down to the leaves."""
    if node is leaf or not isinstance(node, ir.Map):
        return 0
    return 1 + sum(_length(a, leaf) for a in node.args)


# -------------------------------------------------------------------------------------------------- one rule a node
def _map(node: ir.Map) -> WrittenForm:
    places = _equal(node)
    if places is not None:
        return WrittenForm("delta", places)
    soft = _softmax(node)
    if soft is not None:
        return soft
    return WrittenForm(_ARITHMETIC.get(node.fn, "call"), node.args, node.fn)


def _equal(node: ir.Map) -> tuple[ir.Node, ir.Node] | None:
    """a, b of 1 - step(abs(a - b)), for scalars; a constant b as -b."""
    match node:
        case ir.Map(
            fn="add",
            args=(
                ir.Constant(value=1.0),
                ir.Map(
                    fn="mul",
                    args=(
                        ir.Constant(value=-1.0),
                        ir.Map(fn="step", args=(ir.Map(fn="abs", args=(ir.Map(fn="add", args=(a, b)),)),)),
                    ),
                ),
            ),
        ) if node.type.is_scalar:
            other = negated(b)
            return None if other is None else (a, other)
    return None


def counted(node: ir.Node) -> Index | None:
    """The index `step` of the number `step`, which counts from 0: one less than its position."""
    match node:
        case ir.Map(fn="add", args=(ir.Position(index=index), ir.Constant(value=-1.0))) if index.axis.name == "step":
            return index
    return None


def negated(node: ir.Node) -> ir.Node | None:
    """x of -x; a negative constant itself."""
    match node:
        case ir.Map(fn="mul", args=(ir.Constant(value=-1.0), x)):
            return x
        case ir.Constant(value=value) if value < 0:
            return node
    return None


def _softmax(node: ir.Map) -> WrittenForm | None:
    match node:
        case ir.Map(
            fn="exp", args=(ir.Map(fn="add", args=(x, ir.Map(fn="mul", args=(ir.Constant(value=-1.0), low)))),)
        ):
            over: list[Index] = []
            while isinstance(low, ir.Reduce) and low.op == "logsumexp":
                over.insert(0, low.index)
                low = low.args[0]
            if over and low is x:
                return WrittenForm("softmax", (x,), "softmax", tuple(over))
    return None


def clocked(position: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    """(step, raw position) if a position is computed from the clock: `step` itself, `step + 1`, or `step - 1`, at least 1."""
    match position:
        case ir.Trace(args=(inner,)):
            return clocked(inner)
        case ir.Map(fn="add", args=(ir.Clock() as clock, ir.Constant(value=1.0))):
            return clock, position
        case ir.Map(fn="add", args=(ir.Map(fn="add", args=parts) as later, ir.Constant(value=1.0))):
            return (later, position) if any(isinstance(p, ir.Clock) for p in parts) else None
        case ir.Map(fn="max", args=(raw, ir.Constant(value=1.0))):
            return clocked(raw)
    return None


def _place(position: ir.Node) -> ir.Node:
    """The text of a position in a bracket."""
    found = clocked(position)
    return position if found is None else found[0]


def unmasked(factors: tuple[ir.Node, ...]) -> tuple[ir.Node, ...]:
    """A product without the factors that `x[step-1]` brings along: 0 before the first step."""
    raws = {found[1] for f in factors if isinstance(f, ir.Reindex) for g in f.args[1:] if (found := clocked(g))}
    return tuple(f for f in factors if not _is_mask(f, raws)) if raws else factors


def _is_mask(node: ir.Node, raws: set[ir.Node]) -> bool:
    match node:
        case ir.Trace(args=(inner,)):
            return _is_mask(inner, raws)
        case ir.Map(fn="step", args=(ir.Map(fn="add", args=(raw, ir.Constant(value=-0.5))),)):
            return raw in raws
    return False


def _contract(node: ir.Contract, factors: tuple[ir.Node, ...]) -> WrittenForm:
    first, count = factors[0], math.prod(i.size for i in node.over)
    mean = bool(node.over) and isinstance(first, ir.Constant) and first.value == 1 / count and len(factors) > 1
    if mean:
        return WrittenForm("contraction", factors[1:], "mean", node.over, node.over)
    return WrittenForm("contraction", factors, "sum", node.over, node.over)


def _linalg(node: ir.Linalg) -> WrittenForm:
    pair = (node.rows, node.cols)
    hidden = {"solve": (node.cols,), "logdet": pair}.get(node.op, ())
    return WrittenForm("linalg", node.args, node.op, pair, hidden)


_RULES: dict[type[ir.Node], Callable[..., WrittenForm]] = {
    ir.Map: _map,
    ir.Linalg: _linalg,
    ir.Reduce: lambda n: WrittenForm("reduction", n.args, n.op, (n.index,), (n.index,)),
    **dict.fromkeys(ir.ALONG, lambda n: WrittenForm("along", n.args, n.word, (n.index,))),
    ir.Stack: lambda n: WrittenForm("stack", n.args, "", (n.index,)),
    ir.Reindex: lambda n: WrittenForm("reading", (n.args[0], *(_place(g) for g in n.args[1:]))),
    ir.MatMul: lambda n: WrittenForm("matmul", n.args),
    ir.Copy: lambda n: WrittenForm("copy", n.args),
    ir.Stop: lambda n: WrittenForm("call", n.args, "stop"),
    ir.Clt: lambda n: WrittenForm("clt", n.args),
    ir.Trace: lambda n: WrittenForm("trace", n.args),
}
