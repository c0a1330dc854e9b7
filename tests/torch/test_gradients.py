"""`grad` at finite width against torch.autograd and against finite differences, construct by construct (cases.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch.cases import CASES, DECLARATIONS, FAMILIES, SECOND, N, X, h, parameters  # noqa: E402
from tests.torch.harness import Parameters, bracket, simulated  # noqa: E402
from tests.torch.layer_cases import LAYERS  # noqa: E402

pytestmark = pytest.mark.torch


def text_of_readings(one: str = "", more: str = "") -> str:
    """The quantities read from the gradients of f: lengths, and brackets with fixed kets. For a family, [i] and ,i."""
    return f"""
    |du[d{more}]> = grad(f{one}, |u[d]>)
    |dv{one}> = grad(f{one}, |v>)
    |g{one}> = grad(f{one}, W) |r>
    |a[l{more}]> = grad(f{one}, A[l]) |r>
    |b{one}> = grad(f{one}, A[2])^T |q>
    output f{one}
    output u[d{more}] = <q|du[d{more}]>
    output uu[d{more}] = <du[d{more}]|du[d{more}]>
    output v{one} = <q|dv{one}>
    output vv{one} = <dv{one}|dv{one}>
    output w{one} = <q|g{one}>
    output ww{one} = <g{one}|g{one}>
    output a[l{more}] = <q|a[l{more}]>
    output b{one} = <b{one}|b{one}>
    output dc{one} = grad(f{one}, c)
    """


def readings(p: Parameters, f: Any) -> dict[str, Any]:
    du, dv, dw, da, dc = p.gradients(f, ["u", "v", "W", "A", "c"], retain_graph=True)
    q, r = p["q"], p["r"]
    g = dw @ r / N
    a = torch.stack([da[k] @ r / N for k in range(2)])
    b = da[1].T @ q / N
    return {
        "f": f, "u": bracket(q, du), "uu": bracket(du, du), "v": bracket(q, dv), "vv": bracket(dv, dv),
        "w": bracket(q, g), "ww": bracket(g, g), "a": bracket(q, a), "b": bracket(b, b), "dc": dc,
    }  # fmt: skip


def agree(text: str, wanted: dict[str, Any]) -> None:
    found = simulated(text, N)
    for key, value in wanted.items():
        np.testing.assert_allclose(found[key], value.detach(), rtol=1e-9, atol=1e-11, err_msg=key)


@pytest.mark.parametrize("name", [*CASES, *SECOND, *LAYERS])
def test_gradient(name: str) -> None:
    text, model = (CASES | SECOND | LAYERS)[name]
    p = parameters()
    agree(f"{DECLARATIONS}\n{text}\n{text_of_readings()}", readings(p, model(p)))


@pytest.mark.parametrize("name", FAMILIES)
def test_gradient_of_a_family(name: str) -> None:
    """grad(f[i], ..) is a family over i; torch takes one row after the other."""
    text, model = FAMILIES[name]
    p = parameters()
    rows = [readings(p, f) for f in model(p)]
    wanted = {key: torch.stack([row[key] for row in rows], -1) for key in rows[0]}
    agree(f"{DECLARATIONS}\n{text}\n{text_of_readings('[i]', ',i')}", wanted)


def test_a_family_is_differentiated_at_once() -> None:
    """grad of f[i] is a family; so is that by a member, and by kets on the way."""
    text = f"""{DECLARATIONS}
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
    du, g, dz, dh = (torch.stack(x).detach() for x in (du, g, dz, dh))
    wanted = {
        "u": torch.einsum("idn,jdn->ijd", du, du) / N,
        "g": g @ g.T / N,
        "z": bracket(p["q"], dz),
        "h": bracket(p["q"], dh),
        "second": bracket(p["q"], du[:, 1]),
    }
    agree(text, wanted)


def test_tangent_kernel_is_that_of_the_jacobian() -> None:
    text = f"""{DECLARATIONS}
    for m in 1..2 {{ |h[i]> = |h[i]> + A[m] relu(W |h[i]>) }}
    f[i] = c * <v|h[i]>
    output all[i,j] = ntk(f[i], f[j])
    output some[i,j] = ntk(f[i], f[j]; W, |u>)
    output member[i,j] = ntk(f[i], f[j]; A[2], |u[1]>)
    output both[i,j] = ntk(f[i], f[j]; A[2], A[1])
    """
    p = parameters()
    names = ["u", "v", "W", "A", "c"]
    x = h(p)
    for m in range(2):
        x = x + torch.relu(x @ p["W"].T) @ p["A"][m].T
    f = p["c"] * bracket(p["v"], x)
    slopes = [p.gradients(f[i], names, retain_graph=True) for i in range(3)]

    def kernel(pick: Callable[[list[Any]], list[Any]], sizes: list[float]) -> np.ndarray:
        rows = [torch.cat([g.reshape(-1) * s**-0.5 for g, s in zip(pick(x), sizes, strict=True)]) for x in slopes]
        return (torch.stack(rows) @ torch.stack(rows).T).detach().numpy()

    found = simulated(text, N)
    np.testing.assert_allclose(found["all"], kernel(lambda g: g, [N, N, N * N, N * N, 1]), rtol=1e-9)
    np.testing.assert_allclose(found["some"], kernel(lambda g: [g[2], g[0]], [N * N, N]), rtol=1e-9)
    np.testing.assert_allclose(found["member"], kernel(lambda g: [g[3][1], g[0][0]], [N * N, N]), rtol=1e-9)
    np.testing.assert_allclose(found["both"], kernel(lambda g: [g[3]], [N * N]), rtol=1e-9)


def test_products_with_vectors() -> None:
    text = f"""{DECLARATIONS}
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
    agree(text, wanted)


#: Functions of the parameters as arguments, so that a program can move them: f(θ + ε) against <gradient|ε>.
MOVED = {
    "mlp": "<v|gelu(W tanh(sum[d](x[2,d] |u[d]>)))> + <v|W^T|u[1]>^2",
    "outer products": "<v|(tanh(|u[1]><v|) W |u[2]>)> + <u[1]|(tanh(W |v> * 0.5) + (|u[1]><v|)^2 |v>)>",
    "normalised": "<v|W|u[1]> / sqrt(<u[1]|W^T W|u[1]> + 0.1)",
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
