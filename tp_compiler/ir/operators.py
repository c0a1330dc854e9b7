"""Operators as expressions. They have no node: they are lowered when they are applied to a ket (transform/algebra.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index, Width


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
class FiniteMatrix(Operator):
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


@dataclass(frozen=True, eq=False)
class Applied:
    """How a node was computed from an operator: by the function `word` of it, or by applying it to `ket`."""

    word: str
    operator: Operator
    ket: ir.Node | None = None


# facts ---------------------------------------------------------------------------------------------------------
Fact = TypeVar("Fact")
Widths = tuple[Width | None, Width | None]


def _remembered(fact: Callable[[Operator], Fact]) -> Callable[[Operator], Fact]:
    """`fact`, computed once per operator: parts are shared, and `G = G G` forty times is a tree of 2^40 leaves."""
    name = f"_{fact.__name__}"

    def known(op: Operator) -> Fact:
        todo = [op] if name not in op.__dict__ else []
        while todo:  # its parts first
            missing = [p for p in parts(todo[-1]) if name not in p.__dict__]
            if missing:
                todo.extend(missing)
            else:
                top = todo.pop()
                top.__dict__[name] = fact(top)
        return cast("Fact", op.__dict__[name])

    return known


@_remembered
def extent(op: Operator) -> tuple[int, int]:
    """(terms, depth): the number of parts needed to apply an operator, and how deeply they are nested."""
    sizes = [extent(p) for p in parts(op)]
    return max(1, sum(t for t, _ in sizes)), 1 + max((d for _, d in sizes), default=0)


@_remembered
def widths(op: Operator) -> Widths:
    """(rows, cols): the width classes an operator maps to and from; None if any fits."""
    match op:
        case Matrix(symbol=s, transposed=t):
            return (s.cols, s.rows) if t else (s.rows, s.cols)
        case GatheredMatrix(matrix=m):
            return widths(m)
        case Outer(left=y, right=x):
            return ket_width(y), ket_width(x)
        case Kernel(rows=rows, cols=cols):
            return rows, cols
        case Diagonal(node=d):
            return ket_width(d), ket_width(d)
        case Scaled(operator=inner) | Summed(operator=inner) | Function(operator=inner):
            return widths(inner)
        case Flipped(operator=inner):
            rows, cols = widths(inner)
            return cols, rows
        case Columns(node=node):
            return ket_width(node), None
        case Carried(rows=rows, cols=cols):
            return rows, cols
        case Added(terms=terms):
            pairs = [widths(t) for t in terms]
            return next((r for r, _ in pairs if r), None), next((c for _, c in pairs if c), None)
        case Composed(factors=factors):
            return widths(factors[0])[0], widths(factors[-1])[1]
    return None, None


@_remembered
def is_low_rank(op: Operator) -> bool:
    """Whether the natural entries of op consist of outer products only."""
    match op:
        case Outer():
            return True
        case Scaled(operator=inner) | Summed(operator=inner):
            return is_low_rank(inner)
        case Added(terms=terms):
            return all(is_low_rank(t) for t in terms)
        case Composed(factors=factors):
            return any(is_low_rank(f) for f in factors)
    return False


def flat(op: Operator) -> list[Operator]:
    """The factors of nested compositions, without identities."""
    if isinstance(op, Composed):
        return [f for part in op.factors for f in flat(part)]
    return [] if isinstance(op, Identity) else [op]


def ket_width(node: ir.Node) -> Width | None:
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


def parts(op: Operator) -> tuple[Operator, ...]:
    """The operators that an operator consists of."""
    match op:
        case Scaled(operator=inner) | Summed(operator=inner) | Function(operator=inner) | Flipped(operator=inner):
            return (inner,)
        case GatheredMatrix(matrix=inner):
            return (inner,)
        case Added(terms=terms) | Composed(factors=terms):
            return terms
    return ()


def nodes(op: Operator) -> list[ir.Node]:
    """The kets and scalars in an operator."""
    found: list[ir.Node] = []
    todo = [op]
    while todo:
        match todo.pop():
            case Outer(left=left, right=right):
                found += (left, right)
            case Kernel(node=node) | Diagonal(node=node) | Columns(node=node) | FiniteMatrix(node=node):
                found.append(node)
            case Scaled(factor=factor, operator=inner):
                found.append(factor)
                todo.append(inner)
            case Function(args=args, operator=inner):
                found += args
                todo.append(inner)
            case GatheredMatrix(positions=own) | Opaque(parts=own):
                found += own
            case other:
                todo += parts(other)
    return found


def replaced(op: Operator, leaf: Callable[[Operator], Operator | None], node: Callable[[ir.Node], ir.Node]) -> Operator:
    """The operator with some of its parts replaced (`leaf` returns them), and its kets and scalars changed."""
    found = leaf(op)
    return rebuilt(op, lambda part: replaced(part, leaf, node), node) if found is None else found


def rebuilt(op: Operator, part: Callable[[Operator], Operator], node: Callable[[ir.Node], ir.Node]) -> Operator:
    """The operator made again of changed parts, kets and scalars; initial matrices and what is not spelled out stay."""
    match op:
        case Outer(left=left, right=right):
            return Outer(node(left), node(right))
        case Kernel(node=own, slot=slot, rows=rows, cols=cols):
            return Kernel(node(own), slot, rows, cols)
        case Diagonal(node=own):
            return Diagonal(node(own))
        case Columns(node=own, index=index):
            return Columns(node(own), index)
        case FiniteMatrix(node=own, rows=first, cols=second):
            return FiniteMatrix(node(own), first, second)
        case Scaled(factor=factor, operator=inner):
            return Scaled(node(factor), part(inner))
        case Summed(operator=inner, index=index):
            return Summed(part(inner), index)
        case Flipped(operator=inner):
            return Flipped(part(inner))
        case Function(name=name, operator=inner, args=args, fn=fn):
            return Function(name, part(inner), tuple(map(node, args)), fn)
        case Added(terms=terms):
            return Added(tuple(map(part, terms)))
        case Composed(factors=factors):
            return Composed(tuple(map(part, factors)))
    return op
