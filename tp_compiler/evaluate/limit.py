"""The limit of a program: exact where that goes, else by sampling. `auto` decides for each output by itself."""

from __future__ import annotations

import gc
import time
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic, ProgramError
from tp_compiler.evaluate import clt_laws
from tp_compiler.evaluate.budget import LEAST, Budget, Interrupted, TooLarge, clock_for, seconds_for
from tp_compiler.evaluate.draws import Draws, drawn_together
from tp_compiler.evaluate.exact.evaluator import Exact, ExactEvaluator
from tp_compiler.evaluate.exact.expectations import PATIENCE
from tp_compiler.evaluate.exact.ket_formula import NotExact
from tp_compiler.evaluate.linear.evaluator import LinearEvaluator, trained
from tp_compiler.evaluate.linear.needs import Problem
from tp_compiler.evaluate.options import Options, settings_of, validate
from tp_compiler.evaluate.sampling.estimates import is_gaussian
from tp_compiler.evaluate.sampling.memory import BASE
from tp_compiler.evaluate.sampling.qmc import Sampling
from tp_compiler.ir.program import Output, Program
from tp_compiler.ir.walk import reachable
from tp_compiler.results import Estimate, Run

QUICK = 1.0  # seconds: what takes less by coefficients has a value, whatever the time


@np.errstate(all="ignore")  # what is not finite is found and named, not warned of
def limit(program: Program, *, only: Collection[str] | None = None, **options: Any) -> Run:
    """The infinite-width limit of every output of a program (Tensor Programs IVb, Thm 2.6.10).

    samples       particles M of one replicate, a power of two; None: doubled until the tolerance is met
    max_samples   where the doubling stops; None: 2^16, or 2^14 where values of `clt` scalars are drawn
    replicates    R independent scramblings, at least 2
    seed          fixes every digit, whatever the number of threads
    method        auto: exact, closed form or quadrature where there is one, else qmc; exact (closed forms included) and
                  quadrature refuse the rest; qmc samples by scrambled Sobol points, mc by plain random draws
    rtol, atol    an output is done when its largest stderr is below atol + rtol·max|value|; 1e-3 each
    f0            "sample": later statements see draws of `clt` scalars; "zero": they see 0
    only          names of the outputs wanted
    max_memory    bytes; threads: replicates that run at once
    max_time      seconds; formulas take at most half of it where sampling is left, and without it 10 s and 20 ms more for
                  every instruction, about what sampling takes (budget.py)
    checkpoint    a file that keeps finished replicates: a run that was killed goes on there, to the same digits

    Returns a Run; each Estimate names its method, and in `note` why. Outputs that cannot be computed are in
    `Run.failed`. Raises ProgramError NX431 where even the smallest run does not fit into the memory, NX432 for an
    option's value.
    """
    chosen = Options(**options)
    validate(chosen)
    start = time.monotonic()
    names = [o.name for o in program.outputs if only is None or o.name in only]
    runs = []
    reasons: dict[str, str] = {}
    if chosen.method in ("auto", "exact", "quadrature"):
        exact, reasons = without_sampling(program, names, chosen)
        runs.append(exact)
        names_left = [n for n in names if n in reasons] if chosen.method == "auto" else []
        if chosen.max_time is not None:
            chosen = replace(chosen, max_time=max(0.0, chosen.max_time - (time.monotonic() - start)))
    else:
        names_left = names
    drawn = {o.name for o in program.outputs if o.node.type.random and not is_gaussian(o.node)}
    plain, random = [n for n in names_left if n not in drawn], [n for n in names_left if n in drawn]
    if random and drawn_together(program, random):
        runs.append(Draws(program, random, chosen, reasons).run())
        random = []
    for part in (plain, random):
        if part:
            runs.append(_sampled(program, part, chosen, reasons, known=any(run.outputs for run in runs)))
    return _joined(runs or [Sampling(program, chosen, set(), {}).run()], names)


def _sampled(program: Program, names: list[str], options: Options, reasons: dict[str, str], known: bool) -> Run:
    """Outputs by sampling. Where others are `known`, those that memory or time do not suffice for fail alone."""
    try:
        return Sampling(program, options, set(names), reasons).run()
    except ProgramError as problem:
        (first, *_) = problem.diagnostics
        if not known or first.code not in ("NX431", "NX433"):
            raise
        failed = {o.name: replace(first, span=o.span) for o in program.outputs if o.name in names}
        return Run(program.source.name, "limit", {}, failed, (), settings_of(options, 0), 0.0)


def _joined(runs: list[Run], names: list[str]) -> Run:
    """One Run of several: exact outputs, sampled ones, and those that need draws of `clt` scalars, which run apart,
    since
    each draw has few particles."""
    outputs = {n: run.outputs[n] for n in names for run in runs if n in run.outputs}
    failed = {n: run.failed[n] for n in names for run in runs if n in run.failed}
    warnings = tuple(dict.fromkeys(w for run in runs for w in run.warnings))
    settings = {**runs[-1].settings, "samples": max(run.settings["samples"] for run in runs)}
    seconds = sum(run.seconds for run in runs)
    return Run(runs[0].program, runs[0].command, outputs, failed, warnings, settings, seconds)


def without_sampling(program: Program, names: list[str], options: Options) -> tuple[Run, dict[str, str]]:
    """What has an exact value, a closed form or a quadrature; and for every other output the reason why not."""
    start = time.monotonic()
    wanted = [o for o in program.outputs if o.name in names]
    outputs: dict[str, Estimate] = {}
    failed: dict[str, Diagnostic] = {}
    reasons: dict[str, str] = {}
    large: set[str] = set()
    cut: list[Output] = []  # by Ctrl-C
    for o, found in _found(program, wanted, options):
        if isinstance(found, Exact):
            stderr = np.array(np.broadcast_to(found.error, found.value.shape), dtype=np.float64)
            outputs[o.name] = Estimate(
                found.value, stderr, tuple(i.name for i in o.indices), found.method, note=found.note
            )
        elif isinstance(found, Diagnostic):
            failed[o.name] = found
        elif isinstance(found, Interrupted):
            cut.append(o)
        else:
            reasons[o.name] = found.reason
            if isinstance(found, TooLarge):
                large.add(o.name)
    if cut:
        return _interrupted(program, outputs, failed, [*cut, *(o for o in wanted if o.name in reasons)], options, start)
    for o, law in _laws(program, [o for o in wanted if o.name in reasons], options):
        if isinstance(law, NotExact):
            reasons[o.name] = law.reason
            continue
        del reasons[o.name]
        if isinstance(law, Estimate):
            outputs[o.name] = law
        else:
            failed[o.name] = law
    for o in wanted if options.method != "auto" else ():
        if o.name in reasons:
            failed[o.name] = _refused(o, reasons[o.name], o.name in large, options)
    seconds = time.monotonic() - start
    run = Run(program.source.name, "limit", outputs, failed, program.warnings, settings_of(options, 0), seconds)
    return run, reasons


def _interrupted(
    program: Program, outputs: dict[str, Estimate], failed: dict[str, Diagnostic], left: list[Output], options: Options,
    start: float,
) -> tuple[Run, dict[str, str]]:  # fmt: skip
    """What formulas had found before Ctrl-C; where that is nothing, the interruption goes on."""
    if not outputs:
        raise KeyboardInterrupt
    failed |= {o.name: Diagnostic("NX436", "interrupted before it was computed", o.span, "run again") for o in left}
    warning = Diagnostic("NX914", "interrupted: these are the outputs that formulas had found before")
    seconds, warnings = time.monotonic() - start, (*program.warnings, warning)
    return Run(program.source.name, "limit", outputs, failed, warnings, settings_of(options, 0), seconds), {}


def _laws(program: Program, wanted: list[Output], options: Options) -> Iterator[tuple[Output, Estimate | Problem]]:
    """Gaussian outputs, whose covariances are averages: what those are without sampling."""
    wanted = [o for o in wanted if is_gaussian(o.node)]
    if not wanted:
        return
    asked = clt_laws.covariances(program, wanted)
    found = dict(_found(program, list(asked.values()), options))
    for o in wanted:
        covariance = found[asked[o.name]] if o.name in asked else None
        if covariance is not None:
            yield o, clt_laws.estimate(o, covariance) if isinstance(covariance, Exact) else covariance


def _refused(o: Output, reason: str, large: bool, options: Options) -> Diagnostic:
    if large:
        return Diagnostic("NX431", reason, o.span, "use smaller axes, or a larger --max-memory")
    return Diagnostic("NX501", f"there is no {options.method} value: {reason}", o.span, "use --method auto")


def _found(program: Program, wanted: list[Output], options: Options) -> Iterator[tuple[Output, Exact | Problem]]:
    """By formulas; and what has none, by coefficients, if it is linear: training loops above all."""
    patience = float("inf") if options.method == "quadrature" else PATIENCE
    quadrature = options.method != "exact"
    nodes = reachable(o.node for o in wanted)
    seconds = seconds_for(options.method, options.max_time, len(nodes))
    clock = clock_for(options.max_time)
    with Budget(seconds, options.memory - BASE, clock, options.progress).running() as budget:
        formulas = ExactEvaluator(nodes, quadrature=quadrature, patience=patience)
        found = {o: formulas.output(o) for o in wanted}
        left = [o for o in wanted if isinstance(found[o], NotExact)]
        if left and not (program.loop is not None and program.loop.times):
            del formulas
            if budget.held > 8 * LEAST:
                gc.collect()  # formulas refer to each other
            found |= _linear(program, left, options, budget)
    yield from found.items()


def _linear(program: Program, left: list[Output], options: Options, budget: Budget) -> dict[Output, Exact | Problem]:
    """By coefficients, in the time and the memory that formulas have left."""
    max_time = None if options.max_time is None else max(0.0, options.max_time - budget.spent)
    seconds = float("inf") if max_time is None else max(max_time, QUICK)
    with Budget(seconds, budget.memory - budget.held, remedy="").running():
        linear = LinearEvaluator(program, left, max_time, options.progress)
        second = {o: linear.output(o) for o in left}
    return {o: value for o, value in second.items() if not isinstance(value, NotExact) or trained(o.node)}
