"""`import`: the text of a file or a library, once per program, within limits that are checked before anything is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tp_compiler.check.hints import LIBRARIES, library_text
from tp_compiler.check.reach import Reach
from tp_compiler.diagnostics import Source, Span, error
from tp_compiler.frontend import syntax as ast

#: All files together, their number, and how deep they import each other.
MAX_BYTES = 64 * 2**20
MAX_FILES = 1000
MAX_DEPTH = 50


class Imports:
    """The imports of a program."""

    def __init__(self) -> None:
        self.known: set[str] = set()  # a file is read once, which also ends cycles
        self.bytes = 0
        self.depth = 0

    @contextmanager
    def inside(self, span: Span) -> Iterator[None]:
        """While the statements of an import run."""
        if self.depth >= MAX_DEPTH:
            raise error(
                "NX144", f"imports are nested more than {MAX_DEPTH} deep", span, "import the files from one program"
            )
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def library(self, s: ast.Import) -> Source | None:
        if s.path not in LIBRARIES:
            remedy = 'write `import layers`, or `import "file.nexort"`; `relu`, `Adam` and the like need no import'
            raise error("NX140", f"there is no library `{s.path}`", s.span, remedy)
        path = f"library/{s.path}.nexort"
        if path in self.known:
            return None
        self.known.add(path)
        return Source(path, library_text(s.path))

    def file(self, s: ast.Import, reach: Reach) -> Source | None:
        """The text of an import; None if the file was imported before."""
        real = reach.find(s.path, s.span, "NX141")
        if real.suffix != ".nexort":
            remedy = "use a file ending in `.nexort`, or read numbers with `data ... from`"
            raise error("NX142", f"`{s.path}` is not a program", s.span, remedy)
        if str(real) in self.known:
            return None
        self.known.add(str(real))
        if len(self.known) > MAX_FILES:
            raise error("NX144", f"more than {MAX_FILES} files are imported", s.span, "join some of them")
        name = str(Path(s.span.source.name).parent / s.path) if s.span.source.name != "-" else s.path
        return Source(name, self._text(real, s))

    def _text(self, path: Path, s: ast.Import) -> str:
        left = MAX_BYTES - self.bytes
        try:
            with open(path, "rb") as file:
                raw = file.read(left + 1)
            text = raw.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError):
            raise error("NX142", f"`{s.path}` is not valid UTF-8 text", s.span, "check the file") from None
        if len(raw) > left:
            message = f"the imports add up to more than {MAX_BYTES // 2**20} MiB"
            raise error("NX144", message, s.span, "keep data in `.npy`, `.npz` or `.csv` files")
        self.bytes += len(raw)
        return text
