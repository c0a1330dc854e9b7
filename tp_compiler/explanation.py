"""What a code such as NX226 means: the rule, its reason, an example that breaks it and one that does not.

The texts are in `explanations/`, one TOML file a section, read when they are asked for.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files

from tp_compiler.pages import Shown, written

#: A table of a TOML file, and the code that it is about.
_ENTRY = re.compile(r"^\[(NX\d{3})\]$", re.MULTILINE)


@dataclass(frozen=True, repr=False)
class Explanation(Shown):
    """A code.

    what, remedy   what is found, and what to write instead, each on one line
    why            the reason, in sentences
    bad, good      an example in which it is found, and the same without
    language       of the examples: "nexort", "console" (commands) or "python"
    command        the command that finds it in a program: `tpc check`, or another one with its options
    shown          the reason why there is no example
    """

    code: str
    section: str
    what: str
    remedy: str
    why: str = ""
    bad: str = ""
    good: str = ""
    language: str = "nexort"
    command: str = "check"
    shown: str = ""

    @property
    def is_warning(self) -> bool:
        return self.code >= "NX900"

    def markdown(self) -> str:
        return str(written(self, "markdown"))

    def to_json(self) -> dict[str, str]:
        return asdict(self)

    def _brief(self) -> str:
        return f"{self.code}: {self.what}"


@dataclass(frozen=True)
class Section:
    """The codes of one file; `name` is that of the file."""

    name: str
    title: str
    entries: tuple[Explanation, ...]


@dataclass(frozen=True, repr=False)
class Catalogue(Shown):
    """Every code, in sections."""

    sections: tuple[Section, ...]

    def to_json(self) -> dict[str, list[dict[str, str]]]:
        return {
            s.title: [{"code": e.code, "what": e.what, "remedy": e.remedy} for e in s.entries] for s in self.sections
        }

    def _brief(self) -> str:
        return f"{sum(len(s.entries) for s in self.sections)} codes in {len(self.sections)} sections"


def explain(code: str | int) -> Explanation:
    """What a code means: `NX226`, `nx226`, `226`. Raises ValueError, with the nearest code, for an unknown one."""
    wanted = _normal(code)
    for name, text in _texts().items():
        if wanted in _ENTRY.findall(text):
            return next(e for e in _section(name, text).entries if e.code == wanted)
    raise ValueError(f"there is no code {str(code)!r}; {_near(wanted)}")


def _near(wanted: str) -> str:
    """The code that this one begins with, or that of the nearest number."""
    digits = re.fullmatch(r"(?:NX)?(\d+)", wanted)
    if digits is None:
        return "a code is written NX226 or 226; `tpc explain` lists them"
    number = int(digits[1])
    nearest = min(codes(), key=lambda c: (not wanted.startswith(c), abs(int(c[2:]) - number)))
    return f"did you mean {nearest}?"


def catalogue() -> Catalogue:
    """Every code that there is."""
    return Catalogue(tuple(_section(name, text) for name, text in _texts().items()))


def codes() -> list[str]:
    """The codes alone, without reading what is said about them."""
    return [code for text in _texts().values() for code in _ENTRY.findall(text)]


def _normal(code: str | int) -> str:
    text = str(code).strip().upper()
    return f"NX{int(text):03}" if re.fullmatch(r"\d{1,3}", text) else text


@cache
def _texts() -> dict[str, str]:
    """The files by name, in the order of their codes."""
    folder = files("tp_compiler") / "explanations"
    found = {
        f.name.removesuffix(".toml"): f.read_text(encoding="utf-8")
        for f in folder.iterdir()
        if f.name.endswith(".toml")
    }
    return dict(sorted(found.items(), key=lambda item: min(_ENTRY.findall(item[1]))))


@cache
def _section(name: str, text: str) -> Section:
    table = tomllib.loads(text)
    title = str(table.pop("title"))
    return Section(name, title, tuple(Explanation(code, title, **table[code]) for code in sorted(table)))
