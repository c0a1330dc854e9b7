"""abcd-parametrizations: four exponents a layer, what leaves the network as it is, and the sizes that decide its class.

The network is the multilayer perceptron of TP IVb 2.2: h^1 = W^1 ξ, h^l = W^l x^(l-1), x^l = φ(h^l), f = W^(L+1)ᵀ x^L, with
W^l = n^-a_l w^l, w^l ~ N(0, n^-2b_l) and w^l ← w^l − η n^-c_l Q(n^d_l g_0, .., n^d_l g_t), g the gradients of w^l.
Layers are numbered from 1 (input) to L + 1 (output); L ≥ 1 is the number of hidden vectors.

TP IVb is Yang and Littwin, arXiv 2308.01814; TP IV is Yang and Hu, arXiv 2011.14522 (SGD only: its c is our c − d).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

from tp_compiler.scale.numbers import HALF, Exponent, exact, total


@dataclass(frozen=True)
class Layer:
    """The exponents of one layer (TP IVb Def 2.2.1). `Layer.of` takes integers and strings."""

    a: Fraction
    b: Fraction
    c: Fraction
    d: Fraction

    @classmethod
    def of(cls, a: Exponent, b: Exponent, c: Exponent, d: Exponent = 0) -> Layer:
        """The same from integers, fractions or strings such as "1/2"."""
        return cls(exact(a), exact(b), exact(c), exact(d))

    def shifted(self, theta: Exponent) -> Layer:
        """The equivalent layer with the multiplier n^-(a + theta) (TP IVb (2.5))."""
        theta = exact(theta)
        return Layer(self.a + theta, self.b - theta, self.c - theta, self.d + theta)


@dataclass(frozen=True)
class Sizes:
    """What the class depends on, and nothing else: sizes at initialisation, and sizes of updates.

    init[l] = a + b (an entry of W^(l+1) is n^-init). r[l] (TP IVb Def 2.8.5): the update of a layer alone moves what the
    layer computes, h^l or f, by n^-r in a step. `how` writes each r with its numbers.
    """

    init: tuple[Fraction, ...]
    r: tuple[Fraction, ...]
    how: tuple[str, ...] = field(compare=False)

    @property
    def hidden(self) -> int:
        """L."""
        return len(self.r) - 1

    def upto(self, layer: int) -> Fraction:
        """r_{<=l}: the features of layer l (from 1 to L) move by n^-r_{<=l}."""
        return min(self.r[:layer])

    @property
    def overall(self) -> Fraction:
        """r = r_{<=L}."""
        return self.upto(self.hidden)

    @property
    def readout(self) -> Fraction:
        """An entry of W^(L+1) is n^-readout once it was updated: min(a + b, a + c) of the last layer, c for Θ(1) inputs of Q."""
        return min(self.init[-1], self.r[-1] + 1)

    @property
    def moves(self) -> tuple[Fraction, ...]:
        """The exponents of Δh^1, .., Δh^L and Δf after one step from initialisation: negative ones vanish."""
        features = tuple(-self.upto(layer) for layer in range(1, self.hidden + 1))
        return (*features, max(-self.r[-1], 1 - self.init[-1] - self.overall))


def checked(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers, at least an input and an output layer."""
    if len(layers) < 2:
        raise ValueError("a network has an input and an output layer at least")
    return tuple(layers)


def needed_d(layers: Sequence[Layer], readout: Fraction | None = None) -> tuple[Fraction, ...]:
    """The d that make the inputs of every Q Θ(1): d_l = a_l + a_{L+1} + b_{L+1}, d_{L+1} = a_{L+1} (TP IVb (2.26)).

    `readout` stands for a_{L+1} + b_{L+1} once the readout was updated.
    """
    last = layers[-1]
    back = last.a + last.b if readout is None else readout
    return (*(layer.a + back for layer in layers[:-1]), last.a)


def sizes(layers: Sequence[Layer], homogeneity: Exponent | None = None) -> Sizes:
    """r_1 = a_1 + c_1, r_l = a_l + c_l − 1 (TP IVb Def 2.8.5), where the inputs of Q are Θ(1).

    With `homogeneity` p, Q(kg) = k^p Q(g), and any d is as good as the faithful one d*: n^-c Q(n^d g) = n^-c* Q(n^d* g)
    with c* = c + p(d* − d) (p = 1 is TP IVb Remark 2.2.4). d* follows the readout through training, which for p = 1 gives the r
    of TP IV Def 3.2, with its minimum of a_{L+1} + b_{L+1} and 2a_{L+1} + c.
    """
    layers = checked(layers)
    init = tuple(layer.a + layer.b for layer in layers)
    if homogeneity is None:
        r = tuple(x.a + x.c - (k > 0) for k, x in enumerate(layers))
        how = tuple(
            f"r_{k} = a_{k} + c_{k}{' - 1' if k > 1 else ''} = {total(x.a, x.c)}{' - 1' if k > 1 else ''} = {r[k - 1]}"
            for k, x in enumerate(layers, 1)
        )
        return Sizes(init, r, how)
    degree = exact(homogeneity)
    last = layers[-1]
    readout = last.a + min(last.b, last.c + degree * (last.a - last.d))
    wanted = needed_d(layers, readout)
    scaled = [x.c + degree * (d - x.d) for x, d in zip(layers, wanted, strict=True)]
    r = tuple(x.a + c - (k > 0) for k, (x, c) in enumerate(zip(layers, scaled, strict=True)))
    how = tuple(
        f"r_{k} = a_{k} + c_{k}"
        + (f" + {degree}·(d*_{k} - d_{k})" if degree else "")
        + f"{' - 1' if k > 1 else ''} = {total(x.a, x.c)}"
        + (f" + {degree}·({total(d, -x.d)})" if degree else "")
        + f"{' - 1' if k > 1 else ''} = {r[k - 1]}"
        for k, (x, d) in enumerate(zip(layers, wanted, strict=True), 1)
    )
    return Sizes(init, r, how)


def faithful(layers: Sequence[Layer], homogeneity: Exponent) -> tuple[Layer, ...]:
    """The same training with the d of (2.26), for a Q of this degree: c grows by p times what d grows by."""
    layers, degree = checked(layers), exact(homogeneity)
    wanted = needed_d(layers)
    return tuple(replace(x, c=x.c + degree * (d - x.d), d=d) for x, d in zip(layers, wanted, strict=True))


def equivalent(layers: Sequence[Layer], theta: Sequence[Exponent]) -> tuple[Layer, ...]:
    """(a, b, c, d) → (a + θ, b − θ, c − θ, d + θ), a θ for each layer: the same f_t at every width (TP IVb (2.5))."""
    return tuple(layer.shifted(t) for layer, t in zip(checked(layers), theta, strict=True))


def normalised(layers: Sequence[Layer], by: Literal["update", "weight", "trust-ratio"]) -> tuple[Layer, ...]:
    """The plain parametrization that one with normalised (or clipped) updates amounts to.

    `update`: every update is divided by its own Frobenius norm, which is n^e with e = 1/2 for input and output weights and
    1 for hidden matrices, so c counts as c + e (TP IVb 2.10.2). `weight`: it is divided by the norm of the weights w, n^(e − b),
    so c counts as c + e − b (the tables 2.10.8, 2.10.9). `trust-ratio`: by the update's norm and multiplied by that of the weights, as
    LARS and LAMB do, so c counts as c + b (TP V appendix B.3). Clipping scales alike where its threshold is the same power.
    """
    layers = checked(layers)
    ends = (0, len(layers) - 1)
    counted = []
    for k, layer in enumerate(layers):
        entries = HALF if k in ends else Fraction(1)
        more = {"update": entries, "weight": entries - layer.b, "trust-ratio": layer.b}[by]
        counted.append(replace(layer, c=layer.c + more))
    return tuple(counted)
