"""The replicates of a run as a function of plain data: samples and numbers in, arrays out, in this process or another.

`Sampler` is the one door through which replicates are computed. It pickles as the program and its options; the plan is
made anew where it arrives. The digits of a replicate depend on its number, never on the others of its batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate.allocator import keep_memory
from tp_compiler.evaluate.array_types import Array, Outputs
from tp_compiler.evaluate.blas import one_blas_thread
from tp_compiler.evaluate.options import Options
from tp_compiler.evaluate.sampling.averages import AVERAGES, Averages
from tp_compiler.evaluate.sampling.clock import ProgressClock
from tp_compiler.evaluate.sampling.clt import CltScalars
from tp_compiler.evaluate.sampling.estimates import averaged, covariances, gaussian_law
from tp_compiler.evaluate.sampling.particles import Found
from tp_compiler.evaluate.sampling.plan import SamplingPlan
from tp_compiler.evaluate.sampling.points import JointPoints, Points, Sequences
from tp_compiler.evaluate.sampling.replicate import Replication
from tp_compiler.evaluate.sampling.shards import Shards
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Program
from tp_compiler.shapes import Float

#: Samples and number of a replicate.
Place = tuple[int, int]


class Replicated(NamedTuple):
    """One replicate: values (or Diagnostics) and covariances by output; tail estimates of averages by "counted" or "heavy"
    and their place in the plan; the rows of the bases of initial matrices."""

    values: dict[str, Any]
    covariances: dict[str, Any]
    tails: dict[str, Any]
    directions: int | None = None


@dataclass(frozen=True)
class Batch:
    """Runs that are computed together: replicates, or, if `halved`, run 2r on the first half of the particles of
    replicate r, and run 2r + 1 on the second."""

    samples: int
    numbers: tuple[int, ...]
    halved: bool = False

    @property
    def places(self) -> list[Place]:
        """The names of the runs: those on halves have negative numbers."""
        return [(self.samples, -number - 1 if self.halved else number) for number in self.numbers]

    @property
    def replicates(self) -> list[int]:
        """The replicate of every run."""
        return [number // 2 if self.halved else number for number in self.numbers]

    @property
    def halves(self) -> tuple[int, ...]:
        """The half of the particles of every run; none for whole replicates."""
        return tuple(number % 2 for number in self.numbers) if self.halved else ()

    def without(self, found: Container[Place]) -> Batch:
        """The batch without those that are found already."""
        pairs = zip(self.numbers, self.places, strict=True)
        return replace(self, numbers=tuple(number for number, place in pairs if place not in found))


@dataclass(frozen=True)
class Elsewhere:
    """A sampler for the workers of another process, until a time of the clock on the wall."""

    sampler: Sampler
    until: float

    def __call__(self, batch: Batch) -> list[Replicated]:
        clock = ProgressClock(self.sampler.plan, self.sampler.options, 0.0)
        clock.deadline = time.monotonic() + self.until - time.time()
        self.sampler.options.library.load()
        keep_memory()
        with one_blas_thread():
            return self.sampler(batch, clock)


class Sampler:
    """The outputs `only` of a program with merged nodes, under one scrambling after the other."""

    def __init__(self, program: Program, only: Collection[str], options: Options):
        self.program, self.only = program, frozenset(only)
        self.options = replace(options, progress=None, checkpoint=None, replicate_range=None, crew=None)
        self.plan = SamplingPlan(program, set(only))
        self.kept = Sequences()
        self.used_clts = self._drawn_clts()

    def __reduce__(self) -> Any:
        p = self.program
        own = tuple(o for o in p.outputs if o.name in self.only)
        return Sampler, (Program(p.source, own, p.axes, p.widths, names=p.names, loop=p.loop), self.only, self.options)

    def __call__(self, batch: Batch, clock: ProgressClock) -> list[Replicated]:
        """The replicates of a batch, in the order of their numbers. Raises OutOfTime where the clock does."""
        if len(batch.numbers) == 1 or not (self._is_flow() or isinstance(self.averages, Shards)):
            found = self._together(batch, clock)
            if len(batch.numbers) == 1 or not any(self._failed(one) for one in found):
                return found
        # A failure of one replicate fails all that share its arrays: each of them shows what it has by itself.
        return [self._together(replace(batch, numbers=(number,)), clock)[0] for number in batch.numbers]

    def _is_flow(self) -> bool:
        """Whether an integrator chooses its steps, by all that it integrates."""
        loop = self.plan.phases.loop
        return loop is not None and bool(loop.times)

    def _failed(self, found: Replicated) -> bool:
        """Whether an output failed that does not fail for every replicate."""
        return any(isinstance(value, Diagnostic) and name not in self.refused for name, value in found.values.items())

    @cached_property
    def averages(self) -> Averages:
        """Over the particles of each row, or of the shards that share them."""
        return AVERAGES if self.options.shards is None else Shards(self.options.shards, self.options.library)

    @cached_property
    def refused(self) -> set[str]:
        """The outputs that fail whatever is drawn."""
        return {
            o.name
            for o in self.plan.outputs
            if any(isinstance(n, ir.Unavailable) or n in self.plan.problems for n in self.plan.needs(o.name).nodes)
        }

    def outer(self, samples: int) -> tuple[int, int]:
        """Particles of one run and the number of outer draws: both grow with the square root of the budget."""
        if not self.used_clts:
            return samples, 1
        draws = 2 ** (round(math.log2(samples) / 2) + 2)
        return max(64, 16 * samples // draws), draws

    def _drawn_clts(self) -> int:
        """The number of N(0,1) coordinates of an outer draw; 0 if no statement reads a `clt` value."""
        readers = {a for n in self.plan.nodes for a in n.args if isinstance(a, ir.Clt)}
        if not readers or self.options.f0 == "zero":
            return 0
        return sum(n.type.size() for n in self.plan.clts)

    @np.errstate(all="ignore")  # a thread of the pool has NumPy's defaults
    def _together(self, batch: Batch, clock: ProgressClock) -> list[Replicated]:
        """Scramblings: outputs averaged over the outer draws, covariances of random ones, information about tails."""
        particles, draws = self.outer(batch.samples)
        seeds = [(self.options.seed, number) for number in batch.replicates]
        averages, halves = self.averages, batch.halves
        if isinstance(averages, Shards):  # the rows are those of one run
            seeds, halves = seeds * averages.rows, halves * averages.rows
        coordinates = self._coordinates(draws, seeds)
        plain = self.options.method == "mc"
        tick = partial(clock.tick, len(seeds))
        run = Replication(
            self.plan,
            particles,
            seeds,
            plain,
            not batch.halved,
            tick,
            clock.pause,
            halves,
            self.kept,
            self.options.library,
            averages,
        )
        collected: list[list[Outputs]] = [[] for _ in seeds]
        laws: list[list[dict[str, Any]]] = [[] for _ in seeds]
        for d in range(draws):
            clt = CltScalars(None if coordinates is None else coordinates[:, d], averages)
            values = run.outputs_given(clt)
            for r in range(len(seeds)):
                collected[r].append(_of_one(values, r))
                laws[r].append({o.name: gaussian_law(o, clt, r) for o in self.plan.outputs if o.node.type.random})
        directions = run.directions()
        tails = [self._tails(found) for found in run.particles.found]
        if isinstance(averages, Shards):
            seeds, tails = seeds[:1], [averages.tails(tails)]
        return [
            Replicated(
                averaged(collected[r]), covariances(collected[r], laws[r]), tails[r],
                None if batch.halved else directions[r],
            )
            for r in range(len(seeds))
        ]  # fmt: skip

    def _tails(self, found: Found) -> dict[str, Array]:
        place = {n: k for k, n in enumerate(self.plan.nodes)}
        counted: dict[str, Any] = {f"counted {place[n]}": np.array(error) for n, error in found.counted.items()}
        return counted | {f"heavy {place[n]}": np.array(steps) for n, steps in found.heavy.items()}

    def _coordinates(
        self, draws: int, seeds: Sequence[tuple[int, ...]]
    ) -> Float[Array, "replicates {draws} scalars"] | None:
        if not self.used_clts:
            return None
        plain = self.options.method == "mc"
        points = [Points(draws, (*seed, 104729), self.used_clts, plain) for seed in seeds]
        return JointPoints(points).draw(self.used_clts)


def _of_one(values: Outputs, replicate: int) -> Outputs:
    return {name: x if isinstance(x, Diagnostic) else x[replicate] for name, x in values.items()}
