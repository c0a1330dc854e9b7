"""Operators of low rank as finite matrices: pow, inv, msign and matfun, and optimizers that act on matrices.

In a basis of kets |e_a> an operator is s I + Σ_ab |e_a> C_ab <e_b|. Products need only the Gram matrix K = <e|e>,

    (s + |e>C<e|)(s' + |e>C'<e|) = s s' + |e>(s C' + s' C + C K C')<e|,

and so do functions, by f(|X><X|)|X> = |X> f(<X|X>) (docs/matrix_optimizers.md, section 1). The basis of a width
class contains every ket in the expression; a family |u[d]> treated as one operator has arrays over d on its
right side, whose basis is orthonormal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from tp_compiler.diagnostics import Span, error
from tp_compiler.ir import nodes as ir
from tp_compiler.ir import operators as v
from tp_compiler.ir.build import Builder, is_zero
from tp_compiler.ir.operators import Applied
from tp_compiler.ir.types import Axis, Index, Width
from tp_compiler.transform.algebra import OperatorAlgebra

#: A side of an operator: the kets of a width class, or arrays over a finite axis.
Side = Width | Axis


@dataclass(eq=False)
class Space:
    """A basis of one side: kets and the indices of theirs that count basis elements. `kets` is empty for arrays."""

    side: Side
    kets: list[tuple[ir.Node, tuple[Index, ...]]] = field(default_factory=list)
    row: Index | None = None  # the index that runs through the basis, as rows and as columns
    column: Index | None = None

    def add(self, ket: ir.Node, own: tuple[Index, ...]) -> None:
        if (ket, own) not in self.kets:
            self.kets.append((ket, own))

    def size(self) -> int:
        total = 0
        for _, own in self.kets:
            part = 1
            for i in own:
                part *= i.size
            total += part
        return total if self.kets else self.side.size if isinstance(self.side, Axis) else 0


@dataclass(frozen=True, eq=False)
class Made:
    """factor · f(s + |e>C<e|): how the core of a function was computed. args: K, C, s and those of f."""

    op: str
    fn: str
    args: tuple[ir.Node, ...]
    factor: ir.Node | None = None


@dataclass(frozen=True, eq=False)
class WorkedOut:
    """identity·I + start·(the initial parameter) + |e> core <e|. Parts that are None are zero."""

    rows: Side
    cols: Side
    identity: ir.Node | None = None
    core: ir.Node | None = None
    start: ir.Node | None = None
    made: Made | None = None


class LowRankOperators:
    """Computes operators in the bases of `spaces`. `carried` holds the cores of operators that training carries."""

    def __init__(self, algebra: OperatorAlgebra, span: Span):
        self.algebra = algebra
        self.build: Builder = algebra.build
        self.span = span
        self.spaces: dict[Side, Space] = {}
        self.carried: dict[str, WorkedOut] = {}
        self.anything = Axis("anything", 0)  # the sides of a zero operator of which no more is known
        self._grams: dict[tuple[Side, Index, Index], ir.Node] = {}

    # -- bases --------------------------------------------------------------------------------------------------
    def space(self, side: Side) -> Space:
        if side not in self.spaces:
            self.spaces[side] = Space(side)
        return self.spaces[side]

    def close(self) -> None:
        """Completes the bases: each gets an index."""
        for side in self.spaces:
            self.indexed(side)

    def indexed(self, side: Side) -> tuple[Index, Index]:
        """The indices of a side's basis, for rows and for columns. For arrays these suffice, and may be created late."""
        space = self.space(side)
        if space.row is None or space.column is None:
            axis = side if isinstance(side, Axis) else Axis(f"basis {side.name}", space.size())
            first = Index(axis.name, axis)
            space.row, space.column = self.build.fresh(first), self.build.fresh(first)
        return space.row, space.column

    def collect(self, op: v.Operator, over: tuple[Index, ...] = ()) -> None:
        """Adds the kets of an operator to the bases; `over` are the summed indices around it."""
        match op:
            case v.Outer(left=left, right=right):
                for ket in (left, right):
                    width = self.algebra.known(dict(ket.type.slots).get(0), self.span)
                    ket = self.build.as_ket(_peeled(ket)[0], width, self.span)
                    self.space(width).add(ket, tuple(i for i in ket.type.indices if i in over))
            case v.Columns(node=node, index=index):
                self.space(node.type.width).add(node, _own(node, index, over))
                self.space(index.axis)
            case v.FiniteMatrix(rows=rows, cols=cols):
                self.space(rows.axis)
                self.space(cols.axis)
            case v.Summed(operator=inner, index=index):
                self.collect(inner, (*over, index))
            case v.Scaled(operator=inner) | v.Function(operator=inner) | v.Flipped(operator=inner):
                self.collect(inner, over)
            case v.Added(terms=parts) | v.Composed(factors=parts):
                for part in parts:
                    self.collect(part, over)

    def gram(self, side: Side, row: Index, column: Index) -> ir.Node:
        """<e_row|e_column>"""
        key = (side, row, column)
        if key not in self._grams:
            if isinstance(side, Axis):
                self._grams[key] = self.build.delta(row, column, self.span)
            else:
                kets = self.basis(side, row), self.basis(side, column)
                self._grams[key] = self.build.contract(kets, (), (0,), self.span)
        return self._grams[key]

    def basis(self, width: Width, index: Index) -> ir.Node:
        """The basis kets of a width class over one index."""
        space = self.spaces[width]
        kets = tuple(ket for ket, _ in space.kets)
        return self.build.join_indices(kets, tuple(own for _, own in space.kets), index, self.span)

    # -- cores --------------------------------------------------------------------------------------------------
    def core(self, op: v.Operator) -> WorkedOut:
        """The core of an operator, over (row of its rows, column of its columns)."""
        match op:
            case v.Identity():
                raise self._refused("it is unclear which side `I` acts on")
            case v.Outer(left=left, right=right):
                return self._outer(left, right, (), self.build.constant(1, self.span))
            case v.Columns(node=node, index=index):
                return self._columns(node, index, (), self.build.constant(1, self.span))
            case v.FiniteMatrix(node=node, rows=rows, cols=cols):
                return self._table(node, rows, cols)
            case v.Carried(name=name):
                return self.carried[name]
            case v.Scaled() | v.Summed():
                return self._scaled(op)
            case v.Added(terms=terms):
                return self._added(terms)
            case v.Composed(factors=factors):
                return self._composed([f for f in factors if not isinstance(f, v.Identity)])
            case v.Flipped(operator=inner):
                return self.transposed(self.core(inner))
            case v.Function():
                return self.function(op)
            case v.Kernel() | v.Diagonal():
                raise self._refused(
                    "entrywise functions of operators between kets cannot be combined with matrix functions"
                )
        raise self._refused("a matrix function of an initial matrix has no limit of this kind")

    def _refused(self, why: str) -> Exception:
        remedy = "use sums, products and functions of outer products with matching sides"
        return error("NX284", f"this operator cannot be computed: {why}", self.span, remedy)

    def _scaled(self, op: v.Operator) -> WorkedOut:
        """Factors and sums around an outer product are handled together, since the factors may depend on the sums."""
        over: list[Index] = []
        factor = self.build.constant(1, self.span)
        while isinstance(op, v.Scaled | v.Summed):
            if isinstance(op, v.Summed):
                over.append(op.index)
                op = op.operator
            else:
                factor = self.build.mul(factor, op.factor, self.span)
                op = op.operator
        if isinstance(op, v.Outer):
            return self._outer(op.left, op.right, tuple(over), factor)
        if isinstance(op, v.Columns):
            return self._columns(op.node, op.index, tuple(over), factor)
        if isinstance(op, v.Flipped) and isinstance(op.operator, v.Columns):
            return self.transposed(self._columns(op.operator.node, op.operator.index, tuple(over), factor))
        if isinstance(op, v.Added) and over:
            parts = []
            for term in op.terms:
                inner: v.Operator = v.Scaled(factor, term)
                for i in reversed(over):
                    inner = v.Summed(inner, i)
                parts.append(inner)
            return self._added(tuple(parts))
        core = self.core(op)
        if over:
            raise self._refused("it sums matrix functions over an index")
        return self.times(factor, core)

    def times(self, factor: ir.Node, a: WorkedOut) -> WorkedOut:
        def scaled(node: ir.Node | None) -> ir.Node | None:
            return None if node is None or is_zero(factor) else self.build.mul(factor, node, self.span)

        made = a.made
        if made is not None:
            made = replace(
                made, factor=factor if made.factor is None else self.build.mul(factor, made.factor, self.span)
            )
        return WorkedOut(a.rows, a.cols, scaled(a.identity), scaled(a.core), scaled(a.start), made)

    def _added(self, terms: tuple[v.Operator, ...]) -> WorkedOut:
        numbers = [t for t in terms if isinstance(t, v.Kernel) and not t.node.type.slots]
        if numbers:  # inside an entrywise function a number adds to every entry of a table
            rest = self._added(tuple(t for t in terms if t not in numbers))
            return self.mapped(
                [rest, *(t.node for t in numbers)], lambda nodes: self.build.map("add", nodes, self.span)
            )
        plain = [t for t in terms if _multiple(t) is None]
        if not plain:
            raise self._refused("it is a multiple of `I` alone")
        total = self.core(plain[0])
        for term in plain[1:]:
            total = self.add(total, self.core(term))
        for term in terms:
            factors = _multiple(term)
            if factors is not None:
                if total.rows != total.cols and total.rows != self.anything:
                    raise self._refused("`I` is added to an operator whose two sides differ")
                identity = self.build.map("mul", factors, self.span) if factors else self.build.constant(1, self.span)
                if is_zero(identity):
                    continue
                total = self.add(total, WorkedOut(total.rows, total.cols, identity=identity))
        return total

    def add(self, a: WorkedOut, b: WorkedOut) -> WorkedOut:
        if self.anything in (a.rows, b.rows):
            return b if a.rows == self.anything else a
        if (a.rows, a.cols) != (b.rows, b.cols):
            raise self._refused("operators with different sides cannot be added")

        def plus(x: ir.Node | None, y: ir.Node | None) -> ir.Node | None:
            return y if x is None else x if y is None else self.build.add(x, y, self.span)

        return WorkedOut(a.rows, a.cols, plus(a.identity, b.identity), plus(a.core, b.core), plus(a.start, b.start))

    def _composed(self, factors: list[v.Operator]) -> WorkedOut:
        if not factors:
            raise self._refused("it is a multiple of `I` alone")
        total = self.core(factors[0])
        for factor in factors[1:]:
            total = self.product(total, self.core(factor))
        return total

    def product(self, a: WorkedOut, b: WorkedOut) -> WorkedOut:
        if self.anything in (a.rows, b.rows):
            return WorkedOut(self.anything, self.anything)
        if a.cols != b.rows:
            raise self._refused("the sides of the two factors differ")
        if (a.start is not None and (b.core is not None or b.start is not None)) or (
            b.start is not None and a.core is not None
        ):
            raise error(
                "NX169", "the initial matrix enters this update nonlinearly, which has no limit", self.span,
                "use `p` only linearly",
            )  # fmt: skip
        for made, other, turned in ((a.made, b, False), (b.made, a, True)):
            if made is not None and other.core is not None and other.identity is None and other.start is None:
                return self._applied(made, other, turned)
        build, span = self.build, self.span
        parts: list[ir.Node] = []
        start = identity = None
        if a.identity is not None:
            scaled = self.times(a.identity, b)
            parts += [scaled.core] if scaled.core is not None else []
            start, identity = scaled.start, scaled.identity
        if b.identity is not None:
            if a.core is not None:
                parts.append(build.mul(b.identity, a.core, span))
            if a.start is not None:
                start = build.mul(b.identity, a.start, span)
        if a.core is not None and b.core is not None:
            middle, outer = self.spaces[a.cols], self.spaces[b.cols]
            assert middle.column and middle.row and outer.column
            left, right = build.fresh(middle.column), build.fresh(middle.column)
            gram = self.gram(a.cols, left, right)
            first = build.rename(a.core, {middle.column: left}, span)
            second = build.rename(b.core, {middle.row: right}, span)
            inside = build.contract((first, gram, second), (left, right), (), span)
            scale = _natural(a.rows, a.cols) * _natural(b.rows, b.cols) / _natural(a.rows, b.cols)
            parts.append(build.mul(build.constant(scale, span), inside, span))
        core = build.map("add", parts, span) if parts else None
        return WorkedOut(a.rows, b.cols, identity, core, start)

    def _applied(self, made: Made, b: WorkedOut, turned: bool) -> WorkedOut:
        """f(s + |e>C<e|) b, or (`turned`) b f(s + |e>C<e|), for a core b without other parts."""
        build, span = self.build, self.span
        side, other = (b.cols, b.rows) if turned else (b.rows, b.cols)
        row, column = self.indexed(side)
        assert b.core is not None
        free = build.fresh(self.indexed(other)[0])
        own, far = (column, self.indexed(other)[0]) if turned else (row, self.indexed(other)[1])
        operand = build.rename(b.core, {own: row, far: free}, span)
        core = build.spectral(made.op, row, free, (*made.args, operand), (column,), made.fn, span)
        core = build.rename(core, {row: own, free: far}, span)
        return WorkedOut(b.rows, b.cols, core=core if made.factor is None else build.mul(made.factor, core, span))

    def flipped(self, a: WorkedOut) -> WorkedOut:
        """The transpose of an update, a multiple of the parameter included."""
        return replace(self.transposed(replace(a, start=None)), start=a.start)

    def transposed(self, a: WorkedOut) -> WorkedOut:
        """(|y><x|)ᵀ = ρ |x><y|, ρ = lim (width of y)/(width of x); arrays have no width."""
        if a.start is not None:
            raise self._refused("it contains the transpose of the initial parameter")
        core = a.core
        if core is not None:
            rows, cols = self.spaces[a.rows], self.spaces[a.cols]
            assert rows.row and rows.column and cols.row and cols.column
            core = self.build.rename(core, {rows.row: rows.column, cols.column: cols.row}, self.span)
            if isinstance(a.rows, Width) and isinstance(a.cols, Width) and a.rows != a.cols:
                ratio = self.build.constant(a.rows.ratio / a.cols.ratio, self.span)
                core = self.build.mul(ratio, core, self.span)
        return WorkedOut(a.cols, a.rows, a.identity, core, made=a.made)

    # -- leaves -------------------------------------------------------------------------------------------------
    def _outer(self, left: ir.Node, right: ir.Node, over: tuple[Index, ...], factor: ir.Node) -> WorkedOut:
        """Σ_over factor |left><right|: a 1 for each pair of an element of the left basis and one of the right basis."""
        build, span = self.build, self.span
        sides = [self.algebra.known(dict(k.type.slots).get(0), span) for k in (left, right)]
        (left, first), (right, second) = _peeled(left), _peeled(right)
        kets = [build.as_ket(k, s, span) for k, s in zip((left, right), sides, strict=True)]
        owns = [tuple(i for i in k.type.indices if i in over) for k in kets]
        names = [{i: build.fresh(i) for i in own} for own in owns]
        factors = [factor, *first, *second]
        for own, renamed in zip(owns, names, strict=True):
            factors += [build.delta(i, renamed[i], span) for i in own]
        entries = build.contract(factors, over, (), span)
        rows, cols = (self.spaces[s] for s in sides)
        assert rows.row and cols.column
        groups = [tuple(n[i] for i in own) for n, own in zip(names, owns, strict=True)]
        entries = self._placed(entries, rows, kets[0], owns[0], groups[0], rows.row)
        return WorkedOut(sides[0], sides[1], core=self._placed(entries, cols, kets[1], owns[1], groups[1], cols.column))

    def _table(self, node: ir.Node, rows: Index, cols: Index) -> WorkedOut:
        row, column = self.spaces[rows.axis].row, self.spaces[cols.axis].column
        assert row and column
        return WorkedOut(rows.axis, cols.axis, core=self.build.rename(node, {rows: row, cols: column}, self.span))

    def _columns(self, node: ir.Node, index: Index, over: tuple[Index, ...], factor: ir.Node) -> WorkedOut:
        """Σ_over factor |node> with `index` running through the columns."""
        build, span = self.build, self.span
        rows, cols = self.spaces[node.type.width], self.spaces[index.axis]
        assert rows.row and cols.column
        own = _own(node, index, over)
        here = tuple(build.fresh(i) for i in own)
        factors = [factor, *(build.delta(i, h, span) for i, h in zip(own, here, strict=True) if i != index)]
        factors.append(build.delta(here[own.index(index)], cols.column, span))
        entries = build.contract(factors, over, (), span)
        return WorkedOut(node.type.width, index.axis, core=self._placed(entries, rows, node, own, here, rows.row))

    def _placed(
        self, entries: ir.Node, space: Space, ket: ir.Node, own: tuple[Index, ...], group: tuple[Index, ...], to: Index
    ) -> ir.Node:
        """Entries over the indices `group` of one ket of a basis, as entries over the whole basis."""
        if (ket, own) not in space.kets:
            message = "this outer product uses a ket that is not obtained from the gradient by matrix functions alone"
            raise error("NX291", message, self.span, "write an optimizer on layers")
        zero = self.build.constant(0, self.span)
        args = tuple(entries if (k, o) == (ket, own) else zero for k, o in space.kets)
        groups = tuple(group if (k, o) == (ket, own) else o for k, o in space.kets)
        return self.build.join_indices(args, groups, to, self.span)

    # -- functions ----------------------------------------------------------------------------------------------
    def function(self, op: v.Function) -> WorkedOut:
        a = self.core(op.operator)
        if a.rows == self.anything:
            return a
        if a.start is not None:
            raise self._refused("it is a function of the initial parameter")
        build, span = self.build, self.span
        rows, cols = self.spaces[a.rows], self.spaces[a.cols]
        assert rows.row and cols.column and rows.column and cols.row
        if op.name == "msign":
            if a.core is None or a.identity is not None:
                raise self._refused("`msign` of a multiple of `I` is not supported")
            other = build.fresh(rows.row), build.fresh(cols.column)
            grams = self.gram(a.rows, rows.row, other[0]), self.gram(a.cols, cols.column, other[1])
            ratio = build.constant(1 / _natural(a.rows, a.cols), span)
            polar = build.spectral("polar", rows.row, cols.column, (a.core, *grams), other, "", span)
            return WorkedOut(a.rows, a.cols, core=build.mul(ratio, polar, span))
        if a.rows != a.cols:
            raise self._refused(f"`{op.name}` is applied to an operator whose two sides differ")
        if op.name == "inv" and a.identity is None and isinstance(a.rows, Width):
            message = "an operator of finite rank has no inverse"
            raise error(
                "NX290", message, self.span, "add damping, `inv(0.1 + L)`, or write `pow(L, -1)` for the pseudo-inverse"
            )
        shift = a.identity or build.constant(0, span)
        gram = self.gram(a.rows, rows.row, cols.column)
        core = a.core or build.constant(0, span)
        name = {"pow": "power", "inv": "inverse", "matfun": "matfun"}[op.name]
        args = (gram, core, shift, *op.args)
        changed = build.spectral(name, rows.row, cols.column, args, (), op.fn, span)
        # `inv` also accepts operators that are not symmetric.
        made = None if op.name == "inv" else Made(name, op.fn, args)
        return WorkedOut(a.rows, a.cols, self._of_number(op, a.identity), changed, made=made)

    def eigenvectors(self, a: WorkedOut) -> WorkedOut:
        """Orthonormal eigenvectors of a symmetric operator, from arrays to its side, by descending eigenvalue."""
        if a.rows == self.anything:
            return a
        if a.rows != a.cols:
            raise self._refused("`eigenvectors` is applied to an operator whose two sides differ")
        if a.start is not None or a.core is None:
            raise self._refused("`eigenvectors` is applied to the initial parameter, or to a multiple of `I`")
        row, column = self.indexed(a.rows)
        axis = Axis(f"eigenvectors {a.rows.name}", row.size)
        args = (self.gram(a.rows, row, column), a.core)
        found = self.build.spectral("eigenvectors", row, self.indexed(axis)[1], args, (column,), "", self.span)
        return WorkedOut(a.rows, axis, core=found)

    def mapped(self, cores: Sequence[WorkedOut | ir.Node], change: Callable[[list[ir.Node]], ir.Node]) -> WorkedOut:
        """An entrywise function of operators between arrays, which are tables, and of numbers."""
        known = [c for c in cores if isinstance(c, WorkedOut) and c.rows != self.anything]
        if not known:
            return WorkedOut(self.anything, self.anything)
        rows, cols = known[0].rows, known[0].cols
        if any((c.rows, c.cols) != (rows, cols) for c in known):
            raise self._refused("an entrywise function combines operators with different sides")
        plain = all(c.identity is None and c.start is None for c in known)
        if isinstance(rows, Width) or isinstance(cols, Width) or not plain:
            raise self._refused(
                "an entrywise function acts only on a table, such as `P^T g Q` with eigenvectors P and Q"
            )
        if all(c.core is None for c in known):
            raise self._refused("an entrywise function is applied to 0")
        zero = self.build.constant(0, self.span)
        return WorkedOut(rows, cols, core=change([(c.core or zero) if isinstance(c, WorkedOut) else c for c in cores]))

    def _of_number(self, op: v.Function, shift: ir.Node | None) -> ir.Node | None:
        """f(s), the multiple of I in f(s I + ...)."""
        if op.name == "matfun":
            return self.build.map(op.fn, (shift or self.build.constant(0, self.span),), self.span)
        if shift is None:
            return None
        power = op.args[0] if op.name == "pow" else self.build.constant(-1, self.span)
        return self.build.map("pow", (shift, power), self.span)

    def trace(self, a: WorkedOut) -> ir.Node:
        """The trace of the matrix at width n: <b|a> for |a><b|."""
        if a.rows != a.cols or a.identity is not None or a.start is not None:
            raise self._refused("`trace` is only defined for low-rank operators whose two sides agree")
        space = self.spaces[a.rows]
        assert space.row and space.column
        if a.core is None:
            return self.build.constant(0, self.span)
        gram = self.gram(a.rows, space.row, space.column)
        return self.build.contract((a.core, gram), (space.row, space.column), (), self.span)

    # -- use ----------------------------------------------------------------------------------------------------
    def apply(self, a: WorkedOut, x: ir.Node) -> ir.Node:
        """The ket a|x>."""
        build, span = self.build, self.span
        parts = [] if a.identity is None else [build.mul(a.identity, x, span)]
        if a.core is not None:
            assert isinstance(a.rows, Width) and isinstance(a.cols, Width)
            rows, cols = self.spaces[a.rows], self.spaces[a.cols]
            assert rows.row and cols.column
            brackets = build.contract((self.basis(a.cols, cols.column), x), (), (0,), span)
            coefficients = build.contract((a.core, brackets), (cols.column,), (), span)
            parts.append(build.contract((self.basis(a.rows, rows.row), coefficients), (rows.row,), (), span))
        return build.map("add", parts, span)

    def entries(self, a: WorkedOut, slot: int) -> ir.Node:
        """The natural entries of a core between kets, over slot 0 and `slot`."""
        if a.core is None:
            return self.build.constant(0, self.span)
        assert isinstance(a.rows, Width) and isinstance(a.cols, Width)
        rows, cols = self.spaces[a.rows], self.spaces[a.cols]
        assert rows.row and cols.column
        left, right = self.basis(a.rows, rows.row), self.basis(a.cols, cols.column)
        summed = self.build.contract((a.core, left), (rows.row,), (), self.span)
        return self.build.contract((summed, self.build.copy(right, slot, self.span)), (cols.column,), (), self.span)

    def columns(self, a: WorkedOut, index: Index) -> ir.Node:
        """The kets over `index` that a core from arrays to kets is."""
        assert isinstance(a.rows, Width)
        if a.core is None:
            return self.build.constant(0, self.span)
        rows, cols = self.spaces[a.rows], self.spaces[a.cols]
        assert rows.row and cols.column
        summed = self.build.contract((a.core, self.basis(a.rows, rows.row)), (rows.row,), (), self.span)
        return self.build.rename(summed, {cols.column: index}, self.span)


def _natural(rows: Side, cols: Side) -> float:
    """The matrix of |e>C<e'| at width n in terms of e/|e| and e'/|e'|: |y><x| is y xᵀ over the width of x; arrays have none."""
    return (rows.ratio / cols.ratio) ** 0.5 if isinstance(rows, Width) and isinstance(cols, Width) else 1.0


def _own(node: ir.Node, index: Index, over: tuple[Index, ...]) -> tuple[Index, ...]:
    """The indices of a family that count its kets."""
    return tuple(i for i in node.type.indices if i == index or i in over)


def _peeled(ket: ir.Node) -> tuple[ir.Node, tuple[ir.Node, ...]]:
    """A ket and the scalars it is multiplied by: multiples of one ket are one element of a basis."""
    scalars: tuple[ir.Node, ...] = ()
    while isinstance(ket, ir.Map) and ket.fn == "mul":
        kets = [a for a in ket.args if a.type.slots]
        if len(kets) != 1:
            break
        scalars += tuple(a for a in ket.args if a is not kets[0])
        ket = kets[0]
    return ket, scalars


def _multiple(op: v.Operator) -> tuple[ir.Node, ...] | None:
    """The factors of a multiple of I; None for any other operator."""
    match op:
        case v.Identity():
            return ()
        case v.Scaled(factor=f, operator=inner):
            rest = _multiple(inner)
            return None if rest is None else (f, *rest)
        case v.Composed(factors=factors):
            parts = [_multiple(f) for f in factors]
            return None if any(p is None for p in parts) else tuple(n for p in parts for n in p or ())
    return None


def worked_out(algebra: OperatorAlgebra, op: v.Operator, span: Span) -> tuple[LowRankOperators, WorkedOut]:
    """An operator that contains matrix functions, in the basis of its kets."""
    spectral = LowRankOperators(algebra, span)
    spectral.collect(op)
    spectral.close()
    return spectral, spectral.core(op)


def applied(algebra: OperatorAlgebra, op: v.Function, x: ir.Node, span: Span) -> ir.Node:
    """A matrix function applied to a ket."""
    _without_matrices(op, span)
    low_rank, found = worked_out(algebra, op, span)
    if isinstance(found.rows, Width):
        x = algebra.build.as_ket(x, found.rows, span)
    result = low_rank.apply(found, x)
    algebra.applied.setdefault(result, Applied("", op, x))
    return result


def _without_matrices(op: v.Operator, span: Span) -> None:
    match op:
        case v.Matrix() | v.GatheredMatrix() | v.Kernel() | v.Diagonal():
            raise error(
                "NX284", "matrix functions of initial matrices, or of nonlinear operators, are not supported", span,
                "apply the function to sums and products of outer products",
            )  # fmt: skip
        case v.Scaled(operator=inner) | v.Summed(operator=inner) | v.Function(operator=inner):
            _without_matrices(inner, span)
        case v.Added(terms=parts) | v.Composed(factors=parts):
            for part in parts:
                _without_matrices(part, span)
