"""The outline of a program: declarations, definitions, bindings, training and outputs, in the order of the text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tp_compiler.editor.program import Open
from tp_compiler.editor.uses import Enclosed, Item, Mention, uses
from tp_compiler.frontend import syntax as ast


@dataclass(frozen=True)
class OutlineEntry:
    """`kind`: what the name is bound as, `train`, or the first word of a statement in it. `at` is the place of the name."""

    name: str
    kind: str
    detail: str
    start: int
    end: int
    at: tuple[int, int]
    inside: tuple[OutlineEntry, ...] = ()


def outline(program: Open) -> list[OutlineEntry]:
    """The entries at top level; those of training and of definitions have entries of their own."""
    found: list[OutlineEntry] = []
    for start, chunk in program.symbols.chunks:
        loops = [s for s in chunk.file.statements if isinstance(s, ast.Train)]
        entries = list(_entries(program.text, uses(chunk), start))
        for loop in loops:
            inner = [e for e in entries if start + loop.span.start <= e.start < start + loop.span.end]
            entries = [e for e in entries if e not in inner]
            entries.append(_train(program.text, loop, start, inner))
        unnamed = [
            s for s in chunk.file.statements if isinstance(s, ast.Output) and (s.target is None or s.value is None)
        ]
        entries += [_output(program.text, s, start) for s in unnamed]
        found += sorted(entries, key=lambda e: e.start)
    return found


def _entries(text: str, items: Iterable[Item], start: int) -> Iterator[OutlineEntry]:
    blocks = {item.name: item for item in items if isinstance(item, Enclosed)}
    for item in items:
        if not isinstance(item, Mention) or not item.binds or item.binds == "loop variable":
            continue
        block = blocks.get(item.name) if item.binds in ("def", "optimizer", "fn") else None
        inside = tuple(_entries(text, block.body, start)) if block is not None and item.binds != "fn" else ()
        first, last = start + item.at[0], start + item.at[1]
        shown = f"|{item.name}>" if item.space == "ket" else item.name
        yield OutlineEntry(
            shown,
            item.binds,
            _first_line(text[first:last]),
            first,
            last,
            (start + item.start, start + item.end),
            inside,
        )


def _train(text: str, loop: ast.Train, start: int, inner: list[OutlineEntry]) -> OutlineEntry:
    first, last = start + loop.span.start, start + loop.span.end
    rest = []
    for s in loop.body:
        if isinstance(s, ast.Minimize | ast.Update):
            a, b = start + s.span.start, start + s.span.end
            kind = "minimize" if isinstance(s, ast.Minimize) else "update"
            rest.append(OutlineEntry(_first_line(text[a:b]), kind, "", a, b, (a, a + len(kind))))
    inside = tuple(sorted([*inner, *rest], key=lambda e: e.start))
    return OutlineEntry(
        "train", "train", _first_line(text[first:last]), first, last, (first, first + len("train")), inside
    )


def _output(text: str, s: ast.Output, start: int) -> OutlineEntry:
    first, last = start + s.span.start, start + s.span.end
    shown = s.target if s.target is not None else s.value
    assert shown is not None
    at = start + shown.span.start, start + shown.span.end
    return OutlineEntry(" ".join(shown.span.text.split()), "output", _first_line(text[first:last]), first, last, at)


def _first_line(text: str) -> str:
    return text.split("\n", 1)[0].split("#")[0].rstrip(" {")
