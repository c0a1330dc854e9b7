"""A finite network in NumPy with the initial draws of `tpc simulate`, its gradients by hand, its updates by brute force.

f[i] = <v|x_L>, h_1 = Σ_d xi[i,d] |u[d]>, h_{k+1} = W_k x_k, x_k = φ(h_k); W_k may be one matrix several times, members of
a family, or maps between width classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from tests.unit.finite.programs import drawn_ket, drawn_matrix
from tests.unit.matrix_optimizers.dense import Facts, Matrix


class Optimizer(Protocol):
    def step(self, g: Matrix, facts: Facts) -> Matrix: ...


def tanh_slope(h: np.ndarray) -> np.ndarray:
    return 1 - np.tanh(h) ** 2


@dataclass
class Layer:
    """A matrix as the network applies it: its name, its position in a family (0 for one alone), its size."""

    name: str
    rows: int
    cols: int
    member: int = 0

    @property
    def key(self) -> str:
        return f"{self.name}{self.member}"


@dataclass
class Network:
    n: int  # width of the first layer
    xi: np.ndarray  # (examples, inputs)
    y: np.ndarray  # (examples, outputs)
    layers: list[Layer] = field(default_factory=list)
    linear: bool = False
    loss: str = "squared"  # or "entropy", with y the probabilities wanted
    fisher: str = "outputs"  # K-FAC's signals: df/dh; "examples": of their losses; "model": of a softmax

    def __post_init__(self) -> None:
        self.m = self.layers[-1].rows if self.layers else self.n
        #: u (n, inputs) and v (m, outputs) natural, W rows x cols as they are
        self.u = drawn_ket("u", self.n, self.xi.shape[1]).T
        self.v = drawn_ket("v", self.m, self.y.shape[1]).T
        self.w = {a.key: drawn_matrix(a.name, a.rows, a.cols, a.member) for a in self.layers}
        self.phi: Callable[[Any], Any] = (lambda h: h) if self.linear else np.tanh
        self.slope: Callable[[Any], Any] = (lambda h: np.ones_like(h)) if self.linear else tanh_slope

    def forward(self, xi: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
        """(h, x, f): columns are examples."""
        h = [self.u @ xi.T]
        x = [self.phi(h[0])]
        for a in self.layers:
            h.append(self.w[a.key] @ x[-1])
            x.append(self.phi(h[-1]))
        return h, x, (self.v.T @ x[-1] / self.m).T

    def back(self, h: list[np.ndarray], seeds: np.ndarray) -> list[np.ndarray]:
        """Natural gradients of Σ_ic seeds[i,c] f[i,c] by every h, columns being examples."""
        found = [(self.v @ seeds.T) * self.slope(h[-1])]
        for k in range(len(self.layers) - 1, -1, -1):
            a = self.layers[k]
            # |dx> = ρ⁻¹ Wᵀ|dy>, ρ = rows / cols
            found.append(self.w[a.key].T @ found[-1] * (a.cols / a.rows) * self.slope(h[k]))
        return found[::-1]

    # -- what an optimizer sees ---------------------------------------------------------------------------------
    def chi(self, f: np.ndarray) -> np.ndarray:
        """dloss/df of mean[i] of Σ_c (f - y)² / 2, or of logsumexp(f) - Σ_c y f."""
        return (self.predicted(f) - self.y) / len(f)

    def predicted(self, f: np.ndarray) -> np.ndarray:
        p = np.exp(f)
        return f if self.loss == "squared" else p / p.sum(1, keepdims=True)

    def seeds(self, f: np.ndarray) -> list[np.ndarray]:
        """The gradients by f of what K-FAC's signals are the gradients of."""
        units = [np.eye(self.y.shape[1])[c] * np.ones_like(f) for c in range(self.y.shape[1])]
        if self.fisher == "examples":
            return [len(f) * self.chi(f)]
        if self.fisher == "outputs":
            return units
        p = self.predicted(f)
        return [np.sqrt(p * e).sum(1, keepdims=True) * (e - p) for e in units]

    def facts(self) -> dict[str, tuple[Matrix, Facts]]:
        """Of every parameter the gradient and the rest, in the scale of real matrices."""
        h, x, f = self.forward(self.xi)
        chi = self.chi(f)
        d = self.back(h, chi)
        seeds = self.seeds(f)
        signals = [self.back(h, s) for s in seeds]
        batch = np.array(float(len(f)))
        found = {
            "u": self._facts(d[0] @ self.xi, self.u, self.n, self.xi.T, np.hstack([s[0] for s in signals]), 1, self.n),
            "v": self._facts(x[-1] @ chi, self.v, self.m, x[-1], np.hstack([s.T for s in seeds]), self.m, 1),
        }
        found["v"][1]["readout"] = np.array(1.0)
        for a in self.layers:
            uses = [k for k, other in enumerate(self.layers) if other.key == a.key]
            g = np.asarray(sum(d[k + 1] @ x[k].T for k in uses))
            inputs = np.hstack([x[k] for k in uses])
            signal = np.hstack([s[k + 1] for s in signals for k in uses])
            found[a.key] = self._facts(g, self.w[a.key] * a.cols, a.cols**2, inputs, signal, a.cols, a.rows)
        for _, facts in found.values():
            facts["batch"] = batch
        return found

    def _facts(
        self, g: Matrix, p: Matrix, size: int, inputs: Matrix, signals: Matrix, cols: int, rows: int
    ) -> tuple[Matrix, Facts]:
        """Natural entries in the scale of real matrices; kets |x> as x / √(width of x)."""
        root = np.sqrt(size)
        return g / root, {"p": p / root, "inputs": inputs / np.sqrt(cols), "signals": signals / np.sqrt(rows)}

    def update(self, optimizers: dict[str, Optimizer]) -> None:
        """All gradients are taken before any update."""
        for key, (g, facts) in self.facts().items():
            if key not in optimizers:
                continue
            change = optimizers[key].step(g, facts)
            if key == "u":
                self.u = self.u + np.sqrt(self.n) * change
            elif key == "v":
                self.v = self.v + np.sqrt(self.m) * change
            else:
                self.w[key] = self.w[key] + change

    def train(self, optimizers: dict[str, Optimizer], steps: int, xt: np.ndarray) -> np.ndarray:
        """f at xt after 0, 1, ..., steps updates."""
        found = [self.forward(xt)[2]]
        for _ in range(steps):
            self.update(optimizers)
            found.append(self.forward(xt)[2])
        return np.stack(found)


__all__ = ["Layer", "Network", "Optimizer"]
