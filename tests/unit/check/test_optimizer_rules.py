"""Bodies of optimizers are read once, on symbols: with the same digits as when they are read for each parameter."""

from __future__ import annotations

import re
from importlib.resources import files

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler import driver
from tp_compiler.check import optimizer_rules, statements
from tp_compiler.diagnostics import Source
from tp_compiler.ir import rules

NETWORK = """
axis i, d : 2
data x[i,d] = [[1.0, 0.5], [0.2, -1.0]]
data y[i] = [1.0, -1.0]
ket |u[d]> ~ N(0, 1)
matrix W ~ N(0, 2)
ket |v> ~ N(0, 1)
train steps = 3 {
    |h[i]> = W tanh(sum[d](x[i,d] |u[d]>))
    f[i] = <v|tanh(h[i])>
    minimize mean[i]((f[i] - y[i])^2)
    update all with CALL
}
output f[step,i]
"""
BODIES = {
    "loops": "{ state m = 0  m := 0.5 m + g  r = m  for k in 1..3 { r = r / (1 + abs(r) * k) }  return -lr * r }",
    "clock": "{ state k = 0 scalar  k := k + 1 / t  return -lr * g * k / (1 + step) }",
    "start": "{ state z = p  z := 0.9 z + 0.1 p  return -lr * (g + z) }",
    "functions": "{ state m = 0  m := max(0.5 m, own(g))  return -lr * where(g, m, own(m)) - 0.01 * lr * p }",
}
LOOKING = {
    "norm": "{ return -lr * g / (0.1 + norm(g)) }",
    "index": "{ return -lr * (g - mean[d](g) * s[1]) }",
    "neurons": "{ return -lr * g / sqrt(0.1 + <1 * g^2>) }",
    "slope": "{ return -lr * own'(g) * g }",
}
LIBRARY = [
    *("SGD(lr=0.1, momentum=0.9, weight_decay=0.1)", "Adam(lr=0.1)", "AdamW(lr=0.1)", "Lion(lr=0.02)"),
    *("RMSprop(lr=0.1, centered=1, momentum=0.5)", "Rprop(lr=0.1)", "Nero(lr=0.01)", "Adafactor(lr=0.1)", "LARS(lr=0.1)"),
    *("NorMuon(lr=0.1)", "AdaMuon(lr=0.1)", "Prodigy(d0=0.1)", "Sophia(lr=0.1, sampled=mean[i](f[i]), batch=2)"),
    *("LAMB(lr=0.1)", "Shampoo(lr=0.1, damping=0.1)", "Muon(lr=0.1)", "SOAP(lr=0.1, eps=0.1)", "KFAC(lr=0.1, damping=0.1)"),
]  # fmt: skip


def own(body: str, targets: str = "|u>, |v>", on: str = "") -> str:
    statements = body.replace("  ", "\n")
    head = f"fn own(x) = x * tanh(x)\noptimizer Own(lr) {on} {statements}\n"
    data, network = NETWORK.split("ket |u[d]>", 1)
    updated = "ket |u[d]>" + network.replace("all with CALL", f"{targets} with Own(lr = 0.1)")
    return f"{data}data s[d] = [0.5, 2]\n{head}{updated}"


def lines(text: str) -> list[object]:
    training = driver.check(Source("<text>", text)).training
    assert training is not None
    return [line.rule for line in training.lines]


def network(text: str) -> np.ndarray:
    return tpc.simulate(text, 8, seeds=1)["f"]


def limit(text: str) -> np.ndarray:
    return tpc.limit(text, samples=32, max_samples=32, replicates=2)["f"]


def test_every_optimizer_of_the_library_is_read_once() -> None:
    folder = files("tp_compiler").joinpath("library")
    text = "".join(folder.joinpath(f"{x}optimizers.nexort").read_text(encoding="utf-8") for x in ("", "matrix_"))
    calls = re.findall(r"^optimizer (\w+)\(", text, re.MULTILINE)
    assert len(calls) > 20
    for name in calls:
        more = {"Shampoo": ", damping = 0.1", "KFAC": ", damping = 0.1", "SOAP": ", eps = 0.1"}.get(name, "")
        more += ", sampled = <v|v>, batch = 2" * (name == "Sophia")
        (rule,) = lines(NETWORK.replace("CALL", f"{name}(lr = 0.1{more})"))
        inner = rule.body if isinstance(rule, rules.OnOperators) else rule
        assert isinstance(inner, rules.EntryRule | rules.LayerRule | rules.OperatorRule), name


#: One optimizer of each kind, and a body of each.
QUICK = ("SGD", "Nero", "Shampoo")
CASES = [
    pytest.param(NETWORK.replace("CALL", call), id=call, marks=[] if call.startswith(QUICK) else pytest.mark.slow)
    for call in LIBRARY
] + [pytest.param(own(body), id=name) for name, body in BODIES.items()]


@pytest.mark.parametrize("text", CASES)
def test_symbols_and_parameters_give_the_same_digits(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    once = network(text), limit(text)
    for body in (optimizer_rules.EntryBody, optimizer_rules.LayerBody, optimizer_rules.HostedBody):
        monkeypatch.setattr(body, "typed", True)
    again = lines(text)
    assert not any(isinstance(r, rules.EntryRule | rules.LayerRule) for r in again)
    np.testing.assert_array_equal(network(text), once[0])
    np.testing.assert_array_equal(limit(text), once[1])


@pytest.mark.parametrize("name", LOOKING)
def test_what_looks_into_a_parameter_is_read_for_each(name: str) -> None:
    (rule,) = lines(own(LOOKING[name], "|u>"))
    assert not isinstance(rule, rules.EntryRule)


def test_averages_over_a_parameter_are_its_own() -> None:
    """norm(g) of an optimizer on entries is that of an optimizer on layers, whatever it is asked of first."""
    body = LOOKING["norm"]
    for targets in ("|u>, |v>", "|v>, |u>"):
        found = network(own(body, targets))
        np.testing.assert_allclose(found, network(own(body, targets, "on layers")), rtol=1e-12)
    assert np.abs(found - network(own("{ return -lr * g }"))).max() > 1e-3


def test_a_program_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """At any parametrization, classified or not."""
    read = []
    monkeypatch.setattr(
        statements,
        "check",
        lambda file, *rest, old=statements.check, **more: read.append(file) or old(file, *rest, **more),
    )
    for asked in ("mup", "ntk", "standard", "{ |v> : a = 1/2, b = 0, c = 1 }"):
        text = f"parametrization {asked}\n" + NETWORK.replace("CALL", "SGD(lr = 0.1)")
        for use in (lambda t: tpc.limit(t, samples=32, max_samples=32, replicates=2), tpc.check, tpc.scale):
            read.clear()
            use(text.replace("<v|", "clt <v|") if asked == "ntk" else text)
            assert len(read) == 1, asked
