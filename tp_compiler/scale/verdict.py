"""The class of an abcd-parametrization, with the inequality that decides each verdict (TP IVb Thm 2.8.12).

For homogeneous Q (SGD, Adam without eps) d can be chosen faithful first; with degree 1 the theorem is then TP IV
Thm 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from tp_compiler.scale.abcd import Layer, Sizes, checked, needed_d, sizes
from tp_compiler.scale.numbers import HALF, Exponent, exact, order, total


class Regime(StrEnum):
    """The behaviour of training at infinite width."""

    FEATURE_LEARNING = "feature-learning"
    OPERATOR = "operator"
    TRIVIAL = "trivial"
    UNSTABLE = "unstable"
    UNFAITHFUL = "unfaithful"


class Question(StrEnum):
    """The questions, in the order in which they are asked."""

    INIT = "stable at initialisation"
    FAITHFUL = "faithful"
    STABLE = "stable"
    NONTRIVIAL = "nontrivial"
    FEATURES = "features move"


@dataclass(frozen=True)
class Condition:
    """One inequality of the theorem: whether it holds, and a sentence with its numbers."""

    question: Question
    source: str
    holds: bool
    text: str

    def __str__(self) -> str:
        return f"{self.text} {self.source}"


class Verdict:
    """The class that conditions, in the order of the theorem, amount to; `r`: features move by n^-r."""

    conditions: tuple[Condition, ...]
    r: Fraction

    def _holds(self, question: Question) -> bool:
        return all(c.holds for c in self.conditions if c.question == question)

    @property
    def stable_at_init(self) -> bool:
        """h and x are Θ(1) and f is O(1) before training."""
        return self._holds(Question.INIT)

    @property
    def faithful(self) -> bool:
        """The inputs of every Q are Θ(1)."""
        return self._holds(Question.FAITHFUL)

    @property
    def stable(self) -> bool | None:
        """h, x and f stay O(1); None if the parametrization is unfaithful, in which case the theorem does not apply."""
        if not self.stable_at_init:
            return False
        return self._holds(Question.STABLE) if self.faithful else None

    @property
    def nontrivial(self) -> bool | None:
        """f moves by Θ(1); None unless stable."""
        return self._holds(Question.NONTRIVIAL) if self.stable else None

    @property
    def answers(self) -> dict[Question, bool | None]:
        """The questions about stability, faithfulness and triviality with their answers, in order."""
        return {
            Question.INIT: self.stable_at_init,
            Question.FAITHFUL: self.faithful,
            Question.STABLE: self.stable,
            Question.NONTRIVIAL: self.nontrivial,
        }

    @property
    def regime(self) -> Regime:
        """Exactly one (the Dynamical Dichotomy, TP IVb 2.8, splits the stable and nontrivial)."""
        if self.stable is False:
            return Regime.UNSTABLE
        if not self.faithful:
            return Regime.UNFAITHFUL
        if not self.nontrivial:
            return Regime.TRIVIAL
        return Regime.FEATURE_LEARNING if self._holds(Question.FEATURES) else Regime.OPERATOR

    @property
    def reason(self) -> str:
        """The conditions that decided the regime."""
        asked = {
            Regime.UNSTABLE: Question.STABLE if self.stable_at_init else Question.INIT,
            Regime.UNFAITHFUL: Question.FAITHFUL,
            Regime.TRIVIAL: Question.NONTRIVIAL,
        }.get(self.regime, Question.FEATURES)
        return self.why(asked)

    def deciding(self, question: Question) -> tuple[Condition, ...]:
        """The conditions that answer one question: those that fail, or all if all hold."""
        asked = [c for c in self.conditions if c.question == question]
        return tuple([c for c in asked if not c.holds] or asked)

    def why(self, question: Question) -> str:
        """The same in words."""
        return "; ".join(str(c) for c in self.deciding(question))

    def as_json(self) -> dict[str, object]:
        """The object `class` of `tpc scale --json`."""
        return {
            "stable": self.stable,
            "nontrivial": self.nontrivial,
            "faithful": self.faithful,
            "regime": self.regime.value,
            "r": str(self.r),
        }


@dataclass(frozen=True)
class Classification(Verdict):
    """The class of a perceptron, with the sizes that it rests on."""

    sizes: Sizes
    conditions: tuple[Condition, ...]

    @property
    def r(self) -> Fraction:  # type: ignore[override]
        """r = min of r_1, .., r_L: features move by n^-r."""
        return self.sizes.overall

    @property
    def feature_layers(self) -> tuple[int, ...]:
        """The hidden layers whose features move by Θ(1); where features are learnt, the last layers."""
        return tuple(k for k in range(1, self.sizes.hidden + 1) if self.sizes.upto(k) == 0)

    @property
    def maximal(self) -> tuple[bool, ...]:
        """Layer by layer, whether its update is as large as stability allows: r_l = 0 (TP IV section 5)."""
        return tuple(r == 0 for r in self.sizes.r)


def classify(layers: Sequence[Layer], homogeneity: Exponent | None = None) -> Classification:
    """The class of a parametrization, layers from input to output.

    `homogeneity`: the degree p of Q(kg) = k^p Q(g). 1: SGD, also with momentum. 0: Adam, sign and the like, with eps
    vanishing or scaled with the gradient. None: any Q; then d must be as (2.26) says.
    """
    layers = checked(layers)
    found = sizes(layers, homogeneity)
    if homogeneity is None:
        return judge(found, _d_as_needed(layers), strict=True)
    degree = exact(homogeneity)
    text = f"Q is homogeneous of degree {degree}: " + (
        f"any d is equivalent to the faithful d* with c + {degree}·(d* - d) as c" if degree else "d has no effect"
    )
    return judge(found, (Condition(Question.FAITHFUL, "[TP IVb Rem. 2.2.4, 2.2.6]", True, text),))


def judge(found: Sizes, faithfulness: tuple[Condition, ...], strict: bool = False) -> Classification:
    """The class that sizes have. `strict`: Q is not homogeneous, so that the readout must not grow (b <= c)."""
    if strict:
        faithfulness += (_readout_keeps_its_size(found),)
    rest = (*_stable(found), _nontrivial(found), _features(found))
    return Classification(found, (*_at_init(found), *faithfulness, *rest))


def _at_init(found: Sizes) -> tuple[Condition, ...]:
    source, conditions = "[TP IVb (2.25)]", []
    for k, size in enumerate(found.init, 1):
        what = f"a_{k} + b_{k} = {size}"
        if k > found.hidden:
            text = f"{what} {'>=' if size >= HALF else '<'} 1/2: f is {order(HALF - size)} at initialisation"
            conditions.append(Condition(Question.INIT, source, size >= HALF, text))
            continue
        wanted = Fraction(0) if k == 1 else HALF
        text = f"{what}{'' if size == wanted else f', not {wanted}'}: h^{k} is {order(wanted - size)} at initialisation"
        conditions.append(Condition(Question.INIT, source, size == wanted, text))
    return tuple(conditions)


def _d_as_needed(layers: Sequence[Layer]) -> tuple[Condition, ...]:
    last, conditions = layers[-1], []
    for k, (layer, d) in enumerate(zip(layers, needed_d(layers), strict=True), 1):
        terms = (layer.a,) if layer is last else (layer.a, last.a, last.b)
        names = f"a_{k}" if layer is last else f"a_{k} + a_{len(layers)} + b_{len(layers)}"
        filled = f"{names} = {total(*terms)}" + (f" = {d}" if len(terms) > 1 else "")
        text = (
            f"d_{k} = {layer.d} {'=' if layer.d == d else '≠'} {filled}: the inputs of Q_{k} are {order(layer.d - d)}"
        )
        conditions.append(Condition(Question.FAITHFUL, "[TP IVb (2.26)]", layer.d == d, text))
    return tuple(conditions)


def _readout_keeps_its_size(found: Sizes) -> Condition:
    k, c = found.hidden + 1, found.r[-1] + 1
    holds = found.init[-1] <= c
    sign, then = (
        ("<=", "updates do not outgrow it") if holds else (">", "updates outgrow it, and gradients grow with it")
    )
    text = f"a_{k} + b_{k} = {found.init[-1]} {sign} a_{k} + c_{k} = {c}: W^{k} is {order(-found.init[-1])} and {then}"
    return Condition(Question.FAITHFUL, "[TP IVb (2.27)]", holds, text)


def _stable(found: Sizes) -> tuple[Condition, ...]:
    source, out = "[TP IVb (2.27)]", found.hidden + 1
    conditions = []
    for k, (r, how) in enumerate(zip(found.r, found.how, strict=True), 1):
        what = "f" if k == out else f"h^{k}"
        text = f"{how} {'>=' if r >= 0 else '<'} 0: updates of W^{k} move {what} by {order(-r)}"
        conditions.append(Condition(Question.STABLE, source, r >= 0, text))
    carried = found.init[-1] + found.overall
    sign = ">=" if carried >= 1 else "<"
    text = (
        f"a_{out} + b_{out} + r = {total(found.init[-1], found.overall)} = {carried} {sign} 1: "
        f"features that move by {order(-found.overall)} move f by {order(1 - carried)}"
    )
    return (*conditions, Condition(Question.STABLE, source, carried >= 1, text))


def _nontrivial(found: Sizes) -> Condition:
    out, moved, carried = found.hidden + 1, found.r[-1] + 1, found.init[-1] + found.overall
    ways = []
    if moved == 1:
        ways.append(f"a_{out} + c_{out} = 1: updates of W^{out} move f by Θ(1)")
    if carried == 1:
        ways.append(f"a_{out} + b_{out} + r = 1: the features move f by Θ(1)")
    text = " and ".join(ways) or (
        f"a_{out} + c_{out} = {moved} ≠ 1 and a_{out} + b_{out} + r = {carried} ≠ 1: f does not move"
    )
    return Condition(Question.NONTRIVIAL, "[TP IVb (2.28)]", bool(ways), text)


def _features(found: Sizes) -> Condition:
    """r = 0: feature learning; r > 0: the operator regime."""
    inner = ", ".join(f"r_{k}" for k in range(1, found.hidden + 1))
    numbers = ", ".join(str(r) for r in found.r[:-1])
    r = found.overall
    text = f"r = min({inner}) = min({numbers}) = {r}: features move by {order(-r)}"
    return Condition(Question.FEATURES, "[TP IVb 2.8]", r == 0, text)
