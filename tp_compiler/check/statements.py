"""Statements: abstract syntax to an `ir.Program`, every mistake gathered on the way.

Non-goals: this file knows no rule of expressions (expressions.py, functions.py, operators.py), no numbers (data.py) and
no limit; training and optimizers are in training.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

from tp_compiler.check import values as v
from tp_compiler.check.bindings import Bindings
from tp_compiler.check.definitions import Definitions, check_body, introduced, unread_names, variables
from tp_compiler.check.differentiation import Differentiation
from tp_compiler.check.expressions import BROKEN, Context, free_indices
from tp_compiler.check.functions import Functions, library_bindings
from tp_compiler.check.imports import Imports
from tp_compiler.check.matrix_functions import MatrixFunctions
from tp_compiler.check.names import RESERVED, Scope
from tp_compiler.check.reach import Reach
from tp_compiler.check.training import Training
from tp_compiler.diagnostics import Diagnostic, Diagnostics, ProgramError, Source, Span, error, suggest
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.parse import parse
from tp_compiler.ir.program import Output, Program, Regime
from tp_compiler.ir.types import Index, N
from tp_compiler.train.assemble import Finished

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
    file: ast.File, found: Diagnostics, settings: Mapping[str, float] | None = None, regime: Regime | None = None
) -> Program | None:
    """The program of a parsed file; None where `found` has errors. `regime`: what its parametrization was found to be."""
    checker = Checker(found, dict(settings or {}))
    checker.training.point.regime = regime
    checker.core.readouts = regime.readouts if regime is not None and regime.operator else frozenset()
    checker.read(file)
    return checker.program(file.source)


class Checker(Bindings):
    """Runs the statements in order; the scope holds what each name means at this point."""

    def __init__(self, found: Diagnostics, settings: dict[str, float]):
        super().__init__(found, settings)
        functions = Functions(self.core)
        differentiation = Differentiation(self.core)
        matrix_functions = MatrixFunctions(self.core)
        functions.of_operator = matrix_functions.function
        self.core.algebra.work_out = matrix_functions.applied
        self.core.builtins = {
            **functions.table, **differentiation.table, **matrix_functions.table, "entrywise": functions.entrywise
        }  # fmt: skip
        self.definitions = Definitions(self.core, lambda body, scope: self.run(body, scope, "def"))
        self.core.call_def = self.definitions.call
        self.training: Training = Training(self)
        self.scope = Scope.empty(library_bindings())
        pi = self.build.constant(math.pi, Span(Source("library", ""), 0, 0))
        self.scope.library["pi"] = v.Binding(v.Scalar(pi))
        self.scope.library["n"] = v.Binding(v.WidthName(N))
        self.outputs: dict[str, Output] = {}
        self.imports = Imports()

    def read(self, file: ast.File) -> None:
        self.reach = Reach.of(file.source)
        self.imports.known.add(str(Path(file.source.name).resolve()))
        self.core.doubtful |= unread_names(file)
        self.core.variables = variables(file.statements)
        self.training.announce(file.statements, self.scope)
        self.run(file.statements, self.scope, "top")

    def program(self, source: Source) -> Program | None:
        self.training.point.finish()
        unknown = set(self.settings) - self.used_settings
        known = [a.name for a in self.axes] + list(self.scope.others)
        for name in sorted(unknown):
            message = f"--set names `{name}`, which is no axis or top-level scalar of the program"
            remedy = "the values of data and kets are in the program" if name in known else suggest(name, known)
            self.found.add(Diagnostic("NX104", message, None, remedy))
        if self.found.errors:
            return None
        if not self.outputs:
            end = Span(source, len(source.text.rstrip()), len(source.text.rstrip()))
            self.found.add(Diagnostic("NX903", "the program has no output", end, "add, for example, `output <x|x>`"))
        outputs = tuple(self.outputs.values())
        warnings = tuple(self.found.warnings)
        program = Program(source, outputs, tuple(self.axes), tuple(self.widths), warnings, self.names)
        try:
            return Finished(self.training).programs(program)
        except ProgramError as problem:
            for diagnostic in problem.diagnostics:
                self.found.add(diagnostic)
            return None

    def optimizers_of_the_library(self, scope: Scope) -> None:
        """The standard optimizers, which are NEXORT themselves."""
        own = Scope({}, {}, scope.library)
        for name in ("optimizers", "matrix_optimizers"):
            path = f"library/{name}.nexort"
            text = files("tp_compiler").joinpath(path).read_text(encoding="utf-8")
            self.run(parse(Source(path, text), self.found).statements, own, "top")
        scope.library.update({n: b for n, b in own.others.items() if isinstance(b.value, v.OptimizerName)})

    def _sized(self, indices: tuple[Index, ...], shape: tuple[int, ...]) -> tuple[Index, ...]:
        return self.training.sized(indices, shape)

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
                    self.rules[type(statement)](self, statement, scope)
            except ProgramError as problem:
                self._spoil(introduced(statement), scope)
                for diagnostic in problem.diagnostics:
                    self.found.add(diagnostic)

    def _allowed(self, statement: ast.Statement, place: str) -> None:
        row = isinstance(statement, ast.ParametrizationRow)
        what = "a row of exponents" if row else f"`{type(statement).__name__.lower().removesuffix('decl')}`"
        home = _BODY_ONLY.get(type(statement))
        if home is not None and home != place:
            if home in self.core.doubtful:
                raise ProgramError([])  # the block around it could not be read
            remedy = (
                "it must be the last line of the def"
                if home == place.removeprefix("for in ")
                else f"move it into a `{home}` block"
            )
            raise error("NX120", f"{what} has no meaning here", statement.span, remedy)
        if place != "top" and isinstance(statement, _TOP_ONLY):
            raise error("NX121", f"{what} stands at top level only", statement.span, "move it out of the block")

    def _for(self, s: ast.For, scope: Scope, place: str) -> None:
        ctx = Context(scope)
        low, high = (self.core.integer(e, ctx, "the bound of a loop") for e in (s.low, s.high))
        if low is None or high is None:
            raise ProgramError([])
        if high - low >= MAX_LOOP:
            raise error("NX122", f"the loop has {high - low + 1:.7g} turns", s.span, f"at most {MAX_LOOP} are unrolled")
        inner = place if place in ("def", "train", "optimizer") else "for"
        self._no_return(s)
        before = scope.others.get(s.variable)
        if before is not None and isinstance(before.value, v.IndexName):
            self.loop_axes[s.variable] = before.value.index.axis
        elif before is not None and before.declared and not scope.body:
            raise error("NX110", f"`{s.variable}` is declared already", s.span, "choose another loop variable")
        errors = len(self.found.errors)
        for turn in range(low, high + 1):
            scope.others[s.variable] = v.Binding(v.Scalar(self.build.constant(turn, s.span)))
            self.run(s.body, scope, inner)
            if len(self.found.errors) > errors or self.build.exhausted:
                self._spoil(introduced(s), scope)
                break  # the next turns would only repeat it
        scope.others.pop(s.variable, None)
        if before is not None:
            scope.others[s.variable] = before

    def _no_return(self, s: ast.For) -> None:
        for inner in s.body:
            if isinstance(inner, ast.Return):
                raise error("NX123", "a loop cannot return", inner.span, "`return` is the last line of the def")

    # -- definitions, outputs, imports --------------------------------------------------------------------------
    def _def(self, s: ast.Def, scope: Scope) -> None:
        name = ast.Name(s.span, s.name)
        self._definable(name, scope)
        if not s.body or not isinstance(s.body[-1], ast.Return):
            raise error("NX125", f"def {s.name} returns nothing", s.span, "end it with `return ...`")
        self._distinct([p.name for p in s.params])
        for inner in _within(s.body):
            self._allowed(inner, "def")
        before = len(self.found.errors)
        check_body(s, scope, set(), self.found, self.core.doubtful)
        value = BROKEN if len(self.found.errors) > before else v.UserDef(s, scope.snapshot())
        scope.others[s.name] = v.Binding(value, span=s.span)

    def _fn(self, s: ast.Fn, scope: Scope) -> None:
        self._definable(ast.Name(s.span, s.name), scope)
        scope.others[s.name] = v.Binding(v.UserFn(s, scope.snapshot()), span=s.span)
        function = ast.Def(s.span, s.name, tuple(ast.Param(s.span, ast.Name(s.span, p), "scalar") for p in s.params),
                           (ast.Return(s.span, (s.body,)),))  # fmt: skip
        before = len(self.found.errors)
        snapshot = scope.snapshot()
        snapshot.others.pop(s.name, None)
        check_body(function, snapshot, set(), self.found, self.core.doubtful)
        if len(self.found.errors) > before:
            scope.others[s.name] = v.Binding(BROKEN, span=s.span)

    def _definable(self, name: ast.Name, scope: Scope) -> None:
        before = scope.others.get(name.ident)
        if name.ident in RESERVED:
            raise error("NX111", f"`{name.ident}` is reserved", name.span, "choose another name")
        if before is not None and before.declared:
            raise error("NX110", f"`{name.ident}` is declared already", name.span, "choose another name")

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
            indices = (self.training.clock, *free) if over_steps and self.training.clock is not None else free
            self._report(" ".join(s.value.span.text.split()), value, indices, s, over_steps)
            return
        if s.value is not None:
            self._bind(ast.Bind(s.span, (s.target,), (s.value,)), scope)
            binding = scope.others.get(s.target.ident)
            if binding is None and s.target.ident in self.core.doubtful:
                return
            places = [self._left(e, scope) for e in s.target.indices or ()]
            if binding is None or not all(isinstance(p, Index) for p in places):
                raise error("NX126", "an output is a whole family", s.target.span, "write index names in the brackets")
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
            raise error("NX127", f"`{name}` is an output already", s.span, "give it another name: `output g = ...`")
        if node is not None:
            self.training.check_output(node, over_steps, at)
            node = self.training.traced(node) if over_steps else node
            self.outputs[name] = Output(name, tuple(dict.fromkeys(indices)), node, s.span)

    def _import(self, s: ast.Import, scope: Scope) -> None:
        source = self.imports.library(s) if not s.quoted else self.imports.file(s, self.reach)
        if source is None:
            return
        found = Diagnostics()
        file = parse(source, found)
        if found.errors and not file.statements:  # its lines are not shown: it may be anything
            raise error("NX142", f"`{s.path}` is not a program", s.span, "check the file")
        for diagnostic in found:
            self.found.add(diagnostic)
        kept = tuple(x for x in file.statements if not isinstance(x, ast.Output | ast.Train | ast.Parametrization))
        with self.imports.inside(s.span):
            self.run(kept, scope, "top")

    # -- training -----------------------------------------------------------------------------------------------
    def _optimizer(self, s: ast.Optimizer, scope: Scope) -> None:
        self.training.optimizer(s, scope)

    def _train(self, s: ast.Train, scope: Scope) -> None:
        self.training.train(s, scope)

    def _minimize(self, s: ast.Minimize, scope: Scope) -> None:
        self.training.minimize(s, scope)

    def _update(self, s: ast.Update, scope: Scope) -> None:
        self.training.update(s, scope)

    def _state(self, s: ast.State, scope: Scope) -> None:
        self.training.state(s, scope)

    def _init(self, s: ast.Init, scope: Scope) -> None:
        raise error("NX295", "`init` is for optimizers on layers", s.span, "write `optimizer NAME(...) on layers`")

    def _assign(self, s: ast.Assign, scope: Scope) -> None:
        self.training.assign(s, scope)

    def _parametrization(self, s: ast.Parametrization, scope: Scope) -> None:
        self.training.point.declare(s, scope)

    #: One rule a kind of statement; `for` is told its place, too.
    rules: ClassVar[dict[type[ast.Statement], Callable[[Checker, Any, Scope], None]]] = {
        ast.Version: Bindings._version,
        ast.AxisDecl: Bindings._axisdecl,
        ast.WidthDecl: Bindings._widthdecl,
        ast.DataDecl: Bindings._datadecl,
        ast.ScalarDecl: Bindings._scalardecl,
        ast.KetDecl: Bindings._ketdecl,
        ast.MatrixDecl: Bindings._matrixdecl,
        ast.Bind: Bindings._bind,
        ast.Def: _def,
        ast.Fn: _fn,
        ast.Output: _output,
        ast.Import: _import,
        ast.Optimizer: _optimizer,
        ast.Train: _train,
        ast.Minimize: _minimize,
        ast.Update: _update,
        ast.State: _state,
        ast.Init: _init,
        ast.Assign: _assign,
        ast.Parametrization: _parametrization,
    }


def _within(body: tuple[ast.Statement, ...]) -> Iterator[ast.Statement]:
    """The statements of a body, those of its loops included."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.For):
            yield from _within(statement.body)
