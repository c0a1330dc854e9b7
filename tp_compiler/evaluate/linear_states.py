"""The states of the loop: from one step to the next, all at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from tp_compiler.evaluate.linear_code import Code
from tp_compiler.evaluate.linear_matrices import padded
from tp_compiler.evaluate.linear_sparse import SparseUpdate
from tp_compiler.ir import nodes as ir

#: Where the factor beside a state leaves these bounds, it is multiplied in.
SMALLEST, LARGEST = 1e-100, 1e100


class NotFinite(Exception):
    """A state that would be infinite or undefined after this step."""

    def __init__(self, state: ir.State):
        super().__init__(state.name)
        self.state = state


def finite(x: Any) -> bool:
    """Whether all numbers are finite; their sum tells at once in all but doubtful cases."""
    return bool(np.isfinite(x.sum())) or bool(np.isfinite(x).all())


class DenseState:
    """Replaced by what follows it."""

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
    """Changed in place: scale · data, data = data + rows / scale at the members touched."""

    def __init__(self, code: Code, update: SparseUpdate):
        self.state = update.state
        self.registers, self.place = code.registers, code.at[self.state]
        self.scale = code.at[self.state, "scale"]
        self.keep = None if update.keep is None else code.read(update.keep)
        self.parts = [(None if c is None else code.read(c), code.scattered(s)) for c, s in update.parts]
        self.next: tuple[float, list[Any]] = 1.0, []

    def prepare(self) -> None:
        keep = 1.0 if self.keep is None else float(self.keep())
        moved = []
        for coefficient, rows in self.parts:
            touched, values = rows()
            moved.append((touched, values if coefficient is None else values * coefficient()))
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
