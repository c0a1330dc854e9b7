"""The values of some replicates, as trained matrices read them: arrays whose first dimension numbers the replicates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate.arrays import REPLICATE, Labels, aligned
from tp_compiler.evaluate.backend import ArrayBackend
from tp_compiler.evaluate.sampling.averages import Averages
from tp_compiler.ir import nodes as ir


@runtime_checkable
class SharedValues(Protocol):
    """Values by node, and what their dimensions are; those that are the same in all replicates do not number them."""

    @property
    def values(self) -> Mapping[ir.Node, Any]: ...
    @property
    def samples(self) -> int: ...
    @property
    def replicates(self) -> int: ...
    @property
    def labels(self) -> Mapping[ir.Node, Labels]: ...
    @property
    def backend(self) -> ArrayBackend: ...
    @property
    def averages(self) -> Averages: ...
    def over(self, x: ir.Node | ir.State, slot: int = 0, /) -> Averages: ...


def whole(run: SharedValues, node: ir.Node, wanted: Labels, sizes: tuple[int, ...]) -> NDArray[np.float64]:
    """The value of a node over the replicates and then some labels, laid out for all of them."""
    x: NDArray[np.float64] = aligned(run.values[node], run.labels[node], (REPLICATE, *wanted))
    shape = (run.replicates, *sizes)
    return run.backend.array(x if x.shape == shape else np.broadcast_to(x, shape))


class OneValue:
    """The values of one replicate."""

    def __init__(self, run: SharedValues, replicate: int):
        self.values, self.labels, self.replicate = run.values, run.labels, replicate

    def __getitem__(self, node: ir.Node) -> Any:
        value = self.values[node]
        if isinstance(value, Diagnostic | ir.Node) or REPLICATE not in self.labels[node]:
            return value
        return value[self.replicate]

    def get(self, node: ir.Node) -> Any:
        return self[node] if node in self.values else None
