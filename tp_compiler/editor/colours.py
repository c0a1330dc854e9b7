"""What colour a word or sign has: one rule for Pygments and for the semantic tokens of the language server."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from tp_compiler.editor.chunks import MOST, Chunk
from tp_compiler.editor.functions import words
from tp_compiler.editor.positions import TextLines
from tp_compiler.frontend.scan import DECLARATIONS, INNER_WORDS, KET_SIGNS, STATEMENT_WORDS, Lexeme

_KINDS = {
    **dict.fromkeys(STATEMENT_WORDS | INNER_WORDS, "keyword"),
    **dict.fromkeys((*DECLARATIONS, "PARAMETRIZATION"), "declaration"),
    **dict.fromkeys((*KET_SIGNS, "BAR", "LANGLE", "RANGLE"), "sign"),
    **dict.fromkeys(("ADDOP", "MULOP", "CARET", "ASSIGN", "EQUAL", "TILDE", "RANGE"), "operator"),
    **dict.fromkeys(("COMMA", "SEMICOLON", "COLON", "LPAR", "RPAR", "LSQB", "RSQB", "LBRACE", "RBRACE"), "punctuation"),
    **dict.fromkeys(("TRANSPOSE", "COPY", "PRIMES"), "mark"),
    "IMPORT": "import",
    "COMMENT": "comment",
    "STRING": "string",
    "NUMBER": "number",
    "NEWLINE": "space",
    "STRAY": "error",
}
#: Accents above a letter: in printed equations |x̂⟩ is the hat of a product and |ẋ⟩ its dot.
_ACCENTS = ("\u0302", "\u0307")
#: The types of semantic tokens, in the order of their numbers, and the colours that have one.
TYPES = (
    "keyword", "variable", "function", "class", "number", "string", "comment", "operator", "property", "enumMember",
    "parameter",
)  # fmt: skip
_TYPES = {
    "declaration": "keyword", "keyword": "keyword", "import": "keyword", "ket": "variable", "hatted": "variable",
    "sign": "operator", "mark": "operator", "function": "function", "layer": "function", "call": "function",
    "law": "function", "optimizer": "class", "constant": "enumMember", "index": "enumMember", "argument": "parameter",
    "declared": "property", "number": "number", "string": "string", "comment": "comment",
}  # fmt: skip


def colour(lexeme: Lexeme) -> str:
    """The colour of a lexeme: a kind of word or sign. A name of the language has the colour of its kind in `Word`."""
    if lexeme.kind != "NAME":
        return _KINDS.get(lexeme.kind, "error")
    if any(accent in unicodedata.normalize("NFD", lexeme.text) for accent in _ACCENTS):
        return "hatted"
    word = words().get(lexeme.text)
    if word is not None and (
        lexeme.role in ("call", "law") or (not lexeme.role and "(" not in word.form)
    ):  # pi, delta[i,j]
        return word.kind
    return "argument" if lexeme.role == "keyword" else lexeme.role or "name"


@lru_cache(MOST)
def _tokens(chunk: Chunk, encoding: str) -> tuple[list[tuple[int, int, int, int]], int]:
    """(line, column, length, type) of the coloured words of a chunk, and the number of its lines."""
    lines = TextLines(chunk.text, encoding)
    found = []
    for lexeme in chunk.lexemes:
        kind = _TYPES.get(colour(lexeme))
        if kind is not None:
            line, column = lines.place(lexeme.start)
            length = lines.place(lexeme.end)[1] - column
            found.append((line, column, length, TYPES.index(kind)))
    return found, chunk.text.count("\n")


def semantic_tokens(chunks: list[tuple[int, Chunk]], encoding: str = "utf-16") -> list[int]:
    """The tokens of a text as the protocol wants them: five numbers each, places relative to the token before."""
    data: list[int] = []
    first, line_before, column_before = 0, 0, 0
    for _, chunk in chunks:
        found, count = _tokens(chunk, encoding)
        for line, column, length, kind in found:
            line += first
            moved = line - line_before
            data += (moved, column if moved else column - column_before, length, kind, 0)
            line_before, column_before = line, column
        first += count
    return data
