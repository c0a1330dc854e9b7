"""What there is to write: a checked program before it is lowered, and the gradients of its training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tp_compiler.diagnostics import Diagnostic, ProgramError
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend import values as v
from tp_compiler.frontend.check import Checker
from tp_compiler.frontend.differentiation import operator
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.gradient import Gradient, Label
from tp_compiler.ir.program import Output
from tp_compiler.ir.types import Axis, Index, Type
from tp_compiler.ir.walk import reachable, rewrite

#: A term of an operator: Σ over `over` of factor |left><right|.
Term = tuple[ir.Node, ir.Node, tuple[Index, ...]]
Brackets = tuple[Index | int, ...]


@dataclass(frozen=True, eq=False)
class Declared:
    """A name that a declaration brings: a ket, a matrix, a trainable scalar, or data."""

    ident: str
    value: ir.InitialKet | ir.InitialScalar | ir.Array | ir.MatrixSymbol

    @property
    def ket(self) -> bool:
        return isinstance(self.value, ir.InitialKet)

    @property
    def indices(self) -> tuple[Index, ...]:
        value = self.value
        return value.type.indices if isinstance(value, ir.Array) else _symbol(value).indices


def _symbol(value: ir.InitialKet | ir.InitialScalar | ir.MatrixSymbol) -> ir.KetSymbol | ir.ScalarSymbol | ir.MatrixSymbol:
    return value if isinstance(value, ir.MatrixSymbol) else value.symbol


@dataclass(frozen=True, eq=False)
class Slope:
    """The gradient of the loss by a parameter, or by one member of its family: a node, or the terms of an operator."""

    parameter: str
    member: Brackets
    value: ir.Node | tuple[Term, ...]

    @property
    def nodes(self) -> tuple[ir.Node, ...]:
        return (self.value,) if isinstance(self.value, ir.Node) else tuple(n for t in self.value for n in t[:2])


class Unit:
    """A program as the checker leaves it. Where nothing is trained, `stop` has done its work and is left out."""

    def __init__(self, checker: Checker):
        self.checker = checker
        self.build = checker.build
        self.training = checker.training
        self.source = next(iter(checker.outputs.values())).span.source if checker.outputs else None
        self.trains = self.training.trained is not None
        self._done: dict[ir.Node, ir.Node] = {}
        self.outputs = [replace(o, node=self._kept(o.node)) for o in checker.outputs.values()]
        self.names: dict[ir.Node, tuple[str, Brackets]] = {}
        for node, (ident, places) in checker.names.items():
            self.call(self._done.get(node, node), ident, places)
        self.cotangents: ir.Cotangents = {}
        self.declared = self._declarations()
        self.slopes = list(self._slopes()) if self.trains else []
        for value, uses in self.build.cotangents.items():
            self.cotangents.setdefault(self._done.get(value, value), []).extend(
                (self._done.get(of, of), labels) for of, labels in uses
            )

    def _kept(self, root: ir.Node) -> ir.Node:
        if self.trains:
            return root
        return rewrite(self.build, root, self._stop, root.span, self._done)

    def _stop(self, node: ir.Node) -> ir.Node | None:
        match node:
            case ir.Map(fn="stop", args=(x,)):
                return self._kept(x)
        return None if node.args else node

    def call(self, node: ir.Node, ident: str, places: Brackets) -> None:
        """Gives a node a name of the source; a family read under other index names gives its own to the family."""
        while isinstance(node, ir.Reindex) and is_renaming(node):
            back = dict(zip(node.selectors, node.args[0].type.indices, strict=True))
            places = tuple(back.get(p, p) if isinstance(p, Index) else p for p in places)
            node = node.args[0]
        self.names.setdefault(node, (ident, places))

    # -- names --------------------------------------------------------------------------------------------------
    @property
    def axes(self) -> dict[Axis, list[str]]:
        """Every axis with its index names, in the order of declaration."""
        found: dict[Axis, list[str]] = {axis: [] for axis in self.checker.axes}
        for name, binding in self.checker.scope.others.items():
            if isinstance(binding.value, v.IndexName) and binding.value.index.axis in found:
                found[binding.value.index.axis].append(name)
        return found

    def _declarations(self) -> list[Declared]:
        scope, found = self.checker.scope, []
        for table in (scope.others, scope.kets):
            for name, binding in table.items():
                value = self._initial(binding.value)
                if binding.declared and value is not None and binding.span is not None:
                    imported = self.source is not None and binding.span.source is not self.source
                    found.append((not imported, binding.span.start, Declared(name, value)))
        return [d for *_, d in sorted(found, key=lambda x: x[:2])]

    def _initial(self, value: v.Value) -> ir.InitialKet | ir.InitialScalar | ir.Array | ir.MatrixSymbol | None:
        """The declared thing behind a value; of a trained parameter what it starts at."""
        if isinstance(value, v.Matrix):
            return value.symbol.start or value.symbol
        if isinstance(value, v.Scalar | v.Ket):
            node = value.node.state.init if isinstance(value.node, ir.Carry) else value.node
            return node if isinstance(node, ir.InitialKet | ir.InitialScalar | ir.Array) else None
        return None

    # -- the parts ----------------------------------------------------------------------------------------------
    @property
    def clock(self) -> Index | None:
        return self.training.clock if self.training.loop is not None else None

    @property
    def trained(self) -> set[ir.Node | ir.MatrixSymbol]:
        """Initial values of trained parameters, which the loop and what follows it cannot name any more."""
        starts: set[ir.Node | ir.MatrixSymbol] = set()
        for target in self.training.targets.values():
            leaf = target.leaf
            start = leaf.start if isinstance(leaf, ir.MatrixSymbol) else leaf.state.init if isinstance(leaf, ir.Carry) else None
            starts |= {start} if start is not None else set()
        return starts

    def loop_roots(self) -> list[ir.Node]:
        """What a step computes: the loss, its gradients, the arguments of the optimizers."""
        t = self.training
        if not self.trains or t.loss is None:
            return []
        values = [n for u in t.updates for n in u.values.values() if isinstance(n, ir.Node)]
        return [t.loss, *([t.clip] if t.clip is not None else []), *(n for s in self.slopes for n in s.nodes), *values]

    def laws(self) -> list[ir.Node]:
        """The means, variances and values in declarations."""
        nodes: list[ir.Node] = []
        for d in self.declared:
            nodes += [d.value.variance] if isinstance(d.value, ir.MatrixSymbol) else d.value.args
        return nodes

    # -- gradients of the loss ----------------------------------------------------------------------------------
    def _slopes(self) -> Iterator[Slope]:
        t = self.training
        if t.loss is None:
            return
        leaves = [target.leaf for target in t.targets.values()]
        gradient = Gradient(self.build, t.loss, leaves, t.loss.span)
        for target in t.targets.values():
            leaf = target.leaf
            if not gradient.depends(leaf):
                continue
            if isinstance(leaf, ir.MatrixSymbol):
                yield from self._of_matrix(gradient, leaf, target.name)
            else:
                assert isinstance(leaf, ir.Carry)
                for member in _members(gradient.members(leaf), leaf.type.indices):
                    yield Slope(target.name, member, gradient.by(leaf, member))

    def _of_matrix(self, gradient: Gradient, matrix: ir.MatrixSymbol, name: str) -> Iterator[Slope]:
        for member in _members(gradient.members(matrix), matrix.indices):
            op = operator(self.checker.core, gradient, matrix, member, matrix.span)
            yield Slope(name, member, tuple(_terms(op)))


def _members(found: set[tuple[Label, ...]], own: tuple[Index, ...]) -> list[tuple[Label, ...]]:
    """The members to write a gradient for: the positions, where every bracket is either a position or an index."""
    kinds = {tuple(isinstance(label, int) for label in labels) for labels in found}
    if len(kinds) != 1:
        return [own]
    fixed = [tuple(x if isinstance(x, int) else i for x, i in zip(labels, own, strict=True)) for labels in found]
    return sorted(set(fixed), key=lambda labels: tuple(x if isinstance(x, int) else 0 for x in labels))


def _terms(op: v.Operator, over: tuple[Index, ...] = ()) -> Iterator[Term]:
    match op:
        case v.Outer(left=left, right=right):
            yield left, right, over
        case v.Summed(operator=inner, index=index):
            yield from _terms(inner, (*over, index))
        case v.Added(terms=terms):
            for term in terms:
                yield from _terms(term, over)


def is_renaming(node: ir.Reindex) -> bool:
    """Does it read all of a family, under other index names?"""
    names = [s for s in node.selectors if isinstance(s, Index)]
    return len(node.args) == 1 and len(set(names)) == len(node.selectors)


def unwritten(node: ir.Node) -> ProgramError:
    """An instruction without words in the language."""
    what = node.construct if isinstance(node, ir.Unavailable) else type(node).__name__.lower()
    remedy = "leave out the outputs that depend on it"
    return ProgramError([Diagnostic("NX502", f"{what} cannot be written out as a program", node.span, remedy)])


__all__ = ["Brackets", "Declared", "Slope", "Term", "Unit", "unwritten", "ast", "Output", "Type", "reachable"]
