"""The lexer for Pygments, which colours programs in Sphinx, MkDocs, LaTeX and notebooks: `nexort`, and `nexort-cell` for cells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pygments.lexer import Lexer
from pygments.lexers import PythonLexer, find_lexer_class_by_name
from pygments.token import (
    Comment,
    Error,
    Keyword,
    Name,
    Number,
    Operator,
    Punctuation,
    String,
    Whitespace,
    _TokenType,
)
from pygments.util import ClassNotFound

from tp_compiler.editor.colours import colour
from tp_compiler.frontend.scan import covered, scan

_TYPES: dict[str, _TokenType] = {
    "declaration": Keyword.Declaration,
    "keyword": Keyword,
    "import": Keyword.Namespace,
    "sign": Punctuation.Marker,
    "operator": Operator,
    "mark": Operator.Word,
    "punctuation": Punctuation,
    "comment": Comment.Single,
    "string": String.Double,
    "number": Number,
    "space": Whitespace,
    "function": Name.Builtin,
    "law": Name.Builtin,
    "constant": Name.Builtin.Pseudo,
    "optimizer": Name.Class,
    "layer": Name.Function,
    "call": Name.Function,
    "declared": Name.Variable,
    "ket": Name.Variable.Instance,
    "hatted": Name.Variable.Magic,
    "index": Name.Label,
    "argument": Name.Attribute,
    "name": Name,
    "error": Error,
}


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
        for lexeme, shown in covered(scan(text), text):
            yield at, Whitespace if lexeme is None else _TYPES[colour(lexeme)], shown
            at += len(shown)


class NexortCellLexer(Lexer):
    """Cells of notebooks: a program below `%%nexort`, otherwise IPython, or Python where that lexer is not installed."""

    name = "NEXORT notebook cell"
    aliases: ClassVar[list[str]] = ["nexort-cell"]
    filenames: ClassVar[list[str]] = []
    url = NexortLexer.url

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, _TokenType, str]]:
        """Every character of the text, in order: (place, type, text)."""
        if not text.lstrip().startswith("%%nexort"):
            yield from _python(self.options).get_tokens_unprocessed(text)
            return
        start = text.index("%%nexort")
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        if start:
            yield 0, Whitespace, text[:start]
        yield start, Comment.Preproc, text[start:end]
        yield from ((end + at, kind, shown) for at, kind, shown in NexortLexer().get_tokens_unprocessed(text[end:]))


def _python(options: dict[str, Any]) -> Lexer:
    try:
        return find_lexer_class_by_name("ipython3")(**options)
    except ClassNotFound:
        return PythonLexer(**options)
