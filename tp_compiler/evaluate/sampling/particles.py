"""The state of some replicates, shared by its parts: particles of every space, and the values computed so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate import numerical_errors
from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.arrays import Labels
from tp_compiler.evaluate.backend import NUMPY, ArrayBackend
from tp_compiler.evaluate.sampling.averages import AVERAGES, Averages
from tp_compiler.evaluate.sampling.plan import SamplingPlan
from tp_compiler.evaluate.sampling.shared_values import OneValue
from tp_compiler.ir import nodes as ir

#: The value of an instruction in a replicate: an array, the reason why it has none, or the node itself if it is over several
#: neurons and evaluated in tiles.
Value = Array | np.float64 | Diagnostic | ir.Node


@dataclass
class Found:
    """What the averages of one replicate show of their errors."""

    counted: dict[ir.Node, float] = field(default_factory=dict)  # errors of averages of kets that jump
    heavy: dict[ir.Node, list[Any]] = field(default_factory=dict)  # estimates from the largest samples, step by step


@dataclass(frozen=True, eq=False)
class Particles:
    """`samples` particles of every space for each of the `seeds`, and the array (or Diagnostic) of every instruction so far.

    Arrays have the labels of the plan: the first dimension of those that differ between replicates numbers these.
    `halves`: for every run 0 or 1, if they are on the first or the second half of the particles; the numbers of copies and of
    entries are chosen by `full`, the number of all particles. `plain`: random draws instead of scrambled points. `pause` is called in
    long loops and may raise to stop. `pairing`: which of the ways to pair blocks of rows and columns where their entries are kept;
    None if every row meets every column, there and in averages over copies.
    """

    plan: SamplingPlan
    samples: int
    full: int
    seeds: tuple[tuple[int, ...], ...]
    plain: bool
    inspect: bool = False  # look for heavy tails
    halves: tuple[int, ...] = ()
    pause: Callable[[], None] = lambda: None
    backend: ArrayBackend = NUMPY
    averages: Averages = AVERAGES
    values: dict[ir.Node, Any] = field(default_factory=dict)
    non_finite: dict[ir.Node, Diagnostic] = field(default_factory=dict)  # why entries are NaN or infinite
    found: tuple[Found, ...] = ()
    pairing: int | None = 0

    @property
    def replicates(self) -> int:
        return len(self.seeds)

    @property
    def labels(self) -> Mapping[ir.Node, Labels]:
        return self.plan.labels

    @property
    def all(self) -> int:
        """The particles of a replicate: of all the rows that it has."""
        return self.samples * self.averages.count

    def over(self, x: ir.Node | ir.State, slot: int = 0) -> Averages:
        """The averages over the neurons of a slot of x."""
        return self.averages.of(self.plan.neurons[x, slot])

    def problem(self, node: ir.Node, value: Array) -> Diagnostic | None:
        """Why a value of these particles is not finite, or None."""
        return self.averages.first(numerical_errors.problem(node, value, self.non_finite))

    def fork(self) -> Particles:
        """The same particles with separate values."""
        return replace(self, values=dict(self.values), non_finite=dict(self.non_finite))

    def forget(self, nodes: Iterable[ir.Node]) -> None:
        """Drops the values of one step."""
        for node in nodes:
            self.values.pop(node, None)
            self.non_finite.pop(node, None)

    def one(self, replicate: int) -> OneReplicate:
        return OneReplicate(self, replicate)


class OneReplicate:
    """A view of one of the replicates: values without the dimension that numbers them."""

    def __init__(self, particles: Particles, replicate: int):
        self.plan, self.samples, self.full = particles.plan, particles.samples, particles.full
        self.inspect, self.halved, self.pause = particles.inspect, bool(particles.halves), particles.pause
        self.seed, self.found = particles.seeds[replicate], particles.found[replicate]
        self.over, self.replicate, self.pairing = particles.over, replicate, particles.pairing
        self.values = OneValue(particles, replicate)
