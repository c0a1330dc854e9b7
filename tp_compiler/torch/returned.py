"""What modules return, and what softmax is applied to, as quantities of the program: the rows of a coordinate check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tp_compiler.torch.powers import width_sums
from tp_compiler.torch.steps import (
    Across,
    Contraction,
    Lookup,
    Pieces,
    Pointwise,
    Reduction,
    Step,
    View,
    Windows,
    own_leaves,
)

#: What is added to the name of a module for the logits of its attention, and other arguments of softmax.
LOGITS = " (logits)"


@dataclass(frozen=True)
class Returned:
    """n^power times a quantity of the program: a ket, or a number. `names`: its own and those of multiples of it; none for what
    is written inside another statement."""

    names: tuple[str, ...]
    power: Fraction
    ket: bool
    clt: bool  # a number that contains a bracket over √n


@dataclass(eq=False)
class Results:
    """The text of a module, as far as `returned` needs it."""

    modules: Mapping[str, View]
    outputs: Mapping[str, View]
    live: Sequence[Step]  # those that outputs depend on, operands first
    names: Mapping[Step, str]
    power: Callable[[View], Fraction]

    def returned(self) -> dict[str, Returned]:
        """By the path of the module."""
        called = self._called()
        found = {path: self._one(view, called) for path, view in self.modules.items() if view.step in called}
        for step in self.live:
            if isinstance(step, Across) and step.function == "softmax":
                found[step.path + LOGITS] = self._one(step.operand, called)
        return found

    def _called(self) -> dict[Step, tuple[str, ...]]:
        """The names of every step, and of multiples of it: a program forgets the name of what is only renamed."""
        found: dict[Step, tuple[str, ...]] = {view.step: (name,) for name, view in self.outputs.items()}
        for step in reversed(self.live):
            own = (self.names[step],) if step in self.names else ()
            found[step] = own + found.get(step, ())
            if isinstance(step, Pointwise) and step.rule == "product" and len(step.operands) == 1:
                found.setdefault(step.operands[0].step, found[step])
        return found

    def _one(self, view: View, called: Mapping[Step, tuple[str, ...]]) -> Returned:
        step = view.step
        while isinstance(step, Lookup):
            step = step.operand.step
        ket = _is_ket(step)
        return Returned(called[step], self.power(view), ket, not ket and any(_divided(step)))


def _is_ket(step: Step) -> bool:
    return any(place.dimension.is_width for place in own_leaves(step))


def _divided(step: Step) -> Iterator[bool]:
    """The brackets in sums and multiples that make a number, each with whether it is over √n."""
    if isinstance(step, Contraction) and width_sums(step):
        yield step.random
    elif isinstance(step, Pointwise | Reduction | Lookup | Pieces | Windows | Contraction):
        for view in step.operands:
            if not _is_ket(view.step):
                yield from _divided(view.step)
