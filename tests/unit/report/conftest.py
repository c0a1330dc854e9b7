"""A fabricated result with every kind of output."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.report.fabricate import estimate
from tp_compiler.diagnostics import Diagnostic
from tp_compiler.finite.converge import OutputCheck, Verification
from tp_compiler.results import Run


@pytest.fixture
def run() -> Run:
    outputs = {
        "m": estimate(0.5012, 3e-4),
        "f": estimate([1.0, -2.0], [0.1, 0.02], ("i",)),
        "nngp": estimate([[0.37940, 0.1], [0.1, 2.5]], [[1.2e-4, 3e-5], [3e-5, 1e-4]], ("i", "j")),
        "exact": estimate([[1.0, 1 / 3]], 0.0, ("i", "j"), "closed-form"),
        "t": estimate(np.arange(24.0).reshape(2, 3, 4), 0.5, ("i", "s", "t"), "mc"),
        "g": estimate(
            [0.0, 0.0],
            0.0,
            ("i",),
            law="gaussian",
            covariance=np.array([[1.0, 0.25], [0.25, 2.0]]),
            covariance_stderr=np.full((2, 2), 1e-3),
        ),
        "<x|y> & $a_b$": estimate(1e-9, 2e-11),
    }
    failed = {"k": Diagnostic("NX810", "ntk is <not> evaluated by this version", remedy="remove it")}
    warnings = (Diagnostic("NX901", "not converged"),)
    settings = {"seed": 0, "samples": 4096, "replicates": np.int64(8), "backend": "numpy"}
    return Run("mlp.nexort", "limit", outputs, failed, warnings, settings, 1.25)


@pytest.fixture
def verification() -> Verification:
    widths = (256, 512, 1024)
    good = OutputCheck("nngp", widths, (1.5, 0.7, 2.0), 1.1, 3.0, 4.2, (0.04, 0.028, 0.02), -0.5, (-0.6, -0.4), 9, True)
    bad = OutputCheck("f", widths, (9.0, 8.0, 9.5), 9.1, 0.1, 4.2, (0.4, 0.4, 0.4), None, None, 1, False, "it deviates")
    exact = OutputCheck("one", widths, (0.0, 0.0, 0.0), 0.0, 0.0, 4.2, (0.0, 0.0, 0.0), None, None, 1, True)
    return Verification((good, bad, exact), 1e-3, 11, False)
