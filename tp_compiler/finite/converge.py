"""The statistics of `tpc verify`: do networks of increasing width approach the limit, and at the right rate?

Two tests per output. The z-test compares the mean over networks with the limit, at a family-wise level over all
figures (Bonferroni); a finite network has a bias b/n, which is allowed for by the intercept of a fit in 1/n: a limit
that is off by a constant keeps its intercept and fails. The slope test fits the RMS deviation in log n, -1/2 by the
central limit theorem. Arrays only: nothing here knows programs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.finite.array_types import Mask, Values
from tp_compiler.finite.moments import covariances
from tp_compiler.finite.statistics.predicted import PredictedLaw, Prediction, compared
from tp_compiler.finite.statistics.scores import Scores, score, smallest_seen, two_sided_normal
from tp_compiler.finite.statistics.slopes import Slope, fitted_slope
from tp_compiler.pages import Shown, written

SLOPES = (-0.8, -0.3)
_CONSTANT = 1e-9


@runtime_checkable
class Limit(Protocol):
    """The part of a limit's estimate that is used here (see `results.Estimate`)."""

    @property
    def value(self) -> Values: ...
    @property
    def stderr(self) -> Values: ...
    @property
    def covariance(self) -> Values | None: ...
    @property
    def covariance_stderr(self) -> Values | None: ...
    @property
    def law(self) -> str | None: ...
    @property
    def fluctuations(self) -> PredictedLaw | None: ...


@dataclass(frozen=True)
class OutputCheck:
    """The verdict on one output. Scores are standard normal ones of the same tail probability as Student's t.

    z               max |z| over the figures, per width, the bias left in
    z_corrected     max |z| once the bias b/n is taken off (where it is not: as `z` at the largest width)
    bias            the coefficient b of the figure with the largest |b| (natural units times width)
    threshold       what |z| may be, for all figures of the verification together
    deviation       the RMS deviation from the limit, per width
    slope           of the deviation in log n; None where there is none to fit
    slope_interval  its 99.9% interval
    figures         how many numbers the z-test compared
    reason          of a failure, or a remark
    law             None where networks approach a number; else the law of an output that stays random
    predicted       the comparison with the spread and the bias that the limit predicts, where they were computed
    """

    name: str
    widths: tuple[int, ...]
    z: tuple[float, ...]
    z_corrected: float
    bias: float
    threshold: float
    deviation: tuple[float, ...]
    slope: float | None
    slope_interval: tuple[float, float] | None
    figures: int
    passed: bool
    reason: str = ""
    law: str | None = None
    predicted: Prediction | None = None

    @property
    def concentrates(self) -> bool:
        """Do networks approach a number, so that their deviation falls as n^(-1/2)?"""
        return self.law is None


@dataclass(frozen=True, repr=False)
class Verification(Shown):
    """All checks; `level` is the probability that correct limits fail the z-test anywhere."""

    checks: tuple[OutputCheck, ...]
    level: float
    figures: int
    passed: bool
    warnings: tuple[Diagnostic, ...] = ()  # of the limit, and of networks that were not done in time

    def plot(self, path: str | os.PathLike[str] | None = None, *, theme: str = "light") -> Any:
        """A picture of deviations against the width, with n^(-1/2); z-scores for outputs that stay random."""
        return written(self, "plot", path, theme=theme)

    def _brief(self) -> str:
        outputs = ", ".join(f"{check.name} {'passed' if check.passed else 'FAILED'}" for check in self.checks)
        return f"Verification {'passed' if self.passed else 'FAILED'}: {outputs or 'nothing was compared'}"


@np.errstate(all="ignore")
def verify(
    limits: Mapping[str, Limit], samples: Mapping[int, Mapping[str, Values]], *, level: float = 1e-3, dof: float = 7
) -> Verification:
    """Checks every output that has a limit and samples at all widths.

    limits      by output name
    samples     by width, then by output name: arrays (seeds, *shape), at least two seeds
    level       family-wise level of the z-test over all figures
    dof         degrees of freedom of the limits' standard errors (replicates - 1)
    """
    widths = sorted(samples)
    names = [name for name in limits if widths and all(name in samples[n] for n in widths)]
    figures = max(1, sum(_figures(limits[name]) for name in names))
    threshold = two_sided_normal(level / figures)
    checks = tuple(
        check_output(name, limits[name], {n: samples[n][name] for n in widths}, threshold, dof) for name in names
    )
    # A verification that compared nothing has shown nothing.
    return Verification(checks, level, figures, bool(checks) and all(check.passed for check in checks))


def _figures(limit: Limit) -> int:
    size = int(np.size(limit.value))
    law = limit.fluctuations
    if limit.law is None and law is not None and law.sigma is not None and law.bias is not None:
        return 2 * size  # means and variances
    return size + (size * (size + 1) // 2 if limit.covariance is not None else 0)


def check_output(
    name: str, limit: Limit, samples: Mapping[int, Values], threshold: float, dof: float = 7
) -> OutputCheck:
    """The check of one output: `samples[n]` has shape (seeds, *shape); |z| up to `threshold` passes."""
    widths = tuple(sorted(samples))
    drawn = [np.asarray(samples[n], dtype=np.float64).reshape(len(samples[n]), -1) for n in widths]
    if min(map(len, drawn)) < 2:
        raise ValueError("verification needs at least two seeds per width")
    value = np.asarray(limit.value, dtype=np.float64).reshape(-1)
    error = np.broadcast_to(np.asarray(limit.stderr, dtype=np.float64), np.shape(limit.value)).reshape(-1)
    scores, constant = _means(widths, drawn, value, error, dof)
    slope = predicted = None
    if limit.law is not None:
        if limit.covariance is not None:
            scores = scores.with_others(_covariances(widths, drawn, limit, dof))
    elif not constant.all():
        live = ~constant
        slope = fitted_slope(widths, [x[:, live] for x in drawn], value[live], error[live])
    if limit.law is None and limit.fluctuations is not None:
        without = _seen(widths, drawn, error, dof, threshold)
        predicted = compared(widths, drawn, value, error, limit.fluctuations, threshold, dof, without)
    deviation = tuple(float(np.sqrt(np.mean((x - value) ** 2))) if x.size else 0.0 for x in drawn)
    passed, reason = _verdict(scores, slope, threshold, limit.law is None and not constant.all(), predicted)
    return OutputCheck(
        name=name,
        widths=widths,
        z=tuple(float(x) for x in np.abs(scores.raw).max(axis=1, initial=0.0)),
        z_corrected=float(np.abs(scores.corrected).max(initial=0.0)),
        bias=float(scores.bias[np.abs(scores.bias).argmax()]) if scores.bias.size else 0.0,
        threshold=threshold,
        deviation=deviation,
        slope=slope.value if slope else None,
        slope_interval=slope.interval if slope else None,
        figures=_figures(limit),
        passed=passed,
        reason=reason,
        law=limit.law,
        predicted=predicted,
    )


def _means(
    widths: tuple[int, ...], drawn: Sequence[Values], value: Values, error: Values, dof: float
) -> tuple[Scores, Mask]:
    """Scores of the means, and which entries are constant: without spread at every width.

    A constant must agree to 1e-9 (beyond the limit's own error), relative to the largest value of the output.
    """
    means = np.stack([x.mean(axis=0) for x in drawn])
    spread = np.stack([x.std(axis=0, ddof=1) for x in drawn])
    scale = max(float(np.abs(value).max(initial=0.0)), float(np.abs(means).max(initial=0.0)))
    tolerance = _CONSTANT * scale + 1e-14
    constant = np.asarray((spread <= tolerance).all(axis=0))
    counts = np.array([len(x) for x in drawn])
    stderr = spread / np.sqrt(counts)[:, None]
    # Where nothing fluctuates, one tolerance of deviation scores 1.
    stderr = np.where(constant, tolerance, stderr)
    scores = score(widths, means - value, stderr, counts - 1.0, error, dof)
    return scores.exact_where(constant & (error == 0), (means - value) / tolerance), constant


def _seen(widths: tuple[int, ...], drawn: Sequence[Values], error: Values, dof: float, threshold: float) -> Values:
    """The smallest deviation of each entry that fails by the spread of the networks alone."""
    counts = np.array([len(x) for x in drawn])
    stderr = np.stack([x.std(axis=0, ddof=1) for x in drawn]) / np.sqrt(counts)[:, None]
    return smallest_seen(widths, stderr, counts - 1.0, error, dof, threshold)


def _covariances(widths: tuple[int, ...], drawn: Sequence[Values], limit: Limit, dof: float) -> Scores:
    """Scores of the covariance over networks against the limit's, upper triangle."""
    assert limit.covariance is not None
    size = drawn[0].shape[1]
    upper = np.triu_indices(size)
    target = np.asarray(limit.covariance, dtype=np.float64).reshape(size, size)
    given = limit.covariance_stderr
    error = np.zeros_like(target) if given is None else np.broadcast_to(given, target.shape)
    diagonal = np.diag(target)
    gaussian = np.sqrt(np.maximum(np.outer(diagonal, diagonal) + target**2, 0.0))
    found, stderr = [], []
    for x in drawn:
        covariance, moment = covariances(x)
        found.append(covariance[upper])
        # The moment formula is far too small by chance for few networks; the Gaussian one is exact under the limit.
        stderr.append(np.maximum(moment, gaussian / math.sqrt(len(x) - 1))[upper])
    counts = np.array([len(x) for x in drawn])
    tiny = 1e-9 * float(np.abs(target).max(initial=0.0)) + 1e-14
    stderrs = np.maximum(np.stack(stderr), tiny)
    # A covariance is known to a fraction 1/sqrt(seeds) at any width, as a rule far above its bias: taking off a bias
    # that is not seen would only cost power. (For means it costs little, and the intercept's test keeps its level.)
    return score(widths, np.stack(found) - target[upper], stderrs, counts - 1.0, error[upper], dof, visible=2.0)


def _verdict(
    scores: Scores, slope: Slope | None, threshold: float, sloped: bool, predicted: Prediction | None
) -> tuple[bool, str]:
    if predicted is not None and not predicted.z <= threshold:
        found = f"|z| = {predicted.z:.2f}, allowed {threshold:.2f}"
        return False, f"the mean deviates from what the limit predicts at these widths: {found}"
    if predicted is not None and not predicted.z_spread <= threshold:
        found = f"{predicted.spread:.3g} times what the limit predicts"
        return False, f"the variance of networks is {found}, and not by a term of order 1/n"
    # Either will do: without a visible bias the raw score is the sharper one, with it the corrected one is fair. With a
    # prediction, its score stands for both.
    best = np.minimum(np.abs(scores.raw[-1]), np.abs(scores.corrected)).max(initial=0.0)
    if predicted is None and not best <= threshold:
        return False, f"the mean deviates from the limit: |z| = {best:.2f}, allowed {threshold:.2f}"
    if slope is None:
        return True, "the slope is hidden by the error of the limit" if sloped and scores.raw.shape[0] > 1 else ""
    low, high = slope.interval
    if low <= SLOPES[1] and high >= SLOPES[0]:
        return True, ""
    if slope.value < SLOPES[0]:
        return True, f"faster than expected: slope {slope.value:.2f}"
    message = f"the deviation falls too slowly: slope {slope.value:.2f}, in [{low:.2f}, {high:.2f}] at 99.9%"
    return False, f"{message}; expected between {SLOPES[0]} and {SLOPES[1]}"
