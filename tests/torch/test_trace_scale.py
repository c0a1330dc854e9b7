"""`traced.scale`: parameter groups and initial values by torch's names, against the program's own training, tables and limit."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import itertools
import math
import types
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tp_compiler as tpc  # noqa: E402
import tp_compiler.torch as tpt  # noqa: E402
from tests.torch.modules import FAMILIES, GPT, MLP, TOKENS, _numbers, small  # noqa: E402
from tests.torch.test_trace import UNSEEN, WIDTHS, traced  # noqa: E402

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
    "AMSGrad": ("AMSGrad(lr = 0.03, eps = 0.02)", "Adam", {"lr": 0.03, "eps": 0.02}),
    "NAdam": ("NAdam(lr = 0.03, eps = 0.02)", "NAdam", {"lr": 0.03, "eps": 0.02}),
    "Adamax": ("Adamax(lr = 0.03, eps = 0.02)", "Adamax", {"lr": 0.03, "eps": 0.02}),
    "Adagrad": ("Adagrad(lr = 0.03, eps = 0.02)", "Adagrad", {"lr": 0.03, "eps": 0.02}),
    "Adadelta": ("Adadelta(lr = 0.3, eps = 0.01)", "Adadelta", {"lr": 0.3, "eps": 0.01}),
    "Rprop": (
        "Rprop(lr = 0.03, step_size_min = 0.02, step_size_max = 0.033)",
        "Rprop",
        {"lr": 0.03, "step_sizes": (0.02, 0.033)},
    ),
}
STEPS = 3
#: Variants of other families. The encoder's logits over √d have no training limit.
VARIANTS = ("gpt, infinite heads", "a batch of one", "attention by hand", "grouped queries")


def program(made: tpt.Traced, *updates: str) -> str:
    """The program inside a training loop, with the loss mean (f - 1/2)^2 over all outputs together."""
    w = made._written
    ends = [(n.partition("["), v) for n, v in w.outputs.items()]
    lines = [f"{''.join(n)} = {v}" for n, v in ends]
    losses = [f"mean[{n[2][:-1]}](({''.join(n)} - 1/2)^2)" if n[2] else f"({n[0]} - 1/2)^2" for n, _ in ends]
    loop = [*w.body, *lines, f"loss = {' + '.join(losses)}", "minimize loss", *updates]
    return "\n".join([*w.header, *w.declarations, f"train steps = {STEPS} {{", *loop, "}", "output loss[step]", ""])


def losses(module: nn.Module, groups: Any, kind: Any, x: torch.Tensor) -> list[float]:
    """The same training by a class of torch.optim, or by what a function makes of the groups."""
    optimizer = (getattr(torch.optim, kind) if isinstance(kind, str) else kind)(groups)
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
        *((name, "Adam") for name in FAMILIES if name not in ("encoder", *VARIANTS)),
        *(pytest.param(name, "Adam", marks=pytest.mark.slow) for name in VARIANTS),
        *(("mlp", optimizer) for optimizer in OPTIMIZERS),
        *((name, optimizer) for name in ("gpt", "tangent") for optimizer in ("SGD", "AdamW")),
    ],
)
def test_groups_in_natural_units_train_as_the_program_does(name: str, optimizer: str) -> None:
    made, module = traced(name)
    text, kind, figures = OPTIMIZERS[optimizer]
    run = tpc.simulate(program(made, f"update all with {text}"), UNSEEN, weights=made.weights(module, UNSEEN))
    module = copy.deepcopy(module)
    found = losses(
        module,
        made.scale("SGD" if optimizer == "Momentum" else optimizer).param_groups(module, None, **figures),
        kind,
        FAMILIES[name][1],
    )
    assert abs(found[-1] - found[0]) > 1e-4
    np.testing.assert_allclose(run["loss"], found, rtol=0, atol=1e-8)


# ---------------------------------------------------------------------------------------- the same network, written in four ways


class Written(nn.Module):
    """A network whose weights are n^size times Gaussians of variance 1, 1/n and 1/n^2, times multipliers that make up for it."""

    def __init__(self, n: int, sizes: tuple[float, float, float]):
        super().__init__()
        self.multipliers = [float(n) ** -s for s in sizes]
        self.u, self.w, self.v = (
            nn.Parameter(float(n) ** (power + s) * torch.randn(*shape))
            for power, s, shape in zip((0, -0.5, -1), sizes, ((n, 3), (n, n), (2, n)), strict=True)
        )

    def forward(self, x):
        u, w, v = self.multipliers
        h = torch.tanh(x @ self.u.T * u)
        return torch.tanh(h @ (self.w * w).T) @ self.v.T * v


#: The powers of n of entries, and published exponents of the learning rates of input, hidden and output weights.
PUBLISHED = {
    "TP V Table 3": ((0, 0, 0), {"SGD": (1, 0, -1), "Adam": (0, -1, -1)}),
    "TP V Table 8": ((0, 0, 1), {"SGD": (1, 0, 1), "Adam": (0, -1, 0)}),
    "TP V Table 9; muP of Everett et al.": ((-0.5, 0, 0.5), {"SGD": (0, 0, 0), "Adam": ("-1/2", -1, "-1/2")}),
    "mean field of Everett et al.": ((0, 0.5, 1), {"SGD": (1, 1, 1), "Adam": (0, "-1/2", 0)}),
}
X = _numbers(4, 3)


@pytest.mark.parametrize("table", PUBLISHED)
def test_exponents_are_the_published_ones(table: str) -> None:
    sizes, rates = PUBLISHED[table]
    made = tpt.trace(lambda n: Written(n, sizes), (X,), WIDTHS)
    for optimizer, wanted in rates.items():
        scaling = made.scale(optimizer)
        assert tuple(scaling[name]["lr"] for name in "uwv") == tuple(map(Fraction, wanted)), table
        spread = tuple(float(scaling[name]["init_std"]) for name in "uwv")
        assert spread == (sizes[0], -0.5 + sizes[1], -1 + sizes[2])
        assert [scaling[name]["multiplier"] for name in "uwv"] == [-Fraction(s) for s in sizes]
    assert [made.scale("AdamW")[name]["weight_decay"] for name in "uwv"] == [-Fraction(x) for x in rates["Adam"]]


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_equal_networks_train_equally_however_they_are_written(optimizer: str) -> None:
    """In natural units, and with figures that are natural at a base width."""
    _, kind, figures = OPTIMIZERS[optimizer]
    n, base, runs = 48, 16, []
    for sizes, _ in PUBLISHED.values():
        scaling = tpt.trace(lambda n, s=sizes: Written(n, s), (X,), WIDTHS).scale(optimizer)
        tuned = {f: {name: scaling.raw(f, name, x, base) for name in "uwv"} for f, x in figures.items()}
        for at, given in ((None, figures), (base, tuned)):
            torch.manual_seed(3)
            module = scaling.init_(Written(n, sizes), None).double()
            runs.append(losses(module, scaling.param_groups(module, at, **given), kind, X))
    assert abs(runs[0][-1] - runs[0][0]) > 1e-3
    np.testing.assert_allclose(runs, [runs[0]] * len(runs), rtol=1e-5)


# ------------------------------------------------------------------------------------------------------------------ the limit


def separately(made: tpt.Traced, kind: str, base: int, figures: dict[str, float]) -> list[str]:
    """An update of each parameter, with the natural figures of a network that has the same ones for all at the base width."""
    scaling, found = made.scale(kind), {}
    for name, p in made.parameters.items():
        values = ", ".join(f"{f} = {scaling.natural(f, name, x, base)!r}" for f, x in figures.items())
        found[p.name] = f"update {f'|{p.name}>' if p.kind == 'ket' else p.name} with {kind}({values})"
    return list(found.values())


@pytest.mark.parametrize(
    ("name", "kind", "figures", "widths", "samples"),
    [
        ("mlp", "SGD", {"lr": 0.3}, (128, 256, 512), 1024),
        ("mlp", "Adam", {"lr": 0.02, "eps": 0.01}, (128, 256, 512), 1024),
        ("gpt", "AdamW", {"lr": 0.02, "eps": 0.003, "weight_decay": 0.1}, (32, 64, 128), 256),
        pytest.param("gpt", "SGD", {"lr": 3.0}, (32, 64, 128), 1024, marks=pytest.mark.slow),
    ],
)
def test_a_model_with_these_groups_reaches_the_limit(
    name: str, kind: str, figures: dict[str, float], widths: tuple[int, ...], samples: int
) -> None:
    """One learning rate for all at a base width: means over seeds, extrapolated as 1/n, against the limit of the program."""
    (factory, x), base, seeds = FAMILIES[name], 64, 24
    made = tpt.trace(factory, (x,), WIDTHS, base_width=base)
    scaling = made.scale(kind)
    text = program(made, *separately(made, kind, base, figures))
    limit = tpc.limit(text, samples=samples, max_samples=samples).outputs["loss"]
    means, errors = [], []
    for n in widths:
        runs = []
        for seed in range(seeds):
            torch.manual_seed(1000 * n + seed)
            module = scaling.init_(factory(n), None).double()
            runs.append(losses(module, scaling.param_groups(module, base, **figures), kind, x))
        means.append(np.mean(runs, 0))
        errors.append(np.std(runs, 0, ddof=1) / math.sqrt(seeds))
    inverse = np.array([[1.0, 1.0 / n] for n in widths])
    for t, wanted in enumerate(limit.value):
        weights = np.array([1 / e[t] for e in errors])
        inside = np.linalg.inv((inverse.T * weights**2) @ inverse)
        reached = (inside @ (inverse.T * weights**2) @ np.array([m[t] for m in means]))[0]
        error = math.hypot(math.sqrt(inside[0, 0]), limit.stderr[t])
        assert abs(reached - wanted) < 4 * error, (t, reached, wanted, error)
        assert error < 0.06 * limit.value[0]
    assert limit.value[-1] < 0.5 * limit.value[0]


# ---------------------------------------------------------------------------------------------------------------------- groups


def gpt(optimizer: str = "AdamW") -> Any:
    return traced("gpt")[0].scale(optimizer)


def test_at_the_base_width_every_group_has_the_given_figures() -> None:
    for n in (64, 128):
        groups = gpt().param_groups(GPT(n), base_width=64, lr=1e-3, weight_decay=0.1, betas=(0.8, 0.95))
        torch.optim.AdamW(groups)
        assert [g["name"] for g in groups] == ["input", "matrix"]
        times = n / 64
        assert [g["lr"] for g in groups] == [1e-3, 1e-3 / times]
        assert [g["weight_decay"] for g in groups] == [0.1, 0.1 * times]
        assert [g["eps"] for g in groups] == [1e-8 / times] * 2  # torch's default scales, too
        assert all(g["betas"] == (0.8, 0.95) for g in groups)
    model = GPT(128)
    names = [name for g in groups for name in g["names"]]
    assert sorted(names) == sorted(dict(model.named_parameters()))  # the tied matrix once
    assert "head.weight" in gpt().units


def test_every_parameter_can_have_figures_of_its_own() -> None:
    model = GPT(128)
    model.wpe.weight.requires_grad_(False)
    lr = {"*": 1e-3, "wte*": 1e-2, "blocks.*.attn.*": 5e-4}
    groups = gpt().param_groups(model, 64, lr=lr, no_decay=lambda name, p: p.ndim < 2)
    rates = {name: g["lr"] for g in groups for name in g["names"]}
    decays = {name: g["weight_decay"] for g in groups for name in g["names"]}
    assert rates["wte.weight"] == 1e-2 and rates["ln_f.bias"] == 1e-3 and rates["blocks.1.attn.c_proj.weight"] == 2.5e-4
    assert rates["blocks.0.fc.weight"] == 5e-4 and "wpe.weight" not in rates
    assert decays["ln_f.weight"] == decays["blocks.0.fc.bias"] == 0 and decays["blocks.0.fc.weight"] == 0.02
    assert len({g["name"] for g in groups}) == len(groups)
    matrices = gpt("Muon").param_groups(model, 64, lr=0.02, only="*.c_*")
    assert [g["names"] for g in matrices] == [
        [f"blocks.{k}.attn.{w}.weight" for k in (0, 1) for w in ("c_attn", "c_proj")]
    ]
    torch.optim.Muon(matrices)


def test_steps_that_muon_of_torch_multiplies_itself() -> None:
    """Its root of rows over columns times our learning rate is the wanted power of the width, for any orientation."""
    scaling, own = gpt("Muon"), lambda p: math.sqrt(max(1.0, p.shape[0] / p.shape[1]))
    steps = {}
    for n in (2, 4, 64, 256):
        model = GPT(n, vocabulary=5)
        held = dict(model.named_parameters())
        groups = scaling.param_groups(model, 64, lr=0.02)
        for g in groups:
            for name in g["names"]:
                if held[name].ndim == 2:
                    steps.setdefault(name, {})[n] = (g["lr"] * own(held[name]), g["lr"] * g["weight_decay"])
    for name, found in steps.items():
        power = 0 if "blocks" in name else Fraction(1, 2)
        for n, (step, decay) in found.items():
            assert step == pytest.approx(found[64][0] * (n / 64) ** float(power)), name
            assert decay == pytest.approx(0.002)
    message = complaint(lambda: scaling.param_groups(GPT(64), 64, lr=0.02, adjust_lr_fn="match_rms_adamw"))
    assert "NX713" in message and "match_rms_adamw" in message


def test_weight_decay_inside_the_gradient_has_no_power_of_the_width() -> None:
    with pytest.raises(tpc.ProgramError, match="NX713"):
        gpt("Adam").param_groups(GPT(64), 64, lr=1e-3, weight_decay=0.1)
    groups = gpt("Adam").param_groups(GPT(128), 64, lr=1e-3, weight_decay=0.1, decoupled_weight_decay=True)
    assert [g["weight_decay"] for g in groups] == [0.1, 0.2]
    torch.optim.Adam(groups)


def test_other_arguments_scale_with_what_they_are_compared_with() -> None:
    with pytest.warns(UserWarning, match="does not read `initial_accumulator_value` of groups"):
        adagrad = gpt("Adagrad").param_groups(GPT(128), 64, lr=0.1, initial_accumulator_value=0.3, lr_decay=0.1)
    assert [g["initial_accumulator_value"] for g in adagrad] == [0.075, 0.075]
    torch.optim.Adagrad(adagrad)
    rprop = gpt("Rprop").param_groups(GPT(128), 64, lr=0.1, step_sizes=(1e-6, 4.0))
    assert [g["step_sizes"] for g in rprop] == [(1e-6, 4.0), (5e-7, 2.0)]
    torch.optim.Rprop(rprop)
    defaults = gpt("Rprop").param_groups(GPT(128), 64, lr=0.1)
    assert [g["step_sizes"] for g in defaults] == [(1e-6, 50), (5e-7, 25)]
    defaults = gpt("Adafactor").param_groups(GPT(128), 64, lr=0.1)
    assert sorted(g["eps"][1] for g in defaults) == pytest.approx([1e-3 * 2**-0.5, 1e-3])
    torch.optim.Adafactor(gpt("Adafactor").param_groups(GPT(128), 64, lr=0.1, eps=(None, 1e-3)))


@pytest.mark.parametrize(
    "text",
    [
        "Rprop(lr = 0.1, etaminus = 0.4, step_size_max = 2)",
        "Adafactor(lr = 0.1, eps1 = 1e-4, eps2 = 0.01)",
        "Adagrad(lr = 0.1, initial_accumulator_value = 0.3)",
        "NAdam(lr = 0.1, momentum_decay = 0.1)",
        "RMSprop(lr = 0.1, centered = 1)",
    ],
)
@pytest.mark.filterwarnings("ignore:torch.optim.Adagrad does not read")
def test_figures_of_a_program_have_the_names_of_torch(text: str) -> None:
    module, made = FAMILIES["mlp"][0](96), traced("mlp")[0]
    scaling = made.train("mse", torch.zeros_like(module(FAMILIES["mlp"][1])), optimizer=text, steps=2).scale()
    groups = scaling.param_groups(module, None)
    known = inspect.signature(getattr(torch.optim, text.partition("(")[0])).parameters
    assert all(set(group) - {"name", "names"} <= set(known) for group in groups)
    emitted = types.ModuleType("emitted")
    exec(compile(scaling.torch(), "emitted", "exec"), emitted.__dict__)
    single = {g["name"]: g for g in emitted.parameter_groups(dict(module.named_parameters()), 96.0)}
    for group in groups:
        for name, figure in itertools.product(group["names"], set(group) - {"name", "names", "params"}):
            if figure in single[name]:
                assert single[name][figure] == pytest.approx(group[figure], rel=1e-12), (name, figure)


def test_the_sums_of_adagrad_start_where_the_program_says() -> None:
    made, module = traced("mlp")
    text = "Adagrad(lr = 0.3, initial_accumulator_value = 0.5)"
    run = tpc.simulate(program(made, f"update all with {text}"), UNSEEN, weights=made.weights(module, UNSEEN))
    with pytest.warns(UserWarning, match="initial_accumulator_value"):
        groups = made.scale("Adagrad").param_groups(
            copied := copy.deepcopy(module), None, lr=0.3, initial_accumulator_value=0.5
        )

    def filled(groups: Any) -> torch.optim.Optimizer:
        optimizer = torch.optim.Adagrad(groups)
        for group in optimizer.param_groups:
            for p in group["params"]:
                optimizer.state[p]["sum"].fill_(group["initial_accumulator_value"])
        return optimizer

    np.testing.assert_allclose(run["loss"], losses(copied, groups, filled, FAMILIES["mlp"][1]), rtol=0, atol=1e-8)


def test_arguments_that_torch_lacks_are_said() -> None:
    out = torch.zeros_like(FAMILIES["mlp"][0](64)(FAMILIES["mlp"][1]))
    scaling = traced("mlp")[0].train("mse", out, optimizer="Adam(lr = 0.1, eps_root = 0.1)", steps=2).scale()
    with pytest.warns(UserWarning, match="no `eps_root`"):
        scaling.param_groups(FAMILIES["mlp"][0](64), None)


def test_emitted_groups_are_the_same() -> None:
    made = types.ModuleType("emitted")
    scaling = gpt()
    exec(compile(scaling.torch(), "emitted", "exec"), made.__dict__)
    model = GPT(128)
    emitted = {g["name"]: g for g in made.parameter_groups(dict(model.named_parameters()), 2.0, lr=1e-3, eps=1e-8)}
    for g in scaling.param_groups(model, 64, lr=1e-3):
        assert all(emitted[name][f] == g[f] for name in g["names"] for f in ("lr", "eps"))


def test_pages_have_torchs_names() -> None:
    scaling = gpt()
    assert "blocks.*.fc.weight" in str(scaling) and "class: feature-learning" in str(scaling)
    assert scaling.as_json()["torch"]["head.weight"]["exponents"]["lr"] == "0"
    assert scaling["blocks.0.proj.weight"]["lr"] == -1 and scaling["wte"]["eps"] == -1
    assert scaling.notes == [] and "blocks" in scaling._repr_html_() and scaling._repr_latex_()


# -------------------------------------------------------------------------------------------------------------- initial values


class Stock(nn.Module):
    """As people write it: one std for all, PyTorch's biases and readout, an orthogonal layer, gains."""

    def __init__(self, n: int):
        super().__init__()
        self.read, self.a, self.b, self.c, self.out = (
            nn.Linear(*s) for s in ((3, n), (n, n), (n, 4 * n), (4 * n, n), (n, 2))
        )
        self.norm, self.scale = nn.LayerNorm(n), nn.Parameter(torch.randn(3))
        nn.init.normal_(self.a.weight, std=0.02)
        nn.init.orthogonal_(self.b.weight)

    def forward(self, x):
        return self.out(self.norm(self.c(self.b(torch.relu(self.a(self.read(x * self.scale)))))))


def test_initial_values_are_those_of_the_base_width_scaled() -> None:
    made = tpt.trace(Stock, (X,), WIDTHS)
    scaling, base = made.scale("AdamW"), 64
    assert [note for note in scaling.notes if "out.weight" in note and "n^(-1/2), where muP has n^(-1)" in note]
    assert [note for note in scaling.notes if "a.weight" in note and "size 1, where muP has n^(-1/2)" in note]
    at_base = dict(Stock(base).named_parameters())
    torch.manual_seed(0)
    drawn = dict(scaling.init_(Stock(512), base).named_parameters())
    torch.manual_seed(0)
    again = dict(scaling.init_(Stock(512), base).named_parameters())
    powers = {"a.weight": -0.5, "b.weight": -0.5, "c.weight": -0.5, "out.weight": -1}
    for name, values in drawn.items():
        assert torch.equal(values, again[name])
        wanted = at_base[name].std().item() * 8 ** powers.get(name, 0)
        if values.numel() > 3:
            assert values.std().item() == pytest.approx(wanted, rel=0.35 if values.ndim == 1 else 0.12, abs=1e-9), name
    top, largest = 1 / math.sqrt(3), drawn["read.weight"].abs().max()
    assert 0.99 * top < largest <= top  # uniform, as it was
    assert (drawn["norm.weight"] == 1).all() and (drawn["norm.bias"] == 0).all()


def test_initial_values_in_natural_units_are_those_of_the_program() -> None:
    made = tpt.trace(Stock, (X,), WIDTHS, base_width=64)
    scaling = made.scale("AdamW")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        one = dict(scaling.init_(Stock(256), None, generator=torch.Generator().manual_seed(2)).named_parameters())
        other = dict(scaling.init_(Stock(256), 64, generator=torch.Generator().manual_seed(2)).named_parameters())
    first = dict(scaling.init_(Stock(32), None).named_parameters())
    assert torch.equal(one["scale"], first["scale"]) and not torch.equal(one["scale"], other["scale"])
    assert one["a.weight"].std().item() == pytest.approx(0.02 * math.sqrt(64 / 256), rel=0.02)
    assert (one["a.bias"] == 0).all() and other["a.bias"].std() > 0.05


# --------------------------------------------------------------------------------------------------------------------- errors


def complaint(action: Any) -> str:
    with pytest.raises(tpc.ProgramError) as caught:
        action()
    (found,) = caught.value.diagnostics
    assert found.remedy
    return str(caught.value)


def test_models_that_do_not_fit_are_refused() -> None:
    scaling = gpt()
    message = complaint(lambda: scaling.param_groups(MLP(64), 64))
    assert "NX711" in message and "`fc1.weight`" in message
    untied = GPT(64)
    untied.head.weight = nn.Parameter(untied.wte.weight.detach().clone())
    message = complaint(lambda: scaling.param_groups(untied, 64))
    assert "NX711" in message and "`head.weight` and `wte.weight`" in message
    assert "NX711" in complaint(lambda: scaling.init_(GPT(64, vocabulary=7), None))
    assert "NX711" in complaint(lambda: scaling.param_groups(GPT(64), 64, width=32))
    assert "NX712" in complaint(lambda: scaling.param_groups(GPT(64), 64, lr={"embedding*": 1.0}))
    assert "NX712" in complaint(lambda: scaling.param_groups(GPT(64), 64, no_decay="*.gain"))
    assert "NX712" in complaint(lambda: scaling.raw("lr", "embedding", 1.0, 64))
    message = complaint(lambda: scaling.raw("lrr", "wte.weight", 1.0, 64))
    assert "NX713" in message and "did you mean `lr`" in message
    assert scaling.raw("betas", "wte.weight", 0.9, 64) == scaling.natural("betas", "wte.weight", 0.9, 64) == 0.9
    assert "NX713" in complaint(lambda: scaling.init_(GPT(64), 0))
    for figures in (
        {"eps": (None, -1.0)},
        {"lr": -0.1},
        {"lr": math.nan},
        {"lr": "0.1"},
        {"lr": {"*": -1.0}},
        {"weight_decay": math.inf},
    ):
        assert "NX713" in complaint(lambda given=figures: scaling.param_groups(GPT(64), 64, **given))
    assert "base_width is 0" in complaint(lambda: scaling.param_groups(GPT(64), 0, lr=0.1))
    assert "NX601" in complaint(lambda: gpt("Newton"))


@pytest.mark.filterwarnings("ignore:the module is trivial")
def test_a_width_that_no_shape_shows_is_given() -> None:
    fixed = lambda n: nn.Linear(3, 2)  # noqa: E731
    scaling = tpt.trace(fixed, (X,), WIDTHS).scale("AdamW")
    assert "`width=`" in complaint(lambda: scaling.param_groups(fixed(1), 64, lr=1.0))
    assert scaling.param_groups(fixed(1), 64, width=128, lr=1.0)[0]["lr"] == 1.0


def test_parameters_that_no_output_needs_are_named() -> None:
    class Spare(MLP):
        def __init__(self, n: int):
            super().__init__(n)
            self.extra = nn.Linear(n, 3)

    scaling = tpt.trace(Spare, (X,), WIDTHS).scale("AdamW")
    with pytest.warns(UserWarning, match=r"`extra.bias`, `extra.weight`, which no group has"):
        groups = scaling.param_groups(Spare(64), 64, lr=1.0)
    assert not [name for g in groups for name in g["names"] if "extra" in name]


def test_wrapped_models_fit() -> None:
    class Wrapped(nn.Module):
        def __init__(self, module: nn.Module):
            super().__init__()
            self.module = module

    groups = gpt().param_groups(Wrapped(GPT(64)), 64)
    assert groups[0]["names"][0] == "wte.weight"
    compiled = torch.nn.ModuleDict({"_orig_mod": GPT(64)})
    assert gpt().param_groups(compiled, 64)[0]["names"] == groups[0]["names"]


def test_what_no_group_can_mend_is_said() -> None:
    made = tpt.trace(lambda n: GPT(n, multiplier=n**-0.5), (TOKENS,), WIDTHS)
    with pytest.warns(UserWarning, match=r"`head.weight` reads move by n\^\(1/2\)"):
        made.scale("AdamW").param_groups(GPT(64), 64)
    factory, x = FAMILIES["encoder"]  # 1/√d attention
    with pytest.warns(UserWarning, match="unstable"):
        tpt.trace(factory, (x,), WIDTHS).scale("AdamW").param_groups(factory(64), 64)


def test_members_of_a_family_may_learn_differently_or_not_at_all() -> None:
    """Blocks of a traced module are one family; a program may update its members apart."""

    class Deep(nn.Module):
        def __init__(self, n: int):
            super().__init__()
            self.read, self.out = nn.Linear(3, n), small(nn.Linear(n, 1))
            self.body = nn.ModuleList(nn.Linear(n, n, bias=False) for _ in range(4))

        def forward(self, x):
            x = self.read(x)
            for layer in self.body:
                x = x + torch.tanh(layer(x))
            return self.out(x)

    made = tpt.trace(Deep, (X,), WIDTHS)
    names = [made.parameters[f"body.{k}.weight"] for k in range(4)]
    assert [p.member for p in names] == [(k,) for k in range(1, 5)]
    family = names[0].name
    text = program(made, f"update {family}[2] with SGD(lr = 3)", f"update {family}[1], {family}[3] with Adam(lr = 0.5)")
    scaling = dataclasses.replace(made, text=text).scale()
    groups = scaling.param_groups(Deep(64), None)
    rates = {name: g["lr"] for g in groups for name in g["names"]}
    assert rates == {"body.0.weight": 0.5 / 64, "body.1.weight": 3.0, "body.2.weight": 0.5 / 64}
    torch.manual_seed(0)
    drawn = scaling.init_(Deep(256), 64)
    assert drawn.body[3].weight.std().item() == pytest.approx(
        1 / math.sqrt(3 * 256), rel=0.05
    )  # though nothing trains it


# ---------------------------------------------------------------------------------------------------- there and back again


@pytest.mark.parametrize(
    ("name", "kind", "figures"),
    [
        ("gpt", "AdamW", {"lr": 0.02, "eps": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.9)}),
        ("signals", "SGD", {"lr": 0.1, "momentum": 0.9}),
        ("tangent", "Adam", {"lr": 0.02, "eps": 0.01}),
        ("signals", "Rprop", {"lr": 0.02, "step_sizes": (1e-3, 0.05), "etas": (0.4, 1.3)}),
    ],
)
def test_groups_of_every_width_are_one_program_and_it_gives_them_back(
    name: str, kind: str, figures: dict[str, Any]
) -> None:
    factory, x = FAMILIES[name]
    made, _ = traced(name)
    scaling, texts = made.scale(kind), []
    for n in (32, 48, 96):
        module = factory(n)
        groups = scaling.param_groups(module, 64, **figures)
        optimizer = getattr(torch.optim, kind)(groups)
        looped = made.train("mse", torch.zeros_like(module(x)), optimizer=optimizer, steps=2, module=module)
        texts.append(looped.text)
        back = {k: g for g in looped.scale().param_groups(module, None) for k in g["names"]}
        for group in groups:
            for k in group["names"]:
                for figure in figures:
                    assert back[k][figure] == pytest.approx(group[figure], rel=1e-9), (k, figure)
    assert len(set(texts)) == 1 and "update" in texts[0]
