"""The exact evaluator of linear networks: against words, fractions, dense recursions and finite networks."""

from __future__ import annotations

import re
import time
from decimal import Decimal, localcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc
from tests.unit.evaluate.words import Words, combined
from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate.interface import Exact, NotExact
from tp_compiler.evaluate.linear import merge as linear_merge
from tp_compiler.evaluate.linear import sparse as linear_sparse
from tp_compiler.evaluate.linear.evaluator import LinearEvaluator


def evaluate(text: str) -> dict[str, Any]:
    """Arrays, Diagnostics or NotExact by output."""
    program = tpc.compile(text)
    evaluator = LinearEvaluator(program, program.outputs)
    found = {o.name: evaluator.output(o) for o in program.outputs}
    return {name: x.value if isinstance(x, Exact) else x for name, x in found.items()}


# ------------------------------------------------------------------------------------------------- one hidden layer
FIGURE_4 = """
data s[step] = [-1,-1,1,-1,1,1,-1,1,1,-1,-1,1,1,-1,-1,-1,1,-1,1,-1]
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 0.01)
train steps = 19 {
    f    = <v|u>
    loss = (f - s[step])^2 / 2
    minimize loss
    update |u>, |v> with SGD(lr = 0.1)
}
output f[step] = <v|u>
output loss[step] = (f[step] - s[step])^2 / 2
"""
SIGNS = [-1, -1, 1, -1, 1, 1, -1, 1, 1, -1, -1, 1, 1, -1, -1, -1, 1, -1, 1, -1]


def test_a_net_of_two_kets_is_exact_to_rounding() -> None:
    """Tensor Programs IV, Figure 4, against the same recursion with 60 digits."""
    losses = []
    with localcontext(prec=60):
        u, v = (Decimal(1), Decimal(0)), (Decimal(0), Decimal(1))
        for s in SIGNS:
            f = u[0] * v[0] + u[1] * v[1] / 100
            losses.append(float((f - s) ** 2 / 2))
            step = (f - s) / 10
            u, v = (u[0] - step * v[0], u[1] - step * v[1]), (v[0] - step * u[0], v[1] - step * u[1])
    found = evaluate(FIGURE_4)
    np.testing.assert_allclose(found["loss"], losses, rtol=1e-14)
    assert abs(found["loss"][19] - 0.468653) < 5e-7
    assert tpc.limit(FIGURE_4).outputs["loss"].method == "exact"


def one_layer(optimizer: str, steps: int, clip: str = "") -> str:
    return f"""
axis i : 3
axis d : 2
axis c : 2
data x[step,i,d] ~ N(0, 1) seed 1
data y[step,i,c] ~ N(0, 1) seed 2
data t[d] = [0.3, -0.6]
ket |u[d]> ~ N(0, 1)
ket |v[c]> ~ N(0.2, 0.25)
ket |b> = 0
def net(x[d]) {{
    |h> = sum[d](x[d] |u[d]>) + |b>
    return <v[c]|h>
}}
train steps = {steps} {{
    f[i,c] = net(x[step,i,d])
    loss = mean[i](sum[c]((f[i,c] - y[step,i,c])^2)) / 2
    minimize loss{clip}
    update all with {optimizer}
}}
output f[step,c] = net(t[d])
output loss[step]
output norm[c] = <v[c]|v[c]>
output mean = <b>
"""


def dense(
    steps: int, clip: float, lr: Any, momentum: float, decay: float, nesterov: bool, dampening: float = 0.0
) -> Any:
    """The same network with the identity matrix for its Gaussians: width 1 + 2 + 2."""
    x, y = (np.random.Generator(np.random.PCG64(s)).normal(size=(steps + 1, 3, 2)) for s in (1, 2))
    t = np.array([0.3, -0.6])
    u, v, b = np.zeros((2, 5)), np.zeros((2, 5)), np.zeros(5)
    u[:, 1:3] = np.eye(2)
    v[:, 0], v[:, 3:5] = 0.2, 0.5 * np.eye(2)
    held = [np.zeros_like(p) for p in (u, v, b)]
    fs, losses = [], []
    for k in range(steps + 1):
        h = x[k] @ u + b
        f = h @ v.T
        fs.append((t @ u + b) @ v.T)
        losses.append(((f - y[k]) ** 2).sum() / 6)
        if k == steps:
            return np.array(fs), np.array(losses), (v**2).sum(axis=1), b[0]
        chi = (f - y[k]) / 3
        signal = chi @ v
        gradients = [x[k].T @ signal, chi.T @ h, signal.sum(axis=0)]
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        scale = min(1.0, clip / (norm + 1e-6)) if clip else 1.0
        new = []
        for p, g, m in zip((u, v, b), gradients, held, strict=True):
            d = scale * g + decay * p
            m *= momentum
            m += d * (1 - dampening if k else 1)
            step = d + momentum * m if nesterov else (m if momentum else d)
            new.append(p - lr(k) * step)
        u, v, b = new
    raise AssertionError


@pytest.mark.parametrize(
    ("optimizer", "clip", "settings"),
    [
        ("SGD(lr = 0.1)", 0.0, (lambda k: 0.1, 0.0, 0.0, False)),
        ("SGD(lr = 0.1 * (1 - step / 12))", 0.0, (lambda k: 0.1 * (1 - k / 12), 0.0, 0.0, False)),
        ("SGD(lr = 0.05, momentum = 0.9)", 0.0, (lambda k: 0.05, 0.9, 0.0, False)),
        ("SGD(lr = 0.05, momentum = 0.9, nesterov = 1, weight_decay = 0.1)", 0.0, (lambda k: 0.05, 0.9, 0.1, True)),
        ("SGD(lr = 0.05, momentum = 0.9, dampening = 0.3)", 0.0, (lambda k: 0.05, 0.9, 0.0, False, 0.3)),
        ("SGD(lr = 0.1)", 0.5, (lambda k: 0.1, 0.0, 0.0, False)),
    ],
)
def test_one_hidden_layer_is_a_small_dense_network(optimizer: str, clip: float, settings: Any) -> None:
    steps = 12
    program = one_layer(optimizer, steps, f" clip {clip}" if clip else "")
    found = evaluate(program)
    f, loss, norm, mean = dense(steps, clip, *settings)
    np.testing.assert_allclose(found["f"], f, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found["loss"], loss, rtol=1e-12)
    np.testing.assert_allclose(found["norm"], norm, rtol=1e-12)
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-12)


# ---------------------------------------------------------------------------------------------------- initial matrices
@pytest.mark.parametrize("ratio", [0.25, 1.0, 4.0])
def test_powers_of_a_matrix_have_narayana_moments(ratio: float) -> None:
    """<x|(WᵀW)^k x> are the moments of the Marchenko-Pastur law, Σ_j N(k, j) ρ^j σ^2k."""
    found = evaluate(f"""
width m = {ratio}
ket |x> ~ N(0, 1)
matrix W : m x n ~ N(0, 2)
|a> = W^T (W |x>)
|b> = W^T (W |a>)
|c> = W^T (W |b>)
output m1 = <x|a>
output m2 = <x|b>
output m3 = <x|c>
output m4 = <a|c>
""")
    narayana = {1: [1], 2: [1, 1], 3: [1, 3, 1], 4: [1, 6, 6, 1]}
    for k, row in narayana.items():
        moment = 2.0**k * sum(n * ratio ** (j + 1) for j, n in enumerate(row))
        np.testing.assert_allclose(found[f"m{k}"], moment, rtol=1e-13)


def deep(optimizer: str, steps: int, ratio: float = 1.0) -> str:
    return f"""
width m = {ratio}
axis i : 2
axis d : 2
data x[i,d] = [[1, 0.5], [-0.3, 0.8]]
data y[i] = [1, -1]
ket |u[d]> ~ N(0, 1)
ket |v> ~ N(0, 0.5)
matrix W : m x n ~ N(0, 1)
matrix V : n x m ~ N(0, 0.7)
train steps = {steps} {{
    |h[i]> = V (W sum[d](x[i,d] |u[d]>))
    f[i] = <v|h[i]>
    loss = mean[i]((f[i] - y[i])^2) / 2
    minimize loss
    update all with {optimizer}
}}
output f[step,i] = f[step,i]
output back = <v|V (W (W^T (V^T |v>)))>
"""


def by_words(steps: int, ratio: float, lr: float) -> np.ndarray:
    """The deep network above under SGD, with every ket a dictionary of words."""
    space = Words({"u1": 1, "u2": 1, "v": 0.5}, {"W": (1.0, ratio), "V": (0.7, 1 / ratio)})
    x, y = np.array([[1, 0.5], [-0.3, 0.8]]), np.array([1, -1])
    u, v = [space.ket("u1"), space.ket("u2")], space.ket("v")
    learned: dict[str, list[Any]] = {"W": [], "V": []}

    def times(name: str, ket: Any, transposed: bool = False) -> Any:
        _, rho = space.matrices[name]
        terms = [(1.0, space.apply(name, ket, transposed))]
        for c, left, right in learned[name]:
            if transposed:
                terms.append((rho * c * space.bracket(left, ket), right))
            else:
                terms.append((c * space.bracket(right, ket), left))
        return combined(*terms)

    values = []
    for _ in range(steps + 1):
        g = [combined(*zip(row, u, strict=True)) for row in x]
        a = [times("W", k) for k in g]
        h = [times("V", k) for k in a]
        f = np.array([space.bracket(v, k) for k in h])
        values.append(f)
        chi = (f - y) / 2
        da = [combined((ratio, times("V", combined((c, v)), True))) for c in chi]  # |da> = ρ⁻¹ Vᵀ|dh>, ρ = rows/cols
        dg = [combined((1 / ratio, times("W", k, True))) for k in da]
        new_u = [combined((1.0, u[d]), *((-lr * x[i, d], dg[i]) for i in range(2))) for d in range(2)]
        new_v = combined((1.0, v), *((-lr * chi[i], h[i]) for i in range(2)))
        learned["W"] += [(-lr, da[i], g[i]) for i in range(2)]
        learned["V"] += [(-lr * chi[i], v, a[i]) for i in range(2)]
        u, v = new_u, new_v
    return np.array(values)


@pytest.mark.parametrize("ratio", [1.0, 2.0])
def test_deep_networks_follow_the_words(ratio: float) -> None:
    found = evaluate(deep("SGD(lr = 0.2)", 4, ratio))
    np.testing.assert_allclose(found["f"], by_words(4, ratio, 0.2), rtol=1e-12, atol=1e-13)


def test_a_tied_matrix_follows_the_words() -> None:
    """f = <v|WᵀW|u>: the gradient by W has a part from either use."""
    found = evaluate("""
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 0.5)
matrix W ~ N(0, 1)
train steps = 4 {
    |a> = W |u>
    f = <v|W^T|a>
    minimize (f - 1)^2 / 2
    update all with SGD(lr = 0.1)
}
output f[step]
""")["f"]
    space = Words({"u": 1, "v": 0.5}, {"W": (1.0, 1.0)})
    u, v = space.ket("u"), space.ket("v")
    learned: list[Any] = []

    def times(ket: Any, transposed: bool = False) -> Any:
        parts = [(c * space.bracket(a if transposed else b, ket), b if transposed else a) for c, a, b in learned]
        return combined((1.0, space.apply("W", ket, transposed)), *parts)

    for value in found:
        a, da = times(u), times(v)
        f = space.bracket(da, a)
        assert value == pytest.approx(f, rel=1e-12, abs=1e-14)
        step = -0.1 * (f - 1)
        new_u, new_v = combined((1.0, u), (step, times(da, True))), combined((1.0, v), (step, times(a, True)))
        learned += [(step, da, u), (step, a, v)]
        u, v = new_u, new_v


def chain(family: bool, updated: str) -> str:
    """Two matrices, or a family of two, one after the other and side by side."""
    first, second = ("A[1]", "A[2]") if family else ("V", "W")
    declared = "axis l : 2\nmatrix A[l] ~ N(0, 1)" if family else "matrix V ~ N(0, 1)\nmatrix W ~ N(0, 1)"
    both = "sum[l](A[l] |h[i]>)" if family else "V |h[i]> + W |h[i]>"
    return f"""
axis i : 2
data x[i] = [1, -0.5]
{declared}
ket |u> ~ N(0, 1)
ket |b> ~ N(0.3, 1)
ket |v> ~ N(0, 0.5)
train steps = 4 {{
    |h[i]> = {second} ({first} (x[i] |u> + |b>))
    |z[i]> = {both}
    f[i] = <v|z[i]>
    minimize mean[i]((f[i] - i)^2)
    update |u>, |v> with SGD(lr = 0.05)
    update {updated} with SGD(lr = 0.05, momentum = 0.5, weight_decay = 0.1)
}}
output f[step,i] = f[step,i]
"""


@pytest.mark.parametrize(("members", "matrices"), [("A", "V, W"), ("A[2]", "W"), ("A[1], A[2]", "W, V")])
def test_families_of_matrices_are_matrices(members: str, matrices: str) -> None:
    family, apart = evaluate(chain(True, members)), evaluate(chain(False, matrices))
    np.testing.assert_allclose(family["f"], apart["f"], rtol=1e-12)
    assert np.ptp(family["f"], axis=0).min() > 0.1


def network(n: int, seed: int, steps: int, lr: float, momentum: float, decay: float) -> np.ndarray:
    """A real network of width n under torch's SGD, in natural units: two hidden linear layers."""
    rng = np.random.default_rng(seed)
    x, y = np.array([[1, 0.5], [-0.3, 0.8]]), np.array([1, -1])
    u, v = rng.normal(size=(n, 2)), rng.normal(size=n) * np.sqrt(0.5)
    w, z = rng.normal(size=(n, n)) / np.sqrt(n), rng.normal(size=(n, n)) * np.sqrt(0.7 / n)
    held = [np.zeros_like(p) for p in (u, v, w, z)]
    values = []
    for _ in range(steps + 1):
        g = u @ x.T
        a = w @ g
        h = z @ a
        f = v @ h / n
        values.append(f)
        chi = (f - y) / 2
        dh = np.outer(v, chi)
        da = z.T @ dh
        dg = w.T @ da
        gradients = [dg @ x, h @ chi, da @ g.T / n, dh @ a.T / n]
        new = []
        for p, d, m in zip((u, v, w, z), gradients, held, strict=True):
            m *= momentum
            m += d + decay * p
            new.append(p - lr * m)
        u, v, w, z = new
    return np.array(values)


def test_finite_networks_come_close() -> None:
    """Figure 4 of Tensor Programs IV, deeper: the mean over networks, within the spread and a bias of order 1/n."""
    steps, n, seeds = 6, 512, 12
    found = evaluate(deep("SGD(lr = 0.2, momentum = 0.8, weight_decay = 0.05)", steps))["f"]
    runs = np.array([network(n, seed, steps, 0.2, 0.8, 0.05) for seed in range(seeds)])
    spread = runs.std(axis=0, ddof=1) / np.sqrt(seeds)
    z = (runs.mean(axis=0) - found) / (spread + 1 / n)
    assert np.abs(z).max() < 4, z
    assert np.abs(found[-1]).max() > 0.2  # it has learned something


# ------------------------------------------------------------------------------------------------------- embeddings
def cbow(optimizer: str, steps: int = 8) -> str:
    return f"""
axis v, w : 7
axis b : 2
axis c : 3
axis k : 2
data words[step,b,c] = {(np.arange(6 * (steps + 1)).reshape(steps + 1, 2, 3) * 5 % 7 + 1).tolist()}
data targets[step,b,k] = {(np.arange(4 * (steps + 1)).reshape(steps + 1, 2, 2) * 3 % 7 + 1).tolist()}
data y[k] = [1, 0]
ket |e[v]> ~ N(0, 1)
ket |o[v]> ~ N(0, 0.1)
train steps = {steps} {{
    |h[b]> = mean[c](|e[words[step,b,c]]>)
    f[b,k] = <h[b]|o[targets[step,b,k]]>
    loss = sum[b](sum[k](log(1 + exp(f[b,k])) - y[k] * f[b,k]))
    minimize loss
    update |e>, |o> with {optimizer}
}}
output loss[step]
output gram[v,w] = <e[v]|e[w]>
output cross[v,w] = <e[v]|o[w]>
"""


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_word_embeddings_are_a_small_dense_network(
    decay: float, momentum: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Continuous bag of words with the identity for its Gaussians, updated in place and anew."""
    steps, size = 8, 7
    words = np.arange(6 * (steps + 1)).reshape(steps + 1, 2, 3) * 5 % 7
    targets = np.arange(4 * (steps + 1)).reshape(steps + 1, 2, 2) * 3 % 7
    e, o = np.eye(size, 2 * size), np.sqrt(0.1) * np.eye(size, 2 * size, k=size)
    held = [np.zeros_like(e), np.zeros_like(o)]
    losses = []
    for k in range(steps + 1):
        h = e[words[k]].mean(axis=1)
        f = np.einsum("bx,bkx->bk", h, o[targets[k]])
        losses.append((np.log1p(np.exp(f)) - f * [1, 0]).sum())
        if k < steps:
            chi = 1 / (1 + np.exp(-f)) - [1, 0]
            de, do = decay * e, decay * o
            np.add.at(do, targets[k], chi[:, :, None] * h[:, None, :])
            np.add.at(de, words[k], np.einsum("bk,bkx->bx", chi, o[targets[k]])[:, None, :] / 3)
            for m, d in zip(held, (de, do), strict=True):
                m *= momentum
                m += d
            e, o = e - 0.3 * held[0], o - 0.3 * held[1]
    text = cbow(f"SGD(lr = 0.3, momentum = {momentum}, weight_decay = {decay})")
    for large in (1, 1000):
        monkeypatch.setattr(linear_sparse, "LARGE", large)
        program = tpc.compile(text)
        run = LinearEvaluator(program, program.outputs)
        assert run.run is not None and bool(run.run.code.sparse) == (large == 1)
        np.testing.assert_allclose(run.values["loss"], losses, rtol=1e-12)
        np.testing.assert_allclose(run.values["gram"], e @ e.T, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(run.values["cross"], e @ o.T, rtol=1e-12, atol=1e-14)


def test_states_that_read_one_another_change_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place or anew: every state sees the values of the others before the step."""
    optimizer = """
optimizer Lagging(lr) {
    state z = p
    state m = 0
    m := 0.5 * m + g + 0.01 * z
    z := p
    return -lr * (m + 0.1 * z)
}
"""
    text = optimizer + cbow("Lagging(lr = 0.2)") + "output third[w] = <e[3]|e[w]>\n"
    monkeypatch.setattr(linear_sparse, "LARGE", 1)
    in_place = evaluate(text)
    monkeypatch.setattr(linear_sparse, "LARGE", 1000)
    anew = evaluate(text)
    for name, value in anew.items():
        np.testing.assert_allclose(in_place[name], value, rtol=1e-11, atol=1e-14, err_msg=name)


def test_a_state_that_shrinks_away_keeps_its_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The factor kept with a state is multiplied in before it underflows."""
    monkeypatch.setattr(linear_sparse, "LARGE", 1)
    text = cbow("SGD(lr = 0.999999, weight_decay = 1)", 60)
    in_place = evaluate(text)
    monkeypatch.setattr(linear_sparse, "LARGE", 1000)
    anew = evaluate(text)
    np.testing.assert_allclose(in_place["gram"], anew["gram"], rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(in_place["loss"], anew["loss"], rtol=1e-12)


# ------------------------------------------------------------------------------------------------ multiplying out
ADAPTED = """
axis t : 3
axis s, q : 2
axis d : 4
axis c : 2
data a[step,t,s,d] ~ N(0, 1) seed 1
data b[step,t,q,d] ~ N(0, 1) seed 2
data y[step,t,s,c] ~ N(0, 1) seed 3
data x[step,t,q,c] ~ N(0, 1) seed 4
ket |u[d]> ~ N(0, 1)
ket |v[c]> ~ N(0, 0.5)
train steps = 4 {
    |h[t,s]> = sum[d](a[step,t,s,d] |u[d]>)
    chi[t,s,c] = stop(<v[c]|h[t,s]> - y[step,t,s,c]) / 2
    |w[t,d]> = |u[d]> - 0.3 * sum[s](sum[c](chi[t,s,c] * a[step,t,s,d] * |v[c]>))
    |z[t,c]> = |v[c]> - 0.3 * sum[s](chi[t,s,c] * |h[t,s]>)
    f[t,q,c] = <z[t,c]|sum[d](b[step,t,q,d] |w[t,d]>)>
    loss = mean[t](sum[q](sum[c]((f[t,q,c] - x[step,t,q,c])^2)))
    minimize loss
    update all with SGD(lr = 0.02, momentum = 0.5)
}
output loss[step]
output f[step,t,q,c]
"""


@pytest.mark.parametrize("text", [ADAPTED, one_layer("SGD(lr = 0.1, momentum = 0.5)", 3), deep("SGD(lr = 0.2)", 3)])
def test_multiplying_out_changes_no_value(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for small in (0.0, 1e300):
        monkeypatch.setattr(linear_merge, "SMALL", small)
        program = tpc.compile(text)
        run = LinearEvaluator(program, program.outputs)
        found.append(run.values)
    assert set(found[0]) == set(found[1])
    for name, value in found[0].items():
        np.testing.assert_allclose(value, found[1][name], rtol=1e-11, atol=1e-13)


# ---------------------------------------------------------------------------------------------- everything of the IR
def test_averages_of_longer_products_go_pair_by_pair() -> None:
    found = evaluate("""
axis i, j : 2
data S[i,j] = [[1, 0.5], [0.5, 2]]
ket |g[i]> ~ N(0.3, S[i,j])
output third = <g[1]|g[2]^2>
output fourth = <g[1]^2|g[2]^2>
output sixth = <g[1]^3|g[1]^3>
output centred = <(|g[1]> - <g[1]>)^4>
""")
    m, a, b, c = 0.3, 1.0, 2.0, 0.5
    assert found["third"] == pytest.approx(m**3 + m * b + 2 * m * c, rel=1e-13)
    fourth = (m * m + a) * (m * m + b) + 2 * c * c + 4 * m * m * c
    assert found["fourth"] == pytest.approx(fourth, rel=1e-13)
    assert found["sixth"] == pytest.approx(m**6 + 15 * m**4 + 45 * m**2 + 15, rel=1e-13)
    assert found["centred"] == pytest.approx(3.0, rel=1e-13)


def test_families_copies_shifts_and_stacks_agree_with_the_formulas() -> None:
    text = """
axis i, j : 3
axis l : 2
axis d, e : 3
data x[i,d] = [[1, 0.5, 0], [-0.3, 0.8, 1], [0.1, 0, 2]]
data tok[i] = [2, 3, 2]
data S[d,e] = [[1, 0.5, 0], [0.5, 2, 0.1], [0, 0.1, 0.7]]
ket |u[d]> ~ N(0.2, S[d,e])
ket |b[l,d]> ~ N(0, 0.3)
ket |c[l,d]> ~ N(0.1, S[d,e])
matrix A[l] ~ N(0, 1.5)
|h[i]> = sum[d](x[i,d] |u[d]>)
|y[l,i]> = A[l] |h[i]> + 0.5
|z[i]> = A[2] |y[1,i]>
|w[l,i]> = A[l]^T |y[l,i]>
|s[i]> = shift[i](|z[i]>, 1)
for k in 1..2 { |q[k,i]> = k |h[i]> + |z[i]> }
|t[i]> = E[1](|h[i]> * |z[i]>@1 * |z[i]>@1)
|r[i]> = (|y[1,i]><h[i]| + 2 |h[i]><y[2,i]|) |z[i]>
output a[i,j] = <w[1,i]|h[j]>
output b2[i,j] = <w[2,i]|w[2,j]>
output c2[i,j] = <z[i]|z[j]>
output d2[i,j] = <s[i]|z[j]>
output e2[i,j] = <t[i]|h[j]>
output f2[i,j] = <r[i]|y[1,j]>
output g2[l,i] = <y[l,i]>
output h2[i,j] = <u[tok[i]]|u[tok[j]]>
output i2[l,d] = <b[l,d]|b[l,d]> + <c[l,d]|c[1,d]>
output j2[i] = <q[1,i]|q[2,i]>
output k2[d,e] = <c[2,d]|c[2,e]>
"""
    found = evaluate(text)
    formulas = tpc.limit(text, method="exact")
    assert set(found) == set(formulas.outputs), formulas.failed
    for name, estimate in formulas.outputs.items():
        np.testing.assert_allclose(found[name], estimate.value, rtol=1e-11, atol=1e-13, err_msg=name)


def test_independence_is_exactly_zero() -> None:
    found = evaluate("""
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
matrix W ~ N(0, 1)
matrix V ~ N(0, 1)
|x> = W (|u> + |v>)
output a = <u|x>
output b = <x|V|x>
output c = <x|W^T|u>
""")
    assert all(value == 0 for value in found.values()), found


# ---------------------------------------------------------------------------------------------------------- refusals
def test_what_is_not_linear_is_refused_by_itself() -> None:
    found = evaluate("""
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 3 {
    f = <v|u>
    minimize (f - 1)^2
    update |u>, |v> with SGD(lr = 0.1)
}
output f[step]
output g[step] = <tanh(u)|v>
output h = max(<u|u>, 2)
""")
    assert isinstance(found["g"], NotExact) and "tanh" in found["g"].reason
    assert np.isfinite(found["f"]).all() and np.isfinite(found["h"]).all()


def test_a_nonlinear_optimizer_is_refused_for_what_it_reaches() -> None:
    found = evaluate("""
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 3 {
    f = <v|u>
    minimize (f - 1)^2
    update |u> with Adam(lr = 0.1)
}
output f[step]
output g = <v|v>
""")
    assert isinstance(found["f"], NotExact)
    assert found["g"] == 1


def test_a_diverging_run_names_the_step() -> None:
    found = evaluate("""
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 100 {
    f = <v|u>
    minimize (f - 1)^2
    update |u>, |v> with SGD(lr = 5)
}
output f[step]
output last = <u|u>
output other[step] = 2 * step
""")
    for name in ("f", "last"):
        assert isinstance(found[name], Diagnostic) and "fails after" in found[name].message, found[name]
    np.testing.assert_array_equal(found["other"], 2 * np.arange(101))


def test_a_singular_matrix_names_the_step() -> None:
    found = evaluate("""
axis i, j : 2
data x[i] = [1, 1]
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 4 {
    K[i,j] = delta[i,j] * (3 - step) + x[i] * x[j]
    f = <v|u>
    minimize (f - 1)^2
    update |u>, |v> with SGD(lr = 0.1)
}
output f[step]
output inverse[step,i,j] = inv[i,j](K[i,j])
""")
    assert isinstance(found["inverse"], Diagnostic) and "after 3 updates" in found["inverse"].message
    assert np.isfinite(found["f"]).all()


# ----------------------------------------------------------------------------------------------------- the whole limit
def test_outputs_of_one_program_go_their_own_ways() -> None:
    text = """
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 3 {
    f = <v|u>
    minimize (f - 1)^2
    update |u>, |v> with SGD(lr = 0.1)
}
output f[step]
output g[step] = <tanh(u)|v>
"""
    run = tpc.limit(text, samples=256)
    assert run.outputs["f"].method == "exact" and not run.outputs["f"].stderr.any()
    assert run.outputs["g"].method == "qmc"
    refused = tpc.limit(text, method="exact").failed["g"]
    assert refused.code == "NX501" and "tanh of a ket" in refused.message


def test_time_is_kept() -> None:
    program = tpc.compile(FIGURE_4)
    run = LinearEvaluator(program, program.outputs, max_time=0.0)
    assert all(isinstance(x, NotExact) and "time" in x.reason for x in run.values.values())


def test_what_is_late_is_sampled_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([0.0, 0.0])  # one for every step; then it is late

    monkeypatch.setattr(
        "tp_compiler.evaluate.linear.run.time", SimpleNamespace(monotonic=lambda: next(readings, np.inf))
    )
    run = tpc.limit(FIGURE_4, samples=64, max_time=1e4)
    assert {o.method for o in run.outputs.values()} == {"qmc"}
    assert all("after 2 steps" in o.note for o in run.outputs.values())
    (warning,) = (w for w in run.warnings if w.code == "NX911")
    assert warning.message.startswith("coefficients had the time that was left, 1e+04 s")
    assert all(f"`{name}`" in warning.message for name in run.outputs)


def test_progress_is_told() -> None:
    program = tpc.compile(FIGURE_4)
    told: list[int] = []
    LinearEvaluator(program, program.outputs, progress=lambda k, n, text: told.append(k))
    assert told == list(range(19))


@pytest.mark.timed
def test_ten_thousand_steps_take_seconds() -> None:
    """A second on one core; and of an embedding of 2,000 words some milliseconds each, whatever the vocabulary."""
    drawn = re.sub(r"data s\[step\] = .*", "data s[step] ~ rademacher(1) seed 1", FIGURE_4)
    text = drawn.replace("steps = 19", "steps = 10000")
    start = time.monotonic()
    assert np.isfinite(evaluate(text)["loss"]).all()
    assert time.monotonic() - start < 30
    text = re.sub(r"output (gram|cross).*", "", cbow("SGD(lr = 0.1, weight_decay = 0.001)", 300))
    start = time.monotonic()
    assert np.isfinite(evaluate(text.replace("v, w : 7", "v, w : 2000"))["loss"]).all()
    assert time.monotonic() - start < 60


def test_a_trained_scalar_is_exact() -> None:
    """A scalar parameter starts at its declared value; a hand-written recursion of the network ⟨v|u⟩x + c."""
    text = (
        "axis i : 2\ndata x[i] = [1, -0.5]\ndata y[i] = [1, 0.3]\nket |u> ~ N(0, 1)\nket |v> ~ N(0, 1)\nscalar c = 0.3\n"
        "train steps = 4 {\n    f[i] = x[i] <v|u> + c\n    minimize mean[i]((f[i] - y[i])^2)\n    update all with SGD(lr = 0.1)\n}\n"
        "output f[step,i]\noutput c\n"
    )
    run = tpc.limit(text, method="exact")
    x, y = np.array([1, -0.5]), np.array([1, 0.3])
    basis, c = np.eye(2), 0.3  # rows: u and v over their initial values
    for k in range(5):
        f = x * (basis[0] @ basis[1]) + c
        np.testing.assert_allclose(run["f"][k], f, rtol=1e-13, atol=1e-15)
        if k < 4:
            chi = f - y
            basis = basis - 0.1 * (chi * x).sum() * basis[::-1]
            c -= 0.1 * chi.sum()
    np.testing.assert_allclose(run["c"], c, rtol=1e-13)
