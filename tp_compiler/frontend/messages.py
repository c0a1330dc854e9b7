"""The parser's messages for tokens that do not fit the grammar."""

from __future__ import annotations

import re
from itertools import pairwise

from lark import Token
from lark.exceptions import UnexpectedToken

from tp_compiler.diagnostics import Diagnostic, Source, Span
from tp_compiler.frontend.habits import instead
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
#: Statements with a body.
_BLOCKS = {"FOR", "DEF", "TRAIN", "OPTIMIZER"}
_COMPARE = "use `step(a - b)`, `max` or `where(c, a, b)`; there are no comparison operators"


def explain(source: Source, error: UnexpectedToken, tokens: list[Token]) -> Diagnostic:
    """The diagnostic of a token that the grammar does not allow in its place."""
    token, expected = error.token, set(error.accepts or error.expected)
    at_end = token.type in ("END", "$END", "RBRACE")
    statement, at = _around(tokens, token)
    closed = statement if at < len(statement) else [*statement, token]
    return (
        _misread_line(source, statement, at)
        or _of_another_language(source, closed, at)
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


def _of_another_language(source: Source, statement: list[Token], at: int) -> Diagnostic | None:
    """Python's way to write what NEXORT writes otherwise: the first reader of `_READERS` that knows the place."""
    here = span_of(source, statement[at])
    for reader in _READERS:
        found = reader(source, statement, at)
        if found is not None:
            message, remedy, *place = found
            return Diagnostic("NX020", message, place[0] if place else here, remedy)
    return None


#: A message, a remedy and, if it is not the token, the place.
Reading = tuple[str, str] | tuple[str, str, Span] | None


def _block(source: Source, statement: list[Token], at: int) -> Reading:
    """`for i in range(3):`, `def f(x):`, `for i in 1:3 {`."""
    first, token = statement[0], statement[at]
    if first.type not in _BLOCKS or token.type not in ("COLON", "LBRACE", "END", "$END"):
        return None
    if _opened(statement, at):
        return None
    head = Span(source, span_of(source, first).start, span_of(source, token).start).text.strip()
    ranged = re.sub(r"\brange\s*\((.*)\)", _positions, head)
    follows = statement[at + 1] if at + 1 < len(statement) else None
    if token.type == "COLON" and first.type == "FOR" and follows is not None and follows.line == first.line:
        return "`:` does not make a range", "write `for l in 1..3 { ... }`; both ends are included"
    if ranged != head:
        return (
            "`range` is not a function",
            f"write `{ranged} {{ ... }}`; positions count from 1, and both ends are included",
        )
    if token.type == "COLON":
        return "unexpected `:`", f"write the body in braces: `{head} {{ ... }}`"
    return None


def _positions(found: re.Match[str]) -> str:
    """The positions that stand for `range(3)` or `range(1, 4)`."""
    first, _, last = found[1].rpartition(",")
    return f"{first.strip() or '1'}..{last.strip()}"


def _opened(statement: list[Token], at: int) -> list[int]:
    """The places of the parentheses and brackets that are open before a token, the innermost last."""
    opened: list[int] = []
    for k, token in enumerate(statement[:at]):
        if token.type in ("LPAR", "LSQB"):
            opened.append(k)
        elif token.type in ("RPAR", "RSQB") and opened:
            opened.pop()
    return opened


def _innermost(statement: list[Token], at: int) -> str:
    """The kind of the bracket that is open before a token."""
    opened = _opened(statement, at)
    return statement[opened[-1]].type if opened else ""


def _list(source: Source, statement: list[Token], at: int) -> Reading:
    if statement[at].type != "LSQB" or at == 0:
        return None
    name = statement[0] if statement[0].type == "NAME" and at > 1 and statement[1].type in ("EQUAL", "LSQB") else ""
    remedy = f"numbers are data over an axis: `axis i : 3` and `data {name or 'c'}[i] = [1, 2, 3]`"
    if statement[0].type == "KET":
        remedy += "; a constant ket is a multiple of `|1>`: `|x[i]> = c[i] |1>`"
    return "a list of numbers is not an expression", remedy


def _slice(source: Source, statement: list[Token], at: int) -> Reading:
    if statement[at].type != "COLON" or _innermost(statement, at) != "LSQB":
        return None
    return "there are no slices", "write an index name, which runs over all positions, `x[i]`, or one position, `x[2]`"


def _tuple(source: Source, statement: list[Token], at: int) -> Reading:
    if statement[at].type != "COMMA" or _innermost(statement, at) != "LPAR":
        return None
    opened = _opened(statement, at)[-1]
    keyword = statement[opened - 2] if opened > 1 and statement[opened - 1].type == "EQUAL" else ""
    numbers = [str(t) for t in statement[opened + 1 :] if t.type == "NUMBER"]
    if keyword == "betas" and at == opened + 2 and len(numbers) >= 2:
        return "there are no tuples", f"write `beta1 = {numbers[0]}, beta2 = {numbers[1]}`"
    return "there are no tuples", "pass the numbers one by one, each by its name"


def _inner(source: Source, statement: list[Token], at: int) -> Reading:
    """`<x, y>`."""
    if statement[at].type != "COMMA":
        return None
    opened = max((k for k in range(at) if statement[k].type == "BRA_OPEN"), default=None)
    if opened is None or any(t.type in ("CLOSE", "BAR") for t in statement[opened:at]):
        return None
    close = next((k for k in range(at, len(statement)) if statement[k].type == "CLOSE"), None)
    shown = "<x|y>"
    if close is not None:
        shown = Span(source, span_of(source, statement[opened]).start, span_of(source, statement[close]).end).text
        shown = re.sub(r"\s*,\s*", "|", shown, count=1)
    return "inner products have no comma", f"write `{shown}`: x.y / n is `<x|y>`"


def _one_line(source: Source, statement: list[Token], at: int) -> Reading:
    """`def f(z) = z^2`."""
    if statement[0].type != "DEF" or statement[at].type != "EQUAL":
        return None
    head = Span(source, span_of(source, statement[1]).start, span_of(source, statement[at]).start).text.strip()
    return (
        "`def` takes a body in braces",
        f"write `fn {head} = ...` for a function of numbers, applied entrywise to kets",
    )


def _law(source: Source, statement: list[Token], at: int) -> Reading:
    if statement[at].type != "EQUAL" or not any(t.type == "TILDE" for t in statement[:at]):
        return None
    keyword, value = statement[at - 1], statement[at + 1 : at + 2]
    if keyword in ("std", "sigma", "scale", "stddev", "sd") and value and value[0].type == "NUMBER":
        return (
            "distributions have no keywords",
            f"write `N(mean, variance)`: a {keyword} of {value[0]} is the variance {float(value[0]) ** 2:g}",
        )
    return "distributions have no keywords", "write `N(mean, variance)`"


def _shape(source: Source, statement: list[Token], at: int) -> Reading:
    if (
        statement[0].type not in ("MATRIX", "KET")
        or statement[at].type != "NUMBER"
        or statement[at - 1].type not in ("COLON", "BY")
    ):
        return None
    remedy = "leave the sizes out: `tpc simulate --width 512` sets n; declare other widths as `width m = 2`, m/n -> 2"
    return "widths are not numbers", remedy


def _declared(source: Source, statement: list[Token], at: int) -> Reading:
    """`axis i = 3`, `matrix W = N(0, 1)`, `data x = "a.npy"`."""
    token, head = statement[at], statement[0].type
    if token.type == "EQUAL" and head in ("AXIS", "MATRIX"):
        sign, what = (":", "the size of an axis follows") if head == "AXIS" else ("~", "a distribution follows")
        return (
            f"unexpected `=`: {what} `{sign}`",
            "write `axis i : 4`" if head == "AXIS" else "write `matrix W ~ N(0, 1)`",
        )
    if token.type == "STRING" and head == "DATA" and statement[at - 1].type == "EQUAL":
        written = Span(
            source, span_of(source, statement[0]).start, span_of(source, statement[at - 1]).start
        ).text.strip()
        return "data from a file have no `=`", f"write `{written} from {token}`"
    return None


def _comment(source: Source, statement: list[Token], at: int) -> Reading:
    if at != 0 or statement[0] not in ("/", "*"):
        return None
    return f"unexpected `{statement[0]}`", "start comments with `#`"


def _optimizer(source: Source, statement: list[Token], at: int) -> Reading:
    if statement[0].type != "UPDATE" or any(t.type == "WITH" for t in statement[:at]):
        return None
    written = Span(source, span_of(source, statement[0]).start, span_of(source, statement[at]).start).text.strip()
    if statement[at].type in ("END", "$END", "RBRACE"):
        return "the update names no optimizer", f"write `{written} with SGD(lr = 0.1)`", span_of(source, statement[0])
    return None


def _compound(source: Source, statement: list[Token], at: int) -> Reading:
    """`x += y`."""
    equal = _binder(statement)
    if equal is None or equal < 2 or statement[equal - 1].type not in ("ADDOP", "MULOP", "CARET"):
        return None
    sign, target = (
        span_of(source, statement[equal - 1]),
        span_of(source, statement[0]).to(span_of(source, statement[equal - 2])),
    )
    if sign.end != span_of(source, statement[equal]).start or at > equal:
        return None
    return (
        f"`{sign.text}=` is not an operator",
        f"write `{target.text} = {target.text} {sign.text} ...`",
        sign.to(span_of(source, statement[equal])),
    )


def _word(source: Source, statement: list[Token], at: int) -> Reading:
    """`lambda x: x`, `2 if c else 3`."""
    for token in statement[: at + 1]:
        if token in ("lambda", "if", "else") and token.type == "NAME":
            return f"there is no `{token}`", instead(token), span_of(source, token)
    return None


_READERS = (
    _block,
    _one_line,
    _word,
    _list,
    _slice,
    _inner,
    _tuple,
    _law,
    _shape,
    _declared,
    _comment,
    _optimizer,
    _compound,
)


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
