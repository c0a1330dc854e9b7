"""The result of `tpc verify` as text, HTML and LaTeX: one row per output."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tp_compiler._version import __version__
from tp_compiler.finite.converge import OutputCheck, Verification
from tp_compiler.report import blocks
from tp_compiler.report.blocks import Block, Grid, Lines


def text(verification: Verification) -> str:
    """The largest |z| by width, and with the bias b/n removed; the slope; whether it passed."""
    return blocks.text(_blocks(verification))


def html(verification: Verification) -> str:
    """The same for notebooks."""
    return blocks.html(_blocks(verification))


def latex(verification: Verification) -> str:
    """The same for a LaTeX document."""
    return blocks.tex(_blocks(verification))


def _blocks(verification: Verification) -> Iterator[Block]:
    checks = verification.checks
    widths = checks[0].widths if checks else ()
    head = ["output", *(f"|z| (n = {n})" for n in widths), "corrected", "allowed", "slope", ""]
    yield Grid([head, *map(_check, checks)], right=frozenset(range(1, len(head))))
    yield Lines([f"{check.name}: {check.reason}" for check in checks if check.reason])
    verdict = "pass" if verification.passed else "FAIL" if checks else "nothing was compared"
    yield Lines((f"verify: {verdict}   (tpc {__version__})",))


def _check(check: OutputCheck) -> list[str]:
    slope = "-"
    if check.slope is not None and np.isfinite(check.slope):
        slope = f"{check.slope:.2f}"
        if check.slope_interval is not None:
            low, high = check.slope_interval
            slope += f" [{low:.2f}, {high:.2f}]"
    scores = [f"{z:.2f}" if np.isfinite(z) else "-" for z in (*check.z, check.z_corrected)]
    return [check.name, *scores, f"{check.threshold:.2f}", slope, "pass" if check.passed else "FAIL"]
