"""Gradient flow in the neural tangent limit: df/dt = -K(χ), from time to time of `train time` (TP IVb, 2.4).

The updates of a step are the rates of change of the states: d state/dt = following - state, for all draws of the
outputs at initialisation together. If the rate is an affine function of the states (squared loss, SGD), the flow
over a time Δ is exact,

    y(Δ) = e^{AΔ} y(0) + ∫_0^Δ e^{As} ds b,

both from the exponential of one block matrix. Otherwise SciPy integrates the equation by DOP853, or by RK23 if it
moves kets. The rates of an optimizer with a kink or a jump (signs) change at a different time for every neuron, and where outputs
reach their targets they slide along the jump: the accuracy is then that of sampling, not of the integrator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate.array_types import Array
from tp_compiler.evaluate.backend import host
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.primitives import PRIMITIVES
from tp_compiler.ir.program import Loop
from tp_compiler.ir.walk import reachable
from tp_compiler.shapes import Float

#: How far an affine rate may differ from its affine part; the accuracy of the integrator for numbers, for kets, and for
#: kets with rates that jump.
AFFINE, NUMBERS, KETS, JUMPING = 1e-10, 1e-11, 1e-6, 3e-4
#: More unknowns than these for one draw are integrated, not exponentiated.
MOST = 1500

States = dict[ir.State, Array]


class GradientFlow:
    """The flow of one training from one time to the next."""

    def __init__(
        self, loop: Loop, current: States, moved: Callable[[States], Mapping[ir.State, Array | Diagnostic]]
    ):  # fmt: skip
        """`moved`: maps states to their updates, arrays or Diagnostics."""
        self.loop, self.current, self.moved = loop, current, moved
        self.states = list(current)
        self.shapes = [np.shape(current[s]) for s in self.states]
        self.sizes = [int(np.prod(shape, dtype=np.int64)) for shape in self.shapes]

    def advance(self, duration: float) -> States | Diagnostic:
        """The states after a duration; a Diagnostic if they blow up."""
        start = self._packed([self.current[s] for s in self.states])
        try:
            end = self._affine(start, duration) if self._apart() else None
            if end is None:
                end = self._integrated(start, duration)
        except _Stopped as stopped:
            return stopped.diagnostic
        return self._unpacked(end)

    # -- the rate of change -------------------------------------------------------------------------------------
    def rate(self, y: Float[Array, " unknowns"]) -> Float[Array, " unknowns"]:
        moved = self.moved(self._unpacked(y))
        after: list[Array] = []
        for state in self.states:
            value = moved[state]
            if isinstance(value, Diagnostic):
                raise _Stopped(value)
            after.append(value)
        return self._packed(after) - y

    def _packed(self, values: list[Array]) -> Float[Array, " unknowns"]:
        return np.concatenate([np.ravel(host(x)) for x in values]) if values else np.zeros(0)

    def _unpacked(self, y: Float[Array, " unknowns"]) -> States:
        ends = np.cumsum(self.sizes)
        parts = zip(self.states, self.shapes, self.sizes, ends, strict=True)
        return {s: y[end - size : end].reshape(shape) for s, shape, size, end in parts}

    # -- closed form --------------------------------------------------------------------------------------------
    def _apart(self) -> bool:
        """Numbers alone, all with the draws as their last index: the draws do not mix."""
        last = {s.type.indices[-1] if s.type.indices else None for s in self.states}
        return bool(self.states) and len(last) == 1 and None not in last and not any(s.type.slots for s in self.states)

    def _affine(self, start: Float[Array, " unknowns"], duration: float) -> Float[Array, " unknowns"] | None:
        """e^{AΔ} y + ∫ e^{As} ds b for every draw, with one A for all of them; None if the rate is not affine."""
        from scipy.linalg import expm

        draws = self.shapes[0][-1]
        size = len(start) // draws
        if size > MOST:
            return None
        base = self.rate(np.zeros_like(start)).reshape(size, draws)
        matrix = np.empty((size, size))
        for k in range(size):
            unit = np.zeros((size, draws))
            unit[k] = 1.0
            moved = self.rate(unit.ravel()).reshape(size, draws) - base
            matrix[:, k] = moved[:, 0]
            if np.max(np.abs(moved - moved[:, :1])) > AFFINE * (1 + np.max(np.abs(moved))):
                return None
        probe = np.random.Generator(np.random.PCG64(7)).standard_normal((size, draws)) * 3
        guess = matrix @ probe + base
        if np.max(np.abs(self.rate(probe.ravel()).reshape(size, draws) - guess)) > AFFINE * (1 + np.max(np.abs(guess))):
            return None
        block = np.zeros((2 * size, 2 * size))
        block[:size, :size], block[:size, size:] = matrix * duration, np.eye(size) * duration
        found = expm(block)
        return (found[:size, :size] @ start.reshape(size, draws) + found[:size, size:] @ base).ravel()

    # -- by steps -----------------------------------------------------------------------------------------------
    def _integrated(self, start: Float[Array, " unknowns"], duration: float) -> Float[Array, " unknowns"]:
        from scipy.integrate import solve_ivp

        kets = any(s.type.slots for s in self.states)
        accuracy = (JUMPING if self._jumps() else KETS) if kets else NUMBERS
        found = solve_ivp(
            lambda _, y: self.rate(y), (0.0, duration), start, method="RK23" if kets else "DOP853",
            rtol=accuracy, atol=accuracy, t_eval=[duration],
        )  # fmt: skip
        if not found.success or not np.isfinite(found.y).all():
            span = self.loop.span
            message = f"the gradient flow cannot be integrated to the last time: {found.message}"
            raise _Stopped(Diagnostic("NX418", message, span, "list earlier times, or lower `lr`"))
        return found.y[:, -1]

    def _jumps(self) -> bool:
        """Do kets follow a function with a kink or a jump of the states?"""
        rates = [node for state, node in self.loop.following.items() if state.type.slots]
        moving: set[ir.Node] = {n for n in reachable(rates) if isinstance(n, ir.Carry)}
        for n in reachable(rates):
            if any(a in moving for a in n.args):
                moving.add(n)
                if isinstance(n, ir.Map) and not PRIMITIVES[n.fn].smooth:
                    return True
        return False


class _Stopped(Exception):
    def __init__(self, diagnostic: Diagnostic):
        self.diagnostic = diagnostic


def unsupported(states: list[ir.State]) -> Diagnostic | None:
    """The reason why a training has no flow: entries of a matrix that are not averaged in pairs."""
    for state in states:
        if state.is_matrix:
            message = f"the gradient flow of `{state.name}` under this optimizer is not supported"
            return Diagnostic("NX418", message, state.span, "train it with `SGD`, or use `train steps`")
    return None


__all__ = ["GradientFlow", "unsupported"]
