"""What to write instead of a name that is not known."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from tp_compiler.diagnostics import Suggestion, suggest
from tp_compiler.frontend.habits import instead, plain

#: The files of the library that a program imports by name.
LIBRARIES = ("layers",)


def library_text(name: str) -> str:
    return files("tp_compiler").joinpath("library", f"{name}.nexort").read_text(encoding="utf-8")


@cache
def _offered() -> dict[str, tuple[str, str]]:
    """The functions of the libraries, by their plain names: the name, and the library."""
    found = (
        (name, library) for library in LIBRARIES for name in re.findall(r"^def (\w+)", library_text(library), re.M)
    )
    return {plain(name): (name, library) for name, library in found}


def hint(name: str, known: Iterable[str]) -> str:
    """A remedy for an unknown name: the library that has it, its counterpart here, or the nearest known name."""
    known = list(known)
    found, library = _offered().get(plain(name), ("", ""))
    if found and found not in known:
        text = f"write `import {library}` at the top" + (f", and `{found}`" if found != name else "")
        return Suggestion(name, found, text, f"import {library}")
    if re.fullmatch(r"_\d+", name):
        return "write numbers without `_`"
    return instead(name) or suggest(name, known) or "bind or declare it above this line, or check the spelling"
