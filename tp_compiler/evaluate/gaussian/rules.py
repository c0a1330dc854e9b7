"""Quadrature rules for ∫ h(z) φ(z) dz that know where h is steep or kinked, for many integrals at once.

h(z) = Π_k f_k(mean_k + slope_k z). An analytic f with poles a distance from its axis (tanh: π/2) has them slope_k times
nearer to the z axis, so uniform nodes would have to grow like the slope. The map z = z* + α sinh t, α = 1/slope, around
the steep place z* keeps the poles at Im t = π/2, at a cost of log(slope) (the trapezoid rule;
Trefethen & Weideman 2014). At a kink the axis is cut, and z = b ± α exp(t - e^-t) (Takahasi & Mori 1974) makes a
half-line an analytic integrand that decays doubly exponentially.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from tp_compiler.evaluate.array_types import Array

REACH = 10.0  # the whitened axis ends here, unless the function grows: the Gaussian's mass beyond is 2e-23
STEEP = 3.0  # with larger slopes, the axis is cut if several functions are steep at different places
LONG = 4.0
BLURRED = 8.0  # beyond this many standard deviations, a kink blurred by a Gaussian is smooth
_LOW = -3.6  # exp(t - e^-t) is 3e-18 here
_NORMAL = 1 / np.sqrt(2 * np.pi)


@dataclass(frozen=True)
class QuadratureRule:
    """n nodes on every piece of the axis: by the maps above, or by Gauss-Legendre between the kinks (`plain`), for
    functions that are steep nowhere; `cut` cuts about blurred kinks, too."""

    n: int
    plain: bool = False
    cut: bool = False


def nodes(
    mean: Array,
    slope: Array,
    blur: Array,
    kinks: Sequence[tuple[float, ...]],
    rule: QuadratureRule,
    reach: float = REACH,
) -> tuple[Array, Array]:
    """Nodes (k, N) and weights (k, N), φ included; mean, slope, blur (k, functions), the first function being this
    axis's own. `blur` is the deviation that further axes add to a function's argument, which smooths its kinks by that much."""
    steepest = np.max(np.abs(slope), axis=1)
    alpha = 1 / np.maximum(1.0, steepest)
    if not any(kinks):
        centre = places_of((0.0,), mean, slope, 0, reach)[0]
        others = [places_of((0.0,), mean, slope, k, reach)[0] for k in range(1, mean.shape[1])]
        together = all(np.all(np.abs(z - centre) <= alpha) for z in others)
        if together or not np.any(steepest > STEEP):
            return steep(centre, alpha, rule.n, reach)
    breaks = [b for k, own in enumerate(kinks) for b in places_of(own or (0.0,), mean, slope, k, reach)]
    if rule.cut:
        width = BLURRED * np.divide(blur, np.abs(slope), out=np.full_like(blur, reach), where=slope != 0)
        for k, own in enumerate(kinks[1:], 1):
            for b in places_of(own, mean, slope, k, reach):
                breaks += [np.clip(b + side * width[:, k], -reach, reach) for side in (-1, 1)]
    ends = distinct(breaks)
    return between(ends, rule.n, reach) if rule.plain else pieces(ends, alpha, rule.n, reach)


def blur(root: Array, axis: int) -> Array:
    """By how much the axes after this one move the later variables: (k, variables)."""
    return np.asarray(np.sqrt(np.sum(root[:, axis:, axis + 1 :] ** 2, axis=2)))


def places_of(kinks: tuple[float, ...], mean: Array, slope: Array, k: int, reach: float) -> list[Array]:
    """Where mean + slope z crosses each kink, clipped to the axis."""
    m, s = mean[:, k], slope[:, k]
    found = []
    for kink in kinks:
        z = np.divide(kink - m, s, out=np.zeros_like(m), where=s != 0)
        found.append(np.clip(z, -reach, reach))
    return found


def distinct(breaks: list[Array]) -> Array:
    """(k, r) sorted, without columns that repeat another."""
    ends = np.sort(np.stack(breaks, axis=1), axis=1)
    kept = [0] + [i for i in range(1, ends.shape[1]) if np.any(ends[:, i] - ends[:, i - 1] > 1e-14)]
    return ends[:, kept]


def steep(centre: Array, alpha: Array, n: int, reach: float) -> tuple[Array, Array]:
    """The trapezoid rule in t, z = centre + α sinh t, from -reach to reach."""
    low, high = (np.arcsinh((end - centre) / alpha)[:, None] for end in (-reach, reach))
    step = (high - low) / (n - 1)
    t = low + step * np.arange(n)
    z = centre[:, None] + alpha[:, None] * np.sinh(t)
    return z, step * alpha[:, None] * np.cosh(t) * np.exp(-z * z / 2) * _NORMAL


@cache
def _legendre(n: int) -> tuple[Array, Array]:
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return nodes, weights


def between(breaks: Array, n: int, reach: float) -> tuple[Array, Array]:
    """Gauss-Legendre on the pieces, from -reach to reach; long ones are cut, for the density's sake."""
    fixed = np.broadcast_to([-reach, -LONG, LONG, reach], (len(breaks), 4))
    ends = np.sort(np.concatenate([fixed, breaks], axis=1), axis=1)
    middle, half = (ends[:, 1:] + ends[:, :-1])[:, :, None] / 2, np.diff(ends)[:, :, None] / 2
    x, w = _legendre(n)
    z = (middle + half * x).reshape(len(breaks), -1)
    return z, (half * w).reshape(z.shape) * np.exp(-z * z / 2) * _NORMAL


def pieces(breaks: Array, alpha: Array, n: int, reach: float) -> tuple[Array, Array]:
    """A half-line at each end, and intervals between the breaks."""
    parts = [_half_line(breaks[:, 0], -1.0, alpha, n, reach), _half_line(breaks[:, -1], 1.0, alpha, n, reach)]
    parts += [_interval(breaks[:, i], breaks[:, i + 1], n) for i in range(breaks.shape[1] - 1)]
    z = np.concatenate([p[0] for p in parts], axis=1)
    weights = np.concatenate([p[1] for p in parts], axis=1)
    return z, weights * np.exp(-z * z / 2) * _NORMAL


def _half_line(start: Array, sign: float, alpha: Array, n: int, reach: float) -> tuple[Array, Array]:
    """Nodes from `start` to sign · reach (or a little beyond), z = start + sign α exp(t - e^-t)."""
    length = np.maximum(reach - sign * start, 1e-2)
    high = np.maximum(np.log(length / alpha), 0.0)[:, None] + 0.05
    step = (high - _LOW) / (n - 1)
    t = _LOW + step * np.arange(n)
    decay = np.exp(-t)
    offset = alpha[:, None] * np.exp(t - decay)
    return start[:, None] + sign * offset, step * offset * (1 + decay)


def _interval(low: Array, high: Array, n: int) -> tuple[Array, Array]:
    """tanh-sinh (Takahasi & Mori 1974): z = the middle + half the length · tanh(π/2 sinh t)."""
    t = np.linspace(-3.15, 3.15, n)
    inner = np.pi / 2 * np.sinh(t)
    weight = np.pi / 2 * np.cosh(t) / np.cosh(inner) ** 2 * (t[1] - t[0])
    half = ((high - low) / 2)[:, None]
    return ((high + low) / 2)[:, None] + half * np.tanh(inner), half * weight
