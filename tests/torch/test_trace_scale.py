"""`traced.scale`: parameter groups and initial values by torch's names, against the program's own training, tables and limit."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tp_compiler as tpc  # noqa: E402
import tp_compiler.torch as tpt  # noqa: E402
from tests.torch.modules import FAMILIES  # noqa: E402
from tests.torch.test_trace import UNSEEN, traced  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("single_precision")]

#: In the program, and the class of torch.optim with what is not in groups.
OPTIMIZERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "SGD": ("SGD(lr = 0.05)", "SGD", {"lr": 0.05}),
    "Momentum": ("SGD(lr = 0.03, momentum = 0.8)", "SGD", {"lr": 0.03, "momentum": 0.8}),
    "Adam": ("Adam(lr = 0.03, eps = 0.02)", "Adam", {"lr": 0.03, "eps": 0.02}),
    "AdamW": (
        "AdamW(lr = 0.03, eps = 0.02, weight_decay = 0.3)",
        "AdamW",
        {"lr": 0.03, "eps": 0.02, "weight_decay": 0.3},
    ),
    "RMSprop": ("RMSprop(lr = 0.03, eps = 0.05)", "RMSprop", {"lr": 0.03, "eps": 0.05}),
    "Adadelta": ("Adadelta(lr = 0.3, eps = 0.01)", "Adadelta", {"lr": 0.3, "eps": 0.01}),
}
STEPS = 3


def program(made: tpt.Traced, optimizer: str) -> str:
    """The program inside a training loop, with the loss mean (f - 1/2)^2 over all outputs together."""
    w = made._written
    ends = [(n.partition("["), v) for n, v in w.outputs.items()]
    lines = [f"{''.join(n)} = {v}" for n, v in ends]
    losses = [f"mean[{n[2][:-1]}](({''.join(n)} - 1/2)^2)" if n[2] else f"({n[0]} - 1/2)^2" for n, _ in ends]
    loop = [*w.body, *lines, f"loss = {' + '.join(losses)}", "minimize loss", f"update all with {optimizer}"]
    return "\n".join([*w.header, *w.declarations, f"train steps = {STEPS} {{", *loop, "}", "output loss[step]", ""])


def losses(module: nn.Module, groups: Any, kind: str, x: torch.Tensor) -> list[float]:
    """The same training by torch.optim."""
    optimizer = getattr(torch.optim, kind)(groups)
    found = []
    for _ in range(STEPS + 1):
        out = module(x.double() if x.is_floating_point() else x)
        loss = sum(((v - 0.5) ** 2).mean() for v in (out.values() if isinstance(out, dict) else [out]))
        found.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return found


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        *((name, "Adam") for name in FAMILIES if name != "encoder"),
        *(("mlp", optimizer) for optimizer in OPTIMIZERS),
        *((name, optimizer) for name in ("gpt", "tangent") for optimizer in ("SGD", "AdamW")),
    ],
)
def test_groups_in_natural_units_train_as_the_program_does(name: str, optimizer: str) -> None:
    made, module = traced(name)
    text, kind, figures = OPTIMIZERS[optimizer]
    run = tpc.simulate(program(made, text), UNSEEN, weights=made.weights(module, UNSEEN))
    module = copy.deepcopy(module)
    found = losses(
        module,
        made.scale("SGD" if optimizer == "Momentum" else optimizer).param_groups(module, None, **figures),
        kind,
        FAMILIES[name][1],
    )
    assert abs(found[-1] - found[0]) > 1e-4
    np.testing.assert_allclose(run["loss"], found, rtol=0, atol=1e-8)
