"""An output over two points as a function of arrays: `kernel(X)`, `kernel(X1, X2)`, compiled once and evaluated often."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tp_compiler import driver
from tp_compiler.check import data
from tp_compiler.diagnostics import ProgramError, Source, error
from tp_compiler.frontend import syntax as ast
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import MAX_STEPS, Builder
from tp_compiler.ir.model import Compiled
from tp_compiler.ir.program import Output
from tp_compiler.ir.types import Axis, Index
from tp_compiler.ir.walk import reachable
from tp_compiler.results import Array, Estimate, Run
from tp_compiler.signatures import LimitOptions
from tp_compiler.transform.new_points import NewPoints
from tp_compiler.transform.steps import changing

#: The entries of one block of the matrix: points on each side.
BATCH = 1024
#: Shapes whose plan is kept.
MOST_SHAPES = 8
#: Points: an array, or arrays by the name of the data.
Points = object | Mapping[str, object]
#: Arrays by the name of the data, as float64.
Inputs = dict[str, Array]


@dataclass(frozen=True, eq=False)
class PairOutput:
    """An output of a compiled program over two of its indices, and the data that these run over."""

    program: Compiled
    output: Output
    over: tuple[Index, Index]
    inputs: tuple[tuple[ir.Array, ...], tuple[ir.Array, ...]]
    choosing: Mapping[str, int]  # data whose entries choose positions, of so many

    @classmethod
    def of(cls, program: Compiled, output: str, over: tuple[str, str], missing: Collection[str]) -> PairOutput:
        """`missing`: data of the program that have no values but examples.

        Raises ValueError if the program has no such output, ProgramError NX309 if it has no values at other points.
        """
        found = next((o for o in program.outputs if o.name == output), None)
        if found is None:
            known = ", ".join(o.name for o in program.outputs) or "none"
            raise ValueError(f"kernel: the program has no output {output!r}; its outputs are {known}")
        names = {i.name: i for i in found.indices}
        if len(set(over)) != 2 or not set(over) <= set(names):
            shown = ", ".join(names) or "no indices"
            raise ValueError(f"kernel: over={over!r} must be two of the indices of {output}, which has {shown}")
        pair = names[over[0]], names[over[1]]
        read: tuple[dict[ir.Array, None], dict[ir.Array, None]] = ({}, {})
        axes = _new_axis(pair[0], 1, pair[0].size), _new_axis(pair[1], 2, pair[1].size)

        def values(array: ir.Array, axis: Axis) -> object:
            read[axes.index(axis)][array] = None
            return None

        points = NewPoints(Builder(fresh_from=MAX_STEPS), values)
        moved = points.at(found.node, dict(zip(pair, axes, strict=True)))
        inputs = tuple(read[0]), tuple(read[1])
        for index, arrays in zip(pair, inputs, strict=True):
            if not arrays:
                raise ValueError(f"kernel: {output} reads no data over {index.name}, so it is not a function of points")
        for name in sorted(_own(program, moved) & set(missing)):
            message = f"kernel: {output} also reads {name} at points of the program itself, which it does not have"
            raise ValueError(f"{message}; give them with data={{{name!r}: ...}}")
        return cls(program, found, pair, inputs, points.choosing)

    def read(self, side: int, points: Points) -> Inputs:
        """The arrays of one side. Raises ProgramError for shapes and numbers that do not fit the declarations."""
        arrays = {a.name: a for a in self.inputs[side]}
        if not isinstance(points, Mapping):
            if len(arrays) > 1:
                names = ", ".join(f'"{name}": ...' for name in arrays)
                raise TypeError(f"kernel: {self.output.name} reads several arrays; pass {{{names}}}")
            points = {next(iter(arrays)): points}
        absent = ", ".join(name for name in arrays if name not in points)
        if absent:
            raise TypeError(f"kernel: {self.output.name} also reads {absent}; pass arrays for {', '.join(arrays)}")
        found = {name: self._array(array, side, points[name]) for name, array in arrays.items()}
        counts = {len(a) for a in found.values()}
        if len(counts) > 1:
            shown = ", ".join(f"{name} has {len(a)}" for name, a in found.items())
            raise ValueError(f"kernel: all arrays need equally many points, but {shown}")
        return found

    def _array(self, array: ir.Array, side: int, value: object) -> Array:
        """An array given for data, with the points first."""
        own = array.type.indices
        at = self._place(array, side)
        target = ast.Name(array.span, array.name, tuple(ast.Name(array.span, i.name) for i in own))

        def accept(shape: tuple[int, ...]) -> None:
            count = shape[at] if len(shape) == len(own) else 1
            sizes = tuple(replace(i, axis=Axis(i.axis.name, count)) if k == at else i for k, i in enumerate(own))
            remedy = "the sizes of the other axes are those of the program"
            data.check_shape(
                array.name, shape, sizes, array.span, lambda i: (f"axis `{i.axis.name}` has {i.size}", remedy)
            )
            if not count:
                raise error("NX304", f"`{array.name}` has no points", array.span, "pass at least one")

        found = data.from_object(value, target, accept)
        most = self.choosing.get(array.name)
        if most is not None and not (np.isin(found, np.arange(1, most + 1)).all()):
            message = f"`{array.name}` chooses positions 1..{most}, but other numbers were given"
            raise error("NX225", message, array.span, "count positions from 1: add 1 to those that count from 0")
        return np.moveaxis(found, at, 0)

    def _place(self, array: ir.Array, side: int) -> int:
        """Which dimension of an array are the points."""
        return next(k for k, i in enumerate(array.type.indices) if i.axis == self.over[side].axis)

    def fits(self, arrays: Mapping[str, Any]) -> bool:
        """Do the arrays have the sizes of the program, apart from the number of points?"""
        declared = {a.name: (a, side) for side, inputs in enumerate(self.inputs) for a in inputs}
        for name, value in arrays.items():
            if name in declared:
                array, side = declared[name]
                own, shape, at = array.type.shape, np.shape(value), self._place(array, side)
                if len(own) == len(shape) and (*own[:at], *own[at + 1 :]) != (*shape[:at], *shape[at + 1 :]):
                    return False
        return True

    def at(self, rows: Inputs, columns: Inputs, *, same: bool, diagonal: bool = False) -> Compiled:
        """The program whose only output is this one at other points; `same`: both are one family. `diagonal`: at pairs of a
        point with itself."""
        points = rows, columns
        first, second = (_new_axis(i, k + 1, _count(points[k])) for k, i in enumerate(self.over))
        one = diagonal or (same and self.over[0].axis == self.over[1].axis)
        axes = (first, first) if one else (first, second)

        def values(array: ir.Array, axis: Axis) -> object:
            side = axes.index(axis)
            return np.moveaxis(points[side][array.name], 0, self._place(array, side))

        moved = NewPoints(Builder(fresh_from=MAX_STEPS), values, self.over[0].name if diagonal else "")
        node = moved.at(self.output.node, dict(zip(self.over, axes, strict=True)))
        own = tuple(replace(i, axis=axis) for i, axis in zip(self.over, axes, strict=True))
        rest = tuple(i for i in self.output.indices if i not in self.over)
        output = Output(self.output.name, (*own[: 1 if diagonal else 2], *rest), node, self.output.span)
        return replace(self.program, outputs=(output,), warnings=())


def _own(program: Compiled, node: ir.Node) -> set[str]:
    """The names of the data that a value reads as the program has them, through its training too."""
    order = reachable([node])
    if program.loop is not None and changing(order):
        order = reachable([node, *program.loop.following.values()])
    return {n.name for n in order if isinstance(n, ir.Array) and n.values is not None}


def _new_axis(index: Index, side: int, size: int) -> Axis:
    """An axis that no program declares."""
    return Axis(f"{index.axis.name} of kernel {side}", size)


def _count(inputs: Inputs) -> int:
    return len(next(iter(inputs.values())))


class KernelFunction:
    """`kernel(X)` is the output at all pairs of rows of X, `kernel(X1, X2)` at pairs of a row of X1 and one of X2."""

    def __init__(
        self,
        program: Source | Compiled,
        output: str,
        over: tuple[str, str],
        *,
        settings: Mapping[str, float] | None = None,
        data: Mapping[str, object] | None = None,
        batch: int,
        options: LimitOptions,
    ):
        if isinstance(over, str) or len(over) != 2:
            raise ValueError(f"kernel: over={over!r} must be two indices of {output}, such as ('i', 'j')")
        self.output, self.over, self.batch = output, over, batch
        self._program, self._settings, self._data, self._options = program, settings, dict(data or {}), options
        absent = [] if isinstance(program, Compiled) else driver.without_values(program)
        self._missing = tuple(name for name in absent if name not in self._data)
        self._pairs: list[PairOutput] = []
        self._last: dict[
            tuple[PairOutput, int, int, bool, bool], Compiled
        ] = {}  # of each shape, whose plan is used again
        if not self._missing:
            self._fitting({})

    def __deepcopy__(self, memo: object) -> KernelFunction:
        return self  # nothing about it changes but what it remembers

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": {}}

    def __repr__(self) -> str:
        return f"<kernel {self.output}[{','.join(self.over)}]>"

    def __call__(self, first: Points, second: Points | None = None) -> Array:
        """The values: an array of shape (n1, n2), followed by further indices of the output."""
        return self.estimate(first, second).value

    def estimate(self, first: Points, second: Points | None = None) -> Estimate:
        """The values with their standard errors and the method, as in `run.outputs`.

        Raises ProgramError if a value cannot be computed, or for arrays that do not fit; warnings of the evaluation are
        Python warnings.
        """
        pair, rows, columns = self._read(first, second)
        lines = [
            [
                self._block(pair, _part(rows, r), _part(columns, c), second is None and r == c)
                for c in self._parts(columns)
            ]
            for r in self._parts(rows)
        ]
        return _joined([_joined(line, 1) for line in lines], 0)

    def diagonal(self, points: Points) -> Array:
        """The values at pairs of a row with itself, without the others."""
        pair, rows, columns = self._read(points, None)
        if pair.over[0].axis != pair.over[1].axis:
            raise ValueError(f"kernel: {self.output} has no diagonal, since {' and '.join(self.over)} are of two axes")
        parts = [self._block(pair, _part(rows, r), _part(columns, r), True, diagonal=True) for r in self._parts(rows)]
        return _joined(parts, 0).value

    def _read(self, first: Points, second: Points | None) -> tuple[PairOutput, Inputs, Inputs]:
        pair = self._pair(first, second)
        rows = pair.read(0, first)
        if second is None:
            return pair, rows, rows if pair.inputs[0] == pair.inputs[1] else pair.read(1, first)
        return pair, rows, pair.read(1, second)

    def _pair(self, first: Points, second: Points | None) -> PairOutput:
        """The program for arrays: those without values in it say how long the other axes are."""
        if not self._missing:
            return self._pairs[0]
        given: dict[str, object] = {}
        for points in (second, first):
            if isinstance(points, Mapping):
                given |= points
            elif points is not None and len(self._missing) == 1:
                given[self._missing[0]] = points
            elif points is not None:
                names = ", ".join(f"{name!r}: ..." for name in self._missing)
                raise TypeError(
                    f"kernel: several data have no values; pass {{{names}}}, or give some with data={{...}}"
                )
        return self._fitting({name: given[name] for name in self._missing if name in given})

    def _fitting(self, examples: Mapping[str, object]) -> PairOutput:
        """The program, compiled once for each set of sizes that data without values in it have had."""
        found = next((p for p in self._pairs if p.fits(examples)), None)
        if found is None:
            program = self._program
            if not isinstance(program, Compiled):
                program = driver.compile(program, settings=self._settings, data={**self._data, **examples})
            found = PairOutput.of(program, self.output, self.over, self._missing)
            self._pairs.append(found)
        return found

    def _parts(self, inputs: Inputs) -> list[slice]:
        return [slice(k, k + self.batch) for k in range(0, _count(inputs), self.batch)]

    def _block(
        self, pair: PairOutput, rows: Inputs, columns: Inputs, same: bool, *, diagonal: bool = False
    ) -> Estimate:
        program = pair.at(rows, columns, same=same, diagonal=diagonal)
        shape = pair, _count(rows), _count(columns), same, diagonal
        driver.share_plans(program, self._last.pop(shape, None))
        run: Run = driver.limit(program, **self._options)
        self._last[shape] = program
        if len(self._last) > MOST_SHAPES:
            del self._last[next(iter(self._last))]
        if run.failed:
            raise ProgramError(run.failed.values())
        for warning in run.warnings:
            warnings.warn(warning.render(), stacklevel=4)
        return run.outputs[self.output]


def _part(inputs: Inputs, part: slice) -> Inputs:
    return {name: array[part] for name, array in inputs.items()}


def _joined(parts: Sequence[Estimate], axis: int) -> Estimate:
    """Blocks side by side; the method is that of the least exact one."""
    worst = max(parts, key=lambda p: float(p.stderr.max(initial=0.0)))
    if len(parts) == 1:
        return worst
    value, stderr = (np.concatenate([getattr(p, name) for p in parts], axis) for name in ("value", "stderr"))
    return replace(worst, value=value, stderr=stderr, covariance=None, covariance_stderr=None)
