"""Finished replicates on disk, so that an interrupted run resumes from them and gives identical digits.

One .npz file: a key that identifies the run (the program, its data, the options that determine the digits), and
the arrays of every finished replicate. It is always written to a temporary file, which then replaces it: whatever
interrupts the run, the file is complete. Replicates with failures are not stored; they are run again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np

from tp_compiler._version import __version__
from tp_compiler.diagnostics import Diagnostic, ProgramError
from tp_compiler.evaluate.options import Options
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Program
from tp_compiler.ir.walk import reachable

#: One replicate: values and covariances by output name, tail estimates by the name of the average.
Kept = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]

_KINDS = ("value", "covariance", "tail")


def run_key(program: Program, options: Options) -> str:
    """A short text of everything that determines the digits of a replicate, apart from the outputs that are sampled together."""
    digest = hashlib.sha256()
    sizes = [(axis.name, axis.size) for axis in program.axes]
    parts = (__version__, program.source.text, sizes, options.seed, options.method, options.f0)
    digest.update(repr(parts).encode())
    for node in reachable(program.roots):
        if isinstance(node, ir.Array | ir.Constant):
            values = np.asarray(node.values if isinstance(node, ir.Array) else node.value, dtype=np.float64)
            digest.update(values.tobytes())
    return digest.hexdigest()


@dataclass
class Checkpoint:
    """The replicates of one set of outputs, by (samples, number); those of other sets in the file are preserved.

    The file is written, and locked, before any work, so that problems with it show first.
    """

    path: Path
    key: str
    part: str
    kept: dict[tuple[int, int], Kept] = field(default_factory=dict)
    others: dict[str, Any] = field(default_factory=dict)
    problem: str = ""  # why the file is no longer written
    lock: Lock = field(default_factory=Lock)
    _held: IO[bytes] | None = None

    @classmethod
    def opened(cls, path: str | os.PathLike[str], key: str, outputs: Collection[str]) -> Checkpoint:
        """Reads the file if there is one.

        Raises ProgramError NX434 if it belongs to another run, is in use, or is not a complete checkpoint; NX435 if it
        cannot be written.
        """
        part = hashlib.sha256(repr(sorted(outputs)).encode()).hexdigest()[:16]
        found = cls(Path(path), key, part)
        try:
            found._take()
            if found.path.exists():
                found._read()
            found._write()
        except OSError as error:
            found.close()
            message = f"the checkpoint `{path}` cannot be written: {error.strerror or error}"
            remedy = "choose a file in an existing, writable folder with free space"
            raise ProgramError([Diagnostic("NX435", message, None, remedy)]) from None
        except ProgramError:
            found.close()
            raise
        return found

    @property
    def _beside(self) -> Path:
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def _lock_file(self) -> Path:
        return self.path.with_name(f"{self.path.name}.lock")

    def _take(self) -> None:
        self._held = open(self._lock_file, "wb")  # noqa: SIM115 - held as long as the run
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._held.close()
            self._held = None
            raise _unfit(f"the checkpoint `{self.path}` is in use by another run") from None

    def close(self) -> None:
        """Another run may use the file."""
        if self._held is not None:
            self._lock_file.unlink(missing_ok=True)
            self._held.close()
            self._held = None

    def _read(self) -> None:
        try:
            with open(self.path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            key = str(arrays.pop("key"))
            for name, value in arrays.items():
                part, samples, number, kind, output = name.split("|", 4)
                if part != self.part:
                    self.others[name] = value
                    continue
                kept = self.kept.setdefault((int(samples), int(number)), ({}, {}, {}))
                kept[_KINDS.index(kind)][output] = value
        except Exception:  # zipfile and NumPy raise various exceptions on files that are truncated or not checkpoints
            raise _unfit(f"`{self.path}` is not a checkpoint, or is damaged") from None
        if key != self.key:
            raise _unfit(f"the checkpoint `{self.path}` belongs to another program, or to different options")

    def get(self, samples: int, number: int) -> Kept | None:
        return self.kept.get((samples, number))

    def put(self, samples: int, number: int, kept: Kept) -> None:
        """Stores a replicate, unless part of it failed. A file that can no longer be written does not cost any results."""
        if any(isinstance(v, Diagnostic) for part in kept[:2] for v in part.values()):
            return
        with self.lock:
            self.kept[samples, number] = kept
            if self.problem:
                return
            try:
                self._write()
            except OSError as error:
                self.problem = error.strerror or str(error)

    def warning(self) -> list[Diagnostic]:
        """The warnings to report at the end of the run."""
        message = f"the checkpoint `{self.path}` contains only part of the run: {self.problem}"
        return [Diagnostic("NX915", message, None, "free some space, and run again")] if self.problem else []

    def _write(self) -> None:
        arrays: dict[str, Any] = {"key": np.array(self.key), **self.others}
        for (samples, number), kept in self.kept.items():
            for kind, part in zip(_KINDS, kept, strict=True):
                arrays |= {f"{self.part}|{samples}|{number}|{kind}|{name}": np.asarray(v) for name, v in part.items()}
        try:
            with open(self._beside, "wb") as file:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.replace(self._beside, self.path)
        except OSError:
            with suppress(OSError):
                self._beside.unlink(missing_ok=True)
            raise


def _unfit(message: str) -> ProgramError:
    return ProgramError([Diagnostic("NX434", message, None, "choose another file, or remove this one")])
