"""Statements: abstract syntax to a `Model`; all mistakes are collected.

Elsewhere: expressions (expressions.py, functions.py, operators.py), data (data.py), training and optimizers
(training.py). Nothing here depends on the limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tp_compiler.check import values as v
from tp_compiler.check.arithmetic import Arithmetic
from tp_compiler.check.bindings import Bindings
from tp_compiler.check.core import BROKEN, Context, Core, Rule, free_indices
from tp_compiler.check.declarations import Declarations, Settings
from tp_compiler.check.definitions import Definitions, check_body
from tp_compiler.check.differentiation import Differentiation
from tp_compiler.check.expressions import Expressions
from tp_compiler.check.functions import Functions, library_bindings
from tp_compiler.check.given import DataReading, GivenData
from tp_compiler.check.hints import library_text
from tp_compiler.check.imports import Imports
from tp_compiler.check.losses import Losses
from tp_compiler.check.matrix_functions import MatrixFunctions
from tp_compiler.check.name_lookup import NameLookup
from tp_compiler.check.names import Binding, OptimizerName, Scope, Seen, UserDef, UserFn
from tp_compiler.check.network import network
from tp_compiler.check.reach import Reach
from tp_compiler.check.training import TrainingChecks
from tp_compiler.check.vocabulary import vocabulary
from tp_compiler.diagnostics import Diagnostic, Diagnostics, ProgramError, Source, Span, error, suggest
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.mentions import introduced, unread_names, variables, within
from tp_compiler.frontend.parse import parse
from tp_compiler.frontend.syntax import RESERVED
from tp_compiler.ir.build import Builder
from tp_compiler.ir.model import Model
from tp_compiler.ir.program import Output
from tp_compiler.ir.types import Index, N

MAX_LOOP = 100_000

_TOP_ONLY = (
    ast.AxisDecl, ast.WidthDecl, ast.DataDecl, ast.ScalarDecl, ast.KetDecl, ast.MatrixDecl, ast.Def, ast.Fn,
    ast.Optimizer, ast.Import, ast.Train, ast.Parametrization, ast.Version, ast.Output,
)  # fmt: skip
_BODY_ONLY = {
    ast.Return: "def", ast.Minimize: "train", ast.Update: "train", ast.State: "optimizer", ast.Assign: "optimizer",
    ast.Init: "optimizer", ast.ParametrizationRow: "parametrization",
}  # fmt: skip


def check(
    file: ast.File,
    found: Diagnostics,
    settings: Mapping[str, float] | None = None,
    data: Mapping[str, object] | None = None,
    seen: Seen | None = None,
) -> Model | None:
    """The model of a parsed file; None if `found` has errors. `settings` and `data` replace numbers of the text.

    `seen` is filled with what names mean.
    """
    checker = Checker(found, Settings.of(settings or {}, found), GivenData.of(data), file.source)
    if seen is not None:
        checker.core.seen, seen.scope = seen, checker.scope
    checker.read(file)
    return checker.model(file.source)


class Checker:
    """Runs the statements in order; `scope` holds what each name means at this point."""

    def __init__(self, found: Diagnostics, settings: Settings, given: GivenData, source: Source):
        self.found = found
        self.settings, self.given = settings, given
        self.reach = Reach.of(source)
        self.build = Builder()
        self.scope = Scope.empty(library_bindings())
        pi = self.build.constant(math.pi, Span(Source("library", ""), 0, 0))
        self.scope.library["pi"] = Binding(v.Scalar(pi))
        self.scope.library["n"] = Binding(v.WidthName(N))
        self.outputs: dict[str, Output] = {}
        self.imports = Imports()
        self.loops: frozenset[tuple[int, str]] = frozenset()  # around what is read: by scope, the variable
        core = self.core = Core(self.build, found)
        lookup = NameLookup(core)
        self.arithmetic = Arithmetic(core)
        definitions = Definitions(core, lookup, lambda body, scope: self.run(body, scope, "def"))
        core.rules = _expressions(core, lookup, self.arithmetic, definitions)
        self.training = TrainingChecks(core, lookup, self.settings, self.run, self.optimizers_of_the_library)
        self.declarations = Declarations(core, self.settings, DataReading(given, self.reach), self.training.sized)
        self.bindings = Bindings(core, lookup, self.declarations, self.training, definitions, self.scope)
        self.rules: dict[type[ast.Statement], Callable[[Any, Scope], None]] = {
            **self.declarations.rules,
            ast.Version: lambda s, scope: None,
            ast.Bind: self.bindings.bind,
            ast.Def: self._def, ast.Fn: self._fn, ast.Output: self._output, ast.Import: self._import,
            ast.Optimizer: self.training.optimizer, ast.Train: self.training.train,
            ast.Minimize: self.training.minimize, ast.Update: self.training.update,
            ast.State: self.training.state, ast.Assign: self.training.assign, ast.Init: self._init,
            ast.Parametrization: self.training.parametrization.declare,
        }  # fmt: skip

    def read(self, file: ast.File) -> None:
        self.imports.known.add(str(Path(file.source.name).resolve()))
        self.core.unresolved |= unread_names(file)
        self.core.variables = variables(file)
        self.training.announce(file.statements, self.scope)
        self.declarations.sizes.announce(file.statements)
        self.run(file.statements, self.scope, "top")

    def model(self, source: Source) -> Model | None:
        self.training.parametrization.finish()
        self._unknown_settings()
        self._unknown_data()
        if self.found.errors:
            return None
        if not self.outputs:
            end = Span(source, len(source.text.rstrip()), len(source.text.rstrip()))
            self.found.add(Diagnostic("NX903", "the program has no output", end, "add, for example, `output <x|x>`"))
        outputs, names, axes = tuple(self.outputs.values()), self.bindings.names, tuple(self.declarations.axes)
        return Model(
            source, outputs, axes, tuple(self.declarations.widths), names,
            network(source, self.training, self.scope, outputs, names), self.training.model,
            vocabulary(source, self.core, self.scope, axes, self.given.used), self.build,
            given=self.given.arrays,
        )  # fmt: skip

    def _unknown_settings(self) -> None:
        known = [a.name for a in self.declarations.axes] + list(self.scope.others)
        for name in sorted(set(self.settings.given) - self.settings.used):
            message = f"`{name}` was set, but is neither an axis nor a top-level scalar of the program"
            remedy = suggest(name, known)
            if name in self.declarations.sizes.data():
                remedy = f"give arrays with `--data {name}=FILE`, in Python `data={{...}}`"
            elif name in ("step", "steps"):
                remedy = "name the number of updates, `last = 10` and `train steps = last`, and set `last`"
            elif name in known:
                remedy = "change its value in the program itself"
            elif not remedy:
                remedy = f"declare it, as in `scalar {name} = ...`, or leave out the setting"
            self.found.add(Diagnostic("NX104", message, None, remedy))

    def _unknown_data(self) -> None:
        arrays = self.declarations.sizes.data()
        for name in sorted(set(self.given.values) - self.given.used):
            binding = self.scope.others.get(name)
            if name in self.core.unresolved or (binding is not None and isinstance(binding.value, v.Broken)):
                continue  # its declaration has been reported
            remedy = suggest(name, arrays) or (f"its data are {', '.join(arrays)}" if arrays else "declare `data x[i]`")
            if binding is not None and (isinstance(binding.value, v.IndexName) or not binding.indices):
                remedy = f"sizes of axes and scalars are settings: `--set {name}=...`, in Python `settings={{...}}`"
            self.found.add(
                Diagnostic(
                    "NX308", f"`{name}` was given, but is neither data nor a scalar of the program", None, remedy
                )
            )

    def optimizers_of_the_library(self, scope: Scope) -> None:
        """The standard optimizers, which are NEXORT themselves."""
        own = Scope({}, {}, scope.library)
        for name in ("optimizers", "matrix_optimizers"):
            path = f"library/{name}.nexort"
            self.run(parse(Source(path, library_text(name)), self.found).statements, own, "top")
        scope.library.update({n: b for n, b in own.others.items() if isinstance(b.value, OptimizerName)})

    # -- running ------------------------------------------------------------------------------------------------
    def run(self, statements: tuple[ast.Statement, ...], scope: Scope, place: str) -> None:
        """Statements in order; `place` is top, for, def or train."""
        for statement in statements:
            if self.build.exhausted:
                return
            try:
                self.build.spend(statement.span)
                self._allowed(statement, place)
                if isinstance(statement, ast.For):
                    self._for(statement, scope, place)
                else:
                    self.rules[type(statement)](statement, scope)
            except ProgramError as problem:
                self.bindings.spoil(introduced(statement), scope)
                for diagnostic in problem.diagnostics:
                    self.found.add(diagnostic)

    def _allowed(self, statement: ast.Statement, place: str) -> None:
        row = isinstance(statement, ast.ParametrizationRow)
        what = "a row of exponents" if row else f"`{type(statement).__name__.lower().removesuffix('decl')}`"
        home = _BODY_ONLY.get(type(statement))
        if home is not None and home != place:
            if home in self.core.unresolved:
                raise ProgramError([])  # the block around it could not be read
            remedy = (
                "make it the last line of the `def`"
                if home == place.removeprefix("for in ")
                else f"move it into a `{home}` block"
            )
            raise error("NX120", f"{what} is not allowed here", statement.span, remedy)
        if place != "top" and isinstance(statement, _TOP_ONLY):
            raise error("NX121", f"{what} is only allowed at top level", statement.span, "move it out of the block")

    def _for(self, s: ast.For, scope: Scope, place: str) -> None:
        ctx = Context(scope)
        low, high = self._bounds(s, ctx)
        if high - low >= MAX_LOOP:
            raise error("NX122", f"the loop has {high - low + 1:.7g} iterations", s.span, f"use at most {MAX_LOOP}")
        inner = place if place in ("def", "train", "optimizer") else "for"
        self._no_return(s)
        before, axis = scope.others.get(s.variable), None
        if before is not None and isinstance(before.value, v.IndexName):
            self.bindings.loop_axes[s.variable] = axis = before.value.index.axis
        elif before is not None and before.declared and not scope.body:
            raise error("NX110", f"`{s.variable}` is already declared", s.span, "choose another loop variable")
        inside = (id(scope), s.variable)
        if inside in self.loops:
            message = f"`{s.variable}` is the variable of a loop around this one, which hides it"
            self.found.add(Diagnostic("NX905", message, s.span, "choose another loop variable"))
        outside, self.loops = self.loops, self.loops | {inside}
        errors = len(self.found.errors)
        for turn in range(low, high + 1):
            scope.others[s.variable] = Binding(v.Scalar(self.build.constant(turn, s.span)), positions=axis)
            self.run(s.body, scope, inner)
            if len(self.found.errors) > errors or self.build.exhausted:
                self.bindings.spoil(introduced(s), scope)
                break  # further iterations would only repeat it
        self.loops = outside
        scope.others.pop(s.variable, None)
        if before is not None:
            scope.others[s.variable] = before

    def _bounds(self, s: ast.For, ctx: Context) -> tuple[int, int]:
        """The first and the last position; without bounds, those of an axis."""
        if s.low is None:
            return 1, self.core.axis(s.high, ctx.scope).size
        low, high = (self.core.integer(e, ctx, "the bound of a loop") for e in (s.low, s.high))
        if low is None or high is None:
            raise ProgramError([])
        return low, high

    def _no_return(self, s: ast.For) -> None:
        for inner in s.body:
            if isinstance(inner, ast.Return):
                raise error(
                    "NX123", "`return` is not allowed in a loop", inner.span, "make it the last line of the `def`"
                )

    # -- definitions, outputs, imports --------------------------------------------------------------------------
    def _def(self, s: ast.Def, scope: Scope) -> None:
        name = ast.Name(s.span, s.name)
        self._definable(name, scope)
        if not s.body or not isinstance(s.body[-1], ast.Return):
            raise error("NX125", f"`def {s.name}` returns nothing", s.span, "end it with `return ...`")
        self._distinct([p.name for p in s.params])
        for inner in within(s.body):
            self._allowed(inner, "def")
        before = len(self.found.errors)
        check_body(s, scope, set(), self.found, self.core.unresolved)
        value = BROKEN if len(self.found.errors) > before else UserDef(s, scope.snapshot())
        scope.others[s.name] = Binding(value, span=s.span)

    def _fn(self, s: ast.Fn, scope: Scope) -> None:
        self._definable(ast.Name(s.span, s.name), scope)
        scope.others[s.name] = Binding(UserFn(s, scope.snapshot()), span=s.span)
        function = ast.Def(s.span, s.name, tuple(ast.Param(s.span, ast.Name(s.span, p), "scalar") for p in s.params),
                           (ast.Return(s.span, (s.body,)),))  # fmt: skip
        before = len(self.found.errors)
        snapshot = scope.snapshot()
        snapshot.others.pop(s.name, None)
        check_body(function, snapshot, set(), self.found, self.core.unresolved)
        if len(self.found.errors) > before:
            scope.others[s.name] = Binding(BROKEN, span=s.span)

    def _definable(self, name: ast.Name, scope: Scope) -> None:
        before = scope.others.get(name.ident)
        if name.ident in RESERVED:
            raise self.core.reserved(name)
        if before is not None and before.declared:
            raise error("NX110", f"`{name.ident}` is already declared", name.span, "choose another name")

    def _distinct(self, names: list[ast.Name]) -> None:
        seen: set[str] = set()
        for name in names:
            if name.ident in seen:
                raise error("NX117", f"two parameters are called `{name.ident}`", name.span, "rename one")
            seen.add(name.ident)

    def _output(self, s: ast.Output, scope: Scope) -> None:
        over_steps = self.training.over_steps((s.target, s.value))
        inner = self.training.stepwise(scope) if over_steps else scope
        if s.target is None:
            assert s.value is not None
            value = self.core.value(s.value, Context(inner))
            free = free_indices(value)
            indices = (self.core.clock, *free) if over_steps and self.core.clock is not None else free
            self._report(" ".join(s.value.span.text.split()), value, indices, s, over_steps)
            return
        if s.value is not None:
            self.bindings.bind(ast.Bind(s.span, (s.target,), (s.value,)), scope)
            binding = scope.others.get(s.target.ident)
            if binding is None and s.target.ident in self.core.unresolved:
                return
            places = [self.bindings.left(e, scope) for e in s.target.indices or ()]
            if binding is None or not all(isinstance(p, Index) for p in places):
                raise error(
                    "NX126", "an output must be a whole family", s.target.span, "write index names in the brackets"
                )
            inner = self.training.stepwise(scope) if over_steps else scope
        value = self.core.value(s.target, Context(inner))
        named = [e for e in s.target.indices or () if isinstance(e, ast.Name)]
        indices = tuple(
            b.value.index for e in named if (b := scope.other(e.ident)) is not None and isinstance(b.value, v.IndexName)
        )
        plain = len(indices) == len(s.target.indices or ())
        indices = (*indices, *free_indices(value))  # `x[tok[i]]` carries i
        self._report(s.target.ident if plain else s.target.span.text, value, indices, s, over_steps)

    def _report(self, name: str, value: v.Value, indices: tuple[Index, ...], s: ast.Output, over_steps: bool) -> None:
        if isinstance(value, v.Broken):
            return
        at = s.value.span if s.value is not None else s.span
        node = self.core.expect_scalar(value, at, "a scalar to report")
        if name in self.outputs:
            raise error("NX127", f"`{name}` is already an output", s.span, "give it another name: `output g = ...`")
        if node is not None:
            self.training.check_output(node, over_steps, at)
            if over_steps:
                node, indices = self.training.traced(node, indices, at)
            self.outputs[name] = Output(name, tuple(dict.fromkeys(indices)), node, s.span)

    def _import(self, s: ast.Import, scope: Scope) -> None:
        source = self.imports.library(s) if not s.quoted else self.imports.file(s, self.reach)
        if source is None:
            return
        found = Diagnostics()
        file = parse(source, found)
        if found.errors and not file.statements:  # errors inside are not shown, so it may be anything
            raise error("NX142", f"`{s.path}` is not a program", s.span, "check the file")
        for diagnostic in found:
            self.found.add(diagnostic)
        kept = tuple(x for x in file.statements if not isinstance(x, ast.Output | ast.Train | ast.Parametrization))
        self.declarations.sizes.announce(kept)
        with self.imports.inside(s.span):
            self.run(kept, scope, "top")

    # -- training -----------------------------------------------------------------------------------------------
    def _init(self, s: ast.Init, scope: Scope) -> None:
        raise error(
            "NX295", "`init` is only allowed in optimizers on layers", s.span, "write `optimizer NAME(...) on layers`"
        )


def _expressions(
    core: Core, lookup: NameLookup, arithmetic: Arithmetic, definitions: Definitions
) -> dict[type[ast.Expr], Rule]:
    """The meaning of each kind of expression, assembled from the rules."""
    matrices = MatrixFunctions(core, arithmetic)
    functions = Functions(core, arithmetic, matrices.function)
    losses = Losses(core, lookup, functions)
    builtins = {**functions.table, **losses.table, **Differentiation(core, arithmetic).table, **matrices.table}
    return Expressions(core, lookup, arithmetic, builtins, functions.entrywise, definitions).rules()
