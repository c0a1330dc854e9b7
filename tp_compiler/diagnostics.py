"""Diagnostics: code, source location, message, suggested fix.

A mistake of the user is a `Diagnostic`, collected in a `Diagnostics` list or, if evaluation cannot continue,
carried by `ProgramError`. Python exceptions of other kinds are bugs of this compiler.
"""

from __future__ import annotations

import difflib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from tp_compiler.pages import Shown

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Source:
    """A program text and the name it is reported under (`-` is standard input).

    `allow_outside`: the program may read files that are not below its folder (check/reach.py).
    """

    name: str
    text: str = field(repr=False)
    allow_outside: bool = False

    @cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        starts.extend(k + 1 for k, char in enumerate(self.text) if char == "\n")
        return starts

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of a character offset, both counted from 1."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of one line (counted from 1), without its newline."""
        start = self._starts[number - 1]
        end = self.text.find("\n", start)
        return self.text[start:] if end < 0 else self.text[start:end]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a source: characters `start` (inclusive) to `end` (exclusive)."""

    source: Source
    start: int
    end: int

    def to(self, other: Span) -> Span:
        """The stretch from the start of this span to the end of the other."""
        return Span(self.source, self.start, other.end)

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]


class Suggestion(str):
    """A remedy that an editor can apply: in the place of the diagnostic `meant` instead of the word `written`, and the
    line `adds` at the top."""

    written: str
    meant: str
    adds: str

    def __new__(cls, written: str, meant: str, text: str = "", adds: str = "") -> Suggestion:
        self = super().__new__(cls, text or f"did you mean `{meant}`?")
        self.written, self.meant, self.adds = written, meant, adds
        return self

    def __getnewargs__(self) -> tuple[str, str, str, str]:  # type: ignore[override]
        return self.written, self.meant, str(self), self.adds


@dataclass(frozen=True)
class Diagnostic:
    """One finding. `message` says what is wrong, `remedy` what to write instead."""

    code: str
    message: str
    span: Span | None = None
    remedy: str = ""

    @property
    def is_warning(self) -> bool:
        return self.code >= "NX900"

    @property
    def suggestion(self) -> Suggestion | None:
        """The remedy, if an editor can apply it."""
        return self.remedy if isinstance(self.remedy, Suggestion) else None

    def render(self) -> str:
        """Several lines: place, message, the source line with carets, the remedy."""
        kind = "warning" if self.is_warning else "error"
        head = f"{kind}[{self.code}]: {printable(self.message)}"
        remedy = printable(self.remedy)
        if self.span is None:
            return head + (f"\n  = {remedy}" if remedy else "")
        source = self.span.source
        line, column = source.position(self.span.start)
        shown, shift, cut = _window(source.line(line), column - 1)
        width = max(1, min(self.span.end - self.span.start, len(shown) - (column - 1 - shift) - cut))
        margin = " " * len(str(line))
        lines = [
            f"{printable(source.name)}:{line}:{column}: {head}",
            f"{margin} |",
            f"{line} | {shown}",
            f"{margin} | {' ' * (column - 1 - shift)}{'^' * width}",
        ]
        if remedy:
            lines.append(f"{margin} = {remedy}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.render()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """For IPython, also in the list that `check` returns."""
        printer.text(self.render())

    def to_json(self) -> dict[str, object]:
        """For editors: code, severity, message, remedy, and the place in lines and columns from 1."""
        record: dict[str, object] = {
            "code": self.code,
            "severity": "warning" if self.is_warning else "error",
            "message": self.message,
            "remedy": self.remedy,
        }
        if self.span is not None:
            (line, column), (end_line, end_column) = map(self.span.source.position, (self.span.start, self.span.end))
            record |= {
                "file": self.span.source.name,
                "line": line,
                "column": column,
                "endLine": end_line,
                "endColumn": end_column,
            }
        return record


def printable(text: str) -> str:
    """The text with control characters escaped (`\\x1b`), so that a terminal does not obey them; line breaks are kept."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _window(line: str, at: int, width: int = 160) -> tuple[str, int, int]:
    """A printable part of a long line around column `at`: the text, its offset, and the length of its ellipsis."""
    start, ellipsis = 0, ""
    if len(line) > width:
        start = max(0, min(at - width // 2, len(line) - width))
        ellipsis = "…" if start + width < len(line) else ""
    shown = "".join(c if c.isprintable() else "�" for c in line[start : start + width].replace("\t", " "))
    return shown + ellipsis, start, len(ellipsis)


class ProgramError(Exception, Shown):
    """The program has errors; `diagnostics` lists them all."""

    def __init__(self, diagnostics: Iterable[Diagnostic]):
        self.diagnostics = list(diagnostics)
        super().__init__("\n\n".join(d.render() for d in self.diagnostics))

    def __reduce__(self) -> tuple[Any, ...]:
        """From one process to another."""
        return type(self), (self.diagnostics,)

    _repr_pretty_ = Shown._repr_pretty_  # IPython has one for exceptions in general

    def _render_traceback_(self) -> list[str]:
        """The lines that notebooks show instead of a traceback: the mistakes of the program are not in Python code."""
        return str(self).split("\n")


def error(code: str, message: str, span: Span, remedy: str = "") -> ProgramError:
    """One mistake, to be raised."""
    return ProgramError([Diagnostic(code, message, span, remedy)])


def suggest(name: str, known: Iterable[str]) -> str:
    """A remedy naming the nearest known name, or the empty string."""
    names = [k for k in known if "#" not in k]
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    close.sort(key=lambda k: sorted(k) != sorted(name))  # swapped letters first: Adma is Adam, not Adamax
    if not close:
        lowered = {k.lower(): k for k in names}
        close = [lowered[name.lower()]] if name.lower() in lowered else []
    return Suggestion(name, close[0]) if close else ""


@dataclass
class Diagnostics:
    """The findings of one run, in order; at most one per place and code, so that errors are not repeated."""

    found: list[Diagnostic] = field(default_factory=list)
    _seen: set[tuple[str, int, str]] = field(default_factory=set)

    def add(self, diagnostic: Diagnostic) -> None:
        span = diagnostic.span
        key = (diagnostic.code, span.start if span else -1, span.source.name if span else diagnostic.message)
        if key not in self._seen:
            self._seen.add(key)
            self.found.append(diagnostic)

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.found)

    @property
    def errors(self) -> list[Diagnostic]:
        return [d for d in self.found if not d.is_warning]

    @property
    def warnings(self) -> list[Diagnostic]:
        return [d for d in self.found if d.is_warning]

    @contextmanager
    def apart(self) -> Iterator[Diagnostics]:
        """Collect the diagnostics found inside separately."""
        outer, inner = (self.found, self._seen), Diagnostics()
        self.found, self._seen = inner.found, inner._seen
        try:
            yield inner
        finally:
            self.found, self._seen = outer

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Raise the errors found inside together."""
        with self.apart() as inner:
            try:
                yield
            except ProgramError as problem:
                raise ProgramError([*inner.errors, *problem.diagnostics]) from None
        inner.raise_if_errors()
        for diagnostic in inner:
            self.add(diagnostic)

    def attempt(self, work: Callable[[], Result], counts: Callable[[], bool]) -> Result | None:
        """The result of `work`, keeping the diagnostics it reports; None, without diagnostics, if it turns out not to count."""
        with self.apart() as inner:
            try:
                result = work()
            except ProgramError as problem:
                result = None
                for diagnostic in problem.diagnostics:
                    inner.add(diagnostic)
        if not counts():
            return None
        for diagnostic in inner:
            self.add(diagnostic)
        if result is None or inner.errors:
            raise ProgramError([])
        return result

    def raise_if_errors(self) -> None:
        if self.errors:
            raise ProgramError(self.errors)
