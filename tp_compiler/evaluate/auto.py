"""The choice of a method for each output, and the reason: methods in the order in which they are tried.

A method is tried on the outputs to which it `applies` and which earlier methods have left, each with a reason
(`NotExact`). That reason becomes the note of the estimate, so that a reader sees why an output was sampled. Each method loads what
it needs when it is first tried: a program that formulas answer starts sooner.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tp_compiler.diagnostics import Diagnostic, ProgramError
from tp_compiler.evaluate.budget import BASE, LEAST, SHARE, Budget, budget_for
from tp_compiler.evaluate.exact import kernel_blocks
from tp_compiler.evaluate.exact.evaluator import ExactEvaluator
from tp_compiler.evaluate.exact.expectations import PATIENCE
from tp_compiler.evaluate.interface import Answers, Evaluator, Exact, Interrupted, Late, NotExact, Problem, TooLarge
from tp_compiler.evaluate.options import Options
from tp_compiler.evaluate.sampling.estimates import is_gaussian
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Output, Program
from tp_compiler.ir.walk import reachable
from tp_compiler.results import Estimate

SLOW = 2**20  # averages of products of kets: to sample so many takes minutes
QUICK = 1.0  # seconds that coefficients may take whatever the time limit


@dataclass
class Request:
    """A program and how to evaluate it; the answers so far, and the reason why each remaining output has none."""

    program: Program
    options: Options
    answers: Answers = field(default_factory=Answers)
    problems: dict[str, NotExact] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)  # of the formulas
    start: float = field(default_factory=time.monotonic)

    @property
    def exact(self) -> bool:
        """Whether methods without sampling are tried."""
        return self.options.method in ("auto", "exact", "quadrature")

    @property
    def sampled(self) -> bool:
        """Whether methods that sample are tried."""
        return self.options.method in ("auto", "qmc", "mc")

    @property
    def reasons(self) -> dict[str, str]:
        return {name: problem.reason for name, problem in self.problems.items()}

    @property
    def interrupted(self) -> bool:
        return any(isinstance(problem, Interrupted) for problem in self.problems.values())

    def remaining(self) -> Options:
        """The options, with the time that is left."""
        if self.options.max_time is None:
            return self.options
        left = self.options.max_time - (time.monotonic() - self.start)
        return replace(self.options, max_time=max(0.0, left))


@dataclass(frozen=True)
class Method:
    """A way to evaluate outputs, and those it is meant for."""

    name: str
    applies: Callable[[Request, Output], bool]
    evaluate: Callable[[Request, list[Output]], Answers]


@dataclass(frozen=True)
class Choice:
    """The method tried for an output, and the reason why no earlier one answered."""

    method: Method
    reason: str


def select(question: Request, output: Output, after: Method | None, methods: Sequence[Method]) -> Choice | None:
    """The first method after the last one tried that applies to an output; None if there is no other."""
    begin = methods.index(after) + 1 if after else 0
    method = next((m for m in methods[begin:] if m.applies(question, output)), None)
    problem = question.problems.get(output.name)
    return None if method is None else Choice(method, "" if problem is None else problem.reason)


def answer(question: Request, outputs: Iterable[Output], methods: Sequence[Method] | None = None) -> Answers:
    """The answers for all outputs; those that reach the same method are evaluated by it together."""
    methods = METHODS if methods is None else methods
    # What another process samples, of the same run in a folder, is not tried by formulas.
    tried: dict[str, Method] = dict.fromkeys(question.problems, REFUSALS)
    left = list(outputs)
    while left and not question.interrupted:
        choices = {o: choice for o in left if (choice := select(question, o, tried.get(o.name), methods))}
        if not choices:
            break
        method = min((c.method for c in choices.values()), key=methods.index)
        asked = [o for o in choices if choices[o].method is method]
        found = method.evaluate(question, asked)
        tried |= {o.name: method for o in asked}
        question.problems |= {name: x for name, x in found.found.items() if isinstance(x, NotExact)}
        found.found = {name: x for name, x in found.found.items() if not isinstance(x, NotExact)}
        question.answers.add(found)
        left = [o for o in left if o.name not in question.answers.found.keys() | question.answers.deferred]
    return question.answers


# -- the methods ----------------------------------------------------------------------------------------------------
def _asked(evaluator: Evaluator, outputs: list[Output]) -> Answers:
    return Answers({o.name: _estimate(o, evaluator.output(o)) for o in outputs})


def _estimate(o: Output, found: Exact | Problem) -> Estimate | Problem:
    if not isinstance(found, Exact):
        return found
    stderr = found.error
    if np.shape(stderr) != found.value.shape:
        stderr = np.array(np.broadcast_to(stderr, found.value.shape), dtype=np.float64)
    return Estimate(found.value, stderr, tuple(i.name for i in o.indices), found.method, note=found.note)


def _pairs(question: Request, outputs: list[Output]) -> Answers:
    """Kernels over many pairs of points, block by block."""
    o = question.remaining()
    share = SHARE if question.sampled else 1.0
    seconds = float("inf") if o.max_time is None else share * o.max_time
    question.budget = Budget(seconds, o.memory - BASE, progress=o.progress, remedy="")
    with question.budget.running():
        values = kernel_blocks.evaluated(question.program, outputs, o.save)
    return _told(question, Answers({output.name: _estimate(output, values[output.name]) for output in outputs}))


def _formulas(question: Request, outputs: list[Output]) -> Answers:
    o = question.remaining()
    nodes = reachable(output.node for output in outputs)
    question.budget = budget_for(o.method, o.max_time, len(nodes), o.memory - BASE, o.progress)
    patience = float("inf") if o.method == "quadrature" else PATIENCE
    with question.budget.running():
        asked = {output.node for output in outputs}
        found = _asked(ExactEvaluator(nodes, o.method != "exact", patience, asked=asked), outputs)
    return _told(question, found)


def _told(question: Request, found: Answers) -> Answers:
    """With a warning of the outputs that the time did not suffice for, if they are sampled instead."""
    left = [name for name, x in found.found.items() if isinstance(x, NotExact)]
    if question.budget.out_of_time and question.sampled and left:
        names = ", ".join(f"`{name}`" for name in left)
        message = (
            f"formulas had half of the time that was left, {question.budget.seconds:.3g} s, and did not find {names}"
        )
        found.warnings = (Diagnostic("NX911", message, None, "raise `--max-time`"),)
    return found


def _coefficients(question: Request, outputs: list[Output]) -> Answers:
    """Evaluate by coefficients within the time and memory left by formulas."""
    from tp_compiler.evaluate.linear.evaluator import LinearEvaluator

    o, used = question.remaining(), question.budget
    if used.held > 8 * LEAST:
        gc.collect()  # formulas refer to each other
    seconds = float("inf") if o.max_time is None else max(o.max_time, QUICK)
    with Budget(seconds, used.memory - used.held, remedy="").running():
        found = _asked(LinearEvaluator(question.program, outputs, o.max_time, o.progress), outputs)
    # Of what is not trained, the formulas' reason is more specific.
    untrained = {output.name for output in outputs if not _trained(output.node)}
    late = [f"`{name}`" for name, x in found.found.items() if isinstance(x, Late)]
    if late and question.sampled:
        message = f"coefficients had the time that was left, {seconds:.3g} s, and did not find {', '.join(late)}"
        found.warnings += (Diagnostic("NX911", message, None, "raise `--max-time`"),)
    found.found = {n: x for n, x in found.found.items() if not (isinstance(x, NotExact) and n in untrained)}
    return found


def _trained(node: ir.Node) -> bool:
    """Whether a value depends on the training loop."""
    return any(isinstance(n, ir.Carry | ir.Clock | ir.Apply) for n in reachable([node]))


def _laws(question: Request, outputs: list[Output]) -> Answers:
    """Gaussian outputs, by their covariances: these are averages, and evaluated as such."""
    from tp_compiler.evaluate import clt_laws

    asked = clt_laws.covariances(question.program, outputs)
    inner = Request(question.program, question.options, start=question.start)
    answer(inner, asked.values(), (FORMULAS, COEFFICIENTS))
    found: dict[str, Estimate | Problem] = {}
    for o in outputs:
        if o.name in inner.answers.estimates:
            found[o.name] = clt_laws.estimate(o, inner.answers.estimates[o.name])
        elif o.name in asked:
            found[o.name] = inner.answers.found.get(o.name) or inner.problems[o.name]
    return Answers(found, warnings=inner.answers.warnings)


def _draws(question: Request, outputs: list[Output]) -> Answers:
    from tp_compiler.evaluate.draws import Draws, drawn_together

    names = [o.name for o in outputs]
    if not drawn_together(question.program, names):
        return Answers()
    if question.options.replicate_range is not None:
        return Answers(deferred=set(names))  # the draws of all replicates are computed at the end
    return Draws(question.program, names, question.remaining(), question.reasons).run()


def _particles(question: Request, outputs: list[Output]) -> Answers:
    if question.options.checkpoint is not None and question.options.in_folder:
        from tp_compiler.evaluate import record

        record.decide(Path(question.options.checkpoint), {o.name: question.reasons.get(o.name, "") for o in outputs})
    plain = {o.name for o in outputs if not _drawn(question, o)}
    total = Answers()
    for names in (plain, {o.name for o in outputs} - plain):
        if names:
            others = bool(question.answers.estimates or total.estimates)
            total.add(_sampled(question, [o for o in outputs if o.name in names], others))
    return total


def _sampled(question: Request, outputs: list[Output], others: bool) -> Answers:
    """Where there are `others` that have a value, outputs that memory or time do not suffice for fail alone."""
    from tp_compiler.evaluate.sampling.qmc import Sampling

    names = {o.name for o in outputs}
    try:
        return Sampling(question.program, question.remaining(), names, question.reasons).run()
    except ProgramError as problem:
        (first, *_) = problem.diagnostics
        if not others or first.code not in ("NX431", "NX433"):
            raise
        return Answers({o.name: replace(first, span=o.span) for o in outputs})


def _refusals(question: Request, outputs: list[Output]) -> Answers:
    return Answers({o.name: _refused(question, o) for o in outputs})


def _refused(question: Request, o: Output) -> Diagnostic:
    problem = question.problems[o.name]
    if isinstance(problem, TooLarge):
        remedy = "use smaller axes, or raise `--max-memory`"
        if kernel_blocks.applies(o):
            remedy += ", or let `--save FILE.npy` write it block by block"
        other = "; `--method qmc` samples it, which takes long" if question.sampled else ""
        return Diagnostic("NX431", problem.reason, o.span, remedy + other)
    message = f"the method `{question.options.method}` does not apply: {problem.reason}"
    return Diagnostic("NX501", message, o.span, "use `--method auto`")


def _refuses(question: Request, o: Output) -> bool:
    """Whether an output is not sampled: the user excluded samples, or formulas lack only the memory, and samples of so many
    averages would take minutes."""
    if not question.sampled:
        return True
    if question.options.method != "auto" or not isinstance(question.problems.get(o.name), TooLarge):
        return False
    averages = (n for n in reachable([o.node]) if isinstance(n, ir.Contract) and n.slots)
    return any(math.prod(i.size for i in n.type.indices) > SLOW for n in averages)


def _flows(question: Request) -> bool:
    loop = question.program.loop
    return loop is not None and bool(loop.times)


def _drawn(question: Request, o: Output) -> bool:
    """Whether an output depends on values of `clt` scalars such that its law is not Gaussian unless they are fixed."""
    return o.node.type.random and not is_gaussian(o.node)


PAIRS = Method("pairs", lambda q, o: q.exact and kernel_blocks.applies(o), _pairs)
FORMULAS = Method("formulas", lambda q, o: q.exact, _formulas)
COEFFICIENTS = Method("coefficients", lambda q, o: q.exact and not _flows(q), _coefficients)
LAWS = Method("laws", lambda q, o: q.exact and is_gaussian(o.node), _laws)
REFUSALS = Method("refusals", _refuses, _refusals)
DRAWS = Method("draws", _drawn, _draws)
PARTICLES = Method("particles", lambda q, o: True, _particles)

#: Kernels over pairs of points (exact/kernel_blocks.py), kets as formulas (exact/), kets as coefficients (linear/), `clt`
#: outputs by exact covariances (clt_laws.py), and where samples are allowed: all draws of `clt` scalars at once (draws.py),
#: kets as particles (sampling/).
METHODS = (PAIRS, FORMULAS, COEFFICIENTS, LAWS, REFUSALS, DRAWS, PARTICLES)
