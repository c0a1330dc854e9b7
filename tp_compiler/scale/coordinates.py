"""The result of a coordinate check: measured powers of n beside derived ones, with a verdict and its reason for each."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any

from tp_compiler.pages import Shown, written
from tp_compiler.scale.alignment import Alignment


class CoordinateVerdict(StrEnum):
    """What a row of a coordinate check amounts to."""

    OK = "ok"
    WRONG = "wrong"
    FOLLOWS = "follows"  #: off, and so it must be while something else is wrong
    WARNING = "warning"
    UNKNOWN = "-"


@dataclass(frozen=True)
class CoordinateRow:
    """A power of n: measured, or read off settings, laws and the program (then `stderr` is 0), and derived for muP."""

    name: str  #: a module or a parameter, by the names of PyTorch
    quantity: str  #: activation, update, gradient, parameter update; lr, eps, weight_decay, init_std, scale
    step: int | None  #: after so many updates; None for settings
    slope: float | None  #: None: 0 at some width
    stderr: float
    derived: Fraction | None
    verdict: CoordinateVerdict
    reason: str = ""
    sizes: tuple[float, ...] = ()  #: root mean squares by width, or values of a setting

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name, "quantity": self.quantity, "step": self.step, "slope": self.slope, "stderr": self.stderr,
            "derived": None if self.derived is None else str(self.derived), "verdict": self.verdict.value,
            "reason": self.reason, "sizes": list(self.sizes),
        }  # fmt: skip


@dataclass(frozen=True)
class CoordinateProblem:
    """One mistake, wherever it shows: `lr of blocks.0.ln_1.weight and 4 more falls as n^(-1), muP wants it constant`."""

    names: tuple[str, ...]
    quantity: str
    reason: str

    def __str__(self) -> str:
        return f"{self.quantity} of {listed(self.names)}: {self.reason}" if self.names else self.reason


@dataclass(frozen=True)
class MeasuredAlignment(Alignment):
    """Of a parameter: `slopes` of alpha, omega and u with their standard errors (None: something did not move). The exponents are
    these, between 1/2 and 1 (two standard errors more where those are above 0.1); `declared` is the parameter's name in the traced
    program."""

    slopes: Mapping[str, tuple[float, float] | None] = field(default_factory=dict)
    declared: str = ""

    def as_json(self) -> dict[str, Any]:
        exponents = {"alpha": self.update, "omega": self.features, "u": self.both}
        numbers = {key: float(x) if self.slopes[key] is not None else None for key, x in exponents.items()}
        return {
            "declared": self.declared,
            **numbers,
            "slopes": {k: list(x) if x else None for k, x in self.slopes.items()},
        }


def listed(names: Sequence[str], most: int = 3) -> str:
    """`a, b and 4 more`."""
    shown = [name or "the module" for name in names]
    if len(shown) <= most:
        return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)
    return f"{', '.join(shown[: most - 1])} and {len(shown) - most + 1} more"


@dataclass(frozen=True, repr=False)
class CoordCheck(Shown):
    """Is a module in muP? `print(check)` is the page; `check.passed`, `check.problems`, `check.rows`, `check.plot(file)`."""

    widths: tuple[int, ...]
    seeds: int
    steps: int
    optimizers: tuple[str, ...]
    rows: tuple[CoordinateRow, ...]
    problems: tuple[CoordinateProblem, ...]  #: the causes, those that are certain first
    notes: tuple[str, ...] = ()
    losses: Mapping[int, tuple[float, ...]] = field(default_factory=dict)  #: by width, mean over seeds
    alignments: Mapping[str, MeasuredAlignment] = field(
        default_factory=dict
    )  #: of parameters that sum over neurons, in training

    @property
    def passed(self) -> bool:
        return not self.problems

    @property
    def table(self) -> str:
        """Every row as text: measured slope ± se, derived exponent, verdict and reason."""
        return str(written(self, "table"))

    def as_json(self) -> dict[str, Any]:
        """The object that `tpc coord --json` prints."""
        return {
            "command": "coord",
            "passed": self.passed,
            "widths": list(self.widths),
            "seeds": self.seeds,
            "steps": self.steps,
            "optimizers": list(self.optimizers),
            "problems": [
                {"names": list(p.names), "quantity": p.quantity, "reason": p.reason, "text": str(p)}
                for p in self.problems
            ],
            "rows": [row.as_json() for row in self.rows],
            "losses": {str(n): list(x) for n, x in self.losses.items()},
            "alignments": {name: found.as_json() for name, found in self.alignments.items()},
            "notes": list(self.notes),
        }

    def plot(self, path: str | os.PathLike[str] | None = None, *, theme: str = "light") -> Any:
        """Root mean squares against the width, a line for each module: a figure, also written to `path`."""
        return written(self, "plot", path, theme=theme)

    def _brief(self) -> str:
        said = "passed" if self.passed else f"{len(self.problems)} problem{'s' * (len(self.problems) > 1)}"
        return f"CoordCheck at n = {', '.join(map(str, self.widths))}: {said}"
