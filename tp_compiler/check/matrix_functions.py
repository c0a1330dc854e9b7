"""Functions of operators: pow, inv, solve, msign, matfun; norm and trace; means and norms of rows and columns.

`pow`, `inv`, `msign` and `matfun` remain expressions until they are applied to a ket or to an optimizer's parameter; they are
in the basis of the kets that they are made of (transform/low_rank.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tp_compiler.check import values as v
from tp_compiler.check.arithmetic import Arithmetic
from tp_compiler.check.core import BROKEN, Context, Core, a_kind, free_indices, function_of_one
from tp_compiler.check.optimizer_rules import STATISTICS, HostedBody, LayerBody
from tp_compiler.diagnostics import ProgramError, Span, error
from tp_compiler.frontend import syntax as ast
from tp_compiler.ir import nodes as ir
from tp_compiler.ir import shape_factors
from tp_compiler.ir.operators import Applied, widths
from tp_compiler.transform.low_rank import worked_out


class MatrixFunctions:
    """The rules. `table` maps a builtin's name to its method."""

    def __init__(self, core: Core, arithmetic: Arithmetic):
        self.core = core
        self.arithmetic = arithmetic
        self.build = core.build
        self.table: dict[str, Callable[[ast.Call, Context], v.Value]] = {
            "msign": self.function,
            "eigenvectors": self.eigenvectors,
            "norm": self.norm,
            "trace": self.trace,
            **dict.fromkeys(("rowmean", "colmean"), self.means),
            **dict.fromkeys(("rownorm", "colnorm"), self.norms),
            **dict.fromkeys(("inputs", "signals", "examples"), self.factors),
            "aspect": self.aspect,
            **dict.fromkeys(("lengths", "balanced"), self.of_layers),
        }
        for name in STATISTICS:
            self.table[name] = self._in_layers(self.table[name])

    # -- pow, inv, solve, msign, matfun -------------------------------------------------------------------------
    def function(self, expr: ast.Call, ctx: Context) -> v.Value:
        name = expr.fn.ident
        if name in ("logdet", "cholesky"):
            raise error(
                "NX268", f"`{name}` is only defined for finite matrices", expr.span, f"write `{name}[i,j](K[i,j])`"
            )
        wanted = {"pow": 2, "solve": 2, "matfun": 2}.get(name, 1)
        if len(expr.args) != wanted:
            raise error("NX251", f"`{name}` takes {wanted} argument{'s' * (wanted > 1)}", expr.span)
        fn, args = "", list(expr.args)
        if name == "matfun":
            named = args.pop(0).value
            fn = function_of_one(ctx.scope.other(named.ident) if isinstance(named, ast.Name) else None, named.span)
        op = self._operator(args[0], ctx, expr)
        if op is None:
            return BROKEN
        rows, cols = widths(op)
        if name != "msign" and rows and cols and rows != cols:
            raise error(
                "NX241",
                f"`{name}` cannot be applied to a {rows.name} x {cols.name} operator",
                expr.span,
                "write `A^T A` or `A A^T`",
            )
        if name == "solve":
            return self.arithmetic.multiply(v.Function("inv", op), self.core.value(args[1].value, ctx), expr.span)
        nodes: tuple[ir.Node, ...] = ()
        if name == "pow":
            power = self.core.scalar(args[1].value, ctx, "an exponent")
            if power is None:
                return BROKEN
            nodes = (power,)
        return self.core.algebra.bounded(v.Function(name, op, nodes, fn), expr.span)

    def _operator(self, arg: ast.Arg, ctx: Context, expr: ast.Call) -> v.Operator | None:
        """The operator in the first argument, in which a scalar added to operators is a multiple of I."""
        name = expr.fn.ident
        value = self.core.value(arg.value, replace(ctx, lifted="identity"))
        if isinstance(value, v.Broken):
            return None
        if isinstance(value, v.Operator):
            return value
        if isinstance(value, v.Ket):
            raise error(
                "NX268", f"`{name}` acts on operators, not on kets", expr.span, "write entrywise powers as `|x>^p`"
            )
        if isinstance(value, v.Scalar) and free_indices(value):
            raise error("NX252", f"`{name}` of scalars needs two indices", expr.fn.span, f"write `{name}[i,j](K[i,j])`")
        raise error("NX268", f"`{name}` cannot be applied to {a_kind(value)}", expr.span, "apply it to an operator")

    def eigenvectors(self, expr: ast.Call, ctx: Context) -> v.Value:
        """eigenvectors(L): P with L P = P Λ, from arrays to kets, eigenvalues descending; in an optimizer on operators."""
        body = ctx.scope.optimizer
        if not isinstance(body, HostedBody):
            remedy = "use it in an `optimizer ... on operators`"
            raise error("NX285", "`eigenvectors` is not defined here", expr.span, remedy)
        op = self._single(expr, ctx)
        return BROKEN if op is None else body.host.eigenvectors(op, body.at)

    # -- numbers ------------------------------------------------------------------------------------------------
    def trace(self, expr: ast.Call, ctx: Context) -> v.Value:
        """trace(A): the trace of the matrix at width n, <x|y> for |y><x|."""
        op = self._single(expr, ctx)
        if op is None:
            return BROKEN
        body = ctx.scope.optimizer
        if isinstance(body, HostedBody):
            return v.Scalar(body.host.trace(op, body.at))
        low_rank, found = worked_out(self.core.algebra, op, expr.span)
        result = low_rank.trace(found)
        self.core.algebra.applied.setdefault(result, Applied("trace", op))
        return v.Scalar(result)

    def norm(self, expr: ast.Call, ctx: Context) -> v.Value:
        """The root mean square of the natural entries: of an operator, a ket, or (in an optimizer) of one parameter."""
        if len(expr.args) == 1:
            value = self.core.value(expr.args[0].value, ctx)
            if isinstance(value, v.Broken):
                return BROKEN
            if isinstance(value, v.Scalar | v.Ket):
                return v.Scalar(self._root_mean_square(value.node, ctx, expr.span))
        op = self._single(expr, ctx)
        if op is None:
            return BROKEN
        body = ctx.scope.optimizer
        if isinstance(body, HostedBody):
            return v.Scalar(body.host.norm(op, body.at))
        node, slot = self._kernel(op, expr.span)
        square = self.build.contract((node, node), (), (0, slot), expr.span)
        return v.Scalar(self.build.map("sqrt", (square,), expr.span))

    def _root_mean_square(self, node: ir.Node, ctx: Context, span: Span) -> ir.Node:
        """The root mean square over neurons and, in an optimizer, over the family of a ket parameter."""
        build = self.build
        over = node.type.indices if ctx.scope.entries and node.type.is_ket else ()
        count = build.constant(1.0, span)
        for i in over:
            count = build.mul(count, build.constant(i.size, span), span)
        total = build.contract((node, node), over, tuple(s for s, _ in node.type.slots), span)
        return build.map("sqrt", (build.map("div", (total, count), span),), span)

    def _single(self, expr: ast.Call, ctx: Context) -> v.Operator | None:
        if len(expr.args) != 1:
            raise error("NX251", f"`{expr.fn.ident}` takes one argument", expr.span, f"write `{expr.fn.ident}(G)`")
        return self._operator(expr.args[0], ctx, expr)

    # -- rows and columns ---------------------------------------------------------------------------------------
    def means(self, expr: ast.Call, ctx: Context) -> v.Value:
        """rowmean(A) = A|1>, the means of the natural entries of each row; colmean those of each column."""
        op = self._single(expr, ctx)
        if op is None:
            return BROKEN
        algebra, span = self.core.algebra, expr.span
        rows, cols = (algebra.known(w, span) for w in widths(op))
        if expr.fn.ident == "rowmean":
            return v.Ket(algebra.apply(op, self.build.ones(cols, span), span))
        mean = algebra.apply(algebra.transpose(op, span), self.build.ones(rows, span), span)
        return v.Ket(self.build.mul(self.build.constant(cols.ratio / rows.ratio, span), mean, span))

    def norms(self, expr: ast.Call, ctx: Context) -> v.Value:
        """The root mean squares of the natural entries of each row, or column."""
        op = self._single(expr, ctx)
        if op is None:
            return BROKEN
        span = expr.span
        if expr.fn.ident == "colnorm":
            rows, cols = (self.core.algebra.known(w, span) for w in widths(op))
            op = v.Scaled(self.build.constant(cols.ratio / rows.ratio, span), self.core.algebra.transpose(op, span))
        node, slot = self._kernel(op, span)
        square = self.build.contract((node, node), (), (slot,), span)
        return v.Ket(self.build.map("sqrt", (square,), span))

    def _kernel(self, op: v.Operator, span: Span) -> tuple[ir.Node, int]:
        slot = self.build.slot()
        return self.core.algebra.kernel(op, slot, span), slot

    # -- optimizers on layers -----------------------------------------------------------------------------------
    def of_layers(self, expr: ast.Call, ctx: Context) -> v.Value:
        raise error(
            "NX285", f"`{expr.fn.ident}` is not defined here", expr.span, "use it in an `optimizer ... on layers`"
        )

    def _in_layers(self, rule: Callable[[ast.Call, Context], v.Value]) -> Callable[[ast.Call, Context], v.Value]:
        """In an optimizer on layers the functions of rows and columns act on entries."""

        def call(expr: ast.Call, ctx: Context) -> v.Value:
            body = ctx.scope.optimizer
            if not isinstance(body, LayerBody):
                return rule(expr, ctx)
            if len(expr.args) != 1:
                raise error("NX251", f"`{expr.fn.ident}` takes one argument", expr.span, f"write `{expr.fn.ident}(g)`")
            found = body.statistic(expr.fn.ident, body.number(expr.args[0].value, ctx.scope), expr.span)
            return v.Ket(found) if found.type.slots else v.Scalar(found)

        return call

    def aspect(self, expr: ast.Call, ctx: Context) -> v.Value:
        """aspect(g; scale): a factor of the rows and columns of the parameter, which an argument of the optimizer names."""
        body = ctx.scope.optimizer
        if not isinstance(body, HostedBody | LayerBody):
            remedy = "use it in an `optimizer ... on operators` or `on layers`"
            raise error("NX285", "`aspect` is not defined here", expr.span, remedy)
        match [self.core.value(e, ctx) for e in expr.extra]:
            case [v.Scalar(node=ir.Constant(value=place))] if place in range(len(shape_factors.NAMES)):
                return v.Scalar(body.host.aspect(shape_factors.NAMES[int(place)], expr.span))
        remedy = "write `aspect(g; scale)`, where `scale = natural` is an argument of the optimizer"
        raise error("NX251", "`aspect` needs the name of a factor", expr.span, remedy)

    # -- factors of K-FAC ---------------------------------------------------------------------------------------
    def factors(self, expr: ast.Call, ctx: Context) -> v.Value:
        """inputs(g; f), signals(g; f) and examples(g; f): for optimizers on operators."""
        body = ctx.scope.optimizer
        if not isinstance(body, HostedBody):
            remedy = "use it in an `optimizer ... on operators`"
            raise error("NX285", f"`{expr.fn.ident}` is not defined here", expr.span, remedy)
        values = [self.core.value(a.value, ctx) for a in expr.args]
        extra = [self.core.value(e, ctx) for e in expr.extra]
        if any(isinstance(x, v.Broken) for x in (*values, *extra)):
            raise ProgramError([])
        return body.factor(expr.fn.ident, extra, expr.span)
