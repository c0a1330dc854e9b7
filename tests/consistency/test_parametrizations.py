"""Limits of `parametrization { .. }`: against other programs, kernel regression, and networks written out with their abcd.

The raw network has weights n^-a w with w of variance n^-2b, and w moves by -lr n^-c Q(n^d gradient) (TP IVb Def 2.2.1).
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc
from tests.unit.finite.programs import drawn_ket, drawn_matrix
from tp_compiler import driver
from tp_compiler.diagnostics import Source

BODY = """
axis i, j : 2
axis d : 2
data xi[i,d] = [[0.9, -0.4], [0.3, 1.1]]
data y[i] = [1.0, -0.5]
ket |u[d]> ~ N(0, 1)
matrix W ~ N(0, 2) FROZEN
ket |v> ~ N(0, READOUT)
def net(x[d]) { return CLT<v|tanh(W tanh(sum[d](x[d] |u[d]>)))> }
train steps = 4 {
    f[i] = net(xi[i,d])
    loss = mean[i]((f[i] - y[i])^2) / 2
    minimize loss
    update all with OPTIMIZER
}
output f[step,i] = net(xi[i,d])
"""
XI, Y = np.array([[0.9, -0.4], [0.3, 1.1]]), np.array([1.0, -0.5])
SGD, ADAM = "SGD(lr = 0.3)", "Adam(lr = 0.1, eps = 0.01)"

#: (a, b, c, d) of u, W, v, for optimizers of degree 0, whose inputs are to be Θ(1) (faithful).
Rows = tuple[tuple[float, ...], ...]
MUP: Rows = ((0, 0, 0, 1), (0, 0.5, 1, 1), (1, 0, 0, 1))
NTP: Rows = ((0, 0, 0.5, 0.5), (0.5, 0, 1, 1), (0.5, 0, 0.5, 0.5))
UP_QUARTER: Rows = ((0, 0, 0.25, 0.75), (0, 0.5, 1.25, 0.75), (0.75, 0, 0.25, 0.75))
STILL: Rows = (MUP[0], (0, 0.5, 1.5, 1), MUP[2])
STILL_NTP: Rows = (NTP[0], (0.5, 0, 1.5, 1), NTP[2])
LAG: Rows = (MUP[0], MUP[1], (1, 0.5, 0, 1))
#: Standard parametrization with all learning rates c/n: SGD is linear, so that d says nothing.
STANDARD: Rows = ((0, 0, 1, 0), (0, 0.5, 1, 0), (0, 0.5, 1, 0))
POINTS = {"mup": MUP, "ntp": NTP, "up": UP_QUARTER, "still": STILL, "still_ntp": STILL_NTP, "lag": LAG}


def program(rows: Rows | str, optimizer: str, *, clt: bool = False, frozen: bool = False, readout: float = 1) -> str:
    head = f"parametrization {rows}" if isinstance(rows, str) else "parametrization { "
    if not isinstance(rows, str):
        lines = (dict(zip("abcd", row, strict=True)) for row in rows)
        named = zip(("|u>", "W", "|v>"), lines, strict=True)
        head += "; ".join(f"{n} : " + ", ".join(f"{k} = {x}" for k, x in row.items()) for n, row in named) + " }"
    body = BODY.replace("CLT", "clt " if clt else "").replace("FROZEN", "frozen" if frozen else "")
    return head + body.replace("OPTIMIZER", optimizer).replace("READOUT", str(readout))


def limit(text: str) -> np.ndarray:
    run = tpc.limit(text, samples=1024, method="qmc")
    assert not run.failed, run.failed
    return run["f"]


@pytest.mark.parametrize("optimizer", [SGD, ADAM])
@pytest.mark.parametrize(
    ("rows", "other"),
    [
        (MUP, {"rows": "mup"}),
        (NTP, {"rows": "ntk", "clt": True}),
        (STILL, {"rows": "mup", "frozen": True}),
        (STILL_NTP, {"rows": "ntk", "clt": True, "frozen": True}),
        (LAG, {"rows": "mup", "readout": 0}),
    ],
    ids=["mup", "ntp", "still", "still_ntp", "lag"],
)
def test_the_same_as_another_program(rows: Rows, other: dict[str, Any], optimizer: str) -> None:
    """Named points by their exponents; a layer that does not learn is frozen; a drowned readout starts at 0."""
    np.testing.assert_allclose(
        limit(program(rows, optimizer)), limit(program(**other, optimizer=optimizer)), atol=1e-12
    )


@pytest.mark.parametrize(
    ("rows", "of"), [(UP_QUARTER, ""), ((UP_QUARTER[0], (0, 0.5, 2, 0.75), UP_QUARTER[2]), "; |u>, |v>")]
)
def test_between_kernels_and_features_sgd_is_kernel_descent_from_zero(rows: Rows, of: str) -> None:
    """f_{t+1} = f_t - lr Θ (f_t - y) / 2 with f_0 = 0, Θ the kernel of the parameters whose updates are seen."""
    kernel = BODY[: BODY.index("train")].replace("CLT", "").replace("FROZEN", "").replace("READOUT", "1")
    theta = tpc.limit(kernel + f"output k[i,j] = ntk(net(xi[i,d]), net(xi[j,d]){of})\n", method="quadrature")["k"]
    f = [np.zeros(2)]
    for _ in range(4):
        f.append(f[-1] - 0.3 * theta @ (f[-1] - Y) / 2)
    run = tpc.limit(program(rows, SGD))
    np.testing.assert_allclose(run["f"], f, atol=1e-8)


def test_standard_parametrization_at_small_rates_is_the_kernel_without_the_first_layer() -> None:
    """SP with c = 1 under SGD: operator regime, r = 1/2, and W^1 has no term (TP IVb 2.8); f_0 is Gaussian."""
    kernel = BODY[: BODY.index("train")].replace("CLT", "").replace("FROZEN", "").replace("READOUT", "1")
    theta = tpc.limit(kernel + "output k[i,j] = ntk(net(xi[i,d]), net(xi[j,d]); W, |v>)\n", method="quadrature")["k"]
    f = [np.zeros(2)]
    for _ in range(4):
        f.append(f[-1] - 0.3 * theta @ (f[-1] - Y) / 2)
    run = tpc.limit(program(STANDARD, SGD))
    assert run.outputs["f"].law == "gaussian"
    np.testing.assert_allclose(run["f"], f, atol=1e-8)


class Raw:
    """The network with its exponents, gradients by hand; Q is SGD's or Adam's."""

    def __init__(self, n: int, rows: Rows, q: Callable[[Any, dict[str, Any], int], Any]):
        self.n, self.rows, self.q = n, rows, q
        self.memory: list[dict[str, Any]] = [{}, {}, {}]
        standard = (drawn_ket("u", n, 2).T, drawn_matrix("W", n, n, var=2.0) * np.sqrt(n), drawn_ket("v", n)[0])
        self.w = [n ** -row[1] * x for row, x in zip(rows, standard, strict=True)]

    def forward(self) -> tuple[Any, ...]:
        u, w, v = (self.n ** -row[0] * x for row, x in zip(self.rows, self.w, strict=True))
        x1 = np.tanh(u @ XI.T)
        x2 = np.tanh(w @ x1)
        return v @ x2, x1, x2, w, v

    def step(self, t: int) -> None:
        f, x1, x2, w, v = self.forward()
        dh2 = (1 - x2**2) * np.outer(v, (f - Y) / 2)
        dh1 = (1 - x1**2) * (w.T @ dh2)
        for k, g in enumerate((dh1 @ XI, dh2 @ x1.T, x2 @ ((f - Y) / 2))):
            a, _, c, d = self.rows[k]
            self.w[k] = self.w[k] - self.n**-c * self.q(self.n ** (d - a) * g, self.memory[k], t)


def sgd(g: Any, _: dict[str, Any], __: int) -> Any:
    return 0.3 * g


def adam(g: Any, memory: dict[str, Any], t: int) -> Any:
    memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * g
    memory["v"] = 0.999 * memory.get("v", 0) + 0.001 * g**2
    return 0.1 * memory["m"] / (1 - 0.9**t) / (np.sqrt(memory["v"] / (1 - 0.999**t)) + 0.01)


@pytest.mark.parametrize(("optimizer", "q"), [(SGD, sgd), (ADAM, adam)], ids=["sgd", "adam"])
@pytest.mark.parametrize("point", [*POINTS, "standard"])
def test_finite_networks_have_the_exponents_as_written(point: str, optimizer: str, q: Any) -> None:
    rows = POINTS.get(point, STANDARD)
    if rows is STANDARD and q is adam:
        rows = ((0, 0, 1, 0.5), (0, 0.5, 1.5, 0.5), (0, 0.5, 1, 0))  # as NTP, without multipliers
    raw = Raw(24, rows, q)
    found = [raw.forward()[0]]
    for t in range(1, 5):
        raw.step(t)
        found.append(raw.forward()[0])
    run = tpc.simulate(program(rows, optimizer), width=24, seeds=1)
    assert not run.failed, run.failed
    np.testing.assert_allclose(run["f"], found, rtol=1e-8, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["up", "still", "still_ntp", "lag"])
def test_finite_networks_approach_the_limit(point: str) -> None:
    found = tpc.verify(program(POINTS[point], ADAM), widths=(64, 128, 256), seeds=16)
    assert found.passed, found


@pytest.mark.parametrize(
    ("rows", "optimizer", "why"),
    [
        ("standard", SGD, "unstable"),
        ((MUP[0], (0, 0.5, 0.5, 1), MUP[2]), ADAM, "moves by Θ(n^(1/2)), through updates of W"),
        ((MUP[0], MUP[1], (0.5, 0, 1, 1)), ADAM, "gradient"),
        (tuple((a, b, c + 1, d) for a, b, c, d in MUP), ADAM, "trivial"),
        (LAG, "SignSGD(lr = 0.1)", "starts at 0 in the limit"),
    ],
)
def test_there_is_no_limit_and_the_reason_is_said(rows: Rows | str, optimizer: str, why: str) -> None:
    failed = tpc.limit(program(rows, optimizer)).failed["f"]
    assert failed.code == "NX504" and why in failed.message


def test_decay_of_what_the_limit_does_not_see() -> None:
    """Relu layers whose updates vanish shrink to q_t = κ_t² of their start; v, trained on them, is q_t times a ket that moves.

    With g = v·x_0/√n, E g_0 = 0: g ← (1 - lr λ) g - lr q K (q g - y)/2, K = <x_0|x_0>.
    """
    rows = ((0, 0, 1, 0.5), (0.5, 0, 1.5, 1), NTP[2])
    text = program(rows, "SGD(lr = 0.3, weight_decay = 0.4)").replace("tanh", "relu")
    k = relu_kernel(2 * relu_kernel(XI @ XI.T))
    g, q, wanted = np.zeros(2), 1.0, [np.zeros(2)]
    for _ in range(4):
        g = (1 - 0.3 * 0.4) * g - 0.3 * q * k @ (q * g - Y) / 2
        q *= (1 - 0.3 * 0.4) ** 2
        wanted.append(q * g)
    run = tpc.limit(text)
    np.testing.assert_allclose(run["f"], wanted, atol=1e-8)


def relu_kernel(k: np.ndarray) -> np.ndarray:
    """E relu(a) relu(b), (a, b) ~ N(0, k): the arc-cosine kernel of order 1."""
    size = np.sqrt(np.outer(np.diag(k), np.diag(k)))
    angle = np.arccos(np.clip(k / size, -1, 1))
    return size * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["AdamW(lr = 0.1, eps = 0.1, weight_decay = 0.5)", "SGD(lr = 0.3)"])
def test_decay_and_clipping_where_updates_vanish(optimizer: str) -> None:
    clip = " clip 0.2" if optimizer.startswith("SGD") else ""
    text = program(STILL_NTP, optimizer).replace("minimize loss", f"minimize loss{clip}")
    assert tpc.verify(text, widths=(128, 512), seeds=16, samples=1024, max_samples=1024).passed


TWO = """parametrization { |u> : a=0,b=0,c=0,d=1; |v> : a=1,b=0,c=0,d=1; |p> : ROW; |q> : LAST }
axis i : 2
axis d : 2
data xi[i,d] = [[0.9, -0.4], [0.3, 1.1]]
data y[i] = [1.0, -0.5]
ket |u[d]> ~ N(0, 1)
ket |v> ~ N(0, 1)
ket |p[d]> ~ N(0, 1)
ket |q> ~ N(0, 1)
def net(x[d]) { return <v|tanh(sum[d](x[d] |u[d]>))> + <q|tanh(sum[d](x[d] |p[d]>))> }
train steps = 2 { minimize mean[i]((net(xi[i,d]) - y[i])^2) / 2
    update all with OPTIMIZER }
output f[step,i] = net(xi[i,d])
"""


@pytest.mark.parametrize(
    ("row", "last", "optimizer", "why"),
    [
        ("a=0,b=0,c=1/2,d=1/2", "a=1/2,b=0,c=1/2,d=1/2", SGD, "positive power"),
        ("a=0,b=0,c=-1/2,d=1", "a=1,b=1/2,c=1/2,d=1", SGD, "positive power"),
        ("a=0,b=0,c=0,d=3/2", "a=1,b=1/2,c=1/2,d=1", ADAM, "gradients by `|p>`"),
    ],
)
def test_branches_of_different_regimes_are_refused(row: str, last: str, optimizer: str, why: str) -> None:
    text = TWO.replace("ROW", row).replace("LAST", last).replace("OPTIMIZER", optimizer)
    failed = tpc.limit(text).failed["f"]
    assert failed.code == "NX504" and why in failed.message


def test_what_has_no_row_in_training_is_refused() -> None:
    frozen = tpc.limit(program(MUP, SGD, frozen=True)).failed["f"]
    assert frozen.code == "NX504" and "its row `W` does not name a trained parameter" in frozen.message
    drifting = program(((0, 0, 0.5, 1), MUP[1], MUP[2]), SGD).replace("|v> ~ N(0, 1)", "|v> ~ N(1, 1)")
    drifting = drifting.replace("c = 1", "c = 1.5", 1).replace(
        "W : a = 0, b = 0.5, c = 1,", "W : a = 0, b = 0.5, c = 1.5,"
    )
    failed = tpc.limit(drifting).failed["f"]
    assert failed.code == "NX504"


DEEP = """
axis i : 2
axis d : 2
axis l : 3
data xi[i,d] = [[0.9, -0.4], [0.3, 1.1]]
data y[i] = [1.0, -0.5]
ket |u[d]> ~ N(0, 1)
LAYERS
ket |v> ~ N(0, 1)
def net(x[d]) { return <v|tanh(W3 tanh(W2 tanh(W1 tanh(sum[d](x[d] |u[d]>)))))> }
train steps = 3 {
    f[i] = net(xi[i,d])
    minimize mean[i]((f[i] - y[i])^2) / 2
    update all with Adam(lr = 0.1, eps = 0.01)
}
output f[step,i] = net(xi[i,d])
"""
FAMILY = DEEP.replace("LAYERS", "matrix W[l] ~ N(0, 2)")
for name in "123":
    FAMILY = FAMILY.replace(f"W{name}", f"W[{name}]")
APART = DEEP.replace("LAYERS", "matrix W1 ~ N(0, 2)\nmatrix W2 ~ N(0, 2)\nmatrix W3 ~ N(0, 2)")
SLOW = "parametrization { W[2] : c = 3/2 }"
NTP_BLOCK = "parametrization { |u> : c=1/2,d=1/2; W : a=1/2,b=0; |v> : a=1/2,c=1/2,d=1/2"


@pytest.mark.parametrize("rows", ["W[2] : c = 3/2", "W : c = 3/2; W[1] : c = 1; W[3] : c = 1"])
def test_a_row_of_a_member_is_of_that_member_alone(rows: str) -> None:
    """The member's row goes before that of the family; the other members learn as ever."""
    family = tpc.limit("parametrization { " + rows + " }" + FAMILY, method="qmc", samples=2048)
    apart = tpc.limit("parametrization { W2 : c = 3/2 }" + APART, method="qmc", samples=2048)
    everything = tpc.limit("parametrization mup" + FAMILY, method="qmc", samples=2048)
    np.testing.assert_allclose(family["f"], apart["f"], atol=3e-3)
    assert abs(family["f"] - everything["f"])[1:].min() > 0.01


def test_members_at_finite_width_are_updated_by_their_powers() -> None:
    slow = tpc.simulate(SLOW + FAMILY, width=64, seeds=1)["f"]
    by_hand = FAMILY.replace("update all with", "update W[2] with Adam(lr = 0.1 / 8, eps = 0.01)\n    update all with")
    by_hand = by_hand.replace("update all", "update |u>, |v>, W[1], W[3]")
    np.testing.assert_allclose(slow, tpc.simulate(by_hand, width=64, seeds=1)["f"], atol=1e-12)


def test_figures_and_reasons_are_those_of_the_member() -> None:
    assert (
        tpc.scale(SLOW + FAMILY)["W[2]"]["lr"]
        == Fraction(-3, 2)
        == tpc.scale(SLOW + FAMILY)["W[1]"]["lr"] - Fraction(1, 2)
    )
    failed = tpc.limit("parametrization { W[2] : c = 1/2 }" + FAMILY).failed["f"]
    assert (
        failed.code == "NX504"
        and failed.message.count("through updates of") == 1
        and "updates of W[2]" in failed.message
    )


@pytest.mark.parametrize(
    ("head", "why"),
    [
        ("parametrization { W[2] : b = 1 }", "`W[2]` and `W[1]` start at different powers"),
        (NTP_BLOCK + "; W[2] : c = 3/2 }", "some members of `W` vanish"),
    ],
)
def test_members_that_have_no_limit(head: str, why: str) -> None:
    failed = tpc.limit(head + FAMILY).failed["f"]
    assert failed.code == "NX504" and why in failed.message


def codes(text: str) -> list[str]:
    return [d.code for d in tpc.check(text)]


@pytest.mark.parametrize("rows", [NTP, UP_QUARTER])
def test_gradient_flow_wherever_features_stand_still(rows: Rows) -> None:
    """f' = -lr Θ (f - y) / 2: NTP as a block is `parametrization ntk`, and between it and muP f_0 = 0."""
    kernel = BODY[: BODY.index("train")].replace("CLT", "").replace("FROZEN", "").replace("READOUT", "1")
    theta = tpc.limit(kernel + "output k[i,j] = ntk(net(xi[i,d]), net(xi[j,d]))\n", method="quadrature")["k"]
    run = tpc.limit(program(rows, SGD).replace("steps = 4", "time = [1, 3]"))
    values, vectors = np.linalg.eigh(theta)
    for f, t in zip(run["f"][1:], (1, 3), strict=True):
        np.testing.assert_allclose(f, Y - vectors @ (np.exp(-0.15 * t * values) * (vectors.T @ Y)), atol=1e-6)


def test_where_features_move_there_is_no_flow() -> None:
    assert codes(program(MUP, SGD).replace("steps = 4", "time = [1, 3]")) == ["NX177"]


def test_one_member_alone_where_features_stand_still() -> None:
    one = FAMILY.replace("update all with", "update |u>, |v> with SGD(lr = 0.1)\n    update W[2] with")
    with pytest.raises(
        tpc.ProgramError, match="where features do not move, as here, a family must be updated as a whole"
    ):
        tpc.limit(NTP_BLOCK + " }" + one)


def test_one_member_whose_updates_are_not_seen() -> None:
    """Readouts alone learn: a member that learns too slowly changes nothing."""
    alone = "parametrization { |v> : a = 1 }" + FAMILY.replace("update all with", "update |v> with")
    both = "parametrization { W : c = 3/2 }" + FAMILY.replace("update all with", "update W[2], |v> with")
    np.testing.assert_allclose(limit(both), limit(alone), atol=5e-3)


def test_an_eps_that_no_network_falls_below() -> None:
    assert codes(program(LAG, "Adam(lr = 0.1)")) == ["NX921"] == [w.code for w in _warned(LAG, "Adam(lr = 0.1)")]
    for rows, optimizer in ((LAG, ADAM), (LAG, SGD), (MUP, "Adam(lr = 0.1)"), (UP_QUARTER, "Adam(lr = 0.1)")):
        assert not codes(program(rows, optimizer))


def _warned(rows: Rows, optimizer: str) -> Any:
    return [w for w in tpc.limit(program(rows, optimizer), samples=64, method="qmc").warnings if w.code != "NX913"]


def test_a_row_output_where_nothing_is_tied() -> None:
    text = program(MUP, SGD).replace("parametrization {", "parametrization { output : a = 3;")
    (found,) = tpc.check(text)
    assert found.code == "NX922" and found.span is not None and found.span.text == "output" and "|v>" in found.remedy
    assert [w.code for w in tpc.scale(text).warnings] == ["NX922"]


OWN = """
optimizer Own(lr) {
    state m = 0
    m := 0.9 * m + g
    return -lr * tanh(m)
}
"""


def test_an_own_optimizer_without_any_hidden_matrix() -> None:
    """The rows of the program's own parameters count: UP_{1/4} with one hidden vector is an operator from f_0 = 0."""
    point = "parametrization { |u> : c=1/4,d=3/4; |v> : a=3/4,c=1/4,d=3/4 }"
    head, tail = BODY[: BODY.index("train")].replace("W tanh", ""), BODY[BODY.index("train") :]
    head = head.replace("matrix W ~ N(0, 2) FROZEN\n", "")
    text = (head + OWN + tail).replace("OPTIMIZER", "Own(lr = 0.1)").replace("READOUT", "1").replace("CLT", "")
    run = tpc.limit(point + text, samples=1024, method="qmc")
    assert not run.failed and abs(run["f"][0]).max() == 0 and run["f"][-1, 0] > 0.1
    wrong = tpc.limit(point.replace("c=1/4,d=3/4;", "c=1/4,d=1;") + text).failed["f"]
    assert (
        "`|u>`: Own has no exponent d, so its row must be faithful: d = a + the readout's size = 3/4, not 1"
        in wrong.message
    )
    assert wrong.span is not None and "update all" in wrong.span.text and "classify" not in wrong.message


@pytest.mark.parametrize(
    ("rows", "optimizer", "remedy"),
    [
        ("standard", SGD, "increase c"),
        (((0, 0.5, 0, 1), MUP[1], MUP[2]), SGD, "a + b = 0 for input weights"),
        ((MUP[0], MUP[1], (0.5, 0, 1, 1)), ADAM, "choose d so that"),
        (tuple((a, b, c + 1, d) for a, b, c, d in MUP), ADAM, "decrease c"),
        (LAG, "SignSGD(lr = 0.1)", "an optimizer with eps"),
    ],
)
def test_every_reason_has_its_remedy(rows: Rows | str, optimizer: str, remedy: str) -> None:
    assert remedy in tpc.limit(program(rows, optimizer)).failed["f"].remedy


def test_a_readout_with_a_mean_is_to_be_centred() -> None:
    failed = tpc.limit(program(NTP, SGD).replace("|v> ~ N(0, 1)", "|v> ~ N(1, 1)")).failed["f"]
    assert (
        failed.code == "NX504" and "nonzero mean" in failed.message and failed.remedy == "centre it: `|v> ~ N(0, ..)`"
    )


def untrained(head: str, output: str = "output f[i] = net(xi[i,d])") -> str:
    body = BODY[: BODY.index("train")].replace("CLT", "").replace("FROZEN", "").replace("READOUT", "1")
    return head + body + output + "\noutput k = <W tanh(u[1])|W tanh(u[1])>\n"


@pytest.mark.parametrize("a", [0.5, 0.75, 1, 1.5])
def test_without_training_there_are_initial_values(a: float) -> None:
    """f is n^-a times a sum of n independent terms: Gaussian at a = 1/2, else 0; at width n with its power."""
    text = untrained(f"parametrization {{ |v> : a = {a} }}")
    run = tpc.limit(text, samples=256)
    assert not run.failed and run.outputs["f"].law == ("gaussian" if a == 0.5 else run.outputs["k"].law)
    np.testing.assert_allclose(run["f"], 0, atol=1e-2)
    natural = tpc.simulate(untrained(""), width=64, seeds=1)["f"]
    np.testing.assert_allclose(tpc.simulate(text, width=64, seeds=1)["f"], 64 ** (1 - a) * natural, rtol=1e-12)


def test_without_training_standard_parametrization_is_the_gaussian_process() -> None:
    run = tpc.limit(untrained("parametrization standard"))
    assert run.outputs["f"].law == "gaussian"


@pytest.mark.parametrize(
    ("head", "output", "why"),
    [
        ("parametrization { |v> : a = 1/4 }", "output f[i] = net(xi[i,d])", "f is Θ(n^(1/4)) at initialisation"),
        ("parametrization { W : b = 1 }", "output f[i] = net(xi[i,d])", "is Θ(n^(-1/2)) at initialisation"),
        ("parametrization { |v> : a = 1/2 }", "output t[i,j] = ntk(net(xi[i,d]), net(xi[j,d]))", "differentiates"),
        ("parametrization { |v> : a = 3/2 }", "output f[i] = clt <v|tanh(W tanh(u[1]))>", "`clt`"),
        ("parametrization { |z> : a = 1 }\nket |z> ~ N(0, 1) frozen", "output f[i] = net(xi[i,d])", "row `|z>`"),
    ],
)
def test_initial_values_without_a_limit(head: str, output: str, why: str) -> None:
    failed = tpc.limit(untrained(head, output.replace("f[i] = clt", "f = clt"))).failed
    assert failed and all(f.code == "NX504" and why in f.message for f in failed.values())


def test_the_program_is_shown_as_its_parametrization_reads_it() -> None:
    shown = driver.show(Source("p", program(UP_QUARTER, SGD)), stage="ir")
    assert "unavailable" not in shown and "trace" in shown


@pytest.mark.parametrize("still", ["not updated", "frozen"])
def test_a_readout_that_is_not_trained_has_its_size_all_the_same(still: str) -> None:
    """At NTP's exponents it is the network of `ntk`, in the limit and at finite width; at 1/√n and constant rates it diverges."""

    def of(head: str, clt: bool) -> str:
        text = program(head, SGD, clt=clt)
        if still == "frozen":
            return text.replace("ket |v> ~ N(0, 1)", "ket |v> ~ N(0, 1) frozen")
        return text.replace("update all", "update |u>, W")

    rows = "{ |u> : a=0, b=0, c=1/2, d=1/2; W : a=1/2, b=0, c=1, d=1; |v> : a=1/2, b=0 }"
    ntp, ntk = of(rows, False), of("ntk", True)
    np.testing.assert_allclose(tpc.limit(ntp)["f"], tpc.limit(ntk)["f"], atol=1e-12)
    ours, theirs = (tpc.simulate(text, width=48, seeds=2)["f"] for text in (ntp, ntk))
    np.testing.assert_allclose(ours, theirs, atol=1e-10)
    assert str(tpc.scale(ntp).verdict.regime) == "operator"
    assert "none" in str(tpc.scale(ntp))
    assert "unstable" in tpc.limit(of("standard", False)).failed["f"].message
