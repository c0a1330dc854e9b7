"""What a module has that the language does not: errors that name the module, the operation and a remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tp_compiler.diagnostics import Diagnostic, ProgramError


@dataclass
class Untraceable(Exception):
    """Something that cannot be traced; the walk adds where it was met."""

    code: str
    message: str
    remedy: str


@contextmanager
def at(path: str, operation: str) -> Iterator[None]:
    """Adds the module and the operation to what is refused inside."""
    try:
        yield
    except Untraceable as problem:
        place = f"`{path}`" if path else "the module"
        raise refusal(problem.code, f"in {place}, `{operation}`: {problem.message}", problem.remedy) from None


def refusal(code: str, message: str, remedy: str) -> ProgramError:
    return ProgramError([Diagnostic(code, message, None, remedy)])


def whole_widths(widths: object, code: str, remedy: str) -> list[int]:
    """Widths as a caller gives them, in increasing order, each once; anything but several whole numbers is refused."""
    given = list(widths) if isinstance(widths, Iterable) and not isinstance(widths, str) else []
    if not given or not all(isinstance(n, int) and n >= 2 for n in given):
        raise refusal(code, f"widths are {widths!r}", remedy)
    return sorted(set(given))
