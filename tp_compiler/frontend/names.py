"""Scopes: two namespaces (kets, and everything else), snapshots for `def`, and "did you mean"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from tp_compiler.frontend.values import Binding

#: Names with a meaning of their own; nothing may be declared under them.
RESERVED = {"E", "I", "T", "clt", "step"}


class Scope:
    """Names and what they stand for. Blocks of `for` share it; a `def` sees a snapshot."""

    def __init__(self, kets: dict[str, Binding], others: dict[str, Binding], library: dict[str, Binding]):
        self.kets = kets
        self.others = others
        self.library = library

    @classmethod
    def empty(cls, library: dict[str, Binding]) -> Scope:
        return cls({}, {}, library)

    def snapshot(self) -> Scope:
        """The names as they are now: what a `def` written here sees."""
        return Scope(dict(self.kets), dict(self.others), self.library)

    def ket(self, name: str) -> Binding | None:
        return self.kets.get(name)

    def other(self, name: str) -> Binding | None:
        return self.others.get(name) or self.library.get(name)

    def known(self, ket: bool) -> Iterable[str]:
        return self.kets if ket else {**self.library, **self.others}


def suggest(name: str, known: Iterable[str]) -> str:
    """A remedy naming the nearest known name, or the empty string."""
    names = [k for k in known if "#" not in k]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if not close:
        lowered = {k.lower(): k for k in names}
        close = [lowered[name.lower()]] if name.lower() in lowered else []
    return f"did you mean `{close[0]}`?" if close else ""
