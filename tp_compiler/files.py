"""Files that are there as a whole or not at all, whatever interrupts their writing."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def whole(path: Path, beside: Path | None = None) -> Iterator[IO[bytes]]:
    """A new file, which replaces the one at `path` after the block. It is written `beside` it, under a name of its own.

    Raises OSError, and leaves no part of it.
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part") if beside is None else beside
    try:
        with open(beside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
