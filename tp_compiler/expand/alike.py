"""Nodes that are one up to the names of their indices: `h[j]` is `h[i]` read under another name.

Every node gets a class and its free indices in an order of the class: two nodes of one class are the same with the first
index of the one in the place of the first of the other, and so on. Copies are numbered like indices.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from tp_compiler.expand.unit import is_renaming
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index

Label = Index | int
_COMMON = ("type", "span", "args", "serial")
_BY_IDENTITY = (ir.Array, ir.InitialKet, ir.InitialScalar, ir.Carry, ir.Trace, ir.Unavailable)


@dataclass(frozen=True, eq=False)
class Kind:
    """The class of a node, and its free indices and copies in the order of the class."""

    number: int
    free: tuple[Label, ...]


class Alike:
    """Finds the class of every node, arguments first."""

    def __init__(self, nodes: Iterable[ir.Node]):
        self._numbers: dict[object, int] = {}
        self.kinds: dict[ir.Node, Kind] = {}
        for node in nodes:
            self.kinds[node] = self._kind(node)

    def _kind(self, node: ir.Node) -> Kind:
        if isinstance(node, ir.Reindex) and is_renaming(node):
            x = self.kinds[node.args[0]]
            names = dict(zip(node.args[0].type.indices, node.selectors, strict=True))
            return Kind(x.number, tuple(names[i] if isinstance(i, Index) else i for i in x.free))  # type: ignore[misc]
        order: dict[Label, int] = {}

        def placed(x: object) -> object:
            """A field with its indices and copies numbered in the order in which they appear."""
            if isinstance(x, tuple):
                return tuple(placed(y) for y in x)
            if isinstance(x, Index):
                return "index", order.setdefault(x, len(order)), x.axis
            return x

        parts: list[object] = [type(node)]
        if isinstance(node, _BY_IDENTITY):
            parts += [node, placed(node.type.indices)]
        for f in fields(node):
            if f.name not in _COMMON and not isinstance(node, _BY_IDENTITY):
                value = getattr(node, f.name)
                copies = f.name in ("slot", "slots")
                parts.append(_numbered(value, order) if copies else placed(value))
        if not isinstance(node, _BY_IDENTITY):
            for a in node.args:
                kind = self.kinds[a]
                parts.append((kind.number, tuple(_label(x, order) for x in kind.free)))
        free = {*node.type.indices, *(s for s, _ in node.type.slots if s)}
        number = self._numbers.setdefault(tuple(parts), len(self._numbers))
        return Kind(number, tuple(x for x in order if x in free))


def _numbered(value: int | tuple[int, ...], order: dict[Label, int]) -> object:
    """Copies; the row's own neurons, 0, are no copy."""
    slots = value if isinstance(value, tuple) else (value,)
    return tuple(("copy", order.setdefault(s, len(order))) if s else 0 for s in slots)


def _label(x: Label, order: dict[Label, int]) -> object:
    return order.setdefault(x, len(order)), x.axis if isinstance(x, Index) else None

