"""Measured powers of n: slopes of logarithms of sizes in log n, with standard errors and the drift towards large widths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class MeasuredSlope:
    """By least squares over all widths; `low` and `high` over the lower and the upper half of the widths.

    `stderr` is from the seeds, or from the residuals if those are larger; `drift` that of `high` − `low`, from the seeds.
    """

    value: float
    stderr: float
    low: float
    high: float
    drift: float

    def error(self, exponent: float) -> float:
        """The standard error of value − exponent as n grows.

        Corrections of finite width bend the line: where its slope comes closer to the exponent from the lower to the upper half
        of the widths, by more than two standard errors explain, the rest of the way is uncertain by as much as was covered.
        """
        covered = abs(self.low - exponent) - abs(self.high - exponent)
        bend = math.sqrt(max(0.0, covered**2 - (2 * self.drift) ** 2)) if covered > 0 else 0.0
        return math.hypot(self.stderr, bend)


def slope(widths: Sequence[int], logs: Sequence[Sequence[float]]) -> MeasuredSlope:
    """Of logs[k], the values at the k-th width, one for each seed; the widths increase."""
    x, y = [math.log(n) for n in widths], [fmean(values) for values in logs]
    seeds = len(logs[0])
    weights = _weights(x)
    value = _dot(weights, y)
    within = sum((v - m) ** 2 for values, m in zip(logs, y, strict=True) for v in values)
    between_seeds = within / (len(x) * (seeds - 1)) / seeds if seeds > 1 else 0.0
    at = fmean(x)
    rest = sum((b - fmean(y) - value * (a - at)) ** 2 for a, b in zip(x, y, strict=True))
    noise = max(between_seeds, rest / (len(x) - 2) if len(x) > 2 else 0.0)
    half = max(2, len(x) // 2)
    lower = [*_weights(x[:half]), *[0.0] * (len(x) - half)]
    upper = [*[0.0] * (len(x) - half), *_weights(x[-half:])]
    between = [b - a for a, b in zip(lower, upper, strict=True)]
    stderr, drift = math.sqrt(noise) * _norm(weights), math.sqrt(between_seeds) * _norm(between)
    return MeasuredSlope(value, stderr, _dot(lower, y), _dot(upper, y), drift)


def _weights(x: Sequence[float]) -> list[float]:
    """Those with which values at x make their slope."""
    at = fmean(x)
    total = sum((a - at) ** 2 for a in x)
    return [(a - at) / total for a in x]


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _norm(a: Sequence[float]) -> float:
    return math.sqrt(sum(x * x for x in a))


def exact_power(values: Sequence[tuple[int, float]]) -> tuple[float, bool] | None:
    """The power of n that positive numbers at several widths follow, and whether they follow it exactly."""
    if len(values) < 2 or any(v <= 0 for _, v in values):
        return None
    x, y = [math.log(n) for n, _ in values], [math.log(v) for _, v in values]
    power = _dot(_weights(x), y)
    off = max(abs(b - y[0] - power * (a - x[0])) for a, b in zip(x, y, strict=True))
    return round(power, 9) + 0.0, off < 1e-6
