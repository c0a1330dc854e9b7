"""The scaling values of every parameter of a program, at a parametrization of the literature or at the program's rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from tp_compiler.diagnostics import Diagnostic, ProgramError
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.model import Exponents, Homogeneity, Member, Trainable
from tp_compiler.ir.shape_factors import NAMES
from tp_compiler.scale.abcd import Layer
from tp_compiler.scale.numbers import HALF, power
from tp_compiler.scale.optimizers import (
    OPTIMIZERS,
    UNTRAINED,
    EntrywiseOptimizer,
    GradientSize,
    Homogeneous,
    OptimizerScaling,
    ParameterKind,
    RescaledOptimizer,
    ScaledOptimizer,
    Untrained,
    kfac,
    shampoo,
)
from tp_compiler.scale.points import POINTS, Point, maximal_update
from tp_compiler.scale.program import NetworkParameter, NetworkReading
from tp_compiler.scale.raw import Raw, faithful_d, raw
from tp_compiler.transform.gradient import Leaf

ZERO = Fraction(0)
#: A parameter, or members of a family: the name, whether it is a ket's, and their positions.
Key = tuple[str, bool, Member]
#: The row of brackets that are read by a ket which enters features, too.
TIED: Key = ("output", False, ())

#: The size of an entry of a parameter in natural units, as a power of n: W = w, |u> = w, |v> = n w.
NATURAL = {ParameterKind.HIDDEN: HALF, ParameterKind.OUTPUT: Fraction(1)}


@dataclass(frozen=True)
class Row:
    """A parameter with its optimizer, its figures, and the power of n at the brackets that it reads, if it is tied.

    `negligible`: eps is next to nothing at every width, as libraries have it.
    """

    parameter: NetworkParameter
    optimizer: OptimizerScaling
    raw: Raw
    output: Fraction | None = None
    negligible: bool = False

    @property
    def size(self) -> Fraction:
        """An entry at initialisation, in natural units."""
        return self.raw["init_std"] + self.raw["multiplier"] + NATURAL.get(self.raw.kind, ZERO)

    def gradient(self, natural: Fraction) -> GradientSize:
        """The raw gradient if the natural one is n^natural."""
        kind = self.raw.kind
        entry = self.raw["multiplier"] + natural - kind.writes_features
        return GradientSize(
            entry, 2 * entry + kind.writes_features, Fraction(kind.reads_features), self.raw["init_std"]
        )

    @property
    def trained(self) -> bool:
        return self.optimizer is not UNTRAINED

    def as_json(self) -> dict[str, str]:
        """A row of `parameters` of `tpc scale --json`."""
        extra = {} if self.output is None else {"output_multiplier": str(self.output)}
        return self.raw.as_json() | extra


Choice = Callable[[Trainable], OptimizerScaling]


def chosen(optimizer: str | None) -> Choice:
    """The optimizer of each parameter: `optimizer` for all, else those of the program."""

    def choose(t: Trainable) -> OptimizerScaling:
        if t.still:
            return UNTRAINED
        name = optimizer or t.optimizer or "Adam"
        if optimizer is None and t.entrywise and (not t.standard or name not in OPTIMIZERS) and t.optimizer:
            return RescaledOptimizer(name, "any function of entries: TP IVb Def 2.2.1 with faithful d")
        if optimizer is None and t.optimizer is not None and not t.standard:
            return _own_optimizer(name, t)
        arguments = t.arguments if optimizer is None else {}
        if name == "Shampoo":
            left = _number(t, arguments, "power")
            return shampoo(*(x for x in (left, _number(t, arguments, "power_right")) if x is not None))
        if name == "KFAC":
            powers = _number(t, arguments, "power_left"), _number(t, arguments, "power_right")
            return kfac(*(Fraction(1) if x is None else x for x in powers))
        if isinstance(row := OPTIMIZERS.get(name), ScaledOptimizer) and "scale" in arguments:
            scale = arguments["scale"]
            assert isinstance(scale, ir.Constant)
            return replace(row, scale=NAMES[int(scale.value)])
        if name not in OPTIMIZERS:
            message = f"the width exponents of the optimizer `{name}` are not known"
            known = ", ".join(OPTIMIZERS)
            remedy = f"run `tpc scale --optimizer NAME` with one that scales the same way: {known}"
            raise ProgramError([Diagnostic("NX601", message, t.span if t.optimizer else None, remedy)])
        return OPTIMIZERS[name]

    return choose


def _own_optimizer(name: str, t: Trainable) -> OptimizerScaling:
    """An optimizer of the program that is not entrywise: its degree is derived from its body."""
    found = t.degree
    if isinstance(found, Homogeneity):
        added = tuple((p, signals, inputs) for p, (signals, inputs) in found.scales.items())
        source = "homogeneous, with the degree of its body"
        return Homogeneous(name, source, found.decays, found.signals, found.inputs, added, found.whole, found.factored)
    message = f"the width exponents of the optimizer `{name}` are not known: {found}"
    remedy = "run `tpc scale --optimizer NAME` with one that scales the same way, for example `Adam`"
    raise ProgramError([Diagnostic("NX601", message, t.span, remedy)])


def _number(t: Trainable, arguments: Mapping[str, ir.Node], name: str) -> Fraction | None:
    """An argument that determines exponents: a constant fraction."""
    node = arguments.get(name)
    if node is None:
        return None
    value = Fraction(node.value).limit_denominator(1000) if isinstance(node, ir.Constant) else None
    if value is None or not isinstance(node, ir.Constant) or abs(value - Fraction(node.value)) > Fraction(1, 10**12):
        message = f"`{name}` of `{t.optimizer}` is not a constant fraction, so width exponents are not known"
        raise ProgramError([Diagnostic("NX601", message, t.span, f"write a number, for example `{name} = 1/4`")])
    return value


def table(reading: NetworkReading, choose: Choice, point: str | Point | None = None) -> list[Row]:
    """The rows of every parameter: at the program's own parametrization, or at a point."""
    network = reading.network
    name = network.parametrization if point is None else point
    if isinstance(name, str) and name == "standard":
        return [_standard(p, choose(p.declared)) for p in reading.parameters]
    if isinstance(name, Point) or name in POINTS:
        at = name if isinstance(name, Point) else POINTS[name]
        return [_row(p, choose(p.declared), at) for p in reading.parameters]
    base = maximal_update()
    readout = next((p.declared for p in reading.parameters if p.kind == ParameterKind.OUTPUT), None)
    output = _own(network.rows, (readout.name, True, readout.member) if readout else TIED, base.output)
    rows = []
    for p in reading.parameters:
        own, optimizer = _own(network.rows, _key(p.declared), _of_kind(base, p.kind)), choose(p.declared)
        at = replace(base, output=own if p.kind == ParameterKind.OUTPUT else output)
        if not has_d(optimizer) and "d" not in given(network.rows, _key(p.declared)):
            own = replace(own, d=faithful_d(at, p.kind, own))
        at = {
            ParameterKind.HIDDEN: replace(at, hidden=own), ParameterKind.OUTPUT: replace(at, output=own),
            ParameterKind.SCALAR: replace(at, scalar=own),
        }.get(p.kind, replace(at, input=own))  # fmt: skip
        rows.append(_row(p, optimizer, at))
    _alike(rows, network.rows)
    return rows


def _key(t: Trainable) -> Key:
    return t.name, t.ket, t.member


def _own(rows: Sequence[Exponents], key: Key, base: Layer) -> Layer:
    """A row of the block: exponents that a member's row leaves out are those of its family, and then muP's."""
    return replace(base, **given(rows, key))


def given(rows: Sequence[Exponents], key: Key) -> dict[str, Fraction]:
    """The exponents that a block gives a parameter."""
    found = sorted((row for row in rows if row.holds(*key)), key=lambda row: row.places)
    return {name: Fraction(x).limit_denominator(1000) for row in found for name, x in row.values.items()}


def has_d(optimizer: OptimizerScaling) -> bool:
    """Do gradients enter it with their own power of n? In matrix optimizers everything added to them scales with them."""
    return isinstance(optimizer, EntrywiseOptimizer | RescaledOptimizer | Untrained)


def left_out(reading: NetworkReading, choose: Choice) -> Iterator[tuple[NetworkParameter, str]]:
    """Rows of the block that give a but omit c or d, and the consequences."""
    network, base = reading.network, maximal_update()
    for p in reading.parameters:
        row, kept = given(network.rows, _key(p.declared)), _of_kind(base, p.kind)
        names = ("c", "d") if has_d(choose(p.declared)) else ("c",)
        missing = [name for name in names if name not in row]
        theta = row.get("a", kept.a) - kept.a
        if theta == 0 or not missing or isinstance(choose(p.declared), Untrained):
            continue
        moved = {"c": kept.c - theta, "d": kept.d + theta}
        usual = ", ".join(f"{name} = {getattr(kept, name)}" for name in missing)
        same = ", ".join(f"{name} = {moved[name]}" for name in names)
        yield (
            p,
            f"it leaves out {' and '.join(missing)}, which keeps muP's {usual}; at this a, muP's updates need {same}",
        )


def _alike(rows: list[Row], exponents: Sequence[Exponents]) -> None:
    """Members of a family may learn differently, but must start alike."""
    first: dict[Leaf, Row] = {}
    for row in rows:
        other = first.setdefault(row.parameter.leaf, row)
        if row.size != other.size:
            at = max(
                (g for g in exponents if g.holds(*_key(row.parameter.declared))), key=lambda g: g.places, default=None
            )
            message = f"`{row.parameter.shown}` and `{other.parameter.shown}` start at different powers of n"
            remedy = "give the members of a family the same a + b"
            raise ProgramError([Diagnostic("NX604", message, at.span if at else None, remedy)])


def _of_kind(point: Point, kind: ParameterKind) -> Layer:
    return {
        ParameterKind.HIDDEN: point.hidden,
        ParameterKind.OUTPUT: point.output,
        ParameterKind.SCALAR: point.scalar,
    }.get(kind, point.input)


def _row(p: NetworkParameter, optimizer: OptimizerScaling, at: Point) -> Row:
    try:
        found = raw(at, p.kind, optimizer)
    except ValueError as problem:
        raise ProgramError(
            [
                Diagnostic(
                    "NX603",
                    f"`{p.shown}`: {problem}",
                    p.declared.span,
                    "leave d out of its row, or use `SGD` or `Adam`",
                )
            ]
        ) from None
    return Row(p, optimizer, found, -at.output.a if p.tied else None)


def _standard(p: NetworkParameter, optimizer: OptimizerScaling) -> Row:
    """The convention of libraries: constant figures, but 1/√fan-in at initialisation."""
    std = -HALF if p.kind.reads_features else ZERO
    g = GradientSize.of(p.kind, HALF, weight=std)
    figures = {"init_std": std} | ({"lr": ZERO} if optimizer is not UNTRAINED else {})
    figures |= {name: ZERO for name in optimizer.scales(g)}
    if optimizer.decays:
        figures["weight_decay"] = ZERO
    reasons = {name: "a constant" for name in figures} | {"init_std": f"1/√fan-in is {power(std)}"}
    figures["multiplier"] = ZERO
    return Row(p, optimizer, Raw(p.kind, optimizer.name, figures, reasons), ZERO if p.tied else None, True)


def strict(row: Row) -> bool:
    """Must eps be as large as the gradient for the optimizer's inputs to be Θ(1)?"""
    return isinstance(row.optimizer, EntrywiseOptimizer) and row.optimizer.degree == 0 and row.optimizer.eps > 0
