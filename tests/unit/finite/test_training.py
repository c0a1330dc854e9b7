"""The training loop of a finite network: against loops written out in NumPy, and where it must stop."""

from __future__ import annotations

import numpy as np
import pytest

import tp_compiler as tpc
from tests.unit.finite.programs import drawn_ket, drawn_matrix
from tp_compiler.diagnostics import ProgramError
from tp_compiler.finite import updates
from tp_compiler.finite.memory import peak
from tp_compiler.finite.run import samples
from tp_compiler.finite.schedule import plan
from tp_compiler.finite.widths import neurons
from tp_compiler.ir import nodes as ir

N = 30

MLP = """
axis i : 2
axis d : 2
data xi[i,d] = [[0.9, -0.4], [0.3, 1.1]]
data y[i] = [1.0, -0.5]
ket |u[d]> ~ N(0, 1)
matrix W ~ N(0, 2)
ket |v> ~ N(0, 1)
def net(x[d]) { return <v|tanh(W tanh(sum[d](x[d] |u[d]>)))> }
train steps = 4 {
    f[i] = net(xi[i,d])
    loss = mean[i]((f[i] - y[i])^2) / 2
    minimize loss
    update all with OPTIMIZER
}
output f[step,i] = net(xi[i,d])
output loss[step]
output last[i] = net(xi[i,d])
output still = <u[1]|u[1]> - <u[1]|u[1]>
"""
XI, Y = np.array([[0.9, -0.4], [0.3, 1.1]]), np.array([1.0, -0.5])


def one(text: str, width: int = N, **options) -> dict[str, np.ndarray]:
    found = samples(tpc.compile(text), width, 1, **options)
    assert not found.failed, found.failed
    return {name: values[0] for name, values in found.values.items()}


def failures(text: str, width: int = N) -> dict[str, str]:
    return {name: str(d.code) + " " + d.message for name, d in samples(tpc.compile(text), width, 1).failed.items()}


class Written:
    """The network of MLP with its gradients by hand, in raw weights: W = W_0 + Δ/n."""

    def __init__(self) -> None:
        self.u, self.v = drawn_ket("u", N, 2), drawn_ket("v", N)[0]
        self.start, self.delta = drawn_matrix("W", N, N, var=2.0), np.zeros((N, N))

    def forward(self) -> np.ndarray:
        self.x = np.tanh(XI @ self.u)
        self.z = np.tanh(self.x @ (self.start + self.delta / N).T)
        return self.z @ self.v / N

    def gradients(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Natural ones: |dv>, |du[d]>, and the entries Σ dh_α x_β."""
        chi = (self.forward() - Y) / 2
        dh = chi[:, None] * self.v * (1 - self.z**2)
        dx = dh @ (self.start + self.delta / N) * (1 - self.x**2)
        return chi @ self.z, XI.T @ dx, dh.T @ self.x


def test_sgd_written_out() -> None:
    net, f = Written(), []
    for _ in range(4):
        f.append(net.forward())
        dv, du, dw = net.gradients()
        net.v, net.u, net.delta = net.v - 0.5 * dv, net.u - 0.5 * du, net.delta - 0.5 * dw
    f.append(net.forward())
    found = one(MLP.replace("OPTIMIZER", "SGD(lr = 0.5)"))
    np.testing.assert_allclose(found["f"], f, rtol=1e-11)
    np.testing.assert_allclose(found["last"], f[-1], rtol=1e-11)
    np.testing.assert_allclose(found["loss"], ((np.array(f) - Y) ** 2).mean(1) / 2, rtol=1e-11)
    assert found["still"] == 0


def test_adam_written_out_is_entrywise() -> None:
    net, f = Written(), []
    moments = [(0.0, 0.0)] * 3
    for t in range(1, 5):
        f.append(net.forward())
        changes = []
        for k, g in enumerate(net.gradients()):
            m, v = moments[k]
            m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
            moments[k] = m, v
            changes.append(-0.1 * m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.99**t)) + 0.01))
        net.v, net.u, net.delta = net.v + changes[0], net.u + changes[1], net.delta + changes[2]
    f.append(net.forward())
    found = one(MLP.replace("OPTIMIZER", "Adam(lr = 0.1, beta2 = 0.99, eps = 0.01)"))
    np.testing.assert_allclose(found["f"], f, rtol=1e-11)


@pytest.mark.parametrize("entries", [1, 100, 1 << 20])
def test_rows_by_rows_is_the_same(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = MLP.replace("OPTIMIZER", "Lion(lr = 0.05, weight_decay = 0.1)")
    wanted = one(text)
    monkeypatch.setattr(updates, "ENTRIES", entries)
    np.testing.assert_allclose(one(text)["f"], wanted["f"], rtol=1e-12)


def test_single_precision() -> None:
    text = MLP.replace("OPTIMIZER", "Adam(lr = 0.1, eps = 0.01)")
    np.testing.assert_allclose(one(text, dtype="float32")["f"], one(text)["f"], rtol=1e-4, atol=1e-5)


LINEAR = """
data s[step] = [-1, 1, 1, -1]
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 4 {
    f = <v|u>
    minimize (f - s[step])^2 / 2
    update |u> with SGD(lr = 0.1 / (1 + step))
    update |v> with SGD(lr = 0.2)
}
output f[step] = <v|u>
output a[step] = <u|u>
output clock[step] = step + <v|u> - <v|u>
"""


def test_both_parameters_move_at_once() -> None:
    u, v, f, a = drawn_ket("u", N)[0], drawn_ket("v", N)[0], [], []
    for k, s in enumerate([-1, 1, 1, -1]):
        f, a = [*f, u @ v / N], [*a, u @ u / N]
        chi = f[-1] - s
        u, v = u - 0.1 / (1 + k) * chi * v, v - 0.2 * chi * u
    found = one(LINEAR)
    np.testing.assert_allclose(found["f"], [*f, u @ v / N], rtol=1e-12)
    np.testing.assert_allclose(found["a"], [*a, u @ u / N], rtol=1e-12)
    np.testing.assert_allclose(found["clock"], range(5))


def test_what_no_step_changes_is_computed_once() -> None:
    program = tpc.compile(MLP.replace("OPTIMIZER", "SGD(lr = 0.5)"))
    found = plan(program.outputs, program.loop)
    assert found.steps is not None
    moving = {ir.Carry, ir.Clock, ir.Apply, ir.Trace}
    for node in found.before.order:
        assert type(node) not in moving
    for node in [*found.steps.each.order, *found.steps.last.order]:
        assert type(node) in moving or any(n in found.steps.each.order for n in found.needs[node])
    assert len(found.steps.last.order) < len(found.steps.each.order)


def test_states_that_nothing_reads_are_not_kept() -> None:
    """SGD without momentum has no buffer; an output that does not depend on the training runs no loop."""
    program = tpc.compile(MLP.replace("OPTIMIZER", "SGD(lr = 0.5)"))
    found = plan(program.outputs, program.loop)
    assert found.steps is not None and sorted(s.name for s in found.steps.states) == ["W", "|u>", "|v>"]
    with_momentum = tpc.compile(MLP.replace("OPTIMIZER", "SGD(lr = 0.5, momentum = 0.9)"))
    found = plan(with_momentum.outputs, with_momentum.loop)
    assert found.steps is not None and len(found.steps.states) == 6
    text = LINEAR.replace("output a[", "|start> = |u>\noutput start = <start|start>\noutput a[")
    untrained = text.replace("train", "ket |w> ~ N(0, 1)\nnorm = <w|w>\ntrain", 1) + "output norm\n"
    program = tpc.compile(untrained)
    only = [o for o in program.outputs if o.name == "norm"]
    assert plan(only, program.loop).steps is None


def test_matrix_that_is_trained_alone() -> None:
    """Nothing reads the matrix state but its product with a ket."""
    text = """
    ket |u> ~ N(0, 1) frozen
    ket |v> ~ N(0, 1) frozen
    matrix W ~ N(0, 1)
    train steps = 3 {
        f = <v|W|u>
        minimize (f - 1)^2 / 2
        update W with SGD(lr = 0.1)
    }
    output r = <v|W|u>
    """
    u, v, w = drawn_ket("u", N)[0], drawn_ket("v", N)[0], drawn_matrix("W", N, N)
    for _ in range(3):
        f = v @ w @ u / N
        w = w - 0.1 * (f - 1) * np.outer(v, u) / N
    assert one(text)["r"] == pytest.approx(v @ w @ u / N, rel=1e-12)


# -- memory -------------------------------------------------------------------------------------------------
def test_states_count_as_memory() -> None:
    program = tpc.compile(MLP.replace("OPTIMIZER", "Adam(lr = 0.1)"))
    most = peak(plan(program.outputs, program.loop), lambda w: neurons(w, 1000), 1)
    assert 3e6 < most.carried < 3.1e6  # Δ, m and v of W
    assert 4e6 < most.entries < 4.3e6  # and W_0
    with pytest.raises(ProgramError) as caught:
        samples(program, 10_000, 1, max_memory=1e9)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "NX431" and "for the training states" in diagnostic.message


# -- failures ------------------------------------------------------------------------------------------------
DIVERGING = """
ket |u> ~ N(0, 1)
matrix W ~ N(0, 1)
ket |v> ~ N(0, 1)
ket |w> ~ N(0, 1) frozen
train steps = 30 {
    f = <v|(W |u>)^3>
    minimize (f - 1)^2
    update PARAMETERS with SGD(lr = 50)
}
output f[step] = <v|(W |u>)^3>
output end = <v|v>
output sound = <w|w>
"""


@pytest.mark.parametrize("parameters", ["|u>", "W", "all"])
def test_divergence_names_the_step_and_the_state(parameters: str) -> None:
    found = failures(DIVERGING.replace("PARAMETERS", parameters))
    if parameters == "all":
        assert set(found) == {"f", "end"}
    for name in ("f", "end") if parameters == "all" else ("f",):
        assert found[name].startswith("NX417 training diverges in update ")
        assert "overflows" in found[name]
    if parameters != "all":
        assert f": `{parameters}` is no longer finite" in found["f"]
    values = samples(tpc.compile(DIVERGING.replace("PARAMETERS", parameters)), N, 1).values
    assert "sound" in values


def test_divergence_in_an_entry_of_a_matrix() -> None:
    text = """
    ket |u> ~ N(0, 1) frozen
    ket |v> = 0
    matrix W ~ N(0, 1)
    train steps = 3 {
        minimize (<v|W|u> - 1)^2
        update W with Adam(lr = 1, eps = 0)
    }
    output r[step] = <u|W|u>
    """
    assert failures(text)["r"].startswith("NX417 training diverges in update 1: `W` is no longer finite (division")


def test_a_quantity_that_fails_alone_says_when() -> None:
    text = """
    ket |u> ~ N(0, 1)
    train steps = 3 {
        norm = <u|u>
        minimize norm
        update |u> with SGD(lr = 0.25)
        late = log(0.6 - step / 2)
    }
    output norm[step]
    output late[step] = late[step] * norm[step]
    """
    found = samples(tpc.compile(text), N, 1)
    assert set(found.values) == {"norm"}
    assert found.failed["late"].code == "NX413" and found.failed["late"].message.endswith("(after 2 updates)")


def test_what_is_wrong_before_the_training_is_not_blamed_on_it() -> None:
    text = """
    axis i : 2
    data y[i] = [1, -1]
    ket |u> ~ N(0, 1)
    s = sum[i](log(y[i]))
    train steps = 3 {
        minimize (<u|u> - s)^2
        update |u> with SGD(lr = 0.1)
    }
    output a[step] = <u|u>
    """
    assert failures(text)["a"] == "NX413 `log` of a number that is not positive"


def test_what_where_drops_does_no_harm() -> None:
    text = """
    ket |u> ~ N(0, 1)
    train steps = 3 {
        |r> = where(|u>, sqrt(|u>), 0)
        minimize <u|u>
        update |u> with SGD(lr = where(step - 1, 0.1, 0.2))
    }
    output a[step] = <u|u>
    output r[step] = <r|r>
    """
    u = drawn_ket("u", N)[0]
    rates = np.cumprod([1, 0.6, 0.6, 0.8])
    found = one(text)
    np.testing.assert_allclose(found["a"], rates**2 * (u @ u) / N, rtol=1e-12)
    np.testing.assert_allclose(found["r"], rates * np.maximum(u, 0).mean(), rtol=1e-12)


FLOW = """
parametrization ntk
axis i : 2
axis d : 2
data xi[i,d] = [[0.9, -0.4], [0.3, 1.1]]
data y[i] = [1.0, -0.5]
ket |u[d]> ~ N(0, 1)
matrix W ~ N(0, 1)
ket |v> ~ N(0, 1)
def net(x[d]) { return clt <v|tanh(W tanh(sum[d](x[d] |u[d]>)))> }
train CLOCK {
    minimize mean[i]((net(xi[i,d]) - y[i])^2) / 2
    update all with SGD(lr = RATE)
}
output f[i] = net(xi[i,d])
"""


def test_gradient_flow_is_the_limit_of_small_steps() -> None:
    """The error of Euler's steps is first order: at twice as many steps it halves, and Richardson's sum removes it."""
    flow = one(FLOW.replace("CLOCK", "time = [0.5, 1]").replace("RATE", "1"))["f"]
    coarse, fine = (one(FLOW.replace("CLOCK", f"steps = {k}").replace("RATE", str(1 / k)))["f"] for k in (20, 40))
    assert np.abs(coarse - flow).max() > 1e-3, "steps this long differ from the flow"
    assert np.abs(2 * fine - coarse - flow).max() < 1e-4
