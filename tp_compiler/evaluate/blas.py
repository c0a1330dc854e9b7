"""BLAS and PyTorch with one thread, so that the digits do not depend on the number of cores."""

from __future__ import annotations

import sys
from collections.abc import Callable

import threadpoolctl

from tp_compiler.process import Held


def _one_thread() -> Callable[[], None]:
    _take_control()
    limits = threadpoolctl.threadpool_limits(limits=1)
    tensors = sys.modules.get("tp_compiler.evaluate.torch_arrays")  # loaded if a run computes with them
    before = tensors.threads(1) if tensors is not None else 0

    def restore() -> None:
        _take_control()
        limits.restore_original_limits()
        _take_control()
        if tensors is not None:
            tensors.threads(before)

    return restore


def _take_control() -> None:
    """Newer versions of threadpoolctl silently ignore limits set by threads other than the first."""
    controller = getattr(threadpoolctl, "OpenBLASController", None)
    clear = getattr(controller, "clear_controlling_thread", None)
    if clear is not None:
        clear(force=True)


one_blas_thread = Held(_one_thread)
