"""Functions with special rules: one method each, listed in `table`.

Entrywise functions (primitives, `fn`, their derivatives, and their action on operators), reductions over named axes,
iid averages E[k], finite matrices, shift, running sums and delta.
"""

from __future__ import annotations

from dataclasses import replace

from tp_compiler.check import positions
from tp_compiler.check import values as v
from tp_compiler.check.arithmetic import Arithmetic
from tp_compiler.check.core import BROKEN, Context, Core, Rule, a_kind, family_indices, function_of_one
from tp_compiler.check.names import Binding, UserFn
from tp_compiler.check.optimizer_rules import HostedBody
from tp_compiler.diagnostics import Diagnostic, ProgramError, Span, error
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.mentions import names_in
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.operators import widths
from tp_compiler.ir.primitives import ARGUMENT_NAMES, CALLABLE, DEFAULTS
from tp_compiler.ir.types import Index, Type
from tp_compiler.ir.walk import rewrite
from tp_compiler.transform.entrywise import derivative

#: Reductions over one axis that are instructions; sum, mean and softmax are built from others.
_REDUCE = {"max", "min", "prod", "logsumexp"}
REDUCTIONS = frozenset({"sum", "mean", "softmax", *_REDUCE})
_LINALG_ARGS = {"inv": 1, "cholesky": 1, "logdet": 1, "pow": 2, "solve": 2, "matfun": 2, "dpow": 3, "dmatfun": 3}
LINALG = frozenset(_LINALG_ARGS)
OPERATOR_ONLY = frozenset(
    {
        "msign",
        "eigenvectors",
        "rowmean",
        "colmean",
        "rownorm",
        "colnorm",
        "norm",
        "trace",
        "inputs",
        "signals",
        "examples",
        "aspect",
        "lengths",
        "balanced",
    }
)
CONSTRUCTS = frozenset({"grad", "vjp", "jvp", "ntk"})
LOSSES = frozenset({"mse", "cross_entropy", "logistic"})


class Functions:
    """The rules. `table` maps a builtin's name to its method."""

    def __init__(self, core: Core, arithmetic: Arithmetic, of_operator: Rule):
        """`of_operator`: pow, inv ... without brackets act on operators (matrix_functions.py)."""
        self.core = core
        self.build = core.build
        self.arithmetic = arithmetic
        self.of_operator = of_operator
        self.table = {
            **dict.fromkeys(REDUCTIONS, self.reduction),
            **dict.fromkeys(LINALG, self.linalg),
            "E": self.expectation,
            "shift": self.shift,
            "unfold": self.unfold,
            "cumsum": self.cumsum,
            "delta": self.delta,
            "hadamard": self.hadamard,
            "size": self.size,
        }

    # -- arguments ----------------------------------------------------------------------------------------------
    def values(self, expr: ast.Call, ctx: Context, count: int | None = None) -> list[v.Value]:
        for arg in expr.args:
            if arg.keyword is not None:
                raise error(
                    "NX250",
                    f"`{expr.fn.ident}` has no keyword `{arg.keyword}`",
                    arg.span,
                    "pass the argument by position",
                )
        if count is not None and len(expr.args) != count:
            raise error(
                "NX251",
                f"`{expr.fn.ident}` takes {count} argument{'s' * (count != 1)}, but got {len(expr.args)}",
                expr.span,
                f"write {count} argument{'s' * (count != 1)} in the parentheses, separated by commas",
            )
        values = [self.core.value(a.value, ctx) for a in expr.args]
        if any(isinstance(x, v.Broken) for x in values):
            raise ProgramError([])
        return values

    def axes(self, expr: ast.Call, ctx: Context, count: int | None = None) -> list[Index]:
        """The indices in the brackets of `sum[i,j](...)`."""
        name = expr.fn.ident
        if not expr.fn.indices:
            raise error(
                "NX252", f"`{name}` needs the indices it runs over", expr.fn.span, self._with_indices(expr, ctx)
            )
        if count is not None and len(expr.fn.indices) != count:
            raise error("NX252", f"`{name}` takes {count} indices in brackets", expr.fn.span)
        found = []
        for e in expr.fn.indices:
            binding = ctx.scope.other(e.ident) if isinstance(e, ast.Name) and e.indices is None else None
            if binding is None or not isinstance(binding.value, v.IndexName):
                raise self.core.no_index(e, ctx.scope)
            found.append(binding.value.index)
        if len(set(found)) < len(found):
            raise error("NX253", "an index appears twice in the brackets", expr.fn.span, "name each index once")
        return found

    def _with_indices(self, expr: ast.Call, ctx: Context) -> str:
        """How a call without the brackets it needs is written: with the indices of its first argument."""
        name = expr.fn.ident
        args = [a for a in expr.args if a.keyword not in ("dim", "axis", "axes", "keepdim")]
        with self.core.found.apart():
            values = [self.core.value(a.value, ctx) for a in args]
        names = [i.name for i in (family_indices(values[0]) if values else ()) if "#" not in i.name]
        if values and isinstance(values[0], v.Ket) and not names and name in ("sum", "mean"):
            return "write the mean over the neurons as `<x>`; brackets name indices, `mean[i](|x[i]>)`"
        if not names:
            return f"write `{name}[i](...)` with an index i of the argument"
        if name == "cross_entropy" and len(values) > 1:  # over the classes, which the labels do not have
            labels = {i.name for i in family_indices(values[1])}
            names = [i for i in names if i not in labels] or names
        shown = ",".join(names) if name in ("sum", "mean", "mse") else names[-1]
        return f"write `{name}[{shown}]({', '.join(a.span.text for a in args)})`: brackets name the indices"

    # -- entrywise ----------------------------------------------------------------------------------------------
    def entrywise(self, fn: v.PrimitiveName | UserFn, expr: ast.Call, ctx: Context) -> v.Value:
        if expr.fn.indices is not None:
            if expr.fn.ident in _REDUCE:
                return self.reduction(expr, ctx)
            raise error(
                "NX254",
                f"`{expr.fn.ident}` takes no brackets, because it acts entrywise",
                expr.fn.span,
                "remove the brackets",
            )
        if expr.extra:
            raise error("NX250", f"`{expr.fn.ident}` takes no `;`", expr.span, "separate the arguments by commas")
        args = self._entrywise_args(fn, expr, ctx)
        if any(isinstance(a, v.Broken) for a in args):
            return BROKEN
        for a, e in zip(args, expr.args, strict=False):
            if not isinstance(a, v.Scalar | v.Ket | v.Operator):
                raise error("NX255", f"`{expr.fn.ident}` cannot be applied to {a_kind(a)}", e.span, "apply it to a ket")
        if any(isinstance(a, v.Operator) for a in args):
            return self._of_operators(fn, args, expr, ctx)
        nodes = [a.node for a in args if isinstance(a, v.Scalar | v.Ket)]
        self.arithmetic.same_width(tuple(nodes), expr.span)
        node = self._applied(fn, nodes, expr, ctx)
        return v.Ket(node) if any(isinstance(a, v.Ket) for a in args) else v.Scalar(node)

    def _entrywise_args(self, fn: v.PrimitiveName | UserFn, expr: ast.Call, ctx: Context) -> list[v.Value]:
        name = expr.fn.ident
        if isinstance(fn, UserFn):
            names: tuple[str, ...] = fn.statement.params
            defaults: dict[str, float] = {}
        else:
            names = ARGUMENT_NAMES.get(fn.name, ("x",))
            defaults = DEFAULTS.get(fn.name, {})
        given: dict[str, v.Value] = {}
        for k, arg in enumerate(expr.args):
            key = arg.keyword if arg.keyword is not None else (names[k] if k < len(names) else "")
            if key not in names:
                shown = (
                    f"no argument `{arg.keyword}`" if arg.keyword else f"{len(names)} argument{'s' * (len(names) > 1)}"
                )
                raise error("NX251", f"`{name}` takes {shown}", arg.span, f"write `{name}({', '.join(names)})`")
            if key in given:
                raise error("NX251", f"`{name}` is given `{key}` twice", arg.span, "give it once")
            given[key] = self.core.value(arg.value, replace(ctx, lifted="entries"))
        for key in names:
            if key not in given:
                if key not in defaults:
                    raise error(
                        "NX251",
                        f"the argument `{key}` of `{name}` is missing",
                        expr.span,
                        f"write `{name}({', '.join(names)})`",
                    )
                given[key] = v.Scalar(self.build.constant(defaults[key], expr.span))
        return [given[key] for key in names]

    def _applied(self, fn: v.PrimitiveName | UserFn, nodes: list[ir.Node], expr: ast.Call, ctx: Context) -> ir.Node:
        if not expr.fn.primes:
            return self._call_entrywise(fn, nodes, expr.span, ctx)
        if ctx.scope.optimizer is not None:
            ctx.scope.optimizer.typed = True
        if len(nodes) != 1 and not (isinstance(fn, v.PrimitiveName) and fn.name in DEFAULTS):
            raise error(
                "NX256",
                "only functions of one argument have a derivative `'`",
                expr.fn.span,
                "write the derivative out",
            )
        # Differentiated at a fresh leaf, so that everything else named in the body is held fixed.
        leaf = ir.Array(type=Type(), name="z", values=0.0, span=expr.span)
        graph = self._call_entrywise(fn, [leaf, *nodes[1:]], expr.span, ctx)
        for _ in range(expr.fn.primes):
            graph = derivative(self.build, graph, leaf, expr.span)
        placed = rewrite(self.build, graph, lambda n: nodes[0] if n is leaf else None if n.args else n, expr.span)
        # A constant derivative still is a function of its argument: keep the argument's indices and slots.
        kept = self.build.mul(self.build.constant(0, expr.span), nodes[0], expr.span)
        return placed if placed.type.slots == nodes[0].type.slots else self.build.add(placed, kept, expr.span)

    def _call_entrywise(self, fn: v.PrimitiveName | UserFn, nodes: list[ir.Node], span: Span, ctx: Context) -> ir.Node:
        if isinstance(fn, v.PrimitiveName):
            return self.build.map(fn.name, nodes, span)
        self.build.spend(span, 5)
        scope = fn.scope.snapshot()
        scope.optimizer = ctx.scope.optimizer
        hidden = self._hidden(fn, nodes)
        for name, node in zip(fn.statement.params, nodes, strict=True):
            kept = self.build.rename(node, {**hidden}, span)
            scope.others[name] = Binding(v.Ket(kept) if kept.type.slots else v.Scalar(kept))
        result = self.core.value(fn.statement.body, Context(scope))
        if isinstance(result, v.Broken):
            raise ProgramError([])
        if not isinstance(result, v.Scalar | v.Ket):
            raise error(
                "NX257",
                f"the body of `fn {fn.statement.name}` is {a_kind(result)}, not a number",
                fn.statement.span,
                "return a number",
            )
        back: dict[Index, Index | int] = {h: i for i, h in hidden.items()}
        caught = [i for i in hidden if i in result.node.type.indices]
        if caught:
            raise error(
                "NX273", f"the result of `{fn.statement.name}` has the index `{caught[0].name}` twice", span,
                f"call it with another index of axis `{caught[0].axis.name}`",
            )  # fmt: skip
        return self.build.rename(result.node, back, span)

    def _hidden(self, fn: UserFn, nodes: list[ir.Node]) -> dict[Index, Index]:
        """Indices of the arguments that the body names too, under names that its reductions cannot catch."""
        free = dict.fromkeys(i for n in nodes for i in n.type.indices)
        named = {n.ident for n, _ in names_in(fn.statement.body)} if free else set()
        return {i: self.core.build.fresh(i) for i in free if i.name in named}

    def _of_operators(self, fn: v.PrimitiveName | UserFn, args: list[v.Value], expr: ast.Call, ctx: Context) -> v.Value:
        """f(G, ...): the nonlinear outer product with natural entries f(g(α, β), ...)."""
        if any(isinstance(a, v.Ket) for a in args):
            raise error("NX255", "an operator and a ket cannot be combined entrywise", expr.span, "use `E[1](...)`")
        parts = [a for a in args if isinstance(a, v.Operator | v.Scalar)]
        body = ctx.scope.optimizer
        if isinstance(body, HostedBody):
            return body.mapped(parts, lambda nodes: self._applied(fn, nodes, expr, ctx))
        slot = self.build.slot()
        nodes = []
        rows = cols = None
        for a in parts:
            if isinstance(a, v.Operator):
                r, c = widths(a)
                rows, cols = rows or r, cols or c
            nodes.append(self.core.algebra.kernel(a, slot, expr.span) if isinstance(a, v.Operator) else a.node)
        rows, cols = (self.core.algebra.known(w, expr.span) for w in (rows, cols))
        return v.Kernel(self._applied(fn, nodes, expr, ctx), slot, rows, cols)

    def hadamard(self, expr: ast.Call, ctx: Context) -> v.Value:
        values = self.values(expr, ctx, 2)
        if not all(isinstance(x, v.Operator) for x in values):
            raise error("NX258", "`hadamard` takes two operators", expr.span, "write `|x> * |y>` for kets")
        a, b = (x for x in values if isinstance(x, v.Operator))
        body = ctx.scope.optimizer
        if isinstance(body, HostedBody):
            return body.mapped((a, b), lambda nodes: self.build.map("mul", nodes, expr.span))
        slot = self.build.slot()
        rows, cols = (self.core.algebra.known(widths(a)[k] or widths(b)[k], expr.span) for k in (0, 1))
        nodes = [self.core.algebra.kernel(x, slot, expr.span) for x in (a, b)]
        return v.Kernel(self.build.map("mul", nodes, expr.span), slot, rows, cols)

    # -- reductions ---------------------------------------------------------------------------------------------
    def reduction(self, expr: ast.Call, ctx: Context) -> v.Value:
        name = expr.fn.ident
        indices = self.axes(expr, ctx)
        (value,) = self.values(expr, ctx, 1)
        present = family_indices(value)
        if name != "softmax":
            self.core.bound(indices)
        for index in indices:
            if index not in present:
                self.core.found.add(
                    Diagnostic(
                        "NX901",
                        f"the body of `{name}[{index.name}]` does not depend on `{index.name}`",
                        expr.fn.span,
                        "remove the index, unless the body is meant to be constant over the axis",
                    )
                )
        if isinstance(value, v.Operator):
            return self._reduce_operator(name, value, indices, expr.span)
        if not isinstance(value, v.Scalar | v.Ket):
            raise error("NX259", f"`{name}` cannot be applied to {a_kind(value)}", expr.span, "reduce scalars or kets")
        return type(value)(self.reduced(name, value.node, tuple(indices), expr.span))

    def reduced(self, name: str, x: ir.Node, indices: tuple[Index, ...], span: Span) -> ir.Node:
        build = self.build
        if name == "sum":
            return build.contract((x,), indices, (), span)
        if name == "mean":
            count = 1
            for i in indices:
                count *= i.size
            return build.contract((build.constant(1 / count, span), x), indices, (), span)
        if name == "softmax":
            low = self.reduced("logsumexp", x, indices, span)
            return build.map("exp", (build.add(x, build.neg(low, span), span),), span)
        for index in indices:
            x = build.reduce(name, x, index, span)
        return x

    def _reduce_operator(self, name: str, op: v.Operator, indices: list[Index], span: Span) -> v.Value:
        if name not in ("sum", "mean"):
            raise error("NX259", f"`{name}` cannot be applied to operators", span, "use `sum` or `mean`")
        size = 1
        for index in indices:
            hidden = self.core.build.fresh(index)
            op = v.Summed(self.core.algebra.rename(op, {index: hidden}, span), hidden)
            size *= index.size
        return v.Scaled(self.build.constant(1 / size, span), op) if name == "mean" else op

    # -- iid copies ---------------------------------------------------------------------------------------------
    def expectation(self, expr: ast.Call, ctx: Context) -> v.Value:
        """E[1,2](psi): the average over iid copies (OuterNonlin, Tensor Programs IVb Def 2.6.1)."""
        if not expr.fn.indices:
            raise error(
                "NX260", "`E` needs the copies it averages over", expr.fn.span, "write `E[1](...)`, or `<x>` for a mean"
            )
        copies = dict(ctx.copies)
        slots = []
        for e in expr.fn.indices:
            number = int(e.text) if isinstance(e, ast.Number) and e.text.isdigit() else 0
            if number < 1:
                raise error("NX260", f"`{e.span.text}` is not the number of a copy", e.span, "number copies 1, 2, ...")
            if number in copies:
                raise error("NX261", f"copy {number} is already bound", e.span, "use a new number in a nested `E`")
            copies[number] = self.build.slot()
            slots.append(copies[number])
        (arg,) = expr.args if len(expr.args) == 1 else (None,)
        if arg is None:
            raise error("NX251", "`E` takes one expression", expr.span, "write `E[1](psi(|x>, |y>@1))`")
        value = self.core.value(arg.value, Context(ctx.scope, ctx.label, copies))
        if isinstance(value, v.Broken):
            return BROKEN
        if not isinstance(value, v.Scalar | v.Ket):
            raise error(
                "NX262", f"`E` cannot be applied to {a_kind(value)}", expr.span, "average an expression of kets"
            )
        unused = [n for n, s in copies.items() if s in slots and s not in dict(value.node.type.slots)]
        for number in unused:
            self.core.found.add(
                Diagnostic(
                    "NX902",
                    f"copy {number} does not occur in the body of `E`",
                    expr.fn.span,
                    f"mark kets with `@{number}`",
                )
            )
        return v.Ket(self.build.contract((value.node,), (), tuple(slots), expr.span))

    # -- axes ---------------------------------------------------------------------------------------------------
    def shift(self, expr: ast.Call, ctx: Context) -> v.Value:
        """shift[i](x, b): x at the position i - b, 0 outside the axis; b may depend on indices, as in `2 - r`."""
        (index,) = self.axes(expr, ctx, 1)
        value, by = self.values(expr, ctx, 2)
        if not isinstance(value, v.Scalar | v.Ket):
            raise error("NX263", f"{a_kind(value)} cannot be shifted", expr.span, "shift scalars or kets")
        self.carries(value, index, expr.span)
        at = expr.args[1].span
        if isinstance(by, v.Scalar) and isinstance(by.node, ir.Constant) and not by.node.value % 1:
            return type(value)(self.build.shift(value.node, index, int(by.node.value), expr.span))
        amounts = positions.values(by.node) if isinstance(by, v.Scalar) else None
        if not isinstance(by, v.Scalar) or amounts is None or not all(a.is_integer() for a in amounts):
            remedy = "write a number, or an expression of indices, such as `2 - r`"
            raise error("NX263", "the shift is not an integer known at compile time", at, remedy)
        here = self.build.position(index, at)
        position = self.build.add(here, self.build.neg(by.node, at), at)
        return type(value)(positions.read(self.build, value.node, index, position, expr.span))

    def size(self, expr: ast.Call, ctx: Context) -> v.Value:
        """size(l): the number of positions of an axis."""
        if len(expr.args) != 1 or expr.args[0].keyword is not None or expr.fn.indices or expr.extra:
            remedy = "write the name of an index in the parentheses: `size(i)`"
            raise error("NX251", "`size` takes the name of one index", expr.span, remedy)
        return v.Scalar(self.build.constant(self.core.axis(expr.args[0].value, ctx.scope).size, expr.span))

    def unfold(self, expr: ast.Call, ctx: Context) -> v.Value:
        """unfold[t,s,r](x, stride = 1, padding = 0): x at the position stride (t - 1) + r - padding of s, 0 outside."""
        if len(expr.fn.indices or ()) != 3:
            remedy = "write `unfold[t,s,r](x[s])`: the indices of the result, of x and of the window"
            raise error("NX252", "`unfold` takes three indices in brackets", expr.fn.span, remedy)
        result, index, window = (self.axes(replace(expr, fn=replace(expr.fn, indices=(e,))), ctx, 1)[0]
                                 for e in expr.fn.indices or ())  # fmt: skip
        stride, padding = self._window(expr, ctx)
        (value,) = self.values(replace(expr, args=expr.args[:1]), ctx, 1)
        if not isinstance(value, v.Scalar | v.Ket):
            raise error("NX263", f"{a_kind(value)} cannot be unfolded", expr.span, "unfold scalars or kets")
        self.carries(value, index, expr.span)
        span = expr.span
        start = self.build.mul(self.build.constant(stride, span), self.build.position(result, span), span)
        within = self.build.add(self.build.position(window, span), self.build.constant(-stride - padding, span), span)
        node = positions.read(self.build, value.node, index, self.build.add(start, within, span), span)
        self.core.bound(i for i in (index,) if i not in node.type.indices)
        self.core.written.update(dict.fromkeys((result, window)))
        return type(value)(node)

    def _window(self, expr: ast.Call, ctx: Context) -> tuple[int, int]:
        """The stride and the padding of a window."""
        found = {"stride": 1, "padding": 0}
        for name, arg in zip(("x", *found), expr.args, strict=False):
            key = arg.keyword or name
            if key == "x":
                continue
            if key not in found:
                raise error(
                    "NX250", f"`unfold` has no keyword `{key}`", arg.span, "write `stride = 2` or `padding = 1`"
                )
            found[key] = self.core.integer(arg.value, ctx, f"the {key}") or 0
        if found["stride"] < 1 or found["padding"] < 0 or len(expr.args) > 3:
            remedy = "write `unfold[t,s,r](x, stride = 1, padding = 0)`"
            raise error("NX263", "a stride is 1 or more, and a padding 0 or more", expr.span, remedy)
        return found["stride"], found["padding"]

    def cumsum(self, expr: ast.Call, ctx: Context) -> v.Value:
        """cumsum[i](x), the running sum; cumsum[i](x, reverse = 1), that from the end."""
        (index,) = self.axes(expr, ctx, 1)
        reverse = [a for a in expr.args if a.keyword == "reverse"]
        other = next((a for a in expr.args if a.keyword not in (None, "reverse")), None)
        if other is not None:
            message = f"`cumsum` has no keyword `{other.keyword}`"
            raise error("NX250", message, other.span, "write `reverse = 1` for a sum from the end")
        (value,) = self.values(replace(expr, args=tuple(a for a in expr.args if a not in reverse)), ctx, 1)
        ways = [self.core.scalar(a.value, ctx, "0 or 1") for a in reverse]
        if len(ways) > 1 or any(not isinstance(w, ir.Constant) or w.value not in (0, 1) for w in ways):
            raise error("NX263", "the direction of a running sum is 0 or 1", reverse[-1].span, "write `reverse = 1`")
        if not isinstance(value, v.Scalar | v.Ket):
            raise error("NX263", f"{a_kind(value)} has no running sum", expr.span, "sum scalars or kets")
        self.carries(value, index, expr.span)
        backwards = any(isinstance(w, ir.Constant) and w.value == 1 for w in ways)
        return type(value)(self.build.cumsum(value.node, index, backwards, expr.span))

    def carries(self, value: v.Value, index: Index, span: Span) -> None:
        if index not in family_indices(value):
            raise error("NX263", f"the value has no index `{index.name}`", span, f"index it with `{index.name}`")

    def delta(self, expr: ast.Call | ast.Name, ctx: Context) -> v.Value:
        """delta[i,j]: 1 if the positions agree, else 0."""
        if isinstance(expr, ast.Call) or len(expr.indices or ()) != 2:
            raise error("NX264", "`delta` takes two indices in brackets", expr.span, "write `delta[i,j]`")
        nodes = [self.core.scalar(e, ctx, "a position") for e in expr.indices or ()]
        if nodes[0] is None or nodes[1] is None:
            return BROKEN
        return v.Scalar(self.build.equal(nodes[0], nodes[1], expr.span))

    # -- finite matrices ----------------------------------------------------------------------------------------
    def linalg(self, expr: ast.Call, ctx: Context) -> v.Value:
        name = expr.fn.ident
        if expr.fn.indices is None and not name.startswith("d"):
            return self.of_operator(expr, ctx)
        rows, cols = self.axes(expr, ctx, 2)
        if rows.axis != cols.axis:
            raise error(
                "NX265",
                f"`{name}` needs a square matrix: two indices of one axis",
                expr.fn.span,
                "declare `axis i, j : 4`",
            )
        if len(expr.args) != _LINALG_ARGS[name]:
            raise error("NX251", f"`{name}` takes {_LINALG_ARGS[name]} arguments", expr.span)
        fn = ""
        args = list(expr.args)
        if name in ("matfun", "dmatfun"):
            named = args.pop(0).value
            fn = function_of_one(ctx.scope.function(named.ident) if isinstance(named, ast.Name) else None, named.span)
        nodes = []
        for arg in args:
            node = self.core.family(arg.value, ctx, (rows, cols), "a scalar over the two indices")
            if node is None:
                return BROKEN
            nodes.append(node)
        matrices = nodes[:2] if name.startswith("d") else nodes[:1]
        if any(not {rows, cols} <= set(n.type.indices) for n in matrices):
            raise error(
                "NX266",
                f"the matrix does not have both indices `{rows.name}` and `{cols.name}`",
                expr.args[-1].span if name == "matfun" else expr.args[0].span,
                f"write `{name}[{rows.name},{cols.name}](K[{rows.name},{cols.name}])`",
            )
        if name == "solve" and cols not in nodes[1].type.indices:
            raise error(
                "NX266",
                f"the right-hand side does not have the index `{cols.name}`",
                expr.args[1].span,
                f"write `y[{cols.name}]`",
            )
        result = self.build.linalg(name, rows, cols, tuple(nodes), fn, expr.span)
        self.core.bound(i for i in (rows, cols) if i not in result.type.indices)
        return v.Scalar(result)


def library_bindings() -> dict[str, Binding]:
    """The names every program knows: primitives, builtins and constants."""

    names: dict[str, Binding] = {name: Binding(v.PrimitiveName(name)) for name in CALLABLE}
    builtin = (REDUCTIONS - _REDUCE | {"prod", "logsumexp"}) | LINALG | OPERATOR_ONLY | CONSTRUCTS
    for name in builtin | LOSSES | {"E", "shift", "unfold", "cumsum", "delta", "hadamard", "size", "stop"}:
        names[name] = Binding(v.Builtin(name))
    names["I"] = Binding(v.Identity())
    return names


__all__ = ["Functions", "library_bindings"]
