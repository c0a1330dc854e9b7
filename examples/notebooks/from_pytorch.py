# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From PyTorch
#
# A GPT as nanoGPT has it, unchanged: what does it become as its width grows, why do its hyperparameters not transfer to larger
# widths, and which lines make them? Needs the extra `torch`.

# %%
import importlib.util
import math

import torch
from torch import nn
from torch.nn import functional as F

import tp_compiler as tpc
import tp_compiler.torch as tpt
from tp_compiler import ProgramError

torch.manual_seed(0)


class Block(nn.Module):
    def __init__(self, n, heads, attention):
        super().__init__()
        self.heads, self.scale = heads, attention(n // heads)
        self.ln_1, self.c_attn, self.c_proj = nn.LayerNorm(n), nn.Linear(n, 3 * n), nn.Linear(n, n)
        self.ln_2, self.c_fc, self.proj = nn.LayerNorm(n), nn.Linear(n, 4 * n), nn.Linear(4 * n, n)

    def forward(self, x):
        b, t, n = x.shape
        q, k, v = (y.view(b, t, self.heads, -1).transpose(1, 2) for y in self.c_attn(self.ln_1(x)).split(n, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        x = x + self.c_proj(y.transpose(1, 2).reshape(b, t, n))
        return x + self.proj(F.gelu(self.c_fc(self.ln_2(x))))


class GPT(nn.Module):
    def __init__(
        self, n, multiplier=1.0, attention=lambda d: 1 / math.sqrt(d), vocabulary=8, context=4, layers=2, heads=4
    ):
        super().__init__()
        self.multiplier = multiplier
        self.wte, self.wpe = nn.Embedding(vocabulary, n), nn.Embedding(context, n)
        self.h = nn.ModuleList(Block(n, heads, attention) for _ in range(layers))
        self.ln_f, self.lm_head = nn.LayerNorm(n), nn.Linear(n, vocabulary, bias=False)
        self.lm_head.weight = self.wte.weight  # tied
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(p)
            elif p.ndim == 2:
                nn.init.normal_(p, std=0.1)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.h:
            x = block(x)
        return self.multiplier * self.lm_head(self.ln_f(x))


tokens = torch.randint(8, (2, 4))
targets = tokens.roll(-1, 1)

# %% [markdown]
# ## What is wrong with it
#
# `trace` builds the module at two widths and compares. It refuses this one, and the reason is the fault that everyone makes with
# tied readouts:

# %%
try:
    tpt.trace(GPT, (tokens,), widths=(64, 128))
except ProgramError as error:
    print(error)

# %% [markdown]
# `coord_check` tells the whole story. It reads initial values, learning rates and scales as powers of the width, and measures
# activations and their updates in networks of several widths:


# %%
def loss_step(model, step):
    return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())


def check(factory, optimizer):
    return tpt.coord_check(factory, loss_step, widths=(32, 64, 128), steps=2, seeds=3, optimizer=optimizer)


before = check(GPT, lambda model: torch.optim.AdamW(model.parameters(), lr=1e-2))
for problem in before.problems:
    print(problem)

# %%
before.plot()

# %% [markdown]
# ## muP
#
# Two multipliers in the forward pass: 1/n at the tied readout, and attention scaled by 1/d. Both are 1, or 1/√d, at the base width,
# so that there the model is the same.

# %%
BASE = 32


def mup_gpt(n):
    return GPT(n, multiplier=BASE / n, attention=lambda d: math.sqrt(BASE // 4) / d)


traced = tpt.trace(mup_gpt, (tokens,), widths=(BASE, 2 * BASE), base_width=BASE)
print(traced.text)

# %% [markdown]
# The program is the module: run on a model's own weights, at a width that was not traced, it returns the model's outputs.

# %%
traced.compare(mup_gpt(96), 96)

# %% [markdown]
# Initial values and learning rates follow from the program. At the base width every group has the given learning rate:

# %%
scaling = traced.scale("AdamW")
for group in scaling.param_groups(mup_gpt(256), base_width=BASE, lr=1e-2, weight_decay=0.1):
    print({key: value for key, value in group.items() if key != "params"})


# %%
def started(n):
    model = mup_gpt(n)
    scaling.init_(model, base_width=BASE)
    return model


def optimizer(model):
    return torch.optim.AdamW(scaling.param_groups(model, base_width=BASE, lr=1e-2, weight_decay=0.1))


after = check(started, optimizer)
assert after.passed
after.plot()

# %% [markdown]
# ## The limit of training
#
# `traced.train` takes loss, targets and the optimizer of a model, and is the training of the infinitely wide model. Networks trained
# by PyTorch approach it:

# %%
STEPS = 4
loop = traced.train(loss="cross_entropy", targets=targets, optimizer=optimizer(started(BASE)), steps=STEPS)
limit = tpc.limit(loop, samples=1024, replicates=4, only=["loss"])
limit

# %% [markdown]
# The same training by PyTorch, averaged over four seeds:


# %%


def trained(n, seed):
    torch.manual_seed(seed)
    model = started(n)
    steps, losses = optimizer(model), []
    for step in range(STEPS + 1):
        loss = loss_step(model, step)
        losses.append(loss.item())
        steps.zero_grad()
        loss.backward()
        steps.step()
    return losses


curves = {n: torch.tensor([trained(n, seed) for seed in range(4)]).mean(0) for n in (32, 64, 128, 256)}
for n, curve in curves.items():
    print(f"n = {n:3}", *(f"{x:7.4f}" for x in curve))

# %% [markdown]
# ## HuggingFace
#
# A configuration is enough, with random weights. This is GPT-2 with the 1/n of its tied readout:

# %%
if importlib.util.find_spec("transformers"):
    from transformers import GPT2Config, GPT2LMHeadModel

    class Logits(nn.Module):
        def __init__(self, n):
            super().__init__()
            config = GPT2Config(n_embd=n, n_head=4, n_layer=2, vocab_size=8, n_positions=4)
            self.n, self.model = n, GPT2LMHeadModel(config)

        def forward(self, tokens):
            return self.model(input_ids=tokens, use_cache=False, return_dict=False)[0] / self.n

    gpt2 = tpt.trace(Logits, (tokens,), widths=(64, 128))
    print(gpt2)
    print("largest difference:", gpt2.compare(Logits(96), 96))
else:
    print("pip install transformers, to run this cell")
