"""Orders of magnitude through a program: every ket and scalar as a power of n, at initialisation and as it moves.

The numbers are exact exponents in the algebra of max and +: a sum is as large as its largest term, a product has the
sum of the exponents. Everything is in natural units, where the maximal-update network has exponents 0; a
parametrization enters through the sizes of parameters and of their updates (`Given`). An average over neurons is as
large as its integrand, or n^-1/2 of that if it vanishes by symmetry at initialisation (symmetry.py). What updates of kets
and matrices have moved is aligned with what it multiplies, since updates are made from it, so averages with it never vanish.
Numbers that have moved (gates, attention weights, trained scalars) only scale kets, which keep their symmetries: averages that
vanish still vanish. Products move by all their factors together, or, if `first`, to first order in the learning rate:
what blows up does so by that power however small the learning rate is.

How well a parameter is aligned with what it multiplies may be given (alignment.py); by default it is as in the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.model import Member, meet
from tp_compiler.scale.alignment import MATRIX, Alignment
from tp_compiler.scale.exchange import ExchangeableMembers
from tp_compiler.scale.growth import CONSTANT, NOTHING, Order, growth, moved
from tp_compiler.scale.numbers import HALF
from tp_compiler.scale.program import NetworkParameter
from tp_compiler.scale.symmetry import Symmetry
from tp_compiler.transform.gradient import Leaf


@dataclass(frozen=True)
class Size:
    """Powers of n: at initialisation, and of what training has added. `change`: by updates of kets and matrices, aligned with
    what it multiplies; `scaled`: by numbers that have moved. A number has only a `change`. `cause` is the parameter whose update
    contributed most."""

    start: Order
    change: Order = NOTHING
    cause: NetworkParameter | None = None
    scaled: Order = NOTHING

    @property
    def moves(self) -> Order:
        return max(self.change, self.scaled)

    @property
    def total(self) -> Order:
        return max(self.start, self.moves)

    @property
    def met(self) -> Order:
        """The other factor of a moving factor to first order: its initial value, or, if that is 0, its current value."""
        return self.moves if self.start == NOTHING else self.start

    def through(self, move: Callable[[Order], Order], start: Order) -> Size:
        """The result of a function, where `move` maps the power of a change."""
        return Size(start, move(self.change), self.cause, move(self.scaled))


ABSENT = Size(NOTHING)
FIXED = Size(CONSTANT)


@dataclass(frozen=True)
class AlignedParameters:
    """Alignments of parameters, part by part. `readers`: the brackets that parameters read; `forward`: the network without its
    gradients, in which W₀ is aligned as given."""

    each: Mapping[Leaf, Mapping[Member, Alignment]]
    readers: Mapping[ir.Node, tuple[ir.Node, Leaf]]
    forward: Collection[ir.Node]

    def of(self, leaf: Leaf, selectors: Iterable[object] | None = None) -> Alignment:
        """That of the part of a parameter which is aligned best; of what is not trained, as in the limit."""
        member = _member(selectors)
        met = [a for part, a in self.each.get(leaf, {}).items() if member is None or meet(part, member)]
        return Alignment.best(met) if met else MATRIX

    def of_product(self, node: ir.MatMul) -> Alignment:
        """Of Wᵀ with error signals: ΔW as with features at initialisation, and W₀ not at all."""
        found = self.of(node.matrix, node.member)
        return found if node in self.forward else Alignment(found.update, HALF, found.update)


@dataclass(frozen=True)
class Given:
    """The sizes of parameters (and of powers of n at brackets) in natural units, with those of their updates.

    A family has a size for each part that is distinguished from the rest.
    """

    sizes: Mapping[Leaf, Mapping[Member, Size]]
    bounded: Collection[ir.Node] = ()  # the readings: error signals are made of them, and those are O(1)
    aligned: AlignedParameters | None = None  # by default as in the limit

    def of(self, leaf: Leaf, selectors: Iterable[object] | None = None) -> Size | None:
        """The size of a parameter: that of its largest part, or of the largest part in a selection. Other leaves are not trained."""
        parts = self.sizes.get(leaf)
        if parts is None:
            return None
        member = _member(selectors)
        met = [size for part, size in parts.items() if member is None or meet(part, member)]
        return _sum(met) if met else Size(_sum(list(parts.values())).start)


def _member(selectors: Iterable[object] | None) -> Member | None:
    return None if selectors is None else tuple(s if isinstance(s, int) else None for s in selectors)


@dataclass(frozen=True)
class Members:
    """Numbers that are pinned because members are alike (exchange.py); `apart`: the power of n by which members differ."""

    alike: ExchangeableMembers
    apart: Order

    def met(self, node: ir.Node, size: Size) -> Size:
        start = size.start + self.apart if node in self.alike.zero else size.start
        return replace(size, start=start, change=size.moves + self.apart, scaled=NOTHING)


@dataclass
class NodeSizes:
    """The size of every node of a program, computed in topological order; `first`: changes to first order."""

    order: list[ir.Node]
    symmetry: Symmetry
    given: Given
    first: bool = False
    members: Members | None = None
    of: dict[ir.Node, Size] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in self.order:
            own = self.given.of(node)
            size = RULES[type(node)](self, node) if own is None else own
            if self.members is not None and node in self.members.alike.pinned:
                size = self.members.met(node, size)
            self.of[node] = replace(size, change=size.moves, scaled=NOTHING) if node.type.is_scalar else size

    def __getitem__(self, node: ir.Node) -> Size:
        """As another node reads it."""
        size = self.of[node]
        if node not in self.given.bounded:
            return size
        return Size(min(size.start, CONSTANT), min(size.change, CONSTANT), size.cause, min(size.scaled, CONSTANT))

    def args(self, node: ir.Node) -> list[Size]:
        """The arguments of a node; numbers beside kets scale them."""
        if not any(a.type.slots for a in node.args):
            return [self[a] for a in node.args]
        return [_scaling(self[a]) if a.type.is_scalar else self[a] for a in node.args]

    def product(self, args: list[Size]) -> Size:
        """Π (x + Δ) − Π x: one factor moves at least."""

        def rest(k: int, met: Callable[[Size], Order]) -> Order:
            return sum((met(b) for j, b in enumerate(args) if j != k), CONSTANT)

        def still(x: Size) -> Order:
            """What numbers alone have made of it."""
            if self.first:
                return x.scaled if x.start == NOTHING else x.start
            return max(x.start, x.scaled)

        changes = [(a.change + rest(k, self.met), a.cause) for k, a in enumerate(args)]
        scalings = [(a.scaled + rest(k, still), a.cause) for k, a in enumerate(args)]
        return _moved(sum((a.start for a in args), CONSTANT), changes, scalings)

    def met(self, size: Size) -> Order:
        return size.met if self.first else size.total

    def aligned(self, w: Size, x: Size, by: Alignment, usual: Fraction) -> Moves:
        """W₀Δx, ΔW x₀ and ΔW Δx for a parameter and what it multiplies, whose sizes are those of n^`usual` and n aligned terms."""
        both = self.first and x.start != NOTHING
        still = x.start if self.first else max(x.start, x.scaled)
        return [
            (w.start + x.change + (by.features - usual), x.cause),
            (w.change + still + (by.update - 1), w.cause),
            (NOTHING if both else w.change + x.moves + (by.both - 1), w.cause),
        ]


Moves = list[tuple[Order, NetworkParameter | None]]


def _moved(start: Order, changes: Moves, scalings: Moves) -> Size:
    """The largest of several changes, with their causes."""
    change, by = max(changes, key=lambda c: c[0], default=(NOTHING, None))
    scaled, number = max(scalings, key=lambda c: c[0], default=(NOTHING, None))
    return Size(start, change, by if change >= scaled else number, scaled)


def _scaling(size: Size) -> Size:
    """The size of a number as a factor of what it scales."""
    return replace(size, change=NOTHING, scaled=size.moves)


def _sum(args: list[Size]) -> Size:
    start = max((a.start for a in args), default=NOTHING)
    return _moved(start, [(a.change, a.cause) for a in args], [(a.scaled, a.cause) for a in args])


def _constant(of: NodeSizes, node: ir.Node) -> Size:
    return ABSENT if isinstance(node, ir.Constant) and node.value == 0 else FIXED


def _width_power(of: NodeSizes, node: ir.Node) -> Size:
    assert isinstance(node, ir.WidthPower)
    return Size(Fraction(node.exponent))


def _initial(of: NodeSizes, node: ir.Node) -> Size:
    """An untrained parameter, as large as its distribution."""
    return _sum(of.args(node))


def _matmul(of: NodeSizes, node: ir.Node) -> Size:
    """W₀x by the central limit theorem (its part along earlier Wᵀy is as large); ΔW x adds up in line with x."""
    assert isinstance(node, ir.MatMul)
    (x,) = of.args(node)
    w = of.given.of(node.matrix, node.member)
    if w is None:
        w = Size(of[node.matrix.variance].start / 2 if of[node.matrix.variance].start != NOTHING else NOTHING)
    aligned = of.given.aligned.of_product(node) if of.given.aligned is not None else MATRIX
    return _moved(w.start + x.start, of.aligned(w, x, aligned, HALF), [(w.start + x.scaled, x.cause)])


def _contract(of: NodeSizes, node: ir.Node) -> Size:
    assert isinstance(node, ir.Contract)
    if of.given.aligned is not None and node in of.given.aligned.readers:
        return _readout(of, node, of.given.aligned)
    if not node.slots or not of.symmetry.suppressed(node):
        return of.product(of.args(node))
    kets = of.product([of[a] for a in node.args if a.type.slots])
    numbers = [_scaling(of[a]) for a in node.args if not a.type.slots]
    return of.product([replace(kets, start=kets.start - HALF, scaled=kets.scaled - HALF), *numbers])


def _readout(of: NodeSizes, node: ir.Contract, aligned: AlignedParameters) -> Size:
    """⟨v|x⟩, where v is a parameter whose alignment with x is given."""
    reader, leaf = aligned.readers[node]
    v = of[reader]
    x = of.product([of[a] for a in node.args if a.type.slots and a is not reader])
    lost = HALF if of.symmetry.suppressed(node) else 0
    still = _moved(
        v.start + x.start - lost, [], [(v.start + x.scaled - lost, x.cause), (v.scaled + x.start - lost, v.cause)]
    )
    changes = of.aligned(v, x, aligned.of(leaf), Fraction(1))
    found = replace(still, change=max(c for c, _ in changes), cause=max(changes, key=lambda c: c[0])[1])
    return of.product([found, *(_scaling(of[a]) for a in node.args if not a.type.slots)])


def _map(of: NodeSizes, node: ir.Node) -> Size:
    assert isinstance(node, ir.Map)
    args = of.args(node)
    match node.fn:
        case "add" | "max" | "min" | "where":
            return _sum(args)
        case "mul":
            return of.product(args)
        case "div":
            return of.product([args[0], _powered(args[1], Fraction(-1))])
        case "pow" if isinstance(node.args[1], ir.Constant):
            return _powered(args[0], Fraction(node.args[1].value).limit_denominator(1000))
    if len(args) == 1:
        (x,) = args
        found = x.through(lambda change: moved(node.fn, x.start, change), growth(node.fn, x.start))
        return _bounded(found) if _is_softmax(node) else found
    return _sum(args)


def _is_softmax(node: ir.Map) -> bool:
    """exp(x - logsumexp x), which is at most 1."""
    match node:
        case ir.Map(
            fn="exp", args=(ir.Map(fn="add", args=(x, ir.Map(fn="mul", args=(ir.Constant(value=-1.0), low)))),)
        ):
            while isinstance(low, ir.Reduce) and low.op == "logsumexp":
                low = low.args[0]
            return low is x
    return False


def _bounded(x: Size) -> Size:
    return Size(min(x.start, CONSTANT), min(x.change, CONSTANT), x.cause, min(x.scaled, CONSTANT))


def _powered(x: Size, power: Fraction) -> Size:
    """x^p: Δ(x^p) is x^p Δx/x, or Δx^p if x moves by more than itself."""
    if power == 0:
        return FIXED
    if x.start == NOTHING and power < 0:  # 1/0: at best its size in training
        return FIXED if x.moves == NOTHING else Size(power * x.moves)

    def move(change: Order) -> Order:
        if change == NOTHING:
            return NOTHING
        if x.start == NOTHING:
            return power * change
        return (power - 1) * x.start + change if change <= x.start else max(power * change, power * x.start)

    return x.through(move, power * x.start)


def _reindex(of: NodeSizes, node: ir.Node) -> Size:
    assert isinstance(node, ir.Reindex)
    return of.given.of(node.args[0], node.selectors) or of[node.args[0]]


def _largest(of: NodeSizes, node: ir.Node) -> Size:
    return _sum([of[a] for a in node.linear_in])


def _reduce(of: NodeSizes, node: ir.Node) -> Size:
    assert isinstance(node, ir.Reduce)
    (x,) = of.args(node)
    if node.op == "prod":
        return of.product([x] * node.index.size)
    return _sum([x, Size(CONSTANT)]) if node.op == "logsumexp" else x


def _linalg(of: NodeSizes, node: ir.Node) -> Size:
    """Finite matrices as if they were numbers."""
    assert isinstance(node, ir.Linalg)
    k, *rest = of.args(node)
    match node.op:
        case "inv":
            return _powered(k, Fraction(-1))
        case "cholesky":
            return _powered(k, HALF)
        case "solve":
            return of.product([_powered(k, Fraction(-1)), rest[0]])
        case "pow" if isinstance(node.args[1], ir.Constant):
            return _powered(k, Fraction(node.args[1].value).limit_denominator(1000))
        case "logdet":
            return Size(CONSTANT, max(k.change - k.total, NOTHING) if k.change != NOTHING else NOTHING, k.cause)
        case "dpow" if isinstance(node.args[2], ir.Constant):
            power = Fraction(node.args[2].value).limit_denominator(1000)
            return of.product([_powered(k, power - 1), rest[0]])
        case "dmatfun":
            return rest[0]
    return Size(growth(node.fn, k.start), moved(node.fn, k.start, k.change), k.cause) if node.fn else k


def _clt(of: NodeSizes, node: ir.Node) -> Size:
    both = of.product(of.args(node))
    return replace(both, change=both.change + HALF)


Rule = Callable[[NodeSizes, ir.Node], Size]

#: One rule per instruction; a linear instruction is as large as its largest argument.
RULES: dict[type[ir.Node], Rule] = {
    **dict.fromkeys((kind for kind in ir.INSTRUCTIONS if kind.linear == "entries"), _largest),
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
    ir.Copy: _largest,
    ir.Linalg: _linalg,
    ir.Clt: _clt,
}
