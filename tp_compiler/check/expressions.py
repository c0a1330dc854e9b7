"""Expressions: abstract syntax to values, under the rules of names, indices, widths and sorts.

A mistake is reported in place and becomes `Broken`, which every rule passes on silently.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from tp_compiler.check import ends
from tp_compiler.check import values as v
from tp_compiler.check.arithmetic import Arithmetic
from tp_compiler.check.core import BROKEN, Context, Core, Rule, a_kind
from tp_compiler.check.definitions import Definitions
from tp_compiler.check.hints import hint
from tp_compiler.check.name_lookup import NameLookup
from tp_compiler.check.names import OptimizerName, UserDef, UserFn
from tp_compiler.diagnostics import ProgramError, Span, Suggestion, error, suggest
from tp_compiler.frontend import syntax as ast
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index

_AVERAGES = (ast.Mean, ast.Braket, ast.Sandwich, ast.Clt)
#: An entrywise function, built in or of the program, at its arguments.
Entrywise = Callable[[v.PrimitiveName | UserFn, ast.Call, Context], v.Value]


class Expressions:
    """Names, numbers, brackets and calls. `builtins` is the table of functions.py; `definitions` expands calls of defs."""

    def __init__(
        self, core: Core, lookup: NameLookup, arithmetic: Arithmetic, builtins: Mapping[str, Rule], entrywise: Entrywise,
        definitions: Definitions,
    ):  # fmt: skip
        self.core, self.lookup, self.arithmetic = core, lookup, arithmetic
        self.build = core.build
        self.builtins, self.entrywise, self.definitions = builtins, entrywise, definitions

    def rules(self) -> dict[type[ast.Expr], Rule]:
        """The meaning of each kind of expression."""
        plain: dict[type[ast.Expr], Rule] = {
            ast.Number: self._number, ast.Paren: self._paren, ast.Name: self._name, ast.Ket: self._ket, ast.Bra: self._bra,
            ast.Mean: self._mean, ast.Braket: self._braket, ast.Sandwich: self._sandwich, ast.Clt: self._clt,
            ast.Call: self._call, ast.ListLiteral: self._listliteral, ast.Product: self._product,
        }  # fmt: skip
        apart = (ast.Call, ast.Power, ast.Transpose, ast.CopyMark, ast.Neg)
        rules = {**self.arithmetic.rules, **plain}
        rules |= {kind: self._apart(rules[kind]) for kind in apart}
        return rules | {kind: self._looking(rules[kind]) for kind in (ast.Ket, ast.Bra, *_AVERAGES)}

    def _looking(self, rule: Rule) -> Rule:
        """A rule that involves neurons; in the body of an optimizer only the parameter itself has them."""

        def read(expr: ast.Expr, ctx: Context) -> v.Value:
            if ctx.scope.optimizer is not None:
                ctx.scope.optimizer.typed = True
            return rule(expr, ctx)

        return read

    def _apart(self, rule: Rule) -> Rule:
        """A rule for expressions that may turn out to be products, such as `c (x)^2` with a scalar c."""

        def read(expr: ast.Expr, ctx: Context) -> v.Value:
            pieces = self._split(expr, ctx)
            if len(pieces) == 1:
                return rule(expr, ctx)
            return self.arithmetic.multiplied(pieces, ["*"] * (len(pieces) - 1), expr.span, ctx)

        return read

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
        if ctx.label and ctx.scope.named_ket(fn.ident) is not None:
            return True
        binding = ctx.scope.other(fn.ident)
        if binding is None or fn.ident == "step":
            return False
        if isinstance(binding.value, v.PrimitiveName | v.Builtin | UserFn | UserDef | OptimizerName | v.Broken):
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

    def _product(self, expr: ast.Product, ctx: Context) -> v.Value:
        pieces, operators = self._product_pieces(expr, ctx)
        return self.arithmetic.multiplied(pieces, operators, expr.span, ctx)

    # -- atoms --------------------------------------------------------------------------------------------------
    def _number(self, expr: ast.Number, ctx: Context) -> v.Value:
        number = float(expr.text)
        if math.isinf(number):
            raise error("NX303", "this number is too large for a double", expr.span, "use a smaller one")
        node = self.build.constant(number, expr.span)
        return v.Scalar(node)

    def _paren(self, expr: ast.Paren, ctx: Context) -> v.Value:
        return self.core.evaluate(expr.body, ctx)

    def _name(self, expr: ast.Name, ctx: Context) -> v.Value:
        if ctx.label and not expr.primes:
            binding = ctx.scope.named_ket(expr.ident)
            if binding is not None:
                return self.lookup.read(binding, expr, ctx)
        return self._other(expr, ctx)

    def _other(self, expr: ast.Name, ctx: Context) -> v.Value:
        binding = ctx.scope.other(expr.ident)
        if binding is None:
            raise self._undefined(expr, ctx)
        value = binding.value
        if expr.ident == "delta" and isinstance(value, v.Builtin):
            return self.builtins["delta"](expr, ctx)
        if isinstance(value, v.IndexName):
            if ctx.scope.optimizer is not None:
                ctx.scope.optimizer.typed = True
            if expr.indices is not None:
                raise error("NX221", f"the index `{expr.ident}` takes no brackets", expr.span, f"write `{expr.ident}`")
            return v.Scalar(self._as_number(value.index, expr.span))
        if isinstance(value, v.PrimitiveName | v.Builtin | UserFn | UserDef):
            if expr.ident in self.core.unresolved:  # such as the index of a `train` that could not be read
                raise ProgramError([])
            raise error(
                "NX212",
                f"the function `{expr.ident}` needs its arguments",
                expr.span,
                "write `<x>` for the mean over the neurons" if expr.ident == "E" else f"write `{expr.ident}(...)`",
            )
        if isinstance(value, OptimizerName | v.WidthName):
            remedy = "use a scalar, ket or operator here"
            if isinstance(value, v.WidthName):
                remedy = "leave it out: `<x|y>` is x.y / n, and the entries of `matrix W ~ N(0, 1)` have variance 1/n"
            raise error("NX213", f"`{expr.ident}` is {a_kind(value)}, not a value", expr.span, remedy)
        if expr.primes:
            remedy = "write gradients as `grad(f, |x>)`"
            if isinstance(value, v.Operator) or any(isinstance(m, v.Operator) for m in binding.members.values()):
                remedy = f"write the transpose as `{expr.span.text.replace(chr(39), '')}^T`"
            raise error("NX214", "only functions have a derivative `'`", expr.span, remedy)
        return self.lookup.read(binding, expr, ctx)

    def _as_number(self, index: Index, span: Span) -> ir.Node:
        """The value of an index used as a number: its position, counted from 1; `step` counts from 0."""
        position = self.build.position(index, span)
        if index.axis.name != "step":
            return position
        if self.core.flows:
            remedy = "write the times as data over `step`"
            raise error(
                "NX178",
                "`step` is not a number here: in gradient flow it is the time, in the loop and in outputs over it",
                span,
                remedy,
            )
        return self.build.add(position, self.build.constant(-1, span), span)

    def _undefined(self, expr: ast.Name, ctx: Context) -> ProgramError:
        name, scope = expr.ident, ctx.scope
        if not ctx.label and scope.ket(name) is not None:
            return error("NX101", f"`{name}` is a ket", expr.span, f"write `|{expr.span.text}>`")
        what = "ket, scalar or operator" if ctx.label else "scalar, operator or function"
        known = [*scope.known(False), *(scope.known(True) if ctx.label else ())]
        return self.core.undefined("NX101", f"there is no {what} `{name}`", name, expr.span, hint(name, known))

    def _ket(self, expr: ast.Ket, ctx: Context) -> v.Value:
        return v.Ket(self.ket_node(self._label(expr.label, ctx), expr.label))

    def _label(self, label: ast.Expr, ctx: Context) -> v.Value:
        """The value of a label: bare names are kets."""
        if isinstance(label, ast.Name) and not label.primes and ctx.scope.ket(label.ident) is None:
            other = ctx.scope.other(label.ident)
            if other is None:
                known = list(ctx.scope.known(True))
                message = f"there is no ket `|{label.ident}>`"
                remedy = (
                    suggest(label.ident, known)
                    or f"bind it above this line, or declare it: `ket |{label.span.text}> ~ N(0, 1)`"
                )
                raise self.core.undefined("NX102", message, label.ident, label.span, remedy)
            if isinstance(other.value, v.Broken):
                raise ProgramError([])
            if isinstance(other.value, v.Ket):
                message = f"`{label.ident}` is already a ket"
                raise error("NX215", message, label.span, f"write `{label.span.text}` without the bars")
            shown = a_kind(other.value)
            near = _near(label.ident, ctx)
            remedy = "write the name of a ket between the bars"
            if near:
                remedy = Suggestion(label.ident, near, f"did you mean `|{near}>`?")
            raise error("NX215", f"`{label.ident}` is {shown}, not a ket", label.span, remedy)
        if isinstance(label, ast.Name) and not label.primes:
            return self.lookup.read(ctx.scope.kets[label.ident], label, ctx)
        return self.core.evaluate(label, Context(ctx.scope, True, ctx.copies))

    def ket_node(self, value: v.Value, expr: ast.Expr) -> ir.Node:
        """The node of a value that must be a ket; a number alone is the constant ket."""
        if isinstance(value, v.Ket):
            return value.node
        if isinstance(value, v.Scalar) and isinstance(expr, ast.Number):
            return value.node
        if isinstance(value, v.Broken):
            raise ProgramError([])
        remedy = "write a constant ket as `c |1>`" if isinstance(value, v.Scalar) else "apply it to a ket"
        raise error("NX216", f"expected a ket, found {a_kind(value)}", expr.span, remedy)

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
        middle = self.core.evaluate(expr.operator, Context(ctx.scope, False, ctx.copies))
        if not isinstance(middle, v.Operator | v.Broken | v.Scalar):
            raise error(
                "NX217", f"expected an operator between the bars, found {a_kind(middle)}", expr.operator.span,
                "write `<x|W|y>`, or `<x|y>` without a middle part",
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
            return v.Scalar(self.build.mul(middle.node, self.arithmetic.inner(y, x, span), span))
        if isinstance(middle, v.Operator):
            x = self.core.algebra.apply(middle, x, span)
        return v.Scalar(self.arithmetic.inner(y, x, span))

    def _clt(self, expr: ast.Clt, ctx: Context) -> v.Value:
        bracket = expr.bracket
        if isinstance(bracket, ast.Mean):
            left: ir.Node = self.build.constant(1, bracket.span)
            right = self.ket_node(self._label(bracket.label, ctx), bracket.label)
        else:
            left = self.ket_node(self._label(bracket.left, ctx), bracket.left)
            right = self.ket_node(self._label(bracket.right, ctx), bracket.right)
            if isinstance(bracket, ast.Sandwich):
                middle = self.core.evaluate(bracket.operator, Context(ctx.scope, False, ctx.copies))
                if not isinstance(middle, v.Operator):
                    raise error("NX217", "expected an operator between the bars", bracket.operator.span)
                right = self.core.algebra.apply(middle, right, expr.span)
        self.arithmetic.same_width((left, right), expr.span)
        kets = [n for n in (left, right) if 0 in dict(n.type.slots)]
        if not kets:
            raise error("NX218", "`clt` of a constant grows like √n", expr.span, "use a centred ket")
        if any(s != 0 for n in (left, right) for s, _ in n.type.slots):
            raise error("NX219", "`clt` cannot contain copies", expr.span, "move it out of `E`")
        width = kets[0].type.width
        left, right = (self.build.as_ket(n, width, expr.span) for n in (left, right))
        return v.Scalar(self.build.clt(left, right, expr.span))

    # -- calls --------------------------------------------------------------------------------------------------
    def _call(self, expr: ast.Call, ctx: Context) -> v.Value:
        name = expr.fn.ident
        binding = ctx.scope.function(name)
        if binding is None:
            remedy = hint(name, ctx.scope.known(False))
            raise self.core.undefined("NX103", f"there is no function `{name}`", name, expr.fn.span, remedy)
        value = binding.value
        ctx = ends.over(self.core, expr, ctx)
        if isinstance(value, v.Broken):
            return BROKEN
        if isinstance(value, v.Builtin):
            if ctx.scope.optimizer is not None and (value.name not in ctx.scope.optimizer.words or expr.fn.indices):
                ctx.scope.optimizer.typed = True
            return self.builtins[value.name](expr, ctx)
        if isinstance(value, v.PrimitiveName | UserFn):
            return self.entrywise(value, expr, ctx)
        if isinstance(value, UserDef):
            results = self.definitions.call(value, expr, ctx)
            if len(results) != 1:
                raise error(
                    "NX245",
                    f"`{name}` returns {len(results)} values",
                    expr.span,
                    "bind them: `a, b = " + name + "(...)`",
                )
            return results[0]
        if isinstance(value, OptimizerName) and ctx.scope.optimizer is not None:
            return ctx.scope.optimizer.called(value, expr)
        if isinstance(value, v.Operator) or binding.members:
            operator = self.lookup.read(binding, expr.fn, ctx)
            if len(expr.args) != 1:
                raise error("NX246", f"the operator `{name}` acts on one ket", expr.span, f"write `{name}(|x>)`")
            return self.arithmetic.multiply(operator, self.core.evaluate(expr.args[0].value, ctx), expr.span)
        raise error("NX247", f"`{name}` is {a_kind(value)}, not a function", expr.fn.span, "write `*` for a product")

    def _listliteral(self, expr: ast.ListLiteral, ctx: Context) -> v.Value:
        raise error("NX248", "lists of numbers are only allowed in `data`", expr.span, "declare `data x[i] = [...]`")


def _near(name: str, ctx: Context) -> str:
    return next((k for k in (name.lower(), name.upper()) if k in ctx.scope.kets), "")
