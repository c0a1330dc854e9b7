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


def test_a_family_is_differentiated_at_once() -> None:
    """grad of f[i] is a family; so is that by a member, and by kets on the way."""
    text = f"""{DECLARATIONS}
    |h[i]> = features(|u[d]>)
    |z[i]> = W tanh(|h[i]>)
    f[i] = <v|gelu(z[i])> + <h[1]|z[i]>
    |du[i,d]> = grad(f[i], |u[d]>)
    |g[i]> = grad(f[i], W) |r>
    |dz[i,j]> = grad(f[i], |z[j]>)
    |dh[i]> = grad(f[i], |h[1]>)
    |d2[i]> = grad(f[i], |u[2]>)
    output u[i,j,d] = <du[i,d]|du[j,d]>
    output g[i,j] = <g[i]|g[j]>
    output z[i,j] = <q|dz[i,j]>
    output h[i] = <q|dh[i]>
    output second[i] = <q|d2[i]>
    """
    p = parameters()
    hidden = h(p).detach().requires_grad_()
    images = (torch.tanh(hidden) @ p["W"].T).detach().requires_grad_()

    def f(x: Any, z: Any) -> Any:
        return bracket(p["v"], torch.nn.functional.gelu(z)) + bracket(x[0], z)

    du, g, dz, dh = [], [], [], []
    for i in range(3):
        x = h(p)
        a, w = p.gradients(f(x, torch.tanh(x) @ p["W"].T)[i], ["u", "W"])
        du.append(a)
        g.append(w @ p["r"] / N)
        dz.append(N * torch.autograd.grad(f(hidden.detach(), images)[i], images)[0])
        dh.append(N * torch.autograd.grad(f(hidden, torch.tanh(hidden) @ p["W"].T)[i], hidden)[0][0])
    found = simulated(text, N)
    du, g, dz, dh = (torch.stack(x).detach() for x in (du, g, dz, dh))
    wanted = {
        "u": torch.einsum("idn,jdn->ijd", du, du) / N,
        "g": g @ g.T / N,
        "z": bracket(p["q"], dz),
        "h": bracket(p["q"], dh),
        "second": bracket(p["q"], du[:, 1]),
    }
    for key, value in wanted.items():
        np.testing.assert_allclose(found[key], value.detach(), rtol=1e-9, atol=1e-11, err_msg=key)


SECOND: dict[str, tuple[str, Callable[[Parameters], Any]]] = {
    "matrix": (
        "f = <v|tanh(W gelu(|h[1]>))>\n|g> = grad(f, W) |r>\nf = <g|g> + <q|g>",
        lambda p: lengths(p, bracket(p["v"], torch.tanh(p["W"] @ torch.nn.functional.gelu(h(p)[0]))), "W"),
    ),
    "kets": (
        "f = <v|sin(W tanh(|h[1]>))>\n|g[d]> = grad(f, |u[d]>)\nf = sum[d](<g[d]|g[d]> * d + <q|g[d]>)",
        lambda p: lengths(p, bracket(p["v"], torch.sin(p["W"] @ torch.tanh(h(p)[0]))), "u"),
    ),
    "scalars": (
        "f = <v|tanh(c * |h[1]> + c^2 * (W |h[2]>))>\nf = grad(f, c)^2 + f",
        lambda p: scalar_slope(p),
    ),
    "matrix functions": (
        GRAM + "s[i] = solve[i,j](G[i,j], <v|h[j]>)\nf = sum[i](i * s[i])\n|g> = grad(f, |v>)\n"
        "|g> = |g> + grad(logdet[i,j](G[i,j]), W) |r>\nf = <g|g> + <q|g>",
        lambda p: matrix_functions(p),
    ),
    "nonlinear outer product": (
        "|y> = E[1](tanh(|h[1]> * |h[2]>@1) * |v>@1)\nf = <v|y>\n|g[d]> = grad(f, |u[d]>)\n"
        "f = sum[d](<g[d]|g[d]> * d + <q|g[d]>)",
        lambda p: lengths(
            p, bracket(p["v"], torch.tanh(torch.outer(h(p)[0], h(p)[1])) @ p["v"] / N), "u"
        ),
    ),
    "three times": (
        "|y> = tanh(W |h[1]>)\nf = <v|y>\n|a> = grad(f, |v>)\nf = <a|a>^2\n|b> = grad(f, |u[1]>)\n"
        "f = <b|b>\n|e> = grad(f, |u[2]>)\nf = <e|e> + <q|e>",
        lambda p: three_times(p),
    ),
}  # fmt: skip


def lengths(p: Parameters, f: Any, name: str) -> Any:
    (g,) = p.gradients(f, [name], create_graph=True)
    if name == "W":
        g = g @ p["r"] / N
        return bracket(g, g) + bracket(p["q"], g)
    return sum((k + 1) * bracket(x, x) + bracket(p["q"], x) for k, x in enumerate(g))


def scalar_slope(p: Parameters) -> Any:
    c = p["c"]
    f = bracket(p["v"], torch.tanh(c * h(p)[0] + c**2 * (p["W"] @ h(p)[1])))
    return p.gradients(f, ["c"], create_graph=True)[0] ** 2 + f


def matrix_functions(p: Parameters) -> Any:
    f = (torch.linalg.solve(gram(p), bracket(p["v"], h(p))) * torch.arange(1.0, 4)).sum()
    g = p.gradients(f, ["v"], create_graph=True)[0]
    g = g + p.gradients(torch.logdet(gram(p)), ["W"], create_graph=True)[0] @ p["r"] / N
    return bracket(g, g) + bracket(p["q"], g)


def three_times(p: Parameters) -> Any:
    y = torch.tanh(p["W"] @ h(p)[0])
    a = p.gradients(bracket(p["v"], y), ["v"], create_graph=True)[0]
    b = p.gradients(bracket(a, a) ** 2, ["u"], create_graph=True)[0][0]
    e = p.gradients(bracket(b, b), ["u"], create_graph=True)[0][1]
    return bracket(e, e) + bracket(p["q"], e)


@pytest.mark.parametrize("name", SECOND)
def test_gradients_of_gradients(name: str) -> None:
    text, model = SECOND[name]
    p = parameters()
    wanted = readings(p, model(p))
    found = simulated(f"{DECLARATIONS}|h[i]> = features(|u[d]>)\n{text}\n{READINGS}", N)
    for key, value in wanted.items():
        np.testing.assert_allclose(found[key], value.detach(), rtol=1e-9, atol=1e-11, err_msg=key)


def test_tangent_kernel_is_that_of_the_jacobian() -> None:
    text = f"""{DECLARATIONS}
    |h[i]> = features(|u[d]>)
    for m in 1..2 {{ |h[i]> = |h[i]> + A[m] relu(W |h[i]>) }}
    f[i] = c * <v|h[i]>
    output all[i,j] = ntk(f[i], f[j])
    output some[i,j] = ntk(f[i], f[j]; W, |u>)
    output member[i,j] = ntk(f[i], f[j]; A[2])
    """
    p = parameters()
    names = ["u", "v", "W", "A", "c"]
    f = p["c"] * bracket(p["v"], resnet_plain(p))
    slopes = [p.gradients(f[i], names, retain_graph=True) for i in range(3)]

    def kernel(pick: Callable[[list[Any]], list[Any]], sizes: list[float]) -> np.ndarray:
        rows = [torch.cat([g.reshape(-1) * s**-0.5 for g, s in zip(pick(x), sizes, strict=True)]) for x in slopes]
        return (torch.stack(rows) @ torch.stack(rows).T).detach().numpy()

    found = simulated(text, N)
    np.testing.assert_allclose(found["all"], kernel(lambda g: g, [N, N, N * N, N * N, 1]), rtol=1e-9)
    np.testing.assert_allclose(found["some"], kernel(lambda g: [g[2], g[0]], [N * N, N]), rtol=1e-9)
    np.testing.assert_allclose(found["member"], kernel(lambda g: [g[3][1]], [N * N]), rtol=1e-9)


def resnet_plain(p: Parameters) -> Any:
    x = h(p)
    for m in range(2):
        x = x + torch.relu(x @ p["W"].T) @ p["A"][m].T
    return x


def test_products_with_vectors() -> None:
    text = f"""{DECLARATIONS}
    |h[i]> = features(|u[d]>)
    |y> = tanh(W |h[1]>) + c * |v>
    |back> = vjp(|y>, |u[1]>, |q>)
    |along> = jvp(|y>, |v>, |r>)
    |aw> = jvp(|y>, W, |q><r|)
    |ac> = jvp(|y>, c, 2)
    s = <y|y>
    output back = <r|back>
    output along = <q|along>
    output aw = <v|aw>
    output ac = <q|ac>
    output slope = jvp(s, W, |q><r|)
    """
    p = parameters()

    def y(u: Any, v: Any, w: Any, c: Any) -> Any:
        return torch.tanh(w @ (torch.tensor(X) @ u)[0]) + c * v

    at = tuple(p[name] for name in ("u", "v", "W", "c"))
    q, r = p["q"], p["r"]
    zeros = [torch.zeros_like(x) for x in at]

    def along(k: int, direction: Any) -> Any:
        return torch.func.jvp(y, at, tuple(direction if j == k else z for j, z in enumerate(zeros)))[1]

    value, back = torch.func.vjp(y, *at)
    outer = torch.outer(q, r) / N
    wanted = {
        "back": bracket(r, back(q)[0][0]),
        "along": bracket(q, along(1, r)),
        "aw": bracket(p["v"], along(2, outer)),
        "ac": bracket(q, along(3, torch.tensor(2.0))),
        "slope": 2 * bracket(value, along(2, outer)),
    }
    found = simulated(text, N)
    for key, one in wanted.items():
        np.testing.assert_allclose(found[key], one.detach(), rtol=1e-9, atol=1e-12, err_msg=key)


#: Functions of the parameters as arguments, so that a program can move them: f(θ + ε) against <gradient|ε>.
MOVED = {
    "mlp": "<v|gelu(W tanh(sum[d](x[2,d] |u[d]>)))> + <v|W^T|u[1]>^2",
    "outer products": "<v|tanh(|u[1]><v|) W |u[2]>> + <v|pow(1 + |u[1]><u[1]|, -1/4) W |v>>",
    "normalised": "<v|(W |u[1]>) / sqrt(<u[1]|W^T W|u[1]> + 0.1)>",
}


@pytest.mark.parametrize("name", MOVED)
def test_finite_differences(name: str) -> None:
    """The second road: central differences taken by the program itself, in one direction for all parameters."""
    text = f"""{DECLARATIONS}
    def f(|u[d]>, op W, |v>) {{ return {MOVED[name]} }}
    step_size = 1e-4
    def moved(e) {{ return f(|u[d]> + e * d * |q>, W + e |q><r|, |v> + e |r>) }}
    value = f(|u[d]>, W, |v>)
    |du[d]> = grad(value, |u[d]>)
    |dv> = grad(value, |v>)
    |dw> = grad(value, W) |r>
    output slope = sum[d](d * <du[d]|q>) + <dv|r> + <q|dw>
    output secant = (moved(step_size) - moved(-step_size)) / (2 * step_size)
    """
    found = simulated(text, N)
    np.testing.assert_allclose(found["slope"], found["secant"], rtol=1e-6, atol=1e-8)
