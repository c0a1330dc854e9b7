"""What the compiler says of a program, as plain data; and the process that checks programs beside the server.

The process reads requests and writes reports, one line of JSON each, so that the server can end a check that takes long.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

from tp_compiler.diagnostics import Diagnostic, ProgramError, Source


@dataclass(frozen=True)
class Finding:
    """A diagnostic at a place of the text. `meant` can be put in the place of the word `written`, and the line `adds` at
    the top of the program."""

    code: str
    message: str
    remedy: str
    warning: bool
    start: int
    end: int
    written: str = ""
    meant: str = ""
    adds: str = ""


@dataclass(frozen=True)
class Report:
    """The findings, and what the names at some places are."""

    findings: tuple[Finding, ...] = ()
    facts: dict[int, str] = field(default_factory=dict)


def report(text: str, path: str) -> Report:
    """The report on a program with this text, whose imports and data are found from its path."""
    from tp_compiler import driver
    from tp_compiler.check.names import Seen
    from tp_compiler.editor.facts import NameFacts

    source, seen = Source(path, text), Seen()
    try:
        found = driver.diagnose(source, seen=seen)
    except ProgramError as problem:
        found = problem.diagnostics
    return Report(tuple(_finding(d, source) for d in found), NameFacts(seen).of(path))


def _finding(diagnostic: Diagnostic, source: Source) -> Finding:
    """A diagnostic in this text; of another file, at the import that reads it; without a place, at the first word."""
    span, message = diagnostic.span, diagnostic.message
    start, end = (span.start, span.end) if span is not None else _first_word(source.text)
    if span is not None and span.source.name != source.name:
        line, column = span.source.position(span.start)
        message = f"{span.source.name}:{line}:{column}: {message}"
        start, end = _import(source.text, span.source.name)
    suggestion = diagnostic.suggestion
    change = (suggestion.written, suggestion.meant, suggestion.adds) if suggestion is not None else ()
    return Finding(
        diagnostic.code, message, str(diagnostic.remedy), diagnostic.is_warning, start, max(end, start), *change
    )


def _first_word(text: str) -> tuple[int, int]:
    start = len(text) - len(text.lstrip())
    return start, start + len(text[start:].split(None, 1)[0] if text[start:] else "")


def _import(text: str, name: str) -> tuple[int, int]:
    """The place of the import of a file or library; the first word if it is imported by another file."""
    at = text.find(name.rpartition("/")[2].removesuffix(".nexort"))
    start = text.rfind("import", 0, at) if at >= 0 else -1
    return (start, text.find("\n", start) if "\n" in text[start:] else len(text)) if start >= 0 else _first_word(text)


# -- the process ----------------------------------------------------------------------------------------------------
def as_line(found: Report) -> bytes:
    """A report as a line of JSON. Many places have one fact."""
    places: dict[str, list[int]] = {}
    for at, text in found.facts.items():
        places.setdefault(text, []).append(at)
    return json.dumps({"findings": [asdict(f) for f in found.findings], "facts": places}).encode() + b"\n"


def from_line(line: bytes) -> Report:
    """The report in a line of JSON."""
    record: dict[str, Any] = json.loads(line)
    facts = {at: text for text, places in record["facts"].items() for at in places}
    return Report(tuple(Finding(**x) for x in record["findings"]), facts)


def main() -> None:
    """Answers requests `{"text": .., "path": ..}` on standard input until it ends. What is printed goes to standard error."""
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    sys.stdout = sys.stderr
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            found = report(request["text"], request["path"])
        except Exception as problem:  # a fault of the compiler: the editor goes on
            message = f"internal error ({type(problem).__name__}: {problem}); please report this bug"
            found = Report((Finding("", message, "", False, 0, 0),))
        output.write(as_line(found))
        output.flush()


if __name__ == "__main__":
    main()
