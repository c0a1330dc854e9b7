"""The input of expansion: a checked program before lowering, and the gradients of its training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tp_compiler.diagnostics import Diagnostic, ProgramError
from tp_compiler.ir import nodes as ir
from tp_compiler.ir import operators as v
from tp_compiler.ir.model import Brackets, Model
from tp_compiler.ir.operators import Applied
from tp_compiler.ir.types import Index
from tp_compiler.ir.walk import rewrite
from tp_compiler.transform import low_rank
from tp_compiler.transform.algebra import OperatorAlgebra
from tp_compiler.transform.gradient import Gradient, Label
from tp_compiler.transform.gradient_operators import gradient_operator

#: A term of an operator: Σ over the indices of |left><right|.
Term = tuple[ir.Node, ir.Node, tuple[Index, ...]]


@dataclass(frozen=True, eq=False)
class ParameterGradient:
    """The gradient of the loss by a parameter, or by one member of its family: a node, or the terms of an operator."""

    parameter: str
    member: Brackets
    value: ir.Node | tuple[Term, ...]

    @property
    def nodes(self) -> tuple[ir.Node, ...]:
        return (self.value,) if isinstance(self.value, ir.Node) else tuple(n for t in self.value for n in t[:2])


class SourceProgram:
    """A program as the checker leaves it. If nothing is trained, `stop` has no further effect and is left out."""

    def __init__(self, model: Model):
        self.model = model
        self.source = model.source
        self.build = model.build
        self.training = model.training
        self.declared = model.vocabulary.declared
        self._done: dict[ir.Node, ir.Node] = {}
        self.outputs = [replace(o, node=self._kept(o.node)) for o in model.outputs]
        self.names: dict[ir.Node, tuple[str, Brackets]] = {}
        for node, (ident, places) in model.names.items():
            self.call(self._done.get(node, node), ident, places)
        self.slopes = list(self._slopes())
        self.applications = self._applications()
        self.cotangents = self._cotangents()

    # -- `stop` -------------------------------------------------------------------------------------------------
    def _kept(self, root: ir.Node) -> ir.Node:
        return (
            root if self.training is not None else rewrite(self.build, root, _leaf, root.span, self._done, _unstopped)
        )

    def _cotangents(self) -> ir.Cotangents:
        found: ir.Cotangents = {}
        for value, uses in self.build.cotangents.items():
            now = [(self._done.get(of, of), labels) for of, labels in uses]
            found.setdefault(self._done.get(value, value), []).extend(now)
        return found

    def _applications(self) -> dict[ir.Node, Applied]:
        """The results of functions of operators, which cannot be written otherwise."""
        algebra, found = OperatorAlgebra(self.build, low_rank.applied), {}
        for node, a in self.model.vocabulary.applied.items():
            op = algebra.mapped(a.operator, self._kept, node.span) if node in self._done else a.operator
            found[self._done.get(node, node)] = Applied(a.word, op, self._kept(a.ket) if a.ket is not None else None)
        return found

    # -- names --------------------------------------------------------------------------------------------------
    def call(self, node: ir.Node, ident: str, places: Brackets) -> None:
        """Gives a node a name from the source; a family with renamed indices passes the name on to the original family."""
        while isinstance(node, ir.Reindex) and is_renaming(node):
            back = dict(zip(node.selectors, node.args[0].type.indices, strict=True))
            places = tuple(back.get(p, p) if isinstance(p, Index) else p for p in places)
            node = node.args[0]
        self.names.setdefault(node, (ident, places))

    # -- training -----------------------------------------------------------------------------------------------
    @property
    def clock(self) -> Index | None:
        """The index `step`, if a loop counts it."""
        return self.training.clock if self.training is not None else None

    def starts(self) -> set[ir.Node | ir.MatrixSymbol]:
        """Initial values of trained parameters, which can no longer be named in the loop and after it."""
        return {target.start for target in self.training.targets} if self.training is not None else set()

    def loop_roots(self) -> list[ir.Node]:
        """The results of a step: the loss, its gradients, the arguments of the optimizers."""
        t = self.training
        if t is None:
            return []
        clip = [t.clip] if t.clip is not None else []
        values = [n for line in t.lines for n in line.arguments.values()]
        return [t.loss, *clip, *(n for s in self.slopes for n in s.nodes), *values]

    def laws(self) -> list[ir.Node]:
        """The means, variances and values in declarations."""
        return [n for d in self.declared for n in d.numbers]

    def _slopes(self) -> Iterator[ParameterGradient]:
        t = self.training
        if t is None:
            return
        gradient = Gradient(self.build, t.loss, [target.leaf for target in t.targets], t.loss.span)
        for target in t.targets:
            leaf = target.leaf
            own = leaf.indices if isinstance(leaf, ir.MatrixSymbol) else leaf.type.indices
            for member in _members(gradient.members(leaf), own):
                if isinstance(leaf, ir.MatrixSymbol):
                    op = gradient_operator(self.build, gradient, leaf, member, leaf.span)
                    yield ParameterGradient(target.name, member, tuple(_terms(op)))
                else:
                    yield ParameterGradient(target.name, member, gradient.by(leaf, member))


def _leaf(node: ir.Node) -> ir.Node | None:
    """An initial ket stays: its declaration is written as it is."""
    return None if node.args and not isinstance(node, ir.InitialKet) else node


def _unstopped(node: ir.Node, args: tuple[ir.Node, ...]) -> ir.Node | None:
    return args[0] if isinstance(node, ir.Stop) else None


def _members(found: set[tuple[Label, ...]], own: tuple[Index, ...]) -> list[tuple[Label, ...]]:
    """The members to write a gradient for: one by one if every bracket is a position in all of them, or in none."""
    kinds = {tuple(isinstance(label, int) for label in labels) for labels in found}
    if len(kinds) > 1:
        return [own]
    return sorted(found, key=lambda labels: tuple(x if isinstance(x, int) else 0 for x in labels))


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
    """Whether it reads all of a family, under other index names."""
    names = [s for s in node.selectors if isinstance(s, Index)]
    return len(node.args) == 1 and len(set(names)) == len(node.selectors)


def unwritten(node: ir.Node) -> ProgramError:
    """The error of an instruction that cannot be written in the language."""
    what = node.construct if isinstance(node, ir.Unavailable) else type(node).__name__.lower()
    remedy = "leave out the outputs that depend on it"
    return ProgramError([Diagnostic("NX502", f"{what} cannot be written out as a program", node.span, remedy)])
