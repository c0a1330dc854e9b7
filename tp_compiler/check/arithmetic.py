"""Arithmetic of values: powers, products, quotients and sums of scalars, kets, bras and operators."""

from __future__ import annotations

from tp_compiler.check import values as v
from tp_compiler.check.core import BROKEN, Context, Core, Rule, a_kind
from tp_compiler.check.optimizer_rules import HostedBody
from tp_compiler.diagnostics import Span, error
from tp_compiler.frontend import syntax as ast
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.operators import widths
from tp_compiler.ir.types import N


class Arithmetic:
    """The meaning of `+ - * / ^ ^T @k` and juxtaposition, by the kinds of the two sides."""

    def __init__(self, core: Core):
        self.core = core
        self.build = core.build
        self.rules: dict[type[ast.Expr], Rule] = {
            ast.Transpose: self._transpose, ast.CopyMark: self._copymark, ast.Neg: self._neg, ast.Power: self._power,
            ast.Sum: self._sum,
        }  # fmt: skip

    def _transpose(self, expr: ast.Transpose, ctx: Context) -> v.Value:
        value = self.core.evaluate(expr.base, ctx)
        if isinstance(value, v.Operator):
            return self.core.algebra.transpose(value, expr.span)
        if isinstance(value, v.Broken):
            return value
        remedy = "write the bra of `|x>` as `<x|`" if isinstance(value, v.Ket) else "remove `^T`"
        raise error("NX230", f"only operators have a transpose; this is {a_kind(value)}", expr.span, remedy)

    def _copymark(self, expr: ast.CopyMark, ctx: Context) -> v.Value:
        value = self.core.evaluate(expr.base, ctx)
        if isinstance(value, v.Broken):
            return value
        if not isinstance(value, v.Ket):
            raise error("NX231", f"only kets have copies; this is {a_kind(value)}", expr.span, "mark a ket: `|x>@1`")
        if expr.copy not in ctx.copies:
            raise error(
                "NX233",
                f"copy `@{expr.copy}` is not bound here",
                expr.span,
                f"use it inside `E[{expr.copy}](...)`",
            )
        if any(slot != 0 for slot, _ in value.node.type.slots):
            raise error("NX235", "this is already a copy", expr.span, "mark each ket once")
        return v.Ket(self.build.copy(value.node, ctx.copies[expr.copy], expr.span))

    def _neg(self, expr: ast.Neg, ctx: Context) -> v.Value:
        value = self.core.evaluate(expr.operand, ctx)
        minus = v.Scalar(self.build.constant(-1, expr.span))
        return self.multiply(minus, value, expr.span)

    def _power(self, expr: ast.Power, ctx: Context) -> v.Value:
        *bases, last = expr.operands
        value = self.core.evaluate(last, ctx)
        for base in reversed(bases):
            value = self._raise(self.core.evaluate(base, ctx), value, base, expr.span)
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
        raise error(
            "NX237", f"{a_kind(base)} cannot be raised to a power", at.span, "raise a scalar, a ket or an operator"
        )

    def _operator_power(self, base: v.Operator, exponent: v.Value, span: Span) -> v.Value:
        count = exponent.node.value if isinstance(exponent, v.Scalar) and isinstance(exponent.node, ir.Constant) else -1
        if count != int(count) or count < 0:
            raise error(
                "NX238",
                "the exponent of an operator must be a whole number 0, 1, 2, ...",
                span,
                "write `pow(S, p)` for real powers, `inv(S)` for inverses",
            )
        if count > 10_000:
            raise error("NX238", f"the exponent {int(count)} is too large", span, "use at most 10000")
        rows, cols = widths(base)
        if rows and cols and rows != cols and count != 1:
            raise error(
                "NX241", f"a {rows.name} x {cols.name} operator has no powers", span, "write `A^T A` or `A A^T`"
            )
        return v.Composed((base,) * int(count)) if count else v.Identity()

    def multiplied(self, pieces: list[ast.Expr], operators: list[str], span: Span, ctx: Context) -> v.Value:
        values = [self.core.value(p, ctx) for p in pieces]
        if any(isinstance(x, v.Broken) for x in values):
            return BROKEN
        result = values[0]
        for k, (operator, value) in enumerate(zip(operators, values[1:], strict=True)):
            here = pieces[0].span.to(pieces[k + 1].span)
            result = (self.divide if operator == "/" else self.multiply)(result, value, here)
        return result

    def multiply(self, a: v.Value, b: v.Value, span: Span) -> v.Value:
        """Juxtaposition and `*`: product, application, composition or bracket, depending on the two sides."""
        build = self.build
        match a, b:
            case (v.Broken(), _) | (_, v.Broken()):
                return BROKEN
            case v.Scalar(), v.Scalar():
                return v.Scalar(build.mul(a.node, b.node, span))
            case v.Scalar() | v.Ket(), v.Scalar() | v.Ket():
                self.same_width((a.node, b.node), span)
                return v.Ket(build.mul(a.node, b.node, span))
            case (v.Scalar(), v.Operator()):
                return v.Scaled(a.node, b)
            case (v.Operator(), v.Scalar()):
                return v.Scaled(b.node, a)
            case v.Operator(), v.Ket():
                return v.Ket(self.core.algebra.apply(a, b.node, span))
            case v.Operator(), v.Operator():
                self._composable(a, b, span)
                return self.core.algebra.bounded(v.Composed((a, b)), span)
            case v.Ket(), v.Operator():
                return v.Composed((v.Diagonal(a.node), b))
            case v.Ket(), v.Bra():
                return self._outer(a.node, b, span)
            case v.Bra(), v.Operator():
                joined = b if a.operator is None else v.Composed((a.operator, b))
                return v.Bra(a.node, self.core.algebra.bounded(joined, span))
            case (v.Bra(), v.Scalar()):
                return v.Bra(build.mul(b.node, a.node, span), a.operator)
            case (v.Scalar(), v.Bra()):
                return v.Bra(build.mul(a.node, b.node, span), b.operator)
            case v.Bra(), v.Ket():
                x = b.node if a.operator is None else self.core.algebra.apply(a.operator, b.node, span)
                return v.Scalar(self.inner(a.node, x, span))
        raise error("NX240", f"{a_kind(a)} cannot be multiplied by {a_kind(b)}", span, _product_remedy(a, b))

    def _outer(self, y: ir.Node, bra: v.Bra, span: Span) -> v.Value:
        if any(slot != 0 for n in (y, bra.node) for slot, _ in n.type.slots):
            raise error("NX232", "an outer product cannot contain copies", span, "write the average with `E` instead")
        outer = v.Outer(y, bra.node)
        return outer if bra.operator is None else v.Composed((outer, bra.operator))

    def _composable(self, a: v.Operator, b: v.Operator, span: Span) -> None:
        cols, rows = widths(a)[1], widths(b)[0]
        if cols and rows and cols != rows:
            raise error(
                "NX241",
                f"the left operator takes kets of width {cols.name}, but the right one returns width {rows.name}",
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
        raise error(
            "NX239", f"{a_kind(a)} cannot be divided by {a_kind(b)}", span, "divide by a scalar, or a ket by a ket"
        )

    def _sum(self, expr: ast.Sum, ctx: Context) -> v.Value:
        values = [self.core.value(t, ctx) for t in expr.terms]
        if any(isinstance(x, v.Broken) for x in values):
            return BROKEN
        minus = v.Scalar(self.build.constant(-1, expr.span))
        signed = [
            self.multiply(minus, x, t.span) if s == "-" else x
            for x, s, t in zip(values, expr.signs, expr.terms, strict=True)
        ]
        return self.add(self._lift(signed, ctx, expr.span), expr)

    def _lift(self, values: list[v.Value], ctx: Context, span: Span) -> list[v.Value]:
        """Scalars added to operators as operators, if the context gives them that meaning."""
        operators = tuple(x for x in values if isinstance(x, v.Operator))
        if not operators or not ctx.lifted:
            return values
        rows, cols = widths(v.Added(operators))
        lifted: list[v.Value] = []
        for x in values:
            if isinstance(x, v.Scalar) and ctx.lifted == "identity":
                x = v.Scaled(x.node, v.Identity())
            elif isinstance(x, v.Scalar):
                # A table, in an optimizer on operators, has no widths.
                sides = (
                    w or N if isinstance(ctx.scope.optimizer, HostedBody) else self.core.algebra.known(w, span)
                    for w in (rows, cols)
                )
                x = v.Kernel(x.node, self.build.slot(), *sides)
            lifted.append(x)
        return lifted

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
        remedy = "write `c I` for a multiple of the identity" if kinds == {"scalar", "operator"} else ""
        raise error("NX242", f"{a_kind(values[0])} and {a_kind(values[odd])} cannot be added", span, remedy)

    def _add_bras(self, bras: list[v.Bra], span: Span) -> v.Value:
        if any(b.operator is not None for b in bras):
            raise error(
                "NX243",
                "sums of bras with operators are not supported",
                span,
                "write the brackets out: `<x|W|y> + <z|V|y>`",
            )
        return v.Bra(self.build.map("add", [b.node for b in bras], span))

    def _same_operator_width(self, operators: tuple[v.Operator, ...], span: Span) -> None:
        for side in (0, 1):
            classes = {w.name for o in operators if (w := widths(o)[side])}
            if len(classes) > 1:
                raise error("NX241", f"operators of widths {' and '.join(sorted(classes))} cannot be added", span)

    def same_width(self, nodes: tuple[ir.Node, ...], span: Span) -> None:
        """Kets that are combined entrywise or in a bracket must live on the same neurons."""
        classes = {w.name for n in nodes for slot, w in n.type.slots if slot == 0}
        if len(classes) > 1:
            raise error(
                "NX244",
                f"kets of widths {' and '.join(sorted(classes))} cannot be combined",
                span,
                "use a matrix to map one to the width of the other",
            )

    def inner(self, y: ir.Node, x: ir.Node, span: Span) -> ir.Node:
        """<y|x>"""
        self.same_width((y, x), span)
        return self.build.contract((y, x), (), (0,), span)


def _product_remedy(a: v.Value, b: v.Value) -> str:
    if isinstance(a, v.Bra) and isinstance(b, v.Bra):
        return "multiply a bra by a ket: `<x| |y>`"
    return "write operators to the left of kets, bras to the left of operators"
