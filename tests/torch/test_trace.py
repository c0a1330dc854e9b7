"""A traced module is the module: forward, gradients through training steps, laws, limit; and what is refused says why."""

from __future__ import annotations

import copy
import math
import re
from fractions import Fraction
from functools import cache

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tp_compiler as tpc  # noqa: E402
import tp_compiler.torch as tpt  # noqa: E402
from tests.torch.modules import FAMILIES, GPT, MLP, TOKENS, _numbers, network, small  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("single_precision")]
WIDTHS, UNSEEN = (32, 64), 96


@cache
def traced(name: str, training: bool = False) -> tuple[tpt.Traced, nn.Module]:
    """A traced family, and a network at a width that was not traced, with gains and biases of order one."""
    factory, x = FAMILIES[name]
    made = tpt.trace(factory, (x,), WIDTHS, training=training)
    module = network(factory, UNSEEN, seed=5).train(training)
    return made, module


@pytest.mark.parametrize("name", FAMILIES)
def test_forward_is_that_of_the_module(name: str) -> None:
    made, module = traced(name)
    assert [d.render() for d in tpc.check(made.text)] == []
    assert made.compare(module, UNSEEN) < 1e-10


def test_batch_statistics_of_training_mode() -> None:
    made, module = traced("batch norm", training=True)
    assert made.compare(module, UNSEEN) < 1e-10


RATE, STEPS = 0.05, 2


def trained_text(made: tpt.Traced) -> str:
    """The program inside a training loop, with the loss mean (f - 1/2)^2 over all outputs together."""
    w = made._written
    ends = [(n.partition("["), v) for n, v in w.outputs.items()]
    lines = [f"{''.join(n)} = {v}" for n, v in ends]
    losses = [f"mean[{n[2][:-1]}](({''.join(n)} - 1/2)^2)" if n[2] else f"({n[0]} - 1/2)^2" for n, _ in ends]
    loop = [*w.body, *lines, f"loss = {' + '.join(losses)}", "minimize loss", f"update all with SGD(lr = {RATE})"]
    return "\n".join([*w.header, *w.declarations, f"train steps = {STEPS} {{", *loop, "}", "output loss[step]", ""])


def losses(made: tpt.Traced, module: nn.Module, x: torch.Tensor) -> list[float]:
    """The same training by PyTorch: natural gradients are those of the parameters times the sizes of their widths."""
    n = UNSEEN
    rates = {}
    for name, p in made.parameters.items():
        sizes = [float(Fraction(r)) * n for r in p.widths]
        factor = sizes[0] if p.kind == "ket" else sizes[0] / sizes[1] if p.kind == "matrix" else 1.0
        rates[name] = RATE * factor * float(n) ** (2 * float(p.power))
    module = copy.deepcopy(module)
    tensors = dict(module.named_parameters())
    found = []
    for _ in range(STEPS + 1):
        out = module(x.double() if x.is_floating_point() else x)
        values = out.values() if isinstance(out, dict) else [out]
        loss = sum(((v - 0.5) ** 2).mean() for v in values)
        found.append(loss.item())
        names = [k for k in tensors if k in rates]
        gradients = torch.autograd.grad(loss, [tensors[k] for k in names])
        with torch.no_grad():
            for name, g in zip(names, gradients, strict=True):
                tensors[name] -= rates[name] * g
    return found


#: Logits of 1/sqrt(d) are `clt` brackets, whose natural gradients are those of muP's.
TRAINED = [name for name in FAMILIES if name != "encoder"]


@pytest.mark.parametrize("name", TRAINED)
def test_training_is_that_of_the_module(name: str) -> None:
    made, module = traced(name)
    weights = made.weights(module, UNSEEN)
    run = tpc.simulate(trained_text(made), UNSEEN, weights=weights)
    wanted = losses(made, module, FAMILIES[name][1])
    assert abs(wanted[-1] - wanted[0]) > 1e-4
    np.testing.assert_allclose(run["loss"], wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", FAMILIES)
def test_no_parameter_of_the_width_becomes_data(name: str) -> None:
    made, module = traced(name)
    small_names = {m for m, p in module.named_parameters() if max(p.shape) < UNSEEN // 4}
    for parameter, p in made.parameters.items():
        assert (p.kind == "scalar") == (parameter in small_names)
    assert set(made.parameters) == {n for n, _ in module.named_parameters(remove_duplicate=False)}
    for line in made.text.splitlines():
        if line.startswith("data"):
            assert len(line) < 3000
    weights = made.weights(module, UNSEEN)
    assert sum(v.size for v in weights.values()) == sum(p.numel() for p in module.parameters())
    loaded = made.weights(module.state_dict(), UNSEEN)
    assert all(np.array_equal(loaded[name], value) for name, value in weights.items())


def test_a_lone_tensor_is_the_only_input() -> None:
    x = torch.randn(3, 4)
    assert tpt.trace(_readout, x).text == tpt.trace(_readout, (x,)).text


def _readout(n: int) -> nn.Module:
    return nn.Sequential(nn.Linear(4, n), nn.Tanh(), nn.Linear(n, 1))


def test_laws_are_those_of_the_module() -> None:
    made = tpt.trace(MLP, (_numbers(4, 3),), WIDTHS)
    laws = {name: (p.kind, p.law, p.power) for name, p in made.parameters.items()}
    third = re.fullmatch(r"uniform\((.*)\)", laws["fc1.weight"][1])
    assert third is not None and abs(float(third[1]) - 1 / math.sqrt(3)) < 1e-12
    assert laws["fc1.bias"][0] == "ket" and laws["fc1.bias"][1][:20] == laws["fc1.weight"][1][:20]
    assert laws["fc2.weight"] == ("matrix", "N(0, 1/3)", 0)
    assert laws["fc2.bias"] == ("ket", "0", 0)
    assert laws["out.weight"] == ("ket", "N(0, 1)", -1)
    assert laws["out.bias"] == ("scalar", "0", 0)
    assert any("fc2.bias" in note for note in made.report) and "fc2.bias" in str(made)


class Drawn(nn.Module):
    """Laws in the ways people write them."""

    def __init__(self, n: int):
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(n, n, bias=False) for _ in range(4))
        self.e, self.g = nn.Parameter(2 * torch.randn(3, n) + 1), nn.Parameter(torch.full((n,), 1.5))
        nn.init.normal_(self.a.weight, std=0.02)
        nn.init.kaiming_normal_(self.b.weight)
        self.c.weight.data.normal_(0.0, 0.1).mul_(2).div_(n**0.5)
        nn.init.zeros_(self.d.weight)

    def forward(self, k):
        x = self.e[k]
        return (self.g * self.d(self.c(self.b(self.a(x)))) * x).mean(-1)


def test_laws_as_people_write_them() -> None:
    made = tpt.trace(Drawn, (torch.tensor([0, 2, 1]),), WIDTHS, base_width=50)
    laws = {name: p.law for name, p in made.parameters.items()}
    assert laws == {
        "a.weight": "N(0, 1/50)", "b.weight": "N(0, 2)", "c.weight": "N(0, 1/25)", "d.weight": "N(0, 0)",
        "e": "N(1, 4)", "g": "3/2",
    }  # fmt: skip
    assert [note for note in made.report if "0.02 at n = 50" in note]


class Cached(MLP):
    """As HuggingFace's caches: what comes first is put after an empty tensor."""

    def forward(self, x):
        h = torch.cat([torch.tensor([]), self.fc1(x)], dim=-2)
        return self.out(torch.cat([h, torch.tensor([])], dim=-1))


def test_empty_tensors_are_left_out_of_a_concatenation() -> None:
    made = tpt.trace(Cached, (_numbers(4, 3),), WIDTHS)
    assert made.compare(Cached(UNSEEN), UNSEEN) < 1e-10


class Gram(nn.Module):
    """The kernel of a family's features: what concentrates."""

    def __init__(self, n: int):
        super().__init__()
        self.n, self.body = n, GPT(n)
        self.body.head = nn.Identity()
        self.body.multiplier = 1.0

    def forward(self, tokens):
        x = self.body(tokens)
        return torch.einsum("bsn,bsn->bs", x, self.body.wte(tokens)) / self.n


class Hidden(MLP):
    def forward(self, x):
        h = torch.tanh(self.fc2(torch.relu(self.fc1(x))))
        return h @ h.T / h.shape[-1]


@pytest.mark.parametrize(("factory", "x"), [(Hidden, _numbers(3, 3)), (Gram, TOKENS)], ids=["mlp", "gpt"])
def test_the_limit_is_that_of_networks(factory, x) -> None:
    run = tpc.limit(tpt.trace(factory, (x,), WIDTHS), samples=4096)
    n, values = 512, []
    for seed in range(24):
        torch.manual_seed(seed)
        with torch.no_grad():
            values.append(factory(n)(x).numpy())
    mean, error = np.mean(values, 0), np.std(values, 0, ddof=1) / math.sqrt(len(values))
    off = np.abs(mean - run["out"]) / (error + run.outputs["out"].stderr + 2 / n)
    assert off.max() < 4
    assert error.max() < 0.1


# ------------------------------------------------------------------------------------------------------ what is refused


class Made(nn.Module):
    """A readout of a hidden layer that `how` computes."""

    def __init__(self, n: int, how):
        super().__init__()
        self.n, self.read, self.hidden, self.out, self.how = (
            n,
            nn.Linear(3, n),
            nn.Linear(n, n),
            small(nn.Linear(n, 1)),
            how,
        )

    def forward(self, x):
        return self.out(self.how(self, self.hidden(self.read(x))))


def refused(factory, x=None, **options) -> str:
    with pytest.raises(tpc.ProgramError) as caught:
        tpt.trace(factory, (_numbers(4, 3) if x is None else x,), WIDTHS, **options)
    (found,) = caught.value.diagnostics
    assert found.remedy
    return str(caught.value)


def test_a_tied_readout_without_its_multiplier_is_refused_with_the_exponent() -> None:
    message = refused(lambda n: GPT(n, multiplier=1.0), TOKENS)
    assert "NX710" in message and "`out`" in message and "n^1" in message and "n^(-1)" in message


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        (lambda m, h: torch.fft.fft(h).real, "NX703", "fft"),
        (lambda m, h: h.sort(-1)[0], "NX703", "sort"),
        (lambda m, h: h.softmax(-1), "NX703", "grows with the width"),
        (lambda m, h: h.topk(m.n // 2)[0].repeat(1, 2), "NX703", "topk"),
        (lambda m, h: torch.relu(m.n * h), "NX710", None),
        (lambda m, h: torch.tanh(m.n * h), "NX710", "n^1"),
        (lambda m, h: torch.tanh(h / m.n), "NX710", "n^(-1)"),
        (lambda m, h: h * math.log(m.n), "NX705", "power of n"),
        (lambda m, h: h * torch.rand(4, m.n), "NX707", "rand"),
        (lambda m, h: h if m.n < 50 else torch.tanh(h), "NX701", None),
        (lambda m, h: h if h.sum() > 0 else -h, "NX702", "torch.export"),
        (lambda m, h: torch.cat([h[:, :3], h[:, 3:]], -1), "NX704", None),
        (lambda m, h: h @ m.hidden.weight.relu(), "NX706", "weight matrix"),
        (lambda m, h: h * torch.arange(m.n), "NX705", "grows with the width"),
        (lambda m, h: h[:, :1] + h, "NX704", None),
        (lambda m, h: h + h / m.n, "NX710", "n^0 + n^(-1)"),
        (lambda m, h: h.long() + h, "NX703", "torch.int64"),
        (
            lambda m, h: torch.tanh((h @ h.T / m.n).masked_fill(torch.eye(4) > 0, -math.inf)) @ h,
            "NX703",
            "minus infinity",
        ),
    ],
)
def test_what_is_refused_names_the_operation(how, code: str, words: str | None) -> None:
    message = refused(lambda n: Made(n, how))
    assert f"[{code}]" in message
    assert words is None or words in message


def test_rows_of_different_laws_are_refused() -> None:
    padded = lambda n: nn.Sequential(nn.Embedding(7, n, padding_idx=0), small(nn.Linear(n, 1)))  # noqa: E731
    assert "[NX705]" in (message := refused(padded, TOKENS)) and "padding_idx" in message


def test_a_law_that_no_fill_explains_is_measured() -> None:
    def orthogonal(n: int) -> nn.Module:
        body = nn.Sequential(nn.Embedding(7, n), nn.Linear(n, n, bias=False), small(nn.Linear(n, 1)))
        nn.init.orthogonal_(body[1].weight)
        return body

    made = tpt.trace(orthogonal, (TOKENS,), WIDTHS)
    assert made.parameters["1.weight"].law == "N(0, 1)" or made.parameters["1.weight"].law.startswith("N(0, 0.99")
    assert any("1.weight" in note and "measured" in note for note in made.report)


def test_hidden_outputs_are_refused() -> None:
    class Masked(Hidden):
        def forward(self, x):
            return super().forward(x).masked_fill(torch.eye(4) > 0, -math.inf)

    assert "minus infinity" in refused(Masked)


class Silent(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.fc = nn.Linear(3, n)

    def forward(self, x):
        self.fc(x)


def test_other_refusals() -> None:
    dropped = lambda n: nn.Sequential(nn.Linear(3, n), nn.Dropout(0.5), small(nn.Linear(n, 1)))  # noqa: E731
    assert "[NX707]" in refused(dropped, training=True)
    tpt.trace(dropped, (_numbers(4, 3),), WIDTHS)
    assert "[NX708]" in refused(lambda n: nn.Linear(3, n))
    assert "[NX708]" in refused(lambda n: 1)


@pytest.mark.parametrize("widths", [16, "16,32", (16.0, 32.0), (16, 16), (1, 2), ()])
def test_widths_are_two_whole_numbers(widths: object) -> None:
    with pytest.raises(tpc.ProgramError, match=r"NX708.*widths are(.|\n)*such as widths=\(64, 128\)"):
        tpt.trace(lambda n: nn.Linear(3, n), (torch.zeros(2, 3),), widths=widths)
    with pytest.raises(tpc.ProgramError, match=r"NX715.*widths are(.|\n)*three or more"):
        tpt.coord_check(
            lambda n: nn.Linear(3, n), lambda model, step: None, widths=widths, optimizer=lambda model: None
        )
    assert "failed at width 32: ZeroDivisionError" in refused(lambda n: 1 // 0)
    assert "`0.weight` has no values" in refused(lambda n: nn.Sequential(nn.LazyLinear(n), nn.Linear(n, 1)))
    assert "`weight` has no values" in refused(lambda n: nn.Linear(3, n, device="meta"))
    assert "mat1 and mat2 shapes cannot be multiplied" in refused(lambda n: nn.Linear(4, n))
    assert "returns no tensor" in refused(Silent)
    data = lambda n: nn.Sequential(nn.Dropout(0.5), nn.Linear(3, n))  # noqa: E731
    assert "trace with training=False" in refused(data, training=True)


def test_a_traced_module_is_a_program() -> None:
    made = tpt.trace(MLP, (_numbers(4, 3),), WIDTHS)
    assert made.program.outputs[0].name == "out"
    assert tpc.compile(made).outputs and tpc.scale(made) and tpc.equations(made)
    assert tpc.simulate(made, 16, seeds=2)["out"].shape == (4, 2)
    assert tpc.check(made) == [] and tpc.format(made)


class Zeroed(nn.Module):
    """A readout that starts at 0, plain, with a bias, in a softmax, and with a multiplier."""

    def __init__(self, n: int, kind: str):
        super().__init__()
        self.n, self.kind = n, kind
        self.fc1, self.fc2, self.out = nn.Linear(3, n), nn.Linear(n, n), nn.Linear(n, 2, bias=kind == "bias")
        nn.init.zeros_(self.out.weight)

    def forward(self, x):
        y = self.out(torch.tanh(self.fc2(torch.tanh(self.fc1(x)))))
        return {"softmax": y.softmax, "multiplier": lambda dim: y / self.n}.get(self.kind, lambda dim: y)(-1)


@pytest.mark.parametrize("kind", ["plain", "bias", "softmax", "multiplier"])
@pytest.mark.parametrize("method", ["Adam", "SGD"])
def test_readouts_that_start_at_zero_have_the_power_of_mup(kind: str, method: str) -> None:
    """Groups of every width are one program, whose training is PyTorch's; a multiplier takes the power over."""
    made = tpt.trace(lambda n: Zeroed(n, kind), (_numbers(4, 3),), WIDTHS)
    found = made.parameters["out.weight"]
    assert (found.law, found.power) == ("0", 0 if kind == "multiplier" else -1)
    rates = {}
    for n in (24, 40):
        torch.manual_seed(0)
        net = Zeroed(n, kind).double()
        groups = made.scale(method).param_groups(net, 16, lr=0.1)
        options = {"eps": 1e-3} if method == "Adam" else {}
        optimizer = getattr(torch.optim, method)(groups, **options)
        loop = made.train("mse", _numbers(4, 2), optimizer=optimizer, steps=3, module=net)
        assert loop.compare(net, n) < 1e-10
        rates[n] = next(g["lr"] for g in optimizer.param_groups if any(p is net.out.weight for p in g["params"]))
    want = {("Adam", "multiplier"): 0, ("SGD", "multiplier"): 1}.get((method, kind), -1)
    assert rates[40] / rates[24] == pytest.approx((40 / 24) ** want)
