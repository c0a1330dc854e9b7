"""A second road: networks of growing width, trained as written, move by the powers of n that the theory gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tests.unit.scale import network as net
from tp_compiler.scale import points
from tp_compiler.scale.abcd import Layer
from tp_compiler.scale.indicators import indicators
from tp_compiler.scale.numbers import Exponent
from tp_compiler.scale.optimizers import OPTIMIZERS, GradientSize, OptimizerScaling, ParameterKind, kfac, shampoo
from tp_compiler.scale.points import Point
from tp_compiler.scale.raw import classify_raw, raw, raw_sizes
from tp_compiler.scale.verdict import Regime, classify

WIDTHS = (128, 256, 512, 1024)
TOLERANCE = 0.08
STANDARD = (0, "-1/2", "-1/2")

RULES: dict[str, tuple[net.Rule, OptimizerScaling]] = {
    "SGD": (net.sgd, OPTIMIZERS["SGD"]),
    "Momentum": (net.momentum, OPTIMIZERS["Momentum"]),
    "Adam": (net.adam, OPTIMIZERS["Adam"]),
    "sign": (net.sign, OPTIMIZERS["Adam"]),
    "K-FAC": (net.factored(1, 1), kfac()),
    "K-FAC, 1/2": (net.factored(0.5, 0.5), kfac("1/2", "1/2")),
    "FOOF": (net.factored(0, 1), OPTIMIZERS["FOOF"]),
    "Shampoo": (net.spectral(0.25, 0.25), shampoo()),
    "Shampoo, 1/2": (net.spectral(0.5, 0.5), shampoo("1/2")),
    "Shampoo, left": (net.spectral(0.3, 0), shampoo("3/10", 0)),
    "Muon": (net.spectral(0.5, 0, damped=False), OPTIMIZERS["Muon"]),
    "SOAP": (net.soap, OPTIMIZERS["SOAP"]),
    "Nero": (net.nero, OPTIMIZERS["Nero"]),
}


def kinds(layers: int) -> tuple[ParameterKind, ...]:
    return (ParameterKind.INPUT, *[ParameterKind.HIDDEN] * (layers - 2), ParameterKind.OUTPUT)


def measured(
    name: str, std: Sequence[Exponent], lr: Sequence[Exponent], scale: Sequence[Exponent], **more: Any
) -> list[float]:
    """Slopes of a raw network whose eps and damping go with the gradient."""
    rule, row = RULES[name]
    stds, rates, scales = ([Fraction(x) for x in given] for given in (std, lr, scale))
    readout = raw_sizes(std, lr, row, scale, first=True).readout
    found = [row.scales(GradientSize.of(k, readout, m)) for k, m in zip(kinds(len(stds)), scales, strict=True)]
    still = (Fraction(0), "")
    left = [s.get("eps", s.get("damping", s.get("damping_left", still)))[0] for s in found]
    right = [s.get("damping_right", still)[0] for s in found]
    more = {"sphere": name == "Nero", **more}
    return net.slopes(WIDTHS, rule=rule, std=stds, lr=rates, multiplier=scales, left=left, right=right, **more)


def check(found: list[float], wanted: Sequence[Fraction]) -> None:
    assert np.allclose(found, [float(x) for x in wanted], atol=TOLERANCE, rtol=0), (found, [str(x) for x in wanted])


@pytest.mark.long
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    "point",
    [points.maximal_update(), points.neural_tangent(), points.uniform("1/4")],
    ids=["mup", "ntk", "uniform"],
)
def test_points(point: Point, name: str) -> None:
    """The figures of `raw` make real networks move by n^-r, three steps of training long."""
    row = RULES[name][1]
    rows = [raw(point, k, row) for k in kinds(3)]
    std, lr, scale = ([x[figure] for x in rows] for figure in ("init_std", "lr", "multiplier"))
    activation = net.gelu if name in ("Adam", "sign", "Muon") else net.tanh
    rate = 0.3 if name in ("SGD", "Momentum", "Adam", "sign") else 0.1
    found = measured(name, std, lr, scale, steps=3, activation=activation, rate=rate)
    check(found, classify(point.layers(2)).sizes.moves)


@pytest.mark.long
@pytest.mark.parametrize("activation", [net.tanh, net.gelu])
@pytest.mark.parametrize(
    ("name", "c", "hidden", "regime"),
    [
        ("SGD", "1", 2, Regime.OPERATOR),
        ("SGD", "1", 3, Regime.OPERATOR),
        ("SGD", "3/4", 2, Regime.UNSTABLE),
        ("SGD", "1/2", 2, Regime.UNSTABLE),
        ("SGD", "3/2", 2, Regime.TRIVIAL),
        ("sign", "1", 1, Regime.OPERATOR),
        ("sign", "1", 2, Regime.UNSTABLE),
        ("sign", "3/2", 2, Regime.OPERATOR),
        ("Adam", "3/2", 3, Regime.OPERATOR),
        ("sign", "2", 2, Regime.TRIVIAL),
    ],
)
def test_standard_parametrization(
    name: str, c: str, hidden: int, regime: Regime, activation: Callable[[net.Array], tuple[net.Array, net.Array]]
) -> None:
    """A step of the standard parametrization with learning rate n^-c; with Adam, c = 1 is unstable."""
    layers = points.standard(c).layers(hidden)
    found = classify(layers, 1 if name == "SGD" else 0)
    assert found.regime == regime
    std, lr = [-x.b for x in layers], [-x.c for x in layers]
    check(measured(name, std, lr, [0] * len(layers), activation=activation), found.sizes.moves)


@pytest.mark.long
@pytest.mark.parametrize("name", RULES)
def test_what_goes_wrong_without_scaling(name: str) -> None:
    """Constant learning rates, standard initialisation: which features freeze or blow up, and with which power."""
    found = measured(name, STANDARD, (0, 0, 0), (0, 0, 0), rate=1e-3)
    check(found, raw_sizes(STANDARD, (0, 0, 0), RULES[name][1], first=True).moves)


@pytest.mark.long
@pytest.mark.parametrize("name", ["SGD", "sign", "Shampoo", "K-FAC"])
def test_random_networks(name: str) -> None:
    """Random exponents whose features stay put or move by Θ(1); f may do anything."""
    rng = np.random.default_rng(1)
    row = RULES[name][1]
    for _ in range(6):
        scale = [Fraction(int(x), 4) for x in rng.integers(-2, 3, 3)]
        std = [Fraction(0) - scale[0], Fraction(-1, 2) - scale[1], Fraction(-2 - int(rng.integers(3)), 4) - scale[2]]
        r = [Fraction(int(x), 2) for x in (*rng.integers(0, 3, 2), rng.integers(-1, 3))]
        unit = raw_sizes(std, (0, 0, 0), row, scale, first=True).r
        lr = [u - x for u, x in zip(unit, r, strict=True)]
        sizes = raw_sizes(std, lr, row, scale, first=True)
        assert list(sizes.r) == r
        check(measured(name, std, lr, scale, rate=0.05), sizes.moves)


@pytest.mark.long
@pytest.mark.parametrize("name", ["SGD", "sign", "Muon"])
def test_a_readout_that_starts_small_lags_by_a_step(name: str) -> None:
    """TP IV: stable, and feature learning, from the second step on; at the first SGD moves the readout alone."""
    row = RULES[name][1]
    lr = [raw(points.maximal_update(), k, row)["lr"] for k in kinds(3)]
    std = (0, "-1/2", -2)
    assert classify_raw(std, lr, row).regime == Regime.FEATURE_LEARNING
    check(measured(name, std, lr, (0, 0, 0)), raw_sizes(std, lr, row, first=True).moves)
    check(measured(name, std, lr, (0, 0, 0), steps=2), raw_sizes(std, lr, row).moves)


@pytest.mark.long
@pytest.mark.parametrize(
    ("layers", "degree", "name"),
    [
        (points.standard(1).layers(2), 1, "SGD"),
        (points.standard("3/2").layers(2), 0, "sign"),
        (points.neural_tangent().layers(2), None, "SGD"),
        (points.uniform("1/4").layers(2), None, "sign"),
        ((Layer.of(0, 0, 1, "1/2"), Layer.of(0, "1/2", "3/2", "1/2"), Layer.of(0, "1/2", 1, 0)), None, "SGD"),
    ],
)
def test_the_operator_has_the_terms_of_its_layers(layers: tuple[Layer, ...], degree: int | None, name: str) -> None:
    """Freezing a layer changes Δf by Θ(1) if the layer has a term in the operator, and by a vanishing amount if not."""
    terms = indicators(layers, degree).kernel_layers
    assert terms
    rule = RULES[name][0]
    point = Point(layers[0], layers[1], layers[2])
    rows = [raw(point, k, "SGD" if name == "SGD" else "Adam") for k in kinds(3)]
    if name == "sign" and degree == 0:  # the parametrization has no d, so eps vanishes beside the gradient
        rule = net.exact_sign
    std, lr = ([x[figure] for x in rows] for figure in ("init_std", "lr"))
    left = [x.figures.get("eps", Fraction(0)) for x in rows]
    for layer in (1, 2, 3):
        changes = []
        for n in WIDTHS:
            runs = [
                [net.train(n, rule, std, lr, left=left, seed=s, frozen=f, rate=0.1)[-1] for f in ((), (layer,))]
                for s in range(net.seeds(n))
            ]
            changes.append(np.mean([((x - y) ** 2).mean() for x, y in runs]))
        power = net.slope(WIDTHS, changes)
        assert abs(power) < 0.1 if layer in terms else power < -0.2, (layer, power, terms)


@pytest.mark.long
@pytest.mark.parametrize("by", ["update", "weight", "trust-ratio"])
def test_normalised_updates(by: str) -> None:
    """muP of TP IVb Tables 2.10.5 and 2.10.9, and of TP V B.3, with SGD's gradients divided as `normalised` says."""
    half = Fraction(1, 2)
    c = {"update": (-half, 0, -half), "weight": (-half, half, -half), "trust-ratio": (0, half, 0)}[by]
    b, a = ((0, half, 1), (0, 0, 0)) if by == "trust-ratio" else ((0, half, 0), (0, 0, 1))

    def rule(memory: net.Memory, g: net.Array, x: net.Array, d: net.Array, left: float, right: float) -> net.Array:
        norm = float(np.linalg.norm(g))
        if by == "update":
            return g / norm
        if not memory.t:
            memory.t, memory.v = 1, float(np.sqrt(g.size)) * float(left)
        unit = g / norm * np.sqrt(g.size)  # Θ(1) entries
        return unit / memory.v if by == "weight" else g / norm * memory.v

    std = [-x for x in b]
    found = net.slopes(
        WIDTHS, rule, std, [-x for x in c], multiplier=[-x for x in a], left=std, rate=0.1, activation=net.tanh
    )
    check(found, classify(points.maximal_update().layers(2)).sizes.moves)
