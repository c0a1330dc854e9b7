"""Optimizers on layers (Nero, Adafactor, LARS, LAMB) against PyTorch: a finite network with the same draws, to rounding.

Nero's projection of the rows of a hidden matrix to length 1 is done once, by σ: what it does later vanishes with the width,
and is compared in test_matrix_limits.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch.harness import Parameters, bracket, compare, train  # noqa: E402

pytestmark = pytest.mark.torch

N, STEPS = 24, 4
XI = np.array([[0.9, -0.4], [-0.7, 1.1], [0.5, 0.8]])
Y = np.array([[1.0, 0.2], [-0.5, 0.4], [0.25, -0.7]])

TEXT = """
axis i : 3
axis d : 2
axis c : 2
axis l : 2
data x[i,d] = [[0.9, -0.4], [-0.7, 1.1], [0.5, 0.8]]
data y[i,c] = [[1.0, 0.2], [-0.5, 0.4], [0.25, -0.7]]
width m = 2
ket |u[d]> ~ N(0, 1)
ket |b> ~ N(0, 0.25)
ket |o> = 0
matrix W ~ N(0, 2)
matrix A[l] ~ N(0, 1)
matrix P : m x n ~ N(0, 1)
ket |v[c]> : m ~ N(0, 1)
ket |w> : m ~ N(0, 1)
scalar a = 0.7
def net(x[d]) {
    |x> = relu(sum[d](x[d] |u[d]>) + |b>)
    |x> = |x> + tanh(W |x> + |o>)
    for k in 1..2 { |x> = |x> + sin(A[k] |x>) / 2 }
    |z> = tanh(P |x>)
    return <v[c]|z> + a * <w|z>
}
train steps = 4 {
    f[i,c] = net(x[i,d])
    loss = mean[i](sum[c]((f[i,c] - y[i,c])^2)) / 2
    minimize loss
    update all with OPTIMIZER
}
output f[step,i,c] = net(x[i,d])
output as[step] = a
output bs[step] = <b|b>
"""

#: name -> (dimensions of a layer, its rows first; which of them are finite axes). The family A is two layers.
MATRICES = {"W": 2.0, "A": 1.0, "P": 1.0}
READOUTS = {"v", "w"}
VECTORS = {"b", "o", "a"}


def network() -> Parameters:
    p = Parameters()
    p.ket("u", N, 2)
    p.ket("b", N, std=0.5)
    p.ket("o", N, std=0.0)
    p.matrix("W", N, N, variance=2)
    p.matrix("A", N, N, 2)
    p.matrix("P", 2 * N, N)
    p.ket("v", 2 * N, 2)
    p.ket("w", 2 * N)
    p.scalar("a", 0.7)
    return p


def net(p: Parameters) -> Any:
    x = torch.relu(torch.tensor(XI) @ p["u"] + p["b"])
    x = x + torch.tanh(x @ p["W"].T + p["o"])
    for k in range(2):
        x = x + torch.sin(x @ p["A"][k].T) / 2
    z = torch.tanh(x @ p["P"].T)
    return bracket(p["v"][None], z[:, None]) + p["a"] * bracket(p["w"], z)[:, None]


def loss(p: Parameters, _: int) -> Any:
    return ((net(p) - torch.tensor(Y)) ** 2).sum(1).mean() / 2


def shown(p: Parameters, k: int) -> dict[str, Any]:
    return {"f": net(p), "as": p["a"], "bs": bracket(p["b"], p["b"])}


class View:
    """A parameter as a matrix with its rows first (a vector as a column), in natural entries; families of matrices as
    a batch. `size` is what a matrix is measured by: σ, or None."""

    def __init__(self, name: str, entries: Any):
        self.name, self.entries = name, entries
        self.vector = name in VECTORS
        self.matrix = name in MATRICES

    def of(self, x: Any) -> Any:
        if self.vector:
            return x.reshape(-1, 1)
        if self.name == "u":
            return x.T
        return x.reshape(1, -1) if self.name == "w" else x

    def back(self, x: Any) -> Any:
        return x.T if self.name == "u" else x.reshape(self.entries.shape)

    def deviation(self) -> float:
        return float(MATRICES[self.name]) ** 0.5


class Layerwise(torch.optim.Optimizer):
    """p += rule(view, g, p, state, t), everything with rows first."""

    def __init__(self, names: list[str], parameters: list[Any], rule: Any):
        super().__init__(parameters, {"lr": 0.0})
        self.views = [View(n, p) for n, p in zip(names, parameters, strict=True)]
        self.rule, self.t = rule, 0
        self.memory: list[dict[str, Any]] = [{} for _ in names]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        self.t += 1
        for view, memory in zip(self.views, self.memory, strict=True):
            p, g = view.of(view.entries), view.of(view.entries.grad)
            view.entries.copy_(view.back(p + self.rule(view, g, p, memory, self.t)))


def centred(x: Any) -> Any:
    return x - x.mean(-1, keepdim=True)


def length(view: View, x: Any) -> Any:
    """Of rows: the sum of squares over a finite axis, the mean over neurons."""
    total = (x**2).sum(-1, keepdim=True) if view.name == "u" or view.vector else (x**2).mean(-1, keepdim=True)
    return total.sqrt()


def balance(view: View) -> None:
    """Nero's projection before step 0."""
    with torch.no_grad():
        p = view.of(view.entries)
        if view.matrix:
            view.entries.copy_(view.back(centred(p) / view.deviation()))
        elif not view.vector:
            view.entries.copy_(view.back(centred(p) / length(view, centred(p))))


def nero(lr: float, beta: float) -> Any:
    def rule(view: View, g: Any, p: Any, memory: dict[str, Any], t: int) -> Any:
        if "scale" not in memory:
            size = length(view, p).mean() if view.vector else torch.tensor(1.0)
            memory["scale"] = size if size > 0 else torch.tensor(0.01)
        memory["v"] = beta * memory.get("v", 0) + (1 - beta) * length(view, g) ** 2
        new = p - lr * memory["scale"] * g / (memory["v"] / (1 - beta**t)).sqrt()
        if view.vector:
            return new - p
        return centred(new) - p if view.matrix else centred(new) / length(view, centred(new)) - p

    return rule


def size(view: View, p: Any) -> Any:
    """norm(p): of a matrix that of its initial value (no decay in these tests)."""
    return torch.tensor(view.deviation()) if view.matrix else (p**2).mean().sqrt()


def each_norm(view: View, x: Any) -> Any:
    """Root mean squares, of every matrix of a family separately."""
    return (x**2).mean((-2, -1), keepdim=True).sqrt()


def lars(lr: float, momentum: float, trust: float) -> Any:
    def rule(view: View, g: Any, p: Any, memory: dict[str, Any], t: int) -> Any:
        ratio = trust * size(view, p) / each_norm(view, g) if size(view, p) > 0 else 1.0
        memory["m"] = momentum * memory.get("m", 0) + ratio * g
        return -lr * memory["m"]

    return rule


def lamb(lr: float, beta1: float, beta2: float, eps: float) -> Any:
    def rule(view: View, g: Any, p: Any, memory: dict[str, Any], t: int) -> Any:
        memory["m"] = beta1 * memory.get("m", 0) + (1 - beta1) * g
        memory["v"] = beta2 * memory.get("v", 0) + (1 - beta2) * g**2
        r = memory["m"] / (1 - beta1**t) / ((memory["v"] / (1 - beta2**t)).sqrt() + eps)
        return -lr * (size(view, p) / each_norm(view, r) if size(view, p) > 0 else 1.0) * r

    return rule


def adafactor(lr: float, decay: float, d: float) -> Any:
    """torch.optim.Adafactor with RMS(p) as above (that of a matrix in natural units)."""
    eps1, eps2 = float(torch.finfo(torch.float64).eps), 1e-3

    def rule(view: View, g: Any, p: Any, memory: dict[str, Any], t: int) -> Any:
        weight = t**decay
        memory["r"] = (1 - weight) * memory.get("r", 0) + weight * (g**2).mean(-1, keepdim=True)
        memory["c"] = (1 - weight) * memory.get("c", 0) + weight * (g**2).mean(-2, keepdim=True)
        var = memory["r"] * memory["c"] / memory["r"].mean(-2, keepdim=True).clamp(min=eps1)
        u = g / var.clamp(min=eps1**2).sqrt()
        rate = torch.clamp(size(view, p), min=eps2) * min(lr, t**-0.5)
        return -rate / torch.clamp(each_norm(view, u) / d, min=1.0) * u

    return rule


def total(view: View, x: Any) -> Any:
    """Means of every matrix of a family separately."""
    return x.mean((-2, -1), keepdim=True)


def prodigy(lr: float, beta1: float, beta2: float, eps: float, d0: float) -> Any:
    """With an instance for every parameter; sums over entries are means here, in numerator and denominator."""
    beta3 = beta2**0.5

    def rule(view: View, g: Any, p: Any, memory: dict[str, Any], t: int) -> Any:
        start = memory.setdefault("start", p.clone())
        d = memory.get("d", torch.full_like(total(view, g), d0))
        weight = d / d0 * d * lr
        memory["gain"] = beta3 * memory.get("gain", 0) + weight * total(view, g * (start - p))
        memory["m"] = beta1 * memory.get("m", 0) + d * (1 - beta1) * g
        memory["v"] = beta2 * memory.get("v", 0) + d**2 * (1 - beta2) * g**2
        memory["s"] = beta3 * memory.get("s", 0) + weight * g
        memory["d"] = torch.maximum(d, memory["gain"] / total(view, memory["s"].abs()))
        return -d * lr * memory["m"] / (memory["v"].sqrt() + memory["d"] * eps)

    return rule


CASES = {
    "Prodigy(d0 = 0.02, eps = 0.1)": prodigy(1.0, 0.9, 0.999, 0.1, 0.02),
    "Nero(lr = 0.1)": nero(0.1, 0.999),
    "Nero(lr = 0.05, beta = 0.5)": nero(0.05, 0.5),
    "LARS(lr = 0.5, trust = 0.1)": lars(0.5, 0.9, 0.1),
    "LAMB(lr = 0.05)": lamb(0.05, 0.9, 0.999, 1e-6),
    "Adafactor(lr = 0.1)": adafactor(0.1, -0.8, 1.0),
    "Adafactor(lr = 0.1, beta2_decay = -0.5, d = 0.5)": adafactor(0.1, -0.5, 0.5),
}


@pytest.mark.parametrize("optimizer", CASES)
def test_against_torch(optimizer: str) -> None:
    p = network()
    if optimizer.startswith("Nero"):
        for name, entries in p.entries.items():
            balance(View(name, entries))
    names = list(p.entries)
    group = (names, lambda tensors: Layerwise(names, tensors, CASES[optimizer]))
    compare(TEXT.replace("OPTIMIZER", optimizer), N, train(p, loss, shown, [group], STEPS), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["u", "b", "v"])
def test_adafactor_is_that_of_torch(name: str) -> None:
    """Kets alone: there natural units are those of PyTorch."""
    p = network()
    text = TEXT.replace("update all with OPTIMIZER", f"update |{name}> with Adafactor(lr = 0.1, weight_decay = 0.05)")
    text = text[: text.index("output as")]

    def make(tensors: list[Any]) -> Any:
        flipped = [t.detach().T.clone().requires_grad_() if name == "u" else t for t in tensors]
        inner = torch.optim.Adafactor(flipped, lr=0.1, weight_decay=0.05)
        return Turned(inner, tensors, flipped) if name == "u" else inner

    found = train(p, loss, lambda p, k: {"f": net(p)}, [([name], make)], STEPS)
    compare(text, N, found, rtol=1e-8, atol=1e-10)


class Turned:
    """An optimizer of the transposes of some tensors: Adafactor's rows are the first dimension."""

    def __init__(self, inner: Any, tensors: list[Any], flipped: list[Any]):
        self.inner, self.tensors, self.flipped = inner, tensors, flipped
        self.param_groups = inner.param_groups

    @torch.no_grad()
    def step(self) -> None:
        for t, f in zip(self.tensors, self.flipped, strict=True):
            f.grad = t.grad.T.clone()
        self.inner.step()
        for t, f in zip(self.tensors, self.flipped, strict=True):
            t.copy_(f.T)
