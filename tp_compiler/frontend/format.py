"""A program in canonical layout, and its tree as text.

The layout is made from the token stream, not from the tree: only white space and the spelling of bras, kets and
transposes change, so no parenthesis, number, comment or name can be lost. The rules:

** One statement per line, indented by 4 spaces in each block, with at most one blank line between them. A block
  written on one line stays there if the line fits `WIDTH` columns. `;` remains only inside such blocks and calls.
* One space around `=`, `:=`, `~`, `:`, binary `+`, `-`, `*`, `/` and between juxtaposed factors; none inside
  brackets, bras and kets, around `^`, `..` and `'`, after a sign, between a ket and a bra (`|x><z|`), inside the
  brackets of indices (`x[i,l-1]`), and around `=` in the rows of a parametrization (`a=0`).
* Division of two numbers is tight, `2/3 |x>`; of two plain names or numbers it keeps the tightness it was written
  with, `a/b c`; other divisions are spaced, `<v|x> / 2`.
** `NAME (x)` keeps its space: the checker decides whether it is a call or a product.
** Line breaks inside a statement are kept; the next line is aligned after its open bracket, or indented
  by 4 if that bracket ends its line or there is none.
** Comments stay in place, two spaces after the text; on neighbouring lines they are aligned if they fit.
** Style `keep` preserves the spelling of every bra, ket and transpose.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from lark import Token

from tp_compiler.diagnostics import Diagnostics
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.parse import tokenize
from tp_compiler.frontend.spacing import gap, mark

WIDTH = 120
INDENT = 4

_SPELLING = {
    "unicode": {"BRA_OPEN": "⟨", "CLOSE": "⟩", "TRANSPOSE": "ᵀ"},
    "ascii": {"BRA_OPEN": "<", "CLOSE": ">", "TRANSPOSE": "^T"},
}
_OPENERS = ("LPAR", "LSQB", "LBRACE")
_CLOSERS = ("RPAR", "RSQB", "RBRACE")


def format_file(file: ast.File, style: str = "keep") -> str:
    """The program in canonical layout, in the style keep, unicode or ascii. Formatting it again changes nothing."""
    found = Diagnostics()
    tokens, comments = tokenize(file.source, found)
    statements = list(tokens)
    found.raise_if_errors()
    writer = _Writer(_items(file, statements, comments, style))
    return writer.write()


# ------------------------------------------------------------------------------------------------------- items
@dataclass(slots=True)
class _Item:
    """A token or comment: its text, its place, and the space before it."""

    kind: str
    text: str
    line: int
    starts: bool = False  # the first token of a statement
    space: str = ""  # what stands before it on its line
    partner: int = -1  # of an opening brace: the index of the closing one


def _items(file: ast.File, statements: list[list[Token]], comments: list[tuple[int, str]], style: str) -> list[_Item]:
    spelling = _SPELLING.get(style, {})
    waiting = [(offset, _Item("COMMENT", text, file.source.position(offset)[0])) for offset, text in reversed(comments)]
    items: list[_Item] = []
    braces: list[int] = []
    for tokens in statements:
        starts, marks = True, mark(tokens)
        for k, token in enumerate(tokens):
            if token.type == "END":
                starts = True
                continue
            while waiting and waiting[-1][0] < (token.start_pos or 0):
                items.append(waiting.pop()[1])
            item = _Item(token.type, spelling.get(token.type, _text(token)), token.line or 1, starts)
            item.space = gap(file.source, marks, k)
            starts = token.type == "LBRACE"
            if token.type == "LBRACE":
                braces.append(len(items))
            elif token.type == "RBRACE":
                item.starts = False
                items[braces.pop()].partner = len(items)
            items.append(item)
    items.extend(item for _, item in reversed(waiting))
    return items


def _text(token: Token) -> str:
    if token.type in ("TRANSPOSE", "COPY"):
        return "".join(token.split())
    return str(token)


# ------------------------------------------------------------------------------------------------------ writer
@dataclass(slots=True)
class _Line:
    text: str
    comment: str = ""


@dataclass(slots=True)
class _Writer:
    """Lays the items out in lines. `hangs` holds, for each open bracket, the columns of what follows it on a new
    line and of its closing bracket on a new line."""

    items: list[_Item]
    lines: list[_Line] = field(default_factory=list)
    depth: int = 0
    hangs: list[tuple[int, int]] = field(default_factory=list)

    def write(self) -> str:
        at = 0
        while at < len(self.items):
            at = self._put(at)
        _align(self.lines)
        text = "\n".join((f"{x.text}  {x.comment}" if x.text and x.comment else x.text + x.comment) for x in self.lines)
        return text + "\n" if text else ""

    def _put(self, at: int) -> int:
        """Writes the item at an index; the index of the next one to write."""
        item = self.items[at]
        if item.kind == "COMMENT":
            self._comment(at)
            return at + 1
        before = self.items[at - 1] if at else None
        if item.kind == "RBRACE":
            self.depth -= 1
        if before is None or item.starts or item.kind == "RBRACE" or item.line > before.line:
            self._new_line(at, self._column(at))
        else:
            self.lines[-1].text += item.space
        if item.kind == "LBRACE":
            return self._block(at)
        self._append(at)
        return at + 1

    def _append(self, at: int) -> None:
        item, line = self.items[at], self.lines[-1]
        if item.kind in _OPENERS:
            own = len(line.text) - len(line.text.lstrip(" "))
            following = self.items[at + 1] if at + 1 < len(self.items) else None
            last = following is not None and (following.line > item.line or following.kind == "COMMENT")
            column = len(line.text)
            self.hangs.append((own + INDENT, own) if last else (column + 1, column))
        elif item.kind in _CLOSERS and self.hangs:
            self.hangs.pop()
        line.text += item.text

    def _block(self, at: int) -> int:
        end = self.items[at].partner
        flat = self._flat(at, end)
        if flat is not None and len(self.lines[-1].text) + len(flat) <= WIDTH:
            self.lines[-1].text += flat
            return end + 1
        self.lines[-1].text += "{"
        self.depth += 1
        return at + 1

    def _flat(self, at: int, end: int) -> str | None:
        """The block from one brace to the other on one line, if it is written so or empty."""
        inside = self.items[at + 1 : end]
        if not inside:
            return "{}"
        if self.items[at].line != self.items[end].line or any(x.kind == "COMMENT" for x in inside):
            return None
        text, fresh = "{", " "
        for item in inside:
            text += (fresh if item.starts else item.space) + item.text
            fresh = " " if item.kind == "LBRACE" else "; "
        return text + " }"

    def _comment(self, at: int) -> None:
        item, before = self.items[at], self.items[at - 1] if at else None
        if before is not None and before.line == item.line:
            self.lines[-1].comment = item.text
        else:
            self._new_line(at, self._column(at))
            self.lines[-1] = _Line("", self.lines[-1].text + item.text)

    def _column(self, at: int) -> int:
        """The start of a line whose first item is this one."""
        item = next((x for x in self.items[at:] if x.kind != "COMMENT"), None)
        if item is None or item.starts or item.kind == "RBRACE":
            return INDENT * self.depth
        if not self.hangs:
            return INDENT * (self.depth + 1)
        return self.hangs[-1][self.items[at].kind in _CLOSERS]

    def _new_line(self, at: int, column: int) -> None:
        item, before = self.items[at], self.items[at - 1] if at else None
        apart = before is not None and item.line - before.line > 1
        if apart and item.kind != "RBRACE" and before is not None and before.kind != "LBRACE":
            self.lines.append(_Line(""))
        self.lines.append(_Line(" " * column))


def _align(lines: list[_Line]) -> None:
    """Aligns the comments of neighbouring lines if they all fit on the page."""
    start = 0
    while start < len(lines):
        end = start
        while end < len(lines) and lines[end].text and lines[end].comment:
            end += 1
        run = lines[start:end]
        column = max((len(x.text) for x in run), default=0)
        if all(column + 2 + len(x.comment) <= WIDTH for x in run):
            for x in run:
                x.text = x.text.ljust(column)
        start = max(end, start + 1)


# -------------------------------------------------------------------------------------------------------- tree
def show_ast(file: ast.File) -> str:
    """The tree, one node or plain field to a line: class, line and column, fields indented below."""
    lines: list[str] = []
    for statement in file.statements:
        _show(statement, "", 0, lines)
    return "".join(line + "\n" for line in lines)


def _show(value: object, label: str, depth: int, lines: list[str]) -> None:
    head = " " * (2 * depth) + (f"{label}: " if label else "")
    if isinstance(value, ast.Tree):
        line, column = value.span.source.position(value.span.start)
        plain = {f.name: getattr(value, f.name) for f in fields(value) if f.name != "span"}
        inline = "".join(f" {name}={x!r}" for name, x in plain.items() if not _nested(x))
        lines.append(f"{head}{type(value).__name__}{inline} @{line}:{column}")
        for name, x in plain.items():
            if _nested(x):
                _show(x, name, depth + 1, lines)
    elif isinstance(value, tuple):
        lines.append(head.rstrip())
        for x in value:
            _show(x, "", depth + 1, lines)


def _nested(value: object) -> bool:
    """Whether a field contains trees. Strings, numbers, and tuples of them are shown on the line of their node."""
    return isinstance(value, ast.Tree) or (isinstance(value, tuple) and any(isinstance(x, ast.Tree) for x in value))
