"""The text of a program with its comments, keywords, kets and numbers marked, as HTML."""

from __future__ import annotations

from html import escape

from tp_compiler.frontend.scan import INNER_WORDS, KET_SIGNS, STATEMENT_WORDS, Lexeme, covered, scan

_CLASSES = {
    **dict.fromkeys(STATEMENT_WORDS | INNER_WORDS, "keyword"),
    **dict.fromkeys(KET_SIGNS, "ket"),
    "COMMENT": "comment",
    "STRING": "string",
    "NUMBER": "number",
}


def highlighted(text: str) -> str:
    """Every character of the text, escaped, in its order."""
    return "".join(_marked(_class(piece), shown) for piece, shown in covered(scan(text), text))


def _class(piece: Lexeme | None) -> str:
    if piece is None:
        return ""
    return "ket" if piece.role == "ket" else _CLASSES.get(piece.kind, "")


def _marked(kind: str, shown: str) -> str:
    return f"<span class='{kind}'>{escape(shown)}</span>" if kind else escape(shown)
