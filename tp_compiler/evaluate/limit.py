"""The limit of a program by randomised quasi-Monte Carlo: replicates, standard errors, stopping.

Every run is repeated under R independent scramblings; the value is their mean, the standard error their spread over
√R, enlarged by the bias that is seen against M/2, M/4 and M/8 particles (the O(1/M) of functions of averages). M is
doubled until the errors meet the tolerance.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import fdtri
from threadpoolctl import threadpool_limits

from tp_compiler.diagnostics import Diagnostic, ProgramError
from tp_compiler.evaluate.clt import CltScalars
from tp_compiler.evaluate.estimates import (
    averaged,
    base,
    covariances,
    gaussian_law,
    is_gaussian,
    mean_and_error,
    spread,
)
from tp_compiler.evaluate.plan import Plan
from tp_compiler.evaluate.replicate import Replicate
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Output, Program
from tp_compiler.results import Estimate, Run

FIRST_SAMPLES = 2**11
MAX_SAMPLES = 2**16
MAX_SAMPLES_DRAWN = 2**14  # with outer draws, whose error falls like that of plain Monte Carlo
TOLERANCE = 1e-3
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
    progress: Callable[..., None] | None = None

    @property
    def memory(self) -> float:
        if self.max_memory is not None:
            return self.max_memory
        return 0.8 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    @property
    def workers(self) -> int:
        return max(1, min(self.threads or len(os.sched_getaffinity(0)), self.replicates))


def limit(program: Program, *, only: Collection[str] | None = None, **options: Any) -> Run:
    """The infinite-width limit of every output of a program (Tensor Programs IVb, Thm 2.6.10).

    samples       particles M of one replicate, a power of two; None: doubled until the tolerance is met
    max_samples   where the doubling stops; None: 2^16, or 2^14 where values of `clt` scalars are drawn
    replicates    R independent scramblings, at least 2
    seed          fixes every digit, whatever the number of threads
    method        auto and qmc sample by scrambled Sobol points, mc by plain random draws
    rtol, atol    an output is done when its largest stderr is below atol + rtol·max|value|; 1e-3 each
    f0            "sample": later statements see draws of `clt` scalars; "zero": they see 0
    only          names of the outputs wanted
    max_memory    bytes; max_time: seconds; threads: replicates that run at once

    Returns a Run with method qmc (or mc). Outputs that cannot be computed are in `Run.failed`.
    Raises ProgramError NX431 where even the smallest run does not fit into the memory, NX432 for an option's value.
    """
    chosen = Options(**options)
    _validate(chosen)
    names = [o.name for o in program.outputs if only is None or o.name in only]
    drawn = {o.name for o in program.outputs if o.node.type.random and not is_gaussian(o.node)}
    parts = [part for part in ([n for n in names if n not in drawn], [n for n in names if n in drawn]) if part]
    runs = [_Evaluation(program, chosen, set(part)).run() for part in parts or [names]]
    return runs[0] if len(runs) == 1 else _joined(runs, names)


def _joined(runs: list[Run], names: list[str]) -> Run:
    """One Run of two: outputs that need draws of `clt` scalars run apart, since each draw has few particles."""
    outputs = {n: run.outputs[n] for n in names for run in runs if n in run.outputs}
    failed = {n: run.failed[n] for n in names for run in runs if n in run.failed}
    warnings = tuple(dict.fromkeys(w for run in runs for w in run.warnings))
    settings = {**runs[0].settings, "samples": max(run.settings["samples"] for run in runs)}
    seconds = sum(run.seconds for run in runs)
    return Run(runs[0].program, runs[0].command, outputs, failed, warnings, settings, seconds)


def _validate(o: Options) -> None:
    def wrong(message: str) -> ProgramError:
        return ProgramError([Diagnostic("NX432", message, None, "change the option")])

    for name, value in (("samples", o.samples), ("max_samples", o.max_samples)):
        if value is not None and (value < 8 or value & (value - 1)):
            raise wrong(f"{name} must be a power of two, 8 or more; found {value}")
    if o.replicates < 2:
        raise wrong(f"replicates must be at least 2, found {o.replicates}")
    if o.method not in METHODS:
        raise wrong(f"method must be one of {', '.join(METHODS)}; found {o.method}")
    if o.f0 not in ("sample", "zero"):
        raise wrong(f"f0 must be sample or zero, found {o.f0}")
    for name, tolerance in (("rtol", o.rtol), ("atol", o.atol)):
        if tolerance is not None and not (tolerance >= 0 and math.isfinite(tolerance)):
            raise wrong(f"{name} must be 0 or more, found {tolerance}")


@dataclass
class _Level:
    """All replicates at one M: arrays (R, ...) by output, diagnostics, and covariances of `clt` outputs."""

    samples: int
    values: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, Diagnostic] = field(default_factory=dict)
    covariance: dict[str, Any] = field(default_factory=dict)
    tail_error: dict[ir.Node, float] = field(default_factory=dict)


class _Evaluation:
    def __init__(self, program: Program, options: Options, only: set[str] | None):
        self.program = program
        self.options = options
        self.plan = Plan(program, only)
        self.used_clts = self._drawn_clts()
        self.most = options.max_samples or (MAX_SAMPLES_DRAWN if self.used_clts else MAX_SAMPLES)
        self.read_at = {o.name: base(o.node) for o in self.plan.outputs}
        self.gaussian = {o.name for o in self.plan.outputs if is_gaussian(o.node)}  # their mean is 0, exactly
        self.start = time.monotonic()
        self.warnings: list[Diagnostic] = []
        self.levels: list[_Level] = []

    def run(self) -> Run:
        if self.options.method in ("exact", "quadrature"):
            return self._refused_method()
        self._fit_memory()
        with threadpool_limits(limits=1):  # one BLAS thread: the same digits whatever the number of threads
            samples = self._first()
            while True:
                self.levels.append(self._level(samples))
                following = self._next(samples)
                if following is None:
                    break
                samples = following
        return self._result()

    def _refused_method(self) -> Run:
        message = f"the method `{self.options.method}` is not available in this version"
        failed = {o.name: Diagnostic("NX501", message, o.span, "use --method qmc") for o in self.plan.outputs}
        return Run(self.program.source.name, "limit", {}, failed, self.program.warnings, self._settings(0), 0.0)

    # -- sizes --------------------------------------------------------------------------------------------------
    def _first(self) -> int:
        """A ladder of at least four sizes, so that non-convergence shows."""
        if self.options.samples is not None:
            return max(8, self.options.samples // 8)
        return min(FIRST_SAMPLES // 8, self.most)

    def _next(self, samples: int) -> int | None:
        """The next size, or None where the ladder ends."""
        o = self.options
        if o.samples is not None:
            return 2 * samples if samples < o.samples else None
        if samples < min(FIRST_SAMPLES, self.most):
            return 2 * samples
        if samples >= self.most or self._met():
            return None
        spent = time.monotonic() - self.start
        if o.max_time is not None and 2.2 * spent > o.max_time:
            self.warnings.append(Diagnostic("NX911", f"stopped at M = {samples}: the time allowed is nearly spent"))
            return None
        if self._memory(2 * samples) > o.memory:
            self.warnings.append(Diagnostic("NX912", f"stopped at M = {samples}: twice as many exceed the memory"))
            return None
        return 2 * samples

    def _memory(self, samples: int) -> float:
        particles, _ = self._outer(samples)
        return self.plan.memory(particles) * self.options.workers

    def _fit_memory(self) -> None:
        smallest = self.options.samples or FIRST_SAMPLES
        needed = self._memory(smallest)
        if needed > self.options.memory:
            shown = f"{needed / 1e9:.1f} GB, {self.options.memory / 1e9:.1f} GB are allowed"
            raise ProgramError(
                [
                    Diagnostic(
                        "NX431",
                        f"{smallest} particles need about {shown}",
                        None,
                        "use smaller axes, fewer --samples or --threads, or a larger --max-memory",
                    )
                ]
            )

    # -- one level ----------------------------------------------------------------------------------------------
    def _drawn_clts(self) -> int:
        """How many N(0,1) coordinates an outer draw takes; 0 where no statement reads a `clt` value."""
        readers = {a for n in self.plan.nodes for a in n.args if isinstance(a, ir.Clt)}
        if not readers or self.options.f0 == "zero":
            return 0
        return sum(n.type.size() for n in self.plan.clts)

    def _outer(self, samples: int) -> tuple[int, int]:
        """Particles of one run and the number of outer draws: both grow with the square root of the budget."""
        if not self.used_clts:
            return samples, 1
        draws = 2 ** (round(math.log2(samples) / 2) + 2)
        return max(64, 16 * samples // draws), draws

    def _level(self, samples: int) -> _Level:
        level = _Level(samples)
        count = self.options.replicates
        results: list[Any] = []
        with ThreadPoolExecutor(self.options.workers) as pool:
            for k, result in enumerate(pool.map(lambda r: self._replicate(samples, r), range(count))):
                results.append(result)
                if self.options.progress is not None:
                    self.options.progress(k + 1, count, f"M = {samples}")
        level.tail_error = results[0][2]
        for output in self.plan.outputs:
            parts = [values[output.name] for values, _, _ in results]
            broken = next((p for p in parts if isinstance(p, Diagnostic)), None)
            if broken is not None:
                level.failed[output.name] = broken
                continue
            level.values[output.name] = np.array(parts)
            if output.node.type.random:
                level.covariance[output.name] = np.array([c[output.name] for _, c, _ in results])
        return level

    def _replicate(self, samples: int, number: int) -> tuple[dict[str, Any], dict[str, Any], dict[ir.Node, float]]:
        """One scrambling: outputs averaged over the outer draws, covariances of random ones, errors of heavy tails."""
        particles, draws = self._outer(samples)
        seed = (self.options.seed, number)
        coordinates = self._coordinates(draws, seed)
        run = Replicate(self.plan, particles, seed, self.options.method == "mc", inspect=number == 0)
        collected: list[dict[str, Any]] = []
        laws: list[dict[str, Any]] = []
        for d in range(draws):
            clt = CltScalars(None if coordinates is None else coordinates[d])
            collected.append(run.outputs(clt))
            laws.append({o.name: gaussian_law(o, clt) for o in self.plan.outputs if o.node.type.random})
        return averaged(collected), covariances(collected, laws), run.tail_error

    def _coordinates(self, draws: int, seed: tuple[int, ...]) -> Any:
        if not self.used_clts:
            return None
        from tp_compiler.evaluate.points import Points

        return Points(draws, (*seed, 104729), self.used_clts, self.options.method == "mc").draw(self.used_clts)

    # -- estimates ----------------------------------------------------------------------------------------------
    def _estimate(self, name: str, at: int = -1) -> tuple[Any, Any]:
        """Value and standard error at a level; the error includes the bias of finite M."""
        levels = self.levels[: len(self.levels) + 1 + at]
        value, stderr = mean_and_error([level.values.get(name) for level in levels], self._sizes(levels))
        tail = levels[-1].tail_error.get(self.read_at[name], 0.0) / math.sqrt(self.options.replicates)
        return value, np.hypot(stderr, tail)

    def _covariance(self, name: str) -> tuple[Any, Any]:
        return mean_and_error([level.covariance.get(name) for level in self.levels], self._sizes(self.levels))

    def _sizes(self, levels: list[_Level]) -> list[int]:
        return [self.plan.resolution(self._outer(level.samples)[0]) for level in levels]

    def _tolerance(self, value: Any) -> float:
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
            return False  # more samples may tell a heavy tail from an infinite moment
        return all(error <= bound for name in last.values for error, bound in self._errors(name))

    def _result(self) -> Run:
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
        warnings = (*self.program.warnings, *self.warnings)
        seconds = time.monotonic() - self.start
        return Run(self.program.source.name, "limit", outputs, failed, warnings, self._settings(last.samples), seconds)

    def _output(self, output: Output) -> Estimate:
        value, stderr = self._estimate(output.name)
        method = "mc" if self.options.method == "mc" else "qmc"
        axes = tuple(i.name for i in output.indices)
        if not output.node.type.random:
            return Estimate(value, stderr, axes, method)
        covariance, error = self._covariance(output.name)
        law = "gaussian" if output.name in self.gaussian else "sampled"
        if law == "gaussian":
            value, stderr = np.zeros_like(value), np.zeros_like(stderr)
        return Estimate(value, stderr, axes, method, law, covariance, error)

    def _divergence(self, output: Output) -> Diagnostic | None:
        """An error that does not fall as M grows eightfold: an infinite moment, or one carried by the rarest events.

        The variance of plain Monte Carlo falls by 8 over three doublings. It is judged by the F-test of the two levels'
        spreads at the level 1e-3, since a spread over few replicates is a rough number.
        """
        if len(self.levels) < 4 or any(output.name not in level.values for level in self.levels[-4:]):
            return None
        now, then = (spread(self.levels[k].values[output.name]) for k in (-1, -4))
        freedom = self.options.replicates - 1
        value, _ = self._estimate(output.name)
        if now <= 5 * self._tolerance(value) or now**2 < then**2 * fdtri(freedom, freedom, 0.999) / 8:
            return None
        return Diagnostic(
            "NX441",
            f"the average does not converge: with {self.levels[-1].samples} particles its error is still {now:.2g},"
            f" with an eighth of them it was {then:.2g}",
            output.span,
            "a moment may be infinite; check the tails, or raise --max-samples",
        )

    def _warn_if_unmet(self, output: Output) -> None:
        if self.options.samples is not None and self.options.rtol is None and self.options.atol is None:
            return
        for error, bound in self._errors(output.name):
            if error > bound:
                message = f"the error of {output.name}, {error:.2g}, is above the tolerance {bound:.2g}"
                self.warnings.append(Diagnostic("NX913", message, output.span, "raise --max-samples or --samples"))
                return

    def _settings(self, samples: int) -> dict[str, Any]:
        o = self.options
        return {"seed": o.seed, "samples": samples, "replicates": o.replicates, "backend": "numpy", "f0": o.f0}
