"""Standard streams and files as the command uses them: UTF-8, quiet about closed pipes, never half a file."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tp_compiler.arguments import UsageError
from tp_compiler.diagnostics import Diagnostic


def print_diagnostics(diagnostics: Iterable[Diagnostic]) -> None:
    """Each finding with its source line, on standard error."""
    for diagnostic in diagnostics:
        say(diagnostic.render())


def say(text: str) -> None:
    """A line for the person, on standard error: standard output is for results."""
    print(text, file=sys.stderr)


def written(path: str, write: Callable[[], None]) -> bool:
    """Write a file beside the printed result; a failure costs the exit code, not the result."""
    try:
        write()
    except OSError as error:
        say(f"tpc: cannot write {path}: {error.strerror or error}")
        return False
    return True


@contextmanager
def writing(path: str) -> Iterator[None]:
    """A failure to write the command's only product is a usage error."""
    try:
        yield
    except FileExistsError:
        raise UsageError(f"{path} exists and is not overwritten") from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None


def replace(path: Path, text: str) -> None:
    """Write a file so that an interruption leaves the old one or the new one; links and permissions are kept."""
    target = path.resolve()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    temporary = Path(name)
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        temporary.chmod(target.stat().st_mode)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def use_utf8() -> None:
    """Programs are UTF-8 and so are our streams, whatever the locale says."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="strict" if stream is sys.stdin else "backslashreplace")


def flushed(code: int) -> int:
    """The exit code, once everything printed has been taken."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return silence()
    return code


def silence() -> int:
    """The reader of our output has left, as `head` does: stop without a word, also when Python flushes at exit."""
    with open(os.devnull, "w") as nowhere, suppress(OSError, ValueError):  # a captured stream has no file number
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return 0
