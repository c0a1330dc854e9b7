"""Optimizers that act on matrices, by brute force: real matrices at width n, functions of them by SciPy and the SVD.

A parameter is a real matrix M in natural scale (docs/matrix_optimizers.md): a matrix W by itself, W = entries / columns; a family
|u[d]> as the matrix with columns u[d] / √n. Its natural gradient G has the same scale, and `step(G)` is what an optimizer
adds to M. Nothing is shared with the package, and no low-rank structure is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import fractional_matrix_power

Matrix = np.ndarray
#: What an optimizer may read beside the gradient: the parameter, the inputs x and the signals df/dh of its layer, and
#: how many examples there are. Inputs and signals are stacks of columns.
Facts = dict[str, Matrix]


def power(matrix: Matrix, shift: float, exponent: float) -> Matrix:
    """(shift + matrix)^exponent"""
    found = fractional_matrix_power(matrix + shift * np.eye(len(matrix)), exponent)
    assert np.abs(np.imag(found)).max() < 1e-10 * np.abs(found).max()
    return np.real(found)


@dataclass
class Average:
    """beta2 = 0: the current statistic; 1: their sum; between: a moving average."""

    beta2: float
    value: Matrix | float = 0.0

    def __call__(self, new: Matrix) -> Matrix:
        weight = 1.0 if self.beta2 in (0.0, 1.0) else 1 - self.beta2
        self.value = self.beta2 * self.value + weight * new
        return np.asarray(self.value)


@dataclass
class Shampoo:
    lr: float
    damping: float
    power: float = 0.25
    power_right: float | None = None
    beta2: float = 1.0

    def __post_init__(self) -> None:
        self.left, self.right = Average(self.beta2), Average(self.beta2)

    def step(self, g: Matrix, facts: Facts) -> Matrix:
        right = self.power if self.power_right is None else self.power_right
        first = power(self.left(g @ g.T), self.damping, -self.power)
        return -self.lr * first @ g @ power(self.right(g.T @ g), self.damping, -right)


def polar(matrix: Matrix) -> Matrix:
    """Singular values of a matrix made 1, those that rounding left made 0."""
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    return (u * (s > 1e-7 * s.max())) @ v


def newton_schulz(matrix: Matrix, steps: int) -> Matrix:
    x = matrix / np.linalg.norm(matrix)
    for _ in range(steps):
        s = x @ x.T
        x = 3.4445 * x - 4.7750 * s @ x + 2.0315 * s @ s @ x
    return x


@dataclass
class Muon:
    lr: float
    momentum: float = 0.95
    nesterov: int = 1
    weight_decay: float = 0.0
    newton_schulz: int = 0
    m: Matrix | float = 0.0

    def step(self, g: Matrix, facts: Facts) -> Matrix:
        mu = self.momentum
        self.m = mu * self.m + (1 - mu) * g
        d = (1 - mu) * g + mu * self.m if self.nesterov else self.m
        sign = newton_schulz(d, self.newton_schulz) if self.newton_schulz else polar(d)
        return -self.lr * sign - self.lr * self.weight_decay * facts["p"]


@dataclass
class SOAP:
    """Adam in whole eigenbases, those of null spaces included, whatever LAPACK makes of them; `lag`: from before this g."""

    lr: float
    eps: float
    beta1: float = 0.95
    beta2: float = 0.95
    shampoo_beta: float = 0.95
    weight_decay: float = 0.0
    lag: bool = False
    m: Matrix | float = 0.0
    v: Matrix | float = 0.0
    t: int = 0

    def __post_init__(self) -> None:
        self.left, self.right = Average(self.shampoo_beta), Average(self.shampoo_beta)

    def step(self, g: Matrix, facts: Facts) -> Matrix:
        self.t += 1
        rotations = [np.eye(size) if self.t == 1 else eigenvectors(s.value) for s, size in self.statistics(g)]
        new = self.left(g @ g.T), self.right(g.T @ g)
        p, q = rotations if self.lag else map(eigenvectors, new)
        self.m = self.beta1 * self.m + (1 - self.beta1) * g
        self.v = self.beta2 * self.v + (1 - self.beta2) * (p.T @ g @ q) ** 2
        m, v = self.m / (1 - self.beta1**self.t), self.v / (1 - self.beta2**self.t)
        update = p @ (p.T @ m @ q / (np.sqrt(v) + self.eps)) @ q.T
        return -self.lr * update - self.lr * self.weight_decay * facts["p"]

    def statistics(self, g: Matrix) -> list[tuple[Average, int]]:
        return [(self.left, len(g)), (self.right, len(g.T))]


def eigenvectors(matrix: Matrix | float) -> Matrix:
    """In descending order of the eigenvalues."""
    return np.linalg.eigh(np.asarray(matrix))[1][:, ::-1]


@dataclass
class KFAC:
    lr: float
    damping: float = 0.1
    damping_left: float | None = None
    damping_right: float | None = None
    power_left: float = 1.0
    power_right: float = 1.0
    beta2: float = 0.0

    def __post_init__(self) -> None:
        self.left, self.right = Average(self.beta2), Average(self.beta2)

    def step(self, g: Matrix, facts: Facts) -> Matrix:
        """`inputs` and `signals` are stacks of columns in the scale of g = Σ signal · χ · inputᵀ, for a readout of gᵀ."""
        if "readout" in facts:
            return self.applied(g.T, facts).T
        return self.applied(g, facts)

    def applied(self, g: Matrix, facts: Facts) -> Matrix:
        batch = float(facts["batch"])
        dampings = [self.damping if d is None else d for d in (self.damping_left, self.damping_right)]
        b = power(self.left(facts["signals"] @ facts["signals"].T / batch), dampings[0], -self.power_left)
        a = power(self.right(facts["inputs"] @ facts["inputs"].T / batch), dampings[1], -self.power_right)
        return -self.lr * b @ g @ a


@dataclass
class Custom:
    """Any function of the gradients so far, for bodies that a test writes itself."""

    rule: Callable[[list[Matrix], Facts], Matrix]
    past: list[Matrix] = field(default_factory=list)

    def step(self, g: Matrix, facts: Facts) -> Matrix:
        self.past.append(g)
        return self.rule(self.past, facts)


__all__ = [
    "KFAC", "SOAP", "Average", "Custom", "Facts", "Matrix", "Muon", "Shampoo", "newton_schulz", "polar", "power"
]  # fmt: skip
