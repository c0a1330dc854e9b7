"""Settings of the whole process that several threads may hold at the same time: set by the first, restored by the last."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock


class Held:
    """`with held():` keeps a process-wide setting while any thread is inside.

    `set` changes the setting and returns what restores it. Threads that each saved and restored the setting by
    themselves would restore it while others still need it, or leave it changed forever.
    """

    def __init__(self, set: Callable[[], Callable[[], None]]):
        self._set = set
        self._lock = Lock()
        self._users = 0
        self._restore: Callable[[], None] | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._users == 0:
                self._restore = self._set()
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0 and self._restore is not None:
                    self._restore()


#: The depth of nesting is bounded (MAX_NESTING, MAX_LEVELS), to more Python frames than the default limit allows.
FRAMES = 50_000


def _raise_recursion_limit() -> Callable[[], None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, FRAMES))
    return lambda: sys.setrecursionlimit(before)


deep_recursion = Held(_raise_recursion_limit)
