"""`train time = [...]`: which programs have a gradient flow, and the times at which it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.expressions import Context, Expressions, error
from tp_compiler.ir import nodes as ir

if TYPE_CHECKING:
    from tp_compiler.frontend.names import Scope
    from tp_compiler.frontend.tangent_limit import Group


def times_of(core: Expressions, s: ast.Train, parametrization: str, scope: Scope) -> tuple[float, ...]:
    """The listed times: increasing numbers above 0."""
    if parametrization != "ntk":
        remedy = "write `parametrization ntk` above it, or `train steps` with a small lr"
        raise error("NX177", "gradient flow is available in the neural tangent limit", s.extent.span, remedy)
    if not isinstance(s.extent, ast.ListLiteral) or not s.extent.items:
        raise error("NX178", "gradient flow is read at a list of times", s.extent.span, "write `train time = [1, 2]`")
    times: list[float] = []
    for item in s.extent.items:
        node = core.scalar(item, Context(scope), "a time")
        if not isinstance(node, ir.Constant) or node.value <= (times[-1] if times else 0.0):
            raise error("NX178", "times are increasing numbers above 0", item.span, "write `train time = [1, 2, 4]`")
        times.append(node.value)
    return tuple(times)


def flows(groups: list[Group]) -> None:
    """Refuses optimizers without a flow: those with a memory, and weight decay (features would change with time)."""
    for group in groups:
        if group.optimizer.stateful:
            remedy = "use SGD without momentum, SignSGD, or `train steps`"
            raise error("NX179", "an optimizer with a memory has no gradient flow", group.span, remedy)
        if group.optimizer.decay:
            remedy = "leave out weight_decay, or use `train steps` with a small lr"
            raise error("NX179", "gradient flow with weight decay is not available", group.span, remedy)


__all__ = ["flows", "times_of"]
