"""Outputs that do not meet the requested tolerance."""

from __future__ import annotations

import numpy as np

from tp_compiler.results import Array, Estimate, Run

_DEFAULT_TOLERANCE = 1e-3


def unmet(run: Run, *, rtol: float | None, atol: float | None) -> list[str]:
    """Outputs whose standard error exceeds `atol + rtol * max|value|`; none if neither was asked for."""
    if rtol is None and atol is None:
        return []
    rtol = _DEFAULT_TOLERANCE if rtol is None else rtol
    atol = _DEFAULT_TOLERANCE if atol is None else atol
    return [name for name, estimate in run.outputs.items() if not _met(estimate, rtol, atol)]


def _met(estimate: Estimate, rtol: float, atol: float) -> bool:
    pairs = [(estimate.value, estimate.stderr), (estimate.covariance, estimate.covariance_stderr)]
    return all(_within(value, error, rtol, atol) for value, error in pairs if value is not None and error is not None)


def _within(value: Array, error: Array, rtol: float, atol: float) -> bool:
    if value.size == 0:
        return True
    return bool(np.max(error) <= atol + rtol * np.max(np.abs(value)))
