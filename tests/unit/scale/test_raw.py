"""Figures for raw implementations, against the published tables."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.scale.points import exponents, positive
from tp_compiler.scale import points
from tp_compiler.scale.abcd import Layer, sizes
from tp_compiler.scale.optimizers import OPTIMIZERS, EntrywiseOptimizer, OptimizerScaling, ParameterKind, kfac, shampoo
from tp_compiler.scale.points import Point
from tp_compiler.scale.raw import classify_raw, raw, raw_sizes
from tp_compiler.scale.verdict import Regime, classify

F = Fraction
MUP, NTP, SP = points.maximal_update(), points.neural_tangent(), points.standard(1)
ROWS = ("input", "matrix", "output")


def column(
    point: Point, optimizer: OptimizerScaling | str, name: str, multipliers: tuple[object, ...] = (0, 0, 0)
) -> str:
    """One figure of input, hidden and output weights."""
    found = (raw(point, k, optimizer, m)[name] for k, m in zip(ROWS, multipliers, strict=True))  # type: ignore[arg-type]
    return " ".join(map(str, found))


def test_the_json_of_the_scale_command() -> None:
    assert raw(MUP, "matrix", "Adam").as_json() == {
        "kind": "matrix",
        "optimizer": "Adam",
        "init_std": "-1/2",
        "lr": "-1",
        "eps": "-1",
        "multiplier": "0",
    }
    assert list(raw(MUP, "input", "Adam").as_json().values()) == ["input", "Adam", "0", "0", "-1", "0"]
    assert list(raw(MUP, "output", "Adam").as_json().values()) == ["output", "Adam", "-1", "-1", "0", "0"]


TP5 = [  # input, hidden, output: multiplier, init std, SGD lr, Adam lr
    ("Table 3", (0, 0, 0), "0 -1/2 -1", "1 0 -1", "0 -1 -1"),
    ("Table 8", (0, 0, -1), "0 -1/2 0", "1 0 1", "0 -1 0"),
    ("Table 9", ("1/2", 0, "-1/2"), "-1/2 -1/2 -1/2", "0 0 0", "-1/2 -1 -1/2"),
]


@pytest.mark.parametrize(("multipliers", "std", "sgd", "adam"), [x[1:] for x in TP5], ids=[x[0] for x in TP5])
def test_tensor_programs_five(multipliers: tuple[object, ...], std: str, sgd: str, adam: str) -> None:
    assert column(MUP, "SGD", "init_std", multipliers) == std
    assert column(MUP, "SGD", "lr", multipliers) == sgd
    assert column(MUP, "Momentum", "lr", multipliers) == sgd
    for name in ("Adam", "AdamW", "RMSprop", "Adagrad", "SignSGD", "Lion"):
        assert column(MUP, name, "lr", multipliers) == adam


def test_tied_embeddings_agree_on_the_tied_weights() -> None:
    """TP V Table 8: with an output multiplier 1/n, embedding and readout ask for the same figures."""
    for name in ("SGD", "AdamW"):
        embedding, readout = raw(MUP, "embedding", name), raw(MUP, "output", name, -1)
        for figure in embedding.figures.keys() - {"multiplier"}:
            assert embedding[figure] == readout[figure]


def test_weight_decay_undoes_the_learning_rate() -> None:
    """lr·weight_decay is constant (TP IVb 2.10.1); torch's AdamW and SGD multiply the two."""
    assert column(MUP, "AdamW", "weight_decay") == "0 1 1"
    assert column(MUP, "SGD", "weight_decay") == "-1 0 1"
    assert "weight_decay" not in raw(MUP, "matrix", "Adam").figures


@pytest.mark.parametrize(
    ("row", "lr", "left", "right"),
    [  # Ishikawa and Karakida, Table 1: our figures are minus their c and d
        (kfac(0, 0), "1 0 -1", None, None),
        (kfac(1, 1), "0 0 0", "-1 -1 0", "0 1 1"),
        (kfac("1/2", "1/2"), "1/2 0 -1/2", "-1 -1 0", "0 1 1"),
        (OPTIMIZERS["FOOF"], "1 1 0", None, "0 1 1"),
        (kfac(1, 0), "0 -1 -1", "-1 -1 0", None),
    ],
)
def test_kronecker_factored(row: OptimizerScaling, lr: str, left: str | None, right: str | None) -> None:
    assert column(MUP, row, "lr") == lr
    for name, wanted in (("damping_left", left), ("damping_right", right)):
        if wanted is None:
            assert name not in raw(MUP, "matrix", row).figures
        else:
            assert column(MUP, row, name) == wanted


@pytest.mark.parametrize(
    ("left", "right", "lr"),
    [("1/4", None, "1/2 0 -1/2"), ("1/2", None, "0 0 0"), ("1/2", 0, "1/2 0 -1/2"), (0, "1/4", "3/4 0 -3/4")],
)
def test_shampoo_with_any_powers(left: str, right: str | None, lr: str) -> None:
    """Qiu et al. Table 1: eta is (n_out/n_in)^(1 − e_L − e_R), eps n_in/n_out."""
    assert column(MUP, shampoo(left, right), "lr") == lr
    assert column(MUP, shampoo(left, right), "damping") == "-1 0 1"


def test_muon_soap_and_nero() -> None:
    assert column(MUP, "Muon", "lr") == "1/2 0 -1/2"  # sqrt(n_out/n_in), Qiu et al. Table 1
    assert column(MUP, "SOAP", "lr") == "1/2 0 -1/2"  # its Table 1 with blocks of the size of the matrix
    assert column(MUP, "SOAP", "eps") == "-1/2 0 1/2"
    rows = [raw(MUP, k, "Nero") for k in ROWS]
    assert [str(x["lr"]) for x in rows] == ["0", "-1/2", "0"]
    assert [str(x["init_std"]) for x in rows] == ["0", "-1/2", "-1/2"]
    assert [str(x["multiplier"]) for x in rows] == ["0", "0", "-1/2"]
    with pytest.raises(ValueError, match="fixes the multiplier"):
        raw(MUP, "output", "Nero", -1)


def test_damping_goes_with_the_readout() -> None:
    """d_B = 2 b_L − 1 for a readout of size n^-b_L: constant at NTP."""
    assert column(NTP, kfac(), "damping_left") == "0 0 0"
    assert column(NTP, kfac(), "lr") == "0 0 0"


def test_biases_are_input_weights_and_lone_numbers_are_constant() -> None:
    for name in OPTIMIZERS:
        bias, weight, lone = (raw(MUP, k, name) for k in ("bias", "input", "scalar"))
        assert bias.figures == weight.figures
        assert set(lone.figures.values()) == {0}


def test_figures_of_a_point_that_is_not_faithful() -> None:
    assert raw(SP, "matrix", "SGD")["lr"] == raw(SP, "matrix", "Adam")["lr"] == -1
    figures = raw(SP, "matrix", "Adam")
    assert figures["eps"] == 0 and figures.reasons["eps"].endswith("so eps dominates as n grows")
    with pytest.raises(ValueError, match="must be faithful"):
        raw(SP, "matrix", "Shampoo")
    with pytest.raises(ValueError, match="unknown optimizer LBFGS"):
        raw(SP, "matrix", "LBFGS")


def test_every_figure_has_a_reason_and_every_row_a_source() -> None:
    for name, row in OPTIMIZERS.items():
        assert row.source
        for kind in ParameterKind:
            found = raw(MUP, kind, name)
            assert found.figures.keys() - {"weight_decay"} == found.reasons.keys() - {"weight_decay"}
    why = raw(MUP, "matrix", "Adam").reasons["lr"]
    assert why == (
        "gradient entries are n^(-1), those of an update 1, and n of them add up, aligned with the inputs: n; "
        "lr = n^(-1) makes the update move the layer's output by Θ(1)"
    )


WRONG = [  # unscaled learning rates at the standard initialisation: powers of Δh^1, Δh^2, Δf after a step
    ("SGD", "-1/2 1/2 1", Regime.UNSTABLE),
    (kfac(), "-1/2 -1/2 0", Regime.OPERATOR),
    (kfac("1/2", "1/2"), "-1/2 0 1/2", Regime.UNSTABLE),
    ("FOOF", "-1/2 -1/2 0", Regime.OPERATOR),
    ("Shampoo", "-1/2 0 1/2", Regime.UNSTABLE),
    (shampoo("1/2"), "-1/2 -1/2 0", Regime.OPERATOR),
    ("Muon", "-1/2 0 1/2", Regime.UNSTABLE),
    ("Adam", "0 1 3/2", Regime.UNSTABLE),
]


@pytest.mark.parametrize(("row", "moves", "regime"), WRONG)
def test_what_goes_wrong_without_scaling(row: OptimizerScaling | str, moves: str, regime: Regime) -> None:
    std = (0, "-1/2", "-1/2")
    assert " ".join(map(str, raw_sizes(std, (0, 0, 0), row, first=True).moves)) == moves
    assert classify_raw(std, (0, 0, 0), row).regime == regime


@st.composite
def faithful_points(draw: st.DrawFn) -> Point:
    r_in, r_hid, r_out = (draw(positive) for _ in range(3))
    m = min(F(1, 2) + draw(positive), 1 + r_out)
    a, b, c = (draw(exponents) for _ in range(3))
    return Point(
        Layer(a, -a, r_in - a, a + m), Layer(b, F(1, 2) - b, r_hid + 1 - b, b + m), Layer(c, m - c, r_out + 1 - c, c)
    )


@given(faithful_points(), st.sampled_from(sorted(OPTIMIZERS)), st.integers(1, 3), st.lists(exponents, min_size=3))
def test_there_and_back(point: Point, name: str, hidden: int, multipliers: list[Fraction]) -> None:
    """The figures of a point, taken as a raw network, have the sizes of the point, with any multipliers."""
    kinds = ("input", *["matrix"] * (hidden - 1), "output")
    chosen = dict(zip(ROWS, multipliers, strict=False))
    rows = [raw(point, k, name, None if name == "Nero" else chosen[k]) for k in kinds]
    std, lr, scale = ([row[figure] for row in rows] for figure in ("init_std", "lr", "multiplier"))
    back, there = raw_sizes(std, lr, name, scale), sizes(point.layers(hidden))
    assert back == there
    assert classify_raw(std, lr, name, scale).regime == classify(point.layers(hidden)).regime


@given(st.lists(exponents, min_size=3, max_size=3), st.lists(exponents, min_size=3, max_size=3))
def test_raw_sgd_and_adam_are_abcd_with_d_0(std: list[Fraction], lr: list[Fraction]) -> None:
    layers = [Layer(F(0), -s, -r, F(0)) for s, r in zip(std, lr, strict=True)]
    for name in ("SGD", "SignSGD"):
        row = OPTIMIZERS[name]
        assert isinstance(row, EntrywiseOptimizer)
        for first in (False, True):
            assert raw_sizes(std, lr, name, first=first) == sizes(layers, row.degree, first)
