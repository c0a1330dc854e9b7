"""Work on other processes and machines: any executor of PEP 3148, with results in the order of the work.

A crew takes a function and items. The function travels pickled, and is unpickled once in each process. Lost workers are
replaced where we started them, and their items are given out again; the same items have the same results, whoever
computes them.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from numbers import Real
from threading import Thread
from typing import Any

from tp_compiler._version import __version__
from tp_compiler.diagnostics import Diagnostic, ProgramError

#: How often in a row work is given out again after workers were lost and nothing was finished.
PATIENCE = 3
#: Seconds between two looks at the clock while workers work.
LOOK = 0.2


def _nothing(*_: Any) -> None:
    pass


class Crew:
    """Workers that may be other processes or machines; they are hired when there is work. Close it after use.

    `workers`: how many share the memory of this machine, as far as we know.
    """

    def __init__(self, hire: Callable[[], Executor], dismiss: Callable[[Any], None], workers: int, again: bool):
        self._hire, self._dismiss = hire, dismiss
        self._again = again  # may lost workers be hired anew?
        self._executor: Executor | None = None
        self.workers = workers

    def results(
        self,
        function: Callable[[Any], Any],
        items: Sequence[Any],
        arrived: Callable[[int, Any], None] = _nothing,
        pause: Callable[[], None] = _nothing,
    ) -> list[Any]:
        """`function(item)` of every item, in their order.

        `arrived(k, result)` is called when the result of item k comes, in this thread; `pause()` often; it may raise to stop.
        Raises ProgramError NX437 if workers are lost again and again, and what the function raises.
        """
        task = Task.of(function)
        found: dict[int, Any] = {}
        tries = 0
        while len(found) < len(items):
            before = len(found)
            try:
                self._round(task, items, found, arrived, pause)
            except (BrokenExecutor, CancelledError) as problem:
                tries = tries + 1 if len(found) == before else 0
                if not self._again or tries == PATIENCE:
                    raise _lost(problem, len(found), len(items)) from problem
                self.close()
            except Exception as problem:
                if type(problem).__name__ != "KilledWorker":  # of dask, which has tried again by itself
                    raise
                raise _lost(problem, len(found), len(items)) from problem
        return [found[k] for k in range(len(items))]

    def _round(
        self,
        task: Task,
        items: Sequence[Any],
        found: dict[int, Any],
        arrived: Callable[[int, Any], None],
        pause: Callable[[], None],
    ) -> None:
        """Gives out what is not found yet, once."""
        if self._executor is None:
            self._executor = self._hire()
        waiting: dict[Future[Any], int] = {}
        try:
            for k, item in enumerate(items):
                if k not in found:
                    waiting[self._executor.submit(task, item)] = k
            while waiting:
                done, _ = wait(waiting, timeout=LOOK, return_when=FIRST_COMPLETED)
                pause()
                # What is finished counts before what is lost.
                for future in sorted(done, key=_failed):
                    found[waiting[future]] = future.result()
                    arrived(waiting[future], found[waiting[future]])
                    del waiting[future]
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """Work that is not finished is given up."""
        executor, self._executor = self._executor, None
        if executor is not None:
            self._dismiss(executor)


def _failed(future: Future[Any]) -> bool:
    return future.cancelled() or future.exception() is not None


def _lost(problem: BaseException, found: int, count: int) -> ProgramError:
    reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
    message = f"workers were lost before their work was done, {found} of {count} parts are finished: {reason}"
    remedy = (
        "use fewer workers if memory was short, and `--checkpoint` to keep what is finished; in a script of Python, call it"
        ' below `if __name__ == "__main__":`'
    )
    return ProgramError([Diagnostic("NX437", message, None, remedy)])


@dataclass(frozen=True)
class Task:
    """A function on its way to other processes."""

    version: str
    pickled: bytes

    @classmethod
    def of(cls, function: Callable[[Any], Any]) -> Task:
        return cls(__version__, pickle.dumps(function, protocol=5))

    def __call__(self, item: Any) -> Any:
        if self.version != __version__:
            message = f"the worker {os.uname().nodename} has tpc {__version__}, and this is tpc {self.version}"
            raise ProgramError([Diagnostic("NX439", message, None, "install the same version everywhere")])
        return _unpickled(self.pickled)(item)


@lru_cache(maxsize=2)
def _unpickled(raw: bytes) -> Any:
    return pickle.loads(raw)


# -- where workers come from ---------------------------------------------------------------------------------------------
@contextmanager
def crew(
    executor: Executor | None = None, workers: int | None = None, cluster: str | None = None
) -> Iterator[Crew | None]:
    """The workers that the options name; None if they name none. They are dismissed after the block.

    executor   any executor of PEP 3148, which stays open
    workers    processes on this machine
    cluster    the address of a scheduler of dask.distributed, such as tcp://host:8786
    """
    given = [name for name, x in (("executor", executor), ("workers", workers), ("cluster", cluster)) if x is not None]
    if not given:
        yield None
        return
    if len(given) > 1:
        raise _wrong(f"{' and '.join(given)} both say where the work is done", "give one of them")
    found = _found(executor, workers, cluster)
    try:
        yield found
    finally:
        found.close()


def _found(executor: Executor | None, workers: int | None, cluster: str | None) -> Crew:
    if executor is not None:
        if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
            name = executor.__name__ if isinstance(executor, type) else type(executor).__name__
            what = f"the class {name}" if isinstance(executor, type) else name
            raise _wrong(f"{what} is not an executor", "pass one of concurrent.futures, or like these")
        return Crew(lambda: executor, _nothing, 1, again=False)
    if workers is not None:
        if not isinstance(workers, Real) or isinstance(workers, bool) or workers // 1 != workers or workers < 1:
            raise _wrong(
                f"workers must be a whole number of processes, 1 or more; found {workers}", "change the option"
            )
        return Crew(lambda: _processes(workers), _end, workers, again=True)
    assert cluster is not None
    from tp_compiler.cluster import Cluster

    there = Cluster(cluster)
    return Crew(there.connect, there.leave, 1, again=False)


def _wrong(message: str, remedy: str) -> ProgramError:
    return ProgramError([Diagnostic("NX432", message, None, remedy)])


def _processes(workers: int) -> ProcessPoolExecutor:
    # Spawned, since a forked process would have the locks of our threads without the threads.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin)


def _begin() -> None:
    """In a new process: Ctrl-C is for the one that started it, and nothing outlives that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _end(pool: ProcessPoolExecutor) -> None:
    """Ends the processes, also in the middle of their work."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()
