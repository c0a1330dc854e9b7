"""The budget of formulas: work, seconds and bytes. Long loops check it, and arrays are requested before they are made.

Every large array counts from when it is made to when it is freed: values that are kept, and what a sum, a product or a
contraction makes as intermediate results (`hold`). What an operation is about to make is requested in addition (`room`, `spacious`).

A limit that can be sampled is not kept waiting: formulas that take longer than sampling would are abandoned, with a note
that says so. How long is counted in work, numbers that integrands are evaluated at, so that the choice of a method does not
depend on the machine and its load. Only `--max-time` stops them by the clock, with a warning. `--method exact` has no
alternative, and stops at nothing else.
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
from tp_compiler.evaluate.interface import Late, NotExact, TooLarge

WORK = 1e9  # numbers, for any program: about 10 s on one core (docs/benchmarks.md)
WORK_EACH = 2e6  # additional, per instruction: about the time of 2^20 samples of a ket
STEP = 4e4  # what a step of a loop counts for, in numbers, whatever it computes
SHARE = 0.5  # of --max-time; the rest is left for sampling
T = TypeVar("T")
BASE = 64e6  # bytes of libraries and small objects
LEAST = 2**20  # numbers; smaller arrays are not requested
COUNTED = 2**10  # numbers; smaller arrays are not counted
LET_GO = "; --method exact lets them finish"


class Budget:
    """`seconds` by the clock `now` (of the wall, unless another is given), `work` in numbers and `memory` in bytes for one
    evaluation."""

    def __init__(
        self, seconds: float = inf, memory: float = inf, now: Callable[[], float] | None = None,
        progress: Callable[..., None] | None = None, remedy: str = LET_GO, work: float = inf,
    ):  # fmt: skip
        self.seconds, self.memory, self.work = seconds, memory, work
        self.done = 0.0  # of the work
        self.out_of_time = False  # was it the clock that ended it?
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

    def poll(self, numbers: float = 0.0) -> None:
        """Counts a step and what it computes. Raises NotExact, now and from now on, once the work or the time is done."""
        self.done += STEP + numbers
        if self._late is None and self.done > self.work:
            self._late = f"formulas were abandoned, since sampling takes less time{self._remedy}"
        if self._late is None and (spent := self.spent) > self.seconds:
            self.out_of_time = True
            self._late = f"formulas were abandoned after {spent:.3g} s{self._remedy}"
        if self._late is not None:
            raise Late(self._late) if self.out_of_time else NotExact(self._late)

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
        """Raises TooLarge if an array of so many doubles does not fit in addition to what is held; also counts the work."""
        if numbers <= LEAST:
            return
        self.poll(numbers)
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


def budget_for(
    method: str, max_time: float | None, instructions: int, memory: float, progress: Callable[..., None] | None = None
) -> Budget:
    """What formulas may take. If sampling is the alternative: half of the time limit, otherwise about the work of sampling."""
    seconds = inf if max_time is None else max_time
    if method != "auto":
        return Budget(seconds, memory, progress=progress, remedy="; raise --max-time")
    if not isinf(seconds):
        return Budget(SHARE * seconds, memory, progress=progress)
    return Budget(memory=memory, progress=progress, work=WORK + WORK_EACH * instructions)
