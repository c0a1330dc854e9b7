"""A family that is constant over an index it was declared over is read like any other: as data of the same numbers would be."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import tp_compiler as tpc

HEAD = """
axis i, j, k : 3
axis t, s : 2
ket |u> ~ N(0, 1)
ket |w> ~ N(0.5, 2)
data at[i] = [2, 3, 1]
"""
#: A number of each kind, and the data that it stands for.
NUMBERS = "S[i,j] = 2\nc[i] = 0.5\ndef get() { return S[i,j] }\n"
DATA = "data S[i,j] = [[2, 2, 2], [2, 2, 2], [2, 2, 2]]\ndata c[i] = [0.5, 0.5, 0.5]\ndef get() { return S[i,j] }\n"
READ = [
    "output q = logdet[i,j](S[i,j] + delta[i,j])",
    "output q = logdet[i,j](get() + delta[i,j])",
    "output q[i,j] = inv[i,j](delta[i,j] + c[i] * S[j,i])",
    "def both(x[i,j]) { return logdet[i,j](x[i,j] + delta[i,j]) }\noutput q = both(S[i,j] * sum[k](c[k]))",
    "output q[j] = solve[j,k](delta[j,k] + S[k,j], c[k])",
    "output q = sum[i](solve[i,j](delta[i,j] + S[i,j], S[1,j]))",
    "ket |g[i]> ~ N(0, S[i,j])\noutput q[i,k] = <g[i]|g[k]>",
    "ket |g[i]> ~ N(0, 1 + get())\noutput q[i,k] = <g[i]|g[k]>",
    "ket |g[i]> ~ N(0, S[i,i])\noutput q[i,k] = <g[i]|g[k]>",
    "ket |g[i]> ~ N(0, S[i,1] * c[i])\noutput q[i,k] = <g[i]|g[k]>",
    "ket |g[i]> ~ N(c[i], max[j](S[i,j]))\noutput q[i,k] = <g[i]|g[k]>",
    "ket |g[i]> ~ N(0, logdet[i,j](S[i,j] + delta[i,j]))\noutput q[i,k] = <g[i]|g[k]>",
    "ket |g[i]> ~ N(0, logdet[j,k](S[j,k] + delta[j,k]))\noutput q[i,k] = <g[i]|g[k]>",
    "ket |g[i]> ~ N(0, solve[i,j](S[i,j] + delta[i,j], c[j]))\noutput q[i,k] = <g[i]|g[k]>",
    "ket |g[i]> ~ N(0, S[at[i],i])\noutput q[i,k] = <g[i]|g[k]>",
    "output q[i,j] = shift[j](S[i,j], 1)",
    "output q[k] = shift[k](c[k] * S[k,1], -1)",
    "output q[k] = shift[k](c[at[k]], 1)",
    "def total(x[k]) { return sum[k](k * x[k]) }\noutput q[i] = total(S[i,k])",
    "def total(x[k]) { return sum[k](k * x[k]) }\noutput q = total(c[i])",
    "def both(x[i,j]) { return logdet[i,j](x[i,j] + delta[i,j]) }\noutput q = both(S[i,j])",
    "def both(x[i,j]) { return logdet[i,j](x[i,j] + delta[i,j]) }\noutput q = both(get())",
    "def twice(x[i]) { return 2 * x[i] }\ndef over(x[j]) { return sum[j](j * shift[j](twice(x[j]), 1)) }\noutput q = over(c[i])",
    "fn f(x) = x * x\noutput q[i,j] = shift[i](f(S[i,j]), 1)",
]  # fmt: skip
KETS = "|x[t]> = |u>\ndef same() { return |x[t]> }\n"
PRODUCTS = "data o[t] = [1, 1]\n|x[t]> = o[t] * |u>\ndef same() { return |x[t]> }\n"
OF_KETS = [
    "output q[t,s] = <x[t]|x[s]>",
    "|y[t]> = shift[t](|x[t]>, 1)\noutput q[t,s] = <y[t]|x[s]>",
    "|y[t]> = shift[t](same(), 1)\noutput q[t,s] = <y[t]|x[s]>",
    "|d[t]> = grad(<x[1]|tanh(w)> + sum[s](s * <x[s]|x[s]>), |x[t]>)\noutput q[t] = <d[t]|u> + <d[t]|w>",
    "|d[s]> = grad(<x[1]|tanh(w)> + sum[s](s * <x[s]|x[s]>) + <u|u>, |x[s]>)\noutput q[s] = <d[s]|u> + <d[s]|w>",
    "output q = <grad(sum[s](s * <x[s]|x[s]>), |x[2]>)|u>",
    "output q = <grad(sum[s](s * <x[s]|x[s]>), |u>)|u>",
    "output q = <grad(sum[t](<same()|same()>), |x[2]>)|u>",
    "f = <x[1]|x[1]> + <x[2]|tanh(x[2])>\noutput q = ntk(f, f; |x>)\noutput r = ntk(f, f; |u>)",
    "def f(|p[t]>) { return <grad(sum[t](t * <p[t]|p[t]>), |p[2]>)|u> }\noutput q = f(|x[t]>)\noutput r = f(|x[s]>)",
    "|h[t,1]> = |x[t]>\n|h[t,2]> = tanh(|h[t,1]>)\noutput q[t] = <grad(sum[t](t * <h[t,2]|w>), |h[t,1]>)|w>",
    "output q = jvp(<x[1]|x[1]>, |x[1]>, |u>)\noutput r = <vjp(2 * |x[1]>, |x[1]>, |w>)|u>",
]  # fmt: skip


@pytest.mark.parametrize("read", READ)
def test_a_number_over_indices_is_a_family(read: str) -> None:
    agree(HEAD + NUMBERS + read, HEAD + DATA + read)


@pytest.mark.parametrize("read", OF_KETS)
def test_one_ket_over_an_index_is_a_family_of_its_own(read: str) -> None:
    agree(HEAD + KETS + read, HEAD + PRODUCTS + read)


def agree(one: str, other: str) -> None:
    a, b = tpc.limit(one, method="quadrature"), tpc.limit(other, method="quadrature")
    for name in a.outputs:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-9, atol=1e-12, err_msg=one)


def test_values_by_hand() -> None:
    run = tpc.limit(
        HEAD
        + NUMBERS
        + KETS
        + """
        ket |g[i]> ~ N(0, logdet[i,j](S[i,j] + delta[i,j]))
        output apart[i,k] = <g[i]|g[k]>
        |d[t]> = grad(sum[s](s * <x[s]|x[s]>) + <u|u>, |x[t]>)
        output members[t] = <d[t]|u>
        output member = <grad(sum[s](s * <x[s]|x[s]>), |x[2]>)|u>
        output whole = <grad(sum[s](s * <x[s]|x[s]>) + <u|u>, |u>)|u>
        """
    )
    np.testing.assert_allclose(run["apart"], math.log(7) * np.eye(3), rtol=1e-12)
    np.testing.assert_allclose(run["members"], [2, 4], rtol=1e-12)
    assert (run["member"], run["whole"]) == pytest.approx((4, 8))


def test_a_file_may_take_gradients_by_what_stood_before_it(tmp_path: Path) -> None:
    (tmp_path / "slope.nexort").write_text("def slope(f) { return grad(f, |x[2]>) }\n", encoding="utf-8")
    path = tmp_path / "program.nexort"
    text = 'import "slope.nexort"\noutput q = <slope(sum[s](s * <x[s]|x[s]>))|u>\n'
    path.write_text(HEAD + KETS + text, encoding="utf-8")
    assert tpc.limit(str(path))["q"] == pytest.approx(4)


def test_what_is_written_and_not_carried_stays_out_of_a_def() -> None:
    text = (
        HEAD
        + NUMBERS
        + "def both(x[i,j]) { return logdet[i,j](x[i,j] + delta[i,j]) }\noutput q = both(S[i,j] * c[k])\n"
    )
    assert tpc.limit(text)["q"] == pytest.approx(math.log(1 + 3))
