"""How a parameter of the module is declared: as kets, matrices or trained scalars, with its law and its power of n."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from tp_compiler.torch.dimensions import Leaf, Sizes, ratio
from tp_compiler.torch.laws import Fill
from tp_compiler.torch.refusals import Untraceable
from tp_compiler.torch.steps import Figure, Weight, figure, own_leaves


@dataclass(eq=False)
class Declaration:
    """`raw entries = n^power × what the text declares`."""

    kind: str  # ket, matrix, scalar
    families: list[Leaf]
    widths: list[Leaf]
    start: Fill | None = None  # in natural units; None: the values of the module
    power: Fraction = Fraction(0)
    notes: list[str] = field(default_factory=list)
    values: np.ndarray | None = (
        None  # of a ket: a number for each member of the family, or rows (row, family) to draw from
    )

    @property
    def law(self) -> str:
        """As the language has it; nothing for given values."""
        return "" if self.start is None else self.start.text(self.kind == "matrix")


#: What starts at 0.
ZERO = Fill("constant", 0.0, 0.0)


def declare(
    weight: Weight, laws: tuple[Fill, Fill], widths: Sizes, base: int, factors: Sequence[tuple[Figure, ...]]
) -> Declaration:
    """The declaration of a parameter.

    base      the width at which the law of a matrix is read if it does not fall as n^-1/2
    factors   numbers that every use of it multiplies it by
    """
    found = own_leaves(weight)
    growing = [p for p in found if p.dimension.is_width]
    families = [p for p in found if not p.dimension.is_width]
    notes = []
    if "measured" in (laws[0].kind, laws[1].kind):
        notes.append(
            f"{weight.name}: its law is measured, since no fill explains it; its entries are taken as independent and Gaussian"
        )
    if len(growing) > 2:
        raise Untraceable(
            "NX704", f"`{weight.name}` has {len(growing)} dimensions that grow", "use matrices and vectors"
        )
    kind = ("scalar", "ket", "matrix")[len(growing)]
    made = Declaration(kind, families, growing, notes=notes)
    if kind == "ket" and laws[0].kind == laws[1].kind == "measured" and _tabulated(made, weight, widths):
        return made
    if kind == "matrix":
        _matrix(made, weight, laws, widths, base, factors)
    elif kind == "ket":
        _ket(made, weight, laws, widths)
    else:
        _scalar(made, weight, laws, widths)
    return made


def _tabulated(made: Declaration, weight: Weight, widths: Sizes) -> bool:
    """Takes the entries themselves if they are the same for all neurons, and those of a frozen table as a law."""
    ratio(made.widths[0].dimension, widths)
    one, other = (_by_neuron(weight, side) for side in (0, 1))
    if (one == one[:1]).all() and (other == other[:1]).all() and np.array_equal(one[0], other[0]):
        made.values = one[0]
    elif weight.table:
        made.values = _quantiles(one, other)
        if made.values is None:
            raise Untraceable(
                "NX705", f"the entries of `{weight.name}` grow or fall with the width", "keep tables of one scale"
            )
    else:
        return False
    made.notes = [
        f"{weight.name}: "
        + (
            f"a table along the width; a neuron has one of its {len(made.values)} values at random"
            if weight.table
            else "its entries are the same for all neurons, and are kept"
        )
    ]
    return True


def _by_neuron(weight: Weight, side: int) -> np.ndarray:
    """Entries at one width: neurons first, then the family."""
    places = own_leaves(weight)
    values = np.asarray(weight.values[side].double()).reshape([p.dimension.sizes[side] for p in places])
    (k,) = [k for k, p in enumerate(places) if p.dimension.is_width]
    return np.moveaxis(values, k, 0)


def _quantiles(one: np.ndarray, other: np.ndarray, count: int = 256) -> np.ndarray | None:
    """Rows that neurons draw from: those of the larger width, or finer ones of a geometric series, as rotary frequencies are."""
    if other.ndim == 1 and len(one) > 2 and min(one.min(), other.min()) > 0:
        steps = [np.diff(np.log(x)) for x in (one, other)]
        first, second = (len(x) * float(s[0]) for x, s in zip((one, other), steps, strict=True))
        if all(np.allclose(s, s[0], rtol=1e-4) for s in steps) and abs(first - second) <= 1e-4 * abs(second):
            return np.asarray(other[0] * np.exp(second * (np.arange(count) + 0.5) / count))
    return other if 0.8 < np.mean(one**2) / np.mean(other**2) < 1.25 else None


def std_of(laws: tuple[Fill, Fill], widths: Sizes) -> Figure:
    """The standard deviation as a power of n; a measured one to the nearest half."""
    one, other = laws
    if "measured" in (one.kind, other.kind):
        power = Fraction(round(2 * math.log(other.std / one.std) / math.log(widths[1] / widths[0])), 2)
        return Figure(float(f"{one.std * widths[0] ** -float(power):.4g}"), power)
    return figure(one.std, other.std, widths)


def _matrix(
    made: Declaration,
    weight: Weight,
    laws: tuple[Fill, Fill],
    widths: Sizes,
    base: int,
    factors: Sequence[tuple[Figure, ...]],
) -> None:
    columns = ratio(made.widths[1].dimension, widths)
    ratio(made.widths[0].dimension, widths)
    if any(abs(law.mean) > 0 for law in laws):
        raise Untraceable(
            "NX705", f"the entries of `{weight.name}` have mean {laws[0].mean:.3g}", "draw matrices with mean 0"
        )
    if laws[0].std == laws[1].std == 0:
        made.start = ZERO
        return
    std = std_of(laws, widths)
    power = std.power + Fraction(1, 2)
    if power and not all(sum((f.power for f in use), Fraction(0)) == -power for use in factors):
        raw = std.value * base ** float(std.power)
        made.start = Fill("normal", 0.0, raw * math.sqrt(base * columns))
        made.notes.append(
            f"{weight.name}: its std is {raw:.4g} at n = {base} and goes as {power_text(std.power)}, not n^(-1/2); its variance is "
            f"read at n = {base} (muP: keep std * sqrt(fan-in) constant)"
        )
        return
    made.power = power
    made.start = Fill("normal", 0.0, std.value * math.sqrt(columns))


def law_at(laws: tuple[Fill, Fill], widths: Sizes, width: int) -> Fill:
    """The law at a width, as powers of n between those at two."""
    if width in widths:
        return laws[widths.index(width)]
    one, other = laws
    if "measured" in (one.kind, other.kind) or one.kind != other.kind:
        std = std_of((replace(one, kind="measured"), other), widths) if one.std and other.std else Figure(0.0)
        return Fill("measured", one.mean, std.value * width ** float(std.power))
    first, second = (figure(a, b, widths) for a, b in ((one.first, other.first), (one.second, other.second)))
    return Fill(one.kind, *(f.value * width ** float(f.power) for f in (first, second)))


def _ket(made: Declaration, weight: Weight, laws: tuple[Fill, Fill], widths: Sizes) -> None:
    ratio(made.widths[0].dimension, widths)
    if weight.vanishes or all(law.std == 0 == law.mean for law in laws):
        made.start, made.power = ZERO, weight.power
        if weight.vanishes:
            made.notes.append(
                f"{weight.name}: its initial value vanishes beside what it is added to: 0 in the limit, and trained"
            )
        return
    one, other = laws
    if one.kind != other.kind:
        raise Untraceable(
            "NX705", f"the law of `{weight.name}` is {one.kind}, then {other.kind}", "use one law at all widths"
        )
    if one.kind == "constant":
        value = figure(one.first, other.first, widths)
        made.start, made.power = Fill("constant", value.value, 0.0), value.power
        return
    if one.kind == "measured":
        _alike(weight)
        std = std_of(laws, widths)
        first, second = Figure(0.0 if abs(one.mean) < 1e-3 * one.std else one.mean), std
    else:
        first, second = (figure(a, b, widths) for a, b in ((one.first, other.first), (one.second, other.second)))
    powers = {f.power for f in (first, second) if f.value}
    if len(powers) != 1:
        raise Untraceable(
            "NX705", f"mean and spread of `{weight.name}` go as different powers of n", "draw it at one scale"
        )
    (made.power,) = powers
    made.start = Fill("uniform" if one.kind == "uniform" else "normal", first.value, second.value)


def _alike(weight: Weight) -> None:
    """Refuses a measured law if some rows are 0 and others are not, as those of a padding token."""
    values = weight.values[0]
    if any(bool((values.abs().amax(dim=k) == 0).any()) for k in range(values.ndim) if values.ndim > 1):
        raise Untraceable(
            "NX705",
            f"some rows of `{weight.name}` are 0 and others are drawn",
            "draw all rows alike (an embedding without `padding_idx`), or put the rows into separate parameters",
        )


def _scalar(made: Declaration, weight: Weight, laws: tuple[Fill, Fill], widths: Sizes) -> None:
    one, other = laws
    constant = one.kind == other.kind == "constant"
    value = figure(one.first, other.first, widths) if constant else Figure(math.nan, std_of(laws, widths).power)
    if value.power > 0:
        raise Untraceable("NX705", f"`{weight.name}` grows as {power_text(value.power)}", "draw it at one scale")
    if value.power < 0:
        made.start = ZERO
        made.notes.append(
            f"{weight.name}: starts at {power_text(value.power)}, which vanishes: 0 in the limit, and trained"
        )
    else:
        made.start = None if math.isnan(value.value) else Fill("constant", value.value, 0.0)
        if made.start is None:
            made.notes.append(
                f"{weight.name}: has no width; its initial values are those of the module at n = {widths[0]}"
            )


def power_text(power: Fraction) -> str:
    return f"n^{power}" if power.denominator == 1 and power >= 0 else f"n^({power})"
