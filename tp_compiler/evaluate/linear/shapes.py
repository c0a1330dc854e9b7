"""The shapes of the values of a linear program, before any arithmetic: the indices and neurons of each.

A value without slots is a number (or a ket c|1>), one with one slot a combination of Gaussians over those neurons, one
with two slots a sum of outer products. Anything else is a `NotExact` with the reason, and so is everything that depends on
it; a product of kets waits for the average that contains it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from tp_compiler.evaluate.arrays import Labels
from tp_compiler.evaluate.interface import NotExact
from tp_compiler.evaluate.linear.contraction import arranged
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Loop
from tp_compiler.ir.types import Index
from tp_compiler.ir.walk import reachable

#: The longest product of kets whose average is taken pair by pair.
MOST_FACTORS = 6
#: Of a ket that is Gaussian. Isserlis' sum over pairs holds where no other initial ket is in more than two of the factors:
#: cumulants add up over independent kets, and one of third order needs a ket in three factors that has it.
NORMAL: frozenset[ir.KetSymbol] = frozenset()


@dataclass(frozen=True, eq=False)
class EntrywiseProduct:
    """An entrywise product of kets (and numbers)."""

    factors: tuple[ir.Node, ...]


Shape = Labels | EntrywiseProduct | NotExact


def indices(labels: Labels) -> tuple[Index, ...]:
    return tuple(x for x in labels if isinstance(x, Index))


def slots(labels: Labels) -> tuple[int, ...]:
    return tuple(x for x in labels if isinstance(x, int))


class Shapes:
    """The shapes of nodes (in program order) and of the states; a state has the join of all its values."""

    def __init__(self, nodes: Iterable[ir.Node], states: Iterable[ir.State], loop: Loop | None):
        self.of: dict[ir.Node, Shape] = {}
        self.states: dict[ir.State, Shape] = {s: arranged(s.type.indices) for s in states}
        self.sources: dict[ir.Node | ir.State, frozenset[ir.KetSymbol]] = dict.fromkeys(self.states, NORMAL)
        nodes = list(nodes)
        while True:
            for node in nodes:
                self.of[node] = self._shape(node)
            before = dict(self.states), [self.sources[s] for s in self.states]
            for s in self.states:
                assert loop is not None
                for value in (s.init, loop.following[s]):
                    self.states[s] = _joined(self.states[s], self.of[value])
                    self.sources[s] |= self.sources[value]
            if before == (self.states, [self.sources[s] for s in self.states]):
                break

    def extend(self, root: ir.Node) -> None:
        """Shapes of new nodes built from known ones."""
        for node in reachable([root]):
            if node not in self.of:
                self.of[node] = self._shape(node)

    def __getitem__(self, node: ir.Node) -> Labels:
        """The labels of a node whose value exists."""
        shape = self.of[node]
        assert isinstance(shape, tuple)
        return shape

    def factors(self, args: Iterable[ir.Node]) -> tuple[ir.Node, ...]:
        """The arguments, with products split into factors."""
        found: list[ir.Node] = []
        for a in args:
            shape = self.of[a]
            found += shape.factors if isinstance(shape, EntrywiseProduct) else [a]
        return tuple(found)

    def _sources(self, node: ir.Node) -> frozenset[ir.KetSymbol]:
        """The initial kets that a ket is a combination of and that are not Gaussian."""
        if node.type.is_scalar:
            return NORMAL
        own = NORMAL.union(*(self.sources[a] for a in node.args))
        if isinstance(node, ir.InitialKet) and node.symbol.law != "normal":
            return own | {node.symbol}
        return own | self.sources[node.state] if isinstance(node, ir.Carry | ir.Apply) else own

    def _shape(self, node: ir.Node) -> Shape:
        self.sources[node] = self._sources(node)
        args = [self.of[a] for a in node.args]
        for a in args:
            if isinstance(a, NotExact):
                return a
        if isinstance(node, ir.MatMul) and isinstance(variance := self.of[node.matrix.variance], NotExact):
            return variance
        if node.type.random:
            return NotExact("the law of a `clt` scalar is sampled")
        rule = self.rules.get(type(node))
        if rule is None:
            return NotExact(f"{type(node).__name__} has no exact value")
        if any(isinstance(a, EntrywiseProduct) for a in args) and not isinstance(node, ir.Map | ir.Contract):
            return NotExact("a product of kets")
        return rule(self, node, args)

    # -- leaves -------------------------------------------------------------------------------------------------
    def _constant(self, node: ir.Constant | ir.Clock, args: list[Labels]) -> Shape:
        return ()

    def _array(self, node: ir.Array, args: list[Labels]) -> Shape:
        return arranged(node.type.indices) if node.values is not None else NotExact("an entry of an initial matrix")

    def _position(self, node: ir.Position, args: list[Labels]) -> Shape:
        return (node.index,)

    def _unavailable(self, node: ir.Unavailable, args: list[Labels]) -> Shape:
        return NotExact(f"{node.construct} is not evaluated in this version")

    def _initialket(self, node: ir.InitialKet, args: list[Labels]) -> Shape:
        spread = node.args[1]
        if isinstance(spread, ir.Constant) and spread.value == 0:
            return args[0]
        return arranged((*node.type.indices, 0))

    # -- training -----------------------------------------------------------------------------------------------
    def _carry(self, node: ir.Carry, args: list[Labels]) -> Shape:
        return self.states[node.state]

    def _trace(self, node: ir.Trace, args: list[Labels]) -> Shape:
        return arranged((node.index, *args[0]))

    def _apply(self, node: ir.Apply, args: list[Labels]) -> Shape:
        own = self.states[node.state]
        if not isinstance(own, tuple):
            return own if isinstance(own, NotExact) else NotExact("a product of kets")
        open_slot = node.state.slot if node.transposed else 0
        member = tuple(m for m in node.member if isinstance(m, Index))
        return arranged((*indices(args[0]), *member, *((0,) if open_slot in own else ())))

    def _matmul(self, node: ir.MatMul, args: list[Labels]) -> Shape:
        return arranged((*args[0], *(m for m in node.member if isinstance(m, Index)), 0))

    # -- entrywise ----------------------------------------------------------------------------------------------
    def _map(self, node: ir.Map, shapes: list[Labels | EntrywiseProduct]) -> Shape:
        args = [a for a in shapes if not isinstance(a, EntrywiseProduct)]
        if len(args) < len(shapes):
            return self._product(node.args) if node.fn == "mul" else NotExact("a product of kets")
        union = arranged(x for a in args for x in a)
        if not slots(union) or node.fn == "add":
            return union
        first, rest = args[0], args[1:]
        if node.fn == "mul":
            met = [x for a in args for x in slots(a)]
            return union if len(set(met)) == len(met) else self._product(node.args)
        if (node.fn == "div" and not slots(rest[0])) or (node.fn == "where" and not slots(first)):
            return union
        if node.fn in ("pow", "square") and slots(first) == (0,):
            power = 2.0 if node.fn == "square" else node.args[1].value if isinstance(node.args[1], ir.Constant) else 0.0
            if power in range(1, MOST_FACTORS + 1):
                return self._product([node.args[0]] * int(power))
        return NotExact(f"{node.fn} of a ket is not linear")

    def _product(self, args: Iterable[ir.Node]) -> Shape:
        factors = self.factors(args)
        kets = [s for f in factors if (s := slots(self[f]))]
        if any(s != (0,) for s in kets):
            return NotExact("a product of kets over several neurons")
        return EntrywiseProduct(factors) if len(kets) <= MOST_FACTORS else NotExact("a long product of kets")

    # -- averages, sums and indices -----------------------------------------------------------------------------
    def _contract(self, node: ir.Contract, args: list[Labels | EntrywiseProduct]) -> Shape:
        factors = [self[f] for f in self.factors(node.args)]
        for slot in {x for f in factors for x in slots(f)}:
            met = [slots(f) for f in factors if slot in f]
            if slot not in node.slots and len(met) > 1:
                return NotExact("a product of kets")
            if len(met) > 2 and any(len(s) > 1 for s in met):
                return NotExact("a product of learned matrices")
            if len(met) > MOST_FACTORS:
                return NotExact("a long product of kets")
            own = Counter(x for a in self.factors(node.args) if slot in self[a] for x in self.sources[a])
            if any(count > 2 for count in own.values()):
                return NotExact("a moment of more than second order of a law that is not normal")
        pairs = [slots(f) for f in factors if len(slots(f)) > 1]
        if len(pairs) > 1 and len({x for p in pairs for x in p} & set(node.slots)) > 1:
            return NotExact("a product of learned matrices")
        return arranged(x for f in factors for x in f if x not in node.over and x not in node.slots)

    def _copy(self, node: ir.Copy, args: list[Labels]) -> Shape:
        return arranged(node.slot if x == 0 else x for x in args[0])

    def _reduce(self, node: ir.Reduce, args: list[Labels]) -> Shape:
        if slots(args[0]):
            return NotExact(f"{node.op} over kets")
        return tuple(x for x in args[0] if x != node.index)

    def _reindex(self, node: ir.Reindex, args: list[Labels]) -> Shape:
        new: list[Any] = []
        chosen = dict(zip(node.args[0].type.indices, node.selectors, strict=True))
        for selector in (chosen[i] for i in indices(args[0])):  # the order of the value, as its dimensions lie
            if isinstance(selector, Index):
                new.append(selector)
            elif isinstance(selector, ir.Gather):
                new += args[selector.arg]
        if any(slots(a) for a in args[1:]):
            return NotExact("positions that are kets")
        return arranged((*new, *slots(args[0])))

    def _along(self, node: ir.Along, args: list[Labels]) -> Shape:
        return arranged((*args[0], node.index))

    def _stack(self, node: ir.Stack, args: list[Labels]) -> Shape:
        return arranged((node.index, *(x for a in args for x in a)))

    def _join(self, node: ir.Join, args: list[Labels]) -> Shape:
        gone = {i for group in node.groups for i in group}
        return arranged((node.index, *(x for a in args for x in a if x not in gone)))

    def _of_matrices(self, node: ir.Linalg | ir.Spectral, args: list[Labels]) -> Shape:
        if any(slots(a) for a in args):
            return NotExact(f"{node.op} of a matrix of kets")
        return arranged(node.type.indices)

    #: One rule per instruction; an instruction without one is not linear.
    rules: ClassVar[dict[type[ir.Node], Callable[[Shapes, Any, list[Any]], Shape]]] = {
        ir.Constant: _constant,
        ir.Clock: _constant,
        ir.Array: _array,
        ir.Position: _position,
        ir.Unavailable: _unavailable,
        ir.InitialKet: _initialket,
        ir.Carry: _carry,
        ir.Trace: _trace,
        ir.Apply: _apply,
        ir.MatMul: _matmul,
        ir.Map: _map,
        ir.Contract: _contract,
        ir.Copy: _copy,
        ir.Reduce: _reduce,
        ir.Reindex: _reindex,
        **dict.fromkeys(ir.ALONG, _along),
        ir.Stack: _stack,
        ir.Join: _join,
        ir.Linalg: _of_matrices,
        ir.Spectral: _of_matrices,
    }


def _joined(a: Shape, b: Shape) -> Shape:
    if isinstance(a, NotExact):
        return a
    if isinstance(a, tuple) and isinstance(b, tuple):
        return arranged((*a, *b))
    return b if isinstance(b, NotExact) else NotExact("a product of kets")
