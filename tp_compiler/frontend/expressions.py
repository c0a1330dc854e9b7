"""Expressions: abstract syntax to values, under the rules of names, indices, widths and sorts.

A mistake is reported where it stands and becomes `Broken`, which every rule passes on silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from tp_compiler.diagnostics import Diagnostic, Diagnostics, ProgramError, Span
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend import values as v
from tp_compiler.frontend.names import Scope, suggest
from tp_compiler.frontend.operators import Algebra, indices, widths
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.types import Index

BROKEN = v.Broken()


@dataclass
class Context:
    """What an expression is read in: the scope, whether bare names mean kets (inside a label), bound copies."""

    scope: Scope
    label: bool = False
    copies: dict[int, int] = field(default_factory=dict)


def error(code: str, message: str, span: Span, remedy: str = "") -> ProgramError:
    return ProgramError([Diagnostic(code, message, span, remedy)])


class Expressions:
    """Checks expressions. `builtins` is the table of functions.py; `call_def` expands a def (definitions.py)."""

    def __init__(self, build: Builder, found: Diagnostics):
        self.build = build
        self.found = found
        self.algebra = Algebra(build)
        self.builtins: dict[str, Callable[..., v.Value]] = {}
        self.call_def: Callable[[v.UserDef, ast.Call, Context], tuple[v.Value, ...]]

    # -- entry points -------------------------------------------------------------------------------------------
    def value(self, expr: ast.Expr, ctx: Context) -> v.Value:
        """The value of an expression; errors are collected and give Broken."""
        try:
            return self._value(expr, ctx)
        except ProgramError as problem:
            for diagnostic in problem.diagnostics:
                self.found.add(diagnostic)
            return BROKEN

    def _value(self, expr: ast.Expr, ctx: Context) -> v.Value:
        pieces = self._split(expr, ctx)
        if len(pieces) > 1:
            return self._multiplied(pieces, ["*"] * (len(pieces) - 1), expr.span, ctx)
        return getattr(self, f"_{type(expr).__name__.lower()}")(expr, ctx)

    def scalar(self, expr: ast.Expr, ctx: Context, what: str = "a scalar") -> ir.Node | None:
        """The node of an expression that must be a scalar; None where it is broken."""
        value = self.value(expr, Context(ctx.scope, False, ctx.copies))
        try:
            return self.expect_scalar(value, expr.span, what)
        except ProgramError as problem:
            self.found.add(problem.diagnostics[0])
            return None

    def expect_scalar(self, value: v.Value, span: Span, what: str = "a scalar") -> ir.Node | None:
        if isinstance(value, v.Broken):
            return None
        if isinstance(value, v.Scalar):
            return value.node
        remedy = "take an average, such as <x> or <x|y>" if isinstance(value, v.Ket) else f"write {what} here"
        raise error("NX210", f"expected {what}, found {_a(value)}", span, remedy)

    def integer(self, expr: ast.Expr, ctx: Context, what: str) -> int | None:
        """A compile-time integer."""
        node = self.scalar(expr, ctx, what)
        if node is None:
            return None
        if not isinstance(node, ir.Constant) or node.value != int(node.value):
            self.found.add(
                Diagnostic("NX211", f"{what} must be an integer known at compile time", expr.span, "write a number")
            )
            return None
        return int(node.value)

    # -- association after name resolution ----------------------------------------------------------------------
    def _split(self, expr: ast.Expr, ctx: Context) -> list[ast.Expr]:
        """`c (x)^2` with c a scalar is the product c * (x)^2: the factors of an apparent call or power."""
        match expr:
            case ast.Call(fn=fn, args=(ast.Arg(keyword=None, value=body),), extra=()) if self._is_factor(fn, ctx):
                return [fn, ast.Paren(Span(expr.span.source, fn.span.end, expr.span.end), body)]
            case ast.Power(operands=(first, *rest)):
                head = self._split(first, ctx)
                if len(head) > 1:
                    return [head[0], ast.Power(expr.span, (head[1], *rest))]
                tail = self._split(expr.operands[-1], ctx)
                if len(tail) > 1:
                    return [ast.Power(expr.span, (*expr.operands[:-1], tail[0])), tail[1]]
            case ast.Transpose(base=base) | ast.CopyMark(base=base):
                head = self._split(base, ctx)
                if len(head) > 1:
                    return [head[0], replace(expr, base=head[1])]
            case ast.Neg(operand=operand):
                head = self._split(operand, ctx)
                if len(head) > 1:
                    return [ast.Neg(expr.span, head[0]), *head[1:]]
        return [expr]

    def _is_factor(self, fn: ast.Name, ctx: Context) -> bool:
        """Is NAME of `NAME(...)` a scalar (or, in a label, a ket) rather than a function or an operator?"""
        if fn.primes:
            return False
        if ctx.label and ctx.scope.ket(fn.ident) is not None:
            return True
        binding = ctx.scope.other(fn.ident)
        if binding is None or fn.ident == "step":
            return False
        if isinstance(binding.value, v.Primitive | v.Builtin | v.UserFn | v.UserDef | v.OptimizerName | v.Broken):
            return False
        return not isinstance(binding.value, v.Operator)

    def _product_pieces(self, expr: ast.Product, ctx: Context) -> tuple[list[ast.Expr], list[str]]:
        pieces: list[ast.Expr] = []
        operators: list[str] = []
        for k, factor in enumerate(expr.factors):
            split = self._split(factor, ctx)
            if k:
                operators.append(expr.operators[k - 1] or "*")
            operators.extend("*" for _ in split[1:])
            pieces.extend(split)
        return pieces, operators

    # -- atoms --------------------------------------------------------------------------------------------------
    def _number(self, expr: ast.Number, ctx: Context) -> v.Value:
        node = self.build.constant(float(expr.text), expr.span)
        return v.Scalar(node)

    def _paren(self, expr: ast.Paren, ctx: Context) -> v.Value:
        return self._value(expr.body, ctx)

    def _name(self, expr: ast.Name, ctx: Context) -> v.Value:
        if ctx.label and not expr.primes:
            binding = ctx.scope.ket(expr.ident)
            if binding is not None:
                return self.read(binding, expr, ctx)
        return self._other(expr, ctx)

    def _other(self, expr: ast.Name, ctx: Context) -> v.Value:
        binding = ctx.scope.other(expr.ident)
        if binding is None:
            raise self._undefined(expr, ctx)
        value = binding.value
        if expr.ident == "delta" and isinstance(value, v.Builtin):
            return self.builtins["delta"](expr, ctx)
        if isinstance(value, v.IndexName):
            if expr.indices is not None:
                raise error("NX221", f"the index {expr.ident} takes no brackets", expr.span, f"write {expr.ident}")
            return v.Scalar(self.build.position(value.index, expr.span))
        if isinstance(value, v.Primitive | v.Builtin | v.UserFn | v.UserDef):
            raise error(
                "NX212",
                f"the function {expr.ident} stands without its arguments",
                expr.span,
                f"write {expr.ident}(...)",
            )
        if isinstance(value, v.OptimizerName | v.WidthName):
            raise error("NX213", f"{expr.ident} is {_a(value)}, not a value", expr.span, "use it where it belongs")
        if expr.primes:
            raise error("NX214", "only functions have a derivative `'`", expr.span, "for gradients write grad(f, |x>)")
        return self.read(binding, expr, ctx)

    def _undefined(self, expr: ast.Name, ctx: Context) -> ProgramError:
        name, scope = expr.ident, ctx.scope
        if not ctx.label and scope.ket(name) is not None:
            return error("NX101", f"`{name}` is a ket", expr.span, f"write |{expr.span.text}>")
        what = "ket, scalar or operator" if ctx.label else "scalar, operator or function"
        known = [*scope.known(False), *(scope.known(True) if ctx.label else ())]
        if name == "T":
            return error("NX101", "`T` is no name", expr.span, "the transpose is written W^T")
        return error("NX101", f"no {what} is called `{name}`", expr.span, suggest(name, known))

    def _ket(self, expr: ast.Ket, ctx: Context) -> v.Value:
        return v.Ket(self.ket_node(self._label(expr.label, ctx), expr.label))

    def _label(self, label: ast.Expr, ctx: Context) -> v.Value:
        """The value of a label: bare names are kets."""
        if isinstance(label, ast.Name) and not label.primes and ctx.scope.ket(label.ident) is None:
            other = ctx.scope.other(label.ident)
            if other is None:
                known = list(ctx.scope.known(True))
                raise error("NX102", f"no ket is called `{label.ident}`", label.span, suggest(label.ident, known))
            shown = _a(other.value)
            remedy = f"did you mean `|{suggested}>`?" if (suggested := _near(label.ident, ctx)) else "a label holds a ket"
            raise error("NX215", f"`{label.ident}` is {shown}, not a ket", label.span, remedy)
        return self._value(label, Context(ctx.scope, True, ctx.copies))

    def ket_node(self, value: v.Value, expr: ast.Expr) -> ir.Node:
        """The node of a value that must be a ket; a number alone is the constant ket."""
        if isinstance(value, v.Ket):
            return value.node
        if isinstance(value, v.Scalar) and isinstance(expr, ast.Number):
            return value.node
        if isinstance(value, v.Broken):
            raise ProgramError([])
        remedy = "a constant ket is c |1>" if isinstance(value, v.Scalar) else "apply it to a ket"
        raise error("NX216", f"expected a ket, found {_a(value)}", expr.span, remedy)

    def _bra(self, expr: ast.Bra, ctx: Context) -> v.Value:
        return v.Bra(self.ket_node(self._label(expr.label, ctx), expr.label))

    def _mean(self, expr: ast.Mean, ctx: Context) -> v.Value:
        x = self.ket_node(self._label(expr.label, ctx), expr.label)
        return v.Scalar(self.build.average(x, expr.span))

    def _braket(self, expr: ast.Braket, ctx: Context) -> v.Value:
        left = self._label(expr.left, ctx)
        right = self._label(expr.right, ctx)
        return self._bracket(left, expr.left, None, right, expr.right, expr.span)

    def _sandwich(self, expr: ast.Sandwich, ctx: Context) -> v.Value:
        left = self._label(expr.left, ctx)
        right = self._label(expr.right, ctx)
        middle = self._value(expr.operator, Context(ctx.scope, False, ctx.copies))
        if not isinstance(middle, v.Operator | v.Broken | v.Scalar):
            raise error(
                "NX217", f"expected an operator between the bars, found {_a(middle)}", expr.operator.span,
                "write <x|W|y>, or <x|y> without a middle part",
            )  # fmt: skip
        return self._bracket(left, expr.left, middle, right, expr.right, expr.span)

    def _bracket(
        self, left: v.Value, left_expr: ast.Expr, middle: v.Value | None, right: v.Value, right_expr: ast.Expr,
        span: Span,
    ) -> v.Value:  # fmt: skip
        y, x = self.ket_node(left, left_expr), self.ket_node(right, right_expr)
        if isinstance(middle, v.Broken):
            return BROKEN
        if isinstance(middle, v.Scalar):
            return v.Scalar(self.build.mul(middle.node, self.inner(y, x, span), span))
        if isinstance(middle, v.Operator):
            x = self.algebra.apply(middle, x, span)
        return v.Scalar(self.inner(y, x, span))

    def inner(self, y: ir.Node, x: ir.Node, span: Span) -> ir.Node:
        """<y|x>"""
        self.same_width((y, x), span)
        return self.build.contract((y, x), (), (0,), span)

    def _clt(self, expr: ast.Clt, ctx: Context) -> v.Value:
        bracket = expr.bracket
        if isinstance(bracket, ast.Mean):
            left: ir.Node = self.build.constant(1, bracket.span)
            right = self.ket_node(self._label(bracket.label, ctx), bracket.label)
        else:
            left = self.ket_node(self._label(bracket.left, ctx), bracket.left)
            right = self.ket_node(self._label(bracket.right, ctx), bracket.right)
            if isinstance(bracket, ast.Sandwich):
                middle = self._value(bracket.operator, Context(ctx.scope, False, ctx.copies))
                if not isinstance(middle, v.Operator):
                    raise error("NX217", "expected an operator between the bars", bracket.operator.span)
                right = self.algebra.apply(middle, right, expr.span)
        self.same_width((left, right), expr.span)
        kets = [n for n in (left, right) if 0 in dict(n.type.slots)]
        if not kets:
            raise error("NX218", "clt of a constant grows like √n", expr.span, "clt needs a centred ket")
        if any(s != 0 for n in kets for s, _ in n.type.slots):
            raise error("NX219", "clt takes no copies", expr.span, "move it out of E")
        width = kets[0].type.width
        left, right = (self.algebra.as_ket(n, width, expr.span) for n in (left, right))
        return v.Scalar(self.build.clt(left, right, expr.span))

    # -- reading names ------------------------------------------------------------------------------------------
    def read(self, binding: v.Binding, expr: ast.Name, ctx: Context) -> v.Value:
        """A bound value under the indices written at this place."""
        written = expr.indices or ()
        if isinstance(binding.value, v.Broken) and not binding.members:
            for index in written:  # mistakes inside the brackets are still worth a word
                self.value(index, Context(ctx.scope))
            return BROKEN
        if binding.clock is not None and written and written[0].span.text == "step":
            return self.read(replace(binding, clock=None), replace(expr, indices=written[1:]), ctx)
        if len(written) != len(binding.indices):
            names = ",".join(i.name for i in binding.indices)
            form = f"{expr.ident}[{names}]" if names else expr.ident
            raise error(
                "NX220",
                f"`{expr.ident}` has {_count(len(binding.indices))}, {len(written) or 'none'} written",
                expr.span,
                f"write {form}",
            )
        selectors = [
            self.selector(e, i, expr, ctx) for e, i in zip(written, binding.indices, strict=True)
        ]
        return self._member(binding, selectors, expr)

    def selector(self, expr: ast.Expr, index: Index, name: ast.Name, ctx: Context) -> Index | int | ir.Node:
        """What stands in a bracket: an index, a position, or integer data (a node)."""
        scope = ctx.scope
        if isinstance(expr, ast.Name) and expr.indices is None and not expr.primes:
            found = scope.other(expr.ident)
            if found is not None and isinstance(found.value, v.IndexName):
                self._same_axis(found.value.index, index, expr, name)
                return found.value.index
        value = self._value(expr, Context(scope))
        if isinstance(value, v.Broken):
            raise ProgramError([])
        node = self.expect_scalar(value, expr.span, "an index")
        assert node is not None
        if isinstance(node, ir.Constant):
            return self._position(node.value, index, expr)
        if (isinstance(node, ir.Array | ir.Reindex) and _is_integer(node)) or _is_refused(node):
            return node
        if any(isinstance(a, ir.Position) for a in node.args):
            raise error(
                "NX222",
                f"`{expr.span.text}` leaves the axis of {index.size} points at its end",
                expr.span,
                "use shift[i](x, 1), which continues with zeros, or a `for` loop",
            )
        raise error("NX223", "this is no index", expr.span, "write an index name, a position, or integer data")

    def _position(self, value: float, index: Index, expr: ast.Expr) -> int:
        if value != int(value):
            raise error("NX224", f"position {value:g} is not an integer", expr.span, "positions are 1, 2, ...")
        first = 0 if index.name == "step" else 1
        position = int(value) + 1 - first
        if not 1 <= position <= index.size:
            last = index.size - 1 + first
            raise error(
                "NX225", f"position {int(value)} is outside {first}..{last}", expr.span, "positions count from 1"
            )
        return position

    def _same_axis(self, found: Index, wanted: Index, expr: ast.Expr, name: ast.Name) -> None:
        if found.axis.name == wanted.axis.name:
            return
        raise error(
            "NX226",
            f"index {found.name} ranges over axis {found.axis.name}, but `{name.ident}` wants one of axis"
            f" {wanted.axis.name} here",
            expr.span,
            f"axes are nominal; declare both names together, `axis {wanted.axis.name}, {found.name} : {wanted.size}`",
        )

    def _member(
        self, binding: v.Binding, selectors: list[Index | int | ir.Node], expr: ast.Name
    ) -> v.Value:
        if not binding.fixed:
            return self.reindexed(binding.value, binding.indices, selectors, expr.span)
        picks = [selectors[k] for k in binding.fixed]
        rest = [s for k, s in enumerate(selectors) if k not in binding.fixed]
        indices = tuple(i for k, i in enumerate(binding.indices) if k not in binding.fixed)
        if all(isinstance(p, int) for p in picks):
            key = tuple(p for p in picks if isinstance(p, int))
            return self.reindexed(self._bound_member(binding, key, expr), indices, rest, expr.span)
        whole = self._stacked(binding, expr)
        return self.reindexed(whole.value, whole.indices, selectors, expr.span)

    def _bound_member(self, binding: v.Binding, key: tuple[int, ...], expr: ast.Name) -> v.Value:
        if key in binding.members:
            return binding.members[key]
        if isinstance(binding.value, v.Broken):
            shown = ", ".join(map(str, key))
            raise error(
                "NX227", f"member {shown} of `{expr.ident}` is not bound yet", expr.span, "bind it before it is read"
            )
        wanted = dict(zip(binding.fixed, key, strict=True))
        selectors: list[Index | int | ir.Node] = [wanted.get(k, i) for k, i in enumerate(binding.indices)]
        return self.reindexed(binding.value, binding.indices, selectors, expr.span)

    def _stacked(self, binding: v.Binding, expr: ast.Name) -> v.Binding:
        """All members along the first fixed bracket assembled, recursively: the whole family as one value."""
        place, *others = binding.fixed
        index = binding.indices[place]
        parts = []
        for position in range(1, index.size + 1):
            picked = {k[1:]: m for k, m in binding.members.items() if k[0] == position}
            remaining = tuple(i for k, i in enumerate(binding.indices) if k != place)
            fixed = tuple(k - (k > place) for k in others)
            if fixed:
                base = v.Binding(BROKEN, remaining, fixed=fixed, members=picked)
                parts.append(self._stacked(base, expr).value)
            else:
                parts.append(self._bound_member(binding, (position,), expr))
        return v.Binding(self._stack(parts, index, expr), binding.indices)

    def _stack(self, parts: list[v.Value], index: Index, expr: ast.Name) -> v.Value:
        nodes = [p.node for p in parts if isinstance(p, v.Scalar | v.Ket)]
        if len(nodes) < len(parts):
            if any(isinstance(p, v.Broken) for p in parts):
                raise ProgramError([])
            raise error("NX228", "members of an operator family are read one by one", expr.span, "write a position")
        node = self.build.stack(tuple(nodes), index, expr.span)
        return v.Ket(node) if isinstance(parts[0], v.Ket) else v.Scalar(node)

    def reindexed(
        self, value: v.Value, own: tuple[Index, ...], selectors: list[Index | int | ir.Node], span: Span
    ) -> v.Value:
        """The value with selectors[k] in the place of own[k]."""
        gathers = [s for s in selectors if isinstance(s, ir.Node)]
        chosen: dict[Index, Index | int | ir.Gather] = {}
        for index, selector in zip(own, selectors, strict=True):
            chosen[index] = ir.Gather(gathers.index(selector) + 1) if isinstance(selector, ir.Node) else selector
        if isinstance(value, v.Scalar | v.Ket):
            node = value.node
            picks = tuple(chosen.get(i, i) for i in node.type.indices)
            used = {p.arg for p in picks if isinstance(p, ir.Gather)}
            kept = tuple(g if k + 1 in used else None for k, g in enumerate(gathers))
            args = tuple(g for g in kept if g is not None)
            order = {k + 1: n + 1 for n, k in enumerate(k for k, g in enumerate(kept) if g is not None)}
            picks = tuple(ir.Gather(order[p.arg]) if isinstance(p, ir.Gather) else p for p in picks)
            return type(value)(self.build.reindex(node, picks, args, span))
        if isinstance(value, v.Operator):
            return self._operator_member(value, chosen, gathers, span)
        return value

    def _operator_member(
        self, op: v.Operator, chosen: dict[Index, Index | int | ir.Gather], gathers: list[ir.Node], span: Span
    ) -> v.Value:
        by_data = {i: s for i, s in chosen.items() if isinstance(s, ir.Gather)}
        plain = {i: s for i, s in chosen.items() if not isinstance(s, ir.Gather)}
        if not by_data:
            return self.algebra.rename(op, plain, span)
        if not isinstance(op, v.Matrix):
            raise error("NX229", "integer data chooses members of kets and matrices only", span, "use a loop")
        hidden = {i: self.algebra.fresh(i) for i in by_data}
        renamed = self.algebra.rename(op, {**plain, **hidden}, span)
        assert isinstance(renamed, v.Matrix)
        return v.GatheredMatrix(renamed, tuple(hidden.values()), tuple(gathers[s.arg - 1] for s in by_data.values()))

    # -- operations ---------------------------------------------------------------------------------------------
    def _transpose(self, expr: ast.Transpose, ctx: Context) -> v.Value:
        value = self._value(expr.base, ctx)
        if isinstance(value, v.Operator):
            return self.algebra.transpose(value, expr.span)
        if isinstance(value, v.Broken):
            return value
        remedy = "the bra of |x> is <x|" if isinstance(value, v.Ket) else "remove ^T"
        raise error("NX230", f"only operators have a transpose, this is {_a(value)}", expr.span, remedy)

    def _copymark(self, expr: ast.CopyMark, ctx: Context) -> v.Value:
        value = self._value(expr.base, ctx)
        if isinstance(value, v.Broken):
            return value
        if not isinstance(value, v.Ket):
            raise error("NX231", f"only kets have iid copies, this is {_a(value)}", expr.span, "mark a ket: |x>@1")
        if expr.copy not in ctx.copies:
            raise error(
                "NX233",
                f"copy @{expr.copy} is not bound here",
                expr.span,
                f"copies live inside E[{expr.copy}](...)",
            )
        if any(slot != 0 for slot, _ in value.node.type.slots):
            raise error("NX235", "this is a copy already", expr.span, "mark each ket once")
        return v.Ket(self.build.copy(value.node, ctx.copies[expr.copy], expr.span))

    def _neg(self, expr: ast.Neg, ctx: Context) -> v.Value:
        value = self._value(expr.operand, ctx)
        minus = v.Scalar(self.build.constant(-1, expr.span))
        return self.multiply(minus, value, expr.span)

    def _power(self, expr: ast.Power, ctx: Context) -> v.Value:
        *bases, last = expr.operands
        value = self._value(last, ctx)
        for base in reversed(bases):
            value = self._raise(self._value(base, ctx), value, base, expr.span)
        return value

    def _raise(self, base: v.Value, exponent: v.Value, at: ast.Expr, span: Span) -> v.Value:
        if isinstance(base, v.Broken) or isinstance(exponent, v.Broken):
            return BROKEN
        if isinstance(base, v.Operator):
            return self._operator_power(base, exponent, span)
        if isinstance(base, v.Scalar | v.Ket) and isinstance(exponent, v.Scalar | v.Ket):
            self.same_width((base.node, exponent.node), span)
            node = self.build.map("pow", (base.node, exponent.node), span)
            return v.Ket(node) if isinstance(base, v.Ket) or isinstance(exponent, v.Ket) else v.Scalar(node)
        raise error("NX237", f"{_a(base)} has no powers", at.span, "powers are of scalars, kets and operators")

    def _operator_power(self, base: v.Operator, exponent: v.Value, span: Span) -> v.Value:
        count = exponent.node.value if isinstance(exponent, v.Scalar) and isinstance(exponent.node, ir.Constant) else -1
        if count != int(count) or count < 0:
            raise error(
                "NX238",
                "an operator is raised to whole numbers 0, 1, 2, ... only",
                span,
                "real powers are pow(S, p), inverses inv(S)",
            )
        if count > 10_000:
            raise error("NX238", f"the power {int(count)} would take as many products", span, "use at most 10000")
        rows, cols = widths(base)
        if rows and cols and rows != cols and count != 1:
            raise error("NX241", f"a {rows.name} x {cols.name} operator has no powers", span, "write A^T A, or A A^T")
        return v.Composed((base,) * int(count)) if count else v.Identity()

    def _multiplied(self, pieces: list[ast.Expr], operators: list[str], span: Span, ctx: Context) -> v.Value:
        values = [self.value(p, ctx) for p in pieces]
        if any(isinstance(x, v.Broken) for x in values):
            return BROKEN
        result = values[0]
        for k, (operator, value) in enumerate(zip(operators, values[1:], strict=True)):
            here = pieces[0].span.to(pieces[k + 1].span)
            result = (self.divide if operator == "/" else self.multiply)(result, value, here)
        return result

    def _product(self, expr: ast.Product, ctx: Context) -> v.Value:
        pieces, operators = self._product_pieces(expr, ctx)
        return self._multiplied(pieces, operators, expr.span, ctx)

    def multiply(self, a: v.Value, b: v.Value, span: Span) -> v.Value:
        """Juxtaposition and `*`: product, application, composition or bracket, by what the two sides are."""
        build = self.build
        match a, b:
            case (v.Broken(), _) | (_, v.Broken()):
                return BROKEN
            case v.Scalar(), v.Scalar():
                return v.Scalar(build.mul(a.node, b.node, span))
            case (v.Scalar(), v.Ket()) | (v.Ket(), v.Scalar()) | (v.Ket(), v.Ket()):
                self.same_width((a.node, b.node), span)
                return v.Ket(build.mul(a.node, b.node, span))
            case (v.Scalar(), v.Operator()):
                return v.Scaled(a.node, b)
            case (v.Operator(), v.Scalar()):
                return v.Scaled(b.node, a)
            case v.Operator(), v.Ket():
                return v.Ket(self.algebra.apply(a, b.node, span))
            case v.Operator(), v.Operator():
                self._composable(a, b, span)
                return v.Composed((a, b))
            case v.Ket(), v.Operator():
                return v.Composed((v.Diagonal(a.node), b))
            case v.Ket(), v.Bra():
                return self._outer(a.node, b, span)
            case v.Bra(), v.Operator():
                return v.Bra(a.node, b if a.operator is None else v.Composed((a.operator, b)))
            case (v.Bra(), v.Scalar()):
                return v.Bra(build.mul(b.node, a.node, span), a.operator)
            case (v.Scalar(), v.Bra()):
                return v.Bra(build.mul(a.node, b.node, span), b.operator)
            case v.Bra(), v.Ket():
                x = b.node if a.operator is None else self.algebra.apply(a.operator, b.node, span)
                return v.Scalar(self.inner(a.node, x, span))
        raise error("NX240", f"{_a(a)} times {_a(b)} has no meaning", span, _product_remedy(a, b))

    def _outer(self, y: ir.Node, bra: v.Bra, span: Span) -> v.Value:
        if any(slot != 0 for n in (y, bra.node) for slot, _ in n.type.slots):
            raise error("NX232", "an outer product takes no copies", span, "write the average with E instead")
        outer = v.Outer(y, bra.node)
        return outer if bra.operator is None else v.Composed((outer, bra.operator))

    def _composable(self, a: v.Operator, b: v.Operator, span: Span) -> None:
        cols, rows = widths(a)[1], widths(b)[0]
        if cols and rows and cols != rows:
            raise error(
                "NX241",
                f"the left operator takes kets of width {cols.name}, the right one gives width {rows.name}",
                span,
                "transpose one of them",
            )

    def divide(self, a: v.Value, b: v.Value, span: Span) -> v.Value:
        match a, b:
            case (v.Broken(), _) | (_, v.Broken()):
                return BROKEN
            case (v.Scalar() | v.Ket(), v.Scalar() | v.Ket()):
                self.same_width((a.node, b.node), span)
                node = self.build.map("div", (a.node, b.node), span)
                return v.Ket(node) if isinstance(a, v.Ket) or isinstance(b, v.Ket) else v.Scalar(node)
            case (v.Operator() | v.Bra(), v.Scalar()):
                one = self.build.constant(1, span)
                return self.multiply(v.Scalar(self.build.map("div", (one, b.node), span)), a, span)
        raise error("NX239", f"{_a(a)} cannot be divided by {_a(b)}", span, "divide by a scalar, or a ket by a ket")

    def _sum(self, expr: ast.Sum, ctx: Context) -> v.Value:
        values = [self.value(t, ctx) for t in expr.terms]
        if any(isinstance(x, v.Broken) for x in values):
            return BROKEN
        minus = v.Scalar(self.build.constant(-1, expr.span))
        signed = [
            self.multiply(minus, x, t.span) if s == "-" else x
            for x, s, t in zip(values, expr.signs, expr.terms, strict=True)
        ]
        return self.add(signed, expr)

    def add(self, values: list[v.Value], expr: ast.Sum) -> v.Value:
        span = expr.span
        if all(isinstance(x, v.Scalar | v.Ket) for x in values):
            nodes = [x.node for x in values if isinstance(x, v.Scalar | v.Ket)]
            self.same_width(tuple(nodes), span)
            node = self.build.map("add", nodes, span)
            return v.Ket(node) if any(isinstance(x, v.Ket) for x in values) else v.Scalar(node)
        if all(isinstance(x, v.Operator) for x in values):
            operators = tuple(x for x in values if isinstance(x, v.Operator))
            self._same_operator_width(operators, span)
            return v.Added(operators)
        if all(isinstance(x, v.Bra) for x in values):
            return self._add_bras([x for x in values if isinstance(x, v.Bra)], span)
        odd = next(k for k, x in enumerate(values) if x.kind != values[0].kind)
        kinds = {values[0].kind, values[odd].kind}
        remedy = "write c I for a multiple of the identity" if kinds == {"scalar", "operator"} else ""
        raise error("NX242", f"{_a(values[0])} plus {_a(values[odd])} has no meaning", span, remedy)

    def _add_bras(self, bras: list[v.Bra], span: Span) -> v.Value:
        if any(b.operator is not None for b in bras):
            raise error("NX243", "sums of bras with operators are not supported", span, "write (<x|W|y> + <z|V|y>)")
        return v.Bra(self.build.map("add", [b.node for b in bras], span))

    def _same_operator_width(self, operators: tuple[v.Operator, ...], span: Span) -> None:
        for side in (0, 1):
            classes = {w.name for o in operators if (w := widths(o)[side])}
            if len(classes) > 1:
                raise error("NX241", f"operators of widths {' and '.join(sorted(classes))} do not add", span)

    def same_width(self, nodes: tuple[ir.Node, ...], span: Span) -> None:
        """Kets that meet entrywise or in a bracket live on the same neurons."""
        classes = {w.name for n in nodes for slot, w in n.type.slots if slot == 0}
        if len(classes) > 1:
            raise error(
                "NX244",
                f"kets of widths {' and '.join(sorted(classes))} do not meet",
                span,
                "map one to the width of the other with a matrix",
            )

    # -- calls --------------------------------------------------------------------------------------------------
    def _call(self, expr: ast.Call, ctx: Context) -> v.Value:
        name = expr.fn.ident
        binding = ctx.scope.library["step"] if name == "step" else ctx.scope.other(name)
        if binding is None:
            raise error("NX103", f"no function is called `{name}`", expr.fn.span, suggest(name, ctx.scope.known(False)))
        value = binding.value
        if isinstance(value, v.Broken):
            return BROKEN
        if isinstance(value, v.Builtin):
            return self.builtins[value.name](expr, ctx)
        if isinstance(value, v.Primitive | v.UserFn):
            return self.builtins["entrywise"](value, expr, ctx)
        if isinstance(value, v.UserDef):
            results = self.call_def(value, expr, ctx)
            if len(results) != 1:
                raise error(
                    "NX245",
                    f"{name} returns {len(results)} values",
                    expr.span,
                    "bind them: `a, b = " + name + "(...)`",
                )
            return results[0]
        if isinstance(value, v.Operator) or binding.members:
            operator = self.read(binding, expr.fn, ctx)
            if len(expr.args) != 1:
                raise error("NX246", f"the operator {name} acts on one ket", expr.span, f"write {name}(|x>)")
            return self.multiply(operator, self._value(expr.args[0].value, ctx), expr.span)
        raise error("NX247", f"`{name}` is {_a(value)}, not a function", expr.fn.span, "write `*` for a product")

    def _listliteral(self, expr: ast.ListLiteral, ctx: Context) -> v.Value:
        raise error("NX248", "lists of numbers belong to `data`", expr.span, "declare `data x[i] = [...]`")

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Collects ProgramErrors raised inside."""
        try:
            yield
        except ProgramError as problem:
            for diagnostic in problem.diagnostics:
                self.found.add(diagnostic)


def _a(value: v.Value) -> str:
    article = "an" if value.kind[0] in "aeio" else "a"
    return f"{article} {value.kind}"


def _count(n: int) -> str:
    return {0: "no index", 1: "one index"}.get(n, f"{n} indices")


def _near(name: str, ctx: Context) -> str:
    return next((k for k in (name.lower(), name.upper()) if k in ctx.scope.kets), "")


def _is_integer(node: ir.Node) -> bool:
    if isinstance(node, ir.Reindex):
        return _is_integer(node.args[0])
    return isinstance(node, ir.Array) and node.integer


def _is_refused(node: ir.Node) -> bool:
    """`step` and `step - 1`: typed, but unavailable in this version."""
    return isinstance(node, ir.Unavailable) or any(isinstance(a, ir.Unavailable) for a in node.args)


def _product_remedy(a: v.Value, b: v.Value) -> str:
    if isinstance(a, v.Bra) and isinstance(b, v.Bra):
        return "a bra meets a ket: <x| |y>"
    return "operators stand left of kets, bras left of operators"


def free_indices(value: v.Value) -> tuple[Index, ...]:
    """The indices a value still carries."""
    if isinstance(value, v.Scalar | v.Ket):
        return value.node.type.indices
    if isinstance(value, v.Bra):
        inner = indices(value.operator) if value.operator else ()
        return tuple(dict.fromkeys((*value.node.type.indices, *inner)))
    if isinstance(value, v.Operator):
        return indices(value)
    return ()


__all__ = ["BROKEN", "Context", "Expressions", "error", "free_indices"]
