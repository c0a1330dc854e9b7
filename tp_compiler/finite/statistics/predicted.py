"""Networks against the law that the limit predicts for them: f_n = f + b/n + N(0, Σ/n). Sharper than scores by their own spread.

The mean over networks of all widths has a known variance, and no bias of order 1/n that had to be fitted. What is left is of
order 1/n²: a deviation counts if it is seen both in the mean and in the intercept of a fit in 1/n². Likewise n Var/Σ = 1 + a/n:
it counts if it is seen both in the variance over all widths and in the intercept of a fit in 1/n. Where Σ is too small to
matter the variance is of order 1/n², and not compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from tp_compiler.finite.array_types import Mask, Values
from tp_compiler.finite.statistics.scores import LARGEST, fit_weights, normal_score, student
from tp_compiler.shapes import Float


@runtime_checkable
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
    def second_order(self, width: int, scale: float) -> Mask: ...


#: What n Var/Σ may be off by at a single width, where no term of order 1/n can be fitted.
ALLOWED = 0.5


@dataclass(frozen=True)
class Prediction:
    """How networks compare with their predicted law, over the figure where each is worst.

    z              max |z| of the means
    spread         the variance of networks over the predicted one, times n; NaN if none is compared
    z_spread       its score, of the same tail probability, once a term of order 1/n is taken off
    seen           the smallest deviation from the limit that fails
    without        the same for the scores that know nothing of the law
    second_order   entries whose spread is of order 1/n: their variances are not compared
    """

    z: float
    spread: float
    z_spread: float
    seen: float
    without: float
    second_order: int = 0

    @property
    def gain(self) -> float:
        """How many times smaller deviations are seen because the law is known."""
        return self.without / self.seen if self.seen > 0 else 1.0


@dataclass(frozen=True, eq=False)
class _Known:
    """Variances and biases by figure; `dof` are those of a variance known to its standard error.

    second_order   figures whose variance is of order 1/n², and not known
    """

    variance: Float[Values, " figures"]
    dof: Float[Values, " figures"]
    bias: Float[Values, " figures"]
    bias_variance: Float[Values, " figures"]
    second_order: Float[Mask, " figures"]


@dataclass(frozen=True, eq=False)
class _Networks:
    """What was drawn: widths, seeds, and by width the means and variances (widths, figures)."""

    n: Float[Values, " widths"]
    counts: Float[Values, " widths"]
    means: Float[Values, "widths figures"]
    variances: Float[Values, "widths figures"]
    kurtosis: Float[Values, "widths figures"]

    @classmethod
    def of(cls, widths: Sequence[int], drawn: Sequence[Values]) -> _Networks:
        means = np.stack([x.mean(axis=0) for x in drawn])
        variances = np.stack([x.var(axis=0, ddof=1) for x in drawn])
        with np.errstate(all="ignore"):
            fourth = np.stack([((x - x.mean(axis=0)) ** 4).mean(axis=0) / x.var(axis=0) ** 2 for x in drawn])
        kurtosis = np.fmax(fourth, 3.0)  # of few networks it is too small
        return cls(
            np.asarray(widths, np.float64), np.array([len(x) for x in drawn], np.float64), means, variances, kurtosis
        )


def _known(law: PredictedLaw, width: int, scale: float) -> _Known | None:
    if law.sigma is None or law.sigma_stderr is None or law.bias is None or law.bias_stderr is None:
        return None
    variance, error = np.diag(law.sigma), np.diag(law.sigma_stderr)
    with np.errstate(all="ignore"):
        dof = np.where(error > 0, 2 * (variance / error) ** 2, 1e9)
    second = law.second_order(width, scale)
    return _Known(np.asarray(variance), np.clip(dof, 1.0, 1e9), law.bias, law.bias_stderr**2, second)


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
    known = _known(law, min(widths), float(np.abs(value).max(initial=0.0)))
    vary = np.max([np.ptp(x, axis=0) for x in drawn], axis=0) > 1e-9 * np.abs(value)
    chosen = vary | (known is not None and known.variance > 0)
    if known is None or not chosen.any():
        return None
    found = _Networks.of(widths, drawn)
    ratio, pooled = _pooled(found, known)
    own, free = _own(found, known, np.where((pooled > 2) & (ratio > 1), ratio, 1.0))
    deviation = found.means - value - known.bias / found.n[:, None]
    scores, errors = zip(
        *(_score(maps, deviation, own, free, known, found.n, error, dof, threshold) for maps in _maps(found)),
        strict=True,
    )
    z = np.where(chosen, np.min(np.abs(scores), axis=0), 0.0)
    compared = chosen & ~known.second_order
    z_spread = np.where(compared, np.minimum(pooled, _beyond(found, known, ratio)), 0.0)
    seen = np.max(errors, axis=0)
    at, worst = int(np.argmax(z_spread)), int(np.argmax(np.where(chosen, seen, -1.0)))
    return Prediction(
        z=float(z.max()),
        spread=float(ratio[at]) if compared.any() else math.nan,
        z_spread=float(z_spread[at]),
        seen=float(seen[worst]),
        without=float(without[worst]),
        second_order=int(np.count_nonzero(chosen & known.second_order)),
    )


def _maps(found: _Networks) -> list[Values]:
    """Linear maps from deviations at the widths to one: their mean, and the intercept of a fit in 1/n²."""
    weights = found.n * found.counts
    mean = weights / weights.sum()
    return [mean, fit_weights(found.n, found.counts, 2)[0]] if len(weights) > 1 else [mean]


def _own(found: _Networks, known: _Known, wider: Values) -> tuple[Values, Values]:
    """Variances of the means (widths, figures), and their degrees of freedom: predicted, or seen where it is of second order.

    `wider` (figures,) is by how much networks vary more than predicted, where this is seen.
    """
    counts = found.counts[:, None]
    predicted = known.variance * wider / found.n[:, None]
    own = np.where(known.second_order, found.variances, predicted) / counts
    return own, np.where(known.second_order, counts - 1, known.dof)


def _score(
    weights: Values,
    deviation: Values,
    own: Values,
    free: Values,
    known: _Known,
    n: Values,
    error: Values,
    dof: float,
    threshold: float,
) -> tuple[Values, Values]:
    """Scores of a combination of deviations, and the deviations that would reach the threshold."""
    parts = weights[:, None] ** 2 * own
    fixed = (weights / n).sum() ** 2 * known.bias_variance
    total = parts.sum(axis=0) + error**2 + fixed
    # A predicted variance is the same one at all widths: its error does not average out.
    unsure = np.where(known.second_order, (parts**2 / free).sum(axis=0), parts.sum(axis=0) ** 2 / known.dof)
    with np.errstate(all="ignore"):
        t = np.where(weights @ deviation == 0, 0.0, weights @ deviation / np.sqrt(total))
        all_free = np.where(total > 0, total**2 / (unsure + error**4 / dof), 1e9)
    all_free = np.clip(all_free, 1.0, 1e9)
    return normal_score(np.clip(t, -1e150, 1e150), all_free), student(threshold, all_free) * np.sqrt(total)


def _pooled(found: _Networks, known: _Known) -> tuple[Values, Values]:
    """The variance over networks of all widths, times n, over the predicted one; and its score, by Fisher's F."""
    free = found.counts - 1
    squares = (free * found.n) @ found.variances
    with np.errstate(all="ignore"):
        ratio = np.where(
            known.variance > 0, squares / (free.sum() * known.variance), np.where(squares > 0, np.inf, 1.0)
        )
    return ratio, _of_ratio(ratio, float(free.sum()), known.dof)


def _of_ratio(ratio: Values, free: float, dof: Values) -> Values:
    """The normal score of a ratio of variances."""
    from scipy.special import fdtr, fdtrc, ndtri

    tail = np.minimum(fdtr(free, dof, ratio), fdtrc(free, dof, ratio))
    score = -ndtri(np.clip(tail, 1e-300, 0.5))
    return np.asarray(np.where(np.isfinite(ratio), score, LARGEST))


def _beyond(found: _Networks, known: _Known, ratio: Values) -> Values:
    """Scores of the variances that count a term of order 1/n: of the intercept of n Var/Σ = 1 + a/n, fitted over the widths.

    Its error is that of networks as predicted with this a (up to a size), or as seen if that is smaller, and the square of
    the term stands for the next one. At a single width the ratio may be off by ALLOWED.
    """
    n, free = found.n, found.counts - 1
    if len(n) < 2:
        nearer = np.clip(1.0, ratio / (1 + ALLOWED), ratio / (1 - ALLOWED))
        return _of_ratio(nearer, float(free.sum()), known.dof)
    with np.errstate(all="ignore"):
        seen = np.where(known.variance > 0, n[:, None] * found.variances / known.variance, 1.0)
        most = 2 * n[0] + 2 * known.bias**2 / known.variance  # the second part is what (m + z)² has
        intercept, slope = fit_weights(n, free / n)
        term = np.fmin((free / n) @ (seen - 1) / (free / n**2).sum(), most) / n[:, None]
        likely = np.minimum(np.maximum(1 + term, 0.05), np.maximum(seen, 1e-9))
        noise = intercept**2 @ ((found.kurtosis - 1) * likely**2 / free[:, None])
        next_term = intercept @ (np.fmin(np.abs(slope @ seen), most) / n[:, None]) ** 2
        score = np.abs(intercept @ seen - 1) / np.sqrt(noise + next_term**2 + 2 / known.dof)
    return np.where(known.variance > 0, score, np.inf)  # what is the same in every network has no such term
