"""The text of `tpc scale --emit torch` trains PyTorch networks of several widths: flat coordinate checks at muP.

A coordinate check: the slopes in log n of the root mean squares by which features and outputs have moved after some
steps (TP V appendix D.1). The networks are raw ones: plain tensors, plain sums over neurons, torch.optim.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tp_compiler as tpc  # noqa: E402
from tests.unit.scale.programs import text  # noqa: E402

pytestmark = pytest.mark.torch

Tensor = Any
Network = Callable[[dict[str, Tensor], dict[str, float]], dict[str, Tensor]]
WIDTHS = (64, 128, 256, 512)
SEEDS = 6

X = torch.tensor([[1.0, 0.5], [0.2, -1.0]])
Y = torch.tensor([1.0, -1.0])
TOKENS = torch.tensor([[0, 1, 2], [3, 4, 0]])


def module(program: str) -> types.ModuleType:
    """The emitted text as a module."""
    made = types.ModuleType("emitted")
    exec(compile(tpc.scale(program).torch(), "emitted", "exec"), made.__dict__)
    return made


def mlp(p: dict[str, Tensor], _: dict[str, float]) -> dict[str, Tensor]:
    h1 = X @ p["u"]
    h2 = torch.nn.functional.gelu(h1) @ p["W"].T
    h3 = torch.nn.functional.gelu(h2) @ p["A"].T
    f = torch.nn.functional.gelu(h3) @ p["v"]
    return {"h1": h1, "h2": h2, "h3": h3, "f": f, "loss": ((f - Y) ** 2).mean() / 2}


def gpt(p: dict[str, Tensor], output: dict[str, float]) -> dict[str, Tensor]:
    """The transformer of programs.GPT, with one matrix for each of two heads, 1/d attention and tied embeddings."""

    def ln(x: Tensor) -> Tensor:
        m = x - x.mean(-1, keepdim=True)
        return m / (m.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    n = p["e"].shape[-1]
    x = p["e"][TOKENS] + p["pos"]
    z = p["g"] * ln(x) + p["b"]
    q, k, v = (torch.einsum("hab,isb->isha", p[name], z) for name in "QKV")
    a = torch.softmax(p["c"] * torch.einsum("isha,itha->isth", q, k) / n, 2)
    x = x + torch.einsum("hab,isth,ithb->isa", p["O"], a, v)
    x = x + torch.relu(ln(x) @ p["A"].T) @ p["B"].T
    f = ln(x) @ p["e"].T * output["e"]
    targets = torch.tensor([[1, 2, 3], [4, 0, 1]])
    return {"q": q, "x": x, "f": f, "loss": torch.nn.functional.cross_entropy(f.flatten(0, 1), targets.flatten())}


SHAPES: dict[str, dict[str, tuple[Any, ...]]] = {
    "mlp": {"u": (2, "n"), "W": ("n", "n"), "A": ("n", "n"), "v": ("n",)},
    "gpt": {
        "e": (5, "n"), "pos": (3, "n"), "g": ("n",), "b": ("n",), "A": ("n", "n"), "B": ("n", "n"), "c": (),
        **{name: (2, "n", "n") for name in "QKVO"},
    },
}  # fmt: skip
NETWORKS: dict[str, Network] = {"mlp": mlp, "gpt": gpt}
STD = {"W": 2**0.5, "A": 2**0.5, "b": 0.0}
ONES = {"g", "c"}


def moved(name: str, emitted: Any, width: int, seed: int, mult: float, **hyper: float) -> dict[str, float]:
    """How far everything has moved after three steps, root mean square."""
    torch.manual_seed(seed)
    parameters = {}
    for key, shape in SHAPES[name].items():
        sizes = tuple(width if s == "n" else s for s in shape)
        std = emitted.init_std(key, STD.get(key, 1.0), mult)
        start = torch.ones(sizes) if key in ONES else std * torch.randn(sizes)
        parameters[key] = start.requires_grad_()
    outputs = {key: emitted.output_multiplier(key, mult) for key in parameters}
    optimizers = emitted.optimizers(parameters, mult, **hyper)
    before = {k: v.detach() for k, v in NETWORKS[name](parameters, outputs).items()}
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad()
        NETWORKS[name](parameters, outputs)["loss"].backward()
        for optimizer in optimizers:
            optimizer.step()
    after = NETWORKS[name](parameters, outputs)
    return {k: float((after[k] - v).square().mean().sqrt()) for k, v in before.items() if k != "loss"}


def slopes(name: str, program: str, natural: bool = True, **hyper: float) -> dict[str, float]:
    """Slopes in log n of the movements; `natural`: the program's own hyperparameters, which stand at width_mult = n."""
    emitted = module(program)
    sizes: dict[str, list[float]] = {}
    for width in WIDTHS:
        runs = [moved(name, emitted, width, s, width if natural else width / WIDTHS[0], **hyper) for s in range(SEEDS)]
        for key in runs[0]:
            sizes.setdefault(key, []).append(float(np.mean([np.log(run[key]) for run in runs])))
    return {key: float(np.polyfit(np.log(WIDTHS), y, 1)[0]) for key, y in sizes.items()}


@pytest.mark.parametrize("optimizer", ["SGD(lr = 0.2)", "Adam(lr = 0.05, eps = 0.01)", "AdamW(lr = 0.05, eps = 0.01)"])
@pytest.mark.parametrize("name", ["mlp", "gpt"])
def test_coordinate_checks_are_flat(name: str, optimizer: str) -> None:
    found = slopes(name, text(name, optimizer))
    assert all(abs(slope) < 0.1 for slope in found.values()), found


@pytest.mark.parametrize(("optimizer", "lr"), [("SGD", 0.05), ("Adam", 0.003)])
def test_standard_parametrizations_blow_up(optimizer: str, lr: float) -> None:
    """Constant learning rates: h² moves by n^(1/2) under SGD and by n under Adam (in the first steps)."""
    program = "parametrization standard\n" + text("mlp", f"{optimizer}(lr = 1)")
    found = slopes("mlp", program, natural=False, lr=lr)
    assert found["h2"] > 0.35 and found["f"] > 0.5, found


def test_the_neural_tangent_parametrization_freezes_features() -> None:
    found = slopes("mlp", "parametrization ntk\n" + text("mlp", "SGD(lr = 0.2)").replace("<v|", "clt <v|"))
    assert all(abs(found[h] + 0.5) < 0.12 for h in ("h1", "h2", "h3")) and abs(found["f"]) < 0.12, found


def test_groups_are_those_of_torch() -> None:
    emitted = module(text("mlp", "AdamW(lr = 0.05, beta1 = 0.8, eps = 0.01, weight_decay = 0.02)"))
    groups = emitted.parameter_groups({"W": torch.ones(4, 4), "u": [torch.ones(4), torch.ones(4)]}, 4.0)
    assert groups[0]["lr"] == 0.05 / 4 and groups[0]["eps"] == 0.01 / 4 and groups[0]["weight_decay"] == 0.08
    assert groups[0]["betas"] == (0.8, 0.999) and len(groups[1]["params"]) == 2
    torch.optim.AdamW(groups)
