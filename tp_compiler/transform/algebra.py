"""The algebra of operators, and their lowering: the effect of an operator on a ket.

Transposes are those of the matrix at width n: (|y><x|)^T = ρ |x><y| with ρ = lim (width of y)/(width of x), since
the matrix of |y><x| is y xᵀ / (width of x).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Concatenate, ParamSpec, TypeAlias, TypeVar

from tp_compiler.diagnostics import Span, error
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.operators import (
    Added,
    Applied,
    Carried,
    Columns,
    Composed,
    Diagonal,
    Flipped,
    Function,
    GatheredMatrix,
    Identity,
    Kernel,
    Matrix,
    Opaque,
    Operator,
    Outer,
    Scaled,
    Summed,
    extent,
    flat,
    is_low_rank,
    ket_width,
    rebuilt,
    widths,
)
from tp_compiler.ir.types import Index, N, Width
from tp_compiler.ir.walk import rewrite
from tp_compiler.process import on_a_new_stack
from tp_compiler.transform.slots import exchanged

#: Bounds on an operator expression: products and sums it takes to apply it, and how deep they nest.
MAX_TERMS = 20_000
MAX_DEPTH = 500
#: Levels on one of Python's stacks.
STACK = 50


Rest = ParamSpec("Rest")
Result = TypeVar("Result")


def _deep(
    method: Callable[Concatenate[OperatorAlgebra, Operator, Rest], Result],
) -> Callable[Concatenate[OperatorAlgebra, Operator, Rest], Result]:
    """A method that calls itself for the parts of an operator, on as many stacks as that takes."""

    def call(self: OperatorAlgebra, op: Operator, /, *rest: Rest.args, **named: Rest.kwargs) -> Result:
        if extent(op)[1] % STACK:
            return method(self, op, *rest, **named)
        return on_a_new_stack(partial(method, self, op, *rest, **named))

    update_wrapper(call, method)
    return call


#: Applies a matrix function to a ket (low_rank.py).
WorkOut: TypeAlias = "Callable[[OperatorAlgebra, Function, ir.Node, Span], ir.Node]"


#: Operators made of kets, scalars and other operators alone.
_SPELLED_OUT = (Outer, Kernel, Diagonal, Scaled, Added, Composed, Summed, Identity, Function)


class OperatorAlgebra:
    """Operations on operators that make nodes."""

    def __init__(self, builder: Builder, work_out: WorkOut):
        self.build = builder
        self._work_out = work_out
        self.applied: dict[ir.Node, Applied] = {}  # for readers
        self.widths: list[Width] = [N]  # the width classes declared so far

    def known(self, width: Width | None, span: Span) -> Width:
        """The width of a constant ket: n if there is no other class, otherwise it must be specified."""
        if width is None and len(self.widths) > 1:
            raise error(
                "NX249",
                "the width class of this constant ket is ambiguous",
                span,
                "add 0 times a ket of its width: `|1> + 0 |x>`",
            )
        return width or N

    def bounded(self, op: Operator, span: Span) -> Operator:
        """The operator, unless applying it would take too long."""
        terms, depth = extent(op)
        if terms > MAX_TERMS or depth > MAX_DEPTH:
            shown = f"takes {terms} products" if terms > MAX_TERMS else f"is nested {depth} deep"
            raise error("NX134", f"this operator {shown}", span, "apply its parts to a ket one after another")
        return op

    # -- application of operators -------------------------------------------------------------------------------
    @_deep
    def apply(self, op: Operator, x: ir.Node, span: Span) -> ir.Node:
        """The ket op|x>."""
        if any(slot != 0 for slot, _ in x.type.slots):
            raise error("NX232", "an operator cannot act on a copy", span, "apply it first: `(W |x>)@1`")
        self._check_width(op, x, span)
        self.build.spend(span)
        build = self.build
        match op:
            case Matrix(symbol=s, member=member, transposed=t):
                x = self.build.as_ket(x, s.rows if t else s.cols, span)
                return build.matmul(s, member, t, x, span)
            case GatheredMatrix(matrix=m, hidden=hidden, positions=positions):
                y = self.apply(m, x, span)
                order = {h: ir.Gather(k + 1) for k, h in enumerate(hidden)}
                return build.reindex(y, tuple(order.get(i, i) for i in y.type.indices), positions, span)
            case Outer(left=y, right=r):
                return build.mul(y, build.contract((r, x), (), (0,), span), span)
            case Kernel(node=node, slot=slot, cols=cols):
                copy = build.copy(self.build.as_ket(x, cols, span), slot, span)
                return build.contract((node, copy), (), (slot,), span)
            case Identity():
                return x
            case Diagonal(node=d):
                return build.mul(d, x, span)
            case Scaled(factor=f, operator=inner):
                return build.mul(f, self.apply(inner, x, span), span)
            case Added(terms=terms):
                return build.map("add", [self.apply(t, x, span) for t in terms], span)
            case Composed(factors=factors):
                for factor in reversed(factors):
                    x = self.apply(factor, x, span)
                return x
            case Summed(operator=inner, index=hidden_index):
                return build.contract((self.apply(inner, x, span),), (hidden_index,), (), span)
            case Function():
                return self._work_out(self, op, x, span)
            case Opaque(construct=construct, indices=own, parts=parts):
                free = tuple(dict.fromkeys((*own, *x.type.indices)))
                return build.unavailable(construct, (*parts, x), free, ket_width(x) or N, span)
        raise AssertionError(op)

    def _check_width(self, op: Operator, x: ir.Node, span: Span) -> None:
        cols, own = widths(op)[1], ket_width(x)
        if cols and own and cols != own:
            raise error(
                "NX241",
                f"the operator takes kets of width {cols.name}, but this one has width {own.name}",
                span,
                "transpose the operator, or use a ket of its width",
            )

    @_deep
    def transpose(self, op: Operator, span: Span) -> Operator:
        """The transpose of the matrix that op is at width n."""
        match op:
            case Matrix(symbol=s, member=m, transposed=t):
                return Matrix(s, m, not t)
            case GatheredMatrix(matrix=m, hidden=h, positions=p):
                flipped = self.transpose(m, span)
                assert isinstance(flipped, Matrix)
                return GatheredMatrix(flipped, h, p)
            case Outer(left=y, right=x):
                return self._scaled(self._ratio(op, span), Outer(x, y), span)
            case Kernel(node=node, slot=slot, rows=rows, cols=cols):
                swapped = exchanged(self.build, node, slot, span)
                return self._scaled(self._ratio(op, span), Kernel(swapped, slot, cols, rows), span)
            case Scaled(factor=f, operator=inner):
                return Scaled(f, self.transpose(inner, span))
            case Added(terms=terms):
                return Added(tuple(self.transpose(t, span) for t in terms))
            case Composed(factors=factors):
                return Composed(tuple(self.transpose(f, span) for f in reversed(factors)))
            case Summed(operator=inner, index=i):
                return Summed(self.transpose(inner, span), i)
            case Function(name=name, operator=inner, args=args, fn=fn):
                return Function(name, self.transpose(inner, span), args, fn)
            case Flipped(operator=inner):
                return inner
            case Columns() | Carried():
                return Flipped(op)
        return op  # identity, diagonal, opaque

    def _ratio(self, op: Operator, span: Span) -> float:
        """lim rows/cols"""
        rows, cols = (self.known(w, span) for w in widths(op))
        return rows.ratio / cols.ratio

    def _scaled(self, factor: float, op: Operator, span: Span) -> Operator:
        return op if factor == 1 else Scaled(self.build.constant(factor, span), op)

    # -- entrywise functions of operators -----------------------------------------------------------------------
    @_deep
    def kernel(self, op: Operator, slot: int, span: Span) -> ir.Node:
        """The natural entries of a low-rank or nonlinear operator, over slots 0 and `slot`."""
        build = self.build
        match op:
            case Outer(left=y, right=x):
                rows, cols = (self.known(w, span) for w in widths(op))
                copied = build.copy(self.build.as_ket(x, cols, span), slot, span)
                return build.mul(self.build.as_ket(y, rows, span), copied, span)
            case Kernel(node=node, slot=own):
                return self._relabel(node, own, slot, span)
            case Scaled(factor=f, operator=inner):
                return build.mul(f, self.kernel(inner, slot, span), span)
            case Added(terms=terms):
                return build.map("add", [self.kernel(t, slot, span) for t in terms], span)
            case Summed(operator=inner, index=i):
                return build.contract((self.kernel(inner, slot, span),), (i,), (), span)
            case Composed() if is_low_rank(op):
                return self._composed_kernel(flat(op), slot, span)
            case Opaque(construct=construct, indices=own_indices):
                return build.unavailable(construct, (), own_indices, N, span)
        raise error(
            "NX234",
            "a nonlinear entrywise function of an initial matrix (or of `I`) has no limit of this kind",
            span,
            "apply entrywise functions to low-rank operators, such as `tanh(|y><x|)`",
        )

    def _composed_kernel(self, factors: list[Operator], slot: int, span: Span) -> ir.Node:
        """A ... (low rank) ... B: factors on the left act on the kets of the low-rank factor, the others on its bras."""
        place = next(k for k, f in enumerate(factors) if is_low_rank(f))
        front, middle, back = factors[:place], factors[place], factors[place + 1 :]

        def around(op: Operator) -> ir.Node:
            return self._composed_kernel([*front, *flat(op), *back], slot, span)

        match middle:
            case Scaled(factor=f, operator=inner):
                return self.build.mul(f, around(inner), span)
            case Added(terms=terms):
                return self.build.map("add", [around(t) for t in terms], span)
            case Summed(operator=inner, index=i):
                return self.build.contract((around(inner),), (i,), (), span)
        assert isinstance(middle, Outer)
        y = self.apply(Composed(tuple(front)), middle.left, span) if front else middle.left
        if not back:
            return self.kernel(Outer(y, middle.right), slot, span)
        # |y><x|B = ρ |y><Bᵀx| with ρ = columns/rows of B, as (<x|B)|z> = <x|Bz> is a mean over the rows of B.
        rest = Composed(tuple(back))
        moved = self.apply(self.transpose(rest, span), middle.right, span)
        ratio = 1 / self._ratio(rest, span)
        return self.kernel(self._scaled(ratio, Outer(y, moved), span), slot, span)

    def _relabel(self, node: ir.Node, old: int, new: int, span: Span) -> ir.Node:
        def rule(n: ir.Node) -> ir.Node | None:
            if old not in dict(n.type.slots):
                return n
            return self.build.copy(n.args[0], new, span) if isinstance(n, ir.Copy) else None

        return node if old == new else rewrite(self.build, node, rule, span)

    @_deep
    def mapped(self, op: Operator, change: Callable[[ir.Node], ir.Node], span: Span) -> Operator:
        """The operator with every ket and scalar in it changed; not for initial matrices."""
        if isinstance(op, _SPELLED_OUT):
            return rebuilt(op, lambda part: self.mapped(part, change, span), change)
        raise error(
            "NX283",
            "`stop` cannot be applied to a matrix by itself",
            span,
            "write `stop(W |x>)`, or declare the matrix `frozen`",
        )

    # -- indices ------------------------------------------------------------------------------------------------
    @_deep
    def rename(self, op: Operator, mapping: dict[Index, Index | int], span: Span) -> Operator:
        """Free indices replaced by others or by positions."""
        if not mapping:
            return op
        self.build.spend(span)

        def node(n: ir.Node) -> ir.Node:
            return self.build.rename(n, mapping, span)

        def inner(o: Operator) -> Operator:
            return self.rename(o, mapping, span)

        match op:
            case Matrix(symbol=s, member=m, transposed=t):
                return Matrix(s, tuple(mapping.get(i, i) if isinstance(i, Index) else i for i in m), t)
            case GatheredMatrix(matrix=m, hidden=h, positions=p):
                renamed = inner(m)
                assert isinstance(renamed, Matrix)
                return GatheredMatrix(renamed, h, tuple(node(q) for q in p))
            case Opaque(construct=c, indices=own, parts=parts):
                kept = tuple(m for i in own for m in (mapping.get(i, i),) if isinstance(m, Index))
                return Opaque(c, kept, parts)
        return rebuilt(op, inner, node) if isinstance(op, _SPELLED_OUT) else op
