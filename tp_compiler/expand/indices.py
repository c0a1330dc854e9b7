"""Index names: those that the axes declare, and new ones for generated indices (`i#3`)."""

from __future__ import annotations

from collections.abc import Iterable

from tp_compiler.diagnostics import Diagnostic, ProgramError, Span
from tp_compiler.ir.types import Axis, Index

STEP = "step"


class Indices:
    """The names of every axis. New names must not be among the words `taken`; in a bracket those of `kets` denote kets."""

    def __init__(self, declared: dict[Axis, list[str]], taken: set[str], kets: set[str], span: Span):
        self.declared = declared
        self.taken = taken
        self.kets = kets
        self.span = span

    def names(self, axis: Axis) -> list[str]:
        if axis.name == STEP:
            return [STEP]
        return self.declared.setdefault(axis, [])

    def pick(self, index: Index, used: Iterable[str], seen: Iterable[str] = ()) -> str:
        """A name for an index that differs from those used together with it: its own, another one of its axis, or a new one.

        Names seen around it are also avoided, if the axis has others.
        """
        used, seen = set(used), set(seen)
        names = self.names(index.axis)
        own = index.name.split("#")[0]
        for avoided in (used | seen | self.kets, used | self.kets):
            for name in (own, *names):
                if name in names and name not in avoided:
                    return name
        return self._new(index.axis, own if own in names else names[0] if names else "i")

    def _new(self, axis: Axis, stem: str) -> str:
        if axis.name == STEP:
            raise ProgramError(
                [
                    Diagnostic(
                        "NX502",
                        "one statement has two indices over the steps",
                        self.span,
                        "bind one of the sums separately",
                    )
                ]
            )
        k = 2
        while f"{stem}{k}" in self.taken:
            k += 1
        self.taken.add(f"{stem}{k}")
        self.declared[axis].append(f"{stem}{k}")
        return f"{stem}{k}"
