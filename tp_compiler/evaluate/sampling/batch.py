"""The replicates of a run as a function of plain data: samples and numbers in, arrays out, in this process or another.

`Sampler` is the one door through which replicates are computed. It pickles as the program and its options; the plan is
made anew where it arrives. The digits of a replicate depend on its number, never on the others of its batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Container
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.blas import one_blas_thread
from tp_compiler.evaluate.options import Options
from tp_compiler.evaluate.sampling.clock import ProgressClock
from tp_compiler.evaluate.sampling.clt import CltScalars
from tp_compiler.evaluate.sampling.estimates import averaged, covariances, gaussian_law
from tp_compiler.evaluate.sampling.plan import SamplingPlan
from tp_compiler.evaluate.sampling.points import Points
from tp_compiler.evaluate.sampling.replicate import Replicate
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
    """Replicates that are computed together: whole, or the first or second `half` of their particles."""

    samples: int
    numbers: tuple[int, ...]
    half: int | None = None

    @property
    def places(self) -> list[Place]:
        """The names of the replicates: halves have negative numbers."""
        if self.half is None:
            return [(self.samples, number) for number in self.numbers]
        return [(self.samples, -(2 * number + self.half + 1)) for number in self.numbers]

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
        with one_blas_thread():
            return self.sampler(batch, clock)


class Sampler:
    """The outputs `only` of a program with merged nodes, under one scrambling after the other."""

    def __init__(self, program: Program, only: Collection[str], options: Options):
        self.program, self.only = program, frozenset(only)
        self.options = replace(options, progress=None, checkpoint=None, replicate_range=None, crew=None)
        self.plan = SamplingPlan(program, set(only))
        self.used_clts = self._drawn_clts()

    def __reduce__(self) -> Any:
        p = self.program
        own = tuple(o for o in p.outputs if o.name in self.only)
        return Sampler, (Program(p.source, own, p.axes, p.widths, names=p.names, loop=p.loop), self.only, self.options)

    def __call__(self, batch: Batch, clock: ProgressClock) -> list[Replicated]:
        """The replicates of a batch, in the order of their numbers. Raises OutOfTime where the clock does."""
        return [self._replicate(batch.samples, number, batch.half, clock) for number in batch.numbers]

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
    def _replicate(self, samples: int, number: int, half: int | None, clock: ProgressClock) -> Replicated:
        """One scrambling: outputs averaged over the outer draws, covariances of random ones, information about tails."""
        particles, draws = self.outer(samples)
        seed = (self.options.seed, number)
        coordinates = self._coordinates(draws, seed)
        plain = self.options.method == "mc"
        run = Replicate(self.plan, particles, seed, plain, half is None, clock.tick, clock.pause, half)
        collected: list[dict[str, Any]] = []
        laws: list[dict[str, Any]] = []
        for d in range(draws):
            clt = CltScalars(None if coordinates is None else coordinates[d])
            collected.append(run.outputs_given(clt))
            laws.append({o.name: gaussian_law(o, clt) for o in self.plan.outputs if o.node.type.random})
        directions = run.directions() if half is None else None
        return Replicated(averaged(collected), covariances(collected, laws), self._tails(run), directions)

    def _tails(self, run: Replicate) -> dict[str, Array]:
        place = {n: k for k, n in enumerate(self.plan.nodes)}
        found: dict[str, Any] = {f"counted {place[n]}": np.array(error) for n, error in run.particles.counted.items()}
        return found | {f"heavy {place[n]}": np.array(steps) for n, steps in run.particles.heavy.items()}

    def _coordinates(self, draws: int, seed: tuple[int, ...]) -> Float[Array, "{draws} scalars"] | None:
        if not self.used_clts:
            return None
        return Points(draws, (*seed, 104729), self.used_clts, self.options.method == "mc").draw(self.used_clts)
