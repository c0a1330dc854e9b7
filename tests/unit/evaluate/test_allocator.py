"""Memory that runs free is used by them again (allocator.py)."""

import platform
import resource
import subprocess
import sys

import numpy as np
import pytest

from tp_compiler.evaluate.allocator import keep_memory


def faults() -> int:
    """Pages that come while 150 MB are written to, and given back."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(3 * 2**17) for _ in range(50)]
    del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def of_a_process() -> int:
    """The pages of the last of three times, in a process of its own."""
    lines = f"from {__name__} import *\nassert keep_memory()\nprint([faults() for _ in range(3)][-1])"
    return int(subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_memory_is_kept() -> None:
    assert of_a_process() < 1000  # glibc by itself: 38,000


def test_without_glibc_there_is_nothing_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_memory.__wrapped__()
