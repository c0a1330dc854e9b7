"""Gradient flow of a network of finite width: all its states move at once, d state/dt = following - state.

SciPy's Runge-Kutta pair of Dormand and Prince takes the steps; matrices are states like any other, entry by entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.finite.array_types import Values
from tp_compiler.finite.updates import Diverged
from tp_compiler.ir import nodes as ir

#: Relative and absolute error of a step: below what networks of a few thousand neurons differ by.
ACCURACY = 1e-4
#: Copies of the states that the integrator holds: seven stages, where it is, and where it goes.
COPIES = 9

States = dict[ir.State, Values]


def flow(
    states: Mapping[ir.State, Values], duration: float, following: Callable[[States], Mapping[ir.State, Values]]
) -> States:
    """The states after `duration`; `following` returns state + rate of change in new arrays. Raises Diverged."""
    from scipy.integrate import solve_ivp

    shapes = {state: np.shape(value) for state, value in states.items()}
    kinds = {state: np.asarray(value).dtype for state, value in states.items()}
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])

    def packed(values: Mapping[ir.State, Values]) -> Values:
        return np.concatenate([np.ravel(values[state]) for state in shapes]).astype(np.float64)

    def unpacked(y: Values) -> States:
        parts = zip(shapes.items(), np.split(y, ends[:-1]), strict=True)
        return {state: part.reshape(shape).astype(kinds[state]) for (state, shape), part in parts}

    found = solve_ivp(
        lambda _, y: packed(following(unpacked(y))) - y, (0.0, duration), packed(states),
        method="RK45", rtol=ACCURACY, atol=ACCURACY, t_eval=[duration],
    )  # fmt: skip
    if not found.success or not np.isfinite(found.y).all():
        first = next(iter(shapes))
        message = f"the gradient flow cannot be integrated to the last time: {found.message}"
        raise Diverged(first, Diagnostic("NX418", message, first.span, "list earlier times, or lower `lr`"))
    return unpacked(found.y[:, -1])
