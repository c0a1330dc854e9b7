"""A value over points of data, at other points: `k[i,j]`, where the data over i and j have other entries.

Copies of the nodes over i and j, from the value down to the data. An axis inside, as in `mean[i](..)`, keeps its own points:
so do positions, `x[1]`, and what training has read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from tp_compiler.diagnostics import ProgramError, error
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder, is_zero
from tp_compiler.ir.types import Axis, Index, Type

#: An index of a node -> the axis of the new points over which it runs in the copy.
Sides: TypeAlias = Mapping[Index, Axis]
#: The numbers of data at new points.
Values = Callable[[ir.Array, Axis], object]

#: Why a value is undefined at other points, by the instruction that is met.
_REASONS: dict[type[ir.Node], str] = {
    ir.Position: "it reads the position of a point",
    ir.InitialKet: "each point has a ket of its own",
    ir.InitialScalar: "each point has a parameter of its own",
    ir.MatMul: "each point has a matrix of its own",
    ir.Apply: "each point has a matrix of its own",
    ir.Carry: "each point has a parameter of its own",
    ir.Stack: "it is put together point by point",
    ir.Linalg: "it is a function of the matrix of all points",
}
_OTHERWISE = "it depends on the order of the points"


@dataclass
class NewPoints:
    """Copies of nodes; `values` gives the numbers of the data that are met, one call for each array and axis."""

    build: Builder
    values: Values
    #: If given, all new indices are this one: values at pairs of a point with itself.
    single: str = ""
    #: Data whose entries choose positions, with the number of positions that there are.
    choosing: dict[str, int] = field(default_factory=dict)
    _done: dict[tuple[ir.Node, frozenset[tuple[Index, Axis]]], ir.Node] = field(default_factory=dict)

    def at(self, node: ir.Node, sides: Sides) -> ir.Node:
        """The node with some of its indices over new points. Raises ProgramError NX309 if it is undefined there."""
        todo = [(node, _of(node, sides))]
        while todo:
            top, own = todo[-1]
            key = (top, frozenset(own.items()))
            if key in self._done:
                todo.pop()
                continue
            wanted = self._arguments(top, own) if own else []
            missing = [(a, s) for a, s in wanted if (a, frozenset(s.items())) not in self._done]
            if missing:
                todo += missing
                continue
            args = tuple(self._done[a, frozenset(s.items())] for a, s in wanted)
            self._done[key] = self._made(top, own, args) if own else top
        return self._done[node, frozenset(_of(node, sides).items())]

    def _arguments(self, node: ir.Node, own: Sides) -> list[tuple[ir.Node, Sides]]:
        """The arguments of a node, and which of their indices run over new points."""
        if _vanishes(node):
            return []
        if not isinstance(node, ir.Reindex):
            met = {i for name in node.attributes() for i in _indices(getattr(node, name))}
            if met & own.keys() or isinstance(node, ir.InitialKet | ir.InitialScalar | ir.Carry):
                raise _without_meaning(node)
            return [(a, _of(a, own)) for a in node.args]
        x, *gathers = node.args
        pairs = zip(x.type.indices, node.selectors, strict=True)
        inner = {i: own[s] for i, s in pairs if isinstance(s, Index) and s in own}
        return [(x, inner), *((g, _of(g, own)) for g in gathers)]

    def _made(self, node: ir.Node, own: Sides, args: tuple[ir.Node, ...]) -> ir.Node:
        if isinstance(node, ir.Array):
            return self._data(node, own)
        if _vanishes(node):
            indices = tuple(self._new(i, own[i]) if i in own else i for i in node.type.indices)
            return self.build.over(self.build.constant(0, node.span), indices, node.span)
        if isinstance(node, ir.Reindex):
            new: dict[Index, Index | int | ir.Gather] = {}
            for i, s in zip(node.args[0].type.indices, node.selectors, strict=True):
                if isinstance(s, Index) and s in own:
                    new[self._new(i, own[s])] = self._new(s, own[s])
                else:
                    new[i] = s
                if isinstance(s, ir.Gather):
                    self._choose(node.args[s.arg], i.size)
            selectors = tuple(new[i] for i in args[0].type.indices)
            return self.build.reindex(args[0], selectors, args[1:], node.span)
        return self.build.again(node, args, node.span)

    def _data(self, node: ir.Array, own: Sides) -> ir.Node:
        if len(own) > 1:
            raise error(
                "NX309", f"`{node.name}` has data for pairs of points", node.span, "make them of data for points"
            )
        (axis,) = own.values()
        kind = Type(tuple(self._new(i, axis) if i in own else i for i in node.type.indices), (), node.type.random)
        return ir.Array(type=kind, name=node.name, values=self.values(node, axis), integer=node.integer, span=node.span)

    def _new(self, index: Index, axis: Axis) -> Index:
        return Index(self.single or index.name, axis)

    def _choose(self, node: ir.Node, size: int) -> None:
        """Notes that positions up to `size` are read from data."""
        while isinstance(node, ir.Reindex):
            node = node.args[0]
        if isinstance(node, ir.Array):
            self.choosing[node.name] = min(size, self.choosing.get(node.name, size))


def _of(node: ir.Node, sides: Sides) -> Sides:
    return {i: sides[i] for i in node.type.indices if i in sides}


def _vanishes(node: ir.Node) -> bool:
    """Is this 0 times the position of an index, with which a constant is written as a family (Builder.over)?"""
    return isinstance(node, ir.Map) and node.type.is_scalar and is_zero(node)


def _indices(value: object) -> list[Index]:
    """The indices in an attribute."""
    if isinstance(value, Index):
        return [value]
    return [i for part in value for i in _indices(part)] if isinstance(value, tuple) else []


def _without_meaning(node: ir.Node) -> ProgramError:
    reason = _REASONS.get(type(node), _OTHERWISE)
    remedy = "report the part that is a function of two points; add the rest in Python"
    return error("NX309", f"this has no value at other points: {reason}", node.span, remedy)
