"""Trees without their places, for comparison, and the parser with its diagnostics at hand."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from tp_compiler.diagnostics import Diagnostic, Diagnostics, Source
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.parse import parse


def bare(value: Any) -> Any:
    """A tree as nested tuples of class names and fields, without spans: equal iff the trees are."""
    if isinstance(value, ast.Tree):
        return (type(value).__name__, *(bare(getattr(value, f.name)) for f in fields(value) if f.name != "span"))
    return tuple(map(bare, value)) if isinstance(value, tuple) else value


def read(text: str) -> tuple[ast.File, list[Diagnostic]]:
    found = Diagnostics()
    return parse(Source("p.nexort", text), found), found.found


def statements(text: str) -> tuple[ast.Statement, ...]:
    """The statements of a text without errors."""
    file, found = read(text)
    assert not found, "\n".join(d.render() for d in found)
    return file.statements


def expression(text: str) -> Any:
    (statement,) = statements(f"c = {text}")
    assert isinstance(statement, ast.Bind)
    (value,) = statement.value
    return bare(value)
