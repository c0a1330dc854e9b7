"""Sums read at places named like their own index: the values follow from linear algebra, whatever the names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

import tp_compiler as tpc
from tests.consistency.kernel_formulas import ACTIVATIONS

A = np.array([[0.0, 1.0], [0.0, 0.0]])
X = np.array([[1.0, 2.0], [3.0, 5.0], [-1.0, 4.0]])
C = np.array([[1.0, 2.0, 3.0], [0.5, 1.0, -1.0], [2.0, 0.0, 1.0]])


def exact(text: str) -> Mapping[str, np.ndarray]:
    """The outputs of a program, none of them sampled."""
    run = tpc.limit(text)
    assert not run.failed
    assert {o.method for o in run.outputs.values()} <= {"exact", "closed-form", "quadrature"}
    return {name: np.asarray(o.value) for name, o in run.outputs.items()}


def agrees(found: Mapping[str, np.ndarray], **wanted: np.ndarray) -> None:
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-9, err_msg=name)


def kernel(name: str, covariance: np.ndarray) -> np.ndarray:
    """E f(u_i) f(u_j) by its textbook formula."""
    of, places = ACTIVATIONS[name].kernel, range(len(covariance))
    return np.array([[float(of(*(covariance[p] for p in ((i, i), (j, j), (i, j))))) for j in places] for i in places])


def softmax(x: np.ndarray) -> np.ndarray:
    weights = np.exp(x - x.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def test_a_sum_over_i_read_at_i() -> None:
    found = exact("""
axis i, j : 2
data A[i,j] = [[0, 1], [0, 0]]
ket |z[i]> ~ N(0, 1)
|y[j]> = sum[i](A[i,j] |z[i]>)
output k[i,j] = <y[i]|y[j]>
output m[i,j] = <tanh'(0 * y[i])|y[j]> + <z[i]|y[j]> + 10 * <y[i]|z[j]>
output e[i,j] = <erf(y[i] + z[i])|erf(y[j] + z[j])>
output d[i,j] = <relu(y[i] + z[i])|relu(y[j] + z[j])>
""")
    gram = (A.T + np.eye(2)) @ (A + np.eye(2))
    agrees(found, k=A.T @ A, m=A + 10 * A.T, e=kernel("erf", gram), d=kernel("relu", gram))


def test_a_layer_read_beside_its_weights() -> None:
    found = exact("""
axis i : 3
axis d, e : 2
data x[i,d] = [[1, 2], [3, 5], [-1, 4]]
ket |u[d]> ~ N(0, 1)
|h[i]> = sum[d](x[i,d] |u[d]>)
output r[i,d] = <h[i]|u[d]>
output l[i,d] = <u[d]|h[i]>
output s[i,d] = <sin(h[i])|sin(u[d])>
output q[i,d] = <h[i]|u[d]> * <u[d]|h[i]> + sum[e](<h[i]|u[e]> * <u[e]|u[d]>)
""")
    variance = np.sum(X * X, axis=1, keepdims=True)
    sines = np.exp(-(variance + 1) / 2) * np.sinh(X)
    agrees(found, r=X, l=X, s=sines, q=X * X + X)


def test_attention_is_symmetric() -> None:
    found = exact("""
axis s, t : 3
data c[s,t] = [[1, 2, 3], [0.5, 1, -1], [2, 0, 1]]
ket |u[s]> ~ N(0, 1)
matrix V ~ N(0, 2)
|v[s]> = V |u[s]>
a[s,t] = softmax[t](c[s,t] * (1 + <u[s]|u[t]>))
|o[s]> = sum[t](a[s,t] |v[t]>)
|w[t]> = sum[s](a[t,s] (V |o[s]>))
output k[s,t] = <o[s]|o[t]>
output n[s,t] = <erf(o[s])|erf(o[t])>
output w[s,t] = <w[t]|w[s]>
output b[t,s] = <o[t]|v[s]>
""")
    a = softmax(C * (1 + np.eye(3)))
    gram = 2 * a @ a.T
    agrees(found, k=gram, n=kernel("erf", gram), w=2 * a @ gram @ a.T, b=2 * a)


def test_gradients_bring_clashes_of_their_own() -> None:
    found = exact("""
axis i, j : 2
data A[i,j] = [[0, 1], [0, 0]]
data D[i] = [1, 2]
ket |w> ~ N(0, 1)
ket |z[i]> ~ N(0, 1)
|x[i]> = D[i] |w> + |z[i]>
t = sum[i,j](A[i,j] * <x[i]|x[j]>)
output w = <grad(t, |w>)|w>
output z[i] = <grad(t, |z[i]>)|w>
output g[i,j] = <grad(t, |z[i]>)|z[j]>
output k = ntk(t, t)
output h = <grad(<grad(t, |w>)|w>, |w>)|w>
""")
    both, d = A + A.T, np.array([1.0, 2.0])
    pairs = both @ (np.outer(d, d) + np.eye(2)) @ both  # <∂t/∂z_i|∂t/∂z_j>
    agrees(
        found,
        w=d @ both @ d,
        z=both @ d,
        g=both,
        k=np.trace(pairs) + d @ pairs @ d,
        h=2 * d @ both @ d,
    )


def test_hats_and_dots_of_families() -> None:
    """W and its transpose, over sums whose bound index is the name at which they are read."""
    found = exact("""
axis i, j : 2
data A[i,j] = [[0, 1], [0, 0]]
ket |z[i]> ~ N(0, 1)
matrix W ~ N(0, 3)
|y[j]> = sum[i](A[i,j] |z[i]>) + |z[j]>
|h[i]> = W |y[i]>
|b[j]> = W^T sum[i](A[j,i] |h[i]>)
output k[i,j] = <h[j]|h[i]>
output b[i,j] = <b[i]|y[j]>
output c[j,i] = <z[i]|b[j]>
""")
    full = A.T + np.eye(2)
    gram = full @ full.T
    agrees(found, k=3 * gram, b=3 * A @ gram, c=3 * A @ full)


@pytest.mark.parametrize("bound", ["i", "j", "p"])
@pytest.mark.parametrize(("row", "column"), [("i", "j"), ("j", "i"), ("p", "i"), ("j", "p")])
def test_any_names_give_the_same_kernel(bound: str, row: str, column: str) -> None:
    free = next(n for n in ("i", "j", "p") if n != bound)
    found = exact(f"""
axis i, j, p : 3
data c[i,j] = [[1, 2, 3], [0.5, 1, -1], [2, 0, 1]]
ket |u[i]> ~ N(0, 1)
|o[{free}]> = mean[{bound}](c[{free},{bound}] |u[{bound}]>) + sum[{bound}](c[{bound},{free}] |u[{bound}]>)
output k[{row},{column}] = <relu(o[{row}])|relu(o[{column}])>
output g[{row},{column}] = <o[{row}]|u[{column}]>
""")
    mixed = C / 3 + C.T
    agrees(found, k=kernel("relu", mixed @ mixed.T), g=mixed)


def test_diagonals_of_a_family_of_matrices() -> None:
    """W[k,k] is one member for each k: its gradient is zero off the diagonal."""
    text = """
axis i, j, k : 2
data c[k] = [1, 2]
matrix W[i,j] ~ N(0, 1)
ket |v> ~ N(0, 1)
ket |x> ~ N(0, 1)
|h[k]> = W[k,k] |x>
|b[k]> = W[k,k]^T |h[k]>
f = sum[k](c[k] * <v|h[k]>)
output a[i,j] = <v|grad(f, W[i,j])|x>
output b[k] = <b[k]|x>
output n = ntk(f, f)
"""
    wanted = {"a": np.diag([1.0, 2.0]), "b": np.ones(2), "n": np.array(15.0)}
    agrees(exact(text), **wanted)
    sampled = tpc.limit(text, method="qmc", samples=1024)
    assert set(sampled.outputs) == set(wanted)
    for name, output in sampled.outputs.items():
        assert np.all(np.abs(output.value - wanted[name]) <= 6 * np.asarray(output.stderr) + 1e-9)


def test_a_sum_of_functions_beside_itself() -> None:
    """Both factors of <y|y> run over an index of their own."""
    found = exact("""
axis i, j : 3
data c[i,j] = [[1, 2, 3], [0.5, 1, -1], [2, 0, 1]]
ket |z[i]> ~ N(0, 1)
ket |b> ~ N(0, 1)
|y[j]> = sum[i](c[j,i] * erf(|z[i]> + |b>))
output k[i,j] = <y[i]|y[j]>
output s = <sum[i](erf(z[i] + b))|sum[j](erf(z[j] + b))>
output n[i] = <y[i]|y[i]>
""")
    gram = kernel("erf", np.eye(3) + 1)
    agrees(found, k=C @ gram @ C.T, s=gram.sum(), n=np.diag(C @ gram @ C.T))


def test_gathers_beside_names() -> None:
    """What data point at, and indices of the same axis under any name."""
    found = exact("""
axis i, j, k : 3
data c[i,j] = [[1, 2, 3], [0.5, 1, -1], [2, 0, 1]]
data g[i] = [2, 3, 3]
ket |z[i,j]> ~ N(0, 1)
|y[j,k]> = sum[i](c[i,j] |z[i,k]>)
output a[i,j] = <y[g[i],i]|z[j,i]>
output b[i,j] = <y[i,g[i]]|y[j,g[i]]>
output d[j,i] = <sin(y[g[i],j])|z[i,j]>
output e[k] = <y[k,k]|y[g[k],k]>
""")
    there = [1, 2, 2]
    gram = C.T @ C
    damped = np.exp(-np.diag(gram) / 2)[there]
    agrees(found, a=C[:, there].T, b=gram, d=np.tile(damped * C[range(3), there], (3, 1)), e=gram[range(3), there])
