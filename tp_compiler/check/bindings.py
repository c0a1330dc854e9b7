"""Bindings: names of kets, scalars and operators bound by statements, as a whole or member by member."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import replace

from tp_compiler.check import values as v
from tp_compiler.check.core import BROKEN, Context, Core
from tp_compiler.check.declarations import UNKNOWN, Declarations
from tp_compiler.check.definitions import Definitions
from tp_compiler.check.ends import before_the_loop
from tp_compiler.check.name_lookup import NameLookup
from tp_compiler.check.names import Binding, Scope, UserDef
from tp_compiler.check.training import TrainingChecks
from tp_compiler.diagnostics import ProgramError, Span, error
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.mentions import introduced
from tp_compiler.frontend.syntax import RESERVED
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Axis, Index


class Bindings:
    """`|h[i]> = ...`, `c = ...`, `|h[i,1]> = ...`, `a, b = f(x)`. `top` is the scope of the program itself."""

    def __init__(
        self,
        core: Core,
        lookup: NameLookup,
        declarations: Declarations,
        training: TrainingChecks,
        definitions: Definitions,
        top: Scope,
    ):
        self.core, self.lookup, self.declarations = core, lookup, declarations
        self.training, self.definitions = training, definitions
        self.build = core.build
        self.top = top
        self.loop_axes: dict[str, Axis] = {}
        self.names: dict[ir.Node, tuple[str, tuple[Index | int, ...]]] = {}  # the name of a node in the source

    def bind(self, s: ast.Bind, scope: Scope) -> None:
        over_steps = self.training.over_steps(s.targets)
        with nullcontext() if over_steps else before_the_loop(self.core, s, scope):
            self._bind(s, scope, over_steps)

    def _bind(self, s: ast.Bind, scope: Scope, over_steps: bool) -> None:
        values = self._bound_values(s, self.training.stepwise(scope) if over_steps else scope)
        for target, value in zip(s.targets, values, strict=True):
            try:
                self._assign_target(_without_step(target) if over_steps else target, value, scope, s)
                if over_steps:
                    self._clocked(target, scope)
            except ProgramError as problem:
                for diagnostic in problem.diagnostics:
                    self.core.found.add(diagnostic)
                self.spoil(introduced(s), scope)

    def _clocked(self, target: ast.Name | ast.Ket, scope: Scope) -> None:
        """`f[step,i] = ...` after the loop: a quantity at every step."""
        name = target.label if isinstance(target, ast.Ket) else target
        assert isinstance(name, ast.Name)
        table = scope.kets if isinstance(target, ast.Ket) else scope.others
        table[name.ident] = replace(table[name.ident], clock=self.core.clock)

    def spoil(self, names: set[str], scope: Scope) -> None:
        """Marks the names bound by a wrong statement, or by an unfinished loop, as unknown."""
        self.core.unresolved |= names
        for table in (scope.kets, scope.others):
            for name in names & table.keys():
                if not table[name].declared and not isinstance(table[name].value, v.IndexName):
                    table[name] = Binding(BROKEN)

    def _bound_values(self, s: ast.Bind, scope: Scope) -> list[v.Value]:
        ctx = Context(scope)
        if len(s.value) == len(s.targets) == 1 and isinstance(s.targets[0], ast.Name):
            setting = self.declarations.setting(s.targets[0]) if scope is self.top else None
            if setting is not None:
                return [v.Scalar(setting)]
        if len(s.value) == len(s.targets):
            return [self.core.value(e, ctx) for e in s.value]
        if len(s.value) == 1 and isinstance(s.value[0], ast.Call):
            binding = scope.other(s.value[0].fn.ident)
            if binding is not None and isinstance(binding.value, UserDef):
                results = self.definitions.call(binding.value, s.value[0], ctx)
                if len(results) == len(s.targets):
                    return list(results)
                raise error("NX124", f"{len(s.targets)} names for {len(results)} values", s.span, "name each value")
        raise error("NX124", f"{len(s.targets)} names for {len(s.value)} values", s.span, "name each value")

    def _assign_target(self, target: ast.Name | ast.Ket, value: v.Value, scope: Scope, s: ast.Bind) -> None:
        ket = isinstance(target, ast.Ket)
        name = target.label if isinstance(target, ast.Ket) else target
        assert isinstance(name, ast.Name)
        table = scope.kets if ket else scope.others
        before = table.get(name.ident)
        if name.ident == "clt" or (not ket and name.ident in RESERVED):
            raise self.core.reserved(name)
        if before is not None and before.declared and not scope.body:
            shown = f"|{name.ident}>" if ket else name.ident
            raise error(
                "NX116",
                f"`{shown}` is declared, so a statement cannot rebind it",
                target.span,
                f"choose another name, such as `{_unused(ket, scope, target.span)}`; names bound by statements can be rebound",
            )
        places = [self.left(e, scope) for e in name.indices or ()]
        if ket and isinstance(value, v.Scalar) and isinstance(value.node, ir.Constant):
            value = v.Ket(value.node)  # `|h> = 0`: a number alone is the constant ket
        if scope.entries:  # in an optimizer a plain name may be an entry of a ket or of a matrix
            body = scope.optimizer
            table[name.ident] = Binding(value if body is None else body.settled(value), span=target.span)
            return
        self._sorted(value, ket, target.span, s)
        self.declarations.closed(value, tuple(p for p in places if isinstance(p, Index)), s.span)
        if isinstance(value, v.Broken) and before is not None and isinstance(before.value, v.Broken):
            return
        value = self.lookup.declared(name, value, tuple(p for p in places if isinstance(p, Index)))
        if isinstance(value, v.Scalar | v.Ket):
            self.names[value.node] = name.ident, tuple(p if isinstance(p, Index) else p[0] for p in places)
        table[name.ident] = self._bound(before, places, value, target.span)

    def _bound(
        self, before: Binding | None, places: list[Index | tuple[int, Axis]], value: v.Value, span: Span
    ) -> Binding:
        fixed = tuple(k for k, p in enumerate(places) if not isinstance(p, Index))
        own = tuple(p for p in places if isinstance(p, Index))
        if not fixed:
            return Binding(value, own, span)
        key = tuple(p[0] for p in places if not isinstance(p, Index))
        indices = tuple(p if isinstance(p, Index) else Index(f"member{k}#", p[1]) for k, p in enumerate(places))
        if before is None or len(before.indices) != len(places) or (before.members and before.fixed != fixed):
            return Binding(BROKEN, indices, span, fixed=fixed, members={key: value})
        merged = tuple(
            self._merged(old, new, k in fixed, span)
            for k, (old, new) in enumerate(zip(before.indices, indices, strict=True))
        )
        # A member is kept under the index names of the family, so that all members are written with the same ones.
        self.build.spend(span, 1 + len(before.members) // 100)  # the copy below
        mapping: dict[Index, Index | int] = {n: m for n, m in zip(indices, merged, strict=True) if n != m}
        value = self._renamed(value, mapping, span)
        return Binding(before.value, merged, span, fixed=fixed, members={**before.members, key: value})

    def _merged(self, old: Index, new: Index, member: bool, span: Span) -> Index:
        if UNKNOWN in (old.axis, new.axis):
            return new if old.axis == UNKNOWN else old
        if old.axis != new.axis:
            raise error(
                "NX226",
                f"this index ranges over axis `{old.axis.name}`, not `{new.axis.name}`",
                span,
                "use an index of that axis",
            )
        return old

    def _renamed(self, value: v.Value, mapping: dict[Index, Index | int], span: Span) -> v.Value:
        if isinstance(value, v.Scalar | v.Ket):
            return type(value)(self.build.rename(value.node, mapping, span))
        return self.core.algebra.rename(value, mapping, span) if isinstance(value, v.Operator) else value

    def left(self, e: ast.Expr, scope: Scope) -> Index | tuple[int, Axis]:
        """A bracket on the left-hand side of a binding: an index, or the position of one member (and its axis, if known)."""
        if isinstance(e, ast.Name) and e.indices is None:
            binding = scope.other(e.ident)
            if binding is None:
                raise self.core.no_index(e, scope)
            if isinstance(binding.value, v.IndexName):
                return binding.value.index
        position = self.core.integer(e, Context(scope), "the position of a member")
        if position is None:
            raise ProgramError([])
        axis = next((self.loop_axes[n] for n in _plain_names(e) if n in self.loop_axes), UNKNOWN)
        if not 1 <= position <= axis.size:
            raise error(
                "NX225",
                f"position {position} is outside 1..{axis.size}",
                e.span,
                f"count positions from 1; the last is {axis.size}",
            )
        return position, axis

    def _sorted(self, value: v.Value, ket: bool, span: Span, s: ast.Bind) -> None:
        if isinstance(value, v.Broken):
            return
        if ket and not isinstance(value, v.Ket):
            remedy = "bind a plain name, or multiply by `|1>`" if isinstance(value, v.Scalar) else "apply it to a ket"
            raise error(
                "NX216",
                f"expected a ket, found a {value.kind}"
                if value.kind != "operator"
                else "expected a ket, found an operator",
                s.span,
                remedy,
            )
        if not ket and not isinstance(value, v.Scalar | v.Operator):
            remedy = "write `|y> = ...`; an average is `<x|y>`, an outer product `|x><y|`"
            remedy = remedy if isinstance(value, v.Ket) else "apply it to a ket"
            raise error("NX210", f"expected a scalar or an operator, found a {value.kind}", s.span, remedy)
        if isinstance(value, v.Ket) and any(slot != 0 for slot, _ in value.node.type.slots):
            raise error("NX233", "a copy is used outside its `E`", s.span, "average over it: `E[1](...)`")


def _without_step(target: ast.Name | ast.Ket) -> ast.Name | ast.Ket:
    """The left side without its bracket `step`."""
    name = target.label if isinstance(target, ast.Ket) else target
    assert isinstance(name, ast.Name)
    kept = tuple(e for e in name.indices or () if not (isinstance(e, ast.Name) and e.ident == "step"))
    plain = replace(name, indices=kept or None)
    return replace(target, label=plain) if isinstance(target, ast.Ket) else plain


def _unused(ket: bool, scope: Scope, span: Span) -> str:
    """A name that the program does not have."""
    used = {*re.findall(r"\w+", span.source.text), *scope.known(ket)}
    letters = "hgyzvw" if ket else "cabde"
    candidates = (*letters, *(f"{letters[0]}{k}" for k in range(1, len(used) + 2)))
    found = next(name for name in candidates if name not in used)
    return f"|{found}>" if ket else found


def _plain_names(e: ast.Expr) -> list[str]:
    """The bare names of an index expression such as `s - 1`."""
    match e:
        case ast.Name(ident=ident):
            return [ident]
        case ast.Sum(terms=parts) | ast.Product(factors=parts):
            return [n for p in parts for n in _plain_names(p)]
        case ast.Paren(body=body) | ast.Neg(operand=body):
            return _plain_names(body)
    return []
