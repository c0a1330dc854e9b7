"""Finished replicates on disk, so that an interrupted run resumes from them and gives identical digits.

One .npz file for a run in one process: a key that identifies the run, and the arrays of every finished replicate. It is
always written to a temporary file, which then replaces it: whatever interrupts the run, the file is complete. Runs of
several processes share a folder instead (folder.py).
"""

from __future__ import annotations

import fcntl
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic, ProgramError, Source
from tp_compiler.evaluate.options import Options
from tp_compiler.evaluate.sampling.batch import Place, Replicated
from tp_compiler.evaluate.sampling.storage.folder import Folder
from tp_compiler.evaluate.sampling.storage.stored import (
    arrays_of,
    incomplete,
    part_of,
    replicate_of,
    run_key,
    sources,
    unfit,
    unwritable,
)
from tp_compiler.files import whole
from tp_compiler.ir.program import Program


def opened(program: Program, options: Options, outputs: Collection[str]) -> Checkpoint | Folder | None:
    """The checkpoint that the options name, for outputs that are sampled together: a file, or a folder.

    Raises ProgramError NX434 if it belongs to another run, is in use, or is not a complete checkpoint; NX435 if it cannot
    be written.
    """
    if options.checkpoint is None:
        return None
    path, key, texts = Path(options.checkpoint), run_key(program, options), sources(program)
    if options.in_folder:
        return Folder(path, key, part_of(outputs), texts)
    return Checkpoint.opened(path, key, outputs, texts)


@dataclass
class Checkpoint:
    """The replicates of one set of outputs, by (samples, number); those of other sets in the file are preserved.

    The file is written, and locked, before any work, so that problems with it show first.
    """

    path: Path
    key: str
    part: str
    texts: Mapping[str, Source]
    kept: dict[Place, Replicated] = field(default_factory=dict)
    others: dict[str, Any] = field(default_factory=dict)
    problem: str = ""  # why the file is no longer written
    lock: Lock = field(default_factory=Lock)
    _held: IO[bytes] | None = None

    @classmethod
    def opened(cls, path: Path, key: str, outputs: Collection[str], texts: Mapping[str, Source]) -> Checkpoint:
        """Reads the file if there is one; raises as the function `opened`."""
        found = cls(path, key, part_of(outputs), texts)
        try:
            found._take()
            if found.path.exists():
                found._read()
            found._write()
        except OSError as error:
            found.close()
            raise unwritable(path, error) from None
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
            raise unfit(f"the checkpoint `{self.path}` is in use by another run") from None

    def close(self) -> None:
        """Another run may use the file."""
        if self._held is not None:
            self._lock_file.unlink(missing_ok=True)
            self._held.close()
            self._held = None

    def _read(self) -> None:
        parts: dict[Place, dict[str, Any]] = {}
        try:
            with open(self.path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            key = str(arrays.pop("key"))
            for name, value in arrays.items():
                part, samples, number, rest = name.split("|", 3)
                if part == self.part:
                    parts.setdefault((int(samples), int(number)), {})[rest] = value
                else:
                    self.others[name] = value
            self.kept = {place: replicate_of(one, self.texts) for place, one in parts.items()}
        except Exception:  # zipfile and NumPy raise various exceptions on files that are truncated or not checkpoints
            raise unfit(f"`{self.path}` is not a checkpoint, or is damaged") from None
        if key != self.key:
            raise unfit(f"the checkpoint `{self.path}` belongs to another program, or to different options")

    def get(self, place: Place) -> Replicated | None:
        return self.kept.get(place)

    def put(self, place: Place, found: Replicated) -> None:
        """Stores a replicate. A file that can no longer be written does not cost any results."""
        with self.lock:
            self.kept[place] = found
            if self.problem:
                return
            try:
                self._write()
            except OSError as error:
                self.problem = error.strerror or str(error)

    def warnings(self) -> list[Diagnostic]:
        """The warnings to report at the end of the run."""
        return incomplete(self.path, self.problem)

    def _write(self) -> None:
        arrays: dict[str, Any] = {"key": np.array(self.key), **self.others}
        for (samples, number), found in self.kept.items():
            arrays |= {f"{self.part}|{samples}|{number}|{name}": value for name, value in arrays_of(found).items()}
        with whole(self.path, self._beside) as file:
            np.savez(file, **arrays)
