"""Every optimizer of the library against torch.optim (or its paper, where that has none): a finite network, 5 steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch.harness import Parameters, bracket, compare, train  # noqa: E402

pytestmark = pytest.mark.torch

N, STEPS = 24, 5
XI = np.array([[0.9, -0.4], [-0.7, 1.1], [0.5, 0.8]])
Y = np.array([1.0, -0.5, 0.25])

MATRICES = """
axis i : 3
axis d : 2
axis l : 2
data xi[i,d] = [[0.9, -0.4], [-0.7, 1.1], [0.5, 0.8]]
data y[i] = [1.0, -0.5, 0.25]
ket |u[d]> ~ N(0, 1)
ket |b> ~ N(0, 0.25)
matrix W ~ N(0, 2)
matrix A[l] ~ N(0, 1)
ket |v> ~ N(0, 1)
scalar c = 0.7
def net(x[d]) {
    |x> = tanh(sum[d](x[d] |u[d]>) + |b>)
    |x> = |x> + tanh(W |x>)
    for k in 1..2 { |x> = |x> + sin(A[k] |x>) / 2 }
    return c * <v|x>
}
train steps = 5 {
    f[i] = net(xi[i,d])
    loss = mean[i]((f[i] - y[i])^2) / 2
    minimize loss
    update all with OPTIMIZER
}
output f[step,i] = net(xi[i,d])
output loss[step]
output cs[step] = c
output norm[step] = <u[1]|u[2]>
"""


def network() -> Parameters:
    p = Parameters()
    p.ket("u", N, 2)
    p.ket("b", N, std=0.5)
    p.matrix("W", N, N, variance=2)
    p.matrix("A", N, N, 2)
    p.ket("v", N)
    p.scalar("c", 0.7)
    return p


def net(p: Parameters) -> Any:
    x = torch.tanh(torch.tensor(XI) @ p["u"] + p["b"])
    x = x + torch.tanh(x @ p["W"].T)
    for k in range(2):
        x = x + torch.sin(x @ p["A"][k].T) / 2
    return p["c"] * bracket(p["v"], x)


def loss(p: Parameters, _: int) -> Any:
    return ((net(p) - torch.tensor(Y)) ** 2).mean() / 2


def shown(p: Parameters, k: int) -> dict[str, Any]:
    return {"f": net(p), "loss": loss(p, k), "cs": p["c"], "norm": bracket(p["u"][0], p["u"][1])}


class Entrywise(torch.optim.Optimizer):
    """p += rule(g, p, states) for optimizers that torch.optim lacks."""

    def __init__(self, params: Any, rule: Callable[..., Any]):
        super().__init__(params, {})
        self.rule = rule

    def step(self, closure: None = None) -> None:
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p += self.rule(p.grad, p, self.state[p])


def sign_sgd(lr: float, weight_decay: float = 0) -> Callable[..., Any]:
    return lambda g, p, _: -lr * (torch.sign(g) + weight_decay * p)


def signum(lr: float, momentum: float = 0.9, weight_decay: float = 0) -> Callable[..., Any]:
    def rule(g: Any, p: Any, state: Any) -> Any:
        state["m"] = momentum * state.get("m", torch.zeros_like(p)) + (1 - momentum) * g
        return -lr * (torch.sign(state["m"]) + weight_decay * p)

    return rule


def lion(lr: float, beta1: float = 0.9, beta2: float = 0.99, weight_decay: float = 0) -> Callable[..., Any]:
    def rule(g: Any, p: Any, state: Any) -> Any:
        m = state.get("m", torch.zeros_like(p))
        state["m"] = beta2 * m + (1 - beta2) * g
        return -lr * (torch.sign(beta1 * m + (1 - beta1) * g) + weight_decay * p)

    return rule


def adam_root(lr: float, eps_root: float, weight_decay: float = 0) -> Callable[..., Any]:
    """Adam with the paper's ε² inside the root."""

    def rule(g: Any, p: Any, state: Any) -> Any:
        t = state["t"] = state.get("t", 0) + 1
        state["m"] = 0.9 * state.get("m", torch.zeros_like(p)) + 0.1 * g
        state["v"] = 0.999 * state.get("v", torch.zeros_like(p)) + 0.001 * g**2
        m, v = state["m"] / (1 - 0.9**t), state["v"] / (1 - 0.999**t)
        return -lr * m / (torch.sqrt(v + eps_root) + 1e-8) - lr * weight_decay * p

    return rule


def adam_atan2(
    lr: float, beta1: float = 0.9, beta2: float = 0.99, a: float = 1.27, b: float = 1, weight_decay: float = 0
) -> Callable[..., Any]:
    def rule(g: Any, p: Any, state: Any) -> Any:
        t = state["t"] = state.get("t", 0) + 1
        state["m"] = beta1 * state.get("m", torch.zeros_like(p)) + (1 - beta1) * g
        state["v"] = beta2 * state.get("v", torch.zeros_like(p)) + (1 - beta2) * g**2
        angle = torch.atan2(state["m"] / (1 - beta1**t), b * torch.sqrt(state["v"] / (1 - beta2**t)))
        return -lr * a * angle - lr * weight_decay * p

    return rule


def adopt(
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.9999,
    eps: float = 1e-6,
    weight_decay: float = 0,
    power: float = 0.25,
) -> Callable[..., Any]:
    """As published, with decoupled decay."""

    def rule(g: Any, p: Any, state: Any) -> Any:
        k = state["k"] = state.get("k", -1) + 1
        if k == 0:
            state["m"], state["v"] = torch.zeros_like(p), g**2
            return torch.zeros_like(p)
        state["m"].lerp_((g / state["v"].sqrt().clamp(eps)).clamp(-(k**power), k**power), 1 - beta1)
        state["v"].mul_(beta2).addcmul_(g, g, value=1 - beta2)
        return -lr * (state["m"] + weight_decay * p)

    return rule


def schedule_free(
    lr: float, beta: float = 0.9, beta2: float | None = None, eps: float = 1e-8, weight_decay: float = 0,
    warmup: int = 1, r: float = 0, power: float = 2, last: int = 0,
) -> Callable[..., Any]:  # fmt: skip
    """Algorithm 1 of Defazio et al. with its three sequences x, y, z; without `beta2` the one of SGD."""

    def rule(g: Any, p: Any, state: Any) -> Any:
        t = state["t"] = state.get("t", 0) + 1
        rate, d = lr * min(1, t / warmup), g
        if beta2 is not None:
            state["v"] = beta2 * state.get("v", torch.zeros_like(p)) + (1 - beta2) * g**2
            rate, d = rate * (1 - beta2**t) ** 0.5, g / (torch.sqrt(state["v"]) + eps)
        weight = t**r * rate**power
        state["sum"] = state.get("sum", 0.0) + weight
        z = state.get("z", p.clone()) - rate * (d + weight_decay * p)
        x = torch.lerp(state.get("x", p.clone()), z, weight / state["sum"])
        state["x"], state["z"] = x, z
        return (x if t == last else (1 - beta) * z + beta * x) - p

    return rule


T = torch.optim
ROWS: dict[str, Callable[[list[Any]], Any]] = {
    "SGD()": lambda p: T.SGD(p),
    "SGD(lr = 0.3)": lambda p: T.SGD(p, lr=0.3),
    "SGD(lr = 0.3, weight_decay = 0.2)": lambda p: T.SGD(p, lr=0.3, weight_decay=0.2),
    "SGD(lr = 0.3, momentum = 0.9)": lambda p: T.SGD(p, lr=0.3, momentum=0.9),
    "SGD(lr = 0.3, momentum = 0.9, dampening = 0.4)": lambda p: T.SGD(p, lr=0.3, momentum=0.9, dampening=0.4),
    "SGD(lr = 0.3, momentum = 0.8, nesterov = 1, weight_decay = 0.1)": lambda p: T.SGD(
        p, lr=0.3, momentum=0.8, nesterov=True, weight_decay=0.1
    ),
    "SGD(lr = 0.3, momentum = 0.8, dampening = 0.5, weight_decay = 0.1)": lambda p: T.SGD(
        p, lr=0.3, momentum=0.8, dampening=0.5, weight_decay=0.1
    ),
    "Adam()": lambda p: T.Adam(p),
    "Adam(lr = 0.05, beta1 = 0.8, beta2 = 0.95, eps = 0.01)": lambda p: T.Adam(p, lr=0.05, betas=(0.8, 0.95), eps=0.01),
    "Adam(lr = 0.05, eps_root = 0.01)": lambda p: Entrywise(p, adam_root(0.05, 0.01)),
    "AdamW()": lambda p: T.AdamW(p),
    "AdamW(lr = 0.05, beta1 = 0.8, beta2 = 0.95, eps = 0.01, weight_decay = 0.3)": lambda p: T.AdamW(
        p, lr=0.05, betas=(0.8, 0.95), eps=0.01, weight_decay=0.3
    ),
    "AdamW(lr = 0.05, eps_root = 0.01, weight_decay = 0.3)": lambda p: Entrywise(p, adam_root(0.05, 0.01, 0.3)),
    "AMSGrad()": lambda p: T.Adam(p, amsgrad=True),
    "AMSGrad(lr = 0.1, beta1 = 0.5, beta2 = 0.3, eps = 0.01)": lambda p: T.Adam(
        p, lr=0.1, betas=(0.5, 0.3), eps=0.01, amsgrad=True
    ),
    "Adamax()": lambda p: T.Adamax(p),
    "Adamax(lr = 0.05, beta1 = 0.8, beta2 = 0.5, eps = 0.01)": lambda p: T.Adamax(
        p, lr=0.05, betas=(0.8, 0.5), eps=0.01
    ),
    "NAdam()": lambda p: T.NAdam(p),
    "NAdam(lr = 0.05, beta1 = 0.8, beta2 = 0.95, eps = 0.01, momentum_decay = 0.1)": lambda p: T.NAdam(
        p, lr=0.05, betas=(0.8, 0.95), eps=0.01, momentum_decay=0.1
    ),
    "NAdam(lr = 0.05, weight_decay = 0.2, decoupled_weight_decay = 1)": lambda p: T.NAdam(
        p, lr=0.05, weight_decay=0.2, decoupled_weight_decay=True
    ),
    "RAdam()": lambda p: T.RAdam(p),
    "RAdam(lr = 0.05, beta1 = 0.8, beta2 = 0.9, eps = 0.01)": lambda p: T.RAdam(p, lr=0.05, betas=(0.8, 0.9), eps=0.01),
    "RAdam(lr = 0.05, weight_decay = 0.2, decoupled_weight_decay = 1)": lambda p: T.RAdam(
        p, lr=0.05, weight_decay=0.2, decoupled_weight_decay=True
    ),
    "RMSprop()": lambda p: T.RMSprop(p),
    "RMSprop(lr = 0.03, alpha = 0.8, eps = 0.01, momentum = 0.7)": lambda p: T.RMSprop(
        p, lr=0.03, alpha=0.8, eps=0.01, momentum=0.7
    ),
    "RMSprop(lr = 0.03, alpha = 0.8, eps = 0.01, momentum = 0.7, centered = 1)": lambda p: T.RMSprop(
        p, lr=0.03, alpha=0.8, eps=0.01, momentum=0.7, centered=True
    ),
    "Adagrad()": lambda p: T.Adagrad(p),
    "Adagrad(lr = 0.1, lr_decay = 0.3, initial_accumulator_value = 0.2, eps = 0.01)": lambda p: T.Adagrad(
        p, lr=0.1, lr_decay=0.3, initial_accumulator_value=0.2, eps=0.01
    ),
    "Adadelta()": lambda p: T.Adadelta(p),
    "Adadelta(lr = 2, rho = 0.6, eps = 0.01)": lambda p: T.Adadelta(p, lr=2, rho=0.6, eps=0.01),
    "Rprop()": lambda p: T.Rprop(p),
    "Rprop(lr = 0.2, etaminus = 0.3, etaplus = 1.9, step_size_min = 0.15, step_size_max = 0.5)": lambda p: T.Rprop(
        p, lr=0.2, etas=(0.3, 1.9), step_sizes=(0.15, 0.5)
    ),
    "SignSGD()": lambda p: Entrywise(p, sign_sgd(1e-3)),
    "SignSGD(lr = 0.05, weight_decay = 0.2)": lambda p: Entrywise(p, sign_sgd(0.05, 0.2)),
    "Signum()": lambda p: Entrywise(p, signum(1e-3)),
    "Signum(lr = 0.05, momentum = 0.6, weight_decay = 0.2)": lambda p: Entrywise(p, signum(0.05, 0.6, 0.2)),
    "AdamAtan2()": lambda p: Entrywise(p, adam_atan2(1e-4)),
    "AdamAtan2(lr = 0.05, beta1 = 0.8, beta2 = 0.95, a = 1.1, b = 0.7, weight_decay = 0.2)": lambda p: Entrywise(
        p, adam_atan2(0.05, 0.8, 0.95, 1.1, 0.7, 0.2)
    ),
    "ADOPT()": lambda p: Entrywise(p, adopt(1e-3)),
    "ADOPT(lr = 0.05, beta1 = 0.5, beta2 = 0.8, eps = 0.1, weight_decay = 0.2, decouple = 1)": lambda p: Entrywise(
        p, adopt(0.05, 0.5, 0.8, 0.1, 0.2)
    ),
    "ADOPT(lr = 0.05, beta1 = 0.5, beta2 = 0.8, clip_power = 0.1)": lambda p: Entrywise(
        p, adopt(0.05, 0.5, 0.8, power=0.1)
    ),
    "SGDScheduleFree()": lambda p: Entrywise(p, schedule_free(1)),
    "SGDScheduleFree(lr = 0.3, momentum = 0.7, weight_decay = 0.2, warmup_steps = 3, r = 0.5)": lambda p: Entrywise(
        p, schedule_free(0.3, 0.7, weight_decay=0.2, warmup=3, r=0.5)
    ),
    "AdamWScheduleFree()": lambda p: Entrywise(p, schedule_free(0.0025, beta2=0.999)),
    "AdamWScheduleFree(lr = 0.05, beta1 = 0.7, beta2 = 0.9, eps = 0.01, weight_decay = 0.2, weight_lr_power = 1, eval_after = 5)": (
        lambda p: Entrywise(p, schedule_free(0.05, 0.7, 0.9, 0.01, 0.2, power=1, last=5))
    ),
    "Lion()": lambda p: Entrywise(p, lion(1e-4)),
    "Lion(lr = 0.05, beta1 = 0.5, beta2 = 0.8, weight_decay = 0.2)": lambda p: Entrywise(p, lion(0.05, 0.5, 0.8, 0.2)),
}


@pytest.mark.parametrize("call", ROWS)
def test_optimizer(call: str) -> None:
    p = network()
    wanted = train(p, loss, shown, [(list(p.entries), ROWS[call])], STEPS)
    compare(MATRICES.replace("OPTIMIZER", call), N, wanted)


KETS = """
axis i : 3
axis d : 2
data xi[i,d] = [[0.9, -0.4], [-0.7, 1.1], [0.5, 0.8]]
data y[i] = [1.0, -0.5, 0.25]
ket |u[d]> ~ N(0, 1)
ket |v> ~ N(0, 1)
scalar c = 0.7
def net(x[d]) { return c * <v|tanh(sum[d](x[d] |u[d]>))> }
train steps = 5 {
    loss = mean[i]((net(xi[i,d]) - y[i])^2) / 2
    minimize loss
    update all with OPTIMIZER
}
output f[step,i] = net(xi[i,d])
"""

#: Weight decay that goes through the root: kets and scalars only.
COUPLED: dict[str, Callable[[list[Any]], Any]] = {
    "Adam(lr = 0.1, weight_decay = 0.3)": lambda p: T.Adam(p, lr=0.1, weight_decay=0.3),
    "AMSGrad(lr = 0.1, weight_decay = 0.3)": lambda p: T.Adam(p, lr=0.1, weight_decay=0.3, amsgrad=True),
    "Adamax(lr = 0.1, weight_decay = 0.3)": lambda p: T.Adamax(p, lr=0.1, weight_decay=0.3),
    "NAdam(lr = 0.1, weight_decay = 0.3)": lambda p: T.NAdam(p, lr=0.1, weight_decay=0.3),
    "RAdam(lr = 0.1, beta2 = 0.9, weight_decay = 0.3)": lambda p: T.RAdam(
        p, lr=0.1, betas=(0.9, 0.9), weight_decay=0.3
    ),
    "RMSprop(lr = 0.1, weight_decay = 0.3)": lambda p: T.RMSprop(p, lr=0.1, weight_decay=0.3),
    "Adagrad(lr = 0.1, weight_decay = 0.3)": lambda p: T.Adagrad(p, lr=0.1, weight_decay=0.3),
    "Adadelta(weight_decay = 0.3)": lambda p: T.Adadelta(p, weight_decay=0.3),
}


@pytest.mark.parametrize("call", COUPLED)
def test_coupled_weight_decay(call: str) -> None:
    p = Parameters()
    p.ket("u", N, 2)
    p.ket("v", N)
    p.scalar("c", 0.7)

    def f(p: Parameters) -> Any:
        return p["c"] * bracket(p["v"], torch.tanh(torch.tensor(XI) @ p["u"]))

    def objective(p: Parameters, _: int) -> Any:
        return ((f(p) - torch.tensor(Y)) ** 2).mean() / 2

    wanted = train(p, objective, lambda p, _: {"f": f(p)}, [(list(p.entries), COUPLED[call])], STEPS)
    compare(KETS.replace("OPTIMIZER", call), N, wanted)
