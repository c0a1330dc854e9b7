"""Equations as LaTeX: the pages compile, fit, and have distinct names."""

from __future__ import annotations

import re
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest

import tp_compiler as tpc
from tp_compiler.diagnostics import ProgramError
from tp_compiler.report.line_breaking import broken, width
from tp_compiler.tex import spelled

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = sorted((ROOT / "tests" / "golden" / "equations").glob("*.tex"))
EXAMPLES = sorted((ROOT / "examples").glob("*.nexort"))
#: What amsmath and LaTeX know; a macro that is not here is a mistake of the printer.
MACROS = frozenset(
    [
        "allowdisplaybreaks",
        "begin",
        "end",
        "quad",
        "text",
        "mathrm",
        "mathbb",
        "mathcal",
        "operatorname",
        "left",
        "right",
        "bigl",
        "bigr",
        "big",
        "frac",
        "sqrt",
        "sum",
        "prod",
        "max",
        "min",
        "langle",
        "rangle",
        "widehat",
        "dot",
        "hat",
        "tilde",
        "bar",
        "acute",
        "grave",
        "ddot",
        "check",
        "breve",
        "top",
        "partial",
        "cdot",
        "times",
        "ldots",
        "ge",
        "le",
        "sim",
        "prime",
        "ell",
        "Delta",
        "Gamma",
        "Theta",
        "Lambda",
        "Xi",
        "Pi",
        "Sigma",
        "Upsilon",
        "Phi",
        "Psi",
        "Omega",
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "zeta",
        "eta",
        "theta",
        "iota",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
        "pi",
        "rho",
        "sigma",
        "tau",
        "upsilon",
        "phi",
        "chi",
        "psi",
        "omega",
        "varrho",
        "varpi",
        "vartheta",
        "exp",
        "log",
        "sin",
        "cos",
        "tan",
        "tanh",
        "sinh",
        "cosh",
        "asin",
        "acos",
        "arctan",
        "atan",
        "infty",
        "texttt",
        "lambda",
        "limits",
        "in",
    ]
)
NAMES = """
axis i, j : 2
data xi[i] = [0.5, 0.3]
data ξ[i] = [0.1, 0.2]
ket |h[i]> ~ N(0, 1)
ket |h2> ~ N(0, 1)
ket |é[i]> ~ N(0, 1)
matrix theta ~ N(0, 1)
matrix Θ ~ N(0, 1)
|y[i]> = theta |h[i]>
|w[i]> = Θ (ξ[i] |h2> + xi[i] tanh(|é[i]>))
Δloss_a[i] = (<y[i]|h[2]> + <w[i]|h2>)^2
output two = <abs(h[2])|abs(h2)>
output out[i,j] = Δloss_a[i]^2 * <w[i]|w[j]> + <y[i]|y[j]>
"""


def faults(tex: str) -> list[str]:
    """The faults of a page that can be detected without LaTeX."""
    found = []
    if not tex.isascii():
        found.append("not ASCII: " + "".join(c for c in tex if not c.isascii()))
    if not _balanced(tex):
        found.append("unbalanced braces")
    found += [f"unknown macro \\{m}" for m in set(re.findall(r"\\([A-Za-z]+)", tex)) - MACROS]
    if tex.count(r"\left") - tex.count(r"\leftarrow") != tex.count(r"\right"):
        found.append(r"\left without \right")
    return found + _double_scripts(tex)


def _balanced(tex: str) -> bool:
    depth = 0
    for token in re.findall(r"\\[{}]|[{}]", tex):
        depth += {"{": 1, "}": -1}.get(token, 0)
        if depth < 0:
            return False
    return depth == 0


def _double_scripts(tex: str) -> list[str]:
    """a^{..}^{..} and a_{..}_{..}: scripts that hang on one thing."""
    flat, found = tex, []
    while "{" in (flat := re.sub(r"\\[{}]", "", flat)):
        shorter = re.sub(r"\{[^{}]*\}", "@", flat)
        found += re.findall(r"\^@_@\^|_@\^@_|\^@\^|_@_|'\^?@?'\^", shorter)
        if shorter == flat:
            break
        flat = shorter
    return [f"double script {x}" for x in found]


def compiled(pages: list[str], folder: Path) -> str:
    """The log of a document of all pages."""
    body = "\n\\clearpage\n".join(pages)
    text = (
        f"\\documentclass{{article}}\n\\usepackage{{amsmath,amssymb}}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
    )
    (folder / "page.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-draftmode", "page.tex"]
    subprocess.run(command, cwd=folder, capture_output=True, check=False)
    return (folder / "page.log").read_text(encoding="utf-8", errors="replace")


def holds(pages: list[str], folder: Path) -> None:
    assert [found for page in pages for found in faults(page)] == []
    if shutil.which("pdflatex") is None:
        return
    log = compiled(pages, folder)
    assert re.findall(r"^! .*", log, re.M) == []
    wide = [float(x) for x in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log)]
    assert max(wide, default=0.0) < 10.0, wide


def test_goldens(tmp_path: Path) -> None:
    holds([path.read_text(encoding="utf-8") for path in GOLDEN], tmp_path)


def test_names(tmp_path: Path) -> None:
    tex = tpc.derive(NAMES).latex()
    holds([tex], tmp_path)
    assert r"\mathrm{xi}" in tex and r"\xi" in tex and r"\widehat{\mathrm{theta}}" not in tex
    assert r"\widehat{\theta}" in tex and r"|\mathrm{h2}\rangle" in tex and r"|h_{2}\rangle" in tex
    text = tpc.derive(NAMES).unicode()
    assert unicodedata.normalize("NFC", "".join(f"{c}\u0302" for c in "theta")) + "|h_i⟩" in text


def test_examples_of_every_kind(tmp_path: Path) -> None:
    """One of each kind of page; all of them in the slow run."""
    kinds = ("tangent_kernel", "correlated_kets", "shampoo", "convolution")
    holds([tpc.derive(str(ROOT / "examples" / f"{k}.nexort")).latex() for k in kinds], tmp_path)


@pytest.mark.slow
def test_all_examples(tmp_path: Path) -> None:
    pages = []
    for path in EXAMPLES:
        try:
            pages.append(tpc.derive(str(path)).latex())
        except ProgramError:  # gradient flow
            continue
    assert len(pages) > 25
    holds(pages, tmp_path)


@pytest.mark.parametrize(
    "tex",
    [r"x^{2}^{3}", r"|z^{W}_{t}^{2}\rangle", "x_{1}_{2}", "é", r"\Foo", r"\left(x", "{x", r"\left(a\right)^{2}^{3}"],
)
def test_the_checker_sees(tex: str) -> None:
    assert faults(tex)


def test_lines_are_no_wider_than_the_page() -> None:
    term = (
        r"\frac{1}{2} \left(f_{t,i} - y_{i}\right) \mathbb{E}\left[\tanh{\left(|z\rangle \right)} |v_{t}\rangle\right]"
    )
    whole = rf"\sqrt{{{term} + {term}}} \cdot \frac{{{term} + {term}}}{{1 + {term} + {term}}}"
    lines = broken(whole, 200)
    assert len(lines) > 3 and max(map(width, lines)) <= 220 and _balanced("".join(lines))
    assert broken(term, 1000) == [term]


@pytest.mark.parametrize(
    ("name", "tex"),
    [("x", "x"), ("xi", r"\xi"), ("ξ", r"\xi"), ("loss", r"\mathrm{loss}"), ("dΔu", r"d\Delta u"), ("é", r"\acute{e}")],
)
def test_names_are_spelled(name: str, tex: str) -> None:
    assert spelled(name) == tex


@pytest.mark.parametrize("name", ["中", "ж", "leaky_relu", "ϕ", "ς", "x́", "Ω", "ﬁ"])
def test_every_letter_becomes_ascii(name: str) -> None:
    assert spelled(name).isascii() and _balanced(spelled(name))


def test_choices_have_powers() -> None:
    text = "ket |x> ~ N(0, 1); ket |y> ~ N(0, 1)\n|g> = where(|x>, |y>, 0.3)^2 * |y>\noutput o = <g>"
    assert r"\end{cases}\right)^{2}" in tpc.derive(text).latex()
