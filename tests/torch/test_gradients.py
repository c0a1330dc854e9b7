"""`grad` at finite width against torch.autograd and against finite differences, construct by construct."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch.harness import Parameters, bracket, mean, simulated  # noqa: E402

pytestmark = pytest.mark.torch

N = 10
X = np.array([[0.9, -0.4], [-0.7, 1.1], [0.5, 0.8]])
K = np.array([[2.0, 0.3, -0.2], [0.3, 1.5, 0.4], [-0.2, 0.4, 1.8]])

DECLARATIONS = """
axis i, j : 3
axis d : 2
axis l : 2
data x[i,d] = [[0.9, -0.4], [-0.7, 1.1], [0.5, 0.8]]
data k0[i,j] = [[2.0, 0.3, -0.2], [0.3, 1.5, 0.4], [-0.2, 0.4, 1.8]]
data tok[i] = [2, 1, 2]
ket |u[d]> ~ N(0, 1)
ket |v> ~ N(0, 1)
matrix W ~ N(0, 2)
matrix A[l] ~ N(0, 1)
scalar c = 0.7
ket |q> ~ N(0, 1) frozen
ket |r> ~ N(0, 1) frozen
def features(|u[d]>) { return sum[d](x[i,d] |u[d]>) }
"""

#: What is read off the gradients of a scalar f: lengths, and brackets with fixed kets.
READINGS = """
|du[d]> = grad(f, |u[d]>)
|dv> = grad(f, |v>)
|g> = grad(f, W) |r>
|a[l]> = grad(f, A[l]) |r>
|b> = grad(f, A[2])^T |q>
output f
output u[d] = <q|du[d]>
output uu[d] = <du[d]|du[d]>
output v = <q|dv>
output vv = <dv|dv>
output w = <q|g>
output ww = <g|g>
output a[l] = <q|a[l]>
output b = <b|b>
output dc = grad(f, c)
"""


def parameters() -> Parameters:
    p = Parameters()
    p.ket("u", N, 2)
    p.ket("v", N)
    p.matrix("W", N, N, variance=2)
    p.matrix("A", N, N, 2)
    p.scalar("c", 0.7)
    p.ket("q", N)
    p.ket("r", N)
    return p


def readings(p: Parameters, f: Any) -> dict[str, Any]:
    du, dv, dw, da, dc = p.gradients(f, ["u", "v", "W", "A", "c"])
    q, r = p["q"], p["r"]
    g = dw @ r / N
    a = torch.stack([da[k] @ r / N for k in range(2)])
    b = da[1].T @ q / N
    return {
        "f": f, "u": bracket(q, du), "uu": bracket(du, du), "v": bracket(q, dv), "vv": bracket(dv, dv),
        "w": bracket(q, g), "ww": bracket(g, g), "a": bracket(q, a), "b": bracket(b, b), "dc": dc,
    }  # fmt: skip


def h(p: Parameters) -> Any:
    return torch.tensor(X) @ p["u"]


def gram(p: Parameters) -> Any:
    """A positive definite matrix made of kets."""
    z = torch.tanh(h(p) @ p["W"].T)
    return torch.tensor(K) + z @ z.T / N


GRAM = "|z[i]> = tanh(W |h[i]>)\nG[i,j] = k0[i,j] + <z[i]|z[j]>\n"

#: (program text that binds f, the same in PyTorch)
CASES: dict[str, tuple[str, Callable[[Parameters], Any]]] = {
    "mlp": (
        "f = c * sum[i](i * <v|gelu(W tanh(|h[i]>))>)",
        lambda p: p["c"] * sum(
            (k + 1) * bracket(p["v"], torch.nn.functional.gelu(p["W"] @ torch.tanh(h(p)[k]))) for k in range(3)
        ),
    ),
    "both directions": (
        "f = <h[1]|W^T tanh(W |h[2]>)> + <h[1]|W|h[3]> * <v|W^T|v>",
        lambda p: bracket(h(p)[0], p["W"].T @ torch.tanh(p["W"] @ h(p)[1]))
        + bracket(h(p)[0], p["W"] @ h(p)[2]) * bracket(p["v"], p["W"].T @ p["v"]),
    ),
    "residual blocks": (
        "for m in 1..2 { |h[i]> = |h[i]> + A[m] relu(W |h[i]>) / m }\nf = mean[i](<v|h[i]>^2)",
        lambda p: (bracket(p["v"], resnet(p)) ** 2).mean(),
    ),
    "a family of matrices at once": (
        "f = sum[l](<v|sin(sum[i](A[l] |h[i]>))> * l^2 * c)",
        lambda p: sum(p["c"] * (k + 1) ** 2 * bracket(p["v"], torch.sin(p["A"][k] @ h(p).sum(0))) for k in range(2)),
    ),
    "attention": (
        "s[i,j] = softmax[j](<h[i]|W|h[j]>)\n|z[i]> = |h[i]> + sum[j](s[i,j] * (A[1] |h[j]>))\n"
        "|z[i]> = (|z[i]> - <z[i]>) / sqrt(<z[i]|z[i]> - <z[i]>^2 + 0.01)\nf = sum[i](i * <v|silu(z[i])>)",
        lambda p: attention(p),
    ),
    "recurrence": (
        "|y> = 0 |h[1]>\nfor i in 1..3 { |y> = erf(W |y> + |h[i]>) }\nf = <v|y>",
        lambda p: bracket(p["v"], recurrence(p)),
    ),
    "nonlinear outer product": (
        "|y> = E[1](tanh(|h[1]> * |h[2]>@1 + c * |v>@1) * (W |h[3]>)@1)\nf = <v|y> + <square(y)>",
        lambda p: nonlinear_outer(p),
    ),
    "outer products as operators": (
        "S = tanh(|h[1]><v| + 0.5 |v><h[2]|)\nf = <h[3]|S S^T|h[1]> + <v|S^2|v>",
        lambda p: operators(p),
    ),
    "second order average": (
        "|y> = E[1,2](cos(|v> + |h[1]>@1 * |h[2]>@2))\nf = <y|h[3]>",
        lambda p: (
            torch.cos(p["v"][:, None, None] + h(p)[0][:, None] * h(p)[1]).mean((1, 2)) * h(p)[2]
        ).mean(),
    ),
    "inverse": (GRAM + "M[i,j] = inv[i,j](G[i,j])\nf = sum[i,j](M[i,j] / (i + 2 * j))",
                lambda p: (torch.linalg.inv(gram(p)) * weights()).sum()),
    "solve": (GRAM + "s[i] = solve[i,j](G[i,j], <v|h[j]>)\nf = sum[i](i * s[i]) * c",
              lambda p: p["c"] * (torch.linalg.solve(gram(p), bracket(p["v"], h(p))) * torch.arange(1.0, 4)).sum()),
    "power": (GRAM + "M[i,j] = pow[i,j](G[i,j], -1/4)\nf = sum[i,j](M[i,j] / (i + 2 * j))",
              lambda p: (symmetric(gram(p), lambda e: e**-0.25) * weights()).sum()),
    "function of a matrix": (GRAM + "M[i,j] = matfun[i,j](atan, G[i,j])\nf = sum[i,j](M[i,j] / (i + 2 * j))",
                             lambda p: (symmetric(gram(p), torch.atan) * weights()).sum()),
    "cholesky": (GRAM + "M[i,j] = cholesky[i,j](G[i,j])\nf = sum[i,j](M[i,j] / (i + 2 * j))",
                 lambda p: (torch.linalg.cholesky(gram(p)) * weights()).sum()),
    "logdet": (GRAM + "f = logdet[i,j](G[i,j]) * <v|h[1]>",
               lambda p: torch.logdet(gram(p)) * bracket(p["v"], h(p)[0])),
    "max and min": ("f = <v|max[i](W |h[i]>)> + min[i](<v|h[i]>) * <v|v>",
                    lambda p: bracket(p["v"], (h(p) @ p["W"].T).amax(0)) + bracket(p["v"], h(p)).min() * bracket(p["v"], p["v"])),
    "products": ("f = <v|prod[i](W |h[i]>)> + prod[i](<v|h[i]>)",
                 lambda p: bracket(p["v"], (h(p) @ p["W"].T).prod(0)) + bracket(p["v"], h(p)).prod()),
    "softmax of kets": ("|s[i]> = softmax[i](W |h[i]>)\nf = sum[i](i * <s[i]|h[i]>) + logsumexp[i](<v|h[i]>)",
                        lambda p: (torch.arange(1.0, 4) * bracket(torch.softmax(h(p) @ p["W"].T, 0), h(p))).sum()
                        + torch.logsumexp(bracket(p["v"], h(p)), 0)),
    "logsumexp of kets": ("f = <v|logsumexp[i](W |h[i]>)>",
                          lambda p: bracket(p["v"], torch.logsumexp(h(p) @ p["W"].T, 0))),
    "shift": ("|s[i]> = shift[i](|h[i]>, 1) + shift[i](tanh(W |h[i]>), -1)\nf = sum[i](i * <s[i]|h[i]>)",
              lambda p: shifted(p)),
    "positions chosen by data": ("f = sum[i](i * <h[tok[i]]|tanh(W |h[i]>)>) * <u[tok[1]]|v>",
                                 lambda p: (torch.arange(1.0, 4) * bracket(h(p)[[1, 0, 1]], torch.tanh(h(p) @ p["W"].T))).sum()
                                 * bracket(p["u"][1], p["v"])),
    "diagonals and transposes": ("g[i,j] = <h[i]|W|h[j]>\nf = sum[i](i * g[i,i]) + sum[i,j](g[i,j] * g[j,i] / j) + g[3,1]",
                                 lambda p: diagonals(p)),
    "kinks": ("f = <v|abs(W |h[1]>)> + <leaky_relu(h[2], c)> + <max(|v>, |h[3]>)|relu6(2 |h[1]>)> + <where(|v>, |h[1]>, |h[2]>)>",
              lambda p: kinks(p)),
    "quotients and powers": ("f = <v / (1 + |h[1]>^2)> / (<h[2]|h[2]> + 1) + <v|v>^1.5 + <abs(h[3])>^c",
                             lambda p: mean(p["v"] / (1 + h(p)[0] ** 2)) / (bracket(h(p)[1], h(p)[1]) + 1)
                             + bracket(p["v"], p["v"]) ** 1.5 + mean(h(p)[2].abs()) ** p["c"]),
    "a constant to differentiation": ("f = <v|stop(tanh(W |h[1]>))> * stop(<v|v>) + <v|h[2]>",
                                      lambda p: bracket(p["v"], torch.tanh(p["W"] @ h(p)[0]).detach())
                                      * bracket(p["v"], p["v"]).detach() + bracket(p["v"], h(p)[1])),
}  # fmt: skip


def weights() -> Any:
    i = torch.arange(1.0, 4)
    return 1 / (i[:, None] + 2 * i)


def symmetric(k: Any, fn: Callable[[Any], Any]) -> Any:
    values, vectors = torch.linalg.eigh(k)
    return vectors @ torch.diag(fn(values)) @ vectors.T


def resnet(p: Parameters) -> Any:
    x = h(p)
    for m in range(2):
        x = x + torch.relu(x @ p["W"].T) @ p["A"][m].T / (m + 1)
    return x


def attention(p: Parameters) -> Any:
    x = h(p)
    s = torch.softmax(x @ p["W"] @ x.T / N, -1)
    z = x + s @ (x @ p["A"][0].T)
    z = torch.nn.functional.layer_norm(z, (N,), eps=0.01)
    return (torch.arange(1.0, 4) * bracket(p["v"], torch.nn.functional.silu(z))).sum()


def recurrence(p: Parameters) -> Any:
    y = torch.zeros(N)
    for x in h(p):
        y = torch.erf(p["W"] @ y + x)
    return y


def nonlinear_outer(p: Parameters) -> Any:
    a, b, x = h(p)
    y = torch.tanh(a[:, None] * b + p["c"] * p["v"]) @ (p["W"] @ x) / N
    return bracket(p["v"], y) + mean(y**2)


def operators(p: Parameters) -> Any:
    a, b, x = h(p)
    s = torch.tanh(torch.outer(a, p["v"]) + 0.5 * torch.outer(p["v"], b)) / N
    return bracket(x, s @ s.T @ a) + bracket(p["v"], s @ s @ p["v"])


def shifted(p: Parameters) -> Any:
    x, y = h(p), torch.tanh(h(p) @ p["W"].T)
    zero = torch.zeros(1, N)
    s = torch.cat([zero, x[:-1]]) + torch.cat([y[1:], zero])
    return (torch.arange(1.0, 4) * bracket(s, x)).sum()


def diagonals(p: Parameters) -> Any:
    g, i = h(p) @ p["W"] @ h(p).T / N, torch.arange(1.0, 4)
    return (i * g.diagonal()).sum() + (g * g.T / i).sum() + g[2, 0]


def kinks(p: Parameters) -> Any:
    a, b, x = h(p)
    v = p["v"]
    first = bracket(v, (p["W"] @ a).abs()) + mean(torch.where(b > 0, b, p["c"] * b))
    return first + bracket(torch.maximum(v, x), torch.nn.functional.relu6(2 * a)) + mean(torch.where(v > 0, a, b))


@pytest.mark.parametrize("name", CASES)
def test_gradient(name: str) -> None:
    text, model = CASES[name]
    p = parameters()
    wanted = readings(p, model(p))
    found = simulated(f"{DECLARATIONS}|h[i]> = features(|u[d]>)\n{text}\n{READINGS}", N)
    for key, value in wanted.items():
        np.testing.assert_allclose(found[key], value.detach(), rtol=1e-9, atol=1e-11, err_msg=key)
