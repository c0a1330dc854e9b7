"""Members of a family that start alike: what cancels, or does not move, while they remain alike.

If nothing distinguishes the members of an axis (experts of a mixture with the same distribution and no data of their own), limits
are symmetric under their exchange: numbers over the axis are equal, softmax weights are 1/size, and gradients by the logits
cancel. This is found numerically: the program's numbers are computed for random values of its brackets that have the symmetry. What
is the same for all of them is pinned. Networks deviate from it by the fluctuations that distinguish members, n^-1/2.

This needs continuity. A jump (a hard gate, the slope of a kink) of numbers that members share, and arithmetic that is singular
where averages vanish (g/|g| at g = 0), may turn these fluctuations into differences of order one. Such numbers, everything they
enter, and parameters that learn from them, are drawn without the symmetry.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import random
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.primitives import PRIMITIVES
from tp_compiler.ir.types import Axis, Index
from tp_compiler.scale.program import NetworkReading
from tp_compiler.transform.gradient import Leaf

#: Random values of the brackets; pinned numbers do not depend on them.
DRAWS = 3
EQUAL = 1e-9
Positions = tuple[int, ...]
Table = dict[Positions, float]


@dataclass(frozen=True)
class ExchangeableMembers:
    """The axes of members that start alike, the numbers pinned by them, and those among these that are 0."""

    axes: frozenset[Axis]
    pinned: frozenset[ir.Node]
    zero: frozenset[ir.Node]
    brackets: tuple[ir.Node, ...]  # the brackets over the axes: if they fluctuate by order one, members are not alike


def alike(reading: NetworkReading, vanishes: Callable[[ir.Contract], bool]) -> ExchangeableMembers:
    """Finds members that are alike in a trained network; `vanishes`: is this average 0 in the limit at initialisation?"""
    axes = frozenset(_axes(reading)) if reading.network.trains else frozenset()
    if not axes:
        return ExchangeableMembers(axes, frozenset(), frozenset(), ())
    numbers = [n for n in reading.backward if n.type.is_scalar]
    touched = _touched(reading.backward, axes)
    origin = _Draw(axes, 0, vanishes=vanishes)
    origin.values(reading.backward)
    broken = {n for n in touched if n in origin.singular or (_jumps(n) and any(a in touched for a in n.args))}
    broken |= {n for n in reading.backward if n.type.slots and _jumps(n) and n.args[0] in origin.zero}
    apart: set[Leaf] = set()  # the parameters whose members differ after training
    while True:
        uneven = broken | {
            n for n in _depending(reading.backward, broken | apart, axes) if n.type.is_scalar and _is_leaf(n)
        }
        pinned, zero = _pinned(numbers, touched, [_Draw(axes, seed, uneven).values(numbers) for seed in range(DRAWS)])
        before, depending = len(apart), _depending(reading.backward, broken | apart, axes, zero)
        apart |= {
            p.leaf
            for p in reading.parameters
            if not p.declared.still and any(depending.intersection(term) for term in reading.gradient(p))
        }
        if len(apart) == before:
            break
    inner = tuple(n for n in reading.order if n.type.is_scalar and _is_leaf(n) and _over(n.type.indices, axes))
    return ExchangeableMembers(axes, pinned, zero, inner)


def _pinned(
    numbers: list[ir.Node], touched: set[ir.Node], draws: list[dict[ir.Node, Table]]
) -> tuple[frozenset[ir.Node], frozenset[ir.Node]]:
    """The numbers that are the same in every draw, and those of them that are 0."""
    pinned, zero = set(), set()
    for node in numbers:
        tables = [draw[node] for draw in draws]
        if node not in touched or isinstance(node, ir.Constant) or not _equal(tables):
            continue
        pinned.add(node)
        if all(abs(x) < EQUAL for x in tables[0].values()):
            zero.add(node)
    return frozenset(pinned), frozenset(zero)


def _over(indices: Iterable[object], axes: frozenset[Axis]) -> bool:
    return any(isinstance(i, Index) and i.axis in axes for i in indices)


def _axes(reading: NetworkReading) -> set[Axis]:
    """The axes of families of parameters whose members nothing in the program distinguishes."""
    found: set[Axis] = set()
    for p in reading.parameters:
        own = p.leaf.indices if isinstance(p.leaf, ir.MatrixSymbol) else p.leaf.type.indices
        found |= {i.axis for i, place in zip(own, p.declared.member, strict=True) if place is None}
        found -= {i.axis for i, place in zip(own, p.declared.member, strict=True) if place is not None}
    for node in reading.backward:
        found -= {i.axis for i in _told_apart(node)}
    return {axis for axis in found if axis.size > 1}


def _told_apart(node: ir.Node) -> list[Index]:
    """The indices over which a node treats positions differently."""
    match node:
        case ir.Array() | ir.Position():
            return list(node.type.indices)
        case ir.InitialKet(symbol=symbol):
            return [i for a in node.args for i in a.type.indices] + list(symbol.pair or ())
        case ir.Reindex(args=(x, *_), selectors=selectors):
            return [i for i, s in zip(x.type.indices, selectors, strict=True) if not isinstance(s, Index)]
        case ir.MatMul(matrix=matrix, member=member):
            picked = [i for i, m in zip(matrix.indices, member, strict=True) if not isinstance(m, Index)]
            return picked + list(matrix.variance.type.indices)
        case ir.Along(index=index) | ir.Stack(index=index):
            return [index]
        case ir.Linalg(rows=rows, cols=cols):
            return [rows, cols]
    return []


def _touched(order: list[ir.Node], axes: frozenset[Axis]) -> set[ir.Node]:
    """The nodes that numbers over the axes enter."""
    found: set[ir.Node] = set()
    for n in order:
        if n.type.is_scalar and (_over(n.type.indices, axes) or any(a in found for a in n.args)):
            found.add(n)
    return found


def _depending(
    order: list[ir.Node], sources: Collection[Leaf], axes: frozenset[Axis], zero: Collection[ir.Node] = ()
) -> set[ir.Node]:
    """The nodes over the axes that depend on what distinguishes members, except products with 0."""
    found: set[ir.Node] = set()
    for n in order:
        if not _over(n.type.indices, axes):
            continue
        product = isinstance(n, ir.Contract) or (isinstance(n, ir.Map) and n.fn == "mul")
        cancels = n in zero or (product and any(a in zero for a in n.args))
        enters = any(a in found for a in n.args) or (isinstance(n, ir.MatMul) and n.matrix in sources)
        if n in sources or (enters and not cancels):
            found.add(n)
    return found


def _jumps(node: ir.Node) -> bool:
    return isinstance(node, ir.Map) and PRIMITIVES[node.fn].jumps


def _is_leaf(node: ir.Node) -> bool:
    """Is its value drawn? Brackets are, and everything that is not smooth arithmetic of numbers."""
    match node:
        case ir.Constant() | ir.Reindex() | ir.Stop() | ir.Reduce(op="logsumexp" | "prod"):
            return False
        case ir.Contract(slots=slots):
            return bool(slots)
        case ir.Map(fn=fn):
            return fn not in ("add", "mul", "div", "pow") and not PRIMITIVES[fn].smooth
    return True


def _equal(tables: list[Table]) -> bool:
    first = tables[0]
    return all(abs(x - t[k]) <= EQUAL * max(1.0, abs(x)) for t in tables[1:] for k, x in first.items())


class _Draw:
    """The numbers of a program for one choice of its brackets; other axes are cut to two points.

    Numbers of `uneven` are drawn without the symmetry. Given `vanishes`, the brackets that vanish at initialisation are
    0, and functions with kinks are computed too; `zero` holds what is then 0, including kets, and `singular` what cannot be computed.
    """

    def __init__(
        self,
        axes: frozenset[Axis],
        seed: int,
        uneven: Collection[ir.Node] = frozenset(),
        vanishes: Callable[[ir.Contract], bool] | None = None,
    ):
        self.axes, self.uneven, self.vanishes, self.random = axes, uneven, vanishes, random.Random(seed)
        self.singular: set[ir.Node] = set()
        self.zero: set[ir.Node] = set()
        self.drawn: dict[tuple[ir.Node, tuple[object, ...]], float] = {}
        self.of: dict[ir.Node, Table] = {}

    def values(self, nodes: list[ir.Node]) -> dict[ir.Node, Table]:
        for node in nodes:
            if node.type.is_scalar:
                self.of[node] = {at: self._value(node, at) for at in self._places(node.type.indices)}
            if self.vanishes is not None and self._is_zero(node):
                self.zero.add(node)
        return self.of

    def _is_zero(self, node: ir.Node) -> bool:
        if node.type.is_scalar:
            return all(abs(x) < EQUAL for x in self.of[node].values())
        zeros = [a in self.zero for a in node.args]
        match node:
            case ir.Contract() | ir.Map(fn="mul"):
                return any(zeros)
            case ir.Map(fn="div"):
                return zeros[0]
            case ir.Map(fn="add"):
                return all(zeros)
            case ir.Map(fn=fn) if all(zeros):
                with contextlib.suppress(ValueError, ZeroDivisionError):
                    return PRIMITIVES[fn].scalar(*(0.0 for _ in zeros)) == 0
        return bool(node.linear) and all(a in self.zero for a in node.linear_in)

    def _places(self, indices: Iterable[Index]) -> Iterable[Positions]:
        return itertools.product(*(range(self._size(i)) for i in indices))

    def _size(self, index: Index) -> int:
        return index.size if index.axis in self.axes else min(2, index.size)

    def _value(self, node: ir.Node, at: Positions) -> float:
        if self.vanishes is not None and self._vanishes(node, self.vanishes):
            return 0.0
        if node not in self.uneven and (not _is_leaf(node) or (self.vanishes is not None and isinstance(node, ir.Map))):
            try:
                value = self._computed(node, dict(zip(node.type.indices, at, strict=True)))
                if math.isfinite(value):
                    return value
            except (ValueError, ZeroDivisionError, OverflowError):
                pass
            if any(a in self.zero for a in node.args):
                self.singular.add(node)
        return self._leaf(node, at)

    def _vanishes(self, node: ir.Node, vanishes: Callable[[ir.Contract], bool]) -> bool:
        if not isinstance(node, ir.Contract) or not node.slots:
            return False
        return vanishes(node) or any(a in self.zero for a in node.args)

    def _leaf(self, node: ir.Node, at: Positions) -> float:
        """The same value at positions related by an exchange of members, except for uneven nodes."""
        seen: dict[tuple[Axis, int], int] = {}
        key: list[object] = []
        for index, place in zip(node.type.indices, at, strict=True):
            if index.axis in self.axes and node not in self.uneven:
                key.append((index.axis, seen.setdefault((index.axis, place), len(seen))))
            else:
                key.append(place)
        return self.drawn.setdefault((node, tuple(key)), self.random.uniform(-1.5, 1.5))

    def _at(self, node: ir.Node, places: dict[Index, int]) -> float:
        return self.of[node][tuple(places[i] for i in node.type.indices)]

    def _computed(self, node: ir.Node, places: dict[Index, int]) -> float:
        match node:
            case ir.Constant(value=value):
                return value
            case ir.Stop(args=(x,)):
                return self._at(x, places)
            case ir.Contract(over=over, args=args):
                spread = ({**places, **dict(zip(over, at, strict=True))} for at in self._places(over))
                return math.fsum(math.prod(self._at(a, here) for a in args) for here in spread)
            case ir.Reduce(op=op, index=index, args=(x,)):
                found = [self._at(x, {**places, index: k}) for k in range(self._size(index))]
                return math.prod(found) if op == "prod" else math.log(math.fsum(map(math.exp, found)))
            case ir.Reindex(args=(x, *_), selectors=selectors):
                return self.of[x][tuple(places[s] if isinstance(s, Index) else 0 for s in selectors)]
            case ir.Map(fn=fn, args=args):
                values = [self._at(a, places) for a in args]
                if fn == "add":
                    return math.fsum(values)
                return math.prod(values) if fn == "mul" else PRIMITIVES[fn].scalar(*values)
        raise ValueError


__all__ = ["ExchangeableMembers", "alike"]
