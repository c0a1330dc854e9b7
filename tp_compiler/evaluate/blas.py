"""BLAS with one thread, so that the digits do not depend on the number of cores."""

from __future__ import annotations

from collections.abc import Callable

import threadpoolctl

from tp_compiler.process import Held


def _one_thread() -> Callable[[], None]:
    _take_control()
    limits = threadpoolctl.threadpool_limits(limits=1)

    def restore() -> None:
        _take_control()
        limits.restore_original_limits()
        _take_control()

    return restore


def _take_control() -> None:
    """Newer versions of threadpoolctl silently ignore limits set by threads other than the first."""
    controller = getattr(threadpoolctl, "OpenBLASController", None)
    clear = getattr(controller, "clear_controlling_thread", None)
    if clear is not None:
        clear(force=True)


one_blas_thread = Held(_one_thread)
