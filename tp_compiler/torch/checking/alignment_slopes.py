"""Measured alignments as powers of n: slopes of what `AlignmentProbe` has measured at several widths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from tp_compiler.scale.alignment import FULL
from tp_compiler.scale.coordinates import MeasuredAlignment
from tp_compiler.scale.numbers import HALF
from tp_compiler.scale.slopes import slope
from tp_compiler.torch.checking.coordinates import Measured

#: Slopes with a larger standard error do not count as measured: sums that change sign.
UNCERTAIN = 0.1


def measured_alignments(measured: Measured, declared: Mapping[str, str]) -> dict[str, MeasuredAlignment]:
    """By the names of parameters that sum over neurons: slopes of the ratios in log n."""
    found = {}
    samples = [measured.samples[n] for n in measured.widths]
    for name, terms in samples[0][0].terms.items():
        if all(by[0].terms.get(name) == terms for by in samples):
            continue  # a sum over inputs of a fixed number
        slopes = {key: _slope(measured, name, key) for key in ("alpha", "omega", "u")}
        found[name] = MeasuredAlignment(
            _exponent(slopes["alpha"], FULL.update),
            _exponent(slopes["omega"], FULL.features),
            _exponent(slopes["u"], FULL.both),
            slopes,
            declared.get(name, ""),
        )
    return found


def _slope(measured: Measured, name: str, key: str) -> tuple[float, float] | None:
    """With its standard error; None if something did not move."""
    logs = []
    for n in measured.widths:
        ratios = [sample.alignments.get((name, key), []) for sample in measured.samples[n]]
        if not all(ratios) or any(x <= 0 for own in ratios for x in own):
            return None
        logs.append([math.log(math.sqrt(sum(x * x for x in own) / len(own))) for own in ratios])
    made = slope(measured.widths, logs)
    return made.value, made.stderr


def _exponent(slope: tuple[float, float] | None, usual: Fraction) -> Fraction:
    """In hundredths, between 1/2 and 1; of an uncertain one the upper end, because rates for it are stable, too."""
    if slope is None:
        return usual
    value, stderr = slope
    upper = value + 2 * stderr if stderr > UNCERTAIN else value
    return min(max(Fraction(round(100 * upper), 100), HALF), Fraction(1))
