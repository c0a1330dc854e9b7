"""Scopes: two namespaces (kets, and everything else), snapshots for `def`, and values that have their own scope."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from tp_compiler.check import values as v
from tp_compiler.diagnostics import Span, error
from tp_compiler.frontend import syntax as ast
from tp_compiler.ir.types import Axis, Index


@dataclass(frozen=True, eq=False)
class Binding:
    """A name's value. `indices` are those written at the binding; reading `x[j]` puts j for the first of them.

    `clock` is the index `step` where the name is a quantity of the training loop, readable as `loss[step]`.
    `members` holds what loops have bound member by member: positions of the `fixed` brackets -> value.
    """

    value: v.Value
    indices: tuple[Index, ...] = ()
    span: Span | None = None
    declared: bool = False
    fixed: tuple[int, ...] = ()
    members: dict[tuple[int, ...], v.Value] = field(default_factory=dict)
    parameter: bool = False
    clock: Index | None = None
    positions: Axis | None = None  # of a loop variable with the name of an index: the axis it runs over


class Scope:
    """Names and their bindings. Blocks of `for` share the scope; a `def` sees a snapshot."""

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
        #: The optimizer whose body this is, or that has called it.
        self.optimizer: Body | None = None

    @classmethod
    def empty(cls, library: dict[str, Binding]) -> Scope:
        return cls({}, {}, library)

    def snapshot(self) -> Scope:
        """The current names, as seen by a `def` written here."""
        copy = Scope(dict(self.kets), dict(self.others), self.library)
        copy.hidden = dict(self.hidden)
        return copy

    def named_ket(self, name: str) -> Binding | None:
        """The ket denoted by a bare name inside a label."""
        found = self.kets.get(name)
        return None if found is not None and self.hidden.get(name) is found else found

    def ket(self, name: str) -> Binding | None:
        return self.kets.get(name)

    def other(self, name: str) -> Binding | None:
        return self.others.get(name) or self.library.get(name)

    def function(self, name: str) -> Binding | None:
        """The function that `name(..)` calls: `step` is the function even if an index has that name."""
        return self.library["step"] if name == "step" else self.other(name)

    def known(self, ket: bool) -> Iterable[str]:
        return self.kets if ket else {**self.library, **self.others}


_WHERE_CALLED = "call an optimizer on operators in the body of an `optimizer ... on layers`"


class Body(ABC):
    """The body of an optimizer while it is read: the meaning of statements that occur only there.

    `typed`: its meaning depends on the kind of its parameter, because it has called a function that is not among `words`,
    or inspected a value: its indices or its neurons.
    """

    words: ClassVar[tuple[str, ...]] = ()
    typed = False

    @abstractmethod
    def declare(self, s: ast.State, scope: Scope) -> None:
        """`state m = 0`"""

    @abstractmethod
    def assign(self, s: ast.Assign, scope: Scope) -> None:
        """`m := ...`"""

    def called(self, optimizer: OptimizerName, call: ast.Call) -> v.Value:
        """The value of `Muon(-1)` in a body: the change that another optimizer makes."""
        raise error("NX297", f"`{call.fn.ident}` cannot be called here", call.span, _WHERE_CALLED)

    def gradient(self, call: ast.Call) -> v.Value | None:
        """The value of `grad(f, p)` in a body, p the parameter; None if it is an ordinary gradient."""
        return None

    def settled(self, value: v.Value) -> v.Value:
        """The value of a bound name."""
        return value


@dataclass(eq=False)
class Seen:
    """What names of a program were found to mean, for editors: at the places where they are read, and at the end."""

    readings: dict[tuple[str, int], Binding] = field(default_factory=dict)  # (source, offset)
    scope: Scope | None = None

    def read(self, name: ast.Name, binding: Binding) -> None:
        self.readings[name.span.source.name, name.span.start] = binding


# objects with their own scope ----------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class UserFn:
    statement: ast.Fn
    scope: Scope
    kind = "function"


@dataclass(frozen=True, eq=False)
class UserDef:
    statement: ast.Def
    scope: Scope
    kind = "def"


@dataclass(frozen=True, eq=False)
class OptimizerName:
    statement: ast.Optimizer
    scope: Scope
    kind = "optimizer"
