"""Modules of many kinds, as people write them, for tests of `tp_compiler.torch`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F


def small(layer: nn.Linear) -> nn.Linear:
    """A readout as muP draws it."""
    nn.init.normal_(layer.weight, std=1 / layer.in_features)
    return layer


def network(factory: Callable[[int], nn.Module], n: int, seed: int) -> nn.Module:
    """A module of the width n in double precision, whose gains and biases are not those that it starts with."""
    torch.manual_seed(seed)
    module = factory(n).double()
    with torch.no_grad():
        for p in module.parameters():
            if p.ndim == 1:
                p.add_(0.3 * torch.randn_like(p))
    return module


class MLP(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.fc1, self.fc2, self.out = nn.Linear(3, n), nn.Linear(n, n), small(nn.Linear(n, 2))

    def forward(self, x):
        return self.out(torch.tanh(self.fc2(F.relu(self.fc1(x)))))


class Residual(nn.Module):
    def __init__(self, n: int, depth: int = 3):
        super().__init__()
        self.read = nn.Linear(3, n)
        self.layers = nn.ModuleList(nn.Linear(n, n) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(n) for _ in range(depth))
        self.out = small(nn.Linear(n, 1, bias=False))

    def forward(self, x):
        x = self.read(x)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + F.gelu(layer(norm(x))) / math.sqrt(len(self.layers))
        return self.out(x).squeeze(-1)


class Gated(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.emb, self.norm = nn.Embedding(7, n), nn.RMSNorm(n)
        self.gate, self.up, self.down = (nn.Linear(a, b, bias=False) for a, b in ((n, 2 * n), (n, 2 * n), (2 * n, n)))
        self.out = small(nn.Linear(n, 7, bias=False))

    def forward(self, tokens):
        x = self.emb(tokens)
        y = self.norm(x)
        return self.out(x + self.down(F.silu(self.gate(y)) * self.up(y)))


class Attention(nn.Module):
    def __init__(self, n: int, heads: int):
        super().__init__()
        self.heads = heads
        self.c_attn, self.c_proj = nn.Linear(n, 3 * n, bias=False), nn.Linear(n, n, bias=False)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (a.view(b, t, self.heads, -1).transpose(1, 2) for a in self.c_attn(x).split(c, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1 / q.shape[-1])
        return self.c_proj(y.transpose(1, 2).contiguous().view(b, t, c))


class Block(nn.Module):
    def __init__(self, n: int, heads: int):
        super().__init__()
        self.ln_1, self.attn, self.ln_2 = nn.LayerNorm(n), Attention(n, heads), nn.LayerNorm(n)
        self.fc, self.proj = nn.Linear(n, 4 * n), nn.Linear(4 * n, n)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.proj(F.gelu(self.fc(self.ln_2(x))))


class GPT(nn.Module):
    """Tied embeddings; muP's multipliers unless `multiplier` is 1. Heads of fixed number, or of fixed size."""

    def __init__(self, n: int, multiplier: float | None = None, head_size: int | None = None, vocabulary: int = 5):
        super().__init__()
        heads = n // head_size if head_size else 2
        self.wte, self.wpe = nn.Embedding(vocabulary, n), nn.Embedding(3, n)
        self.blocks = nn.ModuleList(Block(n, heads) for _ in range(2))
        self.ln_f, self.head = nn.LayerNorm(n), nn.Linear(n, vocabulary, bias=False)
        self.head.weight = self.wte.weight
        self.multiplier = 1 / n if multiplier is None else multiplier

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln_f(x)) * self.multiplier


class Llama(nn.Module):
    """Heads of fixed size, rotary positions, grouped queries: heads are the width."""

    def __init__(self, n: int, size: int = 4):
        super().__init__()
        self.heads, self.groups, self.size = n // size, n // size // 2, size
        self.emb, self.norm = nn.Embedding(5, n), nn.RMSNorm(n)
        self.q = nn.Linear(n, n, bias=False)
        self.k, self.v = (nn.Linear(n, self.groups * size, bias=False) for _ in range(2))
        self.o, self.out = nn.Linear(n, n, bias=False), small(nn.Linear(n, 5, bias=False))
        self.register_buffer("frequency", 10000 ** (-torch.arange(0, size, 2) / size))

    def turned(self, x):
        angle = torch.arange(x.shape[-2])[:, None] * self.frequency
        angle = torch.cat([angle, angle], -1)
        one, other = x.chunk(2, -1)
        return x * angle.cos() + torch.cat([-other, one], -1) * angle.sin()

    def forward(self, tokens):
        x = self.emb(tokens)
        b, t, n = x.shape
        y = self.norm(x)
        q, k, v = (f(y).view(b, t, -1, self.size).transpose(1, 2) for f in (self.q, self.k, self.v))
        q, k = self.turned(q), self.turned(k).repeat_interleave(2, 1)
        v = v[:, :, None].expand(b, self.groups, 2, t, self.size).reshape(b, self.heads, t, self.size)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(x + self.o(y.transpose(1, 2).reshape(b, t, n)))


class ByHand(nn.Module):
    """Attention written out, with a mask in a buffer; slices and concatenation."""

    def __init__(self, n: int):
        super().__init__()
        self.emb, self.out, self.n = nn.Embedding(5, n), small(nn.Linear(n, 5)), n
        self.q, self.k, self.v = (nn.Linear(n, n) for _ in range(3))
        self.register_buffer("mask", torch.tril(torch.ones(8, 8)))

    def forward(self, tokens):
        x = self.emb(tokens)
        t = x.shape[1]
        logits = self.q(x) @ self.k(x).transpose(-2, -1) / self.n
        a = logits.masked_fill(self.mask[:t, :t] == 0, float("-inf")).softmax(-1)
        y = a @ self.v(x)
        return self.out(torch.cat([y[:, -1:], x[:, :2]], 1))[:, :, 1:4]


class Grouped(nn.Module):
    """Grouped queries with fixed numbers of heads."""

    def __init__(self, n: int):
        super().__init__()
        self.size = n // 4
        self.emb, self.q = nn.Embedding(5, n), nn.Linear(n, n, bias=False)
        self.k, self.v = (nn.Linear(n, n // 2, bias=False) for _ in range(2))
        self.o, self.out = nn.Linear(n, n, bias=False), small(nn.Linear(n, 5, bias=False))

    def forward(self, tokens):
        x = self.emb(tokens)
        b, t, n = x.shape
        q, k, v = (f(x).view(b, t, -1, self.size).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True, scale=1 / self.size)
        return self.out(self.o(y.transpose(1, 2).reshape(b, t, n)))


class Encoder(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.read, self.out = nn.Linear(3, n), small(nn.Linear(n, 1))
        self.layer = nn.TransformerEncoderLayer(n, 2, 2 * n, dropout=0.1, batch_first=True)

    def forward(self, x):
        return self.out(self.layer(self.read(x)).mean(1))


class Images(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, n, 3, padding=1), nn.Conv2d(n, n, 3, stride=2, padding=1)
        self.norm, self.out = nn.GroupNorm(2, n), small(nn.Linear(n, 3))

    def forward(self, x):
        return self.out(F.relu(self.norm(self.conv2(F.relu(self.conv1(x))))).mean((2, 3)))


class Signals(nn.Module):
    """Full, depthwise and pointwise convolutions, and pooling."""

    def __init__(self, n: int):
        super().__init__()
        self.full, self.deep = nn.Conv1d(2, n, 3), nn.Conv1d(n, n, 3, groups=n, padding=1)
        self.point, self.out = nn.Conv1d(n, 2 * n, 1), small(nn.Linear(2 * n, 3))

    def forward(self, x):
        x = F.relu(self.point(F.silu(self.deep(self.full(x)))))
        return self.out(F.max_pool1d(x, 2).mean(-1))


class Batch(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.fc, self.norm, self.out = nn.Linear(3, n), nn.BatchNorm1d(n), small(nn.Linear(n, 1))

    def forward(self, x):
        return self.out(torch.tanh(self.norm(self.fc(x))))


class RNN(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.read, self.turn, self.out = nn.Linear(2, n), nn.Linear(n, n), small(nn.Linear(n, 2))

    def forward(self, x):
        h = torch.tanh(self.read(x[:, 0]))
        for t in range(1, x.shape[1]):
            h = torch.tanh(self.read(x[:, t]) + self.turn(h))
        return self.out(h)


class LSTM(nn.Module):
    """Cells written out."""

    def __init__(self, n: int):
        super().__init__()
        self.n, self.read = n, nn.Linear(2, 4 * n)
        self.turn, self.out = nn.Linear(n, 4 * n, bias=False), small(nn.Linear(n, 2))

    def forward(self, x):
        h = c = x.new_zeros(x.shape[0], self.n)
        for t in range(x.shape[1]):
            i, f, g, o = (self.read(x[:, t]) + self.turn(h)).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return self.out(h)


class GRU(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.n, self.cell, self.out = n, nn.GRUCell(2, n), small(nn.Linear(n, 1))
        nn.init.normal_(self.cell.weight_ih)

    def forward(self, x):
        h = x.new_zeros(x.shape[0], self.n)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return self.out(h)


class Experts(nn.Module):
    """A mixture of experts with soft routing."""

    def __init__(self, n: int, experts: int = 3):
        super().__init__()
        self.read, self.route = nn.Linear(2, n), small(nn.Linear(n, experts, bias=False))
        self.w, self.out = nn.Parameter(torch.randn(experts, n, n) / n**0.5), small(nn.Linear(n, 2))

    def forward(self, x):
        x = self.read(x)
        y = torch.einsum("bi,eoi->beo", x, self.w)
        return self.out((self.route(x).softmax(-1)[..., None] * F.relu(y)).sum(1))


class Mixer(nn.Module):
    """Mixes positions by a matrix without width; two outputs."""

    def __init__(self, n: int):
        super().__init__()
        self.read, self.mix, self.norm, self.out = (
            nn.Linear(3, n),
            nn.Linear(4, 4),
            nn.LayerNorm(n),
            small(nn.Linear(n, 1)),
        )

    def forward(self, x):
        x = self.read(x)
        x = x + self.mix(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return {"y": self.out(x).squeeze(-1), "z": x.pow(2).mean(-1).sqrt()}


class Tangent(nn.Module):
    """The NTK parametrization: weights of variance 1, and multipliers."""

    def __init__(self, n: int):
        super().__init__()
        self.n = n
        self.u, self.w, self.v = (nn.Parameter(torch.randn(*s)) for s in ((n, 3), (n, n), (1, n)))

    def forward(self, x):
        h = torch.erf(x @ self.u.T)
        return torch.erf(F.linear(h, self.w / self.n**0.5)) @ self.v.T / self.n


def _numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


TOKENS = torch.tensor([[0, 1, 2], [3, 4, 1]])
#: name -> factory, example input
FAMILIES: dict[str, tuple[Callable[[int], nn.Module], torch.Tensor]] = {
    "mlp": (MLP, _numbers(4, 3)),
    "residual": (Residual, _numbers(4, 3)),
    "gated": (Gated, TOKENS),
    "gpt": (GPT, TOKENS),
    "gpt, infinite heads": (lambda n: GPT(n, head_size=4), TOKENS),
    "llama": (Llama, TOKENS),
    "attention by hand": (ByHand, TOKENS),
    "grouped queries": (Grouped, TOKENS),
    "encoder": (Encoder, _numbers(2, 4, 3)),
    "images": (Images, _numbers(2, 1, 5, 5)),
    "signals": (Signals, _numbers(2, 2, 7)),
    "batch norm": (Batch, _numbers(4, 3)),
    "rnn": (RNN, _numbers(3, 3, 2)),
    "lstm": (LSTM, _numbers(3, 3, 2)),
    "gru": (GRU, _numbers(2, 3, 2)),
    "experts": (Experts, _numbers(3, 2)),
    "mixer": (Mixer, _numbers(2, 4, 3)),
    "tangent": (Tangent, _numbers(4, 3)),
    "a batch of one": (GPT, TOKENS[:1]),
}
