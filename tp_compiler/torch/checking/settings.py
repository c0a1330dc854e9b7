"""Settings of an optimizer and initial laws as powers of the width, beside those of muP: exact, whatever the noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from tp_compiler.scale.coordinates import CoordinateProblem, CoordinateRow, CoordinateVerdict, listed
from tp_compiler.scale.numbers import power
from tp_compiler.scale.optimizers import OPTIMIZERS, EntrywiseOptimizer, ParameterKind
from tp_compiler.scale.slopes import exact_power
from tp_compiler.torch.checking.coordinates import Measured, MeasuredQuantity
from tp_compiler.torch.checking.expected import ExpectedParameter, ExpectedPowers
from tp_compiler.torch.returned import LOGITS

OK, WRONG, FOLLOWS = CoordinateVerdict.OK, CoordinateVerdict.WRONG, CoordinateVerdict.FOLLOWS
WARNING, UNKNOWN = CoordinateVerdict.WARNING, CoordinateVerdict.UNKNOWN
#: A power that is off by more than this is wrong, if it is not known exactly.
TOLERANCE = 0.1
#: A law that was measured from the entries of one network.
_ROUGH = 0.2
#: eps below this part of the gradients has no effect.
_NEGLIGIBLE = 1e-2


def went(found: float, exact: bool = True) -> str:
    """`falls as n^(-1)`, `is constant`, `grows as n^0.52`."""
    near = Fraction(found).limit_denominator(12)
    exact = exact and abs(float(near) - found) < 1e-6
    shown = power(near) if exact else f"n^{found:.2f}"
    if abs(found) < (1e-6 if exact else 0.005):
        return "is constant"
    return f"{'grows' if found > 0 else 'falls'} as {shown}"


def wants(derived: Fraction) -> str:
    return "muP wants it constant" if derived == 0 else f"muP wants {power(derived)}"


class SettingRows:
    """The rows of settings and laws, with the problems that they show."""

    def __init__(self, measured: Measured, expected: ExpectedPowers, steps: int):
        self.measured, self.expected = measured, expected
        self._last = steps - 1

    def rows(self) -> list[CoordinateRow]:
        found: list[CoordinateRow] = []
        for name, by_width in self.measured.settings.items():
            wanted = self.expected.parameters.get(name)
            if wanted is None or set(by_width) != set(self.measured.widths):
                continue
            optimizer = next(iter(by_width.values())).optimizer
            figures = wanted.figures(optimizer)
            for what in ("lr", "eps", "weight_decay"):
                values = [(n, getattr(by_width[n], what)) for n in self.measured.widths]
                if all(isinstance(v, float) and v > 0 for _, v in values):
                    found.append(self._setting(name, what, values, figures.get(what), wanted))
        found = [self._together(row, found) for row in found]
        return [*self._laws(), *self._scales(), *found]

    def _setting(
        self, name: str, what: str, values: list[tuple[int, float]], derived: Fraction | None, wanted: ExpectedParameter
    ) -> CoordinateRow:
        found, exact = exact_power(values) or (0.0, True)
        sizes = tuple(v for _, v in values)
        verdict, reason = UNKNOWN, ""
        if derived is not None:
            verdict = OK if abs(found - derived) <= (1e-6 if exact else TOLERANCE) else WRONG
            reason = (
                ""
                if verdict == OK
                else f"{went(found, exact)}, {wants(derived)}{self._hint(name, what, found, wanted)}"
            )
            if what == "eps" and verdict == WRONG:
                verdict, reason = self._eps(name, sizes, reason)
        elif what == "weight_decay":
            reason = "it is added to the gradient, not decoupled: no power of n is right for all steps"
        return CoordinateRow(name, what, None, found, 0.0, derived, verdict, reason, sizes)

    def _eps(self, name: str, values: tuple[float, ...], reason: str) -> tuple[CoordinateVerdict, str]:
        """Only a warning: it matters where gradients are not large beside it."""
        gradient = MeasuredQuantity(name, "gradient", self._last)
        sizes = [min(s.sizes.get(gradient, 0.0) for s in self.measured.samples[n]) for n in self.measured.widths]
        if all(eps <= _NEGLIGIBLE * g for eps, g in zip(values, sizes, strict=True)):
            return OK, "it is negligible beside the gradients"
        return WARNING, f"{reason}: it is not negligible beside the gradients"

    def _hint(self, name: str, what: str, found: float, wanted: ExpectedParameter) -> str:
        """What may have happened."""
        if what == "weight_decay":
            return ": lr times weight_decay must not depend on the width"
        if what != "lr" or wanted.kind.reads_features:
            return ""
        settings = self.measured.settings
        matrices = [n for n, p in self.expected.parameters.items() if p.kind == ParameterKind.HIDDEN and n in settings]
        same = any(settings[n] == settings[name] for n in matrices)
        return f": this {self.role(name)} is in the group of the matrices" if same and found else ""

    def role(self, name: str) -> str:
        """What a parameter is, in words."""
        owner, last = self.measured.owners.get(name, ""), name.rpartition(".")[2]
        kind = self.expected.parameters[name].kind
        if last == "bias":
            return "bias"
        if owner.endswith("Norm") or "Norm" in owner:
            return f"gain of a {owner}"
        if owner == "Embedding":
            return "embedding"
        return {ParameterKind.HIDDEN: "matrix", ParameterKind.OUTPUT: "readout", ParameterKind.SCALAR: "number"}.get(
            kind,
            "vector of neurons" if len(self.measured.shapes[name][self.measured.widths[0]]) < 2 else "input weight",
        )

    def _together(self, row: CoordinateRow, rows: list[CoordinateRow]) -> CoordinateRow:
        """A weight decay that makes up for a wrong learning rate is right once that is."""
        if row.quantity != "weight_decay" or row.verdict != WRONG:
            return row
        lr = next((r for r in rows if r.name == row.name and r.quantity == "lr"), None)
        if lr is None or lr.verdict != WRONG or abs((lr.slope or 0) + (row.slope or 0)) > 1e-6:
            return row
        return _as(row, FOLLOWS, "goes with the learning rate, which is wrong")

    # -- the module ------------------------------------------------------------------------------------------------
    def _laws(self) -> Iterator[CoordinateRow]:
        for name, wanted in self.expected.parameters.items():
            laws = self.measured.laws.get(name)
            if laws is None:
                continue
            fills = [laws[n] for n in self.measured.widths]
            values = [(n, f.std or abs(f.mean)) for n, f in zip(self.measured.widths, fills, strict=True)]
            known = exact_power(values)
            if known is None:
                continue  # 0
            derived = wanted.figures("Adam")["init_std"]
            found, exact = known
            rough = any(f.kind == "measured" for f in fills)
            off = found - derived
            near = _ROUGH if rough else 1e-6 if exact else TOLERANCE
            verdict, reason = OK, ""
            if (off > near and not wanted.tied) or (off < -near and wanted.kind == ParameterKind.HIDDEN):
                verdict, reason = WRONG, f"{went(found, exact and not rough)}, {wants(derived)}"
            elif off < -near:
                reason = "vanishes beside its updates as n grows"
            yield CoordinateRow(
                name, "init_std", None, found, 0.0, derived, verdict, reason, tuple(v for _, v in values)
            )

    def _scales(self) -> Iterator[CoordinateRow]:
        for module in self.expected.roots:
            reason = "grow as n^(1/2) in training: the scale is 1/√d, muP wants 1/d"
            yield CoordinateRow(module, "scale", None, -0.5, 0.0, Fraction(-1), WRONG, reason)


def _as(row: CoordinateRow, verdict: CoordinateVerdict, reason: str) -> CoordinateRow:
    return replace(row, verdict=verdict, reason=reason)


def problems(rows: list[CoordinateRow], measured: Measured, expected: ExpectedPowers) -> list[CoordinateProblem]:
    """The causes among settings and laws: rows with the same reason are one."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.verdict == WRONG:
            found.setdefault((row.quantity, row.reason), []).append(row.name)
    other = _other_rule(rows, measured, expected)
    made = [] if other is None else [other]
    for (quantity, reason), names in found.items():
        if quantity == "scale":
            names, quantity = [name.removesuffix(LOGITS) for name in names], "attention logits"
        if quantity != "lr" or other is None:
            made.append(CoordinateProblem(tuple(names), quantity, reason))
    return made


def _other_rule(rows: list[CoordinateRow], measured: Measured, expected: ExpectedPowers) -> CoordinateProblem | None:
    """Learning rates that are right for another optimizer."""
    rates = {row.name: row for row in rows if row.quantity == "lr" and row.slope is not None}
    if sum(row.verdict == WRONG for row in rates.values()) < 2:
        return None
    used = sorted({next(iter(measured.settings[name].values())).optimizer for name in rates})
    optimizer = OPTIMIZERS.get(used[0])
    if len(used) > 1 or not isinstance(optimizer, EntrywiseOptimizer):
        return None
    other = "Adam" if optimizer.degree == 1 else "SGD"
    powers = {name: expected.parameters[name].figures(other)["lr"] for name in rates}
    if len(set(powers.values())) < 2 or any(abs((rates[n].slope or 0.0) - p) > 1e-6 for n, p in powers.items()):
        return None
    groups: dict[Fraction, list[str]] = {}
    for name, row in rates.items():
        if row.derived is not None:
            groups.setdefault(row.derived, []).append(name)
    said = ", ".join(f"{power(p)} for {listed(names, 2)}" for p, names in groups.items())
    return CoordinateProblem(
        (), "lr", f"the learning rates are scaled as muP scales those of {other}; for {used[0]} it wants {said}"
    )
