"""Are the printed standard errors as large as the errors? A hundred programs at default settings, sampled.

Run the whole table with

    python -m tests.consistency.calibration            # a table of all programs, and the summary
    python -m tests.consistency.calibration --only E   # the programs whose name contains E

Each program is sampled (`method="qmc"`, everything else as it is by default) with its own seed. The truth is a
closed form given here, or what `limit` finds without sampling, or a run with eight (four) times the particles and another
seed. A score is the deviation in standard errors, as the standard normal one of the same tail probability: errors have
seven degrees of freedom. Calibrated errors have a root mean square of 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm, t

import tp_compiler as tpc

KETS = "ket |x> ~ N(0, 1)\nket |y> ~ N(0, 1)\nket |v> ~ N(0, 1)\nmatrix W ~ N(0, 1)\nmatrix A ~ N(0, 2)\n"
INPUTS = """
axis i, j : 3
axis d : 2
data xi[i,d] = [[1.0, 0.5], [-0.3, 0.8], [0.2, -1.1]]
data target[i] = [0.5, -0.5, 0.2]
ket |u[d]> ~ N(0, 1)
ket |v> ~ N(0, 1)
ket |b> ~ N(0, 0.1)
matrix W ~ N(0, 2)
|h[i]> = sum[d](xi[i,d] |u[d]>)
"""


@dataclass(frozen=True)
class Case:
    """A program; `exact` holds known values by output, and what it lacks is found as the module says."""

    text: str
    exact: Mapping[str, Any] | None = None


def _kernels() -> Iterator[tuple[str, Case]]:
    for phi in ("relu", "erf", "tanh", "gelu", "sigmoid", "abs", "sin", "softplus", "silu", "leaky_relu"):
        yield f"kernel {phi}", Case(f"{INPUTS}|z[i]> = W {phi}(|h[i]>)\noutput k[i,j] = <{phi}(z[i])|{phi}(z[j])>")
    for phi in ("erf", "relu", "tanh", "gelu", "sin"):
        text = f"{INPUTS}def net(a[d]) {{ return <v|{phi}(W {phi}(sum[d](a[d] |u[d]>)))> }}\n"
        yield f"tangent kernel {phi}", Case(f"{text}f[i] = net(xi[i,d])\noutput k[i,j] = ntk(f[i], f[j])")
    for phi in ("step", "sign"):
        yield f"kernel {phi}", Case(f"{INPUTS}|z[i]> = W {phi}(|h[i]>)\noutput k[i,j] = <{phi}(z[i])|{phi}(z[j])>")


def _moments() -> Iterator[tuple[str, Case]]:
    for text in (
        "tanh(x)^4", "sigmoid(x)*x", "exp(-x^2)|cos(y)", "relu(x)*relu(x + y)", "x^6", "x^2*y^2", "exp(x)", "exp(x)|sin(x + y)",
        "abs(x)^1.5", "step(x - 2)", "step(x + y - 1)", "max(x, y)", "abs(tanh(x) - 0.5)", "1/(1 + x^2)", "abs(x)^(-0.3)",
    ):  # fmt: skip
        yield f"mean {text}", Case(f"{KETS}output m = <{text}>")
    for text in (
        "1/<exp(x)>", "sqrt(<tanh(x)^2>)", "log(<exp(x*y/2)>)", "<tanh(x)^2>^3", "<sigmoid(x)>/<relu(y)>", "exp(<abs(x)>)",
        "<erf(x)|erf(x + y)>^2 - <erf(x)|y>", "max(<tanh(x)^2>, 0.3)",
    ):  # fmt: skip
        yield f"function {text}", Case(f"{KETS}output m = {text}")


def _products() -> Iterator[tuple[str, Case]]:
    for name, text, exact in (
        ("three times WᵀW", "<v|(W^T W)^3|v>", 5.0),
        ("through and back", "<tanh(W^T tanh(W |x>))|x>", None),
        ("back, relu", "<relu(W^T relu(W |x>))>", None),
        ("symmetrised", "<tanh((W + W^T) |x>)|x>", None),
        ("twice the same", "<relu(W relu(W |x>))>", None),
        ("two matrices", "<erf(A W |x>)|erf(W |x>)>", 0.0),
        ("a sum of paths", "<gelu(W tanh(|x>) + A^T |y>)|x + y>", None),
        ("there and back", "<tanh(A A^T |x>)|x>", None),
        ("recurrent", "<tanh(W tanh(W tanh(W |x> + |y>) + |y>) + |y>)|y>", None),
    ):
        yield f"matrix {name}", Case(f"{KETS}output m = {text}", None if exact is None else {"m": exact})
    resnet = f"{INPUTS}|r[i]> = |h[i]> + W relu(|h[i]>)\n|s[i]> = |r[i]> + W tanh(|r[i]>)\n"
    yield "matrix tied resnet", Case(f"{resnet}output k[i,j] = <s[i]|s[j]>")


def _copies() -> Iterator[tuple[str, Case]]:
    for name, text, output, exact in (
        ("Gaussian", "cos(|x> * |x>@1)", "<a|a>", 3**-0.5),
        ("ranks", "step(|x> - |x>@1)", "<(a - 0.5)^2>", 1 / 12),
        ("mean of ranks", "step(|x> - |x>@1)", "<a>", 0.5),
        ("differences", "abs(|x> - |x>@1)", "<a>", 2 / np.pi**0.5),
        ("squared differences", "abs(|x> - |x>@1)", "<a|a>", None),
        ("a gate", "sigmoid(|x> * |y>@1) * |y>@1", "<a|a>", None),
        ("two spaces", "tanh((W |x>)@1 + |y>)", "<a|a>", None),
    ):
        yield (
            f"E {name}",
            Case(f"{KETS}|a> = E[1]({text})\noutput m = {output}", None if exact is None else {"m": exact}),
        )
    yield "E of pairs", Case(f"{KETS}|a> = E[1,2](exp(-(|x> - |x>@1 - |x>@2)^2/2))\noutput m = <a|a>", None)
    yield "E in E, linear", Case(f"{KETS}|a> = E[1](abs(|x>@1) * E[2](tanh(|x> + |x>@1 + |x>@2)))\noutput m = <a|a>")
    yield "E in E, squared", Case(f"{KETS}|a> = E[1](E[2](tanh(|x> + |x>@1 * |x>@2))^2)\noutput m = <a>")
    yield (
        "E softmax",
        Case(f"{KETS}|a> = E[1](exp(|x> * |x>@1 / 2) * |x>@1) / E[1](exp(|x> * |x>@1 / 2))\noutput m = <a|x>"),
    )
    yield "E 1/E", Case(f"{KETS}|a> = 1 / E[1](exp(-(|x> - |x>@1)^2))\noutput m = <tanh(a)>")
    yield (
        "E trained",
        Case(
            f"{INPUTS}def net(|a>) {{ return <v|tanh(|a> + E[1](tanh(|a> * |v>@1) * |v>@1))> }}\ntrain steps = 1 {{\n"
            "f[i] = net(|h[i]>)\nloss = mean[i]((f[i] - target[i])^2)\nminimize loss\nupdate |v> with SGD(lr = 0.3)\n}\noutput l = loss"
        ),
    )


def _attention() -> Iterator[tuple[str, Case]]:
    scores = f"{INPUTS}matrix Q ~ N(0, 1)\nmatrix K ~ N(0, 1)\n"
    for name, score in (("norms", "<h[i]|h[j]>"), ("values", "<tanh(Q |h[i]>)|tanh(Q |h[j]>)>")):
        mix = f"p[i,j] = softmax[j]({score})\n|m[i]> = sum[j](p[i,j] * (W |h[j]>))\n"
        yield f"softmax {name}", Case(f"{scores}{mix}output k[i,j] = <relu(m[i])|tanh(m[j])>")
    yield "softmax of a ket", Case(f"{INPUTS}|p[i]> = softmax[i](|h[i]>)\noutput k[i,j] = <p[i]|p[j]>")
    yield (
        "layer norm",
        Case(
            f"{INPUTS}|z[i]> = W relu(|h[i]>)\n"
            "|n[i]> = (|z[i]> - <z[i]>) / sqrt(<(z[i] - <z[i]>)^2> + 0.01)\noutput k[i,j] = <gelu(n[i])|gelu(n[j])>"
        ),
    )
    yield (
        "rms norm",
        Case(f"{INPUTS}|z[i]> = relu(|h[i]>) / sqrt(<relu(h[i])^2>)\noutput k[i,j] = <tanh(W |z[i]>)|tanh(W |z[j]>)>"),
    )


def _training() -> Iterator[tuple[str, Case]]:
    optimizers = {
        "SGD": "SGD(lr = 0.5)",
        "momentum": "SGD(lr = 0.3, momentum = 0.9)",
        "Adam": "Adam(lr = 0.1, eps = 0.05)",
        "AdamW": "AdamW(lr = 0.1, eps = 0.05, weight_decay = 0.1)",
        "RMSprop": "RMSprop(lr = 0.05, eps = 0.1)",
        "Adagrad": "Adagrad(lr = 0.1, eps = 0.1)",
    }
    for phi in ("tanh", "relu", "erf"):
        for name, optimizer in optimizers.items():
            for steps in (1, 3) if phi == "tanh" else (2,):
                yield (
                    f"trained {phi} {name} {steps}",
                    Case(_trained(phi, f"update |u[d]>, W, |v> with {optimizer}", steps)),
                )
    for name in ("Muon(lr = 0.1)", "Shampoo(lr = 0.1, damping = 0.1)", "KFAC(lr = 0.1, damping = 0.1)"):
        update = f"update W with {name}\n    update |u[d]>, |v> with SGD(lr = 0.3)"
        yield f"trained tanh {name.split('(')[0]}", Case(_trained("tanh", update, 2))
    yield "trained clipped", Case(_trained("tanh", "update |u[d]>, W, |v> with SGD(lr = 0.5)", 3, " clip 0.3"))


def _trained(phi: str, update: str, steps: int, clip: str = "") -> str:
    return (
        f"{INPUTS}def net(a[d]) {{ return <v|{phi}(W {phi}(sum[d](a[d] |u[d]>)))> }}\ntrain steps = {steps} {{\n"
        f"    f[i] = net(xi[i,d])\n    loss = mean[i]((f[i] - target[i])^2) / 2\n    minimize loss{clip}\n    {update}\n}}\n"
        "output f[i] = net(xi[i,d])\noutput l = mean[i]((net(xi[i,d]) - target[i])^2)\n"
    )


def _random() -> Iterator[tuple[str, Case]]:
    for phi in ("relu", "tanh", "erf"):
        yield f"clt {phi}", Case(f"{INPUTS}output f[i] = clt <v|{phi}(W {phi}(|h[i]>))>")
    yield "clt used", Case(f"{INPUTS}s = clt <v|tanh(|h[1]>)>\noutput m = tanh(s)^2")
    yield "clt inside", Case(f"{INPUTS}s = clt <v|tanh(|h[1]>)>\noutput m = <tanh(s * |u[1]>)^2>")


def cases() -> dict[str, Case]:
    groups = (_kernels, _moments, _products, _copies, _attention, _training, _random)
    return {name: case for group in groups for name, case in group()}


def truth(case: Case, run: Any) -> dict[str, tuple[Any, Any]]:
    """(value, standard error) of every figure: covariances of Gaussian outputs, values of others."""
    known = {name: (np.asarray(v, dtype=float), 0.0) for name, v in (case.exact or {}).items()}
    left = [name for name in run.outputs if name not in known]
    if left:
        found = tpc.limit(case.text, only=left, max_samples=64)
        for name, estimate in found.outputs.items():
            if estimate.method not in ("qmc", "mc"):
                known[name] = _figures(estimate)
    left = [name for name in run.outputs if name not in known]
    if left:
        more = 4 if "E[" in case.text else 8  # the work of an E grows like the square
        reference = tpc.limit(case.text, only=left, method="qmc", samples=more * run.settings["samples"], seed=987_654)
        known |= {name: _figures(reference.outputs[name]) for name in left}
    return known


def _figures(estimate: Any) -> tuple[Any, Any]:
    if estimate.law == "gaussian":
        upper = np.triu_indices(len(estimate.covariance))
        return estimate.covariance[upper], estimate.covariance_stderr[upper]
    return estimate.value, estimate.stderr


def scores(case: Case, seed: int) -> np.ndarray:
    """Normal scores of all figures of a program."""
    run = tpc.limit(case.text, method="qmc", seed=seed)
    if run.failed:
        raise AssertionError({name: d.message for name, d in run.failed.items()})
    found = []
    for name, (value, error) in truth(case, run).items():
        own, stderr = _figures(run.outputs[name])
        spread = np.sqrt(stderr**2 + np.square(error)) + 1e-13 * (1 + np.abs(value))
        found.append(np.ravel((own - value) / spread))
    return normal(np.concatenate(found))


def normal(ratio: np.ndarray) -> np.ndarray:
    """The standard normal score of the same tail probability as Student's t with seven degrees of freedom."""
    return np.sign(ratio) * -norm.ppf(np.maximum(t.cdf(-np.abs(ratio), 7), 1e-300))


def table(only: str = "") -> dict[str, np.ndarray]:
    """Scores by program, printed as they come."""
    found = {}
    for seed, (name, case) in enumerate(cases().items()):
        if only in name:
            found[name] = scores(case, seed)
            rms, largest = np.sqrt(np.mean(found[name] ** 2)), np.abs(found[name]).max()
            print(f"{name:40} rms z {rms:6.2f}   max |z| {largest:6.2f}   {found[name].size} figures", flush=True)
    return found


def summary(found: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """The root mean square over programs, each counted once, and the largest score of all."""
    squares = [np.mean(z**2) for z in found.values()]
    return float(np.sqrt(np.mean(squares))), float(max(np.abs(z).max() for z in found.values()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="programs whose name contains this")
    result = table(parser.parse_args().only)
    rms, largest = summary(result)
    print(f"{len(result)} programs: rms z {rms:.2f}, max |z| {largest:.2f}")
