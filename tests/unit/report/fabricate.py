"""Estimates without an evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np

from tp_compiler.results import Estimate


def estimate(value: Any, stderr: Any = 0.0, axes: tuple[str, ...] = (), method: str = "qmc", **more: Any) -> Estimate:
    """An estimate from plain numbers; the standard error broadcasts."""
    value = np.asarray(value, dtype=float)
    return Estimate(value, np.broadcast_to(np.asarray(stderr, dtype=float), value.shape), axes, method, **more)
