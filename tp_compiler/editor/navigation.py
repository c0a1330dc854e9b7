"""Where names are defined and used, and other names for them."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from itertools import accumulate
from pathlib import Path

from tp_compiler.check.hints import LIBRARIES
from tp_compiler.editor.edits import Edit, applied
from tp_compiler.editor.functions import OPTIMIZERS, words
from tp_compiler.editor.hover import lexeme_at
from tp_compiler.editor.program import Open, exported, file_text, imported_file, library_path
from tp_compiler.editor.symbols import Occurrence, Symbol, Symbols
from tp_compiler.editor.uses import words_in
from tp_compiler.frontend.syntax import RESERVED
from tp_compiler.frontend.tokens import INNER, KEYWORDS

#: A file and a stretch of it.
Location = tuple[str, int, int]


class CannotRename(ValueError):
    """Why a name cannot be changed, in words for the user."""


def definition(program: Open, offset: int) -> Location | None:
    """Where the name at an offset gets its value: for names bound more than once, by the last statement before it."""
    found = program.symbols.at(offset)
    if found is not None:
        symbol, place = found
        if symbol.home is not None:
            return symbol.home.path, symbol.home.start, symbol.home.end
        binding = symbol.binding_before(place.start)
        return (program.path, binding.start, binding.end) if binding is not None else None
    return _standard(program, offset) or _file(program, offset)


def _standard(program: Open, offset: int) -> Location | None:
    """The text of a standard optimizer, or of a layer that is not imported."""
    found = lexeme_at(program, offset)
    word = words().get(found[1].text) if found is not None else None
    if word is None or word.kind not in ("optimizer", "layer"):
        return None
    defined = (symbol for library in (*OPTIMIZERS, *LIBRARIES) for symbol in exported(library_path(library)))
    home = next((symbol.home for symbol in defined if symbol.name == word.name and not symbol.ket), None)
    return (home.path, home.start, home.end) if home is not None else None


def _file(program: Open, offset: int) -> Location | None:
    """The file of an import."""
    for start, end, path, quoted in program.symbols.imports:
        if start <= offset <= end:
            file = imported_file(program.path, path, quoted)
            return (str(file), 0, 0) if file.is_file() else None
    return None


def text_of(program: Open, path: str) -> str:
    """The text of a file that a location names."""
    return program.text if path == program.path else file_text(Path(path))


def references(program: Open, offset: int, declarations: bool = True) -> list[tuple[int, int]]:
    """Every place of the name at an offset; without those that bind it unless `declarations`."""
    found = program.symbols.at(offset)
    if found is None:
        return []
    return sorted((p.start, p.end) for p in found[0].places if declarations or not p.binds)


# -- renaming -------------------------------------------------------------------------------------------------------
def renamable(program: Open, offset: int) -> tuple[int, int]:
    """The place of the name at an offset that can be renamed. Raises CannotRename."""
    _, place = _own(program, offset)
    return place.start, place.end


def _own(program: Open, offset: int) -> tuple[Symbol, Occurrence]:
    """The name at an offset, which is one of the program's."""
    found = program.symbols.at(offset)
    if found is None:
        known = lexeme_at(program, offset)
        name = known[1].text if known is not None else ""
        raise CannotRename(
            f"`{name}` belongs to the language" if name in words() else "there is no name here to rename"
        )
    symbol, place = found
    if symbol.home is not None:
        raise CannotRename(f"`{symbol.shown}` is defined in {symbol.home.path}; rename it there")
    if symbol.name in ("step", *RESERVED):
        raise CannotRename(f"`{symbol.name}` belongs to the language")
    return symbol, place


def renamed(program: Open, offset: int, name: str) -> list[Edit]:
    """The edits (start, end, text) that give a name another spelling everywhere. Raises CannotRename."""
    symbol, _ = _own(program, offset)
    name = unicodedata.normalize("NFC", name.strip().removeprefix("|").removesuffix(">").removesuffix("⟩"))
    _spelled(name)
    edits = sorted((p.start, p.end, name) for p in symbol.places)
    if name != symbol.name:
        _unclashed(program, symbol, name, edits)
    return edits


def _spelled(name: str) -> None:
    if [word for word, *_ in words_in(name, 0, len(name))] != [name]:
        raise CannotRename(f"`{name}` is not a name: names are letters, digits and `_`, and do not start with a digit")
    if name in KEYWORDS or (len(name) > 1 and any(name in inner for inner in INNER.values())):  # `x` may be a name
        raise CannotRename(f"`{name}` is a keyword")
    if name in RESERVED or name in words():
        raise CannotRename(f"`{name}` belongs to the language")


def _unclashed(program: Open, symbol: Symbol, name: str, edits: list[Edit]) -> None:
    """After the edits every place must mean what it meant before, and parameters have different names."""
    before = program.symbols
    function = before.top.others.get(symbol.owner)
    if symbol.what == "parameter" and function is not None and name in function.parameters:
        raise CannotRename(f"`{name}` is another parameter of `{symbol.owner}`")
    after = Symbols(applied(program.text, edits), before.load)
    starts = [start for start, _, _ in edits]
    moved = [0, *accumulate(len(new) - (end - start) for start, end, new in edits)]  # by the edits before a place
    paired: dict[Symbol, Symbol] = {}
    same = len(before.found) == len(after.found) and all(
        at == start + moved[bisect_left(starts, start)] and paired.setdefault(old, new) is new
        for (start, _, old), (at, _, new) in zip(before.found, after.found, strict=True)
    )
    if not same or len(set(paired.values())) != len(paired):
        raise CannotRename(f"`{name}` has a meaning here already")
