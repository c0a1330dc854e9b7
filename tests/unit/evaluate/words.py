"""Linear networks by hand: kets as combinations of words Ŵ Ŵᵀ Ŵ |u>, the first form of the ket rules (TP IVb, 2.6.5).

Applied to a word, W gives the longer word and, where the word begins with Ŵᵀ, also σ² times what follows (Wᵀ: ρσ²).
Words over different initial kets, and different words, are independent; their variances are products.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

Word = tuple[str, ...]  # ("W", "V^T", "u"): Ŵ applied to V̂ᵀ|u>


@dataclass
class Words:
    """Variances of the initial kets, and (σ², ρ) of the matrices."""

    kets: dict[str, float]
    matrices: dict[str, tuple[float, float]]

    def ket(self, name: str) -> dict[Word, float]:
        return {(name,): 1.0}

    def apply(self, matrix: str, x: dict[Word, float], transposed: bool = False) -> dict[Word, float]:
        variance, ratio = self.matrices[matrix]
        own, other = (f"{matrix}^T", matrix) if transposed else (matrix, f"{matrix}^T")
        result: dict[Word, float] = defaultdict(float)
        for word, c in x.items():
            result[(own, *word)] += c
            if word[0] == other:
                result[word[1:]] += c * variance * (ratio if transposed else 1.0)
        return dict(result)

    def variance(self, word: Word) -> float:
        product = self.kets[word[-1]]
        for letter in word[:-1]:
            variance, ratio = self.matrices[letter.removesuffix("^T")]
            product *= variance * (ratio if letter.endswith("^T") else 1.0)
        return product

    def bracket(self, x: dict[Word, float], y: dict[Word, float]) -> float:
        return sum(c * y[word] * self.variance(word) for word, c in x.items() if word in y)


def combined(*terms: tuple[float, dict[Word, float]]) -> dict[Word, float]:
    """Σ coefficient · ket"""
    result: dict[Word, float] = defaultdict(float)
    for coefficient, x in terms:
        for word, c in x.items():
            result[word] += coefficient * c
    return dict(result)
