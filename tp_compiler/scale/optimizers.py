"""Optimizers, one row each: how large a step is, and which hyperparameters scale with the gradient.

A layer's raw gradient is G = Σ_b δ_b x_bᵀ over a batch of fixed size. Three exponents say how large it is
(`GradientSize`); a row turns them into the exponent u of Δw x for learning rate 1, and into those of eps or damping. A
learning rate n^(−r − u) then moves the layer's output by n^-r.

Sources: TP IVb 2.1, 2.2; Ishikawa and Karakida (arXiv 2312.12226), Prop. 4.1 and Table 1, for K-FAC and Shampoo; Qiu et
al. (arXiv 2512.05620), Table 1, for Shampoo with any powers and Muon; Liu et al. (arXiv 2102.07227) for Nero.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from tp_compiler.ir.shape_factors import FACTORS, IN_TORCH, SideLength
from tp_compiler.scale.numbers import HALF, Exponent, exact, power

ZERO, ONE = Fraction(0), Fraction(1)


class ParameterKind(StrEnum):
    """The sizes that a parameter connects: n is any width; inputs and outputs have fixed size."""

    INPUT = "input"  #: fixed to n
    EMBEDDING = "embedding"  #: fixed to n, its inputs one-hot
    BIAS = "bias"  #: a vector of n entries: input weights whose input is the constant 1
    HIDDEN = "matrix"  #: n to n
    OUTPUT = "output"  #: n to fixed
    SCALAR = "scalar"  #: of fixed size: a lone number, the readout's bias

    @property
    def reads_features(self) -> bool:
        """The layer sums over n inputs."""
        return self in (ParameterKind.HIDDEN, ParameterKind.OUTPUT)

    @property
    def writes_features(self) -> bool:
        """The layer has n outputs."""
        return self not in (ParameterKind.OUTPUT, ParameterKind.SCALAR)


@dataclass(frozen=True)
class GradientSize:
    """Exponents: an entry of δ is n^entry, the eigenvalues |δ|² of Σ δδᵀ are n^signals, |x|² of Σ xxᵀ are n^inputs.

    `weight`: an entry of w is n^weight.
    """

    entry: Fraction
    signals: Fraction
    inputs: Fraction
    weight: Fraction = ZERO

    @classmethod
    def of(
        cls, kind: ParameterKind, readout: Fraction, multiplier: Fraction = ZERO, weight: Fraction = ZERO
    ) -> GradientSize:
        """At a layer W = n^multiplier w, where an entry of the readout is n^-readout (TP IVb 2.8.1 for the entries)."""
        entry = multiplier - (readout if kind.writes_features else ZERO)
        return cls(entry, 2 * entry + kind.writes_features, Fraction(kind.reads_features), weight)


@dataclass(frozen=True)
class OptimizerScaling:
    """A row. Decoupled weight decay (w ← (1 − lr·weight_decay) w) is offered where `decays`."""

    name: str
    source: str
    decays: bool = False

    def step(self, g: GradientSize) -> Fraction:
        """The exponent of Δw x for learning rate 1."""
        raise NotImplementedError

    def why(self, g: GradientSize) -> str:
        """The same as a sentence."""
        raise NotImplementedError

    def scales(self, g: GradientSize) -> dict[str, tuple[Fraction, str]]:
        """Hyperparameters that are added to something of the gradient: exponent and reason."""
        return {}


@dataclass(frozen=True)
class EntrywiseOptimizer(OptimizerScaling):
    """Q acts on entries and has a degree: TP IVb 2.1."""

    degree: Fraction = ONE
    eps: int = 0  #: eps is added to this power of a gradient entry; 0: no eps
    inverse: str = ""  #: a hyperparameter that is compared with 1 over a gradient entry

    def step(self, g: GradientSize) -> Fraction:
        return self.degree * g.entry + g.inputs

    def why(self, g: GradientSize) -> str:
        entry = self.degree * g.entry
        what = f"gradient entries are {power(g.entry)}, those of an update {power(entry)}"
        return what + (f", and n of them add up, aligned with the inputs: {power(entry + 1)}" if g.inputs else "")

    def scales(self, g: GradientSize) -> dict[str, tuple[Fraction, str]]:
        if self.inverse:
            size, why = (
                -g.entry,
                f"{self.inverse} times a squared gradient is compared with a gradient entry, which is {power(g.entry)}",
            )
            return {"eps": (g.entry, f"eps is added to that product, {power(g.entry)}"), self.inverse: (size, why)}
        if not self.eps:
            return {}
        entry = "a gradient entry" if self.eps == 1 else "the square of a gradient entry"
        return {"eps": (self.eps * g.entry, f"eps is added to {entry}, which is {power(self.eps * g.entry)}")}


@dataclass(frozen=True)
class RescaledOptimizer(OptimizerScaling):
    """Any entrywise Q: the gradient is multiplied by `gradient`, so that Q receives and returns Θ(1) entries."""

    def step(self, g: GradientSize) -> Fraction:
        return g.inputs

    def why(self, g: GradientSize) -> str:
        what = f"gradient entries times {power(-g.entry)} are 1, and so are those of an update"
        return what + (f"; n of them add up, aligned with the inputs: {power(g.inputs)}" if g.inputs else "")

    def scales(self, g: GradientSize) -> dict[str, tuple[Fraction, str]]:
        return {
            "gradient": (
                -g.entry,
                f"the optimizer receives {power(-g.entry)} times the gradient, whose entries are then 1",
            )
        }


@dataclass(frozen=True)
class Untrained(OptimizerScaling):
    """No optimizer: the parameter stays as it was drawn."""


@dataclass(frozen=True)
class Factored(OptimizerScaling):
    """(B + ρ_B)^-e_B G (A + ρ_A)^-e_A with A = Σ xxᵀ and B = Σ δδᵀ over the batch: K-FAC (1, 1), FOOF (0, 1)."""

    left: Fraction = ONE
    right: Fraction = ONE

    def step(self, g: GradientSize) -> Fraction:
        return g.entry - self.left * g.signals + (1 - self.right) * g.inputs

    def why(self, g: GradientSize) -> str:
        return (
            f"Δw x is δ |x|² (|δ|²)^-({self.left}) (|x|²)^-({self.right}), where δ is {power(g.entry)}, "
            f"|δ|² {power(g.signals)} and |x|² {power(g.inputs)}: {power(self.step(g))}"
        )

    def scales(self, g: GradientSize) -> dict[str, tuple[Fraction, str]]:
        found = {}
        if self.left:
            found["damping_left"] = (g.signals, f"eigenvalues of Σ δδᵀ are |δ|², {power(g.signals)}")
        if self.right:
            found["damping_right"] = (g.inputs, f"eigenvalues of Σ xxᵀ are |x|², {power(g.inputs)}")
        return found


@dataclass(frozen=True)
class SpectralOptimizer(OptimizerScaling):
    """(GGᵀ + ρ)^-e_L G (GᵀG + ρ)^-e_R: Shampoo; only s = e_L + e_R matters. Muon is s = 1/2 without damping."""

    left: Fraction = Fraction(1, 4)
    right: Fraction = Fraction(1, 4)
    damped: bool = True

    def step(self, g: GradientSize) -> Fraction:
        return g.entry + g.inputs - (self.left + self.right) * (g.signals + g.inputs)

    def why(self, g: GradientSize) -> str:
        return (
            f"Δw x is δ |x|² (|δ|² |x|²)^-({self.left + self.right}), where δ is {power(g.entry)}, "
            f"|δ|² {power(g.signals)} and |x|² {power(g.inputs)}: {power(self.step(g))}"
        )

    def scales(self, g: GradientSize) -> dict[str, tuple[Fraction, str]]:
        size = g.signals + g.inputs
        if not self.damped or self.left + self.right == 0:
            return {}
        return {"damping": (size, f"eigenvalues of GGᵀ are |δ|² |x|², {power(size)}")}


@dataclass(frozen=True)
class ScaledOptimizer(SpectralOptimizer):
    """Muon whose implementation multiplies its step by a factor of rows and columns (ir/shape_factors.py)."""

    left: Fraction = HALF
    right: Fraction = ZERO
    damped: bool = False
    scale: str = "natural"

    def step(self, g: GradientSize) -> Fraction:
        return super().step(g) + self.factor(g)

    def factor(self, g: GradientSize) -> Fraction:
        rows, cols = (SideLength(power, 1.0) for power in (g.signals - 2 * g.entry, g.inputs))
        return FACTORS[self.scale](rows, cols).power

    def why(self, g: GradientSize) -> str:
        if self.scale == "natural":
            return super().why(g)
        within = f"times {power(self.factor(g))} for `{self.scale}`"
        return f"{super().why(g).rpartition(': ')[0]}, {within}: {power(self.step(g))}"


def _polar_entries(g: GradientSize) -> tuple[Fraction, str]:
    """What is added to entries of a polar factor of bounded rank, or to root mean squares of its rows."""
    size = -(g.signals - 2 * g.entry + g.inputs) / 2
    return size, f"eps is added to entries of the polar factor, 1/√(rows · columns): {power(size)}"


@dataclass(frozen=True)
class NormalizedRows(ScaledOptimizer):
    """NorMuon: the rows of Muon's step divided by their sizes, at the same norm."""

    def scales(self, g: GradientSize) -> dict[str, tuple[Fraction, str]]:
        return {"eps": _polar_entries(g)}


@dataclass(frozen=True)
class NormalizedEntries(SpectralOptimizer):
    """AdaMuon: the entries of Muon's step divided by their sizes, at a fixed root mean square."""

    left: Fraction = HALF
    right: Fraction = ZERO

    def step(self, g: GradientSize) -> Fraction:
        return g.inputs

    def why(self, g: GradientSize) -> str:
        what = "entries of an update are 1"
        return what + (f", and n of them add up, aligned with the inputs: {power(g.inputs)}" if g.inputs else "")

    def scales(self, g: GradientSize) -> dict[str, tuple[Fraction, str]]:
        return {"eps": _polar_entries(g)}


@dataclass(frozen=True)
class Rotated(SpectralOptimizer):
    """SOAP: Adam in the eigenbases of GGᵀ and GᵀG, where the entries of G are of the size of its singular values."""

    left: Fraction = HALF
    right: Fraction = ZERO

    def scales(self, g: GradientSize) -> dict[str, tuple[Fraction, str]]:
        size = (g.signals + g.inputs) / 2
        return {"eps": (size, f"eps is added to singular values of G, which are |δ| |x|, {power(size)}")}


@dataclass(frozen=True)
class Homogeneous(OptimizerScaling):
    """An optimizer of the program, homogeneous in its gradient |δ><x|: `whole` operators with singular values |δ|^signals |x|^inputs,
    or entries of that degree. `added`: hyperparameters, with the degrees of what they are added to."""

    signals: Fraction = ONE
    inputs: Fraction = ONE
    added: tuple[tuple[str, Fraction, Fraction], ...] = ()
    whole: bool = True
    factored: bool = False

    def _size(self, g: GradientSize, signals: Fraction, inputs: Fraction) -> Fraction:
        return (signals * g.signals + inputs * g.inputs) / 2 if self.whole else signals * g.entry

    def step(self, g: GradientSize) -> Fraction:
        along = g.entry - g.signals / 2 + g.inputs / 2 if self.whole else g.inputs
        return self._size(g, self.signals, self.inputs) + along

    def why(self, g: GradientSize) -> str:
        if not self.whole:
            entry = self._size(g, self.signals, self.inputs)
            return f"of degree {self.signals}: gradient entries are {power(g.entry)}, those of an update {power(entry)}"
        return (
            f"Δw x is δ |x|² |δ|^({self.signals - 1}) |x|^({self.inputs - 1}), where δ is {power(g.entry)}, "
            f"|δ|² {power(g.signals)} and |x|² {power(g.inputs)}: {power(self.step(g))}"
        )

    def scales(self, g: GradientSize) -> dict[str, tuple[Fraction, str]]:
        found = {}
        for name, signals, inputs in self.added:
            size = self._size(g, signals, inputs)
            beside = f"|δ|^({signals}) |x|^({inputs})" if self.whole else f"the power {signals} of a gradient entry"
            found[name] = (size, f"{name} is added to {beside}, which is {power(size)}")
        return found


@dataclass(frozen=True)
class Rotational(OptimizerScaling):
    """Nero: rows of unit norm, each turned by an angle lr."""

    def step(self, g: GradientSize) -> Fraction:
        return g.inputs / 2

    def why(self, g: GradientSize) -> str:
        return f"a row turns by lr in the direction of x, and |x| is {power(g.inputs / 2)}"


@dataclass(frozen=True)
class Relative(OptimizerScaling):
    """Steps proportional to the weights (norm(p) times a direction of norm 1): LARS, LAMB, Adafactor.

    `eps` and `beside`: what is added to a gradient entry, and what is compared with the size of the weights.
    """

    eps: str = ""
    beside: str = ""

    def step(self, g: GradientSize) -> Fraction:
        return g.weight + g.inputs

    def why(self, g: GradientSize) -> str:
        what = f"entries of an update are as large as those of w, {power(g.weight)}"
        return what + (f", and n of them add up, aligned with the inputs: {power(self.step(g))}" if g.inputs else "")

    def scales(self, g: GradientSize) -> dict[str, tuple[Fraction, str]]:
        found = {}
        if self.eps:
            found[self.eps] = (g.entry, f"{self.eps} is added to a gradient entry, which is {power(g.entry)}")
        if self.beside:
            found[self.beside] = (g.weight, f"{self.beside} is compared with the size of w, {power(g.weight)}")
        return found


@dataclass(frozen=True)
class SelfTuned(OptimizerScaling):
    """Prodigy with an estimate d for every tensor: what the loss has gained over the sum of the gradient's entries, as the step's size."""

    def _distance(self, g: GradientSize) -> Fraction:
        return -(g.entry + (g.signals - 2 * g.entry) + g.inputs)

    def step(self, g: GradientSize) -> Fraction:
        return self._distance(g) + g.inputs

    def why(self, g: GradientSize) -> str:
        d = self._distance(g)
        what = f"d is 1 over the sum of the gradient's entries, {power(d)}, and so are the entries of an update"
        return what + (f"; n of them add up, aligned with the inputs: {power(self.step(g))}" if g.inputs else "")

    def scales(self, g: GradientSize) -> dict[str, tuple[Fraction, str]]:
        d = self._distance(g)
        return {
            "eps": (g.entry, f"eps is added to a gradient entry, which is {power(g.entry)}"),
            "d0": (d, f"d begins with d0, and is {power(d)}"),
            "weight_decay": (-d, f"each step removes the fraction lr·d·weight_decay of w, where d is {power(d)}"),
        }


def foreign(optimizer: OptimizerScaling) -> str | None:
    """The factor that the usual implementation lacks: torch.optim.Muon has two, the authors of others have `original`."""
    if not isinstance(optimizer, ScaledOptimizer) or optimizer.scale == "natural":
        return None
    known = IN_TORCH if optimizer.name == "Muon" else IN_TORCH[:1]
    return None if optimizer.scale in known else optimizer.scale


def _entrywise(
    name: str, degree: int, source: str, eps: int = 0, decays: bool = False, inverse: str = ""
) -> EntrywiseOptimizer:
    return EntrywiseOptimizer(name, source, decays, Fraction(degree), eps, inverse)


def shampoo(left: Exponent = "1/4", right: Exponent | None = None) -> SpectralOptimizer:
    """Shampoo with any powers; one of them may be 0."""
    powers = exact(left), exact(left if right is None else right)
    return SpectralOptimizer("Shampoo", "Qiu et al. Table 1; Ishikawa and Karakida Table 1 (s = 1/2)", False, *powers)


def kfac(left: Exponent = 1, right: Exponent = 1) -> Factored:
    """K-FAC with any powers: left on the gradients' factor B, right on the inputs' factor A."""
    return Factored("KFAC", "Ishikawa and Karakida Prop. 4.1, Table 1", False, exact(left), exact(right))


#: Of a readout that nothing updates.
UNTRAINED = Untrained("none", "")

_ROWS = (
    _entrywise("SGD", 1, "TP IVb 2.1; TP V Table 3", decays=True),
    _entrywise("Momentum", 1, "TP IVb 2.1: linear in the gradients", decays=True),
    _entrywise("Adam", 0, "TP IVb 2.1; TP V Table 3", eps=1),
    _entrywise("AdamW", 0, "TP IVb 2.1, 2.10.1", eps=1, decays=True),
    _entrywise("NAdam", 0, "TP IVb 2.1", eps=1),
    _entrywise("Adamax", 0, "TP IVb 2.1", eps=1),
    _entrywise("RMSprop", 0, "TP IVb 2.1", eps=1),
    _entrywise("Adagrad", 0, "TP IVb 2.1", eps=1),
    _entrywise("AMSGrad", 0, "TP IVb 2.1", eps=1),
    _entrywise("Adadelta", 1, "linear in the gradients if eps scales as their squares: TP IVb 2.1", eps=2),
    _entrywise("Rprop", 0, "a function of the gradients' signs: TP IVb 2.1 applies"),
    _entrywise("SignSGD", 0, "TP IVb 2.1", decays=True),
    _entrywise("Signum", 0, "TP IVb 2.1: the sign of a linear function", decays=True),
    _entrywise("Lion", 0, "a function of the gradients' signs: TP IVb 2.1 applies", decays=True),
    _entrywise("AdamAtan2", 0, "Everett et al. (arXiv 2407.05872); TP IVb 2.1", decays=True),
    _entrywise("ADOPT", 0, "TP IVb 2.1", eps=1),
    _entrywise("SGDScheduleFree", 1, "TP IVb 2.1: linear in the gradients", decays=True),
    _entrywise("AdamWScheduleFree", 0, "TP IVb 2.1", eps=1, decays=True),
    _entrywise("Sophia", 0, "clipped at 1: TP IVb 2.1", eps=1, decays=True, inverse="rho"),
    kfac(),
    Factored("FOOF", "Ishikawa and Karakida Table 1 with e_B = 0", False, ZERO, ONE),
    shampoo(),
    ScaledOptimizer("Muon", "Qiu et al. Table 1: s = 1/2", True),
    NormalizedRows(
        "NorMuon", "Muon's, whose norm it keeps; derived, and compared with raw networks in the tests", True
    ),
    NormalizedEntries("AdaMuon", "entries of a fixed root mean square: TP IVb 2.1, Adam's", True),
    Rotated("SOAP", "Qiu et al. Table 1, with one block for all", True),
    Relative("LARS", "TP IVb 2.10.2; TP V B.3", True),
    Relative("LAMB", "TP IVb 2.10.2; TP V B.3", True, "eps"),
    Relative("Adafactor", "TP IVb 2.1 (a nonlinear outer product), 2.10.2", True, "eps1", "eps2"),
    SelfTuned("Prodigy", "derived: what the loss gains does not depend on units; raw networks in the tests"),
    Rotational("Nero", "Liu et al.; exponents derived and measured in the tests"),
)

#: The rows by name.
OPTIMIZERS: dict[str, OptimizerScaling] = {row.name: row for row in _ROWS}
