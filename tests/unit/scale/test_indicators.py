"""Which terms survive (TP IVb 3.1), at the named points and in general."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.scale.points import degrees, exponents, sound
from tp_compiler.scale import points
from tp_compiler.scale.abcd import Layer, equivalent
from tp_compiler.scale.indicators import LayerTerms, indicators
from tp_compiler.scale.verdict import Regime, classify

ALL = LayerTerms(moves=True, carried=True, updated=True, crossed=True, backward=True)


def test_in_mup_everything_survives() -> None:
    found = indicators(points.maximal_update().layers(3))
    assert found.layers == (LayerTerms(True, False, True, False, True), ALL, ALL)
    assert found.initial and found.grown and found.by_update and found.by_features
    assert not found.random_start and not found.lag and found.kernel_layers == ()


def test_in_ntp_features_are_still_and_every_layer_has_its_term() -> None:
    found = indicators(points.neural_tangent().layers(3))
    still = LayerTerms(moves=False, carried=True, updated=True, crossed=False, backward=False)
    assert found.layers == (LayerTerms(False, False, True, False, False), still, still)
    assert found.random_start and not found.grown and found.initial
    assert found.kernel_layers == (1, 2, 3, 4)


def test_standard_parametrization_leaves_the_input_layer_out() -> None:
    assert indicators(points.standard(1).layers(3), 1).kernel_layers == (2, 3, 4)
    assert indicators(points.standard("3/2").layers(3), 0).kernel_layers == (2, 3)  # Adam: not the readout either
    assert indicators(points.standard("3/2").layers(2), 1).kernel_layers == ()  # trivial


def test_the_readout_alone() -> None:
    """c large in the body: the operator is that of random features (TP IV: NNGP)."""
    body = points.neural_tangent()
    slow = [Layer(x.a, x.b, x.c + 1, x.d) for x in body.layers(2)[:-1]]
    assert indicators([*slow, body.output]).kernel_layers == (3,)


def test_a_readout_from_almost_nothing_lags_by_a_step() -> None:
    sgd = points.maximal_update().faithful(1).layers(2)
    found = indicators((*sgd[:-1], Layer(Fraction(1), Fraction(3), sgd[-1].c, sgd[-1].d)), 1)
    assert found.lag and found.grown and found.by_update and found.by_features


def test_without_a_limit_there_is_a_reason() -> None:
    with pytest.raises(ValueError, match=r"there is no limit: a_3 \+ b_3 \+ r = .* < 1"):
        indicators(points.standard(1).layers(2), 0)


@given(sound(), degrees, st.data())
def test_they_hang_together(layers: tuple[Layer, ...], degree: Fraction | None, data: st.DataObject) -> None:
    found = classify(layers, degree)
    if not found.stable:
        with pytest.raises(ValueError, match="no limit"):
            indicators(layers, degree)
        return
    terms = indicators(layers, degree)
    assert (terms.by_update or terms.by_features) == found.nontrivial
    assert [k for k, x in enumerate(terms.layers, 1) if x.moves] == list(found.feature_layers)
    assert all(x.carried or x.updated for x in terms.layers) and (terms.initial or terms.grown)
    assert all(x.moves and x.carried and x.updated for x in terms.layers if x.crossed)
    assert bool(terms.kernel_layers) == (found.regime == Regime.OPERATOR)
    if found.regime == Regime.FEATURE_LEARNING:
        assert not terms.random_start  # r = 0 makes f_0 vanish
    theta = data.draw(st.lists(exponents, min_size=len(layers), max_size=len(layers)))
    assert indicators(equivalent(layers, theta), degree) == terms
