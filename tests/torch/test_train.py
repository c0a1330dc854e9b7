"""`traced.train`: the training loop that PyTorch runs, step by step; and its limit, that of networks which grow."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.optim import lr_scheduler as schedulers  # noqa: E402

import tp_compiler as tpc  # noqa: E402
import tp_compiler.torch as tpt  # noqa: E402
from tests.torch.modules import FAMILIES, GPT, MLP, TOKENS, _numbers, network, small  # noqa: E402
from tp_compiler.finite.converge import verify  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("single_precision")]
WIDTHS, UNSEEN, STEPS = (32, 64), 96, 3
#: Heads of the language's logits; the others are regressions.
CLASSES = {"gated", "gpt", "gpt, infinite heads", "llama", "images"}
TRAINED = ["mlp", "residual", "gated", "gpt", "gpt, infinite heads", "llama", "images", "rnn", "experts", "tangent"]

Make = Callable[[nn.Module], Any]
#: name -> an optimizer of a module
OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda m: torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9, dampening=0.1, weight_decay=0.1),
    "nesterov": lambda m: torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda m: torch.optim.Adam(m.parameters(), lr=0.01, eps=1e-4, betas=(0.8, 0.95)),
    "amsgrad": lambda m: torch.optim.Adam(m.parameters(), lr=0.01, eps=1e-4, amsgrad=True),
    "adamw": lambda m: torch.optim.AdamW(
        [
            {"params": [p for p in m.parameters() if p.ndim > 1], "lr": 0.02},
            {"params": [p for p in m.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=0.01, eps=1e-4, weight_decay=0.3,
    ),
    "nadam": lambda m: torch.optim.NAdam(m.parameters(), lr=0.01, eps=1e-4, weight_decay=0.1, decoupled_weight_decay=True),
    "adamax": lambda m: torch.optim.Adamax(m.parameters(), lr=0.01, eps=1e-4),
    "rmsprop": lambda m: torch.optim.RMSprop(m.parameters(), lr=0.001, eps=1e-4, momentum=0.5, centered=True),
    "adagrad": lambda m: torch.optim.Adagrad(
        m.parameters(), lr=0.01, eps=1e-4, lr_decay=0.1, initial_accumulator_value=0.1
    ),
    "adagrad with sums of groups, which it does not read": lambda m: torch.optim.Adagrad(
        [{"params": [p], "initial_accumulator_value": 0.5 + k} for k, p in enumerate(m.parameters())],
        lr=0.01, eps=1e-4, initial_accumulator_value=0.1,
    ),
    "adadelta": lambda m: torch.optim.Adadelta(m.parameters(), lr=0.5, eps=1e-4),
    "rprop": lambda m: torch.optim.Rprop(m.parameters(), lr=0.01, step_sizes=(1e-3, 0.011)),
}  # fmt: skip
SCHEDULERS: dict[str, Make] = {
    "lambda": lambda o: schedulers.LambdaLR(o, lambda t: 1 / (1 + t)),
    "one cycle": lambda o: schedulers.OneCycleLR(o, 0.03, total_steps=5),
    "warm-up": lambda o: schedulers.SequentialLR(
        o, [schedulers.LinearLR(o, total_iters=2), schedulers.CosineAnnealingLR(o, 3)], [2]
    ),
}


@cache
def traced(name: str) -> tuple[tpt.Traced, nn.Module, Any, Any]:
    """A family, a network at a width that was not traced, with gains and biases of order one, its inputs and targets."""
    factory, x = FAMILIES[name]
    made = tpt.trace(factory, (x,), WIDTHS)
    module = network(factory, UNSEEN, seed=5)
    with torch.no_grad():
        out = module(x.double() if x.is_floating_point() else x)
    shape = out.shape[:-1] if name in CLASSES else out.shape
    y = torch.arange(shape.numel()).reshape(shape)
    return made, module, x, y % out.shape[-1] if name in CLASSES else torch.sin(y.double())


def loss_of(out: Any, y: Any) -> Any:
    return F.mse_loss(out, y) if y.is_floating_point() else F.cross_entropy(out.flatten(0, -2), y.flatten())


def by_torch(module: nn.Module, x: Any, y: Any, make: Make, schedule: Make | None = None) -> dict[str, np.ndarray]:
    """Losses and outputs before every update and after the last, of a copy of the module."""
    module = copy.deepcopy(module)
    optimizer = make(module)
    scheduler = schedule(optimizer) if schedule else None
    found: dict[str, list[Any]] = {"loss": [], "out": []}
    for _ in range(STEPS + 1):
        out = module(x.double() if x.is_floating_point() else x)
        loss = loss_of(out, y)
        found["loss"].append(loss.item())
        found["out"].append(out.detach().numpy())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return {name: np.array(values) for name, values in found.items()}


def check(name: str, make: Make, schedule: Make | None = None, **options: Any) -> tpt.Traced:
    """The program of a training loop, run on a network's own weights, is PyTorch's loop."""
    made, module, x, y = traced(name)
    optimizer = make(module)
    scheduler = schedule(optimizer) if schedule else None
    before = [dict(g) for g in optimizer.param_groups]
    loop = made.train(
        "cross_entropy" if name in CLASSES else "mse",
        y,
        optimizer=optimizer,
        steps=STEPS,
        scheduler=scheduler,
        **options,
    )
    assert [g["lr"] for g in optimizer.param_groups] == [g["lr"] for g in before], "the optimizer is left alone"
    run = tpc.simulate(loop, UNSEEN, weights=loop.weights(module))
    with double():
        wanted = by_torch(module, x, y, make, schedule)
    assert np.abs(np.diff(wanted["loss"])).min() > 1e-5
    np.testing.assert_allclose(run["loss"], wanted["loss"], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(run["out"], wanted["out"].reshape(run["out"].shape), rtol=1e-9, atol=1e-9)
    assert name not in ("mlp", "gpt") or loop.compare(module, UNSEEN) < 1e-9
    return loop


class double:
    """Optimizers keep their numbers in the default precision."""

    def __enter__(self) -> None:
        torch.set_default_dtype(torch.float64)

    def __exit__(self, *_: Any) -> None:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [*((n, o) for n in TRAINED for o in ("sgd", "adamw")), *((n, "adam") for n in ("mlp", "gpt", "llama"))],
)
def test_a_loop_is_that_of_the_module(name: str, optimizer: str) -> None:
    loop = check(name, OPTIMIZERS[optimizer])
    assert _updated(loop) == {p.name for p in loop.parameters.values()}, "no parameter is left out"


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name not in ("sgd", "adam", "adamw")])
def test_every_optimizer(optimizer: str) -> None:
    check("mlp", OPTIMIZERS[optimizer])


@pytest.mark.parametrize("schedule", SCHEDULERS)
@pytest.mark.parametrize("optimizer", ["nesterov", "adamw"])
def test_schedulers(optimizer: str, schedule: str) -> None:
    check("mlp", OPTIMIZERS[optimizer], SCHEDULERS[schedule])


def layers(m: nn.Module, names: Callable[[nn.Module], Any]) -> Any:
    """A learning rate of its own for each parameter; some are left out."""
    pairs = [(n, p) for n, p in m.named_parameters() if "norms.1" not in n]
    return torch.optim.Adam(
        [{"params": names((n, p)), "lr": 0.01 * (1 + k)} for k, (n, p) in enumerate(pairs)], eps=1e-4
    )


def test_groups_of_single_layers() -> None:
    """Parameters of one shape in different groups: their names must be known."""
    named, bare = (lambda m: layers(m, lambda pair: [pair])), (lambda m: layers(m, lambda pair: [pair[1]]))
    _, module, _, y = traced("residual")
    loop = check("residual", named)
    assert "norms.1.weight, norms.1.bias: not trained" in str(loop) and "norms_1" not in _updated(loop)
    assert "norms_1" not in _updated(check("residual", bare, module=module))
    wrapped = nn.Sequential(OrderedDict(module=module))  # as DistributedDataParallel does
    optimizer = torch.optim.Adam(wrapped.named_parameters(), lr=0.01)
    assert "norms" in "".join(_updated(traced("residual")[0].train("mse", y, optimizer=optimizer, steps=1)))
    with pytest.raises(tpc.ProgramError, match="module=net"):
        traced("residual")[0].train("mse", y, optimizer=bare(module), steps=1)


def _updated(loop: tpt.Traced) -> set[str]:
    return {t.name for t in loop.program.network.parameters if not t.still}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "nadam", "adagrad", "adadelta", "rprop"])
def test_a_loop_is_compared_at_other_widths(optimizer: str) -> None:
    """Figures are read at one width, and torch runs the loop at another, where they follow muP."""
    made, module, _, y = traced("mlp")
    small_one = MLP(40).double()
    loop = made.train("mse", y, optimizer=OPTIMIZERS[optimizer](module), steps=STEPS)
    assert loop.compare(small_one, 40) < 1e-10
    wrong = made.train("mse", y, optimizer=OPTIMIZERS[optimizer](MLP(80)), steps=STEPS)
    wrong._loop = loop._loop
    assert wrong.compare(small_one, 40) > 1e-5
    other = made.train("mse", y, optimizer="SGD(lr = 0.1)", steps=STEPS)
    assert other.compare(small_one, 40) < 1e-10


def test_optimizers_by_patterns_of_names() -> None:
    made, module, _, y = traced("residual")
    kinds = {"*": "Adam(lr = 0.01)", "layers.*.weight": "Lion(lr = 0.02)", "layers.1.weight": "SGD(lr = 0.1)"}
    muon = made.train("mse", y, optimizer={"*": "Adam(lr = 0.01)", "layers.*.weight": "Muon(lr = 0.02)"}, steps=1)
    assert "update layers with Muon(lr = 0.02)" in muon.text
    loop = made.train("mse", y, optimizer=kinds, steps=1)
    found = {(t.name, t.member[:1]): t.optimizer for t in loop.program.network.parameters}
    assert [found["layers", (k,)] for k in (1, 2, 3)] == ["Lion", "SGD", "Lion"]
    assert {kind for (name, _), kind in found.items() if name != "layers"} == {"Adam"}
    assert len(tpc.simulate(loop, UNSEEN, weights=made.weights(module))["loss"]) == 2
    assert _updated(made.train("mse", y, optimizer={"out.*": "SGD(lr = 0.1)"}, steps=1)) == {"out_weight"}
    with pytest.raises(tpc.ProgramError, match="matches `nothing`"):
        made.train("mse", y, optimizer={"nothing": "SGD(lr = 0.1)"}, steps=1)


class Partly(MLP):
    """With a layer that is not trained."""

    def __init__(self, n: int):
        super().__init__(n)
        self.fc2.weight.requires_grad_(False)


def test_what_requires_no_gradient_is_frozen() -> None:
    made = tpt.trace(Partly, (x := _numbers(4, 3),), WIDTHS)
    assert "matrix fc2 ~ N(0, 1/3) frozen" in made.text
    y, module = torch.ones(4, 2, dtype=torch.float64), Partly(UNSEEN).double()
    make = OPTIMIZERS["adam"]
    for optimizer in ("Adam(lr = 0.01)", make(module)):
        assert "fc2" not in _updated(made.train("mse", y, optimizer=optimizer, steps=2))
    run = tpc.simulate(made.train("mse", y, optimizer=make(module), steps=STEPS), UNSEEN, weights=made.weights(module))
    with double():
        np.testing.assert_allclose(run["loss"], by_torch(module, x, y, make)["loss"], atol=1e-10)
    module.fc2.weight.requires_grad_(True)
    module.out.bias.requires_grad_(False)
    loop = tpt.trace(MLP, (x,), WIDTHS).train("mse", y, optimizer=make(module), steps=1, module=module)
    assert "out_bias" not in _updated(loop) and "out.bias: not trained" in str(loop)


# -------------------------------------------------------------------------------------------------------------- losses


def test_losses_are_those_of_torch() -> None:
    made, module, x, y = traced("gpt")
    weights, out = made.weights(module), module(x)
    t = torch.softmax(torch.randn(out.shape, generator=torch.Generator().manual_seed(2)), -1)
    hot = F.one_hot(y, 5)
    cases: list[tuple[str, Any, float]] = [
        ("mse", t, F.mse_loss(out, t.double()).item()),
        ("cross_entropy", t, -(t * out.log_softmax(-1)).sum(-1).mean().item()),
        ("mean[s,d](cross_entropy[i](out[s,d,i], target[s,d]))", y, loss_of(out, y).item()),
        ("sum[s,d,i](square(out[s,d,i]) * target[s,d,i]) / 2", t, 0.5 * (t * out**2).sum().item()),
        ("mean[s,d](cross_entropy[i](2 * out[s,d,i], p[s,d,i]) * w[s])", {"p": hot.double(), "w": torch.tensor([1.0, 3.0])},
         ((-(hot * (2 * out).log_softmax(-1)).sum(-1)) * torch.tensor([[1.0], [3.0]])).mean().item()),
        ("mean[row,column](cross_entropy[vocabulary](out[row,column,vocabulary], target[row,column]))", y, loss_of(out, y).item()),
        ("sum[i,j,k](out[i,1,k] * out[j,1,k]) + mean[d](out[1,d,1] * d)", None,
         (out[:, 0].sum(0).square().sum() + (out[0, :, 0] * torch.arange(1, 4)).mean()).item()),
        ("mean[s,d](out[s,d,y[s,d]])", {"y": y}, out.gather(-1, y[..., None]).mean().item()),
        ("mean[s,d,i](out[s,d,i]) + <ln_f|ln_f>", None, (out.mean() + module.ln_f.weight.square().mean()).item()),
    ]  # fmt: skip
    for loss, targets, wanted in cases:
        loop = made.train(loss, targets, optimizer="SGD(lr = 0.1)", steps=1)
        assert abs(tpc.simulate(loop, UNSEEN, weights=weights)["loss"][0] - wanted) < 1e-10, loss


def test_targets_of_every_step() -> None:
    """A leading axis of as many entries as there are updates, or one more."""
    made, module, x, y = traced("mlp")
    ys = torch.stack([y, -y, 2 * y, y / 2])
    run = [
        tpc.simulate(
            made.train("mse", ys[:k], optimizer="SGD(lr = 0.1)", steps=3), UNSEEN, weights=made.weights(module)
        )
        for k in (3, 4)
    ]
    np.testing.assert_allclose(run[0]["loss"], run[1]["loss"][:3])
    np.testing.assert_allclose(run[0]["out"], run[1]["out"])
    model, found = copy.deepcopy(module), []
    optimizer = torch.optim.SGD([
        {"params": [p], "lr": 0.1 * UNSEEN ** {"fc1": 1, "fc2": p.ndim < 2, "out": -(p.ndim > 1)}[n.partition(".")[0]]}
        for n, p in model.named_parameters()
    ])  # fmt: skip
    for k in range(4):
        loss = loss_of(model(x.double()), ys[k])
        found.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    np.testing.assert_allclose(run[1]["loss"], found, atol=1e-10)


@pytest.mark.parametrize("name", ["mlp", "gpt"])
@pytest.mark.parametrize("count", [STEPS, STEPS + 1])
def test_batches_of_every_step(name: str, count: int) -> None:
    made, module, x, y = traced(name)
    if name == "mlp":
        xs, ys = torch.stack([x, 2 * x, x - 1, -x]), torch.stack([y, -y, y / 2, y])
    else:
        xs, ys = torch.stack([x, (x + 1) % 5, (2 * x) % 5, 4 - x]), torch.stack([y, (y + 2) % 5, y, 4 - y])
    loop = made.train(
        "cross_entropy" if name in CLASSES else "mse", ys[:count], optimizer=OPTIMIZERS["adam"](module), steps=STEPS,
        inputs=(xs[:count],),
    )  # fmt: skip
    run = tpc.simulate(loop, UNSEEN, weights=loop.weights(module))
    model, found = copy.deepcopy(module), []
    with double():
        optimizer = OPTIMIZERS["adam"](model)
        for batch, target in zip(xs[:count], ys[:count], strict=True):
            loss = loss_of(model(batch.double() if batch.is_floating_point() else batch), target)
            found.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    np.testing.assert_allclose(run["loss"], found, atol=1e-10)
    assert loop.compare(module, UNSEEN) < 1e-9
    text = made.train(
        "mean[a,b](out[a,1,b])" if name == "gpt" else "mean[a](out[a,1])",
        optimizer="SGD(lr = 0.1)",
        steps=3,
        inputs=(xs,),
    )
    assert text.compare(module, UNSEEN) < 1e-10


def test_batches_that_are_refused() -> None:
    made, _, x, y = traced("mlp")
    for inputs, words in (
        ((torch.stack([x, torch.ones_like(x)]),), "step 1"), ((x[:2],), "traced with shape"), ((x, x), "2 inputs"),
    ):  # fmt: skip
        with pytest.raises(tpc.ProgramError, match=words):
            made.train("mse", y, optimizer="SGD(lr = 0.1)", steps=2, inputs=inputs)


def test_an_output_that_is_the_loss() -> None:
    class Own(MLP):
        def forward(self, x):
            out = super().forward(x)
            return {"loss": (out - 1).pow(2).mean(), "logits": out}

    made = tpt.trace(Own, (_numbers(4, 3),), WIDTHS)
    loop = made.train("loss", optimizer="SGD(lr = 0.1)", steps=2)
    run = tpc.simulate(loop, 64, seeds=1)
    np.testing.assert_allclose(run["loss"], ((run["logits"] - 1) ** 2).mean(axis=(1, 2)), atol=1e-12)
    named = tpc.simulate(made.train("mean[d](loss + logits[d,1])", optimizer="SGD(lr = 0.1)", steps=2), 64, seeds=1)
    assert set(named) == {"loss", "logits", "loss_2"}


# ----------------------------------------------------------------------------------------------------------- the limit


BASE = 64


def figures(name: str, p: Any, n: int, kind: str, lr: float) -> dict[str, float]:
    """muP's figures of a parameter at width n, with the same lr and eps for all at the base width: tables 3 and 8 of TP V."""
    growing = sum(size >= n // 2 for size in p.shape)
    readout, ratio = name == "out.weight", n / BASE
    if kind == "sgd":
        return {"lr": lr * {0: 1.0, 1: 1 / ratio if readout else ratio, 2: 1.0}[growing]}
    eps = 1e-3 * (1.0 if readout or not growing else 1 / ratio)
    return {"lr": lr * (1 / ratio if readout or growing == 2 else 1.0), "eps": eps}


def at_width(n: int, kind: str, lr: float) -> Make:
    """The optimizer of a module of width n."""
    make = torch.optim.SGD if kind == "sgd" else torch.optim.Adam
    return lambda m: make([{"params": [p]} | figures(name, p, n, kind, lr) for name, p in m.named_parameters()])


LIMITS = [
    ("mlp", "sgd", 0.02), ("mlp", "adam", 2e-3), ("gpt", "sgd", 0.05), ("gpt", "adam", 1e-3),
    ("llama", "adam", 1e-3),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind", "lr"), LIMITS)
def test_the_trained_limit_is_that_of_networks(name: str, kind: str, lr: float) -> None:
    factory, x = FAMILIES[name]
    made, _, _, y = traced(name)
    module = factory(BASE)
    make = torch.optim.SGD if kind == "sgd" else lambda p, lr: torch.optim.Adam(p, lr=lr, eps=1e-3)
    optimizer = make(module.parameters(), lr=lr)
    loop = made.train("cross_entropy" if name in CLASSES else "mse", y, optimizer=optimizer, steps=STEPS)
    limit = tpc.limit(loop, only=["loss"], samples=1024, replicates=4)
    networks = {}
    with double():
        for n, seeds in ((BASE, 40), (128, 24), (256, 12)):
            found = []
            for seed in range(seeds):
                torch.manual_seed(100 * n + seed)
                found.append(by_torch(factory(n).double(), x, y, at_width(n, kind, lr))["loss"])
            networks[n] = {"loss": np.stack(found)}
    found = verify({"loss": limit.outputs["loss"]}, networks, dof=limit.settings["replicates"] - 1)
    assert found.passed, found
    assert abs(limit["loss"][-1] - limit["loss"][0]) > 15 * limit.outputs["loss"].stderr.max()


# ------------------------------------------------------------------------------------------------------ what is refused


def refused(**options: Any) -> str:
    made, module, _, y = traced("mlp")
    given = {"loss": "mse", "targets": y, "optimizer": "SGD(lr = 0.1)", "steps": 2} | options
    if callable(given["optimizer"]):
        given["optimizer"] = given["optimizer"](module)
    with pytest.raises(tpc.ProgramError) as caught:
        made.train(**given)
    (found,) = caught.value.diagnostics
    assert found.remedy
    return str(caught.value)


def uneven(module: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.Adagrad(module.parameters())
    for k, p in enumerate(module.parameters()):
        optimizer.state[p]["sum"].fill_(float(k))
    return optimizer


def worked(m: nn.Module) -> Any:
    optimizer = torch.optim.SGD(m.parameters(), lr=0.0, momentum=0.9)
    for p in m.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    return optimizer


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"loss": "mae"}, "NX720", '"mse", "cross_entropy"'),
        ({"loss": F.mse_loss}, "NX720", "not text"),
        ({"loss": "mean[d](out[d,"}, "NX", "<loss>:1:"),
        ({"loss": "mean[d](out[d,1] * target[d])"}, "NX721", "1 indices in the loss"),
        ({"loss": "mean[d](out[d])"}, "NX720", "`out` has 2"),
        ({"loss": "sum[d](out[d,d])"}, "NX720", "two axes"),
        ({"inputs": torch.zeros(4, 3)}, "NX721", "no input has an entry for each step"),
        ({"targets": torch.zeros(4)}, "NX721", "(4,)"),
        ({"targets": torch.zeros(5, 4, 2)}, "NX721", "(4, 2)"),
        ({"targets": torch.full((4, 2), torch.nan)}, "NX721", "finite"),
        ({"targets": None}, "NX721", "needs targets"),
        ({"loss": "cross_entropy", "targets": torch.tensor([0, 1, 2, 0])}, "NX721", "the class 2"),
        ({"loss": "cross_entropy", "targets": torch.tensor([0, 1, -100, 0])}, "NX721", "ignore_index"),
        ({"loss": "cross_entropy", "targets": torch.tensor([0.0, 1.0, 1.0, 0.0])}, "NX721", None),
        ({"loss": "mean[d,s](out[d,s]^2)"}, "NX721", "does not use"),
        ({"loss": "mean[d,s]((out[d,s] - target[d,s])^2)", "targets": torch.zeros(4, 2, dtype=torch.int64)}, "NX721", "double"),
        ({"loss": "mean[d,s]((out[d,s] - fc1[d,s])^2)", "targets": {"fc1": torch.zeros(4, 2)}}, "NX721", "name"),
        ({"loss": "mean[d,s]((out[d,s] - target[d,s])^2)", "targets": torch.zeros(5, 2)}, "NX721", "along `d`"),
        ({"optimizer": "Adamm(lr = 0.1)"}, "NX158", "Adam"),
        ({"optimizer": None}, "NX722", "torch.optim"),
        ({"optimizer": lambda m: torch.optim.RAdam(m.parameters())}, "NX722", "RAdam"),
        ({"optimizer": lambda m: torch.optim.ASGD(m.parameters())}, "NX722", "NAdam"),
        ({"optimizer": lambda m: torch.optim.SGD(m.parameters(), maximize=True)}, "NX722", "maximizes"),
        ({"optimizer": lambda m: torch.optim.AdamW(m.parameters(), amsgrad=True)}, "NX722", "amsgrad"),
        ({"optimizer": lambda m: torch.optim.Adam(m.parameters(), weight_decay=0.1)}, "NX722", "AdamW"),
        ({"optimizer": worked}, "NX722", "updates already"),
        ({"optimizer": uneven}, "NX722", "sums that differ"),
        ({"optimizer": lambda m: torch.optim.SGD(nn.Linear(7, 7).parameters())}, "NX723", "module=net"),
        ({"optimizer": lambda m: torch.optim.SGD(m.parameters()), "module": nn.Linear(7, 7)}, "NX723", "does not have"),
        ({"optimizer": lambda m: torch.optim.SGD(nn.Linear(7, 7).named_parameters())}, "NX723", "none of"),
        ({"steps": None}, "NX708", "steps=20"),
        ({"steps": 0}, "NX708", "steps=20"),
    ],
)  # fmt: skip
def test_what_is_refused(options: dict[str, Any], code: str, words: str | None) -> None:
    message = refused(**options)
    assert f"[{code}" in message
    assert words is None or words in message


def test_schedulers_that_are_refused() -> None:
    made, module, _, y = traced("mlp")
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    other = torch.optim.SGD(module.parameters(), lr=0.1)
    for scheduler, words in (
        (schedulers.ReduceLROnPlateau(optimizer), "depends"),
        (schedulers.StepLR(other, 1), "not one of"),
    ):
        with pytest.raises(tpc.ProgramError, match=words):
            made.train("mse", y, optimizer=optimizer, steps=1, scheduler=scheduler)
    with pytest.raises(tpc.ProgramError, match="text"):
        made.train("mse", y, optimizer="SGD(lr = 0.1)", steps=1, scheduler=schedulers.StepLR(other, 1))


def test_sums_of_the_size_of_the_central_limit_theorem_are_refused() -> None:
    plain = lambda n: nn.Sequential(nn.Linear(3, n), nn.Tanh(), nn.Linear(n, 1))  # noqa: E731
    with pytest.raises(tpc.ProgramError, match="std 1/n"):
        tpt.trace(plain, (_numbers(4, 3),), WIDTHS).train("mse", torch.zeros(4, 1), optimizer="SGD(lr = 0.1)", steps=1)


def test_a_module_with_several_outputs_needs_an_expression() -> None:
    two = lambda n: Two(n)  # noqa: E731
    made = tpt.trace(two, (_numbers(4, 3),), WIDTHS)
    with pytest.raises(tpc.ProgramError, match=r"out0\[s\]"):
        made.train("mse", torch.zeros(4), optimizer="SGD(lr = 0.1)", steps=1)


class Two(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.read, self.one, self.two = nn.Linear(3, n), small(nn.Linear(n, 1)), small(nn.Linear(n, 1))

    def forward(self, x):
        x = torch.tanh(self.read(x))
        return self.one(x), self.two(x)


def test_a_trained_program_is_a_program() -> None:
    made, _, _, y = traced("gpt")
    loop = made.train("cross_entropy", y, optimizer="AdamW(lr = 0.01)", steps=2)
    assert [d.render() for d in tpc.check(loop.text)] == []
    assert tpc.scale(loop)["wte"]["lr"] == 0 and tpc.equations(made)
    assert loop.parameters == made.parameters and loop.text != made.text
    assert "train steps = 2" in loop.text and GPT and TOKENS is not None
