"""Scalars f of a few parameters, as a NEXORT text that binds f and as a PyTorch function: one for each construct.

The parameters are |u[d]>, |v>, W, A[l] and c; `|h[i]>` is bound to the features Σ_d x[i,d] |u[d]>.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from tests.torch.harness import Parameters, bracket, mean

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
|h[i]> = features(|u[d]>)
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


Model = Callable[[Parameters], Any]
CASES: dict[str, tuple[str, Model]] = {}
#: Scalars that are made of gradients.
SECOND: dict[str, tuple[str, Model]] = {}
#: Families f[i].
FAMILIES: dict[str, tuple[str, Model]] = {}


def case(text: str, table: dict[str, tuple[str, Model]] = CASES) -> Callable[[Model], Model]:
    """Enters a function of the parameters and its NEXORT text into a table."""

    def entered(model: Model) -> Model:
        table[model.__name__] = (text, model)
        return model

    return entered


def h(p: Parameters) -> Any:
    return torch.tensor(X) @ p["u"]


def first_to_last() -> Any:
    """The positions 1, 2, 3 of the axis i."""
    return torch.arange(1.0, 4)


# -- networks --------------------------------------------------------------------------------------------------
@case("f = c * sum[i](i * <v|gelu(W tanh(|h[i]>))>)")
def mlp(p: Parameters) -> Any:
    x = functional.gelu(torch.tanh(h(p)) @ p["W"].T)
    return p["c"] * (first_to_last() * bracket(p["v"], x)).sum()


@case("f = <h[1]|W^T tanh(W |h[2]>)> + <h[1]|W|h[3]> * <v|W^T|v>")
def both_directions(p: Parameters) -> Any:
    a, b, x = h(p)
    w, v = p["W"], p["v"]
    return bracket(a, w.T @ torch.tanh(w @ b)) + bracket(a, w @ x) * bracket(v, w.T @ v)


@case("for m in 1..2 { |h[i]> = |h[i]> + A[m] relu(W |h[i]>) / m }\nf = mean[i](<v|h[i]>^2)")
def residual_blocks(p: Parameters) -> Any:
    x = h(p)
    for m in range(2):
        x = x + torch.relu(x @ p["W"].T) @ p["A"][m].T / (m + 1)
    return (bracket(p["v"], x) ** 2).mean()


@case("f = sum[l](<v|sin(sum[i](A[l] |h[i]>))> * l^2 * c)")
def a_family_of_matrices_at_once(p: Parameters) -> Any:
    return sum(p["c"] * (k + 1) ** 2 * bracket(p["v"], torch.sin(p["A"][k] @ h(p).sum(0))) for k in range(2))


@case(
    """
    s[i,j] = softmax[j](<h[i]|W|h[j]>)
    |z[i]> = |h[i]> + sum[j](s[i,j] * (A[1] |h[j]>))
    |z[i]> = (|z[i]> - <z[i]>) / sqrt(<z[i]|z[i]> - <z[i]>^2 + 0.01)
    f = sum[i](i * <v|silu(z[i])>)
    """
)
def transformer(p: Parameters) -> Any:
    x = h(p)
    s = torch.softmax(x @ p["W"] @ x.T / N, -1)
    z = functional.layer_norm(x + s @ (x @ p["A"][0].T), (N,), eps=0.01)
    return (first_to_last() * bracket(p["v"], functional.silu(z))).sum()


@case("|y> = 0 |h[1]>\nfor i in 1..3 { |y> = erf(W |y> + |h[i]>) }\nf = <v|y>")
def recurrent_network(p: Parameters) -> Any:
    y = torch.zeros(N)
    for x in h(p):
        y = torch.erf(p["W"] @ y + x)
    return bracket(p["v"], y)


# -- nonlinear outer products ----------------------------------------------------------------------------------
@case("|y> = E[1](tanh(|h[1]> * |h[2]>@1 + c * |v>@1) * (W |h[3]>)@1)\nf = <v|y> + <square(y)>")
def nonlinear_outer_product(p: Parameters) -> Any:
    a, b, x = h(p)
    y = torch.tanh(a[:, None] * b + p["c"] * p["v"]) @ (p["W"] @ x) / N
    return bracket(p["v"], y) + mean(y**2)


@case("S = tanh(|h[1]><v| + 0.5 |v><h[2]|)\nf = <h[3]|S S^T|h[1]> + <v|S^2|v>")
def functions_of_operators(p: Parameters) -> Any:
    a, b, x = h(p)
    s = torch.tanh(torch.outer(a, p["v"]) + 0.5 * torch.outer(p["v"], b)) / N
    return bracket(x, s @ s.T @ a) + bracket(p["v"], s @ s @ p["v"])


@case("|y> = E[1,2](cos(|v> + |h[1]>@1 * |h[2]>@2))\nf = <y|h[3]>")
def average_over_two_copies(p: Parameters) -> Any:
    a, b, x = h(p)
    return bracket(torch.cos(p["v"][:, None, None] + a[:, None] * b).mean((1, 2)), x)


# -- finite matrices -------------------------------------------------------------------------------------------
GRAM = """
    |z[i]> = tanh(W |h[i]>)
    G[i,j] = k0[i,j] + <z[i]|z[j]>
"""
WEIGHED = "f = sum[i,j](M[i,j] / (i + 2 * j))"


def gram(p: Parameters) -> Any:
    z = torch.tanh(h(p) @ p["W"].T)
    return torch.tensor(K) + z @ z.T / N


def weighed(m: Any) -> Any:
    return (m / (first_to_last()[:, None] + 2 * first_to_last())).sum()


def symmetric(k: Any, fn: Callable[[Any], Any]) -> Any:
    values, vectors = torch.linalg.eigh(k)
    return vectors @ torch.diag(fn(values)) @ vectors.T


@case(GRAM + "M[i,j] = inv[i,j](G[i,j])\n" + WEIGHED)
def inverse(p: Parameters) -> Any:
    return weighed(torch.linalg.inv(gram(p)))


@case(GRAM + "s[i] = solve[i,j](G[i,j], <v|h[j]>)\nf = sum[i](i * s[i]) * c")
def solve(p: Parameters) -> Any:
    return p["c"] * (torch.linalg.solve(gram(p), bracket(p["v"], h(p))) * first_to_last()).sum()


@case(GRAM + "M[i,j] = pow[i,j](G[i,j], -1/4)\n" + WEIGHED)
def power(p: Parameters) -> Any:
    return weighed(symmetric(gram(p), lambda e: e**-0.25))


@case(GRAM + "M[i,j] = matfun[i,j](atan, G[i,j])\n" + WEIGHED)
def function_of_a_matrix(p: Parameters) -> Any:
    return weighed(symmetric(gram(p), torch.atan))


@case(GRAM + "M[i,j] = cholesky[i,j](G[i,j])\n" + WEIGHED)
def cholesky(p: Parameters) -> Any:
    return weighed(torch.linalg.cholesky(gram(p)))


@case(GRAM + "f = logdet[i,j](G[i,j]) * <v|h[1]>")
def logdet(p: Parameters) -> Any:
    return torch.logdet(gram(p)) * bracket(p["v"], h(p)[0])


# -- indices ---------------------------------------------------------------------------------------------------
@case("f = <v|max[i](W |h[i]>)> + min[i](<v|h[i]>) * <v|v>")
def max_and_min(p: Parameters) -> Any:
    v = p["v"]
    return bracket(v, (h(p) @ p["W"].T).amax(0)) + bracket(v, h(p)).min() * bracket(v, v)


@case("f = <v|prod[i](W |h[i]>)> + prod[i](<v|h[i]>)")
def products(p: Parameters) -> Any:
    return bracket(p["v"], (h(p) @ p["W"].T).prod(0)) + bracket(p["v"], h(p)).prod()


@case("|s[i]> = softmax[i](W |h[i]>)\nf = sum[i](i * <s[i]|h[i]>) + logsumexp[i](<v|h[i]>)")
def softmax_of_kets(p: Parameters) -> Any:
    s = torch.softmax(h(p) @ p["W"].T, 0)
    return (first_to_last() * bracket(s, h(p))).sum() + torch.logsumexp(bracket(p["v"], h(p)), 0)


@case("f = <v|logsumexp[i](W |h[i]>)>")
def logsumexp_of_kets(p: Parameters) -> Any:
    return bracket(p["v"], torch.logsumexp(h(p) @ p["W"].T, 0))


@case("|s[i]> = shift[i](|h[i]>, 1) + shift[i](tanh(W |h[i]>), -1)\nf = sum[i](i * <s[i]|h[i]>)")
def shift(p: Parameters) -> Any:
    x, y = h(p), torch.tanh(h(p) @ p["W"].T)
    zero = torch.zeros(1, N)
    s = torch.cat([zero, x[:-1]]) + torch.cat([y[1:], zero])
    return (first_to_last() * bracket(s, x)).sum()


@case("|s[i]> = cumsum[i](|h[i]>) + cumsum[i](tanh(W |h[i]>), reverse = 1)\nf = sum[i](i * <s[i]|tanh(h[i])>)")
def cumsum(p: Parameters) -> Any:
    x, y = h(p), torch.tanh(h(p) @ p["W"].T)
    s = torch.cumsum(x, 0) + torch.cumsum(y.flip(0), 0).flip(0)
    return (first_to_last() * bracket(s, torch.tanh(x))).sum()


@case("f = sum[i](i * <h[tok[i]]|tanh(W |h[i]>)>) * <u[tok[1]]|v>")
def positions_chosen_by_data(p: Parameters) -> Any:
    chosen = bracket(h(p)[[1, 0, 1]], torch.tanh(h(p) @ p["W"].T))
    return (first_to_last() * chosen).sum() * bracket(p["u"][1], p["v"])


@case("g[i,j] = <h[i]|W|h[j]>\nf = sum[i](i * g[i,i]) + sum[i,j](g[i,j] * g[j,i] / j) + g[3,1]")
def diagonals_and_transposes(p: Parameters) -> Any:
    g, i = h(p) @ p["W"] @ h(p).T / N, first_to_last()
    return (i * g.diagonal()).sum() + (g * g.T / i).sum() + g[2, 0]


@case("for i in 1..3 { s[i] = <v|(W |h[i]>)>^i }\nf = sum[i](s[i] * c) + s[2]")
def members_bound_one_by_one(p: Parameters) -> Any:
    s = bracket(p["v"], h(p) @ p["W"].T) ** first_to_last()
    return p["c"] * s.sum() + s[1]


# -- entrywise functions ---------------------------------------------------------------------------------------
@case(
    """
    f = <v|abs(W |h[1]>)> + <leaky_relu(h[2], c)>
    f = f + <max(|v>, |h[3]>)|relu6(2 |h[1]>)> + <where(|v>, |h[1]>, |h[2]>)>
    """
)
def kinks(p: Parameters) -> Any:
    a, b, x = h(p)
    v = p["v"]
    f = bracket(v, (p["W"] @ a).abs()) + mean(torch.where(b > 0, b, p["c"] * b))
    return f + bracket(torch.maximum(v, x), functional.relu6(2 * a)) + mean(torch.where(v > 0, a, b))


@case(
    """
    f = <sinh(v)|cosh(0.5 |h[1]>)> + <softsign(v)|logsigmoid(h[2])> + <hardtanh(h[1])|hardsigmoid(2 |h[3]>)>
    f = f + c * <hardswish(2 |v>)|relu(h[1])^3> + <v|(0.2 * min(|h[2]>, 0) + 1.5 * max(|h[2]>, 0))>
    """
)
def hard_and_hyperbolic(p: Parameters) -> Any:
    a, b, x = h(p)
    v = p["v"]
    f = bracket(v.sinh(), (a / 2).cosh()) + bracket(functional.softsign(v), functional.logsigmoid(b))
    f = f + bracket(functional.hardtanh(a), functional.relu6(2 * x + 3) / 6)
    f = f + p["c"] * bracket(functional.hardswish(2 * v), functional.relu(a) ** 3)
    return f + bracket(v, torch.where(b > 0, 1.5 * b, 0.2 * b))


@case("f = <v / (1 + |h[1]>^2)> / (<h[2]|h[2]> + 1) + <v|v>^1.5 + <abs(h[3])>^c")
def quotients_and_powers(p: Parameters) -> Any:
    a, b, x = h(p)
    quotient = mean(p["v"] / (1 + a**2)) / (bracket(b, b) + 1)
    return quotient + bracket(p["v"], p["v"]) ** 1.5 + mean(x.abs()) ** p["c"]


@case("f = <v|stop(tanh(W |h[1]>))> * stop(<v|v>) + <v|h[2]>")
def constants_to_differentiation(p: Parameters) -> Any:
    v = p["v"]
    return bracket(v, torch.tanh(p["W"] @ h(p)[0]).detach()) * bracket(v, v).detach() + bracket(v, h(p)[1])


# -- gradients of gradients ------------------------------------------------------------------------------------
def lengths(p: Parameters, f: Any, name: str) -> Any:
    """<g|g> and <q|g> of a gradient, weighed where it is a family; of a matrix, applied to |r>."""
    (g,) = p.gradients(f, [name], create_graph=True)
    if name == "W":
        g = g @ p["r"] / N
        return bracket(g, g) + bracket(p["q"], g)
    return sum((k + 1) * bracket(x, x) + bracket(p["q"], x) for k, x in enumerate(g))


OF_A_FAMILY = "|g[d]> = grad(f, |u[d]>)\nf = sum[d](<g[d]|g[d]> * d + <q|g[d]>)"


@case("f = <v|tanh(W gelu(|h[1]>))>\n|g> = grad(f, W) |r>\nf = <g|g> + <q|g>", SECOND)
def by_a_matrix(p: Parameters) -> Any:
    return lengths(p, bracket(p["v"], torch.tanh(p["W"] @ functional.gelu(h(p)[0]))), "W")


@case("f = <v|sin(W tanh(|h[1]>))>\n" + OF_A_FAMILY, SECOND)
def by_kets(p: Parameters) -> Any:
    return lengths(p, bracket(p["v"], torch.sin(p["W"] @ torch.tanh(h(p)[0]))), "u")


@case("f = <v|tanh(c * |h[1]> + c^2 * (W |h[2]>))>\nf = grad(f, c)^2 + f", SECOND)
def by_a_scalar(p: Parameters) -> Any:
    c = p["c"]
    f = bracket(p["v"], torch.tanh(c * h(p)[0] + c**2 * (p["W"] @ h(p)[1])))
    return p.gradients(f, ["c"], create_graph=True)[0] ** 2 + f


@case(
    GRAM
    + """
    s[i] = solve[i,j](G[i,j], <v|h[j]>)
    f = sum[i](i * s[i])
    |g> = grad(f, |v>) + grad(logdet[i,j](G[i,j]), W) |r>
    f = <g|g> + <q|g>
    """,
    SECOND,
)
def through_matrix_functions(p: Parameters) -> Any:
    f = (torch.linalg.solve(gram(p), bracket(p["v"], h(p))) * first_to_last()).sum()
    g = p.gradients(f, ["v"], create_graph=True)[0]
    g = g + p.gradients(torch.logdet(gram(p)), ["W"], create_graph=True)[0] @ p["r"] / N
    return bracket(g, g) + bracket(p["q"], g)


@case("|y> = E[1](tanh(|h[1]> * |h[2]>@1) * |v>@1)\nf = <v|y>\n" + OF_A_FAMILY, SECOND)
def through_an_outer_product(p: Parameters) -> Any:
    return lengths(p, bracket(p["v"], torch.tanh(torch.outer(h(p)[0], h(p)[1])) @ p["v"] / N), "u")


@case(
    """
    |y> = tanh(W |h[1]>)
    f = <v|y>
    |a> = grad(f, |v>)
    f = <a|a>^2
    |b> = grad(f, |u[1]>)
    f = <b|b>
    |e> = grad(f, |u[2]>)
    f = <e|e> + <q|e>
    """,
    SECOND,
)
def four_times(p: Parameters) -> Any:
    y = torch.tanh(p["W"] @ h(p)[0])
    a = p.gradients(bracket(p["v"], y), ["v"], create_graph=True)[0]
    b = p.gradients(bracket(a, a) ** 2, ["u"], create_graph=True)[0][0]
    e = p.gradients(bracket(b, b), ["u"], create_graph=True)[0][1]
    return bracket(e, e) + bracket(p["q"], e)


# -- families -----------------------------------------------------------------------------------------------
@case("f[i] = <v|gelu(W tanh(|h[i]>))> + <h[1]|W|h[i]>", FAMILIES)
def one_row_each(p: Parameters) -> Any:
    x = h(p)
    return bracket(p["v"], functional.gelu(torch.tanh(x) @ p["W"].T)) + bracket(x[0], x @ p["W"].T)


@case("s[i,j] = softmax[j](<h[i]|W|h[j]>)\n|z[i]> = tanh(sum[j](s[i,j] |h[j]>))\nf[i] = <v|z[i]> + s[i,2]", FAMILIES)
def rows_of_attention(p: Parameters) -> Any:
    s = torch.softmax(h(p) @ p["W"] @ h(p).T / N, -1)
    return bracket(p["v"], torch.tanh(s @ h(p))) + s[:, 1]


@case("f[i] = <u[tok[i]]|W|h[tok[i]]> * i + <h[tok[i]]|h[i]>", FAMILIES)
def rows_chosen_by_data(p: Parameters) -> Any:
    at = [1, 0, 1]
    x = h(p)
    return bracket(p["u"][at], x[at] @ p["W"].T) * first_to_last() + bracket(x[at], x)


@case("|s[i]> = shift[i](W |h[i]>, 1)\nf[i] = <v|tanh(s[i] + h[i])> + shift[i](<v|h[i]>, -2)", FAMILIES)
def shifted_rows(p: Parameters) -> Any:
    y = h(p) @ p["W"].T
    s = torch.cat([torch.zeros(1, N), y[:-1]])
    t = bracket(p["v"], h(p))
    return bracket(p["v"], torch.tanh(s + h(p))) + torch.cat([t[2:], torch.zeros(2)])


@case("f[i] = <max[j](<h[i]|W|h[j]> * |h[j]>)|v> + prod[j](<h[i]|h[j]>) + logsumexp[j](<h[i]|W|h[j]>)", FAMILIES)
def reduced_rows(p: Parameters) -> Any:
    x = h(p)
    g = x @ p["W"] @ x.T / N
    top = (g[..., None] * x).amax(1)
    return bracket(top, p["v"]) + (x @ x.T / N).prod(1) + torch.logsumexp(g, 1)


@case(
    GRAM
    + """
    s[i] = solve[i,j](G[i,j], <v|h[j]>)
    R[i,j] = pow[i,j](G[i,j], 1/2)
    M[i,j] = inv[i,j](G[i,j])
    L[i,j] = cholesky[i,j](G[i,j])
    f[i] = s[i] + R[i,2] * i + M[i,i] + L[3,i]
    """,
    FAMILIES,
)
def rows_of_matrix_functions(p: Parameters) -> Any:
    g = gram(p)
    s = torch.linalg.solve(g, bracket(p["v"], h(p)))
    root = symmetric(g, torch.sqrt)[:, 1] * first_to_last()
    return s + root + torch.linalg.inv(g).diagonal() + torch.linalg.cholesky(g)[2]


@case("for i in 1..3 { |y[i]> = W tanh(|h[i]>) / i }\nf[i] = <v|y[i]> + <y[2]|h[i]>", FAMILIES)
def rows_bound_one_by_one(p: Parameters) -> Any:
    y = torch.tanh(h(p)) @ p["W"].T / first_to_last()[:, None]
    return bracket(p["v"], y) + bracket(y[1], h(p))


@case("f[i] = sum[l](<v|sin(A[l] |h[i]>)> * l) + <h[i]|A[2]^T A[1]|h[i]>", FAMILIES)
def rows_through_a_family(p: Parameters) -> Any:
    x, (a, b) = h(p), p["A"]
    f = bracket(p["v"], torch.sin(x @ a.T)) + 2 * bracket(p["v"], torch.sin(x @ b.T))
    return f + bracket(x @ b.T, x @ a.T)


@case("|y[i]> = E[1](tanh(|h[i]> * |h[2]>@1 + |h[1]> * |h[i]>@1) * |v>@1)\nf[i] = <v|y[i]>", FAMILIES)
def rows_of_outer_products(p: Parameters) -> Any:
    x = h(p)
    psi = torch.tanh(x[:, :, None] * x[1] + x[0][:, None] * x[:, None, :])
    return bracket(p["v"], psi @ p["v"] / N)
