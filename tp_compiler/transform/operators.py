"""Operators as expressions, their algebra, and their lowering: the effect of an operator on a ket.

Operators have no node: they remain expressions, and are lowered when they are applied to a ket.

Transposes are those of the matrix at width n: (|y><x|)^T = ρ |x><y| with ρ = lim (width of y)/(width of x), since
the matrix of |y><x| is y xᵀ / (width of x).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar, cast

from tp_compiler.diagnostics import Span, error
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.types import Index, N, Width
from tp_compiler.ir.walk import rewrite
from tp_compiler.transform.slots import exchanged


@dataclass(frozen=True, eq=False)
class Operator:
    """A linear map of kets, unevaluated."""

    kind = "operator"


@dataclass(frozen=True, eq=False)
class Matrix(Operator):
    """W (or member W[l]), or its transpose."""

    symbol: ir.MatrixSymbol
    member: tuple[Index | int, ...]
    transposed: bool = False


@dataclass(frozen=True, eq=False)
class GatheredMatrix(Operator):
    """A member chosen by integer data: applied to every member, then gathered."""

    matrix: Matrix
    hidden: tuple[Index, ...]
    positions: tuple[ir.Node, ...]


@dataclass(frozen=True, eq=False)
class Outer(Operator):
    """|left><right|"""

    left: ir.Node
    right: ir.Node


@dataclass(frozen=True, eq=False)
class Kernel(Operator):
    """An operator given by its natural entries k(α, β): a node over slot 0 (α) and slot `slot` (β).

    Acts on |z> as the average over slot β of k(α, β) z(β) (Tensor Programs IVb, nonlinear outer product).
    `rows`, `cols` are the width classes.
    """

    node: ir.Node
    slot: int
    rows: Width
    cols: Width


@dataclass(frozen=True, eq=False)
class Identity(Operator):
    pass


@dataclass(frozen=True, eq=False)
class Diagonal(Operator):
    """|z> -> |node> * |z>, entrywise."""

    node: ir.Node


@dataclass(frozen=True, eq=False)
class Scaled(Operator):
    factor: ir.Node
    operator: Operator


@dataclass(frozen=True, eq=False)
class Added(Operator):
    terms: tuple[Operator, ...]


@dataclass(frozen=True, eq=False)
class Composed(Operator):
    """factors[0] factors[1] ...: the last acts first."""

    factors: tuple[Operator, ...]


@dataclass(frozen=True, eq=False)
class Summed(Operator):
    """The sum of a family of operators over a hidden index."""

    operator: Operator
    index: Index


@dataclass(frozen=True, eq=False)
class Function(Operator):
    """pow, inv, msign or matfun of an operator (spectral.py); args: the exponent of pow, fn: the name for matfun."""

    name: str
    operator: Operator
    args: tuple[ir.Node, ...] = ()
    fn: str = ""


@dataclass(frozen=True, eq=False)
class Flipped(Operator):
    """The transpose of an operator whose transpose is not of the same kind."""

    operator: Operator


@dataclass(frozen=True, eq=False)
class Columns(Operator):
    """A family of kets |node> over `index` as one operator, from arrays over the index to kets."""

    node: ir.Node
    index: Index


@dataclass(frozen=True, eq=False)
class Table(Operator):
    """A finite matrix: an operator from arrays over an axis to arrays, with entries over (rows, cols)."""

    node: ir.Node
    rows: Index
    cols: Index


@dataclass(frozen=True, eq=False)
class Carried(Operator):
    """An operator that training carries, and that is not spelled out: its entry in a table of spectral.py."""

    name: str
    rows: Width | None
    cols: Width | None
    indices: tuple[Index, ...] = ()


@dataclass(frozen=True, eq=False)
class Opaque(Operator):
    """An operator whose evaluation is refused by name in this version."""

    construct: str
    indices: tuple[Index, ...] = ()
    parts: tuple[ir.Node, ...] = ()


Fact = TypeVar("Fact")
Widths = tuple[Width | None, Width | None]

#: Bounds on an operator expression: products and sums it takes to apply it, and how deep they nest.
MAX_TERMS = 20_000
MAX_DEPTH = 500


def _remembered(fact: Callable[[Operator], Fact]) -> Callable[[Operator], Fact]:
    """`fact`, worked out once per operator: parts are shared, and `G = G G` forty times is a tree of 2^40 leaves."""
    name = f"_{fact.__name__}"

    def known(op: Operator) -> Fact:
        if name not in op.__dict__:
            op.__dict__[name] = fact(op)
        return cast("Fact", op.__dict__[name])

    return known


@_remembered
def extent(op: Operator) -> tuple[int, int]:
    """(terms, depth): the number of parts needed to apply an operator, and how deeply they are nested."""
    parts: tuple[Operator, ...] = ()
    match op:
        case (
            Scaled(operator=inner) | Summed(operator=inner) | GatheredMatrix(matrix=inner)
            | Function(operator=inner) | Flipped(operator=inner)
        ):  # fmt: skip
            parts = (inner,)
        case Added(terms=parts) | Composed(factors=parts):
            pass
    sizes = [extent(p) for p in parts]
    return max(1, sum(t for t, _ in sizes)), 1 + max((d for _, d in sizes), default=0)


@_remembered
def widths(op: Operator) -> Widths:
    """(rows, cols): the width classes an operator maps to and from; None where any fits."""
    match op:
        case Matrix(symbol=s, transposed=t):
            return (s.cols, s.rows) if t else (s.rows, s.cols)
        case GatheredMatrix(matrix=m):
            return widths(m)
        case Outer(left=y, right=x):
            return _width(y), _width(x)
        case Kernel(rows=rows, cols=cols):
            return rows, cols
        case Diagonal(node=d):
            return _width(d), _width(d)
        case Scaled(operator=inner) | Summed(operator=inner) | Function(operator=inner):
            return widths(inner)
        case Flipped(operator=inner):
            rows, cols = widths(inner)
            return cols, rows
        case Columns(node=node):
            return _width(node), None
        case Carried(rows=rows, cols=cols):
            return rows, cols
        case Added(terms=terms):
            pairs = [widths(t) for t in terms]
            return next((r for r, _ in pairs if r), None), next((c for _, c in pairs if c), None)
        case Composed(factors=factors):
            return widths(factors[0])[0], widths(factors[-1])[1]
    return None, None


@_remembered
def _is_low_rank(op: Operator) -> bool:
    """Whether the natural entries of op consist of outer products only."""
    match op:
        case Outer():
            return True
        case Scaled(operator=inner) | Summed(operator=inner):
            return _is_low_rank(inner)
        case Added(terms=terms):
            return all(_is_low_rank(t) for t in terms)
        case Composed(factors=factors):
            return any(_is_low_rank(f) for f in factors)
    return False


def _flat(op: Operator) -> list[Operator]:
    """The factors of nested compositions, without identities."""
    if isinstance(op, Composed):
        return [f for part in op.factors for f in _flat(part)]
    return [] if isinstance(op, Identity) else [op]


def _width(node: ir.Node) -> Width | None:
    return dict(node.type.slots).get(0)


@_remembered
def indices(op: Operator) -> tuple[Index, ...]:
    """The free indices of a family of operators."""
    found: list[Index] = []
    match op:
        case Matrix(member=member):
            found = [m for m in member if isinstance(m, Index)]
        case GatheredMatrix(matrix=m, hidden=hidden, positions=positions):
            found = [i for i in indices(m) if i not in hidden] + [i for p in positions for i in p.type.indices]
        case Outer(left=y, right=x):
            found = [*y.type.indices, *x.type.indices]
        case Kernel(node=node) | Diagonal(node=node):
            found = [*node.type.indices]
        case Scaled(factor=f, operator=inner):
            found = [*f.type.indices, *indices(inner)]
        case Added(terms=parts) | Composed(factors=parts):
            found = [i for p in parts for i in indices(p)]
        case Summed(operator=inner, index=hidden_index):
            found = [i for i in indices(inner) if i != hidden_index]
        case Opaque(indices=own) | Carried(indices=own):
            found = [*own]
        case Function(operator=inner, args=args):
            found = [*indices(inner), *(i for a in args for i in a.type.indices)]
        case Flipped(operator=inner):
            found = [*indices(inner)]
        case Columns(node=node, index=column):
            found = [i for i in node.type.indices if i != column]
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True, eq=False)
class Applied:
    """How a node was computed from an operator: by the function `word` of it, or by applying it to `ket`."""

    word: str
    operator: Operator
    ket: ir.Node | None = None


#: What a matrix function does to a ket (low_rank.py).
WorkOut: TypeAlias = "Callable[[Algebra, Function, ir.Node, Span], ir.Node]"


class Algebra:
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

    # -- what an operator does ----------------------------------------------------------------------------------
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
                return build.unavailable(construct, (*parts, x), free, _width(x) or N, span)
        raise AssertionError(op)

    def _check_width(self, op: Operator, x: ir.Node, span: Span) -> None:
        cols, own = widths(op)[1], _width(x)
        if cols and own and cols != own:
            raise error(
                "NX241",
                f"the operator takes kets of width {cols.name}, but this one has width {own.name}",
                span,
                "transpose the operator, or use a ket of its width",
            )

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
            case Composed() if _is_low_rank(op):
                return self._composed_kernel(_flat(op), slot, span)
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
        place = next(k for k, f in enumerate(factors) if _is_low_rank(f))
        front, middle, back = factors[:place], factors[place], factors[place + 1 :]

        def around(op: Operator) -> ir.Node:
            return self._composed_kernel([*front, *_flat(op), *back], slot, span)

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

    def mapped(self, op: Operator, change: Callable[[ir.Node], ir.Node], span: Span) -> Operator:
        """The operator with every ket and scalar in it changed; not for initial matrices."""
        match op:
            case Outer(left=y, right=x):
                return Outer(change(y), change(x))
            case Kernel(node=node, slot=slot, rows=rows, cols=cols):
                return Kernel(change(node), slot, rows, cols)
            case Diagonal(node=node):
                return Diagonal(change(node))
            case Scaled(factor=f, operator=inner):
                return Scaled(change(f), self.mapped(inner, change, span))
            case Added(terms=terms):
                return Added(tuple(self.mapped(t, change, span) for t in terms))
            case Composed(factors=factors):
                return Composed(tuple(self.mapped(f, change, span) for f in factors))
            case Summed(operator=inner, index=i):
                return Summed(self.mapped(inner, change, span), i)
            case Identity():
                return op
            case Function(name=name, operator=inner, args=args, fn=fn):
                return Function(name, self.mapped(inner, change, span), tuple(change(a) for a in args), fn)
        raise error(
            "NX283",
            "`stop` cannot be applied to a matrix by itself",
            span,
            "write `stop(W |x>)`, or declare the matrix `frozen`",
        )

    # -- indices ------------------------------------------------------------------------------------------------
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
            case Outer(left=y, right=x):
                return Outer(node(y), node(x))
            case Kernel(node=k, slot=slot, rows=rows, cols=cols):
                return Kernel(node(k), slot, rows, cols)
            case Diagonal(node=d):
                return Diagonal(node(d))
            case Scaled(factor=f, operator=o):
                return Scaled(node(f), inner(o))
            case Added(terms=terms):
                return Added(tuple(inner(t) for t in terms))
            case Composed(factors=factors):
                return Composed(tuple(inner(f) for f in factors))
            case Summed(operator=o, index=i):
                return Summed(inner(o), i)
            case Function(name=name, operator=o, args=args, fn=fn):
                return Function(name, inner(o), tuple(node(a) for a in args), fn)
            case Opaque(construct=c, indices=own, parts=parts):
                kept = tuple(m for i in own for m in (mapping.get(i, i),) if isinstance(m, Index))
                return Opaque(c, kept, parts)
        return op
