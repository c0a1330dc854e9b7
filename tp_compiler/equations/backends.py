"""The two notations: Unicode text and LaTeX."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import sympy as sp
from sympy.printing.latex import LatexPrinter
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from tp_compiler.equations.functions import name_of
from tp_compiler.equations.notation import Backend
from tp_compiler.equations.terms import Named, common_factor

_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


class Unicode(Backend, StrPrinter):
    """|h_i⟩, Ŵ|x⟩, E⁽¹⁾[...], ⟨x|y⟩ in one line."""

    less, at_most = "<", "≤"

    def ket(self, inner: str, copy: int) -> str:
        return f"|{inner}⟩" + (f"⁽{str(copy).translate(_SUPERSCRIPT)}⁾" if copy else "")

    def entry(self, inner: str, row: int, column: int) -> str:
        return f"{inner}⁽{f'{row}{column}'.translate(_SUPERSCRIPT)}⁾"

    def outer(self, left: str, right: str) -> str:
        return f"|{left}⟩⟨{right}|"

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
        return self.subscript(unicodedata.normalize("NFC", name), member) + ("ᵀ" if transposed else "")

    def braket(self, left: str, right: str) -> str:
        return f"⟨{left}|{right}⟩"

    def expectation(self, copies: list[int], body: str) -> str:
        return f"E{_copies(copies)}[{body}]"

    def partial(self, top: str, bottom: str) -> str:
        return f"∂{top}/∂{bottom}"

    def stein(self, x: str, y: str) -> str:
        return f"(⟨Y|Y⟩⁺⟨Ĝ|{x}⟩)_{{{y}}}"

    def families(self, kets: str, hats: str) -> str:
        return f", Y = {kets}, Ĝ = {hats}"

    def big(self, op: str, index: str, body: str) -> str:
        symbol = {"sum": "Σ", "prod": "Π"}.get(op, op)
        index = f"{{{index}}}" if set(index) & set("<≤") else index
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
            return self._base(e.base) + power
        if e.exp.is_number and e.exp.is_negative:
            return f"1/{self.parenthesize(1 / e, PRECEDENCE['Pow'])}"
        return f"{self._base(e.base)}^{self.parenthesize(e.exp, PRECEDENCE['Pow'])}"

    def _base(self, e: Any) -> str:
        """What a power is of."""
        return self.paren(self._print(e)) if isinstance(e, sp.Sum) else str(self.parenthesize(e, PRECEDENCE["Pow"]))

    def _print_Mul(self, e: Any) -> str:
        sign = ""
        if e.args and e.args[0].is_number and e.args[0].could_extract_minus_sign():
            sign, e = "−", -e
            if not isinstance(e, sp.Mul):
                return sign + self._p(e)
        top, bottom = sp.fraction(e, exact=True)
        text = " ".join(self.factors(top)) if top != 1 else "1"
        if bottom != 1:
            under = self._print(bottom)
            simple = bottom.is_Atom or isinstance(bottom, Named) or (isinstance(bottom, sp.Pow) and bottom.is_number)
            text += f"/{under}" if simple else f"/({under})"
        return sign + text

    def _print_Add(self, e: Any, order: Any = None) -> str:
        shared = common_factor(e)
        if shared is not None:
            return self._print_Mul(sp.Mul(*shared, evaluate=False))
        text = ""
        for a in self._as_ordered_terms(e):
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


def _copies(copies: list[int]) -> str:
    shown = ",".join(str(c).translate(_SUPERSCRIPT) for c in copies)
    return f"⁽{shown}⁾" if shown else ""


_GREEK = frozenset({"alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda"})
_GREEK |= {"mu", "nu", "xi", "pi", "rho", "sigma", "tau", "phi", "chi", "psi", "omega"}
_LETTERS = {
    "θ": r"\theta",
    "δ": r"\delta",
    "ℓ": r"\ell",
    "σ": r"\sigma",
    "ρ": r"\rho",
    "η": r"\eta",
    "κ": r"\kappa",
    "ξ": r"\xi",
    "χ": r"\chi",
}


class Latex(Backend, LatexPrinter):
    r"""|h_{i}\rangle, \widehat{W}|x\rangle, \mathbb{E}^{(1)}[...], \langle x|y\rangle."""

    def ket(self, inner: str, copy: int) -> str:
        return rf"{{|{inner}\rangle^{{({copy})}}}}" if copy else rf"|{inner}\rangle"

    less, at_most = "<", r"\le "

    def entry(self, inner: str, row: int, column: int) -> str:
        return rf"{{{{{inner}}}^{{({row}{column})}}}}"

    def outer(self, left: str, right: str) -> str:
        return rf"|{left}\rangle\langle {right}|"

    def word(self, name: str) -> str:
        base, _, exponent = name.partition("^")
        if exponent:
            return rf"{self.word(base)}^{{{self.word(exponent)}}}"
        if name[:1] == "Δ" and name[1:]:
            return rf"\Delta {self.word(name[1:])}"
        plain = name.rstrip("′")
        stem = plain.rstrip("0123456789")
        digits = plain[len(stem) :] + "'" * (len(name) - len(plain))
        if stem in _LETTERS or stem in _GREEK:
            stem = _LETTERS.get(stem, "\\" + stem)
        elif len(stem) > 1:
            stem = rf"\mathrm{{{escaped(stem)}}}"
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

    def stein(self, x: str, y: str) -> str:
        return rf"\left(\langle Y|Y\rangle^{{+}}\langle \widehat{{G}}|{x}\rangle\right)_{{{y}}}"

    def families(self, kets: str, hats: str) -> str:
        return rf",\ Y = {kets},\ \widehat{{G}} = {hats}"

    def big(self, op: str, index: str, body: str) -> str:
        symbol = {"sum": r"\sum", "prod": r"\prod", "max": r"\max", "min": r"\min"}.get(op, rf"\operatorname*{{{op}}}")
        return rf"{symbol}_{{{index}}} {body}"

    def paren(self, inner: str) -> str:
        return rf"\left({inner}\right)"

    def upright(self, text: str) -> str:
        return rf"\text{{{escaped(text)}}}"

    def _print_Symbol(self, e: Any, style: str = "plain") -> str:
        plain = e.name.rstrip("′\u0303")
        primes, tildes = e.name.count("′"), e.name.count("\u0303")
        base = plain[:1] + (f"_{{{_digits(plain[1:])}}}" if plain[1:] and not plain[1:].isalpha() else plain[1:])
        for _ in range(tildes):
            base = rf"\tilde{{{base}}}"
        return base + "'" * primes

    def _print_Float(self, e: Any) -> str:
        mantissa, _, exponent = f"{float(e):.6g}".partition("e")
        return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if exponent else mantissa

    def _print_Add(self, e: Any, order: Any = None) -> str:
        shared = common_factor(e)
        return (
            str(super()._print_Add(e, order="none"))
            if shared is None
            else self._print_Mul(sp.Mul(*shared, evaluate=False))
        )

    def _print_Mul(self, e: Any) -> str:
        """Kets last, as the text backend has it."""
        top, bottom = sp.fraction(e, exact=True)
        if e.is_number:
            return super()._print_Mul(e)
        if e.args[0].is_number and e.args[0].could_extract_minus_sign():
            return f"- {self._p(-e)}"
        if bottom.is_Integer and bottom != 1:
            number, rest = e.as_coeff_Mul()
            return f"{self._print(number)} {' '.join(self.factors(rest))}"
        return super()._print_Mul(e) if bottom != 1 else " ".join(self.factors(top))


def _digits(text: str) -> str:
    return text.translate(str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789"))


def escaped(text: str) -> str:
    return re.sub(r"([_&%$#{}])", r"\\\1", text)
