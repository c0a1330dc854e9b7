"""Nodes as expressions: one method per form, with the index names, copies and neighbours of the place they stand at.

`env` says how each index is written at a place: by a name, at a position, or by data. What is bound is read by its name
under these brackets, everything else is written out with them, so that a renamed index costs no statement.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tp_compiler.expand.forms import Form, Forms
from tp_compiler.expand.indices import STEP, Indices
from tp_compiler.expand.naming import Name, Naming
from tp_compiler.expand.operators import OperatorText
from tp_compiler.expand.plan import AFTER, BEFORE, Plan
from tp_compiler.expand.text import (
    ATOM,
    POWER,
    PRODUCT,
    Piece,
    Signed,
    added,
    called,
    divided,
    identifiers,
    in_ket,
    label,
    multiplied,
    number,
    raised,
    signed,
)  # fmt: skip
from tp_compiler.expand.unit import unwritten
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index

Env = Mapping[Index, str]
#: A node with the way its indices are written.
Part = tuple[ir.Node, Env]
ONES = "|1>"


@dataclass(frozen=True)
class Place:
    """Where an expression stands: in a bracket (`label`, bare names are kets), under which copies, in which region,
    and whether in a statement over the steps (`h[step,i]` is h[i] as it is at that step)."""

    region: str
    over_steps: bool = False
    label: bool = False
    copies: Mapping[int, int] = field(default_factory=dict)

    def within(self) -> Place:
        """The same place inside the bars of a bracket."""
        return replace(self, label=True)

    def outside(self) -> Place:
        return replace(self, label=False)


class Expressions:
    """Writes expressions of a plan under the names chosen."""

    def __init__(self, plan: Plan, naming: Naming, indices: Indices):
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

    def read(self, name: Name, env: Env, at: Place, step: str = "") -> Piece:
        """`|h[i]>`, `h[i]` in a bracket, `h[step,i]` behind the loop."""
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
    def _name(self, node: ir.Node, at: Place) -> Name | None:
        if at.region != BEFORE and node in self.naming.aliases:
            return self.naming.aliases[node]
        return self.naming.names.get(node) or self.naming.leaf(node)

    def _signed(self, node: ir.Node, form: Form, env: Env, at: Place) -> Signed:
        method = getattr(self, f"_{form.kind}", None)
        if method is None:
            raise unwritten(node)
        found: Signed | Piece = method(node, form, env, at)
        return (False, found) if isinstance(found, Piece) else found

    def _with_sign(self, node: ir.Node, env: Env, at: Place) -> Signed:
        """A node where it is used, its sign taken out."""
        name = self._name(node, at)
        if name is not None:
            return False, self.read(name, env, at)
        return self._signed(node, self.forms.of(node), env, at)

    def _bound(self, hidden: Sequence[Index], args: Iterable[ir.Node], env: Env) -> dict[Index, str]:
        """The place with the indices of a sum named like nothing else in its body."""
        free = {i for a in args for i in a.type.indices if i not in hidden}
        used = {word for i in free if i in env for word in identifiers(env[i])}
        inner = dict(env)
        for index in hidden:
            inner[index] = self.indices.pick(index, used, env.values())
            used.add(inner[index])
        return inner

    # -- leaves -------------------------------------------------------------------------------------------------
    def _leaf(self, node: ir.Node, form: Form, env: Env, at: Place) -> Signed:
        match node:
            case ir.Constant(value=value):
                return number(value)
            case ir.Position(index=index):
                return False, Piece(env[index], ATOM)
            case ir.Clock():
                return False, Piece(STEP, ATOM)
        raise unwritten(node)

    def _same(self, node: ir.Node, form: Form, env: Env, at: Place) -> Signed:
        return self._with_sign(form.args[0], env, at)

    def _renamed(self, node: ir.Node, form: Form, env: Env, at: Place) -> Signed:
        return self._with_sign(form.args[0], {a: env[b] for a, b in form.renamed.items()}, at)

    # -- arithmetic ---------------------------------------------------------------------------------------------
    def _seen(self, node: ir.Node, env: Env, at: Place) -> Part:
        """What is really written for a node: what it renames, or reads, where that has no statement."""
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

    def _sum(self, node: ir.Node, form: Form, env: Env, at: Place) -> Piece:
        terms: dict[object, list[Part]] = {}  # equal terms together
        for a, inner in self._parts(form.args, env, at, "sum"):
            terms.setdefault((a, tuple(inner.get(i) for i in a.type.indices)), []).append((a, inner))
        return added([self._repeated(len(same), *same[0], at) for same in terms.values()])

    def _repeated(self, count: int, node: ir.Node, env: Env, at: Place) -> Signed:
        if count == 1:
            return self._with_sign(node, env, at)
        return self._of_factors([(self._number(count), {}), *self._parts([node], env, at, "product")], at)

    def _number(self, value: float) -> ir.Node:
        return self.plan.unit.build.constant(value, self.plan.roots[0].span)

    def _product(self, node: ir.Node, form: Form, env: Env, at: Place) -> Signed:
        return self._of_factors(self._parts(form.args, env, at, "product"), at)

    def _of_factors(self, parts: Sequence[Part], at: Place) -> Signed:
        """A product: its numbers as one in front, then scalars, then kets."""
        count = math.prod(f.value for f, _ in parts if isinstance(f, ir.Constant))
        rest = sorted((p for p in parts if not isinstance(p[0], ir.Constant)), key=lambda p: not p[0].type.is_scalar)
        return _multiplied([number(count), *(self._with_sign(f, env, at) for f, env in rest)])

    def _quotient(self, node: ir.Node, form: Form, env: Env, at: Place) -> Signed:
        minus, top = self._with_sign(form.args[0], env, at)
        return minus, divided(top, self.piece(form.args[1], env, at))

    def _power(self, node: ir.Node, form: Form, env: Env, at: Place) -> Piece:
        base, exponent = form.args
        return raised(self.piece(base, env, at), self._with_sign(exponent, env, at))

    def _call(self, node: ir.Node, form: Form, env: Env, at: Place) -> Piece:
        return called(form.word, [self.piece(a, env, at).text for a in form.args], bool(node.type.slots))

    def _delta(self, node: ir.Node, form: Form, env: Env, at: Place) -> Piece:
        first, second = form.args
        one = self.piece(first, env, at.outside()).text
        other = number(-second.value)[1] if isinstance(second, ir.Constant) else self.piece(second, env, at.outside())
        return Piece(f"delta[{one},{other.text}]")

    # -- sums, brackets, averages -------------------------------------------------------------------------------
    def _contraction(self, node: ir.Contract, form: Form, env: Env, at: Place) -> Signed:
        inner = self._bound(node.over, form.args, env)
        minus, body = self._averaged(node, form.args, inner, at)
        if not node.over:
            return minus, body
        names = ",".join(inner[i] for i in node.over)
        return False, Piece(f"{form.word}[{names}]({signed((minus, body)).text})", ATOM, body.ket)

    def _averaged(self, node: ir.Contract, args: Sequence[ir.Node], env: Env, at: Place) -> Signed:
        """The product of the factors, averaged over the slots: scalars stand in front."""
        factors = self._parts(args, env, at, "product")
        if not node.slots:
            return self._of_factors(factors, at)
        copies = tuple(s for s in node.slots if s != 0)
        front = [f for f in factors if f[0].type.is_scalar or (not copies and 0 not in dict(f[0].type.slots))]
        kets = [f for f in factors if f not in front]
        if not copies:
            core = self._bracket(kets, at)
        elif 0 in node.slots or not node.type.slots:
            core = Piece(f"<{label(self._over_copies(kets, copies, at.within()))}>")
        else:
            core = self._over_copies(kets, copies, at)
        return _multiplied([self._of_factors(front, at), (False, core)])

    def _over_copies(self, kets: Sequence[Part], slots: tuple[int, ...], at: Place) -> Piece:
        copies = dict(at.copies)
        for slot in slots:
            copies[slot] = next(k for k in range(1, 1000) if k not in copies.values())
        body = signed(self._of_factors(kets, replace(at, copies=copies)))
        return Piece(f"E[{','.join(str(copies[s]) for s in slots)}]({body.text})", ATOM, True)

    def _bracket(self, kets: Sequence[Part], at: Place) -> Piece:
        """<x>, <x|y>, <x|W|y>, <x|y * z>"""
        if len(kets) == 2:
            for left, right in (kets, kets[::-1]):
                middle = []
                while (found := self._split(*right, at)) is not None:
                    middle.append(found[0])
                    right = self._seen(found[1], right[1], at)
                if middle:
                    return Piece(f"<{self.bra(*left, at)}|{' '.join(middle)}|{self.bra(*right, at)}>")
        first, *rest = kets
        if not rest:
            return Piece(f"<{self.bra(*first, at)}>")
        if len(rest) == 1:
            return Piece(f"<{self.bra(*first, at)}|{self.bra(*rest[0], at)}>")
        return Piece(f"<{self.bra(*first, at)}|{label(signed(self._of_factors(rest, at.within())))}>")

    def _split(self, node: ir.Node, env: Env, at: Place) -> tuple[str, ir.Node] | None:
        """The operator and the ket of `W |x>`, where that has no name."""
        if self._name(node, at) is not None:
            return None
        if isinstance(node, ir.MatMul):
            return self._operator(node, env, at), node.args[0]
        found = self.forms.applications.get(node)
        if found is None or found.ket is None:
            return None
        return self._function(node, env, at).at(POWER), found.ket

    def bra(self, node: ir.Node, env: Env, at: Place) -> str:
        found = self.piece(node, env, at.within())
        return "1" if found.text == ONES else label(found)

    # -- kets ---------------------------------------------------------------------------------------------------
    def _matmul(self, node: ir.MatMul, form: Form, env: Env, at: Place) -> Piece:
        x = self.piece(node.args[0], env, at.outside())
        shown = x.text if x.applied and not x.text.startswith(("-", "(")) and _is_operator(x) else x.at(ATOM)
        return Piece(f"{self._operator(node, env, at)} {shown}", PRODUCT, True, True)

    def _operator(self, node: ir.MatMul, env: Env, at: Place) -> str:
        """`W`, `A[l]`, `W^T`"""
        symbol = node.matrix.start or node.matrix
        alias = self.naming.aliases.get(symbol) if at.region != BEFORE and node.matrix.start is None else None
        ident = alias.ident if alias is not None else self.naming.matrices[symbol]
        member = ",".join(env[m] if isinstance(m, Index) else str(m) for m in node.member)
        return ident + (f"[{member}]" if member else "") + ("^T" if node.transposed else "")

    def _applied(self, node: ir.Node, form: Form, env: Env, at: Place) -> Piece:
        """`pow(0.1 + |y><y|, -1/4) |z>`, `trace(S)`"""
        found, op = self.forms.applications[node], self._function(node, env, at)
        if found.ket is None:
            return called(found.word, [op.text])
        return Piece(f"{op.at(POWER)} {self.piece(found.ket, env, at.outside()).at(ATOM)}", PRODUCT, True, True)

    def _function(self, node: ir.Node, env: Env, at: Place) -> Piece:
        return self._operator_text(node, dict(env), at.outside()).piece(self.forms.applications[node].operator)

    def _operator_text(self, node: ir.Node, env: dict[Index, str], at: Place) -> OperatorText:
        def bound(index: Index) -> tuple[str, OperatorText]:
            name = self.indices.pick(index, env.values())
            return name, self._operator_text(node, {**env, index: name}, at)

        return OperatorText(lambda n: self.piece(n, env, at), lambda n: Piece(self.bra(n, env, at)), bound, node.span)

    def _copy(self, node: ir.Copy, form: Form, env: Env, at: Place) -> Piece:
        return Piece(f"{self.piece(node.args[0], env, at).at(ATOM)}@{at.copies[node.slot]}", ATOM, True)

    def _clt(self, node: ir.Clt, form: Form, env: Env, at: Place) -> Piece:
        return Piece(f"clt {self._bracket([(a, env) for a in node.args], at).text}", ATOM)

    # -- axes ---------------------------------------------------------------------------------------------------
    def _softmax(self, node: ir.Node, form: Form, env: Env, at: Place) -> Piece:
        return self._over(form, form.indices, [self.piece(form.args[0], env, at).text], env, bool(node.type.slots))

    def _shift(self, node: ir.Shift, form: Form, env: Env, at: Place) -> Piece:
        args = [self.piece(node.args[0], env, at).text, str(node.by)]
        return self._over(form, form.indices, args, env, bool(node.type.slots))

    def _reduction(self, node: ir.Reduce, form: Form, env: Env, at: Place) -> Piece:
        inner = self._bound(form.hidden, form.args, env)
        return self._over(form, form.indices, [self.piece(node.args[0], inner, at).text], inner, bool(node.type.slots))

    def _linalg(self, node: ir.Linalg, form: Form, env: Env, at: Place) -> Piece:
        inner = self._bound(form.hidden, form.args, env) if form.hidden else env
        args = [node.fn] if node.fn else []
        args += [self.piece(a, inner, at.outside()).text for a in form.args]
        return self._over(form, form.indices, args, inner, False)

    def _over(self, form: Form, indices: Iterable[Index], args: list[str], env: Env, ket: bool) -> Piece:
        return called(f"{form.word}[{','.join(env[i] for i in indices)}]", args, ket)

    # -- reading ------------------------------------------------------------------------------------------------
    def _selected(self, node: ir.Reindex, env: Env, at: Place) -> dict[Index, str]:
        """How the indices of what is read are written: by the names, positions and data in the brackets."""
        x, *places = self.forms.of(node).args
        inner: dict[Index, str] = {}
        for index, selector in zip(x.type.indices, node.selectors, strict=True):
            if isinstance(selector, Index):
                inner[index] = env[selector]
            elif isinstance(selector, int):
                inner[index] = str(selector - (index.name == STEP))
            else:
                inner[index] = self.piece(places[selector.arg - 1], env, at.outside()).text
        return inner

    def _reading(self, node: ir.Reindex, form: Form, env: Env, at: Place) -> Signed:
        x, inner = node.args[0], self._selected(node, env, at)
        return (False, self._of_step(x, inner, at)) if isinstance(x, ir.Trace) else self._with_sign(x, inner, at)

    def _trace(self, node: ir.Trace, form: Form, env: Env, at: Place) -> Signed:
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


def _is_operator(piece: Piece) -> bool:
    """`W |x>`, not `2 W |x>`: may stand behind another operator as it is."""
    head = piece.text.split(" ", 1)[0]
    return not head[0].isdigit() and "(" not in head and head[0] not in "<|"


def _multiplied(factors: Sequence[Signed]) -> Signed:
    """A product, its sign in front; a factor 1 is left out."""
    minus = sum(m for m, _ in factors) % 2 == 1
    pieces = [p for _, p in factors if p.text != "1"] or [factors[0][1]]
    return minus, multiplied(pieces)


__all__ = ["AFTER", "Env", "Expressions", "Place"]
