"""The limit of a program: every output by the first method that answers it (auto.py), collected into one Run."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from tp_compiler.diagnostics import Diagnostic, ProgramError
from tp_compiler.evaluate import kernel_files
from tp_compiler.evaluate.auto import Request, answer
from tp_compiler.evaluate.interface import NotExact
from tp_compiler.evaluate.options import Options, settings_of, validate
from tp_compiler.ir.program import Output, Program
from tp_compiler.results import Run
from tp_compiler.signatures import LimitOptions

if TYPE_CHECKING:
    from tp_compiler.evaluate.fluctuations import Predicted
    from tp_compiler.executors import Crew


@np.errstate(all="ignore")  # values that are not finite are detected and reported, without NumPy's warnings
def limit(program: Program, *, crew: Crew | None = None, stored: bool = False, **options: Unpack[LimitOptions]) -> Run:
    """The infinite-width limit of every output of a program (Tensor Programs IVb, Thm 2.6.10).

    samples       particles M of one replicate, a power of two; None: doubled until the tolerance is met
    max_samples   where the doubling stops; None: 2^16, or 2^14 if values of `clt` scalars are drawn
    replicates    R independent scramblings, at least 2
    seed          fixes every digit, whatever the number of threads
    method        auto: exact, closed form or quadrature if possible, otherwise qmc; exact (closed forms included) and
                  quadrature refuse all others; qmc samples by scrambled Sobol points, mc by plain random draws
    rtol, atol    an output is done when its largest stderr is below atol + rtol·max|value|; 1e-3 each
    f0            "sample": later statements see draws of `clt` scalars; "zero": they see 0
    only          names of the outputs to compute
    max_memory    bytes, or a text such as "4G"; threads: replicates that run in parallel
    width         how networks fluctuate is computed, too (fluctuations.py); the limit has half of `max_time`
    max_time      seconds; formulas take at most half of it if sampling is the alternative; without it a fixed amount of work,
                  about 10 s and 20 ms more for every instruction, whatever the machine and its load (budget.py)
    crew          workers that sample, from `executor`, `workers` or `cluster` (executors.py): equal digits whoever they are
    backend       the array library of the sampler, "numpy" or "torch"; with torch also device ("cpu", "cuda", ..) and dtype, the
                  precision of the particles ("float64", "float32")
    shards        the particles of each replicate are divided in so many shards, a power of two, which the processes of a group of
                  torch.distributed share (sampling/shards.py): the digits depend on their number, not on that of the processes
    checkpoint    a file for finished replicates: an interrupted run resumes from it and gives identical digits; or a folder, which
                  several processes may fill
    replicate_range   (a, b): only the replicates a, ..., b - 1 of a run of `samples` are computed, into the folder
    stored        replicates are read from the folder; storage.folder.MissingReplicates is raised if some are not there
    save          a .npy file for the values of the one output that is computed; a kernel over pairs of points goes there block by
                  block, and is read from there (kernel_files.py)

    Returns a Run; each Estimate names its method, with the reason in `note`. Outputs that cannot be computed are in
    `Run.failed`. Raises ProgramError NX431 if even the smallest run does not fit into memory, NX432 for an
    invalid option.
    """
    given: dict[str, Any] = {**options}
    only = given.pop("only", None)
    chosen = Options(**given, crew=crew, stored=stored)
    validate(chosen)
    outputs = [o for o in program.outputs if only is None or o.name in only]
    if chosen.save is not None and len(outputs) != 1:
        several = ", ".join(o.name for o in outputs) or "none"
        message = f"a .npy file holds one output, and these are to be computed: {several}"
        raise ProgramError([Diagnostic("NX432", message, None, "choose one with `--only`, or save to a .npz file")])
    question = Request(program, _for_the_limit(chosen))
    if chosen.in_folder:
        _begin(question, outputs, only)
    answers = answer(question, outputs)
    if question.interrupted:
        _stop(question)
    if chosen.replicate_range is not None:
        _say_what_is_left(question, chosen.replicate_range)
    if chosen.save is not None:
        for estimate in answers.estimates.values():
            kernel_files.keep(estimate.value, chosen.save)
    names = [o.name for o in outputs]
    moves = None if chosen.width is None else _fluctuations(question, outputs, chosen)
    estimates = answers.estimates if moves is None else moves.added_to(answers.estimates)
    return Run(
        program.source.name,
        "limit",
        {n: estimates[n] for n in names if n in estimates},
        {n: answers.failed[n] for n in names if n in answers.failed},
        tuple(dict.fromkeys((*program.warnings, *answers.warnings, *(moves.warnings if moves else ())))),
        settings_of(chosen, answers.samples),
        time.monotonic() - question.start,
        crossed=moves.crossed if moves else {},
    )


def _for_the_limit(options: Options) -> Options:
    """With a width, the limit has half of the time."""
    if options.width is None or options.max_time is None:
        return options
    return replace(options, max_time=options.max_time / 2)


def _fluctuations(question: Request, outputs: list[Output], options: Options) -> Predicted:
    """How networks fluctuate about the outputs that have a limit."""
    from tp_compiler.evaluate.fluctuations import Predicted, predicted

    left = None if options.max_time is None else max(0.0, options.max_time - (time.monotonic() - question.start))
    estimates = question.answers.estimates
    try:
        return predicted(question.program, outputs, estimates, replace(options, max_time=left))
    except KeyboardInterrupt:
        message = "interrupted: the limits are shown, without fluctuations at finite width"
        return Predicted(warnings=(Diagnostic("NX914", message),))


def _begin(question: Request, outputs: list[Output], only: Collection[str] | None) -> None:
    """In a folder: the run is described, and outputs that another process samples are also sampled here."""
    from tp_compiler.evaluate import record
    from tp_compiler.evaluate.sampling.storage.stored import run_key

    options = question.options
    assert options.checkpoint is not None
    if not options.stored:
        record.write(question.program, options, only, run_key(question.program, options))
    if question.exact and question.sampled:
        reasons = record.sampled(Path(options.checkpoint))
        question.problems |= {o.name: NotExact(reasons[o.name]) for o in outputs if o.name in reasons}


def _say_what_is_left(question: Request, numbers: tuple[int, int]) -> None:
    answers, (begin, end) = question.answers, numbers
    folder = shlex.quote(os.fspath(question.options.checkpoint or ""))
    remedy = f"when they are there: `tpc merge {folder}`"
    waiting = ", ".join(sorted(answers.deferred))
    if answers.deferred and not answers.samples:
        message = (
            f"nothing is computed for a range: {waiting} will be computed from the draws of all replicates at once"
        )
        remedy = f"`tpc merge {folder}` computes it"
    elif answers.deferred:
        stored = f"{begin} is" if end == begin + 1 else f"{begin} to {end - 1} are"
        message = (
            f"of {question.options.replicates} replicates, {stored} stored; {waiting} will be computed from all of them"
        )
    elif not answers.failed:
        message = "no output is sampled, so that there are no replicates to store"
        remedy = f"`tpc merge {folder}` has nothing to add"
    else:
        return
    question.answers.warnings += (Diagnostic("NX917", message, None, remedy),)


def _stop(question: Request) -> None:
    """After Ctrl-C: results already found by formulas are kept; if there are none, the interruption propagates."""
    answers = question.answers
    if not answers.estimates:
        raise KeyboardInterrupt
    spans = {o.name: o.span for o in question.program.outputs}
    for name in question.problems:
        answers.found[name] = Diagnostic(
            "NX436", "interrupted before this output was computed", spans[name], "run again"
        )
    answers.warnings += (Diagnostic("NX914", "interrupted: only the outputs already computed by formulas are shown"),)
