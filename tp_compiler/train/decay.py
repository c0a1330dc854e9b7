"""Weight decay in the NTK parametrization: how a parameter enters its own update (TP IVb, 2.10).

At width n the part of an update that comes from gradients is scaled by n^-1/2, and does not move features in the
limit. A decay -lr λ p is of the order of the weights: it acts unscaled, with λ independent of n. So an optimizer must show
which part is which:

    linear   SGD and momentum: the update is the sum of a part due to gradients alone and one due to p alone
    apart    AdamW, Lion: update = rest + a p, and no state knows p
    within   p enters a nonlinear function together with g (coupled decay in Adam): everything is scaled by n^-1/2
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tp_compiler.diagnostics import ProgramError, Span, error
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder, is_zero
from tp_compiler.ir.types import Type
from tp_compiler.ir.walk import reachable, rewrite
from tp_compiler.train.on_entries import Parameter, Stepped
from tp_compiler.transform.linear import split_linear

#: Runs the optimizer for one parameter.
Run = Callable[[Parameter], Stepped]

#: The degree given to functions that are not polynomials.
_NONLINEAR = 1000


@dataclass(frozen=True, eq=False)
class OptimizerForm:
    """How gradients and the parameter enter an update. `linear`: in gradients; `decay`: "", "linear", "apart" or
    "within"; `rate`: the a of "apart"; `stateful`: the update reads a state."""

    linear: bool
    decay: str
    rate: ir.Node | None
    stateful: bool


def classified(build: Builder, run: Run, span: Span) -> OptimizerForm:
    """Runs the optimizer on one symbolic entry."""
    entry, weight = (ir.Array(type=Type((), (), True), name=n, values=0.0, span=span) for n in "gp")
    update, _, following = run(Parameter("probe", Type((), (), True), weight, entry))
    roots = [update, *following.values()]
    states = {n for n in _alive(roots) if isinstance(n, ir.Carry)}
    stateful = bool(states & set(_alive([update])))
    if weight not in _alive(roots):
        return OptimizerForm(all(_linear(f, {entry, *states}) for f in roots), "", None, stateful)
    if all(_linear(f, {entry, weight, *states}) for f in roots):
        return OptimizerForm(True, "linear", None, stateful)
    rate = None if weight in _alive([*following.values()]) else _rate(build, update, weight, span)
    if rate is None or {entry, *states} & set(_alive([rate])):
        return OptimizerForm(False, "within", None, stateful)
    return OptimizerForm(False, "apart", rate, stateful)


def _rate(build: Builder, update: ir.Node, weight: ir.Node, span: Span) -> ir.Node | None:
    try:
        return split_linear(build, update, weight, span)[0]
    except ProgramError:
        return None


def scaled(build: Builder, run: Run, parameter: Parameter, span: Span, scale: ir.Node) -> Stepped:
    """One update at finite width: a power of n times the part due to gradients, and the unscaled decay."""
    optimizer = classified(build, run, span)
    apart = optimizer.decay in ("linear", "apart")
    moved, part, following = run(replace(parameter, current=build.constant(0, span)) if apart else parameter)
    moved = build.mul(scale, moved, span)
    part = build.mul(scale, part, span) if part is not None else None
    if not apart:
        return moved, part, following
    shrunk, along_start, more = _decayed(build, optimizer, run, parameter, span)
    return build.add(moved, shrunk, span), along_start, {**following, **more}


def _decayed(build: Builder, optimizer: OptimizerForm, run: Run, parameter: Parameter, span: Span) -> Stepped:
    """The part of an update due to the parameter itself."""
    if optimizer.rate is None:
        return run(replace(parameter, name=f"{parameter.name}.decay", gradient=build.constant(0, span)))
    shrunk = build.mul(optimizer.rate, parameter.current, span)
    if parameter.entry is None:
        return shrunk, None, {}
    part, rest = split_linear(build, shrunk, parameter.entry, span)
    return rest, part, {}


def factors(build: Builder, optimizer: OptimizerForm, run: Run, steps: int, span: Span) -> list[ir.Node] | None:
    """κ_0 = 1, ..., κ_steps: what decay leaves of the initial weights; None without decay."""
    if optimizer.decay not in ("linear", "apart"):
        return None
    weight = ir.State("kept", Type(), build.constant(1, span), span)
    current = build.carry(weight, span)
    if optimizer.rate is None:
        update, _, following = run(Parameter("kept", Type(), current, build.constant(0, span)))
    else:
        update, following = build.mul(optimizer.rate, current, span), {}
    following = {**following, weight: build.add(current, update, span)}
    values = {state: state.init for state in following}
    found = [values[weight]]
    for k in range(steps):
        values = {state: _at(build, node, values, k, span) for state, node in following.items()}
        found.append(values[weight])
        _check(values[weight], span)
    return found


def _at(build: Builder, node: ir.Node, values: dict[ir.State, ir.Node], step: int, span: Span) -> ir.Node:
    """A node at one step, the states replaced by their values."""

    def rule(n: ir.Node) -> ir.Node | None:
        if isinstance(n, ir.Clock):
            return build.constant(step, span)
        if isinstance(n, ir.Carry) and n.state in values:
            return values[n.state]
        return None if n.args else n

    return rewrite(build, node, rule, span)


def _check(kept: ir.Node, span: Span) -> None:
    if isinstance(kept, ir.Constant) and kept.value == 0:
        message = "this weight decay removes the initial weights entirely: `lr * weight_decay` is 1"
        raise error("NX176", message, span, "choose a smaller weight decay")
    if kept.type.random or any(isinstance(n, ir.Carry) for n in reachable([kept])):
        message = "in the neural tangent limit the rate of weight decay cannot depend on trained values"
        raise error("NX176", message, span, "make `lr` and `weight_decay` functions of `step` alone")


def _alive(roots: list[ir.Node]) -> list[ir.Node]:
    """The nodes that the roots depend on, not through products with the constant 0."""
    seen: dict[ir.Node, None] = {}
    todo = [r for r in roots if not is_zero(r)]
    while todo:
        node = todo.pop()
        if node not in seen:
            seen[node] = None
            todo.extend(a for a in node.args if not is_zero(a))
    return list(seen)


def _linear(root: ir.Node, moving: set[ir.Node]) -> bool:
    """Is root a combination of the `moving` nodes with coefficients free of them?"""
    degree: dict[ir.Node, int] = {}
    for node in reachable([root]):
        degrees = [degree.get(a, 0) for a in node.args]
        if is_zero(node):
            degree[node] = 0
        elif node in moving:
            degree[node] = 1
        elif isinstance(node, ir.Map) and node.fn == "add":
            counted = [d for d, a in zip(degrees, node.args, strict=True) if not is_zero(a)]
            degree[node] = max(counted, default=0) if len(set(counted)) < 2 else _NONLINEAR
        elif isinstance(node, ir.Map) and (node.fn == "mul" or (node.fn == "div" and degrees[1] == 0)):
            degree[node] = sum(degrees)
        else:
            degree[node] = _NONLINEAR if any(degrees) else 0
    return degree[root] == 1 or is_zero(root)


__all__ = ["OptimizerForm", "Run", "classified", "factors", "scaled"]
