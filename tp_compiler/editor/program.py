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


def imported_file(program: str, path: str, quoted: bool) -> Path:
    """The file that an import names."""
    return Path(program).parent / path if quoted else library_path(path)


def file_text(file: Path) -> str:
    """The text of another file; empty if it cannot be read or is too large."""
    try:
        return file.read_text(encoding="utf-8-sig") if file.stat().st_size <= MAX_BYTES else ""
    except (OSError, ValueError):
        return ""


def imported(program: str, path: str, quoted: bool, depth: int = 0) -> Iterable[Symbol]:
    """The names that `import` brings into a program."""
    if not quoted and path not in LIBRARIES:
        return ()
    file = imported_file(program, path, quoted)
    return exported(file, depth) if file.suffix == ".nexort" and depth < MAX_DEPTH else ()


def exported(file: Path, depth: int = 0) -> Iterable[Symbol]:
    """The names that a file gives to those that import it; none if it cannot be read."""
    return _exported(str(file), file_text(file), depth)


@lru_cache(64)
def _exported(path: str, text: str, depth: int) -> tuple[Symbol, ...]:
    symbols = Symbols(text, lambda inner, quoted: imported(path, inner, quoted, depth + 1))
    return tuple(symbols.exported(path))
