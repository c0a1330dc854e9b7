"""The lexer for Pygments, which colours programs in Sphinx, MkDocs, LaTeX and notebooks: `nexort`, and `nexort-cell` for cells."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import ClassVar

from pygments.lexer import Lexer
from pygments.lexers import PythonLexer
from pygments.token import (
    Comment,
    Error,
    Keyword,
    Name,
    Number,
    Operator,
    Punctuation,
    String,
    Text,
    Whitespace,
    _TokenType,
)

from tp_compiler.editor.functions import words
from tp_compiler.frontend.scan import INNER_WORDS, KET_SIGNS, STATEMENT_WORDS, Lexeme, covered, scan

#: Keywords that declare a name.
_DECLARING = frozenset(
    ["AXIS", "WIDTH", "DATA", "SCALAR", "KET", "MATRIX", "DEF", "FN", "OPTIMIZER", "STATE", "PARAMETRIZATION"]
)
_KINDS: dict[str, _TokenType] = {
    **dict.fromkeys(STATEMENT_WORDS, Keyword),
    **dict.fromkeys(INNER_WORDS, Keyword),
    **dict.fromkeys(_DECLARING, Keyword.Declaration),
    **dict.fromkeys(KET_SIGNS, Punctuation.Marker),
    **dict.fromkeys(("ADDOP", "MULOP", "CARET", "ASSIGN", "EQUAL", "TILDE", "RANGE"), Operator),
    **dict.fromkeys(("COMMA", "SEMICOLON", "COLON", "LPAR", "RPAR", "LSQB", "RSQB", "LBRACE", "RBRACE"), Punctuation),
    "IMPORT": Keyword.Namespace,
    "BAR": Punctuation.Marker,
    "LANGLE": Punctuation.Marker,
    "RANGLE": Punctuation.Marker,
    "TRANSPOSE": Operator.Word,
    "COPY": Operator.Word,
    "PRIMES": Operator.Word,
    "COMMENT": Comment.Single,
    "STRING": String.Double,
    "NUMBER": Number,
    "NEWLINE": Whitespace,
    "STRAY": Error,
}
#: What the language defines.
_WORDS: dict[str, _TokenType] = {
    "function": Name.Builtin,
    "law": Name.Builtin,
    "constant": Name.Builtin.Pseudo,
    "optimizer": Name.Class,
    "layer": Name.Function,
}
_ROLES: dict[str, _TokenType] = {
    "declared": Name.Variable,
    "call": Name.Function,
    "ket": Name.Variable.Instance,
    "index": Name.Label,
    "keyword": Name.Attribute,
}
#: Accents above a letter: in printed equations |x̂⟩ is the hat of a product and |ẋ⟩ its dot.
_HAT, _DOT = "\u0302", "\u0307"


class NexortLexer(Lexer):
    """Programs. Words of the language come from its own tables."""

    name = "NEXORT"
    aliases: ClassVar[list[str]] = ["nexort"]
    filenames: ClassVar[list[str]] = ["*.nexort"]
    mimetypes: ClassVar[list[str]] = ["text/x-nexort"]
    url = "https://arxiv.org/abs/2308.01814"

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, _TokenType, str]]:
        """Every character of the text, in order: (place, type, text)."""
        at = 0
        for piece, shown in covered(scan(text), text):
            yield at, _type(piece), shown
            at += len(shown)


class NexortCellLexer(Lexer):
    """Cells of notebooks: a program below `%%nexort`, otherwise Python."""

    name = "NEXORT notebook cell"
    aliases: ClassVar[list[str]] = ["nexort-cell"]
    filenames: ClassVar[list[str]] = []
    url = NexortLexer.url

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, _TokenType, str]]:
        """Every character of the text, in order: (place, type, text)."""
        if not text.lstrip().startswith("%%nexort"):
            yield from PythonLexer(**self.options).get_tokens_unprocessed(text)
            return
        start = text.index("%%nexort")
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        if start:
            yield 0, Whitespace, text[:start]
        yield start, Comment.Preproc, text[start:end]
        yield from ((end + at, kind, shown) for at, kind, shown in NexortLexer().get_tokens_unprocessed(text[end:]))


def _type(piece: Lexeme | None) -> _TokenType:
    if piece is None:
        return Text.Whitespace
    if piece.kind != "NAME":
        return _KINDS.get(piece.kind, Text)
    if any(accent in unicodedata.normalize("NFD", piece.text) for accent in (_HAT, _DOT)):
        return Name.Variable.Magic
    word = words().get(piece.text)
    if word is not None and piece.role in ("call", "law", ""):
        return _WORDS[word.kind]
    return _ROLES.get(piece.role, Name)
