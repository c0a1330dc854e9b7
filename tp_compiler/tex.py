"""Names as LaTeX: every name of a program becomes ASCII that amsmath can set, whatever its letters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_WORDS = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega"
#: Greek letters that LaTeX has no macro for look like Latin ones.
_LATIN = {
    "omicron": "o",
    "Alpha": "A",
    "Beta": "B",
    "Epsilon": "E",
    "Zeta": "Z",
    "Eta": "H",
    "Iota": "I",
    "Kappa": "K",
    "Mu": "M",
    "Nu": "N",
    "Omicron": "O",
    "Rho": "P",
    "Tau": "T",
    "Chi": "X",
}
#: Combining accents and the macro that sets them.
_ACCENTS = {
    "\u0300": "grave",
    "\u0301": "acute",
    "\u0302": "hat",
    "\u0303": "tilde",
    "\u0304": "bar",
    "\u0306": "breve",
    "\u0307": "dot",
    "\u0308": "ddot",
    "\u030c": "check",
}
GREEK = frozenset(_WORDS.split())


def spelled(name: str, upright: bool = False) -> str:
    r"""A name in math mode: `x`, `\xi` for xi and for ξ, `\mathrm{loss}`, `\mathrm{d}\Delta u`.

    `upright`: the word for a Greek letter stays a word if the letter itself is also a name.
    """
    if name in GREEK and not upright:
        return "\\" + name
    found, run = [], ""
    for char, piece in _pieces(name):
        if piece is None:
            run += char
            continue
        found += [_run(run), piece]
        run = ""
    return _joined([*found, _run(run)])


def _run(letters: str) -> str:
    if not letters or (len(letters) == 1 and letters.isalpha()):
        return letters
    word = letters.replace("_", r"\_")
    return rf"\mathrm{{{word}}}"


def _joined(parts: list[str]) -> str:
    """Separates a macro that ends in a letter from a following letter."""
    text = ""
    for part in parts:
        gap = " " if re.search(r"\\[A-Za-z]+$", text) and part[:1].isalpha() else ""
        text += gap + part
    return text


def _pieces(name: str) -> Iterator[tuple[str, str | None]]:
    """Each letter, with its LaTeX where it is not plain."""
    for char in unicodedata.normalize("NFC", name):
        yield char, None if char.isascii() and (char.isalnum() or char == "_") else _letter(char)


def _letter(char: str) -> str:
    greek = re.fullmatch(r"GREEK (SMALL|CAPITAL) LETTER (FINAL )?([A-Z]+)( SYMBOL)?", unicodedata.name(char, ""))
    if greek or char in ("ϑ", "ϕ", "ϵ", "ϱ", "ϖ"):
        name = greek.group(3) if greek else ""
        word = {"ϑ": "vartheta", "ϕ": "phi", "ϵ": "epsilon", "ϱ": "varrho", "ϖ": "varpi"}.get(char) or (
            name.lower() if greek and greek.group(1) == "SMALL" else name.capitalize()
        )
        word = word.replace("lamda", "lambda").replace("Lamda", "Lambda")
        return _LATIN.get(word, "\\" + word)
    if char == "ℓ":
        return r"\ell"
    base, *marks = list(unicodedata.normalize("NFD", char))
    if base.isascii() and base.isalpha() and marks and all(m in _ACCENTS for m in marks):
        text = base
        for mark in marks:
            text = rf"\{_ACCENTS[mark]}{{{text}}}"
        return text
    plain = unicodedata.normalize("NFKC", char)
    if plain.isascii() and plain.isalnum():
        return plain
    return rf"\mathrm{{u{ord(char):x}}}"
