"""Random parametrizations for the property tests."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import strategies as st

from tp_compiler.scale.abcd import Layer, faithful

exponents = st.builds(Fraction, st.integers(-8, 8), st.just(4))
positive = st.builds(Fraction, st.integers(0, 6), st.just(4))
degrees = st.sampled_from([None, Fraction(0), Fraction(1), Fraction(1, 2)])

#: Any layers whatever.
anywhere = st.lists(st.builds(Layer, exponents, exponents, exponents, exponents), min_size=2, max_size=5).map(tuple)


@st.composite
def sound(draw: st.DrawFn) -> tuple[Layer, ...]:
    """Stable at initialisation and faithful; learning rates near the boundary of stability, on both sides."""
    hidden = draw(st.integers(1, 3))
    layers = []
    for k in range(hidden + 1):
        a = draw(exponents)
        if k < hidden:
            r = draw(st.sampled_from([Fraction(0), Fraction(1, 4), Fraction(1, 2), Fraction(1), Fraction(-1, 4)]))
            layers.append(Layer(a, Fraction(k > 0, 2) - a, r + (k > 0) - a, Fraction(0)))
        else:
            b, r = (
                Fraction(1, 2) - a + draw(positive),
                draw(st.sampled_from([Fraction(0), Fraction(1, 2), Fraction(-1, 4)])),
            )
            layers.append(Layer(a, b, r + 1 - a, Fraction(0)))
    return faithful(layers, 0)
