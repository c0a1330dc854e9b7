"""What is open before a place of a statement: brackets, the label of a ket, the call whose argument is being written."""

from __future__ import annotations

from dataclasses import dataclass

from tp_compiler.editor.program import Open
from tp_compiler.editor.uses import words_in
from tp_compiler.frontend.scan import Lexeme, scan
from tp_compiler.frontend.tokens import CONTINUES, KEYWORDS


@dataclass(slots=True)
class _Bracket:
    """An open bracket: its kind (`call`, `index`, `list` or `label`), whether bare names in it may be kets, the function
    of a call, and the number of the argument or, in a label, of the part."""

    kind: str = ""
    label: bool = False
    call: str = ""
    part: int = 0


@dataclass(slots=True)
class Surroundings:
    """The statement before a place, without the word that ends there, where that word begins, and the innermost bracket."""

    line: list[Lexeme]
    start: int
    bracket: _Bracket

    @property
    def head(self) -> str:
        """The kind of the first word; a keyword is one before what it needs is written."""
        if len(self.line) == 1 and self.line[0].text in KEYWORDS:
            return KEYWORDS[self.line[0].text][0]
        return self.line[0].kind if self.line else ""

    @property
    def last(self) -> str:
        """The kind of the word or sign before the place."""
        return self.line[-1].kind if self.line else ""


def context(program: Open, offset: int) -> Surroundings:
    """The context of the word that ends at an offset."""
    found = program.symbols.chunk_at(max(0, offset - 1))
    first, start = found[0] if found is not None else 0, word_start(program, offset)
    line = _statement([x for x in scan(program.text[first:start]) if x.kind != "COMMENT"])
    return Surroundings(line, start, _innermost(line))


def word_start(program: Open, offset: int) -> int:
    """The start of the word that ends at an offset."""
    line = program.text.rfind("\n", 0, offset) + 1
    return next((start for _, start, end in words_in(program.text, line, offset) if end == offset), offset)


def _statement(lexemes: list[Lexeme]) -> list[Lexeme]:
    """Those of the last statement: after the last line break, brace or semicolon that ends one."""
    start, depth = 0, 0
    for k, lexeme in enumerate(lexemes):
        depth = max(0, depth + lexeme.nests)
        ends = lexeme.kind in ("NEWLINE", "SEMICOLON") and depth == 0
        if ends and k and lexeme.kind == "NEWLINE" and lexemes[k - 1].kind in CONTINUES:
            ends = False
        if ends or lexeme.kind in ("LBRACE", "RBRACE"):
            start, depth = k + 1, 0
    return [x for x in lexemes[start:] if x.kind != "NEWLINE"]


def _innermost(line: list[Lexeme]) -> _Bracket:
    opened: list[_Bracket] = []
    for k, lexeme in enumerate(line):
        inside = opened[-1] if opened else _Bracket()
        if lexeme.kind == "LPAR":
            opened.append(_Bracket("call", inside.label, _called(line, k)))
        elif lexeme.kind == "LSQB":
            indexes = k > 0 and line[k - 1].kind in ("NAME", "PRIMES")
            opened.append(_Bracket("index" if indexes else "list"))
        elif lexeme.kind in ("KET_OPEN", "BRA_OPEN", "BAR", "LANGLE"):
            opened.append(_Bracket("label", True))
        elif lexeme.kind == "SEP" or (
            lexeme.kind == "BRA_END" and k + 1 == len(line)
        ):  # what follows is not written yet
            inside.part += 1
        elif lexeme.kind in ("RPAR", "RSQB", "CLOSE", "BRA_END") and opened:
            opened.pop()
        elif lexeme.kind in ("COMMA", "SEMICOLON") and inside.kind == "call":
            inside.part += 1
    return opened[-1] if opened else _Bracket()


def _called(line: list[Lexeme], k: int) -> str:
    """The function whose parenthesis is the k-th sign."""
    k -= 1
    if k >= 0 and line[k].kind == "RSQB":
        depth = 0
        while k >= 0:
            depth += (line[k].kind == "RSQB") - (line[k].kind == "LSQB")
            k -= 1
            if depth == 0:
                break
    if k >= 0 and line[k].kind == "PRIMES":
        k -= 1
    return line[k].text if k >= 0 and line[k].kind == "NAME" else ""
