"""Cells with `%%nexort` have the colours of programs."""

from __future__ import annotations

from typing import Any

from tp_compiler.editor.pygments_lexer import NexortCellLexer


def setup(app: Any) -> dict[str, bool]:
    """Notebooks name the lexer `ipython3`."""
    for name in ("ipython", "ipython3"):
        app.add_lexer(name, NexortCellLexer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
