"""The types of the intermediate representation: named finite axes, width classes, neuron slots.

Every value is an array over zero or more *named finite indices* (batch, token, head ...) and zero or more
*slots*. A slot stands for one neuron index of width n (or of another width class): a scalar has no slot, a ket
has slot 0, and the body of `E[1](psi(|x>, |y>@1))` has the slots 0 and 1 (Tensor Programs IVb, Def 2.6.1: the
tuple (x_alpha; x_beta1; ...; x_betar) of OuterNonlin).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Axis:
    """A finite axis. Axes are nominal: `name` (its first index name) distinguishes axes of equal size."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Index:
    """An index name ranging over an axis; two indices of one axis (`i, j`) are different dimensions."""

    name: str
    axis: Axis

    def __hash__(self) -> int:
        return hash(self.name)  # quick: indices are keys everywhere

    @property
    def size(self) -> int:
        return self.axis.size


@dataclass(frozen=True, slots=True)
class Width:
    """A width class: `ratio` is lim m/n; the default class `n` has ratio 1."""

    name: str
    ratio: float


N = Width("n", 1.0)


@dataclass(frozen=True, slots=True)
class Type:
    """Indices in array order, and the slots (slot number, width class) in ascending order.

    `random` marks scalars (and kets) that depend on the value of a `clt` scalar: their limit is a random
    variable on top of the ket's own randomness.
    """

    indices: tuple[Index, ...] = ()
    slots: tuple[tuple[int, Width], ...] = ()
    random: bool = False

    @property
    def is_scalar(self) -> bool:
        return not self.slots

    @property
    def is_ket(self) -> bool:
        return len(self.slots) == 1 and self.slots[0][0] == 0

    @property
    def width(self) -> Width:
        """The width class of a ket."""
        assert self.is_ket
        return self.slots[0][1]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(index.size for index in self.indices)

    def size(self) -> int:
        """The number of kets (or scalars) in the family."""
        product = 1
        for index in self.indices:
            product *= index.size
        return product
