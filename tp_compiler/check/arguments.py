"""The numbers that an optimizer is called with."""

from __future__ import annotations

from tp_compiler.check import values as v
from tp_compiler.check.core import Context, Core
from tp_compiler.check.names import Binding, OptimizerName, Scope
from tp_compiler.diagnostics import ProgramError, error, suggest
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.mentions import calls_in
from tp_compiler.ir import nodes as ir
from tp_compiler.ir import shape_factors


def arguments(core: Core, optimizer: OptimizerName, call: ast.Call, scope: Scope) -> dict[str, ir.Node]:
    """The scalars that an optimizer is called with; defaults may name parameters before them."""
    statement = optimizer.statement
    given = _given(optimizer, call)
    values: dict[str, ir.Node] = {}
    inner = optimizer.scope.snapshot()
    chosen = words(optimizer)
    families = {e.ident for call in calls_in(statement.body) for e in call.extra if isinstance(e, ast.Name)}
    for param in statement.params:
        name = param.name.ident
        source = given[name].value if name in given else param.default
        if source is param.default and isinstance(source, ast.Name) and source.ident == "fitted":
            continue  # the default: filled in from the loss
        if source is None:
            message = f"the argument `{name}` of `{statement.name}` is missing"
            raise error("NX251", message, call.span, f"write `{_form(statement)}`")
        if name in chosen:
            values[name] = _word(core, source, scope if name in given else inner, f"`{name}` of `{statement.name}`")
            continue
        node = core.scalar(source, Context(scope if name in given else inner), "a number")
        if node is None:
            raise ProgramError([])
        if node.type.indices and name not in families:
            raise error(
                "NX168",
                f"`{name}` has the index `{node.type.indices[0].name}`",
                source.span,
                "give a single number; for several runs, make it `scalar lr = 0.1`, and set it in each",
            )
        values[name] = node
        inner.others[name] = Binding(v.Scalar(node))
    return values


def _given(optimizer: OptimizerName, call: ast.Call) -> dict[str, ast.Arg]:
    """The arguments of a call by the names of the parameters."""
    statement = optimizer.statement
    params = [p.name.ident for p in statement.params]
    form = _form(statement)
    given: dict[str, ast.Arg] = {}
    for arg, name in zip(call.args, params, strict=False):
        if arg.keyword is None:
            given[name] = arg
    for arg in call.args:
        if arg.keyword is not None and arg.keyword not in params:
            remedy = suggest(arg.keyword, params) or f"write `{form}`"
            raise error("NX251", f"`{statement.name}` has no argument `{arg.keyword}`", arg.span, remedy)
        if arg.keyword is not None and arg.keyword in given:
            raise error("NX251", f"`{statement.name}` is given `{arg.keyword}` twice", arg.span, f"write `{form}`")
        if arg.keyword is not None:
            given[arg.keyword] = arg
    if len([a for a in call.args if a.keyword is None]) > len(params):
        raise error("NX251", f"`{statement.name}` takes {len(params)} arguments", call.span, f"write `{form}`")
    return given


def _form(statement: ast.Optimizer) -> str:
    return f"{statement.name}({', '.join(p.span.text for p in statement.params)})"


def words(optimizer: OptimizerName) -> set[str]:
    """The parameters that are words: the factors in `aspect(g; scale)`, here or in the body of an optimizer that this one calls."""
    found = set()
    for call in calls_in(optimizer.statement.body):
        if call.fn.ident == "aspect":
            found |= {e.ident for e in call.extra if isinstance(e, ast.Name)}
        called = optimizer.scope.other(call.fn.ident)
        if called is not None and isinstance(called.value, OptimizerName):
            chosen, passed = words(called.value), _given(called.value, call)
            found |= {a.value.ident for n, a in passed.items() if n in chosen and isinstance(a.value, ast.Name)}
    return found


def _word(core: Core, source: ast.Expr, scope: Scope, which: str) -> ir.Node:
    """A factor of rows and columns: one of a few words, which stands for its position among them, or an argument that is one."""
    known = shape_factors.NAMES
    word = source.ident if isinstance(source, ast.Name) and source.indices is None else ""
    passed = scope.others.get(word)
    if scope.entries and passed is not None and isinstance(passed.value, v.Scalar):
        return passed.value.node
    if word not in known:
        message = f"`{source.span.text}` is not a factor that {which} can have"
        remedy = suggest(word, known) or f"write one of: {', '.join(known)}"
        raise error("NX251", message, source.span, remedy)
    return core.build.constant(known.index(word), source.span)
