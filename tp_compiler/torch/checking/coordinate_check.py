"""`coord_check`: networks of several widths are trained for a few steps, and what is measured is judged."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from tp_compiler.diagnostics import Diagnostic, ProgramError
from tp_compiler.scale.coordinates import CoordCheck, CoordinateVerdict
from tp_compiler.torch.checking.alignment_slopes import measured_alignments
from tp_compiler.torch.checking.coordinate_verdicts import TOO_LARGE, Judge, mean_losses
from tp_compiler.torch.checking.coordinates import Experiment, LossStep, Measured
from tp_compiler.torch.checking.expected import ZERO, ExpectedPowers, derived, guessed
from tp_compiler.torch.record import Traced
from tp_compiler.torch.refusals import refusal, whole_widths
from tp_compiler.torch.tracing import trace

#: What seeds of a second measurement are apart from those of the first.
_FRESH = 500_009
#: How the module is called inside of the module that is traced.
_INNER = "model"
#: The refusal of dropout, which has no power of n.
_DROPOUT = "NX707"
#: The refusal of an output that has a power of n.
_SIZE = re.compile(r"output .* has size n\^\(?(-?[0-9/]+)\)? at initialisation")


def coord_check(
    factory: Callable[[int], nn.Module],
    loss_step: LossStep,
    widths: Sequence[int] = (64, 128, 256, 512),
    *,
    optimizer: Callable[[nn.Module], Any],
    steps: int = 4,
    seeds: int = 3,
    seed: int = 0,
    traced: Traced | None = None,
) -> CoordCheck:
    """Is a module in muP? Measured powers of the width beside those that muP wants, with the cause of what is off.

    factory     builds the module from a width
    loss_step   loss_step(model, step): the scalar loss of the batch of a step; it calls the model
    widths      at least three
    optimizer   optimizer(model): a torch optimizer with its parameter groups, or a list of several
    steps       how many updates are made
    seeds       networks of each width; those of `seed` + 1, .. are others
    traced      the trace of the same factory; by default the module is traced with the inputs of its first call

    Networks are trained on the batches of `steps`; activations are compared on the batch of step 0. Raises ProgramError
    NX715 for what cannot be measured: a loss that is not a finite number, a factory that fails.
    """
    remedy = "give three or more whole numbers, such as widths=(64, 128, 256): two always lie on a line"
    sizes = whole_widths(widths, "NX715", remedy)
    if len(sizes) < 3:
        raise refusal("NX715", f"widths are {widths!r}", remedy)
    if steps < 1 or seeds < 2:
        raise refusal("NX715", f"steps = {steps}, seeds = {seeds}", "make at least 1 step from at least 2 seeds")
    experiment = Experiment(factory, loss_step, optimizer, steps)
    measured = experiment.measure(sizes, seeds, seed)
    expected, refused = _expected(factory, measured, traced)
    judge = Judge(measured, expected, steps, refused)
    settings, certain = judge.settings()
    rows = judge.slopes()
    if not certain and any(row.verdict == CoordinateVerdict.WRONG for row in rows):
        # What noise says once in a hundred rows, it does not say twice.
        again = Judge(experiment.measure(sizes, 2 * seeds, seed + _FRESH), expected, steps, refused).slopes()
        rows = [b if a.verdict == CoordinateVerdict.WRONG else a for a, b in zip(rows, again, strict=True)]
    if not certain and any(row.verdict == CoordinateVerdict.WRONG for row in rows):
        certain = judge.suspected(settings)
    rows, found = judge.blame(rows, certain)
    optimizers = tuple(dict.fromkeys(s.optimizer for by in measured.settings.values() for s in by.values()))
    return CoordCheck(
        tuple(sizes),
        seeds,
        steps,
        optimizers,
        (*settings, *rows),
        (*certain, *found),
        tuple(_notes(expected, refused)),
        mean_losses(measured),
        measured_alignments(measured, expected.declared),
    )


def _notes(expected: ExpectedPowers, refused: Diagnostic | None) -> list[str]:
    if refused is None:
        return []
    if expected.traced:
        return ["derived exponents are those of the module with an output of the right size"]
    why = "" if refused.code == TOO_LARGE else f" ({refused.code}: {refused.message})"
    return [
        f"the module could not be traced{why}: derived exponents are muP's general ones, Θ(1) for activations and updates, and "
        "parameters are told apart by their shapes, without multipliers; exponents of gradients are not derived"
    ]


def _expected(
    factory: Callable[[int], nn.Module], measured: Measured, traced: Traced | None
) -> tuple[ExpectedPowers, Diagnostic | None]:
    """From the trace; of an output of the wrong size from the trace of the module times what it lacks."""
    if traced is not None:
        _demand_same(traced, measured)
        return derived(traced), None
    found = _traced(factory, measured, ZERO)
    if isinstance(found, ExpectedPowers):
        return found, None
    size = _SIZE.match(found.message)
    again = _traced(factory, measured, Fraction(size[1])) if size else found
    if isinstance(again, ExpectedPowers):
        return again, found
    shapes = {name: [by[n] for n in measured.widths[:2]] for name, by in measured.shapes.items()}
    return guessed(shapes, measured.owners), found


def _demand_same(traced: Traced, measured: Measured) -> None:
    """Refuses the trace of another module."""
    unknown = [name for name in measured.shapes if name not in traced.parameters and name not in traced.unused]
    if unknown:
        missing = ", ".join(f"`{name}`" for name in unknown[:3])
        raise refusal("NX715", f"`traced` is the trace of another module: it has no {missing}", "trace this factory")


def _traced(factory: Callable[[int], nn.Module], measured: Measured, size: Fraction) -> ExpectedPowers | Diagnostic:
    """The exponents of the module with its output divided by n^size; or why it is not traced."""
    leaves, spec = torch.utils._pytree.tree_flatten(measured.inputs)
    tensors = [x for x in leaves if isinstance(x, torch.Tensor)]
    widths = (measured.widths[0], measured.widths[1])

    def called(n: int) -> nn.Module:
        return _Called(factory(n), leaves, spec, n ** -float(size))

    def made(training: bool) -> ExpectedPowers:
        return derived(trace(called, tensors, widths, training=training), f"{_INNER}.", size)

    try:
        try:
            return made(factory(widths[0]).training)
        except ProgramError as problem:
            if problem.diagnostics[0].code != _DROPOUT:
                raise
            return made(False)
    except ProgramError as problem:
        found = problem.diagnostics[0]
        return replace(found, message=found.message.replace(f"`{_INNER}.", "`").replace(f"`{_INNER}`", "the module"))
    except Exception as problem:  # what was measured is worth its page, whatever the tracer thinks of the module
        return Diagnostic("NX702", f"tracing failed: {type(problem).__name__}: {problem}")


class _Called(nn.Module):
    """A module as it was called: with the same arguments beside the tensors, for its first result that is not a loss."""

    def __init__(self, model: nn.Module, leaves: Sequence[Any], spec: Any, factor: float):
        super().__init__()
        self.add_module(_INNER, model)
        self._leaves, self._spec, self._factor = list(leaves), spec, factor

    def forward(self, *tensors: torch.Tensor) -> Any:
        given = iter(tensors)
        leaves = [next(given) if isinstance(x, torch.Tensor) else x for x in self._leaves]
        args, kwargs = torch.utils._pytree.tree_unflatten(leaves, self._spec)
        out = self.get_submodule(_INNER)(*args, **kwargs)
        found = [
            x for x in torch.utils._pytree.tree_leaves(out) if isinstance(x, torch.Tensor) and x.is_floating_point()
        ]
        first = next((x for x in found if x.ndim), found[0]) if found else out
        return first if self._factor == 1 else first * self._factor
