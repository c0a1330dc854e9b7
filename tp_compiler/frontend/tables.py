"""The tables of lark's parser for the grammar, kept beside the bytecode of the package.

Making them takes longer than parsing most programs. They are as trusted as the bytecode is, are written where and when Python
writes bytecode (`PYTHONPYCACHEPREFIX`, `PYTHONDONTWRITEBYTECODE`), and made again for another grammar or another version of lark.
"""

from __future__ import annotations

import os
import sys
from importlib.resources import files
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

import lark


class _Place(str):
    """A path for lark, which also puts its text into what it compares: a file that is renamed is the same cache."""

    def __str__(self) -> str:
        return "tables"


def parser(**parts: Any) -> lark.Lark:
    """The parser of the grammar; `parts`: what is called while it parses."""
    place = files("tp_compiler.grammar").joinpath("nexort.lark")
    grammar = place.read_text(encoding="utf-8")
    given: dict[str, Any] = {"parser": "lalr", "lexer": "basic", "maybe_placeholders": True, **parts}
    kept = _kept(Path(str(place)))
    if kept is None:
        return lark.Lark(grammar, **given)
    if kept.exists():
        return lark.Lark(grammar, cache=_Place(kept), **given)
    own = kept.with_suffix(f".{os.getpid()}")  # another process may write at the same time
    try:
        made = lark.Lark(grammar, cache=_Place(own), **given)
        os.replace(own, kept)
    except OSError:  # a folder that is full, or not ours after all
        own.unlink(missing_ok=True)
        return lark.Lark(grammar, **given)
    return made


def _kept(grammar: Path) -> Path | None:
    """Where the tables are, or will be written; None if there is no such place."""
    try:
        place = Path(cache_from_source(str(grammar.with_suffix(f".{lark.__version__}.py")))).with_suffix(".tables")
        if not place.exists():
            if sys.dont_write_bytecode or not grammar.exists():
                return None
            place.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, NotImplementedError):
        return None
    return place if os.access(place.parent, os.W_OK) or place.exists() else None
