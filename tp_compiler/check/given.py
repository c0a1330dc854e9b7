"""Data given by the caller, by name: arrays from Python (`data=`), files from the command line (`--data`)."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tp_compiler.check import data
from tp_compiler.diagnostics import ProgramError, error
from tp_compiler.frontend import syntax as ast

#: `points.npz:xi`, an array in an archive.
_MEMBER = re.compile(r"(.*\.npz):([^:/\\]+)", re.IGNORECASE)


@dataclass
class GivenData:
    """The values that replace those in the text, and the names that were read."""

    values: Mapping[str, object]
    used: set[str] = field(default_factory=set)

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
            return _from_path(os.fspath(value), target, accept)
        return data.from_object(value, target, accept)


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
