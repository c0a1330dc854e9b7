"""Memory that runs free is used by them again: pages that went back to the system take long to come anew, longest for threads."""

from __future__ import annotations

import ctypes
from functools import cache

#: Options of glibc, by their numbers in its malloc.h, and what they are set to, in bytes: larger arrays have pages of their own,
#: which go back at once (glibc comes to this value by itself); a heap keeps so much free memory at its end; it grows by so many
#: addresses, which are pages only once they are written to, and so is not taken down and made again by threads.
OPTIONS = {"M_MMAP_THRESHOLD": (-3, 2**25), "M_TRIM_THRESHOLD": (-1, 2**28), "M_TOP_PAD": (-2, 2**26)}


@cache
def keep_memory() -> bool:
    """Once in a process; whether its allocator has these options."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):
        return False
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return all([library.mallopt(number, size) for number, size in OPTIONS.values()])
