"""`def`: parameters, arguments and hygienic expansion.

A call runs the body in the scope where the def stands. Indices that an argument carries beyond the parameter's own
pass through under hidden names (`i#3`), so that an index of the same name inside the body cannot capture them.
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING

from tp_compiler.check import values as v
from tp_compiler.check.core import BROKEN, Context, Core, family_indices, free_indices
from tp_compiler.check.name_lookup import NameLookup
from tp_compiler.check.names import Binding, Scope, UserDef
from tp_compiler.diagnostics import Diagnostic, Diagnostics, error, suggest
from tp_compiler.frontend import syntax as ast
from tp_compiler.ir.types import Index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_DEPTH = 200
#: What takes gradients: by its second argument, or by what stands behind its semicolon.
GRADIENTS = {"grad", "vjp", "jvp", "ntk"}


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
        returned: dict[Index, Index] = {}
        broken = False
        for param, arg in self._arguments(statement, expr):
            value = self.core.value(arg, ctx)
            if isinstance(value, v.Broken):
                broken = True
                continue
            self._bind(param, value, arg, scope, hidden, returned)
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
        """Two indices of a result must not meet under one name: that would take a diagonal silently."""
        names = [back.get(i, i) for i in free_indices(value)]
        twice = next((i for i in names if names.count(i) > 1), None)
        if isinstance(twice, Index):
            raise error(
                "NX273", f"the result of `{expr.fn.ident}` has the index `{twice.name}` twice", expr.span,
                f"call it with another index of axis `{twice.axis.name}`",
            )  # fmt: skip

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
        returned: dict[Index, Index],
    ) -> None:  # fmt: skip
        wanted: dict[str, type[v.Value]] = {"scalar": v.Scalar, "ket": v.Ket, "operator": v.Operator}
        if not isinstance(value, wanted[param.kind]):
            hints = {"scalar": "", "ket": f", or declare the parameter as `{param.name.ident}`", "operator": ""}
            raise error(
                "NX216" if param.kind == "ket" else "NX210",
                f"the parameter `{param.span.text}` takes {_a(param.kind)}, found {_a(value.kind)}",
                arg.span,
                f"pass {_a(param.kind)}{hints[param.kind] if isinstance(value, v.Scalar) else ''}",
            )
        own = tuple(self._param_index(e, scope) for e in param.name.indices or ())
        free = free_indices(value)
        if len(free) < len(own):
            free = family_indices(value)
        matched = self._matched(own, free, param, arg)
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
        binding = scope.other(e.ident) if isinstance(e, ast.Name) and e.indices is None else None
        if binding is None or not isinstance(binding.value, v.IndexName):
            raise self.core.no_index(e, scope)
        return binding.value.index

    def _matched(
        self, own: tuple[Index, ...], free: tuple[Index, ...], param: ast.Param, arg: ast.Expr
    ) -> dict[Index, Index]:
        """Argument index -> parameter index: the one of the same name, else the only one on its axis."""
        matched: dict[Index, Index] = {}
        for index in own:
            same = [i for i in free if i.axis.name == index.axis.name and i not in matched]
            named = [i for i in same if i.name == index.name]
            if not same:
                raise error(
                    "NX271", f"`{param.span.text}` takes an index of axis `{index.axis.name}`, but the argument has none",
                    arg.span, f"pass an array with the index `{index.name}`",
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
    """Names of a body that exist nowhere, and recursion, reported where the definition stands."""
    kets = {p.name.ident for p in statement.params if p.kind == "ket"} | bound_names(statement.body, True)
    others = {p.name.ident for p in statement.params if p.kind != "ket"} | bound_names(statement.body, False) | extra
    for name, in_label in names_in(statement.body, False):
        known_ket = name.ident in kets or scope.ket(name.ident) is not None
        known = name.ident in others or scope.other(name.ident) is not None
        if known or (in_label and known_ket) or name.ident in unresolved:
            continue
        if name.ident == statement.name:
            found.add(Diagnostic("NX131", f"`{name.ident}` calls itself", name.span, "write a `for` loop"))
            continue
        candidates = [*others, *scope.known(False), *((*kets, *scope.known(True)) if in_label else ())]
        remedy = suggest(name.ident, candidates)
        if known_ket:
            remedy = f"write `|{name.span.text}>`"
        unresolved.add(name.ident)
        found.add(Diagnostic("NX101", f"`{name.ident}` is not defined", name.span, remedy))


def bound_names(body: tuple[ast.Statement, ...], kets: bool) -> set[str]:
    """The names that statements bind, loops included: of kets, or of everything else."""
    names: set[str] = set()
    for s in body:
        if isinstance(s, ast.Bind):
            for t in s.targets:
                if isinstance(t, ast.Ket) and kets and isinstance(t.label, ast.Name):
                    names.add(t.label.ident)
                elif isinstance(t, ast.Name) and not kets:
                    names.add(t.ident)
        elif isinstance(s, ast.For):
            names |= bound_names(s.body, kets) | (set() if kets else {s.variable})
        elif isinstance(s, ast.State | ast.Assign) and not kets:
            names.add(s.name)
        else:  # declarations, which are wrong in a body but not unknown
            names |= introduced(s)
    return names


def names_in(tree: object, in_label: bool = False) -> Iterator[tuple[ast.Name, bool]]:
    """Every name that is read in a tree, and whether it stands in a label."""
    if isinstance(tree, tuple):
        for part in tree:
            yield from names_in(part, in_label)
    elif isinstance(tree, ast.Name):
        yield tree, in_label
        yield from names_in(tree.indices or (), False)
    elif isinstance(tree, ast.Bind):
        for target in tree.targets:
            label = target.label if isinstance(target, ast.Ket) else target
            yield from names_in(label.indices or () if isinstance(label, ast.Name) else (), False)
        yield from names_in(tree.value, False)
    elif isinstance(tree, ast.Ket | ast.Bra | ast.Mean | ast.Braket | ast.Sandwich):
        for f in fields(tree):
            yield from names_in(getattr(tree, f.name), f.name != "operator")
    elif is_dataclass(tree) and isinstance(tree, ast.Tree):
        for f in fields(tree):
            if f.name != "span":
                yield from names_in(getattr(tree, f.name), in_label)


def calls_in(tree: object) -> Iterator[ast.Call]:
    """Every call in a tree."""
    if isinstance(tree, ast.Call):
        yield tree
    if isinstance(tree, tuple):
        for part in tree:
            yield from calls_in(part)
    elif is_dataclass(tree) and isinstance(tree, ast.Tree):
        for f in fields(tree):
            if f.name != "span":
                yield from calls_in(getattr(tree, f.name))


def variables(statements: tuple[ast.Statement, ...]) -> set[str] | None:
    """The names that gradients are taken by in a program; None where it imports files, which may take them by any name."""
    if any(isinstance(s, ast.Import) and s.quoted for s in statements):
        return None
    calls = [c for c in calls_in(statements) if c.fn.ident in GRADIENTS]
    by = [c.extra if c.fn.ident == "ntk" else tuple(a.value for a in c.args[1:2]) for c in calls]
    return {name.ident for name, _ in names_in(tuple(by))}


def functions_of(call: ast.Call) -> tuple[ast.Expr, ...]:
    """The names of functions in a call: what it calls, and the function that a `matfun` is given."""
    given = call.args[:1] if call.fn.ident in ("matfun", "dmatfun") else ()
    return (call.fn, *(arg.value for arg in given))


# ------------------------------------------------------------------------------------- names of what could not be read
def introduced(s: ast.Statement) -> set[str]:
    """The names that a statement means to bring in."""
    match s:
        case ast.AxisDecl(names=names):
            return {n.ident for n in names}
        case ast.DataDecl(target=target) | ast.ScalarDecl(target=target) | ast.KetDecl(target=target):
            return {target.ident}
        case ast.MatrixDecl(target=target) | ast.Output(target=ast.Name() as target):
            return {target.ident}
        case ast.WidthDecl(name=name) | ast.Def(name=name) | ast.Fn(name=name) | ast.Optimizer(name=name):
            return {name}
        case ast.Bind() | ast.For():
            return bound_names((s,), True) | bound_names((s,), False)
        case ast.Train(body=body):
            return {"step"} | bound_names(body, True) | bound_names(body, False)
    return set()


def unread_names(file: ast.File) -> set[str]:
    """Every word outside the statements that could be parsed: names whose declaration may have been lost."""
    text, at, rest = file.source.text, 0, []
    for statement in file.statements:
        rest.append(text[at : statement.span.start])
        at = statement.span.end
    lines = "\n".join([*rest, text[at:]]).split("\n")
    words = {word for line in lines for word in re.findall(r"[^\W\d]\w*", line.split("#")[0])}
    return words | {"step"} if "train" in words else words
