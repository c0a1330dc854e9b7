"""muP in a training script of nanoGPT, in five lines: the best learning rate of a narrow GPT is that of wide ones.

Everything except the five lines marked `muP` is an ordinary script: one standard deviation for all weights, a tied readout,
AdamW. Run it: it trains GPTs of three widths at several learning rates, first without these lines and then with them, on the
texts of Python's own help, and prints the losses. Without muP the best learning rate falls as the width grows; with muP it stays.
"""

from __future__ import annotations

import math
from pydoc_data.topics import topics

import torch
from torch import nn
from torch.nn import functional as F

import tp_compiler.torch as tpt

BASE = 32  # the width at which hyperparameters are tuned
WIDTHS = (32, 64, 128)
RATES = [2.0**-k for k in (9, 8, 7, 6)]
HEADS, LAYERS, CONTEXT, BATCH, STEPS = 4, 2, 16, 16, 40
STD = 0.1  # GPT-2 has 0.02 at width 768, as large a sum over its inputs

TEXT = "".join(topics[name] for name in sorted(topics))[:200_000]
LETTERS = sorted(set(TEXT))
DATA = torch.tensor([LETTERS.index(letter) for letter in TEXT])


class Block(nn.Module):
    def __init__(self, n: int, mup: bool):
        super().__init__()
        self.scale = math.sqrt(n / HEADS) / (n / HEADS)
        if mup:
            self.scale = math.sqrt(BASE / HEADS) / (n / HEADS)  # muP: attention is scaled by 1/d
        self.ln_1, self.attn, self.proj = nn.LayerNorm(n), nn.Linear(n, 3 * n), nn.Linear(n, n)
        self.ln_2, self.up, self.down = nn.LayerNorm(n), nn.Linear(n, 4 * n), nn.Linear(4 * n, n)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, n = x.shape
        q, k, v = (h.view(b, t, HEADS, -1).transpose(1, 2) for h in self.attn(self.ln_1(x)).split(n, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, n))
        return x + self.down(F.gelu(self.up(self.ln_2(x))))


class GPT(nn.Module):
    def __init__(self, n: int, mup: bool = True):
        super().__init__()
        self.multiplier = BASE / n if mup else 1.0  # muP: a tied readout is multiplied by 1/n
        self.wte, self.wpe = nn.Embedding(len(LETTERS), n), nn.Embedding(CONTEXT, n)
        self.blocks = nn.ModuleList(Block(n, mup) for _ in range(LAYERS))
        self.ln_f, self.head = nn.LayerNorm(n), nn.Linear(n, len(LETTERS), bias=False)
        self.head.weight = self.wte.weight
        for name, p in self.named_parameters():
            if p.ndim > 1:
                nn.init.normal_(p, std=STD)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln_f(x)) * self.multiplier


def batch(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    starts = torch.randint(len(DATA) - CONTEXT - 1, (BATCH,), generator=generator)
    rows = torch.stack([DATA[k : k + CONTEXT + 1] for k in starts])
    return rows[:, :-1], rows[:, 1:]


def train(n: int, lr: float, scaling: tpt.TorchScaling | None) -> float:
    """The mean loss of the last steps."""
    torch.manual_seed(0)
    model, generator = GPT(n, mup=scaling is not None), torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    if scaling is not None:
        scaling.init_(model, base_width=BASE)  # muP
        optimizer = torch.optim.AdamW(scaling.param_groups(model, base_width=BASE, lr=lr, weight_decay=0.01))  # muP
    losses = []
    for _ in range(STEPS):
        tokens, targets = batch(generator)
        loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses[-5:]) / 5


def table(scaling: tpt.TorchScaling | None) -> dict[int, list[float]]:
    """The losses of each width, and its best learning rate."""
    print(f"{'width':>6}" + "".join(f"{f'lr 2^{round(math.log2(lr))}':>9}" for lr in RATES) + "   best")
    found = {}
    for n in WIDTHS:
        found[n] = [train(n, lr, scaling) for lr in RATES]
        best = RATES[found[n].index(min(found[n]))]
        print(f"{n:>6}" + "".join(f"{x:>9.3f}" for x in found[n]) + f"   2^{round(math.log2(best))}")
    return found


def main() -> tuple[dict[int, list[float]], dict[int, list[float]]]:
    example = batch(torch.Generator().manual_seed(0))[0][:2, :4]
    scaling = tpt.trace(GPT, (example,), widths=(BASE, 2 * BASE), base_width=BASE).scale("AdamW")  # muP
    print("without muP")
    without = table(None)
    print("\nwith muP, groups at width", WIDTHS[-1])
    for group in scaling.param_groups(GPT(WIDTHS[-1]), base_width=BASE, lr=RATES[0]):
        print(
            f"  {group['name']:>6}: lr {group['lr']:.3g}, eps {group['eps']:.3g}, weight decay {group['weight_decay']:.3g}"
        )
    return without, table(scaling)


if __name__ == "__main__":
    main()
