"""What runs long says so to the logger `tp_compiler`, which is silent until the caller configures `logging`.

INFO: each stage with its time, and the method of each output. DEBUG: every step of an evaluation.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOGGER = logging.getLogger("tp_compiler")
LOGGER.addHandler(logging.NullHandler())


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Logs the start of a stage and the seconds that it took."""
    LOGGER.info("%s ...", name)
    start = time.perf_counter()
    try:
        yield
    finally:
        LOGGER.info("%s: %.2f s", name, time.perf_counter() - start)


def told(name: str, progress: Callable[..., None] | None) -> Callable[..., None] | None:
    """A progress callback that also logs; the callback itself where nobody listens."""
    if not LOGGER.isEnabledFor(logging.DEBUG):
        return progress

    def tell(done: float, total: float | None = None, note: str = "") -> None:
        LOGGER.debug("%s: %g of %s %s", name, done, total, note)
        if progress is not None:
            progress(done, total, note)

    return tell
