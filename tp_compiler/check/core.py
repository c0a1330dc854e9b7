"""The core of expression checking: the builder, the findings, and the evaluation of an expression to its value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tp_compiler.check import values as v
from tp_compiler.check.names import Binding, Scope, Seen
from tp_compiler.diagnostics import Diagnostic, Diagnostics, ProgramError, Span, error, suggest
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.syntax import RESERVED
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.operators import indices
from tp_compiler.ir.primitives import PRIMITIVES
from tp_compiler.ir.types import Axis, Index
from tp_compiler.process import on_a_new_stack
from tp_compiler.transform import low_rank
from tp_compiler.transform.algebra import OperatorAlgebra

#: Expressions within expressions, through calls of defs too.
MAX_LEVELS = 5_000
#: Levels on one of Python's stacks, each of some dozen calls.
STACK = 40

BROKEN = v.Broken()


@dataclass
class Context:
    """The context of an expression: the scope, whether bare names denote kets (inside a label), bound copies.

    `lifted` gives the meaning of a scalar added to an operator: `entries` in an entrywise function, `identity`
    in a matrix function, nothing elsewhere.
    """

    scope: Scope
    label: bool = False
    copies: dict[int, int] = field(default_factory=dict)
    lifted: str = ""


#: What one kind of expression means.
Rule = Callable[[Any, Context], v.Value]


class Core:
    """State and services. `rules` is the table of the meaning of each kind of expression (filled by expressions.py)."""

    def __init__(self, build: Builder, found: Diagnostics):
        self.build = build
        self.found = found
        self.algebra = OperatorAlgebra(build, low_rank.applied)
        self.rules: dict[type[ast.Expr], Rule] = {}
        #: Names whose statement has an error: uses of them are not reported as unknown.
        self.unresolved: set[str] = set()
        #: Names that gradients are taken with respect to, anywhere in the program; None: any name.
        self.variables: set[str] | None = set()
        self.written: dict[Index, None] = {}  # free indices written in the expression being read
        self.flows = False  # is the training gradient flow?
        self.clock: Index | None = None  # over the steps of training, and one more
        self.last_step = 0  # the last value of `step` here: one larger after the loop than inside it
        self.level = 0
        self._missed: set[tuple[str, str]] = set()
        self.seen: Seen | None = None

    # -- values -------------------------------------------------------------------------------------------------
    def value(self, expr: ast.Expr, ctx: Context) -> v.Value:
        """The value of an expression; errors are collected, and the value is then Broken."""
        try:
            return self.evaluate(expr, ctx)
        except ProgramError as problem:
            for diagnostic in problem.diagnostics:
                self.found.add(diagnostic)
            return BROKEN

    def evaluate(self, expr: ast.Expr, ctx: Context) -> v.Value:
        """The value of an expression; the first error is raised. Counts as one level of nesting, including nesting through defs."""
        if self.level >= MAX_LEVELS:
            message = f"expressions are nested more than {MAX_LEVELS} levels deep, counting the bodies of defs"
            raise error("NX136", message, expr.span, "give names to inner parts, or write a `for` loop")
        self.level += 1
        outer, self.written = self.written, {}
        try:
            if self.level % STACK:
                return self._over(self._at_this_level(expr, ctx), outer)
            return self._over(on_a_new_stack(partial(self._at_this_level, expr, ctx)), outer)
        finally:
            self.level -= 1
            self.written = outer

    def _over(self, value: v.Value, outer: dict[Index, None]) -> v.Value:
        """A value as a family over the indices written in its text; they are written in the text around it, too."""
        if isinstance(value, v.Scalar | v.Ket):
            self.written.update(dict.fromkeys(value.over))
            if self.written:
                value = type(value)(value.node, tuple(i for i in self.written if i not in value.node.type.indices))
        outer.update(self.written)
        return value

    def _at_this_level(self, expr: ast.Expr, ctx: Context) -> v.Value:
        value = self.rules[type(expr)](expr, ctx)
        return self.algebra.bounded(value, expr.span) if isinstance(value, v.Operator) else value

    def scalar(self, expr: ast.Expr, ctx: Context, what: str = "a scalar") -> ir.Node | None:
        """The node of an expression that must be a scalar; None if it is broken."""
        value = self.value(expr, Context(ctx.scope, False, ctx.copies))
        try:
            return self.expect_scalar(value, expr.span, what)
        except ProgramError as problem:
            self.found.add(problem.diagnostics[0])
            return None

    def family(self, expr: ast.Expr, ctx: Context, over: tuple[Index, ...], what: str = "a scalar") -> ir.Node | None:
        """The node of an expression that must be a scalar, over those of these indices that it is written over."""
        value = self.value(expr, Context(ctx.scope, False, ctx.copies))
        node = self.expect_scalar(value, expr.span, what)
        if node is None or not isinstance(value, v.Scalar):
            return None
        return self.build.over(node, tuple(i for i in over if i in value.over), expr.span)

    def integer(self, expr: ast.Expr, ctx: Context, what: str) -> int | None:
        """A compile-time integer."""
        node = self.scalar(expr, ctx, what)
        if node is None:
            return None
        if not isinstance(node, ir.Constant) or node.value != int(node.value):
            remedy = "write a number, or a name bound to one without `scalar`: `k = 10`"
            self.found.add(Diagnostic("NX211", f"{what} must be an integer known at compile time", expr.span, remedy))
            return None
        return int(node.value)

    def bound(self, indices: Iterable[Index]) -> None:
        """Indices bound by an expression are not written indices of its value."""
        for index in indices:
            self.written.pop(index, None)

    # -- mistakes -----------------------------------------------------------------------------------------------
    def expect_scalar(self, value: v.Value, span: Span, what: str = "a scalar") -> ir.Node | None:
        if isinstance(value, v.Broken):
            return None
        if isinstance(value, v.Scalar):
            return value.node
        remedy = "take an average, such as `<x>` or `<x|y>`" if isinstance(value, v.Ket) else f"write {what} here"
        raise error("NX210", f"expected {what}, found {a_kind(value)}", span, remedy)

    def undefined(self, code: str, message: str, name: str, span: Span, remedy: str = "") -> ProgramError:
        """The error for an undefined name, reported once per name rather than at every use."""
        known = (
            name in self.unresolved
            or (code, name) in self._missed
            or (code == "NX253" and ("NX101", name) in self._missed)
        )
        self._missed.add((code, name))
        if code == "NX253":
            self.unresolved.add(name)
        return ProgramError([] if known else [Diagnostic(code, message, span, remedy)])

    def reserved(self, name: ast.Name) -> ProgramError:
        """The error of a statement that binds a name of the language; later uses of it are not reported."""
        self.unresolved.add(name.ident)
        return error("NX111", f"`{name.ident}` is reserved", name.span, f"choose another name: {RESERVED[name.ident]}")

    def axis(self, expr: ast.Expr, scope: Scope) -> Axis:
        """That of the name of an index, also where a loop runs over its positions."""
        binding = scope.other(expr.ident) if isinstance(expr, ast.Name) and expr.indices is None else None
        if binding is not None and isinstance(binding.value, v.IndexName):
            return binding.value.index.axis
        if binding is not None and binding.positions is not None:
            return binding.positions
        raise self.no_index(expr, scope)

    def no_index(self, expr: ast.Expr, scope: Scope, wanted: Index | None = None) -> ProgramError:
        """The error of something else than an index in brackets; `wanted`: an index of the axis that the place needs."""
        name = expr.ident if isinstance(expr, ast.Name) else ""
        known = {k: b.value.index for k, b in scope.others.items() if isinstance(b.value, v.IndexName)}
        hint = suggest(name, known) if name else ""
        shown = name or expr.span.text
        remedy = hint or (f"declare it: `axis {name} : 4`" if name else "write the name of an index")
        named = [k for k, i in known.items() if wanted is not None and i.axis == wanted.axis]
        if name and not hint and wanted is not None and named:
            remedy = f"declare it with its axis: `axis {', '.join([*named, name])} : {wanted.axis.size}`"
        binding = scope.other(name)
        if binding is not None and isinstance(binding.value, v.Broken):
            return ProgramError([])
        if binding is not None and isinstance(binding.value, v.Scalar):
            remedy = f"write the name of an index; the variable of `for {name} in ..` hides an index of the same name"
            return error("NX253", f"`{name}` is a number here, not an index", expr.span, remedy)
        return self.undefined("NX253", f"`{shown}` is not an index", shown, expr.span, remedy)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Collects ProgramErrors raised inside."""
        try:
            yield
        except ProgramError as problem:
            for diagnostic in problem.diagnostics:
                self.found.add(diagnostic)


def a_kind(value: v.Value) -> str:
    article = "an" if value.kind[0] in "aeio" else "a"
    return f"{article} {value.kind}"


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


def family_indices(value: v.Value) -> tuple[Index, ...]:
    """The indices of a value as a family: those that it carries, and those that it is written over and constant over."""
    over = value.over if isinstance(value, v.Scalar | v.Ket) else ()
    return (*free_indices(value), *over)


def function_of_one(binding: Binding | None, span: Span) -> str:
    """The name of the primitive of one argument that `matfun` is given."""
    if binding is None or not isinstance(binding.value, v.PrimitiveName) or PRIMITIVES[binding.value.name].arity != 1:
        raise error("NX267", "`matfun` needs a function of one argument", span, "write, for example, `sqrt`")
    return binding.value.name
