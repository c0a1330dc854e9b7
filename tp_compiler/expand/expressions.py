"""Nodes as expressions: one rule per form.

Bound nodes are read by name with the brackets of the place, everything else is written out with them, so that a
renamed index costs no statement (references.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tp_compiler.expand.forms import WrittenForm, counted
from tp_compiler.expand.indices import STEP
from tp_compiler.expand.operators import OperatorText
from tp_compiler.expand.plan import BEFORE
from tp_compiler.expand.references import Env, Part, Place, ReferenceRules
from tp_compiler.expand.text import (
    ATOM,
    POWER,
    PRODUCT,
    SUM,
    Piece,
    Signed,
    added,
    called,
    divided,
    label,
    multiplied,
    number,
    raised,
    signed,
)  # fmt: skip
from tp_compiler.expand.unit import unwritten
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index

ONES = "|1>"


class ExpressionWriter(ReferenceRules):
    """Writes expressions of a plan under the names chosen."""

    # -- leaves -------------------------------------------------------------------------------------------------
    def _leaf(self, node: ir.Node, form: WrittenForm, env: Env, at: Place) -> Signed:
        match node:
            case ir.Constant(value=value):
                return number(value)
            case ir.Position(index=index) if index.axis.name == "step":
                return False, Piece(f"{env[index]} + 1", SUM)
            case ir.Position(index=index):
                return False, Piece(env[index], ATOM)
            case ir.Map() if (step := counted(node)) is not None:
                return False, Piece(env[step], ATOM)
            case ir.Clock():
                return False, Piece(STEP, ATOM)
        raise unwritten(node)

    # -- arithmetic ---------------------------------------------------------------------------------------------
    def _sum(self, node: ir.Node, form: WrittenForm, env: Env, at: Place) -> Piece:
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

    def _product(self, node: ir.Node, form: WrittenForm, env: Env, at: Place) -> Signed:
        return self._of_factors(self._parts(form.args, env, at, "product"), at)

    def _of_factors(self, parts: Sequence[Part], at: Place) -> Signed:
        """A product: its numbers as one in front, then scalars, then kets."""
        count = math.prod(f.value for f, _ in parts if isinstance(f, ir.Constant))
        rest = sorted((p for p in parts if not isinstance(p[0], ir.Constant)), key=lambda p: not p[0].type.is_scalar)
        return _multiplied([number(count), *(self._with_sign(f, env, at) for f, env in rest)])

    def _quotient(self, node: ir.Node, form: WrittenForm, env: Env, at: Place) -> Signed:
        minus, top = self._with_sign(form.args[0], env, at)
        return minus, divided(top, self.piece(form.args[1], env, at))

    def _power(self, node: ir.Node, form: WrittenForm, env: Env, at: Place) -> Piece:
        base, exponent = form.args
        return raised(self.piece(base, env, at), self._with_sign(exponent, env, at))

    def _call(self, node: ir.Node, form: WrittenForm, env: Env, at: Place) -> Piece:
        return called(form.word, [self.piece(a, env, at).text for a in form.args], bool(node.type.slots))

    def _delta(self, node: ir.Node, form: WrittenForm, env: Env, at: Place) -> Piece:
        first, second = form.args
        one = self.piece(first, env, at.outside()).text
        other = number(-second.value)[1] if isinstance(second, ir.Constant) else self.piece(second, env, at.outside())
        return Piece(f"delta[{one},{other.text}]")

    # -- sums, brackets, averages -------------------------------------------------------------------------------
    def _contraction(self, node: ir.Contract, form: WrittenForm, env: Env, at: Place) -> Signed:
        inner = self._bound(node.over, form.args, env)
        minus, body = self._averaged(node, form.args, inner, at)
        if not node.over:
            return minus, body
        names = ",".join(inner[i] for i in node.over)
        return False, Piece(f"{form.word}[{names}]({signed((minus, body)).text})", ATOM, body.ket)

    def _averaged(self, node: ir.Contract, args: Sequence[ir.Node], env: Env, at: Place) -> Signed:
        """The product of the factors, averaged over the slots, with scalars in front."""
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
        """The operator and the ket of `W |x>`, if it has no name."""
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
    def _matmul(self, node: ir.MatMul, form: WrittenForm, env: Env, at: Place) -> Piece:
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

    def _applied(self, node: ir.Node, form: WrittenForm, env: Env, at: Place) -> Piece:
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

    def _copy(self, node: ir.Copy, form: WrittenForm, env: Env, at: Place) -> Piece:
        return Piece(f"{self.piece(node.args[0], env, at).at(ATOM)}@{at.copies[node.slot]}", ATOM, True)

    def _clt(self, node: ir.Clt, form: WrittenForm, env: Env, at: Place) -> Piece:
        return Piece(f"clt {self._bracket([(a, env) for a in node.args], at).text}", ATOM)

    # -- axes ---------------------------------------------------------------------------------------------------
    def _softmax(self, node: ir.Node, form: WrittenForm, env: Env, at: Place) -> Piece:
        return self._over(form, form.indices, [self.piece(form.args[0], env, at).text], env, bool(node.type.slots))

    def _along(self, node: ir.Along, form: WrittenForm, env: Env, at: Place) -> Piece:
        args = [self.piece(node.args[0], env, at).text, *node.options]
        return self._over(form, form.indices, args, env, bool(node.type.slots))

    def _reduction(self, node: ir.Reduce, form: WrittenForm, env: Env, at: Place) -> Piece:
        inner = self._bound(form.hidden, form.args, env)
        return self._over(form, form.indices, [self.piece(node.args[0], inner, at).text], inner, bool(node.type.slots))

    def _linalg(self, node: ir.Linalg, form: WrittenForm, env: Env, at: Place) -> Piece:
        inner = self._bound(form.hidden, form.args, env) if form.hidden else env
        args = [node.fn] if node.fn else []
        args += [self.piece(a, inner, at.outside()).text for a in form.args]
        return self._over(form, form.indices, args, inner, False)

    def _over(self, form: WrittenForm, indices: Iterable[Index], args: list[str], env: Env, ket: bool) -> Piece:
        return called(f"{form.word}[{','.join(env[i] for i in indices)}]", args, ket)

    rules = ReferenceRules.rules | {
        "leaf": _leaf,
        "sum": _sum,
        "product": _product,
        "quotient": _quotient,
        "power": _power,
        "call": _call,
        "delta": _delta,
        "contraction": _contraction,
        "matmul": _matmul,
        "applied": _applied,
        "copy": _copy,
        "clt": _clt,
        "softmax": _softmax,
        "along": _along,
        "reduction": _reduction,
        "linalg": _linalg,
    }


def _is_operator(piece: Piece) -> bool:
    """`W |x>`, not `2 W |x>`: can follow another operator without parentheses."""
    head = piece.text.split(" ", 1)[0]
    return not head[0].isdigit() and "(" not in head and head[0] not in "<|"


def _multiplied(factors: Sequence[Signed]) -> Signed:
    """A product, its sign in front; a factor 1 is left out."""
    minus = sum(m for m, _ in factors) % 2 == 1
    pieces = [p for _, p in factors if p.text != "1"] or [factors[0][1]]
    return minus, multiplied(pieces)


__all__ = ["Env", "ExpressionWriter", "Place"]
