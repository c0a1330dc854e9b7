"""From a parametrization's class to its limit: which initial values and which updates survive (TP IVb 2.8, 3.1).

Every figure of a stable and faithful point is a power of n beside natural units: a readout starts at n^-s, an update is
n^-u of what the optimizer returns for Θ(1) gradients. Where features move, s and u are at least 0, and what has a positive one
vanishes: a layer that does not learn, a readout that forgets its start (so that training proper begins one step later). In
the operator regime the readout v = n^ρ v' shows changes of features by n^ρ: a parameter whose update is n^-ρ stands in the
operator, one with a smaller update does not, and f_0 survives at ρ = 1/2 alone.
"""

from __future__ import annotations

from fractions import Fraction

from tp_compiler.diagnostics import ProgramError
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Program, Regime
from tp_compiler.scale.analysis import moved
from tp_compiler.scale.figures import TIED, Row
from tp_compiler.scale.growth import NOTHING
from tp_compiler.scale.numbers import HALF
from tp_compiler.scale.optimizers import Entrywise, Kind
from tp_compiler.scale.result import Scaling
from tp_compiler.scale.verdict import Regime as Class


def regime(program: Program) -> Regime:
    """What training becomes at the program's own parametrization, or why it has no limit."""
    try:
        scaling = Scaling(program)
    except ProgramError as problem:
        return Regime(refused="; ".join(d.message for d in problem.diagnostics))
    rows, verdict = list(scaling.main.rows.values()), scaling.verdict
    if verdict.regime not in (Class.FEATURE_LEARNING, Class.OPERATOR):
        return Regime(refused=f"it is {verdict.regime}: {verdict.reason}")
    network = program.network
    assert network is not None
    trained = {_key(r) for r in rows}
    for row in network.rows:
        if (row.name, row.ket) not in trained and (row.name, row.ket, row.member) != TIED:
            return Regime(refused=f"its row `{row.span.text}` is of nothing that is trained")
    if any(r.output is not None for r in rows):
        return Regime(refused="a ket that enters features and reads outputs has a limit in muP alone")
    operator = verdict.regime == Class.OPERATOR
    found = _operator(rows) if operator else _features(rows)
    return found if found.refused else _gradients(scaling, rows, operator) or found


def _features(rows: list[Row]) -> Regime:
    starts = {_key(r): float(r.size) for r in rows if r.parameter.kind == Kind.OUTPUT and not r.parameter.zero}
    if any(starts.values()) and any(_jumps(r) for r in rows):
        why = "its readout starts at 0 in the limit, where an optimizer without eps has no continuous value"
        return Regime(refused=why)
    steps = {(*_key(r), r.parameter.declared.member): float(moved(r, 0)) for r in rows}
    if any(x > 0 for x in (*starts.values(), *steps.values())):
        why = (
            "a parameter starts, or is updated, by a positive power of n beside natural units while other features move"
        )
        return Regime(refused=why)
    return Regime(starts=starts, steps=steps)


def _gradients(scaling: Scaling, rows: list[Row], operator: bool) -> Regime | None:
    """Optimizers that are not linear must meet gradients of the size that their powers were read at."""
    _, entries = scaling.analysis.updates(rows)
    for k, r in enumerate(rows):
        linear = isinstance(r.optimizer, Entrywise) and r.optimizer.degree == 1
        size = next(x.size for x in rows if x.parameter.kind == Kind.OUTPUT) if operator else Fraction(0)
        natural = Fraction(0) if r.parameter.kind == Kind.OUTPUT else size
        if not linear and entries[k] not in (NOTHING, r.gradient(natural).entry):
            return Regime(
                refused=f"gradients by {r.parameter.shown} are not of the size that {r.optimizer.name} is given"
            )
    return None


def _operator(rows: list[Row]) -> Regime:
    readouts = [r for r in rows if r.parameter.kind == Kind.OUTPUT]
    if not all(_centred(r) for r in readouts):
        return Regime(refused="a readout whose mean is not 0 has no Gaussian outputs")
    sizes = {r.size for r in readouts}
    if len(sizes) != 1:
        return Regime(refused="its outputs are read at different powers of n")
    if any(r.parameter.kind == Kind.SCALAR for r in rows):
        return Regime(refused="trained numbers have no limit in the operator regime here")
    (size,) = sizes
    steps, surviving = {}, set()
    for r in rows:
        own = r.parameter.kind == Kind.OUTPUT
        power = moved(r, 0) - size if own else moved(r, size)
        steps[(*_key(r), r.parameter.declared.member)] = float(power)
        if power == -size:
            surviving.add(_key(r))
    seen: dict[tuple[str, bool], set[bool]] = {}
    for (name, ket, _), step in steps.items():
        seen.setdefault((name, ket), set()).add(step == -size)
    apart = next((key for key, found in seen.items() if len(found) > 1), None)
    if apart is not None:
        shown = f"|{apart[0]}>" if apart[1] else apart[0]
        return Regime(refused=f"updates of some members of {shown} vanish, and features stand still")
    names = frozenset(r.parameter.declared.name for r in readouts)
    return Regime("", True, {}, steps, names, float(size - HALF), frozenset(surviving))


def _key(row: Row) -> tuple[str, bool]:
    return row.parameter.declared.name, row.parameter.declared.ket


def _centred(row: Row) -> bool:
    leaf = row.parameter.leaf
    mean = leaf.args[0] if isinstance(leaf, ir.InitialKet) else None
    return isinstance(mean, ir.Constant) and mean.value == 0


def _jumps(row: Row) -> bool:
    """Does the optimizer make steps of order one of the smallest gradients?"""
    eps = row.parameter.declared.arguments.get("eps")
    none = isinstance(eps, ir.Constant) and eps.value == 0
    return isinstance(row.optimizer, Entrywise) and row.optimizer.degree == 0 and (not row.optimizer.eps or none)


__all__ = ["regime"]
