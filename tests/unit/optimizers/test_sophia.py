"""Sophia, and gradients of a second loss in bodies: by hand on numbers, by other gradients on networks."""

from __future__ import annotations

import numpy as np
import pytest

import tp_compiler as tpc

STEPS = 7
NOISE = [0.5, -1.2, 0.8, 0.1, -0.4, 1.5, -0.9, 0.3]
NUMBERS = f"""
data z[step] = {NOISE}
scalar a = 0.7
scalar b = -1.3
train steps = {STEPS} {{
    f = a * b + a
    sampled = (f - stop(f + z[step]))^2 / 2
    loss = (f - 1)^2 / 2 + b^2 / 10
    minimize loss
    update a, b with CALL
}}
output path_a[step] = a
output path_b[step] = b
"""


@pytest.mark.parametrize(("k", "rho"), [(1, 0.5), (3, 0.05), (10, 2.0)])
def test_the_published_rule(k: int, rho: float) -> None:
    """Algorithm 3: the curvature of steps 1, k + 1, 2k + 1, ...; f is sampled with the noise of its step."""
    p, m, h, path = np.array([0.7, -1.3]), np.zeros(2), np.zeros(2), []
    lr, beta1, beta2, eps, decay, batch = 0.1, 0.9, 0.8, 0.01, 0.2, 2.0
    for t in range(1, STEPS + 1):
        path.append(p)
        a, b = p
        slope = np.array([b + 1, a])
        g = (a * b + a - 1) * slope + np.array([0, b / 5])
        m = beta1 * m + (1 - beta1) * g
        if t % k == 1 % k:
            h = beta2 * h + (1 - beta2) * batch * (NOISE[t - 1] * slope) ** 2
        p = p - lr * np.clip(m / (rho * h + eps), -1, 1) - lr * decay * p
    call = f"Sophia({lr}, sampled, {batch}, {beta1}, {beta2}, {rho}, {k}, eps = {eps}, weight_decay = {decay})"
    run = tpc.simulate(NUMBERS.replace("CALL", call), width=2, seeds=1)
    np.testing.assert_allclose(np.stack([run["path_a"], run["path_b"]], 1), [*path, p], rtol=1e-10, atol=1e-13)


NETWORK = """
axis i : 3
axis d : 2
axis l : 2
data x[i,d] = [[0.9, -0.4], [-0.7, 1.1], [0.5, 0.8]]
data y[i] = [1.0, -0.5, 0.25]
width m = 2
ket |u[d]> ~ N(0, 1)
matrix A[l] ~ N(0, 1)
matrix W : m x n ~ N(0, 1)
ket |v> : m ~ N(0, 1)
scalar c = 0.7
def net(x[d]) {
    |h> = tanh(sum[d](x[d] |u[d]>))
    for k in 1..2 { |h> = |h> + tanh(A[k] |h>) / 2 }
    return c * <v|tanh(W |h>)>
}
OWN
train steps = 3 {
    f[i] = net(x[i,d])
    first = mean[i]((f[i] - y[i])^2) / 2
    second = mean[i](f[i]^3)
    minimize MINIMIZED
    update all with CALL
}
output f[step,i] = net(x[i,d])
"""


def test_the_gradient_of_a_second_loss_is_that_of_the_first_where_it_is_minimized() -> None:
    """Kets, matrices, families of them, a scalar: p moves by grad(second, p) as if `second` were minimized."""
    own = "optimizer Own(lr, other) { return -lr * (grad(other, p) + 0 * g) }"
    text = NETWORK.replace("OWN", own).replace("MINIMIZED", "first").replace("CALL", "Own(lr = 0.3, other = second)")
    same = NETWORK.replace("OWN", "").replace("MINIMIZED", "second").replace("CALL", "SGD(lr = 0.3)")
    found, wanted = (tpc.simulate(t, width=12, seeds=2)["f"] for t in (text, same))
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
    limits = [tpc.limit(t, samples=256, max_samples=256)["f"] for t in (text, same)]
    np.testing.assert_allclose(*limits, rtol=1e-8, atol=1e-10)


def test_clipping_is_of_the_minimized_loss_alone() -> None:
    own = "optimizer Own(lr, other) { return -lr * (grad(other, p) + 0 * g) }"
    text = NETWORK.replace("OWN", own).replace("MINIMIZED", "first").replace("CALL", "Own(lr = 0.3, other = second)")
    clipped = text.replace("minimize first", "minimize first clip 0.01")
    np.testing.assert_array_equal(*(tpc.simulate(t, width=12, seeds=1)["f"] for t in (text, clipped)))


def test_exponents() -> None:
    """rho times a squared gradient is compared with a gradient."""
    text = NETWORK.replace("OWN", "").replace("MINIMIZED", "first")
    scaling = tpc.scale(text.replace("CALL", "Sophia(lr = 0.1, sampled = second, batch = 3)"))
    adam = tpc.scale(text.replace("CALL", "Adam(lr = 0.1)"))
    for name, row in scaling.main.rows.items():
        figures = {k: row.raw.figures.get(k) for k in ("lr", "eps", "rho")}
        as_adam = adam.main.rows[name].raw.figures
        assert figures["lr"] == as_adam["lr"] and figures["eps"] == as_adam["eps"] == -figures["rho"]
        ours, theirs = scaling.main.constants[name], adam.main.constants[name]
        np.testing.assert_allclose(ours.get("rho", 1) * theirs.get("eps", 1), 1, rtol=1e-12)
