"""The text of a program with its comments, keywords, kets and numbers marked, as HTML."""

from __future__ import annotations

import re
from html import escape

#: Words at the start of statements, and inside some of them.
KEYWORDS = (
    "nexort", "axis", "width", "data", "scalar", "ket", "matrix", "for", "def", "fn", "optimizer", "state", "train", "import",
    "parametrization", "init", "return", "output", "minimize", "update", "from", "key", "seed", "frozen", "in", "clip", "with",
)  # fmt: skip
_WORDS = "|".join(KEYWORDS)
_TOKEN = re.compile(
    rf"""
    (?P<comment>\#[^\n]*)
  | (?P<string>"[^"\n]*")
  | (?P<ket>\|[^|<>\s⟩⟨()=]+[>⟩]|[<⟨][^|<>\s⟩⟨()=]+\|)
  | (?P<keyword>(?<![\w'])(?:{_WORDS})(?![\w'=]))
  | (?P<number>(?<![\w.])(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    """,
    re.VERBOSE,
)


def highlighted(text: str) -> str:
    """Every character of the text, escaped, in its order."""
    out, end = [], 0
    for found in _TOKEN.finditer(text):
        out += [escape(text[end : found.start()]), f"<span class='{found.lastgroup}'>{escape(found[0])}</span>"]
        end = found.end()
    return "".join([*out, escape(text[end:])])
