"""References to names: bindings with the brackets of a place, values over the steps, selected indices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from tp_compiler.diagnostics import Diagnostic, ProgramError
from tp_compiler.expand.forms import Forms, WrittenForm
from tp_compiler.expand.indices import STEP, Indices
from tp_compiler.expand.naming import Naming, WrittenName
from tp_compiler.expand.plan import BEFORE, WritingPlan
from tp_compiler.expand.text import ATOM, Piece, Signed, identifiers, in_ket, signed
from tp_compiler.expand.unit import unwritten
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index

#: How each index is written at a place: by a name, at a position, or by data.
Env = Mapping[Index, str]
#: A node with the way its indices are written.
Part = tuple[ir.Node, Env]


@dataclass(frozen=True)
class Place:
    """The place of an expression: in a bracket (`label`, bare names are kets), with which copies, in which region,
    and whether in a statement over the steps (`h[step,i]` is h[i] at that step)."""

    region: str
    over_steps: bool = False
    label: bool = False
    copies: Mapping[int, int] = field(default_factory=dict)

    def within(self) -> Place:
        """The same place inside the bars of a bracket."""
        return replace(self, label=True)

    def outside(self) -> Place:
        return replace(self, label=False)


class ReferenceRules:
    """A named value is written by its name; the derived class has rules for the other forms."""

    def __init__(self, plan: WritingPlan, naming: Naming, indices: Indices):
        self.plan = plan
        self.forms: Forms = plan.forms
        self.naming = naming
        self.indices = indices

    # -- entry points -------------------------------------------------------------------------------------------
    def piece(self, node: ir.Node, env: Env, at: Place) -> Piece:
        """A node where it is used."""
        name = self._name(node, at)
        return self.read(name, env, at) if name is not None else self.body(node, env, at)

    def body(self, node: ir.Node, env: Env, at: Place) -> Piece:
        """A node where it is bound: written out."""
        leaf = self.naming.leaf(node)
        return self.read(leaf, env, at) if leaf else signed(self._signed(node, self.forms.of(node), env, at))

    def read(self, name: WrittenName, env: Env, at: Place, step: str = "") -> Piece:
        """`|h[i]>`, `h[i]` in a bracket, `h[step,i]` after the loop."""
        if name.clocked and at.over_steps:
            step = step or STEP
        brackets = [env.get(b, "1") if isinstance(b, Index) else str(b) for b in name.brackets]
        brackets = [step, *brackets] if step else brackets
        text = name.ident + (f"[{','.join(brackets)}]" if brackets else "")
        piece = Piece(text, ATOM, name.ket)
        return in_ket(piece) if name.ket and (name.ident == "1" or not at.label) else piece

    def brackets(self, places: Iterable[Index | int]) -> dict[Index, str]:
        """Names for the free indices of a statement."""
        env: dict[Index, str] = {}
        for index in dict.fromkeys(places):
            if isinstance(index, Index):
                env[index] = self.indices.pick(index, env.values())
        return env

    # -- names --------------------------------------------------------------------------------------------------
    def _name(self, node: ir.Node, at: Place) -> WrittenName | None:
        if at.region != BEFORE and node in self.naming.aliases:
            return self.naming.aliases[node]
        return self.naming.names.get(node) or self.naming.leaf(node)

    def _signed(self, node: ir.Node, form: WrittenForm, env: Env, at: Place) -> Signed:
        rule = self.rules.get(form.kind)
        if rule is None:
            raise unwritten(node)
        found = rule(self, node, form, env, at)
        return (False, found) if isinstance(found, Piece) else found

    def _with_sign(self, node: ir.Node, env: Env, at: Place) -> Signed:
        """A node where it is used, its sign taken out."""
        name = self._name(node, at)
        if name is not None:
            return False, self.read(name, env, at)
        return self._signed(node, self.forms.of(node), env, at)

    def _ends_alike(self, index: Index, args: Iterable[ir.Node]) -> bool:
        """Does `step` run as far in the text of a sum as in the sum? To the last update only if something there says so."""
        clock = self.plan.unit.clock
        if clock is None or index.size == clock.size:
            return True
        todo = list(args)
        while todo:
            node = todo.pop()
            if not any(i.axis == index.axis for i in node.type.indices):
                continue
            if isinstance(node, ir.Array | ir.Trace):
                return True
            along = [a for a in node.args[1:] if not isinstance(a, ir.Position)]
            todo += [*node.args[:1], *along] if isinstance(node, ir.Reindex) else node.args
        return False

    def _bound(self, hidden: Sequence[Index], args: Sequence[ir.Node], env: Env) -> dict[Index, str]:
        """The place with new names for the indices of a sum, different from all others in its body."""
        free = {i for a in args for i in a.type.indices if i not in hidden}
        used = {word for i in free if i in env for word in identifiers(env[i])}
        inner = dict(env)
        for index in hidden:
            if index.axis.name == STEP and not self._ends_alike(index, args):
                message = "a sum over `step` ends with the last update, and nothing that is written in it does"
                remedy = "leave out what is multiplied by 0"
                raise ProgramError([Diagnostic("NX502", message, self.indices.span, remedy)])
            inner[index] = self.indices.pick(index, used, env.values())
            used.add(inner[index])
        return inner

    # -- passing on ------------------------------------------------------------------------------------------------
    def _selected(self, node: ir.Reindex, env: Env, at: Place) -> dict[Index, str]:
        """How the indices of a reference are written: names, positions and data in the brackets."""
        x, *places = self.forms.of(node).args
        inner: dict[Index, str] = {}
        for index, selector in zip(x.type.indices, node.selectors, strict=True):
            if isinstance(selector, Index):
                inner[index] = env[selector]
            elif isinstance(selector, int):
                inner[index] = str(selector - (index.name == STEP))
            else:
                place = places[selector.arg - 1]
                if isinstance(place, ir.Position) and place.index.axis.name == index.axis.name == STEP:
                    inner[index] = env[place.index]  # all but the last step (transform/steps.py)
                else:
                    inner[index] = self.piece(place, env, at.outside()).text
        return inner

    def _reading(self, node: ir.Reindex, form: WrittenForm, env: Env, at: Place) -> Signed:
        x, inner = node.args[0], self._selected(node, env, at)
        return (False, self._of_step(x, inner, at)) if isinstance(x, ir.Trace) else self._with_sign(x, inner, at)

    def _trace(self, node: ir.Trace, form: WrittenForm, env: Env, at: Place) -> Signed:
        if at.over_steps:
            return self._with_sign(node.args[0], env, at)
        return False, self._of_step(node, env, at)

    def _of_step(self, node: ir.Trace, env: Env, at: Place) -> Piece:
        """`loss[step]`, `loss[0]`: a quantity of the loop at one of its steps."""
        (x,) = node.args
        name = self._name(x, at)
        if name is None or x not in self.plan.changing:
            return self.piece(x, env, replace(at, over_steps=False))
        return self.read(name, env, at, env[node.index])

    def _same(self, node: ir.Node, form: WrittenForm, env: Env, at: Place) -> Signed:
        return self._with_sign(form.args[0], env, at)

    def _renamed(self, node: ir.Node, form: WrittenForm, env: Env, at: Place) -> Signed:
        return self._with_sign(form.args[0], {a: env[b] for a, b in form.renamed.items()}, at)

    def _seen(self, node: ir.Node, env: Env, at: Place) -> Part:
        """The node that is actually written for a node: the one it renames, or reads, if that has no statement."""
        while self._name(node, at) is None:
            form = self.forms.of(node)
            if form.kind == "renamed":
                env = {a: env[b] for a, b in form.renamed.items()}
            elif isinstance(node, ir.Reindex) and not isinstance(node.args[0], ir.Trace):
                env = self._selected(node, env, at)
            elif form.kind != "same":
                break
            node = form.args[0]
        return node, env

    def _parts(self, nodes: Iterable[ir.Node], env: Env, at: Place, kind: str) -> list[Part]:
        """The terms of nested sums, or the factors of nested products, that have no statement."""
        found: list[Part] = []
        for part in nodes:
            node, inner = self._seen(part, env, at)
            nested = self._name(node, at) is None and self.forms.of(node).kind == kind
            found += self._parts(self.forms.of(node).args, inner, at, kind) if nested else [(node, inner)]
        return found

    #: One rule a kind of form.
    rules: ClassVar[dict[str, Callable[[Any, Any, WrittenForm, Env, Place], Signed | Piece]]] = {
        "same": _same,
        "renamed": _renamed,
        "reading": _reading,
        "trace": _trace,
    }
