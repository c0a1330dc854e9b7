"""The options of the public functions, with their types: one declaration for api.py, driver.py and type checkers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from typing import TypedDict

#: Called as `progress(done, total, note)`; the Python functions also take True, for a progress bar.
Progress = Callable[..., None]


_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
#: What a size in memory may look like, for messages.
SIZE = "a size such as 500M or 4G, or a number of bytes"


def memory_size(given: float | str) -> float:
    """Bytes: a number, or a text such as 500M or 4G (powers of 1024). Raises ValueError."""
    if not isinstance(given, str):
        return given
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?)\s*([KMGT]?)(?:i?B)?\s*", given, re.IGNORECASE)
    if match is None:
        raise ValueError(given)
    return int(float(match[1]) * _UNITS[match[2].upper()])


class Replaced(TypedDict, total=False):
    """What replaces numbers of the text: sizes of axes and values of top-level scalars (`--set`), and data by name
    (`--data`): arrays, or files."""

    settings: Mapping[str, float] | None
    data: Mapping[str, object] | None


class Workplace(TypedDict, total=False):
    """Where the work is done, if not in this process: at most one of these."""

    executor: Executor | None
    workers: int | None
    cluster: str | None


class LimitOptions(Workplace, total=False):
    """Options of `limit` and `verify`; their meaning and defaults are in `evaluate.limit.limit`."""

    samples: int | None
    max_samples: int | None
    replicates: int
    seed: int
    method: str
    rtol: float | None
    atol: float | None
    f0: str
    max_memory: float | str | None
    max_time: float | None
    threads: int | None
    backend: str
    device: str | None
    dtype: str
    shards: int | None
    checkpoint: str | os.PathLike[str] | None
    replicate_range: tuple[int, int] | None
    save: str | os.PathLike[str] | None
    progress: Progress | bool | None
    only: Collection[str] | None
    width: int | None


def seed_at(seed: int, width: int) -> int:
    """The seed of networks of a width: networks of different widths must not share random numbers."""
    return seed * 1_000_003 + width


def overlaid(numbers: Collection[int], width: int | None, seeds: int) -> list[tuple[int, int]]:
    """The networks that are drawn over a limit, as (width, how many): `--networks` has widths, with `--width` a number."""
    return [(n, seeds) for n in numbers] if width is None else [(width, n) for n in numbers]


class SimulateOptions(Workplace, total=False):
    """Options of `simulate`; their meaning and defaults are in `finite.run.simulate`."""

    weights: Mapping[str, object] | None
    seed: int
    dtype: str
    max_memory: float | str | None
    max_time: float | None
    progress: Progress | bool | None
    only: Collection[str] | None
