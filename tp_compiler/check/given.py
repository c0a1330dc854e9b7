"""Data: given by the caller (`data=`, `--data`), in a file or written out; and the sizes of axes, which data may decide."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tp_compiler.check import data
from tp_compiler.check.reach import Reach
from tp_compiler.diagnostics import ProgramError, error
from tp_compiler.frontend import syntax as ast
from tp_compiler.ir.types import Axis, Index

#: `points.npz:xi`, an array in an archive.
_MEMBER = re.compile(r"(.*\.npz):([^:/\\]+)", re.IGNORECASE)


@dataclass
class GivenData:
    """The values that replace those in the text, and the names that were read."""

    values: Mapping[str, object]
    used: set[str] = field(default_factory=set)
    arrays: dict[str, Any] = field(default_factory=dict)  # as they were read

    @classmethod
    def of(cls, values: Mapping[str, object] | None) -> GivenData:
        return cls({unicodedata.normalize("NFC", name): value for name, value in (values or {}).items()})

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def array(self, target: ast.Name, accept: data.Accept) -> Any:
        """The array given for data declared as `target`, as float64; a copy. `accept` refuses shapes, as in `from_file`."""
        self.used.add(target.ident)
        value = self.values[target.ident]
        if isinstance(value, str | os.PathLike):
            found = _from_path(os.fspath(value), target, accept)
        else:
            found = data.from_object(value, target, accept)
        self.arrays[target.ident] = found
        return found


def _from_path(text: str | bytes, target: ast.Name, accept: data.Accept) -> Any:
    written = os.fsdecode(text)
    match = _MEMBER.fullmatch(written)
    path, key = (match[1], match[2]) if match is not None else (written, None)
    if not os.path.isfile(path):  # False for a path with a null byte
        message = f"there is no file `{path}`, which was given for `{target.ident}`"
        raise error("NX311", message, target.span, f"check the path, which is relative to `{Path().resolve()}`")
    return data.from_file(ast.FromFile(target.span, path, key), Path(path), accept, target.ident)


def needed(s: ast.DataDecl) -> ProgramError:
    """The error of data that have no values in the text and were not given."""
    name = s.target.ident
    message = f"`{name}` is declared without values, and none were given"
    remedy = (
        f'pass `data={{"{name}": array}}` in Python or `--data {name}=FILE`, or write `data {s.target.span.text} = ...`'
    )
    return error("NX306", message, s.span, remedy)


@dataclass
class DataReading:
    """Data that are given by the caller, in a file, or written out; drawn data depend on the sizes of their axes."""

    given: GivenData
    reach: Reach
    _read: dict[int, Any] = field(default_factory=dict)

    def fixed(self, s: ast.DataDecl) -> bool:
        """Are the numbers known before the sizes of the axes are?"""
        return s.target.ident in self.given or not (s.source is None or isinstance(s.source, ast.Drawn))

    def values(self, s: ast.DataDecl, accept: data.Accept) -> Any:
        """The numbers of fixed data; `accept` refuses the shape of those in files before they are read."""
        if id(s) not in self._read:
            self._read[id(s)] = self._numbers(s, accept)
        return self._read[id(s)]

    def rows(self, s: ast.KetDecl, accept: data.Accept) -> Any:
        """The array in the file that a ket takes its rows from."""
        assert isinstance(s.law, ast.FromFile)
        if id(s) not in self._read:
            path = self.reach.find(s.law.path, s.law.span, "NX311")
            self._read[id(s)] = data.from_file(s.law, path, accept, f"|{s.target.ident}>")
        return self._read[id(s)]

    def _numbers(self, s: ast.DataDecl, accept: data.Accept) -> Any:
        if s.target.ident in self.given:
            return self.given.array(s.target, accept)
        if isinstance(s.source, ast.FromFile):
            path = self.reach.find(s.source.path, s.source.span, "NX311")
            return data.from_file(s.source, path, accept, s.target.ident)
        assert isinstance(s.source, ast.Expr)
        return data.inline(s.source)


@dataclass
class AxisSizes:
    """The sizes of axes that are declared without one: as many points as the first data over them have, or the first file
    of rows for a ket."""

    reading: DataReading
    _known: list[ast.DataDecl | ast.KetDecl] = field(default_factory=list)
    #: Of an axis: who decided its size.
    _by: dict[str, str] = field(default_factory=dict)

    def announce(self, statements: Iterable[ast.Statement]) -> None:
        """Data of a program, or of a file that it imports, which may be declared below the axes; and rows of kets."""
        self._known += [
            s for s in statements
            if isinstance(s, ast.DataDecl) or (isinstance(s, ast.KetDecl) and isinstance(s.law, ast.FromFile))
        ]  # fmt: skip

    def data(self) -> list[str]:
        """The names of the data, with or without values."""
        return list(dict.fromkeys(d.target.ident for d in self._known if isinstance(d, ast.DataDecl)))

    def of(self, s: ast.AxisDecl) -> int:
        """The size that data give to an axis. Raises ProgramError NX307 if there are none."""
        names = {name.ident for name in s.names}
        over = [(d, k) for d in self._known for k, e in enumerate(_brackets(d)) if e in names]
        for d, k in over:
            if isinstance(d, ast.KetDecl):
                values = self.reading.rows(d, lambda shape, d=d: _columns(d, shape))  # type: ignore[misc]
                self._by[s.names[0].ident] = f"|{d.target.ident}>"
                return int(values.shape[k + 1])
            if self.reading.fixed(d):
                values = self.reading.values(d, lambda shape, d=d: _dimensions(d, shape))  # type: ignore[misc]
                _dimensions(d, values.shape)
                self._by[s.names[0].ident] = d.target.ident
                return int(values.shape[k])
        if any(isinstance(d, ast.DataDecl) and d.source is None for d, _ in over):
            raise ProgramError([])  # the data are reported as missing
        name = s.names[0].ident
        remedy = f"write `axis {name} : 4`, set it with `--set {name}=4`, or declare data over it"
        raise error("NX307", f"nothing says how many points the axis `{name}` has", s.span, remedy)

    def set_by_caller(self, axis: str, name: str) -> None:
        """The size is one of `--set`."""
        self._by[axis] = f"--set {name}"

    def origin(self, index: Index) -> tuple[str, str]:
        """Why an axis has its size, and what to do about an array of another size."""
        axis: Axis = index.axis
        by = self._by.get(axis.name, "")
        if index.name == "step":
            steps = axis.size - 1
            return (
                f"training has {steps} steps",
                f"give {steps} entries, or one more for the value after the last update",
            )
        if by.startswith("--set"):
            return f"`{by}={axis.size}` was given", "leave out the setting, or change the array"
        if by:
            return f"`{by}` has {axis.size}", "both are over one axis: give them equally many, or declare two axes"
        remedy = f"change one of them; `axis {axis.name}` without a size takes that of its data"
        return f"`axis {axis.name} : {axis.size}` has {axis.size}", remedy


def _columns(s: ast.KetDecl, shape: tuple[int, ...]) -> None:
    """Refuses an array with another number of dimensions than rows of the family have."""
    names = _brackets(s)
    if len(shape) != len(names) + 1:
        data.check_rows(
            f"|{s.target.ident}>", shape, [Index(n, Axis(n, 0)) for n in names], s.law.span, lambda index: ("", "")
        )


def _brackets(s: ast.DataDecl | ast.KetDecl) -> list[str]:
    return [e.ident if isinstance(e, ast.Name) else "" for e in s.target.indices or ()]


def _dimensions(s: ast.DataDecl, shape: tuple[int, ...]) -> None:
    """Refuses an array with another number of dimensions than the declaration has indices."""
    names = _brackets(s)
    if len(shape) != len(names):
        own = tuple(Index(name, Axis(name, 1)) for name in names)
        data.check_shape(s.target.ident, shape, own, s.span, lambda index: ("", ""))
