"""The two kernels that large networks spend their time in, by arcsin and in place, where that loses no digits.

Each returns its values and the places (or None) that need the careful formula: |ρ| ≥ 0.9, where arcsin is steep.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tp_compiler.evaluate.arccosine import Sided
from tp_compiler.evaluate.operations import places

CLOSE = 0.9


def jumps(f: Sided, g: Sided, v1: Any, v2: Any, c: Any) -> tuple[Any, Any]:
    """Order 0: even + odd (2/π) arcsin ρ, ρ = c / √(v1 v2) after noise."""
    value, near = _ratio(c, v1 + f.halves / 2 if f.halves else v1, v2 + g.halves / 2 if g.halves else v2)
    np.arcsin(value, out=value)
    value *= f.odd * g.odd * 2 / math.pi
    if f.even * g.even:
        value += f.even * g.even
    return value, near


def bends(f: Sided, g: Sided, v1: Any, v2: Any, c: Any) -> tuple[Any, Any]:
    """Order 1: even (2/π) (√(v1 v2) √(1 - ρ²) + c arcsin ρ) + odd c."""
    weight = f.even * g.even * 2 / math.pi
    ratio, near = _ratio(c, v1, v2)
    value = ratio * ratio
    np.subtract(1.0, value, out=value)
    np.sqrt(value, out=value)
    value = _times(_times(value, np.sqrt(v1) * weight), np.sqrt(v2))
    np.arcsin(ratio, out=ratio)
    ratio *= weight
    ratio += f.odd * g.odd
    value += _times(ratio, c)
    return value, near


def _ratio(c: Any, v1: Any, v2: Any) -> tuple[Any, Any]:
    value = _times(c * (1 / np.sqrt(v1)), 1 / np.sqrt(v2))
    if value.max(initial=0.0) < CLOSE and value.min(initial=0.0) > -CLOSE:
        return value, None
    near = places(~(np.abs(value) < CLOSE))
    value[near] = 0.0
    return value, near


def _times(x: Any, y: Any) -> Any:
    """x y, in place of x where the shape allows."""
    return np.multiply(x, y, out=x) if np.broadcast_shapes(x.shape, np.shape(y)) == x.shape else x * y
