"""Scores of deviations: Student's t by Welch, turned into standard normal scores, raw and after a bias b/n."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tp_compiler.finite.array_types import Mask, Values
from tp_compiler.shapes import Float

LARGEST = 37.0  # the score of the smallest tail probability a double holds


@dataclass(frozen=True, eq=False)
class Scores:
    """raw (widths, figures); corrected and bias (figures,): score of the intercept, and b, of deviation = a + b/n.

    Where no bias is taken off, `corrected` is the raw score at the largest width.
    """

    raw: Float[Values, "widths figures"]
    corrected: Float[Values, " figures"]
    bias: Float[Values, " figures"]

    def with_others(self, more: Scores) -> Scores:
        """The figures of both."""
        return Scores(
            np.concatenate([self.raw, more.raw], axis=1),
            np.concatenate([self.corrected, more.corrected]),
            np.concatenate([self.bias, more.bias]),
        )

    def exact_where(self, chosen: Mask, raw: Float[Values, "widths figures"]) -> Scores:
        """Constants: compared directly, without statistics; a deviation beyond the tolerance gets the largest score."""
        judged = np.where(np.abs(raw) <= 1, 0.0, LARGEST)
        corrected = np.where(chosen, judged[-1], self.corrected)
        bias = np.where(chosen, 0.0, self.bias)
        return replace(self, raw=np.where(chosen, judged, self.raw), corrected=corrected, bias=bias)


def two_sided_normal(level: float) -> float:
    """The z with P(|Z| > z) = level."""
    from scipy.special import ndtri

    return float(-ndtri(level / 2))


def student(threshold: float, dof: Values) -> Values:
    """Student's t of the same tail probability as a normal score."""
    from scipy.special import ndtr, stdtrit

    return np.asarray(-stdtrit(dof, ndtr(-threshold)))


def normal_score(t: Values, dof: Values) -> Values:
    """The standard normal score of the same tail probability as t with `dof` degrees of freedom."""
    from scipy.special import ndtri, stdtr

    tail = np.maximum(stdtr(np.maximum(dof, 1.0), -np.abs(t)), 1e-300)
    return np.asarray(np.sign(t) * np.minimum(-ndtri(tail), LARGEST))


def score(
    widths: Sequence[int],
    deviation: Float[Values, "widths figures"],
    stderr: Float[Values, "widths figures"],
    dofs: Float[Values, " widths"],
    limit_stderr: Float[Values, " figures"],
    limit_dof: float,
    visible: float = 0.0,
) -> Scores:
    """Scores of deviations (widths, figures) with their standard errors and one standard error of the limit.

    The error of the limit is common to all widths, so it does not average out in the intercept.
    A bias is taken off where it exceeds `visible` standard errors.
    """
    raw = np.stack(
        [
            _welch(deviation[k], stderr[k : k + 1] ** 2, dofs[k : k + 1], limit_stderr**2, limit_dof)
            for k in range(len(widths))
        ]
    )
    if len(widths) < 2:
        return Scores(raw, raw[-1], np.zeros_like(raw[-1]))
    intercept, slope = fit_weights(np.asarray(widths, dtype=np.float64), dofs + 1.0)
    parts = intercept[:, None] ** 2 * stderr**2
    corrected = _welch(intercept @ deviation, parts, dofs, limit_stderr**2, limit_dof)
    bias = slope @ deviation
    noise = np.sqrt(slope**2 @ stderr**2)
    shown = np.abs(bias) > visible * noise
    return Scores(raw, np.where(shown, corrected, raw[-1]), bias)


def fit_weights(
    widths: Float[Values, " widths"], counts: Float[Values, " widths"], power: int = 1
) -> tuple[Float[Values, " widths"], Float[Values, " widths"]]:
    """The linear maps from deviations to (a, b) of a + b/n^power by least squares.

    The weights are the seeds times the width, the inverse variance up to a factor: taken from theory and not from
    the samples, so that the fit is linear and unbiased. The intercept's map sums to 1.
    """
    root = np.sqrt(widths * counts)
    design = np.stack([np.ones_like(widths), widths**-power], axis=1) * root[:, None]
    maps = np.linalg.pinv(design) * root
    return maps[0], maps[1]


def _welch(
    value: Float[Values, " figures"],
    parts: Float[Values, "widths figures"],
    dofs: Float[Values, " widths"],
    limit_variance: Float[Values, " figures"],
    limit_dof: float,
) -> Float[Values, " figures"]:
    """Normal scores of value / sqrt(sum of variances), degrees of freedom by Welch and Satterthwaite."""
    total, dof = _total(parts, dofs, limit_variance, limit_dof)
    with np.errstate(all="ignore"):
        t = np.where(value == 0, 0.0, value / np.sqrt(total))
    return normal_score(np.clip(t, -1e150, 1e150), dof)


def _total(
    parts: Float[Values, "widths figures"],
    dofs: Float[Values, " widths"],
    limit_variance: Float[Values, " figures"],
    limit_dof: float,
) -> tuple[Float[Values, " figures"], Float[Values, " figures"]]:
    """A sum of variances, and its degrees of freedom."""
    total = parts.sum(axis=0) + limit_variance
    spread = (parts**2 / dofs[:, None]).sum(axis=0) + limit_variance**2 / limit_dof
    with np.errstate(all="ignore"):
        return total, np.where(spread > 0, total**2 / spread, 1.0)


def smallest_seen(
    widths: Sequence[int],
    stderr: Float[Values, "widths figures"],
    dofs: Float[Values, " widths"],
    limit_stderr: Float[Values, " figures"],
    limit_dof: float,
    threshold: float,
) -> Float[Values, " figures"]:
    """The deviations from the limit, equal at every width, whose raw and corrected scores both reach a threshold."""
    ways = [(stderr[-1:] ** 2, dofs[-1:])]
    if len(widths) > 1:
        intercept, _ = fit_weights(np.asarray(widths, dtype=np.float64), dofs + 1.0)
        ways.append((intercept[:, None] ** 2 * stderr**2, dofs))
    found = []
    for parts, free in ways:
        total, dof = _total(parts, free, limit_stderr**2, limit_dof)
        found.append(student(threshold, np.clip(dof, 1.0, 1e9)) * np.sqrt(total))
    return np.asarray(np.max(found, axis=0))
