"""The classes of the literature's parametrizations, and what must hold of every class."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.scale.points import anywhere, degrees, exponents, positive, sound
from tp_compiler.scale import points
from tp_compiler.scale.abcd import Layer, equivalent, faithful, normalised, sizes
from tp_compiler.scale.verdict import Question, Regime, classify

F, HALF = Fraction, Fraction(1, 2)
FEATURES, OPERATOR, TRIVIAL, UNSTABLE, UNFAITHFUL = (
    Regime.FEATURE_LEARNING,
    Regime.OPERATOR,
    Regime.TRIVIAL,
    Regime.UNSTABLE,
    Regime.UNFAITHFUL,
)

TABLE = [
    ("muP", points.maximal_update().layers(2), None, FEATURES, 0),
    ("muP, SGD", points.maximal_update().layers(3), 1, FEATURES, 0),
    ("muP, Adam", points.maximal_update().layers(1), 0, FEATURES, 0),
    ("muP of TP IV", points.mup_abc(3), 1, FEATURES, 0),
    ("MFP, SGD", points.mean_field(), 1, FEATURES, 0),
    ("MFP, any Q", points.maximal_update().layers(1), None, FEATURES, 0),
    ("NTP", points.neural_tangent().layers(2), None, OPERATOR, HALF),
    ("NTP, SGD", points.neural_tangent().layers(3), 1, OPERATOR, HALF),
    ("NTP, Adam", points.neural_tangent().layers(1), 0, OPERATOR, HALF),
    ("NTP of TP IV", points.ntp_abc(3), 1, OPERATOR, HALF),
    ("SP, SGD, c = 1", points.standard(1).layers(2), 1, OPERATOR, HALF),
    ("SP, SGD, c = 1/2", points.standard("1/2").layers(2), 1, UNSTABLE, 0),
    ("SP, SGD, c = 0", points.standard(0).layers(2), 1, UNSTABLE, F(-1)),
    ("SP, SGD, c = 3/2", points.standard("3/2").layers(2), 1, TRIVIAL, 1),
    ("SP, Adam, c = 1", points.standard(1).layers(2), 0, UNSTABLE, 0),
    ("SP, Adam, c = 3/2", points.standard("3/2").layers(2), 0, OPERATOR, HALF),
    ("SP, Adam, c = 2", points.standard(2).layers(2), 0, TRIVIAL, 1),
    ("SP, Adam, c = 1, L = 1", points.standard(1).layers(1), 0, OPERATOR, 1),
    ("SP, any Q", points.standard(1).layers(2), None, UNFAITHFUL, 0),
    ("UP_1/4", points.uniform("1/4").layers(2), None, OPERATOR, F(1, 4)),
    ("UP_1/4, SGD", points.uniform("1/4").layers(2), 1, OPERATOR, F(1, 4)),
    ("UP_1/4 of TP IV", points.uniform_abc("1/4", 3), 1, OPERATOR, F(1, 4)),
]


@pytest.mark.parametrize(("layers", "degree", "regime", "r"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_table(layers: tuple[Layer, ...], degree: int | None, regime: Regime, r: Fraction) -> None:
    found = classify(layers, degree)
    assert (found.regime, found.r) == (regime, r)
    assert found.as_json()["regime"] == regime.value and found.as_json()["r"] == str(r)


def test_the_uniform_family_joins_mup_to_ntp() -> None:
    for hidden in (1, 2, 4):
        assert points.uniform(0).layers(hidden) == points.maximal_update().layers(hidden)
        shifted = equivalent(points.uniform(HALF).layers(hidden), [0, *[HALF] * (hidden - 1), 0])
        assert shifted == points.neural_tangent().layers(hidden)
        for s in (F(1, 8), F(3, 8)):
            found = classify(points.uniform(s).layers(hidden))
            assert found.regime == OPERATOR and set(found.sizes.r[:-1]) == {s} and found.sizes.r[-1] == 0


def test_mup_is_maximal_and_the_others_are_not() -> None:
    assert classify(points.maximal_update().layers(3)).maximal == (True,) * 4
    assert classify(points.standard(1).layers(2), 1).maximal == (False, False, True)
    assert classify(points.maximal_update().layers(3)).feature_layers == (1, 2, 3)


def test_features_may_be_learnt_in_late_layers_only() -> None:
    first, *rest = points.maximal_update().layers(3)
    found = classify((Layer(first.a, first.b, first.c + 1, first.d), *rest))
    assert found.regime == FEATURES and found.feature_layers == (2, 3)


def test_normalised_updates() -> None:
    """TP IVb Tables 2.10.4, 2.10.5 (updates) and 2.10.8, 2.10.9 (weights)."""
    ntp = (Layer.of(0, 0, 0, HALF), Layer.of(HALF, 0, 0, 1), Layer.of(HALF, 0, 0, HALF))
    mup = (Layer.of(0, 0, -HALF, 1), Layer.of(0, HALF, 0, 1), Layer.of(1, 0, -HALF, 1))
    assert normalised(mup, "update") == points.maximal_update().layers(2)
    mup = (Layer.of(0, 0, -HALF, 1), Layer.of(0, HALF, HALF, 1), Layer.of(1, 0, -HALF, 1))
    assert normalised(mup, "weight") == points.maximal_update().layers(2)
    for by in ("update", "weight"):
        assert normalised(ntp, by) == points.neural_tangent().layers(2)
    lars = (Layer.of(0, 0, 0, 1), Layer.of(0, HALF, HALF, 1), Layer.of(0, 1, 0, 0))  # TP V B.3: hidden rate n^(-1/2)
    assert normalised(lars, "trust-ratio") == equivalent(points.maximal_update().layers(2), (0, 0, -1))


def test_a_readout_that_starts_small_is_stable_for_sgd_and_unfaithful_for_other_q() -> None:
    first, middle, last = points.maximal_update().layers(2)
    layers = faithful((first, middle, Layer(last.a, F(3), last.c, last.d)), 0)
    assert classify(layers).regime == UNFAITHFUL
    assert "grow" in classify(layers).reason
    assert classify(layers, 0).regime == FEATURES
    sgd = points.maximal_update().faithful(1).layers(2)
    sgd = (*sgd[:-1], Layer(last.a, F(3), sgd[-1].c, sgd[-1].d))
    assert classify(sgd, 1).regime == FEATURES
    assert sizes(sgd, 1, first=True).moves == (-3, -3, 0)  # the first step sees the small readout


def test_reasons_have_the_numbers_in_them() -> None:
    assert classify(points.standard(1).layers(2), 0).reason == (
        "a_3 + b_3 + r = 1/2 + 0 = 1/2 < 1: features that move by Θ(1) move f by Θ(n^(1/2)) [TP IVb (2.27)]"
    )
    found = classify((Layer.of(0, 0, 0, 1), Layer.of(0, 0, 1, 1), Layer.of(1, 0, 0, 1)))
    assert not found.stable_at_init and found.stable is False and found.nontrivial is None
    assert found.reason == "a_2 + b_2 = 0, not 1/2: h^2 is Θ(n^(1/2)) at initialisation [TP IVb (2.25)]"
    found = classify(points.standard(1).layers(2))
    assert found.stable is None and "d_1 = 0 ≠ a_1 + a_3 + b_3 = 0 + 0 + 1/2 = 1/2" in found.reason
    assert found.why(Question.INIT).count(";") == 2


def test_floats_and_single_layers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"not 0\.5"):
        Layer.of(0, 0.5, 1, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="input and an output"):
        classify([Layer.of(0, 0, 0, 0)])
    with pytest.raises(ValueError, match="between 0"):
        points.uniform(1)


@given(anywhere | sound(), degrees)
def test_exactly_one_class(layers: tuple[Layer, ...], degree: Fraction | None) -> None:
    found = classify(layers, degree)
    assert found.regime in Regime and found.reason
    assert (found.stable is True) == (found.regime in (FEATURES, OPERATOR, TRIVIAL))
    assert (found.nontrivial is True) == (found.regime in (FEATURES, OPERATOR))
    assert all(c.holds for c in found.conditions) == (found.regime == FEATURES)
    if found.stable:
        assert found.r >= 0 and all(x <= 0 for x in found.sizes.moves)
        assert (found.sizes.moves[-1] == 0) == found.nontrivial


@given(anywhere | sound(), degrees, st.data())
def test_the_symmetry_changes_nothing(layers: tuple[Layer, ...], degree: Fraction | None, data: st.DataObject) -> None:
    theta = data.draw(st.lists(exponents, min_size=len(layers), max_size=len(layers)))
    shifted = equivalent(layers, theta)
    here, there = classify(layers, degree), classify(shifted, degree)
    assert here.sizes == there.sizes and here.as_json() == there.as_json()
    assert equivalent(shifted, [-t for t in theta]) == layers


@given(anywhere | sound(), st.sampled_from([F(0), F(1), HALF]), st.data())
def test_d_is_a_matter_of_taste_for_homogeneous_q(
    layers: tuple[Layer, ...], degree: Fraction, data: st.DataObject
) -> None:
    more = data.draw(st.lists(exponents, min_size=len(layers), max_size=len(layers)))
    moved = tuple(Layer(x.a, x.b, x.c + degree * e, x.d + e) for x, e in zip(layers, more, strict=True))
    assert classify(moved, degree).sizes == classify(layers, degree).sizes


@given(sound(), st.sampled_from([F(0), F(1), HALF]))
def test_the_theorem_for_any_q_agrees_where_it_applies(layers: tuple[Layer, ...], degree: Fraction) -> None:
    found = classify(layers)
    if found.faithful:
        assert classify(layers, degree).as_json() == found.as_json()
    assert classify(faithful(layers, degree), degree).sizes == classify(layers, degree).sizes


@given(anywhere | sound(), degrees, st.data())
def test_smaller_learning_rates_are_stabler(
    layers: tuple[Layer, ...], degree: Fraction | None, data: st.DataObject
) -> None:
    more = data.draw(st.lists(positive, min_size=len(layers), max_size=len(layers)))
    slower = tuple(Layer(x.a, x.b, x.c + e, x.d) for x, e in zip(layers, more, strict=True))
    before, after = classify(layers, degree), classify(slower, degree)
    assert all(y >= x for x, y in zip(before.sizes.r, after.sizes.r, strict=True))
    if before.stable:
        assert after.stable
    if before.regime == TRIVIAL:
        assert after.regime == TRIVIAL


@given(sound(), sound())
def test_the_stable_and_faithful_are_convex(x: tuple[Layer, ...], y: tuple[Layer, ...]) -> None:
    """They are a polyhedron (TP IV Fig. 5), features being learnt on a face of it."""
    if len(x) != len(y) or not classify(x).stable or not classify(y).stable:
        return
    middle = tuple(
        Layer((p.a + q.a) / 2, (p.b + q.b) / 2, (p.c + q.c) / 2, (p.d + q.d) / 2) for p, q in zip(x, y, strict=True)
    )
    assert classify(middle).stable
    if FEATURES not in (classify(x).regime, classify(y).regime):
        assert classify(middle).regime != FEATURES


def _tp4(a: list[Fraction], b: list[Fraction], c: Fraction) -> tuple[bool, bool, Fraction]:
    """Stable, nontrivial and r as TP IV section 3 states them, for SGD with one learning rate."""
    r = min(a[-1] + b[-1], 2 * a[-1] + c) + c - 1 + min(2 * x + (k == 0) for k, x in enumerate(a[:-1]))
    init = (
        a[0] + b[0] == 0 and all(x + y == HALF for x, y in zip(a[1:-1], b[1:-1], strict=True)) and a[-1] + b[-1] >= HALF
    )
    stable = init and r >= 0 and 2 * a[-1] + c >= 1 and a[-1] + b[-1] + r >= 1
    return stable, a[-1] + b[-1] + r == 1 or 2 * a[-1] + c == 1, r


@settings(max_examples=300)
@given(st.integers(1, 3), st.data())
def test_sgd_is_classified_as_in_tp4(hidden: int, data: st.DataObject) -> None:
    a = data.draw(st.lists(st.builds(F, st.integers(-2, 2), st.just(2)), min_size=hidden + 1, max_size=hidden + 1))
    b = [F(k > 0, 2) - x for k, x in enumerate(a)]
    b[-1] += data.draw(positive)
    c = data.draw(st.builds(F, st.integers(-4, 4), st.just(2)))
    stable, nontrivial, r = _tp4(a, b, c)
    found = classify(points.abc(a, b, c), 1)
    assert found.r == r and found.stable == stable
    if stable:
        assert found.nontrivial == nontrivial and (found.regime == FEATURES) == (nontrivial and r == 0)
