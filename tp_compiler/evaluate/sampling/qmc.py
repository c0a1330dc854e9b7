"""Limits by randomised quasi-Monte Carlo: replicates, standard errors, stopping.

Every run is repeated under R independent scramblings; the value is their mean, the standard error their spread over
√R, with the bias of finite M (estimates.py). M is doubled until the errors meet the tolerance; then some replicates are
run on the halves of their particles, which shows that bias.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic, ProgramError
from tp_compiler.evaluate import special
from tp_compiler.evaluate.allocator import keep_memory
from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.blas import one_blas_thread
from tp_compiler.evaluate.budget import size_text
from tp_compiler.evaluate.interface import Answers
from tp_compiler.evaluate.options import Options
from tp_compiler.evaluate.sampling import heavy_tails
from tp_compiler.evaluate.sampling.batch import Batch, Elsewhere, Place, Replicated, Sampler
from tp_compiler.evaluate.sampling.clock import OutOfTime, ProgressClock
from tp_compiler.evaluate.sampling.estimates import base, is_gaussian, spread
from tp_compiler.evaluate.sampling.memory import memory
from tp_compiler.evaluate.sampling.merge_equal_nodes import shared
from tp_compiler.evaluate.sampling.shards import FEWEST, Shards
from tp_compiler.evaluate.sampling.storage.checkpoint import opened
from tp_compiler.evaluate.sampling.storage.folder import Folder, MissingReplicates
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Output, Program
from tp_compiler.replicates import Replicates, mean_and_error
from tp_compiler.results import Estimate

FIRST_SAMPLES = 2**11
MAX_SAMPLES = 2**16
MAX_SAMPLES_DRAWN = 2**14  # with outer draws, whose error falls like that of plain Monte Carlo
MAX_SAMPLES_NESTED = 2**14  # with an E inside an E, where the work grows like M²
TOLERANCE = 1e-3
SHARED = 2**15  # particles of the replicates that share arrays
#: Numbers that an instruction computes, on average, from which a thread of its own pays: with fewer, threads wait for each
#: other's Python.
OWN_THREAD = 12_000

#: Is told of a batch and its replicates.
Arrived = Callable[[Batch, list[Replicated]], None]


@dataclass
class _Level:
    """All replicates at one M: arrays (R, ...) by output, diagnostics, and covariances of `clt` outputs."""

    samples: int
    values: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, Diagnostic] = field(default_factory=dict)
    covariance: dict[str, Any] = field(default_factory=dict)
    counted: dict[ir.Node, float] = field(default_factory=dict)
    #: averages that may have heavy tails: estimates from the largest samples of the replicates, at every step
    heavy: dict[ir.Node, list[list[Any]]] = field(default_factory=dict)
    #: values and covariances of some replicates, averaged over runs on the halves of their particles
    halves: dict[str, Any] | None = None
    halved_covariance: dict[str, Any] = field(default_factory=dict)


class Sampling:
    """The outputs `only` of a program, sampled; `reasons` gives the reason why each has no exact value."""

    def __init__(self, program: Program, options: Options, only: set[str], reasons: dict[str, str]):
        self.program = shared(program)
        self.reasons = reasons  # why an output is sampled
        self.options = options
        self.sampler = Sampler(self.program, only, options)
        self.plan, self.used_clts = self.sampler.plan, self.sampler.used_clts
        self.averages = self.sampler.averages
        few = MAX_SAMPLES_NESTED if self.plan.nested else MAX_SAMPLES
        self.most = options.max_samples or (MAX_SAMPLES_DRAWN if self.used_clts else few)
        self.read_at = {o.name: base(o.node) for o in self.plan.outputs}
        self.gaussian = {o.name for o in self.plan.outputs if is_gaussian(o.node)}  # their mean is 0, exactly
        self.start = time.monotonic()
        self.warnings: list[Diagnostic] = []
        self.levels: list[_Level] = []
        self.clock = ProgressClock(self.plan, options, self.start)
        self.checkpoint = opened(program, options, only)
        self.directions: int | None = None  # rows of the bases of initial matrices in the last run

    def run(self) -> Answers:
        try:
            self._fit_memory()
            keep_memory()
            with one_blas_thread():
                if self.options.replicate_range is not None:
                    return self._fill(range(*self.options.replicate_range))
                self._look_for_all()
                samples: int | None = self._first()
                while samples is not None:
                    samples = self._climb(samples)
        finally:
            if self.checkpoint is not None:
                self.checkpoint.close()
                self.warnings += self.checkpoint.warnings()
        return self._result()

    def _fill(self, numbers: range) -> Answers:
        """Only these replicates, at all sizes, into a folder."""
        assert isinstance(self.checkpoint, Folder)
        try:
            for batches in self._whole_run(numbers):
                self.clock.begin(f"M = {batches[0].samples}")
                self._each(batches)
        except OutOfTime:
            raise ProgramError([self.clock.too_slow(batches[0].samples)]) from None
        self.checkpoint.refuse_if_full()
        return Answers(samples=self.options.samples or 0, deferred={o.name for o in self.plan.outputs})

    def _whole_run(self, numbers: range) -> Iterator[list[Batch]]:
        """What a run of a given number of samples computes of these replicates, size by size."""
        samples: int | None = self._first()
        while samples is not None:
            yield self._batches(samples, numbers)
            last, samples = samples, self._next(samples)
        halved = [number for number in numbers if number < self._halved(last)]
        if halved:
            yield self._batches(last, halved, True)

    def _look_for_all(self) -> None:
        """Of a run that computes nothing: raises MissingReplicates with all replicates that are not stored."""
        if self.options.stored and self.options.samples is not None:
            everything = [b for batches in self._whole_run(range(self.options.replicates)) for b in batches]
            stored = {place for b in everything for place in b.places if self._kept(place) is not None}
            self._refuse([rest for b in everything if (rest := b.without(stored)).numbers])

    def _refuse(self, missing: Sequence[Batch]) -> None:
        if missing:
            raise MissingReplicates([number for batch in missing for number in batch.replicates])

    def _climb(self, samples: int) -> int | None:
        """One level; returns the size of the next, or None at the end of the ladder."""
        try:
            self.levels.append(self._level(samples))
            following = self._next(samples)
            if following is None:
                self._halve()
            return following
        except OutOfTime:
            self._stopped(samples)
        except KeyboardInterrupt:
            if not self.levels:
                raise
            message = f"interrupted at M = {samples}: the results with M = {self.levels[-1].samples} are shown"
            self.warnings.append(Diagnostic("NX914", message))
        return None

    # -- sizes --------------------------------------------------------------------------------------------------
    def _first(self) -> int:
        """A ladder from an eighth of the size, so that non-convergence shows."""
        if self.options.samples is not None:
            return max(8, self.options.samples // 8)
        return min(self._smallest // 8, self.most)

    def _next(self, samples: int) -> int | None:
        """The next size, or None at the end of the ladder."""
        o = self.options
        if o.samples is not None:
            return self._next_of(samples, o.samples) if samples < o.samples else None
        if samples < min(self._smallest, self.most):
            return 2 * samples
        if samples >= self.most or self._met():
            return None
        return None if self._exhausted(samples) else 2 * samples

    def _next_of(self, samples: int, most: int) -> int:
        """Of a run whose largest size is known. Half of that size is left out where runs on halves of the particles, which are
        as large, show more; they do not where copies are averaged."""
        left_out = 4 * samples == most and self._halved(most) > 0 and not self.plan.depth
        return most if left_out else 2 * samples

    def _exhausted(self, samples: int) -> bool:
        """Whether twice as many particles are out of reach."""
        o = self.options
        spent = time.monotonic() - self.start
        if o.max_time is not None and 2.2 * spent > o.max_time:
            self.warnings.append(Diagnostic("NX911", f"stopped at M = {samples}: the time limit is nearly reached"))
            return True
        full = Diagnostic("NX912", f"stopped at M = {samples}: twice as many samples would exceed the memory")
        stopped = self.averages.first(full if self._memory(2 * samples) > o.memory else None)
        if stopped is not None:
            self.warnings.append(stopped)
            return True
        return False

    def _stopped(self, samples: int) -> None:
        """The time limit was reached in the middle of a level: earlier levels are kept."""
        if not self.levels:
            raise ProgramError([self.clock.too_slow(samples)])
        reached = self.levels[-1].samples
        message = f"stopped at M = {reached}: the time limit was reached at M = {samples}"
        if reached == samples:
            message = f"stopped at M = {samples}: the time limit was reached before the bias was estimated"
        self.warnings.append(Diagnostic("NX911", message))

    def _memory(self, samples: int) -> float:
        particles, _ = self.sampler.outer(samples)
        if isinstance(self.averages, Shards):
            particles = max(1, particles * self.averages.rows // self.averages.count)
        return memory(self.plan, particles, self.directions).total * self.options.workers

    def _fit_memory(self) -> None:
        smallest = self.options.samples or self._smallest
        problem = self.averages.first(self._too_large(smallest) or self._too_few())
        if problem is not None:
            raise ProgramError([problem])

    def _too_large(self, samples: int) -> Diagnostic | None:
        needed = self._memory(samples)
        if needed <= self.options.memory:
            return None
        return Diagnostic(
            "NX431",
            f"{samples} particles need about {size_text(needed)}, but only {size_text(self.options.memory)} are allowed",
            None,
            "use smaller axes, fewer `--samples` or `--threads`, or raise `--max-memory`",
        )

    def _too_few(self) -> Diagnostic | None:
        """Of the smallest run: every shard must have some particles."""
        particles, _ = self.sampler.outer(self._first())
        if not isinstance(self.averages, Shards) or particles >= FEWEST * self.averages.count:
            return None
        return Diagnostic(
            "NX432",
            f"{self.averages.count} shards of the smallest run have fewer than {FEWEST} particles each",
            None,
            "choose fewer `--shards`, or more `--samples`",
        )

    @property
    def _smallest(self) -> int:
        """The first size that may be the last."""
        return max(FIRST_SAMPLES, 8 * FEWEST * self.averages.count)

    # -- one level ----------------------------------------------------------------------------------------------
    def _level(self, samples: int) -> _Level:
        level = _Level(samples)
        count = self.options.replicates
        self.clock.begin(f"M = {samples}")
        results = self._each(self._batches(samples, range(count)))
        known = [found.directions for found in results if found.directions is not None]
        self.directions = max(known, default=self.directions)
        for output in self.plan.outputs:
            parts = [found.values[output.name] for found in results]
            broken = next((p for p in parts if isinstance(p, Diagnostic)), None)
            if broken is not None:
                level.failed[output.name] = broken
                continue
            level.values[output.name] = np.array(parts)
            if output.node.type.random:
                level.covariance[output.name] = np.array([x.covariances[output.name] for x in results])
        self._look_at_tails(level, [found.tails for found in results])
        return level

    def _look_at_tails(self, level: _Level, found: list[dict[str, Array]]) -> None:
        """Combines the tails of the replicates, and refuses the outputs that depend on an infinite average."""
        nodes = self.plan.nodes
        places = {key: nodes[int(key.split(" ")[1])] for key in found[0]}
        level.counted = {node: float(found[0][key]) for key, node in places.items() if key.startswith("counted")}
        for key, node in places.items():
            if key.startswith("heavy") and all(key in one for one in found):
                level.heavy[node] = [list(parts) for parts in zip(*(one[key] for one in found), strict=False)]
        broken = {
            node
            for node, steps in level.heavy.items()
            if isinstance(node, ir.Contract)
            and self.plan.tails.may_be_infinite(node)
            and any(heavy_tails.infinite(parts) for parts in steps)
        }
        for name in list(level.values) if broken else []:
            causes = broken & set(self.plan.needs(name).nodes)
            if causes:
                del level.values[name]
                level.covariance.pop(name, None)
                level.failed[name] = heavy_tails.diagnostic(causes)

    def _batches(self, samples: int, numbers: Sequence[int], halved: bool = False) -> list[Batch]:
        """Replicates that share arrays: as many as the caches and the memory hold, and every worker for whom it pays has some.

        Both halves of a replicate are in one batch: they have their points in common.
        """
        room = max(1, min(SHARED // samples, int(self.options.memory // self._memory(samples))))
        size = min(math.ceil(len(numbers) / self._parts(samples, len(numbers))), room)
        parts = [numbers[k : k + size] for k in range(0, len(numbers), size)]
        if not halved:
            return [Batch(samples, tuple(part)) for part in parts]
        return [Batch(samples, tuple(run for r in part for run in (2 * r, 2 * r + 1)), True) for part in parts]

    def _parts(self, samples: int, replicates: int) -> int:
        """How many workers share a level: all processes, and as many threads as have enough to compute at once."""
        workers = self.options.workers
        if self.options.crew is not None:
            return workers
        particles, _ = self.sampler.outer(samples)
        return max(1, min(workers, int(replicates * particles * self.plan.width // OWN_THREAD)))

    def _each(self, batches: Sequence[Batch]) -> list[Replicated]:
        """The replicates of all batches, in their order: from the checkpoint, the others side by side."""
        places = [place for batch in batches for place in batch.places]
        found = {place: kept for place in places if (kept := self._kept(place)) is not None}

        def arrived(batch: Batch, computed: list[Replicated]) -> None:
            for place, replicated in zip(batch.places, computed, strict=True):
                found[place] = replicated
                if self.checkpoint is not None:
                    self.checkpoint.put(place, replicated)
            self.clock.finished(len(found))

        missing = [rest for batch in batches if (rest := batch.without(found)).numbers]
        if self.options.stored:
            self._refuse(missing)
        (self._here if self.options.crew is None else self._elsewhere)(missing, arrived)
        return [found[place] for place in places]

    def _kept(self, place: Place) -> Replicated | None:
        return None if self.checkpoint is None else self.checkpoint.get(place)

    def _here(self, batches: Sequence[Batch], arrived: Arrived) -> None:
        """In threads; what they compute arrives in this one, which computes by itself what no others share."""
        if min(self.options.workers, len(batches)) <= 1:
            for batch in batches:
                arrived(batch, self.sampler(batch, self.clock))
            return
        with ThreadPoolExecutor(self.options.workers) as pool:
            try:
                work = {pool.submit(self.sampler, batch, self.clock): batch for batch in batches}
                for future in as_completed(work):
                    arrived(work[future], future.result())
            except BaseException:
                self.clock.stop()  # the other replicates end at their next step
                raise

    def _elsewhere(self, batches: Sequence[Batch], arrived: Arrived) -> None:
        """By the workers of a crew."""
        assert self.options.crew is not None
        work = Elsewhere(self.sampler, time.time() + self.clock.deadline - time.monotonic())
        self.options.crew.results(work, batches, lambda k, found: arrived(batches[k], found), self.clock.pause)

    def _halved(self, samples: int) -> int:
        """How many replicates of the last size are also run on halves."""
        return 0 if self.used_clts or samples < 16 else max(2, self.options.replicates // 2)

    def _halve(self) -> None:
        """Runs on halves of the particles for half of the replicates: they show the bias of finite size."""
        level = self.levels[-1]
        count = self._halved(level.samples)
        if level.halves is not None or not count or not level.values:
            return
        self.clock.begin(f"M = {level.samples}, bias")
        runs = self._each(self._batches(level.samples, range(count), True))
        level.halves = {}
        for name in level.values:
            parts = [found.values[name] for found in runs]
            if any(isinstance(p, Diagnostic) for p in parts):
                continue
            level.halves[name] = _paired_up(parts)
            if name in level.covariance:
                level.halved_covariance[name] = _paired_up([found.covariances[name] for found in runs])

    # -- estimates ----------------------------------------------------------------------------------------------
    def _estimate(self, name: str) -> tuple[Array, Array]:
        """Value and standard error at the last level; the error includes the bias of finite M."""
        level = self.levels[-1]
        halves = None if level.halves is None else level.halves.get(name)
        value, stderr = mean_and_error([x.values.get(name) for x in self.levels], self._sizes(name), halves)
        return value, np.hypot(stderr, self._tail_error(self.read_at[name]))

    def _tail_error(self, node: ir.Node) -> float:
        """The error that the largest samples leave in an average on which an output depends."""
        level = self.levels[-1]
        counted = level.counted.get(node, 0.0) / math.sqrt(self.options.replicates)
        read = base(node.args[0]) if isinstance(node, ir.Trace) else node
        if not isinstance(read, ir.Contract) or read.slots != (0,):
            return counted
        far = self.plan.tails.may_be_infinite(read)
        heavy = (heavy_tails.beyond(parts, far) for parts in level.heavy.get(read, ()))
        return math.hypot(counted, max(heavy, default=0.0))

    def _replicates(self, name: str) -> Replicates:
        halves = self.levels[-1].halves
        levels = [x.values.get(name) for x in self.levels]
        return Replicates.of(levels, self._sizes(name), None if halves is None else halves.get(name))

    def _covariance(self, name: str) -> tuple[Array, Array]:
        halves = self.levels[-1].halved_covariance.get(name)
        return mean_and_error([x.covariance.get(name) for x in self.levels], self._sizes(name), halves)

    def _sizes(self, name: str) -> list[int]:
        return [self.plan.resolution(self.sampler.outer(level.samples)[0], name) for level in self.levels]

    def _tolerance(self, value: Array) -> float:
        o = self.options
        rtol = TOLERANCE if o.rtol is None else o.rtol
        atol = TOLERANCE if o.atol is None else o.atol
        return atol + rtol * float(np.max(np.abs(value), initial=0.0))

    def _errors(self, name: str) -> list[tuple[float, float]]:
        """(largest stderr, tolerance) of an output's value and of its covariance."""
        value, stderr = self._estimate(name)
        found = [] if name in self.gaussian else [(float(np.max(stderr, initial=0.0)), self._tolerance(value))]
        if name in self.levels[-1].covariance:
            covariance, error = self._covariance(name)
            found.append((float(np.max(error, initial=0.0)), self._tolerance(covariance)))
        return found

    def _met(self) -> bool:
        last = self.levels[-1]
        if any(d.code == "NX441" for d in last.failed.values()):
            return False  # more samples may distinguish a heavy tail from an infinite moment
        if any(self._spread(name) > self._tolerance(last.values[name].mean(axis=0)) for name in last.values):
            return False
        self._halve()
        return all(error <= bound for name in last.values for error, bound in self._errors(name))

    def _spread(self, name: str) -> float:
        return 0.0 if name in self.gaussian else spread(self.levels[-1].values[name])

    def _result(self) -> Answers:
        last = self.levels[-1]
        outputs: dict[str, Estimate] = {}
        failed: dict[str, Diagnostic] = dict(last.failed)
        for output in self.plan.outputs:
            if output.name not in last.values:
                continue
            problem = self._divergence(output)
            if problem is not None:
                failed[output.name] = problem
                continue
            outputs[output.name] = self._output(output)
            self._warn_if_unmet(output)
        return Answers({**outputs, **failed}, tuple(self.warnings), last.samples)

    def _output(self, output: Output) -> Estimate:
        value, stderr = self._estimate(output.name)
        method = "mc" if self.options.method == "mc" else "qmc"
        axes = tuple(i.name for i in output.indices)
        if not output.node.type.random:
            note = self.reasons.get(output.name, "")
            return Estimate(value, stderr, axes, method, note=note, replicates=self._replicates(output.name))
        covariance, error = self._covariance(output.name)
        law = "gaussian" if output.name in self.gaussian else "sampled"
        if law == "gaussian":
            value, stderr = np.zeros_like(value), np.zeros_like(stderr)
        return Estimate(value, stderr, axes, method, law, covariance, error, self.reasons.get(output.name, ""))

    def _divergence(self, output: Output) -> Diagnostic | None:
        """An error that does not fall as M grows eightfold: an infinite moment, or one carried by the rarest events.

        The variance of plain Monte Carlo falls by 8 over three doublings. It is judged by the F-test of the two levels'
        spreads at the level 1e-3, since a spread over few replicates is a rough number. The test knows Gaussian spreads;
        that of a rare event is 0 until it is met, and does not count where the formula says that the error falls.
        """
        last = self.levels[-1]
        compared = [level for level in self.levels if 8 * level.samples >= last.samples]
        if 8 * compared[0].samples > last.samples or any(output.name not in level.values for level in compared):
            return None
        if self.plan.settles(output.name):
            return None
        now, then = (spread(level.values[output.name]) for level in (last, compared[0]))
        freedom = self.options.replicates - 1
        value, _ = self._estimate(output.name)
        if now <= 5 * self._tolerance(value) or now**2 < then**2 * special.fdtri(freedom, freedom, 0.999) / 8:
            return None
        return Diagnostic(
            "NX441",
            f"the average does not converge: its error is still {now:.2g} with {self.levels[-1].samples} particles,"
            f" and was {then:.2g} with an eighth of them",
            output.span,
            "check the tails, since a moment may be infinite, or raise `--max-samples`",
        )

    def _warn_if_unmet(self, output: Output) -> None:
        if self.options.samples is not None and self.options.rtol is None and self.options.atol is None:
            return
        for error, bound in self._errors(output.name):
            if error > bound:
                message = f"the error of `{output.name}`, {error:.2g}, exceeds the tolerance {bound:.2g}"
                self.warnings.append(Diagnostic("NX913", message, output.span, "raise `--max-samples` or `--samples`"))
                return


def _paired_up(parts: list[Array]) -> Array:
    """The means of parts 0 and 1, 2 and 3, ..."""
    return (np.array(parts[::2]) + np.array(parts[1::2])) / 2
