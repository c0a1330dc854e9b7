"""The states of the loop, which all move to the next step together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tp_compiler.evaluate.array_types import Array, Numbers, Whole
from tp_compiler.evaluate.linear.code import Code
from tp_compiler.evaluate.linear.matrices import padded
from tp_compiler.evaluate.linear.sparse import KetScatter, SparseUpdate
from tp_compiler.ir import nodes as ir

#: When the factor kept with a state leaves these bounds, it is multiplied into the state.
SMALLEST, LARGEST = 1e-100, 1e100


#: Members of a family, and their rows.
Moved = tuple[Whole | slice, Array]


class NotFinite(Exception):
    """A state that would be infinite or undefined after this step."""

    def __init__(self, state: ir.State):
        super().__init__(state.name)
        self.state = state


def finite(x: Array) -> bool:
    """Whether all numbers are finite; their sum decides in all but doubtful cases."""
    return bool(np.isfinite(x.sum())) or bool(np.isfinite(x).all())


class DenseState:
    """A state replaced by its next value."""

    def __init__(self, code: Code, state: ir.State):
        self.state = state
        self.registers, self.place = code.registers, code.at[state]
        self.following = code.following(state)
        self.next: Any = None

    def prepare(self) -> None:
        self.next = self.following()
        if not finite(self.next):
            raise NotFinite(self.state)

    def commit(self) -> None:
        self.registers[self.place] = self.next


class SparseState:
    """A state changed in place: scale · data, data = data + rows / scale at the members touched."""

    def __init__(self, code: Code, update: SparseUpdate):
        self.state = update.state
        self.registers, self.place = code.registers, code.at[self.state]
        self.scale = code.at[self.state, "scale"]
        self.keep = self._number(code, update.keep)
        self.parts = [(self._number(code, c), self._rows(code, part)) for c, part in update.parts]
        self.next: tuple[float, list[Any]] = 1.0, []

    def _number(self, code: Code, node: ir.Node | None) -> Callable[[], Numbers]:
        return (lambda: 1.0) if node is None else code.read(node)

    def _rows(self, code: Code, part: KetScatter | ir.State) -> Callable[[Numbers], Moved]:
        """coefficient -> (the members touched, their rows times the coefficient)."""
        if isinstance(part, KetScatter):
            rows = code.scattered(part)

            def few(coefficient: Numbers) -> Moved:
                touched, values = rows()
                return touched, values * coefficient

            return few
        registers, place, scale = code.registers, code.at[part], code.at[part, "scale"]
        return lambda coefficient: (slice(None), registers[place] * (coefficient * registers[scale]))

    def prepare(self) -> None:
        keep = float(self.keep())
        moved = [rows(coefficient()) for coefficient, rows in self.parts]
        if not np.isfinite(keep) or not all(finite(values) for _, values in moved):
            raise NotFinite(self.state)
        self.next = keep, moved

    def commit(self) -> None:
        keep, moved = self.next
        data, scale = self.registers[self.place], self.registers[self.scale] * keep
        if not SMALLEST < abs(scale) < LARGEST:
            data *= scale
            scale = 1.0
        for touched, values in moved:
            if values.shape[1] > data.shape[1]:
                data = padded(data, values.shape[1])
            data[touched, : values.shape[1]] += values if scale == 1 else values / scale
        self.registers[self.place], self.registers[self.scale] = data, scale
