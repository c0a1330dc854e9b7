"""Exponents for a raw implementation: init std, learning rate, eps and damping at width n.

Forwards, `raw`: from an abcd-parametrization to the values for one parameter. Backwards, `classify_raw`: from the
values of an existing network to its class; `raw_sizes(..).moves` says what goes wrong with it, and with which
power.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tp_compiler.scale.abcd import Layer, Sizes
from tp_compiler.scale.numbers import Exponent, difference, exact, order, power
from tp_compiler.scale.optimizers import (
    OPTIMIZERS,
    EntrywiseOptimizer,
    GradientSize,
    OptimizerScaling,
    ParameterKind,
    Rotational,
    Untrained,
)
from tp_compiler.scale.points import Point
from tp_compiler.scale.verdict import Classification, Condition, Question, judge


@dataclass(frozen=True)
class Raw:
    """Powers of n, by the names that implementations use, each with a reason that can be checked by hand."""

    kind: ParameterKind
    optimizer: str
    figures: dict[str, Fraction]
    reasons: dict[str, str] = field(repr=False)

    def __getitem__(self, name: str) -> Fraction:
        if name not in self.figures:
            raise KeyError(f"{self.optimizer} has no figure {name!r}; its figures are {', '.join(self.figures)}")
        return self.figures[name]

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """For IPython."""
        printer.text(str(self))

    def __str__(self) -> str:
        powers = ", ".join(f"{name} = {power(value)}" for name, value in self.figures.items())
        return f"{self.kind.value}, {self.optimizer}: {powers}"

    def as_json(self) -> dict[str, str]:
        """A row of `parameters` of `tpc scale --json`."""
        figures = {name: str(value) for name, value in self.figures.items()}
        return {"kind": self.kind.value, "optimizer": self.optimizer, **figures}


def raw(
    point: Point, kind: ParameterKind | str, optimizer: OptimizerScaling | str, multiplier: Exponent | None = None
) -> Raw:
    """The scaling values of one parameter W = n^multiplier w at a point, where w is the tensor that is optimized.

    `multiplier` is 0 unless given: any value gives an equivalent row of the table (TP IVb (2.5)). Nero fixes the
    size of w, and so its multiplier. Entrywise optimizers use c and d exactly; the others have no d, so
    the layer must be faithful (`faithful_d`), and the values give each layer its r_l. Gradients are those during training, when
    the readout is as large as its updates make it.
    """
    kind, row = ParameterKind(kind), _row(optimizer)
    if isinstance(row, Rotational):
        if multiplier is not None:
            raise ValueError(f"{row.name} keeps rows at unit norm, which fixes the multiplier")
        return _constrained(point, kind, row)
    layer = _layer(point, kind)
    scale = exact(multiplier or 0)
    shifted = layer.shifted(-scale - layer.a)
    figures, reasons = {"init_std": -shifted.b}, {"init_std": _init_reason(kind, layer, scale)}
    g = GradientSize.of(kind, _readout(point), scale, -shifted.b)
    if isinstance(row, Untrained):
        return Raw(kind, row.name, figures | {"multiplier": scale}, reasons)
    if isinstance(row, EntrywiseOptimizer):
        figures["lr"] = row.degree * shifted.d - shifted.c
        if row.eps:
            figures["eps"] = -row.eps * shifted.d
            _, reasons["eps"] = row.scales(g)["eps"]
            if shifted.d != -g.entry:
                drowned = "dominates" if shifted.d < -g.entry else "has no effect"
                reasons["eps"] += f"; the parametrization uses {power(figures['eps'])}, so eps {drowned} as n grows"
        if row.inverse:
            figures[row.inverse] = shifted.d
            _, reasons[row.inverse] = row.scales(g)[row.inverse]
    else:
        _demand_faithful(point, kind, row)
        figures["lr"] = -_wanted(kind, layer) - row.step(g) - scale
        for name, (size, why) in row.scales(g).items():
            figures[name], reasons[name] = size, why
    reasons["lr"] = _lr_reason(row, g, scale, figures["lr"])
    if row.decays:
        figures["weight_decay"] = -figures["lr"]
        reasons["weight_decay"] = "each step removes the fraction lr·weight_decay of w, which must not depend on n"
    figures["multiplier"] = scale
    reasons["multiplier"] = f"W is {power(scale)} times the tensor w that is optimized"
    return Raw(kind, row.name, figures, reasons)


def raw_sizes(
    init_std: Sequence[Exponent],
    lr: Sequence[Exponent],
    optimizer: OptimizerScaling | str,
    multiplier: Sequence[Exponent] | None = None,
    first: bool = False,
) -> Sizes:
    """The sizes of a raw perceptron, layers from input to output, from its powers of n.

    eps and damping are assumed to scale with what they are added to. `first`: sizes in the first step of
    training.
    """
    row = _row(optimizer)
    stds, rates = [exact(x) for x in init_std], [exact(x) for x in lr]
    scales = [exact(x) for x in multiplier or [0] * len(stds)]
    if not 2 <= len(stds) == len(rates) == len(scales):
        raise ValueError("give one exponent per layer, from the input layer to the output layer")
    kinds = (ParameterKind.INPUT, *[ParameterKind.HIDDEN] * (len(stds) - 2), ParameterKind.OUTPUT)
    init = tuple(-std - scale for std, scale in zip(stds, scales, strict=True))
    last = -rates[-1] - row.step(GradientSize.of(ParameterKind.OUTPUT, Fraction(0), scales[-1], stds[-1])) - scales[-1]
    readout = init[-1] if first else min(init[-1], last + 1)
    r, how = [], []
    for k, (kind, rate, scale) in enumerate(zip(kinds, rates, scales, strict=True), 1):
        step = row.step(GradientSize.of(kind, readout, scale, stds[k - 1])) + scale
        r.append(-rate - step)
        how.append(f"r_{k} = -lr - step = {difference(-rate, step)} = {r[-1]}")
    return Sizes(init, tuple(r), tuple(how), first)


def classify_raw(
    init_std: Sequence[Exponent],
    lr: Sequence[Exponent],
    optimizer: OptimizerScaling | str,
    multiplier: Sequence[Exponent] | None = None,
) -> Classification:
    """The class of a raw perceptron; r_l = −(power of its learning rate) − (power of Δw x at learning rate 1)."""
    row = _row(optimizer)
    text = f"eps and damping of {row.name} are assumed to scale with what they are added to"
    scaled = Condition(Question.FAITHFUL, f"[{row.source}]", True, text)
    return judge(raw_sizes(init_std, lr, row, multiplier), (scaled,))


def _row(optimizer: OptimizerScaling | str) -> OptimizerScaling:
    if isinstance(optimizer, OptimizerScaling):
        return optimizer
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {optimizer}; the optimizers are {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[optimizer]


def _layer(point: Point, kind: ParameterKind) -> Layer:
    rows = {ParameterKind.HIDDEN: point.hidden, ParameterKind.OUTPUT: point.output, ParameterKind.SCALAR: point.scalar}
    return rows.get(kind, point.input)


def _wanted(kind: ParameterKind, layer: Layer) -> Fraction:
    """r_l of the layer (TP IVb Def 2.8.5); a bias and an embedding are input weights."""
    return layer.a + layer.c - kind.reads_features


def _readout(point: Point) -> Fraction:
    """An entry of the readout is n^-this, once it is trained."""
    return point.output.a + min(point.output.b, point.output.c)


def faithful_d(point: Point, kind: ParameterKind, layer: Layer) -> Fraction:
    """The d at which the inputs of Q are Θ(1) in training (TP IVb (2.26))."""
    return layer.a + (_readout(point) if kind.writes_features else 0)


def _demand_faithful(point: Point, kind: ParameterKind, row: OptimizerScaling) -> None:
    """The figures of a layer rest on its own d."""
    layer = _layer(point, kind)
    wanted = faithful_d(point, kind, layer)
    if layer.d != wanted:
        of = "a + the readout's size" if kind.writes_features else "a"
        message = f"{row.name} has no exponent d, so its row must be faithful: d = {of} = {wanted}, not {layer.d}"
        raise ValueError(message)


def _init_reason(kind: ParameterKind, layer: Layer, scale: Fraction) -> str:
    size = layer.a + layer.b
    what = f"an entry of W is {power(-size)}"
    if kind == ParameterKind.HIDDEN:
        what += ", so that a sum of n independent terms is Θ(1)"
    return what + (f"; W is {power(scale)} w" if scale else "")


def _lr_reason(row: OptimizerScaling, g: GradientSize, scale: Fraction, lr: Fraction) -> str:
    moved = lr + row.step(g) + scale
    through = f", or {power(row.step(g) + scale)} with the multiplier" if scale else ""
    return f"{row.why(g)}{through}; lr = {power(lr)} makes the update move the layer's output by {order(moved)}"


#: Kinds with rows, which Nero keeps at unit norm.
_ROWS = (ParameterKind.INPUT, ParameterKind.EMBEDDING, ParameterKind.HIDDEN, ParameterKind.OUTPUT)


def _constrained(point: Point, kind: ParameterKind, row: Rotational) -> Raw:
    """Rows of unit norm: an entry of w is |x|^-1 for a layer that sums over the n entries of x."""
    _demand_faithful(point, kind, row)
    layer = _layer(point, kind)
    g = GradientSize.of(kind, _readout(point))
    std = -g.inputs / 2
    scale = -(layer.a + layer.b) - std
    lr = -_wanted(kind, layer) - row.step(g) - scale
    reasons = {
        "init_std": f"rows of unit norm have entries {power(std)}" if kind in _ROWS else "its size is constant",
        "lr": _lr_reason(row, g, scale, lr),
        "multiplier": f"an entry of W is {power(-(layer.a + layer.b))}, and one of w is {power(std)}",
    }
    return Raw(kind, row.name, {"init_std": std, "lr": lr, "multiplier": scale}, reasons)
