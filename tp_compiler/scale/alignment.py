"""How well a parameter is aligned with what it multiplies: three exponents between 1/2 and 1 (Everett et al., arXiv 2407.05872).

A sum of n products is n^a times as large as its terms: a = 1/2 if they are independent, a = 1 if they have one sign. Of the three
sums by which W x moves, ΔW x₀ has the exponent α, W₀ Δx has ω, and ΔW Δx has u. In the backward pass ΔWᵀ is as well aligned with
error signals as ΔW with x₀, and W₀ᵀ is not. Whatever is not a parameter times features (⟨q|k⟩, norms) is aligned as in the limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tp_compiler.scale.numbers import HALF

ONE = Fraction(1)


@dataclass(frozen=True)
class Alignment:
    """Exponents of ΔW x₀ (α), W₀ Δx (ω) and ΔW Δx (u)."""

    update: Fraction
    features: Fraction
    both: Fraction

    @classmethod
    def best(cls, alignments: Iterable[Alignment]) -> Alignment:
        """The largest of each exponent."""
        found = list(alignments)
        return cls(max(a.update for a in found), max(a.features for a in found), max(a.both for a in found))

    def as_json(self) -> dict[str, Any]:
        return {"alpha": str(self.update), "omega": str(self.features), "u": str(self.both)}


#: In the limit: updates are made of what they multiply; W₀ is independent of Δx but for its transpose; a readout is Δx's gradient.
MATRIX, READOUT = Alignment(ONE, HALF, ONE), Alignment(ONE, ONE, ONE)
#: Everett et al.: updates are aligned, initial weights are not, whatever they multiply.
FULL = Alignment(ONE, HALF, ONE)
NONE = Alignment(HALF, HALF, HALF)
