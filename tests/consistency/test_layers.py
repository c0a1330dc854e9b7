"""Layers and losses of the library: limits against formulas, and against networks of finite width.

Their values and gradients at finite width are compared with PyTorch in tests/torch/layer_cases.py.
"""

from __future__ import annotations

import numpy as np
import pytest

import tp_compiler as tpc
from tests.consistency.recursions import relu_kernel

RNG = np.random.default_rng(3)
IMAGES = RNG.standard_normal((2, 6)).round(2)


def text_of(array: np.ndarray) -> str:
    return str(array.tolist())


def windows(k: np.ndarray, size: int, stride: int, padding: int, out: int) -> np.ndarray:
    """Σ_r K[i, stride o + r - padding; j, stride p + r - padding], 0 outside, with positions from 0."""
    big = np.pad(k, [(0, 0), (padding, size), (0, 0), (padding, size)])
    n, s = k.shape[0], stride * out
    return sum(big[:, r : s + r : stride, :, r : s + r : stride] for r in range(size)) * np.ones((n, out, n, out))


def test_a_convolutional_kernel() -> None:
    """Conv (3, padding 1), relu, conv (3, stride 2, padding 1), relu, average pooling (2): the NNGP recursion."""
    program = f"""
    import layers
    axis i, j : 2
    axis s : 6
    axis r : 3
    axis o : 3
    axis w : 2
    axis e, g : 2
    data im[i,s] = {text_of(IMAGES)}
    ket |u[r]> ~ N(0, 1)
    matrix W[r] ~ N(0, 2)
    |h[i,s]> = sum[r](unfold[s,s,r](im[i,s], padding = 1) * |u[r]>)
    |z[i,o]> = relu(conv1d[o,s,r](relu(|h[i,s]>), W[r], stride = 2, padding = 1))
    |p[i,e]> = avg_pool1d[e,o,w](|z[i,o]>)
    output K[i,e,j,g] = <p[i,e]|p[j,g]>
    """
    data = np.einsum("is,jt->isjt", IMAGES, IMAGES)
    first = relu_kernel(windows(data, 3, 1, 1, 6).reshape(12, 12)).reshape(2, 6, 2, 6)
    second = relu_kernel(2 * windows(first, 3, 2, 1, 3).reshape(6, 6)).reshape(2, 3, 2, 3)
    wanted = sum(second[:, a : a + 2, :, b : b + 2] for a in range(2) for b in range(2)) / 4
    np.testing.assert_allclose(tpc.limit(program)["K"], wanted, rtol=1e-10)


def test_a_planar_kernel() -> None:
    program = """
    import layers
    axis y, x : 3
    axis u, v : 2
    data im[y,x] = [[1, 2, 0], [-1, 0.5, 1], [2, 1, -2]]
    ket |w> ~ N(0, 1)
    matrix W[u,v] ~ N(0, 1)
    |h[y,x]> = im[y,x] * |w>
    |z[y,x]> = conv2d[y,x,y,x,u,v](|h[y,x]>, W[u,v], padding = 1)
    |m[u,v]> = max_pool2d[u,v,y,x,u,v](|h[y,x]>)
    output K[y,x] = <z[y,x]|z[y,x]>
    output M[u,v] = <m[u,v]|m[u,v]>
    """
    image = np.array([[1, 2, 0], [-1, 0.5, 1], [2, 1, -2]])
    squares = np.pad(image**2, 1)
    wanted = sum(squares[a : a + 3, b : b + 3] for a in range(2) for b in range(2))
    run = tpc.limit(program)
    np.testing.assert_allclose(run["K"], wanted, rtol=1e-10)
    # max over a window of a_k w is w max(a) for w > 0, and w min(a) below.
    views = [image[a : a + 2, b : b + 2] for a in range(2) for b in range(2)]
    pooled = np.reshape([(v.max() ** 2 + v.min() ** 2) / 2 for v in views], (2, 2))
    assert (abs(run["M"] - pooled) <= 5 * run.outputs["M"].stderr).all() and run.outputs["M"].stderr.max() < 0.01


SEQUENCES = """
import layers
axis i : 2
axis s : 3
axis h : 4
axis g, p : 2
axis d : 2
data tok[i,s,d] = [[[0.6, -0.2], [-0.4, 1.1], [0.8, 0.5]], [[-0.9, 0.7], [0.3, -0.8], [0.1, 0.4]]]
data group[h] = [1, 1, 2, 2]
ket |e[d]> ~ N(0, 1)
ket |z> ~ N(0, 1) frozen
ket |m[i,s]> ~ N(0, 1) frozen
matrix Q[g] ~ N(0, 1)
matrix V[g] ~ N(0, 1)
matrix O[h] ~ N(0, 1)
matrix R[p] ~ N(0, 1)
|x[i,s]> = rmsnorm(sum[d](tok[i,s,d] |e[d]>))
|k[i,s,g]> = Q[g] |x[i,s]>
|v[i,s,g]> = V[g] |x[i,s]>
|q[i,s,h]> = (1 + h / 10) * |k[i,s,group[h]]>
|a[i,s,h]> = attention[s,s](|q[i,s,h]>, |k[i,s,group[h]]>, |v[i,s,group[h]]>, causal = 1, scale = 2)
|y[i,s]> = layernorm(|x[i,s]> + sum[h](O[h] |a[i,s,h]>) / 2)
|r[i,s,p]> = R[p] |y[i,s]>
|b[i,s]> = rotary_attention[s,s,p](|r[i,s,p]>, |r[i,s,p]>, |y[i,s]>, frequencies(|z>, 100), causal = 1)
|n[i,s]> = batchnorm[i](|b[i,s]>)
|t[i,s]> = dropout(swiglu(|y[i,s]>, Q[1], V[1], O[1]), |m[i,s]>, 0.3)
output grouped[i,s] = <y[i,s]|x[i,s]>
output rotated[i,s] = <b[i,s]|b[i,s]>
output normed[s] = <n[1,s]|n[2,s]>
output dropped[i,s] = <t[i,s]|t[i,s]>
"""


def test_layers_at_finite_width() -> None:
    found = tpc.verify(SEQUENCES, widths=(64, 128), seeds=12, samples=1024)
    assert found.passed, found.checks


def test_positions_of_causal_attention() -> None:
    """A position that sees itself only returns its value; dropout without a mask ket of its own is a multiple."""
    program = """
    import layers
    axis s, t : 3
    ket |x[s]> ~ N(0, 1)
    ket |m> ~ N(0, 1) frozen
    |y[s]> = attention[s,s](|x[s]>, |x[s]>, |x[s]>, causal = 1)
    output first[t] = <y[1]|x[t]>
    output last[t] = <y[3]|x[t]>
    output kept = <dropout(|x[1]>, |m>, 0.3)|x[1]>
    output two = <dropout(|x[1]>, |m>, 0.3)|dropout(|x[1]>, |m>, 0.3)>
    """
    run = tpc.limit(program)
    np.testing.assert_allclose(run["first"], [1, 0, 0], atol=1e-12)
    weights = np.exp([0, 0, 1]) / (2 + np.e)  # <x_3|x_t> = delta
    np.testing.assert_allclose(run["last"], weights, rtol=1e-10)
    np.testing.assert_allclose([run["kept"], run["two"]], [1, 1 / 0.7], rtol=1e-8)


def test_losses() -> None:
    program = """
    axis i : 3
    axis k : 4
    data f[i,k] = [[0.2, -1, 3, 0.5], [1, 1, 1, 1], [-2, 0, 40, 1]]
    data c[i] = [3, 1, 4]
    data p[i,k] = [[0.1, 0.2, 0.3, 0.4], [1, 0, 0, 0], [0, 0, 0.5, 0.5]]
    data y[i] = [1, -1, 1]
    output classes[i] = cross_entropy[k](f[i,k], c[i])
    output one = cross_entropy[k](f[1,k], 2)
    output soft[i] = cross_entropy[k](f[i,k], p[i,k])
    output square = mse[i,k](f[i,k], p[i,k])
    output rows[i] = mse[k](f[i,k], y[i])
    output margin[i] = logistic(f[i,3], y[i])
    """
    f = np.array([[0.2, -1, 3, 0.5], [1, 1, 1, 1], [-2, 0, 40, 1]])
    p = np.array([[0.1, 0.2, 0.3, 0.4], [1, 0, 0, 0], [0, 0, 0.5, 0.5]])
    y, log = np.array([1, -1, 1]), f - np.log(np.exp(f).sum(1, keepdims=True))
    wanted = {
        "classes": -log[range(3), [2, 0, 3]], "one": -log[0, 1], "soft": -(p * log).sum(1),
        "square": ((f - p) ** 2).mean(), "rows": ((f - y[:, None]) ** 2).mean(1),
        "margin": np.log1p(np.exp(-y * f[:, 2])),
    }  # fmt: skip
    run = tpc.limit(program)
    for name, value in wanted.items():
        np.testing.assert_allclose(run[name], value, rtol=1e-12, atol=1e-15, err_msg=name)


@pytest.mark.parametrize("name", ["mse", "cross_entropy", "logistic", "unfold", "attention"])
def test_a_program_may_define_the_names_itself(name: str) -> None:
    run = tpc.limit(f"fn {name}(z) = 3 * z; output a = {name}(2)\noutput {name} = 5")
    assert (float(run["a"]), float(run[name])) == (6, 5)


def test_indices_in_brackets_of_a_def() -> None:
    """Brackets stand for the indices of the call; indices of the same name that an argument carries besides pass through."""
    program = """
    axis i, s, t : 3
    data x[s] = [1, 2, 4]
    data y[s,t] = [[1, 0, 2], [0, 3, 1], [1, 1, 1]]
    def later[s,t](a[s], b[t]) { return sum[t](a[s] * b[t] * step(t - s)) }
    output one[i] = later[i,i](x[i], x[i])
    output two[s,t] = later[s,s](x[s], y[s,t])
    output three[t] = later[t,s](x[t], x[s])
    """
    x, y = np.array([1, 2, 4]), np.array([[1, 0, 2], [0, 3, 1], [1, 1, 1]])
    later = np.array([[0, 1, 1], [0, 0, 1], [0, 0, 0]])
    run = tpc.limit(program)
    np.testing.assert_allclose(run["one"], x * (later @ x))
    np.testing.assert_allclose(run["three"], x * (later @ x))
    np.testing.assert_allclose(run["two"], x[:, None] * (later @ y))


def test_positions_computed_from_indices() -> None:
    program = """
    axis s : 6
    axis t : 3
    axis r : 2
    data x[s] = [1, 2, 4, 8, 16, 32]
    data start[t] = [4, 1, 5]
    output strided[t,r] = x[2 * t + r - 2]
    output read[t,r] = x[start[t] + r - 1]
    output moved[s,r] = shift[s](x[s], 2 * r - 3)
    output seen[t,r] = unfold[t,s,r](x[s], stride = 3, padding = 2)
    """
    x = 2 ** np.arange(6)
    run = tpc.limit(program)
    np.testing.assert_allclose(run["strided"], x.reshape(3, 2))
    np.testing.assert_allclose(run["read"], [[8, 16], [1, 2], [16, 32]])
    np.testing.assert_allclose(run["moved"], np.stack([[2, 4, 8, 16, 32, 0], [0, 1, 2, 4, 8, 16]], 1))
    np.testing.assert_allclose(run["seen"], [[0, 0], [2, 4], [16, 32]])
