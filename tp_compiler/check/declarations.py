"""Declarations: axes, widths, data, scalars, kets and matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tp_compiler.check import data
from tp_compiler.check import values as v
from tp_compiler.check.core import BROKEN, Context, Core, free_indices
from tp_compiler.check.given import AxisSizes, DataReading, needed
from tp_compiler.check.laws import DATA, MATRICES, Laws
from tp_compiler.check.names import Binding, Scope
from tp_compiler.diagnostics import Diagnostic, Diagnostics, ProgramError, Span, error, suggest
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.mentions import names_in
from tp_compiler.frontend.syntax import RESERVED
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Axis, Index, N, Type, Width

#: The axis of a bracket that no declaration has named yet.
UNKNOWN = Axis("?", 2**31)
#: Numbers in drawn data: half a GiB.
MAX_DRAWN = 2**26
#: A ratio of widths that is more likely to be meant as a width.
MANY = 64
#: Indices of one name; NumPy's arrays have at most 64 dimensions, and a product joins two names.
MAX_INDICES = 16


@dataclass
class Settings:
    """Sizes of axes and values of top-level scalars that replace those in the text, and those that were read."""

    given: dict[str, float]
    used: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, values: Mapping[str, object], found: Diagnostics) -> Settings:
        """Settings that are not finite numbers are reported."""
        given = {}
        for name, value in values.items():
            try:
                number = float(value)  # type: ignore[arg-type]
            except (TypeError, ValueError, OverflowError):
                what = repr(value) if isinstance(value, str) else f"a value of type {type(value).__name__}"
                remedy = f"give one number; arrays are data: `--data {name}=FILE`, in Python `data={{...}}`"
                found.add(Diagnostic("NX104", f"`{name}` was set to {what}, which is not a number", None, remedy))
                continue
            given[name] = number
            if not math.isfinite(number):
                message = f"`{name}` was set to {number}, which is not a finite number"
                found.add(Diagnostic("NX104", message, None, "give a finite number"))
        return cls(given)


class Declarations:
    """One method per declaration. `sized`: the indices of data when they are chosen by size (training.py)."""

    def __init__(
        self, core: Core, settings: Settings, reading: DataReading,
        sized: Callable[[tuple[Index, ...], tuple[int, ...]], tuple[Index, ...]],
    ):  # fmt: skip
        self.core, self.settings, self.reading, self._sized = core, settings, reading, sized
        self.sizes = AxisSizes(reading)
        self.build = core.build
        self.laws = Laws(core, self.sizes)
        self.axes: list[Axis] = []
        self.widths: list[Width] = core.algebra.widths
        self.rules: dict[type[ast.Statement], Callable[[Any, Scope], None]] = {
            ast.AxisDecl: self._axisdecl, ast.WidthDecl: self._widthdecl, ast.DataDecl: self._datadecl,
            ast.ScalarDecl: self._scalardecl, ast.KetDecl: self._ketdecl, ast.MatrixDecl: self._matrixdecl,
        }  # fmt: skip

    def _declare(self, name: ast.Name, binding: Binding, scope: Scope, ket: bool = False) -> None:
        table = scope.kets if ket else scope.others
        if (not ket and name.ident in RESERVED) or name.ident == "clt":
            raise self.core.reserved(name)
        before = table.get(name.ident)
        if before is not None:
            where = ""
            if before.span is not None:
                where = f"; the first declaration is on line {before.span.source.position(before.span.start)[0]}"
            shown = f"|{name.ident}>" if ket else name.ident
            raise error("NX110", f"`{shown}` is declared twice{where}", name.span, "choose another name")
        table[name.ident] = replace(binding, span=name.span, declared=True)

    def _own_indices(self, name: ast.Name, scope: Scope) -> tuple[Index, ...]:
        """The brackets of a declaration: index names only."""
        found = []
        for e in name.indices or ():
            binding = scope.other(e.ident) if isinstance(e, ast.Name) and e.indices is None else None
            if isinstance(e, ast.Number):
                remedy = "brackets hold indices of a family, `axis l : 3` and `W[l]`; widths are not written"
                raise error("NX253", f"`{e.text}` is not an index", e.span, remedy)
            if binding is None or not isinstance(binding.value, v.IndexName):
                raise self.core.no_index(e, scope)
            if binding.value.index in found:
                raise error(
                    "NX254", f"the index `{binding.value.index.name}` appears twice", e.span, "use two index names"
                )
            found.append(binding.value.index)
        if len(found) > MAX_INDICES:
            raise error("NX118", f"{len(found)} indices are too many", name.span, f"use at most {MAX_INDICES}")
        return tuple(found)

    def _axisdecl(self, s: ast.AxisDecl, scope: Scope) -> None:
        size = self._size(s, scope)
        if not 1 <= size <= UNKNOWN.size:
            at = s.span if s.size is None else s.size.span
            raise error("NX105", f"an axis cannot have {size} points", at, f"give an integer from 1 to {UNKNOWN.size}")
        axis = Axis(s.names[0].ident, size)
        self.axes.append(axis)
        for name in s.names:
            if name.indices is not None or name.primes:
                raise error("NX106", "an index name cannot have brackets or primes", name.span, "write `axis i, j : 4`")
            with self.core.collecting():
                self._declare(name, Binding(v.IndexName(Index(name.ident, axis))), scope)

    def _size(self, s: ast.AxisDecl, scope: Scope) -> int:
        """The size of an axis: given with `--set`, written, or that of its data. 1 where what is written is wrong."""
        written = None if s.size is None else self.core.integer(s.size, Context(scope), "the size of an axis")
        for name in s.names:
            if name.ident in self.settings.given:
                self.settings.used.add(name.ident)
                self.sizes.set_by_caller(s.names[0].ident, name.ident)
                return self._whole(name)
        return self.sizes.of(s) if s.size is None else written if written is not None else 1

    def _widthdecl(self, s: ast.WidthDecl, scope: Scope) -> None:
        ratio = self._ratio(s, scope)
        if s.name == N.name and ratio != 1:
            remedy = (
                "remove the line: `tpc simulate --width 512` sets n; `width m = 2` declares another width, m/n -> 2"
            )
            raise error("NX119", f"`{N.name}` is the reference width class, so its ratio is 1", s.span, remedy)
        if ratio >= MANY:
            remedy = f"`width {s.name} = 4` is four times the width n; programs do not mention n itself"
            self.core.found.add(Diagnostic("NX904", f"`{s.name}` is {ratio:g} times as wide as `n`", s.span, remedy))
        width = Width(s.name, ratio)
        self.widths.append(width)
        self._declare(ast.Name(s.span, s.name), Binding(v.WidthName(width)), scope)

    def _ratio(self, s: ast.WidthDecl, scope: Scope) -> float:
        """The ratio to n; 1 for one that is wrong, so that the width is known all the same."""
        widths = {width.name for width in (N, *self.widths)}
        wrong = next((name for name, _ in names_in(s.ratio) if name.ident in widths), None)
        node = None if wrong else self.core.scalar(s.ratio, Context(scope), "a ratio")
        if isinstance(node, ir.Constant) and node.value > 0:
            return node.value
        remedy = f"write the ratio alone: `width {s.name} = 4` for {s.name}/n -> 4"
        if wrong:
            self.core.found.add(Diagnostic("NX107", "a width is declared by its ratio to `n`", wrong.span, remedy))
        elif node is not None:
            message = "a width ratio must be a positive number"
            self.core.found.add(Diagnostic("NX107", message, s.ratio.span, remedy))
        return 1.0

    def _width(self, name: str | None, span: Span, scope: Scope) -> Width:
        if name is None:
            return N
        binding = scope.other(name)
        if binding is None or not isinstance(binding.value, v.WidthName):
            known = [k for k, b in {**scope.library, **scope.others}.items() if isinstance(b.value, v.WidthName)]
            raise error(
                "NX108",
                f"there is no width class `{name}`",
                span,
                suggest(name, known) or f"declare `width {name} = 2`",
            )
        return binding.value.width

    def _datadecl(self, s: ast.DataDecl, scope: Scope) -> None:
        name = s.target
        try:
            if s.source is None and name.ident not in self.reading.given:
                raise needed(s)
            indices = self._own_indices(name, scope)
            if self.reading.fixed(s):
                values = self.reading.values(s, lambda shape: self._fitting(s, indices, shape))
            else:
                assert isinstance(s.source, ast.Drawn)
                values = self._drawn(s.source, indices, scope)
            indices = self._fitting(s, indices, values.shape)
        except ProgramError:
            if name.ident not in scope.others:
                self._declare(name, Binding(BROKEN), scope)
            raise
        node = self.build.array(name.ident, values, indices, data.is_integer(values), name.span)
        self._declare(name, Binding(v.Scalar(node), indices), scope)

    def _fitting(self, s: ast.DataDecl, indices: tuple[Index, ...], shape: tuple[int, ...]) -> tuple[Index, ...]:
        """The indices of data of this shape. Raises ProgramError NX304 if the shape is not that of the axes."""
        indices = self._sized(indices, shape)
        data.check_shape(s.target.ident, shape, indices, s.span, self.sizes.origin)
        return indices

    def _drawn(self, source: ast.Drawn, indices: tuple[Index, ...], scope: Scope):  # type: ignore[no-untyped-def]
        parameters = self.laws.numbers(source.law, scope, DATA)
        args = []
        for parameter, e in zip(parameters, source.law.args, strict=True):
            if not isinstance(parameter.node, ir.Constant):
                raise error("NX109", "data must be drawn with constant parameters", e.span, "write numbers")
            args.append(parameter.node.value)
        seed = self.core.integer(source.seed, Context(scope), "a seed") if source.seed is not None else 0
        if seed is None or seed < 0:
            raise error("NX109", "a seed must be a non-negative integer", source.span, "write `seed 7`")
        self._too_large(indices, source.span)
        return data.drawn(source.law, args, seed, tuple(i.size for i in indices))

    def _too_large(self, indices: tuple[Index, ...], span: Span) -> None:
        if Type(indices).size() > MAX_DRAWN:
            raise error("NX305", f"{Type(indices).size()} numbers are too many to draw", span, "use smaller axes")

    def _scalardecl(self, s: ast.ScalarDecl, scope: Scope) -> None:
        indices = self._own_indices(s.target, scope)
        node = self.setting(s.target) or self._given(s.target, indices)
        node = node or self.core.scalar(s.value, Context(scope), "a number")
        if node is not None and not s.frozen:
            symbol = ir.ScalarSymbol(s.target.ident, indices, s.target.span)
            node = self.build.initial_scalar(symbol, node, s.target.span)
        value: v.Value = BROKEN if node is None else v.Scalar(node)
        self._declare(s.target, Binding(value, indices, parameter=not s.frozen), scope)
        if node is not None:
            self.closed(value, indices, s.value.span)

    def setting(self, name: ast.Name) -> ir.Node | None:
        """The value that --set gives to a top-level scalar."""
        if name.ident not in self.settings.given or name.indices is not None:
            return None
        self.settings.used.add(name.ident)
        return self.build.constant(self.settings.given[name.ident], name.span)

    def _given(self, name: ast.Name, indices: tuple[Index, ...]) -> ir.Node | None:
        """The values that the caller gives to a scalar, as to data."""
        if name.ident not in self.reading.given:
            return None

        def accept(shape: tuple[int, ...]) -> None:
            data.check_shape(name.ident, shape, indices, name.span, self.sizes.origin)

        values = self.reading.given.array(name, accept)
        return (
            self.build.array("", values, indices, False, name.span)
            if indices
            else self.build.constant(float(values), name.span)
        )

    def _whole(self, name: ast.Name) -> int:
        """The size that --set gives to an axis."""
        given = self.settings.given[name.ident]
        if given % 1:
            message = f"`--set {name.ident}={given:g}`: the size of an axis must be an integer"
            raise error("NX105", message, name.span, f"give an integer from 1 to {UNKNOWN.size}")
        return int(given)

    def _ketdecl(self, s: ast.KetDecl, scope: Scope) -> None:
        name = s.target
        binding = Binding(BROKEN)
        try:
            indices = self._own_indices(name, scope)
            width = self._width(s.width, s.span, scope)
            binding = Binding(v.Ket(self._initial(s, indices, width, scope)), indices, parameter=not s.frozen)
        finally:
            self._declare(name, binding, scope, ket=True)

    def _initial(self, s: ast.KetDecl, indices: tuple[Index, ...], width: Width, scope: Scope) -> ir.Node:
        law = self.laws.of_ket(s, indices, scope)
        symbol = ir.KetSymbol(s.target.ident, indices, width, s.target.span, s.frozen, law.pair, law.name)
        return self.build.initial_ket(symbol, law.mean, law.spread, s.target.span, law.parameters)

    def _matrixdecl(self, s: ast.MatrixDecl, scope: Scope) -> None:
        binding = Binding(BROKEN)
        try:
            indices = self._own_indices(s.target, scope)
            rows, cols = (self._width(w, s.span, scope) for w in (s.rows, s.cols))
            *means, variance = self.laws.numbers(s.law, scope, MATRICES)
            if means and not (isinstance(means[0].node, ir.Constant) and means[0].node.value == 0):
                raise error(
                    "NX115", "the entries of a matrix must have mean 0", s.law.args[0].span, "add `c |1><1|` for a mean"
                )
            self.closed(variance, indices, s.law.args[-1].span)
            law = {"N": "normal"}.get(s.law.name, s.law.name)
            symbol = ir.MatrixSymbol(s.target.ident, indices, rows, cols, law, variance.node, s.target.span, s.frozen)
            binding = Binding(v.Matrix(symbol, indices), indices, parameter=not s.frozen)
        finally:
            self._declare(s.target, binding, scope)

    def closed(self, value: v.Value, left: tuple[Index, ...], span: Span) -> None:
        """Free indices on the right must appear on the left (hidden ones pass through)."""
        for index in free_indices(value):
            if index not in left and "#" not in index.name:
                raise error(
                    "NX201", f"the index `{index.name}` is free on the right", span,
                    f"write `sum[{index.name}](...)`, or put `{index.name}` on the left",
                )  # fmt: skip
