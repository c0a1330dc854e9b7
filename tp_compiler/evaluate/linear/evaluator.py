"""The exact evaluator of linear networks, training loops included.

In a linear network under a linear optimizer every ket is a combination of independent Gaussians, at every step. A ket
is its row of coefficients, <x|y> a dot product, a learned matrix Σ c |y><x| the matrix Σ c y xᵀ of coefficients, and a
product with an initial matrix follows from earlier arguments of the matrix (matrices.py). Nothing is drawn;
the only errors are rounding errors. A nonlinear value is a `NotExact` with its reason, for the outputs that depend on it.

The instructions become closures once (code.py), and a step of training is a walk along a list of them
(run.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from tp_compiler.evaluate.interface import Exact, Problem
from tp_compiler.evaluate.linear.fold import Unbounded, folded
from tp_compiler.evaluate.linear.merge import merged
from tp_compiler.evaluate.linear.needs import Needs
from tp_compiler.evaluate.linear.run import LinearRun
from tp_compiler.evaluate.linear.shapes import Shapes
from tp_compiler.evaluate.linear.sparse import sparse_updates
from tp_compiler.evaluate.schedule import phases
from tp_compiler.ir.program import Output, Program

NOTE = "every ket in it is a combination of Gaussians, at every step"


class LinearEvaluator:
    """Runs a program for these outputs; `output` gives a value, a Diagnostic, or NotExact with the reason.

    `run` is None if no output is linear; then nothing was evaluated.
    """

    def __init__(
        self, program: Program, outputs: Iterable[Output], max_time: float | None = None,
        progress: Callable[..., None] | None = None,
    ):  # fmt: skip
        deadline = None if max_time is None else time.monotonic() + max_time
        build = Unbounded()
        program = folded(program, outputs, build)
        lost = self._needs(program, build).schedule({}).lost
        self.values: dict[str, Any] = {o.name: lost[o.node] for o in program.outputs if o.node in lost}
        self.run: LinearRun | None = None
        linear = tuple(o for o in program.outputs if o.node not in lost)
        if linear:
            program = merged(replace(program, outputs=linear), build)
            self.run = LinearRun(self._needs(program, build), deadline, progress)
            self.values |= self.run.values

    def _needs(self, program: Program, build: Unbounded) -> Needs:
        found = phases(program, program.outputs)
        shapes = Shapes(found.nodes, found.states, program.loop)
        sparse = sparse_updates(program.loop, found.states, shapes, build) if program.loop else {}
        return Needs(program, shapes, sparse)

    def output(self, output: Output) -> Exact | Problem:
        found = self.values[output.name]
        return Exact(found, 0.0, "exact", NOTE) if isinstance(found, np.ndarray) else found
