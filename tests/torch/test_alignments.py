"""Alignments that `coord_check` measures: sums against loops written out here, and in muP those of the limit."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import tp_compiler as tpc  # noqa: E402
import tp_compiler.torch as tpt  # noqa: E402
from tests.torch.modules import MLP  # noqa: E402
from tests.torch.test_coordinates import CORRECT, traced  # noqa: E402
from tp_compiler.torch.checking.alignments import AlignmentProbe  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("single_precision", "one_thread")]
WIDTHS = (64, 128, 256, 512)


@pytest.mark.parametrize("name", ["mlp, Adam", "mlp, SGD", pytest.param("untied gpt, Adam", marks=pytest.mark.slow)])
def test_in_mup_they_are_those_of_the_limit(name: str) -> None:
    """Updates are aligned, initial matrices are not, and readouts are aligned with what has moved."""
    factory, loss, optimizer = CORRECT[name]
    check = tpt.coord_check(factory, loss, WIDTHS, optimizer=optimizer, traced=traced(factory))
    assert check.alignments and "exponents of sums over neurons" in str(check)
    for parameter, found in check.alignments.items():
        readout = parameter in ("out.weight", "head.weight")
        for key, exponent in {"alpha": 1.0, "omega": 1.0 if readout else 0.5, "u": 1.0}.items():
            value, stderr = found.slopes[key] or (math.nan, math.nan)
            assert abs(value - exponent) < 0.1 + 3 * stderr, (parameter, key, value)


class Shared(nn.Module):
    """One weight in a layer, transposed in a product, and with `addmm`; a convolution."""

    def __init__(self, n: int):
        super().__init__()
        self.fc = nn.Linear(n, n)
        self.conv = nn.Conv1d(n, n, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.addmm(self.fc.bias, self.fc(x) @ self.fc.weight.T, self.fc.weight)
        return y + self.conv(x.T).T


def test_sums_are_those_of_loops() -> None:
    torch.manual_seed(0)
    model, x, moved = Shared(6), torch.randn(5, 6), torch.randn(5, 6)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    probe = AlignmentProbe(model, start)
    with torch.no_grad(), probe.initial():
        model(x)
    first = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for p in model.parameters():
            p += torch.randn_like(p)
        with probe.final():
            model(moved)
        now = {name: p.detach().clone() for name, p in model.named_parameters()}

    def inputs(p: dict[str, torch.Tensor], x: torch.Tensor) -> list[torch.Tensor]:
        one = x @ p["fc.weight"].T + p["fc.bias"]
        return [x, one, one @ p["fc.weight"].T]

    update = now["fc.weight"] - first["fc.weight"]
    weights = [w for w in (first["fc.weight"], update)]
    wanted: dict[str, list[float]] = {"alpha": [], "omega": [], "u": []}
    for k, (before, after) in enumerate(zip(inputs(first, x), inputs(now, moved), strict=True)):
        w0, dw = (w if k == 2 else w.T for w in weights)
        for key, a, b in (("alpha", before, dw), ("omega", after - before, w0), ("u", after - before, dw)):
            entries = [sum(float(a[i, j]) * float(b[j, o]) for j in range(6)) ** 2 for i in range(5) for o in range(6)]
            wanted[key].append(
                math.sqrt(sum(entries) / 30) / (float(a.square().mean().sqrt()) * float(b.square().mean().sqrt()))
            )
    for key, values in wanted.items():
        assert probe.ratios["fc.weight", key] == pytest.approx(values, rel=1e-4)
    assert probe.terms == {"fc.weight": 6, "conv.weight": 6}
    dw = now["conv.weight"] - first["conv.weight"]
    out = F.conv1d(x.T, dw, padding=1)
    ratio = out.square().mean().sqrt() / x.square().mean().sqrt() / dw.square().mean().sqrt()
    assert probe.ratios["conv.weight", "alpha"] == pytest.approx([float(ratio)], rel=1e-4)


def test_from_a_check_to_learning_rates(tmp_path: Path) -> None:
    """The file of a check is what `--alignment measured=` reads, by the names of PyTorch and by those of the program."""
    factory, loss, optimizer = CORRECT["mlp, Adam"]
    check = tpt.coord_check(factory, loss, WIDTHS, optimizer=optimizer, traced=traced(MLP))
    file = tmp_path / "check.json"
    file.write_text(json.dumps(check.as_json()), encoding="utf-8")
    scaling = traced(MLP).scale("Adam", alignment=f"measured={file}")
    found = check.alignments["fc2.weight"]
    assert scaling["fc2.weight"]["lr"] == -found.update and abs(found.update - 1) < Fraction(1, 5)
    assert traced(MLP).scale("Adam", alignment=check.alignments)["fc2.weight"]["lr"] == -found.update
    program = tpc.scale(traced(MLP), optimizer="Adam", alignment=f"measured={file}")
    declared = {name: a.declared for name, a in check.alignments.items()}
    assert declared == {"fc2.weight": "fc2", "out.weight": "out_weight"}
    assert program["fc2"]["lr"] == -found.update


def test_what_does_not_move_has_no_alignment() -> None:
    """Of a layer that is not trained, and of a readout of features that stay."""

    class Lazy(nn.Module):
        def __init__(self, n: int):
            super().__init__()
            self.fc = nn.Linear(3, n).requires_grad_(False)
            self.out = nn.Linear(n, 1, bias=False)
            nn.init.normal_(self.out.weight, std=1 / n)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(torch.tanh(self.fc(x)))

    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    check = tpt.coord_check(
        Lazy,
        lambda model, step: (model(x) - 1).square().mean(),
        (32, 64, 128),
        optimizer=lambda model: torch.optim.SGD([model.out.weight], lr=1 / model.out.in_features),
    )
    (found,) = check.alignments.values()
    assert (found.slopes["omega"], found.slopes["u"]) == (None, None) and found.features == Fraction(1, 2)
    assert found.update > Fraction(9, 10)
