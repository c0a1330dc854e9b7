"""The strongest plain way to the trained outputs without a limit: PyTorch networks, batched over seeds, on one thread.

Both train in natural units, in which the program of the limit is written. SGD keeps what a matrix has learned as a product of
thin factors; the Transformer is differentiated by autograd. Nothing here is shared with the project but the numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tests.benchmarks.training import INPUTS, OPTIMIZERS, TARGETS, tanh_network
from tests.torch.architectures import ARCHITECTURES, LABELS, TOKENS

Tensor = Any


@dataclass(frozen=True)
class Opponent:
    """A trained network: as a program whose limit is `output`, and `networks(optimizer, width, seeds, generator, dtype)`.

    widths    among which the best is chosen
    entries   of a matrix of all networks of a batch
    """

    programs: dict[str, str]
    networks: Callable[[str, int, int, Any, Any], Tensor]
    widths: tuple[int, ...]
    entries: int
    output: Callable[[Any], Any]

    def seeds(self, width: int) -> int:
        """How many networks are trained at once: as many as the cache holds."""
        return max(1, min(4096, self.entries // width**2))


class _Adam:
    """Adam of a tensor in natural units, with learning rate `rate`."""

    def __init__(self, parameter: Tensor, rate: float, betas: tuple[float, float], eps: float):
        self.parameter, self.rate, self.betas, self.eps = parameter, rate, betas, eps
        self.mean, self.square = torch.zeros_like(parameter), torch.zeros_like(parameter)

    def step(self, gradient: Tensor, number: int) -> None:
        first, second = self.betas
        self.mean.lerp_(gradient, 1 - first)
        self.square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        scale = (self.square / (1 - second**number)).sqrt_().add_(self.eps)
        self.parameter.addcdiv_(self.mean, scale, value=-self.rate / (1 - first**number))


@torch.no_grad()
def perceptrons(optimizer: str, width: int, seeds: int, generator: Any, dtype: Any, steps: int = 5) -> Tensor:
    """f of `training.tanh_network` after training, (seeds, 4), with gradients written out."""
    x = (torch.tensor(INPUTS, dtype=dtype) / 3**0.5).T
    y = torch.tensor(TARGETS, dtype=dtype)
    u = torch.randn(seeds, width, 3, generator=generator, dtype=dtype)
    v = torch.randn(seeds, width, 1, generator=generator, dtype=dtype)
    w = torch.randn(seeds, width, width, generator=generator, dtype=dtype).mul_(width**-0.5)
    left = right = None
    adam = [_Adam(p, rate, (0.9, 0.99), 0.01) for p, rate in ((u, 0.1), (v, 0.1), (w, 0.1 / width))]
    for step in range(steps + 1):
        first = torch.tanh(u @ x)
        second = torch.bmm(w, first)
        if left is not None:
            second.baddbmm_(left, torch.bmm(right.transpose(1, 2), first))
        second.tanh_()
        f = (v * second).mean(1)
        if step == steps:
            break
        error = (f - y)[:, None, :] / len(TARGETS)
        dv = (second * error).sum(2, keepdim=True)
        dh = v * error * (1 - second * second)
        back = torch.bmm(w.transpose(1, 2), dh)
        if left is not None:
            back.baddbmm_(right, torch.bmm(left.transpose(1, 2), dh))
        du = (back * (1 - first * first)) @ x.T
        if optimizer == "SGD":
            scaled = dh * (-0.2 / width)
            left = scaled if left is None else torch.cat([left, scaled], 2)
            right = first if right is None else torch.cat([right, first], 2)
            u -= 0.2 * du
            v -= 0.2 * dv
        else:
            for one, gradient in zip(adam, (du, dv, torch.bmm(dh, first.transpose(1, 2))), strict=True):
                one.step(gradient, step + 1)
    return f


def _normed(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def _transformer(tokens: Tensor, u: Tensor, v: Tensor, matrices: list[Tensor]) -> Tensor:
    """f of two layers with two heads, (seeds, 2); the matrices are stored transposed."""
    seeds, width = v.shape
    queries, keys, values, outs, dense = matrices[:4], matrices[4:8], matrices[8:12], matrices[12:16], matrices[16:]
    x = torch.matmul(tokens, u)
    for layer in range(2):
        z, mixed = _normed(x), 0.0
        for k in (2 * layer, 2 * layer + 1):
            q, key, value = (torch.bmm(z, m[k]).view(seeds * 2, 3, width) for m in (queries, keys, values))
            attention = torch.softmax(torch.bmm(q, key.transpose(1, 2)) / width, -1)
            mixed = mixed + torch.bmm(torch.bmm(attention, value).view(seeds, 6, width), outs[k])
        x = x + mixed / 2
        x = x + torch.relu(torch.bmm(_normed(x), dense[layer])) / 2
    return (_normed(x).view(seeds, 2, 3, width).mean(2) * v[:, None, :]).mean(-1)


def transformers(optimizer: str, width: int, seeds: int, generator: Any, dtype: Any, steps: int = 3) -> Tensor:
    """f of the Transformer of tests/torch/architectures.py after training, (seeds, 2)."""
    tokens, labels = TOKENS.to(dtype).reshape(6, 2), LABELS.to(dtype)
    u = torch.randn(seeds, 2, width, generator=generator, dtype=dtype)
    v = torch.randn(seeds, width, generator=generator, dtype=dtype)
    matrices = [torch.randn(seeds, width, width, generator=generator, dtype=dtype).mul_(width**-0.5) for _ in range(18)]
    parameters = [p.requires_grad_() for p in (u, v, *matrices)]
    adam = [_Adam(p.detach(), 0.05 / (1 if p.ndim < 3 or p is u else width), (0.9, 0.999), 0.01) for p in parameters]
    with torch.enable_grad():
        for step in range(steps):
            loss = ((_transformer(tokens, u, v, matrices) - labels).square().mean(1) / 2).sum()
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for p, gradient, one in zip(parameters, gradients, adam, strict=True):
                    if optimizer == "Adam":
                        one.step(gradient * width, step + 1)
                    else:
                        p -= (0.2 * width if p is u or p is v else 0.2) * gradient
    with torch.no_grad():
        return _transformer(tokens, u, v, matrices)


_ADAM = "Adam(lr = 0.05, beta1 = 0.9, beta2 = 0.999, eps = 0.01)"
OPPONENTS = {
    "MLP": Opponent(
        {name: tanh_network(optimizer) for name, optimizer in OPTIMIZERS.items()},
        perceptrons, (32, 64, 128, 256, 512), 1 << 21, lambda f: f,
    ),
    "Transformer": Opponent(
        {name: ARCHITECTURES["transformer"].program(how, 3) for name, how in (("SGD", "SGD(lr = 0.2)"), ("Adam", _ADAM))},
        transformers, (16, 32, 64, 128), 1 << 18, lambda f: f[-1],
    ),
}  # fmt: skip
