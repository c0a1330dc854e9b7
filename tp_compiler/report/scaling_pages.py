"""The result of `tpc scale` as text, HTML and LaTeX: parameters that have the same figures and reasons are one row."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import TypeVar

from tp_compiler.report import blocks
from tp_compiler.report.blocks import Block, Grid, Heading, Lines
from tp_compiler.report.scaling_tables import WORDS, figure_cells
from tp_compiler.scale.given_alignments import ParameterAlignments
from tp_compiler.scale.growth import NOTHING
from tp_compiler.scale.libraries import starred
from tp_compiler.scale.numbers import order, power
from tp_compiler.scale.raw import Raw
from tp_compiler.scale.result import Scaling, Table, moves

#: How the reasons of raw.py call the weight.
WEIGHT = r"\bW\b"
#: A list of names is broken into lines of this width.
_NAMES = 32
#: What is said of one quantity, and of several.
_PLURALS = (
    ("blows up: it moves", "blow up: they move"),
    ("freezes: it moves", "freeze: they move"),
    ("freezes: it does", "freeze: they do"),
    ("is Θ", "are Θ"),
)

Key = TypeVar("Key", bound=Hashable)


def page(scaling: Scaling, equivalent: bool = False) -> str:
    """Tables with reasons, the class with its reasons, other parametrizations, equivalent tables."""
    return blocks.text(_blocks(scaling, equivalent))


def html(scaling: Scaling) -> str:
    """The same for notebooks."""
    return blocks.html(_blocks(scaling, False))


def latex(scaling: Scaling) -> str:
    """The same for a LaTeX document."""
    return blocks.tex(_blocks(scaling, False))


def torch_page(scaling: Scaling, equivalent: bool = False) -> str:
    """A table by torch's names before those of the program."""
    return blocks.text((*_torch_blocks(scaling), *_blocks(scaling, equivalent)))


def torch_html(scaling: Scaling) -> str:
    """The same for notebooks."""
    return blocks.html((*_torch_blocks(scaling), *_blocks(scaling, False)))


def torch_latex(scaling: Scaling) -> str:
    """The same for a LaTeX document."""
    return blocks.tex((*_torch_blocks(scaling), *_blocks(scaling, False)))


def _torch_blocks(scaling: Scaling) -> Iterator[Block]:
    """What the tensors of the module need: of layers that are alike, one row, with `*` for their number."""
    yield Heading(
        "PyTorch: at a width, figures are those at the base width times a power of n = width / base width", main=True
    )
    found = {
        name: Raw(row.raw.kind, row.optimizer.name, dict(own.wide.exponents), {})
        for name, (row, own) in scaling.implemented.items()
    }
    layers: dict[str, list[Raw]] = {}
    for name, raw in found.items():
        layers.setdefault(starred(name), []).append(raw)
    alike = {pattern for pattern, raws in layers.items() if all(str(raw) == str(raws[0]) for raw in raws)}
    shown = {pattern if (pattern := starred(name)) in alike else name: raw for name, raw in found.items()}
    yield _figures(shown)
    yield Lines(scaling.notes, apart=True)


def _aligned(scaling: Scaling, given: ParameterAlignments, equivalent: bool) -> Iterator[Block]:
    """The largest stable learning rates for given alignments."""
    yield Heading(
        f"{scaling.network.source.name}: largest stable learning rates, parametrization {scaling.main.parametrization}",
        main=True,
    )
    yield Lines((f"alignment {given.title}", "(α of ΔW x, ω of W Δx, u of ΔW Δx)"))
    if len(set(given.each)) > 1:
        each = zip(scaling.keys, given.each, strict=True)
        rows = _together((key, (str(a.update), str(a.features), str(a.both))) for key, a in each)
        yield Grid([["parameters", "α", "ω", "u"], *(line for same, cells in rows for line in _row(same, cells))])
    yield Lines([f"note: {note}" for note in given.notes])
    for name, table in scaling.tables.items():
        yield Heading(f"-- {name} --") if len(scaling.tables) > 1 else Lines((), apart=True)
        yield _figures(table.raw, table.constants, _outputs(table), _held(table), "larger rates blow up")
        yield Lines((_features(table),))
    if equivalent:
        yield from _equivalent(scaling)
    for name, table in scaling.compared.items():
        yield Heading(f"{name}: {_features(table)}")
        yield _figures(table.raw, table.constants, _outputs(table), _held(table), "larger rates blow up")


def _held(table: Table) -> dict[str, tuple[str, ...]]:
    return {name: ((table.held or {}).get(name, "nothing"),) for name in table.rows}


def _features(table: Table) -> str:
    if table.features == NOTHING:
        return "no features move"
    return f"features move by {order(Fraction(table.features))}"


def _blocks(scaling: Scaling, equivalent: bool) -> Iterator[Block]:
    if scaling.alignments is not None:
        yield from _aligned(scaling, scaling.alignments, equivalent)
        return
    yield Heading(f"{scaling.network.source.name}: parametrization {scaling.main.parametrization}", main=True)
    for name, table in scaling.tables.items():
        yield Heading(f"-- {name} --") if len(scaling.tables) > 1 else Lines((), apart=True)
        yield from _parameters(table, described=True)
        yield from _reasons(table)
        yield from _class(table)
    if equivalent:
        yield from _equivalent(scaling)
    for name, table in scaling.compared.items():
        yield Heading(f"{name}: {table.verdict.regime.value}, r = {table.verdict.r}; {_answers(table)}")
        if name == "standard":
            yield Lines(("all hyperparameters constant, 1/√fan-in at initialisation",), inset=True)
        yield from _parameters(table, described=False)
        yield Lines([*_problems(table), *table.verdict.notes], inset=True)


def _equivalent(scaling: Scaling) -> Iterator[Block]:
    for title, rows in scaling.equivalent().items():
        yield Heading(f"equivalent: {title}")
        yield _figures(dict(rows))


# -- figures ---------------------------------------------------------------------------------------------------------
def _parameters(table: Table, described: bool) -> Iterator[Block]:
    """The figures, and, if `described`, the role of each parameter and the effect of its updates."""
    more = {name: (row.parameter.role, _moved(table, name)) for name, row in table.rows.items()}
    heads = ("is", "its update moves its output by")
    yield _figures(table.raw, table.constants, _outputs(table), more if described else None, *heads)
    if described and any(table.constants.values()):
        yield Lines(("factors are width ratios and initial standard deviations",))


def _outputs(table: Table) -> dict[str, Fraction]:
    return {name: row.output for name, row in table.rows.items() if row.output is not None}


def _moved(table: Table, name: str) -> str:
    moved = moves(table.rows[name], table)
    return "nothing" if moved is None else order(moved)


def _figures(
    rows: Mapping[str, Raw],
    constants: Mapping[str, Mapping[str, float]] | None = None,
    outputs: Mapping[str, Fraction] | None = None,
    more: Mapping[str, tuple[str, ...]] | None = None,
    *heads: str,
) -> Grid:
    head, *body = figure_cells(rows, constants, outputs)
    cells = {name: (*row, *(more[name] if more else ())) for name, *row in body}
    names = ["parameters", *head[1:], *(heads if more else [])]
    return Grid([names, *(line for same, row in _together(cells.items()) for line in _row(same, row))])


def _row(names: list[str], cells: tuple[str, ...]) -> Iterator[list[str]]:
    """A row; its names may need more than one line."""
    first, *others = _broken(names)
    yield [first, *cells]
    yield from ([other, *("" for _ in cells)] for other in others)


def _broken(names: list[str]) -> list[str]:
    lines = [""]
    for k, name in enumerate(names):
        piece = name + "," * (k < len(names) - 1)
        if lines[-1] and len(lines[-1]) + 1 + len(piece) > _NAMES:
            lines.append(piece)
        else:
            lines[-1] = f"{lines[-1]} {piece}".strip()
    return lines


def _together(pairs: Iterable[tuple[str, Key]]) -> list[tuple[list[str], Key]]:
    """Names by what they share, in the order of the first of each group."""
    found: dict[Key, list[str]] = {}
    for name, key in pairs:
        found.setdefault(key, []).append(name)
    return [(names, key) for key, names in found.items()]


# -- sentences -------------------------------------------------------------------------------------------------------
def _reasons(table: Table) -> Iterator[Block]:
    """Why each figure is what it is, once for all parameters with the same reason."""
    given = [
        (name, (figure, why))
        for name, raw in table.raw.items()
        for figure, why in raw.reasons.items()
        if figure != "multiplier" or raw["multiplier"] != 0
    ]
    figures = list(dict.fromkeys(figure for _, (figure, _) in given))
    groups = sorted(_together(given), key=lambda group: figures.index(group[1][0]))
    yield Lines([_reason(names, *key) for names, key in groups], apart=True)
    yield Lines(
        [
            f"{name}: {row.parameter.role}; multiply the sums of the brackets it reads out by {power(row.output)}."
            for name, row in table.rows.items()
            if row.output is not None
        ]
    )


def _reason(names: list[str], figure: str, why: str) -> str:
    """One sentence; of several weights it speaks as of one, W."""
    return f"{', '.join(names)}, {figure}: {re.sub(WEIGHT, names[0], why) if len(names) == 1 else why}."


def _class(table: Table) -> Iterator[Block]:
    verdict = table.verdict
    failing = [
        f"{question.value}: {condition}"
        for question, answer in verdict.answers.items()
        if answer is False
        for condition in verdict.deciding(question)
    ]
    yield Lines((_answers(table),))
    yield Lines(failing, inset=True)
    yield Lines((f"class: {verdict.regime.value}, r = {verdict.r}",))
    yield Lines((verdict.reason,), inset=True)
    yield Lines(verdict.notes)


def _answers(table: Table) -> str:
    return ", ".join(f"{question.value}: {WORDS[answer]}" for question, answer in table.verdict.answers.items())


def _problems(table: Table) -> Iterator[str]:
    for names, what in _together((problem.name, problem.what) for problem in table.verdict.problems):
        for one, several in _PLURALS if len(names) > 1 else ():
            what = what.replace(one, several, 1) if what.startswith(one) else what
        yield f"{', '.join(names)} {what}"
