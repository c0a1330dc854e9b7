"""The TextMate grammar, for editors that colour by regular expressions; written from the tables of the language.

python -m tp_compiler.editor.textmate > grammar/vscode/syntaxes/nexort.tmLanguage.json

With `--plist` it is written as Sublime Text and TextMate read it.

It knows less than the language server: between the bars of <x|W|y> the operator has the colour of a ket.
"""

from __future__ import annotations

import json
import plistlib
import re
import sys
import unicodedata
from collections.abc import Iterable
from typing import Any

from tp_compiler.editor.functions import words
from tp_compiler.frontend.tokens import AFTER_BRA, BINDS, INNER, KEYWORDS

Rule = dict[str, Any]

_NAME = r"(?:(?!ᵀ)[\p{L}_])(?:(?!ᵀ)[\p{L}\p{M}\p{N}_])*"
_END = r"(?![\p{L}\p{M}\p{N}_])"
_START = r"(?<![\p{L}\p{M}\p{N}_])"
#: Where a statement begins.
_FIRST = r"(?<=^|[;{])\s*"
#: An operand ends here, and white space follows.
_OPERAND = r"(?<=[\p{L}\p{M}\p{N}_\])>⟩\"'ᵀ])\s*"
#: The arguments of a function follow, after primes and brackets.
_CALLED = r"(?='*\s*(?:\[[^\]\n]*\])?\s*\()"
#: Tokens as regular expressions, where they decide whether a word is a keyword.
_TOKENS = {
    "NAME": rf"[ \t]+{_NAME}", "NUMBER": r"[ \t]*[\d.]", "STRING": r'[ \t]*"', "BAR": r"[ \t]*\|", "LBRACE": r"[ \t]*\{",
    "EQUAL": "=", "LSQB": r"\[", "COMMA": ",", "COLON": ":", "ASSIGN": ":=", "RPAR": r"\)", "RSQB": r"\]",
    "SEMICOLON": ";", "RBRACE": r"\}", "NEWLINE": "$", "ADDOP": r"[+\-]", "MULOP": r"[*/]", "LANGLE": "[<⟨]", "$END": "(?:$|#)",
}  # fmt: skip
_LETTERS = range(0xC0, 0x1F00)


def grammar() -> Rule:
    """The grammar, as JSON has it."""
    return {
        "name": "NEXORT",
        "scopeName": "source.nexort",
        "fileTypes": ["nexort"],
        "patterns": [{"include": "#comment"}, {"include": "#statements"}, {"include": "#expression"}],
        "repository": {
            "comment": _rule(r"#.*$", "comment.line.number-sign"),
            "statements": {"patterns": [*_statements(), *_inner()]},
            "expression": {"patterns": [{"include": f"#{name}"} for name in _EXPRESSION]},
            "string": _rule(r'"[^"\n]*"', "string.quoted.double"),
            "number": _rule(rf"{_START}(?:\d+(?:\.(?!\.)\d*)?|\.\d+)(?:[eE][+\-]?\d+)?", "constant.numeric"),
            "bracket": _label(r"[<⟨]", rf"[>⟩]|\|(?=\s*{_any(AFTER_BRA)})|(?=$)", "bracket"),
            "ket": _label(r"\|", r"[>⟩]|(?=$)", "ket"),
            "label": {"patterns": _names_in_labels()},
            "parentheses": {
                "begin": r"\(",
                "end": r"\)|(?=$)",
                "patterns": [{"include": "#ket"}, {"include": "#bracket"}, {"include": "#label"}],
            },
            "indices": {
                "begin": r"(?<=[\p{L}\p{M}\p{N}_'])\[",
                "end": r"\]",
                "beginCaptures": _captures({0: "punctuation.section.brackets"}),
                "endCaptures": _captures({0: "punctuation.section.brackets"}),
                "patterns": [
                    {"include": "#number"},
                    {"include": "#call"},
                    _rule(_NAME, "variable.other.index"),
                    {"include": "#operators"},
                ],
            },
            "law": {
                "match": rf"(~)\s*({_alternatives('law')}){_END}",
                "captures": _captures({1: "keyword.operator", 2: "support.function.law"}),
            },
            "optimizer": _rule(rf"{_START}(?:{_alternatives('optimizer')})(?=\s*\()", "support.class"),
            "layer": _rule(rf"{_START}(?:{_alternatives('layer')}){_CALLED}", "support.function.layer"),
            "function": _rule(rf"{_START}(?:{_alternatives('function')}){_CALLED}", "support.function"),
            "delta": _rule(rf"{_START}delta(?=\[)", "support.function"),
            "call": _rule(rf"{_START}{_NAME}(?='*(?:\[[^\]\n]*\])?\()", "entity.name.function"),
            "constant": _rule(rf"{_START}(?:{_alternatives('constant')}){_END}", "constant.language"),
            "argument": {
                "match": rf"(?<=[(,])\s*({_NAME})\s*(?==)",
                "captures": _captures({1: "variable.parameter"}),
            },
            "clt": _rule(rf"{_START}clt{_END}", "keyword.other"),
            "operators": {
                "patterns": [
                    _rule(rf"\^\s*T{_END}|ᵀ|@\s*\d+|(?<=[\p{{L}}\p{{M}}\p{{N}}_])'+", "keyword.operator.word"),
                    _rule(r":=|\.\.|[+\-*/^=~]", "keyword.operator"),
                ]
            },
            "name": _rule(rf"{_START}{_NAME}", "variable.other"),
        },
    }


_EXPRESSION = (
    "comment", "string", "law", "argument", "clt", "optimizer", "function", "delta", "layer", "call", "indices", "bracket",
    "ket", "number", "constant", "operators", "name",
)  # fmt: skip


def _rule(match: str, scope: str) -> Rule:
    return {"match": match, "name": f"{scope}.nexort"}


def _captures(scopes: dict[int, str]) -> Rule:
    return {str(k): {"name": f"{scope}.nexort"} for k, scope in scopes.items()}


def _any(kinds: Iterable[str]) -> str:
    return f"(?:{'|'.join(sorted({_TOKENS[k] for k in kinds if k in _TOKENS}))})"


def _follows(needs: tuple[str, ...] | None) -> str:
    """What must follow a word for it to be a keyword; None: anything that does not bind it as a name."""
    if needs is None:
        return rf"{_END}(?!\s*{_any(BINDS)})"
    return f"{_END}(?={'|'.join(sorted(_TOKENS[k] for k in needs))})"


def _statements() -> list[Rule]:
    """Keywords where statements begin, each with what it needs after it; and the names that they declare."""
    rules: list[Rule] = []
    by_needs: dict[tuple[str, ...] | None, list[str]] = {}
    for word, (_, needs) in KEYWORDS.items():
        by_needs.setdefault(needs, []).append(word)
    for needs, same in by_needs.items():
        declares = "NAME" in (needs or ()) and "STRING" not in (needs or ())
        name = rf"(?:[ \t]+({_NAME}))?" if declares else ""
        rules.append(
            {
                "match": rf"{_FIRST}({'|'.join(same)}){_follows(needs)}{name}",
                "captures": _captures({1: "keyword.control", 2: "variable.other.declaration"}),
            }
        )
    return rules


def _inner() -> list[Rule]:
    """Keywords inside statements: after an operand, before what they need."""
    by_needs: dict[tuple[str, ...] | None, set[str]] = {}
    for inner in INNER.values():
        for word, (_, needs) in inner.items():
            by_needs.setdefault(needs, set()).add(word)
    rules = []
    for needs, same in by_needs.items():
        long = "|".join(sorted(w for w in same if len(w) > 1))
        # Before a sign, `in`, `with` and the like are names.
        follows = r"\s+[^=\s*/+\-^,)\]]" if needs is None else rf"\s*{_any(needs)}"
        if long:
            match = rf"{_OPERAND}{_START}({long}){_END}(?={follows})"
            rules.append({"match": match, "captures": _captures({1: "keyword.other"})})
    rules.append(
        {
            "match": rf"(:)\s*({_NAME})\s+(x)(?=\s+{_NAME})",
            "captures": _captures({1: "punctuation.separator", 2: "variable.other", 3: "keyword.other"}),
        }
    )
    return rules


def _label(begin: str, end: str, name: str) -> Rule:
    """A ket, or a bracket: bare names in it are kets."""
    sign = _captures({0: "punctuation.definition.ket"})
    bar = _rule(r"\|", "punctuation.definition.ket")
    return {
        "begin": begin,
        "end": end,
        "beginCaptures": sign,
        "endCaptures": sign,
        "name": f"meta.{name}.nexort",
        "patterns": [bar, {"include": "#label"}],
    }


def _names_in_labels() -> list[Rule]:
    names = ("comment", "clt", "function", "layer", "call", "indices", "parentheses", "number")
    hatted = rf"[{_accented()}]|\p{{L}}[\x{{0302}}\x{{0307}}]"
    return [
        *({"include": f"#{name}"} for name in names),
        _rule(rf"{_START}(?:{hatted})[\p{{L}}\p{{M}}\p{{N}}_]*", "variable.language"),
        _rule(rf"{_START}{_NAME}", "variable.other.ket"),
        {"include": "#operators"},
    ]


def _accented() -> str:
    """Letters with a hat or a dot that are one character: the names of hats and dots in printed equations."""
    letters = map(chr, _LETTERS)
    return "".join(c for c in letters if unicodedata.normalize("NFD", c)[1:] in ("\u0302", "\u0307"))


def _alternatives(kind: str) -> str:
    names = sorted((w.name for w in words().values() if w.kind == kind), key=lambda n: (-len(n), n))
    return "|".join(map(re.escape, names))


def text() -> str:
    """The file, as VS Code reads it."""
    return json.dumps(grammar(), indent=2, ensure_ascii=False) + "\n"


def plist() -> str:
    """The same for Sublime Text and TextMate."""
    return plistlib.dumps(grammar()).decode()


if __name__ == "__main__":
    sys.stdout.write(plist() if "--plist" in sys.argv else text())
