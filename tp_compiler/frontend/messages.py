"""The parser's messages for tokens that do not fit the grammar."""

from __future__ import annotations

from itertools import pairwise

from lark import Token
from lark.exceptions import UnexpectedToken

from tp_compiler.diagnostics import Diagnostic, Source, Span
from tp_compiler.frontend.tokens import CONTINUES, OPENS_OPERAND, OPERAND_ENDS, span_of

_SHOWN = {
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": "a string",
    "KET_OPEN": "a ket",
    "BRA_OPEN": "a bra or bracket",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "EQUAL": "`=`",
    "COLON": "`:`",
    "TILDE": "`~`",
    "COMMA": "`,`",
    "CLOSE": "`>`",
    "RANGE": "`..`",
    "IN": "`in`",
    "WITH": "`with`",
    "ASSIGN": "`:=`",
    "END": "the end of the line",
    "$END": "the end of the line",
    "ADDOP": "`+` or `-`",
    "MULOP": "`*` or `/`",
}
_OPERAND = {"NAME", "NUMBER", "LPAR"}
_BINDERS = {"EQUAL", "ASSIGN", "TILDE", "COLON"}
_USAGE = {
    "nexort": "nexort 1",
    "ket": "ket |u> ~ N(0, 1)",
    "matrix": "matrix W ~ N(0, 1)",
    "axis": "axis i : 4",
    "data": "data y[i] = [1, 2]",
    "import": 'import "file.nexort"` or `import layers',
    "for": "for l in 1..3 { ... }",
    "def": "def f(|x>) { ... }",
    "train": "train steps = 10 { ... }",
}
_COMPARE = "use `step(a - b)`, `max` or `where(c, a, b)`; there are no comparison operators"


def explain(source: Source, error: UnexpectedToken, tokens: list[Token]) -> Diagnostic:
    """The diagnostic of a token that the grammar does not allow in its place."""
    token, expected = error.token, set(error.accepts or error.expected)
    at_end = token.type in ("END", "$END", "RBRACE")
    statement, at = _around(tokens, token)
    return (
        _misread_line(source, statement, at)
        or _no_statement(source, statement, at)
        or _plain(source, token, expected, at_end, statement)
    )


def _around(tokens: list[Token], token: Token) -> tuple[list[Token], int]:
    """The innermost statement that contains the token, and the token's place in it."""
    at = next((k for k, x in enumerate(tokens) if x is token), len(tokens))
    start = max((k + 1 for k in range(at) if tokens[k].type in ("END", "LBRACE", "RBRACE")), default=0)
    ends = (k for k in range(at, len(tokens)) if tokens[k].type in ("END", "LBRACE", "RBRACE"))
    return tokens[start : next(ends, len(tokens))], at - start


def _misread_line(source: Source, statement: list[Token], at: int) -> Diagnostic | None:
    """A second `=`: a comparison, or a line that ends in an operator and so swallowed the next."""
    if at >= len(statement) or statement[at].type != "EQUAL":
        return None
    if any(x.type == "EQUAL" for x in (*statement[max(at - 1, 0) : at], *statement[at + 1 : at + 2])):
        return Diagnostic("NX020", "`==` is not an operator", span_of(source, statement[at]), _COMPARE)
    for one, two in pairwise(statement[: at + 1]):
        if one.type in CONTINUES and (two.line or 0) > (one.line or 0):
            message = f"this line ends in `{one}`, so the next line continues it"
            return Diagnostic("NX020", message, span_of(source, one), "complete the line")
    return None


def _no_statement(source: Source, statement: list[Token], at: int) -> Diagnostic | None:
    """A keyword that does not fit what follows it, an expression alone, or a left-hand side that cannot be bound."""
    if not statement or statement[0].type not in OPENS_OPERAND:
        return None
    if at == 1 and statement[0] in _USAGE and statement[at : at + 1] and statement[1].type in OPENS_OPERAND:
        message = f"unexpected `{statement[1]}` after `{statement[0]}`"
        return Diagnostic(
            "NX020", message, span_of(source, statement[1]), f"write, for example, `{_USAGE[statement[0]]}`"
        )
    binder = _binder(statement)
    if binder is None and _is_expression(statement, at):
        span = span_of(source, statement[0]).to(span_of(source, statement[-1]))
        remedy = "bind it, `|y> = ...` or `c = ...`, or report it with `output ...`"
        return Diagnostic("NX021", "an expression is not a statement on its own", span, remedy)
    if binder is not None and binder > at and statement[binder].type == "EQUAL":
        span = span_of(source, statement[0]).to(span_of(source, statement[binder - 1]))
        remedy = "bind a name, `c[i]`, or a named ket, `|x[i]>`; define functions as `fn f(z) = ...`"
        return Diagnostic("NX025", "this cannot be bound", span, remedy)
    return None


def _binder(statement: list[Token]) -> int | None:
    """The first `=`, `:=`, `~` or `:` outside brackets."""
    depth = 0
    for k, token in enumerate(statement):
        depth += (token.type in ("LPAR", "LSQB")) - (token.type in ("RPAR", "RSQB"))
        if depth == 0 and token.type in _BINDERS:
            return k
    return None


def _is_expression(statement: list[Token], at: int) -> bool:
    """Was the parser stopped because a statement is expected, not by a mistake inside the expression?"""
    if at >= len(statement):
        return statement[-1].type in OPERAND_ENDS
    here, before = statement[at].type, statement[at - 1].type if at else ""
    operator = here in ("ADDOP", "MULOP", "CARET", "TRANSPOSE", "COPY") and before in OPERAND_ENDS
    return operator or here in OPENS_OPERAND


#: Doubled operators of other languages, and what to write instead.
_DOUBLED = {"**": "write powers as `x^2`", "//": "divide with `/`"}


def _plain(source: Source, token: Token, expected: set[str], at_end: bool, statement: list[Token]) -> Diagnostic:
    start = token.start_pos or 0
    doubled = source.text[start - 1 : start + 1]
    if doubled in _DOUBLED:
        span = Span(source, start - 1, start + 1)
        return Diagnostic("NX020", f"`{doubled}` is not an operator", span, _DOUBLED[doubled])
    span = span_of(source, statement[-1] if at_end and statement else token)
    shown = "the statement ends here" if at_end else f"unexpected `{token}`"
    if expected >= _OPERAND:
        return Diagnostic("NX020", f"{shown}: expected an expression", span, "write a scalar, ket or operator here")
    names = sorted({_SHOWN[e] for e in expected if e in _SHOWN} - {"`+` or `-`", "`*` or `/`"})
    due = " or ".join(names[:4]) if names else "another token"
    return Diagnostic("NX020", shown, span, f"write {due} here")
