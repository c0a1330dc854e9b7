"""Types of values: numbers, arrays of them, and their errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.ir import nodes as ir
from tp_compiler.shapes import CHECKED

if TYPE_CHECKING or not CHECKED:
    Array = NDArray[np.float64]
    Mask = NDArray[np.bool_]
    #: Whole numbers.
    Whole = NDArray[np.integer]
else:
    # NumPy gives its scalars for arrays without dimensions; entries of trained matrices on particles are single.
    Array = NDArray[np.floating] | np.floating
    Mask = NDArray[np.bool_] | np.bool_
    Whole = NDArray[np.integer] | np.integer

__all__ = ["Array", "ArraysByNode", "Error", "Kind", "Mask", "Numbers", "Outputs", "Places", "Whole"]

#: One number, or an array of them.
Numbers = float | Array
#: Entries of an array, as np.nonzero gives them.
Places = tuple[Whole, ...]
#: How far numbers may be off: None where they are not, else numbers that broadcast to them.
Error = Numbers | None
#: The results of a run, by output name.
Outputs = dict[str, Array | Diagnostic]


@runtime_checkable
class ArraysByNode(Protocol):
    """Arrays by the instructions that are known to have one."""

    def __getitem__(self, node: ir.Node, /) -> Array: ...
    def get(self, node: ir.Node, /) -> Array | None: ...


Kind = TypeVar("Kind", Array, Whole, Mask)
