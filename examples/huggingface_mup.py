"""muP for a model of HuggingFace, from its configuration: what is wrong with it, its parameter groups, and a coordinate check.

Change `config` to your own. Weights are random, nothing is downloaded. Needs `pip install -e ".[transformers]"`; takes about a minute.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

import tp_compiler.torch as tpt

BASE, HEADS = 32, 4  # the width at which learning rates are tuned
TOKENS = torch.randint(64, (4, 8), generator=torch.Generator().manual_seed(0))


def config(n: int) -> GPT2Config:
    return GPT2Config(
        n_embd=n, n_head=HEADS, n_layer=2, vocab_size=64, n_positions=8, initializer_range=0.1, bos_token_id=0, eos_token_id=0,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip


class Model(nn.Module):
    """GPT-2, and with muP the two factors that its forward pass needs: 1/n at the tied readout, and attention scaled by 1/d."""

    def __init__(self, n: int, mup: bool = True):
        super().__init__()
        self.gpt, self.multiplier = GPT2LMHeadModel(config(n)), BASE / n if mup else 1.0
        if mup:
            for block in self.gpt.transformer.h:  # 1/d, which is the library's 1/√d at the base width
                block.attn.scaling = (BASE // HEADS) ** 0.5 / (n // HEADS)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.gpt(input_ids=tokens, use_cache=False, return_dict=False)[0] * self.multiplier


def loss_step(model: nn.Module, step: int) -> torch.Tensor:
    return F.cross_entropy(model(TOKENS[:, :-1]).flatten(0, 1), TOKENS[:, 1:].flatten())


def check(widths: tuple[int, ...] = (32, 64, 128, 256), mup: bool = True) -> tpt.CoordCheck:
    """With muP, and as the library has it: `tpc coord examples.huggingface_mup:check`."""
    scaling = (
        tpt.trace(Model, (TOKENS[:, :-1],), widths=(BASE, 2 * BASE), base_width=BASE).scale("AdamW") if mup else None
    )

    def factory(n: int) -> nn.Module:
        model = Model(n, mup)
        if scaling is not None:
            scaling.init_(model, base_width=BASE)
        return model

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        if scaling is None:
            return torch.optim.AdamW(model.parameters(), lr=1e-2)
        return torch.optim.AdamW(scaling.param_groups(model, base_width=BASE, lr=1e-2))

    return tpt.coord_check(factory, loss_step, widths=widths, steps=2, seeds=3, optimizer=optimizer)


def main() -> None:
    print("As the library has it:")
    for problem in check(mup=False).problems:
        print(" ", problem)
    print("\nWith muP:")
    scaling = tpt.trace(Model, (TOKENS[:, :-1],), widths=(BASE, 2 * BASE), base_width=BASE).scale("AdamW")
    for group in scaling.param_groups(Model(256), base_width=BASE, lr=1e-2):
        print(
            f"  {group['name']}: lr {group['lr']:.3g}, eps {group['eps']:.3g}, weight decay {group['weight_decay']:.3g}"
        )
    print("  coordinate check passed:", check().passed)


if __name__ == "__main__":
    main()
