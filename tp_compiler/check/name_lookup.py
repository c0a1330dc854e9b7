"""References to bound names: brackets, members, and the value with the indices written at this place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tp_compiler.check import positions
from tp_compiler.check import values as v
from tp_compiler.check.core import BROKEN, Context, Core, a_kind
from tp_compiler.check.names import Binding
from tp_compiler.diagnostics import ProgramError, Span, error
from tp_compiler.frontend import syntax as ast
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index
from tp_compiler.ir.walk import rewrite
from tp_compiler.transform.steps import clocked, extent, steps_ahead


class NameLookup:
    """The rules of brackets after names."""

    def __init__(self, core: Core):
        self.core = core
        self.build = core.build
        self._raw_positions: dict[
            ir.Node, ir.Node
        ] = {}  # positions computed from `step`, and the positions they denote

    def read(self, binding: Binding, expr: ast.Name, ctx: Context) -> v.Value:
        """A bound value under the indices written at this place."""
        if self.core.seen is not None:
            self.core.seen.read(expr, binding)
        written = expr.indices or ()
        if isinstance(binding.value, v.Broken) and not binding.members:
            for index in written:  # still report mistakes inside the brackets
                self.core.value(index, Context(ctx.scope))
            return BROKEN
        if binding.clock is not None and len(written) == len(binding.indices) + 1:
            return self._of_step(binding, binding.clock, expr, ctx)
        if len(written) != len(binding.indices) and expr.ident in self.core.unresolved:
            raise ProgramError([])  # a statement that binds the name has an error
        if len(written) != len(binding.indices):
            own = (binding.clock, *binding.indices) if binding.clock is not None and written else binding.indices
            names = ",".join(i.name for i in own)
            form = f"{expr.ident}[{names}]" if names else expr.ident
            kinds = {v.Ket: "neurons", v.Matrix: "entries of a matrix"}
            inner = next((what for kind, what in kinds.items() if isinstance(binding.value, kind)), "")
            also = f"; brackets select members of a family, not {inner}" if inner and not names else ""
            raise error(
                "NX220",
                f"`{expr.ident}` has {_count(len(own))}, but got {len(written) or 'none'}",
                expr.span,
                f"write `{form}`{also}",
            )
        selectors = [self.selector(e, i, expr, ctx) for e, i in zip(written, binding.indices, strict=True)]
        hidden = binding.value.over if isinstance(binding.value, v.Scalar | v.Ket) else ()
        self.core.written.update(dict.fromkeys((*(s for s in selectors if isinstance(s, Index)), *hidden)))
        return self._inside(self._member(binding, selectors, expr), selectors, binding.indices, expr.span)

    def _inside(
        self, value: v.Value, selectors: list[Index | int | ir.Node], own: tuple[Index, ...], span: Span
    ) -> v.Value:
        """`x[step-1]`: zero at the first step."""
        for selector in selectors:
            raw = self._raw_positions.get(selector) if isinstance(selector, ir.Node) else None
            if raw is None or raw is selector:
                continue
            if not isinstance(value, v.Scalar | v.Ket):
                remedy = "use `step` itself, or a family of kets or numbers, which counts as 0 there"
                raise error("NX225", f"`{span.text}` has no member where `step` is 0", span, remedy)
            mask = self.build.map("step", (self.build.add(raw, self.build.constant(-0.5, span), span),), span)
            value = type(value)(self.build.map("mul", (value.node, mask), span))
        return value

    def _of_step(self, binding: Binding, clock: Index, expr: ast.Name, ctx: Context) -> v.Value:
        """`loss[step]`, `loss[0]`: a quantity of the loop at a step."""
        written = expr.indices or ()
        place = next((k for k, e in enumerate(written) if _speaks_of_step(e)), 0)
        rest = replace(expr, indices=(*written[:place], *written[place + 1 :]) or None)
        value = self.read(replace(binding, clock=None), rest, ctx)
        if isinstance(value, v.Scalar | v.Ket):
            clock = extent(value.node, clock)
        selector = self.selector(written[place], clock, expr, ctx)
        if isinstance(selector, ir.Node) and self._raw_positions.get(selector) is self._now(expr.span):
            return value
        if isinstance(value, v.Broken):
            return value
        if not isinstance(value, v.Scalar):
            remedy = "use it in an output over `step`, which reads its value at each step"
            raise error("NX172", f"only scalars can be read at past steps; this is {a_kind(value)}", expr.span, remedy)
        node = self.build.trace(value.node, clock, expr.span)
        family = v.Scalar(node)
        picked = self.reindexed(family, (clock,), [selector], expr.span)
        return self._inside(picked, [selector], (clock,), expr.span)

    def _now(self, span: Span) -> ir.Node:
        """The position of the current step: steps count from 0, positions from 1."""
        return self.build.add(self.build.clock(span), self.build.constant(1, span), span)

    def _clocked_position(self, node: ir.Node, ahead: float, index: Index, span: Span) -> ir.Node:
        """The position that `step + ahead` points at; before the first step, 1."""
        if ahead != int(ahead):
            raise error("NX224", f"`{span.text}` is not an integer", span, "number steps 0, 1, 2, ...")
        ends = index.name == "step" and not ahead  # with the last update: the output does, too
        if self.core.last_step + ahead >= index.size and not ends:
            first = 0 if index.name == "step" else 1
            reached, last = self.core.last_step + int(ahead) + first, index.size - 1 + first
            message = f"`{span.text}` reaches {reached}, which is outside {first}..{last}"
            raise error("NX225", message, span, "make the axis longer, or read fewer points")
        count = self.build.clock(span)  # of the times listed, in gradient flow, where `step` as a number is the time
        node = rewrite(self.build, node, lambda n: count if isinstance(n, ir.Clock) else None if n.args else n, span)
        raw = self.build.add(node, self.build.constant(1, span), span)
        position = raw if ahead >= 0 else self.build.map("max", (raw, self.build.constant(1, span)), span)
        self._raw_positions[position] = raw
        return position

    def selector(self, expr: ast.Expr, index: Index, name: ast.Name, ctx: Context) -> Index | int | ir.Node:
        """The selector written in a bracket: an index, a position, or integer data (a node)."""
        scope = ctx.scope
        if isinstance(expr, ast.Name) and expr.indices is None and not expr.primes:
            found = scope.other(expr.ident)
            if found is not None and isinstance(found.value, v.IndexName):
                if scope.optimizer is not None:
                    scope.optimizer.typed = True
                if found.value.index.name == index.name == "step":
                    return self._along_the_steps(found.value.index, index, expr.span)
                self._same_axis(found.value.index, index, expr, name)
                return found.value.index
            if found is None:
                raise self.core.no_index(expr, scope, index)
        value = self.core.evaluate(expr, Context(scope))
        if isinstance(value, v.Broken):
            raise ProgramError([])
        node = self.core.expect_scalar(value, expr.span, "an index")
        assert node is not None
        if isinstance(node, ir.Constant):
            return self._position(node.value, index, expr)
        if isinstance(node, ir.Array | ir.Reindex) and _is_integer(node):
            self._data_inside(self._known(node), index, expr)
            return node
        ahead = clocked(node)
        if ahead is not None:
            return self._clocked_position(node, ahead, index, expr.span)
        computed = positions.values(node)
        if computed is not None and all(p.is_integer() for p in computed):
            if all(1 <= p <= index.size for p in computed):
                return node
            raise error(
                "NX222",
                f"`{expr.span.text}` leaves its axis of {index.size} points",
                expr.span,
                "use `shift[i](x, 1)` or `unfold`, which fill with zeros, or a `for` loop",
            )
        remedy = "write an index name, a position, or integer data"
        if _is_array(node):
            message = f"`{expr.span.text}` is not an index, since its data are not all integers"
            raise error("NX223", message, expr.span, remedy)
        raise error("NX223", "this is not an index", expr.span, remedy)

    def _known(self, node: ir.Node) -> Any | None:
        """The integers that positions are read from, over all steps; None if other data choose among them."""
        if isinstance(node, ir.Array):
            return node.values
        assert isinstance(node, ir.Reindex)
        found = self._known(node.args[0])
        picks: list[int | slice] = []
        for s in node.selectors:
            ahead = steps_ahead(node.args[s.arg]) if isinstance(s, ir.Gather) else 0.0
            if ahead is None:
                return None
            steps = slice(max(0, int(ahead)), self.core.last_step + int(ahead) + 1)
            picks.append(s - 1 if isinstance(s, int) else steps if isinstance(s, ir.Gather) else slice(None))
        diagonal = len({s for s in node.selectors if isinstance(s, Index)}) < picks.count(slice(None))
        return None if found is None or diagonal else found[tuple(picks)]

    def _data_inside(self, values: Any | None, index: Index, expr: ast.Expr) -> None:
        """Check that integer data used as an index stay inside the axis."""
        if values is None or values.size == 0:
            return
        wrong = next((int(x) for x in (values.min(), values.max()) if not 1 <= x <= index.size), None)
        if wrong is not None:
            message = f"`{expr.span.text}` contains the position {wrong}, which is outside 1..{index.size}"
            zero = f": add 1 to those that count from 0, `{expr.span.text} + 1`" if wrong == 0 else ""
            raise error("NX225", message, expr.span, f"count positions from 1{zero}")

    def _position(self, value: float, index: Index, expr: ast.Expr) -> int:
        if value != int(value):
            raise error("NX224", f"position {value:g} is not an integer", expr.span, "number positions 1, 2, ...")
        first = 0 if index.name == "step" else 1
        position = int(value) + 1 - first
        if not 1 <= position <= index.size:
            last = index.size - 1 + first
            remedy = (
                f"count positions from 1; the last is {last}"
                if first
                else "count updates made so far: 0 is before the first"
            )
            raise error("NX225", f"position {int(value)} is outside {first}..{last}", expr.span, remedy)
        return position

    def declared(self, name: ast.Name, value: v.Value, own: tuple[Index, ...]) -> v.Value:
        """The value of a name declared over these indices: `|x[t]> = |u>` is |u> for all t, and if gradients are taken with
        respect to |x[t]>, a family of separate kets. A number stays a number."""
        known = isinstance(value, v.Scalar | v.Ket) and not isinstance(value.node, ir.Constant)
        if not known or (self.core.variables is not None and name.ident not in self.core.variables):
            return value
        assert isinstance(value, v.Scalar | v.Ket)
        return type(value)(self.build.over(value.node, own, name.span), tuple(i for i in value.over if i not in own))

    def _along_the_steps(self, found: Index, own: Index, span: Span) -> Index | ir.Node:
        """`step` in brackets, where it runs over all steps or to the last update (ends.py), and the index that is read."""
        return self.build.position(found, span) if found.size < own.size else own

    def _same_axis(self, found: Index, wanted: Index, expr: ast.Expr, name: ast.Name) -> None:
        if found.axis.name == wanted.axis.name:
            return
        if wanted.axis.name == "?":
            message = f"`{name.ident}` is bound at positions without an axis, so `{found.name}` cannot run over them"
            remedy = (
                f"read it by position, or bind it in a loop over `{found.name}`: `for {found.name} in 1..{found.size}`"
            )
            raise error("NX226", message, expr.span, remedy)
        steps = "step" in (found.axis.name, wanted.axis.name)
        raise error(
            "NX226",
            f"the index `{found.name}` ranges over axis `{found.axis.name}`, but `{name.ident}` needs one of axis"
            f" `{wanted.axis.name}` here",
            expr.span,
            f"write `{wanted.name}` here"
            if steps
            else f"declare both names together: `axis {wanted.axis.name}, {found.name} : {wanted.size}`",
        )

    def _member(self, binding: Binding, selectors: list[Index | int | ir.Node], expr: ast.Name) -> v.Value:
        if not binding.fixed:
            return self.reindexed(binding.value, binding.indices, selectors, expr.span)
        picks = [selectors[k] for k in binding.fixed]
        rest = [s for k, s in enumerate(selectors) if k not in binding.fixed]
        indices = tuple(i for k, i in enumerate(binding.indices) if k not in binding.fixed)
        if all(isinstance(p, int) for p in picks):
            key = tuple(p for p in picks if isinstance(p, int))
            return self.reindexed(self._bound_member(binding, key, expr), indices, rest, expr.span)
        whole = self._stacked(binding, expr)
        return self.reindexed(whole.value, whole.indices, selectors, expr.span)

    def _bound_member(self, binding: Binding, key: tuple[int, ...], expr: ast.Name) -> v.Value:
        if key in binding.members:
            return binding.members[key]
        if isinstance(binding.value, v.Broken):
            shown = ", ".join(map(str, key))
            raise error(
                "NX227", f"member {shown} of `{expr.ident}` is not bound yet", expr.span, "bind it before reading it"
            )
        wanted = dict(zip(binding.fixed, key, strict=True))
        selectors: list[Index | int | ir.Node] = [wanted.get(k, i) for k, i in enumerate(binding.indices)]
        return self.reindexed(binding.value, binding.indices, selectors, expr.span)

    def _stacked(self, binding: Binding, expr: ast.Name) -> Binding:
        """All members along the first fixed bracket assembled, recursively: the whole family as one value."""
        place, *others = binding.fixed
        index = binding.indices[place]
        parts = []
        for position in range(1, index.size + 1):
            picked = {k[1:]: m for k, m in binding.members.items() if k[0] == position}
            remaining = tuple(i for k, i in enumerate(binding.indices) if k != place)
            fixed = tuple(k - (k > place) for k in others)
            if fixed:
                base = Binding(BROKEN, remaining, fixed=fixed, members=picked)
                parts.append(self._stacked(base, expr).value)
            else:
                parts.append(self._bound_member(binding, (position,), expr))
        return Binding(self._stack(parts, index, expr), binding.indices)

    def _stack(self, parts: list[v.Value], index: Index, expr: ast.Name) -> v.Value:
        nodes = [p.node for p in parts if isinstance(p, v.Scalar | v.Ket)]
        if len(nodes) < len(parts):
            if any(isinstance(p, v.Broken) for p in parts):
                raise ProgramError([])
            raise error(
                "NX228", "members of a family of operators must be read one by one", expr.span, "write a position"
            )
        node = self.build.stack(tuple(nodes), index, expr.span)
        return v.Ket(node) if isinstance(parts[0], v.Ket) else v.Scalar(node)

    def reindexed(
        self, value: v.Value, own: tuple[Index, ...], selectors: list[Index | int | ir.Node], span: Span
    ) -> v.Value:
        """The value with selectors[k] in place of own[k]."""
        gathers = [s for s in selectors if isinstance(s, ir.Node)]
        chosen: dict[Index, Index | int | ir.Gather] = {}
        for index, selector in zip(own, selectors, strict=True):
            chosen[index] = ir.Gather(gathers.index(selector) + 1) if isinstance(selector, ir.Node) else selector
        if isinstance(value, v.Scalar | v.Ket):
            node = value.node
            picks = tuple(chosen.get(i, i) for i in node.type.indices)
            used = {p.arg for p in picks if isinstance(p, ir.Gather)}
            kept = tuple(g if k + 1 in used else None for k, g in enumerate(gathers))
            args = tuple(g for g in kept if g is not None)
            order = {k + 1: n + 1 for n, k in enumerate(k for k, g in enumerate(kept) if g is not None)}
            picks = tuple(ir.Gather(order[p.arg]) if isinstance(p, ir.Gather) else p for p in picks)
            return type(value)(self.build.reindex(node, picks, args, span))
        if isinstance(value, v.Operator):
            return self._operator_member(value, chosen, gathers, span)
        return value

    def _operator_member(
        self, op: v.Operator, chosen: dict[Index, Index | int | ir.Gather], gathers: list[ir.Node], span: Span
    ) -> v.Value:
        by_data = {i: s for i, s in chosen.items() if isinstance(s, ir.Gather)}
        plain = {i: s for i, s in chosen.items() if not isinstance(s, ir.Gather)}
        if not by_data:
            return self.core.algebra.rename(op, plain, span)
        if not isinstance(op, v.Matrix):
            raise error("NX229", "integer data can only select members of kets and matrices", span, "use a loop")
        hidden = {i: self.build.fresh(i) for i in by_data}
        renamed = self.core.algebra.rename(op, {**plain, **hidden}, span)
        assert isinstance(renamed, v.Matrix)
        return v.GatheredMatrix(renamed, tuple(hidden.values()), tuple(gathers[s.arg - 1] for s in by_data.values()))


def _count(n: int) -> str:
    return {0: "no index", 1: "one index"}.get(n, f"{n} indices")


def _is_array(node: ir.Node) -> bool:
    """Is this data, or a part of it?"""
    return isinstance(node, ir.Array) or (isinstance(node, ir.Reindex) and _is_array(node.args[0]))


def _is_integer(node: ir.Node) -> bool:
    if isinstance(node, ir.Reindex):
        return _is_integer(node.args[0])
    return isinstance(node, ir.Array) and node.integer


def _speaks_of_step(e: ast.Expr) -> bool:
    match e:
        case ast.Name(ident=ident):
            return ident == "step"
        case ast.Sum(terms=parts):
            return any(_speaks_of_step(p) for p in parts)
    return False
