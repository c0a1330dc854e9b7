"""The standard optimizers against their published rules, number by number; what of them is linear; how they refuse."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import tp_compiler as tpc
from tests.unit.optimizers.reference import RULES, State
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Program
from tp_compiler.ir.walk import reachable

ROOT = Path(__file__).resolve().parents[3]
LIBRARY = (ROOT / "tp_compiler" / "library" / "optimizers.nexort").read_text(encoding="utf-8")
STEPS = 12

NUMBERS = f"""
scalar a = 0.7
scalar b = -1.3
train steps = {STEPS} {{
    loss = (a * b + a - 1)^2 / 2 + b^2 / 10
    minimize loss
    update a, b with CALL
}}
output path_a[step] = a
output path_b[step] = b
"""

#: One call with the defaults and one with every argument set, per optimizer; a flag is 1.
CALLS = {
    "SGD": [{"lr": 0.1, "momentum": 0.9}, {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.2},
            {"lr": 0.1, "momentum": 0.8, "nesterov": 1, "weight_decay": 0.2}],
    "Adam": [{"lr": 0.1, "beta1": 0.7, "beta2": 0.9, "eps": 0.01, "weight_decay": 0.2, "eps_root": 0.03}],
    "AdamW": [{"lr": 0.1, "beta1": 0.7, "beta2": 0.9, "eps": 0.01, "weight_decay": 0.2, "eps_root": 0.03}],
    "AMSGrad": [{"lr": 0.1, "beta1": 0.7, "beta2": 0.5, "eps": 0.01, "weight_decay": 0.2, "eps_root": 0.03}],
    "Adamax": [{"lr": 0.1, "beta1": 0.7, "beta2": 0.5, "eps": 0.01, "weight_decay": 0.2}],
    "NAdam": [{"lr": 0.1, "beta1": 0.7, "beta2": 0.9, "eps": 0.01, "weight_decay": 0.2, "momentum_decay": 0.1,
               "eps_root": 0.03}, {"lr": 0.1, "weight_decay": 0.2, "decoupled_weight_decay": 1}],
    "RAdam": [{"lr": 0.1, "beta1": 0.7, "beta2": 0.9, "eps": 0.01, "weight_decay": 0.2, "eps_root": 0.03},
              {"lr": 0.1, "weight_decay": 0.2, "decoupled_weight_decay": 1}],
    "RMSprop": [{"lr": 0.1, "alpha": 0.8, "eps": 0.01, "weight_decay": 0.2, "momentum": 0.5, "eps_root": 0.03},
                {"lr": 0.1, "alpha": 0.8, "centered": 1, "momentum": 0.5}],
    "Adagrad": [{"lr": 0.3, "lr_decay": 0.2, "weight_decay": 0.2, "initial_accumulator_value": 0.4, "eps": 0.01,
                 "eps_root": 0.03}],
    "Adadelta": [{"lr": 2, "rho": 0.7, "eps": 0.01, "weight_decay": 0.2}],
    "Rprop": [{"lr": 0.3, "etaminus": 0.4, "etaplus": 1.5, "step_size_min": 0.05, "step_size_max": 0.4}],
    "SignSGD": [{"lr": 0.1, "weight_decay": 0.2}],
    "Signum": [{"lr": 0.1, "momentum": 0.6, "weight_decay": 0.2}],
    "Lion": [{"lr": 0.1, "beta1": 0.6, "beta2": 0.8, "weight_decay": 0.2}],
    "AdamAtan2": [{"lr": 0.1, "beta1": 0.7, "beta2": 0.9, "a": 1.5, "b": 0.6, "weight_decay": 0.2}],
    "ADOPT": [{"lr": 0.1, "beta1": 0.7, "beta2": 0.5, "eps": 0.5, "weight_decay": 0.2, "clip_power": 0.1},
              {"lr": 0.1, "beta2": 0.6, "weight_decay": 0.2, "decouple": 1}],
    "SGDScheduleFree": [{"lr": 0.3, "momentum": 0.7, "weight_decay": 0.2, "warmup_steps": 4, "r": 0.5,
                         "weight_lr_power": 1.5}, {"lr": 0.3, "eval_after": STEPS}],
    "AdamWScheduleFree": [{"lr": 0.2, "beta1": 0.7, "beta2": 0.9, "eps": 0.01, "weight_decay": 0.2, "warmup_steps": 4,
                           "r": 0.5, "weight_lr_power": 1.5}, {"lr": 0.2, "eval_after": STEPS}],
}  # fmt: skip
ROWS = [(name, call) for name, calls in CALLS.items() for call in ({}, *calls)]


def written(name: str, call: dict[str, float]) -> str:
    return f"{name}({', '.join(f'{k} = {v}' for k, v in call.items())})"


@pytest.mark.parametrize(("name", "call"), ROWS, ids=[written(*row) for row in ROWS])
def test_published_rule(name: str, call: dict[str, float]) -> None:
    a, b, states, path = 0.7, -1.3, ({}, {}), [(0.7, -1.3)]
    for t in range(1, STEPS + 1):
        error = a * b + a - 1
        slopes = error * (b + 1), error * a + b / 5
        both: tuple[State, State] = states
        a, b = (p + RULES[name](g, p, t, s, **call) for p, g, s in zip((a, b), slopes, both, strict=True))
        path.append((a, b))
    run = tpc.simulate(NUMBERS.replace("CALL", written(name, call)), width=2, seeds=1)
    found = np.stack([run["path_a"], run["path_b"]], axis=1)
    np.testing.assert_allclose(found, path, rtol=1e-10, atol=1e-13)


def test_every_optimizer_is_tested_and_documented() -> None:
    names = set(re.findall(r"^optimizer (\w+)\((?=[^{]*\{)(?![^{]*on operators)", LIBRARY, re.MULTILINE))
    assert names == set(RULES) | {"Sophia"} and set(RULES) == set(CALLS)  # test_sophia.py
    text = (ROOT / "docs" / "optimizers.md").read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}(" not in text] == []


NETWORK = """
ket |u> ~ N(0, 1)
matrix W ~ N(0, 1)
ket |v> ~ N(0, 1)
scalar c = 1
train steps = 3 {
    minimize (c * <v|tanh(W |u>)> - 1)^2
    update all with CALL
}
output f[step] = c * <v|tanh(W |u>)>
"""


def trained(call: str) -> Program:
    return tpc.compile(NETWORK.replace("CALL", call))


LINEAR = """
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 3 {
    minimize (<v|u> - 1)^2
    update all with CALL
}
output f[step] = <v|u>
"""


def linear(root: ir.Node) -> bool:
    """Is a ket made of kets by sums and products with numbers alone?"""
    kets = [node for node in reachable([root]) if node.type.slots and not isinstance(node, ir.Carry | ir.InitialKet)]
    return all(
        isinstance(node, ir.Map)
        and (node.fn == "add" or (node.fn in ("mul", "div") and sum(bool(a.type.slots) for a in node.args) == 1))
        for node in kets
    )


LINEAR_CALLS = [
    "SGD()",
    "SGD(lr = 0.1 / (1 + step), momentum = 0.9)",
    "SGD(momentum = 0.9, nesterov = 1, weight_decay = 0.1)",
    "SGDScheduleFree(lr = 0.1, weight_decay = 0.1, warmup_steps = 2, eval_after = 3)",
]


@pytest.mark.parametrize("call", LINEAR_CALLS)
def test_sgd_stays_linear(call: str) -> None:
    """In g, p and the states, with scalar coefficients: a linear network trained with it stays one of Gaussian kets."""
    loop = tpc.compile(LINEAR.replace("CALL", call)).loop
    assert loop is not None
    assert all(linear(node) for node in loop.following.values())
    for other in ("Adam()", "SignSGD()"):
        loop = tpc.compile(LINEAR.replace("CALL", other)).loop
        assert loop is not None and not all(linear(node) for node in loop.following.values())


def test_plain_sgd_is_nothing_but_the_gradient_step() -> None:
    loop = trained("SGD(lr = 0.5)").loop
    assert loop is not None
    (state,) = (s for s in loop.following if s.name == "|v>")
    node = loop.following[state]
    assert isinstance(node, ir.Map) and node.fn == "add" and isinstance(node.args[0], ir.Carry)
    change = node.args[1]
    assert isinstance(change, ir.Map) and change.fn == "mul" and isinstance(change.args[0], ir.Constant)


#: Weight decay that only multiplies the parameter by a number.
DECOUPLED = ("AdamW", "SignSGD", "Signum", "Lion", "AdamAtan2", "SGDScheduleFree", "AdamWScheduleFree")


@pytest.mark.parametrize("name", [n for n in RULES if n != "SGD"])
def test_weight_decay_of_a_matrix(name: str) -> None:
    """Decoupled, it shrinks W_0 by a number; through a root it has no limit, and is refused."""
    if name == "Rprop":
        pytest.skip("has no weight decay")
    if name in DECOUPLED:
        program = trained(f"{name}(lr = 0.1, weight_decay = 0.1)")
        assert program.loop is not None and "W.keep" in {s.name for s in program.loop.following}
        return
    with pytest.raises(tpc.ProgramError) as caught:
        trained(f"{name}(weight_decay = 0.1)")
    assert {d.code for d in caught.value.diagnostics} == {"NX169"}
    trained(f"{name}(weight_decay = 0)")
    flags = {"NAdam": "decoupled_weight_decay", "RAdam": "decoupled_weight_decay", "ADOPT": "decouple"}
    if name in flags:
        trained(f"{name}(weight_decay = 0.1, {flags[name]} = 1)")
