"""Layers and idioms one by one: forward and training of the traced program are those of the module."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tp_compiler as tpc  # noqa: E402
import tp_compiler.torch as tpt  # noqa: E402
from tests.torch.layer_modules import LAYERS, Rotary  # noqa: E402
from tests.torch.modules import TOKENS, _numbers, network, small  # noqa: E402
from tests.torch.test_trace import losses, refused, trained_text  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.usefixtures("single_precision")]
WIDTHS, UNSEEN = (16, 32), 96


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_those_of_the_module(name: str) -> None:
    factory, x = LAYERS[name]
    made = tpt.trace(factory, (x,), WIDTHS)
    module = network(factory, UNSEEN, seed=5)
    assert made.compare(module, UNSEEN) < 1e-10
    assert set(made.parameters) == {n for n, _ in module.named_parameters()}
    if name == "encoder and decoder":
        return  # logits of 1/sqrt(d) are `clt` brackets, whose natural gradients are those of muP's
    torch.set_default_dtype(torch.float64)
    run = tpc.simulate(trained_text(made), UNSEEN, weights=made.weights(module, UNSEEN))
    np.testing.assert_allclose(run["loss"], losses(made, module, x), rtol=0, atol=1e-10)


def test_frequencies_are_drawn_from_their_geometric_series() -> None:
    made = tpt.trace(Rotary, (TOKENS,), WIDTHS)
    assert "frozen" in made.text and any("table along the width" in note for note in made.report)
    (rows,) = [line for line in made.text.splitlines() if line.startswith("data frequency_table")]
    values = np.array(eval(rows.partition(" = ")[2]))
    np.testing.assert_allclose(np.mean(np.log(values)), -np.log(100) / 2, rtol=1e-3)  # 100^-u, u uniform


def test_weights_that_vanish_in_recurrent_layers_are_noted() -> None:
    made = tpt.trace(LAYERS["rnn"][0], (LAYERS["rnn"][1],), WIDTHS)
    assert made.parameters["layer.weight_ih_l0"].law == "0"
    assert any("weight_ih_l0" in note for note in made.report)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda n: nn.utils.parametrizations.weight_norm(nn.Linear(n, n)), "entries of a weight matrix"),
        (lambda n: nn.utils.parametrizations.spectral_norm(nn.Linear(n, n)), None),
        (lambda n: nn.Softmax(-1), "grows with the width"),
        (lambda n: nn.AdaptiveAvgPool1d(4), None),
        (lambda n: nn.LPPool1d(3, 2), None),
    ],
)
def test_what_is_refused_names_the_module(layer, words: str | None) -> None:
    message = refused(lambda n: nn.Sequential(nn.Linear(3, n), layer(n), small(nn.Linear(n, 1))), _numbers(4, 3))
    assert "error[NX7" in message
    assert words is None or words in message


def test_a_bilinear_form_of_neurons_is_refused() -> None:
    class Form(nn.Module):
        def __init__(self, n: int):
            super().__init__()
            self.read, self.form = nn.Linear(3, n), nn.Bilinear(n, n, 2)

        def forward(self, x):
            return self.form(self.read(x), self.read(x))

    assert "`form`" in refused(Form, _numbers(4, 3))
