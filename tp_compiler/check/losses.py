"""The losses that every program knows: `mse[i](f, y)`, `cross_entropy[k](f, c)`, `logistic(f, y)`."""

from __future__ import annotations

from tp_compiler.check import values as v
from tp_compiler.check.core import Context, Core, Rule, family_indices
from tp_compiler.check.functions import Functions
from tp_compiler.check.name_lookup import NameLookup
from tp_compiler.diagnostics import ProgramError
from tp_compiler.frontend import syntax as ast
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index


class Losses:
    """Scalars of scalars. Brackets name the indices that a loss runs over, as in `mean[i]`; others pass through."""

    def __init__(self, core: Core, lookup: NameLookup, functions: Functions):
        self.core, self.build, self.lookup, self.functions = core, core.build, lookup, functions
        self.table: dict[str, Rule] = {
            "mse": self._mse,
            "cross_entropy": self._cross_entropy,
            "logistic": self._logistic,
        }

    def _scalars(self, expr: ast.Call, ctx: Context) -> list[v.Scalar]:
        values = self.functions.values(expr, ctx, 2)
        for value, arg in zip(values, expr.args, strict=True):
            self.core.expect_scalar(value, arg.span)
        return [value for value in values if isinstance(value, v.Scalar)]

    def _mse(self, expr: ast.Call, ctx: Context) -> v.Value:
        """The mean of (f - y)^2 over the indices in brackets, as torch's `mse_loss` without the other indices."""
        indices = self.functions.axes(expr, ctx)
        f, y = self._scalars(expr, ctx)
        self.core.bound(indices)
        apart = self.build.add(f.node, self.build.neg(y.node, expr.span), expr.span)
        square = self.build.map("square", (apart,), expr.span)
        return v.Scalar(self.functions.reduced("mean", square, tuple(indices), expr.span))

    def _cross_entropy(self, expr: ast.Call, ctx: Context) -> v.Value:
        """logsumexp[k](f[k]) - f[c], or for probabilities p[k] the mean of it: Σ_k p[k] (logsumexp - f[k])."""
        (index,) = self.functions.axes(expr, ctx, 1)
        f, target = self._scalars(expr, ctx)
        self.functions.carries(f, index, expr.args[0].span)
        whole = self.build.reduce("logsumexp", f.node, index, expr.span)
        if index in family_indices(target):
            self.core.bound((index,))
            apart = self.build.add(whole, self.build.neg(f.node, expr.span), expr.span)
            return v.Scalar(self.build.contract((target.node, apart), (index,), (), expr.span))
        chosen = self._at(f, expr.args[1].value, expr, ctx, index)
        self.core.bound((index,))
        return v.Scalar(self.build.add(whole, self.build.neg(chosen, expr.span), expr.span))

    def _at(self, f: v.Scalar, position: ast.Expr, expr: ast.Call, ctx: Context, index: Index) -> ir.Node:
        """f at the position of the right class."""
        selector = self.lookup.selector(position, index, expr.fn, ctx)
        own = f.node.type.indices
        selectors = [selector if i == index else i for i in own]
        chosen = self.lookup.reindexed(f, own, selectors, expr.span)
        if not isinstance(chosen, v.Scalar):
            raise ProgramError([])
        return chosen.node

    def _logistic(self, expr: ast.Call, ctx: Context) -> v.Value:
        """log(1 + exp(-y f)) for labels y = ±1."""
        f, y = self._scalars(expr, ctx)
        margin = self.build.mul(y.node, f.node, expr.span)
        return v.Scalar(self.build.map("softplus", (self.build.neg(margin, expr.span),), expr.span))
