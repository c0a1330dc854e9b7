"""The only walkers over nodes: iterative, each node once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tp_compiler.diagnostics import Span
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder


def reachable(roots: Iterable[ir.Node]) -> list[ir.Node]:
    """Every node the roots depend on (matrix variances included), in ascending serial number: a topological order."""
    seen: dict[ir.Node, None] = {}
    todo = list(roots)
    while todo:
        node = todo.pop()
        if node not in seen:
            seen[node] = None
            todo.extend(dependencies(node))
    return sorted(seen, key=lambda n: n.serial)


def dependencies(node: ir.Node) -> tuple[ir.Node, ...]:
    """The nodes whose values a node needs: its arguments, the variance of a matrix, the start of a state."""
    if isinstance(node, ir.MatMul):
        return (*node.args, node.matrix.variance)
    return (node.state.init,) if isinstance(node, ir.Carry) else node.args


def rewrite(
    build: Builder,
    root: ir.Node,
    rule: Callable[[ir.Node], ir.Node | None],
    span: Span,
    done: dict[ir.Node, ir.Node] | None = None,
) -> ir.Node:
    """Replaces nodes bottom-up: `rule` gives a replacement (then not descended into) or None to rebuild from args.

    `done` keeps replacements from one root to the next.
    """
    done = {} if done is None else done
    todo = [root]
    while todo:
        node = todo[-1]
        if node in done:
            todo.pop()
            continue
        replacement = rule(node)
        if replacement is not None:
            done[node] = replacement
            continue
        missing = [a for a in node.args if a not in done]
        if missing:
            todo.extend(missing)
            continue
        args = tuple(done[a] for a in node.args)
        done[node] = node if args == node.args else rebuilt(build, node, args, span)
    return done[root]


def rebuilt(build: Builder, node: ir.Node, args: tuple[ir.Node, ...], span: Span) -> ir.Node:
    """The same instruction with other arguments."""
    match node:
        case ir.Map(fn=fn):
            return build.map(fn, args, span)
        case ir.Contract(over=over, slots=slots):
            return build.contract(args, over, slots, span)
        case ir.Reduce(op=op, index=index):
            return build.reduce(op, args[0], index, span)
        case ir.Reindex(selectors=selectors):
            old = dict(zip(node.args[0].type.indices, selectors, strict=True))
            return build.reindex(args[0], tuple(old.get(i, i) for i in args[0].type.indices), args[1:], span)
        case ir.Shift(index=index, by=by):
            return build.shift(args[0], index, by, span)
        case ir.Stack(index=index):
            return build.stack(args, index, span)
        case ir.Copy(slot=slot):
            return build.copy(args[0], slot, span)
        case ir.MatMul(matrix=matrix, member=member, transposed=transposed):
            return build.matmul(matrix, member, transposed, args[0], span)
        case ir.Linalg(op=op, rows=rows, cols=cols, fn=fn):
            return build.linalg(op, rows, cols, args, fn, span)
        case ir.Join(groups=groups, index=index):
            return build.join_indices(args, groups, index, span)
        case ir.Spectral(op=op, rows=rows, cols=cols, hidden=hidden, fn=fn):
            return build.spectral(op, rows, cols, args, hidden, fn, span)
        case ir.Clt():
            return build.clt(args[0], args[1], span)
        case ir.Trace(index=index):
            return build.trace(args[0], index, span)
        case ir.Apply(state=state, member=member, transposed=transposed):
            return build.apply(state, member, transposed, args[0], span)
        case ir.Stop():
            return build.stop(args[0], span)
        case ir.InitialScalar(symbol=symbol):
            return build.initial_scalar(symbol, args[0], span)
        case ir.InitialKet(symbol=symbol):
            return build.initial_ket(symbol, args[0], args[1], node.span)
    raise AssertionError(f"{type(node).__name__} has no arguments to replace")
