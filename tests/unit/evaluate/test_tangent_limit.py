"""The neural tangent limit against closed forms and recursions written out in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.linalg import expm

import tp_compiler as tpc
from tp_compiler import driver
from tp_compiler.evaluate.sampling.flow import GradientFlow

HEAD = """
parametrization ntk
axis i, j : 3
axis d : 2
data xi[i,d] = [[1.0, 0.5], [-0.3, 0.8], [0.2, -1.1]]
data y[i] = [1.0, -1.0, 0.5]
data xt[d] = [0.6, 0.4]
ket |u[d]> ~ N(0, 1)
matrix W ~ N(0, 2)
ket |v> ~ N(0, 1)
def net(x[d]) { return clt <v|relu(W relu(sum[d](x[d] |u[d]>)))> }
"""
KERNELS = """
output K[i,j] = ntk(net(xi[i,d]), net(xi[j,d]))
output k[i] = ntk(net(xt[d]), net(xi[i,d]))
"""
Y = np.array([1.0, -1.0, 0.5])


def train(clock: str, optimizer: str, loss: str = "mean[i]((net(xi[i,d]) - y[i])^2) / 2") -> str:
    return f"{HEAD}train {clock} {{ minimize {loss}\n update all with {optimizer} }}\n"


def values(run: Any) -> dict[str, np.ndarray]:
    assert not run.failed, run.failed
    return {name: e.value for name, e in run.outputs.items()}


def kernels() -> tuple[np.ndarray, np.ndarray]:
    found = values(tpc.limit(HEAD + KERNELS))
    return found["K"], found["k"]


OUTPUTS = "output f[step,i] = net(xi[i,d])\noutput g[step] = net(xt[d])\n"


def test_flow_is_kernel_regression() -> None:
    """E f_t = y + exp(-lr K t/3)(0 - y), through the eigendecomposition of K; t = 1e4 is kernel regression."""
    run = tpc.limit(train("time = [0.5, 2, 10000]", "SGD(lr = 0.7)") + OUTPUTS)
    assert run.outputs["f"].method == "exact"
    found = values(run)
    K, k = kernels()
    rates, vectors = np.linalg.eigh(K)
    for t, f, g in zip([0.5, 2, 1e4], found["f"][1:], found["g"][1:], strict=True):
        left = vectors @ np.diag(np.exp(-0.7 * t / 3 * rates)) @ vectors.T
        np.testing.assert_allclose(f, Y - left @ Y, atol=1e-8)
        np.testing.assert_allclose(g, k @ np.linalg.solve(K, Y - left @ Y), atol=1e-8)
    np.testing.assert_allclose(found["g"][-1], k @ np.linalg.solve(K, Y), atol=1e-8)


def test_flow_by_the_integrator_is_the_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    text = train("time = [0.5, 3]", "SGD(lr = 0.7)") + OUTPUTS
    exact = tpc.limit(text)
    monkeypatch.setattr(GradientFlow, "_affine", lambda *_: None)
    stepped = tpc.limit(text)
    for name in exact.outputs:
        np.testing.assert_allclose(stepped.outputs[name].value, exact.outputs[name].value, atol=1e-8)
        np.testing.assert_allclose(stepped.outputs[name].covariance, exact.outputs[name].covariance, atol=1e-8)


def test_flow_under_cross_entropy() -> None:
    """df/dt = -lr K (sigmoid(f) - z)/3, integrated in NumPy by small Runge-Kutta steps, from f_0 = 0."""
    loss = "mean[i](softplus(net(xi[i,d])) - (y[i] + 1) / 2 * net(xi[i,d]))"
    run = tpc.limit(train("time = [1, 3]", "SGD(lr = 0.7)", loss) + OUTPUTS, f0="zero")
    K, _ = kernels()

    def rate(f: np.ndarray) -> np.ndarray:
        return -0.7 / 3 * K @ (1 / (1 + np.exp(-f)) - (Y + 1) / 2)

    f, step, wanted = np.zeros(3), 1e-3, {}
    for n in range(1, 3001):
        a = rate(f)
        b = rate(f + step / 2 * a)
        c = rate(f + step / 2 * b)
        f = f + step / 6 * (a + 2 * b + 2 * c + rate(f + step * c))
        wanted[n] = f
    np.testing.assert_allclose(values(run)["f"][1:], [wanted[1000], wanted[3000]], atol=1e-8)


def test_minibatches() -> None:
    """The outputs at the inputs of every step are one Gaussian vector; each update moves along its own kernel."""
    text = (
        HEAD.replace("data y[i]", "data x[step,d] = [[1.0, 0.5], [-0.3, 0.8], [0.2, -1.1]]\ndata y[step]")
        + "train steps = 3 { minimize (net(x[step,d]) - y[step])^2 / 2\n update all with SGD(lr = 0.2) }\n"
        + "output g[step] = net(xt[d])\n"
    )
    K, k = kernels()
    a = np.zeros(3)
    wanted = [0.0]
    for s in range(3):
        a[s] -= 0.2 * (K[s] @ a - Y[s])
        wanted.append(float(k @ a))
    np.testing.assert_allclose(values(tpc.limit(text))["g"], wanted, atol=1e-10)


def test_decay_of_a_linear_network() -> None:
    """f = vᵀUξ/√n: under decay κ_t = (1 - lr λ)^t the kernel at steps s, t is 2 κ_s κ_t ξ_s·ξ_t."""
    text = """
    parametrization ntk
    ket |u> ~ N(0, 1)
    ket |v> ~ N(0, 1)
    def net(x) { return clt <v|(x |u>)> }
    train steps = 4 { minimize (net(2) - 1)^2 / 2
     update all with SGD(lr = 0.1, weight_decay = 0.5) }
    output f[step] = net(0.5)
    """
    run = tpc.limit(text)
    kept = 0.95 ** np.arange(5)
    a, f = np.zeros(4), []
    for t in range(5):
        f.append(sum(2 * kept[s] * kept[t] * a[s] for s in range(4)) * 0.5 * 2)
        if t < 4:
            at = sum(2 * kept[s] * kept[t] * a[s] for s in range(4)) * 4
            a = 0.95 * a
            a[t] -= 0.1 * (at - 1)
    np.testing.assert_allclose(values(run)["f"], f, atol=1e-10)
    np.testing.assert_allclose(np.diag(run.outputs["f"].covariance)[0], 0.25, atol=1e-10)


def test_sign_with_one_input() -> None:
    """K_sign by the entry formula (trap 8): one step of SignSGD on one input, against plain Monte Carlo."""
    text = """
    parametrization ntk
    axis d : 2
    data a[d] = [1.0, 0.5]
    data b[d] = [0.6, -0.4]
    ket |u[d]> ~ N(0, 1)
    matrix W ~ N(0, 1)
    ket |v> ~ N(0, 1)
    def net(x[d]) { return clt <v|tanh(W tanh(sum[d](x[d] |u[d]>)))> }
    train steps = 1 { minimize (net(a[d]) - 1)^2 / 2
     update all with SignSGD(lr = 0.1) }
    output f[step] = net(b[d])
    """
    found = tpc.limit(text, f0="zero").outputs["f"]
    a, b = np.array([1.0, 0.5]), np.array([0.6, -0.4])
    draw = np.random.default_rng(5)
    m = 400_000
    u = draw.standard_normal((m, 2))
    xa, xb = np.tanh(u @ a), np.tanh(u @ b)
    gram = np.array([[np.mean(xa * xa), np.mean(xa * xb)], [np.mean(xa * xb), np.mean(xb * xb)]])
    h = draw.standard_normal((m, 2)) @ np.linalg.cholesky(gram).T
    za, zb = np.tanh(h).T
    v = draw.standard_normal(m)
    da, db = v * (1 - za**2), v * (1 - zb**2)
    back = np.array([[np.mean(da * da), np.mean(da * db)], [np.mean(da * db), np.mean(db * db)]])
    g = draw.standard_normal((m, 2)) @ np.linalg.cholesky(back).T
    ea, eb = g[:, 0] * (1 - xa**2), g[:, 1] * (1 - xb**2)
    kernel = np.mean(zb * np.sign(za)) + np.mean(db * np.sign(da)) * np.mean(xb * np.sign(xa))
    kernel += np.mean(eb * np.sign(ea)) * (b @ np.sign(a))
    noise = 4 * 3 / m**0.5  # three products of averages of numbers below 1
    assert abs(found.value[1] - 0.1 * kernel) < 0.1 * noise + 4 * float(found.stderr[1])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (train("time = [1]", "SGD(lr = 1)").replace("parametrization ntk", "").replace("clt ", ""), "NX177"),
        (train("time = [2, 1]", "SGD(lr = 1)"), "NX178"),
        (train("time = [1]", "Adam(lr = 1)"), "NX179"),
        (train("time = [1]", "SGD(lr = 1, weight_decay = 0.1)"), "NX179"),
        (train("steps = 2", "SGD(lr = 1, weight_decay = 1)"), "NX176"),
    ],
)
def test_refusals(text: str, code: str) -> None:
    with pytest.raises(tpc.ProgramError, match=code):
        tpc.limit(text + "output f[step,i] = net(xi[i,d])\n")


def test_a_trained_number_inside_of_features_is_refused() -> None:
    run = tpc.limit(biased("steps = 3", "SGD(lr = 0.5)").replace("relu(W", "relu(c W"))
    assert {d.code for d in run.failed.values()} == {"NX504"}
    assert "used inside features" in run.failed["f"].message


@pytest.mark.parametrize("nesterov", [0, 1])
def test_momentum_in_continuous_time_is_the_heavy_ball(nesterov: int) -> None:
    """(f, b)' = (-lr K b, (f - y)/3 - (1 - m) b); with nesterov -lr K (g + m b) in the place of -lr K b."""
    call = f"SGD(lr = 0.5, momentum = 0.8, nesterov = {nesterov})"
    text = train("time = [0.7, 3, 9]", call) + "output f[step,i] = net(xi[i,d])\n"
    K, m = kernels()[0], 0.8
    ahead = np.eye(3) / 3 if nesterov else np.zeros((3, 3))
    system = np.block([[-0.5 * K @ ahead, -0.5 * K * (m if nesterov else 1)], [np.eye(3) / 3, -(1 - m) * np.eye(3)]])
    start = np.concatenate([-Y, np.zeros(3)])
    wanted = [Y + (expm(system * t) @ start)[:3] for t in (0, 0.7, 3, 9)]
    np.testing.assert_allclose(tpc.limit(text)["f"], wanted, atol=1e-8)


def test_momentum_of_networks_of_finite_width_is_the_heavy_ball() -> None:
    """Small steps dt of SGD with rate lr dt² and momentum 1 - (1 - m) dt follow the flow, with an error in dt."""
    ask = "output f[i] = net(xi[i,d])\n"
    flow = tpc.simulate(train("time = [2]", "SGD(lr = 0.5, momentum = 0.8)") + ask, width=12, seeds=1)["f"]

    def steps(k: int) -> np.ndarray:
        dt = 2 / k
        call = f"SGD(lr = {0.5 * dt**2}, momentum = {1 - 0.2 * dt})"
        return tpc.simulate(train(f"steps = {k}", call) + ask, width=12, seeds=1)["f"]

    coarse, fine = steps(25), steps(50)
    assert np.abs(coarse - flow).max() > 4e-3
    assert np.abs(2 * fine - coarse - flow).max() < 2e-3
    assert np.abs(fine - flow).max() < 0.6 * np.abs(coarse - flow).max()


def test_a_flow_has_no_equations() -> None:
    text = train("time = [1]", "SGD(lr = 1)") + "output f[step,i] = net(xi[i,d])\n"
    with pytest.raises(tpc.ProgramError, match="NX180"):
        driver.equations(tpc.compile(text))


def test_the_mean_of_f0_is_zero() -> None:
    text = train("steps = 2", "SignSGD(lr = 0.1)") + "output f[step,i] = net(xi[i,d])\n"
    mean, zero = (tpc.limit(text, f0=start, samples=256)["f"] for start in ("mean", "zero"))
    np.testing.assert_array_equal(mean, zero)


def test_what_does_not_move_is_the_same_at_every_step() -> None:
    run = tpc.limit(train("steps = 3", "SGD(lr = 0.1)") + "output still[step] = <v|v>\n")
    np.testing.assert_allclose(run["still"], np.ones(4), atol=1e-12)


BIASED = HEAD.replace("def net", "scalar c = 0.3\ndef net").replace(" }", " + c }")


def biased(clock: str, optimizer: str, clip: str = "") -> str:
    loss = "mean[i]((net(xi[i,d]) - y[i])^2) / 2"
    return f"{BIASED}train {clock} {{ minimize {loss} {clip}\n update all with {optimizer} }}\n{OUTPUTS}"


def test_an_output_bias_is_trained_in_full() -> None:
    """TP IVb (2.9.11), c = d = 0 for scalars: the kernel is K + 1, of steps and of the flow."""
    K, k = kernels()
    f, g = np.full(3, 0.3), 0.3
    wanted = [(f, g)]
    for _ in range(4):
        chi = 0.5 / 3 * (f - Y)
        f, g = f - (K + 1) @ chi, g - (k + 1) @ chi
        wanted.append((f, g))
    found = values(tpc.limit(biased("steps = 4", "SGD(lr = 0.5)")))
    np.testing.assert_allclose(found["f"], [f for f, _ in wanted], atol=1e-10)
    np.testing.assert_allclose(found["g"], [g for _, g in wanted], atol=1e-10)
    flow = values(tpc.limit(biased("time = [2]", "SGD(lr = 0.5)")))
    left = expm(-0.5 * 2 / 3 * (K + 1)) @ (0.3 - Y)
    np.testing.assert_allclose(flow["f"][1], Y + left, atol=1e-8)


def test_an_output_bias_under_clipping_and_decay() -> None:
    """The norm that clips has the number's gradient in it; decoupled decay shrinks the number as it does weights."""
    K, _ = kernels()
    f, kept = np.full(3, 0.3), 0.3
    for _ in range(3):
        chi = (f - Y) / 3
        scale = min(1.0, 0.2 / (np.sqrt(chi @ (K + 1) @ chi) + 1e-6))
        f = f - 0.5 * scale * (K + 1) @ chi
    found = values(tpc.limit(biased("steps = 3", "SGD(lr = 0.5)", "clip 0.2"), f0="zero"))
    np.testing.assert_allclose(found["f"][-1], f, atol=1e-10)
    alone = biased("steps = 3", "SGD(lr = 0.5, weight_decay = 0.4)").replace("update all", "update c")
    for _ in range(3):
        kept = kept - 0.5 * (np.mean(kept - Y) + 0.4 * kept)
    np.testing.assert_allclose(values(tpc.limit(alone, f0="zero"))["f"][-1], kept, atol=1e-10)


def test_an_output_bias_under_adam() -> None:
    """Alone, as torch.optim.Adam writes it."""
    c, m, v = 0.3, 0.0, 0.0
    for t in range(1, 4):
        g = np.mean(c - Y)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        c -= 0.1 * m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    text = biased("steps = 3", "Adam(lr = 0.1)").replace("update all", "update c")
    np.testing.assert_allclose(values(tpc.limit(text, f0="zero"))["f"][-1], c, atol=1e-9)


def test_the_ntp_written_as_rows_trains_an_output_bias() -> None:
    rows = "{ |u> : a=0, b=0, c=1/2, d=1/2; W : a=1/2, b=0, c=1, d=1; |v> : a=1/2, b=0, c=1/2, d=1/2; c : a=0, b=0, c=POWER }"
    named = biased("steps = 3", "SGD(lr = 0.5)")
    for power, same in (("0", named), ("1/4", named.replace("scalar c", "c"))):
        text = named.replace("parametrization ntk", f"parametrization {rows.replace('POWER', power)}")
        np.testing.assert_allclose(values(tpc.limit(text))["f"], values(tpc.limit(same))["f"], atol=1e-12)


def test_pairs_of_a_matrix_trained_alone() -> None:
    """Adam's first step on W: E[dh_i(a) Q(dh(a)·x(b)) x_i(b)] over independent neurons a, b, by plain sampling in NumPy.

    Rows are v times tanh'(h): kets of one neuron that the plan draws apart.
    """
    text = train("steps = 1", "Adam(lr = 0.3, eps = 0.1)").replace("update all", "update W").replace("relu", "tanh")
    run = tpc.limit(text + "output f[step,i] = net(xi[i,d])\n", f0="zero", samples=2**16, max_samples=2**16)
    rng, m = np.random.default_rng(0), 10**6
    xi = np.array([[1.0, 0.5], [-0.3, 0.8], [0.2, -1.1]])
    x, y = (np.tanh(xi @ rng.standard_normal((2, m))) for _ in range(2))
    h = np.linalg.cholesky(2 * (x @ x.T) / m) @ rng.standard_normal((3, m))
    dh = rng.standard_normal(m) / np.cosh(h) ** 2
    g = -(Y / 3 * dh.T).T
    g = np.einsum("im,im->m", g, y)
    sampled = dh * (-0.3 * g / (np.abs(g) + 0.1)) * y
    found, error = run.outputs["f"].value[1], np.asarray(run.outputs["f"].stderr)[1]
    assert (error < 1e-3).all()
    assert (np.abs(found - sampled.mean(1)) < 4.5 * np.hypot(sampled.std(1) / m**0.5, error)).all()
