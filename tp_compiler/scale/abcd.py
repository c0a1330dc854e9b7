"""abcd-parametrizations: four exponents per layer, their symmetry, and the sizes that decide the class.

The network is the perceptron of TP IVb 2.2: h^1 = W^1 ξ, h^l = W^l x^(l-1), x^l = φ(h^l), f = W^(L+1)ᵀ x^L, with
weights W^l = n^-a_l w^l, w^l ~ N(0, n^-2b_l), and updates w^l ← w^l − η n^-c_l Q(n^d_l g_0, .., n^d_l g_t), where g are
the gradients of w^l. Layers are numbered from 1 (input) to L + 1 (output); L ≥ 1 is the number of hidden vectors.

TP IVb is Yang and Littwin, arXiv 2308.01814; TP IV is Yang and Hu, arXiv 2011.14522 (SGD only: its c is our c − d).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

from tp_compiler.scale.numbers import HALF, Exponent, difference, exact, total


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
    """Everything that the class depends on: sizes at initialisation, and sizes of updates.

    `init` holds a_l + b_l: an entry of W^l is n^-(a_l + b_l). `r` (TP IVb Def 2.8.5): the update of W^l alone moves
    the layer's output, h^l or f, by n^-r_l in a step. `how` writes out the computation of each r. `first`: sizes in the
    very first step, before the readout has been updated; this differs if the readout's update is larger than its
    initial value.
    """

    init: tuple[Fraction, ...]
    r: tuple[Fraction, ...]
    how: tuple[str, ...] = field(compare=False)
    first: bool = False

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
        """An entry of W^(L+1) is n^-readout: a + b, or a + c if that is less, where c goes with Θ(1) inputs of Q."""
        return self.init[-1] if self.first else min(self.init[-1], self.r[-1] + 1)

    @property
    def moves(self) -> tuple[Fraction, ...]:
        """The exponents of Δh^1, .., Δh^L and Δf of one step: positive ones blow up, negative ones vanish."""
        features = tuple(-self.upto(layer) for layer in range(1, self.hidden + 1))
        return (*features, max(-self.r[-1], 1 - self.readout - self.overall))


def checked(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers, at least an input and an output layer."""
    if len(layers) < 2:
        raise ValueError("a network has an input and an output layer at least")
    return tuple(layers)


def needed_d(layers: Sequence[Layer], readout: Fraction | None = None) -> tuple[Fraction, ...]:
    """The d that make the inputs of every Q Θ(1): d_l = a_l + a_{L+1} + b_{L+1}, d_{L+1} = a_{L+1} (TP IVb (2.26)).

    `readout` replaces a_{L+1} + b_{L+1} once the readout has been updated.
    """
    last = layers[-1]
    back = last.a + last.b if readout is None else readout
    return (*(layer.a + back for layer in layers[:-1]), last.a)


def sizes(layers: Sequence[Layer], homogeneity: Exponent | None = None, first: bool = False) -> Sizes:
    """r_1 = a_1 + c_1, r_l = a_l + c_l − 1 (TP IVb Def 2.8.5), where the inputs of Q are Θ(1).

    With `homogeneity` p, Q(kg) = k^p Q(g), any d is equivalent to the faithful d*: n^-c Q(n^d g) = n^-c* Q(n^d* g)
    with c* = c + p(d* − d) (p = 1 is TP IVb Remark 2.2.4). Unless `first`, d* goes with the readout once updated,
    which for p = 1 gives the r of TP IV section 3, with its minimum of a_{L+1} + b_{L+1} and 2a_{L+1} + c.
    """
    layers = checked(layers)
    degree = Fraction(0) if homogeneity is None else exact(homogeneity)
    last = layers[-1]
    b = last.b if first or homogeneity is None else min(last.b, last.c + degree * (last.a - last.d))
    wanted = needed_d(layers, last.a + b)
    r, how = [], []
    for k, (x, d) in enumerate(zip(layers, wanted, strict=True), 1):
        r.append(x.a + x.c + degree * (d - x.d) - (k > 1))
        names, numbers = f"a_{k} + c_{k}", total(x.a, x.c)
        if degree:
            times = "" if degree == 1 else f"{degree}·"
            names, numbers = f"{names} + {times}(d*_{k} - d_{k})", f"{numbers} + {times}({difference(d, x.d)})"
        one = " - 1" if k > 1 else ""
        how.append(f"r_{k} = {names}{one} = {numbers}{one} = {r[-1]}")
    return Sizes(tuple(x.a + x.b for x in layers), tuple(r), tuple(how), first)


def faithful(layers: Sequence[Layer], homogeneity: Exponent) -> tuple[Layer, ...]:
    """The same training with the d of (2.26), for a Q of this degree: c grows by p times the change of d."""
    layers, degree = checked(layers), exact(homogeneity)
    wanted = needed_d(layers)
    return tuple(replace(x, c=x.c + degree * (d - x.d), d=d) for x, d in zip(layers, wanted, strict=True))


def equivalent(layers: Sequence[Layer], theta: Sequence[Exponent]) -> tuple[Layer, ...]:
    """(a, b, c, d) → (a + θ, b − θ, c − θ, d + θ), a θ for each layer: the same f_t at every width (TP IVb (2.5))."""
    return tuple(layer.shifted(t) for layer, t in zip(checked(layers), theta, strict=True))


def normalised(layers: Sequence[Layer], by: Literal["update", "weight", "trust-ratio"]) -> tuple[Layer, ...]:
    """The plain parametrization that one with normalised updates amounts to; clipping scales like normalising.

    `update`: each update is divided by its own Frobenius norm, which is n^e with e = 1/2 for input and output
    weights and 1 for hidden matrices; so c counts as c + e (TP IVb 2.10.2). `weight`: it is divided by the norm of
    the weights, n^(e − b); so c counts as c + e − b (TP IVb Tables 2.10.8, 2.10.9). `trust-ratio`: it is divided by
    its own norm and multiplied by that of the weights, as LARS and LAMB do; so c counts as c + b (TP V appendix
    B.3).
    """
    layers = checked(layers)
    ends = (0, len(layers) - 1)
    counted = []
    for k, layer in enumerate(layers):
        entries = HALF if k in ends else Fraction(1)
        more = {"update": entries, "weight": entries - layer.b, "trust-ratio": layer.b}[by]
        counted.append(replace(layer, c=layer.c + more))
    return tuple(counted)
