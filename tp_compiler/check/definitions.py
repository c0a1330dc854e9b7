"""`def`: parameters, arguments and hygienic expansion.

A call runs the body in the scope of the definition. Indices of an argument that the parameter does not have
pass through under hidden names (`i#3`), so that an index of the same name inside the body cannot capture them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tp_compiler.check import values as v
from tp_compiler.check.core import BROKEN, Context, Core, family_indices, free_indices
from tp_compiler.check.hints import hint
from tp_compiler.check.name_lookup import NameLookup
from tp_compiler.check.names import Binding, Scope, UserDef
from tp_compiler.diagnostics import Diagnostic, Diagnostics, error
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.mentions import bound_names, names_in
from tp_compiler.ir.types import Index

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_DEPTH = 200


class Definitions:
    """Expands calls of defs. `run` executes body statements in a scope (statements.py)."""

    def __init__(self, core: Core, lookup: NameLookup, run: Callable[[tuple[ast.Statement, ...], Scope], None]):
        self.core, self.lookup = core, lookup
        self.run = run
        self.depth = 0

    def call(self, function: UserDef, expr: ast.Call, ctx: Context) -> tuple[v.Value, ...]:
        """The values that the def returns at these arguments."""
        if self.depth >= MAX_DEPTH:
            raise error("NX132", f"calls are nested more than {MAX_DEPTH} deep", expr.span, "write a `for` loop")
        self.core.build.spend(expr.span, 5)
        statement = function.statement
        scope = function.scope.snapshot()
        scope.body = True
        scope.optimizer = ctx.scope.optimizer
        hidden: dict[Index, Index] = {}
        given = self._brackets(statement, expr, ctx, scope)
        returned = dict(given)
        broken = False
        for param, arg in self._arguments(statement, expr):
            value = self.core.value(arg, ctx)
            if isinstance(value, v.Broken):
                broken = True
                continue
            self._bind(param, value, arg, scope, hidden, returned, given)
        if broken:
            return (BROKEN,) * _returns(statement)
        self.depth += 1
        try:
            self.run(tuple(s for s in statement.body if not isinstance(s, ast.Return)), scope)
            results = [self.core.value(e, Context(scope)) for e in _return(statement).values]
        finally:
            self.depth -= 1
        self.core.written.clear()  # the indices of the arguments are those of the results, or are bound in the body
        back: dict[Index, Index | int] = {**returned, **{h: i for i, h in hidden.items()}}
        for result in results:
            self._no_capture(result, back, expr)
        return tuple(self._restored(r, back, expr) for r in results)

    def _no_capture(self, value: v.Value, back: dict[Index, Index | int], expr: ast.Call) -> None:
        """Two indices of a result must not get the same name: that would silently take a diagonal."""
        names = [back.get(i, i) for i in free_indices(value)]
        twice = next((i for i in names if names.count(i) > 1), None)
        if isinstance(twice, Index):
            raise error(
                "NX273", f"the result of `{expr.fn.ident}` has the index `{twice.name}` twice", expr.span,
                f"call it with another index of axis `{twice.axis.name}`",
            )  # fmt: skip

    def _brackets(self, statement: ast.Def, expr: ast.Call, ctx: Context, scope: Scope) -> dict[Index, Index]:
        """Index of the body -> index in the brackets of the call, which it stands for."""
        written, names = expr.fn.indices or (), statement.indices
        form = f"{statement.name}[{','.join(e.ident for e in names)}](...)"
        if not names and written:
            message = f"`{statement.name}` takes no brackets"
            raise error("NX254", message, expr.fn.span, "remove the brackets: its indices come with its arguments")
        if len(written) != len(names):
            message = f"`{statement.name}` takes {len(names)} indices in brackets, but got {len(written) or 'none'}"
            raise error("NX252", message, expr.fn.span, f"write `{form}`, with the indices of the arguments")
        given = {}
        for name, e in zip(names, written, strict=True):
            own = self._param_index(e, ctx.scope)
            index = Index(name.ident, own.axis)
            given[index] = own
            scope.others[name.ident] = Binding(v.IndexName(index), span=name.span)
        return given

    def _arguments(self, statement: ast.Def, expr: ast.Call) -> list[tuple[ast.Param, ast.Expr]]:
        params = statement.params
        form = f"{statement.name}({', '.join(p.span.text for p in params)})"
        given: dict[str, ast.Expr] = {}
        for k, arg in enumerate(expr.args):
            if arg.keyword is None and k >= len(params):
                raise error(
                    "NX251", f"`{statement.name}` takes {len(params)} arguments, but got {len(expr.args)}", expr.span,
                    f"write `{form}`",
                )  # fmt: skip
            key = arg.keyword if arg.keyword is not None else params[k].name.ident
            if key not in {p.name.ident for p in params}:
                raise error("NX251", f"`{statement.name}` has no parameter `{key}`", arg.span, f"write `{form}`")
            if key in given:
                raise error("NX251", f"`{statement.name}` is given `{key}` twice", arg.span, f"write `{form}`")
            given[key] = arg.value
        chosen = []
        for param in params:
            value = given.get(param.name.ident, param.default)
            if value is None:
                raise error(
                    "NX251",
                    f"the argument `{param.name.ident}` of `{statement.name}` is missing",
                    expr.span,
                    f"write `{form}`",
                )
            chosen.append((param, value))
        return chosen

    def _bind(
        self, param: ast.Param, value: v.Value, arg: ast.Expr, scope: Scope, hidden: dict[Index, Index],
        returned: dict[Index, Index], given: dict[Index, Index],
    ) -> None:  # fmt: skip
        wanted: dict[str, type[v.Value]] = {"scalar": v.Scalar, "ket": v.Ket, "operator": v.Operator}
        if not isinstance(value, wanted[param.kind]):
            text = param.name.span.text
            declared = {v.Scalar: text, v.Ket: f"|{text}>", v.Operator: f"op {text}"}
            form = next((shown for kind, shown in declared.items() if isinstance(value, kind)), "")
            raise error(
                "NX216" if param.kind == "ket" else "NX210",
                f"the parameter `{param.span.text}` takes {_a(param.kind)}, found {_a(value.kind)}",
                arg.span,
                f"pass {_a(param.kind)}" + (f", or declare the parameter as `{form}`" if form else ""),
            )
        own = tuple(self._param_index(e, scope) for e in param.name.indices or ())
        free = free_indices(value)
        if len(free) < len(own):
            free = family_indices(value)
        matched = self._matched(own, free, param, arg, given)
        mapping: dict[Index, Index | int] = {}
        for index in family_indices(value):
            if index in matched:
                mapping[index] = matched[index]
                returned.setdefault(matched[index], index)
            else:
                mapping[index] = hidden.setdefault(index, self.core.build.fresh(index))
        placed = self.lookup.declared(param.name, self._restored(value, mapping, arg), own)
        if param.kind != "ket" and (outer := scope.ket(param.name.ident)) is not None:
            scope.hidden[param.name.ident] = outer
        table = scope.kets if param.kind == "ket" else scope.others
        table[param.name.ident] = Binding(placed, own, param.span)

    def _param_index(self, e: ast.Expr, scope: Scope) -> Index:
        if scope.optimizer is not None:
            scope.optimizer.typed = True
        binding = scope.other(e.ident) if isinstance(e, ast.Name) and e.indices is None else None
        if binding is None or not isinstance(binding.value, v.IndexName):
            raise self.core.no_index(e, scope)
        return binding.value.index

    def _matched(
        self, own: tuple[Index, ...], free: tuple[Index, ...], param: ast.Param, arg: ast.Expr,
        given: dict[Index, Index],
    ) -> dict[Index, Index]:  # fmt: skip
        """Argument index -> parameter index: that of the call's brackets, the one of the same name, the only one on its
        axis."""
        matched: dict[Index, Index] = {}
        for index in own:
            if given.get(index) in free:
                matched[given[index]] = index
                continue
            same = [i for i in free if i.axis.name == index.axis.name and i not in matched and index not in given]
            named = [i for i in same if i.name == index.name]
            if not same:
                raise error(
                    "NX271", f"`{param.span.text}` takes an index of axis `{index.axis.name}`, but the argument has none",
                    arg.span, f"pass an array with the index `{given.get(index, index).name}`",
                )  # fmt: skip
            if not named and len(same) > 1:
                names = " and ".join(f"`{i.name}`" for i in same)
                raise error(
                    "NX272", f"both {names} could be the index `{index.name}` of `{param.span.text}`", arg.span,
                    f"rename one of them to `{index.name}`",
                )  # fmt: skip
            matched[(named or same)[0]] = index
        return matched

    def _restored(self, value: v.Value, mapping: dict[Index, Index | int], at: ast.Expr) -> v.Value:
        if not mapping:
            return value
        if isinstance(value, v.Scalar | v.Ket):
            over = tuple(i for i in (mapping.get(i, i) for i in value.over) if isinstance(i, Index))
            return type(value)(self.core.build.rename(value.node, mapping, at.span), over)
        if isinstance(value, v.Operator):
            return self.core.algebra.rename(value, mapping, at.span)
        return value


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeio' else 'a'} {kind}"


def _return(statement: ast.Def) -> ast.Return:
    last = statement.body[-1]
    assert isinstance(last, ast.Return)
    return last


def _returns(statement: ast.Def) -> int:
    return len(_return(statement).values)


# ------------------------------------------------------------------------------------- the body, before any call
def check_body(
    statement: ast.Def | ast.Optimizer, scope: Scope, extra: set[str], found: Diagnostics, unresolved: set[str]
) -> None:
    """Reports undefined names in a body, and recursion, at the definition."""
    kets = {p.name.ident for p in statement.params if p.kind == "ket"} | bound_names(statement.body, True)
    others = {p.name.ident for p in statement.params if p.kind != "ket"} | bound_names(statement.body, False) | extra
    if isinstance(statement, ast.Def):
        others |= {e.ident for e in statement.indices}
    for name, in_label in names_in(statement.body, False):
        known_ket = name.ident in kets or scope.ket(name.ident) is not None
        known = name.ident in others or scope.other(name.ident) is not None
        if known or (in_label and known_ket) or name.ident in unresolved:
            continue
        if name.ident == statement.name:
            found.add(Diagnostic("NX131", f"`{name.ident}` calls itself", name.span, "write a `for` loop"))
            continue
        candidates = [*others, *scope.known(False), *((*kets, *scope.known(True)) if in_label else ())]
        remedy = hint(name.ident, candidates)
        if known_ket:
            remedy = f"write `|{name.span.text}>`"
        unresolved.add(name.ident)
        found.add(Diagnostic("NX101", f"`{name.ident}` is not defined", name.span, remedy))
