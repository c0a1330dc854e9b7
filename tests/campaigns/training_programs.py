"""Random training programs: an architecture, a loss, optimizers and a parametrization, all drawn."""

from __future__ import annotations

import random

ACTIVATIONS = ("tanh", "relu", "erf", "gelu", "sigmoid", "silu", "sin", "elu", "softplus", "leaky_relu")
ENTRYWISE = (
    "SGD(lr = {lr})", "SGD(lr = {lr}, momentum = 0.5)", "SGD(lr = {lr}, weight_decay = 0.1)", "SGD(lr = {lr} / (1 + step))",
    "Adam(lr = {lr}, eps = 0.1)", "AdamW(lr = {lr}, eps = 0.1, weight_decay = 0.1)", "RMSprop(lr = {lr}, eps = 0.1)",
    "SignSGD(lr = {lr})", "Adagrad(lr = {lr}, eps = 0.1)", "Mine(lr = {lr})",
)  # fmt: skip
ON_WHOLES = (
    "Muon(lr = {lr})", "Shampoo(lr = {lr}, damping = 0.1)", "SOAP(lr = {lr}, eps = 0.1)", "Adafactor(lr = {lr})", "LARS(lr = {lr})",
)  # fmt: skip
LOSSES = (
    "mean[i]((f[i] - y[i])^2) / 2",
    "mean[i](log(1 + exp(-y[i] * f[i])))",
    "mean[i](weight[step,i] * (f[i] - y[i])^2)",
    "mean[i](abs(f[i] - y[i]))",
)
PARAMETRIZATIONS = ("", "", "", "parametrization mup\n", "parametrization ntk\n", "parametrization standard\n")


def program(seed: int) -> str:
    """The text of one random training program; it checks, or is refused by name."""
    rng = random.Random(seed)
    size, steps = rng.choice((1, 2, 3)), rng.choice((1, 2, 3))
    parametrization = rng.choice(PARAMETRIZATIONS)
    tangent = "ntk" in parametrization or "standard" in parametrization
    row = ", ".join(f"[{rng.uniform(-1, 1):.2f}, {rng.uniform(-1, 1):.2f}]" for _ in range(size))
    labels = ", ".join(rng.choice(("1", "-1", "0.3")) for _ in range(size))
    weights = ", ".join("[" + ", ".join(rng.choice(("0", "1")) for _ in range(size)) + "]" for _ in range(steps))
    lines = [
        f"axis i, j : {size}", "axis d : 2", "axis l : 2", f"data xi[i,d] = [{row}]", f"data y[i] = [{labels}]",
        f"data weight[step,i] = [{weights}]", "ket |u[d]> ~ N(0, 1)", "ket |v> ~ N(0, 1)", "ket |b> ~ N(0, 0.5)",
        "matrix W ~ N(0, 1)", "matrix A[l] ~ N(0, 1/2)", "scalar c = 0.1",
        "optimizer Mine(lr) {\n    state m = 0\n    m := 0.5 * m + g\n    return -lr * m / (1 + abs(m))\n}",
    ]  # fmt: skip
    bracket = "clt <v|h>" if tangent else "<v|h>"
    lines += ["def net(x[d]) {", "    |h> = sum[d](x[d] |u[d]>)", *_layers(rng), f"    return {bracket} + c", "}"]
    updates = _updates(rng)
    clip = rng.choice(("", "", " clip 0.5"))
    lines += [
        parametrization + f"train steps = {steps} {{", "    f[i] = net(xi[i,d])", f"    loss = {rng.choice(LOSSES)}",
        f"    minimize loss{clip}", *updates, "}",
    ]  # fmt: skip
    lines.append(rng.choice(("output f[step,i] = net(xi[i,d])", "output f[i] = net(xi[i,d])", "output loss[step]")))
    return "\n".join(lines) + "\n"


def _layers(rng: random.Random) -> list[str]:
    found = []
    for _ in range(rng.choice((1, 1, 2))):
        act = rng.choice(ACTIVATIONS)
        found.append(
            rng.choice(
                (
                    f"    |h> = W {act}(|h>)",
                    f"    |h> = {act}(W {act}(|h>) + |b>)",
                    f"    |h> = |h> + A[1] {act}(A[2] |h>)",
                    f"    |h> = {act}(|h>)",
                    f"    |h> = |h> / sqrt(<h|h> + 0.1) + {act}(|b>)",
                )
            )
        )
    return [*found, f"    |h> = {rng.choice(ACTIVATIONS)}(|h>)"]


def _updates(rng: random.Random) -> list[str]:
    rate = rng.choice(("0.1", "0.5", "0.01"))
    whole = rng.choice((*ON_WHOLES, *ENTRYWISE)).format(lr=rate)
    entrywise = rng.choice(ENTRYWISE).format(lr=rate)
    return rng.choice(
        (
            [f"    update all with {entrywise}"],
            [f"    update W, A with {whole}", f"    update |u>, |v>, |b>, c with {entrywise}"],
            [f"    update |v> with {entrywise}"],
            [f"    update A[1] with {entrywise}", "    update |u> with SGD(lr = 0.1)"],
        )
    )
