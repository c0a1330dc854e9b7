"""Values that depend on one another, each computed once: covariances layer by layer, expectations of sums.

A network of a thousand layers is a recursion a thousand deep, too deep for Python: after some levels, a requested value is put
on a list and computed first, and the value that requested it starts again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from tp_compiler.evaluate.budget import current
from tp_compiler.evaluate.interface import NotExact

T = TypeVar("T")
DEEPEST = 200  # levels
FRAMES = 25  # Python calls per level, at most


class _Deeper(Exception):
    def __init__(self, key: Hashable, compute: Callable[[], object]):
        super().__init__()
        self.key, self.compute = key, compute


class Recursion:
    """`value(key, compute)` is compute(), or its first result; a `NotExact` is also remembered."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}
        self._depth = 0
        self._deepest = min(DEEPEST, sys.getrecursionlimit() // FRAMES)

    def knows(self, key: Hashable) -> bool:
        return key in self._known

    def value(self, key: Hashable, compute: Callable[[], T]) -> T:
        if key not in self._known:
            current().poll()
            if self._depth >= self._deepest:
                raise _Deeper(key, compute)
            self._computed(key, compute) if self._depth else self._unrolled(key, compute)
        found = self._known[key]
        if isinstance(found, NotExact):
            raise found
        return found

    def _unrolled(self, key: Hashable, compute: Callable[[], object]) -> None:
        todo = [(key, compute)]
        while todo:
            try:
                self._computed(*todo[-1])
                todo.pop()
            except _Deeper as deeper:
                todo.append((deeper.key, deeper.compute))

    def _computed(self, key: Hashable, compute: Callable[[], object]) -> None:
        self._depth += 1
        try:
            self._known[key] = compute()
        except NotExact as reason:
            self._known[key] = reason
        finally:
            self._depth -= 1
