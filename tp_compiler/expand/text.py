"""Pieces of NEXORT text with their precedence, and how sums, products and powers are composed from them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

#: Precedence, loosest first (docs/language.md, section 6).
SUM, PRODUCT, POWER, ATOM = range(4)
WIDTH = 118


@dataclass(frozen=True)
class Piece:
    """Text, its precedence, and the properties that decide where a `*` is needed.

    `ket`: is a ket. `applied`: ends in an operator and the ket it acts on, `W |x>`.
    """

    text: str
    level: int = ATOM
    ket: bool = False
    applied: bool = False

    def at(self, level: int) -> str:
        """The text, in parentheses if it binds less tightly than `level`."""
        return self.text if self.level >= level else f"({self.text})"


Signed = tuple[bool, Piece]


def added(terms: Sequence[Signed]) -> Piece:
    """Terms with their signs, True for minus."""
    text = ""
    for minus, piece in terms:
        sign = "-" if minus else "+"
        text += f" {sign} {piece.at(PRODUCT)}" if text else f"-{piece.at(PRODUCT)}" if minus else piece.at(PRODUCT)
    return Piece(text, SUM, any(p.ket for _, p in terms))


def multiplied(factors: Sequence[Piece]) -> Piece:
    """`a[i] |x>`, `2 * <x|y>`, `sqrt(2) W |x>`, `|z> * (W |x>)`."""
    if len(factors) == 1:
        return factors[0]
    first, *rest = factors
    text, scalar = first.at(POWER if first.applied else PRODUCT), not first.ket
    for k, piece in enumerate(rest):
        bare = piece.applied and scalar and k == len(rest) - 1
        shown = piece.text if bare else piece.at(POWER)
        tight = scalar and (bare or shown.startswith("|"))
        text += (" " if tight else " * ") + shown
        scalar = scalar and not piece.ket
    return Piece(text, PRODUCT, any(p.ket for p in factors), factors[-1].applied and not factors[0].ket)


def divided(top: Piece, bottom: Piece) -> Piece:
    return Piece(f"{top.at(PRODUCT)} / {bottom.at(POWER)}", PRODUCT, top.ket or bottom.ket)


def raised(base: Piece, exponent: Signed) -> Piece:
    minus, piece = exponent
    return Piece(f"{base.at(ATOM)}^{'-' if minus else ''}{piece.at(ATOM)}", POWER, base.ket or piece.ket)


def called(name: str, args: Sequence[str], ket: bool = False) -> Piece:
    return Piece(f"{name}({', '.join(args)})", ATOM, ket)


def signed(piece: Signed) -> Piece:
    """A piece with its sign."""
    minus, inner = piece
    return added([piece]) if minus else inner


def label(piece: Piece) -> str:
    """Text between the bars of a bracket: bare bras and kets, and a leading sign, need parentheses."""
    return f"({piece.text})" if piece.text.startswith("-") or _bare(piece.text) else piece.text


def _bare(text: str) -> bool:
    """Whether there is a bra or ket outside all parentheses and brackets."""
    depth = 0
    for char in text:
        depth += (char in "([") - (char in ")]")
        if char in "<|" and depth == 0:
            return True
    return False


@lru_cache(maxsize=4096)
def number(value: float) -> Signed:
    """A number: a fraction or root if it is exactly the same double, otherwise its shortest decimal form."""
    minus, value = value < 0 or math.copysign(1, value) < 0, abs(value)
    plain = repr(int(value)) if value == int(value) and value < 1e15 else repr(value).replace("e-0", "e-")
    if len(plain) <= 8:
        return minus, Piece(plain)
    for k in range(2, 100):
        if math.sqrt(k) == value:
            return minus, Piece(f"sqrt({k})")
        if 1 / math.sqrt(k) == value:
            return minus, Piece(f"1 / sqrt({k})", PRODUCT)
        top = round(value * k)
        if 0 < top < 1000 and top / k == value:
            return minus, Piece(f"{top}/{k}", PRODUCT)
    return minus, Piece(plain)


def identifiers(text: str) -> set[str]:
    """The identifiers of a text."""
    return set(re.findall(r"[^\W\d]\w*", text))


def wrapped(line: str) -> str:
    """A long statement in several lines, broken after signs and commas, at the outermost possible level."""
    indent = len(line) - len(line.lstrip(" ")) + 4
    for depth in range(6):
        for signs in ("+-,", "*/"):
            if max(map(len, line.split("\n"))) > WIDTH:
                line = _broken(line, depth, signs, indent)
    return line


def _broken(text: str, depth: int, signs: str, indent: int) -> str:
    """Breaks lines that are too long after signs at one depth of brackets."""
    out, at, start, last, width = "", 0, 0, 0, 0
    for k, char in enumerate(text):
        width = 0 if char == "\n" else width + 1
        at += (char in "([{") - (char in ")]}")
        if char == "\n":
            last = 0
        elif at == depth and char == " " and text[k - 1] in signs and (text[k - 1] == "," or text[k - 2] == " "):
            last = k
        if width > WIDTH and last > start:
            out += text[start:last] + "\n" + " " * indent
            start, width = last + 1, indent + k - last
    return out + text[start:]


def in_ket(piece: Piece) -> Piece:
    """A bare label as a ket."""
    return replace(piece, text=f"|{piece.text}>", ket=True)
