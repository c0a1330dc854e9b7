"""Scopes: two namespaces (kets, and everything else) and snapshots for `def`."""

from __future__ import annotations

from collections.abc import Iterable

from tp_compiler.check.values import Binding

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
