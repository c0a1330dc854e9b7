"""The verdicts of a coordinate check: which rows are off, which of them is the cause, and which merely follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from statistics import fmean

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.scale.coordinates import CoordinateProblem, CoordinateRow, CoordinateVerdict
from tp_compiler.scale.numbers import HALF, power
from tp_compiler.scale.slopes import MeasuredSlope, slope
from tp_compiler.torch.checking.coordinates import Measured, MeasuredQuantity
from tp_compiler.torch.checking.expected import ExpectedPowers
from tp_compiler.torch.checking.settings import SettingRows, problems, wants, went

OK, WRONG, FOLLOWS = CoordinateVerdict.OK, CoordinateVerdict.WRONG, CoordinateVerdict.FOLLOWS
WARNING, UNKNOWN = CoordinateVerdict.WARNING, CoordinateVerdict.UNKNOWN
#: A slope is wrong if it is off by more than this, and by more than three standard errors.
TOLERANCE, ERRORS = 0.1, 3.0
#: Sizes below this part of those beside them are rounding errors.
ROUNDING = 1e-5
#: Where a cause is looked for first.
ORDER = ("activation", "parameter update", "update", "gradient")
#: The refusal of a trace that is a diagnosis: something has a power of n that it must not have.
TOO_LARGE = "NX710"


class Judge:
    """Rows and causes, from what was measured and what is derived. `traced`: from the program, not from shapes."""

    def __init__(self, measured: Measured, expected: ExpectedPowers, steps: int, refused: Diagnostic | None):
        self.measured, self.expected, self.steps = measured, expected, steps
        self.refused = refused

    def suspected(self, settings: Sequence[CoordinateRow]) -> list[CoordinateProblem]:
        """Settings that only matter at some sizes, and do so where a row is off: eps."""
        found: dict[tuple[str, str], list[str]] = {}
        for row in settings:
            if row.verdict == WARNING:
                found.setdefault((row.quantity, row.reason), []).append(row.name)
        return [CoordinateProblem(tuple(names), quantity, reason) for (quantity, reason), names in found.items()]

    def settings(self) -> tuple[list[CoordinateRow], list[CoordinateProblem]]:
        """What is certain."""
        rows = SettingRows(self.measured, self.expected, self.steps).rows()
        found = problems(rows, self.measured, self.expected)
        if self.refused is not None and self.refused.code == TOO_LARGE:
            reason = f"{self.refused.message}{self._tied()}; {self.refused.remedy}"
            found.insert(0, CoordinateProblem((), "scale", reason))
        return rows, found

    def _tied(self) -> str:
        shared = [f"`{b}` is `{a}`" for a, b in self.measured.shared.items()]
        return f" ({', '.join(shared)})" if shared else ""

    def slopes(self) -> list[CoordinateRow]:
        """What is measured, in the order in which modules are run."""
        last = {"activation": 0, "update": self.steps, "parameter update": self.steps, "gradient": 0}
        found = [q for q in self.measured.quantities if q.step == last[q.what]]
        return [self._row(q) for q in sorted(found, key=lambda q: ORDER.index(q.what))]

    def _row(self, q: MeasuredQuantity) -> CoordinateRow:
        logs = self.measured.logs(q)
        sizes = tuple(self.measured.size(q))
        derived, exact, least = self._derived(q)
        if logs is None or self._rounding(q):
            still = "0" if logs is None else "rounding errors"
            return CoordinateRow(q.name, q.what, q.step, None, 0.0, derived, UNKNOWN, still, sizes)
        made = slope(self.measured.widths, logs)
        if derived is None:
            return CoordinateRow(q.name, q.what, q.step, made.value, made.stderr, None, UNKNOWN, "", sizes)
        verdict, reason = self._verdict(made, derived, exact, derived if least is None else least)
        return CoordinateRow(
            q.name, q.what, q.step, made.value, made.error(float(derived)), derived, verdict, reason, sizes
        )

    def _verdict(
        self, made: MeasuredSlope, derived: Fraction, exact: bool, least: Fraction
    ) -> tuple[CoordinateVerdict, str]:
        off, error = made.value - float(derived), made.error(float(derived))
        if abs(off) <= TOLERANCE or abs(off) <= ERRORS * error:
            bent = error > 1.5 * made.stderr and abs(off) > max(TOLERANCE, ERRORS * made.stderr)
            return OK, f"from n^{made.low:.2f} to n^{made.high:.2f}: a correction of finite width" if bent else ""
        if off < 0 and not exact:
            return OK, "smaller than it may be"
        if off < 0 and made.value >= float(least) - max(TOLERANCE, ERRORS * made.error(float(least))):
            return (
                OK,
                f"between {power(least)} and {power(derived)}: some entries, or gradients, vanish at initialisation",
            )
        return WRONG, f"{went(made.value, False)}, {wants(derived)}"

    def _derived(self, q: MeasuredQuantity) -> tuple[Fraction | None, bool, Fraction | None]:
        """The exponent, whether smaller ones are wrong, too, and down to which they are not."""
        if q.what in ("activation", "update"):
            result = self.expected.of(q.name)
            if q.what == "update":
                return result.update, result.exact, None
            return result.start, result.exact, result.start - HALF if result.mixed else None
        wanted = self.expected.parameters.get(q.name)
        if wanted is None or not self.expected.traced:
            return None, False, None
        if q.what == "gradient":
            return wanted.gradient, True, None
        settings = self.measured.settings.get(q.name)
        if not settings:
            return None, True, None
        optimizer = next(iter(settings.values())).optimizer
        return wanted.update(optimizer), True, wanted.least_update(optimizer)

    def _rounding(self, q: MeasuredQuantity) -> bool:
        """Is it nothing but rounding errors, as the gradient by a bias that softmax does not see?"""
        if q.what == "activation":
            return False
        if q.what == "update":
            beside = self.measured.size(MeasuredQuantity(q.name, "activation", 0))
        else:
            q = MeasuredQuantity(q.name, "gradient", 0)
            others = [o for o in self.measured.quantities if o.what == "gradient" and o.step == q.step]
            beside = [max(sizes) for sizes in zip(*map(self.measured.size, others), strict=True)]
        return any(x < ROUNDING * y for x, y in zip(self.measured.size(q), beside, strict=True))

    def blame(
        self, rows: list[CoordinateRow], certain: Sequence[CoordinateProblem]
    ) -> tuple[list[CoordinateRow], list[CoordinateProblem]]:
        """The first row that is off is the cause, unless a certain one is known; the others follow from it."""
        wrong = [row for row in rows if row.verdict == WRONG]
        if not wrong:
            return rows, []
        if certain:
            return [self._follows(row, "see the problems above") if row in wrong else row for row in rows], []
        first = wrong[0]
        causes = [r for r in wrong if r.quantity == first.quantity == "parameter update"] or [first]
        after = f"after {first.name or 'the module'}"
        judged = [self._follows(row, after) if row in wrong and row not in causes else row for row in rows]
        found: dict[str, list[str]] = {}
        for row in causes:
            found.setdefault(row.reason, []).append(row.name)
        return judged, [CoordinateProblem(tuple(names), first.quantity, reason) for reason, names in found.items()]

    def _follows(self, row: CoordinateRow, why: str) -> CoordinateRow:
        return replace(row, verdict=FOLLOWS, reason=f"{row.reason}; {why}")


def mean_losses(measured: Measured) -> dict[int, tuple[float, ...]]:
    return {
        n: tuple(map(fmean, zip(*(s.losses for s in samples), strict=True))) for n, samples in measured.samples.items()
    }
