"""Finished replicates on disk, so that a run that was killed goes on where it stood, to the same digits.

One .npz file: a key that says which run it belongs to (the program, its data, the options that the digits depend on), and
the arrays of every finished replicate. Each is written whole to a file beside it, which then takes its place: whatever
interrupts, the file is complete. Replicates with failures are not kept; they are run again.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from tp_compiler._version import __version__
from tp_compiler.diagnostics import Diagnostic, ProgramError
from tp_compiler.evaluate.options import Options
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Program
from tp_compiler.ir.walk import reachable

#: One replicate: values and covariances by the names of outputs, what is known of tails by the names of averages.
Kept = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]


def run_key(program: Program, names: list[str], options: Options) -> str:
    """What the digits of a replicate depend on, as a short text."""
    digest = hashlib.sha256()
    parts = (__version__, program.source.text, sorted(names), options.seed, options.method, options.f0)
    digest.update(repr(parts).encode())
    roots = [o.node for o in program.outputs]
    roots += list(program.loop.following.values()) if program.loop is not None else []
    for node in reachable(roots):
        if isinstance(node, ir.Array | ir.Constant):
            values = np.asarray(node.values if isinstance(node, ir.Array) else node.value, dtype=np.float64)
            digest.update(values.tobytes())
    return digest.hexdigest()


@dataclass
class Checkpoint:
    """The replicates of one run, by (samples, number)."""

    path: Path
    key: str
    kept: dict[tuple[int, int], Kept] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    @classmethod
    def opened(cls, path: str | os.PathLike[str], key: str) -> Checkpoint:
        """Reads the file where there is one. Raises ProgramError NX434 where it belongs to another run, or is none."""
        found = cls(Path(path), key)
        if not found.path.exists():
            return found
        try:
            with np.load(found.path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except (OSError, ValueError, EOFError):
            raise _unfit(f"`{path}` is no checkpoint") from None
        if str(arrays.pop("key", "")) != key:
            raise _unfit(f"the checkpoint `{path}` belongs to another program, or to other options")
        for name, value in arrays.items():
            samples, number, kind, output = name.split("|", 3)
            kept = found.kept.setdefault((int(samples), int(number)), ({}, {}, {}))
            if kind == "tail":
                kept[2][output] = value
            else:
                kept[0 if kind == "value" else 1][output] = value
        return found

    def get(self, samples: int, number: int) -> Kept | None:
        return self.kept.get((samples, number))

    def put(self, samples: int, number: int, kept: Kept) -> None:
        """Keeps a replicate, unless part of it failed."""
        if any(isinstance(v, Diagnostic) for part in kept[:2] for v in part.values()):
            return
        with self.lock:
            self.kept[samples, number] = kept
            self._write()

    def _write(self) -> None:
        arrays: dict[str, Any] = {"key": np.array(self.key)}
        for (samples, number), kept in self.kept.items():
            for kind, part in zip(("value", "covariance", "tail"), kept, strict=True):
                arrays |= {f"{samples}|{number}|{kind}|{name}": np.asarray(v) for name, v in part.items()}
        beside = self.path.with_name(f"{self.path.name}.part")
        with open(beside, "wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path)


def _unfit(message: str) -> ProgramError:
    return ProgramError([Diagnostic("NX434", message, None, "name another file, or remove this one")])
