"""A program that is open in an editor: its text, the names in it, and what the last check said."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path

from tp_compiler.check.hints import LIBRARIES
from tp_compiler.editor.checking import Report
from tp_compiler.editor.symbols import Symbol, Symbols

#: How deep the imports of imported files are followed.
MAX_DEPTH = 20
#: Larger files are not read.
MAX_BYTES = 4 * 2**20


class Open:
    """One version of a text. `checked`: the report of the last check, and the names of the text that it checked."""

    def __init__(self, path: str, text: str, checked: tuple[Report, Symbols] | None = None):
        self.path, self.text = path, text
        self.checked = checked

    @cached_property
    def symbols(self) -> Symbols:
        program = self.path  # not `self`: a version that nobody holds is freed at once
        return Symbols(self.text, lambda path, quoted: imported(program, path, quoted))

    def edited(self, text: str) -> Open:
        """The next version; the last check still says something about it."""
        return Open(self.path, text, self.checked)

    def fact(self, symbol: Symbol, start: int) -> str:
        """What the last check found a name to be: here if nothing has changed, otherwise at the same use of the same name."""
        if self.checked is None:
            return ""
        report, symbols = self.checked
        if symbols.text == self.text and start in report.facts:
            return report.facts[start]
        names = (
            next((n for n in symbols.bodies if n.owner == symbol.owner), symbols.top) if symbol.owner else symbols.top
        )
        before = names.table(symbol.ket).get(symbol.name)
        if before is None:
            return ""
        turn = next((k for k, p in enumerate(symbol.places) if p.start == start), 0)
        places = [*before.places[turn:], *before.places]
        return next((report.facts[p.start] for p in places if p.start in report.facts), "")


def library_path(name: str) -> Path:
    """The file of a library."""
    return Path(str(files("tp_compiler").joinpath("library", f"{name}.nexort")))


def imported(program: str, path: str, quoted: bool, depth: int = 0) -> Iterable[Symbol]:
    """The names that `import` brings into a program."""
    if not quoted and path not in LIBRARIES:
        return []
    file = Path(program).parent / path if quoted else library_path(path)
    try:
        if depth >= MAX_DEPTH or (quoted and file.suffix != ".nexort") or file.stat().st_size > MAX_BYTES:
            return []
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError):
        return []
    return _exported(str(file), text, depth)


@lru_cache(64)
def _exported(path: str, text: str, depth: int) -> tuple[Symbol, ...]:
    symbols = Symbols(text, lambda inner, quoted: imported(path, inner, quoted, depth + 1))
    return tuple(symbols.exported(path))
