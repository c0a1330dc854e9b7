"""Every word and sign of a text with its role, for editors and colours: mistakes in a statement hide nothing.

Where a statement is sound, the layout of tokens.py has decided what is a keyword, a ket or a bracket. The tokens of
other statements are guessed from their neighbours, so that a line that is being written has its colours already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tp_compiler.diagnostics import Diagnostics, Source
from tp_compiler.frontend.parse import raw_tokens
from tp_compiler.frontend.tokens import AFTER_BRA, INNER, KEYWORDS, OPERAND_ENDS, Layout

#: Types of tokens that are words of statements.
STATEMENT_WORDS = frozenset(kind for kind, _ in KEYWORDS.values())
INNER_WORDS = frozenset(kind for words in INNER.values() for kind, _ in words.values()) | {"CLT"}
#: The signs of bras and kets.
KET_SIGNS = frozenset(["KET_OPEN", "BRA_OPEN", "SEP", "BRA_END", "CLOSE"])
#: Words of statements that declare a name.
DECLARATIONS = frozenset(["AXIS", "WIDTH", "DATA", "SCALAR", "KET", "MATRIX", "DEF", "FN", "OPTIMIZER", "STATE"])
_BEFORE_A_NAME = (DECLARATIONS - {"KET"}) | {"FOR"}
#: Where a line, or a part of it, ends.
ENDS = frozenset(["NEWLINE", "SEMICOLON", "LBRACE", "RBRACE"])


@dataclass(slots=True)
class Lexeme:
    """A token or comment. `kind` is its terminal in the grammar; `role` says more of a NAME.

    Roles: `declared` by a keyword before it, `law` after `~`, `call` before its arguments, `ket` in a label, `index` in
    brackets, `keyword` of an argument, otherwise empty.
    """

    kind: str
    text: str
    start: int
    role: str = ""

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def nests(self) -> int:
        """1 for a parenthesis or bracket that opens, -1 for one that closes, otherwise 0."""
        return (self.kind in ("LPAR", "LSQB")) - (self.kind in ("RPAR", "RSQB"))


def scan(text: str) -> list[Lexeme]:
    """The pieces of a text in their order. What is between them is white space."""
    source, found = Source("-", text), Diagnostics()
    raw, comments = raw_tokens(source, found)
    pieces = [Lexeme(t.type, text[t.start_pos : t.end_pos], t.start_pos or 0) for t in raw]
    sound = {t.start_pos: t.type for tokens in Layout(source, raw, found).statements() for t in tokens if t}
    for statement in _statements(pieces):
        if all(p.start in sound for p in statement if p.kind not in ENDS):
            for piece in statement:
                piece.kind = sound.get(piece.start, piece.kind)
        else:
            _guess(statement)
    _find_roles(pieces)
    pieces += [Lexeme("COMMENT", comment, start) for start, comment in comments]
    pieces.sort(key=lambda p: p.start)
    return pieces


def _statements(pieces: list[Lexeme]) -> Iterator[list[Lexeme]]:
    """Lines, and parts of lines up to a brace or a semicolon."""
    found: list[Lexeme] = []
    for piece in pieces:
        found.append(piece)
        if piece.kind in ENDS:
            yield found
            found = []
    yield found


def _guess(pieces: list[Lexeme]) -> None:
    """Keywords at the start, and bras and kets from left to right."""
    opened: list[list[int]] = []  # of each ket or bra that is open: 1 if it is a bra, and its bars so far
    for k, piece in enumerate(pieces):
        following = pieces[k + 1].kind if k + 1 < len(pieces) else "$END"
        if piece.kind == "LANGLE":
            opened.append([1, 0])
            piece.kind = "BRA_OPEN"
        elif piece.kind == "RANGLE" and opened:
            opened.pop()
            piece.kind = "CLOSE"
        elif piece.kind == "BAR" and not (opened and opened[-1][0]):
            opened.append([0, 0])
            piece.kind = "KET_OPEN"
        elif piece.kind == "BAR":
            opened[-1][1] += 1
            last = opened[-1][1] == 1 and following in AFTER_BRA
            piece.kind = "BRA_END" if last else "SEP"
            if last:
                opened.pop()
        elif piece.kind == "NAME":
            piece.kind = _word(pieces, k)


def _word(pieces: list[Lexeme], k: int) -> str:
    """The kind of a name: a keyword at the start of a statement or, inside it, after an operand."""
    text = pieces[k].text
    if text == "clt":
        return "CLT"
    if k == 0 and text in KEYWORDS:
        return KEYWORDS[text][0]
    if k and pieces[k - 1].kind in OPERAND_ENDS:
        return INNER.get(pieces[0].kind, {}).get(text, ("NAME", None))[0]
    return "NAME"


# ------------------------------------------------------------------------------------------------------- roles
@dataclass(slots=True)
class _Bracket:
    """What is open: its token, whether bare names inside are kets, and the bars of a bra that are still to come."""

    kind: str
    label: bool = False
    bars: int = 0


def _find_roles(pieces: list[Lexeme]) -> None:
    """Fills in the roles of names."""
    bars = _bars(pieces)
    opened: list[_Bracket] = []
    for k, piece in enumerate(pieces):
        kind = piece.kind
        inside = opened[-1] if opened else _Bracket("")
        if kind in ("LPAR", "KET_OPEN", "BRA_OPEN"):
            opened.append(_Bracket(kind, kind != "LPAR" or inside.label, bars.get(k, 0)))
        elif kind == "LSQB":
            indexes = k > 0 and pieces[k - 1].kind in ("NAME", "PRIMES")
            opened.append(_Bracket("INDEX" if indexes else kind))
        elif kind in ("RPAR", "RSQB", "CLOSE", "BRA_END"):
            if opened:
                opened.pop()
        elif kind == "SEP":  # <x|W|y>: between the bars are operators
            inside.bars -= 1
            inside.label = inside.bars == 0
        elif kind in ENDS:
            if not _goes_on(pieces, k, inside):
                opened.clear()
        elif kind == "NAME":
            piece.role = _role(pieces, k, inside)


def _goes_on(pieces: list[Lexeme], k: int, inside: _Bracket) -> bool:
    """Does the statement go on after this line break or semicolon?"""
    if pieces[k].kind == "SEMICOLON":
        return inside.kind == "LPAR"
    following = pieces[k + 1].kind if k + 1 < len(pieces) else "$END"
    return pieces[k].kind == "NEWLINE" and inside.kind in ("LPAR", "LSQB", "INDEX") and following not in STATEMENT_WORDS


def _bars(pieces: list[Lexeme]) -> dict[int, int]:
    """The bars of each bra or bracket."""
    found: dict[int, int] = {}
    opened: list[int] = []
    for k, piece in enumerate(pieces):
        if piece.kind in ("KET_OPEN", "BRA_OPEN"):
            opened.append(k)
            found[k] = 0
        elif piece.kind == "SEP" and opened:
            found[opened[-1]] += 1
        elif piece.kind in ("CLOSE", "BRA_END") and opened:
            opened.pop()
    return found


def _role(pieces: list[Lexeme], k: int, inside: _Bracket) -> str:
    before, after = _neighbour(pieces, k, -1, inside), _neighbour(pieces, k, 1, inside)
    if before in _BEFORE_A_NAME or (before == "COMMA" and not inside.kind and _head(pieces, k) == "AXIS"):
        return "declared"
    if before == "TILDE" and not inside.kind:
        return "law"
    if _calls(pieces, k):
        return "call"
    if inside.label:
        return "ket"
    if inside.kind == "INDEX":
        return "index"
    if inside.kind == "LPAR" and after == "EQUAL" and before in ("LPAR", "COMMA"):
        return "keyword"
    return ""


def _neighbour(pieces: list[Lexeme], k: int, step: int, inside: _Bracket) -> str:
    """The kind of the piece before or after this one, across line breaks inside a bracket."""
    k += step
    while inside.kind and 0 <= k < len(pieces) and pieces[k].kind == "NEWLINE":
        k += step
    return pieces[k].kind if 0 <= k < len(pieces) else "NEWLINE"


def _head(pieces: list[Lexeme], k: int) -> str:
    """The kind of the first piece of a statement."""
    while k and pieces[k - 1].kind not in ENDS:
        k -= 1
    return pieces[k].kind


def _calls(pieces: list[Lexeme], k: int) -> bool:
    """Does `(` follow, after primes or brackets?"""
    k += 1
    if k < len(pieces) and pieces[k].kind == "PRIMES":
        k += 1
    if k < len(pieces) and pieces[k].kind == "LSQB":
        depth = 0
        while k < len(pieces) and pieces[k].kind not in ENDS:
            depth += (pieces[k].kind == "LSQB") - (pieces[k].kind == "RSQB")
            k += 1
            if depth == 0:
                break
    return k < len(pieces) and pieces[k].kind == "LPAR"


def covered(pieces: Iterable[Lexeme], text: str) -> Iterator[tuple[Lexeme | None, str]]:
    """Every character of the text in its order: pieces, and the white space between them (None)."""
    at = 0
    for piece in pieces:
        if piece.start > at:
            yield None, text[at : piece.start]
        yield piece, piece.text
        at = piece.end
    if at < len(text):
        yield None, text[at:]
