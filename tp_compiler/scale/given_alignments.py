"""The alignments that `tpc scale --alignment` is given: a word for all parameters, or measured ones from a file.

A file is JSON with an object `alignments`: `{"alignments": {"W": {"alpha": 0.9, "omega": 0.5, "u": 0.8}}}`, as `tpc coord --json`
writes it. An exponent that is left out, or null, is that of full alignment. If the program has no parameter of this name, the row's
`declared` is its name in the program.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from tp_compiler.diagnostics import Diagnostic, ProgramError, Source, Span, suggest
from tp_compiler.scale.alignment import FULL, MATRIX, NONE, ONE, READOUT, Alignment
from tp_compiler.scale.numbers import HALF
from tp_compiler.scale.optimizers import ParameterKind
from tp_compiler.scale.program import NetworkParameter

#: How a file of measured alignments is asked for.
MEASURED = "measured="
#: The other words, with what they mean.
WORDS = {
    "full": "updates are aligned: α = u = 1, ω = 1/2",
    "none": "nothing is aligned: α = ω = u = 1/2",
    "limit": "as in the limit of infinite width: full, and readouts are aligned with what moves, ω = 1",
}
_WRITE = "write it with `tpc coord MODULE:CHECK --json > FILE`"
_EXPONENTS = ("alpha", "omega", "u")

Given = str | Mapping[str, Alignment]


@dataclass(frozen=True)
class ParameterAlignments:
    """By the parameters' numbers; `title` says what was given, `notes` what the file left out."""

    title: str
    each: tuple[Alignment, ...]
    notes: tuple[str, ...] = ()

    def as_json(self, keys: Iterable[str]) -> dict[str, Any]:
        """What `tpc scale --json` lists as `alignment`, by the parameters' keys."""
        each = {key: alignment.as_json() for key, alignment in zip(keys, self.each, strict=True)}
        return {"given": self.title, "parameters": each, "notes": list(self.notes)}


def given_alignments(
    given: Given, parameters: Sequence[NetworkParameter], names: Sequence[Iterable[str]]
) -> ParameterAlignments:
    """Of each parameter, which has several names. Raises ProgramError NX605 to NX607."""
    if isinstance(given, str) and given.startswith(MEASURED):
        file = given.removeprefix(MEASURED)
        return _measured(f"measured, from {file}", _read(file), parameters, names)
    if not isinstance(given, str):
        return _measured("measured", [_Row(name, found) for name, found in given.items()], parameters, names)
    if given not in WORDS:
        raise _error("NX605", f"there is no alignment `{given}`", f"write {', '.join(WORDS)} or {MEASURED}FILE", None)
    return ParameterAlignments(f"{given}: {WORDS[given]}", tuple(_of_word(given, p) for p in parameters))


def _of_word(word: str, parameter: NetworkParameter) -> Alignment:
    if word == "limit":
        return READOUT if parameter.kind == ParameterKind.OUTPUT or parameter.tied else MATRIX
    return NONE if word == "none" else FULL


@dataclass(frozen=True)
class _Row:
    """Of one tensor: its name, and that in the program if it is another one; where the file says it."""

    name: str
    alignment: Alignment
    declared: str = ""
    span: Span | None = None


def _measured(
    title: str, rows: Iterable[_Row], parameters: Sequence[NetworkParameter], names: Sequence[Iterable[str]]
) -> ParameterAlignments:
    """The best alignment of all tensors that are one parameter of the program."""
    known = [set(own) for own in names]
    every = set().union(*known)
    found: list[list[Alignment]] = [[] for _ in known]
    for row in rows:
        name = row.name if row.name in every else row.declared or row.name
        if name not in every:
            remedy = suggest(name, every) or f"the parameters are {', '.join(sorted(every))}"
            raise _error("NX607", f"the program has no parameter `{name}`", remedy, row.span)
        next(own for own, of in zip(found, known, strict=True) if name in of).append(row.alignment)
    left = [
        p.shown
        for p, own in zip(parameters, found, strict=True)
        if not own and (p.kind.reads_features or p.tied) and not p.declared.still
    ]
    notes = (f"not measured, and taken as fully aligned: {', '.join(left)}",) if left else ()
    return ParameterAlignments(title, tuple(Alignment.best(own) if own else FULL for own in found), notes)


def _read(file: str) -> list[_Row]:
    try:
        source = Source(file, Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as problem:
        why = getattr(problem, "strerror", None) or "it is not UTF-8 text"
        raise _error("NX605", f"cannot read alignments from `{file}`: {why}", _WRITE, None) from None
    try:
        document = json.loads(source.text, parse_float=Fraction)
    except json.JSONDecodeError as problem:
        at = Span(source, problem.pos, problem.pos + 1)
        raise _error("NX605", f"alignments are not valid JSON: {problem.msg.lower()}", _WRITE, at) from None
    rows = document.get("alignments") if isinstance(document, dict) else None
    if not isinstance(rows, dict):
        message = f"`{file}` has no object `alignments`"
        raise _error("NX605", message, _WRITE, Span(source, 0, 1))
    return [_row(name, row, _place(source, name)) for name, row in rows.items()]


def _place(source: Source, name: str) -> Span:
    """The name as a key, after the word `alignments`."""
    written = json.dumps(name)
    start = source.text.find(written, source.text.find('"alignments"'))
    if start < 0:  # escaped in another way
        return Span(source, 0, 1)
    return Span(source, start, start + len(written))


def _row(name: str, row: Any, span: Span) -> _Row:
    if not isinstance(row, dict):
        remedy = 'write {"alpha": 1, "omega": 0.5, "u": 1}'
        raise _error("NX606", f"the alignment of `{name}` is not an object", remedy, span)
    usual = zip(_EXPONENTS, (FULL.update, FULL.features, FULL.both), strict=True)
    found = Alignment(*(_exponent(name, key, row.get(key), standard, span) for key, standard in usual))
    return _Row(name, found, str(row.get("declared") or ""), span)


def _exponent(name: str, key: str, value: Any, usual: Fraction, span: Span) -> Fraction:
    if value is None:
        return usual
    try:
        found = Fraction(value) if not isinstance(value, bool) else None
    except (TypeError, ValueError, ZeroDivisionError):
        found = None
    if found is None or not HALF <= found <= ONE:
        message = f"{key} of `{name}` is {value}, not a number between 1/2 and 1"
        raise _error(
            "NX606",
            message,
            "a sum of n terms is √n times as large if they are independent, and n times if aligned",
            span,
        )
    return found


def _error(code: str, message: str, remedy: str, span: Span | None) -> ProgramError:
    return ProgramError([Diagnostic(code, message, span, remedy)])
