"""Which terms survive in the limit of a stable and faithful parametrization: the indicators of TP IVb 3.1.

The recursion in which they appear, where W̄ is W in units of its own size:

- |z_t⟩ = |z_0⟩ + 1(moves) Σ_s |δz_s⟩ for z = h^l, x^l
- |δx_t⟩ = φ(|h_t⟩) − φ(|h_{t−1}⟩) where features move, else φ'(|h⟩)|δh_t⟩
- |δh_t⟩ = 1(carried) |W_0 δx_t⟩ + 1(crossed) Σ_{s<t} |δW_s δx_t⟩ + 1(updated) |δW_t x_t⟩, with δW_t the newest update
- |W̄_t⟩ = 1(initial) |W̄_0⟩ + 1(grown) Σ_s |δW̄_s⟩ for the readout
- δf_t = 1(by_update) ⟨δW̄_t|x_t⟩ + 1(by_features) ⟨W̄_{t−1}|δx_t⟩
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tp_compiler.scale.abcd import Layer, Sizes
from tp_compiler.scale.numbers import HALF, Exponent
from tp_compiler.scale.verdict import Classification, Regime, classify


@dataclass(frozen=True)
class LayerTerms:
    """The indicators of one hidden layer, in the notation of TP IVb 3.1 (l = 1 has no features before it)."""

    moves: bool  #: θ_h = 1(r_{<=l} = 0): the features of this layer move
    carried: bool  #: θ_{x/h} = 1(r_l >= r_{<=l−1}): moving features come in through W_0
    updated: bool  #: θ_{W/h} = 1(r_l <= r_{<=l−1}): the newest update of W acts on the features
    crossed: bool  #: θ_{Wx/h} = 1(r_l = 0 and r_{<=l−1} = 0): earlier updates of W act on moving features
    backward: bool  #: θ_W = 1(r_l = 0): updates of W act on the gradients that pass back


@dataclass(frozen=True)
class Indicators:
    """All indicators; see the module for the recursion in which they appear."""

    layers: tuple[LayerTerms, ...]
    initial: bool  #: 1(b_{L+1} <= c_{L+1}): W_0 of the readout still counts after its first update
    grown: bool  #: θ_{L+1/f} = 1(b_{L+1} >= c_{L+1}): the updates of the readout are as large as the readout
    by_update: bool  #: θ'_{L+1} = 1(a_{L+1} + c_{L+1} = 1): updating the readout moves f
    by_features: bool  #: θ'_{Lf} = 1(r + readout = 1): moving features move f
    random_start: bool  #: f_0 is Gaussian, not 0: a_{L+1} + b_{L+1} = 1/2
    kernel_layers: tuple[int, ...]  #: operator regime: the layers, L + 1 included, that have a term in the operator

    @property
    def lag(self) -> bool:
        """The readout's first update drowns its initial value: training proper begins a step late."""
        return not self.initial


def indicators(layers: Sequence[Layer], homogeneity: Exponent | None = None) -> Indicators:
    """The indicators of a stable and faithful parametrization; of another, ValueError with the reason."""
    return surviving(classify(layers, homogeneity))


def surviving(found: Classification) -> Indicators:
    """The same of a parametrization that was classified."""
    if not found.stable:
        raise ValueError(f"there is no limit: {found.reason}")
    sizes = found.sizes
    grow = sizes.r[-1] + 1
    by_update = sizes.r[-1] == 0
    by_features = sizes.overall + sizes.readout == 1
    terms: list[int] = []
    if found.regime == Regime.OPERATOR:
        if by_features:
            terms += [k for k in range(1, sizes.hidden + 1) if sizes.r[k - 1] == sizes.overall]
        if by_update:
            terms.append(sizes.hidden + 1)
    return Indicators(
        layers=tuple(_terms(sizes, k) for k in range(1, sizes.hidden + 1)),
        initial=sizes.init[-1] <= grow,
        grown=sizes.init[-1] >= grow,
        by_update=by_update,
        by_features=by_features,
        random_start=sizes.init[-1] == HALF,
        kernel_layers=tuple(terms),
    )


def _terms(sizes: Sizes, layer: int) -> LayerTerms:
    r, upto = sizes.r[layer - 1], sizes.upto(layer)
    if layer == 1:
        return LayerTerms(moves=upto == 0, carried=False, updated=True, crossed=False, backward=r == 0)
    before = sizes.upto(layer - 1)
    return LayerTerms(upto == 0, r >= before, r <= before, r == before == 0, r == 0)
