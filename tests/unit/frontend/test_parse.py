"""Text to tree: every construct, the precedence table, bras and kets, lines, contextual keywords."""

from __future__ import annotations

import time

import pytest

from tests.unit.frontend.trees import bare, expression, read, statements
from tp_compiler.frontend import syntax as ast


def n(ident: str, *indices: object, primes: int = 0) -> tuple[object, ...]:
    return ("Name", ident, tuple(indices) or None, primes)


def num(text: str) -> tuple[object, ...]:
    return ("Number", text)


def product(*parts: object) -> tuple[object, ...]:
    """Factors with operators between them."""
    return ("Product", parts[::2], parts[1::2])


def ket(x: object) -> tuple[object, ...]:
    return ("Ket", x)


def call(fn: object, *args: object, extra: tuple[object, ...] = ()) -> tuple[object, ...]:
    return ("Call", fn, tuple(("Arg", a, None) for a in args), extra)


def paren(x: object) -> tuple[object, ...]:
    return ("Paren", x)


A, B, C, W, X, Y = (n(k) for k in "abcWxy")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("xi[i,1]", n("xi", n("i"), num("1"))),
        ("relu''(a)", call(n("relu", primes=2), A)),
        ("sum[i](a)", call(n("sum", n("i")), A)),
        ("f()", call(n("f"))),
        ("f(a; b, c)", call(n("f"), A, extra=(B, C))),
        ("f(slope = 0.1)", ("Call", n("f"), (("Arg", num("0.1"), "slope"),), ())),
        ("(a)", paren(A)),
        ("<x>", ("Mean", X)),
        ("<x|y>", ("Braket", X, Y)),
        ("<x|W|y>", ("Sandwich", X, W, Y)),
        ("clt <x|y>", ("Clt", ("Braket", X, Y))),
        ("|x>@2", ("CopyMark", ket(X), 2)),
        ("W^T", ("Transpose", W)),
        ("Wᵀ", ("Transpose", W)),
        ("W^T2", ("Power", (W, n("T2")))),
        # precedence, tightest first
        ("W^T^2", ("Power", (("Transpose", W), num("2")))),
        ("f'(a)^b", ("Power", (call(n("f", primes=1), A), B))),
        ("a^b^c", ("Power", (A, B, C))),
        ("a^-b", ("Power", (A, ("Neg", B)))),
        ("-a^b", ("Neg", ("Power", (A, B)))),
        ("--a", A),
        ("---a", ("Neg", A)),
        ("+a", A),
        ("-a b", product(("Neg", A), "", B)),
        ("a * -b", product(A, "*", ("Neg", B))),
        ("2/3 |x>", product(num("2"), "/", num("3"), "", ket(X))),
        ("a/b c", product(A, "/", B, "", C)),
        ("c (a)", call(C, A)),
        ("a / c (x)", product(A, "/", call(C, X))),
        ("a + b c - x", ("Sum", (A, product(B, "", C), X), ("+", "+", "-"))),
        ("-a + b", ("Sum", (("Neg", A), B), ("+", "+"))),
        ("|x> |y>", product(ket(X), "", ket(Y))),
        ("2 a", product(num("2"), "", A)),
        # a lone bra stands before ) ] , ; } the end, + - * / | <
        ("|x><y|", product(ket(X), "", ("Bra", Y))),
        ("(<y|)", paren(("Bra", Y))),
        ("x[<y|]", n("x", ("Bra", Y))),
        ("f(<y|, a)", call(n("f"), ("Bra", Y), A)),
        ("f(<y|; a)", call(n("f"), ("Bra", Y), extra=(A,))),
        ("<y| + a", ("Sum", (("Bra", Y), A), ("+", "+"))),
        ("<y| - a", ("Sum", (("Bra", Y), A), ("+", "-"))),
        ("<y| * a", product(("Bra", Y), "*", A)),
        ("<y| / a", product(("Bra", Y), "/", A)),
        ("<y| |x>", product(("Bra", Y), "", ket(X))),
        ("<y| <x|", product(("Bra", Y), "", ("Bra", X))),
        ("(|x><y|) W", product(paren(product(ket(X), "", ("Bra", Y))), "", W)),
        ("<y|tanh(W |x>)>", ("Braket", Y, call(n("tanh"), product(W, "", ket(X))))),
        ("|(<x|y>)>", ket(paren(("Braket", X, Y)))),
        ("⟨x|y⟩", ("Braket", X, Y)),
        # numbers
        ("1.5e-3", num("1.5e-3")),
        (".5", num(".5")),
        ("1.", num("1.")),
    ],
)
def test_expression(text: str, tree: object) -> None:
    assert expression(text) == tree


LAW = ("Law", "N", (num("0"), num("1")))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("nexort 1", ("Version", 1)),
        ("axis i, j : 4", ("AxisDecl", (n("i"), n("j")), num("4"))),
        ("axis i, j", ("AxisDecl", (n("i"), n("j")), None)),
        ("data y[i]", ("DataDecl", n("y", n("i")), None)),
        ("width m = 4", ("WidthDecl", "m", num("4"))),
        ("data y[i] = [1, [a],]", ("DataDecl", n("y", n("i")), ("ListLiteral", (num("1"), ("ListLiteral", (A,)))))),
        ("data y = a", ("DataDecl", Y, A)),
        ('data y from "f.npz" key "k"', ("DataDecl", Y, ("FromFile", "f.npz", "k"))),
        ('data y from "f.csv"', ("DataDecl", Y, ("FromFile", "f.csv", None))),
        ("data y ~ N(0, 1) seed 7", ("DataDecl", Y, ("Drawn", LAW, num("7")))),
        ("data y ~ N(0, 1)", ("DataDecl", Y, ("Drawn", LAW, None))),
        ("scalar c = a frozen", ("ScalarDecl", C, A, True)),
        ("ket |x[i]> : m ~ N(0, 1) frozen", ("KetDecl", n("x", n("i")), "m", LAW, True)),
        ("ket |x> = a", ("KetDecl", X, None, A, False)),
        ("matrix W : m x n ~ N(0, 1)", ("MatrixDecl", W, "m", "n", LAW, False)),
        ("matrix W ~ N(0, 1) frozen", ("MatrixDecl", W, None, None, LAW, True)),
        ("|x>, a = b, c", ("Bind", (ket(X), A), (B, C))),
        ("for l in a..b { c = a }", ("For", "l", A, B, (("Bind", (C,), (A,)),))),
        (
            "def f(x[i], |y>, op W, c = a) { return a, b }",
            (
                "Def",
                "f",
                (
                    ("Param", n("x", n("i")), "scalar", None),
                    ("Param", Y, "ket", None),
                    ("Param", W, "operator", None),
                    ("Param", C, "scalar", A),
                ),
                (("Return", (A, B)),),
                (),
            ),
        ),
        ("def f[i](|y>) { return a }", ("Def", "f", (("Param", Y, "ket", None),), (("Return", (A,)),), (n("i"),))),
        ("fn f(x, y) = a", ("Fn", "f", ("x", "y"), A)),
        ("output x", ("Output", X, None)),
        ("output x = a", ("Output", X, A)),
        ("output <x>", ("Output", None, ("Mean", X))),
        ("output relu'", ("Output", None, n("relu", primes=1))),
        ('import "a.nexort"', ("Import", "a.nexort", True)),
        ("import layers", ("Import", "layers", False)),
        (
            "optimizer f(a) on operators { state a = b scalar; init { a := b } }",
            (
                "Optimizer",
                "f",
                (("Param", A, "scalar", None),),
                "operators",
                (("State", "a", B, True), ("Init", (("Assign", "a", B),))),
            ),
        ),
        ("optimizer f() {}", ("Optimizer", "f", (), "", ())),
        ("train steps = a { minimize b clip c }", ("Train", "steps", A, (("Minimize", B, C),))),
        ("train time = [1] { }", ("Train", "time", ("ListLiteral", (num("1"),)), ())),
        ("update |x>, W with f(a)", ("Update", (ket(X), W), call(n("f"), A))),
        ("update all with f()", ("Update", (), call(n("f")))),
        ("parametrization ntk", ("Parametrization", "ntk", ())),
        (
            "parametrization { |x> : a=0, b=c; output : a=1 }",
            (
                "Parametrization",
                None,
                (
                    ("ParametrizationRow", ket(X), (("Arg", num("0"), "a"), ("Arg", C, "b"))),
                    ("ParametrizationRow", n("output"), (("Arg", num("1"), "a"),)),
                ),
            ),
        ),
    ],
)
def test_statement(text: str, tree: object) -> None:
    assert bare(statements(text)) == (tree,)


@pytest.mark.parametrize(
    "text",
    [
        "data = a",
        "data data = data",
        "data key = 2 * key",
        'data from from "f" key "k"',
        "data seed ~ N(0, 1) seed seed",
        "key = x; x = key; steps = key",
        "output = a",
        "output[i] = a",
        "minimize = a; update = a; return = a; init = a",
        "matrix x ~ N(0, 1)",
        "matrix R : x x x ~ N(0, x)",
        "scalar frozen = frozen",
        "scalar c = frozen frozen",
        "scalar c = 2 * frozen",
        "state scalar = 0 scalar",
        "for in in in..in { in = in }",
        "minimize clip clip clip",
        "update with with f()",
        "ket = axis + ket |x>",
        "on = op",
    ],
)
def test_words_are_keywords_only_in_their_place(text: str) -> None:
    statements(text)


def test_lines() -> None:
    assert len(statements("a = 1; b = 2\nc = 3;\n\n;")) == 3
    assert len(statements("a = b +\n\n  c *\n d\nb = f(x,\n # why\n y)\n|x>,\n a = f(b)")) == 3
    assert len(statements("for l in 1..2\t{\n\n a = 1;\n b = 2 }\nc = 1")) == 2
    assert bare(statements("a = (<y|\n + b)")) == bare(statements("a = (<y| + b)"))
    assert bare(statements("a = 1\r\nb = 2")) == bare(statements("a = 1\nb = 2"))
    assert len(statements("a = 1  \t ")) == 1


def test_names_are_normalised() -> None:
    for text in ("e\u0301 = e\u0301", "e\u0301 := e\u0301"):
        assert bare(statements(text)) == bare(statements(text.replace("e\u0301", "é")))
    assert bare(statements("σ = ﬁ"))[0][2] == (n("ﬁ"),)  # never NFKC


ERRORS = [
    ("a = |x", "NX011", 1, 5, "this ket is never closed"),
    ("|x = 3\nb = 2", "NX011", 1, 1, "this ket is never closed"),
    ("a = <v|h", "NX011", 1, 5, "this bra or bracket is never closed"),
    ("a = <x| W", "NX011", 1, 5, "this bra or bracket is never closed"),
    ("a = (1 + 2\nb = 3", "NX011", 1, 5, "`(` is never closed"),
    ("a = [1\nket |x> = 1", "NX011", 1, 5, "`[` is never closed"),
    ("for l in 1..2 {\n a = 1\n", "NX011", 1, 15, "`{` is never closed"),
    ("a = 1)", "NX012", 1, 6, "`)` closes nothing"),
    ("a = (1]", "NX012", 1, 7, "`]` does not match `(` on line 1, column 5"),
    ("a = |<x|y>>", "NX014", 1, 6, "a label cannot contain bare bras or kets"),
    ("a = <x|W|y|z>", "NX015", 1, 11, "a bracket has at most three parts"),
    ("a = |x> > b", "NX016", 1, 9, "`>` does not close a bra or ket"),
    ("a = b > c", "NX016", 1, 7, "there are no comparison operators"),
    ("a = b < c", "NX011", 1, 7, "to compare, use `step(a - b)`"),
    ("a = b == c", "NX020", 1, 7, "there are no comparison operators"),
    ("a = b $ c", "NX010", 1, 7, "unexpected `$`"),
    ("a = x\x00", "NX010", 1, 6, "character U+0000"),
    ('a = "x', "NX010", 1, 5, "close the string"),
    ("f(x)", "NX021", 1, 1, "an expression is not a statement on its own"),
    ("<x|y> + 2", "NX021", 1, 1, "an expression is not a statement on its own"),
    ("c", "NX021", 1, 1, "an expression is not a statement on its own"),
    ("for l in 1..2 { f(x) }", "NX021", 1, 17, "an expression is not a statement on its own"),
    ("f(x) = 3", "NX025", 1, 1, "this cannot be bound"),
    ("|x + y> = 3", "NX025", 1, 1, "this cannot be bound"),
    ("a = 2 3", "NX023", 1, 5, "two numbers side by side"),
    ("a = -2 3^2", "NX023", 1, 5, "two numbers side by side"),
    ("nexort 2", "NX024", 1, 8, "unknown language version 2"),
    ("a =\nb = 3", "NX020", 1, 3, "this line ends in `=`"),
    ("a = x -  ", "NX020", 1, 7, "expected an expression"),
    ("ket u ~ N(0, 1)", "NX020", 1, 5, "`ket |u> ~ N(0, 1)`"),
    ("matrix W", "NX020", 1, 8, "the statement ends here"),
    ("train size = 2 { }", "NX029", 1, 7, "`train` has no setting `size`"),
    ("def f(in W) { }", "NX026", 1, 7, "`in` is not a kind of parameter"),
    ("optimizer f() of operators { }", "NX028", 1, 15, "write `on operators`"),
    ("update W with f", "NX030", 1, 15, "expected an optimizer after `with`"),
    ("output |x> = 2", "NX027", 1, 8, "outputs must be scalars"),
    ("a = f(b[i] = 2)", "NX022", 1, 7, "a keyword argument must be a plain name"),
    ("a = |x>@" + "1" * 6000, "NX022", 1, 5, "number copies"),
]


@pytest.mark.parametrize(("text", "code", "line", "column", "words"), ERRORS)
def test_error(text: str, code: str, line: int, column: int, words: str) -> None:
    _, (found,) = read(text)
    assert found.span is not None
    assert (found.code, *found.span.source.position(found.span.start)) == (code, line, column)
    assert words in found.render()
    assert "^" in found.render()
    assert found.remedy


def test_several_errors_are_reported_in_order() -> None:
    file, found = read("a = 3 +* 4\nb = (2\nc = )\nd = 1")
    assert [d.code for d in found] == ["NX020", "NX011", "NX012"]
    assert [type(s) for s in file.statements] == [ast.Bind]


@pytest.mark.parametrize("mistake", [")", "2 +* 3", "$", "(2", "|x"])
def test_an_error_in_a_block_hides_nothing_behind_it(mistake: str) -> None:
    file, found = read(f"for l in 1..2 {{\n a = {mistake}\n b = 2\n}}\nc = 1\nd = 2 2\n")
    assert found[0].span is not None
    assert found[0].span.source.position(found[0].span.start)[0] == 2
    assert [d.code for d in found][1:] == ["NX023"]
    assert len(file.statements) == 1


MONSTERS = (
    ["a = " + "(" * 20_000 + ")" * 20_000]
    + [x * 20_000 for x in ("(", "<", "{", "|f(", "a = (\n", "for l in 1..2 {", "x ", "\x00", "\n(")]
    + ["a = x" + x * 20_000 for x in ("^T", "@1", "^-x", " x", "--")]
)


@pytest.mark.parametrize("text", MONSTERS, ids=lambda text: text[:12].strip())
def test_monsters_are_refused(text: str) -> None:
    _, found = read(text)
    assert len(found) <= 1000


@pytest.mark.timed
@pytest.mark.parametrize("text", MONSTERS, ids=lambda text: text[:12].strip())
def test_monsters_are_refused_fast(text: str) -> None:
    start = time.perf_counter()
    read(text)
    assert time.perf_counter() - start < 5


def test_many_lines() -> None:
    lines = [f"|h{k}> = W relu(|x{k}>) + 2/3 |u> * tanh(b)  # why" for k in range(2000)]
    assert len(statements("\n".join(lines))) == 2000
