"""Changes of a text: quick fixes of findings, and the difference that formatting makes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from tp_compiler.editor.checking import Finding
from tp_compiler.editor.program import Open

#: Start, end, and the text in its place.
Edit: TypeAlias = tuple[int, int, str]
#: A line that stays above imports: empty, a comment, or the version.
_HEAD = re.compile(r"[ \t]*(?:#[^\n]*|nexort\s+1[^\n]*)?\n")


@dataclass(frozen=True)
class Fix:
    """A quick fix of a finding."""

    title: str
    edits: tuple[Edit, ...]
    finding: Finding


def fixes(program: Open, start: int, end: int) -> list[Fix]:
    """Quick fixes of findings between two offsets, if the last check was one of this text."""
    if program.checked is None or program.checked[1].text != program.text:
        return []
    near = [f for f in program.checked[0].findings if f.meant and f.start <= end and f.end >= start]
    return [fix for f in near if (fix := _fix(program.text, f)) is not None]


def _fix(text: str, finding: Finding) -> Fix | None:
    word = re.compile(rf"(?<!\w){re.escape(finding.written)}(?!\w)")
    place = word.search(text, finding.start, max(finding.end, finding.start + len(finding.written)))
    if place is None:
        return None
    edits: list[Edit] = []
    title = f"Change `{finding.written}` to `{finding.meant}`"
    if finding.adds:
        top = _top(text)
        edits.append((top, top, f"{finding.adds}\n"))
        title = f"Add `{finding.adds}`"
    if finding.written != finding.meant:
        edits.append((place.start(), place.end(), finding.meant))
    return Fix(title, tuple(edits), finding)


def _top(text: str) -> int:
    """The first line that is not part of the head of a program; a comment directly above a statement belongs to it."""
    at = found = 0
    while (line := _HEAD.match(text, at)) is not None:
        at = line.end()
        if not text[line.start() : at].lstrip().startswith("#"):
            found = at
    return found


def applied(text: str, edits: list[Edit] | tuple[Edit, ...]) -> str:
    """The text after edits, which do not overlap."""
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def difference(old: str, new: str) -> list[Edit]:
    """The lines in which two texts differ, from the first to the last, as one edit."""
    if old == new:
        return []
    lines, others = old.splitlines(keepends=True), new.splitlines(keepends=True)
    shortest = min(len(lines), len(others))
    first = next((k for k in range(shortest) if lines[k] != others[k]), shortest)
    last = next((k for k in range(shortest - first) if lines[-1 - k] != others[-1 - k]), shortest - first)
    start, end = sum(map(len, lines[:first])), sum(map(len, lines[: len(lines) - last]))
    return [(start, end, "".join(others[first : len(others) - last]))]
