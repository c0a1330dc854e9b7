"""Nodes that are one up to the names of their indices: `h[j]` is `h[i]` read under another name.

Every node gets a class and its free indices in an order of the class: two nodes of one class are the same with the
first index of the one in the place of the first of the other, and so on. Copies are numbered like indices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
        self._factors: dict[ir.Node, tuple[Kind, ...]] = {}  # of products, nested ones taken apart
        for node in nodes:
            self.kinds[node] = self._kind(node)

    def _kind(self, node: ir.Node) -> Kind:
        if isinstance(node, ir.Reindex) and is_renaming(node):
            x, names = node.args[0], dict(zip(node.args[0].type.indices, node.selectors, strict=True))
            if x in self._factors:
                self._factors[node] = tuple(_renamed(k, names) for k in self._factors[x])
            return _renamed(self.kinds[x], names)
        args = [self.kinds[a] for a in node.args]
        product = isinstance(node, ir.Map) and node.fn == "mul"
        if product or isinstance(node, ir.Contract):
            args = [k for a in node.args for k in self._factors.get(a, (self.kinds[a],))]
            args.sort(key=lambda k: k.number)
        if product:
            self._factors[node] = tuple(args)
        order: dict[Label, int] = {}

        def placed(x: object) -> object:
            """A field with its indices and copies numbered in the order in which they appear."""
            if isinstance(x, tuple):
                return tuple(placed(y) for y in x)
            if isinstance(x, Index):
                return "index", order.setdefault(x, len(order)), x.axis
            return x

        parts: list[object] = [type(node)]
        if isinstance(node, ir.Reindex):
            x, names = args.pop(0), dict(zip(node.args[0].type.indices, node.selectors, strict=True))
            parts.append(
                (x.number, tuple(placed(names[i]) if isinstance(i, Index) else _label(i, order) for i in x.free))
            )
        elif isinstance(node, _BY_IDENTITY):
            parts += [node, placed(node.type.indices)]
            args = []
        else:
            for f in fields(node):
                if f.name not in _COMMON:
                    value = getattr(node, f.name)
                    parts.append(_numbered(value, order) if f.name in ("slot", "slots") else placed(value))
        parts += [(kind.number, tuple(_label(x, order) for x in kind.free)) for kind in args]
        free = {*node.type.indices, *(s for s, _ in node.type.slots if s)}
        number = self._numbers.setdefault(tuple(parts), len(self._numbers))
        return Kind(number, tuple(x for x in order if x in free))


def _renamed(kind: Kind, names: Mapping[Index, object]) -> Kind:
    placed = (names[x] if isinstance(x, Index) and x in names else x for x in kind.free)
    return Kind(kind.number, tuple(x for x in placed if isinstance(x, Index | int)))


def _numbered(value: int | tuple[int, ...], order: dict[Label, int]) -> object:
    """Copies; the row's own neurons, 0, are no copy."""
    slots = value if isinstance(value, tuple) else (value,)
    return tuple(("copy", order.setdefault(s, len(order))) if s else 0 for s in slots)


def _label(x: Label, order: dict[Label, int]) -> object:
    return order.setdefault(x, len(order)), x.axis if isinstance(x, Index) else None
