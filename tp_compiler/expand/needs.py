"""Which nodes must have a statement, however short: only names can be read at positions, by data and at steps.

The rules, one function each. They add to `WritingPlan.bound`, and to `WritingPlan.aliases` for nodes that already have a name.
"""

from __future__ import annotations

from tp_compiler.expand.forms import LEAVES, WrittenForm, clocked
from tp_compiler.expand.plan import BEFORE, WritingPlan
from tp_compiler.expand.unit import unwritten
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index


def add_needed(plan: WritingPlan) -> None:
    """Applies every rule."""
    _gradients(plan)
    _ambiguous(plan)
    _read_at_places(plan)
    _members(plan)
    _over_steps(plan)
    _before_shadows(plan)
    _initial_values(plan)


def _gradients(plan: WritingPlan) -> None:
    """The gradients of the loss, and the kets in |dh><x|."""
    for slope in plan.unit.slopes:
        for node in slope.nodes:
            plan.bind(node)


def _ambiguous(plan: WritingPlan) -> None:
    """In a bracket the name of a ket is the ket: functions and matrices of that name stay out of brackets."""
    kets = {d.ident for d in plan.unit.declared if d.ket}
    for node in plan.order:
        if kets & _words(node, plan.forms.of(node)):
            plan.bind(node)


def _words(node: ir.Node, form: WrittenForm) -> set[str]:
    match node:
        case ir.MatMul(matrix=matrix):
            return {matrix.name}
        case ir.Contract(over=over, slots=slots):
            return ({form.word} if over else set()) | ({"E"} if any(slots) else set())
    return {"delta"} if form.kind == "delta" else {form.word.rstrip("'")}


def _read_at_places(plan: WritingPlan) -> None:
    for node in plan.order:
        if isinstance(node, ir.Reindex):
            _read_at_place(plan, node)


def _read_at_place(plan: WritingPlan, node: ir.Reindex) -> None:
    """If x is read at positions, on diagonals or by data: the node that names its indices in brackets needs a name,
    and so does x if data select from it, or if it runs over the steps."""
    x = node.args[0]
    kept = [s for s in node.selectors if isinstance(s, Index)]
    if isinstance(x, (*LEAVES, ir.Trace)) or x in plan.bound or len(set(kept)) == len(node.selectors):
        return
    by_name = len(node.args) > 1 or plan.unit.clock in x.type.indices
    if by_name and plan.can(x):
        plan.bound.add(x)
        return
    for inner in list(plan.inline(x)):
        if plan.forms.of(inner).rigid:
            if not plan.can(inner):
                raise unwritten(inner)
            plan.bound.add(inner)


def _members(plan: WritingPlan) -> None:
    """The members of a family that the source binds one by one."""
    for node in plan.order:
        if isinstance(node, ir.Stack):
            plan.bound |= {a for a in node.args if a in plan.unit.names and plan.can(a)}


def _over_steps(plan: WritingPlan) -> None:
    """Nodes read at their steps, nodes summed over them, and nodes that depend on `step` but are not reported over it."""
    for node in plan.order:
        trace = node.args[0] if isinstance(node, ir.Reindex) else node
        at_places = isinstance(trace, ir.Trace) and not any(node is o for o in plan.outputs)
        if isinstance(trace, ir.Trace) and at_places and _is_quantity(plan, trace.args[0]):
            plan.bound.add(trace.args[0])
        if plan.unit.clock in plan.forms.of(node).hidden:
            plan.bind(node)
    for node in plan.outputs:
        if node in plan.changing and plan.tells_time(node):
            plan.bind(node)


def _is_quantity(plan: WritingPlan, node: ir.Node) -> bool:
    """Whether it changes, and is more than the step at which something is read."""
    return node in plan.changing and clocked(node) is None


def _before_shadows(plan: WritingPlan) -> None:
    """After an output with the name of a function, the function cannot be used."""
    shadowed = False
    for output, target in zip(plan.unit.outputs, plan.targets, strict=True):
        if shadowed:
            plan.bind(target.node)
        shadowed |= output.name in plan.unit.model.vocabulary.library


def _initial_values(plan: WritingPlan) -> None:
    """Initial values of trained parameters are named before the loop, where their names still mean them."""
    starts = plan.unit.starts()
    made: set[ir.Node] = set()  # of initial values, and not bound
    for node in plan.order:
        parts = [a for a in plan.args(node) if a in made]
        matrix = node.matrix if isinstance(node, ir.MatMul) and node.matrix in starts else None
        if plan.region(node) != BEFORE:
            for part in parts:
                _keep(plan, part, starts)
            if matrix is not None:
                plan.aliases.add(matrix)
        elif (parts or matrix is not None or node in starts) and node not in plan.bound:
            made.add(node)
    for node in plan.outputs:
        if node in made:
            _keep(plan, node, starts)


def _keep(plan: WritingPlan, node: ir.Node, starts: set[ir.Node | ir.MatrixSymbol]) -> None:
    """Binds a value computed from initial parameters; short ones are written with the saved parameters."""
    while plan.forms.of(node).kind in ("renamed", "same"):
        node = plan.args(node)[0]
    parts = set(plan.inline(node))
    if plan.can(node) and (plan.weights[node] > 2 or any(isinstance(n, ir.MatMul) for n in parts)):
        plan.bound.add(node)
    else:
        plan.aliases |= parts & starts
