"""Text to abstract syntax: lark's tokens, the layout of tokens.py, LALR(1) statement by statement."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from lark import Lark, Token
from lark.exceptions import UnexpectedToken
from lark.lexer import TerminalDef

from tp_compiler.diagnostics import Diagnostic, Diagnostics, ProgramError, Source, Span
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend import tables
from tp_compiler.frontend.messages import explain
from tp_compiler.frontend.tokens import Layout
from tp_compiler.frontend.tree import TreeBuilder, reading

#: Characters of a name, a number or a string.
MAX_WORD = 4096
_WORDS = ("NAME", "NUMBER", "STRING", "PRIMES")
#: Words and signs of a text: they take about 350 bytes each.
MAX_TOKENS = 4_000_000


def parse(source: Source, found: Diagnostics) -> ast.File:
    """The statements of a program; every lexical or syntax error is added to `found`, and its statement is dropped."""
    lark, _ = _lark()
    statements = []
    with _no_collection(), reading(source):
        listed, comments = tokenize(source, found)
        for tokens in listed:
            try:
                statements.append(_statement(lark, tokens))
            except UnexpectedToken as error:
                found.add(explain(source, error, tokens))
            except ProgramError as error:
                for diagnostic in error.diagnostics:
                    found.add(diagnostic)
    return ast.File(source, tuple(statements), tuple(comments))


def tokenize(source: Source, found: Diagnostics) -> tuple[Iterator[list[Token]], list[tuple[int, str]]]:
    """The token list of each sound statement (lazily), and (offset, text) of every comment."""
    raw, comments = raw_tokens(source, found)
    return Layout(source, raw, found).statements(), comments


def raw_tokens(source: Source, found: Diagnostics) -> tuple[list[Token], list[tuple[int, str]]]:
    """The lexer's tokens, line breaks included, and (offset, text) of every comment."""
    match = _lark()[1].match
    text, at, line = source.text, 0, 1
    raw: list[Token] = []
    comments: list[tuple[int, str]] = []
    while (found_here := match(text, at)) is not None and found_here.lastgroup is not None:
        kind, value = found_here.lastgroup, found_here[found_here.lastgroup]
        at = found_here.end()
        if kind == "COMMENT":
            comments.append((found_here.start(kind), value.rstrip()))
            continue
        if len(value) > MAX_WORD and kind in _WORDS:
            span = Span(source, at - len(value), at)
            found.add(Diagnostic("NX017", f"this word has {len(value)} characters", span, f"use at most {MAX_WORD}"))
            value = value[:1]  # the program is refused anyway: parse the rest quickly
        raw.append(Token(kind, value, found_here.start(kind), line, None, None, None, at))
        if len(raw) > MAX_TOKENS:
            span = Span(source, at - len(value), at)
            message = f"the program has more than {MAX_TOKENS} tokens"
            found.add(Diagnostic("NX018", message, span, "keep data in `.npy`, `.npz` or `.csv` files"))
            break
        if kind == "NEWLINE":
            line += value.count("\n")
    return raw, comments


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pauses garbage collection: parsing makes no cycles, and scanning the growing tree would take a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@cache
def _lark() -> tuple[Lark, re.Pattern[str]]:
    """The parser, which calls a TreeBuilder at every reduction, and the lexer. They hold no text, so threads share them."""
    lark = tables.parser(postlex=_RawTokens(), transformer=TreeBuilder())
    return lark, _lexer(list(lark.terminals))


def _lexer(terminals: list[TerminalDef]) -> re.Pattern[str]:
    """One regular expression with a group per terminal, in lark's order, after white space.

    lark's lexer would be rebuilt for each text, and makes a token of every blank.
    """
    shown = [t for t in terminals if not t.name.startswith("__IGNORE")]
    shown.sort(key=lambda t: (-t.priority, -t.pattern.max_width, -len(t.pattern.value), t.name))
    return re.compile(r"[ \t\r\f]*+(?:" + "|".join(f"(?P<{t.name}>{t.pattern.to_regexp()})" for t in shown) + ")")


class _RawTokens:
    """Tells lark to keep the terminals that only the layout (tokens.py) reads."""

    always_accept = ("NEWLINE", "BAR", "LANGLE", "RANGLE", "STRAY", "COMMENT")

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        return stream


def _statement(lark: Lark, tokens: list[Token]) -> ast.Statement:
    parser: Any = lark.parse_interactive()
    for token in tokens:
        parser.feed_token(token)
    statement: ast.Statement = parser.feed_eof(tokens[-1])
    return statement
