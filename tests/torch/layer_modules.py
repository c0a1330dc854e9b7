"""Modules with one layer or idiom each, for tests of `tp_compiler.torch`: those that modules.py does not have."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tests.torch.modules import TOKENS, _numbers, small


class Read(nn.Module):
    """Layers by name, put together by a function, then read out."""

    def __init__(self, n: int, run: Callable[[Any, Any], Any], size: int = 1, outputs: int = 2, **layers: nn.Module):
        super().__init__()
        self.n, self.run = n, run
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.out = small(nn.Linear(size * n, outputs))

    def forward(self, x):
        return self.out(self.run(self, x))


def images(n: int, run: Callable[[Any, Any], Any], size: int = 1, **layers: nn.Module) -> nn.Module:
    """Channels first; averaged over positions."""
    first = nn.Conv2d(3, n, 3, padding=1)
    return Read(n, lambda m, x: run(m, F.relu(m.first(x))).mean((2, 3)), size, first=first, **layers)


def signals(n: int, run: Callable[[Any, Any], Any], size: int = 1, **layers: nn.Module) -> nn.Module:
    first = nn.Conv1d(3, n, 3, padding=1)
    return Read(n, lambda m, x: run(m, F.relu(m.first(x))).mean(-1), size, first=first, **layers)


def tokens(n: int, run: Callable[[Any, Any], Any], **layers: nn.Module) -> nn.Module:
    return Read(n, lambda m, x: run(m, m.emb(x)), emb=nn.Embedding(5, n), **layers)


def vectors(n: int, run: Callable[[Any, Any], Any], **layers: nn.Module) -> nn.Module:
    return Read(n, lambda m, x: run(m, m.read(x)), read=nn.Linear(3, n), **layers)


def linear(n: int) -> nn.Linear:
    return nn.Linear(n, n)


class WaveNet(nn.Module):
    """Causal dilated convolutions."""

    def __init__(self, n: int):
        super().__init__()
        self.first, self.out = nn.Conv1d(3, n, 1), small(nn.Linear(n, 1))
        self.filters, self.gates = (
            nn.ModuleList(nn.Conv1d(n, n, 2, dilation=2**k) for k in range(3)) for _ in range(2)
        )

    def forward(self, x):
        x = self.first(x)
        for k, (f, g) in enumerate(zip(self.filters, self.gates, strict=True)):
            past = F.pad(x, (2**k, 0))
            x = x + torch.tanh(f(past)) * torch.sigmoid(g(past))
        return self.out(x.transpose(1, 2))


class UNet(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, n, 3, padding=1), nn.Conv2d(n, 2 * n, 3, padding=1)
        self.larger, self.up = nn.Upsample(scale_factor=2), nn.Conv2d(3 * n, n, 3, padding=1)
        self.out = nn.Conv2d(n, 1, 1)
        nn.init.normal_(self.out.weight, std=1 / n)

    def forward(self, x):
        one = F.relu(self.down1(x))
        two = F.relu(self.down2(F.max_pool2d(one, 2)))
        return self.out(F.relu(self.up(torch.cat([self.larger(two), one], 1))))


class Patches(nn.Module):
    """A vision transformer in the manner of timm: patches by a convolution, a class token, `trunc_normal_`."""

    def __init__(self, n: int):
        super().__init__()
        self.patch, self.head = nn.Conv2d(3, n, 4, stride=4), small(nn.Linear(n, 4))
        self.token, self.place = nn.Parameter(torch.randn(1, 1, n)), nn.Parameter(torch.zeros(1, 5, n))
        self.norm, self.qkv, self.proj = nn.LayerNorm(n), nn.Linear(n, 3 * n), nn.Linear(n, n)
        self.scale = nn.Parameter(0.1 * torch.ones(n))
        nn.init.trunc_normal_(self.place, std=0.02)
        nn.init.trunc_normal_(self.qkv.weight, std=0.02)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
        b, t, n = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, t, 3, 2, n // 2).permute(2, 0, 3, 1, 4).unbind(0)
        y = ((q @ k.transpose(-2, -1) / n).softmax(-1) @ v).transpose(1, 2).reshape(b, t, n)
        return self.head((x + self.scale * self.proj(y))[:, 0])


class Selective(nn.Module):
    """A state space model with a state for each neuron, in the manner of Mamba."""

    def __init__(self, n: int, states: int = 3):
        super().__init__()
        self.emb, self.out, self.step = nn.Embedding(5, n), small(nn.Linear(n, 5)), nn.Linear(n, n)
        self.conv = nn.Conv1d(n, n, 2, padding=1, groups=n)
        self.read = small(nn.Linear(n, 2 * states, bias=False))
        self.decay = nn.Parameter(torch.log(torch.arange(1.0, states + 1)).repeat(n, 1))

    def forward(self, x):
        x = self.emb(x)
        u = F.silu(self.conv(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
        b, c = self.read(u).chunk(2, -1)
        step, rate = F.softplus(self.step(u))[..., None], -torch.exp(self.decay)
        state, found = torch.zeros(*u[:, 0].shape, b.shape[-1]), []
        for t in range(u.shape[1]):
            state = torch.exp(step[:, t] * rate) * state + step[:, t] * b[:, t, None] * u[:, t, :, None]
            found.append((state * c[:, t, None]).sum(-1))
        return self.out(torch.stack(found, 1) + u)


class Rotary(nn.Module):
    """Two heads that grow: the frequencies are a table along the width."""

    def __init__(self, n: int):
        super().__init__()
        self.emb, self.q, self.k, self.v = nn.Embedding(5, n), *(nn.Linear(n, n, bias=False) for _ in range(3))
        self.out = small(nn.Linear(n, 5))
        size = n // 2
        self.register_buffer("frequency", 1 / (100 ** (torch.arange(0, size, 2).float() / size)))

    def turned(self, x):
        angle = torch.outer(torch.arange(x.shape[-2]).to(self.frequency), self.frequency)
        angle = torch.cat([angle, angle], -1)
        one, other = x.chunk(2, -1)
        return x * angle.cos() + torch.cat([-other, one], -1) * angle.sin()

    def forward(self, x):
        x = self.emb(x)
        b, t, n = x.shape
        q, k, v = (f(x).view(b, t, 2, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(self.turned(q), self.turned(k), v, is_causal=True, scale=2 / n)
        return self.out(y.transpose(1, 2).reshape(b, t, n))


class Fixed(nn.Module):
    """Random features, and positions as in the first transformer: buffers along the width."""

    def __init__(self, n: int):
        super().__init__()
        self.hidden, self.out = nn.Linear(2 * n, n), small(nn.Linear(n, 1))
        self.register_buffer("features", torch.randn(3, n))
        table, place = torch.zeros(4, n), torch.arange(4.0)[:, None]
        rate = torch.exp(torch.arange(0, n, 2) * (-math.log(100) / n))
        table[:, 0::2], table[:, 1::2] = torch.sin(place * rate), torch.cos(place * rate)
        self.register_buffer("places", table)

    def forward(self, x):
        angle = x @ self.features
        return self.out(torch.relu(self.hidden(torch.cat([angle.sin(), angle.cos() + self.places], -1))))


class Recurrent(nn.Module):
    def __init__(self, n: int, kind: Callable[..., nn.Module], both: bool = False, **options: Any):
        super().__init__()
        self.layer = kind(3, n, batch_first=True, bidirectional=both, **options)
        self.out = small(nn.Linear((1 + both) * n, 2))

    def forward(self, x):
        return self.out(self.layer(x)[0])


class Heads(nn.Module):
    """Attention by einsum, with weights for each head."""

    def __init__(self, n: int):
        super().__init__()
        self.n, self.read, self.out = n, nn.Linear(3, n), small(nn.Linear(n, 1))
        self.q, self.k, self.v = (nn.Parameter(torch.randn(n, 2, n // 2) / n**0.5) for _ in range(3))
        self.o = nn.Parameter(torch.randn(2, n // 2, n) / n**0.5)

    def forward(self, x):
        x = self.read(x)
        q, k, v = (torch.einsum("...td,dhe->...hte", x, w) for w in (self.q, self.k, self.v))
        a = (torch.einsum("bhte,bhse->bhts", q, k) / self.n).softmax(-1)
        return self.out(torch.einsum("bhts,bhse,hed->btd", a, v, self.o))


class Both(nn.Module):
    """Encoder and decoder."""

    def __init__(self, n: int):
        super().__init__()
        self.read, self.out = nn.Linear(3, n), small(nn.Linear(n, 1))
        self.body = nn.Transformer(n, 2, 1, 1, 2 * n, batch_first=True)

    def forward(self, x):
        x = self.read(x)
        return self.out(self.body(x, x[:, :3]))


class Likelihood(nn.Module):
    """The loss inside the module."""

    def __init__(self, n: int):
        super().__init__()
        self.emb, self.out = nn.Embedding(5, n), small(nn.Linear(n, 5))

    def forward(self, x):
        logits = self.out(F.relu(self.emb(x)))
        chosen = F.log_softmax(logits, -1).gather(-1, x.roll(-1, 1)[..., None]).mean()
        return {"loss": F.cross_entropy(logits.view(-1, 5), x.roll(1, 1).view(-1)), "chosen": chosen}


def written_over(m, x):
    y = torch.zeros_like(x)
    y[:, 1:] = m.fc(x[:, :-1])
    y[:, 0] = x[:, 2]
    return y


def entrywise(m, x):
    y = m.fc(x)
    found = F.celu(x) + F.elu(y, 0.5) + F.softplus(x, beta=2) + F.hardtanh(x, -2, 2) + F.threshold(x, 0.1, 0.0)
    return found + F.softshrink(y) + F.tanhshrink(x) + m.slopes(y) + m.slope(x) + F.glu(torch.cat([x, y], -1))


def neighbours(m, x):
    y = m.fc(F.relu(x))[torch.tensor([0, 1, 2, 3, 1])]
    return x + torch.zeros_like(x).index_add(0, torch.tensor([1, 2, 3, 0, 0]), y)


def normed(m, x):
    y = F.normalize(m.fc(F.relu(x)), dim=-1)
    return m.fc(x) * (y @ y.T).mean() * F.cosine_similarity(x, m.fc(x))[:, None] / x.std(0).mean()


def pooled(m, x):
    x = m.conv(F.avg_pool2d(F.max_pool2d(x, 3, 2, 1), 2, 1, 1, count_include_pad=False))
    return F.adaptive_max_pool2d(F.adaptive_avg_pool2d(x, (3, 2)), (2, 1)) + F.max_pool2d(x, 2, 2, ceil_mode=True)[
        ..., :1
    ].amax(2, keepdim=True)


IMAGE, SIGNAL, SEQUENCE = _numbers(2, 3, 6, 6), _numbers(2, 3, 7), _numbers(2, 4, 3)
#: name -> factory, example input
LAYERS: dict[str, tuple[Callable[[int], nn.Module], torch.Tensor]] = {
    "transposed convolution": (
        lambda n: images(n, lambda m, x: F.relu(m.up(x)), up=nn.ConvTranspose2d(n, n, 2, stride=2)),
        _numbers(2, 3, 3, 3),
    ),
    "transposed, padded, dilated": (
        lambda n: signals(
            n, lambda m, x: F.relu(m.up(x)), 2, up=nn.ConvTranspose1d(n, 2 * n, 3, 2, 2, 1, dilation=2)
        ),
        SIGNAL,
    ),
    "dilated, padded": (
        lambda n: signals(n, lambda m, x: m.conv(x), conv=nn.Conv1d(n, n, 3, padding=2, dilation=2)),
        SIGNAL,
    ),
    "causal": (WaveNet, SIGNAL),
    **{
        f"{mode} padding": (
            lambda n, mode=mode: signals(n, lambda m, x: m.conv(x), conv=nn.Conv1d(n, n, 3, padding=2, padding_mode=mode)),
            SIGNAL,
        )
        for mode in ("reflect", "replicate", "circular")
    },
    "pooling": (lambda n: images(n, pooled, conv=nn.Conv2d(n, n, 1)), IMAGE),
    "instance norm": (lambda n: images(n, lambda m, x: F.relu(m.norm(x)), norm=nn.InstanceNorm2d(n, affine=True)), IMAGE),
    "pixel shuffle": (
        lambda n: images(n, lambda m, x: F.relu(F.pixel_shuffle(m.wide(x), 2)), wide=nn.Conv2d(n, 4 * n, 1)),
        _numbers(2, 3, 3, 3),
    ),
    "u-net": (UNet, _numbers(1, 3, 4, 4)),
    "bilinear resampling": (
        lambda n: images(n, lambda m, x: F.relu(m.conv(F.interpolate(x, (5, 8), mode="bilinear"))), conv=nn.Conv2d(n, n, 1)),
        IMAGE,
    ),
    "vision transformer": (Patches, _numbers(2, 3, 8, 8)),
    "state space": (Selective, TOKENS),
    "rotary over the width": (Rotary, TOKENS),
    "buffers along the width": (Fixed, SEQUENCE),
    "lstm, two layers, both ways": (lambda n: Recurrent(n, nn.LSTM, True, num_layers=2), SEQUENCE),
    "gru, two layers": (lambda n: Recurrent(n, nn.GRU, num_layers=2), SEQUENCE),
    "rnn": (lambda n: Recurrent(n, nn.RNN, nonlinearity="relu"), SEQUENCE),
    "einsum": (Heads, SEQUENCE),
    "encoder and decoder": (Both, SEQUENCE),
    "a loss": (Likelihood, TOKENS),
    "written over": (lambda n: tokens(n, written_over, fc=linear(n)), TOKENS),
    "entry by entry": (
        lambda n: vectors(n, entrywise, fc=linear(n), slopes=nn.PReLU(n), slope=nn.PReLU()),
        _numbers(4, 3),
    ),
    "a graph": (lambda n: vectors(n, neighbours, fc=linear(n)), _numbers(4, 3)),
    "norms": (lambda n: vectors(n, normed, fc=linear(n)), _numbers(4, 3)),
    "bags": (
        lambda n: Read(n, lambda m, x: F.relu(m.fc(m.bag(x))), bag=nn.EmbeddingBag(5, n), fc=linear(n)),
        TOKENS,
    ),
}  # fmt: skip
