"""What a context-free grammar cannot express: statement ends, bras and kets, contextual keywords.

`statements` turns the lexer's tokens into one token list per top-level statement. Mistakes of spelling and nesting
are reported here and their statement is dropped, so that the rest of the file is still checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lark import Token

from tp_compiler.diagnostics import Diagnostic, Diagnostics, Source, Span
from tp_compiler.frontend.habits import SIGNS, STATEMENTS, attribute

MAX_NESTING = 100

#: A NAME at the start of a statement is a keyword where the next token is of one of these types.
_NAMED = ("NAME",)
_ANY = None
KEYWORDS: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "nexort": ("NEXORT", ("NUMBER",)),
    "axis": ("AXIS", _NAMED),
    "width": ("WIDTH", _NAMED),
    "data": ("DATA", _NAMED),
    "scalar": ("SCALAR", _NAMED),
    "ket": ("KET", ("BAR",)),
    "matrix": ("MATRIX", _NAMED),
    "for": ("FOR", _NAMED),
    "def": ("DEF", _NAMED),
    "fn": ("FN", _NAMED),
    "optimizer": ("OPTIMIZER", _NAMED),
    "state": ("STATE", _NAMED),
    "train": ("TRAIN", _NAMED),
    "import": ("IMPORT", ("NAME", "STRING")),
    "parametrization": ("PARAMETRIZATION", ("NAME", "LBRACE")),
    "init": ("INIT", ("LBRACE",)),
    "return": ("RETURN", _ANY),
    "output": ("OUTPUT", _ANY),
    "minimize": ("MINIMIZE", _ANY),
    "update": ("UPDATE", _ANY),
}
#: `output = 3` binds a scalar named output: after these a NAME is not a keyword.
BINDS = {"EQUAL", "LSQB", "COMMA", "COLON", "ASSIGN"}

#: Words that are keywords inside one kind of statement: outside brackets, directly after an operand (so that
#: `2 * key` keeps its name) and, where listed, before tokens of these types only.
_LAST = ("NEWLINE", "SEMICOLON", "RBRACE", "$END")
INNER: dict[str, dict[str, tuple[str, tuple[str, ...] | None]]] = {
    "DATA": {"from": ("FROM", ("STRING",)), "key": ("KEY", ("STRING",)), "seed": ("SEED", _ANY)},
    "SCALAR": {"frozen": ("FROZEN", _LAST)},
    "KET": {"frozen": ("FROZEN", _LAST), "from": ("FROM", _ANY), "key": ("KEY", ("STRING",))},
    "MATRIX": {"frozen": ("FROZEN", _LAST), "x": ("BY", _NAMED)},
    "FOR": {"in": ("IN", _ANY)},
    "STATE": {"scalar": ("SCALAR_MARK", _LAST)},
    "MINIMIZE": {"clip": ("CLIP", _ANY)},
    "UPDATE": {"with": ("WITH", _ANY)},
}
#: The tokens that an operand can end in.
OPERAND_ENDS = frozenset(
    ["NAME", "NUMBER", "STRING", "PRIMES", "RPAR", "RSQB", "TRANSPOSE", "COPY", "CLOSE", "BRA_END"]
)

#: The tokens that an operand can begin with.
OPENS_OPERAND = frozenset(["NAME", "NUMBER", "LPAR", "KET_OPEN", "BRA_OPEN", "CLT"])

#: A line that ends in one of these continues on the next line.
CONTINUES = {"ADDOP", "MULOP", "CARET", "EQUAL", "ASSIGN", "TILDE", "COLON", "COMMA", "RANGE"}
_CLOSERS = {"RPAR": "LPAR", "RSQB": "LSQB", "RBRACE": "LBRACE"}
_SIGN = {"LPAR": "(", "LSQB": "[", "LBRACE": "{", "KET_OPEN": "|", "BRA_OPEN": "<"}
#: A lone bra `<z|` stands only before these.
AFTER_BRA = {"RPAR", "RSQB", "COMMA", "SEMICOLON", "RBRACE", "NEWLINE", "ADDOP", "MULOP", "BAR", "LANGLE", "$END"}


@dataclass(slots=True)
class _Open:
    """An open bracket, ket or bra; `bars` counts the bars so far at its level (of a bra)."""

    token: Token
    kind: str
    bars: int = 0


class _Malformed(Exception):
    def __init__(self, diagnostic: Diagnostic):
        self.diagnostic = diagnostic


class Layout:
    """Walks the raw tokens once. `statements()` yields the token list of each sound top-level statement."""

    def __init__(self, source: Source, raw: Iterable[Token], found: Diagnostics):
        self.source = source
        self.raw = list(raw)
        self.found = found
        self.at = 0
        self.stack: list[_Open] = []
        self.closed: _Open | None = None  # the bra or ket that was closed last
        self.out: list[Token] = []
        self.head = ""  # the keyword of the statement being read
        self.fresh = True  # at the start of a statement
        self.handlers: dict[str, Callable[[Token], bool | None]] = {
            "NEWLINE": self._on_newline,
            "SEMICOLON": self._on_semicolon,
            "LPAR": self._on_lpar,
            "LSQB": self._on_lsqb,
            "LBRACE": self._on_lbrace,
            "RPAR": self._on_rpar,
            "RSQB": self._on_rpar,
            "RBRACE": self._on_rbrace,
            "BAR": self._on_bar,
            "LANGLE": self._on_langle,
            "RANGLE": self._on_rangle,
            "STRAY": self._on_stray,
        }

    def statements(self) -> Iterator[list[Token]]:
        while self.at < len(self.raw):
            try:
                finished = self._step()
            except _Malformed as error:
                self.found.add(error.diagnostic)
                self._recover()
                continue
            if finished and self.out:
                yield self.out
                self.out = []
        try:
            self._require_closed()
        except _Malformed as error:
            self.found.add(error.diagnostic)
            return
        if self.out:
            yield self.out

    # -- one token --------------------------------------------------------------------------------------------
    def _step(self) -> bool:
        """Consumes one raw token; True if a top-level statement ends there."""
        token = self.raw[self.at]
        handler = self.handlers.get(token.type)
        if handler is not None:
            finished = bool(handler(token))
            self.at += 1
            return finished
        if token.type == "NAME":
            token = self._keyword(token)
        self.fresh = False
        self.out.append(token)
        self.at += 1
        return False

    def _on_newline(self, token: Token) -> bool:
        top = self.stack[-1].kind if self.stack else ""
        if top in ("LPAR", "LSQB"):
            if self._statement_follows():
                self._unclosed(self.stack[-1])
            return False
        if top in ("KET_OPEN", "BRA_OPEN"):
            self._unclosed(self.stack[-1])
        if self.out and self.out[-1].type in CONTINUES:
            return False
        return self._end(token)

    def _on_semicolon(self, token: Token) -> bool:
        if self.stack and self.stack[-1].kind != "LBRACE":
            if self.stack[-1].kind in ("KET_OPEN", "BRA_OPEN"):
                self._unclosed(self.stack[-1])
            self.out.append(token)  # f(x; y)
            return False
        return self._end(token)

    def _end(self, token: Token) -> bool:
        self.fresh, self.head = True, ""
        if not self.stack:
            return True
        if self.out[-1].type not in ("END", "LBRACE"):
            self.out.append(Token.new_borrow_pos("END", "", token))
        return False

    def _statement_follows(self) -> bool:
        """Inside an open bracket: does the next line start like a statement? Then the bracket was never closed."""
        first, second = self._peek(1), self._peek(2)
        if first.type != "NAME":
            return False
        if second.type == "EQUAL" and self.out[-1].type in OPERAND_ENDS:  # no keyword argument: no comma before it
            return True
        needs = KEYWORDS[first][1] if first in KEYWORDS else None
        return needs is not None and second.type in needs and second.line == first.line

    def _peek(self, ahead: int) -> Token:
        return self.raw[self.at + ahead] if self.at + ahead < len(self.raw) else Token("$END", "")

    def _keyword(self, token: Token) -> Token:
        following = self._peek(1).type
        word = str(token)
        if word == "clt":
            return Token.new_borrow_pos("CLT", word, token)
        top = self.stack[-1].kind if self.stack else ""
        if self.fresh and top in ("", "LBRACE") and word in KEYWORDS:
            kind, needs = KEYWORDS[word]
            if (following in needs) if needs is not None else (following not in BINDS):
                self.head = kind
                return Token.new_borrow_pos(kind, word, token)
        if self.fresh and top in ("", "LBRACE") and word in STATEMENTS and following not in BINDS:
            raise self._error("NX031", f"there is no statement `{word}`", token, STATEMENTS[word])
        inner = INNER.get(self.head)
        if inner and word in inner and top in ("", "LBRACE") and self.out[-1].type in OPERAND_ENDS:
            kind, needs = inner[word]
            if needs is None or following in needs:
                return Token.new_borrow_pos(kind, word, token)
        return token

    # -- brackets ---------------------------------------------------------------------------------------------
    def _push(self, token: Token, kind: str) -> None:
        if len(self.stack) >= MAX_NESTING:
            raise self._error(
                "NX013", f"brackets are nested more than {MAX_NESTING} levels deep", token, "give names to inner parts"
            )
        self.stack.append(_Open(token, kind))
        self.out.append(Token.new_borrow_pos(kind, str(token), token))
        self.fresh = kind == "LBRACE"

    def _on_lpar(self, token: Token) -> None:
        self._push(token, "LPAR")

    def _on_lsqb(self, token: Token) -> None:
        self._push(token, "LSQB")

    def _on_lbrace(self, token: Token) -> None:
        if self.stack and self.stack[-1].kind != "LBRACE":
            self._unclosed(self.stack[-1])
        self._push(token, "LBRACE")
        self.head = ""

    def _close(self, token: Token) -> None:
        wanted = _CLOSERS[token.type]
        if not self.stack:
            raise self._error("NX012", f"`{token}` closes nothing", token, f"remove it, or open `{_SIGN[wanted]}`")
        top = self.stack[-1]
        if top.kind != wanted:
            if top.kind in ("KET_OPEN", "BRA_OPEN"):
                self._unclosed(top)
            place = self.source.position(top.token.start_pos or 0)
            raise self._error(
                "NX012",
                f"`{token}` does not match `{top.token}` on line {place[0]}, column {place[1]}",
                token,
                f"close `{top.token}` first",
            )
        self.stack.pop()
        self.fresh = False

    def _on_rpar(self, token: Token) -> None:
        self._close(token)
        self.out.append(token)

    def _on_rbrace(self, token: Token) -> None:
        self._close(token)
        if self.out[-1].type == "END":
            self.out.pop()
        self.out.append(token)
        self.head = ""

    # -- bras and kets ----------------------------------------------------------------------------------------
    def _on_bar(self, token: Token) -> None:
        top = self.stack[-1] if self.stack else None
        if top is None or top.kind in ("LPAR", "LSQB", "LBRACE"):
            self._push(token, "KET_OPEN")
            return
        if top.kind == "KET_OPEN":
            self._unclosed(top)
        if self.out[-1].type in ("BRA_OPEN", "SEP") and top.bars < 2:
            raise self._bare_names(token)
        top.bars += 1
        if top.bars == 1 and self._peek(1).type in AFTER_BRA:
            self.stack.pop()
            self.out.append(Token.new_borrow_pos("BRA_END", "|", token))
            return
        if top.bars > 2:
            raise self._error(
                "NX015",
                "a bracket has at most three parts, `<x|W|y>`",
                token,
                "give a name to the product of operators",
            )
        self.out.append(Token.new_borrow_pos("SEP", "|", token))
        self.fresh = False

    def _on_langle(self, token: Token) -> None:
        if self.stack and self.stack[-1].kind in ("KET_OPEN", "BRA_OPEN"):
            raise self._error(
                "NX014",
                "a label cannot contain bare bras or kets, and there are no comparison operators",
                token,
                "close the label with `>` first, or put the inner bracket in parentheses; compare with"
                " `step(a - b)`, `max` or `where(c, a, b)`",
            )
        self._push(token, "BRA_OPEN")

    def _bare_names(self, token: Token) -> _Malformed:
        message = "a bracket contains a ket with bars of its own"
        remedy = "inside a bracket write bare names: `<v|h>`, `<v|2 * h>`; in parentheses kets keep their bars"
        return self._error("NX014", message, token, remedy)

    def _on_rangle(self, token: Token) -> None:
        if not self.stack or self.stack[-1].kind not in ("KET_OPEN", "BRA_OPEN"):
            before = self.raw[self.at - 1] if self.at else token
            doubled = before.type == "RANGLE" and before.end_pos == token.start_pos
            if doubled and self.closed is not None and self.closed.bars != 1:
                raise self._bare_names(token)
            raise self._error(
                "NX016",
                "`>` does not close a bra or ket",
                token,
                "use `step(a - b)`, `max` or `where(c, a, b)`; there are no comparison operators",
            )
        self.closed = self.stack.pop()
        self.out.append(Token.new_borrow_pos("CLOSE", str(token), token))

    def _on_stray(self, token: Token) -> None:
        char = str(token)
        shown = f"`{char}`" if char.isprintable() else f"character U+{ord(char):04X}"
        remedy = SIGNS.get(char, "remove it")
        if char == ".":
            before = str(self.out[-1]) if self.out and self.out[-1].type == "NAME" else ""
            following = self._peek(1)
            remedy = attribute(before, str(following) if following.type == "NAME" else "") or remedy
        raise self._error("NX010", f"unexpected {shown}", token, remedy)

    # -- errors -----------------------------------------------------------------------------------------------
    def _error(self, code: str, message: str, token: Token, remedy: str) -> _Malformed:
        return _Malformed(Diagnostic(code, message, span_of(self.source, token), remedy))

    def _unclosed(self, opened: _Open) -> None:
        names = {"KET_OPEN": "ket", "BRA_OPEN": "bra or bracket"}
        what = f"this {names[opened.kind]}" if opened.kind in names else f"`{opened.token}`"
        ends = {"KET_OPEN": "`>`", "BRA_OPEN": "`>` (or a lone bra with `|`)", "LPAR": "`)`", "LSQB": "`]`"}
        also = {
            "BRA_OPEN": "; to compare, use `step(a - b)`",
            "KET_OPEN": "; write |c| as `abs(c)`, a norm as `sqrt(<x|x>)`",
        }
        remedy = f"close it with {ends.get(opened.kind, '`}`')}{also.get(opened.kind, '')}"
        raise self._error("NX011", f"{what} is never closed", opened.token, remedy)

    def _require_closed(self) -> None:
        if self.stack:
            opened = self.stack[0] if self.stack[0].kind == "LBRACE" else self.stack[-1]
            self._unclosed(opened)

    def _recover(self) -> None:
        """After an error: drops the statement and continues after the next newline that starts one."""
        depth = sum(o.kind == "LBRACE" for o in self.stack)
        self.stack, self.out, self.fresh, self.head = [], [], True, ""
        while self.at < len(self.raw):
            token = self.raw[self.at]
            self.at += 1
            depth += (token.type == "LBRACE") - (token.type == "RBRACE")
            if token.type == "NEWLINE" and depth <= 0:
                return


def span_of(source: Source, token: Token) -> Span:
    start = token.start_pos or 0
    return Span(source, start, token.end_pos if token.end_pos is not None else start + 1)
