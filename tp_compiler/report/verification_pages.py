"""The result of `tpc verify` as text, HTML and LaTeX: one row per output."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tp_compiler._version import __version__
from tp_compiler.finite.converge import OutputCheck, Verification
from tp_compiler.finite.statistics.predicted import ALLOWED
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
    predicted = any(check.predicted for check in checks)
    more = ["predicted", "n·Var/Σ"] if predicted else []
    head = ["output", *(f"|z| (n = {n})" for n in widths), "corrected", *more, "allowed", "slope", ""]
    rows = [_check(check, predicted) for check in checks]
    yield Grid([head, *rows], right=frozenset(range(1, len(head))))
    yield Lines([f"{check.name}: {check.reason}" for check in checks if check.reason])
    yield Lines([line for check in checks if (line := _gain(check))])
    yield Lines([line for check in checks if (line := _variances(check))])
    verdict = "pass" if verification.passed else "FAIL" if checks else "nothing was compared"
    yield Lines((f"verify: {verdict}   (tpc {__version__})",))


def _gain(check: OutputCheck) -> str:
    """What knowing the law of networks is worth."""
    known = check.predicted
    if known is None:
        return ""
    times = f"{known.gain:.2g} times smaller than without the prediction"
    return f"{check.name}: a deviation of {known.seen:.2g} from the limit fails, {times}"


def _variances(check: OutputCheck) -> str:
    """How variances were compared, where it was not by a fit in 1/n."""
    known = check.predicted
    if known is None:
        return ""
    if known.second_order:
        entries = "its spread is" if known.second_order == 1 else f"the spreads of {known.second_order} entries are"
        return f"{check.name}: {entries} of order 1/n, where Σ says nothing, and not compared with it"
    if len(check.widths) == 1:
        return f"{check.name}: at a single width, n·Var/Σ may be off by {100 * ALLOWED:.0f}%; more widths show its term of order 1/n"
    return ""


def _check(check: OutputCheck, predicted: bool) -> list[str]:
    slope = "-"
    if check.slope is not None and np.isfinite(check.slope):
        slope = f"{check.slope:.2f}"
        if check.slope_interval is not None:
            low, high = check.slope_interval
            slope += f" [{low:.2f}, {high:.2f}]"
    scores = [f"{z:.2f}" if np.isfinite(z) else "-" for z in (*check.z, check.z_corrected)]
    known = check.predicted
    if predicted:
        scores += (
            ["-", "-"] if known is None else [f"{x:.2f}" if np.isfinite(x) else "-" for x in (known.z, known.spread)]
        )
    return [check.name, *scores, f"{check.threshold:.2f}", slope, "pass" if check.passed else "FAIL"]
