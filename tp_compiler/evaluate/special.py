"""SciPy's special functions, loaded at the first call of one: importing them takes longer than evaluating most programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _deferred(name: str) -> Callable[..., Any]:
    def function(*args: Any) -> Any:
        from scipy import special

        return getattr(special, name)(*args)

    function.__name__ = function.__qualname__ = name
    return function


dawsn, erf, erfc, expit, fdtri, gamma, hyp1f1, hyp2f1, log_expit, ndtr, ndtri, rgamma = map(
    _deferred,
    ("dawsn", "erf", "erfc", "expit", "fdtri", "gamma", "hyp1f1", "hyp2f1", "log_expit", "ndtr", "ndtri", "rgamma"),
)
