"""Clusters of dask.distributed, which the extra `cluster` installs: an address, and the executor of its scheduler."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

from tp_compiler.diagnostics import Diagnostic, ProgramError

#: Seconds to wait for a scheduler.
PATIENCE = 20


class Cluster:
    """The scheduler at an address, such as tcp://host:8786. Raises ImportError if dask.distributed is missing."""

    def __init__(self, address: str):
        try:
            from distributed import Client
        except ImportError:
            raise ImportError("a cluster needs dask.distributed: pip install 'tp_compiler[cluster]'") from None
        self.address = address
        self._library: Any = Client
        self._client: Any = None

    def connect(self) -> Executor:
        """An executor, which gives the work of lost workers to others. Raises ProgramError NX439 if no scheduler answers."""
        try:
            self._client = self._library(self.address, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError, TypeError) as problem:  # what parses addresses raises various exceptions
            reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
            message = f"no scheduler of dask answers at `{self.address}`: {reason}"
            remedy = "start one with `dask scheduler`, workers with `dask worker ADDRESS`, and check the address"
            raise ProgramError([Diagnostic("NX439", message, None, remedy)]) from None
        executor: Executor = self._client.get_executor(pure=False)
        return executor

    def leave(self, executor: Executor) -> None:
        """Work that is not finished is given up; scheduler and workers stay."""
        executor.shutdown(wait=False)
        self._client.close()
