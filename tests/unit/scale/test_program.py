"""`tpc scale`: parameters read off programs, their figures, and the class of any architecture."""

from __future__ import annotations

import json
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc
from tests.unit.scale.programs import DATA, PROGRAMS, compiled, text, with_rows
from tp_compiler import cli
from tp_compiler.diagnostics import ProgramError
from tp_compiler.scale.abcd import Layer
from tp_compiler.scale.points import uniform
from tp_compiler.scale.result import Scaling
from tp_compiler.scale.verdict import classify

F = Fraction


def kinds(program: str) -> dict[str, str]:
    return {name: row.parameter.role for name, row in tpc.scale(program).parameters.items()}


def test_kinds_are_read_off_the_program() -> None:
    assert kinds(text("mlp")) == {"u": "input weights", "v": "readout", "W": "matrix", "A": "matrix"}
    assert kinds(text("resnet")) == {"u": "input weights", "b": "bias", "v": "readout", "A": "matrix", "B": "matrix"}
    gpt = kinds(text("gpt"))
    assert gpt["e"] == "tied embedding" and gpt["g"] == "gain" and gpt["c"] == "number"
    assert gpt["pos"] == gpt["b"] == "bias"
    assert kinds(text("gated"))["c"] == "number"


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("output f[i] = <v|sum[d](x[i,d] |u[d]>)>", {"u": "input weights", "v": "readout"}),
        ("output f[i] = <sum[d](x[i,d] |u[d]>)|v>", {"u": "input weights", "v": "readout"}),
        ("output f[i] = <v|(|u[1]> tanh(sum[d](x[i,d] |u[d]>)))>", {"u": "input weights", "v": "readout"}),
        ("|h[i]> = sum[d](x[i,d] |u[d]>)\noutput k[i] = <h[i]|h[i]> + <v>", {"u": "input weights", "v": "vector"}),
        ("|h[i]> = tanh(|v> + sum[d](x[i,d] |u[d]>))\noutput f[i] = <v|h[i]>", {"v": "tied bias"}),
        ("|h[i]> = tanh(sum[d](x[i,d] |u[d]>))\nf[i] = 3 <h[i]|2 v>\noutput g[i] = f[i]^2", {"v": "readout"}),
        ("f[i] = <v|tanh(sum[d](x[i,d] |u[d]>))>\noutput k[i] = ntk(f[i], f[i])", {"v": "readout"}),
    ],
)
def test_uses_of_kets(body: str, wanted: dict[str, str]) -> None:
    body = body.replace("<h[i]|2 v>", "<h[i]|2 v>")
    found = kinds(DATA + "ket |u[d]> ~ N(0, 1)\nket |v> ~ N(0, 1)\n" + body)
    assert {name: found[name] for name in wanted} == wanted


def test_a_gain_of_ones_is_no_readout() -> None:
    found = kinds(
        DATA
        + "ket |u[d]> ~ N(0, 1)\nket |g> = 1\nket |v> ~ N(0, 1)\noutput f[i] = <g|(|v> tanh(sum[d](x[i,d] |u[d]>)))>"
    )
    assert found == {"u": "input weights", "g": "gain", "v": "readout"}


def test_json_as_promised() -> None:
    found = tpc.scale(text("mlp")).as_json()
    assert found["class"] == {
        "stable": True,
        "nontrivial": True,
        "faithful": True,
        "regime": "feature-learning",
        "r": "0",
    }
    adam = {"optimizer": "Adam"}
    assert found["parameters"]["W"] == {
        "kind": "matrix", **adam, "init_std": "-1/2", "lr": "-1", "eps": "-1", "multiplier": "0"
    }  # fmt: skip
    assert found["parameters"]["u"] == {
        "kind": "input", **adam, "init_std": "0", "lr": "0", "eps": "-1", "multiplier": "0"
    }  # fmt: skip
    assert found["parameters"]["v"] == {
        "kind": "output", **adam, "init_std": "-1", "lr": "-1", "eps": "0", "multiplier": "0"
    }  # fmt: skip


#: TP V Table 3: init std and learning rates of input weights (embeddings, biases, gains), hidden and output weights.
TABLE_3 = {
    "input": {"init_std": "0", "SGD": "1", "Adam": "0", "AdamW": "0"},
    "matrix": {"init_std": "-1/2", "SGD": "0", "Adam": "-1", "AdamW": "-1"},
    "output": {"init_std": "-1", "SGD": "-1", "Adam": "-1", "AdamW": "-1"},
    "scalar": {"init_std": "0", "SGD": "0", "Adam": "0", "AdamW": "0"},
}


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW"])
@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_published_tables(name: str, optimizer: str) -> None:
    """TP V Table 3 for every architecture; with its tied weights as in Table 8: figures of the embedding, outputs/n."""
    scaling = tpc.scale(text(name, f"{optimizer}(lr = 0.1)"))
    for row in scaling.parameters.values():
        published = TABLE_3[row.raw.kind.value]
        assert str(row.raw["init_std"]) == published["init_std"]
        assert str(row.raw["lr"]) == published[optimizer]
    assert scaling.verdict.regime == "feature-learning" and scaling.verdict.r == 0
    if name == "gpt":
        assert scaling.as_json()["parameters"]["e"]["output_multiplier"] == "-1"


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_tables_8_and_9(optimizer: str) -> None:
    found = tpc.scale(text("mlp", f"{optimizer}(lr = 0.1)")).equivalent()
    eight, nine = (dict(next(t for k, t in found.items() if f"Table {n}" in k)) for n in (8, 9))
    stds, rates = ([str(t[p][f]) for p in "uWv"] for t, f in ((eight, "init_std"), (eight, "lr")))
    assert stds == ["0", "-1/2", "0"]
    assert rates == {"SGD": ["1", "0", "1"], "Adam": ["0", "-1", "0"]}[optimizer]
    assert [str(nine[p]["init_std"]) for p in "uWv"] == ["-1/2"] * 3
    assert [str(nine[p]["lr"]) for p in "uWv"] == {"SGD": ["0"] * 3, "Adam": ["-1/2", "-1", "-1/2"]}[optimizer]


@pytest.mark.parametrize("name", [n for n in sorted(PROGRAMS) if n != "gpt"])
def test_neural_tangent_points_of_architectures(name: str) -> None:
    """TP IVb 2.9: the general NTP is in the operator regime with r = 1/2; so is every UP_s between."""
    scaling = tpc.scale(text(name, "SGD(lr = 0.1)").replace("ket |v> = 0", "ket |v> ~ N(0, 1)"))
    ntk = scaling.compared["ntk"].verdict
    assert ntk.regime == "operator" and ntk.r == F(1, 2)
    from tp_compiler.scale.figures import table

    verdict = scaling.analysis.judge(table(scaling.reading, scaling.choice, uniform("1/4")))
    assert verdict.regime == "operator" and verdict.r == F(1, 4)


def test_a_tied_network_has_no_neural_tangent_limit() -> None:
    """A token's own embedding stands in the stream: its logit under 1/√n is √n at initialisation."""
    ntk = tpc.scale(text("gpt")).compared["ntk"].verdict
    assert ntk.regime == "unstable" and "f is Θ(n^(1/2)) at initialisation" in ntk.reason


def test_what_goes_wrong_under_the_standard_parametrization() -> None:
    """Constant learning rates: the powers of the first step (docs/parametrizations.md)."""
    powers = {"SGD": ("n^(-1/2)", "n^(1/2)", "Θ(n)"), "Adam": ("", "Θ(n)", "n^(3/2)")}
    for optimizer, (h1, h2, f) in powers.items():
        shallow = text("mlp", f"{optimizer}(lr = 0.1)").replace("    |h3> = A gelu(|h2>)\n", "").replace("h3", "h2")
        problems = tpc.scale(shallow).compared["standard"].verdict.problems
        said = {p.name: str(p) for p in problems}
        assert h1 in said.get("|h1>", "")
        assert h2 in said["|h2>"] and "through updates of W" in said["|h2>"]
        assert f in said["f"]


def test_attention_by_one_over_root_d_blows_up() -> None:
    found = tpc.scale(
        DATA
        + """
axis s, t : 2
ket |u[d]> ~ N(0, 1)
matrix Q ~ N(0, 1)
matrix K ~ N(0, 1)
ket |v> ~ N(0, 1)
|h[i]> = sum[d](x[i,d] |u[d]>)
|q[i]> = Q |h[i]>
|k[i]> = K |h[i]>
a[i] = clt <q[i]|k[i]>
output f[i] = <v|tanh(tanh(a[i]) |h[i]>)>
"""
    )
    assert found.verdict.regime == "unstable" and found.verdict.stable_at_init
    assert "a moves by Θ(n^(1/2))" in found.verdict.reason


def rows(layers: list[Layer]) -> dict[tuple[str, bool], dict[str, float]]:
    names = [("u", True), ("W", False), ("A", False), ("v", True)]
    return {n: {k: float(getattr(x, k)) for k in "abcd"} for n, x in zip(names, layers, strict=True)}


def random_layers(rng: random.Random) -> list[Layer]:
    """Points of which a fair part is stable."""
    layers = []
    for k in range(4):
        size = [F(0), F(1, 2), F(1, 2), rng.choice([F(1, 2), F(3, 4), F(1), F(5, 4)])][k]
        if rng.random() < 0.04:
            size = F(rng.randint(-2, 4), 4)
        a = F(rng.randint(-4, 4), 4)
        near = rng.choice([F(0), F(0), F(1, 4), F(1, 2)]) if rng.random() < 0.85 else F(rng.randint(-4, 6), 4)
        layers.append([a, size - a, near + (k > 0) - a])
    out = layers[3][0] + layers[3][1]
    ds = [x[0] + (out if k < 3 else 0) for k, x in enumerate(layers)]
    return [Layer(*x, d if rng.random() < 0.97 else d + F(1, 4)) for x, d in zip(layers, ds, strict=True)]


@pytest.mark.parametrize(("optimizer", "homogeneity"), [("SGD", 1), ("SignSGD", 0), ("Adam", None)])
def test_perceptrons_are_classified_as_by_the_theorem(optimizer: str, homogeneity: int | None) -> None:
    """Orders of magnitude through the program against TP IVb Thm 2.8.12, on random rational points."""
    program, rng, regimes = compiled("mlp", f"{optimizer}(lr = 0.1)"), random.Random(optimizer), set()
    for _ in range(250):
        layers = random_layers(rng)
        theorem = classify(layers, homogeneity)
        found = Scaling(with_rows(program, rows(layers)).network).verdict
        regimes.add(str(theorem.regime))
        assert found.regime == theorem.regime, (layers, theorem.reason, found.reason)
        if theorem.stable_at_init and theorem.faithful:
            assert found.as_json() == theorem.as_json(), layers
    wanted = {"unstable", "operator", "feature-learning", "trivial"}
    assert wanted <= regimes


def test_a_zero_readout_and_zero_biases() -> None:
    """The first step moves the readout alone; from the second on features learn."""
    assert tpc.scale(text("resnet")).verdict.regime == "feature-learning"
    frozen = text("resnet").replace("ket |v> = 0", "ket |v> = 0 frozen")
    assert tpc.scale(frozen).verdict.regime == "trivial"


def test_without_training_there_are_two_tables() -> None:
    found = tpc.scale("examples/mlp.nexort")
    assert list(found.tables) == ["Adam", "SGD"] and set(found.parameters) == {"u", "W"}
    assert list(tpc.scale("examples/mlp.nexort", optimizer="Muon").tables) == ["Muon"]


def test_names_that_an_operator_shares() -> None:
    source = "ket |u> ~ N(0, 1)\nmatrix u ~ N(0, 1)\noutput f = <tanh(u |u>)>"
    assert set(tpc.scale(source).parameters) == {"u", "|u>"}


def test_parameters_updated_apart_and_not_at_all() -> None:
    source = text("resnet").replace(
        "update all with Adam(lr = 0.1)", "update A[1] with SGD(lr=1)\nupdate A[2], |v> with Adam(lr=1)"
    )
    found = tpc.scale(source).parameters
    assert {name: row.optimizer.name for name, row in found.items()} == {"A[1]": "SGD", "A[2]": "Adam", "v": "Adam"}


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (text("mlp", "Own(lr = 0.1)") + "\noptimizer Own(lr) { return -lr * g }", "NX158"),
        ("optimizer Own(lr) on operators { return -lr * (g + msign(g)) }\n" + text("mlp", "Own(lr = 0.1)"), "NX601"),
        ("parametrization { W : d = 0 }\n" + text("mlp", "KFAC(lr = 0.1, damping = 0.1)"), ""),
        ("parametrization { W : d = 1/2 }\n" + text("mlp", "Muon(lr = 0.1)"), "NX603"),
        (text("mlp", "Shampoo(lr = 0.1, damping = 0.1, power = step)"), "NX601"),
        (text("mlp", "Shampoo(lr = 0.1, damping = 0.1, power = pi / 10)"), "NX601"),
        ("ket |u> ~ N(0, 1) frozen\noutput <u|u>", "NX600"),
    ],
)
def test_errors_are_diagnostics(source: str, code: str) -> None:
    if not code:
        source = source.replace("d = 0", "d = 1")
        assert tpc.scale(source).verdict.regime == "feature-learning"
        return
    with pytest.raises(ProgramError) as problem:
        tpc.scale(source)
    assert problem.value.diagnostics[0].code == code


def test_own_optimizers() -> None:
    """Any function of entries: the gradient is brought to Θ(1), and what comes out moves things by Θ(1)."""
    source = "optimizer Own(lr) { return -lr * tanh(g) }\n" + text("mlp", "Own(lr = 0.1)")
    found = tpc.scale(source)
    assert [str(found[p]["gradient"]) for p in "uWv"] == ["1", "1", "0"]
    assert [str(found[p]["lr"]) for p in "uWv"] == ["0", "-1", "-1"]
    assert found.verdict.regime == "feature-learning" and found.compared["ntk"].verdict.regime == "operator"
    assert tpc.scale(source, optimizer="SGD")["W"].optimizer == "SGD"
    assert str(tpc.scale(text("mlp", "RAdam(lr = 0.1)"))["W"]["gradient"]) == "1"


def test_blocks_and_the_output_of_tied_kets() -> None:
    block = "parametrization { output : a = 1/2; |e> : c = 1/2, d = 1/2 }\n" + text("gpt")
    found = tpc.scale(block)
    assert found.as_json()["parameters"]["e"]["output_multiplier"] == "-1/2"
    assert found.as_json()["parameters"]["e"]["lr"] == "-1/2"


def test_the_command(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "mlp.nexort"
    path.write_text(text("mlp"), encoding="utf-8")
    assert cli.main(["scale", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "scale" and document["parameters"]["W"]["lr"] == "-1"
    assert cli.main(["scale", str(path), "--equivalent"]) == 0
    page = capsys.readouterr().out
    assert "W, A, lr: gradient entries are n^(-1)" in page and "TP V Table 9" in page
    assert "class: feature-learning, r = 0" in page and "standard: unstable" in page
    assert cli.main(["scale", str(path), "--emit", "torch"]) == 0
    assert "def parameter_groups(parameters, width_mult" in capsys.readouterr().out
    assert cli.main(["scale", str(path), "--optimizer", "Nope"]) == 1
    assert "NX601" in capsys.readouterr().err


def test_a_trained_gain_under_the_ntk_scaling() -> None:
    """<v_0|dx/dg> is n^-1/2 as it was drawn, however far g has moved: f moves by Θ(1), as in networks written in NumPy."""
    program = DATA + (
        "parametrization ntk\nket |u[d]> ~ N(0, 1)\nmatrix W ~ N(0, 1)\nket |v> ~ N(0, 1)\nscalar g = 1\n"
        "train steps = 2 {\n|h[i]> = W tanh(sum[d](x[i,d] |u[d]>))\nminimize mean[i]((clt <v|tanh(g |h[i]>)> - 1)^2)\n"
        "update all with SGD(lr = 0.1)\n}\noutput 1 + 1"
    )
    found = tpc.scale(program)
    assert (found.verdict.stable, found.verdict.r) == (True, 0)
    moved = []
    for n in (64, 512):
        rng, changes = np.random.default_rng(0), []
        for _ in range(400):
            h = rng.standard_normal((n, n)) @ np.tanh(rng.standard_normal(n)) / n**0.5
            v = rng.standard_normal(n) / n**0.5
            f, slope = v @ np.tanh(h), v @ (h / np.cosh(h) ** 2)
            g = 1 - 0.1 * 2 * (f - 1) * slope
            changes.append(v @ np.tanh(g * h) - f)
        moved.append(np.sqrt(np.mean(np.square(changes))))
    assert abs(np.log(moved[1] / moved[0]) / np.log(8)) < 0.25  # 400 networks: 0.07; blowing up would be 0.5


@pytest.mark.parametrize("optimizer", ["SGD(lr = 0.3)", "Adam(lr = 0.3, eps = 0.01)"])
def test_a_product_of_readouts_stays_at_its_saddle(optimizer: str) -> None:
    """Both factors are 0 in the limit, and so are their gradients: eps outweighs them, and nothing moves."""
    program = DATA + (
        "ket |u[d]> ~ N(0, 1)\nket |v> ~ N(0, 1)\nket |w> ~ N(0, 1)\ntrain steps = 2 {\n|h[i]> = tanh(sum[d](x[i,d] |u[d]>))\n"
        f"f[i] = <v|h[i]> * <w|h[i]>\nminimize mean[i]((f[i] - 1)^2)\nupdate all with {optimizer}\n}}\noutput f[step,i]"
    )
    assert str(tpc.scale(program).verdict.regime) == "trivial"
    assert abs(tpc.limit(program, samples=2048, max_samples=2048)["f"]).max() < 5e-3


def test_a_recurrent_network_that_starts_at_zero() -> None:
    """`0 * |v>` does not use v, and 0 has every symmetry: the classes are those of the start at |e>."""
    loop = "    |h[i,1]> = tanh(|e[i]>)\n    for s in 2..3 { |h[i,s]> = tanh(W |h[i,s-1]> + |e[i]>) }\n    |p[i]> = mean[s](|h[i,s]>)\n"
    assert loop in text("rnn")
    for zero in ("0", "0 * |v>", "0 * |v> + 0 * |e[i]>"):
        start = f"    |p[i]> = {zero}\n    for s in 1..3 {{ |p[i]> = tanh(W |p[i]> + |e[i]>) }}\n"
        found = tpc.scale(text("rnn").replace(loop, start))
        assert {name: row.parameter.role for name, row in found.parameters.items()} == kinds(text("rnn"))
        assert found.verdict.regime == "feature-learning" and found.compared["ntk"].verdict.regime == "operator"


@pytest.mark.parametrize("name", ["gate", "gatv2"])
@pytest.mark.parametrize("optimizer", ["SGD(lr = 0.1)", "Adam(lr = 0.1)"])
def test_numbers_that_move_are_no_updates_of_matrices(name: str, optimizer: str) -> None:
    """Soft gates and attention weights of order one scale kets that the readout does not know: f moves by Θ(1) under the
    NTK scaling (networks: tests/torch/test_scale.py), not by n^(1/2)."""
    found = tpc.scale(text(name, optimizer))
    assert found.verdict.regime == "feature-learning"
    ntk = found.compared["ntk"].verdict
    assert ntk.stable and ntk.nontrivial and ntk.r == 0
    assert any("|h> freezes: it moves by Θ(n^(-1/2))" in str(p) for p in ntk.problems)


@pytest.mark.parametrize(
    ("optimizer", "moved", "said"),
    [
        ("SGD(lr = 0.5)", F(-1, 2), "|r> does not learn at this initialisation: the members of e start alike"),
        ("Adam(lr = 0.1, eps = 0.01)", F(-1, 2), "|r> does not learn at this initialisation"),
        ("SignSGD(lr = 0.1)", 0, "|r> moves by normalised noise"),
        ("Muon(lr = 0.1)", 0, "|r> moves by normalised noise"),
    ],
)
def test_members_that_start_alike(optimizer: str, moved: Fraction, said: str) -> None:
    """The gradient by the logits of identical experts cancels: p is 1/2 for ever in the limit."""
    found = tpc.scale(text("gate", optimizer))
    assert found.verdict.updates["|r>"] == moved and found.verdict.updates["A"] == 0
    assert any(note.startswith(said) for note in found.verdict.notes), found.verdict.notes
    assert said in found.text() and found.as_json()["notes"] == list(found.verdict.notes)


def test_the_limit_keeps_members_alike() -> None:
    program = text("gate", "SGD(lr = 0.5)")
    shown = "output gates[step,i,e] = softmax[e](<r[e]|sum[d](x[i,d] |u[d]>)>)"
    limit = tpc.limit(f"{program}\n{shown}", samples=128, max_samples=128, replicates=4, only=["gates"])
    assert (np.abs(limit["gates"] - 0.5) < 5 * limit.outputs["gates"].stderr + 1e-3).all()
    moved = []
    for n in (32, 512):  # networks move by n^-1/2
        gates = tpc.simulate(f"{program}\n{shown}", n, seeds=8, only=["gates"]).outputs["gates"]
        moved.append(np.sqrt(np.mean(np.square(gates.stderr))) * 8**0.5)
    assert np.log(moved[1] / moved[0]) / np.log(16) == pytest.approx(-0.5, abs=0.2)


@pytest.mark.parametrize(
    "change",
    [
        ("softmax[e](<r[e]|h[i]>)", "softmax[e](<r[e]|h[i]> + e / 10)"),  # positions tell them apart
        ("(B[e] relu(A[e] |h[i]>))", "(B[1] relu(A[e] |h[i]>) * y[e])"),  # and so do data, and shared members
        (
            "softmax[e](<r[e]|h[i]>)",
            "softmax[e](<r[e]|h[i]> - shift[e](<r[e]|h[i]>, 1) + 1)",
        ),  # the first has none before it
        ("softmax[e](<r[e]|h[i]>)", "<r[e]|h[i]>"),  # nothing cancels without the softmax
    ],
)
def test_members_that_are_told_apart(change: tuple[str, str]) -> None:
    program = text("gate", "SGD(lr = 0.5)").replace("axis e : 2\n", "").replace("axis i : 2", "axis i, e : 2", 1)
    if "y[e]" not in change[1]:
        program = text("gate", "SGD(lr = 0.5)")
    assert change[0] in program
    found = tpc.scale(program.replace(*change))
    assert found.verdict.updates["|r>"] == 0 and not found.verdict.notes


def gated(gate: str) -> str:
    """Experts with separate gates, in addition to the softmax."""
    program = text("gate", "SGD(lr = 1)").replace("(B[e] relu", f"({gate}) * (B[e] relu")
    return program.replace("ket |v>", "ket |w[e]> ~ N(0, 1)\nket |v>", 1)


@pytest.mark.parametrize(
    "gate",
    [
        "0.2 + step(<w[e]|h[1]>)",
        "where(<w[e]|h[i]>, 1, 2)",
        "1 + relu(<w[e]|h[i]>)",  # by its slope: |w> learns through open gates only, and experts differ after a step
        "1 + abs(<w[e]|h[i]>)",
        "2 + <w[e]|h[1]> / sqrt(<w[e]|h[1]>^2)",
    ],
)
def test_jumps_tell_members_apart(gate: str) -> None:
    """Their argument is 0 in the limit and has a sign of its own in every network: no gradient cancels."""
    found = tpc.scale(gated(gate)).verdict
    assert found.updates["|r>"] >= 0 and not found.notes


@pytest.mark.parametrize("of", ["relu(|m[i,e]>)", "|m[i,e]> / sqrt(<m[i,e]|m[i,e]>)"])
def test_kets_that_carry_the_number(of: str) -> None:
    """relu(g|h>) is another function for g > 0 than for g < 0; so is a norm taken away."""
    program = gated("1").replace("relu(A[e] |h[i]>)", f"({of})")
    program = program.replace("    p[i,e] =", "    |m[i,e]> = GATE * (A[e] |h[i]>)\n    p[i,e] =")
    for gate, alike in (("<w[e]|h[i]>", False), ("sigmoid(<w[e]|h[i]>)", True)):
        found = tpc.scale(program.replace("GATE", gate)).verdict
        assert any("|r>" in n for n in found.notes) == alike


@pytest.mark.parametrize("gate", ["sigmoid(<w[e]|h[i]>)", "sigmoid(<w[e]|h[i]>) / sum[e](sigmoid(<w[e]|h[i]>))"])
def test_smooth_gates_keep_members_alike(gate: str) -> None:
    found = tpc.scale(gated(gate)).verdict
    assert found.updates["|r>"] == F(-1, 2) and found.notes


def test_a_kink_upstream_of_a_router_that_cancels() -> None:
    """The slopes differ, but what they multiply is 0: experts stay alike."""
    found = tpc.scale(text("gate", "SGD(lr = 0.5)").replace("softmax[e](<r[e]|h[i]>)", "softmax[e](abs(<r[e]|h[i]>))"))
    assert found.verdict.updates["|r>"] < 0 and len(found.verdict.notes) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("gate", "power"), [("0.2 + step(<w[e]|h[1]>)", 0), ("sigmoid(<w[e]|h[i]>)", -0.5)])
def test_networks_move_as_gates_say(gate: str, power: float) -> None:
    shown = "output gates[step,i,e] = softmax[e](<r[e]|sum[d](x[i,d] |u[d]>)>)"
    program = gated(gate).replace("train steps = 2", "train steps = 4")
    moved = []
    for n in (64, 1024):
        gates = tpc.simulate(f"{program}\n{shown}", n, seeds=16, only=["gates"]).outputs["gates"]
        moved.append(np.sqrt(np.mean(np.square(gates.stderr[-1]))) * 16**0.5)
    assert np.log(moved[1] / moved[0]) / np.log(16) == pytest.approx(power, abs=0.2)


ATTENTION = """
axis s, t : 3
axis w : 4
data tok[s] = [1, 2, 4]
ket |e[w]> ~ N(0, 1)
ket |v> ~ N(0, 1)
matrix Q ~ N(0, 1)
matrix K ~ N(0, 1)
matrix V ~ N(0, 1)
train steps = 3 {
    |x[s]> = |e[tok[s]]>
    |q[s]> = Q |x[s]>
    |k[s]> = K |x[s]>
    a[s,t] = softmax[t](LOGIT)
    |y[s]> = |x[s]> + V sum[t](a[s,t] |x[t]>)
    f[s] = <READ|tanh(|y[s]>)>
    minimize mean[s]((f[s] - 1)^2)
    update all with Adam(lr = 0.1, eps = 0.01)
}
output f[step,s] = f[step,s]
"""


@pytest.mark.parametrize("bracket", ["{}", "clt {}"])
@pytest.mark.parametrize("embedded", ["|e[tok[s]]>", "sum[w](z[s,w] |e[w]>)"])
def test_logits_are_no_readouts_however_spelled(bracket: str, embedded: str) -> None:
    """<x|Q^T K|x> is <q|k>: an inner product of features."""
    found = []
    data = "data z[s,w] = [[1, 0, 2, 1], [0, 1, 1, -1], [1, 1, 0, 3]]\n" if "z[" in embedded else ""
    for logit in ("<q[s]|k[t]>", "<x[s]|Q^T K |x[t]>", "<Q^T k[t]|x[s]>", "<x[s]|Q^T |k[t]>"):
        program = (
            ATTENTION.replace("data tok", f"{data}data tok")
            .replace("|e[tok[s]]>", embedded)
            .replace("LOGIT", bracket.format(logit))
        )
        scaled = tpc.scale(program.replace("READ", "v"))
        roles = {name: row.parameter.role for name, row in scaled.parameters.items()}
        figures = {name: row.output for name, row in scaled.parameters.items()}
        verdict = scaled.verdict
        found.append((roles, figures, verdict.updates, verdict.r, verdict.stable))
    assert all(f == found[0] for f in found[1:])
    assert found[0][-1] == (bracket == "{}") and not found[0][0]["e"].startswith("tied")


@pytest.mark.parametrize("read", ["f[s] = <e[1]|tanh(|y[s]>)>", "f[s] = <e[1]|V sum[t](a[s,t] |x[t]>)>"])
def test_tied_readouts_beside_logits(read: str) -> None:
    """What attention has mixed is features: an embedding reads them."""
    program = ATTENTION.replace("LOGIT", "<x[s]|Q^T K |x[t]>").replace("f[s] = <READ|tanh(|y[s]>)>", read)
    found = kinds(program.replace("ket |v> ~ N(0, 1)\n", ""))
    assert found["e"] == "tied embedding"


def test_members_that_differ_by_order_one() -> None:
    """Under the NTK scaling logits are Gaussian: nothing is alike, and r learns."""
    found = tpc.scale(text("gate", "SGD(lr = 0.5)"))
    ntk = found.compared["ntk"].verdict
    assert ntk.updates["|r>"] == 0 and not ntk.notes


def test_products_of_two_things_that_move() -> None:
    """The gradient by a temperature, and what it scales, are n^-1/2 at first; both have moved by Θ(1) after a step."""
    program = text("temperature", "Adam(lr = 0.05, eps = 0.01)")
    found = tpc.scale(program)
    tau = found.parameters["tau"].parameter.shown
    assert found.verdict.updates[tau] == 0
    assert found.compared["ntk"].verdict.r == F(1, 2)
    limit = tpc.limit(program, samples=128, max_samples=128, replicates=2, only=["temperature"])["temperature"]
    assert limit[1] == pytest.approx(1, abs=5e-3) and limit[8] > 1.01, limit


def test_a_product_with_a_number_that_stays() -> None:
    """Without queries and keys that learn, the temperature sees n^-1/2 for ever."""
    program = text("temperature", "SGD(lr = 0.1)").replace(
        "matrix Q ~ N(0, 1)\nmatrix K ~ N(0, 1)", "matrix Q ~ N(0, 1) frozen\nmatrix K ~ N(0, 1) frozen"
    )
    program = program.replace("ket |u[d]> ~ N(0, 1)", "ket |u[d]> ~ N(0, 1) frozen")
    assert tpc.scale(program).verdict.updates["tau"] == F(-1, 2)


NANOCHAT = """
parametrization { |v> : a = 1, b = 1/2 }
ket |u[d]> ~ N(0, 1)
matrix W ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 2 {
    f[i] = <v|tanh(W tanh(sum[d](x[i,d] |u[d]>)))>
    minimize mean[i]((f[i] - y[i])^2)
    update |u>, |v> with AdamW(lr = 0.05, eps = 0.01)
    update W with Muon(lr = 0.1)
}
output f[step,i]
"""


def test_matrix_optimizers_have_no_d() -> None:
    """A readout that starts at n^(-3/2) grows to n^-1: Muon's figures are muP's, and a table is there without a limit."""
    found = tpc.scale(DATA + NANOCHAT)
    assert [str(found[p]["lr"]) for p in "uWv"] == ["0", "0", "-1"]
    assert str(found["v"]["init_std"]) == "-3/2" and found.verdict.regime == "feature-learning"
    refused = tpc.limit(DATA + NANOCHAT, samples=64, max_samples=64).failed["f"]
    assert refused.code == "NX504" and "an optimizer without eps" in refused.message
    shampoo = NANOCHAT.replace("Muon(lr = 0.1)", "Shampoo(lr = 0.1, damping = 0.1)")
    assert str(tpc.scale(DATA + shampoo)["W"]["damping"]) == "0"  # n^-1 at the readout's start, were it never to grow


def test_what_a_row_leaves_out_is_said() -> None:
    """a = 1/2 without c and d freezes W: the warning says that, and which c and d do not."""
    frozen = DATA + NANOCHAT.replace("|v> : a = 1, b = 1/2", "W : a = 1/2, b = 0").replace(
        "Muon(lr = 0.1)", "Adam(lr = 0.1)"
    )
    found = tpc.scale(frozen)
    (warning,) = found.warnings
    assert warning.code == "NX924" and "keeps muP's c = 1, d = 1" in warning.message
    assert "`W` moves its output by Θ(n^(-1))" in warning.remedy and found.verdict.updates["W"] == -1
    assert "at this a, muP's updates need c = 1/2, d = 3/2" in warning.message
    told = frozen.replace("a = 1/2, b = 0", "a = 1/2, b = 0, c = 1/2, d = 3/2")
    assert not tpc.scale(told).warnings and tpc.scale(told).verdict.updates["W"] == 0


LORA = """
axis r : 2
ket |u[d]> ~ N(0, 1) frozen
matrix W ~ N(0, 1) frozen
ket |A[r]> ~ N(0, 1)
ket |B[r]> ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 2 {
    |h[i]> = tanh(sum[d](x[i,d] |u[d]>))
    a[i,r] = clt <A[r]|h[i]>
    f[i] = <v|tanh(W |h[i]> + sum[r](a[i,r] * |B[r]>))>
    minimize mean[i]((f[i] - y[i])^2)
    update |A>, |B>, |v> with Adam(lr = 0.05, eps = 0.01)
}
output f[step,i]
"""


def test_brackets_over_the_root_of_the_width_in_natural_units() -> None:
    """`scale` answers where `limit` cannot: logits over √d move by √n."""
    attention = (
        text("temperature").replace("tau * <q[i,s]|k[i,t]>", "clt <q[i,s]|k[i,t]>").replace("scalar tau = 1", "")
    )
    attention = attention.replace("output temperature[step] = tau", "")
    found = tpc.scale(attention)
    assert found.verdict.regime == "unstable" and found.verdict.stable_at_init
    assert "clt <q[i,s]|k[i,t]> moves by Θ(n^(1/2))" in found.verdict.reason
    assert tpc.scale(DATA + LORA).verdict.regime == "feature-learning"
    for program in (attention, DATA + LORA):
        assert {d.code for d in tpc.limit(program).failed.values()} == {"NX504"}


RATIOS = """
width m = 4
ket |u[d]> ~ N(0, 0.25)
matrix A : m x n ~ N(0, 2)
matrix B : n x m ~ N(0, 1)
ket |v> : m ~ N(0, 9)
train steps = 2 {
    |h[i]> = relu(A |sum[d](x[i,d] u[d])>)
    f[i] = <v|relu(A tanh(B |h[i]>))>
    minimize mean[i]((f[i] - y[i])^2)
    update all with OPTIMIZER
}
output f[step,i]
"""


@pytest.mark.parametrize(
    ("optimizer", "rates"),
    [
        # Δw = lr Q(n ρ_out g) / (n ρ_in) for entries, with g = δx and δ = dx / (n ρ_out)
        ("SGD(lr = 1)", {"u": 1, "A": 4, "B": 1 / 4, "v": 1 / 4}),
        ("Adam(lr = 1, eps = 0.1)", {"u": 1, "A": 1, "B": 1 / 4, "v": 1 / 4}),
        # operators are the matrices themselves
        ("Muon(lr = 1)", {"u": 1, "A": 1, "B": 1, "v": 1 / 2}),
        ("Shampoo(lr = 1, damping = 0.1, power = 1/8)", {"u": 1, "A": 2, "B": 1 / 2, "v": 4**-0.75}),
    ],
)
def test_factors_before_the_powers(optimizer: str, rates: dict[str, float]) -> None:
    """Width ratios and deviations; trained networks are in tests/torch/test_scale_constants.py."""
    found = tpc.scale(
        DATA + RATIOS.replace("|sum[d](x[i,d] u[d])>", "sum[d](x[i,d] |u[d]>)").replace("OPTIMIZER", optimizer)
    )
    factors = found.main.constants
    starts = {"u": 0.5, "A": 2**0.5, "B": 0.5, "v": 3 / 4}
    for name, start in starts.items():
        assert factors[name]["init_std"] == pytest.approx(start)
        assert factors[name].get("lr", 1) == pytest.approx(rates[name]), name
    if "eps" in found["A"].figures:
        assert factors["A"]["eps"] == pytest.approx(1 / 4) and "eps" not in factors["B"]
    assert found.as_json()["constants"]["A"]["init_std"] == pytest.approx(2**0.5)
    assert "1.414 n^(-1/2)" in found.text() and "factors are width ratios" in found.text()


ROOTS = """
width m = 1/4
axis i, j : 2
ket |u[i]> ~ N(0, 1)
matrix Q : m x n ~ N(0, 1)
matrix K : m x n ~ N(0, 1)
ket |v> : m ~ N(0, 1)
a[i,j] = softmax[j](INNER)
|y[i]> = sum[j](a[i,j] * Q |u[j]>)
output f[i] = OUTER
"""


@pytest.mark.parametrize(("outer", "start"), [("<v|y[i]>", 4), ("clt <v|y[i]>", 2)])
def test_only_a_readout_over_the_root_of_the_width_has_its_factors(outer: str, start: float) -> None:
    """Entries of v are 1/(m n), or 1/sqrt(m) n^-1 if outputs are over the root of m n, whatever is over a root inside."""
    program, inner = ROOTS.replace("OUTER", outer), "<Q u[i]|K u[j]>"
    inside, without = (tpc.scale(program.replace("INNER", way + inner)).main.constants for way in ("clt ", ""))
    assert inside == without
    assert inside["v"]["init_std"] == pytest.approx(start)


def test_the_text_shows_output_multipliers() -> None:
    """JSON and the emitted text have them, and so has the table."""
    head, embedding = (tpc.scale(text("gpt")).text().splitlines()[k] for k in (2, 3))
    assert "multiplier  output_multiplier  is" in head and "n^(-1)             tied embedding" in embedding
    assert "output_multiplier" not in tpc.scale(text("mlp")).text()


@pytest.mark.parametrize("root", [0.0, 0.01])
def test_the_emitted_text_says_what_torch_lacks(root: float) -> None:
    program = (
        "ket |u> ~ N(0, 1)\nmatrix W ~ N(0, 1)\nket |v> ~ N(0, 1)\ntrain steps = 2 {\nf = <v|tanh(W |u>)>\n"
        f"minimize (f - 1)^2\nupdate all with Adam(lr = 0.1, eps_root = {root})\n}}\noutput f[step]\n"
    )
    emitted = tpc.scale(program).torch()
    compile(emitted, "emitted", "exec")
    assert emitted.count("# torch.optim.Adam has no `eps_root`, which the program gives") == (root > 0)
