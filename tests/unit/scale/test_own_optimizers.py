"""User-defined optimizers on operators: their degree follows from the body."""

from __future__ import annotations

import re
from fractions import Fraction
from importlib.resources import files

import pytest

import tp_compiler as tpc
from tests.unit.scale.programs import text
from tp_compiler.check.degrees import homogeneity
from tp_compiler.check.names import OptimizerName, Scope
from tp_compiler.diagnostics import Diagnostics, ProgramError, Source
from tp_compiler.frontend.parse import parse

F = Fraction
LIBRARY = files("tp_compiler").joinpath("library", "matrix_optimizers.nexort").read_text(encoding="utf-8")


def copied(name: str) -> str:
    """An optimizer of the library as one of the program's own, and the functions that it calls."""
    body = re.search(rf"^optimizer {name}\(.*?^\}}", LIBRARY, re.DOTALL | re.MULTILINE)
    assert body is not None
    functions = "\n".join(re.findall(r"^fn .*$", LIBRARY, re.MULTILINE))
    return f"{functions}\n{body[0].replace(f'optimizer {name}', 'optimizer Own', 1)}\n"


@pytest.mark.parametrize(
    ("name", "arguments", "figures"),
    [
        ("Shampoo", "lr = 1, damping = 0.1", {"lr": "lr", "damping": "damping"}),
        ("Shampoo", "lr = 1, damping = 0.1, power = 1/3, power_right = 0", {"lr": "lr", "damping": "damping"}),
        ("Muon", "lr = 1", {"lr": "lr", "weight_decay": "weight_decay"}),
        ("Muon", "lr = 1, newton_schulz = 3", {"lr": "lr"}),
        (
            "KFAC",
            "lr = 1, damping = 0.1",
            {"lr": "lr", "damping_left": "damping_left", "damping_right": "damping_right"},
        ),
        ("KFAC", "lr = 1, damping = 0.1, power_left = 1/2", {"lr": "lr", "damping_left": "damping_left"}),
        ("SOAP", "lr = 1, eps = 0.1", {"lr": "lr", "eps": "eps"}),
    ],
)
def test_copies_of_the_library_scale_as_it_does(name: str, arguments: str, figures: dict[str, str]) -> None:
    """The rows of the literature (Qiu et al., Ishikawa and Karakida), without being told them."""
    library = tpc.scale(text("mlp", f"{name}({arguments})"))
    own = tpc.scale(copied(name) + text("mlp", f"Own({arguments})"))
    for parameter in "uWAv":
        for mine, theirs in figures.items():
            assert own[parameter][mine] == library[parameter][theirs], (parameter, mine)
    assert own.verdict.regime == library.verdict.regime == "feature-learning"
    assert own.compared["standard"].verdict.regime == library.compared["standard"].verdict.regime


OWN = {
    "Scion": (
        "optimizer Own(lr, radius = 1, beta = 0.9) on operators {\n state m = 0\n m := beta * m + (1 - beta) * g\n"
        " return -lr * (p + radius * msign(m))\n}\n"
    ),
    "normalised": "optimizer Own(lr) on operators {\n size = sqrt(trace(g^T g))\n return -lr * g / where(size, size, 1)\n}\n",
    "grafted": (
        "optimizer Own(lr, damping = 0.1) on operators {\n state L = 0\n L := L + g g^T\n d = pow(damping + L, -1/2) g\n"
        " size = sqrt(trace(d^T d))\n return -lr * sqrt(trace(g^T g)) * d / where(size, size, 1)\n}\n"
    ),
}


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        # a step of operator norm 1 is Muon's; grafted to the gradient's norm, it is SGD's
        ("Scion", ("1/2", "0", "-1/2")),
        ("normalised", ("1/2", "0", "-1/2")),
        ("grafted", ("1", "0", "-1")),
    ],
)
def test_degrees_of_ones_own(name: str, rates: tuple[str, ...]) -> None:
    found = tpc.scale(OWN[name] + text("mlp", "Own(lr = 0.1)"))
    assert tuple(str(found[p]["lr"]) for p in "uWv") == rates
    assert found.verdict.regime == "feature-learning"
    if name == "grafted":  # beside g gᵀ, as Shampoo's
        assert found["W"]["damping"] == tpc.scale(text("mlp", "Shampoo(lr = 0.1, damping = 0.1)"))["W"]["damping"]
    if name == "Scion":
        assert "weight_decay" in found["W"].figures


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("return -lr * (g + msign(g))", "scale with different powers"),
        ("return -lr * pow(g^T g + 0.1 I, -1/2)", "make it an argument"),
        ("return -lr * sqrt(trace(p^T p)) * g", "scales with the parameter"),
        ("return -lr * p", "scales with the parameter"),
    ],
)
def test_what_has_no_degree_says_why(body: str, why: str) -> None:
    file = parse(Source("<text>", f"optimizer Own(lr) on operators {{ {body} }}"), Diagnostics())
    found = homogeneity(OptimizerName(file.statements[0], Scope({}, {}, {})), {})
    assert isinstance(found, str) and why in found, found


def test_without_a_degree_there_is_an_error() -> None:
    own = "optimizer Own(lr) on operators { return -lr * (g + msign(g)) }\n"
    with pytest.raises(ProgramError, match=r"NX601.*scale with different powers"):
        tpc.scale(own + text("mlp", "Own(lr = 0.1)"))
