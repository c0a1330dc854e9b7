"""Docstrings as they are written in this project, for autodoc: Markdown's backticks, and tables of `name   meaning`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

_ROW = re.compile(r"^([A-Za-z_]\w*(?:, [A-Za-z_]\w*)*) {2,}(\S.*)$")


def _convert(app: Any, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    lines[:] = [_escaped(line) for line in _lists(lines)]


def _lists(lines: Iterable[str]) -> Iterator[str]:
    """Rows of a table become a list; the lines that continue them are set in below."""
    inside = False
    for line in lines:
        row = _ROW.match(line)
        if row:
            if not inside:
                yield ""
            yield f"- ``{row[1]}``: {row[2]}"
        elif inside and line.startswith("  "):
            yield f"  {line.strip()}"
        else:
            yield line
        inside = bool(row) or (inside and line.startswith("  "))


def _escaped(line: str) -> str:
    """Code in double backticks; stars and bars elsewhere are not markup."""
    pieces = re.split(r"(`+[^`]*`+)", line)
    return "".join(
        f"``{piece.strip('`')}``" if piece.startswith("`") else re.sub(r"([*|])", r"\\\1", piece) for piece in pieces
    )


def setup(app: Any) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", _convert)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
