"""The names that a tree reads, calls, binds and imports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields

from tp_compiler.frontend import syntax as ast

#: What takes gradients: by its second argument, or by what follows its semicolon.
GRADIENTS = {"grad", "vjp", "jvp", "ntk"}
_PLAIN = {"str", "bool", "int", "float"}  # types of fields that hold no trees
_PARTS: dict[type, tuple[str, ...]] = {}  # the answers of `parts`


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
    """Every name that is read in a tree, and whether it is in a label."""
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
        for name in parts(tree):
            yield from names_in(getattr(tree, name), name != "operator")
    elif isinstance(tree, ast.Tree):
        for name in parts(tree):
            yield from names_in(getattr(tree, name), in_label)


def parts(tree: ast.Tree) -> tuple[str, ...]:
    """The fields of a tree that hold trees."""
    found = _PARTS.get(type(tree))
    if found is None:
        kinds = {f.name: f.type for f in fields(tree) if f.name != "span"}
        found = _PARTS[type(tree)] = tuple(name for name, kind in kinds.items() if kind not in _PLAIN)
    return found


def calls_in(tree: object) -> Iterator[ast.Call]:
    """Every call in a tree, in the order of the text."""
    left = [tree]
    while left:
        part = left.pop()
        if isinstance(part, ast.Call):
            yield part
        if isinstance(part, ast.Tree):
            left.extend(getattr(part, name) for name in reversed(parts(part)))
        elif isinstance(part, tuple):
            left.extend(reversed(part))


def variables(file: ast.File) -> set[str] | None:
    """The names that a program takes gradients with respect to; None if it imports files, which may use any name."""
    if any(isinstance(s, ast.Import) and s.quoted for s in file.statements):
        return None
    if not any(word in file.source.text for word in GRADIENTS):
        return set()
    calls = [c for c in calls_in(file.statements) if c.fn.ident in GRADIENTS]
    by = [c.extra if c.fn.ident == "ntk" else tuple(a.value for a in c.args[1:2]) for c in calls]
    return {name.ident for name, _ in names_in(tuple(by))}


def functions_of(call: ast.Call) -> tuple[ast.Expr, ...]:
    """The names of functions in a call: the called function, and the function passed to a `matfun`."""
    given = call.args[:1] if call.fn.ident in ("matfun", "dmatfun") else ()
    return (call.fn, *(arg.value for arg in given))


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
    """Every word outside the statements that were parsed: names whose declaration may have been lost."""
    text, at, rest = file.source.text, 0, []
    for statement in file.statements:
        rest.append(text[at : statement.span.start])
        at = statement.span.end
    lines = "\n".join([*rest, text[at:]]).split("\n")
    words = {word for line in lines for word in re.findall(r"[^\W\d]\w*", line.split("#")[0])}
    return words | {"step"} if "train" in words else words


def within(body: tuple[ast.Statement, ...]) -> Iterator[ast.Statement]:
    """The statements of a body, those of its loops included."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.For):
            yield from within(statement.body)
