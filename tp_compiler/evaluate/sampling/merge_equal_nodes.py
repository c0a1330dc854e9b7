"""Merges instructions that agree up to the names of their indices.

A loop evaluates its network for the loss over fresh indices, and again for the outputs: the second is the first with
other names. The copy becomes a `Reindex` that only renames, which costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.neuron_renaming import is_rename, later, pushed
from tp_compiler.ir.program import Program
from tp_compiler.ir.types import Index
from tp_compiler.ir.walk import reachable

#: Never merged: draws, traces of the loop, refused nodes, and bases, where another order changes the last digits.
_ALONE = (ir.InitialKet, ir.InitialScalar, ir.Clt, ir.Trace, ir.Unavailable, ir.Join, ir.Spectral)


@dataclass(frozen=True)
class _Form:
    """A node up to names: a number shared by equal nodes, and its own indices in the order of the first such node."""

    number: int
    order: tuple[Index, ...]


def shared(program: Program) -> Program:
    """The same program, with each value computed once. States, initial kets and data are not changed."""
    loop = program.loop
    starts = [s.init for s in loop.following] if loop is not None else []
    sharing = _Sharing()
    for node in reachable([*program.roots, *starts]):
        sharing.visit(node)
    done = sharing.done
    outputs = tuple(replace(o, node=done[o.node]) for o in program.outputs)
    if loop is not None:
        following = {s: done[n] for s, n in loop.following.items()}
        matrices = [s for s in following if s.is_matrix]
        following |= zip(matrices, pushed(following[s] for s in matrices), strict=True)
        loop = replace(loop, following=following)
    return replace(program, outputs=outputs, loop=loop)


class _Sharing:
    def __init__(self) -> None:
        self.done: dict[ir.Node, ir.Node] = {}
        self.form: dict[ir.Node, _Form] = {}
        self.known: dict[Any, tuple[int, ir.Node, dict[Index, int]]] = {}

    def visit(self, node: ir.Node) -> None:
        """Nodes come in program order: arguments are done."""
        if isinstance(node, ir.Reindex) and is_rename(node):
            x = self.form[node.args[0]]
            names = dict(zip(node.args[0].type.indices, node.selectors, strict=True))
            self.form[node] = _Form(x.number, tuple(names[i] for i in x.order))  # type: ignore[misc]
            self.done[node] = self._with_args(node)
            return
        numbers: dict[Index, int] = {}
        key = self._key(node, numbers)
        if key not in self.known:
            new = self._with_args(node)
            self.known[key] = len(self.known), new, dict(numbers)
            self.done[node] = new
            self.form[node] = _Form(len(self.known) - 1, node.type.indices)
            return
        number, first, places = self.known[key]
        own = {k: i for i, k in numbers.items()}
        order = tuple(own[places[i]] for i in first.type.indices)
        self.form[node] = _Form(number, order)
        same = order == first.type.indices == node.type.indices
        self.done[node] = first if same else self._renamed(node, first, order)

    def _renamed(self, node: ir.Node, first: ir.Node, order: tuple[Index, ...]) -> ir.Node:
        return ir.Reindex(type=node.type, span=node.span, args=(first,), selectors=order)

    def _with_args(self, node: ir.Node) -> ir.Node:
        args = tuple(self.done[a] for a in node.args)
        if args == node.args:
            return node
        return replace(node, args=args, serial=later())

    def _key(self, node: ir.Node, numbers: dict[Index, int]) -> Hashable:
        """Equal for nodes that agree up to names. Indices are numbered as they appear."""

        def number(i: Index) -> tuple[int, int]:
            return numbers.setdefault(i, len(numbers)), i.size

        args = tuple((self.form[a].number, tuple(number(i) for i in self.form[a].order)) for a in node.args)
        own = _attributes(node, number)
        if own is None:
            for i in node.type.indices:
                number(i)
            return node
        return (type(node), args, own)


def _attributes(node: ir.Node, number: Callable[[Index], tuple[int, int]]) -> Hashable:
    """An instruction without its arguments, its indices numbered; None if it is never merged."""
    if isinstance(node, _ALONE) or not (node.args or isinstance(node, ir.Position)):
        return None

    def numbered(x: object) -> object:
        if isinstance(x, tuple):
            return tuple(numbered(y) for y in x)
        return number(x) if isinstance(x, Index) else x

    if isinstance(node, ir.Contract):
        return frozenset(number(i) for i in node.over), node.slots
    return tuple(numbered(getattr(node, name)) for name in node.attributes())
