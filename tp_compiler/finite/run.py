"""`tpc simulate`: the program at width n, for several independent networks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tp_compiler.diagnostics import Diagnostic, ProgramError
from tp_compiler.finite.array_types import Values
from tp_compiler.finite.batch import Computed, Networks
from tp_compiler.finite.memory import peak
from tp_compiler.finite.moments import covariances
from tp_compiler.finite.schedule import NetworkPlan
from tp_compiler.finite.tiles import TILE
from tp_compiler.finite.weights import NO_WEIGHTS, Weights
from tp_compiler.finite.weights import weights as checked_weights
from tp_compiler.finite.widths import neurons
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Output, Program
from tp_compiler.results import Estimate, Replicates, Run

if TYPE_CHECKING:
    from tp_compiler.executors import Crew

Progress = Callable[[int, int], None]

#: Bytes of the values of networks that are computed side by side, if there are several.
CACHE = 1 << 24


@dataclass(frozen=True, eq=False)
class Samples:
    """`values[name]` has shape (seeds, *output shape); `failed` says why the other outputs have no values."""

    values: dict[str, Values]
    failed: dict[str, Diagnostic]
    seeds: int  # fewer than asked for where the run was interrupted, or the time was up
    out_of_time: bool = False


class _OutOfTime(Exception):
    """Further networks would not be done in the time allowed."""


@np.errstate(all="ignore")  # values that are not finite are detected and reported, without NumPy's warnings
def samples(
    program: Program,
    width: int,
    seeds: int = 8,
    *,
    seed: int = 0,
    dtype: str = "float64",
    only: Collection[str] | None = None,
    max_memory: float | None = None,
    progress: Progress | None = None,
    tile: int = TILE,
    keep: bool = False,
    weights: Weights = NO_WEIGHTS,
    max_time: float | None = None,
    crew: Crew | None = None,
) -> Samples:
    """Each output in `seeds` independent networks of width n = `width`.

    Width classes have round(ratio n) neurons. `max_memory` is in bytes, by default 80% of the physical memory;
    `progress(done, seeds)` is called after each network; `tile` bounds the entries of a piece of an OuterNonlin;
    with `keep`, an interruption leaves the networks that are done. `weights` replace initial values. After `max_time` seconds
    those that are done are left, two at least. The workers of a `crew` compute the networks, with equal digits.
    """
    start = time.monotonic()
    _check(width, seeds, dtype)
    kind: np.dtype[np.floating] = np.dtype(dtype)
    networks = Networks(program, only, width, seed, kind, tile, weights)
    workers = 1 if crew is None else min(crew.workers, seeds)
    together = _together(networks.plan, width, seeds, kind.itemsize, max_memory, tile, workers)
    items = _Items(seeds, together, growing=max_time is not None)
    found: dict[int, Computed] = {}
    late = False

    def arrived(item: int, computed: list[Computed]) -> None:
        for number, one in zip(items[item], computed, strict=True):
            found[number] = one
            if progress is not None:
                progress(len(found), seeds)
        if max_time is not None and min(2, seeds) <= len(found) < seeds:
            following = len(items[min(item + 1, len(items) - 1)]) if crew is None else 0
            if (time.monotonic() - start) * (1 + following / len(found)) > max_time:
                raise _OutOfTime

    try:
        _compute(networks, items, crew, arrived)
    except _OutOfTime:
        late = True
    except KeyboardInterrupt:
        if not keep or len(found) < 2:
            raise
    order = [o.name for o in networks.plan.outputs]
    drawn: dict[str, list[Values]] = {name: [] for name in order}
    failed: dict[str, Diagnostic] = {}
    for number in sorted(found):
        values, lost = found[number]
        for name, value in values.items():
            drawn[name].append(value)
        failed = lost | failed
    kept = {name: np.stack(drawn[name]) for name in order if name not in failed}
    return Samples(kept, {name: failed[name] for name in order if name in failed}, len(found), late)


class _Items(Sequence[tuple[int, ...]]):
    """The numbers of networks that are computed together; growing from one, each item as large as all before it.

    They are made when they are asked for: there may be more than time, or memory, suffices for.
    """

    def __init__(self, seeds: int, together: int, growing: bool):
        self.seeds, self.together = seeds, together
        self.starts = [0]  # of items smaller than the others, and of the first of the others
        while growing and self.starts[-1] < min(together, seeds):
            self.starts.append(max(1, 2 * self.starts[-1]))

    def _start(self, k: int) -> int:
        last = len(self.starts) - 1
        return min(self.seeds, self.starts[k] if k <= last else self.starts[last] + (k - last) * self.together)

    def __len__(self) -> int:
        last = len(self.starts) - 1
        return last + max(0, -(-(self.seeds - self.starts[last]) // self.together))

    def __getitem__(self, k: Any) -> Any:
        if not 0 <= k < len(self):
            raise IndexError(k)
        return tuple(range(self._start(k), self._start(k + 1)))


def _compute(
    networks: Networks,
    items: Sequence[tuple[int, ...]],
    crew: Crew | None,
    arrived: Callable[[int, list[Computed]], None],
) -> None:
    """All networks; here they end where no output is left that has a value."""
    if crew is not None:
        crew.results(networks, items, arrived)
        return
    failed: set[str] = set()
    for k, numbers in enumerate(items):
        computed = networks(numbers)
        arrived(k, computed)
        failed = failed.union(*(lost for _, lost in computed))
        if len(failed) == len(networks.plan.outputs):
            return


@np.errstate(all="ignore")
def simulate(
    program: Program,
    *,
    width: int,
    seeds: int = 8,
    seed: int = 0,
    dtype: str = "float64",
    only: Collection[str] | None = None,
    max_memory: float | None = None,
    progress: Progress | None = None,
    weights: Mapping[str, object] | None = None,
    max_time: float | None = None,
    crew: Crew | None = None,
) -> Run:
    """Mean over `seeds` networks of width n = `width` with its standard error; arguments as for `samples`.

    `weights`: initial values by name, as in `finite.weights.weights`; the rest is drawn. If nothing is left to draw, there is one
    network, without an error.
    """
    start = time.perf_counter()
    _check(width, seeds, dtype)
    given = checked_weights(program, weights, width) if weights else NO_WEIGHTS
    seeds = 1 if given.whole else seeds
    drawn = samples(
        program, width, seeds, seed=seed, dtype=dtype, only=only, max_memory=max_memory, progress=progress, keep=True,
        weights=given, max_time=max_time, crew=crew,
    )  # fmt: skip
    outputs = {o.name: estimate(o, drawn.values[o.name]) for o in program.outputs if o.name in drawn.values}
    warnings = program.warnings
    if seeds == 1 and not given.whole:
        warnings = (*warnings, Diagnostic("NX910", "one seed gives no standard error", None, "raise `--seeds`"))
    if drawn.seeds < seeds and not (drawn.failed and not outputs):
        warnings = (*warnings, cut(drawn, seeds))
        seeds = drawn.seeds
    settings = {"seed": seed, "width": width, "seeds": seeds, "dtype": dtype, "backend": "numpy"}
    if weights:
        settings["weights"] = ", ".join(weights)
    return Run(
        program=program.source.name,
        command="simulate",
        outputs=outputs,
        failed=drawn.failed,
        warnings=warnings,
        settings=settings,
        seconds=time.perf_counter() - start,
    )


def cut(drawn: Samples, seeds: int, width: int | None = None) -> Diagnostic:
    """Why there are fewer networks than asked for."""
    averages = f"averages over {drawn.seeds} of {seeds} networks" + ("" if width is None else f" of width {width}")
    if drawn.out_of_time:
        return Diagnostic("NX911", f"stopped at the time limit: {averages}", None, "raise `--max-time`")
    return Diagnostic("NX914", f"interrupted: {averages} are shown")


def estimate(output: Output, drawn: Values) -> Estimate:
    """The estimate of one output from its samples (seeds, *shape)."""
    networks: NDArray[np.float64] = drawn.astype(np.float64)
    seeds = len(networks)
    mean = np.asarray(networks.mean(axis=0))
    # Equal samples must have spread 0 exactly, which the rounding of their mean would spoil.
    spread = np.ptp(networks, axis=0) > 0
    stderr = np.where(spread, networks.std(axis=0, ddof=min(1, seeds - 1)) / np.sqrt(seeds), 0.0)
    axes = tuple(i.name for i in output.indices)
    law = covariance = error = None
    if output.node.type.random:
        law = "gaussian" if _is_clt(output.node) else "sampled"
        if seeds >= 2:
            covariance, error = covariances(networks.reshape(seeds, -1))
    return Estimate(
        mean,
        np.asarray(stderr),
        axes,
        "finite-width",
        law,
        covariance,
        error,
        replicates=Replicates((networks,), (1.0,)),
    )


def _is_clt(node: ir.Node) -> bool:
    while isinstance(node, ir.Reindex):
        node = node.args[0]
    return isinstance(node, ir.Clt)


def _check(width: int, seeds: int, dtype: str) -> None:
    if width < 1 or width != int(width):
        raise ProgramError([Diagnostic("NX430", f"the width cannot be {width}", None, "give an integer, 1 or more")])
    if seeds < 1:
        raise ProgramError(
            [Diagnostic("NX430", f"the number of seeds cannot be {seeds}", None, "give at least one seed")]
        )
    if dtype not in ("float32", "float64"):
        raise ProgramError([Diagnostic("NX430", f"there is no dtype `{dtype}`", None, "use `float32` or `float64`")])


def _together(
    found: NetworkPlan, width: int, seeds: int, itemsize: int, max_memory: float | None, tile: int, workers: int
) -> int:
    """How many networks are computed at once: as many as fit into the cache, and the memory. Raises ProgramError NX431."""
    if max_memory is None:
        max_memory = 0.8 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    most = peak(found, lambda w: neurons(w, width), tile)
    results = seeds * sum(o.node.type.size() for o in found.outputs)
    entries = workers * most.entries + results
    if entries * itemsize > max_memory:
        carried = f" ({_bytes(most.carried * itemsize)} for the training states)" if most.carried else ""
        needed, allowed = _bytes(entries * itemsize), _bytes(max_memory)
        message = f"width {width} needs about {needed} of memory{carried}, more than the {allowed} allowed"
        remedy = "lower the width, use `float32`, request fewer outputs, or raise `--max-memory`"
        raise ProgramError([Diagnostic("NX431", message, None, remedy)])
    if found.steps is not None and found.steps.durations:
        return 1  # the integrator of a gradient flow chooses its own steps for each network
    room = int(max_memory / itemsize - results) // workers - (most.entries - most.held)
    each = -(-seeds // workers)
    most_at_once = max(1, min(each, min(room, CACHE // itemsize) // max(1, most.held)))
    return -(-each // -(-each // most_at_once))  # pieces of equal size


def _bytes(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"
