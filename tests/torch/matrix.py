"""Shampoo, K-FAC, Muon, SOAP and Nero in PyTorch on dense matrices in natural scale, for networks of any width.

A layer is a real matrix M with its rows first: W itself, the columns u[d] / √n of a family, the rows v[c] / √n of a readout.
Statistics are dense matrices; as their rank is small, their eigenvalues are found in a basis of their range (a product
with a random matrix, and QR), which is exact up to rounding and quick at width 2,048.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from tests.torch.harness import Parameters

Tensor = Any


def basis(matrix: Tensor, rank: int) -> Tensor:
    """An orthonormal basis of the range of a matrix of at most this rank."""
    size = min(rank, *matrix.shape)
    generator = torch.Generator().manual_seed(0)
    q, _ = torch.linalg.qr(matrix @ torch.randn(matrix.shape[1], size, generator=generator, dtype=matrix.dtype))
    return q


def times(matrix: Tensor, shift: float, power: float, rank: int, x: Tensor) -> Tensor:
    """(shift + matrix)^power x for a symmetric matrix of small rank."""
    q = basis(matrix, rank)
    values, vectors = torch.linalg.eigh(q.T @ matrix @ q)
    q = q @ vectors
    return shift**power * x + q @ (((shift + values) ** power - shift**power)[:, None] * (q.T @ x))


def polar(matrix: Tensor, rank: int) -> Tensor:
    q = basis(matrix, rank)
    u, s, v = torch.linalg.svd(q.T @ matrix, full_matrices=False)
    return q @ (u * (s > 1e-7 * s.max())) @ v


@dataclass
class Layer:
    """One matrix with its optimizer: `scale` from the natural entries to M, `turned` where rows are not first."""

    scale: float
    turned: bool
    step: Callable[[Tensor, dict[str, Tensor]], Tensor]

    def change(self, entries: Tensor, grad: Tensor, facts: dict[str, Tensor]) -> Tensor:
        shape = entries.shape
        g, p = (x.reshape(-1, shape[-1]) * self.scale for x in (grad, entries))
        g, p = (g.T, p.T) if self.turned else (g, p)
        found = self.step(g, {**facts, "p": p, "scale": torch.tensor(self.scale)}) / self.scale
        return (found.T if self.turned else found).reshape(shape)


@dataclass
class Average:
    beta2: float
    value: Tensor = 0.0

    def __call__(self, new: Tensor) -> Tensor:
        weight = 1.0 if self.beta2 in (0.0, 1.0) else 1 - self.beta2
        self.value = self.beta2 * self.value + weight * new
        return self.value


@dataclass
class Shampoo:
    lr: float
    damping: float
    beta2: float = 1.0
    rank: int = 40

    def __post_init__(self) -> None:
        self.left, self.right = Average(self.beta2), Average(self.beta2)

    def __call__(self, g: Tensor, facts: dict[str, Tensor]) -> Tensor:
        first = times(self.left(g @ g.T), self.damping, -0.25, self.rank, g)
        return -self.lr * times(self.right(g.T @ g), self.damping, -0.25, self.rank, first.T).T


@dataclass
class Muon:
    lr: float
    momentum: float = 0.95
    rank: int = 40
    m: Tensor = 0.0

    def __call__(self, g: Tensor, facts: dict[str, Tensor]) -> Tensor:
        self.m = self.momentum * self.m + (1 - self.momentum) * g
        return -self.lr * polar((1 - self.momentum) * g + self.momentum * self.m, self.rank)


@dataclass
class NorMuon:
    """As published, where eps is added to natural entries."""

    lr: float
    eps: float = 1e-10
    beta2: float = 0.95
    v: Tensor = 0.0

    def __post_init__(self) -> None:
        self.muon = Muon(-1)

    def __call__(self, g: Tensor, facts: dict[str, Tensor]) -> Tensor:
        o = self.muon(g, facts) / facts["scale"]
        self.v = self.beta2 * self.v + (1 - self.beta2) * (o * o).mean(1, keepdim=True)
        u = o / (self.v.sqrt() + self.eps)
        return -self.lr * u * (o.norm() / u.norm()) * facts["scale"]


@dataclass
class AdaMuon:
    """As published, without signs, where eps and the size 0.2 are those of natural entries."""

    lr: float
    eps: float = 1e-8
    beta2: float = 0.999
    v: Tensor = 0.0
    t: int = 0

    def __post_init__(self) -> None:
        self.muon = Muon(-1)

    def __call__(self, g: Tensor, facts: dict[str, Tensor]) -> Tensor:
        self.t += 1
        o = self.muon(g, facts) / facts["scale"]
        self.v = self.beta2 * self.v + (1 - self.beta2) * o * o
        u = o / ((self.v / (1 - self.beta2**self.t)).sqrt() + self.eps)
        return -self.lr * (0.2 * u / u.square().mean().sqrt() * facts["scale"] + 0.01 * facts["p"])


def eigenvectors(matrix: Tensor, rank: int) -> Tensor:
    """Those of the largest eigenvalues, descending."""
    q = basis(matrix, rank)
    return q @ torch.linalg.eigh(q.T @ matrix @ q)[1].flip(-1)


@dataclass
class SOAP:
    """Vyas et al. 2024, with the statistics updated first; outside of their range the second moments are 0."""

    lr: float
    eps: float
    beta: float = 0.95
    rank: int = 40
    t: int = 0
    m: Tensor = 0.0
    v: Tensor = 0.0

    def __post_init__(self) -> None:
        self.left, self.right = Average(self.beta), Average(self.beta)

    def __call__(self, g: Tensor, facts: dict[str, Tensor]) -> Tensor:
        self.t += 1
        unbiased = 1 - self.beta**self.t
        p, q = (eigenvectors(x, self.rank) for x in (self.left(g @ g.T), self.right(g.T @ g)))
        self.m = self.beta * self.m + (1 - self.beta) * g
        self.v = self.beta * self.v + (1 - self.beta) * (p.T @ g @ q) ** 2
        m = self.m / unbiased
        h = p.T @ m @ q
        inside = p @ (h / ((self.v / unbiased).sqrt() + self.eps)) @ q.T
        return -self.lr * (inside + (m - p @ h @ q.T) / self.eps)


@dataclass
class KFAC:
    """Martens & Grosse 2015 with the factors of this batch; `facts` has inputs and signals as columns."""

    lr: float
    damping: float
    rank: int = 40

    def __call__(self, g: Tensor, facts: dict[str, Tensor]) -> Tensor:
        x, d, batch = facts["inputs"], facts["signals"], facts["batch"]
        first = times(d @ d.T / batch, self.damping, -1, self.rank, g)
        return -self.lr * times(x @ x.T / batch, self.damping, -1, self.rank, first.T).T


@dataclass
class Nero:
    """nero.py of its authors, lr of a hidden matrix divided by √n; rows have length 1."""

    lr: float
    beta: float = 0.999
    t: int = 0
    v: Tensor = 0.0

    def __call__(self, g: Tensor, facts: dict[str, Tensor]) -> Tensor:
        self.t += 1
        self.v = self.beta * self.v + (1 - self.beta) * (g**2).sum(1, keepdim=True)
        lr = self.lr / facts["p"].shape[1] ** 0.5 if facts.get("hidden") else self.lr
        hat = (self.v / (1 - self.beta**self.t)).sqrt()
        return projected(facts["p"] - lr * torch.where(hat > 0, g / hat, 0.0)) - facts["p"]


def projected(p: Tensor) -> Tensor:
    p = p - p.mean(1, keepdim=True)
    return p / p.norm(dim=1, keepdim=True)


@dataclass
class Record:
    """The layers of a forward pass: inputs (neurons last) and results, by the name of the parameter."""

    inputs: dict[str, list[Tensor]] = field(default_factory=dict)
    results: dict[str, list[Tensor]] = field(default_factory=dict)

    def __call__(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        self.inputs.setdefault(name, []).append(x)
        self.results.setdefault(name, []).append(y)
        return y


class Drawn(Parameters):
    """Parameters of a separate network, drawn by PyTorch."""

    def __init__(self, seed: int):
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def _normal(self, *shape: int) -> Any:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64).numpy()

    def ket(self, name: str, n: int, members: int = 0, std: float = 1.0, mean: float = 0.0) -> None:
        self._add(name, std * (self._normal(members, n) if members else self._normal(n)) + mean, n)

    def matrix(self, name: str, rows: int, cols: int, members: int = 0, variance: float = 1.0) -> None:
        self.columns[name] = cols
        self._add(name, cols * self._normal(rows, cols) * (variance / cols) ** 0.5, rows * cols)


Net = Callable[[Parameters, Record], Tensor]


def train(
    p: Parameters, net: Net, y: Tensor, readouts: set[str], make: Callable[[], Any], steps: int, probe: Net
) -> Any:
    """`probe` after 0, ..., steps updates of mean (f - y)² / 2; f has one number per example."""
    names = list(p.entries)
    steppers = {name: make() for name in names}
    if isinstance(next(iter(steppers.values())), Nero):
        _project(p, steppers)
    found = [probe(p, Record()).detach()]
    for _ in range(steps):
        record = Record()
        f = net(p, record)
        chi = (f - y) / len(y)
        flat = [(name, r) for name in record.results for r in record.results[name]]
        gradients = p.gradients((chi.detach() * f).sum(), names, retain_graph=True)
        signals = torch.autograd.grad(f.sum(), [r for _, r in flat])
        changes = {}
        for name, g in zip(names, gradients, strict=True):
            facts = _facts(
                p, name, name in readouts, record, [s for (k, _), s in zip(flat, signals, strict=True) if k == name]
            )
            facts["batch"] = len(y)
            layer = Layer(_scale(p, name, steppers[name]), name == "u", steppers[name])
            changes[name] = layer.change(p.entries[name].detach(), g, facts)
        with torch.no_grad():
            for name, change in changes.items():
                p.entries[name] += change
        found.append(probe(p, Record()).detach())
    return torch.stack(found).numpy()


def _scale(p: Parameters, name: str, stepper: Any) -> float:
    """From natural entries to real matrices; Nero's rows of an input layer have length 1 as they are."""
    if name == "u" and isinstance(stepper, Nero):
        return 1.0
    return 1 / p.columns[name] if name in p.columns else p.neurons[name] ** -0.5


def _facts(p: Parameters, name: str, readout: bool, record: Record, signals: list[Tensor]) -> dict[str, Tensor]:
    """Inputs and natural signals as columns, kets divided by the root of their width."""
    xs = torch.cat([x.detach().reshape(-1, x.shape[-1]) for x in record.inputs[name]])
    n = signals[0].shape[-1]
    if readout:
        ds = torch.cat([s.reshape(-1, 1) for s in signals])
        return {"inputs": xs.T / xs.shape[-1] ** 0.5, "signals": ds.T}
    ds = torch.cat([s.reshape(-1, n) for s in signals]) * n  # natural gradients
    inputs = xs.T / xs.shape[-1] ** 0.5 if name in p.columns else xs.T
    return {"inputs": inputs, "signals": ds.T / n**0.5, "hidden": name in p.columns}


def _project(p: Parameters, steppers: dict[str, Any]) -> None:
    with torch.no_grad():
        for name, entries in p.entries.items():
            scale = _scale(p, name, steppers[name])
            m = entries.reshape(-1, entries.shape[-1]) * scale
            m = projected(m.T).T if name == "u" else projected(m)
            entries.copy_((m / scale).reshape(entries.shape))


__all__ = ["KFAC", "SOAP", "AdaMuon", "Drawn", "Muon", "Nero", "NorMuon", "Record", "Shampoo", "train"]
