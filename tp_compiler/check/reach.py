"""Which files a program may read: those below its folder, or below the working directory for a program given as text.

Links are followed first. The rule applies to imports and data, also in imported files; it is lifted by
`--allow-outside` (`allow_outside=True` in Python).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tp_compiler.diagnostics import Diagnostic, ProgramError, Source, Span

#: Characters of a path.
MAX_PATH = 4096


@dataclass(frozen=True)
class Reach:
    """The folder that a program is confined to; `everywhere` lifts the restriction."""

    root: Path
    everywhere: bool

    @classmethod
    def of(cls, source: Source) -> Reach:
        return cls(_folder(source), source.allow_outside)

    def find(self, written: str, span: Span, missing: str) -> Path:
        """The file denoted by a path written at `span`, with links followed.

        Raises ProgramError NX143 if it is out of reach, `missing` if there is no such file.
        """
        folder = _folder(span.source)
        absent = Diagnostic(
            missing, f"there is no file `{_shown(written)}`", span, f"check the path, which is relative to `{folder}`"
        )
        try:
            real = (folder / written[:MAX_PATH]).resolve()
            root = self.root.resolve()
        except (OSError, ValueError, RuntimeError):  # a null byte, a cycle of links
            raise ProgramError([absent]) from None
        if not (self.everywhere or real.is_relative_to(root)):
            message = f"`{_shown(written)}` is outside the program's folder"
            remedy = "move the file there, or pass `--allow-outside` (in Python `allow_outside=True`)"
            raise ProgramError([Diagnostic("NX143", message, span, remedy)])
        if not _is_file(real):
            raise ProgramError([absent])
        return real


def _folder(source: Source) -> Path:
    """The folder that paths in a text are relative to."""
    return Path(source.name).parent if source.name != "-" else Path()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, a folder without permission
        return False


def _shown(path: str) -> str:
    return path if len(path) <= 200 else f"{path[:200]}…"
