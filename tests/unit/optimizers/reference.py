"""The optimizers as papers and torch.optim state them, for numbers: rule(g, p, t, state, **arguments) -> change of p.

`state` is a dict that a rule fills; defaults are those of torch.optim (of the paper, where it has no such optimizer).
"""

from __future__ import annotations

from collections.abc import Callable
from math import atan2, sqrt

State = dict[str, float]


def sgd(g, p, t, s: State, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=0) -> float:
    d = g + weight_decay * p
    if momentum == 0:
        return -lr * d
    s["b"] = d if t == 1 else momentum * s["b"] + (1 - dampening) * d
    return -lr * (d + momentum * s["b"]) if nesterov else -lr * s["b"]


def _moments(g, t, s: State, beta1, beta2) -> tuple[float, float]:
    s["m"] = beta1 * s.get("m", 0.0) + (1 - beta1) * g
    s["v"] = beta2 * s.get("v", 0.0) + (1 - beta2) * g * g
    return s["m"] / (1 - beta1**t), s["v"] / (1 - beta2**t)


def adam(g, p, t, s: State, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, eps_root=0.0) -> float:
    m, v = _moments(g + weight_decay * p, t, s, beta1, beta2)
    return -lr * m / (sqrt(v + eps_root) + eps)


def adamw(g, p, t, s: State, lr=1e-3, weight_decay=0.01, **rest) -> float:
    return adam(g, p, t, s, lr, **rest) - lr * weight_decay * p


def amsgrad(g, p, t, s: State, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, eps_root=0.0) -> float:
    m, _ = _moments(g + weight_decay * p, t, s, beta1, beta2)
    s["top"] = max(s.get("top", 0.0), s["v"])
    return -lr * m / (sqrt(s["top"] / (1 - beta2**t) + eps_root) + eps)


def adamax(g, p, t, s: State, lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0) -> float:
    d = g + weight_decay * p
    s["m"] = beta1 * s.get("m", 0.0) + (1 - beta1) * d
    s["top"] = max(beta2 * s.get("top", 0.0), abs(d) + eps)
    return -lr / (1 - beta1**t) * s["m"] / s["top"]


def nadam(
    g, p, t, s: State, lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, momentum_decay=4e-3,
    decoupled_weight_decay=0, eps_root=0.0,
) -> float:  # fmt: skip
    d = g if decoupled_weight_decay else g + weight_decay * p
    _, v = _moments(d, t, s, beta1, beta2)
    mu = [beta1 * (1 - 0.96 ** (k * momentum_decay) / 2) for k in (t, t + 1)]
    s["product"] = s.get("product", 1.0) * mu[0]
    ahead = (1 - mu[0]) * d / (1 - s["product"]) + mu[1] * s["m"] / (1 - s["product"] * mu[1])
    decay = lr * weight_decay * p if decoupled_weight_decay else 0.0
    return -lr * ahead / (sqrt(v + eps_root) + eps) - decay


def radam(
    g, p, t, s: State, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, decoupled_weight_decay=0,
    eps_root=0.0,
) -> float:  # fmt: skip
    d = g if decoupled_weight_decay else g + weight_decay * p
    decay = lr * weight_decay * p if decoupled_weight_decay else 0.0
    m, _ = _moments(d, t, s, beta1, beta2)
    last = 2 / (1 - beta2) - 1
    length = last - 2 * t * beta2**t / (1 - beta2**t)
    if length <= 5:
        return -lr * m - decay
    r = sqrt((length - 4) * (length - 2) * last / ((last - 4) * (last - 2) * length))
    return -lr * m * r * sqrt(1 - beta2**t) / (sqrt(s["v"] + eps_root) + eps) - decay


def rmsprop(
    g, p, t, s: State, lr=0.01, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=0, eps_root=0.0
) -> float:
    d = g + weight_decay * p
    s["v"] = alpha * s.get("v", 0.0) + (1 - alpha) * d * d
    s["a"] = alpha * s.get("a", 0.0) + (1 - alpha) * d
    root = sqrt(s["v"] - (s["a"] ** 2 if centered else 0.0) + eps_root) + eps
    s["b"] = momentum * s.get("b", 0.0) + d / root
    return -lr * s["b"]


def adagrad(
    g, p, t, s: State, lr=0.01, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10, eps_root=0.0
) -> float:
    d = g + weight_decay * p
    s["v"] = s.get("v", initial_accumulator_value) + d * d
    return -lr / (1 + (t - 1) * lr_decay) * d / (sqrt(s["v"] + eps_root) + eps)


def adadelta(g, p, t, s: State, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0) -> float:
    d = g + weight_decay * p
    s["v"] = rho * s.get("v", 0.0) + (1 - rho) * d * d
    change = sqrt(s.get("u", 0.0) + eps) / sqrt(s["v"] + eps) * d
    s["u"] = rho * s.get("u", 0.0) + (1 - rho) * change**2
    return -lr * change


def sign(x: float) -> float:
    return float((x > 0) - (x < 0))


def rprop(g, p, t, s: State, lr=0.01, etaminus=0.5, etaplus=1.2, step_size_min=1e-6, step_size_max=50.0) -> float:
    product = g * s.get("before", 0.0)
    factor = etaplus if product > 0 else etaminus if product < 0 else 1.0
    s["size"] = min(max(s.get("size", lr) * factor, step_size_min), step_size_max)
    s["before"] = 0.0 if product < 0 else g
    return -s["size"] * sign(s["before"])


def sign_sgd(g, p, t, s: State, lr=1e-3, weight_decay=0.0) -> float:
    return -lr * (sign(g) + weight_decay * p)


def signum(g, p, t, s: State, lr=1e-3, momentum=0.9, weight_decay=0.0) -> float:
    s["m"] = momentum * s.get("m", 0.0) + (1 - momentum) * g
    return -lr * (sign(s["m"]) + weight_decay * p)


def lion(g, p, t, s: State, lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.0) -> float:
    change = sign(beta1 * s.get("m", 0.0) + (1 - beta1) * g)
    s["m"] = beta2 * s.get("m", 0.0) + (1 - beta2) * g
    return -lr * (change + weight_decay * p)


def adam_atan2(g, p, t, s: State, lr=1e-4, beta1=0.9, beta2=0.99, a=1.27, b=1.0, weight_decay=0.0) -> float:
    m, v = _moments(g, t, s, beta1, beta2)
    return -lr * a * atan2(m, b * sqrt(v)) - lr * weight_decay * p


def adopt(
    g, p, t, s: State, lr=1e-3, beta1=0.9, beta2=0.9999, eps=1e-6, weight_decay=0.0, clip_power=0.25, decouple=0
) -> float:
    d = g if decouple else g + weight_decay * p
    if t == 1:
        s["m"], s["v"] = 0.0, d * d
        return 0.0
    bound = (t - 1) ** clip_power
    ratio = min(max(d / max(sqrt(s["v"]), eps), -bound), bound)
    s["m"] += (1 - beta1) * (ratio - s["m"])
    s["v"] = beta2 * s["v"] + (1 - beta2) * d * d
    return -lr * s["m"] - (lr * weight_decay * p if decouple else 0.0)


def _schedule_free(d, p, t, s: State, rate, beta, r, weight_lr_power, eval_after) -> float:
    """Algorithm 1 of the paper with its three sequences, where y is the parameter."""
    z, x = s.get("z", p), s.get("x", p)
    s["top"] = max(s.get("top", 0.0), rate)
    weight = t**r * s["top"] ** weight_lr_power
    s["total"] = s.get("total", 0.0) + weight
    s["z"] = z - rate * d
    s["x"] = x + weight / s["total"] * (s["z"] - x)
    y = (1 - beta) * s["z"] + beta * s["x"]
    return (s["x"] if t == eval_after else y) - p


def sgd_schedule_free(
    g, p, t, s: State, lr=1.0, momentum=0.9, weight_decay=0.0, warmup_steps=0, r=0.0, weight_lr_power=2.0, eval_after=0
) -> float:
    rate = lr * (min(1.0, t / warmup_steps) if warmup_steps else 1.0)
    return _schedule_free(g + weight_decay * p, p, t, s, rate, momentum, r, weight_lr_power, eval_after)


def adamw_schedule_free(
    g, p, t, s: State, lr=0.0025, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, warmup_steps=0, r=0.0,
    weight_lr_power=2.0, eval_after=0,
) -> float:  # fmt: skip
    rate = lr * sqrt(1 - beta2**t) * (min(1.0, t / warmup_steps) if warmup_steps else 1.0)
    s["v"] = beta2 * s.get("v", 0.0) + (1 - beta2) * g * g
    d = g / (sqrt(s["v"]) + eps) + weight_decay * p
    return _schedule_free(d, p, t, s, rate, beta1, r, weight_lr_power, eval_after)


RULES: dict[str, Callable[..., float]] = {
    "SGD": sgd,
    "Adam": adam,
    "AdamW": adamw,
    "AMSGrad": amsgrad,
    "Adamax": adamax,
    "NAdam": nadam,
    "RAdam": radam,
    "RMSprop": rmsprop,
    "Adagrad": adagrad,
    "Adadelta": adadelta,
    "Rprop": rprop,
    "SignSGD": sign_sgd,
    "Signum": signum,
    "Lion": lion,
    "AdamAtan2": adam_atan2,
    "ADOPT": adopt,
    "SGDScheduleFree": sgd_schedule_free,
    "AdamWScheduleFree": adamw_schedule_free,
}
