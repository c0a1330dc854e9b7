"""Programs written out: every construct of the language comes back, and means the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tp_compiler as tpc
from tests.unit.expand.roundtrip import expanded, holds
from tp_compiler.diagnostics import ProgramError, Source, Span
from tp_compiler.expand.unit import unwritten
from tp_compiler.ir.build import Builder

TRAIN = """
train steps = 3 {{
    f = <v|tanh(W |u>)>
    loss = (f - {target})^2 / 2
    minimize loss
    update |u>, W, |v> with {optimizer}
}}
output loss[step]
"""
NET = "ket |u> ~ N(0, 1)\nket |v> ~ N(0, 1)\nmatrix W ~ N(0, 1)\n"


def test_a_forward_program_stays_what_it_is() -> None:
    text = "ket |x> ~ N(0, 1)\nmatrix W ~ N(0, 1)\n\n|h> = W tanh(|x>)\n\noutput k = <h|h>\n"
    assert holds(text) == text


def test_backpropagation_has_the_names_of_the_paper() -> None:
    """|dh> for the gradient at |h>, Wᵀ|dh> below a matrix, tanh' for the slope (TP IVb, 2.2)."""
    text = NET + "|h> = W |u>\n|x> = tanh(|h>)\n|g> = grad(<v|x>^2, |u>)\noutput a = <g|g>\n"
    written = holds(text)
    assert "|dh> = |dx> * tanh'(|h>)\n" in written
    assert "|g> = W^T |dh>\n" in written


def test_definitions_and_layers_are_inlined() -> None:
    text = (
        "import layers\nket |x> ~ N(0, 1)\ndef twice(|a>) { return |a> + |a> }\noutput k = <layernorm(twice(|x>))|x>\n"
    )
    written = holds(text)
    assert "def" not in written and "import" not in written and "sqrt(" in written


def test_settings_become_part_of_the_text() -> None:
    text = "axis i : 2\nscale = 1\nket |x[i]> ~ N(0, 1)\noutput k = sum[i](scale * <x[i]|x[i]>)\n"
    assert "3 * <x[i]|x[i]>" in tpc.expand(text, settings={"i": 5, "scale": 3})
    assert "axis i : 5" in tpc.expand(text, settings={"i": 5, "scale": 3})


@pytest.mark.parametrize(
    "text",
    [
        # finite matrices, and gradients of their functions
        """axis i, j : 3
        data xi[i] = [0.5, -0.3, 0.2]
        data y[i] = [1, -1, 0.5]
        ket |u> ~ N(0, 1)
        scalar c = 0.3
        |x[i]> = tanh(xi[i] |u> + c)
        K[i,j] = <x[i]|x[j]> + 0.5 * delta[i,j]
        output a = grad(sum[i](solve[i,j](K[i,j], y[j]) * y[i]), c)
        output b = grad(logdet[i,j](K[i,j]), c)
        output d = grad(sum[i,j](cholesky[i,j](K[i,j]) * (i + j)), c)
        output e = grad(sum[i,j](pow[i,j](K[i,j], 1/2) * i * j), c)
        output f = grad(sum[i,j](matfun[i,j](exp, K[i,j]) * i * j), c)""",
        # integer data, families of matrices, products and maxima over axes
        """axis i, j : 2
        axis s : 3
        axis w : 4
        data tok[i,s] = [[1, 2, 4], [3, 3, 1]]
        ket |e[w]> ~ N(0, 1)
        matrix A[w] ~ N(0, 1)
        ket |v> ~ N(0, 1)
        f[i] = <v|mean[s](tanh(A[tok[i,s]] |e[tok[i,s]]>))>
        output k[i,j] = ntk(f[i], f[j])
        output p[i] = prod[s](<e[tok[i,s]]|e[1]> + 2) + max[s](<e[tok[i,s]]|v>)
        output d[i] = f[i] - sum[i](f[i]) + delta[i,2]""",
        # copies, nested and of several orders; entrywise functions of operators
        """ket |x> ~ N(0, 1)
        ket |z> ~ N(0, 1)
        matrix W ~ N(0, 1)
        |n> = E[1](abs(|x>@1) * E[2](tanh(|x> + |x>@1 + (W |z>)@2)))
        G = tanh(|x><z| + 0.5 |n><x|)
        output a = <z|G^T G|x>
        output b = <grad(<n|G|z>, |z>)|x>
        output c = <E[1,2](abs(|x>@1 - |z>@2))>""",
        # widths
        """width m = 1/4
        ket |x> ~ N(0, 1)
        ket |q> : m ~ N(0, 1)
        matrix D : m x n ~ N(0, 2)
        |h> = relu(D |x>)
        output a = <q|D|x> + <x|D^T|h>
        output b = <grad(<q|h>, |x>)|x> + <q|grad(<q|h>, D)|x>""",
        # functions of operators
        """axis k : 3
        data a[k] = [1, 2, 0.5]
        ket |y[k]> ~ N(0, 1)
        ket |z> ~ N(0, 1)
        S = sum[k](a[k] |y[k]><y[k]|)
        output p = <z|pow(0.3 + S, -1/4) inv(0.5 I + |z><z|)|z>
        output q = trace(S S) + norm(S)
        output r = <z|msign(|y[1]><z| + 0.5 |y[2]><y[1]|) matfun(exp, S)|z>""",
        # random scalars
        """axis i, j : 2
        data xi[i] = [1, -0.5]
        ket |u> ~ N(0, 1)
        ket |v> ~ N(0, 1)
        f[i] = clt <v|tanh(xi[i] |u>)>
        output f[i]
        output k[i,j] = ntk(f[i], f[j])
        output g[i] = sigmoid(f[i])""",
        # families with a covariance, constants, directional derivatives
        """axis s, t : 3
        ket |g[s]> ~ N(0.1 * s, exp(-abs(s - t)))
        ket |b> = 0.5
        matrix W ~ rademacher(1)
        scalar c[s] = s / 2
        |h[s]> = W tanh(c[s] |g[s]>) + |b> - 2 |1>
        output j[s] = <jvp(|h[s]>, |b>, |g[1]>)|b>
        output v[s] = <vjp(|h[s]>, |b>, |g[2]>)|b> + grad(<h[1]|h[2]>, c[s])
        |m[s]> = shift[s](|h[s]>, 1)
        output w = <1|W|m[2]>""",
    ],
    ids=["matrices", "data", "copies", "widths", "functions of operators", "clt", "families"],
)  # fmt: skip
def test_constructs_come_back(text: str) -> None:
    holds(text)


def test_names_that_mean_something_else_give_way() -> None:
    """Data called like a ket or a function, kets called like functions and matrices, outputs called like functions."""
    holds(
        """axis i : 2
        data x[i] = [0.5, 2]
        data mean[i] = [1, 2]
        ket |x> ~ N(0, 1)
        ket |W> ~ N(0, 1)
        ket |exp> ~ N(0, 1)
        matrix W ~ N(0, 1)
        |h[i]> = tanh(x[i] |x> + mean[i] |exp>)
        |k> = exp(tanh(|exp>))
        output a[i] = <tanh(h[i] + k)|W|h[i]>
        output b = <k|W|h[1]> + <W|k>
        output max[i] = max(a[i], 0)
        output c = <k|x>"""
    )


def test_an_unnamed_output_is_called_by_its_new_text() -> None:
    written = holds("ket |x> ~ N(0, 1)\n|y> = tanh(|x>)\noutput <y|y>\n")
    assert written.endswith("output <y|y>\n")


# ------------------------------------------------------------------------------------------------------- training
@pytest.mark.parametrize("optimizer", ["SGD(lr = 0.1)", "Adam(0.1, eps = 0.1)", "Muon(lr = 0.1)"])
def test_a_loop_shows_its_gradients(optimizer: str) -> None:
    written = holds(NET + TRAIN.format(target=1, optimizer=optimizer))
    assert f"    minimize loss\n    update |u>, W, |v> with {optimizer}\n}}" in written
    assert "dW = |dz1><u|\n" in written and "|du> = W^T |dz1>\n" in written


def test_what_is_read_at_other_steps() -> None:
    text = """axis b : 2
    data x[step,b] = [[1, 2], [0.5, -1], [0.3, 0.7], [1, 1]]
    ket |u> ~ N(0, 1)
    ket |v> ~ N(0, 1)
    matrix W ~ N(0, 1)
    scalar c = 0.1
    |start> = |u>
    W0 = W
    first = <v|tanh(u)>
    def net(z) { return <v|tanh(W |u> * z + c)> }
    train steps = 3 {
        f[b] = net(x[step,b])
        rate = 0.1 * cos(step / 10)
        loss = mean[b]((f[b] - 0.1 * x[step-1,1])^2)
        minimize loss clip 0.5
        update |u>, |v> with Adam(lr = rate, eps = 0.1)
        update W with SGD(0.1, momentum = 0.9)
        update all with SGD(lr = 0.05 / (step + 1))
    }
    total = sum[step](loss[step])
    |d[step]> = |u> - |start>
    output loss[step]
    output fall[step] = loss[step] - loss[0]
    output change[step] = loss[step] - loss[step-1]
    output share[step] = loss[step] / total
    output rate[step]
    output far[step] = <d[step]|d[step]>
    output g[step,b] = net(b)
    output last[b] = net(b) + f[b]
    output before = first + <start|W0|u>
    output constant[step] = c"""
    written = holds(text)
    assert "clip 0.5" in written and "SGD(0.1, momentum = 0.9)" in written


def test_own_optimizers_come_with_what_they_need() -> None:
    own = """gain = 1.5
fn soft(z) = z / (1 + gain * abs(z))
optimizer Own(lr, beta = 0.5 * gain) {
    state m = 0
    m := beta * m + soft(g)
    return -lr * m
}
"""
    written = holds(NET + own + TRAIN.format(target=2, optimizer="Own(lr = 0.1 / gain)"))
    assert own in written and "Own(lr = 1/15)" in written


def test_own_optimizers_come_with_those_that_they_call() -> None:
    inner = "optimizer Inner(lr, scale = original) on operators { return -lr * aspect(g; scale) * msign(g) }\n"
    outer = "optimizer Outer(lr, how = spectral) on layers { return -lr * tanh(Inner(-1, how)) }\n"
    written = holds(NET + inner + outer + TRAIN.format(target=2, optimizer="Outer(lr = 0.1)"))
    assert written.index(inner.strip()) < written.index(outer.strip())


def test_members_are_updated_and_shown_one_by_one() -> None:
    text = """axis l : 3
    ket |u> ~ N(0, 1)
    ket |b[l]> ~ N(0, 0.1)
    matrix A[l] ~ N(0, 1)
    train steps = 2 {
        |h> = |u>
        for l in 1..3 { |h> = |h> + A[l] tanh(|h>) + |b[l]> }
        loss = <h|h>
        minimize loss
        update |b>, A[1] with SGD(lr = 0.1)
    }
    output loss[step]"""
    written = holds(text)
    assert "dA[1] = " in written and "|db[2]> = " in written


def test_a_parametrization_stays() -> None:
    text = "parametrization ntk\n" + NET + TRAIN.format(target=1, optimizer="SGD(lr = 0.1)")
    written = holds(text.replace("f = <v|", "f = clt <v|"))
    assert "parametrization ntk\n" in written and "f = clt <v|" in written


# ----------------------------------------------------------------------------------------------------------- data
def test_data_are_read_and_drawn_again(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    np.save(tmp_path / "sub" / "big.npy", np.random.default_rng(0).normal(size=(40, 3)))
    (tmp_path / "sub" / "lib.nexort").write_text('axis p : 40\naxis d : 3\ndata big[p,d] from "big.npy"\n')
    text = """import "sub/lib.nexort"
    axis q : 70
    data noise[q] ~ N(0, 1) seed 3
    data small[d] ~ uniform(2)
    ket |e[d]> ~ N(0, 1)
    |x[p]> = sum[d](big[p,d] * small[d] |e[d]>)
    output k = <x[1]|x[2]> + sum[q](noise[q])"""
    written = holds(text, str(tmp_path / "main.nexort"))
    assert 'data big[p,d] from "sub/big.npy"' in written and "data noise[q] ~ N(0, 1) seed 3" in written
    assert "data small[d] = [" in written


# --------------------------------------------------------------------------------------------------------- limits
def test_limits_are_the_same_to_the_last_digits() -> None:
    text = (Path(__file__).parents[2] / "golden" / "expand" / "mlp_ntk.in.nexort").read_text(encoding="utf-8")
    text = text.replace("tanh", "erf")
    first, second = (tpc.limit(t) for t in (text, expanded(text)))
    assert first.outputs["ntk"].method == second.outputs["ntk"].method
    np.testing.assert_allclose(second["ntk"], first["ntk"], rtol=1e-12)


# --------------------------------------------------------------------------------------------------------- errors
def test_errors_of_the_program_are_its_own() -> None:
    with pytest.raises(ProgramError, match="NX102"):
        expanded("output a = <x|x>\n")


def test_what_the_language_has_no_words_for_is_refused_by_name() -> None:
    span = Span(Source("p.nexort", "spectrum"), 0, 8)
    node = Builder().unavailable("a spectrum", (), (), None, span)
    (diagnostic,) = unwritten(node).diagnostics
    assert diagnostic.code == "NX502" and "a spectrum cannot be written out" in diagnostic.message


def test_functions_of_a_matrix_are_differentiated_once() -> None:
    text = """axis i, j : 2
    ket |x[i]> ~ N(0, 1)
    scalar c = 1
    K[i,j] = c * <x[i]|x[j]>
    g = grad(sum[i,j](pow[i,j](K[i,j], 1/2)), c)
    output a = grad(g, c)"""
    with pytest.raises(ProgramError, match="NX280"):
        expanded(text)


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from tp_compiler import cli

    path = tmp_path / "p.nexort"
    path.write_text(NET + "output g = <grad(<v|W|u>, |u>)|v>\n", encoding="utf-8")
    assert cli.main(["expand", str(path)]) == 0
    written = capsys.readouterr().out
    assert "grad" not in written and "W^T" in written
    assert cli.main(["show", str(path), "--stage", "grad"]) == 0
    assert capsys.readouterr().out == written
