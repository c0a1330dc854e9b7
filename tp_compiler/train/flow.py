"""`train time = [...]`: which optimizers have a gradient flow, and momentum in continuous time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from tp_compiler.diagnostics import Span, error
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.program import Loop
from tp_compiler.ir.types import Type
from tp_compiler.ir.walk import reachable, rewrite
from tp_compiler.train.on_entries import Parameter, Stepped
from tp_compiler.train.tangent_limit import Group

#: Updates that were made, to what counts them in a flow: enough for it to be no first one.
AFTER_THE_FIRST = 1


def flows(groups: Iterable[Group], loss: ir.Node) -> None:
    """Refuses optimizers without a flow: nonlinear ones with a memory, and weight decay (features would change with time);
    and features that change with the time by themselves."""
    for output in reachable([loss]):
        if isinstance(output, ir.Clt) and any(isinstance(n, ir.Clock) and n.time for n in reachable([output])):
            remedy = "multiply the bracket by it instead, or use data over `step`, which are constant between the listed times"
            raise error("NX177", "`step` is the time in gradient flow, and here it moves features", output.span, remedy)
    for group in groups:
        if group.optimizer.stateful and not group.optimizer.linear:
            remedy = "use `SGD` (with or without momentum), `SignSGD`, or `train steps`"
            raise error("NX179", "a nonlinear optimizer with states has no gradient flow", group.span, remedy)
        if group.optimizer.decay:
            remedy = "leave out `weight_decay`, or use `train steps` with a small `lr`"
            raise error("NX179", "gradient flow with weight decay is not supported", group.span, remedy)


def timeless(build: Builder, run: Callable[[Parameter, ir.Node], Stepped], span: Span) -> None:
    """Refuses optimizers that count their updates: a flow has none, and the listed times are not steps. An optimizer that treats
    its first update apart (SGD's dampening) continues as after it."""
    entry, weight = (ir.Array(type=Type((), (), True), name=n, values=0.0, span=span) for n in "gp")

    def at(updates: int) -> list[ir.Node]:
        probe = Parameter("probe", Type((), (), True), weight, entry)
        update, _, following = run(probe, build.constant(updates, span))
        return [update, *following.values()]

    if not all(_alike(a, b) for a, b in zip(at(AFTER_THE_FIRST), at(AFTER_THE_FIRST + 1), strict=True)):
        remedy = "write it without `t`, or use `train steps`"
        raise error("NX179", "an optimizer that counts its updates has no gradient flow", span, remedy)


def _alike(one: ir.Node, other: ir.Node) -> bool:
    """Are these the same function of states of the same names?"""
    if isinstance(one, ir.Carry) and isinstance(other, ir.Carry):
        return one.state.name == other.state.name
    if one is other or not one.args:
        return one is other
    same = type(one) is type(other) and getattr(one, "fn", "") == getattr(other, "fn", "")
    return same and len(one.args) == len(other.args) and all(map(_alike, one.args, other.args))


def heavy_ball(build: Builder, following: Mapping[ir.State, ir.Node], span: Span) -> dict[ir.State, ir.Node]:
    """Momentum in continuous time: all states move together, so that a parameter reads the current buffer.

    b' = g - (1 - m) b and p' = -lr b, hence p'' = -(1 - m) p' - lr g, time counted in steps. (A step of torch.optim reads the
    buffer that it has just moved.)
    """
    remembers = {
        s: any(isinstance(n, ir.Carry) and n.state is s for n in reachable([node])) for s, node in following.items()
    }
    buffers = {node: state for state, node in following.items() if remembers[state]}

    def moved(state: ir.State, node: ir.Node) -> ir.Node:
        def current(n: ir.Node) -> ir.Node | None:
            buffer = buffers.get(n)
            if buffer is not None and buffer is not state:
                return build.carry(buffer, span)
            return None if n.args else n

        return rewrite(build, node, current, span, {})

    return {state: moved(state, node) for state, node in following.items()}


class Timed:
    """The time, in place of the number `step`: for updates of a state it moves by 1 in a unit of time; for outputs it is the
    times listed."""

    def __init__(self, build: Builder, loop: Loop):
        self.build, self.span = build, loop.span
        self.state = ir.State("time", Type(), build.constant(0, loop.span), loop.span)
        self.now = build.carry(self.state, loop.span)
        table = build.stack(tuple(build.constant(t, loop.span) for t in (0.0, *loop.times)), loop.index, loop.span)
        place = build.add(build.clock(loop.span), build.constant(1, loop.span), loop.span)
        self.listed = build.reindex(table, (ir.Gather(1),), (place,), loop.span)

    def output(self, node: ir.Node) -> ir.Node:
        return self._with(self.listed, node)

    def following(self, following: Mapping[ir.State, ir.Node]) -> Mapping[ir.State, ir.Node]:
        """The time is a state only if a rate reads it: without it rates may have a closed form."""
        found = {state: self._with(self.now, node) for state, node in following.items()}
        if all(found[state] is node for state, node in following.items()):
            return following
        return {**found, self.state: self.build.add(self.now, self.build.constant(1, self.span), self.span)}

    def _with(self, time: ir.Node, node: ir.Node) -> ir.Node:
        def rule(n: ir.Node) -> ir.Node | None:
            return time if isinstance(n, ir.Clock) and n.time else None if n.args else n

        return rewrite(self.build, node, rule, self.span)


__all__ = ["AFTER_THE_FIRST", "Timed", "flows", "heavy_ball", "timeless"]
