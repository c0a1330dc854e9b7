"""Settings of the whole process that several threads may hold at the same time: set by the first, restored by the last."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from threading import Lock
from typing import TypeVar

Result = TypeVar("Result")
USUALLY = gc.get_threshold()
RARELY = 100_000  # objects that can be part of cycles, between two collections


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


@contextmanager
def collected(*threshold: int) -> Iterator[None]:
    """Cycles of garbage are looked for when there are so many new objects: `RARELY` while a command loads modules and compiles
    programs, where almost everything stays, `*USUALLY` while it computes with large arrays."""
    before = gc.get_threshold()
    gc.set_threshold(*threshold)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def on_a_new_stack(work: Callable[[], Result]) -> Result:
    """`work`, where this thread's stack would not suffice: in another thread, which is waited for.

    The limit on recursion is the process's own, and no library should change it; the depth is counted for each thread.
    """
    from concurrent.futures import ThreadPoolExecutor

    context = copy_context()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(context.run, work).result()
