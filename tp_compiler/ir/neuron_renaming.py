"""Index renamings moved from expressions over two neurons to the kets and scalars in them.

The gradient of a family may be built under a separate index and renamed as a whole. Renamed at the leaves instead, its
entries are again functions of kets, and members can be processed one by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index, Type

Names = dict[Index, Index]


def pushed(roots: Iterable[ir.Node]) -> list[ir.Node]:
    """The same entries, renamed at the leaves where possible; what the roots share, they share afterwards."""
    renaming = _Renaming()
    return [renaming.node(root, {}) for root in roots]


class _Renaming:
    def __init__(self) -> None:
        self.done: dict[tuple[ir.Node, frozenset[tuple[Index, Index]]], ir.Node] = {}

    def node(self, node: ir.Node, names: Names) -> ir.Node:
        """A node with its indices renamed."""
        names = {i: k for i, k in names.items() if i in node.type.indices and i != k}
        key = node, frozenset(names.items())
        if key not in self.done:
            self.done[key] = self._renamed(node, names)
        return self.done[key]

    def _renamed(self, node: ir.Node, names: Names) -> ir.Node:
        if not (node.type.is_scalar or node.type.is_ket):
            if isinstance(node, ir.Reindex) and is_rename(node):
                own = zip(node.args[0].type.indices, node.selectors, strict=True)
                return self.node(node.args[0], {i: names.get(s, s) for i, s in own if isinstance(s, Index)})
            free = isinstance(node, ir.Map | ir.Copy)
            if free or (isinstance(node, ir.Contract) and not set(node.over) & _used(names)):
                return self._rebuilt(node, names)
        if not names:
            return node
        selectors = tuple(names.get(i, i) for i in node.type.indices)
        return ir.Reindex(type=_type(node, names), span=node.span, args=(node,), selectors=selectors)

    def _rebuilt(self, node: ir.Node, names: Names) -> ir.Node:
        args = tuple(self.node(a, names) for a in node.args)
        if args == node.args:
            return node
        return replace(node, type=_type(node, names), args=args, serial=later())


def is_rename(node: ir.Reindex) -> bool:
    """Whether the node only renames indices."""
    named = all(isinstance(s, Index) for s in node.selectors)
    return len(node.args) == 1 and named and len(set(node.selectors)) == len(node.selectors)


def later() -> int:
    """A serial number larger than those of all nodes so far."""
    return next(ir._serial)


def _used(names: Names) -> set[Index]:
    return {*names, *names.values()}


def _type(node: ir.Node, names: Names) -> Type:
    return replace(node.type, indices=tuple(names.get(i, i) for i in node.type.indices))
