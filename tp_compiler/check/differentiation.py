"""Differentiation in expressions: grad, vjp, jvp, ntk and stop.

The calculus is in transform/gradient.py; this file interprets the arguments. Every result is an ordinary value: a ket, a
scalar, or a sum of outer products.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from tp_compiler.check import values as v
from tp_compiler.check.arithmetic import Arithmetic
from tp_compiler.check.core import BROKEN, Context, Core, a_kind
from tp_compiler.diagnostics import Span, error
from tp_compiler.frontend import syntax as ast
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index, Width
from tp_compiler.ir.walk import uses_initial
from tp_compiler.transform.gradient import Gradient, Label, Leaf
from tp_compiler.transform.gradient_operators import gradient_operator, outer_terms
from tp_compiler.transform.tangent import Member, bracket_width, gradients, inner_products, parameters

#: A parameter; of a family the member at these labels, if there are positions among them.
Restriction = tuple[Leaf, tuple[Label, ...]]


class Differentiation:
    """The rules. `table` maps a builtin's name to its method."""

    def __init__(self, core: Core, arithmetic: Arithmetic):
        self.core = core
        self.arithmetic = arithmetic
        self.build = core.build
        self.table: dict[str, Callable[[ast.Call, Context], v.Value]] = {
            "grad": self.grad, "vjp": self.vjp, "jvp": self.jvp, "ntk": self.ntk, "stop": self.stop,
        }  # fmt: skip

    def _arguments(self, expr: ast.Call, ctx: Context, count: int, form: str) -> list[v.Value] | None:
        if any(a.keyword is not None for a in expr.args) or len(expr.args) != count:
            raise error("NX251", f"`{expr.fn.ident}` takes {count} positional arguments", expr.span, f"write `{form}`")
        values = [self.core.value(a.value, ctx) for a in expr.args]
        return None if any(isinstance(x, v.Broken) for x in values) else values

    # -- grad ---------------------------------------------------------------------------------------------------
    def grad(self, expr: ast.Call, ctx: Context) -> v.Value:
        """grad(f, |u[d]>), grad(f, W), grad(f, c): natural gradients; f may be a family."""
        found = ctx.scope.optimizer.gradient(expr) if ctx.scope.optimizer is not None else None
        if found is not None:
            return found
        values = self._arguments(expr, ctx, 2, "grad(f, |x>)` or `grad(f, W)")
        if values is None:
            return BROKEN
        f = self.core.expect_scalar(values[0], expr.args[0].span, "a scalar to differentiate")
        assert f is not None
        return self._gradient(f, values[1], expr.args[1].span, expr.span)

    def _gradient(self, f: ir.Node, by: v.Value, at: Span, span: Span) -> v.Value:
        if isinstance(by, v.Matrix) and not by.transposed:
            self._current(f, by.symbol, by.symbol.name, span)
            found = Gradient(self.build, f, [by.symbol], span)
            return gradient_operator(self.build, found, by.symbol, by.member, span)
        if isinstance(by, v.Scalar | v.Ket):
            leaf, wanted = self._leaf(by.node, at)
            self._current(f, leaf, leaf.state.name if isinstance(leaf, ir.Carry) else "", span)
            return type(by)(Gradient(self.build, f, [leaf], span).by(leaf, wanted))
        if isinstance(by, v.Operator):
            raise error(
                "NX269",
                "cannot differentiate by an operator other than a declared matrix",
                at,
                "name the matrix itself",
            )
        raise error("NX269", f"cannot differentiate by {a_kind(by)}", at, "name a ket, a matrix or a scalar")

    def _leaf(self, node: ir.Node, at: Span) -> tuple[ir.Node, tuple[Label, ...]]:
        """The node of |u[d]> or |u[2]>, and the labels at which its gradient is requested."""
        if isinstance(node, ir.Reindex):
            if len(node.args) > 1:
                raise error(
                    "NX269", "cannot differentiate by a member selected by data", at, "differentiate by the family"
                )
            labels = tuple(s for s in node.selectors if not isinstance(s, ir.Gather))
            return node.args[0], labels
        if isinstance(node, ir.Constant):
            raise error("NX269", "cannot differentiate by a constant", at, "declare it: `scalar c = 0`")
        return node, node.type.indices

    def _current(self, f: ir.Node, leaf: Leaf, name: str, span: Span) -> None:
        """f must not depend on the initial value of a parameter that is being trained."""
        start = (
            leaf.start if isinstance(leaf, ir.MatrixSymbol) else leaf.state.init if isinstance(leaf, ir.Carry) else None
        )
        if start is not None and uses_initial(f, {start}):
            message = f"this was computed from the initial `{name}`, before the training"
            raise error("NX282", message, span, "move the line into the loop, or make it a `def`")

    # -- products with vectors ------------------------------------------------------------------------------------
    def vjp(self, expr: ast.Call, ctx: Context) -> v.Value:
        """vjp(y, x, dy): the gradient by x of <dy|y> (of dy y for scalars), dy held fixed."""
        values = self._arguments(expr, ctx, 3, "vjp(|y>, |x>, |dy>)")
        if values is None:
            return BROKEN
        y, x, dy = values
        return self._gradient(self._paired(y, dy, expr), x, expr.args[1].span, expr.span)

    def _paired(self, y: v.Value, dy: v.Value, expr: ast.Call) -> ir.Node:
        if not isinstance(y, v.Scalar | v.Ket) or not isinstance(dy, v.Scalar | v.Ket):
            raise error("NX283", f"`{expr.fn.ident}` takes scalars and kets", expr.span, "give a ket and its cotangent")
        fixed = self.build.stop(dy.node, expr.span)
        if isinstance(y, v.Scalar) and isinstance(dy, v.Scalar):
            return self.build.mul(fixed, y.node, expr.span)
        self.arithmetic.same_width((y.node, fixed), expr.span)
        return self.build.contract((fixed, y.node), (), (0,), expr.span)

    def jvp(self, expr: ast.Call, ctx: Context) -> v.Value:
        """jvp(y, x, dx): the derivative of y in the direction dx of x; y a scalar or a ket."""
        values = self._arguments(expr, ctx, 3, "jvp(|y>, |x>, |dx>)")
        if values is None:
            return BROKEN
        y, x, dx = values
        if isinstance(y, v.Scalar):
            slope = self._gradient(y.node, x, expr.args[1].span, expr.span)
            return v.Scalar(self._along(slope, dx, expr))
        if not isinstance(y, v.Ket) or not y.node.type.is_ket:
            raise error("NX283", "`jvp` takes scalars and kets", expr.span, "give a ket")
        # <w|y> has the derivative <w|dy>, which is linear in w: its gradient by w is dy.
        indices = y.node.type.indices
        symbol = ir.KetSymbol("w", indices, y.node.type.width, expr.span, frozen=True)
        zero = self.build.constant(0, expr.span)
        probe = self.build.initial_ket(symbol, zero, zero, expr.span)
        paired = self.build.contract((probe, y.node), (), (0,), expr.span)
        slope = self._gradient(paired, x, expr.args[1].span, expr.span)
        along = self._along(slope, dx, expr)
        return v.Ket(Gradient(self.build, along, [probe], expr.span).by(probe, indices))

    def _along(self, slope: v.Value, dx: v.Value, expr: ast.Call) -> ir.Node:
        """<slope|dx>"""
        build, span = self.build, expr.span
        match slope, dx:
            case v.Scalar(), v.Scalar():
                return build.mul(slope.node, dx.node, span)
            case v.Ket(), v.Ket():
                self.arithmetic.same_width((slope.node, dx.node), span)
                return build.contract((slope.node, dx.node), (), (0,), span)
            case v.Operator(), v.Operator():
                terms = [
                    build.contract(
                        (build.contract((left, self.core.algebra.apply(dx, right, span)), (), (0,), span), factor),
                        over, (), span,
                    )
                    for left, right, factor, over in outer_terms(self.build, slope, span)
                ]  # fmt: skip
                return build.map("add", terms, span) if terms else build.constant(0, span)
        raise error(
            "NX283",
            f"the direction is {a_kind(dx)}, unlike the variable",
            expr.args[2].span,
            "give a direction of the same kind as the variable",
        )

    # -- ntk ----------------------------------------------------------------------------------------------------
    def ntk(self, expr: ast.Call, ctx: Context) -> v.Value:
        """ntk(f[i], f[j]; W, |u>): Σ over the trainable parameters of <natural gradient|natural gradient>."""
        values = self._arguments(expr, ctx, 2, "ntk(f[i], f[j])")
        if values is None:
            return BROKEN
        nodes = [self.core.expect_scalar(x, a.span, "a scalar") for x, a in zip(values, expr.args, strict=True)]
        f, g = (n for n in nodes if n is not None)
        width = bracket_width(f, expr.span)
        if width != bracket_width(g, expr.span):
            raise error(
                "NX281", "the two outputs are brackets of different widths", expr.span, "use outputs of the same width"
            )
        members = self._restricted(expr, ctx) or dict.fromkeys((x, ()) for x in [*parameters(f), *parameters(g)])
        return v.Scalar(tangent_kernel(self.core, f, g, members, width, expr.span))

    def _restricted(self, expr: ast.Call, ctx: Context) -> dict[Restriction, None]:
        """The parameters after the `;`, with positions if members of a family are meant."""
        leaves: dict[Restriction, None] = {}
        for e in expr.extra:
            value = self.core.value(self._whole(e, ctx), ctx)
            if isinstance(value, v.Matrix):
                leaves[value.symbol, value.member] = None
            elif isinstance(value, v.Scalar | v.Ket):
                leaf, labels = self._leaf(value.node, e.span)
                leaves[leaf, labels] = None
            elif not isinstance(value, v.Broken):
                raise error("NX269", f"{a_kind(value)} is not a parameter", e.span, "name a ket, a matrix or a scalar")
        return leaves

    def _whole(self, e: ast.Expr, ctx: Context) -> ast.Expr:
        """`|u>` and `A` denote their whole families: the indices of the declaration are added."""
        name = e.label if isinstance(e, ast.Ket) else e
        if not isinstance(name, ast.Name) or name.indices is not None:
            return e
        table = ctx.scope.kets if isinstance(e, ast.Ket) else ctx.scope.others
        binding = table.get(name.ident)
        if binding is None or not binding.indices:
            return e
        full = ast.Name(name.span, name.ident, tuple(ast.Name(name.span, i.name) for i in binding.indices))
        return ast.Ket(e.span, full) if isinstance(e, ast.Ket) else full

    # -- stop ---------------------------------------------------------------------------------------------------
    def stop(self, expr: ast.Call, ctx: Context) -> v.Value:
        """stop(x) is x: a constant to differentiation."""
        values = self._arguments(expr, ctx, 1, "stop(x)")
        if values is None:
            return BROKEN
        (value,) = values

        def fixed(node: ir.Node) -> ir.Node:
            return self.build.stop(node, expr.span)

        if isinstance(value, v.Scalar | v.Ket):
            return type(value)(fixed(value.node))
        if isinstance(value, v.Operator):
            return self.core.algebra.mapped(value, fixed, expr.span)
        raise error(
            "NX283", f"`stop` cannot be applied to {a_kind(value)}", expr.span, "give a scalar, a ket or an operator"
        )


def tangent_kernel(
    core: Core, f: ir.Node, g: ir.Node, members: Collection[Restriction], width: Width, span: Span
) -> ir.Node:
    """The kernel of two scalars; shared indices give the diagonal. `members` selects members of families."""
    build = core.build
    apart: dict[Index, Index | int] = {i: build.fresh(i) for i in g.type.indices if i in f.type.indices}
    leaves = list(dict.fromkeys(leaf for leaf, _ in members))
    whole = [leaf for leaf, at in members if not any(isinstance(p, int) for p in at)]
    first, second = gradients(build, f, build.rename(g, apart, span), leaves, span)
    terms = [inner_products(build, first, second, whole, span, width)]
    for leaf, at in members:
        if leaf not in whole:
            terms.append(inner_products(build, Member(build, first, at, span), second, [leaf], span, width))
    kernel = build.map("add", terms, span)
    back: dict[Index, Index | int] = {new: old for old, new in apart.items() if isinstance(new, Index)}
    return build.rename(kernel, back, span)
