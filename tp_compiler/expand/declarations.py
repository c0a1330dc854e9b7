"""Declarations of a program: axes, widths, data, kets, matrices and trainable scalars."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tp_compiler.diagnostics import Diagnostics, Span
from tp_compiler.expand.expressions import ExpressionWriter, Place
from tp_compiler.expand.plan import BEFORE
from tp_compiler.expand.text import number, signed
from tp_compiler.expand.unit import SourceProgram
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.mentions import names_in
from tp_compiler.frontend.parse import parse
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.model import Declared
from tp_compiler.ir.types import Axis, Index, N

#: Larger data are declared as in the source (read from a file or drawn), unless the source lists them.
MAX_INLINE = 64


class DeclarationWriter:
    """Writes one declaration after the other; the numbers in them are expressions of the program."""

    def __init__(self, unit: SourceProgram, expressions: ExpressionWriter):
        self.unit = unit
        self.expressions = expressions

    @staticmethod
    def axes(declared: dict[Axis, list[str]]) -> Iterator[str]:
        for axis, names in declared.items():
            yield f"axis {', '.join(names)} : {axis.size}"

    def widths(self) -> Iterator[str]:
        for width in self.unit.model.widths:
            if width != N:
                yield f"width {width.name} = {signed(number(width.ratio)).text}"

    def write(self, declared: Declared) -> str:
        match declared.value:
            case ir.Array() as array:
                return self._data(array, declared.ident in self.unit.model.vocabulary.given)
            case ir.InitialKet() as ket:
                return self._ket(ket)
            case ir.InitialScalar() as scalar:
                return f"scalar {self._head(scalar)} = {self._value(scalar.args[0], scalar.symbol.indices)}"
            case ir.MatrixSymbol() as matrix:
                return self._matrix(matrix)

    def _head(self, node: ir.Node) -> str:
        name = self.expressions.naming.declared[node]
        return self.expressions.read(name, _plain(name.brackets), Place(BEFORE)).text

    def _value(self, node: ir.Node, indices: Iterable[Index]) -> str:
        return self.expressions.piece(node, _plain((*indices, *node.type.indices)), Place(BEFORE)).text

    def _ket(self, ket: ir.InitialKet) -> str:
        width = "" if ket.symbol.width == N else f" : {ket.symbol.width.name}"
        head = f"ket {self._head(ket)}{width}"
        return f"{head} {self._law(ket)}{_frozen(ket.symbol.frozen)}"

    def _law(self, ket: ir.InitialKet) -> str:
        if ket.symbol.law == "rows":
            return self._rows(ket)
        shown = [self._value(x, ket.symbol.indices) for x in (ket.parameters or ket.args)]
        if ket.symbol.law != "normal":
            return f"~ {ket.symbol.law}" + (f"({', '.join(shown)})" if ket.parameters else "")
        mean, variance = shown
        constant = isinstance(ket.args[1], ir.Constant) and ket.args[1].value == 0
        return f"= {mean}" if constant else f"~ N({mean}, {variance})"

    def _rows(self, ket: ir.InitialKet) -> str:
        """The array whose rows the ket takes: in the file that the source names, or an expression."""
        (rows,) = ket.parameters
        statement = _declaration(ket.symbol.span)
        if isinstance(statement, ast.KetDecl) and isinstance(statement.law, ast.FromFile):
            return self._file(ket.symbol.span, statement.law)
        return f"from {self._value(rows, ())}"

    def _matrix(self, matrix: ir.MatrixSymbol) -> str:
        brackets = f"[{','.join(i.name for i in matrix.indices)}]" if matrix.indices else ""
        widths = "" if (matrix.rows, matrix.cols) == (N, N) else f" : {matrix.rows.name} x {matrix.cols.name}"
        variance = self._value(matrix.variance, matrix.indices)
        law = f"N(0, {variance})" if matrix.law == "normal" else f"{matrix.law}({variance})"
        return f"matrix {self.expressions.naming.matrices[matrix]}{brackets}{widths} ~ {law}{_frozen(matrix.frozen)}"

    # -- data ---------------------------------------------------------------------------------------------------
    def _data(self, array: ir.Array, given: bool) -> str:
        """Data that the caller gave are written out, whatever the source says."""
        head = f"data {self._head(array)}"
        if array.values.size > MAX_INLINE and not given:
            again = self._again(array)
            if again:
                return f"{head} {again}"
        return f"{head} = {_list(array.values)}"

    def _again(self, array: ir.Array) -> str:
        """The source's text that reads or draws data, if it has the same meaning here."""
        statement = _declaration(array.span)
        source = statement.source if isinstance(statement, ast.DataDecl) else None
        if isinstance(source, ast.FromFile):
            return self._file(array.span, source)
        if isinstance(source, ast.Drawn) and not list(names_in((source.law.args, source.seed))):
            seed = f" seed {source.seed.span.text}" if source.seed is not None else ""
            return f"~ {source.law.span.text}{seed}"
        return ""

    def _file(self, span: Span, source: ast.FromFile) -> str:
        key = f' key "{source.key}"' if source.key is not None else ""
        return f'from "{self._path(span, source.path)}"{key}'

    def _path(self, span: Span, path: str) -> str:
        """The path relative to the program, for data of a file that it imports."""
        main = self.unit.source.name
        if span.source.name in (main, "-"):
            return path
        return os.path.relpath(Path(span.source.name).parent / path, Path(main).parent)


def _declaration(at: Span) -> ast.DataDecl | ast.KetDecl | None:
    declarations = (s for s in parse(at.source, Diagnostics()).statements if isinstance(s, ast.DataDecl | ast.KetDecl))
    return next((s for s in declarations if s.target.span.start == at.start), None)


def _plain(indices: Iterable[Index | int]) -> dict[Index, str]:
    """Declared indices under their own names."""
    return {i: i.name for i in indices if isinstance(i, Index)}


def _frozen(frozen: bool) -> str:
    return " frozen" if frozen else ""


def _list(values: Any) -> str:
    if values.ndim == 0:
        return _plain_number(float(values))
    return f"[{', '.join(_list(v) for v in values)}]"


def _plain_number(value: float) -> str:
    return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
