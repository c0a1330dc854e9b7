"""What a module computes, as steps on named dimensions: what the walk of its graph makes, and what is written as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from tp_compiler.torch.dimensions import Dimension, Group, Leaf, Sizes, leaves, sizes, unify, whole
from tp_compiler.torch.refusals import Untraceable


@dataclass(frozen=True)
class Figure:
    """A number that the module computes from its width: c n^power."""

    value: float
    power: Fraction = Fraction(0)


def figure(one: float, other: float, widths: Sizes) -> Figure:
    """The power of n that a number follows, from its values at two widths."""
    if one == other:
        return Figure(one)
    if one * other > 0 and math.isfinite(one) and math.isfinite(other):
        power = Fraction(round(4 * math.log(other / one) / math.log(widths[1] / widths[0])), 4)
        value = one * widths[0] ** float(-power)
        off = abs(value * widths[1] ** float(power) / other - 1)
        if off < 1e-9:
            return Figure(float(f"{value:.15g}"), power)
        if off < 2e-7:  # single precision
            return Figure(float(f"{value:.6g}"), power)
    raise Untraceable(
        "NX705",
        f"a number is {one:.6g} at n = {widths[0]} and {other:.6g} at n = {widths[1]}: not a constant times a power of n",
        "write it as a power of the width, or keep it constant",
    )


@dataclass(eq=False)
class Step:
    """One tensor: its own dimensions (`slots`), how torch sees them, and the module and operation that computed it."""

    slots: list[Dimension]
    groups: list[Group]
    path: str = field(default="", init=False)
    label: str = field(default="", init=False)
    role: str = field(default="", init=False)  # what it is inside its operation

    @property
    def operands(self) -> list[View]:
        return []


def own_leaves(step: Step) -> list[Leaf]:
    """The dimensions of a step, as far as they have been refined."""
    return [leaf for k, slot in enumerate(step.slots) for leaf in Leaf(k, slot).leaves()]


@dataclass(eq=False)
class View:
    """A step as a tensor of torch: dimensions in another order, joined, split, repeated, or fixed at a position."""

    step: Step
    groups: list[Group]
    fixed: tuple[tuple[Leaf, int], ...] = ()
    factors: tuple[Figure, ...] = ()

    def regrouped(self, groups: list[Group]) -> View:
        return replace(self, groups=groups)

    def times(self, factor: Figure) -> View:
        return replace(self, factors=(*self.factors, factor))

    def inserted(self, dim: int) -> View:
        """With a new dimension of size 1."""
        return self.regrouped([*self.groups[:dim], [], *self.groups[dim:]])

    @property
    def constant(self) -> float | None:
        """The number that all entries are, if they are known to be alike."""
        if isinstance(self.step, Constants) and not self.step.slots:
            return float(self.step.values) * math.prod(f.value for f in self.factors)
        return None

    @property
    def is_matrix(self) -> bool:
        """Has it entries over two widths?"""
        return sum(leaf.dimension.is_width for slot in self.step.groups for leaf in leaves(slot)) > 1

    @property
    def shape(self) -> list[Sizes]:
        return [sizes(leaves(group)) for group in self.groups]


@dataclass(eq=False)
class Weight(Step):
    """A parameter of the module, or a table along the width that it keeps in a buffer."""

    name: str
    values: tuple[Any, Any]
    frozen: bool = False  # requires no gradient
    vanishes: bool = False
    table: bool = False
    power: Fraction = Fraction(0)  # of a readout that starts at 0, whose initial values have none

    @property
    def is_zero(self) -> bool:
        """Does it start at 0, at both widths?"""
        return not any(bool(values.any()) for values in self.values)


@dataclass(eq=False)
class Constants(Step):
    """Numbers that depend neither on parameters nor on the width: inputs, positions, masks."""

    values: Any
    name: str


@dataclass(eq=False)
class Pointwise(Step):
    """A function entry by entry. `rule` says what becomes of powers of n: same, product, quotient, even or none."""

    rule: str
    write: Callable[..., tuple[str, int]]
    arguments: list[View | Figure]
    hides: bool = False

    @property
    def operands(self) -> list[View]:
        return [a for a in self.arguments if isinstance(a, View)]


@dataclass(eq=False)
class Contraction(Step):
    """Products of the entries of two tensors, summed over the dimensions that the result does not have."""

    left: View
    right: View
    labels: tuple[str, str, str]  # of the dimensions of left, right and result, as in einsum
    scale: Figure = Figure(1.0)
    random: bool = False

    @property
    def operands(self) -> list[View]:
        return [self.left, self.right]


@dataclass(eq=False)
class Reduction(Step):
    """sum, mean, max, ... over dimensions that then are gone."""

    function: str
    operand: View
    over: list[int]

    @property
    def operands(self) -> list[View]:
        return [self.operand]


@dataclass(eq=False)
class Across(Step):
    """softmax, normalisation: functions over dimensions that remain."""

    function: str
    operand: View
    over: list[int]
    eps: float = 0.0

    @property
    def operands(self) -> list[View]:
        return [self.operand]


@dataclass(eq=False)
class Lookup(Step):
    """Entries along a dimension at positions that are data."""

    operand: View
    dim: int
    positions: Constants

    @property
    def operands(self) -> list[View]:
        return [self.operand]


@dataclass(eq=False)
class Windows(Step):
    """Windows of a dimension: unfold."""

    operand: View
    dim: int  # becomes two: positions of the windows, and within them
    stride: int
    padding: int

    @property
    def operands(self) -> list[View]:
        return [self.operand]


@dataclass(eq=False)
class Pieces(Step):
    """Tensors one after another along a finite dimension."""

    pieces: list[View]
    dim: int

    @property
    def operands(self) -> list[View]:
        return self.pieces


def joint(aligned: Sequence[Group]) -> list[tuple[Dimension, bool]]:
    """The leaves of dimensions that operands share (none if they have size 1), and whether an operand depends on each."""
    present = [group for group in aligned if leaves(group)]
    if not present:
        return []
    for group in present[1:]:
        unify(present[0], group)
    for group in present[1:]:  # what a later operand refined
        unify(present[0], group)
    found = []
    for places in zip(*(leaves(group) for group in present), strict=True):
        found.append((places[0].dimension, any(place.slot is not None for place in places)))
    return found


def own(shared: Sequence[list[tuple[Dimension, bool]]]) -> tuple[list[Dimension], list[Group]]:
    """Slots of a new step, and the dimensions of its tensor, from those that its operands share."""
    slots: list[Dimension] = []
    groups = []
    for group in shared:
        places = []
        for dimension, carried in group:
            places.append(Leaf(len(slots) if carried else None, dimension))
            if carried:
                slots.append(dimension)
        groups.append(places)
    return slots, groups


def fresh(shape: Sequence[Sizes]) -> tuple[list[Dimension], list[Group]]:
    """Slots of a step with dimensions of its own, and the dimensions of its tensor."""
    return own([[] if s == (1, 1) else [(Dimension(s), True)] for s in shape])


def called(role: str, view: View) -> View:
    """A part of an operation, by which its statement is named."""
    view.step.role = view.step.role or role
    return view


def seen(step: Step) -> View:
    return View(step, step.groups)


def repeated(value: float, shape: Sequence[Sizes]) -> View:
    """A tensor of equal entries."""
    return View(Constants([], [], value, "constant"), [whole(s, None) for s in shape])
