"""`coord_check`: muP passes; a planted mistake is named, and nothing else is; what follows from it is said to follow.

The learning rates below are those of TP V Table 3, written out by hand: nothing here asks `tpc scale`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import tp_compiler as tpc  # noqa: E402
import tp_compiler.torch as tpt  # noqa: E402
from tests.torch.modules import FAMILIES, GPT, MLP, Attention, Llama, _numbers  # noqa: E402
from tp_compiler.cli import main  # noqa: E402
from tp_compiler.scale.coordinates import CoordinateVerdict  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("single_precision", "one_thread")]
WIDTHS = (32, 64, 128, 256)
TOKENS, NEXT = torch.randint(5, (2, 8, 3), generator=torch.Generator().manual_seed(0))
X, Y = _numbers(16, 3), _numbers(16, 2)


def language(model: nn.Module, step: int) -> torch.Tensor:
    return F.cross_entropy(model(TOKENS).flatten(0, 1), NEXT.flatten())


def regression(model: nn.Module, step: int) -> torch.Tensor:
    return F.mse_loss(model(X), Y)


# -- muP by hand ----------------------------------------------------------------------------------------------------
#: Powers of n of the learning rate: TP V Table 3.
ADAM = {"matrix": -1, "output": -1, "vector": 0, "number": 0}
SGD = {"matrix": 0, "output": -1, "vector": 1, "number": 0}
Kinds = Callable[[str, str], str]


def kind(name: str, p: nn.Parameter) -> str:
    """All widths are at least 16, everything else is smaller."""
    grown = sum(size >= 16 for size in p.shape)
    if grown == 1 and name in ("out.weight", "head.weight"):
        return "output"
    return ("number", "vector", "matrix")[grown]


def groups(
    optimizer: Any, lr: float, powers: dict[str, int], kinds: Kinds = lambda _, k: k, **constant: float
) -> Callable[[nn.Module], Any]:
    """Parameter groups at any width; `kinds` puts parameters into other groups, `decay` scales as lr does not."""

    def made(model: nn.Module) -> Any:
        held = dict(model.named_parameters())
        n = next(held[name] for name in ("wte.weight", "fc2.weight", "emb.weight") if name in held).shape[1] / 32
        found = []
        for name, p in held.items():
            scale = n ** powers[kinds(name, kind(name, p))]
            scaled = {"weight_decay": 0.1 / scale} if optimizer is torch.optim.AdamW else {}
            found.append({"params": [p], "lr": lr * scale, **scaled, **constant})
        return optimizer(found, lr=lr)

    return made


class Untied(GPT):
    def __init__(self, n: int, std: float | None = None):
        super().__init__(n, multiplier=1.0)
        self.head.weight = nn.Parameter((std or 1 / n) * torch.randn(5, n))


CORRECT: dict[str, tuple[Callable[[int], nn.Module], Any, Any]] = {
    "mlp, Adam": (MLP, regression, groups(torch.optim.Adam, 0.02, ADAM)),
    "mlp, SGD": (MLP, regression, groups(torch.optim.SGD, 0.5, SGD)),
    "tied gpt, AdamW": (GPT, language, groups(torch.optim.AdamW, 0.02, ADAM)),
    "tied gpt, SGD": (GPT, language, groups(torch.optim.SGD, 2.0, SGD)),
    "untied gpt, Adam": (Untied, language, groups(torch.optim.Adam, 0.02, ADAM)),
    "untied gpt, SGD": (Untied, language, groups(torch.optim.SGD, 1.0, SGD)),
    "llama, Adam": (Llama, language, groups(torch.optim.Adam, 0.02, ADAM)),
    "llama, SGD": (Llama, language, groups(torch.optim.SGD, 0.3, SGD)),
}


@cache
def traced(factory: Callable[[int], nn.Module]) -> tpt.Traced:
    return tpt.trace(factory, (X if issubclass(factory, MLP) else TOKENS,), WIDTHS[:2])


@pytest.mark.parametrize("name", CORRECT)
def test_mup_passes(name: str) -> None:
    factory, loss, optimizer = CORRECT[name]
    check = tpt.coord_check(factory, loss, WIDTHS, optimizer=optimizer, traced=traced(factory))
    assert check.passed and check.problems == (), str(check)
    assert {row.verdict for row in check.rows} <= {CoordinateVerdict.OK, CoordinateVerdict.UNKNOWN}
    measured = [row for row in check.rows if row.step is not None and row.slope is not None]
    assert len(measured) > 10 and all(0 <= row.stderr < 1 for row in measured)
    ends = [check.losses[n][-1] - check.losses[n][0] for n in WIDTHS]
    assert max(ends) < 0


@pytest.mark.long
@pytest.mark.parametrize("name", CORRECT)
def test_mup_passes_at_twenty_seeds(name: str) -> None:
    factory, loss, optimizer = CORRECT[name]
    for seed in range(0, 20_000, 1000):
        check = tpt.coord_check(factory, loss, WIDTHS, optimizer=optimizer, traced=traced(factory), seed=seed)
        assert check.passed, f"seed {seed}\n{check}"


#: Convolutions, soft routing, gates, multipliers before weights of variance 1, and heads that are the width.
KINDS = ("images", "experts", "lstm", "tangent", "gpt, infinite heads")


@pytest.mark.parametrize("name", KINDS)
def test_groups_of_the_scaling_pass(name: str) -> None:
    factory, x = FAMILIES[name]
    made = tpt.trace(factory, (x,), WIDTHS[:2])
    scaling = made.scale("AdamW")

    def loss(model: nn.Module, step: int) -> torch.Tensor:
        out = model(x)
        return F.mse_loss(out, torch.sin(torch.arange(out.numel())).reshape(out.shape))

    def optimizer(model: nn.Module) -> Any:
        return torch.optim.AdamW(scaling.param_groups(model, WIDTHS[0], lr=0.01, weight_decay=0.1))

    check = tpt.coord_check(factory, loss, WIDTHS, optimizer=optimizer, traced=made, steps=2)
    assert check.passed, str(check)
    assert {r.quantity for r in check.rows} > {
        "lr",
        "eps",
        "weight_decay",
        "init_std",
        "activation",
        "update",
        "gradient",
    }


# -- planted mistakes -----------------------------------------------------------------------------------------------
class RootAttention(Attention):
    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (a.view(b, t, self.heads, -1).transpose(1, 2) for a in self.c_attn(x).split(c, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).contiguous().view(b, t, c))


class RootGPT(GPT):
    """Logits over the root of d."""

    def __init__(self, n: int):
        super().__init__(n)
        for block in self.blocks:
            block.attn.__class__ = RootAttention


class StandardReadout(Untied):
    def __init__(self, n: int):
        super().__init__(n, std=n**-0.5)


class WithoutMultiplier(GPT):
    """Tied, and its logits are not divided by n."""

    def __init__(self, n: int):
        super().__init__(n, multiplier=1.0)


class ConstantMatrix(MLP):
    def __init__(self, n: int):
        super().__init__(n)
        nn.init.normal_(self.fc2.weight, std=0.1)


def gains(name: str, k: str) -> str:
    return "matrix" if "ln" in name and name.endswith("weight") else k


def biases(name: str, k: str) -> str:
    return "matrix" if name.endswith("bias") else k


def embeddings(name: str, k: str) -> str:
    return "matrix" if name in ("wte.weight", "wpe.weight") else k


def all_vectors(name: str, k: str) -> str:
    return "vector" if k == "matrix" else k


ADAMW = torch.optim.AdamW
#: name -> factory, optimizer, what is said about it, one parameter or module that is named
MISTAKES: dict[str, tuple[Callable[[int], nn.Module], Any, str, str]] = {
    "readout of std 1/√n": (
        StandardReadout, groups(torch.optim.Adam, 0.02, ADAM), "init_std of head.weight: falls as n^(-1/2), muP wants n^(-1)",
        "head.weight",
    ),
    "logits over √d": (
        RootGPT, groups(torch.optim.Adam, 0.02, ADAM),
        "attention logits of blocks.0.attn and blocks.1.attn: grow as n^(1/2) in training: the scale is 1/√d, muP wants 1/d",
        "blocks.0.attn",
    ),
    "learning rate of embeddings": (
        GPT, groups(torch.optim.Adam, 0.02, ADAM, embeddings),
        "lr of wte.weight and wpe.weight: falls as n^(-1), muP wants it constant: this embedding is in the group of the matrices",
        "wte.weight",
    ),
    "tied readout without 1/n": (
        WithoutMultiplier, groups(torch.optim.Adam, 0.02, ADAM),
        "has size n^1 at initialisation: too large (`head.weight` is `wte.weight`); divide by it", "",
    ),
    "constant weight decay": (
        GPT, groups(ADAMW, 0.02, ADAM, weight_decay=0.1),
        "is constant, muP wants n: lr times weight_decay must not depend on the width", "blocks.0.fc.weight",
    ),
    "gains among the matrices": (
        GPT, groups(ADAMW, 0.02, ADAM, gains),
        "muP wants it constant: this gain of a LayerNorm is in the group of the matrices", "ln_f.weight",
    ),
    "biases among the matrices": (
        GPT, groups(torch.optim.Adam, 0.02, ADAM, biases), "muP wants it constant: this bias is in the group of the matrices",
        "ln_f.bias",
    ),
    "constant learning rate of matrices": (
        MLP, groups(torch.optim.Adam, 0.02, ADAM, all_vectors), "lr of fc2.weight: is constant, muP wants n^(-1)", "fc2.weight",
    ),
    "Adam's rule for SGD": (
        GPT, groups(torch.optim.SGD, 0.5, ADAM), "scaled as muP scales those of Adam; for SGD it wants n for wte.weight", "",
    ),
    "SGD's rule for Adam": (
        MLP, groups(torch.optim.Adam, 0.002, SGD), "scaled as muP scales those of SGD; for Adam it wants 1 for fc1.weight", "",
    ),
    "constant std of a matrix": (
        ConstantMatrix, groups(torch.optim.Adam, 0.02, ADAM), "init_std of fc2.weight: is constant, muP wants n^(-1/2)",
        "fc2.weight",
    ),
    "eps as large as gradients": (
        GPT, groups(torch.optim.Adam, 0.02, ADAM, eps=1e-3),
        "eps of wte.weight, wpe.weight and 22 more: is constant, muP wants n^(-1): it is not negligible beside the gradients",
        "wte.weight",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name: str) -> None:
    factory, optimizer, said, named = MISTAKES[name]
    loss = regression if issubclass(factory, MLP) else language
    refused = factory is WithoutMultiplier
    settings = {"optimizer": optimizer, "traced": None if refused else traced(factory), "seeds": 2}
    check = tpt.coord_check(factory, loss, WIDTHS[:3], **settings)
    assert not check.passed
    (problem,) = check.problems
    assert said in str(problem) and (named in problem.names or not named)
    assert str(check).splitlines()[:2] == ["coordinate check: FAILED", f"1. {problem}"]
    wrong = {row.quantity for row in check.rows if row.verdict == CoordinateVerdict.WRONG}
    assert wrong <= {problem.quantity, "scale"}, wrong


@pytest.mark.long
@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named_at_twenty_seeds(name: str) -> None:
    factory, optimizer, said, _ = MISTAKES[name]
    loss = regression if issubclass(factory, MLP) else language
    known = None if factory is WithoutMultiplier else traced(factory)
    for seed in range(0, 20_000, 1000):
        check = tpt.coord_check(factory, loss, WIDTHS[:3], optimizer=optimizer, traced=known, seeds=2, seed=seed)
        (problem,) = check.problems
        assert said in str(problem), f"seed {seed}\n{check}"


def test_measured_slopes_are_shown_where_the_trace_is_refused() -> None:
    factory, optimizer, *_ = MISTAKES["tied readout without 1/n"]
    check = tpt.coord_check(factory, language, WIDTHS, optimizer=optimizer)
    (row,) = (r for r in check.rows if (r.name, r.quantity) == ("head", "update"))
    assert abs((row.slope or 0) - 1) < 0.2 and row.verdict == CoordinateVerdict.FOLLOWS
    assert check.notes == ("derived exponents are those of the module with an output of the right size",)
    assert row.derived == 0
    assert any(r.quantity == "lr" and r.verdict == CoordinateVerdict.OK for r in check.rows)


class Sorted(MLP):
    """Sorting has no counterpart in the language."""

    def forward(self, x):
        return self.out(torch.tanh(self.fc2(F.relu(self.fc1(x)))).sort(0).values)


class Dropped(MLP):
    def forward(self, x):
        return self.out(F.dropout(torch.tanh(self.fc2(F.relu(self.fc1(x)))), 0.2, self.training))


def test_dropout_has_no_power() -> None:
    check = tpt.coord_check(Dropped, regression, WIDTHS, optimizer=groups(torch.optim.Adam, 0.02, ADAM))
    assert check.passed and not check.notes, str(check)


def test_without_a_trace_exponents_are_those_of_shapes() -> None:
    right = tpt.coord_check(Sorted, regression, WIDTHS, optimizer=groups(torch.optim.Adam, 0.02, ADAM))
    assert right.passed and any("could not be traced (NX703" in note for note in right.notes), str(right)
    wrong = tpt.coord_check(
        Sorted, regression, WIDTHS[:3], optimizer=groups(torch.optim.Adam, 0.02, ADAM, all_vectors), seeds=2
    )
    assert [str(p) for p in wrong.problems] == ["lr of fc2.weight: is constant, muP wants n^(-1)"]


# -- what only measuring finds --------------------------------------------------------------------------------------
class Drifting(torch.optim.SGD):
    """Its steps are n^(1/2) times as large as its groups say: no setting shows it."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim == 2 and min(p.shape) >= 16:
                    p.grad *= math.sqrt(p.shape[1] / 32)
        return super().step(closure)


Drifting.__name__ = "SGD"


def test_what_no_setting_shows_is_measured() -> None:
    check = tpt.coord_check(MLP, regression, WIDTHS, optimizer=groups(Drifting, 0.2, SGD), traced=traced(MLP))
    (problem,) = check.problems
    assert problem.names == ("fc2.weight",) and problem.quantity == "parameter update"
    (row,) = (r for r in check.rows if (r.name, r.quantity) == ("fc2.weight", "parameter update"))
    assert abs((row.slope or 0) + 0.5) < 3 * row.stderr + 0.1
    assert all(r.verdict != CoordinateVerdict.WRONG or r is row for r in check.rows)


class Growing(MLP):
    """A multiplier in front of a layer that training does not see at first: features grow as n^(1/4)."""

    def forward(self, x):
        n = self.fc2.in_features
        return self.out(n**0.25 * torch.tanh(self.fc2(F.relu(self.fc1(x)))))


def test_features_of_the_wrong_size_are_refused_by_the_trace() -> None:
    check = tpt.coord_check(Growing, regression, WIDTHS, optimizer=groups(torch.optim.Adam, 0.02, ADAM))
    assert not check.passed and "n^(1/4)" in str(check.problems[0])


# -- the trace is made from the first call ----------------------------------------------------------------------------
class Losses(nn.Module):
    """As nanoGPT: called with keywords and targets, it returns logits and the loss."""

    def __init__(self, n: int):
        super().__init__()
        self.gpt = GPT(n)

    def forward(self, tokens, *, targets=None, scale: float = 1.0):
        logits = self.gpt(tokens) * scale
        return {"logits": logits, "loss": F.cross_entropy(logits.flatten(0, 1), targets.flatten())}


def test_a_module_is_traced_as_it_is_called() -> None:
    inner = groups(torch.optim.Adam, 0.02, ADAM, embeddings)
    check = tpt.coord_check(
        Losses,
        lambda m, step: m(TOKENS, targets=NEXT, scale=2.0)["loss"],
        WIDTHS[:3],
        optimizer=lambda m: inner(m.gpt),
        steps=2,
    )
    assert not check.notes
    assert [p.names for p in check.problems] == [("gpt.wte.weight", "gpt.wpe.weight")]
    rows = {(r.name, r.quantity): r for r in check.rows}
    assert (
        rows["gpt.head", "activation"].derived == 1
        and rows["gpt.blocks.0.attn (logits)", "activation"].derived is not None
    )


def test_several_optimizers() -> None:
    def two(model: nn.Module) -> list[Any]:
        n = model.fc2.in_features / 32
        rest = [p for name, p in model.named_parameters() if name != "out.weight"]
        return [
            torch.optim.SGD([model.out.weight], lr=0.5 / n),
            torch.optim.Adam([{"params": rest[2:3], "lr": 0.02 / n}, {"params": rest[:2] + rest[3:], "lr": 0.02}]),
        ]

    check = tpt.coord_check(MLP, regression, WIDTHS, optimizer=two, traced=traced(MLP))
    assert check.passed and set(check.optimizers) == {"SGD", "Adam"}, str(check)


@pytest.mark.parametrize(
    ("kind", "figures"), [("SGD", {"lr": 0.1, "weight_decay": 1.0}), ("AdamW", {"lr": 0.002, "weight_decay": 30.0})]
)
def test_strong_weight_decay_in_mup_passes(kind: str, figures: dict[str, float]) -> None:
    """It shrinks initial entries, n^(-1/2) in a matrix, by more than gradients add."""

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        scaled = traced(MLP).scale(kind).param_groups(model, 32, **figures)
        return getattr(torch.optim, kind)(scaled)

    check = tpt.coord_check(MLP, regression, WIDTHS, optimizer=optimizer, traced=traced(MLP))
    assert check.passed, str(check)


class Separate(nn.Module):
    """Attention over d, with queries and keys in matrices of their own."""

    def __init__(self, n: int):
        super().__init__()
        self.embedding, self.out = nn.Embedding(50, n), nn.Linear(n, 5, bias=False)
        self.q, self.k, self.v = (nn.Linear(n, n, bias=False) for _ in range(3))
        nn.init.normal_(self.out.weight, std=1 / n)

    def forward(self, tokens):
        x = self.embedding(tokens)
        weights = torch.softmax(self.q(x) @ self.k(x).transpose(-1, -2) / x.shape[-1], dim=-1)
        return self.out(x + weights @ self.v(x))


def test_small_steps_of_attention_pass() -> None:
    """First gradients by queries and keys are n^(-3/2), and stay so for as long as steps of SGD are small."""
    tokens = torch.arange(12).reshape(2, 6)
    scaling = tpt.trace(Separate, (tokens,), WIDTHS[:2]).scale("SGD")

    def loss(model: nn.Module, step: int) -> torch.Tensor:
        return F.cross_entropy(model(tokens)[:, -1], torch.tensor([1, 3]))

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(scaling.param_groups(model, 32, lr=0.1))

    check = tpt.coord_check(Separate, loss, WIDTHS, optimizer=optimizer, steps=2)
    assert check.passed, str(check)
    (row,) = (r for r in check.rows if (r.name, r.quantity) == ("q.weight", "parameter update"))
    assert row.derived == -1 and row.slope is not None and row.slope < -1.2, str(check)


# -- records ----------------------------------------------------------------------------------------------------------
def test_json_and_plot(tmp_path: Path) -> None:
    factory, optimizer, *_ = MISTAKES["constant learning rate of matrices"]
    check = tpt.coord_check(factory, regression, WIDTHS, optimizer=optimizer, traced=traced(MLP), steps=2)
    document = json.loads(json.dumps(check.as_json()))
    assert document["passed"] is False and document["widths"] == list(WIDTHS) and document["steps"] == 2
    row = next(r for r in document["rows"] if (r["name"], r["quantity"]) == ("fc2.weight", "lr"))
    assert row == {
        "name": "fc2.weight", "quantity": "lr", "step": None, "slope": 0.0, "stderr": 0.0, "derived": "-1", "verdict": "wrong",
        "reason": "is constant, muP wants n^(-1)", "sizes": [0.02] * 4,
    }  # fmt: skip
    assert {r["step"] for r in document["rows"] if r["quantity"] == "update"} == {2}
    picture = check.plot(tmp_path / "check.svg")
    assert (tmp_path / "check.svg").read_text(encoding="utf-8").count("fc2") >= 2 and len(picture.axes) == 4
    assert "fc2.weight" in check.table and "coordinate check" not in check.table


def test_the_same_seed_gives_the_same_check() -> None:
    optimizer = CORRECT["mlp, Adam"][2]
    one, same, other = (
        tpt.coord_check(MLP, regression, WIDTHS[:3], optimizer=optimizer, traced=traced(MLP), seed=s, seeds=2)
        for s in (0, 0, 7)
    )
    assert one.rows == same.rows and one.rows != other.rows


# -- errors -----------------------------------------------------------------------------------------------------------
class Narrow(MLP):
    def __init__(self, n: int):
        if n > 64:
            raise ValueError("too wide")
        super().__init__(n)


BATCHES = iter(range(1, 1000))


def next_batch(model: nn.Module, step: int) -> torch.Tensor:
    return next(BATCHES) * regression(model, step)


def diverging(model: nn.Module, step: int) -> torch.Tensor:
    n = model.fc2.in_features
    return regression(model, step) * (math.inf if step == 1 and n == 64 else 1.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"widths": (32, 64)}, "three or more"),
        ({"seeds": 1}, "at least 2 seeds"),
        ({"loss_step": lambda m, s: m(X)}, "a tensor of shape (16, 2), not a scalar loss"),
        ({"loss_step": lambda m, s: 1.0}, "returned float"),
        ({"loss_step": lambda m, s: m(X).detach().mean()}, "depends on no parameter"),
        ({"loss_step": lambda m, s: m.out.weight.mean()}, "does not call the module"),
        ({"loss_step": next_batch}, "when it is called again"),
        ({"loss_step": diverging}, "the loss is inf after 1 steps at width 64"),
        ({"factory": Narrow}, "the factory failed at width 128: ValueError: too wide"),
        ({"factory": lambda n: n}, "returned int, not a module"),
        ({"factory": lambda n: MLP(32)}, "the same shapes at all widths"),
        ({"optimizer": lambda m: None}, "returned NoneType"),
        ({"optimizer": lambda m: torch.optim.Adam(MLP(32).parameters())}, "no parameter of the model"),
        ({"traced": tpt.trace(lambda n: nn.Sequential(nn.Linear(3, n), nn.Linear(n, 1)), X)}, "it has no `fc1.weight`"),
        ({"optimizer": 1}, "optimizer(model) failed: TypeError"),
        ({"loss_step": lambda m: regression(m, 0)}, "loss_step(model, step) failed: TypeError"),
        ({"loss_step": lambda m, s: [regression(m, s)][s]}, "failed: IndexError"),
    ],
)
def test_what_cannot_be_measured(arguments: dict[str, Any], words: str) -> None:
    given = {
        "factory": MLP,
        "loss_step": regression,
        "widths": WIDTHS[:3],
        "optimizer": lambda m: torch.optim.SGD(m.parameters(), 0.1),
    }
    with pytest.raises(tpc.ProgramError) as caught:
        tpt.coord_check(**(given | arguments))
    assert caught.value.diagnostics[0].code == "NX715" and words in str(caught.value)


# -- the command line -------------------------------------------------------------------------------------------------
MODULE = """
import torch
from torch import nn
import tp_compiler.torch as tpt

X, Y = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.ones(8, 1)

def net(n):
    out = nn.Linear(n, 1, bias=False)
    nn.init.normal_(out.weight, std=1 / n)
    return nn.Sequential(nn.Linear(3, n), nn.Tanh(), nn.Linear(n, n, bias=False), nn.Tanh(), out)

def check(widths, power=-1):
    def adam(m):
        scale = (m[2].in_features / 16) ** power
        wide = [m[2].weight, m[4].weight]
        return torch.optim.Adam([{"params": wide, "lr": 0.02 * scale}, {"params": list(m[0].parameters()), "lr": 0.02}])
    return tpt.coord_check(net, lambda m, step: ((m(X) - Y) ** 2).mean(), widths, optimizer=adam, steps=2, seeds=2)

def wrong(widths):
    return check(widths, power=0)

def nothing(widths):
    return 3

def raises(widths):
    return {}["mine"]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checked_net.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "checked_net", raising=False)


def test_the_command(folder: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coord", "checked_net:check", "--widths", "16,32,64,128"]) == 0
    assert capsys.readouterr().out.startswith("coordinate check: passed\n")
    assert main(["coord", "checked_net:wrong", "--widths", "16,32,64,128", "--json", "--plot", "check.png"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["passed"] is False and document["problems"][0]["names"] == ["2.weight", "4.weight"]
    assert Path("check.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["checked_net:nothing"], "returned int, not a CoordCheck"),
        (["checked_net:raises"], "checked_net:raises(widths=...) failed: KeyError: 'mine' ("),
        (["checked_net:net"], "failed: TypeError: net() got an unexpected keyword argument 'widths'"),
        (["checked_net:check", "--widths", "16,32"], "three or more widths"),
        (["checked_net:missing"], "missing"),
    ],
)
def test_slips(arguments: list[str], words: str, folder: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coord", *arguments]) == 2
    assert words in capsys.readouterr().err
