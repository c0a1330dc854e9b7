"""The two notations: Unicode text and LaTeX."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import sympy as sp
from sympy.printing.latex import LatexPrinter
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from tp_compiler.equations.functions import name_of
from tp_compiler.equations.system import System
from tp_compiler.equations.terms import Expectation, Named, common_factor, place_of
from tp_compiler.report.system_notes import expressions
from tp_compiler.report.system_terms import Backend
from tp_compiler.tex import spelled

_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


class Unicode(Backend, StrPrinter):
    """|h_i⟩, Ŵ|x⟩, E⁽¹⁾[...], ⟨x|y⟩ in one line."""

    less, at_most, at_least, dots, between = "<", "≤", "≥", "…", "; "

    def ket(self, inner: str, copy: int) -> str:
        return f"|{inner}⟩" + (f"⁽{str(copy).translate(_SUPERSCRIPT)}⁾" if copy else "")

    def indexed(self, name: str, indices: tuple[str, ...], over: tuple[str, ...] = ()) -> str:
        return self.subscript(name, indices) + "".join(f"⁽{part.strip('()').translate(_SUPERSCRIPT)}⁾" for part in over)

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
        """The mark is on every letter of the name."""
        mark = {"hat": "\u0302", "dot": "\u0307", "": ""}[accent]
        name = "".join(letter + mark * letter.isalpha() for letter in matrix)
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
        index = f"{{{index}}}" if set(index) & set("<≤≥") else index
        return f"{symbol}_{index} {body}" if op in ("sum", "prod") else f"{symbol}_{index}{body}"

    def paren(self, inner: str) -> str:
        return f"({inner})"

    def upright(self, text: str) -> str:
        return text

    def choice(self, condition: str, yes: str, no: str) -> str:
        return f"({yes} if {condition}, else {no})"

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
        """The base of a power."""
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


class Latex(Backend, LatexPrinter):
    r"""|h_{i}\rangle, \widehat{W}|x\rangle, \mathbb{E}^{(1)}[...], \langle x|y\rangle."""

    #: Names as the system has them, where two of them would look the same.
    apart: Mapping[str, str] = {}

    def ket(self, inner: str, copy: int) -> str:
        return rf"{{|{inner}\rangle^{{({copy})}}}}" if copy else rf"|{inner}\rangle"

    less, at_most, at_least, dots, between = "<", r"\le ", r"\ge ", r"\ldots", r";\quad "

    def outer(self, left: str, right: str) -> str:
        return rf"|{left}\rangle\langle {right}|"

    def word(self, name: str) -> str:
        return self.indexed(name, ())

    def indexed(self, name: str, indices: tuple[str, ...], over: tuple[str, ...] = (), accent: str = "") -> str:
        """A number at the end of a name is a subscript, apart from the indices: z2 over i is z_{2;i}."""
        base, *powers = name.split("^")
        plain = base.rstrip("′")
        stem = plain.rstrip("0123456789") or plain
        digits = plain[len(stem) :]
        if base in self.apart:
            shown, digits = self.apart[base], ""
        else:
            shown = spelled(stem)
        shown = rf"{accent}{{{shown}}}" if accent else shown
        under = ";".join(part for part in (digits, ",".join(indices)) if part)
        above = [r"\prime" * (len(base) - len(plain)), *(self.word(p) for p in powers), *over]
        shown += f"_{{{under}}}" if under else ""
        raised = ",".join(part for part in above if part)
        return shown + (f"^{{{raised}}}" if raised else "")

    def subscript(self, base: str, indices: tuple[str, ...]) -> str:
        return f"{base}_{{{','.join(indices)}}}" if indices else base

    def operator(self, accent: str, matrix: str, member: tuple[str, ...], transposed: bool) -> str:
        mark = {"hat": r"\widehat", "dot": r"\dot", "": ""}[accent]
        return self.indexed(matrix, member, (r"\top",) if transposed else (), mark)

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

    def choice(self, condition: str, yes: str, no: str) -> str:
        return rf"\begin{{cases}} {yes} & \text{{if }} {condition} \\ {no} & \text{{else}} \end{{cases}}"

    def _print_Symbol(self, e: Any, style: str = "plain") -> str:
        plain = e.name.rstrip("′\u0303")
        primes, tildes = e.name.count("′"), e.name.count("\u0303")
        stem = plain.rstrip("₀₁₂₃₄₅₆₇₈₉0123456789")
        digits = _digits(plain[len(stem) :])
        base = spelled(stem) + (f"_{{{digits}}}" if digits else "")
        for _ in range(tildes):
            base = rf"\tilde{{{base}}}"
        return base + "'" * primes

    def _print_Pow(self, e: Any) -> str:
        """A base that already has a superscript is put in brackets."""
        if e.exp.is_Integer and e.exp > 0 and isinstance(e.base, Named | Expectation):
            base = self._print(e.base)
            return f"{self.paren(base) if '^' in base else base}^{{{e.exp}}}"
        if e.exp.is_Integer and e.exp > 0 and f"_print_{type(e.base).__name__}" in vars(Backend):
            return f"{self.paren(self._print(e.base))}^{{{e.exp}}}"  # SymPy's printer would hand it the exponent
        return str(super()._print_Pow(e))

    def _print_Float(self, e: Any) -> str:
        mantissa, _, exponent = f"{float(e):.6g}".partition("e")
        if exponent and mantissa == "1":
            return rf"10^{{{int(exponent)}}}"
        return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if exponent else mantissa

    def _print_Add(self, e: Any, order: Any = None) -> str:
        shared = common_factor(e)
        return (
            str(super()._print_Add(e, order="none"))
            if shared is None
            else self._print_Mul(sp.Mul(*shared, evaluate=False))
        )

    def _print_Mul(self, e: Any) -> str:
        """Kets last, as in the text backend."""
        top, bottom = sp.fraction(e, exact=True)
        if e.is_number:
            return super()._print_Mul(e)
        if e.args[0].is_number and e.args[0].could_extract_minus_sign():
            return f"- {self._p(-e)}"
        if bottom.is_Integer and bottom != 1:
            number, rest = e.as_coeff_Mul()
            return f"{self._print(number)} {' '.join(self.factors(rest))}"
        return super()._print_Mul(e) if bottom != 1 else " ".join(self.factors(top))


def names_apart(system: System) -> dict[str, str]:
    """Names that would look the same: a Greek letter and the word for it; x2 and x with index 2."""
    labels = {n.label.partition("[")[0] for e in system for x in expressions(e) for n in x.atoms(Named)}
    labels |= {m.name for m in system.matrices}
    plain = {part for label in labels for part in label.split("^")}
    stated = [e for e in system if e.kind != "bracket"]
    families = {place_of(e.symbol)[0] for e in stated if place_of(e.symbol)[1]}
    shown: dict[str, list[str]] = {}
    for name in sorted(plain):
        shown.setdefault(_look(name), []).append(name)
    bare = {e.name for e in stated if not place_of(e.symbol)[1]}
    apart = {
        name: spelled(name, upright=True)
        for names in shown.values()
        if len(names) > 1
        for name in names
        if name.isascii()
    }
    for name in plain:
        stem = name.rstrip("0123456789")
        if name != stem and stem in families and name in bare:
            apart[name] = rf"\mathrm{{{spelled(stem, upright=True)}{name[len(stem) :]}}}"
    return apart


def _look(name: str) -> str:
    stem = name.rstrip("′").rstrip("0123456789")
    return spelled(stem or name) + name[len(stem) :]


def _digits(text: str) -> str:
    return text.translate(str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789"))


def escaped(text: str) -> str:
    return re.sub(r"([_&%$#{}])", r"\\\1", text)
