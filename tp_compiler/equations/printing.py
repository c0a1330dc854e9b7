"""One printer, three backends: LaTeX, Unicode text and Markdown.

`Unicode` and `Latex` say how a term is written; `_paragraph` says what is stated about an equation, once for both.
"""

from __future__ import annotations

import html as _html
import re
from typing import Any

import sympy as sp
from sympy.printing.latex import LatexPrinter
from sympy.printing.precedence import PRECEDENCE, precedence
from sympy.printing.str import StrPrinter

from tp_compiler.equations.functions import name_of
from tp_compiler.equations.system import Equation, Matrix, System
from tp_compiler.equations.terms import DotPart, Expectation, Expr, Hat, Ket, Named, copies_of, reindex

_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
#: A line of LaTeX source longer than this breaks at its sums; in text, likewise.
_WIDTH = 100


def _split(label: str, indices: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """`h[:,1]` over (i) is the name h with the subscripts (i, 1)."""
    name, _, pattern = label.partition("[")
    if not pattern:
        return name, indices
    rest = iter(indices)
    filled = tuple(next(rest) if p == ":" else p for p in pattern.rstrip("]").split(","))
    return name, (*filled, *rest)


def _bracket(e: Expectation) -> tuple[Expr, Expr] | None:
    """<x|y>, where the body is the product of two named kets of the row."""
    body = e.body
    if e.copies != {0}:
        return None
    if isinstance(body, sp.Pow) and body.exp == 2 and isinstance(body.base, Ket):
        return body.base, body.base
    if isinstance(body, sp.Mul) and len(body.args) == 2 and all(isinstance(a, Ket) for a in body.args):
        left, right = sorted(body.args, key=_primes)
        return left, right
    return None


def _primes(ket: Ket) -> tuple[int, str]:
    text = "".join(str(i) for i in ket.indices)
    return text.count("′"), text


class Backend:
    """What the two printers share: how the terms of this room are put together from pieces of notation."""

    def _p(self, e: Expr, level: str = "Mul") -> str:
        return self.parenthesize(e, PRECEDENCE[level], strict=True)  # type: ignore[attr-defined]

    def factors(self, product: Expr) -> list[str]:
        """Numbers first, kets and sums last; a sum that is not the very last factor is closed by parentheses."""
        ordered = sorted(sp.Mul.make_args(product), key=_rank)
        return [
            self.paren(self._print(f)) if isinstance(f, sp.Sum) and f is not ordered[-1] else self._p(f)  # type: ignore[attr-defined]
            for f in ordered
        ]

    def _print_Ket(self, e: Any) -> str:
        inner = self.name_of_ket(e)
        return self.ket(inner, e.copy_number)

    def name_of_ket(self, e: Any) -> str:
        name, indices = _split(e.label, tuple(self._print(i) for i in e.indices))  # type: ignore[attr-defined]
        return self.subscript(self.word(name), indices)

    def _print_Scalar(self, e: Any) -> str:
        return self.name_of_ket(e)

    def _print_Data(self, e: Any) -> str:
        return self.name_of_ket(e)

    def _applied(self, accent: str, e: Any) -> str:
        operator = self.operator(accent, e.matrix, tuple(self._print(m) for m in e.member), e.transposed)  # type: ignore[attr-defined]
        inner = self._print(e.argument)  # type: ignore[attr-defined]
        return operator + (inner if isinstance(e.argument, Ket) else self.paren(inner))

    def _print_Hat(self, e: Any) -> str:
        return self._applied("hat", e)

    def _print_DotPart(self, e: Any) -> str:
        return self._applied("dot", e)

    def _print_Expectation(self, e: Any) -> str:
        pair = _bracket(e)
        if pair:
            return self.braket(*(self.name_of_ket(k) for k in pair))
        copies = sorted(e.copies)
        shown = [] if 0 in copies else copies  # over the row and its copies: everything is averaged
        return self.expectation(shown, self._print(e.body))  # type: ignore[attr-defined]

    def _print_Partial(self, e: Any) -> str:
        top, bottom = e.args
        inner = self._print(top) if isinstance(top, Ket) else self.paren(self._print(top))  # type: ignore[attr-defined]
        return self.partial(inner, self._print(bottom))  # type: ignore[attr-defined]

    def _print_Stein(self, e: Any) -> str:
        y, kets, hats, x, _ = e.args
        rows = ", ".join(self._print(k) for k in kets)  # type: ignore[attr-defined]
        columns = ", ".join(self._print(h) for h in hats)  # type: ignore[attr-defined]
        return self.stein(rows, columns, self._print(x), self._print(y))  # type: ignore[attr-defined]

    def _print_Sum(self, e: Any) -> str:
        body = self._p(e.function)
        return self.big("sum", ",".join(self._print(limit[0]) for limit in e.limits), body)  # type: ignore[attr-defined]

    def _print_Reduce(self, e: Any) -> str:
        op, body, index = e.args
        return self.big(op.name, self._print(index), self.paren(self._print(body)))  # type: ignore[attr-defined]

    def _print_Softmax(self, e: Any) -> str:
        body, index, at = e.args
        text = self.big("softmax", self._print(index), self.paren(self._print(body)))  # type: ignore[attr-defined]
        return text if at == index else f"[{text}]" + self.subscript("", (self._print(at),))  # type: ignore[attr-defined]

    def _print_Stacked(self, e: Any) -> str:
        at, members = self._print(e.args[0]), e.args[1:]  # type: ignore[attr-defined]
        family = self._family(e)
        return family or self.subscript(self.paren(", ".join(self._print(m) for m in members)), (at,))  # type: ignore[attr-defined]

    def _family(self, e: Any) -> str | None:
        """|h_{i,s}> for the members |h_{i,1}>, |h_{i,2}>, ...: the family as the source has it."""
        members = e.args[1:]
        if not all(isinstance(m, Named) and "[" in m.label for m in members):
            return None
        split = [_split(m.label, tuple(self._print(i) for i in m.indices)) for m in members]  # type: ignore[attr-defined]
        places = [
            p for p in range(len(split[0][1])) if all(s[1][p : p + 1] == (str(k + 1),) for k, s in enumerate(split))
        ]
        if len(places) != 1 or len({s[0] for s in split}) != 1:
            return None
        subs = list(split[0][1])
        subs[places[0]] = self._print(e.args[0])  # type: ignore[attr-defined]
        inner = self.subscript(self.word(split[0][0]), tuple(subs))
        return self.ket(inner, members[0].copy_number) if isinstance(members[0], Ket) else inner

    def _print_Linalg(self, e: Any) -> str:
        op, fn, rows, cols, *arguments = e.args
        shown = [self._print(a) for a in arguments]  # type: ignore[attr-defined]
        where = (self._print(rows), self._print(cols))  # type: ignore[attr-defined]
        head = self.subscript(self.upright(op.name + (f" {fn.name}" if fn.name else "")), where)
        return head + self.paren(", ".join(shown))

    def _print_Missing(self, e: Any) -> str:
        return self.upright(f"({e.args[0].name}: no limit law yet)")

    def _print_KroneckerDelta(self, e: Any, exp: Any = None) -> str:
        return self.subscript(self.word("δ"), tuple(self._print(a) for a in e.args))  # type: ignore[attr-defined]

    # notation of a backend
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

    def stein(self, kets: str, hats: str, x: str, y: str) -> str:
        raise NotImplementedError

    def big(self, op: str, index: str, body: str) -> str:
        raise NotImplementedError

    def paren(self, inner: str) -> str:
        raise NotImplementedError

    def upright(self, text: str) -> str:
        raise NotImplementedError


class Unicode(Backend, StrPrinter):
    """|h_i⟩, Ŵ|x⟩, E⁽¹⁾[...], ⟨x|y⟩ in one line."""

    def ket(self, inner: str, copy: int) -> str:
        return f"|{inner}⟩" + (f"⁽{str(copy).translate(_SUPERSCRIPT)}⁾" if copy else "")

    def word(self, name: str) -> str:
        return name

    def subscript(self, base: str, indices: tuple[str, ...]) -> str:
        if not indices:
            return base
        return (
            f"{base}_{indices[0]}"
            if len(indices) == 1 and len(indices[0].strip("′")) == 1
            else f"{base}_{{{','.join(indices)}}}"
        )

    def operator(self, accent: str, matrix: str, member: tuple[str, ...], transposed: bool) -> str:
        mark = {"hat": "\u0302", "dot": "\u0307", "": ""}[accent]
        name = matrix[:1] + mark + matrix[1:]
        import unicodedata

        return self.subscript(unicodedata.normalize("NFC", name), member) + ("ᵀ" if transposed else "")

    def braket(self, left: str, right: str) -> str:
        return f"⟨{left}|{right}⟩"

    def expectation(self, copies: list[int], body: str) -> str:
        return f"E{_copies(copies)}[{body}]"

    def partial(self, top: str, bottom: str) -> str:
        return f"∂{top}/∂{bottom}"

    def stein(self, kets: str, hats: str, x: str, y: str) -> str:
        return f"(⟨Y|Y⟩⁺⟨Ĝ|{x}⟩)_{{{y}}}, Y = ({kets}), Ĝ = ({hats})"

    def big(self, op: str, index: str, body: str) -> str:
        symbol = {"sum": "Σ", "prod": "Π"}.get(op, op)
        return f"{symbol}_{index} {body}" if op in ("sum", "prod") else f"{symbol}_{index}{body}"

    def paren(self, inner: str) -> str:
        return f"({inner})"

    def upright(self, text: str) -> str:
        return text

    def _print_Pow(self, e: Any, rational: bool = False) -> str:
        if e.exp == sp.Rational(1, 2):
            base = self._print(e.base)
            return f"√{base}" if e.base.is_Atom and e.base.is_number and e.base.is_Integer else f"√({base})"
        if e.exp.is_Integer and e.exp > 0:
            name = name_of(e.base)
            power = str(e.exp).translate(_SUPERSCRIPT)
            if name and len(e.base.args) == 1:
                return f"{name}{power}({self._print(e.base.args[0])})"
            return self.parenthesize(e.base, PRECEDENCE["Pow"]) + power
        if e.exp.is_number and e.exp.is_negative:
            return f"1/{self.parenthesize(1 / e, PRECEDENCE['Pow'])}"
        return f"{self.parenthesize(e.base, PRECEDENCE['Pow'])}^{self.parenthesize(e.exp, PRECEDENCE['Pow'])}"

    def _print_Mul(self, e: Any) -> str:
        sign = ""
        if e.args and e.args[0].is_number and e.args[0].could_extract_minus_sign():
            sign, e = "−", -e
            if not isinstance(e, sp.Mul):
                return sign + self._p(e)
        top, bottom = sp.fraction(e)
        text = " ".join(self.factors(top)) if top != 1 else "1"
        if bottom != 1:
            under = self._print(bottom)
            simple = bottom.is_Atom or (isinstance(bottom, sp.Pow) and bottom.is_number)
            text += f"/{under}" if simple else f"/({under})"
        return sign + text

    def _print_Add(self, e: Any, order: Any = None) -> str:
        text = ""
        for a in _terms(e, self._as_ordered_terms(e, order="none")):
            term = self._print(a)
            if not text:
                text = term
            else:
                text += f" − {term[1:]}" if term.startswith("−") else f" + {term}"
        return text

    def _print_Rational(self, e: Any) -> str:
        return f"{e.p}/{e.q}".replace("-", "−")

    def _print_Integer(self, e: Any) -> str:
        return str(e.p).replace("-", "−")

    def _print_Float(self, e: Any) -> str:
        return f"{float(e):.6g}".replace("-", "−")

    def _print_Pi(self, e: Any) -> str:
        return "π"

    def _print_Function(self, e: Any) -> str:
        return f"{name_of(e) or e.func.__name__}({', '.join(self._print(a) for a in e.args)})"

    def _print_Abs(self, e: Any) -> str:
        return f"abs({self._print(e.args[0])})"

    def _print_exp(self, e: Any) -> str:
        return f"exp({self._print(e.args[0])})"


def _terms(e: Expr, ordered: Any) -> list[Expr]:
    """Positions read s - 1, not -1 + s."""
    if all(t.is_Symbol or t.is_Integer for t in e.args):
        return sorted(ordered, key=lambda t: t.is_Integer)
    return list(ordered)


def _rank(factor: Expr) -> tuple[int, str]:
    """Numbers, data, scalars, expectations, sums; then kets and functions of them."""
    order = 0 if factor.is_number else 5 if isinstance(factor, sp.Sum) else 4 if copies_of(factor) else 2
    return order, ("" if order == 0 else _key(factor))


def _key(factor: Expr) -> str:
    return str(sp.default_sort_key(factor)) if not isinstance(factor, Ket) else "0" + str(_primes(factor))


def _copies(copies: list[int]) -> str:
    shown = ",".join(str(c).translate(_SUPERSCRIPT) for c in copies)
    return f"⁽{shown}⁾" if shown else ""


_GREEK = set(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau phi chi psi omega".split()
)
_LETTERS = {
    "θ": r"\theta",
    "δ": r"\delta",
    "ℓ": r"\ell",
    "σ": r"\sigma",
    "ρ": r"\rho",
    "η": r"\eta",
    "ξ": r"\xi",
    "χ": r"\chi",
}


class Latex(Backend, LatexPrinter):
    r"""|h_{i}\rangle, \widehat{W}|x\rangle, \mathbb{E}^{(1)}[...], \langle x|y\rangle."""

    def ket(self, inner: str, copy: int) -> str:
        return rf"|{inner}\rangle" + (rf"^{{({copy})}}" if copy else "")

    def word(self, name: str) -> str:
        stem = name.rstrip("0123456789")
        digits = name[len(stem) :]
        if stem in _LETTERS or stem in _GREEK:
            stem = _LETTERS.get(stem, "\\" + stem)
        elif len(stem) > 1:
            stem = rf"\mathrm{{{_escaped(stem)}}}"
        return f"{stem}^{{{digits}}}" if digits and stem else stem or name

    def subscript(self, base: str, indices: tuple[str, ...]) -> str:
        return f"{base}_{{{','.join(indices)}}}" if indices else base

    def operator(self, accent: str, matrix: str, member: tuple[str, ...], transposed: bool) -> str:
        mark = {"hat": r"\widehat", "dot": r"\dot", "": ""}[accent]
        name = f"{mark}{{{self.word(matrix)}}}" if mark else self.word(matrix)
        return self.subscript(name, member) + (r"^{\top}" if transposed else "")

    def braket(self, left: str, right: str) -> str:
        return rf"\langle {left}|{right}\rangle"

    def expectation(self, copies: list[int], body: str) -> str:
        shown = ",".join(map(str, copies))
        return rf"\mathbb{{E}}{f'^{{({shown})}}' if shown else ''}\left[{body}\right]"

    def partial(self, top: str, bottom: str) -> str:
        return rf"\frac{{\partial {top}}}{{\partial {bottom}}}"

    def stein(self, kets: str, hats: str, x: str, y: str) -> str:
        return (
            rf"\left(\langle Y|Y\rangle^{{+}}\langle \widehat{{G}}|{x}\rangle\right)_{{{y}}},"
            rf"\ Y = ({kets}),\ \widehat{{G}} = ({hats})"
        )

    def big(self, op: str, index: str, body: str) -> str:
        symbol = {"sum": r"\sum", "prod": r"\prod", "max": r"\max", "min": r"\min"}.get(op, rf"\operatorname*{{{op}}}")
        return rf"{symbol}_{{{index}}} {body}"

    def paren(self, inner: str) -> str:
        return rf"\left({inner}\right)"

    def upright(self, text: str) -> str:
        return rf"\text{{{_escaped(text)}}}"

    def _print_Symbol(self, e: Any, style: str = "plain") -> str:
        plain = e.name.rstrip("′\u0303")
        primes, tildes = e.name.count("′"), e.name.count("\u0303")
        base = plain[:1] + (f"_{{{_digits(plain[1:])}}}" if plain[1:] and not plain[1:].isalpha() else plain[1:])
        for _ in range(tildes):
            base = rf"\tilde{{{base}}}"
        return base + "'" * primes

    def _print_Float(self, e: Any) -> str:
        return f"{float(e):.6g}"

    def _print_Add(self, e: Any, order: Any = None) -> str:
        if all(t.is_Symbol or t.is_Integer for t in e.args):
            first, *rest = (self._print(t) for t in _terms(e, e.args))
            return first + "".join(f" - {r[1:].strip()}" if r.startswith("-") else f" + {r}" for r in rest)
        return super()._print_Add(e, order="none")

    def _print_Mul(self, e: Any) -> str:
        """Kets last, as the text backend has it."""
        top, bottom = sp.fraction(e)
        if bottom != 1 or e.args[0].could_extract_minus_sign() or e.is_number:
            return super()._print_Mul(e)
        return " ".join(self.factors(top))


def _digits(text: str) -> str:
    return text.translate(str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789"))


def _escaped(text: str) -> str:
    return re.sub(r"([_&%$#{}])", r"\\\1", text)


# -- statements ------------------------------------------------------------------------------------------------------
Line = tuple[str, str, str]  # left, relation, right


def _lines(e: Equation, p: Any) -> list[Line]:
    """What is stated about an equation: pairs of a left and a right side, and the sign between them."""
    show = p.doprint
    eq, law = ("=", r"\sim" if isinstance(p, Latex) else "~")
    left = show(e.symbol)
    if e.kind == "initial":
        text = f"{_normal(p)}({show(e.mean)}, {show(_variance(e))})"
        if _is_iid(e):
            return [(left, law, text + p.upright(", independent over ") + ", ".join(show(i) for i in e.primed))]
        return [(left, law, text), *_covariance_line(e, p)] if e.primed else [(left, law, text)]
    if e.kind == "clt":
        first = (left, law, f"{_normal(p)}(0, {show(reindex(e.covariance, {b: a for a, b in e.primed.items()}))})")
        if not e.primed:
            return [first]
        return [first, (_cov(p, left, show(_moved(e.symbol, e.primed))), eq, show(e.covariance))]
    if e.kind == "product":
        return _product_lines(e, p)
    chain = [show(e.meaning)] if e.meaning is not None else []
    chain += [show(e.expression)] + ([show(e.closed_form)] if e.closed_form is not None else [])
    return [(left if k == 0 else "", eq, text) for k, text in enumerate(chain)]


def _product_lines(e: Equation, p: Any) -> list[Line]:
    assert e.hat is not None
    show, hat = p.doprint, e.hat.symbol
    dot = DotPart(*hat.args)
    whole = show(hat) + (f" + {show(dot)}" if e.dot else "")
    other = _moved(hat, e.hat.primed)
    spread = _cov(p, show(hat), show(other)) if other != hat else _var(p, show(hat))
    lines = [(show(e.symbol), "=", whole), (spread, "=", show(e.hat.covariance))]
    if e.dot:
        stated = [_dot_term(t, p) for t in e.dot]
        if all(stated):
            lines.append((show(dot), "=", " + ".join(s for s in stated if s)))
            lines.append(("", "=", show(e.dot_expression())))
        else:
            lines.append((show(dot), "=", show(e.dot_expression())))
    return lines


def _dot_term(t: Any, p: Any) -> str | None:
    """σ² |y⟩ E[∂|x⟩/∂Ŵᵀ|y⟩], as the definition has it; None in the Stein form."""
    if t.derivative is None:
        return None
    scale = p.parenthesize(t.scale, PRECEDENCE["Mul"]) + " " if t.scale != 1 else ""
    ket = p.doprint(t.ket) if isinstance(t.ket, Ket) else p.paren(p.doprint(t.ket))
    text = f"{scale}{ket} {p.doprint(t.derivative)}"
    return p.big("sum", ",".join(p.doprint(i) for i, _ in t.over), text) if t.over else text


def _moved(e: Expr, primes: Any) -> Expr:
    return reindex(e, dict(primes))


def _variance(e: Equation) -> Expr:
    return reindex(e.covariance, {b: a for a, b in e.primed.items()})


def _is_iid(e: Equation) -> bool:
    """Are all members of an initial family independent?"""
    deltas = sp.Mul(*(sp.KroneckerDelta(a, b) for a, b in e.primed.items()))
    return bool(e.primed) and e.covariance is not None and not (e.covariance / deltas).has(*e.primed.values())


def _covariance_line(e: Equation, p: Any) -> list[Line]:
    return [(_cov(p, p.doprint(e.symbol), p.doprint(_moved(e.symbol, e.primed))), "=", p.doprint(e.covariance))]


def _normal(p: Any) -> str:
    return r"\mathcal{N}" if isinstance(p, Latex) else "N"


def _cov(p: Any, left: str, right: str) -> str:
    return rf"\operatorname{{Cov}}({left}, {right})" if isinstance(p, Latex) else f"Cov({left}, {right})"


def _var(p: Any, inner: str) -> str:
    return rf"\operatorname{{Var}}({inner})" if isinstance(p, Latex) else f"Var({inner})"


def _matrix(m: Matrix, p: Any) -> str:
    """σ² and ρ of a matrix, and that its hats are jointly Gaussian."""
    name = p.operator("", m.name, tuple(p.doprint(i) for i in m.indices), False)
    rows, cols = m.widths
    shape = "" if rows == cols else f", {rows} × {cols}, ρ = {p.doprint(m.ratio)}"
    return (
        f"{name}: σ² = {p.doprint(m.variance)}{shape}"
        if not isinstance(p, Latex)
        else (
            rf"{name} &: \quad \sigma^2 = {p.doprint(m.variance)}"
            + ("" if rows == cols else rf",\ {p.upright(rows)} \times {p.upright(cols)},\ \rho = {p.doprint(m.ratio)}")
        )
    )


def unicode(system: System) -> str:
    p = Unicode()
    out = [_matrix(m, p) for m in system.matrices]
    if system.matrices:
        out += [
            "hats of one matrix (and orientation) are jointly Gaussian: Cov(Ŵ|x⟩, Ŵ|x′⟩) = σ²⟨x|x′⟩; others are independent",
            "",
        ]
    for e in system:
        for k, (left, sign, right) in enumerate(_lines(e, p)):
            indent = "" if k == 0 else "    "
            out.append(f"{indent}{left} {sign} {right}" if left else f"        {sign} {right}")
    out += ["", *(f"({r})" for r in system.remarks)] if system.remarks else []
    return "\n".join(out) + "\n"


def _latex_lines(system: System) -> list[str]:
    p = Latex({"fold_short_frac": False})
    out = [_matrix(m, p) for m in system.matrices]
    for e in system:
        for left, sign, right in _lines(e, p):
            first, *rest = _broken(right)
            out.append(f"{left} &{sign} {first}")
            out += [rf"&\quad {more}" for more in rest]
    return out


def _broken(text: str) -> list[str]:
    r"""A long right side, broken before + and − at depth 0 (\left and braces balanced)."""
    if len(text) <= _WIDTH:
        return [text]
    parts, depth, start = [], 0, 0
    for m in re.finditer(r"\\left|\\right|[{}()\[\]]| [+-] ", text):
        token = m.group()
        if token in (r"\left", "{", "(", "["):
            depth += 1
        elif token in (r"\right", "}", ")", "]"):
            depth -= 1
        elif depth == 0 and m.start() - start > _WIDTH // 2:
            parts.append(text[start : m.start()])
            start = m.start() + 1
    return [*parts, text[start:]]


def latex(system: System) -> str:
    r"""`\begin{align*}`: needs amsmath; breaks across pages with \allowdisplaybreaks."""
    body = " \\\\\n".join(f"  {line}" for line in _latex_lines(system))
    notes = "".join(f"% {r}\n" for r in system.remarks)
    return f"{notes}\\begin{{align*}}\n{body}\n\\end{{align*}}\n"


def notebook(system: System) -> str:
    """For MathJax in notebooks."""
    return "$$\\begin{aligned}\n" + " \\\\\n".join(_latex_lines(system)) + "\n\\end{aligned}$$"


def markdown(system: System) -> str:
    """A list of displayed formulas."""
    p = Latex({"fold_short_frac": False})
    out = [f"$$\n{_matrix(m, p).replace('&', '')}\n$$\n" for m in system.matrices]
    for e in system:
        lines = " \\\\\n".join(f"{left} &{sign} {right}" for left, sign, right in _lines(e, p))
        out.append(f"$$\n\\begin{{aligned}}\n{lines}\n\\end{{aligned}}\n$$\n")
    return "\n".join([*out, *(f"*{r}.*\n" for r in system.remarks)])


def html(system: System) -> str:
    """The text form, escaped."""
    return f"<pre>{_html.escape(unicode(system))}</pre>"


__all__ = ["Hat", "Latex", "Unicode", "html", "latex", "markdown", "notebook", "precedence", "unicode"]
