"""The result of `tpc scale`: values for every parameter, the class, and what goes wrong at other parametrizations."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from tp_compiler.diagnostics import Diagnostic, suggest
from tp_compiler.ir.model import Network
from tp_compiler.pages import Shown, written
from tp_compiler.scale.aligned_tables import COMMON, largest_rows
from tp_compiler.scale.analysis import Analysis, Architecture
from tp_compiler.scale.constants import constants
from tp_compiler.scale.equivalents import equivalents
from tp_compiler.scale.figures import TIED, Choice, Row, chosen, left_out, table
from tp_compiler.scale.given_alignments import Given, ParameterAlignments, given_alignments
from tp_compiler.scale.growth import NOTHING, Order
from tp_compiler.scale.numbers import order
from tp_compiler.scale.optimizers import ParameterKind
from tp_compiler.scale.program import NetworkReading, read
from tp_compiler.scale.raw import Raw
from tp_compiler.scale.units import Units, plain_units

#: Optimizers assumed for a program without `train`.
USUAL = ("Adam", "SGD")
#: The parametrizations that every program is compared with.
COMPARED = ("mup", "ntk", "standard")


@dataclass(frozen=True)
class Table:
    """Figures by parameter at one parametrization, and the class that they have."""

    parametrization: str
    rows: Mapping[str, Row]
    verdict: Architecture
    constants: Mapping[str, dict[str, float]]  #: factors of figures that are not 1: width ratios, initial deviations
    held: Mapping[str, str] | None = None  #: for given alignments: what larger learning rates would make blow up
    features: Order = NOTHING  #: for given alignments: the power of n by which features move

    def as_json(self) -> dict[str, Any]:
        parameters = {name: row.as_json() for name, row in self.rows.items()}
        factors = {name: values for name, values in self.constants.items() if values}
        if self.held is not None:
            features = None if self.features == NOTHING else str(self.features)
            return {"parameters": parameters, "held": dict(self.held), "features": features, "constants": factors}
        notes = list(self.verdict.notes)
        return {"class": self.verdict.as_json(), "parameters": parameters, "constants": factors, "notes": notes}

    @property
    def raw(self) -> dict[str, Raw]:
        return {name: row.raw for name, row in self.rows.items()}


class Scaling(Shown):
    """The width exponents of a program. `scaling["W"]["lr"]` is a Fraction; `print(scaling)` is the whole answer.

    With `alignment`, learning rates are the largest stable ones for these alignments.
    """

    def __init__(self, network: Network, optimizer: str | None = None, alignment: Given | None = None):
        self.network = network
        self._choices: dict[str, Choice] = {}
        if optimizer is not None or network.trains:
            self._choices[optimizer or "train"] = chosen(optimizer)
        else:
            self._choices = {name: chosen(name) for name in USUAL}
        self.reading: NetworkReading = read(network)
        self.analysis = Analysis(self.reading)
        self.alignments: ParameterAlignments | None = None
        if alignment is not None:
            self.alignments = given_alignments(alignment, self.reading.parameters, self._names())
        self.tables: dict[str, Table] = {name: self.table(None, choice) for name, choice in self._choices.items()}

    @property
    def choice(self) -> Choice:
        """Which optimizer updates which parameter."""
        return next(iter(self._choices.values()))

    @property
    def main(self) -> Table:
        """The table of the program's own optimizers; without any, of Adam."""
        return next(iter(self.tables.values()))

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """Warnings about rows of the program's block that have no effect, or that leave out c or d."""
        return (*self._left_out(self.network), *self._without_effect(self.network))

    def _left_out(self, network: Network) -> Iterator[Diagnostic]:
        for p, meaning in left_out(self.reading, self.choice):
            row = next(r for r in network.rows if r.holds(p.declared.name, p.declared.ket, p.declared.member))
            remedy = f"write c and d in its row; as written, `{p.shown}` moves its output by {_power(self, p.shown)}"
            yield Diagnostic("NX924", f"the row of `{p.shown}` has an a other than muP's: {meaning}", row.span, remedy)

    def _without_effect(self, network: Network) -> Iterator[Diagnostic]:
        row = next((r for r in network.rows if (r.name, r.ket, r.member) == TIED), None)
        parameters = self.reading.parameters
        readout = next((p.shown for p in parameters if p.kind == ParameterKind.OUTPUT), None)
        scalar = any(p.declared.name == "output" and not p.declared.ket for p in parameters)
        if row is None or scalar or (readout is None and any(p.tied for p in parameters)):
            return
        message = f"`{row.span.text}` has no effect, because no ket is both input and readout"
        remedy = f"write the exponents of the readout: `{readout} : ..`" if readout else "leave it out"
        yield Diagnostic("NX922", message, row.span, remedy)

    @property
    def verdict(self) -> Architecture:
        return self.main.verdict

    @property
    def parameters(self) -> dict[str, Row]:
        return dict(self.main.rows)

    def __getitem__(self, name: str) -> Raw:
        rows = self.main.rows
        if name not in rows:
            hint = suggest(name, rows) or f"the parameters are {', '.join(rows) or 'none'}"
            raise KeyError(f"there is no parameter {name!r}; {hint}")
        return rows[name].raw

    def table(self, point: str | None, choice: Choice | None = None) -> Table:
        """The figures and the class at the program's parametrization, or at another one."""
        network = self.network
        rows = table(self.reading, choice or self.choice, point)
        verdict = self.analysis.judge(rows, given_d=point is None and network.parametrization == "block")
        name = point or network.parametrization
        held: dict[str, str] | None = None
        features: Order = NOTHING
        if self.alignments is not None:
            rows, nodes, features = largest_rows(self.analysis, rows, self.alignments.each)
            held = {
                key: self.reading.name(node) for key, node in zip(self.keys, nodes, strict=True) if node is not None
            }
        named = {key: row for key, row in zip(self.keys, rows, strict=True)}
        factors = {key: constants(row, self.reading.clt) for key, row in named.items()}
        return Table(name, named, verdict, factors, held, features)

    def _common(self, name: str) -> Table:
        """A common parametrization with its multipliers, in powers of n alone."""
        found = self.table(COMMON[name].point)
        rows = {key: COMMON[name].written(row) for key, row in found.rows.items()}
        return replace(found, parametrization=name, rows=rows, constants={})

    def _names(self) -> list[list[str]]:
        """Those of each parameter, in files of alignments."""
        return [[key] for key in self.keys]

    @cached_property
    def keys(self) -> list[str]:
        """Bare names; a ket whose name an operator or a scalar has, too, is `|u>`."""
        declared = [p.declared for p in self.reading.parameters]
        others = {d.name for d in declared if not d.ket}
        return [
            p.shown if p.declared.ket and p.declared.name in others else p.shown.replace("|", "").replace(">", "")
            for p in self.reading.parameters
        ]

    @cached_property
    def implemented(self) -> Mapping[str, tuple[Row, Units]]:
        """The tensors of an implementation by name, with their rows and units: those of the raw network."""
        return {name: (row, plain_units(row, self.reading.clt)) for name, row in self.main.rows.items()}

    @property
    def notes(self) -> list[str]:
        """What figures cannot mend in the implementation."""
        return []

    @cached_property
    def compared(self) -> dict[str, Table]:
        """The same network and optimizers at the usual parametrizations."""
        if self.alignments is not None:
            return {name: self._common(name) for name in COMMON}
        return {name: self.table(name) for name in COMPARED if name != self.main.parametrization}

    def equivalent(self) -> dict[str, list[tuple[str, Raw]]]:
        """Tables of the same training with multipliers (TP IVb (2.5)): TP V Tables 8 and 9, and all weights N(0, 1)."""
        return equivalents(self.main.rows)

    # -- pages --------------------------------------------------------------------------------------------------
    def as_json(self) -> dict[str, Any]:
        """The object that `tpc scale --json` prints."""
        document: dict[str, Any] = {
            "program": self.network.source.name,
            "command": "scale",
            "parametrization": self.main.parametrization,
            **self.main.as_json(),
        }
        if len(self.tables) > 1:
            document["tables"] = {name: table.as_json() for name, table in self.tables.items()}
        if self.alignments is not None:
            document["alignment"] = self.alignments.as_json(self.keys)
        document["compared"] = {
            name: table.as_json() | ({"problems": [*map(str, table.verdict.problems)]} if table.held is None else {})
            for name, table in self.compared.items()
        }
        return document

    def text(self, equivalent: bool = False) -> str:
        return str(written(self, "text", equivalent))

    def torch(self) -> str:
        """Python text with parameter groups for torch.optim."""
        return str(written(self, "torch"))

    def plot(self, path: str | os.PathLike[str] | None = None, *, theme: str = "light") -> Any:
        """The classes of neighbouring parametrizations, with this program among them: a figure, also written to `path`."""
        return written(self, "plot", path, theme=theme)

    def _brief(self) -> str:
        verdict = self.verdict
        return f"Scaling {self.network.source.name}: {verdict.regime.value}, r = {verdict.r}; {', '.join(self.keys)}"


def _power(scaling: Scaling, name: str) -> str:
    found = scaling.verdict.updates[name]
    return order(Fraction(found)) if found != NOTHING else "nothing"


def moves(row: Row, table: Table) -> Fraction | None:
    """The power of n by which the parameter's own update moves its output; None if it has no gradient."""
    found = table.verdict.updates[row.parameter.shown]
    return None if found == NOTHING else Fraction(found)
