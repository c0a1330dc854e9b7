"""The interface of evaluation methods: a method is given outputs of a program and answers each of them.

An answer is a value with its error, or the reason why there is none: a `Diagnostic` is for the user to fix, a `NotExact`
leaves the output to the next method (auto.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.ir.program import Output
from tp_compiler.results import Estimate

MOST_ENTRIES = 2**26  # numbers in one array of an exact method


class NotExact(Exception):
    """Why a quantity has no exact or quadrature value; auto then samples it."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class TooLarge(NotExact):
    """An array that does not fit into the memory allowed."""


class Late(NotExact):
    """The time limit came before this was computed."""


class Interrupted(NotExact):
    """Ctrl-C came before this was computed."""


@dataclass(frozen=True, eq=False)
class Exact:
    """The value of an output found without sampling: the array, its error estimate, and the method's name."""

    value: Any
    error: Any  # of the shape of the value
    method: str
    note: str = ""


Problem = Diagnostic | NotExact


@runtime_checkable
class Evaluator(Protocol):
    """A method that has read its outputs, and answers them one by one."""

    def output(self, output: Output) -> Exact | Problem: ...


@dataclass
class Answers:
    """The answers of a method, by output; its warnings, and the number of samples that it drew."""

    found: dict[str, Estimate | Problem] = field(default_factory=dict)
    warnings: tuple[Diagnostic, ...] = ()
    samples: int = 0
    deferred: set[str] = field(default_factory=set)  # outputs that wait until all replicates of a run are there

    def add(self, more: Answers) -> None:
        self.found |= more.found
        self.warnings = tuple(dict.fromkeys((*self.warnings, *more.warnings)))
        self.samples = max(self.samples, more.samples)
        self.deferred |= more.deferred

    @property
    def estimates(self) -> dict[str, Estimate]:
        return {name: x for name, x in self.found.items() if isinstance(x, Estimate)}

    @property
    def failed(self) -> dict[str, Diagnostic]:
        return {name: x for name, x in self.found.items() if isinstance(x, Diagnostic)}
