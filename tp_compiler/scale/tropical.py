"""Orders of magnitude through a program: every ket and scalar as a power of n, at initialisation and as it moves.

The numbers are exact exponents in the algebra of max and +: a sum is as large as its largest term, a product has the
sum of the exponents. Everything is in natural units, where the maximal-update network has exponents 0; a
parametrization enters through the sizes of parameters and of their updates (`Given`). An average over neurons is as
large as its integrand, or n^-1/2 of that where it vanishes by symmetry at initialisation (symmetry.py); what has moved
is in line with what it meets, since updates are made of it, so that averages with it never vanish; a number that has moved
only scales what vanishes, so that numbers have a sweep of their own. Movements are of
first order: each parameter's update acts on features as they were, which decides the class, and is what blows up where
something does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.gradient import Leaf
from tp_compiler.ir.program import Member, meet
from tp_compiler.scale.growth import CONSTANT, NOTHING, Order, growth, moved
from tp_compiler.scale.numbers import HALF
from tp_compiler.scale.optimizers import Kind
from tp_compiler.scale.program import Parameter
from tp_compiler.scale.symmetry import Symmetry


@dataclass(frozen=True)
class Size:
    """Powers of n: at initialisation, and of what training has added; `cause` is the parameter whose update did."""

    start: Order
    change: Order = NOTHING
    cause: Parameter | None = None

    @property
    def total(self) -> Order:
        return max(self.start, self.change)

    @property
    def met(self) -> Order:
        """What a moving factor meets: the initial value, or, where that is 0, what it has become."""
        return self.change if self.start == NOTHING else self.start


ABSENT = Size(NOTHING)
FIXED = Size(CONSTANT)


@dataclass(frozen=True)
class Given:
    """The sizes of parameters (and of powers of n at brackets) in natural units, with those of their updates.

    A family has a size for each part of it that is told apart from the rest.
    """

    sizes: Mapping[Leaf, Mapping[Member, Size]]
    bounded: Collection[ir.Node] = ()  # the readings: error signals are made of them, and those are O(1)

    def of(self, leaf: Leaf, selectors: Iterable[object] | None = None) -> Size | None:
        """The size of a parameter: of its largest part, or of the largest that a selection meets. The rest is not trained."""
        parts = self.sizes.get(leaf)
        if parts is None:
            return None
        member = tuple(s if isinstance(s, int) else None for s in selectors) if selectors is not None else None
        met = [size for part, size in parts.items() if member is None or meet(part, member)]
        return _sum(met) if met else Size(_sum(list(parts.values())).start)

    @property
    def numbers(self) -> bool:
        """Do trained numbers move?"""
        return any(_is_number(size.cause) for parts in self.sizes.values() for size in parts.values())

    def moving(self, numbers: bool) -> Given:
        """The same where numbers alone move, or everything but numbers; what starts at 0 is met as what it becomes."""

        def still(size: Size) -> Size:
            return size if size.start == NOTHING or _is_number(size.cause) == numbers else Size(size.start)

        return replace(self, sizes={k: {m: still(x) for m, x in parts.items()} for k, parts in self.sizes.items()})


def _is_number(parameter: Parameter | None) -> bool:
    return parameter is not None and parameter.kind == Kind.SCALAR


@dataclass
class Sizes:
    """The size of every node of a program, computed in topological order. `even`: what moves leaves the symmetry of the
    initial kets as it is, and averages that vanish by it vanish as they move."""

    order: list[ir.Node]
    symmetry: Symmetry
    given: Given
    even: bool = False
    of: dict[ir.Node, Size] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in self.order:
            own = self.given.of(node)
            self.of[node] = RULES[type(node)](self, node) if own is None else own

    def __getitem__(self, node: ir.Node) -> Size:
        """As another node reads it."""
        size = self.of[node]
        if node not in self.given.bounded:
            return size
        return Size(min(size.start, CONSTANT), min(size.change, CONSTANT), size.cause)

    def joined(self, other: Sizes) -> Sizes:
        """Each node as it moves by this and by the other, to first order."""
        for node, size in other.of.items():
            self.of[node] = _sum([self.of[node], size])
        return self

    def args(self, node: ir.Node) -> list[Size]:
        return [self[a] for a in node.args]


def _changed(candidates: list[tuple[Order, Parameter | None]]) -> tuple[Order, Parameter | None]:
    return max(candidates, key=lambda c: c[0], default=(NOTHING, None))


def _sum(args: list[Size]) -> Size:
    return Size(max((a.start for a in args), default=NOTHING), *_changed([(a.change, a.cause) for a in args]))


def _product(args: list[Size]) -> Size:
    """Π (x + Δ) − Π x to first order: one factor moves, and meets the others as they were."""
    terms = [
        (a.change + sum((b.met for j, b in enumerate(args) if j != k), CONSTANT), a.cause) for k, a in enumerate(args)
    ]
    return Size(sum((a.start for a in args), CONSTANT), *_changed(terms))


def _constant(of: Sizes, node: ir.Node) -> Size:
    return ABSENT if isinstance(node, ir.Constant) and node.value == 0 else FIXED


def _width_power(of: Sizes, node: ir.Node) -> Size:
    assert isinstance(node, ir.WidthPower)
    return Size(Fraction(node.exponent))


def _initial(of: Sizes, node: ir.Node) -> Size:
    """What is not trained: as large as its law says."""
    return _sum(of.args(node))


def _matmul(of: Sizes, node: ir.Node) -> Size:
    """W₀x by the central limit theorem (its part along earlier Wᵀy is as large); ΔW x adds up in line with x."""
    assert isinstance(node, ir.MatMul)
    (x,) = of.args(node)
    w = of.given.of(node.matrix, node.member)
    if w is None:
        w = Size(of[node.matrix.variance].start / 2 if of[node.matrix.variance].start != NOTHING else NOTHING)
    return Size(w.start + x.start, *_changed([(w.start + x.change, x.cause), (w.change + x.met, w.cause)]))


def _contract(of: Sizes, node: ir.Node) -> Size:
    assert isinstance(node, ir.Contract)
    args = of.args(node)
    if not node.slots or not of.symmetry.suppressed(node):
        return _product(args)
    kets = _product([of[a] for a in node.args if a.type.slots])
    numbers = [of[a] for a in node.args if not a.type.slots]
    return _product([Size(kets.start - HALF, kets.change - (HALF if of.even else 0), kets.cause), *numbers])


def _map(of: Sizes, node: ir.Node) -> Size:
    assert isinstance(node, ir.Map)
    args = of.args(node)
    match node.fn:
        case "add" | "max" | "min" | "where":
            return _sum(args)
        case "mul":
            return _product(args)
        case "div":
            return _product([args[0], _powered(args[1], Fraction(-1))])
        case "pow" if isinstance(node.args[1], ir.Constant):
            return _powered(args[0], Fraction(node.args[1].value).limit_denominator(1000))
    if len(args) == 1:
        (x,) = args
        return Size(growth(node.fn, x.start), moved(node.fn, x.start, x.change), x.cause)
    return _sum(args)


def _powered(x: Size, power: Fraction) -> Size:
    """x^p: Δ(x^p) is x^p Δx/x, or Δx^p where x moves by more than itself."""
    if power == 0:
        return FIXED
    if x.start == NOTHING and power < 0:  # 1/0: what it becomes in training, at best
        return FIXED if x.change == NOTHING else Size(power * x.change)
    if x.start == NOTHING:
        return Size(NOTHING, power * x.change if x.change != NOTHING else NOTHING, x.cause)
    change = (power - 1) * x.start + x.change if x.change <= x.start else max(power * x.change, power * x.start)
    return Size(power * x.start, change, x.cause)


def _reindex(of: Sizes, node: ir.Node) -> Size:
    assert isinstance(node, ir.Reindex)
    return of.given.of(node.args[0], node.selectors) or of[node.args[0]]


def _first(of: Sizes, node: ir.Node) -> Size:
    return of[node.args[0]]


def _largest(of: Sizes, node: ir.Node) -> Size:
    return _sum(of.args(node))


def _reduce(of: Sizes, node: ir.Node) -> Size:
    assert isinstance(node, ir.Reduce)
    (x,) = of.args(node)
    if node.op == "prod":
        return _product([x] * node.index.size)
    return _sum([x, Size(CONSTANT)]) if node.op == "logsumexp" else x


def _linalg(of: Sizes, node: ir.Node) -> Size:
    """Finite matrices as if they were numbers."""
    assert isinstance(node, ir.Linalg)
    k, *rest = of.args(node)
    match node.op:
        case "inv":
            return _powered(k, Fraction(-1))
        case "cholesky":
            return _powered(k, HALF)
        case "solve":
            return _product([_powered(k, Fraction(-1)), rest[0]])
        case "pow" if isinstance(node.args[1], ir.Constant):
            return _powered(k, Fraction(node.args[1].value).limit_denominator(1000))
        case "logdet":
            return Size(CONSTANT, max(k.change - k.total, NOTHING) if k.change != NOTHING else NOTHING, k.cause)
        case "dpow" if isinstance(node.args[2], ir.Constant):
            power = Fraction(node.args[2].value).limit_denominator(1000)
            return _product([_powered(k, power - 1), rest[0]])
        case "dmatfun":
            return rest[0]
    return Size(growth(node.fn, k.start), moved(node.fn, k.start, k.change), k.cause) if node.fn else k


def _clt(of: Sizes, node: ir.Node) -> Size:
    both = _product(of.args(node))
    return Size(both.start, both.change + HALF, both.cause)


Rule = Callable[[Sizes, ir.Node], Size]

#: One rule an instruction.
RULES: dict[type[ir.Node], Rule] = {
    ir.Constant: _constant,
    ir.Array: _constant,
    ir.Position: _constant,
    ir.Clock: _constant,
    ir.WidthPower: _width_power,
    ir.InitialKet: _initial,
    ir.InitialScalar: _initial,
    ir.MatMul: _matmul,
    ir.Map: _map,
    ir.Contract: _contract,
    ir.Reduce: _reduce,
    ir.Reindex: _reindex,
    ir.Shift: _first,
    ir.Stop: _first,
    ir.Copy: _first,
    ir.Stack: _largest,
    ir.Linalg: _linalg,
    ir.Clt: _clt,
}
