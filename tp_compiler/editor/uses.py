"""The names that a statement binds and reads, with their places, in the order in which the checker meets them.

Kets have one namespace, everything else shares another; a bare name in a label is a ket if there is one of that name.
The names of a statement that cannot be parsed are guessed from the roles of its words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal, TypeAlias

from tp_compiler.diagnostics import Span
from tp_compiler.editor.chunks import MOST, Chunk
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.mentions import parts
from tp_compiler.frontend.scan import ENDS, Lexeme

Space = Literal["ket", "plain", "label"]
_WORD = re.compile(r"(?!ᵀ)[^\W\d](?:(?!ᵀ)[\w\u0300-\u036f])*")
#: Heads of statements that cannot be parsed, and what they bind.
_HEADS = {
    "AXIS": "axis", "WIDTH": "width", "DATA": "data", "SCALAR": "scalar", "MATRIX": "matrix", "DEF": "def", "FN": "fn",
    "OPTIMIZER": "optimizer", "STATE": "state", "FOR": "loop variable",
}  # fmt: skip


@dataclass(slots=True)
class Mention:
    """A name in the text. `binds` says what it is bound as; empty where it is read. `at`: the statement that binds it."""

    name: str
    start: int
    end: int
    space: Space
    binds: str = ""
    at: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class Keyword:
    """The name of an argument, which is a parameter of the function."""

    function: str
    name: str
    start: int
    end: int


@dataclass(slots=True)
class Imported:
    """`import layers` or, quoted, a file; the place is that of the statement."""

    path: str
    quoted: bool
    start: int
    end: int


@dataclass(slots=True)
class Enclosed:
    """The body of a def, a function or an optimizer, which has names of its own; its parameters come first."""

    name: str
    optimizer: bool
    start: int
    end: int
    body: list[Item] = field(default_factory=list)


Item: TypeAlias = Mention | Keyword | Imported | Enclosed


@lru_cache(MOST)
def uses(chunk: Chunk) -> tuple[Item, ...]:
    """The uses of names in a chunk; places count from its start."""
    reader = _Reader(chunk)
    for statement in chunk.file.statements:
        reader.statement(statement)
    if not chunk.sound:
        reader.found += _guessed_in(chunk)
    return tuple(reader.found)


def words_in(text: str, start: int, end: int) -> Iterator[tuple[str, int, int]]:
    """The words of a stretch of text, as the language spells names, with their places."""
    for found in _WORD.finditer(text, start, end):
        yield unicodedata.normalize("NFC", found[0]), found.start(), found.end()


class _Reader:
    """Reads trees; `found` are the names so far."""

    def __init__(self, chunk: Chunk):
        self.chunk, self.text = chunk, chunk.text
        self.found: list[Item] = []
        self.rules: dict[type, Callable[[Any], None]] = {
            ast.AxisDecl: self._axis, ast.WidthDecl: self._width, ast.DataDecl: self._data, ast.ScalarDecl: self._scalar,
            ast.KetDecl: self._ket, ast.MatrixDecl: self._matrix, ast.Bind: self._bind, ast.For: self._for,
            ast.Def: self._def, ast.Fn: self._fn, ast.Optimizer: self._optimizer, ast.Output: self._output,
            ast.Import: self._import, ast.State: self._state, ast.Assign: self._assign,
        }  # fmt: skip

    def statement(self, s: ast.Statement) -> None:
        rule = self.rules.get(type(s))
        if rule is None:
            self._tree(s, False)  # `return`, `minimize`, `update`, `train`, ...: what they read, and their bodies
        else:
            rule(s)

    # -- what is read ---------------------------------------------------------------------------------------------
    def _tree(self, tree: object, label: bool) -> None:
        """The names in a tree; `label`: bare names may be kets."""
        if isinstance(tree, ast.Name):
            self._name(tree, "label" if label else "plain")
        elif isinstance(tree, ast.Statement) and type(tree) in self.rules:
            self.statement(tree)
        elif isinstance(tree, ast.Ket | ast.Bra | ast.Mean | ast.Braket | ast.Sandwich):
            for name in parts(tree):
                part = getattr(tree, name)
                if name != "operator" and isinstance(part, ast.Name) and not part.primes:
                    self._name(part, "ket")
                else:
                    self._tree(part, name != "operator")
        elif isinstance(tree, ast.Call):
            self._call(tree, label)
        elif isinstance(tree, ast.Law):
            self._tree(tree.args, False)
        elif isinstance(tree, ast.Tree):
            for name in parts(tree):
                self._tree(getattr(tree, name), label)
        elif isinstance(tree, tuple):
            for part in tree:
                self._tree(part, label)

    def _call(self, call: ast.Call, label: bool) -> None:
        self._name(call.fn, "label" if label else "plain")
        for arg in call.args:
            if arg.keyword is not None:
                start, end = self._word(arg.span)
                self.found.append(Keyword(call.fn.ident, arg.keyword, start, end))
            self._tree(arg.value, label)
        self._tree(call.extra, label)

    def _name(self, name: ast.Name, space: Space, binds: str = "", at: Span | None = None) -> None:
        start, end = self._word(name.span)
        self.found.append(Mention(name.ident, start, end, space, binds, (at.start, at.end) if at else (0, 0)))
        if name.indices:
            self._tree(name.indices, False)

    def _word(self, span: Span) -> tuple[int, int]:
        """The place of the first word."""
        return next(((start, end) for _, start, end in words_in(self.text, span.start, span.end)), (span.start,) * 2)

    def _words(self, start: int, end: int) -> list[Lexeme]:
        """The words of a stretch, without those of comments and strings."""
        inside = (x for x in self.chunk.lexemes if start <= x.start < end and x.kind not in ("COMMENT", "STRING"))
        return [x for x in inside if _WORD.match(x.text)]

    def _bound(self, ident: str, binds: str, s: ast.Statement, skip: int = 1) -> None:
        """A name that the tree keeps without its place: the second word of the statement."""
        word = self._words(s.span.start, s.span.end)[skip]
        self.found.append(Mention(ident, word.start, word.end, "plain", binds, (s.span.start, s.span.end)))

    def _target(self, target: ast.Name | ast.Ket, binds: str, at: Span) -> None:
        label = target.label if isinstance(target, ast.Ket) else target
        assert isinstance(label, ast.Name)
        self._name(label, "ket" if isinstance(target, ast.Ket) else "plain", binds, at)

    # -- declarations -----------------------------------------------------------------------------------------------
    def _axis(self, s: ast.AxisDecl) -> None:
        self._tree(s.size, False)
        for name in s.names:
            self._name(name, "plain", "axis", s.span)

    def _width(self, s: ast.WidthDecl) -> None:
        self._tree(s.ratio, False)
        self._bound(s.name, "width", s)

    def _data(self, s: ast.DataDecl) -> None:
        self._tree(s.source, False)
        self._name(s.target, "plain", "data", s.span)

    def _scalar(self, s: ast.ScalarDecl) -> None:
        self._tree(s.value, False)
        self._name(s.target, "plain", "scalar", s.span)

    def _ket(self, s: ast.KetDecl) -> None:
        self._widths(s.target.span, s.span, s.width)
        self._tree(s.law, False)
        self._name(s.target, "ket", "ket", s.span)

    def _matrix(self, s: ast.MatrixDecl) -> None:
        self._widths(s.target.span, s.span, s.rows, s.cols)
        self._tree(s.law, False)
        self._name(s.target, "plain", "matrix", s.span)

    def _widths(self, target: Span, statement: Span, *widths: str | None) -> None:
        """The width classes after the name of a ket or matrix."""
        after = iter(self._words(target.end, statement.end) if any(widths) else ())
        for width in widths:
            if width is not None:
                word = next(x for x in after if unicodedata.normalize("NFC", x.text) == width)
                self.found.append(Mention(width, word.start, word.end, "plain"))

    # -- statements -------------------------------------------------------------------------------------------------
    def _bind(self, s: ast.Bind) -> None:
        self._tree(s.value, False)
        for target in s.targets:
            self._target(target, "value", s.span)

    def _for(self, s: ast.For) -> None:
        if s.low is None:
            self._tree(s.high, False)
        else:
            self._tree((s.low, s.high), False)
            word = self._words(s.span.start, s.low.span.start)[1]
            at = s.span.start, s.high.span.end
            self.found.append(Mention(s.variable, word.start, word.end, "plain", "loop variable", at))
        for inner in s.body:
            self.statement(inner)

    def _output(self, s: ast.Output) -> None:
        self._tree(s.value, False)
        if s.target is not None:
            self._name(s.target, "plain", "output" if s.value is not None else "", s.span)

    def _import(self, s: ast.Import) -> None:
        self.found.append(Imported(s.path, s.quoted, s.span.start, s.span.end))

    def _state(self, s: ast.State) -> None:
        self._tree(s.value, False)
        self._bound(s.name, "state", s)

    def _assign(self, s: ast.Assign) -> None:
        self._tree(s.value, False)
        self._bound(s.name, "state", s, skip=0)

    # -- definitions ------------------------------------------------------------------------------------------------
    def _def(self, s: ast.Def) -> None:
        self._block(s, s.indices)
        self._bound(s.name, "def", s)

    def _optimizer(self, s: ast.Optimizer) -> None:
        self._block(s, ())
        self._bound(s.name, "optimizer", s)

    def _block(self, s: ast.Def | ast.Optimizer, indices: tuple[ast.Name, ...]) -> None:
        """The names of a body are apart from those around it."""
        outer, self.found = self.found, []
        for index in indices:
            self._name(index, "plain", "index", index.span)
        for param in s.params:
            self._tree(param.default, False)
            self._name(param.name, "ket" if param.kind == "ket" else "plain", "parameter", param.span)
        for inner in s.body:
            self.statement(inner)
        outer.append(Enclosed(s.name, isinstance(s, ast.Optimizer), s.span.start, s.span.end, self.found))
        self.found = outer

    def _fn(self, s: ast.Fn) -> None:
        outer, self.found = self.found, []
        places = self._words(s.span.start, s.body.span.start)[2:]
        for ident, word in zip(s.params, places, strict=True):
            self.found.append(Mention(ident, word.start, word.end, "plain", "parameter", (word.start, word.end)))
        self._tree(s.body, False)
        outer.append(Enclosed(s.name, False, s.span.start, s.span.end, self.found))
        self.found = outer
        self._bound(s.name, "fn", s)


# -- statements that cannot be parsed -------------------------------------------------------------------------------
def _outside(chunk: Chunk) -> Iterator[list[Lexeme]]:
    """The lines of a chunk that belong to no statement that was parsed."""
    spans = [s.span for s in chunk.file.statements]
    line: list[Lexeme] = []
    for lexeme in chunk.lexemes:
        if lexeme.kind in ENDS:
            yield line
            line = []
        elif lexeme.kind != "COMMENT" and not any(s.start <= lexeme.start < s.end for s in spans):
            line.append(lexeme)
    yield line


def _guessed_in(chunk: Chunk) -> Iterator[Item]:
    """The names of what could not be parsed; those of a definition are its own."""
    lines = [line for line in _outside(chunk) if line]
    head = lines[0] if lines else []
    if len(head) < 2 or head[0].kind not in ("DEF", "OPTIMIZER") or head[1].kind != "NAME":
        yield from _guessed(lines)
        return
    name = unicodedata.normalize("NFC", head[1].text)
    parameters = list(_parameters(head))
    places = {p.start for p in parameters}
    rest = [x for x in head[2:] if x.start not in places and x.text != "op"]
    yield Enclosed(
        name, head[0].kind == "OPTIMIZER", head[0].start, len(chunk.text), [*parameters, *_guessed([rest, *lines[1:]])]
    )
    yield Mention(name, head[1].start, head[1].end, "plain", _HEADS[head[0].kind], (head[0].start, head[-1].end))


def _parameters(head: list[Lexeme]) -> Iterator[Mention]:
    """The parameters in the head of a definition: `|x[s]>`, `op A`, `eps = 1`."""
    depth = 0
    for before, lexeme in pairwise(head):
        depth += before.nests
        first = before.kind in ("LPAR", "COMMA", "KET_OPEN") and lexeme.text != "op"
        if lexeme.kind == "NAME" and depth == 1 and (first or before.text == "op"):
            yield _use(lexeme, "parameter", (lexeme.start, lexeme.end))


def _guessed(lines: Iterable[list[Lexeme]]) -> Iterator[Item]:
    """The names of lines, from the roles of their words."""
    for line in lines:
        targets = _targets(line)
        for lexeme in line:
            if lexeme.kind != "NAME" or lexeme.role in ("law", "keyword"):
                continue
            binds = ""
            if lexeme.start in targets:
                binds = "ket" if line[0].kind == "KET" else "value"
            if lexeme.role == "declared":
                binds = _HEADS.get(line[0].kind, "value")
            yield _use(lexeme, binds, (line[0].start, line[-1].end))


def _use(lexeme: Lexeme, binds: str, at: tuple[int, int]) -> Mention:
    space: Space = "plain" if lexeme.role != "ket" else "ket" if binds else "label"
    name = unicodedata.normalize("NFC", lexeme.text)
    return Mention(name, lexeme.start, lexeme.end, space, binds, at if binds else (0, 0))


def _targets(line: list[Lexeme]) -> set[int]:
    """The places of names that a line binds: before `=`, outside brackets, or after `ket`."""
    depth = 0
    found: list[int] = []
    for lexeme in line:
        if depth == 0 and lexeme.kind == "EQUAL":
            return set(found)
        depth += lexeme.nests
        if lexeme.kind == "NAME" and depth == 0 and lexeme.role in ("", "ket"):
            found.append(lexeme.start)
    return set(found[:1]) if line and line[0].kind == "KET" else set()
