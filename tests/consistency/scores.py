"""Deviations from known answers, in standard errors, with thresholds for many figures at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import t

from tp_compiler.results import Run

LEVEL = 1e-4  # the probability that a right program fails one call of `assert_equal`


def deviations(run: Run, exact: Mapping[str, Any]) -> np.ndarray:
    """(value - exact) / stderr of every figure; where there is no error, rounding is allowed for."""
    assert not run.failed, {name: d.message for name, d in run.failed.items()}
    found = []
    for name, wanted in exact.items():
        estimate = run.outputs[name]
        wanted = np.broadcast_to(np.asarray(wanted, dtype=float), estimate.value.shape)
        rounding = 1e-12 * (1 + np.abs(wanted))
        found.append(((estimate.value - wanted) / (estimate.stderr + rounding)).ravel())
    return np.concatenate(found)


def assert_equal(run: Run, exact: Mapping[str, Any], within: float) -> None:
    """z-scores below Student's t (dof: replicates - 1, Bonferroni), and errors small enough to mean something."""
    scores = deviations(run, exact)
    threshold = float(t.ppf(1 - LEVEL / (2 * len(scores)), run.settings["replicates"] - 1))
    assert np.abs(scores).max() < threshold, (scores, {n: run.outputs[n].value for n in exact})
    for name, wanted in exact.items():
        assert np.max(run.outputs[name].stderr) <= within * (1 + np.max(np.abs(wanted))), name
