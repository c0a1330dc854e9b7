"""A checkpoint that many processes fill at the same time: a folder with one file for each finished replicate.

A file is written under another name and renamed, so that it is there as a whole or not at all; nothing needs a lock. Two
processes that compute the same replicate write the same digits. A file that was cut off later, by a disk or a copy, is
noticed by its checksums, and its replicate is computed again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic, Source
from tp_compiler.evaluate.sampling.batch import Place, Replicated
from tp_compiler.evaluate.sampling.storage.stored import arrays_of, incomplete, replicate_of, unfit, unwritable
from tp_compiler.files import whole


class MissingReplicates(Exception):
    """Replicates, by their numbers, that a run of stored replicates does not find."""

    def __init__(self, numbers: Collection[int]):
        self.numbers = sorted(set(numbers))
        super().__init__(self.numbers)


@dataclass
class Folder:
    """The replicates of one set of outputs; those of other sets lie beside them."""

    path: Path
    key: str
    part: str
    texts: Mapping[str, Source]
    problem: str = ""  # why the last file was not written
    damaged: list[str] = field(default_factory=list)

    def _file(self, place: Place) -> Path:
        samples, number = place
        name = f"r{number}" if number >= 0 else f"r{(-number - 1) // 2}{'ba'[number % 2]}"
        return self.path / f"{self.part}-M{samples}-{name}.npz"

    def get(self, place: Place) -> Replicated | None:
        """A replicate that has been stored, also meanwhile by another process. Raises ProgramError NX434 for another run's."""
        file = self._file(place)
        try:
            arrays = load(file)
            key = str(arrays.pop("key"))
            found = replicate_of(arrays, self.texts)
        except FileNotFoundError:
            return None
        except Exception:  # zipfile and NumPy raise various exceptions on files that are truncated or no archives
            if file.name not in self.damaged:
                self.damaged.append(file.name)
            return None
        if key != self.key:
            raise unfit(f"`{file}` belongs to another program, or to different options")
        return found

    def put(self, place: Place, found: Replicated) -> None:
        """Stores a replicate. A full disk does not cost any results; it is tried again with the next one."""
        try:
            store(self._file(place), {"key": np.array(self.key)} | arrays_of(found))
        except OSError as error:
            self.problem = error.strerror or str(error)

    def warnings(self) -> list[Diagnostic]:
        """The warnings to report at the end of the run."""
        found = incomplete(self.path, self.problem)
        if self.damaged:
            message = f"damaged files of `{self.path}` were not used: {', '.join(self.damaged)}"
            found.append(Diagnostic("NX916", message, None, "check the disk"))
        return found

    def refuse_if_full(self) -> None:
        """Where the folder is all that a run leaves. Raises ProgramError NX435."""
        if self.problem:
            raise unwritable(self.path, OSError(self.problem))

    def close(self) -> None:
        pass


def load(file: Path) -> dict[str, Any]:
    """The arrays of a file."""
    with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def store(file: Path, arrays: Mapping[str, Any]) -> None:
    """Writes a file as a whole or not at all. Raises OSError."""
    with whole(file) as opened:
        np.savez(opened, **arrays)
