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
        #: Kets from outside a def that a parameter hides: `x[d]` in a label is the parameter, `|x>` the ket.
        self.hidden: dict[str, Binding] = {}
        #: Is this the body of a def? Its statements bind locals, whatever is declared outside.
        self.body = False
        #: Is this the body of an optimizer, where plain names stand for entries of kets and matrices?
        self.entries = False

    @classmethod
    def empty(cls, library: dict[str, Binding]) -> Scope:
        return cls({}, {}, library)

    def snapshot(self) -> Scope:
        """The names as they are now: what a `def` written here sees."""
        copy = Scope(dict(self.kets), dict(self.others), self.library)
        copy.hidden = dict(self.hidden)
        return copy

    def named_ket(self, name: str) -> Binding | None:
        """The ket that a bare name inside a label stands for."""
        found = self.kets.get(name)
        return None if found is not None and self.hidden.get(name) is found else found

    def ket(self, name: str) -> Binding | None:
        return self.kets.get(name)

    def other(self, name: str) -> Binding | None:
        return self.others.get(name) or self.library.get(name)

    def function(self, name: str) -> Binding | None:
        """What `name(..)` calls: `step` is the function there, also where an index has that name."""
        return self.library["step"] if name == "step" else self.other(name)

    def known(self, ket: bool) -> Iterable[str]:
        return self.kets if ket else {**self.library, **self.others}


def suggest(name: str, known: Iterable[str]) -> str:
    """A remedy naming the nearest known name, or the empty string."""
    names = [k for k in known if "#" not in k]
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    close.sort(key=lambda k: sorted(k) != sorted(name))  # swapped letters first: Adma is Adam, not Adamax
    if not close:
        lowered = {k.lower(): k for k in names}
        close = [lowered[name.lower()]] if name.lower() in lowered else []
    return f"did you mean `{close[0]}`?" if close else ""
