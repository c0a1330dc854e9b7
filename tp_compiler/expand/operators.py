"""Operators as text, for functions of operators that cannot be written otherwise: `pow(0.1 + |y><y|, -1/4) |z>`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tp_compiler.diagnostics import Diagnostic, ProgramError, Span
from tp_compiler.expand.text import ATOM, POWER, PRODUCT, SUM, Piece, called
from tp_compiler.ir import nodes as ir
from tp_compiler.ir import operators as v
from tp_compiler.ir.types import Index

#: Writes a node where it is needed: as it is, or in a bra.
Write = Callable[[ir.Node], Piece]


def nodes(op: v.Operator) -> Iterator[ir.Node]:
    """The kets and scalars in an operator."""
    match op:
        case v.Outer(left=left, right=right):
            yield from (left, right)
        case v.Diagonal(node=node):
            yield node
        case v.Scaled(factor=factor, operator=inner):
            yield factor
            yield from nodes(inner)
        case v.Summed(operator=inner):
            yield from nodes(inner)
        case v.Function(operator=inner, args=args):
            yield from nodes(inner)
            yield from args
        case v.Added(terms=parts) | v.Composed(factors=parts):
            for part in parts:
                yield from nodes(part)


class OperatorText:
    """Writes one operator. `ket` and `bra` write its nodes, `bound` opens a sum with a name for its index."""

    def __init__(self, ket: Write, bra: Write, bound: Callable[[Index], tuple[str, OperatorText]], span: Span):
        self.ket, self.bra, self.bound, self.span = ket, bra, bound, span

    def piece(self, op: v.Operator) -> Piece:
        match op:
            case v.Identity():
                return Piece("I")
            case v.Outer(left=left, right=right):
                return Piece(f"{self.ket(left).at(ATOM)}<{self.bra(right).text}|", PRODUCT, applied=True)
            case v.Scaled(factor=factor, operator=v.Identity()):
                return Piece(f"{self.ket(factor).at(PRODUCT)} I", PRODUCT)
            case v.Scaled(factor=factor, operator=inner):
                return Piece(f"{self.ket(factor).at(POWER)} * {self.piece(inner).at(POWER)}", PRODUCT)
            case v.Summed(operator=inner, index=index):
                name, within = self.bound(index)
                return called(f"sum[{name}]", [within.piece(inner).text])
            case v.Added(terms=terms):
                return Piece(" + ".join(self.piece(t).at(PRODUCT) for t in terms), SUM)
            case v.Composed(factors=factors):
                return Piece(" ".join(self.piece(f).at(POWER) for f in factors), PRODUCT)
            case v.Diagonal(node=node):
                return Piece(self.ket(node).at(ATOM))
            case v.Function(name=name, operator=inner, args=args, fn=fn):
                first = [fn] if fn else []
                return called(name, [*first, self.piece(inner).text, *(self.ket(a).text for a in args)])
        message = "this operator cannot be written out as a program"
        raise ProgramError([Diagnostic("NX502", message, self.span, "leave out the outputs that depend on it")])
