"""Random trees survive rendering, parsing and formatting; no text at all breaks the parser."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.frontend.trees import bare, read, statements
from tp_compiler import driver
from tp_compiler.diagnostics import Source

SETTINGS = settings(max_examples=400, derandomize=True, database=None, suppress_health_check=list(HealthCheck))

# ------------------------------------------------------------------------ programs: (text, expected tree) in step
Piece = tuple[str, Any]
NAMES = st.sampled_from(["a", "b", "W", "x1", "σ", "data", "step", "key", "frozen", "on", "é"])
BLANKS = st.sampled_from(["", " ", "  ", "\t"])


def _name(ident: str) -> Piece:
    return ident, ("Name", ident, None, 0)


def _wrap(kind: str, template: str, *parts: Piece) -> Piece:
    return template.format(*(p[0] for p in parts)), (kind, *(p[1] for p in parts))


def _call(name: Piece, args: list[Piece], space: str) -> Piece:
    text = f"{name[0]}{space}({' ,'.join(a[0] for a in args)})"
    return text, ("Call", name[1], tuple(("Arg", a[1], None) for a in args), ())


def _indexed(ident: str, indices: list[Piece]) -> Piece:
    return f"{ident}[{' ,'.join(x[0] for x in indices)}]", ("Name", ident, tuple(x[1] for x in indices), 0)


def _power(base: Piece, exponent: Piece) -> Piece:
    return f"{base[0]} ^ {exponent[0]}", ("Power", (base[1], exponent[1]))


def _product(first: Piece, rest: list[tuple[str, Piece]], blank: str) -> Piece:
    """A number after a factor takes `*`, and a bracket after a name would be a call."""
    text, factors, operators = first[0], [first[1]], []
    for operator, factor in rest:
        safe = factor[1][0] in ("Name", "Ket", "Mean", "Braket") and factors[-1][0] != "Bra"
        operator = operator or ("" if safe else "*")
        text += f"{blank}{operator}{blank}{factor[0]}" if operator else f" {factor[0]}"
        factors.append(factor[1])
        operators.append(operator)
    return text, ("Product", tuple(factors), tuple(operators))


def _sum(first: Piece, rest: list[tuple[str, Piece]], blank: str) -> Piece:
    text = first[0] + "".join(f"{blank}{sign}{blank}{term[0]}" for sign, term in rest)
    return text, ("Sum", (first[1], *(t[1] for _, t in rest)), ("+", *(s for s, _ in rest)))


def _atoms(inner: st.SearchStrategy[Piece]) -> st.SearchStrategy[Piece]:
    """Atoms over inner expressions. In labels these stand in parentheses, where anything may stand."""
    label = st.one_of(NAMES.map(_name), st.builds(lambda x: _wrap("Paren", "({})", x), inner))
    return st.one_of(
        NAMES.map(_name),
        st.sampled_from(["2", "0.5", "1e-3", ".5", "3."]).map(lambda t: (t, ("Number", t))),
        st.builds(lambda x: _wrap("Paren", "( {})", x), inner),
        st.builds(lambda x: _wrap("Ket", "|{}>", x), label),
        st.builds(lambda x: _wrap("Mean", "<{} ⟩", x), label),
        st.builds(lambda x, y: _wrap("Braket", "< {}|{}>", x, y), label, label),
        st.builds(lambda x, y, z: _wrap("Sandwich", "<{}|{} |{}>", x, y, z), label, label, label),
        st.builds(lambda x: _wrap("Paren", "({})", _wrap("Bra", "<{}|", x)), label),
        st.builds(lambda x, y: _wrap("Clt", "clt {}", _wrap("Braket", "<{}|{}>", x, y)), label, label),
        st.builds(_indexed, NAMES, st.lists(inner, min_size=1, max_size=2)),
        st.builds(_call, NAMES.map(_name), st.lists(inner, max_size=2), BLANKS),
    )


def _compound(inner: st.SearchStrategy[Piece]) -> st.SearchStrategy[Piece]:
    atom = _atoms(inner)
    postfix = st.one_of(
        atom,
        st.builds(lambda x: _wrap("Transpose", "{}^ T", x), atom),
        st.builds(lambda x: (f"{x[0]}@ 2", ("CopyMark", x[1], 2)), atom),
    )
    power = st.one_of(postfix, st.builds(_power, postfix, postfix))
    signed = st.one_of(power, st.builds(lambda x: _wrap("Neg", "- {}", x), power))
    tails = st.lists(st.tuples(st.sampled_from(["*", "/", ""]), power), min_size=1, max_size=3)
    product = st.one_of(signed, st.builds(_product, signed, tails, BLANKS))
    terms = st.lists(st.tuples(st.sampled_from("+-"), product), min_size=1, max_size=2)
    return st.one_of(product, st.builds(_sum, product, terms, BLANKS))


EXPRESSIONS = st.recursive(NAMES.map(_name), _compound, max_leaves=12)
BINDS = st.builds(
    lambda n, e: (f"{n}={e[0]}", ("Bind", (_name(n)[1],), (e[1],))),
    NAMES,
    EXPRESSIONS,
)


def _for(body: list[Piece], gap: str) -> Piece:
    text = "for l in 1..3 {" + gap.join(s[0] for s in body) + "}"
    return text, ("For", "l", ("Number", "1"), ("Number", "3"), tuple(s[1] for s in body))


PROGRAMS = st.lists(
    st.recursive(
        BINDS,
        lambda s: st.builds(_for, st.lists(s, max_size=3), st.sampled_from([" ; ", "\n", "\n\n\n# why\n", "# c\n"])),
        max_leaves=4,
    ),
    max_size=4,
)


@SETTINGS
@given(PROGRAMS, st.sampled_from(["\n", ";", "  # end\n", "\n\n\n\n"]), st.sampled_from(["keep", "unicode", "ascii"]))
def test_trees_survive(program: list[Piece], gap: str, style: str) -> None:
    text = gap.join(s[0] for s in program)
    tree = tuple(s[1] for s in program)
    assert bare(statements(text)) == tree
    once = driver.format(Source("p", text), style=style)
    assert bare(statements(once)) == tree
    assert driver.format(Source("p", once), style=style) == once
    assert once.count("#") == text.count("#")


WORDS = """a b W x data output for in def return fn ket matrix scalar axis train steps update with minimize clip clt
E all frozen seed from key parametrization optimizer on operators state init import nexort"""
SIGNS = """1 2.5 1..3 .. .5 .5. "s" ' ( ) [ ] { } < > | ⟨ ⟩ ^ ^T ᵀ @1 @ + - * / = := : ~ , ; # $ −"""
TOKENS = [*WORDS.split(), *SIGNS.split(), "\n", "\\", "\x00", "\r"]


@SETTINGS
@given(st.lists(st.sampled_from(TOKENS), max_size=40), st.sampled_from([" ", ""]))
def test_random_tokens(tokens: list[str], gap: str) -> None:
    _survives(gap.join(tokens))


@SETTINGS
@given(st.binary(max_size=120))
def test_random_bytes(raw: bytes) -> None:
    _survives(raw.decode("latin-1"))
    _survives(raw.decode("utf-8", errors="replace"))


@SETTINGS
@given(st.text(max_size=80))
def test_random_text(text: str) -> None:
    _survives(text)


GOOD = (
    "for l in 1..3 { |x[i]> = |x[i]> + A[l] relu(<v|W|h>) }\nupdate |u>, W with Adam(lr = 0.1)\noutput K[i,j] = <x|y>"
)


@SETTINGS
@given(st.integers(0, len(GOOD)), st.integers(0, 6), st.sampled_from(TOKENS))
def test_damaged_programs(at: int, drop: int, put: str) -> None:
    _survives(GOOD[:at] + put + GOOD[at + drop :])


def _survives(text: str) -> None:
    """Parsing ends in a tree or in diagnostics that can be shown; what parses also formats, with the same meaning."""
    file, found = read(text)
    for diagnostic in found:
        assert diagnostic.code.startswith("NX0") and diagnostic.render()
    if not found:
        once = driver.format(Source("p", text))
        assert bare(statements(once)) == bare(file.statements)
        assert driver.format(Source("p", once)) == once
