"""The programs of this folder as PyTorch scripts of usual style: one function each, which returns the losses."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

WIDTH = 32
Losses = list[float]


def autoencoder() -> Losses:
    x = torch.randn(4, 5)
    net = nn.Sequential(
        nn.Linear(5, WIDTH, bias=False),
        nn.Tanh(),
        nn.Linear(WIDTH, WIDTH // 8, bias=False),
        nn.Tanh(),
        nn.Linear(WIDTH // 8, WIDTH, bias=False),
        nn.Tanh(),
        nn.Linear(WIDTH, 5, bias=False),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.mse_loss(net(x), x)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def batchnorm() -> Losses:
    x, y = torch.randn(4, 3), torch.tensor([1, -1, 0.5, 0])
    net = nn.Sequential(
        nn.Linear(3, WIDTH, bias=False),
        nn.ReLU(),
        nn.Linear(WIDTH, WIDTH, bias=False),
        nn.BatchNorm1d(WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, 1, bias=False),
    )
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.mse_loss(net(x)[:, 0], y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def classifier() -> Losses:
    x, c = torch.randn(5, 8, 6), torch.randint(10, (5, 8))
    net = nn.Sequential(
        nn.Linear(6, WIDTH, bias=False),
        nn.ReLU(),
        nn.Linear(WIDTH, WIDTH, bias=False),
        nn.ReLU(),
        nn.Linear(WIDTH, 10, bias=False),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    losses = []
    for batch, labels in zip(x, c, strict=True):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(batch), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def cnn() -> Losses:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, WIDTH, 3, padding=1, bias=False)
            self.second = nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1, bias=False)
            self.readout = nn.Linear(WIDTH, 3, bias=False)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.first(x))
            x = torch.relu(self.second(x))
            return self.readout(x.mean((2, 3)))

    im, c = torch.randn(3, 1, 6, 6), torch.tensor([0, 1, 2])
    net = Network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(im), c)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def dropout() -> Losses:
    x, y = torch.randn(3, 3), torch.tensor([1, -1, 0.5])
    net = nn.Sequential(
        nn.Linear(3, WIDTH, bias=False),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(WIDTH, WIDTH, bias=False),
        nn.ReLU(),
        nn.Linear(WIDTH, 1, bias=False),
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.mse_loss(net(x)[:, 0], y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def gpt() -> Losses:
    class Block(nn.Module):
        def __init__(self, heads: int) -> None:
            super().__init__()
            self.heads = heads
            self.norm, self.after = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
            self.out = nn.Linear(WIDTH, WIDTH, bias=False)
            self.mlp = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))

        def forward(self, x: Any) -> Any:
            b, s, _ = x.shape
            q, k, v = self.qkv(self.norm(x)).view(b, s, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(a.transpose(1, 2).reshape(b, s, -1))
            return x + self.mlp(self.after(x))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.positions = nn.Embedding(5, WIDTH), nn.Embedding(4, WIDTH)
            self.block = Block(2)
            self.norm = nn.LayerNorm(WIDTH)
            self.head = nn.Linear(WIDTH, 5, bias=False)

        def forward(self, tok: Any) -> Any:
            x = self.tokens(tok) + self.positions(torch.arange(tok.shape[1]))
            return self.head(self.norm(self.block(x)))

    tok = torch.tensor([[0, 1, 2, 3], [2, 0, 4, 1]])
    following = torch.tensor([[1, 2, 3, 4], [0, 4, 1, 3]])
    net = GPT()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.05)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(tok).flatten(0, 1), following.flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def infonce() -> Losses:
    x = torch.randn(4, 5)
    noise = 0.1**0.5 * torch.randn(4, 5)
    net = nn.Sequential(
        nn.Linear(5, WIDTH, bias=False),
        nn.Tanh(),
        nn.Linear(WIDTH, WIDTH, bias=False),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        a = F.rms_norm(net(x), (WIDTH,))
        b = F.rms_norm(net(x + noise), (WIDTH,))
        loss = F.cross_entropy(a @ b.T / WIDTH, torch.arange(4))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def lstm() -> Losses:
    class LSTM(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = nn.Linear(1, 4 * WIDTH)
            self.h = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
            self.readout = nn.Linear(WIDTH, 1, bias=False)

        def forward(self, x: Any) -> Any:
            h = c = torch.zeros(len(x), WIDTH)
            for s in range(x.shape[1]):
                i, f, o, g = (self.x(x[:, s, None]) + self.h(h)).chunk(4, -1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
            return self.readout(h)[:, 0]

    x, y = torch.randn(3, 4), torch.tensor([1, -1, 0.5])
    net = LSTM()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def moe() -> Losses:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, WIDTH, bias=False)
            self.router = nn.Linear(3, 4, bias=False)
            self.a = nn.Parameter(torch.randn(4, WIDTH, WIDTH) / WIDTH**0.5)
            self.b = nn.Parameter(torch.randn(4, WIDTH, WIDTH) / WIDTH**0.5)
            self.readout = nn.Linear(WIDTH, 1, bias=False)

        def forward(self, x: Any) -> Any:
            h = self.first(x)
            gate = torch.softmax(self.router(x), -1)
            experts = torch.einsum("mab,mib->mia", self.b, torch.relu(torch.einsum("mab,ib->mia", self.a, h)))
            return self.readout(h + torch.einsum("im,mia->ia", gate, experts))[:, 0]

    x, y = torch.randn(4, 3), torch.tensor([1, -1, 0.5, 0])
    net = Mixture()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def own_optimizer() -> Losses:
    class Lion(torch.optim.Optimizer):
        def __init__(self, params: Any, lr: float, betas: Any = (0.9, 0.99), decay: float = 0.1) -> None:
            super().__init__(params, {"lr": lr, "betas": betas, "decay": decay})

        @torch.no_grad()
        def step(self) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    m = self.state[p].setdefault("m", torch.zeros_like(p))
                    c = torch.lerp(p.grad, m, group["betas"][0])
                    m.lerp_(p.grad, 1 - group["betas"][1])
                    p -= group["lr"] * (torch.sign(c) + group["decay"] * p)

    class Clipped(torch.optim.Optimizer):
        def __init__(self, params: Any, lr: float) -> None:
            super().__init__(params, {"lr": lr})

        @torch.no_grad()
        def step(self) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    p -= group["lr"] * p.grad.clamp(-1, 1)

    x, y = torch.tensor([[1], [-0.5], [0.3]]), torch.tensor([1, -1, 0.5])
    first, middle, last = nn.Linear(1, WIDTH), nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, 1, bias=False)
    optimizers = [Lion(middle.parameters(), 0.05), Clipped([*first.parameters(), *last.parameters()], 0.2)]
    losses = []
    for _ in range(3):
        loss = F.mse_loss(last(torch.tanh(middle(torch.tanh(first(x)))))[:, 0], y)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
    return losses


def resnet() -> Losses:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, WIDTH, bias=False)
            self.blocks = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(16))
            self.readout = nn.Linear(WIDTH, 1, bias=False)

        def forward(self, x: Any) -> Any:
            h = self.first(x)
            for block in self.blocks:
                h = h + torch.relu(block(h)) / 4
            return self.readout(h)[:, 0]

    x, y = torch.randn(3, 4), torch.tensor([1, -1, 0.5])
    net = Network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def schedule() -> Losses:
    x, y = torch.tensor([[1], [-0.5], [0.3]]), torch.tensor([1, -1, 0.5])
    net = nn.Sequential(
        nn.Linear(1, WIDTH, bias=False),
        nn.ReLU(),
        nn.Linear(WIDTH, WIDTH, bias=False),
        nn.ReLU(),
        nn.Linear(WIDTH, 1, bias=False),
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9, weight_decay=0.01)
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 2) * (1 + math.cos(math.pi * step / 6)) / 2
    )
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = F.mse_loss(net(x)[:, 0], y)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1)
        optimizer.step()
        rates.step()
        losses.append(loss.item())
    return losses


def sweep() -> Losses:
    x, y = torch.tensor([[1], [-0.5], [0.3]]), torch.tensor([1, -1, 0.5])
    losses = []
    for lr in (0.05, 0.1, 0.2):
        net = nn.Sequential(
            nn.Linear(1, WIDTH, bias=False),
            nn.Tanh(),
            nn.Linear(WIDTH, WIDTH, bias=False),
            nn.Tanh(),
            nn.Linear(WIDTH, 1, bias=False),
        )
        optimizer = torch.optim.SGD(net.parameters(), lr=lr)
        for _ in range(3):
            optimizer.zero_grad()
            loss = F.mse_loss(net(x)[:, 0], y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def swiglu() -> Losses:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.RMSNorm(WIDTH)
            self.a, self.b, self.c = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))

        def forward(self, x: Any) -> Any:
            z = self.norm(x)
            return x + self.c(F.silu(self.a(z)) * self.b(z))

    x, y = torch.randn(3, 4), torch.tensor([1, -1, 0.5])
    net = nn.Sequential(
        nn.Linear(4, WIDTH, bias=False), Block(), Block(), nn.RMSNorm(WIDTH), nn.Linear(WIDTH, 1, bias=False)
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.05)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.mse_loss(net(x)[:, 0], y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def teacher_student() -> Losses:
    x, xt = torch.randn(6, 3), torch.randn(4, 3)
    teacher = nn.Sequential(nn.Linear(3, WIDTH, bias=False), nn.ReLU())
    student = nn.Sequential(nn.Linear(3, WIDTH, bias=False), nn.ReLU(), nn.Linear(WIDTH, 1, bias=False))
    nn.init.zeros_(student[2].weight)
    with torch.no_grad():
        y = teacher(x).mean(-1) - 0.5
        yt = teacher(xt).mean(-1) - 0.5
    optimizer = torch.optim.SGD(student.parameters(), lr=0.3)
    losses, test = [], []
    for _ in range(4):
        optimizer.zero_grad()
        loss = F.mse_loss(student(x)[:, 0], y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        with torch.no_grad():
            test.append(F.mse_loss(student(xt)[:, 0], yt).item())
    return losses + test


def vit() -> Losses:
    class Block(nn.Module):
        def __init__(self, heads: int) -> None:
            super().__init__()
            self.heads = heads
            self.norm, self.after = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
            self.out = nn.Linear(WIDTH, WIDTH, bias=False)
            self.mlp = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))

        def forward(self, x: Any) -> Any:
            b, s, _ = x.shape
            q, k, v = self.qkv(self.norm(x)).view(b, s, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, s, -1))
            return x + self.mlp(self.after(x))

    class ViT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(1, WIDTH, 2, stride=2, bias=False)
            self.positions = nn.Parameter(torch.randn(4, WIDTH))
            self.block = Block(2)
            self.norm = nn.LayerNorm(WIDTH)
            self.head = nn.Linear(WIDTH, 3, bias=False)

        def forward(self, x: Any) -> Any:
            z = self.patches(x).flatten(2).transpose(1, 2) + self.positions
            return self.head(self.norm(self.block(z)).mean(1))

    im, c = torch.randn(3, 1, 4, 4), torch.tensor([0, 1, 2])
    net = ViT()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.05)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(im), c)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
