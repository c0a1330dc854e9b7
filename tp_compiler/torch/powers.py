"""Scales of n: every tensor of the module is n^power times what the program computes; outputs and activations need power 0."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction

from tp_compiler.torch.calls import HIDDEN
from tp_compiler.torch.declarations import power_text
from tp_compiler.torch.dimensions import leaves
from tp_compiler.torch.refusals import Untraceable, at, refusal
from tp_compiler.torch.steps import (
    Across,
    Constants,
    Contraction,
    Figure,
    Lookup,
    Pieces,
    Pointwise,
    Reduction,
    Step,
    View,
    Weight,
    Windows,
)

HALF = Fraction(1, 2)


class Again(Exception):
    """A parameter was found to vanish, or a bracket to be of the scale of the central limit theorem: start again."""


class Scales:
    """The power of every step, found once all dimensions are known."""

    def __init__(self, declared: Callable[[Weight], Fraction]):
        self._declared = declared
        self._known: dict[Step, Fraction] = {}

    def of(self, term: View | Figure) -> Fraction:
        if isinstance(term, Figure):
            return term.power
        return self._known[term.step] + sum((f.power for f in term.factors), Fraction(0))

    def see(self, step: Step) -> None:
        """Finds the power of a step whose operands are known."""
        with at(step.path, step.label):
            _check_hidden(step)
            self._known[step] = self._power(step)

    def _power(self, step: Step) -> Fraction:
        match step:
            case Weight():
                return self._declared(step)
            case Constants():
                return Fraction(0)
            case Pointwise():
                return self._pointwise(step)
            case Contraction():
                total = self.of(step.left) + self.of(step.right) + width_sums(step) + step.scale.power
                return total - HALF if step.random else total
            case Reduction():
                return self._reduction(step)
            case Across():
                if step.function in ("softmax", "layernorm", "rmsnorm"):
                    self._settled(step.operand, step)
                    return Fraction(0)
                return self.of(step.operand)
            case Lookup() | Windows():
                return self.of(step.operands[0])
            case Pieces():
                return self._common(step.operands, step)
        raise AssertionError(step)

    def _reduction(self, step: Reduction) -> Fraction:
        if step.function == "logsumexp":
            self._settled(step.operand, step)
        grown = [p for k in step.over for p in leaves(step.operand.groups[k]) if p.dimension.is_width]
        return self.of(step.operand) + (len(grown) if step.function == "sum" else 0)

    def _pointwise(self, step: Pointwise) -> Fraction:
        terms = step.arguments
        match step.rule.split():
            case ["same"]:
                return self._common(terms, step)
            case ["chosen"]:
                return self._common(terms[:2], step)
            case ["first"] | ["even"]:
                return self.of(terms[0])
            case ["product"]:
                return sum(map(self.of, terms), Fraction(0))
            case ["quotient"]:
                return self.of(terms[0]) - self.of(terms[1])
            case ["power", exponent]:
                return self.of(terms[0]) * Fraction(exponent)
        for term in terms:
            self._settled(term, step)
        return Fraction(0)

    def _common(self, terms: list[View] | list[View | Figure], step: Step) -> Fraction:
        """The power of terms that are added. Smaller parameters vanish; brackets of size n^(1/2) are `clt` brackets."""
        relevant = [t for t in terms if not _has_any_size(t)] or [Figure(0.0)]
        powers = {self.of(t) for t in relevant}
        if len(powers) == 1:
            return powers.pop()
        highest, second = sorted(powers, reverse=True)[:2]
        self._lower([t for t in relevant if self.of(t) == highest], highest - max(second, Fraction(0)))
        for term in relevant:
            if self.of(term) == HALF and isinstance(term, View) and self._random(term):
                raise Again
        for term in relevant:
            if self.of(term) < highest and isinstance(term, View) and self._vanishes(term):
                raise Again
        sizes = " + ".join(power_text(p) for p in sorted(powers, reverse=True))
        raise refusal(
            "NX710",
            f"in `{step.path or 'the module'}`, `{step.label}` adds terms of sizes {sizes} at initialisation",
            "give them one size: scale the smaller one up or the larger one down by a power of the width",
        )

    def _lower(self, terms: Sequence[View | Figure], by: Fraction) -> None:
        """Starts again if all of these terms are readouts that start at 0: these have no power of their own, and take muP's."""
        if by > 0 and all([isinstance(term, View) and self._lowered(term, by) for term in terms]):
            raise Again

    def _lowered(self, view: View, by: Fraction) -> bool:
        """Lowers the powers of the readouts in a term; False if not all of them start at 0."""
        step = view.step
        if isinstance(step, Contraction) and width_sums(step):
            weight = next((v.step for v in step.operands if isinstance(v.step, Weight) and v.step.is_zero), None)
            if weight is not None:
                weight.power -= by
            return weight is not None
        if isinstance(step, Pieces) or (isinstance(step, Pointwise) and step.rule in ("same", "chosen")):
            relevant = [v for v in step.operands if not _has_any_size(v)]
            highest = max(map(self.of, relevant), default=None)
            return all([self._lowered(v, by) for v in relevant if self.of(v) == highest])
        if isinstance(step, Pointwise):
            return step.rule in ("first", "even", "product", "quotient") and any(
                self._lowered(v, by) for v in step.operands[: None if step.rule == "product" else 1]
            )
        return isinstance(step, Reduction | Windows) and all([self._lowered(v, by) for v in step.operands])

    def _vanishes(self, term: View) -> bool:
        """Makes the parameters that keep a term small start at 0; False if it is small for another reason."""
        step = term.step
        if isinstance(step, Weight) and not step.vanishes and not term.is_matrix and self._declared(step) < 0:
            step.vanishes = True
            return True
        if isinstance(step, Pointwise) and step.rule in ("same", "product", "even", "chosen"):
            small = [v for v in step.operands if self.of(v) < 0]
            return any([self._vanishes(v) for v in small])
        if isinstance(step, Lookup | Pieces | Windows):
            return any([self._vanishes(v) for v in step.operands if self.of(v) < 0])
        return self._recurrent(term)

    def _recurrent(self, term: View) -> bool:
        """Makes weights of recurrent layers start at 0 if they alone keep a term small: PyTorch draws them all from n^(-1/2)."""
        weights = self._small(term)
        if not weights or not all(_RECURRENT.search(weight.name) for weight in weights):
            return False
        for weight in weights:
            weight.vanishes = True
        return True

    def _small(self, term: View) -> set[Weight]:
        """The parameters that keep a term small, apart from those that sum over neurons."""
        step = term.step
        if isinstance(step, Weight):
            return set() if step.vanishes or term.is_matrix or self._declared(step) >= 0 else {step}
        summed = isinstance(step, Contraction) and width_sums(step) > 0
        operands = [v for v in step.operands if self.of(v) < 0 and not (summed and isinstance(v.step, Weight))]
        return set().union(*map(self._small, operands))

    def _random(self, view: View) -> bool:
        """Turns the brackets in a tensor of size n^(1/2) into `clt` brackets; False if it has none."""
        step = view.step
        if isinstance(step, Contraction) and width_sums(step) and not step.random:
            step.random = True
            return True
        if isinstance(step, Pointwise):
            rule = step.rule
            if rule in ("same", "chosen", "even", "first"):
                highest = max(map(self.of, step.operands))
                return any([self._random(v) for v in step.operands if self.of(v) == highest])
            return rule in ("product", "quotient") and any(map(self._random, step.operands))
        if isinstance(step, Reduction | Lookup | Pieces | Windows):
            return any([self._random(v) for v in step.operands])
        return False

    def _settled(self, term: View | Figure, step: Step) -> None:
        """Refuses an argument of a function that is not of order one."""
        power = self.of(term)
        self._lower([term], power)
        if power == HALF and isinstance(term, View) and self._random(term):
            raise Again
        if power < 0 and isinstance(term, View) and self._recurrent(term):
            raise Again
        if power:
            raise refusal(
                "NX710",
                f"in `{step.path or 'the module'}`, the argument of `{step.label}` has size {power_text(power)} at "
                f"initialisation: {'too large' if power > 0 else 'it vanishes'}",
                _REMEDIES.get(step.label, "scale it by a power of the width so that its entries are of order one"),
            )

    def output(self, name: str, view: View) -> None:
        """Refuses an output that is not of order one."""
        if isinstance(view.step, Pointwise) and view.step.hides:
            raise refusal(
                "NX708", f"output `{name}` has entries of minus infinity", "mask logits directly before softmax"
            )
        power = self.of(view)
        self._lower([view], power)
        if power == HALF and self._random(view):
            raise Again
        if power:
            step = view.step
            advice = (
                f"divide by it: multiply the output by n^({-power}), as muP does with tied readouts (for an untied one, let the "
                "std of the readout fall as 1/n)"
                if power > 0
                else f"multiply the output by n^({-power})"
            )
            raise refusal(
                "NX710",
                f"output `{name}` (`{step.label}` in `{step.path or 'the module'}`) has size {power_text(power)} at "
                f"initialisation: {'too large' if power > 0 else 'it vanishes'}",
                advice,
            )


def _check_hidden(step: Step) -> None:
    """Entries of minus infinity are written as -1e9: only softmax and logsumexp, and sums before them, may see them."""
    hidden = any(isinstance(v.step, Pointwise) and v.step.hides for v in step.operands)
    softmax = isinstance(step, Across | Reduction) and step.function in ("softmax", "logsumexp")
    passes = isinstance(step, Pointwise) and step.rule in ("same", "chosen", "first")
    if hidden and not softmax and not passes:
        raise Untraceable("NX703", "it is applied to entries of minus infinity", "mask logits directly before softmax")


def _has_any_size(term: View | Figure) -> bool:
    """0, and the logits of what is hidden."""
    value = term.value if isinstance(term, Figure) else term.constant
    return value is not None and (value == 0 or value <= HIDDEN)


#: Parameters of nn.RNN, nn.LSTM, nn.GRU and their cells.
_RECURRENT = re.compile(r"(^|\.)(weight|bias)_(ih|hh)")

_REMEDIES = {
    "scaled_dot_product_attention": "the logits must be of order one: muP scales them by 1/d, not 1/sqrt(d)",
    "softmax": "the logits must be of order one: muP scales attention by 1/d and divides readouts by n",
}


def width_sums(step: Contraction) -> int:
    """1 if a bracket sums over a width, without a matrix in between."""
    if step.left.is_matrix or step.right.is_matrix:
        return 0
    one, other, result = step.labels
    found = 0
    for label in dict.fromkeys(one + other):
        if label not in result:
            groups = [v.groups[s.index(label)] for v, s in ((step.left, one), (step.right, other)) if label in s]
            present = next((leaves(g) for g in groups if leaves(g)), [])
            found += sum(p.dimension.is_width for p in present)
    return found
