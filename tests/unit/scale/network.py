"""A perceptron at finite width, trained as written, to measure how far features and outputs move: a second road.

Nothing here knows the theory: weights, gradients and updates are plain arrays, and every power of n is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

Array = np.ndarray
Powers = Sequence[float | Fraction]
#: gradient, inputs x and signals δ (columns), sizes of eps or damping left and right → the step for learning rate 1
Rule = Callable[["Memory", Array, Array, Array, float, float], Array]


class Memory:
    """The states of an optimizer for one layer."""

    def __init__(self) -> None:
        self.t = 0
        self.m: Array | float = 0.0
        self.v: Array | float = 0.0


def sgd(memory: Memory, g: Array, x: Array, d: Array, left: float, right: float) -> Array:
    return g


def momentum(memory: Memory, g: Array, x: Array, d: Array, left: float, right: float) -> Array:
    memory.m = 0.9 * memory.m + g
    return memory.m


def sign(memory: Memory, g: Array, x: Array, d: Array, left: float, right: float) -> Array:
    """Smooth sign; `left` is the size of eps."""
    return g / np.sqrt(g**2 + (0.01 * left) ** 2)


def exact_sign(memory: Memory, g: Array, x: Array, d: Array, left: float, right: float) -> Array:
    return np.sign(g)


def adam(memory: Memory, g: Array, x: Array, d: Array, left: float, right: float) -> Array:
    memory.t += 1
    memory.m = 0.9 * memory.m + 0.1 * g
    memory.v = 0.99 * memory.v + 0.01 * g**2
    return memory.m / (1 - 0.9**memory.t) / (np.sqrt(memory.v / (1 - 0.99**memory.t)) + 0.01 * left)


def _powered(factor: Array, damping: float, exponent: float, z: Array) -> Array:
    """(factor factorᵀ + damping)^-exponent z, by the thin singular vectors."""
    u, s, _ = np.linalg.svd(factor, full_matrices=False)
    inside = u.T @ z
    return damping**-exponent * (z - u @ inside) + u @ (((s**2 + damping) ** -exponent)[:, None] * inside)


def factored(left_power: float, right_power: float) -> Rule:
    """(B + ρ)^-l G (A + ρ)^-r, A and B the moments of x and δ: K-FAC."""

    def rule(memory: Memory, g: Array, x: Array, d: Array, left: float, right: float) -> Array:
        return _powered(d, 0.1 * left, left_power, d) @ _powered(x, 0.1 * right, right_power, x).T

    return rule


def spectral(left_power: float, right_power: float, damped: bool = True) -> Rule:
    """(GGᵀ + ρ)^-l G (GᵀG + ρ)^-r: Shampoo; without damping and with l + r = 1/2 Muon."""

    def rule(memory: Memory, g: Array, x: Array, d: Array, left: float, right: float) -> Array:
        (q, k), (p, m) = np.linalg.qr(d), np.linalg.qr(x)
        u, s, v = np.linalg.svd(k @ m.T, full_matrices=False)
        rho = 0.1 * left if damped else 0.0
        keep = s > 1e-9 * s[0]
        shrunk = np.where(keep, s, 1.0) * (np.where(keep, s, 1.0) ** 2 + rho) ** -(left_power + right_power) * keep
        return (q @ u) @ (shrunk[:, None] * (v @ p.T))

    return rule


def soap(memory: Memory, g: Array, x: Array, d: Array, left: float, right: float) -> Array:
    """SOAP without memory: its eigenbases are the singular vectors, where g is diagonal."""
    (q, k), (p, m) = np.linalg.qr(d), np.linalg.qr(x)
    u, s, v = np.linalg.svd(k @ m.T, full_matrices=False)
    return (q @ u) @ ((s / (s + 0.1 * left))[:, None] * (v @ p.T))


def nero(memory: Memory, g: Array, x: Array, d: Array, left: float, right: float) -> Array:
    return g / np.sqrt((g**2).sum(axis=1, keepdims=True) + 1e-300)


def gelu(z: Array) -> tuple[Array, Array]:
    """z times the logistic of 1.7z, and its derivative: a smooth relu."""
    s = 0.5 * (1 + np.tanh(0.85 * z))
    return z * s, s + 1.7 * z * s * (1 - s)


def tanh(z: Array) -> tuple[Array, Array]:
    y = np.tanh(z)
    return y, 1 - y**2


def train(
    n: int,
    rule: Rule,
    std: Powers,
    lr: Powers,
    *,
    multiplier: Powers | None = None,
    left: Powers | None = None,
    right: Powers | None = None,
    steps: int = 1,
    seed: int = 0,
    activation: Callable[[Array], tuple[Array, Array]] = tanh,
    rate: float = 0.3,
    sphere: bool = False,
    frozen: tuple[int, ...] = (),
) -> list[Array]:
    """h^l_t − h^l_0 for every l, and f_t − f_0. Powers of n, one for each layer; layers in `frozen` count from 1.

    The error signal is f_t − f_0 − y, so that the first step does not depend on the draw of f_0.
    """
    rng = np.random.default_rng((seed, n))
    layers, d = len(std), 3
    xi = np.array([[1.0, -0.4], [0.3, 1.1], [-0.8, 0.6]])
    y = np.array([[1.5, -1.0]])
    zeros = [0.0] * layers
    scale = [float(n) ** float(p) for p in multiplier or zeros]
    rates = [rate * float(n) ** float(p) for p in lr]
    lefts = [float(n) ** float(p) for p in left or zeros]
    rights = [float(n) ** float(p) for p in right or zeros]
    shapes = [(n, d), *[(n, n)] * (layers - 2), (1, n)]
    w = [rng.standard_normal(s) * float(n) ** float(p) for s, p in zip(shapes, std, strict=True)]

    def project() -> None:
        for k in range(layers):
            w[k] /= np.linalg.norm(w[k], axis=1, keepdims=True)

    def forward() -> tuple[list[Array], list[Array], list[Array]]:
        x, pre, slope = [xi], [], []
        for k in range(layers):
            h = scale[k] * (w[k] @ x[-1])
            pre.append(h)
            if k < layers - 1:
                z, s = activation(h)
                x.append(z)
                slope.append(s)
        return x, pre, slope

    if sphere:
        project()
    memories = [Memory() for _ in w]
    x, start, slope = forward()
    pre = start
    for _ in range(steps):
        signal = (pre[-1] - start[-1] - y) / y.shape[1]
        updates: list[Array] = [np.zeros(0)] * layers
        for k in reversed(range(layers)):
            raw = scale[k] * signal
            step = rule(memories[k], raw @ x[k].T, x[k], raw, lefts[k], rights[k])
            updates[k] = 0.0 * step if k + 1 in frozen else rates[k] * step
            if k:
                signal = (w[k].T @ raw) * slope[k - 1]
        for k in range(layers):
            w[k] -= updates[k]
        if sphere:
            project()
        x, pre, slope = forward()
    return [a - b for a, b in zip(pre, start, strict=True)]


def slope(widths: Sequence[int], sizes: Sequence[float]) -> float:
    """The power of n of mean squares, by least squares."""
    return float(np.polyfit(np.log(widths), np.log(sizes) / 2, 1)[0])


def seeds(n: int) -> int:
    """Fewer networks where they are wide: they fluctuate less."""
    return max(4, min(48, 4096 // n))


def slopes(widths: Sequence[int], rule: Rule, std: Powers, lr: Powers, **more: Any) -> list[float]:
    """Powers of n of Δh^1, .., Δh^L and Δf, in root mean square."""
    found = [
        np.mean([[(d**2).mean() for d in train(n, rule, std, lr, seed=s, **more)] for s in range(seeds(n))], axis=0)
        for n in widths
    ]
    return [slope(widths, column) for column in np.array(found).T]
