"""How a network applies a parameter: the inputs that it meets, and the places where its results enter the network.

K-FAC's factors are Σ|x><x| over the inputs and Σ|d><d| over the gradients of the outputs by the results (limit.md
section 6; Martens & Grosse 2015). For y = W|x> the input is |x> and the result |y>; for y = Σ_d x[d] |u[d]> the inputs are
the arrays x, read off the instructions that made y; for f[c] = <v[c]|x> the input is |x> and the results are the numbers f:
there the parameter is an operator from kets to arrays, and its gradient Σ χ |x> the transpose of the gradient by it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from tp_compiler.diagnostics import Span
from tp_compiler.frontend.expressions import error
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.gradient import Gradient, Label, Leaf
from tp_compiler.ir.types import Index

#: Kets in one stack, Σ_r |ket_r><ket_r|; or a symmetric array over (index, other).
Factor = tuple[ir.Node, Index, Index | None]


@dataclass(frozen=True, eq=False)
class Use:
    """One place where a parameter is applied.

    `inputs` is a ket |x> (of a matrix, of a readout), or the coefficients of the members `column` of a family. `member`:
    which member of a family of matrices it is.
    """

    place: ir.Node
    inputs: ir.Node
    column: Index | None = None
    member: tuple[Label, ...] = ()


class Layer:
    """The uses of one parameter in what leads to `loss`. `readout`: it stands in brackets."""

    def __init__(self, build: Builder, loss: ir.Node, leaf: Leaf, name: str, span: Span):
        self.build, self.leaf, self.name, self.span = build, leaf, name, span
        self.readout = False
        self.own = leaf.indices if isinstance(leaf, ir.MatrixSymbol) else ()
        self.column = None if isinstance(leaf, ir.MatrixSymbol) else next(iter(leaf.type.indices), None)
        order = _differentiable(loss)
        self.uses = self._of_matrix(order, leaf) if isinstance(leaf, ir.MatrixSymbol) else self._of_kets(order, leaf)

    # -- uses ---------------------------------------------------------------------------------------------------
    def _of_matrix(self, order: list[ir.Node], matrix: ir.MatrixSymbol) -> list[Use]:
        found = [n for n in order if isinstance(n, ir.MatMul) and n.matrix is matrix]
        if any(n.transposed for n in found):
            raise self._refused(f"{self.name} is applied as {self.name}^T", "declare its transpose as the matrix")
        return [Use(n, n.args[0], member=n.member) for n in found]

    def _of_kets(self, order: list[ir.Node], leaf: ir.Node) -> list[Use]:
        consumers: dict[ir.Node, list[ir.Node]] = defaultdict(list)
        for node in order:
            for arg in dict.fromkeys(node.args):
                consumers[arg].append(node)
        uses: list[Use] = []
        brackets: list[bool] = []
        todo: list[tuple[ir.Node, ir.Node]] = [(leaf, self._start(leaf))]
        while todo:
            node, coefficients = todo.pop()
            above = consumers[node]
            passed = [self._passed(c, node, coefficients) for c in above]
            if above and all(p is not None for p in passed):
                todo += [(c, p) for c, p in zip(above, passed, strict=True) if p is not None]
                continue
            for consumer in above:
                brackets.append(_is_bracket(consumer, node))
                if brackets[-1]:
                    uses.append(self._bracket(consumer, node, coefficients))
            if not all(_is_bracket(c, node) for c in above):
                uses.append(Use(node, coefficients, self.column))
        self.readout = any(brackets)
        if len(set(brackets)) > 1:
            raise self._refused(f"{self.name} is used as a layer and in brackets", "use one optimizer of entries for it")
        return uses

    def _start(self, leaf: ir.Node) -> ir.Node:
        """The coefficients of the leaf itself: delta of its own index and the column."""
        if self.column is None:
            return self.build.constant(1, self.span)
        self.column = self.build.fresh(self.column)
        return self.build.delta(leaf.type.indices[0], self.column, self.span)

    def _passed(self, node: ir.Node, arg: ir.Node, coefficients: ir.Node) -> ir.Node | None:
        """The coefficients of a node that is linear in `arg` with numbers as coefficients; else None."""
        build, span = self.build, self.span
        if isinstance(node, ir.Reindex) and node.args[0] is arg and arg not in node.args[1:]:
            chosen = dict(zip(arg.type.indices, node.selectors, strict=True))
            own = coefficients.type.indices
            return build.reindex(coefficients, tuple(chosen.get(i, i) for i in own), node.args[1:], span)
        others = [a for a in node.args if a is not arg]
        if len(others) != len(node.args) - 1 or any(a.type.slots for a in others):
            return None
        if isinstance(node, ir.Map) and node.fn == "mul":
            return build.map("mul", (coefficients, *others), span)
        if isinstance(node, ir.Contract) and not node.slots:
            return self._summed(node, arg, others, coefficients)
        return None

    def _summed(self, node: ir.Contract, arg: ir.Node, others: list[ir.Node], coefficients: ir.Node) -> ir.Node:
        """Σ_d delta[d, column] x[d] is x[column]."""
        build, span = self.build, self.span
        own = arg.type.indices
        if arg is self.leaf and self.column is not None and own[0] in node.over:
            renamed = [build.rename(o, {own[0]: self.column}, span) for o in others]
            rest = tuple(i for i in node.over if i != own[0])
            return build.contract(renamed or (build.constant(1, span),), rest, (), span)
        return build.contract((coefficients, *others), node.over, (), span)

    def _bracket(self, node: ir.Node, arg: ir.Node, coefficients: ir.Node) -> Use:
        others = [a for a in node.args if a is not arg]
        if len(others) != len(node.args) - 1:
            raise self._refused(f"{self.name} stands in a bracket with itself", "use an optimizer of entries for it")
        place = node
        assert isinstance(node, ir.Contract)
        inputs = self.build.map("mul", others, self.span)
        if arg is not self.leaf or node.over:
            raise self._refused(f"{self.name} is summed before it is read", "read it out member by member: <v[c]|x>")
        return Use(place, self.build.as_ket(inputs, self.leaf_width(), self.span), self.column)

    def leaf_width(self):  # type: ignore[no-untyped-def]
        assert isinstance(self.leaf, ir.Node)
        return self.leaf.type.width

    def _refused(self, why: str, remedy: str) -> Exception:
        return error("NX292", f"K-FAC has no factors here: {why}", self.span, remedy)
