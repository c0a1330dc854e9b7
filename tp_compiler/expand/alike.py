"""Nodes that are equal up to the names of their indices: `h[j]` is `h[i]` under another name.

Every node gets a class and its free indices in an order of the class: two nodes of one class are equal after replacing the
first index of one by the first of the other, and so on. Copies are numbered like indices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields

from tp_compiler.expand.unit import is_renaming
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Axis, Index

Label = Index | int
_COMMON = ("type", "span", "args", "serial")
_BY_IDENTITY = (ir.Array, ir.InitialKet, ir.InitialScalar, ir.Carry, ir.Trace, ir.Unavailable)


@dataclass(frozen=True, eq=False)
class NodeClass:
    """The class of a node, and its free indices and copies in the order of the class."""

    number: int
    free: tuple[Label, ...]


class EqualNodes:
    """Finds the class of every node, arguments first."""

    def __init__(self, nodes: Iterable[ir.Node]):
        self._numbers: dict[object, int] = {}
        self.kinds: dict[ir.Node, NodeClass] = {}
        self._factors: dict[ir.Node, tuple[NodeClass, ...]] = {}  # of products, nested ones taken apart
        for node in nodes:
            self.kinds[node] = self._kind(node)

    def _kind(self, node: ir.Node) -> NodeClass:
        if isinstance(node, ir.Reindex) and is_renaming(node):
            x, names = node.args[0], dict(zip(node.args[0].type.indices, node.selectors, strict=True))
            if x in self._factors:
                self._factors[node] = tuple(_renamed(k, names) for k in self._factors[x])
            return _renamed(self.kinds[x], names)
        args = self._args(node)
        if isinstance(node, ir.Map) and node.fn == "mul":
            self._factors[node] = tuple(args)
        numbering = _Numbering()
        key = (type(node), *numbering.of_fields(node, args))
        free = {*node.type.indices, *(s for s, _ in node.type.slots if s)}
        number = self._numbers.setdefault(key, len(self._numbers))
        return NodeClass(number, tuple(x for x in numbering.order if x in free))

    def _args(self, node: ir.Node) -> list[NodeClass]:
        """The classes of the arguments; factors in any order."""
        if not (isinstance(node, ir.Contract) or (isinstance(node, ir.Map) and node.fn == "mul")):
            return [self.kinds[a] for a in node.args]
        factors = [k for a in node.args for k in self._factors.get(a, (self.kinds[a],))]
        return sorted(factors, key=lambda k: k.number)


class _Numbering:
    """Indices and copies by the order in which they appear in a node and its arguments."""

    def __init__(self) -> None:
        self.order: dict[Label, int] = {}

    def of_fields(self, node: ir.Node, args: list[NodeClass]) -> Iterator[object]:
        """The defining attributes of a node, with indices and copies numbered."""
        if isinstance(node, _BY_IDENTITY):
            yield from (node, self.placed(node.type.indices))
            return
        if isinstance(node, ir.Reindex):
            read, *args = args
            selectors = dict(zip(node.args[0].type.indices, node.selectors, strict=True))
            places = tuple(self.placed(selectors[i]) if isinstance(i, Index) else self.label(i) for i in read.free)
            yield read.number, places
        else:
            for f in fields(node):
                if f.name not in _COMMON:
                    value = getattr(node, f.name)
                    yield self.copies(value) if f.name in ("slot", "slots") else self.placed(value)
        for kind in args:
            yield kind.number, tuple(self.label(x) for x in kind.free)

    def placed(self, x: object) -> object:
        if isinstance(x, tuple):
            return tuple(self.placed(y) for y in x)
        return ("index", *self.label(x)) if isinstance(x, Index) else x

    def label(self, x: Label) -> tuple[int, Axis | None]:
        return self.order.setdefault(x, len(self.order)), x.axis if isinstance(x, Index) else None

    def copies(self, slots: int | tuple[int, ...]) -> tuple[object, ...]:
        """The copies; the row's own neurons, 0, are not a copy."""
        return tuple(self.label(s) if s else 0 for s in (slots if isinstance(slots, tuple) else (slots,)))


def _renamed(kind: NodeClass, names: Mapping[Index, object]) -> NodeClass:
    placed = (names[x] if isinstance(x, Index) and x in names else x for x in kind.free)
    return NodeClass(kind.number, tuple(x for x in placed if isinstance(x, Index | int)))
