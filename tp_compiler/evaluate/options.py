"""The options of an evaluation, with checks of their values."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic, ProgramError
from tp_compiler.evaluate.backend import ArrayBackend, backend
from tp_compiler.evaluate.process_group import processes
from tp_compiler.results import is_whole

if TYPE_CHECKING:
    from tp_compiler.executors import Crew

METHODS = ("auto", "exact", "quadrature", "qmc", "mc")


@dataclass(frozen=True)
class Options:
    """How a limit is evaluated; see `limit`."""

    samples: int | None = None
    max_samples: int | None = None
    replicates: int = 8
    seed: int = 0
    method: str = "auto"
    rtol: float | None = None
    atol: float | None = None
    f0: str = "sample"
    max_memory: float | None = None
    max_time: float | None = None
    threads: int | None = None
    backend: str = "numpy"
    device: str | None = None
    dtype: str = "float64"
    shards: int | None = None
    checkpoint: str | os.PathLike[str] | None = None
    replicate_range: tuple[int, int] | None = None
    save: str | os.PathLike[str] | None = None
    progress: Callable[..., None] | None = None
    width: int | None = None
    crew: Crew | None = None
    stored: bool = False  # replicates are read from the checkpoint, none is computed

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, np.generic):  # numbers of NumPy lack some methods of Python's
                object.__setattr__(self, name, value.item())
        if self.f0 == "mean":  # of f_0, which is centred
            object.__setattr__(self, "f0", "zero")
        if self.device is not None:  # PyTorch has objects for them
            object.__setattr__(self, "device", str(self.device))

    @property
    def in_folder(self) -> bool:
        """Is the checkpoint a folder? One that is there, one that a range needs, or one whose name says so."""
        if self.checkpoint is None:
            return False
        path = os.fspath(self.checkpoint)
        return self.replicate_range is not None or path.endswith(os.sep) or os.path.isdir(path)

    @property
    def memory(self) -> float:
        if self.max_memory is not None:
            return self.max_memory
        return 0.8 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    @property
    def workers(self) -> int:
        """Replicates that are in the memory of this machine at the same time."""
        if self.shards is not None:
            return 1
        if self.crew is not None:
            return min(self.crew.workers, self.replicates)
        return max(1, min(self.threads or len(os.sched_getaffinity(0)), self.replicates))

    @property
    def library(self) -> ArrayBackend:
        """What the particles are computed with; `validate` has seen whether it is here."""
        return ArrayBackend(self.backend, self.device or "cpu", self.dtype)


def _check_shards(o: Options, wrong: Callable[[str], ProgramError]) -> None:
    assert o.shards is not None
    if o.shards < 1 or o.shards & (o.shards - 1):
        raise wrong(f"shards must be a power of two; found {o.shards}")
    others: dict[str, object] = {"checkpoint": o.checkpoint, "workers, clusters and executors": o.crew}
    if processes().size > 1:
        others["max_time"] = o.max_time
    for name, value in others.items():
        if value is not None:
            raise wrong(f"shards cannot be combined with {name}")


def validate(o: Options) -> None:
    def wrong(message: str) -> ProgramError:
        return ProgramError([Diagnostic("NX432", message, None, "change the option")])

    for name in ("samples", "max_samples", "replicates", "seed", "threads", "shards"):
        number = getattr(o, name)
        if number is not None and not is_whole(number):
            raise wrong(f"{name} must be a whole number; found {number!r}")
    if o.seed < 0:
        raise wrong(f"seed must be 0 or more; found {o.seed}")
    for name, value in (("samples", o.samples), ("max_samples", o.max_samples)):
        if value is not None and (value < 8 or value & (value - 1)):
            raise wrong(f"{name} must be a power of two, 8 or more; found {value}")
    if o.samples is not None and o.max_samples is not None and o.samples > o.max_samples:
        raise wrong(f"samples must be max_samples at most; found {o.samples} and {o.max_samples}")
    if o.replicates < 2:
        raise wrong(f"replicates must be at least 2, found {o.replicates}")
    if o.shards is not None:
        _check_shards(o, wrong)
    try:
        backend(o.backend, o.device, o.dtype)
    except ProgramError:
        if not o.stored:  # results can be read where their device is not
            raise
    if o.method not in METHODS:
        raise wrong(f"method must be one of {', '.join(METHODS)}; found {o.method}")
    if o.f0 not in ("sample", "zero"):
        raise wrong(f"f0 must be sample, zero or mean; found {o.f0}")
    for name, tolerance in (("rtol", o.rtol), ("atol", o.atol)):
        if tolerance is not None and not (tolerance >= 0 and math.isfinite(tolerance)):
            raise wrong(f"{name} must be 0 or more, found {tolerance}")
    for name, path in (("checkpoint", o.checkpoint), ("save", o.save)):
        if path is not None and not (isinstance(path, str | os.PathLike) and os.fspath(path)):
            raise wrong(
                f"{name} must be the name of a file{' or a folder' if name == 'checkpoint' else ''}; found {path!r}"
            )
    if o.save is not None and not os.fspath(o.save).lower().endswith(".npy"):
        raise wrong(f"save must name a .npy file; found {os.fspath(o.save)}")
    for name, most in (("max_time", o.max_time), ("max_memory", o.max_memory)):
        if most is not None and (not isinstance(most, Real) or not most >= 0):
            raise wrong(f"{name} must be a number of {'seconds' if name == 'max_time' else 'bytes'}, found {most!r}")

    if o.replicate_range is not None:
        _check_range(o, o.replicate_range)
    if o.width is not None:
        _check_width(o)


def _check_width(o: Options) -> None:
    """Directions of the fluctuations are not replicates of the limit: they are neither stored nor divided."""
    message, remedy = "", "change the option"
    if not is_whole(o.width) or o.width < 1:
        message = f"a width is a positive whole number; found {o.width!r}"
        remedy = "write `--width 512` (in Python `width=512`)"
    for name in ("checkpoint", "shards"):
        if getattr(o, name) is not None:
            message = f"width cannot be combined with {name}: fluctuations are computed in one piece"
            remedy = f"compute the limit with {name}, and the fluctuations by a run of its own"
    if message:
        raise ProgramError([Diagnostic("NX432", message, None, remedy)])


def _check_range(o: Options, numbers: Any) -> None:
    """A range of replicates is part of a run whose size is known."""
    message, remedy = "", "change the option"
    begin, end = numbers if _is_pair(numbers) else (0, 0)
    if not _is_pair(numbers):
        message = f"a replicate range must be a pair of whole numbers; found {numbers!r}"
        remedy = "write (0, 2) for the replicates 0 and 1"
    elif not 0 <= begin < end <= o.replicates:
        message = f"a replicate range must lie in 0:{o.replicates}, found {begin}:{end}"
    elif o.samples is None:
        message = (
            "a replicate range needs a number of samples: without it, all replicates decide together when it suffices"
        )
        remedy = "add `--samples M` (in Python `samples=M`)"
    elif o.checkpoint is None:
        message = "a replicate range needs a folder, in which the replicates are stored"
        remedy = "add `--checkpoint DIR` (in Python `checkpoint=DIR`), and combine them by `tpc merge DIR`"
    elif os.path.isfile(o.checkpoint):
        message = f"a replicate range needs a folder, and `{os.fspath(o.checkpoint)}` is a file"
    if message:
        raise ProgramError([Diagnostic("NX432", message, None, remedy)])


def _is_pair(numbers: Any) -> bool:
    return isinstance(numbers, tuple | list) and len(numbers) == 2 and all(map(is_whole, numbers))


def settings_of(o: Options, samples: int) -> dict[str, object]:
    """The settings on which the numbers depend; `samples` is 0 if nothing was sampled."""
    found = {"seed": o.seed, "samples": samples, "replicates": o.replicates, "backend": str(o.library), "f0": o.f0}
    return found if o.width is None else found | {"width": o.width}
