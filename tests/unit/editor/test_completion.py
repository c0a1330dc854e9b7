"""What is offered where, and the call around a place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.editor.texts import at
from tp_compiler.editor.completion import completions, signature
from tp_compiler.editor.context import word_start

HEAD = """axis i, j : 2
axis d : 3
data tok[i] = [1, 2]
ket |u[d]> ~ N(0, 1)
matrix W ~ N(0, 2)
scalar c = 0.5
def unit(|v>, eps = 0) { return |v> / sqrt(<v|v> + eps) }
|x[i]> = W |u[tok[i]]>
"""


def offered(line: str, head: str = HEAD, path: str = "-") -> list[str]:
    return [o.label for o in completions(*at(head + line, path))]


def test_kets_after_a_bar() -> None:
    for line in ("|y> = W |¦", "|y> = W |x¦", "output <¦", "output <x|¦", "|y> = unit(|¦", "c2 = c * <u[1]|¦"):
        found = offered(line)
        assert found[:2] == ["u", "x"], line
        assert "i" not in found and "unit" not in found, line
    assert "tanh" in offered("output <¦")
    assert "W" in offered("output <x|¦") and "W" not in offered("output <¦")


def test_expressions() -> None:
    found = offered("|y> = ¦")
    assert {"|u>", "|x>", "W", "c", "unit", "relu", "sum", "pi", "i"} <= set(found)
    assert "Adam" not in found and "axis" not in found


def test_indices_in_brackets() -> None:
    assert offered("|y[¦") == ["i", "j", "d", "tok"]
    assert offered("z = sum[¦")[:3] == ["i", "j", "d"] and "W" not in offered("z = xi[i,¦")


def test_beginnings() -> None:
    found = offered("¦")
    assert {"ket", "output", "train", "|x>"} <= set(found) and "return" not in found
    assert {"return", "state"} <= set(offered("def f(|x>) {\n    ¦\n}\n", ""))
    assert offered("ou¦")[0] in found


def test_laws() -> None:
    assert offered("ket |w> ~ ¦") == ["N", "uniform", "rademacher", "bernoulli"]
    assert offered("matrix V ~ ¦") == ["N", "rademacher", "uniform"]


def test_words_inside_statements() -> None:
    assert "frozen" in offered("matrix V ~ N(0, 1) ¦") and "seed" in offered("data y[i] ~ N(0, 1) ¦")
    assert "in" in offered("for l ¦") and "clip" in offered("train steps = 2 {\n    minimize c ¦")
    assert "frozen" not in offered("z = c ¦")
    assert offered("import ¦") == ["layers"]
    assert offered("parametrization ¦") == ["mup", "ntk", "standard"]
    assert offered("ket ¦") == offered("matrix ¦") == []


def test_training() -> None:
    line = "train steps = 2 {\n    loss = <x[1]>^2\n    minimize loss\n    update "
    found = offered(line + "¦")
    assert {"|u>", "W", "c", "all"} <= set(found) and "|x>" not in found and "i" not in found
    assert "with" in offered(line + "|u> ¦")
    assert {"Adam", "Muon"} <= set(offered(line + "|u> with ¦")) and "relu" not in offered(line + "|u> with ¦")
    assert "lr =" in offered(line + "|u> with Adam(¦") and "beta1 =" in offered(line + "|u> with Adam(lr = 0.1, ¦")


def test_names_are_those_of_the_place() -> None:
    found = offered("def f(|q>, op A, scale = 1) {\n    |y> = ¦\n}\n")
    assert {"|q>", "A", "scale", "|x>", "W"} <= set(found)
    assert "|q>" not in offered("def f(|q>) { return |q> }\n|y> = ¦")
    assert {"g", "p", "lr", "m"} <= set(offered("optimizer H(lr) {\n    state m = 0\n    m := ¦\n}\n"))
    assert "eps =" in offered("|y> = unit(|x[1]>, ¦") and "eps =" not in offered("|y> = unit(|x[1]>, eps = ¦")


def test_widths() -> None:
    assert offered("ket |q> : ¦", "width m = 2\n") == ["n", "m"] and offered("matrix R : m x ¦", "width m = 2\n") == [
        "n",
        "m",
    ]


def test_names_of_optimizers_are_not_those_of_a_def() -> None:
    assert "g" not in offered("def f(|q>) {\n    |y> = ¦\n}\n")


def test_layers_after_their_import() -> None:
    assert "layernorm" in offered("|y> = ¦", "import layers\n") and "layernorm" not in offered("|y> = ¦")
    assert "causal =" in offered("|y> = attention[s,t](|q>, ¦", "import layers\n")


def test_files(tmp_path: Path) -> None:
    for name in ("blocks.nexort", "points.npy", "table.csv", "notes.txt", "p.nexort"):
        (tmp_path / name).write_text("", encoding="utf-8")
    path = str(tmp_path / "p.nexort")
    assert offered('import "¦', "", path) == ["blocks.nexort"]
    assert offered('data x[i] from "p¦', "axis i\n", path) == ["points.npy"]
    assert offered('data x[i] from "¦', "axis i\n", path) == ["points.npy", "table.csv"]


def test_nothing_in_comments() -> None:
    assert offered("# the ¦") == [] and offered("z = 1  # |¦") == []
    assert offered("# a comment\n|y> = W |¦") != []


@pytest.mark.parametrize(
    ("line", "form", "active"),
    [
        ("|y> = unit(¦", "def unit(|v>, eps = 0)", "|v>"),
        ("|y> = unit(|x[1]>, ¦", "def unit(|v>, eps = 0)", "eps = 0"),
        ("|y> = tanh(leaky_relu(|x[1]>, ¦", "leaky_relu(x, slope = 0.01)", "slope = 0.01"),
        ("z = sum[i](<x[i]|x[i]>) + cross_entropy[d](a[d], ¦", "cross_entropy[k](f[i,k], c[i])", "c[i]"),
        ("ket |w> ~ N(0, ¦", "N(mean, variance)", "variance"),
        ("output ntk(c, c; ¦", "ntk(f[i], f[j]; W, |u>)", "W"),
        ("fn f(z, w) = z * w\noutput <f(u[1], ¦", "fn f(z, w) = z * w", "w"),
    ],
)
def test_signatures(line: str, form: str, active: str) -> None:
    found = signature(*at(HEAD + line))
    assert found is not None
    assert found[0] == form and found[2][found[3]] == active


def test_a_word_that_is_replaced_has_its_accents() -> None:
    program, offset = at("|y> = W |x\u0302¦")
    assert program.text[word_start(program, offset) : offset] == "x\u0302"


def test_no_call() -> None:
    assert signature(*at("z = (1 + ¦")) is None and signature(*at("z = 1¦")) is None
