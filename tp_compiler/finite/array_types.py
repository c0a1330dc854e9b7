"""The types of what a network of finite width computes: numbers in single or double precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tp_compiler.shapes import CHECKED

if TYPE_CHECKING or not CHECKED:
    Values = NDArray[np.floating]
    Mask = NDArray[np.bool_]
else:
    # NumPy gives its scalars for arrays without dimensions; positions are whole numbers.
    Values = NDArray[np.floating] | NDArray[np.integer] | np.number
    Mask = NDArray[np.bool_] | np.bool_

Double = NDArray[np.float64]
Whole = NDArray[np.integer]
