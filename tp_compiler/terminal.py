"""Standard streams, signals and files for the command: UTF-8, silent about closed pipes, never a partial file."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, TextIO

from tp_compiler.arguments import UsageError
from tp_compiler.diagnostics import Diagnostic, printable


class Unwritable(Exception):
    """Standard output cannot take the result: it is closed, or the disk is full."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C: what was computed is kept."""


#: The codes of the errors that were printed since `more` began.
_CODES: ContextVar[list[str] | None] = ContextVar("codes", default=None)
#: Codes that the last line names.
_NAMED = 3


def print_diagnostics(diagnostics: Iterable[Diagnostic]) -> None:
    """Each finding with its source line, on standard error."""
    for diagnostic in diagnostics:
        say(diagnostic.render())
        if not diagnostic.is_warning:
            _note(diagnostic.code)


def _note(code: str) -> None:
    codes = _CODES.get()
    if codes is not None:
        codes.append(code)


@contextmanager
def more(*, quiet: bool) -> Iterator[None]:
    """After errors were printed inside, one line says how to learn more about them."""
    codes: list[str] = []
    token = _CODES.set(codes)
    try:
        yield
    finally:
        _CODES.reset(token)
        if codes and not quiet:
            say(f"= more: tpc explain {' '.join(list(dict.fromkeys(codes))[:_NAMED])}")


def say(text: str) -> None:
    """A line for the person, on standard error: standard output is for results. A closed or full one costs nothing."""
    with suppress(OSError, ValueError, AttributeError):
        print(printable(text), file=sys.stderr)


def show(text: str) -> None:
    """A result, on standard output. Raises Unwritable."""
    with _output():
        print(_safe(text), file=_stdout())


def styled(text: str) -> None:
    """Our own text, in colours, on a terminal. Raises Unwritable."""
    with _output():
        print(text, file=_stdout())


def write(text: str) -> None:
    """Writes the text of a program to standard output: unchanged, except on a terminal. Raises Unwritable."""
    with _output():
        _stdout().write(_safe(text))


def flush() -> None:
    """Everything printed has been taken, or Unwritable is raised."""
    with _output():
        _stdout().flush()


def _stdout() -> TextIO:
    if sys.stdout is None:
        raise Unwritable("it is closed")
    return sys.stdout


def on_screen() -> bool:
    """Is standard output a terminal?"""
    return sys.stdout is not None and sys.stdout.isatty()


def _safe(text: str) -> str:
    """On a terminal, no text of a program acts as a command; tabs are text."""
    if not on_screen():
        return text
    return "\t".join(printable(part) for part in text.split("\t"))


@contextmanager
def _output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        raise Unwritable(getattr(error, "strerror", None) or str(error)) from None


def written(path: str, write: Callable[[], None]) -> bool:
    """Writes a file in addition to the printed result; a failure changes the exit code but does not lose the result."""
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
        raise UsageError(f"{path} already exists") from None
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


def prepare_streams() -> None:
    """Makes the streams UTF-8, like programs, whatever the locale; closed streams must not be reused for our files."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(
                os.devnull, os.O_RDWR
            )  # otherwise the next file opened gets this number, and the printed text with it
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="strict" if stream is sys.stdin else "backslashreplace")


@contextmanager
def signals() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt and SIGTERM Terminated, once; a second SIGTERM ends the process."""
    if current_thread() is not main_thread():
        yield
        return

    def terminate(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if before[signal.SIGINT] is not signal.SIG_IGN:  # nohup, a job in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if before[signal.SIGTERM] is not signal.SIG_IGN:
        signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def terminated() -> bool:
    """Has SIGTERM been received (inside `signals`)?"""
    return current_thread() is main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def silence() -> int:
    """The reader of our output has closed it, as `head` does: stop silently, also when Python flushes at exit."""
    with (
        open(os.devnull, "w") as nowhere,
        suppress(OSError, ValueError, AttributeError),
    ):  # captured streams have no number
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return 0
