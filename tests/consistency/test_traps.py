"""Programs that once gave, or easily give, a silent wrong number."""

from __future__ import annotations

import pytest

import tp_compiler as tpc

KETS = "ket |v> ~ N(0, 1)\nket |x> ~ N(0, 1)\nket |p> ~ N(0, 1)\nmatrix W ~ N(0, 1)\nmatrix A ~ N(0, 1)\n"


@pytest.mark.parametrize(
    "bracket",
    [
        "clt <x|W + W^T|x>",  # 2 xᵀWx/√n: variance 4, two independent hats would give 2
        "clt <x|W - W^T|x>",  # 0
        "clt <p|(W A^T + A W^T)|p>",
        "clt <v|W A|v>^2 + clt <v|A^T W^T|v>^2",  # one number twice
    ],
)
def test_clt_brackets_that_meet_a_matrix_both_ways_are_refused(bracket: str) -> None:
    run = tpc.limit(f"{KETS}s = {bracket}\noutput q = s", method="qmc", samples=512)
    assert run.failed["q"].code in ("NX451", "NX452")


@pytest.mark.parametrize(
    "pair",
    [
        ("clt <v|W|x>", "clt <x|W^T|v>"),
        ("clt <p|A W^T p + W x>", "clt <p|W A^T p + A x>"),
    ],
)
def test_clt_pairs_that_share_a_matrix_both_ways_are_refused(pair: tuple[str, str]) -> None:
    a, b = pair
    run = tpc.limit(f"{KETS}a = {a}\nb = {b}\noutput q = a * b", method="qmc", samples=512)
    assert run.failed["q"].code in ("NX451", "NX452")


def test_kets_much_closer_than_single_precision_are_told_apart() -> None:
    """W is linear: (W(x + 10⁻⁷z) - Wx)/10⁻⁷ = Wz."""
    run = tpc.limit(f"{KETS}|d> = (W(|x> + 1e-7 |v>) - W |x>) / 1e-7\noutput d = <d|d>", method="qmc", samples=4096)
    assert abs(run["d"] - 1) < 4 * run.outputs["d"].stderr + 1e-6


def test_the_transpose_of_an_outer_product_carries_the_ratio_of_widths() -> None:
    """(|y><q|)ᵀ = ρ|q><y| with ρ = lim (width of y)/(width of q): here 1/4."""
    program = "width m = 4\nket |q> : m ~ N(1, 1)\nket |x> ~ N(1, 1)\nG = (|1> + 0 |x>)<q|\noutput a = <G^T(x)|q>"
    run = tpc.limit(program, method="qmc", samples=4096)
    assert abs(run["a"] - 0.25 * 1 * 2) < 5 * run.outputs["a"].stderr
    network = tpc.simulate(program, 400, seeds=8)
    assert abs(network["a"] - 0.5) < 5 * network.outputs["a"].stderr


@pytest.mark.parametrize("operator", ["W (|x><v|) W^T", "W (2 |x><v| + |v><x|) A", "(|x><v|) (|v><x|) W"])
def test_entrywise_functions_see_through_compositions(operator: str) -> None:
    program = f"{KETS}G = {operator}\noutput a = <x|tanh(G)|v>\noutput b = <x|sin(G) tanh(G)^T|x>"
    verification = tpc.verify(program, widths=(64, 128, 256), seeds=12, method="qmc", samples=2048)
    assert verification.passed, verification


@pytest.mark.parametrize(("event", "truth"), [("step(x - 3)", 1.35e-3), ("step(x - 5.5)", 1.9e-8)])
def test_rare_events_never_have_an_error_of_zero(event: str, truth: float) -> None:
    for seed in range(4):
        estimate = tpc.limit(f"{KETS}output a = <{event}>", method="qmc", samples=2048, seed=seed).outputs["a"]
        assert estimate.stderr > 0 and abs(estimate.value - truth) < 4 * estimate.stderr


def test_the_bias_of_pairing_reaches_the_error() -> None:
    """Ten oscillating dimensions: rows meet P copies, and <y|y> has a bias of order 1/P."""
    program = "axis d : 10\nket |x[d]> ~ N(0, 1)\n|y> = E[1](cos(2 * sum[d](|x[d]> * |x[d]>@1)))\noutput q = <y|y>"
    for samples in (2**10, 2**12):
        estimate = tpc.limit(program, method="qmc", samples=samples).outputs["q"]
        assert abs(estimate.value - 9.0**-5) < 5 * estimate.stderr
