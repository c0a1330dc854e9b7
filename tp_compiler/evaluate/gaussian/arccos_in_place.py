"""The two kernels that dominate the time of large networks, by arcsin and in place, where no digits are lost.

Each returns its values and the places (or None) that need the careful formula. As functions of ρ the kernels of order 1
have a bounded derivative, so they only need the same ρ throughout (1 - ρ² as (1 - ρ)(1 + ρ)), except where the two
halves cancel (relu at ρ → -1). Those of order 0 have arcsin itself: there ρ → ±1 is steep.
"""

from __future__ import annotations

import math

import numpy as np

from tp_compiler.evaluate.array_types import Array, Places
from tp_compiler.evaluate.gaussian.arccosine import Sided
from tp_compiler.evaluate.gaussian.operations import places

CANCELS = 0.9  # beyond, the even and odd parts cancel
STEEP = 0.999  # beyond, arcsin amplifies the rounding of ρ more than 20 times


def order0(f: Sided, g: Sided, v1: Array, v2: Array, c: Array) -> tuple[Array, Places | None]:
    """Order 0: even + odd (2/π) arcsin ρ, ρ = c / √(v1 v2) after noise."""
    even, odd = f.even * g.even, f.odd * g.odd
    value = _ratio(c, v1 + f.halves / 2 if f.halves else v1, v2 + g.halves / 2 if g.halves else v2)
    near = _beyond(value, CANCELS if even * odd > 0 else STEEP, CANCELS if even * odd < 0 else STEEP)
    np.arcsin(value, out=value)
    value *= odd * 2 / math.pi
    if even:
        value += even
    return value, near


def order1(f: Sided, g: Sided, v1: Array, v2: Array, c: Array) -> tuple[Array, Places | None]:
    """Order 1: √(v1 v2) (even (2/π) (√(1 - ρ²) + ρ arcsin ρ) + odd ρ)."""
    even, odd = f.even * g.even, f.odd * g.odd
    if even == 0:
        return odd * (c + 0.0 * v1), None
    ratio = _ratio(c, v1, v2)
    np.minimum(ratio, 1.0, out=ratio)
    np.maximum(ratio, -1.0, out=ratio)
    near = _beyond(ratio, CANCELS if even * odd > 0 else 2.0, CANCELS if even * odd < 0 else 2.0)
    value, other = 1.0 - ratio, 1.0 + ratio
    value *= other
    np.sqrt(value, out=value)
    np.arcsin(ratio, out=other)
    if odd:
        other += math.pi / 2 * odd / even
    other *= ratio
    value += other
    return _times(_times(value, np.sqrt(v1) * (even * 2 / math.pi)), np.sqrt(v2)), near


def _ratio(c: Array, v1: Array, v2: Array) -> Array:
    return _times(c * (1 / np.sqrt(v1)), 1 / np.sqrt(v2))


def _beyond(ratio: Array, low: float, high: float) -> Places | None:
    """Where ρ < -low or ρ > high (or is nan); those entries become 0."""
    below = low <= 1 and not ratio.min(initial=0.0) >= -low
    above = high <= 1 and not ratio.max(initial=0.0) <= high
    if not (below or above):
        return None
    near = places(~((ratio >= -low) & (ratio <= high)))
    ratio[near] = 0.0
    return near


def _times(x: Array, y: Array) -> Array:
    """x y, written over x if the shape allows."""
    return np.multiply(x, y, out=x) if np.broadcast_shapes(x.shape, np.shape(y)) == x.shape else x * y
