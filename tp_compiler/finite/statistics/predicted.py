"""Networks against the law that the limit predicts for them: f_n = f + b/n + N(0, Σ/n). Sharper than scores by their own spread.

The mean over networks of all widths has a known variance, and no bias of order 1/n that had to be fitted. What is left is of
order 1/n²: a deviation counts if it is seen both in the mean and in the intercept of a fit in 1/n².
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tp_compiler.finite.array_types import Values
from tp_compiler.finite.statistics.scores import fit_weights, normal_score, student
from tp_compiler.shapes import Float


class PredictedLaw(Protocol):
    """The part of `results.Fluctuations` that is used here."""

    @property
    def sigma(self) -> Values | None: ...
    @property
    def sigma_stderr(self) -> Values | None: ...
    @property
    def bias(self) -> Values | None: ...
    @property
    def bias_stderr(self) -> Values | None: ...


@dataclass(frozen=True)
class Prediction:
    """How networks compare with their predicted law, over the figure where each is worst.

    z          max |z| of the means
    spread     the variance of networks over the predicted one
    z_spread   its score, of the same tail probability
    seen       the smallest deviation from the limit that fails
    without    the same for the scores that know nothing of the law
    """

    z: float
    spread: float
    z_spread: float
    seen: float
    without: float

    @property
    def gain(self) -> float:
        """How many times smaller deviations are seen because the law is known."""
        return self.without / self.seen if self.seen > 0 else 1.0


@dataclass(frozen=True, eq=False)
class _Known:
    """Variances and biases by figure; `dof` are those of a variance known to its standard error."""

    variance: Float[Values, " figures"]
    dof: Float[Values, " figures"]
    bias: Float[Values, " figures"]
    bias_variance: Float[Values, " figures"]


def _known(law: PredictedLaw) -> _Known | None:
    if law.sigma is None or law.sigma_stderr is None or law.bias is None or law.bias_stderr is None:
        return None
    variance, error = np.diag(law.sigma), np.diag(law.sigma_stderr)
    with np.errstate(all="ignore"):
        dof = np.where(error > 0, 2 * (variance / error) ** 2, 1e9)
    return _Known(np.asarray(variance), np.clip(dof, 1.0, 1e9), law.bias, law.bias_stderr**2)


def compared(
    widths: Sequence[int],
    drawn: Sequence[Values],
    value: Values,
    error: Values,
    law: PredictedLaw,
    threshold: float,
    dof: float,
    without: Values,
) -> Prediction | None:
    """The comparison of one output; None if its law is not known, or if nothing fluctuates.

    drawn     per width, samples (seeds, figures); `value` and `error` (figures,) are the limit's
    dof       degrees of freedom of the limit's error
    without   (figures,) the smallest deviations that scores without the law would see
    """
    known = _known(law)
    vary = np.max([np.ptp(x, axis=0) for x in drawn], axis=0) > 1e-9 * np.abs(value)
    chosen = vary | (known is not None and known.variance > 0)
    if known is None or not chosen.any():
        return None
    n, counts = np.asarray(widths, dtype=np.float64), np.array([len(x) for x in drawn], dtype=np.float64)
    deviation = np.stack([x.mean(axis=0) for x in drawn]) - value - known.bias / n[:, None]
    scores, errors = zip(
        *(_score(maps, deviation, known, n, counts, error, dof, threshold) for maps in _maps(n, counts)), strict=True
    )
    z = np.where(chosen, np.min(np.abs(scores), axis=0), 0.0)
    spread, z_spread = _spread(n, drawn, known)
    z_spread = np.where(chosen, z_spread, 0.0)
    seen = np.max(errors, axis=0)
    at, worst = int(np.argmax(z_spread)), int(np.argmax(np.where(chosen, seen, -1.0)))
    return Prediction(float(z.max()), float(spread[at]), float(z_spread[at]), float(seen[worst]), float(without[worst]))


def _maps(n: Values, counts: Values) -> list[Values]:
    """Linear maps from deviations at the widths to one: their mean, and the intercept of a fit in 1/n²."""
    weights = n * counts
    mean = weights / weights.sum()
    return [mean, fit_weights(n, counts, 2)[0]] if len(n) > 1 else [mean]


def _score(
    weights: Values,
    deviation: Values,
    known: _Known,
    n: Values,
    counts: Values,
    error: Values,
    dof: float,
    threshold: float,
) -> tuple[Values, Values]:
    """Scores of a combination of deviations, and the deviations that would reach the threshold."""
    own = (weights**2 / (n * counts)).sum() * known.variance
    fixed = (weights / n).sum() ** 2 * known.bias_variance
    total = own + error**2 + fixed
    with np.errstate(all="ignore"):
        t = np.where(weights @ deviation == 0, 0.0, weights @ deviation / np.sqrt(total))
        free = np.where(total > 0, total**2 / (own**2 / known.dof + error**4 / dof), 1e9)
    free = np.clip(free, 1.0, 1e9)
    return normal_score(np.clip(t, -1e150, 1e150), free), student(threshold, free) * np.sqrt(total)


def _spread(n: Values, drawn: Sequence[Values], known: _Known) -> tuple[Values, Values]:
    """The variance over networks of all widths, times n, over the predicted one; and its score, by Fisher's F."""
    from scipy.special import fdtr, fdtrc, ndtri

    free = float(sum(len(x) - 1 for x in drawn))
    squares = sum(k * ((x - x.mean(axis=0)) ** 2).sum(axis=0) for k, x in zip(n, drawn, strict=True))
    with np.errstate(all="ignore"):
        ratio = np.where(known.variance > 0, squares / (free * known.variance), np.where(squares > 0, np.inf, 1.0))
        tail = np.minimum(fdtr(free, known.dof, ratio), fdtrc(free, known.dof, ratio))
    score = -ndtri(np.clip(tail, 1e-300, 0.5))
    return ratio, np.asarray(np.where(np.isfinite(ratio), score, 37.0))
