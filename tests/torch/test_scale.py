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

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

Tensor = Any
Network = Callable[[dict[str, Tensor], dict[str, float]], dict[str, Tensor]]
WIDTHS = {
    "mlp": (64, 128, 256, 512), "gpt": (32, 64, 128, 256),
    "temperature": (64, 128, 256, 512),
}  # fmt: skip
SEEDS = {
    1: 48,
    3: 4,
    8: 3,
}  # by steps: where f is random at initialisation, so is the error, and the first step with it

X = torch.tensor([[1.0, 0.5], [0.2, -1.0]], dtype=torch.float64)
Y = torch.tensor([1.0, -1.0], dtype=torch.float64)
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


Z = torch.tensor(np.asarray(tpc.simulate(
    "axis i : 2\naxis s : 3\naxis d : 2\ndata z[i,s,d] ~ N(0, 1) seed 3\noutput k[i,s,d] = z[i,s,d]", 2, seeds=1
)["k"]))  # fmt: skip


def gate(p: dict[str, Tensor], _: dict[str, float]) -> dict[str, Tensor]:
    """The soft gates of programs.GATE."""
    h = X @ p["u"]
    gates = torch.softmax(h @ p["r"].T, -1)
    experts = torch.einsum("eab,eib->eia", p["B"], torch.relu(torch.einsum("eab,ib->eia", p["A"], h)))
    g = h + torch.einsum("ie,eia->ia", gates, experts)
    f = g @ p["v"]
    return {"h": h, "p": gates, "g": g, "f": f, "loss": ((f - Y) ** 2).mean() / 2}


def temperature(p: dict[str, Tensor], _: dict[str, float]) -> dict[str, Tensor]:
    """The attention of programs.TEMPERATURE."""
    h = torch.tanh(Z @ p["u"])
    q, k, v = (h @ p[name].T for name in "QKV")
    a = torch.softmax(p["tau"] * q @ k.transpose(-1, -2) / p["u"].shape[-1], -1)
    g = (h + a @ v).mean(1)
    f = torch.tanh(g) @ p["v"]
    return {"tau": 1 * p["tau"].reshape(1), "a": a, "g": g, "f": f, "loss": ((f - Y) ** 2).mean() / 2}


SHAPES: dict[str, dict[str, tuple[Any, ...]]] = {
    "mlp": {"u": (2, "n"), "W": ("n", "n"), "A": ("n", "n"), "v": ("n",)},
    "gpt": {
        "e": (5, "n"), "pos": (3, "n"), "g": ("n",), "b": ("n",), "A": ("n", "n"), "B": ("n", "n"), "c": (),
        **{name: (2, "n", "n") for name in "QKVO"},
    },
    "gate": {"u": (2, "n"), "r": (2, "n"), "A": (2, "n", "n"), "B": (2, "n", "n"), "v": ("n",)},
    "temperature": {"u": (2, "n"), "Q": ("n", "n"), "K": ("n", "n"), "V": ("n", "n"), "v": ("n",), "tau": ()},
}  # fmt: skip
NETWORKS: dict[str, Network] = {"mlp": mlp, "gpt": gpt, "gate": gate, "temperature": temperature}
STD = {"W": 2**0.5, "A": 2**0.5, "b": 0.0}
ONES = {"g", "c", "tau"}


def moved(
    name: str, emitted: Any, width: int, seed: int, mult: float, steps: int, hyper: dict[str, float]
) -> dict[str, float]:
    """How far everything has moved after some steps, root mean square."""
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
    for _ in range(steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        NETWORKS[name](parameters, outputs)["loss"].backward()
        for optimizer in optimizers:
            optimizer.step()
    after = NETWORKS[name](parameters, outputs)
    return {k: float((after[k].detach() - v).square().mean().sqrt()) for k, v in before.items() if k != "loss"}


def slopes(name: str, program: str, steps: int = 3, **hyper: float) -> dict[str, float]:
    """Slopes in log n of the movements. The program's own hyperparameters stand at width_mult = n."""
    emitted, widths = module(program), WIDTHS[name]
    sizes: dict[str, list[float]] = {}
    for width in widths:
        runs = [moved(name, emitted, width, seed, width, steps, hyper) for seed in range(SEEDS[steps])]
        for key in runs[0]:
            sizes.setdefault(key, []).append(float(np.log(np.median([run[key] for run in runs]))))
    return {key: float(np.polyfit(np.log(widths), y, 1)[0]) for key, y in sizes.items()}


@pytest.mark.parametrize("optimizer", ["SGD(lr = 0.2)", "Adam(lr = 0.05, eps = 0.01)", "AdamW(lr = 0.05, eps = 0.01)"])
@pytest.mark.parametrize("name", ["mlp", "gpt"])
def test_coordinate_checks_are_flat(name: str, optimizer: str) -> None:
    found = slopes(name, text(name, optimizer))
    assert all(abs(slope) < 0.1 for slope in found.values()), found


@pytest.mark.parametrize(
    ("optimizer", "lr", "wanted"), [("SGD", 1e-4, {"h1": -0.5, "h2": 0.5, "f": 1}), ("Adam", 1e-6, {"h1": 0, "h2": 1})]
)
def test_standard_parametrizations_blow_up(optimizer: str, lr: float, wanted: dict[str, float]) -> None:
    """Constant learning rates move things by the powers that `tpc scale` says, in the first step."""
    program = "parametrization standard\n" + text("mlp", f"{optimizer}(lr = 1)")
    found = slopes("mlp", program, steps=1, lr=lr)
    assert all(abs(found[key] - slope) < 0.1 for key, slope in wanted.items()), found
    assert found["h3"] > 0.3 and found["f"] > 0.9, found


def test_the_neural_tangent_parametrization_freezes_features() -> None:
    found = slopes("mlp", "parametrization ntk\n" + text("mlp", "SGD(lr = 0.02)").replace("<v|", "clt <v|"), steps=1)
    assert all(abs(found[h] + 0.5) < 0.1 for h in ("h1", "h2", "h3")) and abs(found["f"]) < 0.1, found


def test_soft_gates_under_the_ntk_scaling() -> None:
    """Gates that move by Θ(1) move features by Θ(1), and f by Θ(1): they do not update a matrix, which would make f n^(1/2)."""
    program = text("gate", "SGD(lr = 1e-6)").replace("<v|", "clt <v|").replace("update all", "update |u>, A, B, |v>")
    gates = program.replace("    update", "    update |r> with SGD(lr = 1)\n    update", 1)
    emitted, sizes = module("parametrization ntk\n" + gates), {}
    for n in (64, 512):
        runs = [moved("gate", emitted, n, seed, n, 1, {}) for seed in range(48)]
        sizes[n] = {key: np.sqrt(np.mean([run[key] ** 2 for run in runs])) for key in ("p", "g", "f")}
    found = {key: np.log(sizes[512][key] / sizes[64][key]) / np.log(8) for key in sizes[64]}
    assert all(abs(slope) < 0.25 for slope in found.values()), found  # 48 networks: 0.1


def test_a_temperature_moves() -> None:
    """Δtau Δ<q|k> is Θ(1): tau moves by Θ(1) from the second step on."""
    found = slopes("temperature", text("temperature", "SGD(lr = 1)"), steps=8)
    assert abs(found["tau"]) < 0.2, found  # n^-1/2 to first order


def test_groups_are_those_of_torch() -> None:
    emitted = module(text("mlp", "AdamW(lr = 0.05, beta1 = 0.8, eps = 0.01, weight_decay = 0.02)"))
    groups = emitted.parameter_groups({"W": torch.ones(4, 4), "u": [torch.ones(4), torch.ones(4)]}, 4.0)
    assert groups[0]["lr"] == 0.05 / 4 and groups[0]["eps"] == 0.01 / 4 and groups[0]["weight_decay"] == 0.08
    assert groups[0]["betas"] == (0.8, 0.999) and len(groups[1]["params"]) == 2
    torch.optim.AdamW(groups)


def test_muon_of_torch_scales_tall_matrices_itself() -> None:
    """torch.optim.Muon multiplies its step by √(rows/columns) of input weights; the emitted groups leave that to it."""
    made = module(text("mlp", "Muon(lr = 0.1)"))
    moved: dict[str, list[float]] = {}
    for n in WIDTHS["mlp"]:
        torch.manual_seed(n)
        p = {
            name: torch.nn.Parameter(torch.randn(shape, dtype=torch.float64) * made.init_std(name, 1.0, n))
            for name, shape in {"u": (n, 2), "W": (n, n), "A": (n, n), "v": (1, n)}.items()
        }

        def forward(p: dict[str, Tensor] = p) -> dict[str, Tensor]:
            return mlp({"u": p["u"].T, "W": p["W"], "A": p["A"], "v": p["v"][0]}, {})

        before = {k: x.detach() for k, x in forward().items()}
        (optimizer,) = made.optimizers(p, n)
        for _ in range(2):
            optimizer.zero_grad()
            forward()["loss"].backward()
            optimizer.step()
        for k, x in forward().items():
            moved.setdefault(k, []).append(float((x.detach() - before[k]).square().mean().sqrt()))
    logs = np.log(WIDTHS["mlp"])
    slopes = {k: np.polyfit(logs, np.log(moved[k]), 1)[0] for k in ("h1", "h2", "h3", "f")}
    assert abs(slopes["h1"]) < 0.1, slopes  # with the factor counted twice 1/2
    assert max(map(abs, slopes.values())) < 0.25, slopes  # one network a width
