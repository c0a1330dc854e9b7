"""The sentences of the language's contract, one small program each: equal values, or the errors they promise.

Values are compared within one simulated network, so that identities hold to rounding and not to sampling error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tp_compiler
from tp_compiler import driver
from tp_compiler.diagnostics import Source

HEAD = """
axis i, j : 3
axis d : 2
axis l : 4
axis s, t : 3
data xi[i,d] = [[1, 0.5], [-0.3, 0.8], [0.2, -1.1]]
data y[i] = [0.5, -1, 2]
data tok[i] = [3, 1, 1]
data pick[i] = [4, 2, 2]
ket |u[d]> ~ N(0, 1)
ket |e[s]> ~ N(0, 1)
ket |x> ~ N(0, 1)
ket |z> ~ N(0, 2)
ket |v> ~ N(0, 1)
matrix W ~ N(0, 1)
matrix V ~ N(0, 2)
matrix A[l] ~ N(0, 1)
width m = 2
ket |q> : m ~ N(0, 1)
matrix R : m x n ~ N(0, 1)
c = 3
G = |x><z| + 0.5 |z><x|
"""

#: (what is promised, statements, left, right): the two expressions have one value.
SAME = [
    ("2/3 |x> is (2/3)|x>", "", "<2/3 x|z>", "(2/3) * <x|z>"),
    ("a/b c is (a/b)c", "a = 1; b = 2", "a/b c", "1.5"),
    ("power is right-associative", "", "2^3^2", "512"),
    ("signed exponent", "", "2^-2", "0.25"),
    ("unary minus is looser than ^", "", "-2^2", "-4"),
    ("a product of kets is entrywise", "", "<(|x> |z>)>", "<x|z>"),
    ("mean is a bracket with 1", "", "<1|x>", "<x>"),
    ("NAME(...) of a scalar is a product", "", "c (4-2)^2", "3 * 4"),
    ("a / c (x) is (a / c) x", "a = 6", "a / c (5)", "10"),
    ("NAME(...) of an operator applies it", "", "<v|(W(|x> + |z>))>", "<v|W|x> + <v|W|z>"),
    ("a label of a function", "", "<v|tanh(x)>", "<v|(tanh(|x>))>"),
    ("|tanh(h[i])> is tanh(|h[i]>)", "|h[i]> = i |x>", "sum[i](<(|tanh(h[i])>)>)", "sum[i](<(tanh(|h[i]>))>)"),
    ("kets in the parentheses of a label", "", "<v|tanh(W |x>)>", "<v|(tanh(W |x>))>"),
    ("reductions in labels", "", "<v|sum[d](xi[1,d] |u[d]>)>", "<v|u[1]> + 0.5 * <v|u[2]>"),
    ("outer product acts", "", "<v|(|x><z|)|x>", "<v|x> * <z|x>"),
    ("difference of operators", "", "<v|(|x><z| - 0.5 |z><x|)|v>", "0.5 * <v|x> * <z|v>"),
    ("a bra composed in parentheses", "", "((<v|) W) |x>", "<v|W|x>"),
    ("S^2 composes", "S = W + V", "<v|S^2|x>", "<v|S S|x>"),
    ("S^0 is the identity", "", "<v|W^0|x>", "<v|x>"),
    ("S^T transposes", "S = W V", "<v|S^T|x>", "<x|S|v>"),
    ("transposes of outer products", "", "<v|G^T|x>", "<x|G|v>"),
    ("transposes of rectangles", "", "<x|R^T|q>", "2 * <q|R|x>"),
    ("transposes of rectangular outer products", "H = |q><x|", "<x|H^T|q>", "2 * <q|H|x>"),
    ("I and c I", "", "<v|(W + c I)|x>", "<v|W|x> + 3 * <v|x>"),
    ("operators scale", "", "<v|(2 W / c)|x>", "2/3 <v|W|x>"),
    ("hadamard of rank one", "", "<v|hadamard(|x><z|, |z><x|)|v>", "<v|(|x> * |z>)> * <(|z> * |x>)|v>"),
    ("a linear f(G)", "fn twice(w) = 2 * w", "<v|twice(G)|x>", "2 * <v|G|x>"),
    ("f(G) squares entries", "", "<v|square(|x><z|)|v>", "<v|(|x>^2)> * <(|z>^2)|v>"),
    ("a scalar in f(G) adds to entries", "", "<v|square(|x><z| + 0.5)|1>",
     "<v|(|x>^2)> * <(|z>^2)> + <v|x> * <z> + <v>/4"),
    ("f(G) is E of the entries", "", "<v|tanh(G)|x>", "<v|E[1](tanh(|x> * |z>@1 + 0.5 |z> * |x>@1) * |x>@1)>"),
    ("E[1] averages a copy", "", "<E[1](|x> * |z>@1)>", "<x> * <z>"),
    ("E[1,2] averages two", "", "<E[1,2](|x> * |z>@1 * |x>@2)>", "<x>^2 * <z>"),
    ("copies of parenthesised kets", "", "<v|E[1]((W |x>)@1 * |z>)>", "<v|z> * <(W |x>)>"),
    ("nested E", "", "<E[1](|x> * E[2](|z>@1 * |x>@2))>", "<x>^2 * <z>"),
    ("a family of matrices", "", "<v|A[2]|x>", "sum[l](delta[l,2] <v|A[l]|x>)"),
    ("sums of operators over an index", "S = sum[l](l A[l])", "<v|S|x>", "sum[l](l <v|A[l]|x>)"),
    ("means of operators over an index", "S = mean[l](A[l])", "<v|S|x>", "mean[l](<v|A[l]|x>)"),
    ("integer data gather kets", "", "sum[i](i <x|e[tok[i]]>)", "<x|e[3]> + 5 * <x|e[1]>"),
    ("integer data gather matrices", "", "sum[i](i <v|A[pick[i]]|x>)", "<v|A[4]|x> + 5 * <v|A[2]|x>"),
    ("diagonals", "K[i,j] = y[i] * y[j]^2", "sum[i](K[i,i])", "sum[i](y[i]^3)"),
    ("shift has zeros outside", "", "sum[i](i * shift[i](y[i], 1))", "2 * 0.5 - 3"),
    ("shift of kets", "", "<v|sum[s](shift[s](|e[s]>, -1))>", "<v|(|e[2]> + |e[3]>)>"),
    ("delta", "", "sum[i,j](delta[i,j] * i * j)", "14"),
    ("an index is its position", "", "sum[i](exp(-i))", "exp(-1) + exp(-2) + exp(-3)"),
    ("causal masks", "", "sum[s,t](step(s - t + 1/2) * (s + 10 * t))",
     "1+10 + 2+10 + 2+20 + 3+10 + 3+20 + 3+30"),
    ("step(0) is 0", "", "step(0) + relu'(0) + sign(0) + abs'(0)", "0"),
    ("where", "", "where(0, 1, 2) + where(1, 10, 20)", "12"),
    ("prod, max, min of scalars", "", "prod[i](y[i]) + max[i](y[i]) + min[i](y[i])", "-1 + 2 - 1"),
    ("softmax sums to one", "", "sum[i](softmax[i](y[i]) * i)", "sum[i](exp(y[i] - logsumexp[i](y[i])) * i)"),
    ("max over kets is entrywise", "", "<max[d](|u[d]>)>", "<max(|u[1]>, |u[2]>)>"),
    ("softmax over kets", "", "<v|(softmax[d](|u[d]>))>[1]", ""),
    ("logsumexp over kets", "", "<logsumexp[d](|u[d]>)>", "<log(exp(|u[1]>) + exp(|u[2]>))>"),
    ("prod over kets", "", "<prod[d](|u[d]>)>", "<u[1]|u[2]>"),
    ("derivatives of functions", "", "<(relu'(|x>))>", "<(step(|x>))>"),
    ("second derivatives", "", "<(tanh''(|x>))>", "<(-2 * tanh(|x>) * (1 - tanh(|x>)^2))>"),
    ("fn and its derivative", "fn phi(w) = w * erf(w)", "<(phi'(|x>))>", "<(erf(|x>) + |x> * erf'(|x>))>"),
    ("fn of several arguments", "fn mix(a, b) = a * b + a", "<(mix(|x>, |z>))>", "<x|z> + <x>"),
    ("named arguments", "", "leaky_relu(-1, slope = 0.5)", "-0.5"),
    ("step( is the function", "", "step(3)", "1"),
    ("NFC names", "ke\u0301 = 4", "k\u00e9", "4"),
    ("Unicode brackets and transpose", "", "\u27e8v|W\u1d40|x\u27e9", "<v|W^T|x>"),
    ("statements end at ;", "a = 1; b = 2", "a + b", "3"),
    ("a line that ends in an operator continues", "a = 1 +\n 2", "a", "3"),
    ("rebinding shadows", "|h> = |x>; g = <h>; |h> = |z>", "g - <h>", "<x> - <z>"),
    ("loops keep their bindings", "|h> = |x>\nfor k in 1..3 { |h> = tanh(W |h>); a = k }", "<h|z> + a",
     "<z|(tanh(W tanh(W tanh(W |x>))))> + 3"),
    ("an empty loop", "a = 1\nfor k in 2..1 { a = 5 }", "a", "1"),
    ("loop variables may reuse index names", "a = 0\nfor i in 1..3 { a = a + y[i] }", "a", "sum[i](y[i])"),
    ("members before and in a loop", "|h[1]> = |x>\nfor s in 2..3 { |h[s]> = tanh(W |h[s-1]>) }", "sum[s](s <z|h[s]>)",
     "<z|x> + 2 * <z|(tanh(W |x>))> + 3 * <z|(tanh(W tanh(W |x>)))>"),
    ("members beside an index", "|h[i,1]> = y[i] |x>\nfor s in 2..3 { |h[i,s]> = W |h[i,s-1]> }",
     "sum[i,s](i * s * <z|h[i,s]>)", "sum[i](i y[i]) * (<z|x> + 2 <z|W|x> + 3 <z|W^2|x>)"),
    ("a member replaced in a family", "|h[s]> = |e[s]>\n|h[2]> = |x>", "sum[s](s <z|h[s]>)",
     "<z|e[1]> + 2 * <z|x> + 3 * <z|e[3]>"),
    ("scalar members", "a[1] = 1\nfor s in 2..3 { a[s] = s * a[s-1] }", "sum[s](a[s])", "9"),
    ("indices pass through a def", "def f(x[d]) { return <v|sum[d](x[d] |u[d]>)> }\ng[i] = f(xi[i,d])",
     "sum[i](i g[i])",
     "sum[i,d](i * xi[i,d] * <v|u[d]>)"),
    ("a def of kets and operators", "def f(|a>, op B) { return |a> + tanh(B |a>) }", "<z|(f(|x>, W))>",
     "<z|x> + <z|(tanh(W |x>))>"),
    ("a def of several values", "def f(a) { return a + 1, a * 2 }\np1, p2 = f(c)", "p1 * p2", "24"),
    ("parameters shadow", "def f(c) { c2 = c + 1\n return c2 }\nc2 = 100", "f(1) + c2", "102"),
    ("locals are local", "def f(a) { |h> = a |x>\n return <h|z> }\n|h> = |z>", "f(2) + <h|z>", "2 <x|z> + <z|z>"),
    ("free names as where the def stands", "a = 1\ndef f(b) { return a + b }\na = 50", "f(1)", "2"),
    ("defaults of parameters", "def f(a, b = 4) { return a * b }", "f(2) + f(2, b = 5)", "18"),
    ("a def may be nested in a call", "def f(a) { return a^2 }", "f(f(f(2)))", "256"),
    ("arguments keep a def's own sums apart", "def f(w) { return sum[i](w * y[i]) }", "sum[i](f(y[i]))", "1.5 * 1.5"),
    ("a def's parameter takes the only index of its axis", "def f(w[i]) { return sum[i](w[i]^2) }",
     "f(y[i])", "5.25"),
    ("fn bodies with reductions are hygienic", "fn f(w) = w * sum[i](y[i])\nfn g(w) = sum[i](w * y[i])",
     "sum[i](f(y[i])) + sum[i](g(y[i]))", "2 * 1.5 * 1.5"),
    ("a parameter hides an outer ket in labels, |x> does not", "def f(x[d]) { return <x|sum[d](x[d] |u[d]>)> }",
     "f(xi[1,d])", "<x|u[1]> + 0.5 <x|u[2]>"),
    ("locals may have declared names", "def f(a) { |x> = a |z>\n c = 2\n return <x|v> * c }", "f(3) * c", "18 * <z|v>"),
    ("a local ket beats a parameter", "def f(x[d]) { |x> = sum[d](x[d] |u[d]>)\n return <v|tanh(x)> }",
     "f(xi[1,d])", "<v|(tanh(|u[1]> + 0.5 |u[2]>))>"),
    ("fn passes indices it does not name", "fn f(w) = w^2 + sum[j](y[j])", "sum[i](f(y[i]))", "5.25 + 3 * 1.5"),
    ("stop is the identity", "", "stop(<x|z>)", "<x|z>"),
    ("inverse", "data K[i,j] = [[2, 1, 0], [1, 3, 0], [0, 0, 1]]\nB[i,j] = inv[i,j](K[i,j])", "B[1,1] + 10 * B[1,2]",
     "3/5 - 10/5"),
    ("solve", "data K[i,j] = [[2, 1, 0], [1, 3, 0], [0, 0, 1]]\na[i] = solve[i,j](K[i,j], y[j])",
     "2 a[1] + a[2]", "0.5"),
    ("logdet and pow", "data K[i,j] = [[4, 0, 0], [0, 9, 0], [0, 0, 1]]\nB[i,j] = pow[i,j](K[i,j], 1/2)",
     "logdet[i,j](K[i,j]) + B[2,2]", "log(36) + 3"),
    ("cholesky and matfun", "data K[i,j] = [[4, 2, 0], [2, 5, 0], [0, 0, 1]]\nL[i,j] = cholesky[i,j](K[i,j])\n"
     "S[i,j] = matfun[i,j](square, K[i,j])", "L[2,1] + L[2,2] + S[1,1]", "1 + 2 + 20"),
]  # fmt: skip
SAME = [row for row in SAME if row[3]]


@pytest.mark.parametrize("row", SAME, ids=[row[0] for row in SAME])
def test_same(row: tuple[str, str, str, str]) -> None:
    _, body, left, right = row
    program = tp_compiler.compile(f"{HEAD}{body}\noutput left_ = {left}\noutput right_ = {right}\n")
    run = tp_compiler.simulate(program, 16, seeds=2)
    assert not run.failed, run.failed
    np.testing.assert_allclose(run["left_"], run["right_"], rtol=1e-9, atol=1e-12)


def test_softmax_over_kets_is_entrywise() -> None:
    run = tp_compiler.simulate(HEAD + "|w[d]> = softmax[d](|u[d]>)\noutput f = <sum[d](w[d])>", 16, seeds=2)
    np.testing.assert_allclose(run["f"], 1)


def codes(text: str, settings: dict[str, float] | None = None) -> list[str]:
    return [d.code for d in driver.diagnose(Source("p.nexort", HEAD + text), settings=settings)]


@pytest.mark.parametrize(
    "text, code",
    [
        ("f[i] = <x|u[d]>", "NX201"),
        ("axis k : 3\noutput f[k] = y[k]", "NX226"),
        ("c = c (x)", "NX101"),
        ("output <c>", "NX215"),
        ("output <x|(W + 1)|x>", "NX242"),
        ("output <x|tanh(W)|x>", "NX234"),
        ("output <E[1](W |x>@1)>", "NX232"),
        ("def f(a) { return f(a) }", "NX131"),
        ("def f(a) { axis k : 2\n return a }", "NX121"),
        ("output <h[1]|x>\n|h[2]> = |x>", "NX102"),
        ("|h[2]> = |x>\noutput <h[1]|x>", "NX227"),
        ("|x> = |z>", "NX116"),
        ("ket |x> ~ N(0, 1)", "NX110"),
        ("output tanh", "NX212"),
        ("output y[i-1]", "NX222"),
        ("output y[4]", "NX225"),
        ("fn f(w) = w + y[i]\noutput g[i] = f(y[i])", "NX273"),
        ("output <x|pow(0.1 + G, 1/2)|x> + 1\noutput missing", "NX101"),
        ("def f(w[i]) { return w[i] + w[j] }\noutput g[i,j] = f(y[j])", "NX273"),
    ],
)
def test_refused(text: str, code: str) -> None:
    assert codes(text)[:1] == [code]


@pytest.mark.parametrize(
    ("text", "advised"),
    [
        ("ket |h> ~ N(0, 1)\nfor k in 1..3 { |h> = tanh(|h>) }\noutput <h|h>", "`|g>`"),
        ("ket |h> ~ N(0, 1)\nket |g> ~ N(0, 1)\n|h> = tanh(|g>)\n|y> = |h>\noutput <y|h>", "`|z>`"),
        ("scalar c = 2\nc = 3\noutput d = c", "`a`"),
    ],
)
def test_the_advised_name_is_not_one_of_the_program(text: str, advised: str) -> None:
    (first, *_) = tp_compiler.check(text)
    assert first.code == "NX116" and first.remedy is not None and advised in first.remedy


def test_an_index_missing_on_the_right_broadcasts() -> None:
    run = tp_compiler.simulate(HEAD + "output f[i,j] = y[i]", 4, seeds=1)
    np.testing.assert_array_equal(run["f"], np.repeat([[0.5], [-1], [2]], 3, axis=1))


def test_settings_change_axes_and_scalars() -> None:
    text = "axis k : 2\na = 1\nscalar b = 1\noutput f = sum[k](k) + 10 * a + 100 * b\n"
    program = tp_compiler.compile(text, {"k": 3, "a": 2, "b": 5})
    assert tp_compiler.simulate(program, 4, seeds=1)["f"] == 6 + 20 + 500
    assert codes("output c", {"nothing": 1}) == ["NX104"]


def test_outputs_are_named_by_their_text() -> None:
    program = tp_compiler.compile(HEAD + "output <x|  z>\noutput c\noutput K[i,j] = y[i] * y[j]\noutput K2 = K[1,2]")
    assert [o.name for o in program.outputs] == ["<x| z>", "c", "K", "K2"]


def test_correlated_kets_and_laws() -> None:
    text = """
    axis i, j : 2
    data S[i,j] = [[2, 1], [1, 1]]
    ket |g[i]> ~ N(0, S[i,j])
    ket |b> = 3
    matrix B ~ rademacher(2)
    matrix U ~ uniform(2)
    output K[i,j] = <g[i]|g[j]>
    output b = <b|b>
    output r = <B |b>|B |b>>
    output u = <U |b>|U |b>>
    """.replace("<B |b>|B |b>>", "<(B |b>)|(B |b>)>").replace("<U |b>|U |b>>", "<(U |b>)|(U |b>)>")
    run = tp_compiler.simulate(text, 512, seeds=8)
    np.testing.assert_allclose(run["K"], [[2, 1], [1, 1]], atol=0.3)
    assert run["b"] == 9
    assert abs(run["r"] - 18) < 2 and abs(run["u"] - 18) < 2


def test_drawn_data_are_numpys() -> None:
    run = tp_compiler.simulate("axis i : 4\ndata y[i] ~ N(1, 4) seed 7\noutput f[i] = y[i]", 4, seeds=1)
    np.testing.assert_allclose(run["f"], 1 + 2 * np.random.Generator(np.random.PCG64(7)).standard_normal(4))


def test_imports(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "lib.nexort").write_text('import "main.nexort"\nfn twice(w) = 2 * w\noutput not_reported = 1\n')
    (tmp_path / "main.nexort").write_text('import "lib.nexort"\nimport layers\noutput f = twice(21)\n')
    run = tp_compiler.simulate(tmp_path / "main.nexort", 4, seeds=1)
    assert list(run.outputs) == ["f"] and run["f"] == 42


@pytest.mark.parametrize("value", ["fast", [1, 2], None, float("nan"), float("inf")])
def test_settings_that_are_not_numbers(value: Any) -> None:
    found = tp_compiler.check("scalar a = 1\noutput a\n", {"a": value})
    assert [d.code for d in found] == ["NX104"] and "`a` was set to" in found[0].message


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("lrr", "did you mean `lr`?"),
        ("x", "give arrays with `--data x=FILE`"),
        ("open", "give arrays"),
        ("c", "change its value"),
        ("q", "declare it"),
        ("steps", "name the number of updates"),
    ],
)
def test_unknown_settings_say_what_to_do(name: str, remedy: str) -> None:
    text = "axis i : 2\ndata x[i] = [1, 2]\ndata open[i]\nscalar lr = 1\ndef c(z) {\n return z\n}\noutput lr * c(lr)\n"
    found = tp_compiler.check(text, {name: 1}, data={} if name == "open" else {"open": [1, 2]})
    assert next(d for d in found if d.code == "NX104").remedy.startswith(remedy)


def test_unknown_data_name_those_without_values() -> None:
    found = tp_compiler.check(
        "axis i\ndata xi[i]\ndata y[i]\noutput sum[i](y[i])\n", data={"xi": [1], "Y": [2], "q": [3]}
    )
    assert [(d.code, d.remedy) for d in found if d.code == "NX308"] == [
        ("NX308", "did you mean `y`?"),
        ("NX308", "its data are xi, y"),
    ]


def test_findings_print_as_the_command_shows_them() -> None:
    found = tp_compiler.check("output v")[0]
    assert str(found) == found.render() and "^" in str(found)


def test_the_number_of_updates_can_be_set_as_the_remedy_says() -> None:
    text = "ket |u> ~ N(0, 1)\n{}train steps = {} {{\n    minimize <u|u>\n    update |u> with SGD(lr = 0.1)\n}}\noutput f[step] = <u|u>\n"
    found = tp_compiler.check(text.format("", "10"), {"steps": 3})
    assert "`last = 10` and `train steps = last`, and set `last`" in found[0].remedy
    program = tp_compiler.compile(text.format("last = 10\n", "last"), {"last": 3})
    assert tp_compiler.simulate(program, 4, seeds=1)["f"].shape == (4,)
