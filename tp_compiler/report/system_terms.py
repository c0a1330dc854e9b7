"""How terms are composed from pieces of notation: shared by the Unicode and the LaTeX printer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sympy as sp
from sympy.printing.precedence import PRECEDENCE

from tp_compiler.equations.terms import (
    AtMost,
    Entry,
    Expectation,
    Expr,
    Ket,
    Learned,
    Named,
    copies_of,
    family_of,
    place_of,
)

if TYPE_CHECKING:
    from sympy.printing.printer import Printer as _Printer
else:
    _Printer = object


#: Sums of more numbers than this are in the order of their names, layer 2 before layer 10.
_FEW = 4


def _bracket(e: Expectation) -> tuple[Expr, Expr] | None:
    """<x|y>, if the body is the product of two named kets of the row."""
    body = e.body
    if e.copies != {0}:
        return None
    if isinstance(body, sp.Pow) and body.exp == 2 and isinstance(body.base, Ket):
        return body.base, body.base
    if isinstance(body, sp.Mul) and len(body.args) == 2 and all(isinstance(a, Ket) for a in body.args):
        left, right = sorted(body.args, key=primes)
        return left, right
    return None


def learned_of(e: Expectation) -> Learned | None:
    """ΔW|x> for E⁽ᵏ⁾[ΔW⁽⁰ᵏ⁾|x>⁽ᵏ⁾], and ΔWᵀ|x> for E⁽ᵏ⁾[ΔW⁽ᵏ⁰⁾|x>⁽ᵏ⁾]."""
    body, (copy, *more) = e.body, sorted(e.copies)
    if more or not copy or not isinstance(body, sp.Mul) or len(body.args) != 2:
        return None
    entries, kets = ([a for a in body.args if isinstance(a, kind)] for kind in (Entry, Ket))
    if not entries or not kets or set(entries[0].neurons) != {0, copy} or kets[0].copy_number != copy:
        return None
    x = Ket(kets[0].args[0], 0, *kets[0].indices)
    return Learned(entries[0].args[0], entries[0].neurons[0] == copy, x, entries[0].indices)


def _matrix_element(e: Expectation) -> tuple[Ket, Learned] | None:
    """<y|ΔW x>."""
    if e.copies != {0} or not isinstance(e.body, sp.Mul) or len(e.body.args) != 2:
        return None
    inner = [learned_of(a) for a in e.body.args if isinstance(a, Expectation)]
    left = [a for a in e.body.args if isinstance(a, Ket)]
    return (left[0], inner[0]) if left and inner and inner[0] is not None else None


def _natural(e: Expr) -> list[tuple[str, int]]:
    """The names in a term, with their numbers read as numbers."""
    parts = (re.fullmatch(r"(.*?)(\d*)", n.label) for n in e.atoms(Named))
    return sorted((m.group(1), int(m.group(2) or 0)) for m in parts if m)


def primes(ket: Ket) -> tuple[int, str]:
    text = "".join(str(i) for i in ket.indices)
    return text.count("′"), text


class Backend(_Printer):
    """The common base of the two printers: how terms are composed from pieces of notation."""

    def _p(self, e: Expr, level: str = "Mul") -> str:
        return self.parenthesize(e, PRECEDENCE[level], strict=True)

    def factors(self, product: Expr) -> list[str]:
        """Numbers first, kets and sums last; a sum that is not the very last factor is closed by parentheses."""
        ordered = sorted(sp.Mul.make_args(product), key=rank)
        return [
            self.paren(self._print(f)) if isinstance(f, sp.Sum) and f is not ordered[-1] else self._p(f)
            for f in ordered
        ]

    def _print_Ket(self, e: Any) -> str:
        inner = self.name_of_ket(e)
        return self.ket(inner, e.copy_number)

    def name_of_ket(self, e: Any) -> str:
        name, indices = place_of(e)
        return self.indexed(name, tuple(self._print(i).replace(" ", "") for i in indices))

    def _as_ordered_terms(self, e: Any, order: Any = None) -> list[Any]:
        """Added terms before subtracted ones; positions read s - 1, not -1 + s."""
        if all(t.is_Symbol or t.is_Integer for t in e.args):
            return sorted(e.args, key=lambda t: t.is_Integer)
        many = len(e.args) > _FEW and not any(map(copies_of, e.args))
        return sorted(e.args, key=lambda t: (t.could_extract_minus_sign(), _natural(t) if many else []))

    def _print_Scalar(self, e: Any) -> str:
        return self.name_of_ket(e)

    def _print_Data(self, e: Any) -> str:
        return self.name_of_ket(e)

    def _applied(self, accent: str, e: Any, inside: str | None = None) -> str:
        operator = self.operator(accent, e.matrix, tuple(self._print(m) for m in e.member), e.transposed)
        if inside is not None:
            return f"{operator} {inside}"
        inner = self._print(e.argument)
        return operator + (inner if isinstance(e.argument, Ket) else self.paren(inner))

    def _print_Hat(self, e: Any) -> str:
        return self._applied("hat", e)

    def _print_DotPart(self, e: Any) -> str:
        return self._applied("dot", e)

    def _print_Learned(self, e: Any) -> str:
        return self._applied("", e)

    def _print_Entry(self, e: Any) -> str:
        name, indices = place_of(e)
        row, column = e.neurons
        return self.indexed(name, tuple(self._print(i).replace(" ", "") for i in indices), (f"({row}{column})",))

    def _print_Outer(self, e: Any) -> str:
        left, right = (self.name_of_ket(k) for k in e.args)
        return self.outer(left, right)

    def _print_Expectation(self, e: Any) -> str:
        learned = None if self.explicit else learned_of(e)
        if learned is not None:
            return str(self._print(learned))
        between = _matrix_element(e)
        if between is not None:
            left, update = between
            inner = self._applied("", update, self.name_of_ket(update.argument))
            return self.braket(self.name_of_ket(left), inner)
        pair = _bracket(e)
        if pair:
            return self.braket(*(self.name_of_ket(k) for k in pair))
        copies = sorted(e.copies)
        shown = [] if 0 in copies else copies  # over the row and its copies: everything is averaged
        return self.expectation(shown, self._print(e.body))

    def _print_Partial(self, e: Any) -> str:
        top, bottom = e.args
        inner = self._print(top) if isinstance(top, Ket) else self.paren(self._print(top))
        return self.partial(inner, self._print(bottom))

    def _print_Stein(self, e: Any) -> str:
        y, _, _, x, *_ = e.args
        inner = self.name_of_ket(x) if isinstance(x, Ket) else self._print(x)
        return self.stein(inner, self._print(y))

    def where_stein(self, e: Any) -> str:
        """The meaning of Y and Ĝ, to be stated after the equation."""
        _, kets, hats, _, _, steps = e.args
        ranges = tuple(dict.fromkeys(self.range_of((s, 0, last)) for s, last in steps))
        rows, columns = (self.paren(", ".join(self._print(k) for k in family)) for family in (kets, hats))
        return self.families(self.subscript(rows, ranges), self.subscript(columns, ranges))

    def range_of(self, limits: Any) -> str:
        """i for all of an axis; s<t and s≤t for the steps before t, and up to t."""
        index, first, last = limits
        if first != 0 or last.is_Integer:
            return str(self._print(index))
        before = sp.Add.make_args(last)
        sign, bound = (self.less, last + 1) if sp.Integer(-1) in before else (self.at_most, last)
        return f"{self._print(index)}{sign}{self._print(bound)}"

    def _print_Sum(self, e: Any) -> str:
        ranges = {limits[0]: self.range_of(limits) for limits in reversed(e.limits)}
        rest = []
        for factor in sp.Mul.make_args(e.function):
            index = self._bounds(factor, ranges)
            if index is None:
                rest.append(factor)
            else:
                ranges[index] = self._within(factor, index)
        return self.big("sum", ",".join(ranges.values()), self._p(sp.Mul(*rest)))

    def _bounds(self, factor: Any, ranges: Mapping[Any, str]) -> Any | None:
        """The index of a sum that a factor bounds, of those that run over all of their axes."""
        if not isinstance(factor, AtMost):
            return None
        return next((i for i in factor.args if i in ranges and ranges[i] == self._print(i)), None)

    def _within(self, bound: Any, index: Any) -> str:
        first, last = bound.args
        sign, other = (self.at_most, last) if index == first else (self.at_least, first)
        return f"{self._print(index)}{sign}{self._print(other)}"

    def _print_AtMost(self, e: Any) -> str:
        return f"1[{self._print(e.args[0])} {self.at_most} {self._print(e.args[1])}]"

    def _print_Reduce(self, e: Any) -> str:
        op, body, index = e.args
        return self.big(op.name, self._print(index), self.paren(self._print(body)))

    def _print_Softmax(self, e: Any) -> str:
        body, index, at = e.args
        text = self.big("softmax", self._print(index), self.paren(self._print(body)))
        return text if at == index else f"[{text}]" + self.subscript("", (self._print(at),))

    def _print_Stacked(self, e: Any) -> str:
        at, members = self._print(e.args[0]), e.args[1:]
        family = self._family(e)
        return family or self.subscript(self.paren(", ".join(self._print(m) for m in members)), (at,))

    def _family(self, e: Any) -> str | None:
        """|h_{i,s}> for the members |h_{i,1}>, |h_{i,2}>, ...: the family as the source has it."""
        found, members = family_of(e), e.args[1:]
        if found is None:
            return None
        name, indices = found
        inner = self.indexed(name, tuple(self._print(i).replace(" ", "") for i in indices))
        return self.ket(inner, members[0].copy_number) if isinstance(members[0], Ket) else inner

    def _print_Linalg(self, e: Any) -> str:
        shown = [self._print(a) for a in e.arguments]
        head = self.upright(e.op + (f" {e.fn}" if e.fn else ""))
        place = tuple(self._print(i) for i in e.place)
        return self.subscript(head, place if e.op != "logdet" else ()) + self.paren(", ".join(shown))

    def _print_where(self, e: Any) -> str:
        """1[c > 0] for a choice between 1 and 0; c = δ_ij is i = j."""
        condition, yes, no = e.args
        equal = isinstance(condition, sp.KroneckerDelta)
        asked = " = ".join(map(self._print, self._ends(condition))) if equal else f"{self._print(condition)} > 0"
        return f"1[{asked}]" if (yes, no) == (1, 0) else self.choice(asked, self._print(yes), self._print(no))

    @staticmethod
    def _ends(delta: Any) -> list[Any]:
        return sorted(delta.args, key=lambda a: not a.is_Symbol)

    def _print_Joined(self, e: Any) -> str:
        at, *blocks = (self._print(a) for a in e.args)
        return self.subscript(self.paren("; ".join(blocks)), (at,))

    def _print_Block(self, e: Any) -> str:
        return ", ".join([self._print(e.body), *(f"{self._print(i)} {self.at_most} {n}" for i, n in e.limits)])

    def _print_Missing(self, e: Any) -> str:
        return self.upright(f"({e.args[0].name}: no limit law yet)")

    def _print_KroneckerDelta(self, e: Any, exp: Any = None) -> str:
        return self.indexed("δ", tuple(self._print(a) for a in self._ends(e)))

    explicit = False  # ΔW|x> spelled out as the average it is

    # notation of a backend
    less: str
    at_most: str
    at_least: str
    dots: str
    between: str  # two statements of one line

    def indexed(self, name: str, indices: tuple[str, ...], over: tuple[str, ...] = ()) -> str:
        raise NotImplementedError

    def choice(self, condition: str, yes: str, no: str) -> str:
        raise NotImplementedError

    def outer(self, left: str, right: str) -> str:
        raise NotImplementedError

    def ket(self, inner: str, copy: int) -> str:
        raise NotImplementedError

    def word(self, name: str) -> str:
        raise NotImplementedError

    def subscript(self, base: str, indices: tuple[str, ...]) -> str:
        raise NotImplementedError

    def operator(self, accent: str, matrix: str, member: tuple[str, ...], transposed: bool) -> str:
        raise NotImplementedError

    def braket(self, left: str, right: str) -> str:
        raise NotImplementedError

    def expectation(self, copies: list[int], body: str) -> str:
        raise NotImplementedError

    def partial(self, top: str, bottom: str) -> str:
        raise NotImplementedError

    def stein(self, x: str, y: str) -> str:
        raise NotImplementedError

    def families(self, kets: str, hats: str) -> str:
        raise NotImplementedError

    def big(self, op: str, index: str, body: str) -> str:
        raise NotImplementedError

    def paren(self, inner: str) -> str:
        raise NotImplementedError

    def upright(self, text: str) -> str:
        raise NotImplementedError


def rank(factor: Expr) -> tuple[int, str]:
    """Numbers, data, scalars, expectations, sums; then kets and functions of them."""
    order = 0 if factor.is_number else 5 if isinstance(factor, sp.Sum) else 4 if copies_of(factor) else 2
    return order, ("" if order == 0 else _key(factor))


def _key(factor: Expr) -> str:
    return str(sp.default_sort_key(factor)) if not isinstance(factor, Ket) else "0" + str(primes(factor))
