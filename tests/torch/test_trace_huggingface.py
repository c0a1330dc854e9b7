"""Configurations of HuggingFace's transformers, with random weights; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch import nn  # noqa: E402

import tp_compiler as tpc  # noqa: E402
import tp_compiler.torch as tpt  # noqa: E402
from tests.torch.test_trace_scale import losses, program  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.usefixtures("single_precision")]
TOKENS = torch.tensor([[0, 1, 2, 3], [3, 4, 1, 0]])


class Logits(nn.Module):
    """The logits, times muP's multiplier."""

    def __init__(self, model: nn.Module, multiplier: float):
        super().__init__()
        self.model, self.multiplier = model, multiplier

    def forward(self, tokens):
        return self.model(input_ids=tokens, use_cache=False, return_dict=False)[0] * self.multiplier


def gpt2(n: int, heads: int = 2) -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=11, n_positions=8, n_embd=n, n_layer=2, n_head=heads, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config).eval()


def llama(n: int) -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=11, hidden_size=n, intermediate_size=2 * n, num_hidden_layers=2, num_attention_heads=n // 4,
        num_key_value_heads=n // 8, head_dim=4, max_position_embeddings=8,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("model", "tolerance"), [(gpt2, 1e-10), (llama, 1e-6)], ids=["gpt2", "llama"])
def test_forward_is_that_of_the_model(model: Callable[[int], nn.Module], tolerance: float) -> None:
    """Llama computes norms and positions in single precision, whatever its weights are."""
    made = tpt.trace(lambda n: Logits(model(n), 1 / n), (TOKENS,), (32, 64))
    module = Logits(model(96), 1 / 96).double()
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(8)
    out = module(TOKENS)
    assert made.compare(module, 96) < tolerance * out.abs().max().item()
    assert not [p for p in made.parameters.values() if p.kind == "scalar"]
    assert any("0.02 at n = 32" in note for note in made.report)


@pytest.mark.filterwarnings("default")
def test_tied_logits_without_a_multiplier_are_refused() -> None:
    with pytest.raises(tpc.ProgramError, match=r"n\^1 at"):
        tpt.trace(lambda n: Logits(gpt2(n), 1.0), (TOKENS,), (32, 64))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("model", [lambda n: gpt2(n, n // 16), llama], ids=["gpt2", "llama"])
def test_groups_in_natural_units_train_as_the_program_does(model: Callable[[int], nn.Module]) -> None:
    """Of heads of one size: as wide as there are many."""
    made = tpt.trace(lambda n: Logits(model(n), 1 / n), (TOKENS,), (32, 64))
    figures = {"lr": 0.03, "eps": 0.02}
    scaling = made.scale("Adam")
    torch.manual_seed(0)
    module = scaling.init_(Logits(model(96), 1 / 96), None).double()
    text = program(made, "update all with Adam(lr = 0.03, eps = 0.02)")
    run = tpc.simulate(text, 96, weights=made.weights(module, 96))
    found = losses(module, scaling.param_groups(module, None, **figures), "Adam", TOKENS)
    assert found[0] - found[-1] > 0.03
    np.testing.assert_allclose(run["loss"], found, rtol=0, atol=1e-8)
