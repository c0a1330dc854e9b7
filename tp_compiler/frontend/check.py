"""Statements: abstract syntax to an `ir.Program`, every mistake gathered on the way.

Non-goals: this file knows no rule of expressions (expressions.py, functions.py, operators.py), no numbers (data.py) and
no limit. Optimizers, training and parametrizations are checked in training.py and marked unavailable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from tp_compiler.diagnostics import Diagnostic, Diagnostics, ProgramError, Source, Span
from tp_compiler.frontend import data
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend import values as v
from tp_compiler.frontend.definitions import Definitions, check_body
from tp_compiler.frontend.expressions import BROKEN, Context, Expressions, error, free_indices
from tp_compiler.frontend.functions import Functions, library_bindings
from tp_compiler.frontend.names import RESERVED, Scope, suggest
from tp_compiler.frontend.parse import parse
from tp_compiler.frontend.training import Training
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.program import Output, Program
from tp_compiler.ir.types import Axis, Index, N, Type, Width

MAX_LOOP = 100_000
UNKNOWN = Axis("?", 2**31)

_TOP_ONLY = (
    ast.AxisDecl, ast.WidthDecl, ast.DataDecl, ast.ScalarDecl, ast.KetDecl, ast.MatrixDecl, ast.Def, ast.Fn,
    ast.Optimizer, ast.Import, ast.Train, ast.Parametrization, ast.Version, ast.Output,
)  # fmt: skip
_BODY_ONLY = {
    ast.Return: "def", ast.Minimize: "train", ast.Update: "train", ast.State: "optimizer", ast.Assign: "optimizer",
    ast.Init: "optimizer", ast.ParametrizationRow: "parametrization",
}  # fmt: skip


def check(file: ast.File, found: Diagnostics, settings: Mapping[str, float] | None = None) -> Program | None:
    """The program of a parsed file; None where `found` has errors."""
    checker = Checker(found, dict(settings or {}))
    checker.read(file)
    return checker.program(file.source)


class Checker:
    """Runs the statements in order; the scope holds what each name means at this point."""

    def __init__(self, found: Diagnostics, settings: dict[str, float]):
        self.found = found
        self.settings = settings
        self.used_settings: set[str] = set()
        self.build = Builder()
        self.core = Expressions(self.build, found)
        functions = Functions(self.core)
        self.core.builtins = {**functions.table, "entrywise": functions.entrywise}
        self.definitions = Definitions(self.core, lambda body, scope: self.run(body, scope, "def"))
        self.core.call_def = self.definitions.call
        self.training = Training(self)
        self.scope = Scope.empty(library_bindings())
        pi = self.build.constant(math.pi, Span(Source("library", ""), 0, 0))
        self.scope.library["pi"] = v.Binding(v.Scalar(pi))
        self.scope.library["n"] = v.Binding(v.WidthName(N))
        self.axes: list[Axis] = []
        self.widths: list[Width] = [N]
        self.outputs: dict[str, Output] = {}
        self.imported: set[str] = set()
        self.loop_axes: dict[str, Axis] = {}

    def read(self, file: ast.File) -> None:
        self.imported.add(str(Path(file.source.name).resolve()))
        self.training.announce(file.statements, self.scope)
        self.run(file.statements, self.scope, "top")

    def program(self, source: Source) -> Program | None:
        self.training.finish()
        unknown = set(self.settings) - self.used_settings
        known = [a.name for a in self.axes] + list(self.scope.others)
        for name in sorted(unknown):
            message = f"--set names `{name}`, which is no axis or top-level scalar of the program"
            self.found.add(Diagnostic("NX104", message, None, suggest(name, known)))
        if self.found.errors:
            return None
        if not self.outputs:
            end = Span(source, len(source.text.rstrip()), len(source.text.rstrip()))
            self.found.add(Diagnostic("NX903", "the program has no output", end, "add, for example, `output <x|x>`"))
        outputs = tuple(self.training.marked(o) for o in self.outputs.values())
        return Program(source, outputs, tuple(self.axes), tuple(self.widths), tuple(self.found.warnings))

    # -- running ------------------------------------------------------------------------------------------------
    def run(self, statements: tuple[ast.Statement, ...], scope: Scope, place: str) -> None:
        """Statements in order; `place` is top, for, def or train."""
        for statement in statements:
            with self.core.collecting():
                self._allowed(statement, place)
                if isinstance(statement, ast.For):
                    self._for(statement, scope, place)
                else:
                    getattr(self, f"_{type(statement).__name__.lower()}")(statement, scope)

    def _allowed(self, statement: ast.Statement, place: str) -> None:
        what = type(statement).__name__.lower().removesuffix("decl")
        home = _BODY_ONLY.get(type(statement))
        if home is not None and home != place:
            remedy = "it must be the last line of the def" if home == place.removeprefix("for in ") else f"move it into a `{home}` block"
            raise error("NX120", f"`{what}` has no meaning here", statement.span, remedy)
        if place != "top" and isinstance(statement, _TOP_ONLY):
            raise error("NX121", f"`{what}` stands at top level only", statement.span, "move it out of the block")

    def _for(self, s: ast.For, scope: Scope, place: str) -> None:
        ctx = Context(scope)
        low, high = (self.core.integer(e, ctx, "the bound of a loop") for e in (s.low, s.high))
        if low is None or high is None:
            return
        if high - low >= MAX_LOOP:
            raise error("NX122", f"the loop has {high - low + 1} turns", s.span, f"at most {MAX_LOOP} are unrolled")
        inner = place if place in ("def", "train") else "for"
        self._no_return(s)
        before = scope.others.get(s.variable)
        if before is not None and isinstance(before.value, v.IndexName):
            self.loop_axes[s.variable] = before.value.index.axis
        elif before is not None and before.declared:
            raise error("NX110", f"`{s.variable}` is declared already", s.span, "choose another loop variable")
        errors = len(self.found.errors)
        for turn in range(low, high + 1):
            scope.others[s.variable] = v.Binding(v.Scalar(self.build.constant(turn, s.span)))
            self.run(s.body, scope, inner)
            if len(self.found.errors) > errors:
                break  # the next turns would only repeat it
        scope.others.pop(s.variable, None)
        if before is not None:
            scope.others[s.variable] = before

    def _no_return(self, s: ast.For) -> None:
        for inner in s.body:
            if isinstance(inner, ast.Return):
                raise error("NX123", "a loop cannot return", inner.span, "`return` is the last line of the def")

    # -- declarations -------------------------------------------------------------------------------------------
    def _declare(self, name: ast.Name, binding: v.Binding, scope: Scope, ket: bool = False) -> None:
        table = scope.kets if ket else scope.others
        if not ket and name.ident in RESERVED or name.ident == "clt":
            raise error("NX111", f"`{name.ident}` is reserved", name.span, "choose another name")
        before = table.get(name.ident)
        if before is not None:
            where = ""
            if before.span is not None:
                where = f"; the first is on line {before.span.source.position(before.span.start)[0]}"
            shown = f"|{name.ident}>" if ket else name.ident
            raise error("NX110", f"`{shown}` is declared twice{where}", name.span, "choose another name")
        table[name.ident] = replace(binding, span=name.span, declared=True)

    def _own_indices(self, name: ast.Name, scope: Scope) -> tuple[Index, ...]:
        """The brackets of a declaration: index names only."""
        found = []
        for e in name.indices or ():
            binding = scope.other(e.ident) if isinstance(e, ast.Name) and e.indices is None else None
            if binding is None or not isinstance(binding.value, v.IndexName):
                hint = suggest(e.ident, [k for k, b in scope.others.items() if isinstance(b.value, v.IndexName)]) if isinstance(e, ast.Name) else ""
                raise error("NX253", f"`{e.span.text}` is not an index", e.span, hint or "declare it: `axis i : 4`")
            if binding.value.index in found:
                raise error("NX254", f"the index {binding.value.index.name} stands twice", e.span, "use two index names")
            found.append(binding.value.index)
        return tuple(found)

    def _version(self, s: ast.Version, scope: Scope) -> None:
        pass

    def _axisdecl(self, s: ast.AxisDecl, scope: Scope) -> None:
        first = s.names[0].ident
        size = self.core.integer(s.size, Context(scope), "the size of an axis")
        for name in s.names:
            if name.ident in self.settings:
                self.used_settings.add(name.ident)
                size = int(self.settings[name.ident]) if self.settings[name.ident] % 1 == 0 else -1
        if size is None:
            size = 1
        if not 1 <= size <= UNKNOWN.size:
            raise error("NX105", f"an axis of {size} points", s.size.span, "the size is an integer, 1 or more")
        axis = Axis(first, size)
        self.axes.append(axis)
        for name in s.names:
            if name.indices is not None or name.primes:
                raise error("NX106", "an index name is plain", name.span, "write `axis i, j : 4`")
            with self.core.collecting():
                self._declare(name, v.Binding(v.IndexName(Index(name.ident, axis))), scope)

    def _widthdecl(self, s: ast.WidthDecl, scope: Scope) -> None:
        node = self.core.scalar(s.ratio, Context(scope), "a ratio")
        ratio = node.value if isinstance(node, ir.Constant) else 1.0
        if node is not None and (not isinstance(node, ir.Constant) or ratio <= 0):
            raise error("NX107", "a width ratio is a positive number", s.ratio.span, "write `width m = 4` for m/n -> 4")
        width = Width(s.name, ratio)
        self.widths.append(width)
        self._declare(ast.Name(s.span, s.name), v.Binding(v.WidthName(width)), scope)

    def _width(self, name: str | None, span: Span, scope: Scope) -> Width:
        if name is None:
            return N
        binding = scope.other(name)
        if binding is None or not isinstance(binding.value, v.WidthName):
            known = [k for k, b in {**scope.library, **scope.others}.items() if isinstance(b.value, v.WidthName)]
            raise error("NX108", f"no width class is called `{name}`", span, suggest(name, known) or f"declare `width {name} = 2`")
        return binding.value.width

    def _datadecl(self, s: ast.DataDecl, scope: Scope) -> None:
        name = s.target
        try:
            indices = self._data_indices(name, scope)
            if isinstance(s.source, ast.FromFile):
                folder = Path(s.span.source.name).parent if s.span.source.name != "-" else Path()
                values = data.from_file(s.source, folder)
            elif isinstance(s.source, ast.Drawn):
                values = self._drawn(s.source, indices, scope)
            else:
                values = data.inline(s.source)
        except ProgramError:
            if name.ident not in scope.others:
                self._declare(name, v.Binding(BROKEN), scope)
            raise
        indices = self.training.sized(indices, values)
        sizes = tuple(i.size for i in indices)
        try:
            data.check_shape(name.ident, values, sizes, tuple(i.name for i in indices), s.span)
        except ProgramError as problem:
            for d in problem.diagnostics:
                self.found.add(d)
            self._declare(name, v.Binding(BROKEN), scope)
            return
        node = self.build.array(name.ident, values, indices, data.is_integer(values), name.span)
        self._declare(name, v.Binding(v.Scalar(node), indices), scope)

    def _data_indices(self, name: ast.Name, scope: Scope) -> tuple[Index, ...]:
        return self._own_indices(name, scope)

    def _drawn(self, source: ast.Drawn, indices: tuple[Index, ...], scope: Scope):  # type: ignore[no-untyped-def]
        nodes = self._law(source.law, scope, {"N": 2, "uniform": 1, "rademacher": 1})
        args = []
        for node, e in zip(nodes, source.law.args, strict=True):
            if not isinstance(node, ir.Constant):
                raise error("NX109", "data are drawn with constant parameters", e.span, "write numbers")
            args.append(node.value)
        seed = self.core.integer(source.seed, Context(scope), "a seed") if source.seed is not None else 0
        if seed is None or seed < 0:
            raise error("NX109", "a seed is a non-negative integer", source.span, "write `seed 7`")
        self._too_large(indices, source.span)
        return data.drawn(source.law, args, seed, tuple(i.size for i in indices))

    def _too_large(self, indices: tuple[Index, ...], span: Span) -> None:
        if Type(indices).size() > 2**28:
            raise error("NX305", f"{Type(indices).size()} numbers are too many", span, "use smaller axes")

    def _law(self, law: ast.Law, scope: Scope, known: dict[str, int]) -> list[ir.Node]:
        """The parameter nodes of `N(mean, variance)` and its kin, a constant variance checked for its sign."""
        if law.name not in known:
            shown = ", ".join(known)
            raise error("NX112", f"no law is called `{law.name}` here", law.span, suggest(law.name, known) or f"known: {shown}")
        if len(law.args) != known[law.name]:
            form = {"N": "N(mean, variance)"}.get(law.name, f"{law.name}(variance)")
            raise error("NX113", f"{law.name} takes {known[law.name]} parameters, {len(law.args)} given", law.span, f"write {form}")
        nodes = [self.core.scalar(e, Context(scope), "a number") for e in law.args]
        if any(n is None for n in nodes):
            raise ProgramError([])
        variance = nodes[-1]
        if isinstance(variance, ir.Constant) and variance.value < 0:
            raise error("NX114", f"the variance {variance.value:g} is negative", law.args[-1].span, "a variance is 0 or more")
        return [n for n in nodes if n is not None]

    def _scalardecl(self, s: ast.ScalarDecl, scope: Scope) -> None:
        indices = self._own_indices(s.target, scope)
        node = self._setting(s.target) or self.core.scalar(s.value, Context(scope), "a number")
        value: v.Value = BROKEN if node is None else v.Scalar(node)
        self._declare(s.target, v.Binding(value, indices, parameter=not s.frozen), scope)
        if node is not None:
            self._closed(value, indices, s.value.span)

    def _setting(self, name: ast.Name) -> ir.Node | None:
        """The value that --set gives to a top-level scalar."""
        if name.ident not in self.settings or name.indices is not None:
            return None
        self.used_settings.add(name.ident)
        return self.build.constant(self.settings[name.ident], name.span)

    def _ketdecl(self, s: ast.KetDecl, scope: Scope) -> None:
        name = s.target
        binding = v.Binding(BROKEN)
        try:
            indices = self._own_indices(name, scope)
            width = self._width(s.width, s.span, scope)
            binding = v.Binding(v.Ket(self._initial(s, indices, width, scope)), indices, parameter=not s.frozen)
        finally:
            self._declare(name, binding, scope, ket=True)

    def _initial(self, s: ast.KetDecl, indices: tuple[Index, ...], width: Width, scope: Scope) -> ir.Node:
        pair = None
        if isinstance(s.law, ast.Law):
            mean, spread = self._law(s.law, scope, {"N": 2})
            pair = self._pair(spread, indices, s.law.args[1])
        else:
            value = self.core.value(s.law, Context(scope))
            if isinstance(value, v.Ket) and value.node.type.is_scalar:
                value = v.Scalar(value.node)
            node = self.core.expect_scalar(value, s.law.span, "a number")
            if node is None:
                raise ProgramError([])
            mean, spread = node, self.build.constant(0, s.span)
        extra = [i for i in mean.type.indices if i not in indices]
        if extra:
            raise error("NX202", f"index {extra[0].name} of the mean is not on the left", s.law.span, f"write |{s.target.ident}[{extra[0].name}]>")
        symbol = ir.KetSymbol(s.target.ident, indices, width, s.target.span, s.frozen, pair)
        return self.build.initial_ket(symbol, mean, spread, s.target.span)

    def _pair(self, spread: ir.Node, indices: tuple[Index, ...], at: ast.Expr) -> tuple[Index, Index] | None:
        """`N(0, S[i,j])` for |g[i]>: the index not on the left pairs with the left one of its axis."""
        extra = [i for i in spread.type.indices if i not in indices]
        if not extra:
            return None
        partners = [i for i in indices if i.axis == extra[0].axis]
        if len(extra) > 1 or len(partners) != 1:
            raise error(
                "NX202", f"the covariance carries {', '.join(i.name for i in extra)}, which pairs with no index on the left",
                at.span, "write ket |g[i]> ~ N(0, S[i,j]) with i, j of one axis",
            )  # fmt: skip
        return partners[0], extra[0]

    def _matrixdecl(self, s: ast.MatrixDecl, scope: Scope) -> None:
        binding = v.Binding(BROKEN)
        try:
            indices = self._own_indices(s.target, scope)
            rows, cols = (self._width(w, s.span, scope) for w in (s.rows, s.cols))
            nodes = self._law(s.law, scope, {"N": 2, "rademacher": 1, "uniform": 1})
            if len(nodes) == 2 and not (isinstance(nodes[0], ir.Constant) and nodes[0].value == 0):
                raise error("NX115", "the entries of a matrix have mean 0", s.law.args[0].span, "add c |1><1| for a mean")
            self._closed(v.Scalar(nodes[-1]), indices, s.law.args[-1].span)
            law = {"N": "normal"}.get(s.law.name, s.law.name)
            symbol = ir.MatrixSymbol(s.target.ident, indices, rows, cols, law, nodes[-1], s.target.span, s.frozen)
            binding = v.Binding(v.Matrix(symbol, indices), indices, parameter=not s.frozen)
        finally:
            self._declare(s.target, binding, scope)

    # -- bindings -----------------------------------------------------------------------------------------------
    def _bind(self, s: ast.Bind, scope: Scope) -> None:
        values = self._bound_values(s, scope)
        for target, value in zip(s.targets, values, strict=True):
            with self.core.collecting():
                self._assign_target(target, value, scope, s)

    def _bound_values(self, s: ast.Bind, scope: Scope) -> list[v.Value]:
        ctx = Context(scope)
        if len(s.value) == len(s.targets) == 1 and isinstance(s.targets[0], ast.Name):
            setting = self._setting(s.targets[0]) if scope is self.scope else None
            if setting is not None:
                return [v.Scalar(setting)]
        if len(s.value) == len(s.targets):
            return [self.core.value(e, ctx) for e in s.value]
        if len(s.value) == 1 and isinstance(s.value[0], ast.Call):
            binding = scope.other(s.value[0].fn.ident)
            if binding is not None and isinstance(binding.value, v.UserDef):
                results = self.core.call_def(binding.value, s.value[0], ctx)
                if len(results) == len(s.targets):
                    return list(results)
                raise error("NX124", f"{len(s.targets)} names for {len(results)} values", s.span, "name each value")
        raise error("NX124", f"{len(s.targets)} names for {len(s.value)} values", s.span, "name each value")

    def _assign_target(self, target: ast.Name | ast.Ket, value: v.Value, scope: Scope, s: ast.Bind) -> None:
        ket = isinstance(target, ast.Ket)
        name = target.label if isinstance(target, ast.Ket) else target
        assert isinstance(name, ast.Name)
        table = scope.kets if ket else scope.others
        before = table.get(name.ident)
        if name.ident == "clt" or (not ket and name.ident in RESERVED):
            raise error("NX111", f"`{name.ident}` is reserved", name.span, "choose another name")
        if before is not None and before.declared:
            shown = f"|{name.ident}>" if ket else name.ident
            raise error("NX116", f"`{shown}` is declared; a statement cannot bind it again", target.span, "choose another name")
        places = [self._left(e, scope) for e in name.indices or ()]
        try:
            self._sorted(value, ket, target.span, s)
            self._closed(value, tuple(p for p in places if isinstance(p, Index)), s.span)
        except ProgramError:
            table[name.ident] = v.Binding(BROKEN, tuple(p if isinstance(p, Index) else Index("?", p[1]) for p in places))
            raise
        if isinstance(value, v.Broken) and before is not None and isinstance(before.value, v.Broken):
            return
        table[name.ident] = self._bound(before, places, value, target.span)

    def _bound(
        self, before: v.Binding | None, places: list[Index | tuple[int, Axis]], value: v.Value, span: Span
    ) -> v.Binding:
        fixed = tuple(k for k, p in enumerate(places) if not isinstance(p, Index))
        own = tuple(p for p in places if isinstance(p, Index))
        if not fixed:
            return v.Binding(value, own, span)
        key = tuple(p[0] for p in places if not isinstance(p, Index))
        indices = tuple(p if isinstance(p, Index) else Index(f"member{k}#", p[1]) for k, p in enumerate(places))
        if before is None or len(before.indices) != len(places) or (before.members and before.fixed != fixed):
            return v.Binding(BROKEN, indices, span, fixed=fixed, members={key: value})
        merged = tuple(self._merged(old, new, k in fixed, span) for k, (old, new) in enumerate(zip(before.indices, indices, strict=True)))
        # A member is kept under the index names of the family, so that all members read alike.
        mapping: dict[Index, Index | int] = {n: m for n, m in zip(indices, merged, strict=True) if n != m}
        value = self._renamed(value, mapping, span)
        return v.Binding(before.value, merged, span, fixed=fixed, members={**before.members, key: value})

    def _merged(self, old: Index, new: Index, member: bool, span: Span) -> Index:
        if UNKNOWN in (old.axis, new.axis):
            return new if old.axis == UNKNOWN else old
        if old.axis != new.axis:
            raise error("NX226", f"this bracket ranges over axis {old.axis.name}, not {new.axis.name}", span, "axes are nominal")
        return old

    def _renamed(self, value: v.Value, mapping: dict[Index, Index | int], span: Span) -> v.Value:
        if isinstance(value, v.Scalar | v.Ket):
            return type(value)(self.build.rename(value.node, mapping, span))
        return self.core.algebra.rename(value, mapping, span) if isinstance(value, v.Operator) else value

    def _left(self, e: ast.Expr, scope: Scope) -> Index | tuple[int, Axis]:
        """A bracket on the left of a binding: an index, or the position of one member (and its axis, if known)."""
        if isinstance(e, ast.Name) and e.indices is None:
            binding = scope.other(e.ident)
            if binding is None:
                raise error("NX253", f"`{e.ident}` is not an index", e.span, suggest(e.ident, scope.others) or "declare it: `axis i : 4`")
            if isinstance(binding.value, v.IndexName):
                return binding.value.index
        position = self.core.integer(e, Context(scope), "the position of a member")
        if position is None:
            raise ProgramError([])
        axis = next((self.loop_axes[n] for n in _plain_names(e) if n in self.loop_axes), UNKNOWN)
        if not 1 <= position <= axis.size:
            raise error("NX225", f"position {position} is outside 1..{axis.size}", e.span, "positions count from 1")
        return position, axis

    def _sorted(self, value: v.Value, ket: bool, span: Span, s: ast.Bind) -> None:
        if isinstance(value, v.Broken):
            return
        if ket and not isinstance(value, v.Ket):
            remedy = "bind a plain name, or multiply by |1>" if isinstance(value, v.Scalar) else "apply it to a ket"
            raise error("NX216", f"a ket is bound here, found a {value.kind}" if value.kind != "operator" else "a ket is bound here, found an operator", s.span, remedy)
        if not ket and not isinstance(value, v.Scalar | v.Operator):
            remedy = "write |y> = ... , or take an average" if isinstance(value, v.Ket) else "give it a ket"
            raise error("NX210", f"a scalar or operator is bound here, found a {value.kind}", s.span, remedy)
        if isinstance(value, v.Ket) and any(slot != 0 for slot, _ in value.node.type.slots):
            raise error("NX233", "a copy leaves its E", s.span, "average it: E[1](...)")

    def _closed(self, value: v.Value, left: tuple[Index, ...], span: Span) -> None:
        """Free indices on the right must stand on the left (hidden ones pass through)."""
        for index in free_indices(value):
            if index not in left and "#" not in index.name:
                raise error(
                    "NX201", f"index {index.name} is free on the right", span,
                    f"write sum[{index.name}](...), or put {index.name} on the left",
                )  # fmt: skip

    # -- definitions, outputs, imports --------------------------------------------------------------------------
    def _def(self, s: ast.Def, scope: Scope) -> None:
        name = ast.Name(s.span, s.name)
        self._definable(name, scope)
        if not s.body or not isinstance(s.body[-1], ast.Return):
            raise error("NX125", f"def {s.name} returns nothing", s.span, "end it with `return ...`")
        self._distinct([p.name for p in s.params])
        check_body(s, scope, set(), self.found)
        scope.others[s.name] = v.Binding(v.UserDef(s, scope.snapshot()), span=s.span)

    def _fn(self, s: ast.Fn, scope: Scope) -> None:
        self._definable(ast.Name(s.span, s.name), scope)
        scope.others[s.name] = v.Binding(v.UserFn(s, scope.snapshot()), span=s.span)
        function = ast.Def(s.span, s.name, tuple(ast.Param(s.span, ast.Name(s.span, p), "scalar") for p in s.params),
                           (ast.Return(s.span, (s.body,)),))  # fmt: skip
        before = len(self.found.errors)
        snapshot = scope.snapshot()
        snapshot.others.pop(s.name, None)
        check_body(function, snapshot, set(), self.found)
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
        if s.target is None:
            assert s.value is not None
            value = self.core.value(s.value, Context(scope))
            self._report(" ".join(s.value.span.text.split()), value, free_indices(value), s)
            return
        if s.value is not None:
            self._bind(ast.Bind(s.span, (s.target,), (s.value,)), scope)
            binding = scope.others.get(s.target.ident)
            places = [self._left(e, scope) for e in s.target.indices or ()]
            if binding is None or not all(isinstance(p, Index) for p in places):
                raise error("NX126", "an output is a whole family", s.target.span, "write index names in the brackets")
        value = self.core.value(s.target, Context(scope))
        named = [e for e in s.target.indices or () if isinstance(e, ast.Name)]
        indices = tuple(
            b.value.index for e in named if (b := scope.other(e.ident)) is not None and isinstance(b.value, v.IndexName)
        )
        plain = len(indices) == len(s.target.indices or ())
        self._report(s.target.ident if plain else s.target.span.text, value, indices, s)

    def _report(self, name: str, value: v.Value, indices: tuple[Index, ...], s: ast.Output) -> None:
        if isinstance(value, v.Broken):
            return
        at = s.value.span if s.value is not None else s.span
        node = self.core.expect_scalar(value, at, "a scalar to report")
        if name in self.outputs:
            raise error("NX127", f"`{name}` is an output already", s.span, "give it another name: `output g = ...`")
        if node is not None:
            self.outputs[name] = Output(name, tuple(dict.fromkeys(indices)), node, s.span)

    def _import(self, s: ast.Import, scope: Scope) -> None:
        source = self._imported_source(s)
        if source is None:
            return
        file = parse(source, self.found)
        kept = tuple(x for x in file.statements if not isinstance(x, ast.Output | ast.Train | ast.Parametrization))
        self.run(kept, scope, "top")

    def _imported_source(self, s: ast.Import) -> Source | None:
        """The text of an import, once per program (which also ends circles)."""
        if not s.quoted:
            if s.path != "layers":
                raise error("NX140", f"no library is called `{s.path}`", s.span, 'write `import layers`, or import "file.nexort"')
            path = f"library/{s.path}.nexort"
            text = files("tp_compiler").joinpath("library", f"{s.path}.nexort").read_text(encoding="utf-8")
        else:
            folder = Path(s.span.source.name).parent if s.span.source.name != "-" else Path()
            file = folder / s.path
            if not file.is_file():
                raise error("NX141", f"there is no file `{s.path}`", s.span, f"looked in {folder}")
            path = str(file.resolve())
            try:
                text = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                raise error("NX142", f"`{s.path}` is no UTF-8 text", s.span, "check the file") from None
            if path not in self.imported:
                self.imported.add(path)
                return Source(str(file), text)
            return None
        if path in self.imported:
            return None
        self.imported.add(path)
        return Source(path, text)

    # -- checked, without a meaning in this version -------------------------------------------------------------
    def _optimizer(self, s: ast.Optimizer, scope: Scope) -> None:
        self.training.optimizer(s, scope)

    def _train(self, s: ast.Train, scope: Scope) -> None:
        self.training.train(s, scope)

    def _minimize(self, s: ast.Minimize, scope: Scope) -> None:
        self.training.minimize(s, scope)

    def _update(self, s: ast.Update, scope: Scope) -> None:
        self.training.update(s, scope)

    def _parametrization(self, s: ast.Parametrization, scope: Scope) -> None:
        self.training.parametrization(s, scope)


def _plain_names(e: ast.Expr) -> list[str]:
    """The bare names of an index expression such as `s - 1`."""
    match e:
        case ast.Name(ident=ident):
            return [ident]
        case ast.Sum(terms=parts) | ast.Product(factors=parts):
            return [n for p in parts for n in _plain_names(p)]
        case ast.Paren(body=body) | ast.Neg(operand=body):
            return _plain_names(body)
    return []
