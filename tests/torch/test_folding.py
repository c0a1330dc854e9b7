"""Repeated blocks of a traced module are loops over families: the program is short, and still the module."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import tp_compiler as tpc  # noqa: E402
import tp_compiler.torch as tpt  # noqa: E402
from tests.torch.modules import GPT, TOKENS, Block, _numbers, network, small  # noqa: E402
from tests.torch.test_trace import losses, trained_text  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("single_precision")]
WIDTHS, UNSEEN = (32, 64), 96


class Layer(nn.Module):
    def __init__(self, n: int, std: float = 1.0):
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(n), nn.Linear(n, n)
        nn.init.normal_(self.fc.weight, std=std / n**0.5)

    def forward(self, x):
        return torch.tanh(self.fc(self.norm(x)))


class Stack(nn.Module):
    """`run` says what is done with the layers; what it returns is read out."""

    def __init__(self, n: int, run, layers: int = 3, stds=None, count: int = 1):
        super().__init__()
        self.run, self.read, self.out = run, nn.Linear(3, n), small(nn.Linear(n, 1, bias=False))
        self.layers = nn.ModuleList(Layer(n, stds[k] if stds else 1.0) for k in range(layers))
        self.others = nn.ModuleList(Layer(n) for _ in range(layers if count > 1 else 0))
        self.gates = nn.ParameterList(nn.Parameter(torch.randn(4, 4)) for _ in range(layers if count > 2 else 0))
        for k in range(layers):
            self.register_buffer(f"mask{k}", (torch.arange(4.0)[:, None] + k).sin())

    def forward(self, x):
        found = self.run(self, self.read(x))
        return {f"y{k}": self.out(h).squeeze(-1) for k, h in enumerate(found if isinstance(found, list) else [found])}


def hidden(m, x):
    """Every hidden state is returned, and the first one enters every layer."""
    found, first = [], x
    for layer in m.layers:
        x = x + layer(x) + first
        found.append(x)
    return found


def ladder(m, x):
    """Every layer of the second list reads one of the first, backwards."""
    found = []
    for layer in m.layers:
        x = layer(x)
        found.append(x)
    for layer in m.others:
        x = layer(x) + found.pop()
    return x


def swapped(m, x):
    """Two states: the old one is needed after the new one is known."""
    y = torch.relu(x)
    for layer in m.layers:
        new = y + layer(x) * torch.cos(y)
        x, y = new, x * torch.sigmoid(new)
    return [x, y]


def tied(m, x):
    for _ in range(4):
        x = torch.relu(x + m.layers[0](x))
    return x


def masked(m, x):
    for k, layer in enumerate(m.layers):
        x = layer(x) * getattr(m, f"mask{k}") + x
    return x


def gated(m, x):
    for layer, gate in zip(m.layers, m.gates, strict=True):
        x = torch.relu(gate @ layer(x)) + x
    return x


def plain(m, x):
    for layer in m.layers:
        x = layer(x) + x
    return x


def twice(m, x):
    for layer, other in zip(m.layers, m.others, strict=True):
        x = layer(x) + x
        x = other(x) + torch.relu(x)
    return x


def stacked(m, x):
    """All states are put together at the end."""
    found = []
    for layer in m.layers:
        x = layer(x)
        found.append(x)
    return torch.relu(torch.stack(found)).sum(0)


#: name -> what is done with the layers, how often `tanh` is written, options
STACKS = {
    "hidden states": (hidden, 1, {}),
    "a ladder": (ladder, 3, {"count": 2}),
    "two states": (swapped, 1, {}),
    "one layer, tied": (tied, 1, {}),
    "masks": (masked, 1, {}),
    "matrices without width": (gated, 1, {"count": 3}),
    "twelve layers": (plain, 1, {"layers": 12}),
    "two lists": (twice, 2, {"count": 2}),
    "all together": (stacked, 1, {}),
}


@pytest.mark.parametrize("name", STACKS)
def test_loops_are_the_module(name: str) -> None:
    run, often, options = STACKS[name]
    x = _numbers(4, 3)
    factory = lambda n: Stack(n, run, **options)  # noqa: E731
    made = tpt.trace(factory, (x,), WIDTHS)
    module = network(factory, UNSEEN, seed=3)
    assert made.text.count("tanh(") == often, made.text
    assert made.compare(module, UNSEEN) < 1e-10
    run_ = tpc.simulate(trained_text(made), UNSEEN, weights=made.weights(module, UNSEEN))
    np.testing.assert_allclose(run_["loss"], losses(made, module, x), rtol=0, atol=1e-10)


def test_a_deep_gpt_is_as_short_as_a_shallow_one() -> None:
    class Deep(GPT):
        def __init__(self, n: int, depth: int):
            super().__init__(n)
            self.blocks = nn.ModuleList(Block(n, 2) for _ in range(depth))

    one, twelve = (tpt.trace(lambda n, d=d: Deep(n, d), (TOKENS,), WIDTHS) for d in (1, 12))
    assert len(twelve.text.splitlines()) <= len(one.text.splitlines()) + 5
    parameter = twelve.parameters["blocks.10.attn.c_attn.weight"]
    assert (parameter.name, parameter.member, len(parameter.axes)) == ("blocks_attn_c_attn", (11,), 3)
    torch.manual_seed(0)
    module = Deep(UNSEEN, 12)
    assert twelve.weights(module)["blocks_fc"].shape == (12, 4 * UNSEEN, UNSEEN)
    np.testing.assert_allclose(twelve.weights(module)["blocks_fc"][7], module.blocks[7].fc.weight.detach().double())
    assert twelve.compare(module, UNSEEN) < 1e-10
    assert "blocks.{0..11}.fc.weight: matrix blocks_fc[l]" in str(twelve)


def test_laws_that_differ_stay_apart() -> None:
    made = tpt.trace(lambda n: Stack(n, plain, stds=(1.0, 1.0, 2.0)), (_numbers(4, 3),), WIDTHS)
    assert {made.parameters[f"layers.{k}.fc.weight"].law for k in (0, 1, 2)} == {"N(0, 1)", "N(0, 4)"}
    torch.manual_seed(0)
    assert made.compare(Stack(UNSEEN, plain, stds=(1.0, 1.0, 2.0)), UNSEEN) < 1e-10


def test_layers_with_names_of_their_own_keep_them() -> None:
    class Named(nn.Module):
        def __init__(self, n: int):
            super().__init__()
            self.read, self.fc1, self.fc2, self.fc3 = nn.Linear(3, n), *(nn.Linear(n, n) for _ in range(3))
            self.out = small(nn.Linear(n, 1))

        def forward(self, x):
            x = self.read(x)
            for layer in (self.fc1, self.fc2, self.fc3):
                x = F.relu(layer(x))
            return self.out(x)

    made = tpt.trace(Named, (_numbers(4, 3),), WIDTHS)
    assert [made.parameters[f"fc{k}.weight"].name for k in (1, 2, 3)] == ["fc1", "fc2", "fc3"]
