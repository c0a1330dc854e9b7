"""Four architectures twice: as a NEXORT program, and as a PyTorch network with its own random initialisation.

Natural entries P of a parameter are what torch.optim trains: a ket itself, cols · W for a matrix; the natural gradient
is (number of neurons) · ∂f/∂P. The networks share no code, and no random numbers, with the project.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Tensor = Any
Weights = dict[str, Tensor]

XI = torch.tensor([[0.9, -0.4], [-0.7, 1.1], [0.5, 0.8]], dtype=torch.float64)
Y = torch.tensor([1.0, -0.5, 0.25], dtype=torch.float64)
TOKENS = torch.tensor(
    [[[0.6, -0.2], [-0.4, 1.1], [0.8, 0.5]], [[-0.9, 0.7], [0.3, -0.8], [0.1, 0.4]]], dtype=torch.float64
)
LABELS = torch.tensor([0.8, -0.6], dtype=torch.float64)

VECTORS = """axis i : 3
axis d : 2
data x[i,d] = [[0.9, -0.4], [-0.7, 1.1], [0.5, 0.8]]
data y[i] = [1.0, -0.5, 0.25]
"""
SEQUENCES = """axis i : 2
axis s, t : 3
axis d : 2
axis h : 2
data x[i,s,d] = [[[0.6, -0.2], [-0.4, 1.1], [0.8, 0.5]], [[-0.9, 0.7], [0.3, -0.8], [0.1, 0.4]]]
data y[i] = [0.8, -0.6]
"""


@dataclass(frozen=True)
class Architecture:
    """`kets` and `matrices`: name -> (members, variance); 0 members means a parameter that is not a family."""

    head: str
    body: str  # NEXORT: binds f[i]
    kets: dict[str, tuple[int, float]]
    matrices: dict[str, tuple[int, float]]
    network: Callable[[Weights], Tensor]
    labels: Tensor
    widths: tuple[int, ...]
    samples: int = 2**11

    def program(self, optimizer: str, steps: int, tangent: bool = False) -> str:
        """`tangent`: in the neural tangent limit."""
        body = self.body.replace("f[i] = <v|", "f[i] = clt <v|") if tangent else self.body
        indented = body.strip().replace("\n", "\n    ")
        return (
            f"{'parametrization ntk' if tangent else ''}\n{self.head}{self._declarations()}train steps = {steps} {{\n    {indented}\n"
            f"    minimize mean[i]((f[i] - y[i])^2) / 2\n    update all with {optimizer}\n}}\noutput f[step,i]\n"
        )

    def _declarations(self) -> str:
        lines = []
        for name, (members, variance) in self.kets.items():
            lines.append(f"ket |{name}{'[d]' if members else ''}> ~ N(0, {variance})")
        axes = {2: "h", 4: "l", 6: "m"}
        for size, name in axes.items():
            if name != "h" and any(members == size for members, _ in self.matrices.values()):
                lines.insert(0, f"axis {name} : {size}")
        for name, (members, variance) in self.matrices.items():
            index = f"[{axes[members]}]" if members else ""
            lines.append(f"matrix {name}{index} ~ N(0, {variance})")
        return "\n".join(lines) + "\n"

    def trained(
        self, make: Callable[[list[Tensor]], Any], steps: int, n: int, seed: int, tangent: bool = False
    ) -> Tensor:
        """f after 0, 1, ..., `steps` updates of one network of width n: (steps + 1, examples).

        `tangent`: in the NTK parametrization, f_0 subtracted. There f is √n times the natural output, gradients are those of
        the natural output, and what the optimizer does to the entries counts n^-1/2.
        """
        generator = torch.Generator().manual_seed(seed)
        entries: Weights = {}
        for name, (members, variance) in self.kets.items():
            shape = (members, n) if members else (n,)
            entries[name] = variance**0.5 * torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, (members, variance) in self.matrices.items():
            shape = (members, n, n) if members else (n, n)
            entries[name] = (variance * n) ** 0.5 * torch.randn(shape, generator=generator, dtype=torch.float64)
        leaves = [p.requires_grad_() for p in entries.values()]
        optimizer = make(leaves)
        root = n**0.5 if tangent else 1.0
        found: list[Tensor] = []
        for step in range(steps + 1):
            f = root * self.network({k: p / n if k in self.matrices else p for k, p in entries.items()})
            if step == 0:
                start = f.detach() if tangent else torch.zeros(())
            f = f - start
            found.append(f.detach())
            if step < steps:
                optimizer.zero_grad()
                (((f - self.labels) ** 2).mean() / 2).backward()
                for name, p in entries.items():
                    p.grad *= (n * n if name in self.matrices else n) / root
                before = [p.detach().clone() for p in leaves]
                optimizer.step()
                with torch.no_grad():
                    for p, old in zip(leaves, before, strict=True):
                        p.copy_(old + (p - old) / root)
        return torch.stack(found)


def _mean(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).mean(-1)


def _mlp(w: Weights) -> Tensor:
    x = torch.tanh(torch.tanh(XI @ w["u"]) @ w["W"].T)
    return _mean(x, w["v"])


def _resnet(w: Weights) -> Tensor:
    x = XI @ w["u"]
    for block in range(4):
        x = x + torch.relu(x @ w["A"][block].T) @ w["B"][block].T / 2
    return _mean(x, w["v"])


def _rnn(w: Weights) -> Tensor:
    h = torch.tanh(TOKENS[:, 0] @ w["u"] + w["b"])
    for s in (1, 2):
        h = torch.tanh(h @ w["W"].T + TOKENS[:, s] @ w["u"] + w["b"])
    return _mean(h, w["v"])


def _norm(x: Tensor) -> Tensor:
    c = x - x.mean(-1, keepdim=True)
    return c / (_mean(c, c)[..., None] + 1e-5).sqrt()


def _transformer(w: Weights) -> Tensor:
    x = TOKENS @ w["u"]
    for layer in range(2):
        z = _norm(x)
        mixed = 0.0
        for head in range(2):
            k = 2 * layer + head
            q, key, value = (z @ w[name][k].T for name in ("Q", "K", "V"))
            weights = torch.softmax(torch.einsum("isn,itn->ist", q, key) / x.shape[-1], -1)
            mixed = mixed + torch.einsum("ist,itn->isn", weights, value) @ w["O"][k].T
        x = x + mixed / 2
        x = x + torch.relu(_norm(x) @ w["M"][layer].T) / 2
    return _mean(_norm(x).mean(1), w["v"])


ARCHITECTURES = {
    "mlp": Architecture(
        VECTORS,
        "f[i] = <v|tanh(W tanh(sum[d](x[i,d] |u[d]>)))>",
        {"u": (2, 1.0), "v": (0, 1.0)}, {"W": (0, 1.0)}, _mlp, Y, (256, 512, 1024, 2048),
    ),
    "resnet": Architecture(
        VECTORS,
        """|h[i]> = sum[d](x[i,d] |u[d]>)
for k in 1..4 { |h[i]> = |h[i]> + B[k] relu(A[k] |h[i]>) / 2 }
f[i] = <v|h[i]>""",
        {"u": (2, 1.0), "v": (0, 1.0)}, {"A": (4, 1.0), "B": (4, 1.0)}, _resnet, Y, (64, 128, 256, 512), 2**10,
    ),
    "rnn": Architecture(
        SEQUENCES,
        """|g[i]> = tanh(sum[d](x[i,1,d] |u[d]>) + |b>)
for k in 2..3 { |g[i]> = tanh(W |g[i]> + sum[d](x[i,k,d] |u[d]>) + |b>) }
f[i] = <v|g[i]>""",
        {"u": (2, 1.0), "b": (0, 0.1), "v": (0, 1.0)}, {"W": (0, 1.0)}, _rnn, LABELS, (256, 512, 1024),
    ),
    "transformer": Architecture(
        "import layers\n" + SEQUENCES,
        """|a[i,s]> = sum[d](x[i,s,d] |u[d]>)
for k in 1..2 {
    |z[i,s]> = layernorm(|a[i,s]>)
    |o[i,s]> = 0 |a[i,s]>
    for c in 1..2 {
        w[i,s,t] = softmax[t](<z[i,s]|(Q[2 k + c - 2]^T K[2 k + c - 2]) |z[i,t]>)
        |o[i,s]> = |o[i,s]> + O[2 k + c - 2] sum[t](w[i,s,t] V[2 k + c - 2] |z[i,t]>)
    }
    |a[i,s]> = |a[i,s]> + |o[i,s]> / 2
    |a[i,s]> = |a[i,s]> + relu(M[k] layernorm(|a[i,s]>)) / 2
}
f[i] = <v|mean[s](layernorm(|a[i,s]>))>""",
        {"u": (2, 1.0), "v": (0, 1.0)},
        {"Q": (4, 1.0), "K": (4, 1.0), "V": (4, 1.0), "O": (4, 1.0), "M": (2, 1.0)},
        _transformer, LABELS, (64, 128, 256), 2**10,
    ),
}  # fmt: skip
