"""Named points: the parametrizations of the literature, by kind of parameter, for any depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tp_compiler.scale.abcd import Layer, faithful
from tp_compiler.scale.numbers import HALF, Exponent, exact

#: Nothing depends on n.
STILL = Layer.of(0, 0, 0, 0)


@dataclass(frozen=True)
class Point:
    """The rows of a parametrization: input weights (and biases, embeddings), hidden matrices, readout, lone numbers."""

    input: Layer
    hidden: Layer
    output: Layer
    scalar: Layer = STILL

    def layers(self, hidden: int) -> tuple[Layer, ...]:
        """The rows of a perceptron with L = `hidden` hidden vectors, for `classify`."""
        if hidden < 1:
            raise ValueError("a perceptron has a hidden vector at least")
        return (self.input, *[self.hidden] * (hidden - 1), self.output)

    def faithful(self, homogeneity: Exponent) -> Point:
        """The same training with faithful d, for a Q of this degree."""
        first, middle, last = faithful((self.input, self.hidden, self.output), homogeneity)
        return Point(first, middle, last, self.scalar)


def maximal_update() -> Point:
    """muP (TP IVb Table 2.5.1; numbers by 2.9.12)."""
    return Point(Layer.of(0, 0, 0, 1), Layer.of(0, "1/2", 1, 1), Layer.of(1, 0, 0, 1))


def neural_tangent() -> Point:
    """NTP (TP IVb Table 2.4.1; numbers by 2.9.11)."""
    return Point(Layer.of(0, 0, "1/2", "1/2"), Layer.of("1/2", 0, 1, 1), Layer.of("1/2", 0, "1/2", "1/2"))


def standard(c: Exponent = 0) -> Point:
    """SP: the default of deep-learning libraries (TP IVb Table 2.2.2), with one learning rate n^-c for all layers."""
    return Point(Layer.of(0, 0, c), Layer.of(0, "1/2", c), Layer.of(0, "1/2", c), Layer.of(0, 0, c))


def uniform(s: Exponent) -> Point:
    """UP_s, 0 <= s <= 1/2: r_l = s for l <= L, r_{L+1} = 0, a_{L+1} + b_{L+1} = 1 − s (TP IVb Rem. 2.8.25).

    UP_0 is muP and UP_{1/2} is NTP. (The paper prints r_{L+1} = 1; at its own end points it is 0.)
    """
    s = exact(s)
    if not 0 <= s <= HALF:
        raise ValueError("s lies between 0 (muP) and 1/2 (NTP)")
    d = 1 - s
    return Point(Layer.of(0, 0, s, d), Layer.of(0, HALF, 1 + s, d), Layer.of(1 - s, 0, s, 1 - s))


def mean_field() -> tuple[Layer, ...]:
    """MFP, one hidden layer, for SGD: a = (0, 1), b = 0, c = −1 (TP IV Table 1). For any Q it is muP with L = 1."""
    return abc((0, 1), (0, 0), -1)


def abc(a: Sequence[Exponent], b: Sequence[Exponent], c: Exponent) -> tuple[Layer, ...]:
    """An abc-parametrization of TP IV: SGD with one learning rate n^-c. Classify it with homogeneity 1."""
    return tuple(Layer.of(x, y, c) for x, y in zip(a, b, strict=True))


def mup_abc(hidden: int) -> tuple[Layer, ...]:
    """muP as TP IV Table 1 has it: a = (−1/2; 0; 1/2), b = 1/2, c = 0."""
    return abc(("-1/2", *[0] * (hidden - 1), "1/2"), ["1/2"] * (hidden + 1), 0)


def ntp_abc(hidden: int) -> tuple[Layer, ...]:
    """NTP as TP IV Table 1 has it: a = (0; 1/2), b = 0, c = 0."""
    return abc((0, *["1/2"] * hidden), [0] * (hidden + 1), 0)


def uniform_abc(s: Exponent, hidden: int) -> tuple[Layer, ...]:
    """UP_r of TP IV: a_1 = r − 1/2, a_l = r, a_{L+1} = 1/2, b = 1/2 − r, c = 0; the readout's b is 1/2 − r too."""
    s = exact(s)
    return abc((s - HALF, *[s] * (hidden - 1), "1/2"), [HALF - s] * (hidden + 1), 0)


#: By the names that `parametrization NAME` has in a program.
POINTS: dict[str, Point] = {"mup": maximal_update(), "ntk": neural_tangent(), "standard": standard()}
