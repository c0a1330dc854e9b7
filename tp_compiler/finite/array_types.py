"""The types of what a network of finite width computes: numbers in single or double precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tp_compiler.shapes import CHECKED

if TYPE_CHECKING or not CHECKED:  # noqa: SIM108 (a type checker reads no conditional expression)
    Values = NDArray[np.floating]
else:
    # NumPy gives its scalars for arrays without dimensions; positions are whole numbers.
    Values = NDArray[np.floating] | NDArray[np.integer] | np.number

Double = NDArray[np.float64]
Mask = NDArray[np.bool_]
Whole = NDArray[np.integer]
