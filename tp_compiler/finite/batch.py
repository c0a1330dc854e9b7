"""Networks as a function of their numbers, in this process or another: the door through which all of them are computed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.finite.array_types import Values
from tp_compiler.finite.loop import run
from tp_compiler.finite.network import FiniteNetworks
from tp_compiler.finite.schedule import NetworkPlan, plan
from tp_compiler.finite.weights import Weights
from tp_compiler.ir.program import Program

#: Of one network: values by output, and why the others have none.
Computed = tuple[dict[str, Values], dict[str, Diagnostic]]


_PLANS: WeakKeyDictionary[Program, dict[frozenset[str] | None, NetworkPlan]] = WeakKeyDictionary()


def _plan(program: Program, only: frozenset[str] | None) -> NetworkPlan:
    """The plan for these outputs, made once: `verify` computes networks of several widths, and a program is simulated again."""
    found = _PLANS.setdefault(program, {})
    if only not in found:
        found[only] = plan((o for o in program.outputs if only is None or o.name in only), program.loop)
    return found[only]


class Networks:
    """The outputs `only` (None: all) of networks of one width. It pickles as the program; the plan is made anew."""

    def __init__(
        self, program: Program, only: Collection[str] | None, width: int, seed: int, dtype: np.dtype[np.floating],
        tile: int, weights: Weights,
    ):  # fmt: skip
        self.program, self.only = program, only
        self.width, self.seed, self.dtype, self.tile, self.weights = width, seed, dtype, tile, weights
        self.plan = _plan(program, None if only is None else frozenset(only))

    def __reduce__(self) -> Any:
        p = self.program
        bare = Program(p.source, p.outputs, p.axes, p.widths, loop=p.loop)
        return Networks, (bare, self.only, self.width, self.seed, self.dtype, self.tile, self.weights)

    @np.errstate(all="ignore")
    def __call__(self, numbers: Sequence[int]) -> list[Computed]:
        """The networks of these numbers, side by side; the digits of each do not depend on the others.

        If an output has no value, the first of them is computed alone; where it can do what they cannot, so is each.
        """
        together = self._networks(numbers)
        lost = together[0][1].keys()
        if len(numbers) == 1 or not lost:
            return together
        (first,) = self._networks(numbers[:1])
        if first[1].keys() == lost:  # outputs without a value in one network have none in the mean
            return [(values, first[1]) for values, _ in together]
        return [first, *(self._networks((number,))[0] for number in numbers[1:])]

    def _networks(self, numbers: Sequence[int]) -> list[Computed]:
        keys = [(self.seed, number) for number in numbers]
        values, lost = run(FiniteNetworks(self.plan, self.width, keys, self.dtype, self.tile, self.weights))
        return [({name: value[k] for name, value in values.items()}, lost) for k in range(len(numbers))]
