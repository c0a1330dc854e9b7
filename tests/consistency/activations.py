"""Every entrywise function of one variable and its derivative in plain NumPy, and their Gaussian kernels.

Nothing here is the package's: `kernel` integrates by Gauss-Legendre on panels that end at the kinks, and `tangent` is
the textbook recursion of a multilayer perceptron's tangent kernel (Jacot et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Activation:
    f: Function
    slope: Function
    kinks: tuple[float, ...] = ()


def _sigmoid(x: Any) -> Any:
    return (1 + np.tanh(x / 2)) / 2


def _mish_slope(x: Any) -> Any:
    t = np.tanh(np.logaddexp(x, 0))
    return t + x * (1 - t * t) * _sigmoid(x)


def _normal(x: Any) -> Any:
    return np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def _gelu_tanh_slope(x: Any) -> Any:
    a, b = np.sqrt(2 / np.pi), 0.044715
    t = np.tanh(a * (x + b * x**3))
    return (1 + t) / 2 + x * (1 - t * t) * a * (1 + 3 * b * x * x) / 2


_L, _A = 1.0507009873554805, 1.6732632423543772

ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(lambda x: x * (x > 0), lambda x: 1.0 * (x > 0), (0.0,)),
    "leaky_relu": Activation(lambda x: x * np.where(x > 0, 1, 0.01), lambda x: (x > 0) + 0.01 * (x < 0), (0.0,)),
    "abs": Activation(np.abs, np.sign, (0.0,)),
    "step": Activation(lambda x: 1.0 * (x > 0), lambda x: 0.0 * x, (0.0,)),
    "sign": Activation(np.sign, lambda x: 0.0 * x, (0.0,)),
    "erf": Activation(special.erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x)),
    "erfc": Activation(special.erfc, lambda x: -2 / np.sqrt(np.pi) * np.exp(-x * x)),
    "gelu": Activation(lambda x: x * special.ndtr(x), lambda x: special.ndtr(x) + x * _normal(x)),
    "gelu_tanh": Activation(
        lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2, _gelu_tanh_slope
    ),
    "sin": Activation(np.sin, np.cos),
    "cos": Activation(np.cos, lambda x: -np.sin(x)),
    "exp": Activation(np.exp, np.exp),
    "tanh": Activation(np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "atan": Activation(np.arctan, lambda x: 1 / (1 + x * x)),
    "square": Activation(lambda x: x * x, lambda x: 2 * x),
    "sigmoid": Activation(_sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x)),
    "silu": Activation(lambda x: x * _sigmoid(x), lambda x: _sigmoid(x) * (1 + x * _sigmoid(-x))),
    "softplus": Activation(lambda x: np.logaddexp(x, 0), _sigmoid),
    "mish": Activation(lambda x: x * np.tanh(np.logaddexp(x, 0)), _mish_slope),
    "logsigmoid": Activation(lambda x: -np.logaddexp(-x, 0), lambda x: _sigmoid(-x)),
    "sinh": Activation(np.sinh, np.cosh),
    "cosh": Activation(np.cosh, np.sinh),
    "squareplus": Activation(lambda x: (x + np.hypot(x, 2)) / 2, lambda x: 0.5 + 0.5 * x / np.hypot(x, 2)),
    "softsign": Activation(lambda x: x / (1 + np.abs(x)), lambda x: (1 + np.abs(x)) ** -2.0, (0.0,)),
    "hardtanh": Activation(lambda x: np.clip(x, -1, 1), lambda x: 1.0 * (np.abs(x) < 1), (-1.0, 1.0)),
    "hardsigmoid": Activation(lambda x: np.clip(x / 6 + 0.5, 0, 1), lambda x: (np.abs(x) < 3) / 6.0, (-3.0, 3.0)),
    "hardswish": Activation(
        lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
        lambda x: np.where(x > 3, 1, (x > -3) * (x / 3 + 0.5)),
        (-3.0, 3.0),
    ),
    "relu6": Activation(lambda x: np.clip(x, 0, 6), lambda x: 1.0 * ((x > 0) & (x < 6)), (0.0, 6.0)),
    "elu": Activation(
        lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), lambda x: np.exp(np.minimum(x, 0)), (0.0,)
    ),
    "selu": Activation(
        lambda x: _L * np.where(x > 0, x, _A * np.expm1(np.minimum(x, 0))),
        lambda x: _L * np.where(x > 0, 1, _A * np.exp(np.minimum(x, 0))),
        (0.0,),
    ),
}

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
_FAR = 9.5


def _panels(breaks: Any) -> tuple[Any, Any]:
    """Nodes and weights between consecutive `breaks` (k, r), the normal density included."""
    low, half = breaks[:, :-1, None], np.diff(breaks)[:, :, None] / 2
    z = (low + half * (1 + _NODES)).reshape(len(breaks), -1)
    return z, (half * _WEIGHTS).reshape(z.shape) * _normal(z)


def _breaks(inner: Any) -> Any:
    """A grid of the line with further points (k, r) in it, each row sorted."""
    grid = np.broadcast_to(np.linspace(-_FAR, _FAR, 17), (len(inner), 17))
    return np.sort(np.concatenate([grid, np.clip(inner, -_FAR, _FAR)], axis=1), axis=1)


def kernel(f: Function, kinks: tuple[float, ...], a: float, b: float, c: float) -> float:
    """E f(u) f(v), (u, v) ~ N(0, [[a, c], [c, b]])."""
    if a < b:
        a, b = b, a
    if a == 0:
        return float(f(np.zeros(1))[0] ** 2)
    slope = c / np.sqrt(a)
    rest = np.sqrt(max((a * b - c * c) / a, 0.0))
    width = rest / abs(slope) if slope else np.inf
    own = [k / np.sqrt(a) for k in kinks]
    if slope and kinks:  # v passes its kink around z = k/slope, within a few widths
        steps = [0.0, *(s * width * 2.0**j for j in range(-2, 4) for s in (-1, 1))]
        own += [k / slope + s for k in kinks for s in steps]
    z, weights = _panels(_breaks(np.array([own])))
    outer = f(np.sqrt(a) * z[0])
    if rest == 0:
        return float(weights[0] @ (outer * f(slope * z[0])))
    places = np.array([[(k - slope * x) / rest for k in kinks] for x in z[0]]).reshape(len(z[0]), len(kinks))
    y, inner = _panels(_breaks(places))
    return float(weights[0] @ (outer * np.sum(inner * f(slope * z[0][:, None] + rest * y), axis=1)))


def _over(f: Function, kinks: tuple[float, ...], gram: Any) -> Any:
    n = len(gram)
    found = np.empty((n, n))
    for i in range(n):
        for j in range(i, n):
            found[i, j] = found[j, i] = kernel(f, kinks, gram[i, i], gram[j, j], gram[i, j])
    return found


def tangent(act: Activation, gram: Any, depth: int, variance: float, bias: float) -> tuple[Any, Any]:
    """<x|x> of the last layer, and the tangent kernel of <v|x> by every weight and bias."""
    inputs, grams, kernels = [gram], [gram], []
    for layer in range(depth):
        if layer:
            grams.append(variance * kernels[-1] + bias)
            inputs.append(kernels[-1] + 1.0)  # of the weights and of the bias
        kernels.append(_over(act.f, act.kinks, grams[-1]))
    total, back = kernels[-1].copy(), np.ones_like(gram)
    for layer in reversed(range(depth)):
        back = back * _over(act.slope, act.kinks, grams[layer])
        total += back * inputs[layer]
        back = variance * back
    return kernels[-1], total
