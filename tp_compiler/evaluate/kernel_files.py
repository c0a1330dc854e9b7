"""Kernels in `.npy` files, written row by row of blocks, so that a kernel that does not fit into memory can be computed.

A symmetric kernel is computed on one side of its diagonal; what is left of it is read back from the rows that are written. The
file has its name when it is complete: an interrupted run leaves the old one, or none.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tp_compiler.diagnostics import Diagnostic, ProgramError
from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.budget import current, size_text

BAND = 2**24  # numbers; rows of the kernel that are held at a time
_FLOAT = np.dtype("<f8")


class KernelFile:
    """The values of a kernel on their way to a file, and the largest of their errors."""

    each = False  # an error for all pairs

    def __init__(self, path: str | os.PathLike[str], shape: tuple[int, int], side: int, symmetric: bool):
        """`side`: rows of a block."""
        self.path, self.shape, self.symmetric = Path(path), shape, symmetric
        self.error = 0.0
        rows = min(shape[0], side * max(1, BAND // (side * shape[1])))
        current().room(rows * shape[1], f"a band of {rows} rows of the kernel")
        self._band = np.empty((rows, shape[1]))
        self._top = 0

    @contextlib.contextmanager
    def open(self) -> Iterator[KernelFile]:
        """The file while it is written. Raises ProgramError if it cannot be."""
        try:
            folder = self.path.resolve().parent
            needed, free = 8 * self.shape[0] * self.shape[1], shutil.disk_usage(folder).free
            if needed > free:
                message = f"{self.path} takes {size_text(needed)}, but only {size_text(free)} are free on its disk"
                raise ProgramError([Diagnostic("NX431", message, None, "choose another disk, or fewer points")])
            handle, name = tempfile.mkstemp(dir=folder, prefix=f".{self.path.name}.")
            try:
                with os.fdopen(handle, "w+b") as self._file:
                    header = {"descr": _FLOAT.str, "fortran_order": False, "shape": self.shape}
                    np.lib.format.write_array_header_1_0(self._file, header)
                    self._start = self._file.tell()
                    yield self
                os.chmod(name, 0o666 & ~_umask())
                os.replace(name, self.path.resolve())
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name)
                raise
        except OSError as problem:
            raise _unwritten(self.path, problem) from None

    def put(self, rows: slice, columns: slice, values: Array, error: Array | float, mirrored: bool) -> None:
        """One block. Blocks come row by row of blocks, those of a symmetric kernel from the diagonal on."""
        if rows.start >= self._top + len(self._band):
            self._next()
        top = self._top
        self._band[rows.start - top : rows.stop - top, columns] = values
        if mirrored and columns.start < top + len(self._band):
            stop = min(columns.stop, top + len(self._band))
            self._band[columns.start - top : stop - top, rows] = values.T[: stop - columns.start]
        self.error = max(self.error, float(error))

    def finish(self) -> None:
        self._next()

    def _next(self) -> None:
        """Writes the band, with what is left of the diagonal."""
        rows = min(len(self._band), self.shape[0] - self._top)
        if self.symmetric:
            self._mirror(rows)
        self._file.seek(self._start + 8 * self._top * self.shape[1])
        self._file.write(np.ascontiguousarray(self._band[:rows], dtype=_FLOAT).data)
        self._file.flush()
        self._top += rows

    def _mirror(self, rows: int) -> None:
        for k in range(self._top):
            place = self._start + 8 * (k * self.shape[1] + self._top)
            self._band[:rows, k] = np.frombuffer(os.pread(self._file.fileno(), 8 * rows, place), dtype=_FLOAT)

    def values(self) -> Array:
        """The kernel, read from the file where it is needed."""
        found: Array = np.load(self.path, mmap_mode="r")
        return found


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _unwritten(path: str | os.PathLike[str], problem: OSError) -> ProgramError:
    message = f"cannot write {os.fspath(path)}: {problem.strerror or problem}"
    return ProgramError([Diagnostic("NX432", message, None, "choose a file that can be written")])


def keep(values: Array, path: str | os.PathLike[str]) -> None:
    """Values in a file, unless they are there."""
    if isinstance(values, np.memmap):
        return
    try:
        with open(path, "wb") as file:
            np.save(file, values)
    except OSError as problem:
        raise _unwritten(path, problem) from None
