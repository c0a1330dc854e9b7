"""Errors after functions of matrices, found by repetition: solves and inverses of an ill-conditioned matrix have large
errors that cancel later, since all of them come from the same errors of the matrix (kᵀ K⁻¹ y is good where K⁻¹ y is not).

Each matrix is moved by its errors a few times, and everything after it is computed for each: the changes of a result show its
error (Vignes 1993, the CESTAC method). Only smooth instructions are followed: a jump may lie between two trials.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tp_compiler.evaluate import errors, numerical_errors
from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.budget import current
from tp_compiler.evaluate.exact.ket_formula import Operand, Tensor
from tp_compiler.evaluate.interface import NotExact
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.primitives import PRIMITIVES

SAFETY = 4.0  # the largest of three changes, times this, for the error
MOST_KEPT = 2**24  # numbers of one instruction, over all trials; values computed from a larger one keep their own error


class Trials:
    """The values of instructions in each trial, as far as they are followed."""

    def __init__(self) -> None:
        self.runs: dict[ir.Node, list[Tensor]] = {}
        self.sources: dict[tuple[ir.Node, int, bool], Tensor] = {}

    def carried(
        self, node: ir.Node, args: Sequence[Operand], value: Tensor, compute: Callable[[list[Tensor]], Operand]
    ) -> Tensor:
        """The value of an instruction with the smaller of two errors: its bound, and the error found by the trials."""
        numbers = [a for a in args if isinstance(a, Tensor)]
        if not self._follows(node) or len(numbers) < len(args):
            return value
        if not isinstance(node, ir.Linalg) and not _room(value):
            return value
        runs = []
        for k in range(errors.PROBES):
            try:
                found = compute([self._input(node, j, a, k) for j, a in enumerate(numbers)])
            except (ArithmeticError, np.linalg.LinAlgError, numerical_errors.Refused, NotExact):
                continue
            assert isinstance(found, Tensor)
            runs.append(Tensor(_rounded(found.values, node.serial, k), found.labels))
        if isinstance(node, ir.Linalg):
            self._keep(node, runs)
            worst = np.abs(value.values) if not runs else _change(runs, value)
            return Tensor(value.values, value.labels, errors.compact(worst))
        if len(runs) < errors.PROBES or value.error is None:
            return value
        self._keep(node, runs)
        told = SAFETY * _change(runs, value)
        known = np.isfinite(told) & (np.isfinite(value.error) | (told < np.abs(value.values) / 2))
        error = np.where(known, np.fmin(value.error, told), value.error)
        return Tensor(value.values, value.labels, errors.compact(error))

    def _keep(self, node: ir.Node, runs: list[Tensor]) -> None:
        if len(runs) == errors.PROBES and sum(np.size(r.values) for r in runs) <= MOST_KEPT:
            self.runs[node] = runs

    def _follows(self, node: ir.Node) -> bool:
        if isinstance(node, ir.Linalg):
            return True
        linear = node.linear or isinstance(node, ir.Contract)
        smooth = linear or (isinstance(node, ir.Map) and PRIMITIVES[node.fn].smooth)
        return bool(smooth) and any(a in self.runs for a in node.args)

    def _input(self, node: ir.Node, j: int, value: Tensor, k: int) -> Tensor:
        """An argument in a trial; a matrix is moved by its rounding at least: no algorithm can know it better."""
        source = node.args[j]
        matrix = isinstance(node, ir.Linalg) and j == 0
        known = self.runs.get(source)
        if known is not None and not matrix:
            return known[k]
        key = source, k, matrix
        if key not in self.sources:
            plain = Tensor(value.values, value.labels, value.error) if known is None else known[k]
            off = errors.added(plain.error, errors.EPS * np.abs(plain.values) if matrix else None)
            rng = np.random.default_rng([source.serial, k])
            self.sources[key] = Tensor(errors.shaken(plain.values, off, rng), plain.labels)
        return self.sources[key]


def _room(value: Tensor) -> bool:
    """Whether the trials of a value fit into the memory that is left."""
    numbers = errors.PROBES * np.size(value.values)
    try:
        current().room(2.0 * numbers, "trials")
    except NotExact:
        return False
    return bool(numbers <= MOST_KEPT)


def _rounded(values: Array, serial: int, k: int) -> Array:
    return errors.shaken(values, errors.rounding(values), np.random.default_rng([serial, k, 1]))


def _change(runs: Sequence[Tensor], value: Tensor) -> Array:
    return np.max([np.abs(r.at(value.labels) - value.values) for r in runs], axis=0)
