"""The budget of formulas: seconds and bytes. Long loops check it, and arrays are requested before they are made.

Every large array counts from when it is made to when it is freed: values that are kept, and what a sum, a product or a
contraction makes as intermediate results (`hold`). What an operation is about to make is requested in addition (`room`, `spacious`).

A limit that can be sampled is not kept waiting: formulas that take longer than sampling would are abandoned, with a note
that says so. `--method exact` has no alternative, and stops only at `--max-time`.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf, isinf
from typing import Any, TypeVar

import numpy as np

from tp_compiler.evaluate.array_types import Array, Numbers
from tp_compiler.evaluate.interface import NotExact, TooLarge

SECONDS = 10.0  # for any program
SECONDS_EACH = 0.02  # additional, per instruction: about the time of 2^20 samples of a ket
SHARE = 0.5  # of --max-time; the rest is left for sampling
T = TypeVar("T")
BASE = 64e6  # bytes of libraries and small objects
LEAST = 2**20  # numbers; smaller arrays are not requested
COUNTED = 2**10  # numbers; smaller arrays are not counted
LET_GO = "; --method exact lets them finish"


class Budget:
    """`seconds` of work and `memory` in bytes for one evaluation; `now` is a clock (of the wall, unless another is given)."""

    def __init__(
        self, seconds: float = inf, memory: float = inf, now: Callable[[], float] | None = None,
        progress: Callable[..., None] | None = None, remedy: str = LET_GO,
    ):  # fmt: skip
        self.seconds, self.memory = seconds, memory
        self._remedy = remedy
        self._now = now or time.monotonic
        self._progress = progress
        self._start = self._reported = self._now()
        self._late: str | None = None
        self._held: dict[int, weakref.ref[Any]] = {}
        self.held = 0.0

    @contextmanager
    def running(self) -> Iterator[Budget]:
        """The budget of everything inside the block."""
        token = _CURRENT.set(self)
        try:
            yield self
        finally:
            _CURRENT.reset(token)

    @property
    def spent(self) -> float:
        return self._now() - self._start

    def poll(self) -> None:
        """Raises NotExact, now and from now on, once the time is up."""
        if self._late is None and (spent := self.spent) > self.seconds:
            self._late = f"formulas were abandoned after {spent:.3g} s{self._remedy}"
        if self._late is not None:
            raise NotExact(self._late)

    def report(self, done: int, total: int) -> None:
        """Progress, about five times a second."""
        if self._progress is not None and self._now() - self._reported > 0.2:
            self._reported = self._now()
            self._progress(done, total, "formulas")

    def hold(self, array: Array) -> None:
        """Counts an array for as long as it lives; views of one array count once."""
        if isinf(self.memory) or getattr(array, "size", 0) <= COUNTED:
            return
        while isinstance(array.base, np.ndarray):
            array = array.base
        key, size = id(array), array.nbytes
        if key in self._held:
            return

        def freed(_: weakref.ref[np.ndarray]) -> None:
            del self._held[key]
            self.held -= size

        self._held[key] = weakref.ref(array, freed)
        self.held += size

    def room(self, numbers: float, what: str) -> None:
        """Raises TooLarge if an array of so many doubles does not fit in addition to what is held; also checks the time."""
        if numbers <= LEAST:
            return
        self.poll()
        if self.held + 8.0 * numbers > self.memory:
            beside = f" in addition to {size_text(self.held)} in use" if self.held else ""
            message = f"{what} takes {size_text(8.0 * numbers)}{beside}, but only {size_text(self.memory)} are allowed"
            raise TooLarge(message)


def size_text(count: float) -> str:
    """Bytes, in three digits."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


_CURRENT: ContextVar[Budget | None] = ContextVar("budget", default=None)
_UNLIMITED = Budget()


def current() -> Budget:
    return _CURRENT.get() or _UNLIMITED


def clock_for(max_time: float | None) -> Callable[[], float]:
    """Wall-clock seconds if the user gave a limit, otherwise CPU seconds of this thread: a busy machine is not a reason to
    choose another method."""
    return time.thread_time if max_time is None or isinf(max_time) else time.monotonic


def spacious(operation: Callable[..., T], *arrays: Numbers, what: str = "an array", copies: float = 1.0) -> T:
    """An operation on arrays that broadcast, requested and counted; `copies` of its result exist at the same time."""
    if math.prod([getattr(x, "size", 1) for x in arrays]) <= LEAST:
        return operation(*arrays)
    budget = current()
    budget.room(copies * math.prod(np.broadcast_shapes(*(np.shape(x) for x in arrays))), what)
    result = operation(*arrays)
    if isinstance(result, np.ndarray):
        budget.hold(result)
    return result


def seconds_for(method: str, max_time: float | None, instructions: int) -> float:
    """How long formulas may take. If sampling is the alternative: half of the time limit, otherwise about as long as sampling
    takes."""
    if method != "auto":
        return inf if max_time is None else max_time
    return SECONDS + SECONDS_EACH * instructions if max_time is None or isinf(max_time) else SHARE * max_time
