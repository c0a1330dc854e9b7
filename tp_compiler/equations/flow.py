"""Dependence in a program: on the steps of training, and of a ket on earlier products W|x>.

In a loop the question "was Wᵀ|y> earlier?" has two answers: |x_t> may depend on Wᵀ|y_s> for s < t, through the states,
or for s ≤ t, within the step. The dot of a backward product is of the second kind (Tensor Programs IV, Theorem 6.4,
where the sum must include the current step).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tp_compiler.equations.functions import JUMPS
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Program
from tp_compiler.ir.walk import reachable

#: (product, enters within the step)
Lagged = tuple[ir.MatMul, bool]
_NONE: frozenset[Lagged] = frozenset()


class StepDependence:
    """The nodes of a program in order, and those that change from step to step."""

    def __init__(self, program: Program):
        self.following = dict(program.loop.following) if program.loop else {}
        self.states = self._needed([o.node for o in program.outputs])
        self.nodes = reachable([*(o.node for o in program.outputs), *self._roots(self.states)])
        self.moving = _above(self.nodes, lambda n: isinstance(n, ir.Carry | ir.Clock | ir.Apply), stop=ir.Trace)
        #: made of values over the steps; what else they read has its value after the last step
        self.beyond = _above(self.nodes, lambda n: isinstance(n, ir.Trace))
        self._lags: dict[ir.Node, dict[int, frozenset[Lagged]]] = {}
        if self.states:
            self._run()

    def _roots(self, states: Iterable[ir.State]) -> list[ir.Node]:
        return [root for s in states for root in (s.init, self.following[s])]

    def _needed(self, roots: list[ir.Node]) -> tuple[ir.State, ...]:
        """The states that the outputs depend on, directly or through other states, in the order of the loop."""
        found: dict[ir.State, None] = {}
        while True:
            new = {n.state: None for n in reachable(roots) if isinstance(n, ir.Carry | ir.Apply)}
            if new.keys() <= found.keys():
                return tuple(s for s in self.following if s in found)
            found |= new
            roots = [*roots, *self._roots(new)]

    @property
    def jumps(self) -> bool:
        """Does an entrywise function in the loop jump? Then derivatives have Dirac parts, and dots use the Stein form."""
        return any(isinstance(n, ir.Map) and n.type.slots and n.fn in JUMPS for n in self.moving)

    # -- what a ket depends on ----------------------------------------------------------------------------------
    def lags(self, ket: ir.Node) -> frozenset[Lagged]:
        """The products whose hats the row of a ket is a function of."""
        return self._lags.get(ket, {}).get(0, _NONE)

    def _run(self) -> None:
        """Iterate to the fixed point: dependencies of one step carry over to the next."""
        changed = True
        while changed:
            changed = False
            for node in self.nodes:
                found = {} if node.type.is_scalar else self._of(node)
                if found != self._lags.get(node):
                    self._lags[node], changed = found, True

    def _of(self, node: ir.Node) -> dict[int, frozenset[Lagged]]:
        match node:
            case ir.MatMul(args=(x,), matrix=matrix, transposed=transposed):
                own = {(node, True)}
                for use, now in self.lags(x):
                    if use.matrix is matrix and use.transposed != transposed:
                        own |= _later(self.lags(use.args[0]), now)
                return {0: frozenset(own)}
            case ir.Copy(args=(x,), slot=slot):
                return {slot: self.lags(x)}
            case ir.Carry(state=state):
                return {s: self._carried(state, s) for s, _ in state.type.slots}
            case ir.Apply(state=state, transposed=transposed):
                return {0: self._carried(state, state.slot if transposed else 0)}
        kept = {s for s, _ in node.type.slots}
        return {s: _NONE.union(*(self._lags.get(a, {}).get(s, _NONE) for a in node.args)) for s in kept}

    def _carried(self, state: ir.State, slot: int) -> frozenset[Lagged]:
        known = self._lags.get(self.following[state], {}).get(slot, _NONE)
        start = self._lags.get(state.init, {}).get(slot, _NONE)
        return _later(known, False) | _later(start, False)


def _later(lags: frozenset[Lagged], now: bool) -> frozenset[Lagged]:
    return frozenset((use, within and now) for use, within in lags)


def _above(nodes: list[ir.Node], is_root: Callable[[ir.Node], bool], stop: type | None = None) -> set[ir.Node]:
    """The roots and the nodes that depend on them, not through a node of the kind `stop`."""
    found: set[ir.Node] = set()
    for node in nodes:
        through = stop is None or not isinstance(node, stop)
        if is_root(node) or (through and any(a in found for a in node.args)):
            found.add(node)
    return found
