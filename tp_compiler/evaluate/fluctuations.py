"""How networks of width n fluctuate about the limit: Σ and b of every output, f_n = f + b/n + N(0, Σ/n).

Σ of untrained networks is exact where Gaussian moments give it (exact/fluctuations.py); with PyTorch, derivatives of smooth
programs give Σ to a fraction of a percent. For the others, and for b: limits along random directions of the particles' weights
(sampling/weighted.py), as many as the error asked for needs. Both must be the same with two sizes of the step, on the same
directions, and with M and 4M particles: or else √n (f_n - f) is not Gaussian with a mean of b/√n, and neither Σ nor b is given.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from tp_compiler.diagnostics import Diagnostic, ProgramError
from tp_compiler.evaluate.budget import SHARE, WORK, Budget
from tp_compiler.evaluate.interface import Exact, NotExact
from tp_compiler.evaluate.options import Options
from tp_compiler.evaluate.width_statistics import (
    Differences,
    covariance,
    mean,
    over_scramblings,
    sizes,
    together,
)
from tp_compiler.ir.program import Output, Program
from tp_compiler.results import Array, Estimate, Fluctuations

if TYPE_CHECKING:
    from tp_compiler.evaluate.sampling.weighted import Runs, WeightedSampler

#: Particles for Σ; for b these and a quarter of them.
PARTICLES = 2**12
#: The same for b alone: where Σ is known, or matrices are kept by their entries, all of which b needs.
FOR_THE_BIAS = 2**10
#: Directions of each scrambling, until errors are small enough.
DIRECTIONS = (4, 8, 16, 24, 32, 48, 64, 96, 128)
#: Errors of every entry, of Σ relative to the largest of an output, of b relative to the larger of its own b and √Σ.
ACCURACY = 0.1
#: Limits that formulas do not have; nor have they their Σ.
SAMPLED = ("qmc", "mc")
#: Of outputs with more entries, Σ would not fit into memory.
MOST_ENTRIES = 2**11


@dataclass
class Predicted:
    """Fluctuations by output, covariances by pairs of outputs in their order, and why others have none."""

    each: dict[str, Fluctuations] = field(default_factory=dict)
    crossed: dict[tuple[str, str], Fluctuations] = field(default_factory=dict)
    warnings: tuple[Diagnostic, ...] = ()

    def without(self, names: Collection[str]) -> Predicted:
        """What is known of other outputs."""
        each = {name: x for name, x in self.each.items() if name not in names}
        crossed = {pair: x for pair, x in self.crossed.items() if not {*pair} & {*names}}
        return replace(self, each=each, crossed=crossed)

    def added_to(self, estimates: Mapping[str, Estimate]) -> dict[str, Estimate]:
        return {name: replace(found, fluctuations=self.each.get(name)) for name, found in estimates.items()}


def predicted(
    program: Program, outputs: Sequence[Output], estimates: Mapping[str, Estimate], options: Options
) -> Predicted:
    """Σ and b of the outputs that have a limit, within the time and the memory of the options."""
    start = time.monotonic()
    asked = [o for o in outputs if o.name in estimates and estimates[o.name].value.size <= MOST_ENTRIES]
    known = exactly(program, asked, estimates, options)
    if options.max_time is not None:
        options = replace(options, max_time=max(0.0, options.max_time - (time.monotonic() - start)))
    found = _sampled(program, asked, options, known) if asked else known
    large = tuple(_too_large(o, estimates[o.name]) for o in outputs if o.name in estimates and o not in asked)
    return replace(found, warnings=(*large, *found.warnings))


def _too_large(o: Output, estimate: Estimate) -> Diagnostic:
    count = estimate.value.size
    message = f"`{o.name}` has {count} entries: their fluctuations have {count}² covariances"
    remedy = f"write an output of at most {MOST_ENTRIES} entries, such as some rows of a kernel"
    return Diagnostic("NX931", message, o.span, remedy)


def _sampled(program: Program, outputs: Sequence[Output], options: Options, known: Predicted) -> Predicted:
    """By directions, what is not known."""
    from tp_compiler.evaluate.sampling.weighted import WeightedSampler

    names = [o.name for o in outputs]
    if options.method not in ("auto", "qmc", "mc"):
        message = f"the method `{options.method}` excludes samples: {_missing(names, known)} were not computed"
        return replace(known, warnings=(Diagnostic("NX932", message, None, "use `--method auto`"),))
    try:
        sampler = WeightedSampler(program, names, options)
        return by_directions(sampler, names, options, by_derivatives(sampler, known, options))
    except ProgramError as problem:
        lost = tuple(_not_computed(_missing(names, known), d) for d in problem.diagnostics)
        return replace(known, warnings=lost)


def _missing(names: Sequence[str], known: Predicted) -> str:
    """What there would be: only the bias, of those whose Σ is known."""
    listed = ", ".join(f"`{name}`" for name in names)
    what = "the biases at finite width" if set(names) <= set(known.each) else "the fluctuations"
    return f"{what} of {listed}"


def _not_computed(what: str, problem: Diagnostic) -> Diagnostic:
    message = f"{what} were not computed: {problem.message}"
    return Diagnostic("NX932", message, problem.span, problem.remedy)


# -- exactly -----------------------------------------------------------------------------------------------------------
def exactly(
    program: Program, outputs: Sequence[Output], estimates: Mapping[str, Estimate], options: Options
) -> Predicted:
    """Σ of the outputs that Gaussian moments give; b is not theirs."""
    from tp_compiler.evaluate.exact.fluctuations import sigma
    from tp_compiler.evaluate.sampling.weighted import changed

    budget = _budget(options)

    def asked(some: Sequence[Output]) -> Exact | NotExact:
        try:
            return sigma(program, some, options.method != "exact", budget)
        except NotExact as reason:
            return reason

    others = changed(program)
    same = [o for o in outputs if o.name not in others]
    numbers = [o for o in same if estimates[o.name].law is None and estimates[o.name].method not in SAMPLED]
    if options.method not in ("auto", "exact", "quadrature") or not numbers:
        return Predicted()
    whole = asked(numbers)
    found = Predicted()
    for some in [numbers] if isinstance(whole, Exact) else [[o] for o in numbers] * (len(numbers) > 1):
        own = whole if some is numbers else asked(some)
        if isinstance(own, Exact):
            blocks = _by_output(some, estimates, own)
            found = Predicted(found.each | blocks.each, blocks.crossed)
    return found


def _budget(options: Options) -> Budget:
    """Of all tries together; where samples are the alternative, half of the time, and no more work than they are."""
    seconds = math.inf if options.max_time is None else options.max_time
    if options.method != "auto":
        return Budget(seconds, options.memory, remedy="")
    return Budget(SHARE * seconds, options.memory, remedy="", work=WORK)


def _by_output(outputs: Sequence[Output], estimates: Mapping[str, Estimate], whole: Exact) -> Predicted:
    """The blocks of a covariance of all outputs, one after the other."""
    ends = np.cumsum([0, *(estimates[o.name].value.size for o in outputs)])
    parts = {o.name: slice(a, b) for o, a, b in zip(outputs, ends, ends[1:], strict=False)}
    error = np.broadcast_to(whole.error, whole.value.shape)

    def block(one: str, other: str) -> Fluctuations:
        at = parts[one], parts[other]
        return Fluctuations(np.array(whole.value[at]), np.array(error[at]))

    return Predicted(
        {name: block(name, name) for name in parts}, {pair: block(*pair) for pair in combinations(parts, 2)}
    )


# -- by reverse mode ---------------------------------------------------------------------------------------------------
def by_derivatives(sampler: WeightedSampler, known: Predicted, options: Options) -> Predicted:
    """What is known, and Σ of all other outputs whose influence functions PyTorch finds, if it samples."""
    if options.backend != "torch" or not sampler.differentiable:
        return known
    from tp_compiler.evaluate.torch_arrays import Undifferentiated

    try:
        moves = sampler.influences(PARTICLES, range(options.replicates))
    except Undifferentiated:
        return known

    def block(one: str, other: str) -> Fluctuations:
        return Fluctuations(*over_scramblings(moves[one] @ moves[other].swapaxes(1, 2)))

    each = {name: block(name, name) for name in moves if name not in sampler.refused}
    crossed = {pair: block(*pair) for pair in combinations(each, 2)}
    return Predicted(each | known.each, crossed | known.crossed)


# -- by directions -----------------------------------------------------------------------------------------------------
def by_directions(sampler: WeightedSampler, names: Sequence[str], options: Options, known: Predicted) -> Predicted:
    """Rounds of more and more directions, until all errors are small enough or the time is up. `known`: what has a Σ."""
    start = time.monotonic()
    left = [name for name in names if name not in sampler.refused]
    formulas = options.backend != "torch"  # which refuse kinks; derivatives do not
    kept = [] if formulas and _known_all(left, known) and set(left) <= set(sampler.biased) else left
    work = _Rounds(sampler, range(options.replicates), known, _known_all(kept, known))
    warnings = list(sampler.refused.values())
    found: dict[str, Fluctuations] = {}
    done = 0
    for directions in DIRECTIONS if kept else ():
        try:
            work.add(range(done, directions))
        except ProgramError as problem:  # the time is up
            if not found:
                raise
            warnings += problem.diagnostics
            break
        kept = [name for name in kept if name not in work.failed]
        done = directions
        found = {name: work.fluctuations(name) for name in kept}
        if all(map(_accurate, found.values())):
            break
        if options.max_time is not None and 2 * (time.monotonic() - start) > options.max_time:
            message = f"fluctuations stopped at {done} directions a scrambling: the time limit is nearly reached"
            warnings.append(Diagnostic("NX911", message, None, "raise `--max-time`"))
            break
    warnings += [_not_computed(_missing([name], known), problem) for name, problem in work.failed.items()]
    warnings += [sampler.biased[name] for name in left if name in sampler.biased and name not in work.failed]
    wild = [name for name in found if not work.settled(name)]
    warnings += [_not_gaussian(name) for name in wild]
    crossed = {pair: x for pair in combinations(found, 2) if (x := work.crossed(*pair)) is not None}
    each = Predicted(known.each | found, known.crossed | crossed, tuple(dict.fromkeys(warnings)))
    return each.without({*sampler.refused, *wild})


def _known_all(names: Sequence[str], known: Predicted) -> bool:
    return set(names) <= set(known.each) and set(combinations(names, 2)) <= set(known.crossed)


def _not_gaussian(name: str) -> Diagnostic:
    message = f"`{name}` at finite width is not its limit + b/n + N(0, Σ/n): a kink or a jump is where it fluctuates"
    return Diagnostic("NX933", message, None, "ask for the law of networks with `tpc simulate`")


def _accurate(found: Fluctuations) -> bool:
    assert found.sigma is not None and found.sigma_stderr is not None
    if not found.sigma.size:
        return True
    own = np.diag(found.sigma)
    if np.diag(found.sigma_stderr).max() > ACCURACY * float(own.max()):
        return False
    if found.bias is None or found.bias_stderr is None:
        return True
    return bool((found.bias_stderr <= ACCURACY * sizes(found.bias, own)).all())


class _Rounds:
    """The differences of all outputs so far. Matrices kept by their entries have two pairings of rows and columns: the product
    of the differences of both has no noise of pairing. If every Σ is known, fewer particles suffice for b."""

    def __init__(self, sampler: WeightedSampler, scramblings: range, known: Predicted, sigmas_known: bool):
        self.sampler, self.scramblings, self.known = sampler, scramblings, known
        self.failed: dict[str, Diagnostic] = {}
        #: by particles and pairing
        self.kept: dict[tuple[int, int | None], dict[str, Differences]] = {}
        #: with few particles, and the steps of many or half of their own
        self.steps: dict[float, dict[str, Differences]] = {}
        self.large = FOR_THE_BIAS if sampler.in_blocks or sigmas_known else PARTICLES
        self.pairings: tuple[int | None, ...] = () if sigmas_known else (0, 1) if sampler.in_blocks else (None,)

    def add(self, directions: range) -> None:
        for pairing in self.pairings:
            self._add(PARTICLES, directions, pairing)
        few = self.large // 4
        self._add(few, directions, None)
        for step in {self.sampler.step(few) / 2, self.sampler.step(self.large)} - {self.sampler.step(few)}:
            made = self._runs(few, directions, None, step)
            self._collect(self.steps.setdefault(step, {}), few, made)
        if self.large != PARTICLES:
            # For b alone, most of the work is done with few particles; four times as many show that these suffice.
            self._add(self.large, range(directions.start // 4, directions.stop // 4), None)

    def _add(self, particles: int, directions: range, pairing: int | None) -> None:
        held = self.kept.setdefault((particles, pairing), {})
        self._collect(held, particles, self._runs(particles, directions, pairing))

    def _runs(self, particles: int, directions: range, pairing: int | None, step: float | None = None) -> Runs:
        return self.sampler.runs(particles, self.scramblings, directions, pairing, step)

    def _collect(self, held: dict[str, Differences], particles: int, made: Runs) -> None:
        self.failed |= made.failed
        for name, base in made.base.items():
            found = Differences.of(base, made.plus[name], made.minus[name], particles, made.step)
            if not found.finite:
                self.failed[name] = Diagnostic("NX800", "a limit along a direction is not finite (NaN or overflow)")
            held[name] = held[name].and_more(found) if name in held else found

    def _covariance(self, one: str, other: str) -> tuple[Array, Array]:
        """From the differences of both in one way to pair rows and columns, or in two ways."""
        ours, theirs = ([self.kept[PARTICLES, p][name].first for p in self.pairings] for name in (one, other))
        if len(ours) == 1:
            return covariance(ours[0], theirs[0])
        (sigma, error), (turned, noise) = (covariance(ours[k], theirs[1 - k]) for k in (0, 1))
        return (sigma + turned) / 2, np.maximum(error, noise)

    def fluctuations(self, name: str) -> Fluctuations:
        found = self.known.each.get(name) or Fluctuations(*map(_symmetric, self._covariance(name, name)))
        if name in self.sampler.biased:
            return found
        few, many = (mean(x.second) for x in self._both(name))
        bias, error = together(few, many)
        return replace(found, bias=bias, bias_stderr=error)

    def _both(self, name: str) -> tuple[Differences, Differences]:
        """With few and with many particles, of equal rows and columns."""
        return self.kept[self.large // 4, None][name], self.kept[self.large, None][name]

    def settled(self, name: str) -> bool:
        """Are Σ and b the same along half of the step, and with other particles that see the weights of many along theirs?"""
        few, many = self._both(name)
        step = self.sampler.step(self.large // 4)
        same = self.steps.get(self.sampler.step(self.large), {}).get(name, few)
        return few.agrees_along(self.steps[step / 2][name]) and same.agrees(many)

    def crossed(self, one: str, other: str) -> Fluctuations | None:
        if (one, other) in self.known.crossed or not self.pairings:
            return self.known.crossed.get((one, other))
        return Fluctuations(*self._covariance(one, other))


def _symmetric(x: Array) -> Array:
    return np.asarray((x + x.T) / 2)
