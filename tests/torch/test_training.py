"""Training loops against PyTorch: schedules, minibatches, shared weights, widths, clipping, groups of parameters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch.harness import Parameters, bracket, compare, train  # noqa: E402

pytestmark = pytest.mark.torch

N = 20
XI = np.array([[0.9, -0.4], [-0.7, 1.1], [0.5, 0.8]])
Y = np.array([1.0, -0.5, 0.25])
HEAD = """
axis i : 3
axis d : 2
data xi[i,d] = [[0.9, -0.4], [-0.7, 1.1], [0.5, 0.8]]
data y[i] = [1.0, -0.5, 0.25]
"""


def squares(f: Any, y: Any = Y) -> Any:
    return ((f - torch.tensor(y)) ** 2).mean() / 2


def sgd(lr: float, **options: Any) -> Any:
    return lambda p: torch.optim.SGD(p, lr=lr, **options)


def adam(lr: float, **options: Any) -> Any:
    return lambda p: torch.optim.Adam(p, lr=lr, **options)


def test_schedule_over_minibatches() -> None:
    """lr and data depend on the step; a def is evaluated with the parameters of each step."""
    batches = np.random.default_rng(3).standard_normal((6, 3, 2))
    rows = ", ".join("[" + ", ".join(str(x.tolist()) for x in batch) + "]" for batch in batches)
    text = f"""
    axis i : 3
    axis d : 2
    data x[step,i,d] = [{rows}]
    data y[i] = [1.0, -0.5, 0.25]
    ket |u[d]> ~ N(0, 1)
    matrix W ~ N(0, 2)
    ket |v> ~ N(0, 1)
    def net(x[d]) {{ return <v|gelu(W tanh(sum[d](x[d] |u[d]>)))> }}
    train steps = 6 {{
        f[i] = net(x[step,i,d])
        minimize mean[i]((f[i] - y[i])^2) / 2
        update all with Adam(lr = 0.1 * cos(pi * step / 20) + 0.01)
    }}
    output g[step] = net(x[1,3,d])
    output last = net(x[1,1,d])
    """
    p = Parameters()
    p.ket("u", N, 2)
    p.matrix("W", N, N, variance=2)
    p.ket("v", N)

    def net(x: np.ndarray) -> Any:
        h = torch.tanh(torch.tensor(x) @ p["u"])
        return bracket(p["v"], torch.nn.functional.gelu(h @ p["W"].T))

    wanted = train(
        p, lambda _, k: squares(net(batches[k])), lambda _, k: {"g": net(batches[1, 2]), "last": net(batches[1, 0])},
        [(["u", "W", "v"], adam(1.0))], 6, rate=lambda k: 0.1 * math.cos(math.pi * k / 20) + 0.01,
    )  # fmt: skip
    wanted["last"] = wanted["last"][-1]
    compare(text, N, wanted)


@pytest.mark.parametrize("call", ["SGD(lr = 0.2, weight_decay = 0.1)", "Adam(lr = 0.05)"])
def test_one_matrix_in_both_directions(call: str) -> None:
    text = f"""{HEAD}
    ket |u[d]> ~ N(0, 1)
    matrix W ~ N(0, 1)
    ket |v> ~ N(0, 1)
    def net(x[d]) {{
        |h> = sum[d](x[d] |u[d]>)
        for k in 1..2 {{ |h> = |h> + W^T tanh(W |h>) }}
        return <v|W|h>
    }}
    train steps = 4 {{
        minimize mean[i]((net(xi[i,d]) - y[i])^2) / 2
        update all with {call}
    }}
    output f[step,i] = net(xi[i,d])
    output t[step] = <v|W^T W|v>
    """
    p = Parameters()
    p.ket("u", N, 2)
    p.matrix("W", N, N)
    p.ket("v", N)

    def net() -> Any:
        h, w = torch.tensor(XI) @ p["u"], p["W"]
        for _ in range(2):
            h = h + torch.tanh(h @ w.T) @ w
        return bracket(p["v"], h @ w.T)

    make = sgd(0.2, weight_decay=0.1) if call.startswith("SGD") else adam(0.05)
    shown = lambda _, k: {"f": net(), "t": bracket(p["W"] @ p["v"], p["W"] @ p["v"])}  # noqa: E731
    compare(text, N, train(p, lambda _, k: squares(net()), shown, [(["u", "W", "v"], make)], 4))


def test_two_widths() -> None:
    """R : m x n with ρ = m/n = 1/2 and 4, transposed too; a family over which one product runs."""
    text = f"""{HEAD}
    width m = 4
    width k = 0.5
    axis l : 2
    ket |u[d]> ~ N(0, 1)
    matrix R : m x n ~ N(0, 1)
    matrix S[l] : k x m ~ N(0, 2)
    ket |v> : k ~ N(0, 1)
    def net(x[d]) {{
        |h> = tanh(R sum[d](x[d] |u[d]>))
        |z> = R^T |h>
        |q> = sum[l](l * sin(S[l] |h>))
        return <v|q> + <z|u[1]>
    }}
    train steps = 4 {{
        minimize mean[i]((net(xi[i,d]) - y[i])^2) / 2
        update |u>, R with SGD(lr = 0.1, momentum = 0.5)
        update S, |v> with AdamW(lr = 0.05)
    }}
    output f[step,i] = net(xi[i,d])
    """
    m, k = 4 * N, N // 2
    p = Parameters()
    p.ket("u", N, 2)
    p.matrix("R", m, N)
    p.matrix("S", k, m, 2, variance=2)
    p.ket("v", k)

    def net() -> Any:
        h = torch.tanh(torch.tensor(XI) @ p["u"] @ p["R"].T)
        z = h @ p["R"]
        q = sum((1 + j) * torch.sin(h @ p["S"][j].T) for j in range(2))
        return bracket(p["v"], q) + bracket(z, p["u"][0])

    groups = [(["u", "R"], sgd(0.1, momentum=0.5)), (["S", "v"], lambda x: torch.optim.AdamW(x, lr=0.05))]
    compare(text, N, train(p, lambda _, k: squares(net()), lambda _, k: {"f": net()}, groups, 4))


@pytest.mark.parametrize("clip", [0.05, 100.0])
def test_clipping(clip: float) -> None:
    text = f"""{HEAD}
    axis l : 2
    ket |u[d]> ~ N(0, 1)
    matrix A[l] ~ N(0, 2)
    ket |v> ~ N(0, 1)
    scalar c = 1
    def net(x[d]) {{
        |h> = sum[d](x[d] |u[d]>)
        for k in 1..2 {{ |h> = A[k] relu(|h>) }}
        return <v|tanh(h)> + c
    }}
    train steps = 4 {{
        minimize mean[i]((net(xi[i,d]) - y[i])^2) / 2 clip {clip}
        update all with SGD(lr = 2)
    }}
    output f[step,i] = net(xi[i,d])
    """
    p = Parameters()
    p.ket("u", N, 2)
    p.matrix("A", N, N, 2, variance=2)
    p.ket("v", N)
    p.scalar("c", 1.0)

    def net() -> Any:
        h = torch.tensor(XI) @ p["u"]
        for k in range(2):
            h = torch.relu(h) @ p["A"][k].T
        return bracket(p["v"], torch.tanh(h)) + p["c"]

    wanted = train(
        p, lambda _, k: squares(net()), lambda _, k: {"f": net()}, [(list(p.entries), sgd(2.0))], 4, clip=clip
    )
    compare(text, N, wanted)


def test_members_have_their_own_updates() -> None:
    """`update A[2]` moves one member; what no update names stays."""
    text = f"""{HEAD}
    axis l : 3
    ket |u[d]> ~ N(0, 1)
    matrix A[l] ~ N(0, 2)
    ket |b[l]> = 0
    ket |v> ~ N(0, 1)
    def net(x[d]) {{
        |h> = sum[d](x[d] |u[d]>)
        for k in 1..3 {{ |h> = A[k] tanh(|h>) + |b[k]> }}
        return <v|h>
    }}
    train steps = 4 {{
        minimize mean[i]((net(xi[i,d]) - y[i])^2) / 2
        update A[2], |b> with Adam(lr = 0.05)
        update A[3], |u[1]> with SGD(lr = 0.3)
    }}
    output f[step,i] = net(xi[i,d])
    output b[step,l] = <b[l]|b[l]>
    """
    p = Parameters()
    p.ket("u", N, 2)
    p.ket("b", N, 3, std=0.0)
    p.ket("v", N)
    drawn = Parameters()
    drawn.matrix("A", N, N, 3, variance=2)
    for k in range(3):  # torch updates whole tensors: one for each member
        p._add(f"A{k}", drawn.entries["A"][k].detach().numpy(), N * N)
        p.columns[f"A{k}"] = N
    for d in range(2):
        p._add(f"u{d}", p.entries["u"][d].detach().numpy(), N)

    def net() -> Any:
        h = torch.tensor(XI[:, :1]) * p["u0"] + torch.tensor(XI[:, 1:]) * p["u1"]
        for k in range(3):
            h = torch.tanh(h) @ p[f"A{k}"].T + p["b"][k]
        return bracket(p["v"], h)

    shown = lambda _, k: {"f": net(), "b": bracket(p["b"], p["b"])}  # noqa: E731
    groups = [(["A1", "b"], adam(0.05)), (["A2", "u0"], sgd(0.3))]
    compare(text, N, train(p, lambda _, k: squares(net()), shown, groups, 4))


def test_embeddings_attention_and_normalisation() -> None:
    """A small transformer: tokens choose embeddings, softmax attention, layer norm, a family of matrices."""
    text = """
    axis s, t : 4
    axis w : 5
    axis i : 2
    data tok[i,s] = [[1, 3, 2, 3], [5, 5, 1, 4]]
    data y[i] = [1.0, -1.0]
    ket |e[w]> ~ N(0, 1)
    ket |pos[s]> ~ N(0, 0.25)
    matrix K ~ N(0, 1)
    matrix Q ~ N(0, 1)
    matrix V ~ N(0, 1)
    ket |v> ~ N(0, 1)
    ket |gain> = 1
    def net(tk[s]) {
        |x[s]> = |e[tk[s]]> + |pos[s]>
        |k[s]> = K |x[s]>
        |q[s]> = Q |x[s]>
        a[s,t] = softmax[t](<q[s]|k[t]> + log(step(s - t + 1/2) + 0.0001))
        |z[s]> = |x[s]> + sum[t](a[s,t] * (V |x[t]>))
        |z[s]> = |gain> * (|z[s]> - <z[s]>) / sqrt(<z[s]|z[s]> - <z[s]>^2 + 0.01)
        return mean[s](<v|gelu(z[s])>)
    }
    train steps = 3 {
        minimize mean[i]((net(tok[i,s]) - y[i])^2)
        update all with Adam(lr = 0.05)
    }
    output f[step,i] = net(tok[i,s])
    """
    tokens = np.array([[1, 3, 2, 3], [5, 5, 1, 4]]) - 1
    p = Parameters()
    p.ket("e", N, 5)
    p.ket("pos", N, 4, std=0.5)
    for name in "KQV":
        p.matrix(name, N, N)
    p.ket("v", N)
    p.ket("gain", N, std=0.0, mean=1.0)
    mask = torch.log(torch.tril(torch.ones(4, 4)) + 0.0001)

    def net() -> Any:
        x = p["e"][torch.tensor(tokens)] + p["pos"]
        k, q, v = (x @ p[name].T for name in "KQV")
        a = torch.softmax(q @ k.swapaxes(-1, -2) / N + mask, -1)
        z = torch.nn.functional.layer_norm(x + a @ v, (N,), p["gain"], eps=0.01)
        return bracket(p["v"], torch.nn.functional.gelu(z)).mean(-1)

    def loss(_: Parameters, k: int) -> Any:
        return ((net() - torch.tensor([1.0, -1.0])) ** 2).mean()

    compare(text, N, train(p, loss, lambda _, k: {"f": net()}, [(list(p.entries), adam(0.05))], 3))


def test_recurrent_network_through_time() -> None:
    text = """
    axis s : 4
    data x[s] = [0.5, -1.0, 0.3, 0.8]
    ket |u> ~ N(0, 1)
    ket |b> = 0
    matrix W ~ N(0, 1)
    ket |v> ~ N(0, 1)
    def net(x[s]) {
        |h[1]> = tanh(x[1] |u> + |b>)
        for s in 2..4 { |h[s]> = tanh(W |h[s-1]> + x[s] |u> + |b>) }
        return sum[s](<v|h[s]> / s)
    }
    train steps = 4 {
        minimize (net(x[s]) - 1)^2
        update all with RMSprop(lr = 0.02)
    }
    output f[step] = net(x[s])
    """
    p = Parameters()
    p.ket("u", N)
    p.ket("b", N, std=0.0)
    p.matrix("W", N, N)
    p.ket("v", N)

    def net() -> Any:
        h, total = torch.zeros(N), 0
        for k, x in enumerate([0.5, -1.0, 0.3, 0.8]):
            h = torch.tanh(p["W"] @ h + x * p["u"] + p["b"])
            total = total + bracket(p["v"], h) / (k + 1)
        return total

    groups = [(list(p.entries), lambda x: torch.optim.RMSprop(x, lr=0.02))]
    compare(text, N, train(p, lambda _, k: (net() - 1) ** 2, lambda _, k: {"f": net()}, groups, 4))


def test_quantities_of_the_loop() -> None:
    """Gradients and norms bound in the loop, read over `step`; a parameter that is a family of scalars."""
    text = f"""{HEAD}
    ket |u[d]> ~ N(0, 1)
    ket |v> ~ N(0, 1)
    scalar c[i] = 0.5
    train steps = 3 {{
        f[i] = c[i] * <v|erf(sum[d](xi[i,d] |u[d]>))>
        loss = mean[i]((f[i] - y[i])^2) / 2
        minimize loss
        |dv> = grad(loss, |v>)
        slope = <dv|dv>
        update |u>, |v>, c with SGD(lr = 0.5, momentum = 0.9, nesterov = 1)
    }}
    output loss[step]
    output slope[step]
    output cs[step,i] = c[i]
    output kernel[step,d] = <u[d]|u[d]>
    """
    p = Parameters()
    p.ket("u", N, 2)
    p.ket("v", N)
    p.scalar("c", [0.5, 0.5, 0.5])

    def loss(p: Parameters, _: int = 0) -> Any:
        return squares(p["c"] * bracket(p["v"], torch.erf(torch.tensor(XI) @ p["u"])))

    def shown(p: Parameters, k: int) -> dict[str, Any]:
        (slope,) = p.gradients(loss(p), ["v"])
        return {"loss": loss(p), "slope": bracket(slope, slope), "cs": p["c"], "kernel": bracket(p["u"], p["u"])}

    groups = [(["u", "v", "c"], sgd(0.5, momentum=0.9, nesterov=True))]
    compare(text, N, train(p, loss, shown, groups, 3))


def test_penalty_on_a_gradient_and_kernel_over_steps() -> None:
    """The loss holds a gradient by a trained matrix; the tangent kernel moves with the features."""
    text = f"""{HEAD}
    ket |u[d]> ~ N(0, 1)
    matrix W ~ N(0, 1)
    ket |v> ~ N(0, 1)
    def net(x[d]) {{ return <v|tanh(W sum[d](x[d] |u[d]>))> }}
    train steps = 4 {{
        loss = mean[i]((net(xi[i,d]) - y[i])^2) / 2
        |g> = grad(loss, W) |u[1]>
        minimize loss + 0.3 * <g|g>
        update all with Adam(lr = 0.05)
    }}
    output f[step,i] = net(xi[i,d])
    output kernel[step] = sum[i](ntk(net(xi[i,d]), net(xi[i,d])) * i)
    """
    p = Parameters()
    p.ket("u", N, 2)
    p.matrix("W", N, N)
    p.ket("v", N)
    names = ["u", "W", "v"]

    def net() -> Any:
        return bracket(p["v"], torch.tanh(torch.tensor(XI) @ p["u"] @ p["W"].T))

    def loss(_: Parameters, k: int) -> Any:
        plain = squares(net())
        g = p.gradients(plain, ["W"], create_graph=True)[0] @ p["u"][0] / N
        return plain + 0.3 * bracket(g, g)

    def kernel() -> Any:
        total = 0.0
        for i in range(3):
            gradients = p.gradients(net()[i], names)
            total += (i + 1) * sum((g**2).sum() / p.neurons[name] for g, name in zip(gradients, names, strict=True))
        return total

    groups = [(names, adam(0.05))]
    compare(text, N, train(p, loss, lambda _, k: {"f": net(), "kernel": kernel()}, groups, 4))


def test_features_and_states_behind_the_loop() -> None:
    """What is not read over `step` has its last value; the initial one stays at hand under another name."""
    text = f"""{HEAD}
    ket |u[d]> ~ N(0, 1)
    matrix W ~ N(0, 1)
    ket |v> ~ N(0, 1)
    |start> = W |u[1]>
    before = <v|start>
    def net(x[d]) {{ return <v|W tanh(sum[d](x[d] |u[d]>))> }}
    train steps = 3 {{
        minimize mean[i]((net(xi[i,d]) - y[i])^2) / 2
        update all with SGD(lr = 0.4, weight_decay = 0.2)
    }}
    output before
    output moved = <start|(W |u[1]> - |start>)>
    output trace = <v|W^T W|v>
    output f[i] = net(xi[i,d])
    """
    p = Parameters()
    p.ket("u", N, 2)
    p.matrix("W", N, N)
    p.ket("v", N)
    start = (p["W"] @ p["u"][0]).detach()

    def net() -> Any:
        return bracket(p["v"], torch.tanh(torch.tensor(XI) @ p["u"]) @ p["W"].T)

    def shown(_: Parameters, k: int) -> dict[str, Any]:
        image = p["W"] @ p["v"]
        moved = bracket(start, p["W"] @ p["u"][0] - start)
        return {"moved": moved, "trace": bracket(image, image), "f": net(), "before": bracket(p["v"], start)}

    found = train(p, lambda _, k: squares(net()), shown, [(["u", "W", "v"], sgd(0.4, weight_decay=0.2))], 3)
    wanted = {name: values[0 if name == "before" else -1] for name, values in found.items()}
    compare(text, N, wanted)
