"""Kernels over all pairs of points, block by block: every layer of a block is computed while it is in cache.

The memory is that of the values and their errors, or of a row of blocks if the values go elsewhere.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np

from tp_compiler.evaluate import errors
from tp_compiler.evaluate.array_types import Array, Mask
from tp_compiler.evaluate.budget import Budget, current
from tp_compiler.evaluate.exact.abstract import EntriesDecide
from tp_compiler.evaluate.exact.evaluator import NOTES
from tp_compiler.evaluate.exact.kernel_plan import MOST_KEPT, KernelPlan, PlannedOutput
from tp_compiler.evaluate.exact.pair_steps import PairArray, PairBlock, PairRun, PairStep, Scratch
from tp_compiler.evaluate.exact.same_structure import arrays_of
from tp_compiler.evaluate.exact.tracer import KernelTracer
from tp_compiler.evaluate.interface import Exact, NotExact, Problem
from tp_compiler.evaluate.kernel_files import KernelFile
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Output, Program
from tp_compiler.ir.walk import reachable

SIDE = 128  # points on each side of a block: a few arrays over it stay in cache
FEWEST = 256  # pairs; for fewer, the evaluator of whole arrays has an error for each
ONE_ERROR = 2**20  # pairs; a kernel of more has one error for all of them, the largest, and takes half the memory


def applies(output: Output) -> bool:
    """Whether an output runs over enough pairs."""
    return (
        len(output.indices) == 2
        and math.prod(i.size for i in output.indices) >= FEWEST
        and not (output.node.type.random or output.node.type.slots)
    )


_plans: WeakKeyDictionary[Program, dict[tuple[str, ...], dict[str, KernelPlan | None]]] = WeakKeyDictionary()


def plans(program: Program, outputs: Sequence[Output]) -> dict[str, KernelPlan | None]:
    """The plan of each output, made once for a program; outputs over the same axes share one."""
    known = _plans.setdefault(program, {})
    names = tuple(o.name for o in outputs)
    if names not in known:
        groups: dict[object, list[Output]] = {}
        for o in outputs:
            groups.setdefault(tuple(i.axis for i in o.indices), []).append(o)
        known[names] = {name: plan for group in groups.values() for name, plan in _planned(group).items()}
    return known[names]


def share(program: Program, other: Program) -> None:
    """The plans of `other` for a program that has the same outputs at other data, if that is all they differ in."""
    plans = _plans.get(other)
    arrays = arrays_of((o.node for o in other.outputs), (o.node for o in program.outputs)) if plans else None
    if plans is not None and arrays is not None:
        _plans[program] = {names: _at(found, arrays) for names, found in plans.items()}


def _at(plans: Mapping[str, KernelPlan | None], arrays: Mapping[ir.Array, ir.Array]) -> dict[str, KernelPlan | None]:
    """Plans at other data. Outputs over the same axes have one plan."""
    found = {plan: plan.at(arrays) for plan in plans.values() if plan is not None}
    return {name: None if plan is None else found[plan] for name, plan in plans.items()}


def _planned(outputs: Sequence[Output]) -> dict[str, KernelPlan | None]:
    points = frozenset(i.axis for o in outputs for i in o.indices)
    with Budget().running():  # nothing of the size of a kernel is made
        tracer = KernelTracer(reachable(o.node for o in outputs), points)
    found = [(o, t) for o in outputs if (t := tracer.traced(o)) is not None]
    result: dict[str, KernelPlan | None] = dict.fromkeys(o.name for o in outputs)
    try:
        if found:
            plan = KernelPlan(found, tracer.squared, points)
            result |= {o.name: plan for o, _ in found}
    except EntriesDecide:
        pass
    return result


@runtime_checkable
class Destination(Protocol):
    """Where the values and errors of a kernel go, block by block: an error for `each` pair, or the largest of all."""

    each: bool

    def put(self, rows: slice, columns: slice, values: Array, error: Array | float, mirrored: bool) -> None: ...


class InMemory:
    """Arrays of all values and errors; the errors of a large kernel are one number, seen as an array."""

    def __init__(self, shape: tuple[int, ...]):
        current().room(math.prod(shape), f"a kernel of {' × '.join(map(str, shape))} pairs")
        self.values = np.empty(shape)
        current().hold(self.values)
        self.each = math.prod(shape) <= ONE_ERROR
        self._errors = np.zeros(shape if self.each else ())

    @property
    def errors(self) -> Array:
        return self._errors if self.each else np.broadcast_to(self._errors, self.values.shape)

    def put(self, rows: slice, columns: slice, values: Array, error: Array | float, mirrored: bool) -> None:
        self.values[rows, columns] = values
        if mirrored:
            self.values[columns, rows] = values.T
        if not self.each:
            self._errors[()] = max(self._errors, error)
        elif not isinstance(error, float):
            self._errors[rows, columns] = error
            if mirrored:
                self._errors[columns, rows] = error.T


def evaluated(
    program: Program, outputs: Sequence[Output], save: str | os.PathLike[str] | None = None
) -> dict[str, Exact | Problem]:
    """Outputs over pairs of points that have a plan; the others are told why not. `save`: the file for the values."""
    found: dict[str, Exact | Problem] = {}
    groups: dict[KernelPlan, list[Output]] = {}
    for o in outputs:
        plan = plans(program, outputs)[o.name]
        if plan is None:
            found[o.name] = NotExact("the entries decide how they are computed")
        else:
            groups.setdefault(plan, []).append(o)
    for plan, asked in groups.items():
        found |= _run(plan, asked, save)
    return found


def _run(
    plan: KernelPlan, outputs: Sequence[Output], save: str | os.PathLike[str] | None
) -> dict[str, Exact | Problem]:
    methods = {o.output.name: o.method for o in plan.outputs}
    try:
        if save is not None:
            (output,) = outputs
            return {output.name: _saved(plan, output, methods[output.name], save)}
        kept = {o.name: InMemory(tuple(i.size for i in o.indices)) for o in outputs}
        fill(plan, kept)
    except NotExact as reason:
        return {o.name: reason for o in outputs}
    except EntriesDecide as reason:
        return {o.name: NotExact(str(reason)) for o in outputs}
    return {name: Exact(x.values, x.errors, methods[name], NOTES[methods[name]]) for name, x in kept.items()}


def _saved(plan: KernelPlan, output: Output, method: str, save: str | os.PathLike[str]) -> Exact:
    """A kernel in a file, with one error for all of its values."""
    (planned,) = (o for o in plan.outputs if o.output.name == output.name)
    rows, columns = (i.size for i in output.indices)
    file = KernelFile(save, (rows, columns), SIDE, planned.symmetric)
    with file.open():
        fill(plan, {output.name: file})
        file.finish()
    values = file.values()
    return Exact(values, np.broadcast_to(np.float64(file.error), values.shape), method, NOTES[method])


def fill(plan: KernelPlan, kept: Mapping[str, Destination]) -> None:
    """Every block of the outputs of a plan that are asked for."""
    asked = [o for o in plan.outputs if o.output.name in kept]
    rows, columns = (i.size for i in asked[0].output.indices)
    symmetric = all(o.symmetric for o in asked)
    points = plan.points()
    scratch = Scratch()
    seen: dict[PairStep, float] = {}
    blocks = list(_blocks(rows, columns, symmetric, asked[0]))
    spread = plan.spread if len(blocks) == 1 and rows * columns * len(plan.steps) <= MOST_KEPT else None
    with np.errstate(all="ignore"):
        for k, block in enumerate(blocks):
            current().poll()
            current().report(k, len(blocks))
            _block(plan, asked, kept, PairRun(points, scratch, block, seen, spread), symmetric)


def _blocks(rows: int, columns: int, symmetric: bool, output: PlannedOutput) -> Iterator[PairBlock]:
    first, second = output.output.indices
    square = first.axis == second.axis
    for top in range(0, rows, SIDE):
        for left in range(top if symmetric else 0, columns, SIDE):
            yield PairBlock(
                slice(top, min(rows, top + SIDE)), slice(left, min(columns, left + SIDE)), square and top == left
            )


def _block(
    plan: KernelPlan, asked: Sequence[PlannedOutput], kept: Mapping[str, Destination], run: PairRun, symmetric: bool
) -> None:
    run.scratch.begin(run.block.shape)
    for step, gone in zip(plan.steps, plan.last, strict=True):
        run.pairs.append(step.run(run))
        for k in gone:
            _release(run, run.pairs[k])
    for o in asked:
        found = run.pairs[o.step]
        if not math.isfinite(found.largest):
            raise EntriesDecide("values that are not finite")
        values = found.values
        mirrored = symmetric and not run.block.diagonal
        if symmetric and run.block.diagonal:
            values = np.where(_lower(len(values)), values.T, values)  # exactly symmetric
        place = kept[o.output.name]
        place.put(run.block.rows, run.block.columns, values, _error(found, values, place.each), mirrored)
    for k in {o.step for o in plan.outputs}:
        _release(run, run.pairs[k])


def _release(run: PairRun, array: PairArray) -> None:
    run.scratch.give(array.values)
    if array.angle is not None:
        run.scratch.give(array.angle)


def _error(found: PairArray, values: Array, each: bool) -> Array | float:
    """The error that is reported, for each pair or for all of them; 0 if it is visible in none."""
    if errors.visible_below(found.off) <= found.extent.least:
        return 0.0
    return errors.shown(values, found.off, False) if each else errors.most_shown(values, found.off, found.extent)


@lru_cache(maxsize=4)
def _lower(size: int) -> Mask:
    """The places below the diagonal."""
    return np.tri(size, k=-1, dtype=bool)
