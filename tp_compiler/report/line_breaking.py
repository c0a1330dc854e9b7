r"""Long formulas in lines that fit a page: LaTeX in, lines of LaTeX out.

A formula is read back into a tree of sums, products, brackets and fractions, and its width is estimated, letter by letter.
Where it does not fit, sums are broken before + and −, then products between factors; brackets that still do not fit are
opened with \bigl( and \bigr), fractions become a/b, and roots powers of 1/2, since those can be broken inside.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

#: In points, of a ten-point font.
_EM = 10.0
_SCRIPT = 0.72
_WIDE = {
    "+": 12.5,
    "-": 12.5,
    "=": 12.5,
    "<": 12.5,
    ">": 12.5,
    ",": 4.5,
    ";": 4.5,
    "|": 2.8,
    "'": 3.0,
    "/": 5.0,
    ".": 2.8,
}
_MACROS = {
    "sum": 15.0, "prod": 14.0, "max": 19.0, "min": 18.0, "langle": 3.9, "rangle": 3.9, "cdot": 7.3, "times": 12.3, "quad": 10.0,
    "le": 12.5, "sim": 12.5, "ldots": 13.0, "top": 7.8, "partial": 5.6, "infty": 10.0, "Delta": 8.4, "tanh": 22.0, "exp": 17.0,
    "log": 14.0, "sin": 14.0, "cos": 15.5, "tan": 16.0, "operatorname": 1.7, "mathbb": 0.0, "mathcal": 0.0, "mathrm": 0.0,
    "text": 0.0, "dagger": 4.5, "rho": 5.2, "ell": 4.2, "in": 12.0, "prime": 2.8, "bigl": 0.0, "bigr": 0.0, "big": 5.0,
}  # fmt: skip
_OPEN = {r"\left(": r"\bigl(", r"\left[": r"\bigl[", r"\left|": r"\bigl|", r"\left\{": r"\bigl\{"}
_CLOSE = {r"\right)": r"\bigr)", r"\right]": r"\bigr]", r"\right|": r"\bigr|", r"\right\}": r"\bigr\}"}
_TOKEN = re.compile(r"\\left\\?.|\\right\\?.|\\[A-Za-z]+\*?|\\.|[{}^_]|\s+|.", re.S)


@dataclass(frozen=True)
class Atom:
    """A piece that is never broken."""

    tex: str
    width: float


@dataclass(frozen=True)
class Gap:
    """Where a product may be broken."""

    tex: str = " "
    width: float = 0.0


@dataclass(frozen=True)
class Sign:
    """Where a sum or a list may be broken: before + and −, after a comma."""

    tex: str
    width: float
    breaks_after: bool = False


@dataclass(frozen=True)
class Inside:
    """Something with an inside: brackets, a fraction, a root. `broken` are the parts to be set instead, if it is too long."""

    tex: str
    width: float
    broken: Sequence[Node] = field(default=())


Node: TypeAlias = Atom | Gap | Sign | Inside


# -- reading -----------------------------------------------------------------------------------------------------------
class _Reader:
    def __init__(self, tex: str):
        self.tokens = _TOKEN.findall(tex)
        self.at = 0

    def sequence(self, ends: tuple[str, ...]) -> list[Node]:
        """Nodes up to a closing token, which is left."""
        found: list[Node] = []
        depth = 0  # of ⟨...⟩, which are not broken
        while self.at < len(self.tokens) and not self.tokens[self.at].startswith(ends):
            token = self.tokens[self.at]
            depth += {r"\langle": 1, r"\rangle": -1}.get(token, 0)
            node = self._node(token, found, max(depth, 0))
            if node is not None:
                found.append(node)
        return found

    def _node(self, token: str, before: list[Node], depth: int) -> Node | None:
        if token in "^_":
            self.at += 1
            self._script(token, before)
            return None
        if token.startswith(r"\left"):
            return self._brackets()
        if token in (r"\frac", r"\sqrt"):
            self.at += 1
            return self._fraction() if token == r"\frac" else self._root()
        if token == r"\begin":
            return self._environment()
        self.at += 1
        if token == "{":
            inner = self.sequence(("}",))
            self.at += 1
            return Inside("{" + _tex(inner) + "}", _width(inner), inner)
        if token.isspace():
            return Gap() if depth == 0 and _may_break(before) else Atom(" ", 0.0)
        return self._plain(token, before, depth)

    def _plain(self, token: str, before: list[Node], depth: int) -> Node:
        if token in "+-" and depth == 0 and before and not isinstance(before[-1], Sign):
            return Sign(token, _WIDE[token])
        if token in ",;" and depth == 0:
            return Sign(token, _WIDE[token], breaks_after=True)
        if token in (r"\operatorname", r"\operatorname*", r"\mathrm", r"\text", r"\mathbb", r"\mathcal"):
            return self._worded(token)
        if token in (
            r"\widehat",
            r"\dot",
            r"\tilde",
            r"\acute",
            r"\grave",
            r"\hat",
            r"\bar",
            r"\ddot",
            r"\check",
            r"\breve",
        ):
            inner = self._argument()
            return Atom(f"{token}{{{_tex(inner)}}}", _width(inner))
        return Atom(token, _letter_width(token))

    def _argument(self) -> list[Node]:
        """{...}, or one token."""
        while self.tokens[self.at].isspace():
            self.at += 1
        token = self.tokens[self.at]
        self.at += 1
        if token != "{":
            return [Atom(token, _letter_width(token))]
        inner = self.sequence(("}",))
        self.at += 1
        return inner

    def _script(self, token: str, before: list[Node]) -> None:
        """A sub- or superscript becomes part of its base."""
        inner = self._argument()
        text, width = f"{token}{{{_tex(inner)}}}", _SCRIPT * _width(inner)
        base = before.pop() if before else Atom("{}", 0.0)
        under = base.tex.startswith((r"\sum", r"\prod", r"\max", r"\min", r"\operatorname*"))
        whole = max(base.width, width + 2) if under else base.width + width
        if isinstance(base, Inside) and base.broken and not base.tex.startswith("{"):
            before.append(Inside(base.tex + text, whole, [*base.broken, Atom(text, width)]))
        else:
            before.append(Atom(base.tex + text, whole))

    def _worded(self, token: str) -> Node:
        start = self.at
        inner = "".join(n.tex for n in self._argument())
        spaced = "".join(self.tokens[start : self.at])[1:-1] if token == r"\text" else inner
        return Atom(f"{token}{{{spaced}}}", 5.2 * len(spaced) + _MACROS.get(token.strip("\\*"), 0.0))

    def _brackets(self) -> Node:
        opening = self.tokens[self.at]
        self.at += 1
        inner = self.sequence((r"\right",))
        closing = self.tokens[self.at]
        self.at += 1
        first, last = Atom(_OPEN.get(opening, opening), 5.0), Atom(_CLOSE.get(closing, closing), 5.0)
        return Inside(f"{opening}{_tex(inner)}{closing}", _width(inner) + 11.0, [first, *inner, last])

    def _fraction(self) -> Node:
        top, bottom = self._argument(), self._argument()
        whole = rf"\frac{{{_tex(top)}}}{{{_tex(bottom)}}}"
        return Inside(
            whole, max(_width(top), _width(bottom)) + 3.0, [*_closed(top), Atom(r" \big/ ", 8.0), *_closed(bottom)]
        )

    def _root(self) -> Node:
        inner = self._argument()
        return Inside(rf"\sqrt{{{_tex(inner)}}}", _width(inner) + 9.0, [*_closed(inner), Atom("^{1/2}", 10.0)])

    def _environment(self) -> Node:
        """\\begin{cases} ... \\end{cases}, as wide as its widest row."""
        start = self.at
        while self.tokens[self.at] != r"\end":
            self.at += 1
        while self.tokens[self.at] != "}":
            self.at += 1
        self.at += 1
        text = "".join(self.tokens[start : self.at])
        rows = re.sub(r"\\(begin|end)\{cases\}", "", text).split(r"\\")
        return Atom(text, 12.0 + max(_width(_Reader(row).sequence(("\0",))) + 10.0 * row.count("&") for row in rows))


def _closed(nodes: list[Node]) -> list[Node]:
    """In brackets, unless they are redundant."""
    simple = not any(isinstance(n, Gap | Sign) for n in nodes)
    return nodes if simple else [Atom(r"\bigl(", 5.0), *nodes, Atom(r"\bigr)", 5.0)]


def _may_break(before: Sequence[Node]) -> bool:
    """No break after Σ, a leading number, or a sign."""
    if not before or isinstance(before[-1], Gap | Sign):
        return False
    return not before[-1].tex.startswith((r"\sum", r"\prod", r"\quad", r"\sim"))


def _letter_width(token: str) -> float:
    if token.startswith("\\"):
        return _MACROS.get(token[1:].rstrip("*"), 6.2)
    if token in _WIDE:
        return _WIDE[token]
    return 7.3 if token.isupper() else 5.0 if token.isdigit() else 3.9 if token in "()[]" else 5.6


def _tex(nodes: Sequence[Node]) -> str:
    return "".join(n.tex for n in nodes)


def _width(nodes: Sequence[Node]) -> float:
    return sum(n.width for n in nodes)


def width(tex: str) -> float:
    """About how wide a formula is set, in points."""
    return _width(_Reader(tex).sequence(("\0",)))


# -- writing -----------------------------------------------------------------------------------------------------------
class _Lines:
    def __init__(self, room: float):
        self.room, self.line, self.used = room, "", 0.0
        self.lines: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return iter([*self.lines, self.line])

    def fits(self, width: float) -> bool:
        return self.used + width <= self.room

    def put(self, node: Node) -> None:
        self.line += node.tex
        self.used += node.width

    def new(self, depth: int) -> None:
        if self.line.strip():
            self.lines.append(self.line.rstrip())
            self.line, self.used = r"\quad " * min(depth, 4), _EM * (1 + min(depth, 4))

    def sum(self, nodes: Sequence[Node], depth: int) -> None:
        """Terms, each on the current line if it fits there, otherwise on a new line."""
        for part in _terms(nodes):
            self._placed(part, depth)

    def _placed(self, part: list[Node], depth: int) -> None:
        size = _width(part)
        if self.fits(size):
            for n in part:
                self.put(n)
            return
        if self.used > self.room / 3 or size <= self.room - _EM * (2 + depth):
            self.new(depth)
        if self.fits(size):
            for n in part:
                self.put(n)
            return
        self._product(part, depth)

    def _product(self, part: list[Node], depth: int) -> None:
        for k, n in enumerate(part):
            if self.fits(n.width):
                self.put(n)
            elif isinstance(n, Inside) and n.broken and not (n.width <= 0.6 * self.room and self._has_break(part[:k])):
                self._opened(n, depth)
            elif k and isinstance(part[k - 1], Gap):
                self.new(depth + 1)
                self.put(Atom(r"\cdot ", 7.3))
                self._product([n, *part[k + 1 :]], depth)
                return
            elif isinstance(n, Inside) and n.broken:
                self._opened(n, depth)
            else:
                self.put(n)

    def _opened(self, n: Inside, depth: int) -> None:
        """The inside of a bracket, placed after the opening bracket."""
        first, *rest = n.broken
        if isinstance(first, Atom):
            self.put(first)
            self.sum(rest, depth + 1)
        else:
            self.sum(n.broken, depth + 1)

    @staticmethod
    def _has_break(part: Sequence[Node]) -> bool:
        return bool(part) and isinstance(part[-1], Gap)


def _terms(nodes: Sequence[Node]) -> Iterator[list[Node]]:
    """The pieces between the possible breaks of a sum; open brackets keep their depth."""
    part: list[Node] = []
    for n in nodes:
        if isinstance(n, Sign) and not n.breaks_after and part:
            yield part
            part = []
        part.append(n)
        if isinstance(n, Sign) and n.breaks_after:
            yield part
            part = []
    if part:
        yield part


def broken(tex: str, room: float) -> list[str]:
    """The lines of a formula that is to be no wider than `room` points."""
    nodes = _Reader(tex).sequence(("\0",))
    if _width(nodes) <= room:
        return [tex]
    lines = _Lines(room)
    lines.sum(nodes, 1)
    return list(lines)
