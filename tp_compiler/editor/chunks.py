"""A text as top-level statements, each parsed once: an edit costs the statement that it changes, not the file.

The pieces are found line by line, so that a bracket that is not closed yet spoils its own statement and no other: a line
that can only begin a statement begins one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

from tp_compiler.diagnostics import Diagnostics, ProgramError, Source
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.parse import parse
from tp_compiler.frontend.scan import Lexeme, scan

#: Statements kept, those of earlier versions included.
MOST = 50_000
#: A line that ends in one of these continues on the next line (tokens.CONTINUES).
_CONTINUES = ("+", "-", "*", "/", "^", "=", "~", ":", ",", "..")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_COMMENT = re.compile(r'("[^"\n]*")|#.*')
#: Lines that begin a statement even if a bracket is open before them.
_BEGINS = re.compile(
    r"\s*(?:(?:axis|data|scalar|matrix|def|fn|optimizer|for|state|train)\s+[^\W\d]|ket\s*\||import\s+[\w\"])"
)


@dataclass(eq=False)
class Chunk:
    """One or several statements with the comments above them; places count from its start."""

    text: str
    file: ast.File
    sound: bool

    @cached_property
    def lexemes(self) -> list[Lexeme]:
        """Its words and signs."""
        return scan(self.text)


@lru_cache(MOST)
def chunk(text: str) -> Chunk:
    """The statements of a piece of text."""
    found = Diagnostics()
    source = Source("-", text)
    try:
        file = parse(source, found)
    except (RecursionError, ProgramError):  # nested too deeply: the check says so
        file, sound = ast.File(source, ()), False
    else:
        sound = not found.errors
    return Chunk(text, file, sound)


def split(text: str) -> list[str]:
    """The text in pieces that end where a top-level statement ends."""
    lines = _LINE.findall(text)
    found: list[str] = []
    start = 0
    while start < len(lines):
        end = _end(lines, start)
        found.append("".join(lines[start:end]))
        start = end
    return found


def _end(lines: list[str], start: int) -> int:
    """The line after the statement that begins at a line; empty lines and comments before it belong to it."""
    round_, square, braces = 0, 0, 0
    opened = start  # the line of the brace that opens the block
    for k in range(start, len(lines)):
        line = lines[k]
        if (round_ or square) and not braces and _BEGINS.match(line):
            return k
        if "#" in line:
            line = _COMMENT.sub(_string, line)
        line = line.rstrip()
        if not line:
            continue
        round_ = max(0, round_ + line.count("(") - line.count(")"))
        square = max(0, square + line.count("[") - line.count("]"))
        before, braces = braces, max(0, braces + line.count("{") - line.count("}"))
        if braces and not before:
            opened = k
        if (before and not braces) or not (round_ or square or braces or line.endswith(_CONTINUES)):
            return k + 1
    return len(lines) if not braces else opened + 1


def _string(found: re.Match[str]) -> str:
    """A comment is left out, a string is kept."""
    return found[1] or ""


def placed(text: str) -> Iterator[tuple[int, Chunk]]:
    """The pieces of a text with their places."""
    at = 0
    for piece in split(text):
        yield at, chunk(piece)
        at += len(piece)
