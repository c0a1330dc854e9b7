"""From a parametrization's class to its limit: which initial values and which updates survive (TP IVb 2.8, 3.1).

Every quantity at a stable and faithful point is a power of n times its natural size: a readout starts at n^-s, an update is
n^-u times what the optimizer returns for Θ(1) gradients. If features move, s and u are at least 0, and what has a positive one
vanishes: a layer that does not learn, a readout that forgets its initial value (so training effectively begins one step later). In
the operator regime the readout v = n^ρ v' amplifies changes of features by n^ρ: a parameter whose update is n^-ρ is part of the
operator, one with a smaller update is not, and f_0 survives only at ρ = 1/2. Without training only the readout's initial size matters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import groupby

from tp_compiler.diagnostics import Diagnostic, ProgramError, Span
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.model import Network, Trainable, WidthPowers
from tp_compiler.ir.walk import reachable
from tp_compiler.scale.analysis import moved
from tp_compiler.scale.figures import TIED, Row
from tp_compiler.scale.growth import NOTHING
from tp_compiler.scale.kinds import centred
from tp_compiler.scale.numbers import HALF, order, power
from tp_compiler.scale.optimizers import (
    OPTIMIZERS,
    EntrywiseOptimizer,
    Factored,
    ParameterKind,
    Relative,
    Rotated,
    Rotational,
    SpectralOptimizer,
)
from tp_compiler.scale.result import Scaling
from tp_compiler.scale.verdict import Question, Regime

#: Networks of this width are of the size that people train.
REAL_WIDTH = 1e6
#: Averages over samples are good to this.
SAMPLED = 1e-3

#: How to change a parametrization without a limit into one that has a limit.
REMEDIES = {
    Regime.UNSTABLE: "increase c, which makes updates smaller",
    Regime.UNFAITHFUL: "choose d so that the optimizer sees gradients of size Θ(1)",
    Regime.TRIVIAL: "decrease c, which makes updates larger",
}
AT_INITIALISATION = "use a + b = 0 for input weights, 1/2 for matrices, and 1/2 or more for readouts"


def classify(network: Network) -> WidthPowers:
    """What the parametrization of a network makes of its training. Those named mup and ntk are natural units, and need no
    classification; any other has powers of n beside these, or no limit."""
    if network.natural:
        return WidthPowers(natural=True, warnings=_fluctuating(network))
    try:
        scaling = Scaling(network)
    except ProgramError as problem:
        first = problem.diagnostics[0]
        return _refused("; ".join(d.message for d in problem.diagnostics), first.remedy, first.span)
    found = _named(scaling) or (_trained(scaling) if network.trains else _initial(scaling))
    return replace(found, warnings=(*scaling.warnings, *_drowned(scaling, found)))


def _refused(why: str, remedy: str, at: Span | None = None) -> WidthPowers:
    return WidthPowers(refused=why, remedy=remedy, at=at)


def _named(scaling: Scaling) -> WidthPowers | None:
    """Rows must be of parameters; a number must start as large as it counts in natural units."""
    rows, network = scaling.main.rows.values(), scaling.network
    known = [(*_key(r), r.parameter.declared.member) for r in rows]
    what = "a trained parameter" if network.trains else "a parameter"
    for row in network.rows:
        if not any(row.holds(*key) for key in known) and (row.name, row.ket, row.member) != TIED:
            why, remedy = f"its row `{row.span.text}` does not name {what}", "leave the row out"
            return _refused(why, f"{remedy}, or train it" if network.trains else remedy, row.span)
    if any(r.output not in (None, -1) or (r.output is not None and network.trains) for r in rows):
        why = "a ket that is both input and readout has a limit only in muP"
        return _refused(why, "use `parametrization mup`, or a separate ket as readout")
    return None


# -- training ---------------------------------------------------------------------------------------------------
def _trained(scaling: Scaling) -> WidthPowers:
    rows, verdict = list(scaling.main.rows.values()), scaling.verdict
    if verdict.regime in REMEDIES:
        remedy = REMEDIES[verdict.regime] if verdict.stable_at_init else AT_INITIALISATION
        figures = "run `tpc scale` for all exponents, and set them in `parametrization { .. }`"
        return _refused(f"it is {verdict.regime}: {verdict.reason}", f"{remedy}; {figures}")
    operator = verdict.regime == Regime.OPERATOR
    found = _numbers(rows) or (_operator(rows) if operator else _features(rows))
    return found if found.refused else _gradients(scaling, rows, operator) or found


def _numbers(rows: list[Row]) -> WidthPowers | None:
    for r in rows:
        if r.parameter.kind == ParameterKind.SCALAR and r.size != 0 and not r.parameter.zero:
            why = f"`{r.parameter.shown}` is {order(r.size)} at initialisation"
            return _refused(why, f"give `{r.parameter.shown}` exponents with a + b = 0")
    return None


def _features(rows: list[Row]) -> WidthPowers:
    starts = _starts(rows)
    trained = [r for r in rows if r.trained]
    if any(starts.values()) and any(_jumps(r) for r in trained):
        why = "its readout starts at 0 in the limit, where an optimizer without eps is discontinuous"
        return _refused(why, "use a readout with a + b = 1, or an optimizer with eps")
    steps = {(*_key(r), r.parameter.declared.member): float(moved(r, 0)) for r in trained}
    if any(x > 0 for x in (*starts.values(), *steps.values())):
        why = "a parameter starts at, or is updated by, a positive power of n times its natural size while other features move"
        return _refused(
            why, "bring all branches of the network into one regime; run `tpc scale` to see what moves by how much"
        )
    return WidthPowers(starts=starts, steps=steps)


def _gradients(scaling: Scaling, rows: list[Row], operator: bool) -> WidthPowers | None:
    """Optimizers that are not linear must receive gradients of the size assumed for their powers."""
    _, entries = scaling.analysis.updates(rows)
    for k, r in enumerate(rows):
        if not r.trained:
            continue
        linear = isinstance(r.optimizer, EntrywiseOptimizer) and r.optimizer.degree == 1
        size = next(x.size for x in rows if x.parameter.kind == ParameterKind.OUTPUT) if operator else Fraction(0)
        natural = Fraction(0) if r.parameter.kind in (ParameterKind.OUTPUT, ParameterKind.SCALAR) else size
        if not linear and entries[k] not in (NOTHING, r.gradient(natural).entry):
            why = f"the gradients by `{r.parameter.shown}` do not have the size assumed for {r.optimizer.name}"
            return _refused(why, "use `SGD`, which is linear, or the same readout for all features")
    return None


def _operator(rows: list[Row]) -> WidthPowers:
    readouts = [r for r in rows if r.parameter.kind == ParameterKind.OUTPUT]
    refused = _gaussian(readouts)
    if refused is not None:
        return refused
    size = readouts[0].size
    steps, surviving = {}, set()
    for family, members in groupby([r for r in rows if r.trained], key=_key):
        seen = set()
        for r in members:
            match r.parameter.kind:
                case ParameterKind.OUTPUT:
                    step, visible = moved(r, 0) - size, -size
                case ParameterKind.SCALAR:  # it is added to the outputs: any other moves features
                    step, visible = moved(r, 0), Fraction(0)
                case _:
                    step, visible = moved(r, size), -size
            steps[(*family, r.parameter.declared.member)] = float(step)
            seen.add(step == visible)
        if len(seen) > 1:
            name, ket = family
            why = f"updates of some members of `{f'|{name}>' if ket else name}` vanish, and features do not move"
            return _refused(why, "give the members of a family the same exponents")
        if True in seen:
            surviving.add(family)
    return replace(_read(readouts), steps=steps, surviving=frozenset(surviving))


def _drowned(scaling: Scaling, found: WidthPowers) -> Iterator[Diagnostic]:
    """If a readout starts at n^-s, first gradients are n^-s too, which the limit treats as small compared with eps."""
    lag = -min(found.starts.values(), default=0.0)
    for r in scaling.main.rows.values() if lag > 0 and found.steps else ():
        eps = r.parameter.declared.arguments.get("eps")
        adaptive = (
            isinstance(r.optimizer, EntrywiseOptimizer) and r.optimizer.degree == 0 and isinstance(eps, ir.Constant)
        )
        if not adaptive or r.parameter.kind == ParameterKind.OUTPUT:
            continue
        assert isinstance(eps, ir.Constant)
        if 0 < eps.value < REAL_WIDTH**-lag:
            small = power(Fraction(-lag).limit_denominator(1000))
            reached = f"{eps.value ** (-1 / lag):.0e}"
            message = (
                f"the first gradients are {small}, small compared with eps = {eps.value:g} only for n above {reached}"
            )
            remedy = (
                "raise eps, or start the readout at a + b = 1; otherwise the limit does not describe smaller networks"
            )
            yield Diagnostic("NX921", message, r.parameter.declared.span, remedy)
            return


def _fluctuating(network: Network) -> tuple[Diagnostic, ...]:
    """Where muP's first gradient by a parameter vanishes by symmetry, an optimizer with negligible eps follows fluctuations."""
    if network.parametrization != "mup" or not any(_sharp(t) for t in network.parameters):
        return ()
    try:
        scaling = Scaling(network)
    except ProgramError:
        return ()  # sizes are not known
    rows = list(scaling.main.rows.values())
    _, first = scaling.analysis.updates(rows, first=True)
    found = []
    for k, r in enumerate(rows):
        t = r.parameter.declared
        if (
            _sharp(t)
            and isinstance(r.optimizer, EntrywiseOptimizer)
            and NOTHING < first[k] < r.gradient(Fraction(0)).entry
        ):
            message = f"the first gradient by `{r.parameter.shown}` is 0 in the limit, so `{t.optimizer}` follows fluctuations"
            remedy = f"use an eps above {SAMPLED:g} (natural units), which ignores them; otherwise the first step has no limit"
            found.append(Diagnostic("NX923", message, t.span, remedy))
    return tuple(found)


def _sharp(t: Trainable) -> bool:
    """Whether its optimizer makes a step of order one from a gradient as small as a sampling error."""
    row = OPTIMIZERS.get(t.optimizer or "")
    if t.still or not t.standard or not isinstance(row, EntrywiseOptimizer) or row.degree != 0:
        return False
    eps = t.arguments.get("eps")
    return not row.eps or (isinstance(eps, ir.Constant) and eps.value < SAMPLED)


# -- initial values ---------------------------------------------------------------------------------------------
def _initial(scaling: Scaling) -> WidthPowers:
    """A program without training: the effect of its exponents a and b on the initial values."""
    rows, verdict, network = list(scaling.main.rows.values()), scaling.verdict, scaling.network
    if not verdict.stable_at_init:
        return _refused(f"it is unstable: {verdict.why(Question.INIT)}", AT_INITIALISATION)
    readouts = [r for r in rows if r.parameter.kind == ParameterKind.OUTPUT and not r.parameter.zero]
    refused = _numbers(rows)
    if refused is not None or all(r.size == 0 for r in readouts):
        return refused or WidthPowers()
    if network.roots:
        return _refused("it differentiates a readout that is not in natural units", "give the readout a + b = 1")
    larger = any(r.size > 0 for r in readouts)
    reads = {r.parameter.leaf for r in readouts}
    for node in reachable(network.outputs):
        if isinstance(node, ir.Clt) and not (larger and reads & set(reachable(node.args))):
            return _refused(
                "`clt` is only defined in natural units",
                "write `<v|x>`, whose size is given by the exponents",
                node.span,
            )
    if larger:
        return _gaussian(readouts) or _read(readouts)
    return WidthPowers(starts=_starts(rows))


# -- readouts ---------------------------------------------------------------------------------------------------
def _starts(rows: list[Row]) -> dict[tuple[str, bool], float]:
    return {_key(r): float(r.size) for r in rows if r.parameter.kind == ParameterKind.OUTPUT and not r.parameter.zero}


def _gaussian(readouts: list[Row]) -> WidthPowers | None:
    """vᵀx/√n at one power of n needs centred readouts of one size."""
    skewed = next((r for r in readouts if not centred(r.parameter.leaf)), None)
    if skewed is not None:
        why = "a readout with nonzero mean does not give Gaussian outputs"
        return _refused(why, f"centre it: `{skewed.parameter.shown} ~ N(0, ..)`")
    if len({r.size for r in readouts}) != 1:
        return _refused("its outputs are read out at different powers of n", "give all readouts the same a + b")
    return None


def _read(readouts: list[Row]) -> WidthPowers:
    names = frozenset(r.parameter.declared.name for r in readouts)
    return WidthPowers(operator=True, readouts=names, reading=float(readouts[0].size - HALF))


def _key(row: Row) -> tuple[str, bool]:
    return row.parameter.declared.name, row.parameter.declared.ket


def _jumps(row: Row) -> bool:
    """Does the optimizer make steps of order one of the smallest gradients?"""

    def nothing(name: str) -> bool:
        given = row.parameter.declared.arguments.get(name)
        return isinstance(given, ir.Constant) and given.value == 0

    match row.optimizer:
        case EntrywiseOptimizer(degree=degree, eps=eps):
            return degree == 0 and (not eps or nothing("eps"))
        case Rotated():
            return nothing("eps")
        case SpectralOptimizer(left=left, right=right, damped=damped):
            return left + right >= HALF and (not damped or nothing("damping"))
        case Factored(left=left):
            return left >= HALF and nothing("damping_left")
        case Relative(eps=eps):
            return not eps or nothing(eps)
    return isinstance(row.optimizer, Rotational)


__all__ = ["classify"]
