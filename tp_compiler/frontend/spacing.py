"""The space between two neighbouring tokens of a statement; the rules are listed in format.py."""

from __future__ import annotations

from dataclasses import dataclass

from lark import Token

from tp_compiler.diagnostics import Source
from tp_compiler.frontend.tokens import OPERAND_ENDS

_PAIRS = {"RPAR": "LPAR", "RSQB": "LSQB", "RBRACE": "LBRACE"}
_ATOMS = ("NAME", "NUMBER")
_TIGHT_BEFORE = frozenset(
    ["COMMA", "SEMICOLON", "RPAR", "RSQB", "CLOSE", "BRA_END", "SEP", "PRIMES", "TRANSPOSE", "COPY", "CARET", "RANGE"]
)
_TIGHT_AFTER = frozenset(["LPAR", "LSQB", "KET_OPEN", "BRA_OPEN", "SEP", "CARET", "RANGE"])
_HEADS = ("DEF", "FN", "OPTIMIZER", "TILDE")


@dataclass(slots=True)
class Mark:
    """A token and what its spacing depends on: `place` is `index`, `row` (of a parametrization) or empty."""

    token: Token
    kind: str
    place: str
    sign: bool = False  # a unary + or -
    ket: bool = False  # the end of a ket
    index: bool = False  # an opening bracket of indices


def mark(tokens: list[Token]) -> list[Mark]:
    """The marks of one statement's tokens."""
    marks: list[Mark] = []
    stack: list[str] = []
    rows = tokens[0].type == "PARAMETRIZATION"
    for token in tokens:
        kind, before = token.type, marks[-1].kind if marks else ""
        opened = ""
        if kind in _PAIRS or kind in ("CLOSE", "BRA_END"):
            opened = stack.pop()
        innermost = stack[-1] if stack else ""
        place = "index" if innermost == "index" else "row" if rows and innermost == "LBRACE" else ""
        new = Mark(token, kind, place)
        new.sign = kind == "ADDOP" and before not in OPERAND_ENDS
        new.ket = opened == "KET_OPEN"
        new.index = kind == "LSQB" and before in ("NAME", "PRIMES")
        if kind in ("LPAR", "LSQB", "LBRACE", "KET_OPEN", "BRA_OPEN"):
            stack.append("index" if new.index else kind)
        marks.append(new)
    return marks


def gap(source: Source, marks: list[Mark], k: int) -> str:
    """The space between token k and the one before it, on one line."""
    if k == 0:
        return ""
    before, here = marks[k - 1], marks[k]
    if "RANGE" in (before.kind, here.kind):
        return _range_gap(marks, k if here.kind == "RANGE" else k - 1)
    if here.kind in _TIGHT_BEFORE or before.kind in _TIGHT_AFTER or before.sign or here.index:
        return ""
    if here.kind == "BRA_OPEN" and before.ket:
        return ""
    operators: tuple[str, ...] = ("ADDOP", "MULOP", "COMMA") if before.place == here.place == "index" else ()
    if here.place == before.place == "row":
        operators = ("EQUAL",)  # a=0
    if before.kind in operators or (here.kind in operators and not here.sign):
        return ""
    if here.kind == "LPAR":
        return _call_gap(source, marks, k)
    if here.kind == "MULOP" and _tight_division(source, marks, k):
        return ""
    if before.kind == "MULOP" and _tight_division(source, marks, k - 1):
        return ""
    return " "


def _range_gap(marks: list[Mark], dots: int) -> str:
    """`1..4`; a decimal point next to the dots would join them."""
    return " " if marks[dots - 1].token.endswith(".") or marks[dots + 1].token.startswith(".") else ""


def _call_gap(source: Source, marks: list[Mark], k: int) -> str:
    before = marks[k - 1]
    if before.kind == "PRIMES" or (before.kind == "NAME" and k >= 2 and marks[k - 2].kind in _HEADS):
        return ""
    if before.kind not in ("NAME", "RSQB"):
        return " "
    return " " if _spaced(source, before.token, marks[k].token) else ""


def _spaced(source: Source, first: Token, second: Token) -> bool:
    return first.end_pos != second.start_pos


def _tight_division(source: Source, marks: list[Mark], k: int) -> bool:
    """Is the operator at k a division to be written without spaces?"""
    if marks[k].token != "/" or k + 1 >= len(marks):
        return False
    left, right = marks[k - 1], marks[k + 1]
    if left.kind not in _ATOMS or right.kind not in _ATOMS:
        return False
    if k >= 2 and marks[k - 2].kind == "CARET":
        return False
    follows = marks[k + 2] if k + 2 < len(marks) else None
    if follows is not None and (follows.kind in ("CARET", "PRIMES", "TRANSPOSE", "COPY", "LPAR") or follows.index):
        return False
    if left.kind == right.kind == "NUMBER":
        return True
    return not (_spaced(source, left.token, marks[k].token) or _spaced(source, marks[k].token, right.token))
